"""Arrays from other libraries: DLPack, buffers, iterators, and arrays that are already spread over processes."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
from ht_comm import Communicator, get_comm

from . import types
from .creation import array, asarray
from .dndarray import DNDarray
from .errors import LayoutError
from .layout import Layout
from .registry import register


def from_dlpack(
    x: object, /, *, device: object = None, copy: bool | None = None, split: int | None = None
) -> DNDarray:
    """Make an array from an object of another library that speaks DLPack.

    *Distribution*: every rank passes the same array, and with `split` keeps its part; no message. A DNDarray keeps its
    layout.

    Parameters
    ----------
    x : object
        With the methods ``__dlpack__`` and ``__dlpack_device__``.
    device : Device or str, optional
        Where the part is kept; the default is the device of `x`.
    copy : bool, optional
        True copies always, False never; None shares memory where possible.
    split : int, optional
        Cut the array along this axis.

    Raises
    ------
    AttributeError
        If `x` does not speak DLPack.
    BufferError
        If `copy` is False and the memory cannot be shared.

    Examples
    --------
    >>> import numpy
    >>> ht.from_dlpack(numpy.arange(3), split=0).numpy().tolist()
    [0, 1, 2]
    """
    if isinstance(x, DNDarray):
        made = x if device is None else x.to_device(device)
    else:
        if not hasattr(x, "__dlpack__"):
            raise AttributeError(f"from_dlpack: x must have a method __dlpack__, got {type(x).__name__}")
        made = asarray(_exported(x), device=device, split=split)
    moved = made.larray.device.type != _device_type(x)
    if copy is False and moved:
        raise BufferError("from_dlpack: copy must not be False where the device changes; leave it out")
    return made.copy() if copy and not moved else made


def _exported(x: object) -> torch.Tensor:
    if (
        isinstance(x, np.ndarray) and not x.flags.writeable
    ):  # NumPy refuses to export what torch could write to
        x = x.copy()
    return torch.from_dlpack(x)


def _device_type(x: object) -> str:
    if isinstance(x, DNDarray):
        return x.larray.device.type
    return "cpu" if x.__dlpack_device__()[0] == 1 else "other"


def fromiter(
    iter: Iterable, dtype: object, count: int = -1, *, split: int | None = None, device=None, comm=None
) -> DNDarray:
    """Make a one-dimensional array from an iterable of numbers.

    *Distribution*: every rank passes an iterable of the same numbers, and with `split` keeps its part; no message.

    Parameters
    ----------
    iter : iterable
        The values.
    dtype : dtype
        Dtype of the result.
    count : int
        Number of values to read; all of them by default.
    split : int, optional
        0 cuts the array.

    Raises
    ------
    ValueError
        If there are fewer values than `count`.

    Examples
    --------
    >>> ht.fromiter((i * i for i in range(4)), ht.int64, split=0).numpy().tolist()
    [0, 1, 4, 9]
    """
    kind = types.canonical(dtype)
    values = np.fromiter(iter, dtype=np.float64 if kind.numpy is None else kind.numpy, count=count)
    return array(values, dtype=kind, split=split, device=device, comm=comm)


def frombuffer(
    buffer: object,
    dtype: object = types.float64,
    count: int = -1,
    offset: int = 0,
    *,
    split: int | None = None,
    device=None,
    comm=None,
) -> DNDarray:
    """Make a one-dimensional array from the bytes of an object.

    *Distribution*: every rank passes the same bytes, and with `split` keeps its part; no message.

    Parameters
    ----------
    buffer : object
        With the buffer protocol, such as bytes.
    dtype : dtype
        Dtype of the elements.
    count : int
        Number of elements; all of them by default.
    offset : int
        Where the first one starts, in bytes.
    split : int, optional
        0 cuts the array.

    Raises
    ------
    ValueError
        If the buffer is too short, or its size no multiple of that of an element.

    Examples
    --------
    >>> ht.frombuffer(b"\\x01\\x02", ht.uint8, split=0).numpy().tolist()
    [1, 2]
    """
    kind = types.canonical(dtype)
    if kind.numpy is None:  # NumPy has no such dtype; the bits are the same
        bits = np.frombuffer(buffer, np.int16, count, offset)
        made = array(bits, split=split, device=device, comm=comm)
        return DNDarray(made.larray.view(kind.torch), made.layout, made.comm)
    return array(np.frombuffer(buffer, kind.numpy, count, offset), split=split, device=device, comm=comm)


def from_partition_dict(parted: dict, comm: Communicator | None = None) -> DNDarray:
    """Make an array from the description of one that is already spread over processes; see :func:`from_partitioned`."""
    comm = get_comm() if comm is None else comm
    shape = tuple(int(n) for n in parted["shape"])
    parts = sorted(parted["partitions"].items())
    cut = [a for a, n in enumerate(parted["partition_tiling"]) if n > 1]
    if len(cut) > 1:
        raise LayoutError(
            f"from_partitioned: the array must be cut along one axis, got tiling {parted['partition_tiling']}"
        )
    mine = [parted["partitions"][key] for key in parted["locals"]]
    if not cut and len(parts) == 1:
        counts, axis = (), None
    else:
        axis = cut[0] if cut else 0
        if len(parts) != comm.size or len(mine) != 1:
            raise LayoutError(
                f"from_partitioned: there must be one partition for each of {comm.size} ranks, got {len(parts)}"
            )
        counts = tuple(int(part["shape"][axis]) for _, part in parts)
    layout = Layout(shape, axis, counts)
    get = parted.get("get", lambda data: data)
    local = asarray(get(mine[0]["data"]), comm=comm).larray
    if tuple(local.shape) != layout.lshape(comm.rank):
        raise LayoutError(
            f"from_partitioned: partitions must lie in rank order, got {tuple(local.shape)} on rank {comm.rank}"
        )
    return DNDarray(local, layout, comm)


def from_partitioned(x: object, comm: Communicator | None = None) -> DNDarray:
    """Make an array from one of another library that is already spread over processes.

    *Distribution*: every rank keeps the memory it has; the array is cut as `x` is. No message.

    Parameters
    ----------
    x : object
        With the property ``__partitioned__``: cut along one axis, one partition per rank, in rank order.
    comm : Communicator, optional
        The ranks that hold the array; the default is ``ht.get_comm()``.

    Raises
    ------
    LayoutError
        If `x` is cut otherwise.
    """
    if not hasattr(x, "__partitioned__"):
        raise AttributeError(f"from_partitioned: x must have __partitioned__, got {type(x).__name__}")
    return from_partition_dict(x.__partitioned__, comm)


def copy(x: object, /) -> DNDarray:
    """Return a copy, which has the layout of `x`. No message.

    Examples
    --------
    >>> ht.copy(ht.arange(3, split=0)).split
    0
    """
    return array(x, copy=True)


def asarray_chkfinite(obj: object, dtype: object = None, *, split: int | None = None) -> DNDarray:
    """Make an array, as :func:`asarray` does, and refuse infinities and NaN.

    *Distribution*: as :func:`asarray`; one allreduce of a number where the result is split.

    Raises
    ------
    ValueError
        If an element is infinite or NaN; on every rank.

    Examples
    --------
    >>> ht.asarray_chkfinite([1.0, 2.0], split=0).shape
    (2,)
    """
    made = asarray(obj, dtype, split=split)
    bad = torch.count_nonzero(~torch.isfinite(made.larray)) if made.dtype.kind in types.FLOATING else 0
    if made.is_distributed() and made.dtype.kind in types.FLOATING:
        bad = made.comm.allreduce(bad, "sum")
    if int(bad):
        raise ValueError("asarray_chkfinite: the array must be finite, got infinities or NaN")
    return made


def asanyarray(obj: object, dtype: object = None, *, copy: bool | None = None, device=None) -> DNDarray:
    """Make an array; the same as :func:`asarray`, for there are no subclasses.

    Examples
    --------
    >>> ht.asanyarray([1, 2]).shape
    (2,)
    """
    return asarray(obj, dtype, copy, device=device)


def ascontiguousarray(obj: object, dtype: object = None) -> DNDarray:
    """Make an array of at least one axis, whose parts lie in memory in C order. No message.

    Examples
    --------
    >>> ht.ascontiguousarray(ht.ones((2, 3), split=0).T).larray.is_contiguous()
    True
    """
    made = asarray(obj, dtype)
    if not made.ndim:
        return DNDarray(made.larray.reshape(1), made.layout.insert(0), made.comm)
    return made if made.larray.is_contiguous() else DNDarray(made.larray.contiguous(), made.layout, made.comm)


def asfortranarray(obj: object, dtype: object = None) -> DNDarray:
    """Make an array of at least one axis, whose parts lie in memory in Fortran order. No message.

    Examples
    --------
    >>> ht.asfortranarray(ht.ones((2, 3))).larray.T.is_contiguous()
    True
    """
    made = ascontiguousarray(asarray(obj, dtype))
    axes = tuple(range(made.ndim))[::-1]
    return DNDarray(made.larray.permute(axes).contiguous().permute(axes), made.layout, made.comm)


_ORDERS = {"C": ascontiguousarray, "F": asfortranarray}


def require(obj: object, dtype: object = None, requirements: object = None) -> DNDarray:
    """Make an array that meets NumPy's `requirements`: "C", "F", and those that always hold ("A", "E", "O", "W").

    Raises
    ------
    ValueError
        If a requirement is unknown, or "C" and "F" are both asked for.

    Examples
    --------
    >>> ht.require([1, 2], ht.float32, "C").dtype
    ht.float32
    """
    letters = {str(r)[0].upper() for r in requirements or ()}
    if letters - set("CFAEOW") or {"C", "F"} <= letters:
        raise ValueError(f"require: requirements must be of C, F, A, E, O and W, got {requirements!r}")
    made = asarray(obj, dtype)
    for letter in letters & set(_ORDERS):
        made = _ORDERS[letter](made)
    return made.copy() if "O" in letters and made.larray is getattr(obj, "larray", obj) else made


_ROWS = (
    fromiter,
    frombuffer,
    asanyarray,
    ascontiguousarray,
    asfortranarray,
    asarray_chkfinite,
    require,
    copy,
)
for _function in _ROWS:
    register(_function, kind="creation", numpy=_function.__name__, arity=0, method=False)
for _function in (from_dlpack, from_partitioned, from_partition_dict):
    register(_function, kind="creation", numpy=None, arity=0, method=False)
