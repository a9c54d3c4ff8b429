"""`DataLoader`: this rank's parts of the global batches of a data set over distributed arrays."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from ht_core import DNDarray
from ht_core.engines.indexing import bits

from .arrays import Dataset, transformed
from .sampler import DistributedSampler


class DataLoader:
    """Iterates over an epoch of a data set in global batches, in a new order each time.

    Parameters
    ----------
    dataset : Dataset or DNDarray
    batch_size : int
        Samples of a batch over all ranks; see `DistributedSampler`.
    shuffle, seed, drop_last
        As for `DistributedSampler`.

    Yields
    ------
    torch.Tensor or tuple of torch.Tensor
        This rank's part of a batch, for each array of the data set. Every rank gets as many parts; where a batch has
        fewer samples than there are ranks, some are empty.

    Notes
    -----
    *Distribution*: collective at the start of an epoch: one alltoallv for each split array, in which each row
    is sent once at most, straight to the rank that trains with it; memory for a second copy of this rank's rows. No
    message while iterating, none for replicated arrays. Batches and their order do not depend on the number of ranks.

    Each iteration is the next epoch; `set_epoch` chooses one.

    Examples
    --------
    >>> x = ht.arange(10, split=0)
    >>> loader = ht.utils.data.DataLoader(ht.utils.data.Dataset(x, 2 * x), batch_size=4)
    >>> all(b.equal(2 * a) for a, b in loader), len(loader)
    (True, 3)
    """

    def __init__(
        self,
        dataset: Dataset | DNDarray,
        batch_size: int = 1,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        self.dataset = dataset if isinstance(dataset, Dataset) else Dataset(dataset)
        self.sampler = DistributedSampler(
            self.dataset, batch_size, shuffle=shuffle, seed=seed, drop_last=drop_last, comm=self.dataset.comm
        )

    def __len__(self) -> int:
        """Return the number of batches, the same on every rank."""
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration: to resume a training."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[torch.Tensor | tuple[torch.Tensor, ...]]:
        rows = deal_rows(self.dataset, self.sampler)
        counts = self.sampler.counts()
        self.sampler.set_epoch(self.sampler.epoch + 1)
        for parts in zip(*(x.split(counts) for x in rows)):
            yield transformed(parts, self.dataset.transforms)


def deal_rows(dataset: Dataset, sampler: DistributedSampler) -> list[torch.Tensor]:
    """Return, for each array, the rows of this rank's parts of all batches, in order.

    *Distribution*: collective; one alltoallv for each split array. No index is sent: every rank computes where its
    rows go and which rows it gets.
    """
    comm = dataset.comm
    wanted = sampler.order(sampler.own_places())
    plans: dict[object, tuple] = {}
    dealt = []
    for x in dataset.arrays:
        local = bits(x.larray)
        if x.split is None or comm.size == 1:
            dealt.append(local.index_select(0, wanted.to(local.device)).view(x.larray.dtype))
            continue
        if x.layout.counts not in plans:
            plans[x.layout.counts] = _plan(x.layout.displs, x.layout.counts, sampler, wanted.numpy())
        packing, arrival, send_counts, recv_counts = plans[x.layout.counts]
        packed = local.index_select(0, packing.to(local.device))
        moved = comm.alltoallv(packed, send_counts, recv_counts)
        dealt.append(moved.index_select(0, arrival.to(local.device)).view(x.larray.dtype))
    return dealt


def _plan(displs, counts, sampler: DistributedSampler, wanted: np.ndarray) -> tuple:
    """Return the rows to send by destination, where each wanted row arrives, and both counts."""
    comm = sampler.comm
    own = torch.arange(displs[comm.rank], displs[comm.rank] + counts[comm.rank], device="cpu")
    places = sampler.places(own).numpy()
    used = np.flatnonzero(places < sampler.used)
    goes_to = sampler.owners(places[used])
    # Rows travel by destination in the order of the array, so what arrives is sorted by its index.
    packing = used[np.argsort(goes_to, kind="stable")]
    arrival = np.empty(len(wanted), dtype=np.int64)
    arrival[np.argsort(wanted)] = np.arange(len(wanted))
    # Ranks without rows share the start of the next: the last rank that starts at or before has the row.
    comes_from = np.searchsorted(np.asarray(displs), wanted, side="right") - 1
    return (
        torch.from_numpy(packing),
        torch.from_numpy(arrival),
        tuple(np.bincount(goes_to, minlength=comm.size).tolist()),
        tuple(np.bincount(comes_from, minlength=comm.size).tolist()),
    )
