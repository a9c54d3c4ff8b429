"""Sliding windows along an axis, with the rows that reach over to the next ranks."""

from __future__ import annotations

from functools import lru_cache
from itertools import pairwise

from ht_comm import plan_redistribution

from .dndarray import DNDarray
from .errors import LayoutError
from .layout import Box, Layout, normalize_axis
from .registry import register


@lru_cache(maxsize=512)
def plan_unfold(layout: Layout, size: int, step: int) -> tuple[Layout, tuple[Box, ...], bool]:
    """Return where the windows along the split axis lie, the box of each rank that they cover, and whether rows move.

    A window is on the rank that holds its first row. Pure.
    """
    axis = layout.split
    n, p = layout.shape[axis], len(layout.counts)
    windows = (n - size) // step + 1
    starts = [*(min(-(-displ // step), windows) for displ in layout.displs), windows]
    boxes = []
    for rank in range(p):
        first, stop = starts[rank], starts[rank + 1]
        rows = (first * step, (stop - 1) * step + size) if first < stop else (0, 0)
        box = layout.box(rank)
        boxes.append((*box[:axis], rows, *box[axis + 1 :]))
    counts = [b - a for a, b in pairwise(starts)]
    shape = (*layout.shape[:axis], windows, *layout.shape[axis + 1 :], size)
    moves = any(
        box[axis][0] < box[axis][1] and box[axis][1] > layout.displs[rank] + layout.counts[rank]
        for rank, box in enumerate(boxes)
    )
    return Layout(shape, axis, counts), tuple(boxes), moves


def unfold(x: DNDarray, axis: int, size: int, step: int = 1) -> DNDarray:
    """Return all windows of `size` rows along an axis, every `step` rows, as `torch.Tensor.unfold` does.

    *Distribution*: the split stays; a window lies on the rank that holds its first row. No message along other
    axes than the split, and no memory: the result is a read-only view. Along the split axis one exchange brings
    each rank the rows of its windows that other ranks hold: at most ``size - 1`` rows. Where any rank needs some,
    the rows of every rank are copied once; windows that share rows share their memory.

    Parameters
    ----------
    axis : int
        The axis, of extent n.
    size : int
        Rows of a window, in [1, n] (0 for empty windows).
    step : int
        Distance of the first rows of neighbouring windows, at least 1.

    Returns
    -------
    DNDarray
        `axis` has extent ``(n - size) // step + 1``; a new last axis has extent `size`.

    Raises
    ------
    LayoutError
        If `size` or `step` is out of range.

    Examples
    --------
    >>> ht.unfold(ht.arange(5, split=0), 0, 3, 2).numpy().tolist()
    [[0, 1, 2], [2, 3, 4]]
    """
    axis = normalize_axis(axis, x.ndim, "unfold")
    n, comm = x.shape[axis], x.comm
    if not 0 <= size <= n:
        raise LayoutError(f"unfold: size must be in [0, {n}] for axis {axis}, got {size}")
    if step < 1:
        raise LayoutError(f"unfold: step must be at least 1, got {step}")
    if axis != x.split:
        local = x.larray.unfold(axis, size, step)
        return DNDarray(local, x.layout.with_axis(axis, local.shape[axis]).insert(x.ndim, size), comm)
    layout, boxes, moves = plan_unfold(x.layout, size, step)
    count = layout.counts[comm.rank]
    if moves:
        local = comm.redistribute(x.larray, plan_redistribution(x.layout.boxes(comm.size), boxes))
    else:
        start = boxes[comm.rank][axis][0] - x.layout.displs[comm.rank]
        rows = boxes[comm.rank][axis][1] - boxes[comm.rank][axis][0]
        local = x.larray.narrow(axis, start if count else 0, rows)
    if count:
        local = local.unfold(axis, size, step)
    else:
        local = local.new_empty(layout.lshape(comm.rank))
    return DNDarray(local, layout, comm)


register(
    unfold, kind="manipulation", cost="None off the split axis; else one exchange of at most size - 1 rows."
)
