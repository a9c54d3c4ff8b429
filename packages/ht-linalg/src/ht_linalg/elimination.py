"""Elimination on a matrix cut by columns: panels, pivots, updates, substitution. Local tensors and messages only.

Every rank holds whole columns, so the pivot search of a panel is local to its owner. A panel is factored by LAPACK
where it lies and broadcast once; all ranks swap rows and update their own columns. What the functions here share is
the list of panels; they know nothing of DNDarray.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from ht_comm import Communicator

#: Columns of a panel: wide enough for matrix products to run at speed, narrow against the columns of a rank.
PANEL = 64


@dataclass(frozen=True, slots=True)
class Panel:
    """Columns [start, stop) of the matrix, which rank `owner` holds from its column `local` on."""

    owner: int
    start: int
    stop: int
    local: int


def panels(counts: tuple[int, ...], columns: int, width: int = PANEL) -> Iterator[Panel]:
    """Yield the panels that make up the first `columns` columns, left to right. Pure."""
    for owner, (displ, count) in enumerate(zip(accumulate(counts, initial=0), counts)):
        for start in range(displ, min(displ + count, columns), width):
            yield Panel(owner, start, min(start + width, displ + count, columns), start - displ)


@dataclass(frozen=True, slots=True)
class Factors:
    """What :func:`factor` leaves besides the factors in the matrix itself."""

    order: torch.Tensor  # int64: row i of L U is row order[i] of the matrix
    odd: bool  # the permutation is odd
    singular: bool  # a pivot is exactly zero


def factor(
    a: torch.Tensor, counts: tuple[int, ...], comm: Communicator, rhs: torch.Tensor | None = None
) -> Factors:
    """Factor P A = L U with partial pivoting, in place; apply the same steps to `rhs`.

    Parameters
    ----------
    a : torch.Tensor, shape (m, counts[rank])
        This rank's columns; overwritten by those of U on and above the diagonal and of L below it.
    counts : tuple of int
        Columns of each rank.
    rhs : torch.Tensor, shape (m, k), optional
        Any number of further columns, the rank's own or the same on all; overwritten by L^-1 P rhs.

    *Distribution*: collective. One broadcast per panel; each rank receives L once: m n - n^2 / 2 words for m >= n.

    References
    ----------
    J. J. Dongarra, L. S. Duff, D. C. Sorensen, H. A. van der Vorst, Numerical Linear Algebra for High-Performance
    Computers, 1998, doi:10.1137/1.9780898719611 (right-looking blocked elimination).
    """
    m, displ = a.shape[0], sum(counts[: comm.rank])
    order, odd, singular = list(range(m)), False, False
    for panel in panels(counts, min(m, sum(counts))):
        start, width = panel.start, panel.stop - panel.start
        # The pivots travel as one more column: exact below 2^24 rows even in single precision.
        packed = a.new_empty(m - start, width + 1)
        if comm.rank == panel.owner:
            mine = a[start:, panel.local : panel.local + width]
            lu, pivots, _ = torch.linalg.lu_factor_ex(mine)
            packed[:, :width] = lu
            packed[:width, width] = pivots
        comm.bcast(packed, root=panel.owner)
        block = packed[:, :width]
        places, sources, swaps = _swaps([int(x) - 1 for x in packed[:width, width].real.tolist()])
        odd ^= swaps % 2 == 1
        singular |= bool((block.diagonal() == 0).any())
        for x in (a, rhs):
            if x is not None and places:
                x[[start + i for i in places]] = x[[start + i for i in sources]]
        kept = {i: order[start + j] for i, j in zip(places, sources)}
        for i, row in kept.items():
            order[start + i] = row
        if comm.rank == panel.owner:
            a[start:, panel.local : panel.local + width] = block
        first = min(max(panel.stop - displ, 0), a.shape[1])
        for x in (a[start:, first:], None if rhs is None else rhs[start:]):
            if x is not None and x.shape[1]:
                x[:width] = torch.linalg.solve_triangular(
                    block[:width], x[:width], upper=False, unitriangular=True
                )
                x[width:].addmm_(block[width:], x[:width], alpha=-1)
    return Factors(torch.tensor(order, dtype=torch.int64, device=a.device), odd, singular)


def _swaps(pivots: list[int]) -> tuple[list[int], list[int], int]:
    """Return which rows end up where after the row swaps (i, pivots[i]), and how many swaps are real."""
    moved: dict[int, int] = {}
    for i, pivot in enumerate(pivots):
        moved[i], moved[pivot] = moved.get(pivot, pivot), moved.get(i, i)
    changed = {i: j for i, j in moved.items() if i != j}
    return list(changed), list(changed.values()), sum(i != pivot for i, pivot in enumerate(pivots))


def factor_positive(a: torch.Tensor, counts: tuple[int, ...], comm: Communicator) -> bool:
    """Factor A = L L^H in place, from the lower triangle of the columns of each rank; zero the rest.

    Returns
    -------
    bool
        Whether the matrix is positive definite; the same on all ranks.

    *Distribution*: collective. One broadcast per panel, n^2 / 2 words received by each rank.

    References
    ----------
    G. H. Golub, C. F. Van Loan, Matrix Computations, 2013, section 4.2.
    """
    displ, n = sum(counts[: comm.rank]), a.shape[0]
    for panel in panels(counts, n):
        start, width = panel.start, panel.stop - panel.start
        block = a.new_empty(n - start, width)
        if comm.rank == panel.owner:
            mine = a[start:, panel.local : panel.local + width]
            corner, info = torch.linalg.cholesky_ex(mine[:width])
            block[:width] = corner
            block[width:] = torch.linalg.solve_triangular(corner.mH, mine[width:], upper=True, left=False)
            if int(info) or not bool(torch.isfinite(corner.diagonal()).all()):
                block.fill_(float("nan"))
            mine.copy_(block)
            a[:start, panel.local : panel.local + width] = 0
        comm.bcast(block, root=panel.owner)
        if bool(torch.isnan(block[0, 0])):
            return False
        first = min(max(panel.stop - displ, 0), a.shape[1])
        if first < a.shape[1]:
            own = (
                displ + first - panel.stop
            )  # the first of this rank's later columns, counted below the block
            below = block[width:]
            rows = below[own : own + a.shape[1] - first]
            a[panel.stop :, first:].addmm_(below, rows.mH, alpha=-1)
    return True


def substitute(
    a: torch.Tensor,
    counts: tuple[int, ...],
    comm: Communicator,
    rhs: torch.Tensor,
    *,
    upper: bool,
    unit: bool = False,
) -> None:
    """Solve A X = rhs in place for triangular A, cut by columns; the other triangle of `a` is not read.

    `rhs` are the rank's own columns, or the same on all ranks.

    *Distribution*: collective. One broadcast per panel, n^2 / 2 words received by each rank.
    """
    n = a.shape[0]
    blocks = list(panels(counts, n))
    for panel in reversed(blocks) if upper else blocks:
        width = panel.stop - panel.start
        rows = slice(0, panel.stop) if upper else slice(panel.start, n)
        block = a.new_empty(rows.stop - rows.start, width)
        if comm.rank == panel.owner:
            block.copy_(a[rows, panel.local : panel.local + width])
        comm.bcast(block, root=panel.owner)
        if not rhs.shape[1]:
            continue
        corner = block[-width:] if upper else block[:width]
        here = rhs[panel.start : panel.stop]
        here.copy_(torch.linalg.solve_triangular(corner, here, upper=upper, unitriangular=unit))
        if upper:
            rhs[: panel.start].addmm_(block[:-width], here, alpha=-1)
        else:
            rhs[panel.stop :].addmm_(block[width:], here, alpha=-1)


def substitute_along(
    a: torch.Tensor,
    counts: tuple[int, ...],
    comm: Communicator,
    rhs: torch.Tensor,
    *,
    upper: bool,
    unit: bool = False,
) -> torch.Tensor:
    """Return this rank's rows of the solution of A X = rhs for few right-hand sides, which pass from rank to rank.

    Rows are cut as the columns of A are. `rhs` is the same on all ranks and is overwritten.

    *Distribution*: collective. One message to the next rank, of the rows of `rhs` that are still to be solved: a chain
    of p steps, worth it where n k p words are fewer than the n^2 / 2 of :func:`substitute`.
    """
    displ, count = sum(counts[: comm.rank]), counts[comm.rank]
    busy = [rank for rank, n in enumerate(counts) if n]
    if not count:
        return rhs[:0]
    at = busy.index(comm.rank)
    before, after = (at + 1, at - 1) if upper else (at - 1, at + 1)
    own = slice(displ, displ + count)
    rest = slice(0, displ) if upper else slice(own.stop, rhs.shape[0])
    if 0 <= before < len(busy):
        waiting = slice(0, own.stop) if upper else slice(own.start, rhs.shape[0])
        incoming = rhs.new_empty(rhs[waiting].shape)
        comm.recv(incoming, busy[before])
        rhs[waiting] = incoming
    solution = torch.linalg.solve_triangular(a[own], rhs[own], upper=upper, unitriangular=unit)
    if 0 <= after < len(busy):
        rhs[rest].addmm_(a[rest], solution, alpha=-1)
        comm.send(rhs[rest].contiguous(), busy[after])
    return solution
