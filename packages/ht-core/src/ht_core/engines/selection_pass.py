"""One pass over the data of a selection: sample, count below and inside brackets, keep what is inside.

Two sources of elements answer the same questions: :class:`Tiles`, this rank's rows, read in transposed tiles that stay
in cache; and :class:`Kept`, the few elements that an earlier pass has kept. This module sends nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch

from .index_local import true_places
from .ordered import to_ordered

#: Elements of a tile.
TILE = 1 << 17


class Source:
    """Elements in groups. A group is a column, or one wanted element of a column.

    Attributes
    ----------
    groups : int
    base : torch.Tensor or int
        Elements of the whole data that are less than those of the source, per wanted element.
    per_group : int
        Elements of a group on all ranks, on the average.
    """

    groups: int
    base: torch.Tensor | int = 0
    per_group: int

    def sample(self, share: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        """Return `share` elements of each group, drawn with replacement, and how many the group has here."""
        raise TypeError(f"sample: a source must say how to sample, got {type(self).__name__}")

    def count(self, lo: torch.Tensor, hi: torch.Tensor, limit: int, looks_for_nan: bool) -> tuple:
        """Count the elements below and inside the brackets.

        Returns
        -------
        less, within : torch.Tensor
            int64 of the shape of `lo`.
        nan : torch.Tensor
            bool per column: has NaN; not looked for unless `looks_for_nan`.
        kept : Kept or None
            The elements inside; None where there are more than `limit`.
        """
        raise TypeError(f"count: a source must say how to count, got {type(self).__name__}")


def comparable(x: torch.Tensor) -> torch.Tensor:
    """Return elements in a dtype that is fast to compare, in the same order."""
    x = to_ordered(x)
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _count_true(mask: torch.Tensor) -> torch.Tensor:
    """Return the number of true elements of each row; a row of a tile has fewer than 2**31."""
    return mask.view(torch.uint8).sum(1, dtype=torch.int32).to(torch.int64)


class Tiles(Source):
    """This rank's rows."""

    def __init__(self, view: torch.Tensor, reduced: int, wanted: int, n: int) -> None:
        self.view, self.reduced, self.wanted = view, reduced, wanted
        self.groups = math.prod(view.shape[reduced:])
        self.rows = math.prod(view.shape[:reduced])
        self.dtype = comparable(view[:0]).dtype
        self.per_group = n

    def __iter__(self) -> Iterator[torch.Tensor]:
        """Yield tiles of shape (columns, rows)."""
        return self._cut(self.view, self.reduced)

    def _cut(self, view: torch.Tensor, reduced: int) -> Iterator[torch.Tensor]:
        if view.numel() == 0:
            return
        per_row = view.numel() // view.shape[0] if reduced else view.numel()
        if reduced > 1 and per_row > TILE:
            for piece in view.unbind(0):
                yield from self._cut(piece, reduced - 1)
            return
        step = max(TILE // max(per_row, 1), 1) if reduced else 1
        for start in range(0, view.shape[0], step):
            piece = view[start : start + step]
            rows = math.prod(piece.shape[:reduced])
            yield comparable(piece.reshape(rows, self.groups).T).contiguous()

    def sample(self, share: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        device = self.view.device
        counts = torch.full((self.groups,), self.rows, device=device)
        if self.rows == 0:
            return torch.zeros((self.groups, share), dtype=self.dtype, device=device), counts
        place = torch.randint(self.rows, (share,), generator=generator)
        key = []
        for n in reversed(self.view.shape[: self.reduced]):
            key.append((place % n).to(device))
            place = place // n
        rows = self.view[tuple(reversed(key))].reshape(share, self.groups)
        return comparable(rows.T).contiguous(), counts

    def count(self, lo: torch.Tensor, hi: torch.Tensor, limit: int, looks_for_nan: bool) -> tuple:
        less = torch.zeros(lo.shape, dtype=torch.int64, device=lo.device)
        within = torch.zeros_like(less)
        nan = torch.zeros(lo.shape[0], dtype=torch.bool, device=lo.device)
        pieces: list[torch.Tensor] = []
        numbers: list[torch.Tensor] = []
        size = 0
        for tile in self:
            if looks_for_nan and tile.is_floating_point():
                nan |= tile.amax(1).isnan()
            for j in range(self.wanted):
                is_less = tile < lo[:, j : j + 1]
                # At most hi and not below lo: two comparisons and one exclusive-or, for less implies at most.
                inside = (tile <= hi[:, j : j + 1]) & ~is_less
                less[:, j] += _count_true(is_less)
                number = _count_true(inside)
                within[:, j] += number
                if size <= limit:
                    piece = tile.reshape(-1).index_select(0, true_places(inside.reshape(-1)))
                    size += piece.numel()
                    pieces.append(piece)
                    numbers.append(number)
        if size > limit:
            return less, within, nan, None
        kept = self._keep(pieces, numbers, lo)
        return less, within, nan, kept

    def _keep(self, pieces: list[torch.Tensor], numbers: list[torch.Tensor], lo: torch.Tensor) -> Kept:
        values = torch.cat(pieces) if pieces else torch.zeros(0, dtype=self.dtype, device=lo.device)
        runs = torch.arange(lo.numel(), device=lo.device).reshape(lo.shape).T  # (wanted, columns)
        tiles = len(numbers) // self.wanted if numbers else 0
        lengths = (
            torch.stack(numbers).reshape(-1)
            if numbers
            else torch.zeros(0, dtype=torch.int64, device=lo.device)
        )
        return Kept(values, lengths, runs.reshape(-1).repeat(tiles), lo.shape)

    def least_above(self, bound: torch.Tensor) -> torch.Tensor:
        """Return the least element greater than `bound`, of shape (columns, wanted); the greatest value if none is."""
        top = math.inf if self.dtype.is_floating_point else torch.iinfo(self.dtype).max
        least = torch.full_like(bound, top)
        for tile in self:
            for j in range(self.wanted):
                edge = bound[:, j : j + 1]
                here = torch.where(tile > edge, tile, top).amin(1)
                least[:, j] = torch.minimum(least[:, j], here)
        return least


class Kept(Source):
    """Elements in runs: run i holds `lengths[i]` elements of group ``owners[i]``."""

    def __init__(
        self, values: torch.Tensor, lengths: torch.Tensor, owners: torch.Tensor, shape: torch.Size
    ) -> None:
        self.values, self.lengths, self.owners, self.shape = values, lengths, owners, shape
        self.groups = math.prod(shape)
        self.per_group = values.numel()

    def group_ids(self) -> torch.Tensor:
        """Return the group of each element, int64."""
        return self.owners.repeat_interleave(self.lengths)

    def sample(self, share: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
        device = self.values.device
        order = self.owners.argsort(stable=True)
        starts = (self.lengths.cumsum(0) - self.lengths)[order]
        lengths = self.lengths[order]
        counts = torch.zeros(self.groups, dtype=torch.int64, device=device)
        counts.index_add_(0, self.owners, self.lengths)
        if self.values.numel() == 0:
            return torch.zeros((self.groups, share), dtype=self.values.dtype, device=device), counts
        # Number the elements group by group, draw a number, find its run, and the element in it.
        ends = lengths.cumsum(0)
        first = counts.cumsum(0) - counts
        draw = torch.rand((self.groups, share), generator=generator, dtype=torch.float64).to(device)
        number = first[:, None] + (draw * counts[:, None]).to(torch.int64)
        run = torch.searchsorted(ends, number, right=True).clamp(max=ends.numel() - 1)
        place = starts[run] + number - (ends - lengths)[run]
        return self.values[place.clamp(max=self.values.numel() - 1)], counts

    def count(self, lo: torch.Tensor, hi: torch.Tensor, limit: int, looks_for_nan: bool) -> tuple:
        ids = self.group_ids()
        is_less = self.values < lo.reshape(-1)[ids]
        inside = (self.values <= hi.reshape(-1)[ids]) & ~is_less
        less = torch.bincount(ids[is_less], minlength=self.groups).reshape(self.shape)
        mine = ids[inside]
        within = torch.bincount(mine, minlength=self.groups)
        nan = torch.zeros(self.shape[0], dtype=torch.bool, device=ids.device)
        lengths, owners = torch.ones_like(mine), mine
        kept = Kept(self.values[inside], lengths, owners, self.shape)
        return less, within.reshape(self.shape), nan, kept
