"""Sorting a long vector over ranks: divide first, exchange once, sort once.

Sorting locally before the exchange means sorting again after it, as merging sorted runs costs what sorting does on
processors with vector instructions. So a vector is not sorted at all before it moves: a small random sample of all
ranks names, for each cut between two ranks' parts of the result, an interval of keys that holds the cut almost surely;
the local keys are divided at the ends of these intervals (a selection, ten times faster than a sort); only the few
percent inside are sorted, to find the exact cuts there as :mod:`.sort` does. A sample that misses costs time, never
exactness: what is searched is the segment between two divisions that holds the cut, whichever it is.

All choices follow from integers that all ranks have, so all ranks send the same. It knows nothing of dtypes, arrays or
layouts.

References
----------
R. W. Floyd, R. L. Rivest, Expected time bounds for selection, Communications of the ACM 18, 1975,
doi:10.1145/360680.360691.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate, pairwise

import numpy as np
import torch
from ht_comm import Communicator

from .gather import by_owner, exchange_counts
from .index_local import true_places
from .sort import (
    FEW,
    carry_by_words,
    do_leading_bits,
    find_places,
    index_bits,
    index_of,
    is_ascending,
    is_on_host,
    merge_over_ranks,
    send_pieces,
    sort_rows,
    ties_of_leading_bits,
    with_index,
    with_leading_bits,
)

#: Elements per rank from which dividing first is faster.
LONG = 1 << 16
#: Sampled elements of all ranks together, and the least of one rank.
SAMPLED, LEAST = 1 << 13, 64
_TILE = 1 << 17
#: Bytes of a rank's keys that one round of their exchange holds beside the keys.
ROUND = 8 << 20
_MAX = torch.iinfo(torch.int64).max


def sort_over_ranks(keys: torch.Tensor, counts: Sequence[int], comm: Communicator) -> torch.Tensor:
    """Return this rank's part of the sorted columns.

    Parameters
    ----------
    keys : torch.Tensor, shape (columns, counts[rank])
        Integers, contiguous; given up.
    counts : sequence of int
        Extent of every rank's part, before and after; with the extent of no column 0.

    *Distribution*: collective. Several columns, short vectors and narrow keys: as ``merge_over_ranks``. Long vectors:
    one allgather of at most 64 KiB, one allreduce of 2 p counts, and of the middle parts as ``merge_over_ranks``; one
    alltoallv for each :data:`ROUND` bytes of the longest part, in which each key is sent at most once. Memory: a few
    percent of `keys`, in which the result is, and a round.
    """
    if not _is_long(keys, counts, comm):
        return merge_over_ranks(sort_rows(keys), counts, comm)
    cuts = divide_over_ranks(keys[0], counts, comm)
    rounds = -(-max(counts) * keys.itemsize // ROUND)
    if rounds == 1:
        (keys,) = send_pieces([keys], cuts[None], comm)
    else:
        _exchange_in_place(keys[0], cuts, rounds, comm)
    return sort_rows(keys)


def _is_long(keys: torch.Tensor, counts: Sequence[int], comm: Communicator) -> bool:
    return keys.shape[0] == 1 and keys.itemsize >= 4 and sum(counts) >= LONG * comm.size


def _exchange_in_place(keys: torch.Tensor, cuts: torch.Tensor, rounds: int, comm: Communicator) -> None:
    """Send each rank its piece of `keys`, a vector, and put what comes, which is as much, where that was; in any order.

    Of every piece each round sends one part in `rounds`, so what comes fits where something went, but for a key or so
    of each rank, which waits.
    """
    lengths = cuts.diff()
    sent, got = lengths.tolist(), comm.alltoall(lengths).tolist()
    sent[comm.rank] = got[comm.rank] = 0
    starts, free, waiting = cuts.tolist(), [], keys[:0]
    for at in range(rounds):
        spans = [(start + n * at // rounds, start + n * (at + 1) // rounds) for start, n in zip(starts, sent)]
        packed = torch.cat([keys[a:b] for a, b in spans])
        coming = tuple(n * (at + 1) // rounds - n * at // rounds for n in got)
        moved = comm.alltoallv(packed, tuple(b - a for a, b in spans), coming)
        waiting = torch.cat([waiting, moved]) if len(waiting) else moved
        free += [(a, b) for a, b in spans if a < b]
        while len(waiting) and free:
            a, b = free.pop()
            n = min(b - a, len(waiting))
            keys[a : a + n] = waiting[:n]
            waiting = waiting[n:]
            if n < b - a:
                free.append((a + n, b))


def order_over_ranks(
    words: Sequence[torch.Tensor], counts: Sequence[int], comm: Communicator
) -> torch.Tensor:
    """Return this rank's part of the int64 places from which the stably sorted columns take their elements.

    Where key and place fit into 63 bits together they are sorted as one integer. Where not, of one long vector, the
    leading bits of the keys are, and then those by their whole keys that have these bits in common with others. `words`
    is emptied.

    *Distribution*: collective. For one word as :func:`sort_over_ranks`, and one allreduce of the extremes of 64-bit
    keys; where key and place do not fit, or for several words, as ``carry_by_words``. An allgather of
    8 KiB tells whether leading bits do; with them two allgathers of four integers more, and if any keys have them in
    common, of these the places to the owners, the keys back, one more such allgather, and as ``carry_by_words`` unless
    they are in order, as equal keys are.
    """
    offset, n = sum(counts[: comm.rank]), sum(counts)
    if len(words) == 1:
        least = most = None
        if words[0].itemsize == 8:
            least, most = _extremes(words[0], comm)
        packed = with_index(words[0], offset, n, least, most)
        if packed is not None:
            words.clear()
            return index_of(sort_over_ranks(packed, counts, comm), n)
        if words[0].itemsize == 8 and _is_long(words[0], counts, comm):
            sample, _ = _sample(words[0][0], counts, max(FEW // comm.size, 1), comm)
            if do_leading_bits(sample, n, least, most):
                return _order_by_leading_bits(words, counts, least, most, comm)
    places = torch.arange(offset, offset + counts[comm.rank], device=words[0].device).expand(words[0].shape)
    return carry_by_words(words, [places], counts, comm)[0]


def _order_by_leading_bits(
    words: list[torch.Tensor], counts: Sequence[int], least: int, most: int, comm: Communicator
) -> torch.Tensor:
    """Return the order of one column of keys in [least, most], which do not fit into a word with their places.

    `words` holds the keys, and is emptied, so that memory is given back as early as can be.
    """
    n, (keys,) = sum(counts), words.pop()
    packed = with_leading_bits(keys, sum(counts[: comm.rank]), n, least, most)
    packed = sort_over_ranks(packed[None], counts, comm)[0]
    # The leading bits of the neighbours on other ranks, and how many here have theirs in common with others.
    tied = ties_of_leading_bits(packed, n)
    bits = index_bits(n)
    ends = [int(packed[0]) >> bits, int(packed[-1]) >> bits] if len(packed) else [0, 0]
    ends = comm.allgather(torch.tensor([len(packed), *ends], device=tied.device)).view(-1, 3).tolist()
    held = [r for r, end in enumerate(ends) if end[0]]
    if len(packed):
        at = held.index(comm.rank)
        tied[0] |= at > 0 and ends[held[at - 1]][2] == ends[comm.rank][1]
        tied[-1] |= at + 1 < len(held) and ends[held[at + 1]][1] == ends[comm.rank][2]
    order = index_of(packed, n)
    places = order[true_places(tied)]
    tied_counts = exchange_counts(len(places), comm, tied.device)
    if sum(tied_counts):
        carried = [_look_up(keys, places, counts, comm)[None]]
        del keys
        if not _are_ascending(carried[0][0], comm):
            order[true_places(tied)] = carry_by_words(carried, [places[None]], tied_counts, comm)[0][0]
    return order[None]


def _are_ascending(keys: torch.Tensor, comm: Communicator) -> bool:
    """Tell whether a vector that lies on the ranks one part after the other is sorted. One allgather."""
    ends = [len(keys), is_ascending(keys), *(keys[[0, -1]].tolist() if len(keys) else (0, 0))]
    ends = comm.allgather(torch.tensor(ends, device=keys.device)).view(-1, 4).tolist()
    held = [end for end in ends if end[0]]
    return all(end[1] for end in held) and all(a[3] <= b[2] for a, b in pairwise(held))


def _look_up(
    keys: torch.Tensor, places: torch.Tensor, counts: Sequence[int], comm: Communicator
) -> torch.Tensor:
    """Return the keys at some places of the whole vector.

    *Distribution*: collective. One alltoall of counts, one alltoallv of places, one of keys.
    """
    stops = torch.tensor([*accumulate(counts)], device=places.device)
    order, asked = by_owner(torch.searchsorted(stops, places, right=True), comm.size)
    answered = tuple(comm.alltoall(torch.tensor(asked, device=places.device)).tolist())
    wanted = comm.alltoallv(places[order], asked, answered) - sum(counts[: comm.rank])
    told = comm.alltoallv(keys[wanted], answered, asked)
    return torch.empty_like(told).index_copy_(0, order, told)


def _extremes(keys: torch.Tensor, comm: Communicator) -> tuple[int, int]:
    ends = torch.full((2,), _MAX, device=keys.device)
    if keys.numel():
        least, most = torch.aminmax(keys)
        ends = torch.stack([least, ~most])
    least, most = comm.allreduce(ends, "min").tolist()
    return least, ~most


def divide_over_ranks(keys: torch.Tensor, counts: Sequence[int], comm: Communicator) -> torch.Tensor:
    """Reorder `keys`, a vector, and return the p + 1 places that cut it into the pieces of the ranks' sorted parts.

    No key of a piece is greater than one of the next piece, on any rank.
    """
    edges = [*accumulate(counts, initial=0)]
    intervals = _intervals(keys, counts, edges[1:-1], comm)
    places = torch.tensor([0, *_divide(keys, intervals), keys.numel()], device=keys.device)
    reached = comm.allreduce(places).tolist()
    places = places.tolist()
    # Of each cut: the segment between two places in which it lies; none is needed where it falls on a place.
    segments = [bisect_right(reached, edge) - 1 for edge in edges]
    active = sorted({s for s, edge in zip(segments, edges) if reached[s] < edge})
    found = _search(keys, active, places, reached, edges, segments, comm)
    cuts = [found.get(edge, places[s]) for s, edge in zip(segments, edges)]
    return torch.tensor(cuts, device=keys.device)


def _intervals(
    keys: torch.Tensor, counts: Sequence[int], edges: Sequence[int], comm: Communicator
) -> list[tuple[int, int]]:
    """Return disjoint ascending intervals of keys that hold the keys at places `edges` almost surely."""
    share = max(SAMPLED // comm.size, LEAST)
    # A key of rank r stands for counts[r] / share keys; all in multiples of 1 / share, so that integers do.
    pool, weights = _sample(keys, counts, share, comm)
    pool, order = pool.sort(stable=True)
    reached = weights[order].cumsum(0)
    # Four standard deviations of the place of a sampled key: sum of counts**2 / 4 share, at most.
    margin = 2 * math.isqrt(share * sum(n * n for n in counts)) + max(counts)
    intervals: list[tuple[int, int]] = []
    for edge in edges:
        if not 0 < edge < sum(counts):
            continue
        at = torch.tensor([edge * share - margin, edge * share + margin])
        lo, hi = pool[torch.searchsorted(reached, at).clamp_(max=len(pool) - 1)].tolist()
        if intervals and lo <= intervals[-1][1]:
            intervals[-1] = intervals[-1][0], max(hi, intervals[-1][1])
        else:
            intervals.append((lo, hi))
    return intervals


def _sample(
    keys: torch.Tensor, counts: Sequence[int], share: int, comm: Communicator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return `share` random keys of every rank that has any, and how many keys their rank has. One allgather."""
    sample = torch.zeros(share, dtype=torch.int64, device=keys.device)
    if keys.numel():
        generator = torch.Generator().manual_seed(comm.rank)
        sample.copy_(keys[torch.randint(keys.numel(), (share,), generator=generator).to(keys.device)])
    pool = comm.allgather(sample).cpu().reshape(comm.size, share)
    weights = torch.tensor(counts)[:, None].expand(comm.size, share)
    return pool[weights > 0], weights[weights > 0]


def _divide(keys: torch.Tensor, intervals: list[tuple[int, int]]) -> list[int]:
    """Put keys below, inside and above each interval next to each other; return where each interval begins and ends."""
    if not is_on_host(keys):
        sort_rows(keys)
        ends = torch.tensor(intervals, dtype=keys.dtype, device=keys.device).reshape(-1, 2).T.contiguous()
        begins, stops = torch.searchsorted(keys, ends[0]), torch.searchsorted(keys, ends[1], right=True)
        return torch.stack([begins, stops], 1).reshape(-1).tolist()
    return _divide_host(keys.numpy(), intervals)


def _divide_host(keys: np.ndarray, intervals: list[tuple[int, int]]) -> list[int]:
    """Divide at the middle interval, then both sides: each key is looked at log2(p) times."""
    if not intervals:
        return []
    middle = len(intervals) // 2
    lo, hi = (keys.dtype.type(bound) for bound in intervals[middle])
    begin = _count(keys, np.less, lo)
    _partition(keys, begin)
    above = keys[begin:]
    inside = _count(above, np.less_equal, hi)
    _partition(above, inside)
    end = begin + inside
    left = _divide_host(keys[:begin], intervals[:middle])
    right = _divide_host(keys[end:], intervals[middle + 1 :])
    return [*left, begin, end, *(end + place for place in right)]


def _count(keys: np.ndarray, compare: np.ufunc, bound: np.integer) -> int:
    return sum(np.count_nonzero(compare(keys[at : at + _TILE], bound)) for at in range(0, len(keys), _TILE))


def _partition(keys: np.ndarray, place: int) -> None:
    if 0 < place < len(keys):
        keys.partition(place)


def _search(
    keys: torch.Tensor,
    active: list[int],
    places: list[int],
    reached: list[int],
    edges: list[int],
    segments: list[int],
    comm: Communicator,
) -> dict[int, int]:
    """Sort the active segments and return, for each of `edges` in one of them, where it cuts this rank's keys."""
    if not active:
        return {}
    for s in active:
        sort_rows(keys[places[s] : places[s + 1]])
    # One sorted vector of what is active; what was left out below each segment, here and on all ranks.
    joined = torch.cat([keys[places[s] : places[s + 1]] for s in active])
    here, everywhere, local, total = {}, {}, 0, 0
    for s in active:
        here[s], everywhere[s] = places[s] - local, reached[s] - total
        local += places[s + 1] - places[s]
        total += reached[s + 1] - reached[s]
    wanted = sorted({(edge, s) for s, edge in zip(segments, edges) if reached[s] < edge})
    targets = torch.tensor([edge - everywhere[s] for edge, s in wanted], device=keys.device)
    found = find_places(joined[None], targets, comm)[0].tolist()
    return {edge: place + here[s] for (edge, s), place in zip(wanted, found)}
