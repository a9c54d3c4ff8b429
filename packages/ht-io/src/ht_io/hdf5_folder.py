"""Reading the data sets of one name out of many HDF5 files, as one array."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from ht_comm import Communicator
from ht_core import DNDarray
from ht_core.errors import LayoutError

from .hdf5_read import open_dataset
from .loading import Source, load_source
from .selection import Selection

_OP = "load_multiple_hdf5"
_SUFFIXES = (".h5", ".hdf5", ".hdf", ".he5")


def load_multiple_hdf5(
    folder: str | os.PathLike,
    dataset: str,
    dtype: object = None,
    sorting_func: Callable[[str], object] | None = None,
    *,
    split: int | None = 0,
    slices: object = None,
    device: object = None,
    comm: Communicator | None = None,
) -> DNDarray:
    """Load the data set of one name from all HDF5 files of a folder, joined along axis 0. Collective.

    Parameters
    ----------
    folder : path
        Directory that all ranks see. Its files with an HDF5 suffix are read.
    dataset : str
        Name of the data set in each file. They must have one element type and equal extents but for axis 0.
    dtype : dtype, optional
        Element type of the result; by default the stored one.
    sorting_func : callable, optional
        Key by which the file names are sorted, the same on all ranks; by default the names themselves.
    split, slices, device, comm
        As in :func:`load_hdf5`; of the joined array.

    Returns
    -------
    DNDarray

    Distribution
    ------------
    S(split), even whatever the sizes of the files, or R. One allreduce of three integers. Every rank opens every
    file to learn its extent, and reads from it only rows of its own.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        The folder, or a file in it, is absent.
    LayoutError
        The data sets do not fit together.

    Others as :func:`load_hdf5`; the same on all ranks.

    Examples
    --------
    >>> import os, ht_core, ht_io
    >>> if ht_core.ones(1).comm.rank == 0:
    ...     os.makedirs("runs", exist_ok=True)
    >>> ht_io.save_hdf5(ht_core.ones((2, 3)), "runs/1.h5", "x")
    >>> ht_io.save_hdf5(ht_core.ones((4, 3)), "runs/2.h5", "x")
    >>> ht_io.load_multiple_hdf5("runs", "x").shape
    (6, 3)
    """
    return load_source(
        lambda: _open_folder(folder, dataset, sorting_func),
        op=_OP,
        dtype=dtype,
        split=split,
        slices=slices,
        device=device,
        comm=comm,
    )


@contextmanager
def _open_folder(folder: object, dataset: object, key: Callable | None) -> Iterator[Source]:
    if not isinstance(dataset, str):
        raise TypeError(f"{_OP}: dataset must be a string, got {dataset!r}")
    name = os.fsdecode(os.fspath(folder))
    if not os.path.isdir(name):
        kind = NotADirectoryError if os.path.exists(name) else FileNotFoundError
        raise kind(errno.ENOENT, f"{_OP}: folder must be an existing directory, got {name!r}")
    found = [f for f in os.listdir(name) if f.lower().endswith(_SUFFIXES) and not f.startswith(".")]
    if not found:
        raise FileNotFoundError(errno.ENOENT, f"{_OP}: folder must hold HDF5 files, got {name!r} without any")
    yield FolderSource([os.path.join(name, f) for f in sorted(sorted(found), key=key)], dataset)


class FolderSource:
    """Data sets of several files as one array; a file is open only while it is looked at."""

    def __init__(self, paths: list[str], dataset: str) -> None:
        self._paths, self._dataset = paths, dataset
        self.name = f"{dataset} of {len(paths)} files"
        self._edges = [0]
        for path in paths:
            with open_dataset(path, dataset, _OP) as source:
                if not source.shape:
                    raise LayoutError(f"{_OP}: dataset must have an axis, got a number in {path!r}")
                if len(self._edges) == 1:
                    self.dtype, inner = source.dtype, source.shape[1:]
                elif (source.dtype, source.shape[1:]) != (self.dtype, inner):
                    raise LayoutError(
                        f"{_OP}: dataset must fit together in all files: {source.shape} of {source.dtype} in "
                        f"{path!r} does not go with (..., {', '.join(map(str, inner))}) of {self.dtype}"
                    )
                self._edges.append(self._edges[-1] + source.shape[0])
        self.shape = (self._edges[-1], *inner)

    def read_into(self, part: Selection, out: torch.Tensor) -> None:
        """Fill `out` with `part`, file by file."""
        out = out.view(part.counts)
        for path, start, stop in zip(self._paths, self._edges, self._edges[1:]):
            if part.listed == 0:
                places = np.flatnonzero((part.indices >= start) & (part.indices < stop))
                if len(places):
                    self._read_listed(path, replace(part, indices=part.indices - start), places, out)
                continue
            step, first = part.steps[0], part.starts[0]
            low, high = (min(max(-(-(edge - first) // step), 0), part.counts[0]) for edge in (start, stop))
            if low < high:
                own = part.rows(low, high)
                own = replace(own, starts=(own.starts[0] - start, *own.starts[1:]))
                with open_dataset(path, self._dataset, _OP) as source:
                    source.read_into(own, out[low:high])

    def _read_listed(self, path: str, part: Selection, places: np.ndarray, out: torch.Tensor) -> None:
        own = replace(part, indices=part.indices[places], counts=(len(places), *part.counts[1:]))
        block = torch.empty(own.counts, dtype=self.dtype.torch)
        with open_dataset(path, self._dataset, _OP) as source:
            source.read_into(own, block)
        if math.prod(own.counts):
            out[torch.from_numpy(places).to(out.device)] = block.to(out.device, out.dtype)
