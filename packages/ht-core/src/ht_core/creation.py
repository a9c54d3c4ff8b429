"""Making arrays. Every rank makes its own part; only ``array(..., is_split=)`` sends a message."""

from __future__ import annotations

import math

import numpy as np
import torch
from ht_comm import Communicator, get_comm

from . import types
from .devices import sanitize_device
from .dndarray import DNDarray, _cast
from .engines.creation import create, create_like, normalize_split
from .engines.redistribution import redistribute
from .errors import LayoutError
from .layout import Layout
from .registry import register

_COMMON = """split : int, optional
    The axis along which the array is cut; None (the default) makes every rank hold all of it.
device : Device or str, optional
    "cpu", "gpu" or a torch device; the default is ``ht.get_device()``.
comm : Communicator, optional
    The ranks that hold the array; the default is ``ht.get_comm()``.
"""


def _creates(function):
    """Complete the docstring of a creation function and enter it as an operation."""
    function.__doc__ = function.__doc__.replace("{common}", _COMMON.replace("\n", "\n    ").rstrip())
    return register(function, kind="creation", numpy=function.__name__, arity=0, method=False)


# -- from values ----------------------------------------------------------------------------------------------


def array(
    obj: object,
    dtype: object = None,
    copy: bool | None = True,
    ndmin: int = 0,
    *,
    split: int | None = None,
    is_split: int | None = None,
    device: object = None,
    comm: Communicator | None = None,
) -> DNDarray:
    """Make an array from numbers, nested sequences, a NumPy array, a torch tensor or a DNDarray.

    *Distribution*: with `split`, every rank passes the same global object and keeps its part; no message. With
    `is_split`, every rank passes its own part, and the parts are joined in rank order; one small exchange of shapes.

    Parameters
    ----------
    obj : array_like
        The values: the whole array, or with `is_split` this rank's part.
    dtype : dtype, optional
        The default is the dtype of `obj`.
    copy : bool, optional
        True, the default, gives the array memory of its own; None and False share that of `obj` where possible.
    ndmin : int
        Least number of axes; missing ones are put in front.
    split : int, optional
        Cut the array along this axis.
    is_split : int, optional
        The axis along which the ranks' parts are joined.
    device : Device or str, optional
        Where the part is kept; the default is the device of `obj`, or ``ht.get_device()``.
    comm : Communicator, optional
        The ranks that hold the array; the default is ``ht.get_comm()``.

    Raises
    ------
    LayoutError
        If an axis is out of range, both `split` and `is_split` are given, or the parts do not fit together.
    DTypeError
        If the values are not numbers.

    Examples
    --------
    >>> ht.array([[1, 2], [3, 4]], split=0).shape
    (2, 2)
    """
    if split is not None and is_split is not None:
        raise LayoutError("array: split and is_split must not both be given: parts or a whole, not both")
    if isinstance(obj, DNDarray):
        return _from_array(obj, dtype, copy, split, device)
    comm = get_comm() if comm is None else comm
    local = _to_tensor(obj, dtype, device)
    local = local.reshape((1,) * (ndmin - local.ndim) + tuple(local.shape))
    if is_split is not None:
        made = _join(local, is_split, comm)
    else:
        layout = Layout.even(tuple(local.shape), normalize_split(split, local.ndim, "array"), comm.size)
        part = redistribute(local, Layout.replicated(layout.shape), layout, comm)
        made = DNDarray(part, layout, comm)
    return made.copy() if copy and _may_share(made.larray, obj) else made


def asarray(
    obj: object,
    dtype: object = None,
    copy: bool | None = None,
    *,
    split: int | None = None,
    is_split: int | None = None,
    device: object = None,
    comm: Communicator | None = None,
) -> DNDarray:
    """Make an array, sharing memory with `obj` where possible; see :func:`array`."""
    return array(obj, dtype, copy, split=split, is_split=is_split, device=device, comm=comm)


def _from_array(x: DNDarray, dtype: object, copy: bool | None, split: int | None, device: object) -> DNDarray:
    y = x if device is None else x.to_device(device)
    y = y if dtype is None else y.astype(dtype, copy=False)
    if split is not None:
        layout = Layout.even(x.shape, normalize_split(split, x.ndim, "array"), x.comm.size)
        y = DNDarray(redistribute(y.larray, y.layout, layout, x.comm), layout, x.comm)
    return (
        y.copy()
        if copy and y.larray.untyped_storage().data_ptr() == x.larray.untyped_storage().data_ptr()
        else y
    )


def _to_tensor(obj: object, dtype: object, device: object) -> torch.Tensor:
    kind = None if dtype is None else types.canonical(dtype).torch
    if isinstance(obj, torch.Tensor):
        local = obj
        place = local.device if device is None else sanitize_device(device).torch_device
    else:
        values = np.asarray(obj)
        if values.dtype.kind not in types.ALL:
            raise types.DTypeError(
                f"array: values must be numbers, got {type(obj).__name__} of {values.dtype}"
            )
        if not values.dtype.isnative or not values.flags.writeable or any(s < 0 for s in values.strides):
            values = values.astype(values.dtype.newbyteorder("="))
        local = torch.from_numpy(values) if values.ndim else torch.from_numpy(values.reshape(1))[0]
        place = sanitize_device(device).torch_device
    return _cast(local, local.dtype if kind is None else kind).to(place)


def _may_share(local: torch.Tensor, obj: object) -> bool:
    """Tell whether `local` lies in memory of `obj`; numbers and sequences own none that a tensor could share."""
    if isinstance(obj, torch.Tensor):
        return local.untyped_storage().data_ptr() == obj.untyped_storage().data_ptr()
    if isinstance(obj, (int, float, complex, list, tuple)) or local.device.type != "cpu":
        return False
    low, high = np.lib.array_utils.byte_bounds(np.asarray(obj))
    return low <= local.data_ptr() < high


def _join(local: torch.Tensor, is_split: int, comm: Communicator) -> DNDarray:
    """Make the array whose parts the ranks hold; agree on its layout by one exchange."""
    facts = comm.allgather_object((tuple(local.shape), local.dtype, is_split))
    shapes = [f[0] for f in facts]
    if len({(len(s), f[1], f[2]) for s, f in zip(shapes, facts)}) != 1:
        raise LayoutError(f"array: parts must agree in number of axes, dtype and is_split, got {facts}")
    axis = normalize_split(is_split, local.ndim, "array")
    if len({s[:axis] + s[axis + 1 :] for s in shapes}) != 1:
        raise LayoutError(f"array: parts must agree in all axes but {axis}, got shapes {shapes}")
    counts = tuple(s[axis] for s in shapes)
    shape = (*shapes[0][:axis], sum(counts), *shapes[0][axis + 1 :])
    return DNDarray(local, Layout(shape, axis, counts), comm)


# -- constant values ------------------------------------------------------------------------------------------


def _empty(lshape, offset, dtype, device):
    return torch.empty(lshape, dtype=dtype, device=device)


def _zeros(lshape, offset, dtype, device):
    return torch.zeros(lshape, dtype=dtype, device=device)


def _ones(lshape, offset, dtype, device):
    return torch.ones(lshape, dtype=dtype, device=device)


def _filled(value):
    return lambda lshape, offset, dtype, device: torch.full(lshape, value, dtype=dtype, device=device)


def _value_and_dtype(fill_value: object, dtype: object):
    value = fill_value.item() if hasattr(fill_value, "item") else fill_value
    if dtype is None:
        dtype = getattr(fill_value, "dtype", type(value))
    return value, dtype


@_creates
def empty(shape, dtype=types.float64, *, split=None, device=None, comm=None) -> DNDarray:
    """Make an array of uninitialised values. No message.

    Parameters
    ----------
    shape : int or tuple of int
        Global shape.
    dtype : dtype
        float64 by default.
    {common}
    """
    return create("empty", shape, dtype, split, device, comm, _empty)


@_creates
def zeros(shape, dtype=types.float64, *, split=None, device=None, comm=None) -> DNDarray:
    """Make an array of zeros. No message.

    Parameters
    ----------
    shape : int or tuple of int
        Global shape.
    dtype : dtype
        float64 by default.
    {common}

    Examples
    --------
    >>> ht.zeros((4, 2), split=0).shape
    (4, 2)
    """
    return create("zeros", shape, dtype, split, device, comm, _zeros)


@_creates
def ones(shape, dtype=types.float64, *, split=None, device=None, comm=None) -> DNDarray:
    """Make an array of ones. No message.

    Parameters
    ----------
    shape : int or tuple of int
        Global shape.
    dtype : dtype
        float64 by default.
    {common}
    """
    return create("ones", shape, dtype, split, device, comm, _ones)


@_creates
def full(shape, fill_value, dtype=None, *, split=None, device=None, comm=None) -> DNDarray:
    """Make an array filled with one value. No message.

    Parameters
    ----------
    shape : int or tuple of int
        Global shape.
    fill_value : number
        The value.
    dtype : dtype, optional
        The default is the dtype of `fill_value`.
    {common}
    """
    value, dtype = _value_and_dtype(fill_value, dtype)
    return create("full", shape, dtype, split, device, comm, _filled(value))


@_creates
def empty_like(x, /, dtype=None, *, split="like", device=None, comm=None) -> DNDarray:
    """Make an array of uninitialised values with the shape, dtype and layout of `x`. No message."""
    return create_like("empty_like", x, dtype, split, device, comm, _empty)


@_creates
def zeros_like(x, /, dtype=None, *, split="like", device=None, comm=None) -> DNDarray:
    """Make an array of zeros with the shape, dtype and layout of `x`. No message."""
    return create_like("zeros_like", x, dtype, split, device, comm, _zeros)


@_creates
def ones_like(x, /, dtype=None, *, split="like", device=None, comm=None) -> DNDarray:
    """Make an array of ones with the shape, dtype and layout of `x`. No message."""
    return create_like("ones_like", x, dtype, split, device, comm, _ones)


@_creates
def full_like(x, /, fill_value, dtype=None, *, split="like", device=None, comm=None) -> DNDarray:
    """Make an array filled with one value, with the shape, dtype and layout of `x`. No message."""
    value = fill_value.item() if hasattr(fill_value, "item") else fill_value
    return create_like("full_like", x, dtype, split, device, comm, _filled(value))


# -- ranges and diagonals ------------------------------------------------------------------------------------


@_creates
def arange(start, /, stop=None, step=1, *, dtype=None, split=None, device=None, comm=None) -> DNDarray:
    """Make the values ``start, start + step, ...`` below `stop`. No message.

    Parameters
    ----------
    start, stop, step : number
        As for ``range``; a single argument is `stop`.
    dtype : dtype, optional
        int64 where all arguments are integers, float64 otherwise.
    {common}

    Raises
    ------
    LayoutError
        If `step` is 0.

    Examples
    --------
    >>> ht.arange(5, split=0).numpy().tolist()
    [0, 1, 2, 3, 4]
    """
    start, stop = (0, start) if stop is None else (start, stop)
    if step == 0:
        raise LayoutError("arange: step must not be 0")
    exact = all(isinstance(v, (int, np.integer)) for v in (start, stop, step))
    n = max(-((start - stop) // step) if exact else math.ceil((stop - start) / step), 0)
    dtype = (types.int64 if exact else types.float64) if dtype is None else types.canonical(dtype)

    def fill(lshape, offset, kind, device):
        work = torch.int64 if exact else torch.float64
        index = torch.arange(offset, offset + lshape[0], dtype=work, device=device)
        return index.mul_(step).add_(start).to(kind)

    return create("arange", (n,), dtype, split, device, comm, fill)


@_creates
def linspace(
    start, stop, num=50, endpoint=True, retstep=False, dtype=None, *, split=None, device=None, comm=None
) -> DNDarray:
    """Make `num` evenly spaced values from `start` to `stop`. No message.

    Parameters
    ----------
    start, stop : number
        First value and end of the interval.
    num : int
        Number of values.
    endpoint : bool
        Let `stop` be the last value; otherwise it is left out.
    retstep : bool
        Return the pair (values, spacing).
    dtype : dtype, optional
        float64 by default.
    {common}
    """
    if num < 0:
        raise LayoutError(f"linspace: num must be non-negative, got {num}")
    gaps = num - 1 if endpoint else num
    step = (stop - start) / gaps if gaps else math.nan
    dtype = (types.complex128 if isinstance(step, complex) else types.float64) if dtype is None else dtype

    def fill(lshape, offset, kind, device):
        work = torch.complex128 if isinstance(step, complex) else torch.float64
        index = torch.arange(offset, offset + lshape[0], dtype=torch.float64, device=device).to(work)
        values = index.mul_(step if gaps else 0).add_(start)
        if endpoint and gaps and offset + lshape[0] == num and lshape[0]:
            values[-1] = stop
        if not kind.is_floating_point and not kind.is_complex:
            values = values.floor()
        return _cast(values, kind)

    values = create("linspace", (num,), dtype, split, device, comm, fill)
    return (values, step) if retstep else values


@_creates
def eye(N, M=None, k=0, dtype=types.float64, *, split=None, device=None, comm=None) -> DNDarray:
    """Make a matrix with ones on diagonal `k` and zeros elsewhere. No message.

    Parameters
    ----------
    N, M : int
        Numbers of rows and columns; M is N by default. ``eye((N, M))`` is accepted too.
    k : int
        The diagonal: 0 is the main one, positive ones are above it.
    dtype : dtype
        float64 by default.
    {common}
    """
    shape = tuple(N) if isinstance(N, (tuple, list)) else (N, N if M is None else M)
    if len(shape) == 1:
        shape *= 2
    axis = normalize_split(split, 2, "eye")

    def fill(lshape, offset, kind, device):
        first_row, first_column = (offset if axis == 0 else 0), (offset if axis == 1 else 0)
        diagonal = first_row + k - first_column  # element (i, j) of the part is one where i + diagonal == j
        part = torch.zeros(lshape, dtype=kind, device=device)
        if -lshape[0] < diagonal < lshape[1]:
            part.diagonal(diagonal).fill_(1)
        return part

    return create("eye", shape, dtype, split, device, comm, fill)


register(
    array,
    kind="creation",
    numpy="array",
    arity=0,
    method=False,
    cost="No message; one exchange with is_split.",
)
register(asarray, kind="creation", numpy="asarray", arity=0, method=False, cost="As array.")


def _cast_or_make(self: types.dtype, value: object = 0, /) -> DNDarray:
    """Return `value` as an array of this dtype. No message."""
    return value.astype(self) if isinstance(value, DNDarray) else array(value, dtype=self)


types.dtype.__call__ = _cast_or_make
