"""Distributed arrays that feel like NumPy: one torch tensor per process, one split axis.

``import ht_core as ht`` (or ``import ht_meta as ht`` for the whole stack).
"""

import os
from math import e, inf, nan, pi

# Ask Linux for huge pages for large tensors: the first touch of fresh memory, which most operations pay for their
# result, becomes several times cheaper. torch reads the variable at its first large allocation; a value set by the
# user stays.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from ht_comm import CommError, get_comm, use_comm

from . import (
    arithmetic,
    complex_numbers,
    creation,
    devices,
    distribution,
    exponential,
    indexing,
    integers,
    logic,
    manipulation,
    printing,
    protocols,
    random,
    rounding,
    searching,
    special,
    statistics,
    trigonometry,
    types,
)
from ._version import __version__
from .devices import Device, cpu, get_device, sanitize_device, use_device
from .dndarray import DNDarray
from .errors import DTypeError, LayoutError, MissingLayerError
from .layout import Layout
from .printing import print0
from .registry import OPERATIONS
from .types import (
    DTYPES,
    bfloat16,
    bool_,
    can_cast,
    complex64,
    complex128,
    finfo,
    float16,
    float32,
    float64,
    iinfo,
    int8,
    int16,
    int32,
    int64,
    isdtype,
    promote_types,
    result_type,
    uint8,
    uint16,
    uint32,
    uint64,
)

newaxis = None
# Heat's spellings of dtypes; `bool` and `float` here are dtypes, as in the Array API and NumPy.
bool, float, double, half, int, long = bool_, float32, float64, float16, int32, int64


# Every row of the registry is a public function under its name and its aliases.
globals().update({name: row.function for name, row in OPERATIONS.items()})
