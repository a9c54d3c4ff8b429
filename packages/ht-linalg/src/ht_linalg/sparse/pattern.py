"""Compressed rows on one rank: sorted, without duplicates. No messages, no layouts.

"Major" is the compressed axis (rows of CSR, columns of CSC), "minor" the other one.
"""

from __future__ import annotations

from typing import NamedTuple

import torch


class Entries(NamedTuple):
    """Entries one by one: places along both axes, int64, and values."""

    major: torch.Tensor
    minor: torch.Tensor
    values: torch.Tensor

    def pick(self, which: torch.Tensor) -> Entries:
        """Return some of them, by mask or index."""
        return Entries(*(part[which] for part in self))


class Compressed(NamedTuple):
    """Entries in order of major, then minor; those of major i are ``indptr[i] .. indptr[i + 1]``."""

    indptr: torch.Tensor
    indices: torch.Tensor
    values: torch.Tensor

    @property
    def n_major(self) -> int:
        """Extent of the major axis."""
        return self.indptr.shape[0] - 1

    def expand(self) -> Entries:
        """Return the entries one by one."""
        counts = self.indptr.diff()
        major = torch.arange(self.n_major, device=counts.device).repeat_interleave(
            counts, output_size=self.values.shape[0]
        )
        return Entries(major, self.indices, self.values)

    def cut(self, start: int, stop: int) -> Compressed:
        """Return some of the major axis."""
        first, last = int(self.indptr[start]), int(self.indptr[stop])
        return Compressed(
            self.indptr[start : stop + 1] - first, self.indices[first:last], self.values[first:last]
        )


def compress(entries: Entries, n_major: int, n_minor: int) -> Compressed:
    """Return the entries in order; those of one place are added up (of bool: whether any is true)."""
    major, minor, values = entries
    keys = major * max(n_minor, 1) + minor
    if not bool((keys[1:] > keys[:-1]).all()):
        keys, order = keys.sort(stable=True)
        values = values[order]
        keys, place = torch.unique_consecutive(keys, return_inverse=True)
        values = add_up(place, values, keys.shape[0]) if keys.shape != values.shape else values
    starts = torch.arange(n_major + 1, device=keys.device) * max(n_minor, 1)
    return Compressed(torch.searchsorted(keys, starts), keys % max(n_minor, 1), values)


def transpose(block: Compressed, n_minor: int) -> Compressed:
    """Return the same entries compressed along the other axis."""
    major, minor, values = block.expand()
    return compress(Entries(minor, major, values), n_minor, block.n_major)


#: dtype of sums where it is not that of the values.
SUMS = {torch.bool: torch.int64, torch.float16: torch.float32, torch.bfloat16: torch.float32}


def add_up(place: torch.Tensor, values: torch.Tensor, n: int) -> torch.Tensor:
    """Return n sums of values (rows of values): value i is added to sum ``place[i]``."""
    dtype = values.dtype
    sums = torch.zeros((n, *values.shape[1:]), dtype=SUMS.get(dtype, dtype), device=values.device)
    return sums.index_add_(0, place, values.to(sums.dtype)).to(dtype)


def keys_of(block: Compressed, n_minor: int) -> torch.Tensor:
    """Return the places of entries as ascending integers."""
    entries = block.expand()
    return entries.major * max(n_minor, 1) + entries.minor
