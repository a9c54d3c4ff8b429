"""Assignment of the same rows to centres that move, visiting only rows whose label may change; sends nothing.

Each row keeps an upper bound u of the distance to its centre and a lower bound l of the distance to any
other. When the centres move by delta_j, u grows by the own centre's movement and l shrinks by the largest
of the others'; while u < l the label stands, and the row need not be looked at. Bounds are rounded
outwards, so that labels are exactly those of a full assignment. G. Hamerly, "Making k-means even faster",
SIAM International Conference on Data Mining 2010, doi:10.1137/1.9781611972801.12.
"""

from __future__ import annotations

import math

import torch

from ..moments import Survey
from ..tiles import spans
from .assignment import Assigner, Factors

_WORTH_BOUNDS = 0.25
_WORTH_GATHER = 0.75


class BoundedAssigner(Assigner):
    """An `Assigner` that remembers.

    Parameters
    ----------
    local : torch.Tensor, shape (n, d), float32 or float64
    k : int
    survey : Survey
        Of the same rows.

    Attributes
    ----------
    visited : int
        Rows that the last call looked at.
    """

    def __init__(self, local: torch.Tensor, k: int, survey: Survey) -> None:
        super().__init__(local, k)
        self._shift, self._squares = survey.reference, survey.squares
        self._origin = float(torch.linalg.vector_norm(survey.reference))
        self._marks = torch.empty_like(self._scores)
        self._second, self._found = torch.empty_like(self._minimum), torch.empty_like(self._minimum)
        self._part = torch.empty(self._minimum.shape, dtype=torch.int64, device=local.device)
        self._upper, self._lower = torch.empty_like(self._squares), torch.empty_like(self._squares)
        self._centres: torch.Tensor | None = None  # the centres that the bounds belong to
        self._moved = 1.0
        self.visited = 0

    def restart(self) -> None:
        """Forget the centres and the labels."""
        self._centres, self._moved = None, 1.0
        self.labels.fill_(-1)

    def settle(self, moved: float) -> None:
        """Learn which share of the rows changed their label: bounds are not worth their cost while many
        do."""
        self._moved = moved

    def assign(self, centres: torch.Tensor) -> torch.Tensor:
        """Return the index of the nearest centre of each row, ties to the lowest: `labels`."""
        n = self.local.shape[0]
        if self.k == 1 or n == 0:
            return self.labels.zero_()
        rows = self._to_visit(centres)
        bounded = rows is not None or self._moved < _WORTH_BOUNDS
        self.visited = n if rows is None else rows.numel()
        factors = Factors.of(centres, self._shift, self.local.dtype)
        for span in spans(self.visited, self.tile):
            self._visit(span if rows is None else rows[span], factors, centres, bounded)
        self._centres = centres if bounded else None
        return self.labels

    def _to_visit(self, centres: torch.Tensor) -> torch.Tensor | None:
        """Move the bounds with the centres and return the rows whose label may change; None for all."""
        if self._centres is None:
            return None
        step = torch.linalg.vector_norm(centres - self._centres, dim=1)
        largest, which = torch.topk(step, 2)
        others = torch.full_like(step, float(largest[0]))
        others[which[0]] = largest[1]
        eps = torch.finfo(self.local.dtype).eps
        step, others = ((part * (1.0 + 4.0 * eps)).to(self.local.dtype) for part in (step, others))
        self._upper.mul_(1.0 + 4.0 * eps).add_(step.index_select(0, self.labels))
        self._lower.mul_(1.0 - 4.0 * eps).sub_(others.index_select(0, self.labels))
        doubtful = self._upper >= self._lower
        if int(doubtful.count_nonzero()) > _WORTH_GATHER * self.labels.numel():
            return None
        return doubtful.nonzero().squeeze(1)

    def _visit(self, rows: slice | torch.Tensor, factors: Factors, centres, bounded: bool) -> None:
        """Assign some rows and renew their bounds."""
        whole = isinstance(rows, slice)
        block = self.local[rows] if whole else self.local.index_select(0, rows)
        squares = self._squares[rows] if whole else self._squares.index_select(0, rows)
        m = block.shape[0]
        found, minimum, second = self._found[:m], self._minimum[:m], self._second[:m]
        reach = float(squares.amax())
        tau = self._score(block, factors, math.sqrt(max(reach, 0.0)) * (1.0 + 1e-6) + self._origin)
        if tau is None:
            found.fill_(2 * self.k)
            minimum.fill_(torch.inf)
            second.zero_()
        else:
            self._mark(m, tau, squares, reach, factors, bounded)
        labels = self.labels[rows] if whole else self._part[:m]
        doubtful = self._settle(block, found, centres, factors.shift, labels)
        if not whole:
            self.labels.index_copy_(0, rows, labels)
        if bounded:
            if doubtful is not None:
                second[doubtful] = 0.0  # visited again next time
            for bound, values in ((self._upper, minimum), (self._lower, second)):
                if whole:
                    bound[rows] = values
                else:
                    bound.index_copy_(0, rows, values)

    def _mark(self, m: int, tau: float, squares: torch.Tensor, reach: float, factors, bounded: bool) -> None:
        """From scores and limits in scratch make codes and, where wanted, the two bounds (as distances)."""
        scores, minimum, second = self._scores[:, :m], self._minimum[:m], self._second[:m]
        if not bounded:
            torch.mv(scores.le_(minimum).T, self._codes, out=self._found[:m])
            return
        eps = torch.finfo(scores.dtype).eps
        marks = self._marks[:, :m].copy_(scores).le_(minimum)
        torch.mv(marks.T, self._codes, out=self._found[:m])
        largest = factors.largest_bias + (math.sqrt(reach) + self._origin) * factors.largest_offset
        torch.amin(
            scores.add_(marks, alpha=4.0 * largest), 0, out=second
        )  # the nearest centre put out of reach
        # What two scores, |x - m|^2 and the additions may be off by; tau is in the minimum already.
        pad = tau + 8.0 * eps * (largest + reach)
        minimum.add_(squares).add_(pad).clamp_(min=0.0).sqrt_().mul_(1.0 + 4.0 * eps)
        second.add_(squares).sub_(pad).clamp_(min=0.0).sqrt_().mul_(1.0 - 4.0 * eps)
