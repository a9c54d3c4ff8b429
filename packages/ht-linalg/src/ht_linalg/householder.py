"""Block Householder QR of a matrix whose columns are spread over the ranks.

One panel per rank: its owner factors it, broadcasts the reflectors, and the ranks to its right apply them to
their columns. Q is formed by the same reflectors in reverse order.

References
----------
C. Bischof, C. Van Loan, The WY representation for products of Householder matrices, 1987,
doi:10.1137/0908009.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from ht_core.layout import Layout

from .tsqr import phases

if TYPE_CHECKING:
    from ht_comm import Communicator


def plan_reflectors(layout: Layout, columns: int) -> tuple[tuple[int, ...], Layout]:
    """Return where each rank's panel starts (row), and the layout of Q. Pure.

    Parameters
    ----------
    layout : Layout
        Layout of A, shape (m, n), split 1.
    columns : int
        Columns of Q wanted: min(m, n) or m.

    Returns
    -------
    offsets : tuple of int
        Row at which rank j's reflectors begin, min(m, columns to the left of it).
    q : Layout
        Shape (m, columns), split 1; rank j holds the columns of its reflectors, the last rank also any beyond
        min(m, n).
    """
    m = layout.shape[0]
    offsets = tuple(min(m, start) for start in layout.displs)
    ends = (*offsets[1:], columns)
    return offsets, Layout((m, columns), 1, tuple(end - start for start, end in zip(offsets, ends)))


def block_householder(
    a: torch.Tensor, layout: Layout, comm: Communicator, columns: int, want_q: bool
) -> tuple[torch.Tensor | None, torch.Tensor, Layout]:
    """Return Q and R of a column-split matrix.

    Parameters
    ----------
    a : torch.Tensor, shape (m, n_i)
        This rank's columns. Not changed.
    layout : Layout
        Shape (m, n), split 1.
    columns : int
        Columns of Q and rows of R: min(m, n), or m for the complete decomposition.
    want_q : bool

    Returns
    -------
    q : torch.Tensor, shape (m, q_i), or None
        This rank's columns of Q.
    r : torch.Tensor, shape (columns, n_i)
        This rank's columns of R, whose diagonal is real and not negative.
    layout_q : Layout

    *Distribution*: collective. p broadcasts of a panel of m x n/p words and its n/p factors, and p more for
    Q.
    """
    rank, m = comm.rank, layout.shape[0]
    offsets, layout_q = plan_reflectors(layout, columns)
    work, mine = a.clone(memory_format=torch.contiguous_format), None
    signs = a.new_ones(columns)
    for j, start in enumerate(offsets):
        size = min(m - start, layout.counts[j])
        if size == 0:
            continue
        panel = a.new_empty((m - start + 2, size))
        if rank == j:
            reflectors, tau = torch.geqrf(work[start:])
            work[start:] = reflectors.triu()
            reflectors = reflectors[:, :size]
            panel[:-2], panel[-2], panel[-1] = reflectors, tau, phases(reflectors.diagonal())
            mine = panel
        comm.bcast(panel, root=j)
        signs[start : start + size] = panel[-1]
        if rank > j and work.shape[1]:
            work[start:] = torch.ormqr(panel[:-2], panel[-2].contiguous(), work[start:], transpose=True)
    r = work[:columns] * signs.conj()[:, None]
    q = _form_q(mine, layout, offsets, layout_q, signs, comm) if want_q else None
    return q, r, layout_q


def _form_q(
    mine: torch.Tensor | None,
    layout: Layout,
    offsets: tuple[int, ...],
    layout_q: Layout,
    signs: torch.Tensor,
    comm: Communicator,
) -> torch.Tensor:
    """Apply the reflectors, last panel first, to this rank's columns of the identity.

    The columns of rank i are zero below its own panel's rows until its own reflectors come, so that later
    panels have no effect on them; the last rank's columns may reach further and see all panels.
    """
    rank, m = comm.rank, layout.shape[0]
    q = signs.new_zeros(layout_q.lshape(rank))
    start = layout_q.displs[rank]
    own = torch.arange(q.shape[1], device=q.device)
    q[start + own, own] = signs[start : start + q.shape[1]]
    for j in reversed(range(comm.size)):
        size = min(m - offsets[j], layout.counts[j])
        if size == 0:
            continue
        panel = mine if rank == j else signs.new_empty((m - offsets[j] + 2, size))
        comm.bcast(panel, root=j)
        if rank >= j and q.shape[1]:
            q[offsets[j] :] = torch.ormqr(panel[:-2], panel[-2].contiguous(), q[offsets[j] :])
    return q
