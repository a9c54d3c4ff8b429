"""Which samples make up each batch, and which rank takes which of them; sends nothing.

The order of an epoch is a permutation that is a function of (number of samples, seed, epoch), evaluated place by place:
the same for any number of ranks, and nothing of the size of the data set is stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from ht_comm import Communicator, get_comm
from ht_core.permutation import Permutation

_SEEDS = 1 << 63


class DistributedSampler:
    """Cuts each epoch into global batches, and each batch into one part per rank.

    Batch k consists of places k B, ..., (k + 1) B - 1 of the epoch's order, B = `batch_size`, whatever the number of
    ranks; rank r takes the r-th of p parts that differ by one sample at most. Each epoch has every sample once, and
    nothing is repeated to fill up. It iterates over this rank's parts, lists of global indices: what
    ``torch.utils.data.DataLoader(batch_sampler=...)`` takes, for data that every rank can read.

    Parameters
    ----------
    dataset : sized or int
        The data set, or its number of samples.
    batch_size : int
        Samples of a batch over all ranks. More than ranks, or some parts are empty.
    shuffle : bool
        A new order in each epoch; otherwise that of the data.
    seed : int
        Of the orders, in [0, 2**63).
    drop_last : bool
        Leave out the last batch if it is not full.
    comm : Communicator, optional
        The current communicator by default.

    Examples
    --------
    >>> sampler = ht.utils.data.DistributedSampler(10, batch_size=4, seed=1)
    >>> order = sampler.order()
    >>> sorted(order.tolist()) == list(range(10)), len(sampler)
    (True, 3)
    >>> sampler.set_epoch(1)
    >>> order.equal(sampler.order())
    False
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int,
        *,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        comm: Communicator | None = None,
    ) -> None:
        if isinstance(batch_size, bool) or not isinstance(batch_size, (int, np.integer)) or batch_size < 1:
            raise ValueError(
                f"DistributedSampler: batch_size must be an int of at least 1, got {batch_size!r}"
            )
        if not isinstance(seed, (int, np.integer)) or not 0 <= seed < _SEEDS:
            raise ValueError(f"DistributedSampler: seed must be an int in [0, 2**63), got {seed!r}")
        self.n = int(dataset) if isinstance(dataset, (int, np.integer)) else len(dataset)
        if self.n < 0:
            raise ValueError(f"DistributedSampler: dataset must have at least 0 samples, got {self.n}")
        self.batch_size, self.shuffle, self.seed = int(batch_size), shuffle, int(seed)
        self.drop_last = drop_last
        self.comm = get_comm() if comm is None else comm
        self.epoch = 0

    def __len__(self) -> int:
        """Return the number of batches, the same on every rank."""
        return self.n // self.batch_size if self.drop_last else -(-self.n // self.batch_size)

    @property
    def used(self) -> int:
        """Number of samples that an epoch takes: all, or those of full batches."""
        return min(self.n, len(self) * self.batch_size)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration."""
        self.epoch = int(epoch)

    def order(self, places: torch.Tensor | None = None) -> torch.Tensor:
        """Return the indices of the samples at `places` of this epoch, int64; all by default."""
        places = torch.arange(self.n, device="cpu") if places is None else places
        return self._permutation().image(places) if self.shuffle and self.n else places

    def places(self, indices: torch.Tensor) -> torch.Tensor:
        """Return where samples stand in this epoch's order, int64: the inverse of `order`."""
        return self._permutation().place(indices) if self.shuffle and self.n else indices

    def _permutation(self) -> Permutation:
        return Permutation(self.n, (self.seed, self.epoch))

    def edges(self, batch: int) -> np.ndarray:
        """Return the places at which the parts of a batch begin and end, int64 of shape (p + 1,)."""
        first = batch * self.batch_size
        length = min(self.batch_size, self.n - first)
        return first + np.arange(self.comm.size + 1) * length // self.comm.size

    def owners(self, places: np.ndarray) -> np.ndarray:
        """Return the rank that takes the sample at each place, int64."""
        batch, offset = np.divmod(places, self.batch_size)
        length = np.minimum(self.batch_size, self.n - batch * self.batch_size)
        # The largest r with r * length // p <= offset.
        return ((offset + 1) * self.comm.size - 1) // length

    def own_places(self, first: int = 0, last: int | None = None) -> torch.Tensor:
        """Return the places of this rank's parts of batches first, ..., last - 1 (all by default), in order."""
        rank = self.comm.rank
        parts = [np.empty(0, dtype=np.int64)]
        for batch in range(first, len(self) if last is None else min(last, len(self))):
            edges = self.edges(batch)
            parts.append(np.arange(edges[rank], edges[rank + 1]))
        return torch.from_numpy(np.concatenate(parts))

    def counts(self) -> list[int]:
        """Return the sizes of this rank's parts of all batches."""
        rank = self.comm.rank
        return [int(edges[rank + 1] - edges[rank]) for edges in map(self.edges, range(len(self)))]

    def __iter__(self) -> Iterator[list[int]]:
        indices = self.order(self.own_places())
        for part in indices.split(self.counts()):
            yield part.tolist()
