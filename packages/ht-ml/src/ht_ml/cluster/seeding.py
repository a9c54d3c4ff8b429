"""Starting centres: rows at random, k-means++, batch-parallel. Every choice is a function of (seed,
global row index).

Random numbers belong to row indices, sums to all rows, so the same rows are picked for any number of
ranks and any distribution of the rows.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from ..draws import different_rows, exponentials
from ..moments import survey
from ..rows import Rows, serial_rows, take
from ..tiles import spans, tile_rows
from .lloyd import Lloyd, Result

_BATCHES = 8
_BATCH_ROWS = 1024
_BATCH_ITERATIONS = 50


def random_rows(rows: Rows, k: int, seed: int, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Return `k` different rows, drawn alike or by weight, shape (k, d), float64.

    *Distribution*: one allreduce of k d numbers; with weights one allgather of k (d + 2) numbers per rank.
    """
    if weights is None:
        return take(rows.local, rows, different_rows(seed, rows.n, k, rows.comm)).to(torch.float64)
    winners = Winners(1, k, rows.local.device)
    times = exponentials(seed, 0, rows.start, rows.local.shape[0], rows.local.device)
    if times.numel():
        # A row of weight zero comes after all others: it is taken only where there are too few of these.
        winners.offer((times / weights.clamp(min=1e-300)).unsqueeze(0), 0)
    records = rows.comm.allgather(winners.records(rows)[0])
    return earliest(records, k)[:, 2:]


def batch_parallel(rows: Rows, k: int, seed: int, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Return centres merged from k-means on several batches of rows, shape (k, d), float64.

    Up to eight batches of max(1024, 32 k) rows, drawn by global index, are clustered by as many ranks as
    there are (each rank takes every p-th batch), and the centres of all batches, weighted by their
    clusters' weights, are clustered once more. The batches do not depend on the number of ranks, and
    neither do the centres. Fewer rows than two batches start by k-means++.

    *Distribution*: two allreduces: the rows of the batches, and at most 8 k (d + 1) numbers; with weights
    one more.
    """
    size = max(_BATCH_ROWS, 32 * k)
    batches = min(_BATCHES, rows.n // size)
    if batches < 2:
        return plus_plus(rows, k, seed, weights)
    d, comm = rows.d, rows.comm
    indices = different_rows(seed, rows.n, batches * size, comm)
    sample = take(rows.local, rows, indices).to(torch.float64)
    weighing = None if weights is None else take(weights, rows, indices)
    found = torch.zeros((batches, k, d + 1), dtype=torch.float64, device=sample.device)
    for b in range(comm.rank, batches, comm.size):
        span = slice(b * size, (b + 1) * size)
        own = None if weighing is None else weighing[span]
        if own is not None and float(own.sum()) <= 0.0:
            continue  # nothing to learn here: weights of zero stay behind
        result = cluster_alone(sample[span], own, k, seed, b + 1)
        found[b, :, :d] = result.centres
        found[b, :, d] = torch.bincount(result.labels, weights=own, minlength=k)
    found = comm.allreduce(found, out=found).view(-1, d + 1)
    return cluster_alone(found[:, :d].contiguous(), found[:, d].contiguous(), k, seed, batches + 1).centres


def cluster_alone(
    local: torch.Tensor,
    weights: torch.Tensor | None,
    k: int,
    seed: int,
    number: int,
) -> Result:
    """Cluster rows that this rank holds alone, with random numbers of their own."""
    rows = serial_rows(local)
    start = plus_plus(rows, k, seed, weights, stream=number << 32)
    seen = survey(local, weights)
    return Lloyd(rows, weights, seen, seen.packed, k).run(start, _BATCH_ITERATIONS, 0.0)


def plus_plus(
    rows: Rows, k: int, seed: int, weights: torch.Tensor | None = None, *, stream: int = 0
) -> torch.Tensor:
    """Return starting centres by greedy k-means++, shape (k, d), float64.

    Each centre is the best of ``2 + floor(log k)`` candidates drawn with probability proportional to the
    (weighted) squared distance to the nearest centre so far, where the best leaves the least sum of
    squared distances.

    A draw is an exponential race: row i finishes at time E_i / (w_i D_i^2), E_i exponential and a
    function of the seed, the number of the centre and the global index i; the earliest rows win. Winners
    of ranks merge by taking the earliest.

    *Distribution*: k + 1 allgathers of about L^2 (d + 2) numbers per rank, L candidates: the candidates'
    sums travel together with the next candidates under each possible choice.

    References: D. Arthur and S. Vassilvitskii, "k-means++: the advantages of careful seeding", SODA 2007.
    Races: P. S. Efraimidis and P. G. Spirakis, "Weighted random sampling with a reservoir", Information
    Processing Letters 97 (2006), doi:10.1016/j.ipl.2005.11.003.
    """
    race = Race(rows, weights, seed, stream, 2 + int(math.log(k)))
    centres = [race.first()]
    candidates = race.step(centres[0], None, 1).next_after(0) if k > 1 else None
    for c in range(1, k):
        outcome = race.step(centres[-1], candidates, c + 1 if c + 1 < k else None)
        best = outcome.best()
        centres.append(candidates[best, 2:])
        candidates = outcome.next_after(best)
    return torch.stack(centres)


class _Outcome:
    """What all ranks know after a step: the candidates' sums and the next candidates under each choice.

    Candidates are records (time, global index, row), the earliest first; a record with infinite time is
    no row.
    """

    def __init__(
        self, gathered: torch.Tensor, candidates: torch.Tensor | None, choices: int, width: int
    ) -> None:
        self._potentials = gathered[:, :choices].sum(0)
        if candidates is not None:
            self._potentials[torch.isinf(candidates[:, 0])] = torch.inf
        self._records = gathered[:, choices:].reshape(gathered.shape[0], choices, -1, width)

    def best(self) -> int:
        """Return the candidate that leaves the least sum of squared distances."""
        # Sums differ in their last bits between numbers of ranks: what is equal up to these goes to the
        # earliest.
        close = self._potentials <= self._potentials.amin() * (1.0 + 1e-12)
        return int(close.to(torch.uint8).argmax())

    def next_after(self, choice: int) -> torch.Tensor:
        """Return the candidates that follow `choice`, shape (L, 2 + d)."""
        records = self._records[:, choice]
        return earliest(records.reshape(-1, records.shape[-1]), records.shape[1])


def earliest(records: torch.Tensor, count: int) -> torch.Tensor:
    """Return the `count` earliest of all ranks' records (time, global index, row), in order."""
    order = np.lexsort((records[:, 1].cpu().numpy(), records[:, 0].cpu().numpy()))[:count]
    return records[torch.from_numpy(order).to(records.device)]


class Winners:
    """The earliest local rows of several races, found tile by tile."""

    def __init__(self, races: int, trials: int, device: torch.device) -> None:
        self._times = torch.full((races, trials), torch.inf, dtype=torch.float64, device=device)
        self._rows = torch.zeros((races, trials), dtype=torch.int64, device=device)

    def offer(self, arrival: torch.Tensor, start: int) -> None:
        """Consider the rows from `start` on, which arrive at the given times, shape (races, rows)."""
        if not bool((arrival.amin(1) < self._times[:, -1]).any()):  # after the first tiles hardly ever
            return
        trials = self._times.shape[1]
        times, rows = torch.topk(arrival, min(trials, arrival.shape[1]), dim=1, largest=False)
        times, rows = torch.cat([self._times, times], 1), torch.cat([self._rows, rows + start], 1)
        self._times, order = torch.topk(times, trials, dim=1, largest=False)
        self._rows = rows.gather(1, order)

    def records(self, rows: Rows) -> torch.Tensor:
        """Return the winners as records, shape (races, trials, 2 + d)."""
        found = torch.zeros((*self._times.shape, 2 + rows.d), dtype=torch.float64, device=self._times.device)
        found[..., 0] = self._times
        if rows.local.shape[0]:
            found[..., 1] = (self._rows + rows.start).to(torch.float64)
            found[..., 2:] = rows.local[self._rows].to(torch.float64)
        return found


class Race:
    """The distances of the local rows to the nearest centre so far, and the races run on them.

    Distances are formed in float64 around the first centre, so that an offset of the data does not cancel
    digits.
    """

    def __init__(
        self,
        rows: Rows,
        weights: torch.Tensor | None,
        seed: int,
        stream: int,
        trials: int,
        points: int | None = None,
    ) -> None:
        self.rows, self.weights, self.trials = rows, weights, trials
        self._seed, self._stream = seed, stream
        n, d = rows.local.shape
        options = {"dtype": torch.float64, "device": rows.local.device}
        self._nearest = torch.full((n,), torch.inf, **options)
        self._norms = torch.empty(n, **options)  # squared distances to the first centre, once it is known
        points = trials + 1 if points is None else points
        self._tile = min(max(n, 1), tile_rows(max(d, points), rows.local.device))
        self._scratch = torch.empty((self._tile, d), **options)
        # Products with a multiple of eight rows run faster, even though rows of zeros are among them.
        self._points = torch.zeros((-(-points // 8) * 8, d), **options)
        self._products = torch.empty((self._points.shape[0], self._tile), **options)
        self._shift: torch.Tensor | None = None

    def _times(self, number: int) -> torch.Tensor:
        local = self.rows.local
        return exponentials(self._seed, self._stream + number, self.rows.start, local.shape[0], local.device)

    def first(self) -> torch.Tensor:
        """Return the first centre, drawn by weight alone, shape (d,); one allgather of d + 2 numbers."""
        winners = Winners(1, 1, self.rows.local.device)
        times = self._times(0)
        if times.numel():
            winners.offer((times if self.weights is None else times / self.weights).unsqueeze(0), 0)
        gathered = self.rows.comm.allgather(winners.records(self.rows).reshape(1, -1))
        self._shift = gathered[int(gathered[:, 0].argmin()), 2:].clone()
        for span in self._spans():
            torch.sum(self._centred(span).square_(), 1, out=self._norms[span])
        return self._shift

    def step(self, centre: torch.Tensor, candidates: torch.Tensor | None, number: int | None) -> _Outcome:
        """Add `centre`, evaluate the candidates and race for the next ones; one allgather.

        Parameters
        ----------
        centre : torch.Tensor, shape (d,)
        candidates : torch.Tensor, shape (L, 2 + d), or None
            With None, the race is run on the distances to the centres so far.
        number : int or None
            Number of the race; None for no race.
        """
        points = centre.unsqueeze(0)
        if candidates is not None:
            points = torch.cat([points, candidates[:, 2:]])
        choices = max(1, points.shape[0] - 1)
        potentials = torch.zeros(choices, dtype=torch.float64, device=points.device)
        winners = times = None
        if number is not None:
            winners, times = Winners(choices, self.trials, points.device), self._times(number)
        for span, distances in self._distances(points):
            nearest = self._nearest[span]
            torch.minimum(nearest, distances[0], out=nearest)
            reached = distances[-choices:]
            torch.minimum(nearest, reached, out=reached)
            if self.weights is not None:
                reached *= self.weights[span]
            potentials += reached.sum(1)
            if winners is not None:
                # Where every row coincides with a centre any row will do, but in the seed's order.
                arrival = torch.div(times[span], reached.clamp_(min=1e-300), out=reached)
                if self.weights is not None:
                    arrival[:, self.weights[span] <= 0] = torch.inf
                winners.offer(arrival, span.start)
        message = potentials
        if winners is not None:
            message = torch.cat([potentials, winners.records(self.rows).reshape(-1)])
        gathered = self.rows.comm.allgather(message.unsqueeze(0))
        return _Outcome(gathered, candidates, choices, 2 + self.rows.d)

    def widen(self, points: torch.Tensor, number: int) -> torch.Tensor:
        """Add points and race for the next ones, the earliest `trials` rows; one allgather.

        Returns records (time, global index, row), the earliest first, of those rows that differ from the points.
        """
        winners, times = Winners(1, self.trials, points.device), self._times(number)
        for span, distances in self._distances(points):
            nearest = self._nearest[span]
            torch.minimum(nearest, distances.amin(0), out=nearest)
            mass = nearest if self.weights is None else nearest * self.weights[span]
            winners.offer((times[span] / mass).unsqueeze(0), span.start)
        gathered = self.rows.comm.allgather(winners.records(self.rows)[0])
        found = earliest(gathered.reshape(-1, gathered.shape[-1]), self.trials)
        return found[torch.isfinite(found[:, 0])]

    def _spans(self):
        return spans(self.rows.local.shape[0], self._tile)

    def _centred(self, span: slice) -> torch.Tensor:
        """Return these rows minus the first centre, in scratch."""
        return self._scratch[: span.stop - span.start].copy_(self.rows.local[span]).sub_(self._shift)

    def _distances(self, points: torch.Tensor):
        """Yield (span, squared distances of these rows to the points, shape (points, rows), in scratch)."""
        count = len(points)
        self._points[:count] = points - self._shift
        offsets = self._points
        # Squares shrunk by more than the rounding error of the difference: a row that coincides with a
        # point ends below zero, hence at zero, wherever the product's last bits fall.
        shrink = 1.0 - 1e-13
        own = offsets.square().sum(1, keepdim=True) * shrink
        for span in self._spans():
            out = self._products[:, : span.stop - span.start]
            torch.addmm(own, offsets, self._centred(span).T, alpha=-2.0, out=out)
            yield span, out[:count].add_(self._norms[span], alpha=shrink).clamp_(min=0.0)
