"""Engine of sets: find the distinct keys of all ranks by one exchange of each rank's own distinct keys.

Every rank sorts its keys and drops repetitions; what is left goes to owners, each of which has a range of the keys, so
that the owners' distinct keys, one rank after the other, are sorted. Ranges come from a regular sample of all ranks'
distinct keys and are about equally full. What the elements have to be told (their place among the distinct keys, or
whether a key is in another set) travels back the way the keys came. No rank sees more than its share, and no element
is sent twice for being repeated.

Keys are integers (see ``sort_keys``) of shape (n, w), compared lexicographically: w is 1 except for complex128 and for
rows of arrays. This file knows nothing of dtypes or arrays.

References
----------
H. Shi, J. Schaeffer, Parallel sorting by regular sampling, Journal of Parallel and Distributed Computing 14, 1992,
doi:10.1016/0743-7315(92)90075-X.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from ht_comm import Communicator

from .gather import exchange_counts
from .sort import argsort_rows, is_on_host, lexicographic_order, sort_rows

#: Stands for the place of an element that is not there.
NOWHERE = torch.iinfo(torch.int64).max

Mask = Callable[[torch.Tensor], torch.Tensor]


@dataclass(frozen=True, slots=True)
class Groups:
    """Equal keys, brought together.

    Attributes
    ----------
    keys : torch.Tensor, shape (m, w)
        The distinct ones, sorted.
    order : torch.Tensor or None, int64, shape (n,)
        The stable order of all keys; None where only the distinct keys were asked for.
    starts : torch.Tensor or None, bool, shape (n,)
        Which keys, in that order, are the first of a group.
    """

    keys: torch.Tensor
    order: torch.Tensor | None = None
    starts: torch.Tensor | None = None

    def first(self) -> torch.Tensor:
        """Return where each distinct key occurs first."""
        return pick(self.order, self.starts)

    def counts(self) -> torch.Tensor:
        """Return how often each distinct key occurs."""
        places = self.starts.nonzero().reshape(-1)
        return torch.cat([places, places.new_tensor([len(self.starts)])]).diff()

    def inverse(self) -> torch.Tensor:
        """Return for each key its place among the distinct ones."""
        found = torch.empty_like(self.order)
        found[self.order] = self.starts.cumsum(0).sub_(1)
        return found

    def first_of_two(self, n: int) -> list[torch.Tensor]:
        """Return where each distinct key occurs first among the first `n` keys, and among the others (from 0).

        :data:`NOWHERE` where it does not.
        """
        is_other = self.order >= n
        begins = self.starts.clone()  # the others come last in a group, as the order is stable
        begins[1:] |= is_other[1:] & ~is_other[:-1]
        group = self.starts.cumsum(0).sub_(1)
        found = []
        for chosen, offset in ((begins & ~is_other, 0), (begins & is_other, n)):
            places = torch.full((len(self.keys),), NOWHERE, dtype=torch.int64, device=self.keys.device)
            places[group[chosen]] = self.order[chosen] - offset
            found.append(places)
        return found


@dataclass(frozen=True, slots=True)
class Merged:
    """The distinct keys of all ranks, as their owners have them.

    Attributes
    ----------
    keys : torch.Tensor, shape (k, w)
        This rank's, sorted; greater than those of lower ranks.
    carried : list of torch.Tensor, shape (k,)
        What the ranks told about each key, combined.
    """

    keys: torch.Tensor
    carried: list[torch.Tensor]
    _comm: Communicator | None
    _group: torch.Tensor | None  # of each received key
    _sent: tuple[int, ...]
    _received: tuple[int, ...]

    def answer(self, values: torch.Tensor) -> torch.Tensor:
        """Return, for each distinct key that this rank sent, what its owner says: one of the owner's k `values`.

        *Distribution*: collective. One alltoallv of one value per distinct key of each rank.
        """
        told = values[self._group]
        if self._comm is None or self._comm.size == 1:
            return told
        return self._comm.alltoallv(told, self._received, self._sent)


def group(keys: torch.Tensor, apart: Mask | None = None, only_keys: bool = False) -> Groups:
    """Bring equal keys together.

    Parameters
    ----------
    keys : torch.Tensor, shape (n, w)
        Given up where `only_keys`.
    apart : callable, optional
        Tells of keys of shape (n, w) which are equal to none, not even to themselves (NaN).
    only_keys : bool
        Return the distinct keys without the order, which is several times faster.
    """
    if only_keys and keys.shape[1] == 1:
        ranked, order = sort_rows(keys.reshape(-1))[:, None], None
    else:
        order = argsort_rows(keys.reshape(-1)) if keys.shape[1] == 1 else lexicographic_order(keys.unbind(1))
        ranked = keys[order]
    starts = torch.ones(len(ranked), dtype=torch.bool, device=keys.device)
    if keys.shape[1] == 1:
        flat = ranked.reshape(-1)
        torch.ne(flat[1:], flat[:-1], out=starts[1:])
    else:
        starts[1:] = (ranked[1:] != ranked[:-1]).any(1)
    if apart is not None:
        starts |= apart(ranked)
    return Groups(pick(ranked, starts), order, None if only_keys else starts)


def pick(rows: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Return the rows where a mask is true; by NumPy on the host, which is ten times faster than torch here."""
    if not is_on_host(rows):
        return rows[mask]
    if rows.ndim == 2 and rows.shape[1] == 1:
        return torch.from_numpy(rows.reshape(-1).numpy()[mask.numpy()])[:, None]
    return torch.from_numpy(rows.numpy()[mask.numpy()])


def merge(
    keys: torch.Tensor,
    carried: Sequence[torch.Tensor],
    combine: Sequence[str],
    apart: Mask | None,
    comm: Communicator | None,
    only_keys: bool = False,
) -> Merged:
    """Bring the distinct keys of all ranks together.

    Parameters
    ----------
    keys : torch.Tensor, shape (m, w)
        This rank's, sorted, as :func:`group` returns them.
    carried : sequence of torch.Tensor, int64, shape (m,)
        What this rank tells about each key.
    combine : sequence of {"sum", "amin", "amax"}
        How the ranks' tales are combined.
    apart : callable, optional
        As for :func:`group`.
    comm : Communicator or None
        None where every rank has all keys; then nothing is sent.
    only_keys : bool
        Nothing is carried and nothing will be asked.

    *Distribution*: collective. One allgather of a sample of at most 1024 keys per rank, one alltoall of p integers, one
    alltoallv of the distinct keys and one of what is carried.
    """
    if comm is None or comm.size == 1:
        places = torch.arange(len(keys), device=keys.device)
        return Merged(keys, list(carried), comm, places, (), ())
    cuts = _cuts(keys, comm)
    sent = torch.tensor(cuts, dtype=torch.int64, device=keys.device).diff()
    send_counts = tuple(sent.tolist())
    recv_counts = tuple(comm.alltoall(sent).tolist())
    received = comm.alltoallv(keys, send_counts, recv_counts)
    groups = group(received, apart, only_keys)
    if only_keys:
        return Merged(groups.keys, [], comm, None, send_counts, recv_counts)
    place, k = groups.inverse(), len(groups.keys)
    combined = []
    if carried:
        told = comm.alltoallv(torch.stack(list(carried), 1), send_counts, recv_counts)
        for column, how in zip(told.unbind(1), combine):
            start = torch.zeros(k, dtype=torch.int64, device=keys.device)
            combined.append(start.scatter_reduce_(0, place, column, how, include_self=how == "sum"))
    return Merged(groups.keys, combined, comm, place, send_counts, recv_counts)


def positions(merged: Merged) -> tuple[torch.Tensor, tuple[int, ...] | None]:
    """Return the places of the owner's keys among all, and the numbers of keys of all ranks (None where replicated).

    *Distribution*: collective. One allgather of p integers.
    """
    n, comm = len(merged.keys), merged._comm
    here = torch.arange(n, device=merged.keys.device)
    if comm is None:
        return here, None
    counts = exchange_counts(n, comm, here.device)
    return here + sum(counts[: comm.rank]), counts


def _cuts(keys: torch.Tensor, comm: Communicator) -> list[int]:
    """Return where this rank's sorted distinct keys are cut among the owners: p + 1 places."""
    p, (m, width) = comm.size, keys.shape
    size = min(max(16 * p, 32), 1024)
    s = min(m, size)
    places = torch.arange(1, s + 1, device=keys.device) * m // max(s, 1) - 1
    packed = torch.zeros(size * width + 1, dtype=torch.int64, device=keys.device)
    packed[0] = m
    packed[1 : 1 + s * width] = keys[places].reshape(-1)
    sample = comm.allgather(packed[None])
    extents = sample[:, 0].tolist()
    known = [min(extent, size) for extent in extents]
    parts = [row[1 : 1 + s * width].view(-1, width) for row, s in zip(sample, known)]
    pool = torch.cat(parts)
    if not len(pool):
        return [0] * (p + 1)
    # Each of the s keys of a rank stands for m / s of them: for all up to itself, from the one before. In integers,
    # whose sums are the same on all processors.
    weights = torch.cat([torch.full((s,), e * size // max(s, 1)) for s, e in zip(known, extents)])
    order = lexicographic_order(pool.unbind(1))
    reached = weights.to(keys.device)[order].cumsum(0)
    total = int(reached[-1])
    wanted = torch.tensor([rank * total // p for rank in range(1, p)], device=keys.device)
    at = torch.searchsorted(reached, wanted).clamp_(max=len(pool) - 1)
    last = pool[order[at]].to(keys.dtype)  # the greatest key of each owner but the last
    return [0, *_count_upto(keys, last).tolist(), m]


def _count_upto(keys: torch.Tensor, bounds: torch.Tensor) -> torch.Tensor:
    """Return how many sorted keys are at most as great as each of the sorted bounds."""
    if keys.shape[1] == 1:
        return torch.searchsorted(keys.reshape(-1), bounds.reshape(-1), right=True)
    order = lexicographic_order(torch.cat([keys, bounds]).unbind(1))  # stable: equal keys come before a bound
    is_bound = order >= len(keys)
    return is_bound.nonzero().reshape(-1) - torch.arange(len(bounds), device=keys.device)
