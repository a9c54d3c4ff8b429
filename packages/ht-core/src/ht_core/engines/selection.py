"""Exact order statistics of distributed columns without sorting or moving them.

An interval known to hold the wanted element of each column is narrowed: a small random sample of the elements in it,
gathered from all ranks, names a bracket of a few percent that holds the element almost surely; one pass over the data
counts what lies below and inside the bracket, and one allreduce says exactly where the element is. What lies inside is
kept (if it is little) and is all that the next round looks at. When a few thousand elements are left they are gathered
and sorted. A bracket that misses costs one more round; after some rounds the bracket is the middle of the interval in
the order of bit patterns, which bounds their number for any data.

Every decision follows from counts that all ranks have, so all ranks send the same. Brackets come from sums of
integers and from single operations that every processor rounds in the same way, never from floating-point sums, whose
order differs between processors: a bracket is the same number on all ranks. Samples come from generators with
fixed seeds: results do not depend on them, only the way there.

References
----------
R. W. Floyd, R. L. Rivest, Expected time bounds for selection, Communications of the ACM 18, 1975,
doi:10.1145/360680.360691.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from ht_comm import Communicator

from .selection_pass import Kept, Source, Tiles

#: Elements of all ranks that may be gathered in one message.
GATHERED = 1 << 15
#: Sampled elements of all ranks together.
SAMPLED = 1 << 18
#: Elements of one rank that may be kept from one round to the next.
KEPT = 1 << 21
#: Rounds with sampled brackets before bisection takes over.
PATIENCE = 8


@dataclass(slots=True)
class Search:
    """What is known of each wanted element: tensors of shape (columns, wanted), equal on all ranks.

    The element of rank `k` lies in [low, high]; `below` elements of the column are less than `low`, and `upto` are not
    greater than `high`. Where low = high it is found.
    """

    k: torch.Tensor
    low: torch.Tensor
    high: torch.Tensor
    below: torch.Tensor
    upto: torch.Tensor

    @property
    def is_open(self) -> torch.Tensor:
        return self.low < self.high

    def learn(
        self, lo: torch.Tensor, hi: torch.Tensor, less: torch.Tensor, within: torch.Tensor
    ) -> torch.Tensor:
        """Narrow the intervals, given the numbers of elements below `lo` and in [lo, hi]; return where these miss."""
        left = self.is_open & (self.k < less)
        right = self.is_open & (self.k >= less + within)
        inside = self.is_open & ~left & ~right
        self.high = torch.where(left, _before(lo), torch.where(inside, hi, self.high))
        self.low = torch.where(right, _after(hi), torch.where(inside, lo, self.low))
        self.below = torch.where(right, less + within, torch.where(inside, less, self.below))
        self.upto = torch.where(left, less, torch.where(inside, less + within, self.upto))
        return left | right


def select(
    view: torch.Tensor,
    reduced: int,
    k: torch.Tensor,
    needs_next: torch.Tensor,
    n: int,
    comm: Communicator,
    numbers: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the elements of given ranks of each column, and the next greater ones.

    Parameters
    ----------
    view : torch.Tensor
        This rank's rows: the first `reduced` axes run over rows, the others over columns. Not changed.
    reduced : int
        How many axes run over rows.
    k : torch.Tensor
        int64 of shape (columns, wanted): ranks from 0, the same on all ranks. NaN has no rank.
    needs_next : torch.Tensor
        bool of the same shape: where the element of rank k + 1 is wanted, too.
    n : int
        Rows of all ranks.
    comm : Communicator
        The ranks that hold rows.
    numbers : torch.Tensor, optional
        int64 of shape (columns,): how many elements of all ranks are not NaN, where NaN is to be left out.

    Returns
    -------
    low, high : torch.Tensor
        Of shape (columns, wanted) in the dtype of the ordered image (float32 for 16-bit floats); equal where the next
        element is not wanted.
    has_nan : torch.Tensor
        bool of shape (columns,): the column holds NaN, and its results are not defined unless `numbers` is given.

    *Distribution*: collective. 2 small messages per round, 2 to 4 rounds, and 2 or 3 at the end; each rank
    contributes at most a share of 2 MiB (samples) or 256 KiB (the last elements).
    """
    return search(Tiles(view, reduced, k.shape[1], n), k, needs_next, n, comm, numbers)


def search(
    tiles: Source,
    k: torch.Tensor,
    needs_next: torch.Tensor,
    n: int,
    comm: Communicator,
    numbers: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return what :func:`select` does, of the columns (or groups) of any source of elements.

    The source has a `dtype` and ``least_above`` beside what every source has. With `numbers`, its groups may differ in
    size, and be empty.
    """
    found = _widest(tiles, k, n)
    if numbers is not None:
        found.upto = numbers[:, None].expand(k.shape)
        found.high = torch.where(found.upto > 0, found.high, found.low)
    source: Source = tiles
    has_nan = torch.zeros(k.shape[0], dtype=torch.bool, device=k.device)
    rounds = 0
    while rounds == 0 or int(torch.where(found.is_open, found.upto - found.below, 0).sum()) > GATHERED:
        bisects = rounds >= PATIENCE
        lo, hi = _middle(found) if bisects else _bracket(source, found, comm, rounds)
        lo, hi = _closed(found, lo, hi)
        less, within, nan, kept = _count(source, tiles, lo, hi, comm, rounds == 0)
        if rounds == 0:
            has_nan = nan
            if numbers is None:  # nothing to look for
                found.high = torch.where(has_nan[:, None], found.low, found.high)
        missed = found.learn(lo, hi, less, within)
        if kept is not None and not bool(missed.any()):
            source = kept
            source.base = less
        rounds += 1
    return (*_finish(source, tiles, found, needs_next, comm), has_nan)


def _widest(tiles: Source, k: torch.Tensor, n: int) -> Search:
    dtype = tiles.dtype
    limits = (
        (-math.inf, math.inf) if dtype.is_floating_point else (torch.iinfo(dtype).min, torch.iinfo(dtype).max)
    )
    low, high = (torch.full(k.shape, v, dtype=dtype, device=k.device) for v in limits)
    return Search(k, low, high, torch.zeros_like(k), torch.full_like(k, n))


def _bracket(source: Source, found: Search, comm: Communicator, rounds: int) -> tuple:
    """Choose brackets around the wanted elements from a gathered sample of the elements in question."""
    groups = source.groups
    share = min(SAMPLED // max(groups, 1), 8192, source.per_group // 8) // comm.size
    share = max(share, 8)
    generator = torch.Generator().manual_seed(1_000_003 * rounds + comm.rank)
    values, counts = source.sample(share, generator)
    gathered, weights = _gather_samples(values, counts, comm)
    order = _argsort_rows(gathered)
    gathered, weights = gathered.gather(1, order), weights.gather(1, order)
    wanted = found.k.shape[1]
    if source.groups != found.k.numel():  # tiles: one sample serves all wanted elements of a column
        gathered, weights = (x.repeat_interleave(wanted, dim=0) for x in (gathered, weights))
    flat = [
        x.reshape(-1, 1) for x in (found.low, found.high, found.k - found.below, found.upto - found.below)
    ]
    low, high, rank, extent = flat
    weights = torch.where((gathered >= low) & (gathered <= high), weights, 0)
    cumulated = weights.cumsum(1)
    total = cumulated[:, -1:]
    # Samples that count, at least: sum(w)**2 / sum(w**2) >= sum(w) / max(w).
    size = total.double() / weights.amax(1, keepdim=True).clamp_(min=1)
    share_below = (rank + 0.5).double() / extent
    margin = 4 * torch.sqrt(share_below * (1 - share_below) / size) + 2 / size
    start, stop = share_below - margin, share_below + margin
    last = gathered.shape[1] - 1
    lo, hi, point = (
        gathered.gather(1, torch.searchsorted(cumulated, (at * total).ceil().long()).clamp(max=last))
        for at in (start, stop, share_below)
    )
    lo = torch.where((start > 0) & (lo >= low) & (lo <= high), lo, low)
    hi = torch.where((stop < 1) & (hi >= lo) & (hi <= high), hi, high)
    # Few different values: a bracket as wide as the interval teaches nothing. One value always does.
    stalls = (lo == low) & (hi == high) & (point >= low) & (point <= high)
    lo, hi = torch.where(stalls, point, lo), torch.where(stalls, point, hi)
    return lo.reshape(found.k.shape), hi.reshape(found.k.shape)


def _argsort_rows(x: torch.Tensor) -> torch.Tensor:
    return x.argsort(dim=1) if x.is_cuda else torch.from_numpy(x.numpy().argsort(axis=1))


def _gather_samples(values: torch.Tensor, counts: torch.Tensor, comm: Communicator) -> tuple:
    """Return the samples of all ranks, and how many elements each rank's samples stand for together. One message."""
    groups, share = values.shape
    sent = torch.cat([counts[:, None].view(torch.uint8), values.view(torch.uint8)], dim=1)
    got = comm.allgather(sent, axis=1).reshape(groups, comm.size, sent.shape[1])
    weights = _read(got[:, :, :8], torch.int64).reshape(groups, comm.size, 1)
    gathered = _read(got[:, :, 8:], values.dtype).reshape(groups, comm.size * share)
    return gathered, weights.expand(groups, comm.size, share).reshape(gathered.shape)


def _middle(found: Search) -> tuple:
    low, high = to_key(found.low), to_key(found.high)
    middle = from_key((low & high) + ((low ^ high) >> 1), found.low.dtype)
    return middle, middle


def _closed(found: Search, lo: torch.Tensor, hi: torch.Tensor) -> tuple:
    """Give found elements the empty bracket, so that nothing is kept for them."""
    return torch.where(found.is_open, lo, found.high), torch.where(found.is_open, hi, _before(found.high))


def _count(source: Source, tiles: Tiles, lo, hi, comm: Communicator, is_first: bool) -> tuple:
    """Count, over all ranks, the elements below and inside the brackets, and keep the latter if they are few."""
    less, within, nan, kept = source.count(lo, hi, KEPT, looks_for_nan=is_first)
    too_many = torch.tensor([kept is None], device=less.device)
    sent = [less.reshape(-1), within.reshape(-1), nan.to(torch.int64), too_many.to(torch.int64)]
    total = comm.allreduce(torch.cat(sent))
    less_, within_, nan_, dropped = total.split([x.numel() for x in sent])
    less_, within_ = less_.reshape(lo.shape), within_.reshape(lo.shape)
    if bool(dropped):
        return less_ + source.base, within_, nan_ > 0, None
    kept.per_group = int(within_.sum()) // max(kept.groups, 1)
    return less_ + source.base, within_, nan_ > 0, kept


def _finish(source: Source, tiles: Tiles, found: Search, needs_next, comm: Communicator) -> tuple:
    """Gather the elements still in question, and pick."""
    shape = found.k.shape
    value, following = found.low.clone().reshape(-1), torch.zeros_like(found.low).reshape(-1)
    is_open = found.is_open.reshape(-1)
    has_next = torch.zeros_like(is_open)
    if bool(is_open.any()):
        lo, hi = _closed(found, found.low, found.high)
        _, _, _, kept = source.count(lo, hi, 1 << 62, looks_for_nan=False)
        values, groups = _gather(kept, comm)
        values, order = values.sort()
        groups, second = groups[order].sort(stable=True)
        values = values[second]
        starts = torch.searchsorted(
            groups, torch.arange(is_open.numel(), device=groups.device, dtype=groups.dtype)
        )
        place = starts + (found.k - found.below).reshape(-1)
        value[is_open] = values[place[is_open]]
        has_next = is_open & (found.k + 1 < found.upto).reshape(-1)
        following[has_next] = values[place[has_next] + 1]
    # Found by low = high: `upto` elements are not greater.
    repeats = ~is_open & (found.k + 1 < found.upto).reshape(-1)
    following = torch.where(repeats, value, following)
    has_next |= repeats
    value, following, has_next = (x.reshape(shape) for x in (value, following, has_next))
    missing = needs_next & ~has_next
    if bool(missing.any()):
        more = comm.allreduce(tiles.least_above(value), "min")
        following = torch.where(missing, more, following)
    return value, torch.where(needs_next, following, value)


def _gather(kept: Kept, comm: Communicator) -> tuple:
    """Return the kept elements of all ranks and the group of each."""
    lengths = comm.allgather(torch.tensor([kept.values.numel()])).tolist()
    width = kept.values.element_size()
    ids = kept.group_ids().to(torch.int32)
    sent = torch.cat([kept.values[:, None].view(torch.uint8), ids[:, None].view(torch.uint8)], dim=1)
    got = comm.allgatherv(sent, lengths)
    return _read(got[:, :width], kept.values.dtype), _read(got[:, width:], torch.int32)


def _read(raw: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the elements of `dtype` that bytes hold, in one dimension; a clone, for views must be aligned."""
    return raw.flatten().clone().view(dtype)


# -- neighbours in the order of a dtype -----------------------------------------------------------------------


def _before(x: torch.Tensor) -> torch.Tensor:
    return torch.nextafter(x, torch.full_like(x, -math.inf)) if x.is_floating_point() else x - 1


def _after(x: torch.Tensor) -> torch.Tensor:
    return torch.nextafter(x, torch.full_like(x, math.inf)) if x.is_floating_point() else x + 1


def to_key(x: torch.Tensor) -> torch.Tensor:
    """Map floats to integers in the same order; -0.0 comes right before 0.0."""
    if not x.is_floating_point():
        return x.to(torch.int64)
    bits = x.view(torch.int32 if x.dtype is torch.float32 else torch.int64)
    return bits ^ ((bits >> (8 * bits.itemsize - 1)) & torch.iinfo(bits.dtype).max)


def from_key(key: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    if not dtype.is_floating_point:
        return key.to(dtype)
    return (key ^ ((key >> (8 * key.itemsize - 1)) & torch.iinfo(key.dtype).max)).view(dtype)
