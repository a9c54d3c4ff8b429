"""Starting centres by k-means||: a few passes that each draw many rows, clustered in the end on their own."""

from __future__ import annotations

import torch

from ..rows import Rows
from .assignment import Assigner
from .seeding import Race, cluster_alone, plus_plus

_ROUNDS = 5
_FACTOR = 2


def oversampled(rows: Rows, k: int, seed: int, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Return starting centres by k-means||, shape (k, d), float64.

    Five rounds draw 2 k rows each, with probability proportional to the (weighted) squared distance to the nearest row
    drawn before. The rows drawn, weighted by the rows nearest to them, are clustered by k-means++ and Lloyd's
    algorithm. A round is an exponential race (see `plus_plus`) whose 2 k earliest rows win: the number of rows is
    fixed, where the paper fixes its expectation, and no pass is needed to learn the sum of the distances. Fewer than
    20 k rows start by k-means++.

    *Distribution*: six allgathers of at most 2 k (d + 2) numbers per rank, one allreduce of 10 k + 1 numbers; never
    more than that on any rank, however many rows there are.

    References: B. Bahmani, B. Moseley, A. Vattani, R. Kumar and S. Vassilvitskii, "Scalable k-means++", Proceedings of
    the VLDB Endowment 5 (2012), doi:10.14778/2180912.2180915.
    """
    drawn = _FACTOR * k
    if rows.n < 2 * _ROUNDS * drawn:
        return plus_plus(rows, k, seed, weights)
    race = Race(rows, weights, seed, 0, drawn, drawn)
    found = [race.first().unsqueeze(0)]
    for number in range(1, _ROUNDS + 1):
        records = race.widen(found[-1], number)
        if not len(records):  # every row coincides with one of those drawn
            break
        found.append(records[:, 2:])
    candidates = torch.cat(found)
    if len(candidates) < k:
        return plus_plus(rows, k, seed, weights)
    counts = _followers(rows, candidates, weights)
    return cluster_alone(candidates, counts, k, seed, _ROUNDS + 1).centres


def _followers(rows: Rows, candidates: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Return the weight of the rows nearest to each candidate; one allreduce."""
    labels = Assigner(rows.local, len(candidates)).assign(candidates)
    counts = torch.bincount(labels, weights=weights, minlength=len(candidates)).to(torch.float64)
    return rows.comm.allreduce(counts, out=counts)
