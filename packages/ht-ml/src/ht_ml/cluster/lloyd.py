"""Alternation of assignment and centres, and Lloyd's algorithm: one allreduce of k (d + 1) + 1 numbers per iteration.

Labels come from `assignment` (independent of tile shapes), sums from `exact_sums` (independent of the
order of addition): the centres, hence the labels, have the same bits for any number of ranks. S. P.
Lloyd, "Least squares quantization in PCM", IEEE Transactions on Information Theory 28 (1982),
doi:10.1109/TIT.1982.1056489.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ..exact_sums import RowSums, unpack
from ..moments import Survey, squared_distances
from ..rows import Rows
from .bounds import BoundedAssigner

_DIRECT_BELOW = 1e-6


@dataclass(slots=True)
class Result:
    """Outcome of one run: centres (k, d) in float64 holding values of the data's dtype; labels, until the next
    run; inertia as a float."""

    centres: torch.Tensor
    labels: torch.Tensor
    inertia: float
    n_iter: int


class Alternation(ABC):
    """Assign rows to centres and move the centres, in turn.

    Parameters
    ----------
    rows : Rows
    k : int

    Attributes
    ----------
    labels : torch.Tensor, shape (local rows,), int64
        Of the last assignment.
    """

    labels: torch.Tensor

    def __init__(self, rows: Rows, k: int) -> None:
        self.rows, self.k = rows, k

    def run(
        self, centres: torch.Tensor, max_iter: int, tol: float, report: Callable[[int], None] | None = None
    ) -> Result:
        """Iterate until no label changes, the centres move by less than `tol`, or `max_iter` is reached.

        Parameters
        ----------
        centres : torch.Tensor, shape (k, d), float64
            The start, the same on every rank.
        max_iter : int
        tol : float
            Bound on the sum of squared movements of the centres.
        report : callable, optional
            Called with the number of finished iterations.

        *Distribution*: what assignment and movement cost per iteration; one assignment more at the end unless the
        labels have settled; one allgather more per iteration that leaves a cluster empty.
        """
        self._restart()
        centres = self._first(centres)
        n_iter, settled = 0, False
        for n_iter in range(1, max_iter + 1):
            changed = self._step(centres)
            settled = changed == 0
            if report is not None:
                report(n_iter)
            if settled:
                break
            moved = self._moved(centres)
            shift = float((moved - centres).square().sum())
            centres = moved
            if shift <= tol:
                break
        if not settled:
            self._step(centres)
        return Result(centres, self.labels, self._value(centres, self.labels), n_iter)

    def _first(self, centres: torch.Tensor) -> torch.Tensor:
        return self._rounded(centres)

    @abstractmethod
    def _restart(self) -> None:
        """Forget centres and labels."""

    @abstractmethod
    def _step(self, centres: torch.Tensor) -> int:
        """Assign all rows and return how many labels changed on all ranks."""

    @abstractmethod
    def _moved(self, centres: torch.Tensor) -> torch.Tensor:
        """Return the centres of the labels, float64, holding values of the data's dtype."""

    @abstractmethod
    def _value(self, centres: torch.Tensor, labels: torch.Tensor) -> float:
        """Return the sum over all rows that the iteration makes small."""

    def _rounded(self, centres: torch.Tensor) -> torch.Tensor:
        """Round to the data's dtype: the centres that are reported are the ones the labels belong to."""
        return centres.to(self.rows.local.dtype).to(torch.float64)

    def _farthest(self, distances: torch.Tensor, weights: torch.Tensor | None, m: int) -> np.ndarray:
        """Return the `m` rows of all ranks that are farthest from their centres, as records; one allgather.

        Equal distances are ordered by the global row index, so that the choice is the same for any number of ranks.
        """
        found = farthest(self.rows, distances, self.labels, weights, m)
        found = self.rows.comm.allgather(found).cpu().numpy()
        return found[np.lexsort((found[:, 1], -found[:, 0]))[:m]]


class Lloyd(Alternation):
    """Run Lloyd iterations on the same rows from several starts, re-using all scratch.

    Parameters
    ----------
    rows : Rows
    weights : torch.Tensor, shape (local rows,), float64, or None
    survey : Survey
        Of the local rows.
    moments : torch.Tensor, shape (2 d + 1,), float64
        Merged (weighted) moments of all rows.
    k : int

    *Distribution*: one allreduce of k (d + 1) + 1 numbers per iteration.
    """

    def __init__(
        self, rows: Rows, weights: torch.Tensor | None, survey: Survey, moments: torch.Tensor, k: int
    ) -> None:
        super().__init__(rows, k)
        self.weights, self.moments = weights, moments
        self._assigner = BoundedAssigner(rows.local, k, survey)
        self._sums = RowSums(rows.local, weights, moments, k)
        self._merged = torch.empty_like(self._sums.packed)
        self._global_sums, self._totals, self._changed = unpack(self._merged, k, rows.d)
        self.labels = self._sums.labels

    def _restart(self) -> None:
        self._assigner.restart()
        self._sums.labels.fill_(-1)

    def _step(self, centres: torch.Tensor) -> int:
        """Assign all rows, merge the sums of all ranks and return how many labels changed."""
        moved = self._sums.update(self._assigner.assign(centres))
        self._assigner.settle(moved / max(1, self.rows.local.shape[0]))
        self.rows.comm.allreduce(self._sums.packed, out=self._merged)
        return int(self._changed)

    def _moved(self, centres: torch.Tensor) -> torch.Tensor:
        sums, totals = self._global_sums.clone(), self._totals.clone()
        empty = (totals <= 0).nonzero().squeeze(1)
        if empty.numel():
            self._reseed(centres, empty, sums, totals)
        filled = (totals > 0).unsqueeze(1)
        means = sums / torch.where(filled, totals.unsqueeze(1), 1.0)
        return self._rounded(torch.where(filled, means, centres))

    def _reseed(self, centres, empty, sums, totals) -> None:
        """Move the rows farthest from their centres into the empty clusters (as scikit-learn does)."""
        parts = [part for _, part in squared_distances(self.rows.local, self.labels, centres)]
        distances = torch.cat(parts) if parts else torch.zeros(0, dtype=torch.float64, device=sums.device)
        for target, record in zip(empty.tolist(), self._farthest(distances, self.weights, empty.numel())):
            distance, _, label, weight = record[:4]
            if distance <= 0.0:  # fewer distinct rows than clusters: the rest keep their centres
                return
            row = torch.as_tensor(record[4:], dtype=torch.float64, device=sums.device)
            sums[int(label)] -= weight * row
            totals[int(label)] -= weight
            sums[target], totals[target] = weight * row, weight

    def _value(self, centres: torch.Tensor, labels: torch.Tensor) -> float:
        """Return the sum of squared distances from the merged sums: total minus between plus offset of
        the centres.

        With cluster means m_j and the mean m of all rows: sum |x - c|^2 = sum |x - m|^2 - sum n_j |m_j - m|^2
        + sum n_j |m_j - c_j|^2. No pass over the data and no message, unless so little is left that the
        difference has lost its digits; then it is summed row by row (one allreduce of one number).
        """
        d = self.rows.d
        mean, total = self.moments[1 : d + 1], float(self.moments[d + 1 :].sum())
        filled = self._totals > 0
        n, sums, centres_filled = self._totals[filled], self._global_sums[filled], centres[filled]
        means = sums / n.unsqueeze(1)
        between = float((n * (means - mean).square().sum(1)).sum())
        offset = float((n * (means - centres_filled).square().sum(1)).sum())
        inertia = total - between + offset
        if inertia > _DIRECT_BELOW * total:
            return inertia
        return total_inertia(self.rows, labels, centres, self.weights)


def total_inertia(
    rows: Rows, labels: torch.Tensor, centres: torch.Tensor, weights: torch.Tensor | None
) -> float:
    """Return the (weighted) sum of squared distances of all rows to their centres; one allreduce of one
    number."""
    total = torch.zeros(1, dtype=torch.float64, device=rows.local.device)
    for span, distances in squared_distances(rows.local, labels, centres):
        total += distances.sum() if weights is None else distances @ weights[span]
    return float(rows.comm.allreduce(total, out=total))


def farthest(rows: Rows, distances: torch.Tensor, labels, weights, m: int) -> torch.Tensor:
    """Return this rank's `m` rows farthest from their centres, shape (m, 4 + d), float64.

    Each record holds the distance, the global index, the label, the weight and the row; records that are missing,
    because the rank has fewer rows, have distance -1.
    """
    local = rows.local
    records = torch.zeros((m, 4 + rows.d), dtype=torch.float64, device=local.device)
    records[:, 0] = -1.0
    if weights is not None:
        distances = torch.where(weights <= 0, -1.0, distances)
    # A stable sort keeps the lowest index first among equals.
    order = torch.sort(distances, descending=True, stable=True).indices[:m]
    count = order.numel()
    records[:count, 0] = distances[order].to(torch.float64)
    records[:count, 1] = (order + rows.start).to(torch.float64)
    records[:count, 2] = labels[order].to(torch.float64)
    records[:count, 3] = 1.0 if weights is None else weights[order]
    records[:count, 4:] = local[order].to(torch.float64)
    return records
