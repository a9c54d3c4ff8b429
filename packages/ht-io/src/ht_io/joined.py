"""Arrays in several files as one array: joined along an axis, in the order of the files' names."""

from __future__ import annotations

import errno
import itertools
import math
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import numpy as np
import torch
from ht_comm import Communicator
from ht_core import DNDarray
from ht_core.errors import LayoutError
from ht_core.layout import normalize_axis

from .loading import Source, load_source
from .selection import Selection
from .storage import put_along

Open = Callable[[str], AbstractContextManager[Source]]


def load_joined(
    folder: object,
    open_one: Open,
    *,
    op: str,
    suffixes: tuple[str, ...],
    axis: int,
    what: str,
    key: Callable[[str], object] | None = None,
    dtype: object = None,
    split: int | None = None,
    slices: object = None,
    device: object = None,
    comm: Communicator | None = None,
) -> DNDarray:
    """Return the arrays of all files of `folder` that end in `suffixes` as one. Collective.

    Parameters
    ----------
    open_one : callable
        Opens the array of one file, given its path, as a source.
    what : str
        What such an array is called, for messages.
    key : callable, optional
        By which the file names are sorted.

    Distribution
    ------------
    As :func:`ht_io.loading.load_source`.
    """

    @contextmanager
    def open_all() -> Iterator[Source]:
        yield JoinedSource(list_files(folder, suffixes, key, op), open_one, axis, what, op)

    return load_source(open_all, op=op, dtype=dtype, split=split, slices=slices, device=device, comm=comm)


def list_files(
    folder: object, suffixes: tuple[str, ...], key: Callable[[str], object] | None, op: str
) -> list[str]:
    """Return the paths of the files of `folder` with one of `suffixes`, sorted by name or `key`."""
    name = os.fsdecode(os.fspath(folder))
    if not os.path.isdir(name):
        kind = NotADirectoryError if os.path.exists(name) else FileNotFoundError
        raise kind(errno.ENOENT, f"{op}: folder must be an existing directory, got {name!r}")
    found = [f for f in os.listdir(name) if f.lower().endswith(suffixes) and not f.startswith(".")]
    if not found:
        known = ", ".join(suffixes)
        raise FileNotFoundError(
            errno.ENOENT, f"{op}: folder must hold files that end in {known}, got {name!r} without any"
        )
    return [os.path.join(name, f) for f in sorted(sorted(found), key=key)]


class JoinedSource:
    """Arrays of several files as one array; a file is open only while it is looked at."""

    def __init__(self, paths: list[str], open_one: Open, axis: int, what: str, op: str) -> None:
        self._paths, self._open = paths, open_one
        self.name = f"{what} of {len(paths)} files"
        self._edges = [0]
        first = None
        for path in paths:
            with open_one(path) as source:
                if not source.shape:
                    raise LayoutError(f"{op}: {what} must have an axis, got a number in {path!r}")
                if first is None:
                    self._axis = axis = normalize_axis(axis, len(source.shape), op, "axis")
                outer = (*source.shape[:axis], -1, *source.shape[axis + 1 :])
                first = first or (outer, source.dtype)
                if (outer, source.dtype) != first:
                    raise LayoutError(
                        f"{op}: {what} must fit together in all files: {source.shape} of {source.dtype} in "
                        f"{path!r} does not go with {first[0]} of {first[1]} (-1: any extent)"
                    )
                self._edges.append(self._edges[-1] + source.shape[axis])
        outer, self.dtype = first
        self.shape = (*outer[:axis], self._edges[-1], *outer[axis + 1 :])

    def read_into(self, part: Selection, out: torch.Tensor) -> None:
        """Fill `out` with `part`, file by file."""
        out, axis = out.view(part.counts), self._axis
        for path, (start, stop) in zip(self._paths, itertools.pairwise(self._edges)):
            if part.listed == axis:
                places = np.flatnonzero((part.indices >= start) & (part.indices < stop))
                if len(places):
                    self._read_listed(path, replace(part, indices=part.indices - start), places, out)
                continue
            step, first = part.steps[axis], part.starts[axis]
            low, high = (min(max(-(-(edge - first) // step), 0), part.counts[axis]) for edge in (start, stop))
            if low < high:
                own = part.along(axis, low, high)
                starts = (*own.starts[:axis], own.starts[axis] - start, *own.starts[axis + 1 :])
                self._read_one(path, replace(own, starts=starts), out.narrow(axis, low, high - low))

    def _read_one(self, path: str, part: Selection, out: torch.Tensor) -> None:
        with self._open(path) as source:
            if out.is_contiguous():
                source.read_into(part, out)
                return
            block = torch.empty(part.counts, dtype=out.dtype, device=out.device)
            source.read_into(part, block)
            out.copy_(block)

    def _read_listed(self, path: str, part: Selection, places: np.ndarray, out: torch.Tensor) -> None:
        axis = self._axis
        counts = (*part.counts[:axis], len(places), *part.counts[axis + 1 :])
        own = replace(part, indices=part.indices[places], counts=counts)
        block = torch.empty(own.counts, dtype=out.dtype, device=out.device)
        if math.prod(own.counts):
            with self._open(path) as source:
                source.read_into(own, block)
            put_along(out, axis, places, block)
