"""Engine of sorting along the split axis: sort locally, cut exactly, exchange once, merge.

All columns are sorted at once: this file sees the ranks' parts as integer keys (see ``sort_keys``) of shape
(columns, n), and cuts them where the merged column is cut by the layout of the result. The cuts are exact order
statistics, found by counting below 2**b probes at a time, b bits of the key per round: the number of rounds is at most
64 / b whatever the data, and every round is one allreduce of the counts of all columns and cuts. Equal keys go to the
lower ranks first in the order of the ranks, so everything here is stable.

It knows nothing of dtypes, arrays or layouts.

References
----------
P. J. Varman, S. D. Scheufler, B. R. Iyer, G. R. Ricard, Merging multiple lists on hierarchical-memory multiprocessors,
Journal of Parallel and Distributed Computing 12, 1991, doi:10.1016/0743-7315(91)90022-2 (exact cuts of many runs).
L. V. Kale, S. Krishnan, A comparison based parallel sorting algorithm, ICPP 1993, doi:10.1109/ICPP.1993.18 (cuts from
counts below probes).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
import torch
from ht_comm import Communicator

#: Most counts in one round of the search for cuts.
_COUNTS = 1 << 16
_TILE = 1 << 20
#: Keys by which it is seen whether leading bits tell keys apart.
FEW = 1 << 10
_MAX = torch.iinfo(torch.int64).max

# -- local kernels ----------------------------------------------------------------------------------------------


def is_on_host(keys: torch.Tensor) -> bool:
    """Tell whether NumPy can work on the memory of a tensor."""
    return keys.device.type == "cpu"


def sort_rows(keys: torch.Tensor) -> torch.Tensor:
    """Sort along the last axis in place; return `keys`, which are contiguous."""
    if not is_on_host(keys):
        return keys.copy_(torch.sort(keys)[0])
    # NumPy sorts in place with vector instructions, 3-20 times faster than torch; narrow integers by counting.
    keys.numpy().sort(axis=-1, kind="stable" if keys.itemsize <= 2 else None)
    return keys


def argsort_rows(keys: torch.Tensor) -> torch.Tensor:
    """Return int64 indices along the last axis that sort the keys, equal keys in their order."""
    if not is_on_host(keys):
        return torch.sort(keys, stable=True)[1]
    words = with_index(keys)
    if words is not None:
        bits = index_bits(keys.shape[-1])
        return sort_rows(words).bitwise_and_((1 << bits) - 1)
    if keys.numel() == keys.shape[-1] >= _TILE and keys.itemsize == 8:
        return _argsort_by_leading_bits(keys.reshape(-1)).view(keys.shape)
    return _argsort_by_keys(keys)


def _argsort_by_keys(keys: torch.Tensor) -> torch.Tensor:
    order = torch.from_numpy(np.argsort(keys.numpy(), axis=-1))
    _order_ties(keys, order)
    return order


def _argsort_by_leading_bits(keys: torch.Tensor) -> torch.Tensor:
    """Sort a vector by as many leading bits as fit into a word with the place, then those that have these in common."""
    n = len(keys)
    bounds = torch.stack(torch.aminmax(keys)).tolist()
    if not do_leading_bits(keys[:: max(n // FEW, 1)], n, *bounds):
        return _argsort_by_keys(keys)
    packed = sort_rows(with_leading_bits(keys, 0, n, *bounds))
    slots = torch.from_numpy(np.flatnonzero(ties_of_leading_bits(packed, n).numpy()))
    order = index_of(packed, n)
    if len(slots):  # groups of them follow each other in the order of their keys already
        places = order[slots]
        tied = keys[places]
        if not is_ascending(tied):
            order[slots] = places[_argsort_by_keys(tied)]
    return order


def merge_order(keys: torch.Tensor) -> torch.Tensor:
    """Return what :func:`argsort_rows` does, for rows that consist of a few sorted runs."""
    if not is_on_host(keys):
        return argsort_rows(keys)
    return torch.from_numpy(np.argsort(keys.numpy(), axis=-1, kind="stable"))


def with_index(
    keys: torch.Tensor,
    offset: int = 0,
    n: int | None = None,
    least: int | None = None,
    most: int | None = None,
) -> torch.Tensor | None:
    """Return (key, index along the last axis) as one int64 word each, or None where both do not fit into one.

    Words are all different and in the order of the keys, so sorting them sorts the keys stably, at the speed of
    sorting plain integers. The index is in the lowest bits.

    Parameters
    ----------
    keys : torch.Tensor
        Integers. Not changed.
    offset, n : int
        Index of the first key, and a bound of all indices; the extent of the last axis by default.
    least, most : int
        Bounds of the keys; looked up where 64-bit keys have none given.
    """
    n = keys.shape[-1] if n is None else n
    bits = index_bits(n)
    if keys.itemsize < 8:
        least = torch.iinfo(keys.dtype).min
        most = torch.iinfo(keys.dtype).max
    elif least is None and keys.numel():
        least, most = torch.stack(torch.aminmax(keys)).tolist()
    elif least is None:
        least = most = 0
    if (most - least).bit_length() + bits > 63:
        return None
    words = keys.to(torch.int64, copy=True).sub_(least).bitwise_left_shift_(bits)
    return words.bitwise_or_(torch.arange(offset, offset + keys.shape[-1], device=keys.device))


def with_leading_bits(keys: torch.Tensor, offset: int, n: int, least: int, most: int) -> torch.Tensor:
    """Return words as :func:`with_index` does of a vector in [least, most], without the last bits of the keys."""
    bits, shift = index_bits(n), _last_bits(n, least, most)
    words = keys.bitwise_right_shift(shift).sub_(least >> shift).bitwise_left_shift_(bits)
    return words.bitwise_or_(torch.arange(offset, offset + len(keys), device=keys.device))


def do_leading_bits(sample: torch.Tensor, n: int, least: int, most: int) -> bool:
    """Tell whether leading bits tell apart most keys of a sample that differ."""
    found = sample.unique()
    return 2 * len((found >> _last_bits(n, least, most)).unique()) > len(found)


def _last_bits(n: int, least: int, most: int) -> int:
    bits, shift = index_bits(n), 0
    while ((most >> shift) - (least >> shift)).bit_length() + bits > 63:
        shift += 1
    return shift


def ties_of_leading_bits(words: torch.Tensor, n: int) -> torch.Tensor:
    """Return which of the sorted words, a vector, have the key of the one before or after them."""
    bits = index_bits(n)
    tied = torch.zeros(len(words), dtype=torch.bool, device=words.device)
    for at in range(0, len(words) - 1, _TILE):
        ranked = words[at : at + _TILE + 1] >> bits
        same = ranked[1:] == ranked[:-1]
        tied[at : at + len(same)] |= same
        tied[at + 1 : at + 1 + len(same)] |= same
    return tied


def is_ascending(keys: torch.Tensor) -> bool:
    """Tell whether no key of a vector is less than the one before."""
    tiles = (keys[at : at + _TILE + 1] for at in range(0, len(keys) - 1, _TILE))
    return all(bool((tile[:-1] <= tile[1:]).all()) for tile in tiles)


def index_of(words: torch.Tensor, n: int) -> torch.Tensor:
    """Return the indices below `n` in words made by :func:`with_index`, in their memory."""
    return words.bitwise_and_((1 << index_bits(n)) - 1)


def index_bits(n: int) -> int:
    return max(n - 1, 0).bit_length()


def _order_ties(keys: torch.Tensor, order: torch.Tensor) -> None:
    """Put the indices of equal keys into ascending order, in place."""
    ranked = torch.take_along_dim(keys, order, -1)
    same = ranked[..., 1:] == ranked[..., :-1]
    if not bool(same.any()):
        return
    tied = torch.zeros(keys.shape, dtype=torch.bool)
    tied[..., 1:] = same
    starts = ~tied
    tied[..., :-1] |= same
    groups = starts[tied].to(torch.int64).cumsum_(0)
    bits = index_bits(keys.shape[-1])
    words = groups.bitwise_left_shift_(bits).bitwise_or_(order[tied])
    order[tied] = sort_rows(words).bitwise_and_((1 << bits) - 1)


def lexicographic_order(words: Sequence[torch.Tensor]) -> torch.Tensor:
    """Return int64 indices that sort by the first word, ties by the next and so on, remaining ties in their order.

    Only elements that are tied in all words so far are looked at again.

    Parameters
    ----------
    words : sequence of torch.Tensor, shape (n,)
        Integers, the most significant first.
    """
    order = argsort_rows(words[0])
    if order.numel() < 2:
        return order
    ranked = words[0][order]
    starts = torch.ones_like(order, dtype=torch.bool)
    torch.ne(ranked[1:], ranked[:-1], out=starts[1:])
    for word in words[1:]:
        tied = ~starts
        tied[:-1] |= ~starts[1:]
        places = tied.nonzero().reshape(-1)
        if not places.numel():
            break
        group = starts[places].to(torch.int64).cumsum_(0)
        here = word[order[places]]
        by_word = argsort_rows(here)
        by_both = by_word[argsort_rows(group[by_word])]
        order[places] = order[places][by_both]
        ranked = here[by_both]
        # `group` is in order already, so it is the group of the reordered elements, too.
        starts[places[1:]] = (group[1:] != group[:-1]) | (ranked[1:] != ranked[:-1])
    return order


# -- over ranks -------------------------------------------------------------------------------------------------


def merge_over_ranks(keys: torch.Tensor, counts: Sequence[int], comm: Communicator) -> torch.Tensor:
    """Return this rank's part of the sorted columns.

    Parameters
    ----------
    keys : torch.Tensor, shape (columns, counts[rank])
        Integers, contiguous, sorted along the last axis.
    counts : sequence of int
        Extent of every rank's part, before and after; with the extent of no column 0.

    *Distribution*: collective. One allreduce of the extremes, at most 64 / b of counts, one exscan of the numbers of
    equal keys, one alltoall of counts, one alltoallv in which each key is sent at most once. Memory: the result, and
    for several columns a packed copy of it and of `keys`.
    """
    (merged,) = send_pieces([keys], find_cuts(keys, counts, comm), comm)
    return sort_rows(merged)


def carry_over_ranks(
    carried: list[torch.Tensor], counts: Sequence[int], comm: Communicator
) -> list[torch.Tensor]:
    """Return this rank's part of the passengers in the stable order of keys.

    Parameters
    ----------
    carried : list of torch.Tensor, shape (columns, counts[rank])
        The keys, then the passengers. Emptied, so that memory is given back as early as can be.

    *Distribution*: collective, as :func:`merge_over_ranks`, and one more alltoallv for each passenger. Memory: twice
    the keys and passengers.
    """
    order = argsort_rows(carried[0])
    for at in range(len(carried)):
        carried[at] = torch.take_along_dim(carried[at], order, -1)
    del order
    received = send_pieces(carried, find_cuts(carried[0], counts, comm), comm)
    order = merge_order(received.pop(0))
    for at in range(len(received)):
        received[at] = torch.take_along_dim(received[at], order, -1)
    return received


def carry_by_words(
    words: list[torch.Tensor], passengers: Sequence[torch.Tensor], counts: Sequence[int], comm: Communicator
) -> list[torch.Tensor]:
    """Return this rank's part of `passengers` in the stable lexicographic order of `words`, the most significant first.

    `words` is emptied.

    *Distribution*: collective; :func:`carry_over_ranks` once for each word, the least significant first.
    """
    carried = list(passengers)
    while words:
        keys = [words.pop()]
        others = len(words)
        carried = carry_over_ranks([*keys, *words, *carried], counts, comm)
        words[:], carried = carried[:others], carried[others:]
    return carried


def find_cuts(keys: torch.Tensor, counts: Sequence[int], comm: Communicator) -> torch.Tensor:
    """Return where this rank's sorted columns are cut so that rank r gets places displs[r] .. of the merged columns.

    Parameters
    ----------
    keys : torch.Tensor, shape (columns, n)
        Sorted along the last axis.
    counts : sequence of int
        Extent of every rank's part of the merged columns.

    Returns
    -------
    torch.Tensor, int64, shape (columns, p + 1)

    *Distribution*: collective; see :func:`merge_over_ranks`.
    """
    columns, n = keys.shape
    edges = [*accumulate(counts, initial=0)]
    targets = sorted({edge for edge in edges if 0 < edge < edges[-1]})
    cuts = torch.zeros(columns, comm.size + 1, dtype=torch.int64, device=keys.device)
    if targets:
        found = find_places(keys, torch.tensor(targets, device=keys.device), comm)
    for at, edge in enumerate(edges):
        if edge == edges[-1]:
            cuts[:, at] = n
        elif edge:
            cuts[:, at] = found[:, targets.index(edge)]
    return cuts


def find_places(keys: torch.Tensor, targets: torch.Tensor, comm: Communicator) -> torch.Tensor:
    """Return, of shape (columns, targets), how many of this rank's keys belong to the first ``targets[t]`` of all.

    The key at place ``targets[t]`` is found digit by digit: of the 2**b keys that close the intervals of the next b
    bits, the first with more than ``targets[t]`` keys up to it closes the interval that holds the answer.
    """
    base = torch.iinfo(keys.dtype).min  # keys - base is never negative, if its bits are read as unsigned
    prefix, shift = _common_prefix(keys, base, comm)
    prefix = prefix.expand(-1, len(targets)).contiguous()
    below = torch.zeros_like(prefix)
    done = torch.zeros_like(prefix, dtype=torch.bool)
    result = torch.zeros_like(prefix)
    most = max(1, min(8, (_COUNTS // prefix.numel()).bit_length() - 1))
    while shift > 0 and not bool(done.all()):
        width = min(most, shift)
        shift -= width
        digits = torch.arange((1 << width) - 1, device=keys.device)
        probes = prefix[..., None] | (digits << shift) | ((1 << shift) - 1)
        here = _places(keys, probes + base, right=True)
        upto = comm.allreduce(here)
        digit = (upto <= targets[:, None]).sum(-1)
        last = (digit - 1).clamp_(min=0)[..., None]
        passed = digit > 0
        below = torch.where(passed, upto.gather(-1, last)[..., 0], below)
        hit = passed & (below == targets) & ~done  # cut between two keys: no key needs to be divided
        result = torch.where(hit, here.gather(-1, last)[..., 0], result)
        done |= hit
        prefix |= digit << shift
    if bool(done.all()):
        return result
    left = _places(keys, prefix[..., None] + base, right=False)[..., 0]
    equal = _places(keys, prefix[..., None] + base, right=True)[..., 0].sub_(left)
    # The first of the equal keys, in the order of the ranks, belong to the lower side.
    quota = targets - below - comm.exscan(equal)
    return torch.where(done, result, left + torch.minimum(quota.clamp_(min=0), equal))


def _common_prefix(keys: torch.Tensor, base: int, comm: Communicator) -> tuple[torch.Tensor, int]:
    """Return the leading bits that all keys of a column share, shape (columns, 1), and how many bits are left."""
    if keys.shape[-1]:
        ends = torch.stack([keys[:, 0].to(torch.int64), ~keys[:, -1].to(torch.int64)])
    else:
        ends = torch.full((2, keys.shape[0]), _MAX, device=keys.device)
    least, most = comm.allreduce(ends, "min").unbind(0)
    least, most = least - base, ~most - base
    differing = least ^ most
    shift = 64 if bool((differing < 0).any()) else int(differing.max()).bit_length()
    prefix = torch.zeros_like(least) if shift == 64 else (least >> shift) << shift
    return prefix[:, None], shift


def _places(keys: torch.Tensor, probes: torch.Tensor, right: bool) -> torch.Tensor:
    """Return where int64 probes of shape (columns, ...) would stand in the columns; the same shape."""
    flat = probes.flatten(1).to(keys.dtype)
    return torch.searchsorted(keys, flat, right=right).view(probes.shape)


def send_pieces(parts: list[torch.Tensor], cuts: torch.Tensor, comm: Communicator) -> list[torch.Tensor]:
    """Send each rank its piece of every column; return columns that consist of one run from each rank, in rank order.

    `cuts` are this rank's, of shape (columns, p + 1), and the same for all of `parts`. All columns of the result have
    the same extent. `parts` is emptied.
    """
    columns = cuts.shape[0]
    sent = cuts.diff(dim=1).T.contiguous()  # (p, columns)
    got = comm.alltoall(sent)
    send_counts, recv_counts = (tuple(lengths.sum(1).tolist()) for lengths in (sent, got))
    n = sum(recv_counts) // columns
    results = []
    parts.reverse()
    while parts:
        packed = parts.pop()
        extent = packed.shape[1]
        packed = packed.reshape(-1)
        if columns > 1:
            starts = cuts[:, :-1].T + torch.arange(columns, device=packed.device) * extent
            packed = copy_segments(packed, starts.reshape(-1), sent.reshape(-1))
        moved = comm.alltoallv(packed, send_counts, recv_counts)
        if columns > 1:
            # Segments arrive by (source, column) and go to (column, source).
            starts = (got.reshape(-1).cumsum(0) - got.reshape(-1)).view(got.shape).T.reshape(-1)
            moved = copy_segments(moved, starts, got.T.reshape(-1))
        results.append(moved.view(columns, n))
    return results


def copy_segments(source: torch.Tensor, starts: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Return segments of a vector one after the other."""
    total = int(lengths.sum())
    out = torch.empty(total, dtype=source.dtype, device=source.device)
    if total >= 2048 * lengths.numel() and is_on_host(source):
        at = 0
        for start, length in zip(starts.tolist(), lengths.tolist()):
            out[at : at + length] = source[start : start + length]
            at += length
        return out
    ends = lengths.cumsum(0)
    shifts = starts - ends + lengths
    for first in range(0, total, _TILE):
        places = torch.arange(first, min(first + _TILE, total), device=source.device)
        torch.index_select(
            source,
            0,
            places + shifts[torch.searchsorted(ends, places, right=True)],
            out=out[first : first + len(places)],
        )
    return out
