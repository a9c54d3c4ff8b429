"""`PartialH5Dataset`: batches of an HDF5 file larger than memory, read ahead by a thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch
from ht_comm import Communicator, get_comm
from ht_core.errors import LayoutError
from ht_io.hdf5_read import open_dataset
from ht_io.selection import plan_selection

from .arrays import check_transforms, transformed
from .sampler import DistributedSampler


class PartialH5Dataset:
    """Iterates over the global batches of data sets of an HDF5 file, holding a few batches at a time.

    Parameters
    ----------
    file : path
        That all ranks can open.
    dataset_names : str or sequence of str
        Data sets with equal numbers of rows, e.g. features and targets.
    batch_size : int
        Samples of a batch over all ranks; see `DistributedSampler`.
    load_length : int
        Samples over all ranks that are read at once (whole batches, at least one). While the model trains with them, a
        thread reads the next; two of these loads are in memory.
    transforms : callable or sequence, optional
        As for `Dataset`.
    shuffle, seed, drop_last, comm
        As for `DistributedSampler`.

    Raises
    ------
    OSError, KeyError, LayoutError
        On every rank: the file or a data set cannot be used. A failure while reading is raised where it happens.

    Notes
    -----
    *Distribution*: collective when made (one agreement); no message afterwards: each rank reads its own parts. The
    shuffle is global over the whole file. Rows of a load are read in the order of the file; chunked data sets are
    read by whole chunks, so that small chunks of few rows (or none) are best for shuffled reading.

    Each iteration is the next epoch; `set_epoch` chooses one.

    Examples
    --------
    >>> ht.save_hdf5(ht.arange(10, split=0), "train.h5", "x")
    >>> data = ht.utils.data.PartialH5Dataset("train.h5", "x", batch_size=4, load_length=8)
    >>> sum(len(part) for part in data) <= 10, len(data)
    (True, 3)
    """

    def __init__(
        self,
        file: Any,
        dataset_names: str | Sequence[str],
        batch_size: int,
        *,
        load_length: int = 0,
        transforms: Callable | Sequence[Callable | None] | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
        comm: Communicator | None = None,
    ) -> None:
        self.file = file
        self.names = (dataset_names,) if isinstance(dataset_names, str) else tuple(dataset_names)
        if not self.names:
            raise ValueError("PartialH5Dataset: dataset_names must be at least one name, got none")
        self.comm = get_comm() if comm is None else comm
        self.transforms = check_transforms("PartialH5Dataset", transforms, len(self.names))
        self.shapes = self._find_shapes()
        rows = {shape[0] if shape else None for shape in self.shapes}
        if len(rows) != 1 or None in rows:
            raise LayoutError(
                f"PartialH5Dataset: dataset_names must have the same number of rows, got shapes {list(self.shapes)}"
            )
        self.sampler = DistributedSampler(
            self.shapes[0][0],
            batch_size,
            shuffle=shuffle,
            seed=seed,
            drop_last=drop_last,
            comm=self.comm,
        )
        self._at_once = max(1, load_length // batch_size)

    def _find_shapes(self) -> tuple[tuple[int, ...], ...]:
        error, shapes = None, ()
        try:
            with ExitStack() as stack:
                opened = [self._open(stack, name) for name in self.names]
                shapes = tuple(source.shape for source in opened)
        except (OSError, LookupError, TypeError, ValueError) as caught:
            error = caught
        self.comm.agree(error)
        return shapes

    def _open(self, stack: ExitStack, name: str) -> Any:
        return stack.enter_context(open_dataset(self.file, name, "PartialH5Dataset"))

    def __len__(self) -> int:
        """Return the number of batches, the same on every rank."""
        return len(self.sampler)

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next iteration: to resume a training."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[torch.Tensor | tuple[torch.Tensor, ...]]:
        sampler = self.sampler
        starts = range(0, len(sampler), self._at_once)
        # All indices now: the sampler goes on to the next epoch, a rank's share of them is small beside its data.
        loads = [sampler.order(sampler.own_places(k, k + self._at_once)).numpy() for k in starts]
        counts = sampler.counts()
        sampler.set_epoch(sampler.epoch + 1)
        with ThreadPoolExecutor(1, "read ahead") as thread:
            coming = thread.submit(self._read, loads[0]) if loads else None
            for number, first in enumerate(starts):
                arrays = coming.result()
                if number + 1 < len(loads):
                    coming = thread.submit(self._read, loads[number + 1])
                sizes = counts[first : first + self._at_once]
                for parts in zip(*(x.split(sizes) for x in arrays)):
                    yield transformed(parts, self.transforms)

    def _read(self, rows: np.ndarray) -> list[torch.Tensor]:
        """Return the rows of each data set; no message: runs in the thread."""
        arrays = []
        with ExitStack() as stack:
            for name, shape in zip(self.names, self.shapes):
                source = self._open(stack, name)
                out = torch.empty((len(rows), *shape[1:]), dtype=source.dtype.torch, device="cpu")
                if out.numel():
                    source.read_into(plan_selection(shape, rows, "PartialH5Dataset"), out)
                arrays.append(out)
        return arrays
