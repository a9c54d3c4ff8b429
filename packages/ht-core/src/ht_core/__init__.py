"""Distributed arrays that feel like NumPy: one torch tensor per process, one split axis.

``import ht_core as ht`` (or ``import ht_meta as ht`` for the whole stack).
"""

from math import e, inf, nan, pi

from ht_comm import CommError, get_comm, use_comm
from numpy import index_exp, s_

from . import (
    allocator,
    arithmetic,
    array_attributes,
    assigning,
    autograd,
    bit_packing,
    building_matrices,
    calculus,
    complex_numbers,
    copying,
    correlation,
    creation,
    data_type_functions,
    devices,
    diagonals,
    distribution,
    exponential,
    flipping,
    functional,
    grids,
    halos,
    histograms,
    index_arrays,
    indexing,
    info,
    inserting,
    integers,
    interchange,
    interop,
    joining,
    local,
    logic,
    manipulation,
    moments,
    nan_reductions,
    numerical_ranges,
    padding,
    picking,
    polynomials,
    printing,
    protocols,
    quantiles,
    random,
    reshaping,
    rolling,
    rounding,
    scans,
    searching,
    sets,
    sorting,
    special,
    splitting,
    statistics,
    tiling,
    trigonometry,
    types,
    unfolding,
    upper_layers,
    windows,
)
from ._version import __version__
from .array_attributes import isfortran, iterable, may_share_memory, ndim, shape, shares_memory, size
from .autograd import (
    enable_grad,
    grad,
    is_grad_enabled,
    no_grad,
    set_grad_enabled,
    value_and_grad,
    zero_grad,
)
from .budget import get_memory_budget, memory_budget
from .complex_numbers import iscomplexobj, isrealobj
from .data_type_functions import (
    abstract,
    astype,
    canonical_heat_type,
    common_type,
    complexfloating,
    datatype,
    flexible,
    floating,
    generic,
    heat_type_is_complexfloating,
    heat_type_is_exact,
    heat_type_is_inexact,
    heat_type_is_realfloating,
    heat_type_of,
    inexact,
    integer,
    isscalar,
    issubdtype,
    min_scalar_type,
    number,
    signedinteger,
    unsignedinteger,
)
from .devices import Device, cpu, get_device, sanitize_device, use_device
from .dndarray import DNDarray
from .errors import AxisError, DTypeError, GradientError, LayoutError, MemoryBudgetError, MissingLayerError
from .explain import Explanation, explain
from .functional import vectorize
from .grids import c_, mgrid, ogrid, r_
from .info import API_VERSIONS
from .info import namespace_info as __array_namespace_info__
from .interop import from_dtensor, to_dtensor
from .layout import Layout
from .printing import (
    array2string,
    array_repr,
    array_str,
    get_printoptions,
    print0,
    printoptions,
    set_printoptions,
)
from .registry import OPERATIONS
from .types import (
    DTYPES,
    bfloat16,
    bool_,
    can_cast,
    complex64,
    complex128,
    dtype,
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

__array_api_version__ = API_VERSIONS[-1]
from .vmap import vmap

newaxis = None
True_, False_ = True, False
ndarray = DNDarray
Euler, Inf, Infty, Infinity, NaN, euler_gamma = e, inf, inf, inf, nan, 0.5772156649015329
# Heat's spellings of dtypes; `bool` and `float` here are dtypes, as in the Array API and NumPy.
bool, float, double, half, int, long = bool_, float32, float64, float16, int32, int64
float_ = single = float32
intp, uintp = int64, uint64
byte, short, intc, int_, longlong = int8, int16, int32, int64, int64
ubyte, ushort, uintc, uint, ulong, ulonglong = uint8, uint16, uint32, uint64, uint64, uint64
csingle = cfloat = complex64
cdouble = complex128
complex = complexfloating


# Every row of the registry is a public function under its name and its aliases.
globals().update({name: row.function for name, row in OPERATIONS.items()})


def __getattr__(name: str):
    """Return a function of a wheel above, such as ``matmul``; see ``upper_layers``."""
    if name in upper_layers.names():
        globals()[name] = found = upper_layers.resolve(name)
        return found
    raise AttributeError(f"module 'ht_core' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *upper_layers.names()})
