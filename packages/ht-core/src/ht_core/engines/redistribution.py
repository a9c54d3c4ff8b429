"""Engine of redistribution: from any layout to any other of the same shape.

The plan is ht-comm's (boxes in, pairwise messages out); this file turns layouts into boxes and knows the cases that
need no message.

Gradients: a move is undone by the move back, a cut of a replicated array (``cut``) by an allgather.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import ht_comm
import torch
from ht_comm import config

from ..budget import check, switch
from ..layout import Layout
from .taped import cut

if TYPE_CHECKING:
    from ht_comm import Communicator


@lru_cache(maxsize=1024)
def plan(source: Layout, target: Layout, p: int):
    """Return the plan of messages that turns `source` into `target` on `p` ranks. Pure."""
    return ht_comm.plan_redistribution(source.boxes(p), target.boxes(p))


def redistribute(
    local: torch.Tensor,
    source: Layout,
    target: Layout,
    comm: Communicator,
    out: torch.Tensor | None = None,
    copy: bool = False,
) -> torch.Tensor:
    """Return this rank's part under `target` of an array whose part under `source` is `local`.

    Parameters
    ----------
    local : torch.Tensor
        This rank's part, of shape ``source.lshape(rank)``. Not changed.
    source, target : Layout
        Layouts of the same global shape.
    out : torch.Tensor, optional
        Where the result is written, of shape ``target.lshape(rank)`` and the same dtype.
    copy : bool
        Return memory of its own even where no data moves; otherwise the result may be a view of `local`.

    Raises
    ------
    MemoryBudgetError
        If the result does not fit the budget, before anything is sent.

    *Distribution*: no message where the layouts are equal, the source is replicated or there is one rank; otherwise
    each rank sends every element at most once to each rank that needs it.
    """
    if source is target or comm.size == 1:
        here = local
    elif source.split is None:
        here = cut(local, target.counts, target.split, comm)
    else:
        if switch.is_on:
            check("redistribute", target, local.element_size(), 2 * config.chunk_bytes)
        return comm.redistribute(local, plan(source, target, comm.size), out=out)
    if out is not None:
        return out.copy_(here)
    return here.clone(memory_format=torch.contiguous_format) if copy else here


def move_boxes(
    local: torch.Tensor,
    source: Layout,
    ranges: list[tuple[int, int]],
    axis: int,
    comm: Communicator,
    out: torch.Tensor,
) -> None:
    """Write to `out` the rows ``ranges[rank]`` along `axis` of an array whose part under `source` is `local`.

    The ranges need not cover the array nor be disjoint. One redistribution; none from a replicated source.
    """
    start, stop = ranges[comm.rank]
    if comm.size == 1 or source.split is None:
        out.copy_(local.narrow(axis, start, stop - start))
        return
    whole = [(0, n) for n in source.shape]
    target = tuple((*whole[:axis], tuple(r), *whole[axis + 1 :]) for r in ranges)
    comm.redistribute(local, ht_comm.plan_redistribution(source.boxes(comm.size), target), out=out)
