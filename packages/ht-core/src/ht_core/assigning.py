"""Assignment by position or condition, as functions: they change their first argument in place."""

from __future__ import annotations

import torch
from ht_comm import SerialComm

from .dndarray import DNDarray
from .engines.elementwise import as_operand
from .engines.gather import is_c_ordered
from .engines.index_key import Entry
from .engines.indexing import as_value, bits, fit
from .engines.redistribution import redistribute
from .engines.scatter import set_advanced
from .errors import DTypeError, LayoutError
from .indexing import check_mode, columns_of, nonzero, setitem, take, within
from .layout import Layout
from .picking import along_axis, meeting, mesh, plan_along
from .registry import register

_WHOLE = (None, None, None)


def _target(x: object, op: str) -> DNDarray:
    if not isinstance(x, DNDarray):
        raise TypeError(f"{op}: x must be a DNDarray, got {type(x).__name__}")
    return x


def _cyclic(values: DNDarray, numbers: torch.Tensor, layout: Layout) -> DNDarray:
    """Return ``values.flat[numbers % size]`` in `layout`. No message where the values are replicated."""
    if values.split is None:
        local = bits(values.larray).reshape(-1)[numbers % values.size].view(values.larray.dtype)
        return DNDarray(local, layout, values.comm)
    return take(values, DNDarray(numbers, layout, values.comm), mode="wrap")


def _numbers(layout: Layout, rank: int, device: torch.device) -> torch.Tensor:
    """Return the place of each element of this rank's part in C order of the whole array."""
    total, inner = torch.zeros(layout.lshape(rank), dtype=torch.int64, device=device), 1
    for axis in reversed(range(layout.ndim)):
        start, stop = layout.box(rank)[axis]
        own = torch.arange(start, stop, device=device) * inner
        total += own.reshape(-1, *(1,) * (layout.ndim - axis - 1))
        inner *= layout.shape[axis]
    return total


def put(x: DNDarray, indices: object, values: object, mode: str = "raise") -> None:
    """Write values to positions in C order of the whole array: ``x.flat[indices] = values``.

    *Distribution*: as ``x[...] = values`` with index arrays: no message for replicated indices and values, otherwise a
    constant number of words per index.

    Parameters
    ----------
    x : DNDarray
        Changed in place.
    indices : array_like of int
        The last value wins where a position occurs twice.
    values : array_like
        In C order, repeated as often as needed; what is left over is not used.
    mode : {"raise", "wrap", "clip"}
        What happens to positions outside [-n, n): an error; modulo n; 0 or n - 1 (all negative ones become 0).

    Raises
    ------
    IndexError
        If a position is out of bounds, on every rank; nothing is changed then.
    DTypeError, LayoutError, TypeError
        If the arguments are of the wrong kind.

    Examples
    --------
    >>> x = ht.zeros(5, dtype="int64", split=0)
    >>> ht.put(x, [0, -1, 2], [7, 8])
    >>> x.numpy().tolist()
    [7, 0, 7, 0, 8]
    """
    _target(x, "put")
    check_mode(mode, "put")
    indices = as_operand(indices, x.comm, x.larray.device, "put")
    if indices.dtype.kind not in "biu" and indices.size:
        raise DTypeError(f"put: indices must be integers, got {indices.dtype}; cast with astype first")
    value = as_value(values, x)
    where = within(indices, x.size, mode, "put")
    if not indices.size or (isinstance(value, DNDarray) and not value.size):
        return
    if indices.ndim == 0:
        where = DNDarray(where.larray.reshape(1), Layout((1,), None), x.comm)
    if isinstance(value, DNDarray) and value.shape != where.shape:
        value = _cyclic(value, _numbers(where.layout, x.comm.rank, x.larray.device), where.layout)
    if x.ndim == 0:
        x.larray.copy_(value.larray.reshape(-1)[-1] if isinstance(value, DNDarray) else torch.tensor(value))
        return
    columns = columns_of(where.larray, x.shape)
    entries = tuple(Entry(a, DNDarray(column, where.layout, x.comm)) for a, column in enumerate(columns))
    set_advanced(x, (_WHOLE,) * x.ndim, entries, 0, value)


def put_along_axis(x: DNDarray, indices: object, values: object, axis: int | None) -> None:
    """Write, for each slice of `x` along an axis, values to positions of its own.

    *Distribution*: no message where `x` is not split along `axis` and the other operands are replicated or lie as `x`
    does; otherwise as ``x[idx] = values``. Split `indices` cost one check of their bounds besides.

    Parameters
    ----------
    x : DNDarray
        Changed in place.
    indices : array_like of int
        As many axes as `x`; broadcasts to it beside `axis`.
    values : array_like
        Broadcasts to `indices`.
    axis : int or None
        None takes `x` as flattened in C order.

    Raises
    ------
    IndexError
        If a position is out of bounds, on every rank; nothing is changed then.
    LayoutError, DTypeError, TypeError
        If the arguments do not fit.

    Examples
    --------
    >>> x = ht.zeros((2, 3), dtype="int64", split=0)
    >>> ht.put_along_axis(x, ht.array([[2], [0]], split=0), 5, axis=1)
    >>> x.numpy().tolist()
    [[0, 0, 5], [5, 0, 0]]
    """
    op = "put_along_axis"
    _target(x, op)
    value = as_value(values, x)
    if axis is None:
        indices = as_operand(indices, x.comm, x.larray.device, op)
        if indices.ndim != 1:
            raise LayoutError(f"{op}: indices must be a vector without axis, got shape {indices.shape}")
        if isinstance(value, DNDarray):
            value = fit(value, indices.shape)
            value = (
                value
                if value.size > 1
                else DNDarray(value._gathered().reshape(1), Layout((1,), None), x.comm)
            )
        put(x, indices, value)
        return
    where, axis, shape = along_axis(x, indices, axis, op)
    if isinstance(value, DNDarray):
        value = fit(value, shape)
    layout = plan_along(x.layout, Layout(where.shape, None), axis, shape)
    if x.split == axis or (
        x.split is not None and layout.split is None
    ):  # or one row, which several indices name
        setitem(x, mesh(where, axis, x.shape), value)
        return
    # Every rank writes its own rows: the rest is an assignment on one rank.
    alone = SerialComm()
    places = meeting(where, layout)
    if isinstance(value, DNDarray):
        lead = layout.ndim - value.ndim
        value = DNDarray(value.larray.reshape((1,) * lead + value.lshape), _led(value.layout, lead), x.comm)
        part = meeting(value, layout)
        value = DNDarray(part, Layout(tuple(part.shape), None), alone)
    own = DNDarray(x.larray, Layout(x.lshape, None), alone)
    where = DNDarray(places, Layout(tuple(places.shape), None), alone)
    setitem(own, mesh(where, axis, x.lshape), value)


def _led(layout: Layout, lead: int) -> Layout:
    split = None if layout.split is None else layout.split + lead
    return Layout((1,) * lead + layout.shape, split, layout.counts)


def _mask_of(x: DNDarray, mask: object, op: str) -> DNDarray:
    mask = as_operand(mask, x.comm, x.larray.device, op)
    if mask.shape != x.shape:
        raise LayoutError(f"{op}: mask must have the shape {x.shape} of x, got {mask.shape}")
    local = mask.larray
    return mask if local.dtype is torch.bool else DNDarray(bits(local) != 0, mask.layout, x.comm)


def place(x: DNDarray, mask: object, values: object) -> None:
    """Write the first values, in C order, to the elements where a mask is true.

    *Distribution*: one exchange of counts; no further message where `x` is split along axis 0 and the mask lies as it
    does, or all is replicated. Otherwise as ``x[mask] = values``.

    Parameters
    ----------
    x : DNDarray
        Changed in place.
    mask : array_like
        Of the shape of `x`; nonzero means true.
    values : array_like
        As many as needed, in C order; repeated if there are fewer.

    Raises
    ------
    ValueError
        If there are no values, but elements to write.
    LayoutError, TypeError
        If shapes or kinds do not fit.

    Examples
    --------
    >>> x = ht.arange(6, split=0)
    >>> ht.place(x, x > 2, [-1, -2])
    >>> x.numpy().tolist()
    [0, 1, 2, -1, -2, -1]
    """
    _target(x, "place")
    mask = _mask_of(x, mask, "place")
    value = as_value(values, x)
    if not isinstance(value, DNDarray) or value.size == 1:
        setitem(x, mask, value)
        return
    if x.ndim == 0:
        if bool(mask.larray):
            x.larray.copy_(value._gathered().reshape(-1)[0])
        return
    if mask.split is None or is_c_ordered(mask.shape, mask.split):
        rows = nonzero(mask)[0].layout
    else:
        rows = Layout.even((int(mask.sum()),), 0, x.comm.size)
    if not rows.size:
        return
    if not value.size:
        raise ValueError("place: values must not be empty where the mask is true")
    start = rows.offset(x.comm.rank)
    count = rows.lshape(x.comm.rank)[0]
    numbers = torch.arange(start, start + count, device=x.larray.device)
    setitem(x, mask, _cyclic(value, numbers, rows))


def putmask(x: DNDarray, mask: object, values: object) -> None:
    """Write ``values.flat[k % values.size]`` to the k-th element of `x` in C order wherever a mask is true.

    *Distribution*: no message where the mask and the values are replicated or lie as `x` does; otherwise one
    redistribution of each, or a constant number of words per element for split values of another shape.

    Parameters
    ----------
    x : DNDarray
        Changed in place.
    mask : array_like
        Of the shape of `x`; nonzero means true.
    values : array_like

    Raises
    ------
    LayoutError, TypeError
        If shapes or kinds do not fit.

    Examples
    --------
    >>> x = ht.arange(6, split=0)
    >>> ht.putmask(x, x > 2, [-1, -2])
    >>> x.numpy().tolist()
    [0, 1, 2, -2, -1, -2]
    """
    _target(x, "putmask")
    mask = _mask_of(x, mask, "putmask")
    value = as_value(values, x)
    if not isinstance(value, DNDarray) or value.size == 1:
        setitem(x, mask, value)
        return
    if not value.size:
        return
    if value.shape != x.shape:
        value = _cyclic(value, _numbers(x.layout, x.comm.rank, x.larray.device), x.layout)
    here = redistribute(mask.larray, mask.layout, x.layout, x.comm)
    part = redistribute(value.larray, value.layout, x.layout, x.comm).to(x.larray.dtype)
    bits(x.larray).copy_(torch.where(here, bits(part), bits(x.larray)))


for _function in (put, put_along_axis, place, putmask):
    register(
        _function,
        kind="assignment",
        numpy=_function.__name__,
        arity=3,
        method=_function is put,
        cost="As x[key] = values.",
    )
