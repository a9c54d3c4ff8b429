"""TSQR: the QR decomposition of a tall matrix by a tree of small Householder factorisations.

Unconditionally stable: it needs neither full rank nor a bound on the condition number.

References
----------
J. Demmel, L. Grigori, M. Hoemmen, J. Langou, Communication-optimal parallel and sequential QR and LU
factorizations, 2012, doi:10.1137/080731992.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from ht_comm import Communicator


@dataclass(slots=True)
class LocalTree:
    """QR of a block by tiles that stay in cache: the tiles' factors, and the tree over their triangles."""

    factors: list[torch.Tensor] = field(default_factory=list)
    upper: LocalTree | None = None

    @classmethod
    def factor(cls, x: torch.Tensor) -> tuple[LocalTree, torch.Tensor]:
        """Return the tree of `x`, shape (n, d), and R of shape (min(n, d), d)."""
        tree, rows = cls(), max(2048, 4 * x.shape[1])
        if x.shape[0] <= rows:
            q, r = torch.linalg.qr(x)
            tree.factors.append(q)
            return tree, r
        triangles = []
        for tile in x.split(rows):
            q, r = torch.linalg.qr(tile)
            tree.factors.append(q)
            triangles.append(r)
        tree.upper, r = cls.factor(torch.cat(triangles))
        return tree, r

    def apply(self, w: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return ``Q @ w`` for w of shape (min(n, d), r)."""
        rows = sum(q.shape[0] for q in self.factors)
        out = w.new_empty((rows, w.shape[1])) if out is None else out
        if self.upper is None:
            return torch.mm(self.factors[0], w, out=out)
        inner, start, stop = self.upper.apply(w), 0, 0
        for q in self.factors:
            torch.mm(q, inner[stop : stop + q.shape[1]], out=out[start : start + q.shape[0]])
            start, stop = start + q.shape[0], stop + q.shape[1]
        return out


@dataclass(slots=True)
class TSQR:
    """The factored form of a distributed matrix: R on rank 0, Q as a tree of factors left where they arose.

    Attributes
    ----------
    r : torch.Tensor or None
        Upper triangular (or trapezoidal) factor of shape (k, d), k = min(n, d), on rank 0; no signs fixed.
    k : int
    """

    comm: Communicator
    local: LocalTree
    merges: list[tuple[int, torch.Tensor, int]]
    parent: tuple[int, int] | None
    r: torch.Tensor | None
    k: int
    like: torch.Tensor

    def apply(self, w: torch.Tensor | None, columns: int) -> torch.Tensor:
        """Return this rank's rows of ``Q @ w``.

        Parameters
        ----------
        w : torch.Tensor, shape (k, columns)
            Read on rank 0 only.
        columns : int
            Known to all ranks.

        *Distribution*: collective; each rank receives one block of at most d x columns and passes on at most
        log2 p.
        """
        if self.parent is not None:
            rank, rows = self.parent
            w = self.comm.recv(self.like.new_empty((rows, columns)), rank)
        for rank, q, own in reversed(self.merges):
            w = torch.mm(q, w)
            self.comm.send(w[own:], rank)
            w = w[:own]
        return self.local.apply(w.contiguous())


def tsqr(x: torch.Tensor, counts: tuple[int, ...], comm: Communicator) -> TSQR:
    """Factor a matrix whose rows are spread over the ranks.

    Parameters
    ----------
    x : torch.Tensor, shape (n_i, d)
        This rank's rows.
    counts : tuple of int
        Rows of every rank.

    *Distribution*: collective. A binary tree: every rank but 0 sends one block of at most d^2 words, in log2
    p steps.
    """
    d, rank, p = x.shape[1], comm.rank, comm.size
    local, r = LocalTree.factor(x)
    merges, stride = [], 1
    while stride < p:
        if rank % (2 * stride):
            rows = r.shape[0]
            comm.send(r, rank - stride)
            return TSQR(comm, local, merges, (rank - stride, rows), None, min(sum(counts), d), x)
        partner = rank + stride
        if partner < p:
            rows = min(sum(counts[partner : partner + stride]), d)
            below = comm.recv(x.new_empty((rows, d)), partner)
            own = r.shape[0]
            q, r = torch.linalg.qr(torch.cat((r, below)))
            merges.append((partner, q, own))
        stride *= 2
    return TSQR(comm, local, merges, None, r, min(sum(counts), d), x)


def phases(diagonal: torch.Tensor) -> torch.Tensor:
    """Return unit numbers that turn `diagonal` non-negative when divided by (1 where it is 0 or NaN)."""
    size = diagonal.abs()
    return torch.where((size > 0) & size.isfinite(), diagonal / size, torch.ones_like(diagonal))
