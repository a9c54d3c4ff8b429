"""Halos: rows of neighbouring ranks beside this rank's part, for stencils written on local tensors."""

from __future__ import annotations

from functools import lru_cache

import torch

from .dndarray import DNDarray
from .engines.pieces import Plan, along, assemble, plan_pieces
from .errors import LayoutError
from .layout import Layout
from .registry import register


@lru_cache(maxsize=512)
def plan_halos(layout: Layout, before: int, after: int) -> tuple[Plan, tuple[tuple[int, int], ...]]:
    """Plan an array that consists of the halos of all ranks, in their order; return it with their extents. Pure."""
    axis, n = layout.split, layout.shape[layout.split]
    spans, extents, place = [], [], 0
    for displ, count in zip(layout.displs, layout.counts):
        rows = (max(displ - before, 0), displ), (displ + count, min(displ + count + after, n))
        for start, stop in rows:
            spans.append((0, (start, stop), (place, place + stop - start), False))
            place += stop - start
        extents.append(tuple(stop - start for start, stop in rows))
    shape = (*layout.shape[:axis], place, *layout.shape[axis + 1 :])
    result = Layout(shape, axis, [a + b for a, b in extents])
    return plan_pieces((layout,), result, along(axis, shape, spans), len(layout.counts)), tuple(extents)


def get_halo(x: DNDarray, halo_size: int, prev: bool = True, next: bool = True) -> None:
    """Fetch rows of other ranks that lie before and after this rank's part along the split axis.

    They become ``x.halo_prev``, ``x.halo_next`` and the ends of ``x.array_with_halos``, and hold good until the
    array is changed: they are copies, and are not brought up to date.

    *Distribution*: collective; one exchange of at most ``halo_size`` rows in each direction. No message for a
    replicated array, which has no halos.

    Parameters
    ----------
    halo_size : int
        Rows on each side, the same on all ranks. They may reach over several ranks, and end where the array ends.
        A rank without rows gets those around its place.
    prev, next : bool
        Which sides are wanted.

    Raises
    ------
    LayoutError
        If `halo_size` is negative or no integer.

    Examples
    --------
    >>> x = ht.arange(6, split=0)
    >>> x.get_halo(1)
    >>> bool((x.array_with_halos.diff() == 1).all())
    True
    """
    if not hasattr(halo_size, "__index__") or halo_size < 0:
        raise LayoutError(f"get_halo: halo_size must be an integer of at least 0, got {halo_size!r}")
    if x.split is None:
        x._halos = None
        return
    plan, extents = plan_halos(x.layout, halo_size if prev else 0, halo_size if next else 0)
    rank, local = x.comm.rank, x.larray
    out = torch.empty(plan.result.lshape(rank), dtype=local.dtype, device=local.device)
    assemble([local], plan, out, x.comm)
    before, after = out.split(extents[rank], dim=x.split)
    x._halos = (x.layout, before if extents[rank][0] else None, after if extents[rank][1] else None)


def _halo(x: DNDarray, side: int) -> torch.Tensor | None:
    kept = getattr(x, "_halos", None)
    return None if kept is None or kept[0] is not x.layout else kept[side]


def _array_with_halos(x: DNDarray) -> torch.Tensor:
    parts = [part for part in (_halo(x, 1), x.larray, _halo(x, 2)) if part is not None]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=x.split)


register(get_halo, kind="stencil", cost="One exchange of halo_size rows in each direction.")
DNDarray.halo_prev = property(
    lambda x: _halo(x, 1),
    doc="The rows before this rank's part that `get_halo` fetched; None where there are none.",
)
DNDarray.halo_next = property(
    lambda x: _halo(x, 2),
    doc="The rows after this rank's part that `get_halo` fetched; None where there are none.",
)
DNDarray.array_with_halos = property(
    _array_with_halos, doc="This rank's part between its halos, as a local tensor. No message."
)
