"""Order statistics over axes: which of three ways to take, by the layout and the sizes alone.

* Columns that lie on one rank: sorts of chunks of columns that fit 32 MiB.
* Long columns over several ranks: distributed selection (:mod:`.selection`), which moves samples only.
* Short columns over several ranks, or very many: chunks of columns are dealt to the ranks, which moves each element
  once.
"""

from __future__ import annotations

import math

import torch
from ht_comm import Communicator, self_

from ..layout import Layout, even_counts
from .redistribution import redistribute
from .selection import select
from .selection_pass import comparable

#: Elements of a chunk of columns, and of one that is dealt: before, on the way and after, in three copies.
CHUNK, DEALT_CHUNK = 1 << 22, 1 << 19
#: Elements of a column that is not dealt, since one rank would have to hold it.
TALL = 1 << 21
#: Columns times wanted elements up to which selection pays.
FEW = 1 << 12
#: What the rounds of a selection cost for each column, and what dealing and sorting costs for each element, in passes
#: of a selection over one element.
ROUNDS, DEALT = 1 << 17, 2


class Columns:
    """Columns of an array: the elements that one reduction over axes meets.

    Parameters
    ----------
    local : torch.Tensor
        This rank's part.
    layout : Layout
        Of the array.
    axes : tuple of int
        The reduced axes.
    comm : Communicator
    """

    def __init__(
        self, local: torch.Tensor, layout: Layout, axes: tuple[int, ...], comm: Communicator
    ) -> None:
        kept = [a for a in range(layout.ndim) if a not in axes]
        self.view = local.permute(*axes, *kept)
        self.reduced = len(axes)
        if not axes:
            self.view, self.reduced = self.view.unsqueeze(0), 1
        self.m = math.prod(self.view.shape[self.reduced :])
        self.n = math.prod(layout.shape[a] for a in axes)
        self.comm = comm if layout.split in axes and comm.size > 1 else self_()
        rest = self.n // layout.shape[layout.split] if layout.split in axes and self.n else 1
        self.counts = [c * rest for c in layout.counts] if self.comm is comm else [self.n]
        self.dtype = comparable(local.reshape(-1)[:0]).dtype

    def count_numbers(self) -> torch.Tensor:
        """Return how many elements of each column are not NaN, int64 of shape (m,). One allreduce over ranks."""
        number = torch.zeros(self.m, dtype=torch.int64, device=self.view.device)
        for part in self._chunks():
            number[part] = (self.chunk(part) == self.chunk(part)).sum(1)
        return self.comm.allreduce(number) if self.comm.size > 1 else number

    def pick(self, k: torch.Tensor, needs_next: torch.Tensor, numbers: torch.Tensor | None) -> tuple:
        """Return the elements of ranks `k`, the next greater ones where needed, and which columns hold NaN.

        Parameters
        ----------
        k, needs_next : torch.Tensor
            int64 and bool of shape (m, wanted).
        numbers : torch.Tensor, optional
            int64 of shape (m,): how many elements are not NaN, where NaN is to be left out.

        Returns
        -------
        low, high : torch.Tensor
            Of shape (m, wanted), in the dtype of the ordered image; float32 for 16-bit floats.
        has_nan : torch.Tensor
            bool of shape (m,).
        """
        is_split = self.comm.size > 1
        if self.m == 0:
            empty = torch.zeros(k.shape, dtype=self.dtype, device=k.device)
            return empty, empty, torch.zeros(0, dtype=torch.bool, device=k.device)
        is_few = k.numel() <= FEW
        if is_few and self._is_long(is_split, k.shape[1]):
            return select(self.view, self.reduced, k, needs_next, self.n, self.comm, numbers)
        return self._dealt(k) if is_split else self._local(k)

    def _is_long(self, is_split: bool, wanted: int) -> bool:
        if not is_split:
            return self.n > CHUNK
        if self.n > TALL:
            return True
        passes = wanted * self.n * self.m // self.comm.size
        return passes + ROUNDS * self.m < DEALT * self.n * -(-self.m // self.comm.size)

    def _chunks(self) -> list[slice]:
        rows = max(self.n if self.comm.size == 1 else max(self.counts), 1)
        p = self.comm.size
        step = max(CHUNK // rows, 1) if p == 1 else max(DEALT_CHUNK // rows, p)
        return [slice(a, min(a + step, self.m)) for a in range(0, self.m, step)]

    def chunk(self, part: slice) -> torch.Tensor:
        """Return columns of this rank's rows, of shape (columns, rows)."""
        rows = math.prod(self.view.shape[: self.reduced])
        if self.view.ndim == self.reduced + 1:  # one other axis: no copy before the chunk is cut
            here = self.view[..., part].reshape(rows, part.stop - part.start)
        else:
            here = self.view.reshape(rows, self.m)[:, part]
        return here.T

    def _local(self, k: torch.Tensor) -> tuple:
        found = [_pick(self.chunk(part), k[part]) for part in self._chunks()]
        return tuple(torch.cat(same) for same in zip(*found))

    def _dealt(self, k: torch.Tensor) -> tuple:
        """Deal chunks of columns to the ranks; each picks from whole columns, and all get the results."""
        p, rank = self.comm.size, self.comm.rank
        found = []
        for part in self._chunks():
            c = part.stop - part.start
            before = Layout((self.n, c), 0, self.counts)
            after = Layout.even((self.n, c), 1, p)
            mine = redistribute(self.chunk(part).T, before, after, self.comm)
            start = part.start + after.displs[rank]
            columns = _pick(mine.T, k[start : start + after.counts[rank]])
            low, high, nan = columns
            joined = torch.cat([low, high, nan[:, None].to(low.dtype)], dim=1)
            found.append(self.comm.allgatherv(joined, even_counts(c, p)))
        joined, wanted = torch.cat(found), k.shape[1]
        return joined[:, :wanted], joined[:, wanted : 2 * wanted], joined[:, -1] > 0


def _pick(columns: torch.Tensor, k: torch.Tensor) -> tuple:
    """Pick from columns that are whole, of shape (columns, rows)."""
    values = comparable(columns)
    shares = values.data_ptr() == columns.data_ptr() and values.is_contiguous()
    values = values.clone(memory_format=torch.contiguous_format) if shares else values.contiguous()
    if values.numel() == 0:
        empty = torch.zeros(k.shape, dtype=values.dtype, device=values.device)
        return empty, empty, torch.zeros(k.shape[0], dtype=torch.bool, device=values.device)
    # A sort, not a partition: NumPy's sorts of 32 and 64 bits use vector instructions, its selections do not.
    if values.is_cuda:
        values = values.sort(dim=1).values
    else:
        values.numpy().sort(axis=1)
    last = values.shape[1] - 1
    nan = values[:, last].isnan()  # NaN comes last
    return values.gather(1, k), values.gather(1, (k + 1).clamp(max=last)), nan
