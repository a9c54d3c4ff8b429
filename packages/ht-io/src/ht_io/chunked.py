"""Writing chunked data sets: every rank compresses chunks, rank 0 stores them.

A chunk is compressed by the rank that holds its first element along the split axis, so only the rows in
which a chunk crosses from one rank to the next move. Compression is what costs; it runs on all ranks at
once, while the file has a single writer and is right on every file system. Compressed data travels in waves
of bounded size.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import h5py
import numpy as np
import torch
from ht_comm import Communicator, plan_redistribution
from ht_core import Layout

from .plan_write import Item
from .storage import file_type, host_view

#: Uncompressed bytes per rank and wave.
_WAVE_BYTES = 16 << 20


def write_chunks(dataset: h5py.Dataset | None, item: Item, comm: Communicator) -> Exception | None:
    """Write `item` into `dataset` (given on rank 0 only); return what went wrong instead of raising.

    Distribution
    ------------
    One redistribution of the rows in which chunks cross ranks (none if the split is aligned with chunks),
    then per wave of 16 MiB per rank an allgather of the chunks' sizes and a gather of their bytes on rank 0.
    """
    aligned = align_layout(item.layout, item.chunks[item.layout.split])
    tail = _fetch_tail(item, aligned, comm)
    axis = item.layout.split
    grids = [_grid(aligned.box(rank), item.chunks) for rank in range(comm.size)]
    wave = max(_WAVE_BYTES // (math.prod(item.chunks) * item.dtype.itemsize), 1)
    error: Exception | None = None
    with _Encoder(item) as encoder:
        for begin in range(0, max(_number(grid) for grid in grids), wave):
            packed: list[bytes] = []
            facts = np.zeros(
                (1 + wave, 2), dtype=np.int64
            )  # failed or not; size and filter mask of each chunk
            try:
                for index, origin in enumerate(_wave(grids[comm.rank], begin, wave)):
                    chunk = _cut(item, tail, aligned, axis, origin, comm.rank)
                    mask, data = _encode(chunk, encoder)
                    packed.append(data)
                    facts[1 + index] = len(data), mask
            except Exception as failure:
                error = failure
            facts[0] = error is not None
            everyone = comm.allgather(facts.reshape(-1)).reshape(comm.size, 1 + wave, 2)
            if everyone[:, 0].any():
                return error
            counts = tuple(int(n) for n in everyone[:, 1:, 0].sum(axis=1))
            data = comm.gatherv(np.frombuffer(b"".join(packed), dtype=np.uint8), counts)
            if comm.rank == 0:
                try:
                    _store(dataset, data, everyone[:, 1:], [_wave(grid, begin, wave) for grid in grids])
                except Exception as failure:
                    error = failure
    return error


def align_layout(layout: Layout, chunk: int) -> Layout:
    """Return the layout in which each rank holds the chunks whose first row is its own in `layout`.

    >>> align_layout(Layout((10,), 0, (5, 1, 4)), 3).counts
    (6, 0, 4)
    """
    extent = layout.shape[layout.split]
    edges = [min(-(-start // chunk) * chunk, extent) for start in (*layout.displs, extent)]
    return layout.with_counts([stop - start for start, stop in itertools.pairwise(edges)])


def _fetch_tail(item: Item, aligned: Layout, comm: Communicator) -> torch.Tensor | None:
    """Return the rows after this rank's own that its last chunk covers; None if no rank needs any."""
    layout, axis = item.layout, item.layout.split
    if aligned is layout:
        return None
    heads, tails = [], []
    for rank in range(comm.size):
        (own, stop), (first, last) = layout.box(rank)[axis], aligned.box(rank)[axis]
        heads.append(_with_range(layout, axis, own, min(first, stop)))
        tails.append(_with_range(layout, axis, stop if first < last else last, last))
    start, stop = heads[comm.rank][axis]
    head = item.local.narrow(axis, 0, stop - start)
    return comm.redistribute(head, plan_redistribution(tuple(heads), tuple(tails)))


def _with_range(layout: Layout, axis: int, start: int, stop: int) -> tuple[tuple[int, int], ...]:
    box = [(0, n) for n in layout.shape]
    box[axis] = (start, max(start, stop))
    return tuple(box)


def _grid(box: tuple[tuple[int, int], ...], chunks: tuple[int, ...]) -> list[range]:
    """Return the first indices of the chunks of `box`, per axis."""
    return [range(start, stop, chunk) for (start, stop), chunk in zip(box, chunks)]


def _number(grid: list[range]) -> int:
    return math.prod(len(axis) for axis in grid)


def _wave(grid: list[range], begin: int, wave: int) -> Iterator[tuple[int, ...]]:
    return itertools.islice(itertools.product(*grid), begin, begin + wave)


def _cut(
    item: Item, tail: torch.Tensor | None, aligned: Layout, axis: int, origin: tuple[int, ...], rank: int
) -> np.ndarray:
    """Return the chunk at `origin` as a full chunk in the type on disk; what lies beyond the array is
    zero.
    """
    chunk = torch.zeros(item.chunks, dtype=item.dtype.torch)
    shape, own = aligned.shape, item.layout.box(rank)[axis]
    inner = tuple(slice(o, min(o + c, n)) for o, c, n in zip(origin, item.chunks, shape))
    low, high = inner[axis].start, inner[axis].stop
    for source, first, last in ((item.local, *own), (tail, own[1], high)):
        # The tail begins where this rank's own rows end; a rank with chunks in `aligned` holds the first row
        # of each.
        start, stop = max(low, first), min(high, last)
        if source is None or start >= stop:
            continue
        here = list(inner)
        here[axis] = slice(start - first, stop - first)
        place = [slice(0, s.stop - s.start) for s in inner]
        place[axis] = slice(start - low, stop - low)
        chunk[tuple(place)].copy_(source[tuple(here)])
    return host_view(chunk)


class _Encoder:
    """HDF5's own filters on chunks in memory: a data set of one chunk in a file that is never written.

    The library's deflate was measured to be half as fast again as Python's, and the bytes are those it would store.
    """

    def __init__(self, item: Item) -> None:
        self._file = None
        if item.level is not None:
            name = f"chunks {id(self)}"  # files without a place on the disk are told apart by name
            self._file = h5py.File(name, "w", driver="core", backing_store=False, rdcc_nbytes=0)
            self._type = file_type(item.dtype)
            options = {"compression": "gzip", "compression_opts": item.level, "shuffle": True}
            made = self._file.create_dataset(
                "x", item.chunks, h5py.Datatype(self._type), chunks=item.chunks, **options
            )
            self._dataset, self._origin = made.id, (0,) * len(item.chunks)

    def __enter__(self) -> _Encoder:
        return self

    def __exit__(self, *failure: object) -> None:
        if self._file is not None:
            self._file.close()

    def __call__(self, chunk: np.ndarray) -> tuple[int, bytes]:
        """Return which filters were left out, as bits, and the bytes."""
        if self._file is None:
            return 0, chunk.tobytes()
        self._dataset.write(h5py.h5s.ALL, h5py.h5s.ALL, chunk, mtype=self._type)
        return self._dataset.read_direct_chunk(self._origin)


def _encode(chunk: np.ndarray, encoder: _Encoder) -> tuple[int, bytes]:
    return encoder(chunk)


def _store(
    dataset: h5py.Dataset, data: np.ndarray, facts: np.ndarray, origins: list[Iterator[tuple[int, ...]]]
) -> None:
    view, at = memoryview(data), 0
    for rank, rank_origins in enumerate(origins):
        for index, origin in enumerate(rank_origins):
            size, mask = (int(n) for n in facts[rank, index])
            dataset.id.write_direct_chunk(origin, bytes(view[at : at + size]), mask)
            at += size
