"""What functions of several arrays are called with, as arrays on one communicator and device."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..dndarray import DNDarray
from .elementwise import as_operand, common_comm


def as_arrays(values: Sequence[object], op: str) -> list[DNDarray]:
    """Return `values` as arrays: DNDarrays as they are, anything else as replicated arrays beside the first of them.

    Raises
    ------
    CommError
        If arrays live on different communicators.
    DTypeError
        If a value is no array of numbers.
    """
    values = list(values)
    arrays = [x for x in values if isinstance(x, DNDarray)]
    comm = common_comm(arrays, op)
    device = arrays[0].larray.device if arrays else torch.device("cpu")
    return [as_operand(x, comm, device, op) for x in values]
