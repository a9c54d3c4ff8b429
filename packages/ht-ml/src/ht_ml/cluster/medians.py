"""Alternation of assignment by Manhattan distance and component-wise medians, or rows near to these.

The medians of all features of all clusters are selected together, exactly, by the engine that ht-core's quantiles use:
nothing is sorted or moved.
"""

from __future__ import annotations

import torch
from ht_core.engines.selection import search
from ht_core.engines.selection_pass import Kept, Source

from ..rows import Rows
from ..tiles import spans, tile_rows
from .lloyd import Alternation


class Medians(Alternation):
    """Move each centre to the component-wise median of its rows.

    Parameters
    ----------
    rows : Rows
    k : int

    *Distribution*: an iteration costs one allreduce of k + 2 numbers and one selection of k d medians: two small
    messages for each of 2 to 4 rounds, and 2 or 3 at the end. An empty cluster costs one allgather more.
    """

    def __init__(self, rows: Rows, k: int) -> None:
        super().__init__(rows, k)
        n, options = rows.local.shape[0], {"device": rows.local.device}
        self.labels = torch.full((n,), -1, dtype=torch.int64, **options)
        self._distances = torch.zeros(n, dtype=rows.local.dtype, **options)
        self._told = torch.zeros(k + 2, dtype=torch.float64, **options)

    def _restart(self) -> None:
        self.labels.fill_(-1)

    def _step(self, centres: torch.Tensor) -> int:
        changed = 0
        for span, labels, distances in nearest_by_manhattan(self.rows.local, centres):
            changed += int((labels != self.labels[span]).sum())
            self.labels[span], self._distances[span] = labels, distances
        told = self._told
        told[: self.k] = torch.bincount(self.labels, minlength=self.k)
        told[self.k], told[self.k + 1] = changed, self._distances.sum(dtype=torch.float64)
        self._told = self.rows.comm.allreduce(told)
        return int(self._told[self.k])

    def _moved(self, centres: torch.Tensor) -> torch.Tensor:
        sizes = self._told[: self.k].to(torch.int64)
        medians = grouped_medians(self.rows, self.labels, sizes)
        medians = torch.where(sizes[:, None] > 0, medians, centres)
        empty = (sizes == 0).nonzero().squeeze(1)
        if empty.numel():
            for target, record in zip(empty.tolist(), self._farthest(self._distances, None, empty.numel())):
                if record[0] > 0.0:  # else there are fewer different rows than clusters
                    medians[target] = torch.as_tensor(record[4:], device=medians.device)
        return self._rounded(medians)

    def _value(self, centres: torch.Tensor, labels: torch.Tensor) -> float:
        return float(self._told[self.k + 1])


class Medoids(Medians):
    """Move each centre to that row of its cluster which is nearest to the median.

    *Distribution*: as `Medians`, and one allgather of k (d + 2) numbers per rank in an iteration; one at the start.
    """

    def _first(self, centres: torch.Tensor) -> torch.Tensor:
        return self._rows_near(self._rounded(centres), None)

    def _moved(self, centres: torch.Tensor) -> torch.Tensor:
        return self._rows_near(super()._moved(centres), self.labels)

    def _rows_near(self, targets: torch.Tensor, labels: torch.Tensor | None) -> torch.Tensor:
        """Return the rows nearest to the targets, of the clusters of the same number where labels are given.

        Of equal distances the row of lowest index; a target without a row stays.
        """
        local, k = self.rows.local, self.k
        records = torch.full((k, 2 + self.rows.d), torch.inf, dtype=torch.float64, device=local.device)
        points = targets.to(local.dtype)
        for span in spans(local.shape[0], tile_rows(k, local.device)):
            distances = torch.cdist(local[span], points, p=1.0)
            if labels is not None:
                distances.masked_fill_(labels[span, None] != torch.arange(k, device=local.device), torch.inf)
            least, at = distances.min(0)
            better = least < records[:, 0]
            at = at[better] + span.start
            records[better, 0] = least[better].to(torch.float64)
            records[better, 1] = (at + self.rows.start).to(torch.float64)
            records[better, 2:] = local[at].to(torch.float64)
        gathered = self.rows.comm.allgather(records.unsqueeze(0))
        # Ranks hold rows in order of their index: the first of equals is the lowest.
        found = gathered[gathered[:, :, 0].argmin(0), torch.arange(k, device=local.device)]
        return torch.where(torch.isfinite(found[:, :1]), found[:, 2:], targets)


def nearest_by_manhattan(local: torch.Tensor, centres: torch.Tensor):
    """Yield (span, nearest centre of each of these rows, its distance), ties to the lowest index, tile by tile."""
    points = centres.to(local.dtype)
    for span in spans(local.shape[0], tile_rows(max(points.shape), local.device)):
        distances, labels = torch.cdist(local[span], points, p=1.0).min(1)
        yield span, labels, distances


def grouped_medians(rows: Rows, labels: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """Return the component-wise medians of the rows of each label, shape (k, d), float64; means of the middle two.

    Parameters
    ----------
    rows : Rows
        Finite.
    labels : torch.Tensor, shape (local rows,), int64
    sizes : torch.Tensor, shape (k,), int64
        Rows of each label on all ranks; what is said of a label without rows means nothing.

    *Distribution*: see ``ht_core.engines.selection.search``.
    """
    k, d = len(sizes), rows.d
    numbers = sizes.repeat_interleave(d)
    wanted = ((numbers - 1).clamp(min=0) // 2)[:, None]
    is_even = ((numbers > 0) & (numbers % 2 == 0))[:, None]
    low, high, _ = search(_Labelled(rows, labels, k), wanted, is_even, rows.n, rows.comm, numbers)
    return ((low.to(torch.float64) + high.to(torch.float64)) / 2).view(k, d)


class _Labelled(Source):
    """The elements of this rank's rows in k d groups: one for each feature of each label."""

    def __init__(self, rows: Rows, labels: torch.Tensor, k: int) -> None:
        self.local, self.labels, self.k = rows.local, labels, k
        self.dtype, self.groups = rows.local.dtype, k * rows.d
        self.per_group = max(rows.n // k, 1)
        self._step = tile_rows(rows.d, rows.local.device)

    def sample(self, share: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        d, device = self.local.shape[1], self.local.device
        counts = torch.bincount(self.labels, minlength=self.k)
        values = torch.zeros((self.k, share, d), dtype=self.dtype, device=device)
        if self.labels.numel():
            starts = counts.cumsum(0) - counts
            draw = torch.rand((self.k, share), generator=generator, dtype=torch.float64).to(device)
            place = starts[:, None] + (draw * counts[:, None]).to(torch.int64)
            order = self.labels.argsort(stable=True)
            values = self.local[order[place.clamp_(max=order.numel() - 1)]]
        return values.transpose(1, 2).reshape(self.groups, share).contiguous(), counts.repeat_interleave(d)

    def count(self, lo: torch.Tensor, hi: torch.Tensor, limit: int, looks_for_nan: bool) -> tuple:
        k, d = self.k, self.local.shape[1]
        options = {"dtype": torch.float64, "device": lo.device}  # exact, and faster to add than integers
        less, within = torch.zeros((k, d), **options), torch.zeros((k, d), **options)
        values: list[torch.Tensor] = [self.local.new_empty(0)]
        owners: list[torch.Tensor] = [self.labels.new_empty(0)]
        size = 0
        for tile, labels in self._tiles():
            is_less = tile < lo.view(k, d)[labels]
            inside = (tile <= hi.view(k, d)[labels]) & ~is_less
            less.index_add_(0, labels, is_less.to(torch.float64))
            within.index_add_(0, labels, inside.to(torch.float64))
            if size <= limit:
                i, j = inside.nonzero(as_tuple=True)
                size += i.numel()
                values.append(tile[i, j])
                owners.append(labels[i] * d + j)
        less, within = (part.to(torch.int64).view(lo.shape) for part in (less, within))
        nan = torch.zeros(lo.shape[0], dtype=torch.bool, device=lo.device)
        if size > limit:
            return less, within, nan, None
        mine = torch.cat(owners)
        return less, within, nan, Kept(torch.cat(values), torch.ones_like(mine), mine, lo.shape)

    def least_above(self, bound: torch.Tensor) -> torch.Tensor:
        """Return the least element greater than `bound` of each group, inf if none is."""
        k, d = self.k, self.local.shape[1]
        least = torch.full((k, d), torch.inf, dtype=self.dtype, device=bound.device)
        for tile, labels in self._tiles():
            tile = torch.where(tile > bound.view(k, d)[labels], tile, torch.inf)
            least.scatter_reduce_(0, labels[:, None].expand_as(tile), tile, "amin")
        return least.view(bound.shape)

    def _tiles(self):
        return ((self.local[s], self.labels[s]) for s in spans(self.labels.numel(), self._step))
