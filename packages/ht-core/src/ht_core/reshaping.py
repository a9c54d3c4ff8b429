"""Other shapes for the same elements: reshape, ravel, flatten. Nothing is sent where the split axis is untouched."""

from __future__ import annotations

import math
from functools import lru_cache

import torch

from .dndarray import DNDarray
from .engines.creation import normalize_shape, normalize_split
from .engines.redistribution import redistribute
from .engines.runs import Runs, from_runs, to_runs
from .errors import LayoutError
from .layout import Layout, even_counts
from .registry import register

ROUND_BYTES = 2**24  # per rank: what travels at a time where neither layout consists of runs


@lru_cache(maxsize=4096)
def plan_reshape(layout: Layout, shape: tuple[int, ...]) -> Layout | None:
    """Return the layout of `shape` under which no element changes its rank, or None if there is none. Pure."""
    if layout.split is None:
        return Layout(shape, None)
    before = math.prod(layout.shape[: layout.split])
    for axis, extent in enumerate(shape):
        if math.prod(shape[:axis]) == before and extent == layout.shape[layout.split]:
            return Layout(shape, axis, layout.counts)
    if before == 1 and shape:
        # Parts are runs of the flattened array; they may be cut at other rows if these start where the runs do.
        row, inner = math.prod(layout.shape[layout.split + 1 :]), math.prod(shape[1:])
        if inner and all(count * row % inner == 0 for count in layout.counts):
            return Layout(shape, 0, [count * row // inner for count in layout.counts])
    return None


def reshape(
    x: DNDarray,
    /,
    shape: object = None,
    *more: int,
    order: str = "C",
    copy: bool | None = None,
    new_split: int | None = None,
) -> DNDarray:
    """Return the array with another shape and the same elements in C order.

    *Distribution*: no message where the split axis keeps its extent and what is in front of it, or parts end at
    rows of the new shape; the split follows. Otherwise the result is split along axis 0, evenly, and made by one
    exchange in which each element is sent at most once. With `new_split` it is cut there, by one exchange as well;
    by two, in rounds of 16 MiB per rank, where both split axes stand behind others and all extents around them
    change.

    Parameters
    ----------
    shape, *more : int or tuple of int
        The new shape, as one tuple or as several integers; one extent may be -1.
    order : {"C", "F", "A"}
        "F": the first index changes fastest in both shapes; "A" is "C".
    copy : bool, optional
        True copies always; False refuses where data has to be copied. By default the result shares memory with the
        array where nothing has to move.
    new_split : int, optional
        The axis along which the result is cut, evenly.

    Raises
    ------
    LayoutError
        If the sizes differ, `new_split` is out of range, `order` is unknown, or `copy` is False and data has to move.

    Examples
    --------
    >>> ht.arange(6, split=0).reshape(2, 3).numpy().tolist()
    [[0, 1, 2], [3, 4, 5]]
    """
    if shape is None:
        raise LayoutError("reshape: shape must be given, got None")
    shape = _infer((shape, *more) if more else shape, x.size)
    wanted = normalize_split(new_split, len(shape), "reshape")
    if order == "F":
        turned = reshape(
            x.T, shape[::-1], copy=copy, new_split=None if wanted is None else len(shape) - 1 - wanted
        )
        return turned.T
    if order not in ("C", "A"):
        raise LayoutError(f"reshape: order must be C, F or A, got {order!r}")
    comm, stay = x.comm, plan_reshape(x.layout, shape)
    if wanted is None:
        target = stay or Layout.even(shape, 0 if shape else None, comm.size)
    else:
        target = Layout.even(shape, wanted, comm.size)
    if copy is False:
        _refuse_copy(x, shape if stay is None else stay.lshape(comm.rank), target is not stay)
    if stay is None and comm.size > 1 and shape:
        return DNDarray(_move(x, target), target, comm)
    if stay is None:  # one rank, or one element
        whole = Layout.replicated(x.shape)
        local, stay = redistribute(x.larray, x.layout, whole, comm).reshape(shape), target
    else:
        local = x.larray.reshape(stay.lshape(comm.rank))
    local = redistribute(local, stay, target, comm)
    if copy and local.untyped_storage().data_ptr() == x.larray.untyped_storage().data_ptr():
        local = local.clone(memory_format=torch.contiguous_format)
    return DNDarray(local, target, comm)


def _refuse_copy(x: DNDarray, lshape: tuple[int, ...], moves: bool) -> None:
    error = None
    if moves and x.is_distributed():
        raise LayoutError("reshape: copy must not be False where elements change their rank; leave it out")
    try:
        x.larray.view(lshape)
    except RuntimeError:
        error = LayoutError("reshape: copy must not be False for these strides; leave it out")
    if x.is_distributed():
        x.comm.agree(error)  # strides are a rank's own affair
    elif error is not None:
        raise error


def _move(x: DNDarray, target: Layout) -> torch.Tensor:
    """Return this rank's part of a reshaped array whose elements change their ranks."""
    comm, local = x.comm, x.larray
    out = torch.empty(target.lshape(comm.rank), dtype=local.dtype, device=local.device)
    source_runs, target_runs = _runs(x.layout), _runs(target)
    if target_runs is not None:
        to_runs(local, x.layout, target_runs, out.view(-1), comm)
    elif source_runs is not None:
        from_runs(local.reshape(-1), source_runs, target, out, comm)
    else:
        step = max(ROUND_BYTES // local.element_size(), 1) * comm.size
        flat = local.new_empty(min(-(-x.size // comm.size), step // comm.size))
        for start in range(0, x.size, step):
            runs = _even_runs(start, min(start + step, x.size), comm.size)
            first, stop = runs[comm.rank]
            to_runs(local, x.layout, runs, flat[: stop - first], comm)
            from_runs(flat[: stop - first], runs, target, out, comm)
    return out


def _runs(layout: Layout) -> Runs | None:
    """Return the run of elements each rank holds; None where a rank holds several."""
    if math.prod(layout.shape[: layout.split]) != 1:
        return None
    row = math.prod(layout.shape[layout.split + 1 :])
    return tuple((start * row, (start + count) * row) for start, count in zip(layout.displs, layout.counts))


def _even_runs(start: int, stop: int, p: int) -> Runs:
    layout = Layout((stop - start,), 0, even_counts(stop - start, p))
    return tuple((start + a, start + a + n) for a, n in zip(layout.displs, layout.counts))


def _infer(shape: object, size: int) -> tuple[int, ...]:
    items = [n.__index__() for n in ((shape,) if hasattr(shape, "__index__") else shape)]
    if items.count(-1) == 1:
        rest = math.prod(n for n in items if n != -1)
        if not rest:
            raise LayoutError(f"reshape: shape must have {size} elements and say all extents, got {shape}")
        items[items.index(-1)] = size // rest
    result = normalize_shape(items, "reshape")
    if math.prod(result) != size:
        raise LayoutError(f"reshape: shape must have {size} elements, got {shape}")
    return result


def flatten(x: DNDarray, order: str = "C") -> DNDarray:
    """Return a 1-D copy in C order. No message where the array is split along axis 0 or replicated.

    *Distribution*: as :func:`reshape`; the result is split along its axis.
    """
    return reshape(x, -1 if x.size else 0, order=order, copy=True)


def ravel(x: DNDarray, order: str = "C") -> DNDarray:
    """Return a 1-D array in C order, a view where nothing has to move.

    *Distribution*: as :func:`reshape`: no message where the array is split along axis 0 or replicated.
    """
    return reshape(x, -1 if x.size else 0, order=order)


register(
    reshape,
    kind="manipulation",
    numpy="reshape",
    cost="None where the split axis is untouched; else one exchange.",
)
for _function in (flatten, ravel):
    register(_function, kind="manipulation", numpy=_function.__name__, cost="As reshape.")
