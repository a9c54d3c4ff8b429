"""Engine of creation: each rank makes its own part from global facts, without a message."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from ht_comm import Communicator, get_comm

from .. import types
from ..budget import check, switch
from ..devices import sanitize_device
from ..dndarray import DNDarray
from ..errors import LayoutError
from ..layout import Layout, normalize_axis
from ..registry import register

_COMMON = """split : int, optional
    The axis along which the array is cut; None (the default) makes every rank hold all of it.
device : Device or str, optional
    "cpu", "gpu" or a torch device; the default is ``ht.get_device()``.
comm : Communicator, optional
    The ranks that hold the array; the default is ``ht.get_comm()``.
"""


def creates(function: Callable) -> Callable:
    """Complete the docstring of a creation function and enter it as an operation."""
    function.__doc__ = function.__doc__.replace("{common}", _COMMON.replace("\n", "\n    ").rstrip())
    return register(function, kind="creation", numpy=function.__name__, arity=0, method=False)


def normalize_shape(shape: object, op: str) -> tuple[int, ...]:
    """Return `shape`, an integer or a sequence of them, as a tuple of non-negative integers.

    Raises
    ------
    LayoutError
        If it is anything else.
    """
    items = (shape,) if hasattr(shape, "__index__") else shape
    try:
        result = tuple(n.__index__() for n in items)
    except (TypeError, AttributeError):
        result = (-1,)
    if any(n < 0 for n in result):
        raise LayoutError(f"{op}: shape must consist of non-negative integers, got {shape!r}")
    return result


def normalize_split(split: object, ndim: int, op: str) -> int | None:
    """Return `split` in [0, ndim) or None.

    Raises
    ------
    LayoutError
        If it is out of range.
    """
    return None if split is None else normalize_axis(split, ndim, op, "split")


def signed(value: int) -> int:
    """Return the integer of 64 bits with a sign that is `value` modulo 2**64."""
    return (int(value) + 2**63) % 2**64 - 2**63


def create(
    op: str,
    shape: Sequence[int],
    dtype: object,
    split: int | None,
    device: object,
    comm: Communicator | None,
    fill: Callable[[tuple[int, ...], int, torch.dtype, torch.device], torch.Tensor],
) -> DNDarray:
    """Make an array whose part on each rank is ``fill(lshape, offset, dtype, device)``.

    `offset` is the global index of the part's first row along the split axis.
    """
    shape = normalize_shape(shape, op)
    split = normalize_split(split, len(shape), op)
    kind = types.canonical(types.float64 if dtype is None else dtype).torch
    place = sanitize_device(device).torch_device
    comm = get_comm() if comm is None else comm
    layout = Layout.even(shape, split, comm.size)
    if switch.is_on:
        check(op, layout, kind.itemsize)
    return DNDarray(fill(layout.lshape(comm.rank), layout.offset(comm.rank), kind, place), layout, comm)


def create_like(
    op: str,
    x: DNDarray,
    dtype: object,
    split: object,
    device: object,
    comm: Communicator | None,
    fill: Callable,
) -> DNDarray:
    """Make an array of the shape, dtype, layout and device of `x` unless told otherwise."""
    dtype = x.dtype if dtype is None else dtype
    device = x.larray.device if device is None else device
    if split == "like" and comm in (None, x.comm):
        kind, place = types.canonical(dtype).torch, sanitize_device(device).torch_device
        return DNDarray(fill(x.lshape, x.layout.offset(x.comm.rank), kind, place), x.layout, x.comm)
    split = x.split if split == "like" else split
    return create(op, x.shape, dtype, split, device, x.comm if comm is None else comm, fill)
