"""Making arrays. Every rank makes its own part; only ``array(..., is_split=)`` sends a message."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from ht_comm import Communicator, get_comm

from . import types
from .devices import sanitize_device
from .dndarray import DNDarray, _cast
from .engines.creation import create, create_like, creates, normalize_split, signed
from .engines.elementwise import plan_elementwise
from .engines.redistribution import redistribute
from .errors import LayoutError
from .layout import Layout
from .registry import register

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
        True, the default, gives the array memory of its own; None shares that of `obj` where possible, False must.
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
    ValueError
        If `copy` is False and memory cannot be shared.

    Examples
    --------
    >>> ht.array([[1, 2], [3, 4]], split=0).shape
    (2, 2)
    """
    if split is not None and is_split is not None:
        raise LayoutError("array: split and is_split must not both be given: parts or a whole, not both")
    if isinstance(obj, DNDarray):
        made = _from_array(obj, dtype, copy, split, device)
        if copy is False and made.larray.data_ptr() != obj.larray.data_ptr() and obj.size:
            raise ValueError(
                "array: copy must not be False where dtype, device or split change; leave it out"
            )
        return made
    comm = get_comm() if comm is None else comm
    local = _to_tensor(obj, dtype, device)
    local = local.reshape((1,) * (ndmin - local.ndim) + tuple(local.shape))
    if is_split is not None:
        made = _join(local, is_split, comm)
    else:
        layout = Layout.even(tuple(local.shape), normalize_split(split, local.ndim, "array"), comm.size)
        part = redistribute(local, Layout.replicated(layout.shape), layout, comm)
        made = DNDarray(part, layout, comm)
    if copy is False and not _may_share(made.larray, obj) and made.size:
        raise ValueError(
            f"array: copy must not be False for {type(obj).__name__} without memory that can be shared; leave it out"
        )
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
    def fill(lshape, offset, dtype, device):
        if dtype is torch.uint64:  # torch reads the number as a signed one
            return torch.full(lshape, signed(value), dtype=torch.int64, device=device).view(dtype)
        if type(value) is not complex:
            return torch.full(lshape, value, dtype=dtype, device=device)
        # Rounded as elements are: torch refuses what the dtype cannot hold.
        one = _cast(torch.tensor(value, dtype=torch.complex128), dtype).item()
        return torch.full(lshape, one, dtype=dtype, device=device)

    return fill


def _full(op: str, fill_value: object, like: Callable, dtype: object) -> DNDarray:
    """Make an array by `like(dtype, fill)`: of a number in each part, or of an array that is broadcast to it."""
    size = fill_value.size if isinstance(fill_value, DNDarray) else np.size(fill_value)
    if size != 1:
        values = fill_value if isinstance(fill_value, DNDarray) else asarray(fill_value)
        made = like(values.dtype if dtype is None else dtype, _empty)
        return _assign(made, values.astype(made.dtype, copy=False), op)
    value = fill_value.item() if hasattr(fill_value, "item") else np.asarray(fill_value).item()
    kind = getattr(fill_value, "dtype", type(value)) if dtype is None else dtype
    return like(kind, _filled(value))


def _assign(x: DNDarray, values: DNDarray, op: str) -> DNDarray:
    """Write `values` to `x`, which they are broadcast to."""
    target = plan_elementwise((x.layout, values.layout), x.comm.size, x.layout, op).targets[1]
    x.larray.copy_(redistribute(values.larray, values.layout, target, x.comm))
    return x


@creates
def empty(shape, dtype=None, *, split=None, device=None, comm=None) -> DNDarray:
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


@creates
def zeros(shape, dtype=None, *, split=None, device=None, comm=None) -> DNDarray:
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


@creates
def ones(shape, dtype=None, *, split=None, device=None, comm=None) -> DNDarray:
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


@creates
def full(shape, fill_value, dtype=None, *, split=None, device=None, comm=None) -> DNDarray:
    """Make an array filled with one value. No message.

    Parameters
    ----------
    shape : int or tuple of int
        Global shape.
    fill_value : number or array_like
        The value, or an array that is broadcast to `shape`.
    dtype : dtype, optional
        The default is the dtype of `fill_value`.
    {common}
    """
    return _full(
        "full", fill_value, lambda kind, fill: create("full", shape, kind, split, device, comm, fill), dtype
    )


@creates
def empty_like(x, /, dtype=None, *, split="like", device=None, comm=None) -> DNDarray:
    """Make an array of uninitialised values with the shape, dtype and layout of `x`. No message."""
    return create_like("empty_like", x, dtype, split, device, comm, _empty)


@creates
def zeros_like(x, /, dtype=None, *, split="like", device=None, comm=None) -> DNDarray:
    """Make an array of zeros with the shape, dtype and layout of `x`. No message."""
    return create_like("zeros_like", x, dtype, split, device, comm, _zeros)


@creates
def ones_like(x, /, dtype=None, *, split="like", device=None, comm=None) -> DNDarray:
    """Make an array of ones with the shape, dtype and layout of `x`. No message."""
    return create_like("ones_like", x, dtype, split, device, comm, _ones)


@creates
def full_like(x, /, fill_value, dtype=None, *, split="like", device=None, comm=None) -> DNDarray:
    """Make an array filled with one value, with the shape, dtype and layout of `x`. No message."""
    return _full(
        "full_like",
        fill_value,
        lambda kind, fill: create_like("full_like", x, kind, split, device, comm, fill),
        x.dtype if dtype is None else dtype,
    )


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
