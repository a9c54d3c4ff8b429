"""Writing chunked data sets: every rank compresses chunks, rank 0 stores them.

A chunk is compressed by the rank that holds its first element along the split axis, so only the rows in
which a chunk crosses from one rank to the next move. Compression is what costs; it runs on all ranks at
once, while the file has a single writer and is right on every file system. Compressed data travels in waves
of bounded size.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Iterator

import h5py
import numpy as np
import torch
from ht_comm import Communicator, plan_redistribution
from ht_core import Layout, types

from .hdf5_file import WritableFile
from .plan_write import Item
from .storage import file_type, host_view

#: Uncompressed bytes per rank and wave.
_WAVE_BYTES = 16 << 20


def write_chunks(file: WritableFile | None, item: Item, comm: Communicator) -> Exception | None:
    """Write `item` into its data set in `file` (given on rank 0 only); return what went wrong instead of raising.

    Distribution
    ------------
    One redistribution of the rows in which chunks cross ranks (none if the split is aligned with chunks),
    then per wave of 16 MiB per rank an allgather of the chunks' sizes and a gather of their bytes on rank 0.
    """
    axis = item.layout.split
    aligned = align_layout(item.layout, item.chunks[axis], item.starts[axis])
    tail = _fetch_tail(item, aligned, comm)
    grids = [_grid(aligned.box(rank), item) for rank in range(comm.size)]
    wave = max(_WAVE_BYTES // (math.prod(item.chunks) * item.dtype.itemsize), 1)
    error, encoder = None, None
    with contextlib.ExitStack() as stack:
        try:
            encoder = stack.enter_context(_Encoder(item))
        except Exception as failure:
            error = failure
        for begin in range(0, max(_number(grid) for grid in grids), wave):
            packed: list[bytes] = []
            facts = np.zeros(
                (1 + wave, 2), dtype=np.int64
            )  # failed or not; size and filter mask of each chunk
            try:
                mine = () if encoder is None else _wave(grids[comm.rank], begin, wave)
                for index, origin in enumerate(mine):
                    chunk = _cut(item, tail, aligned, origin, comm.rank, encoder)
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
                    _store(
                        file[item.name], data, everyone[:, 1:], [_wave(grid, begin, wave) for grid in grids]
                    )
                    file.check()
                except Exception as failure:
                    error = failure
    return error


def align_layout(layout: Layout, chunk: int, begin: int = 0) -> Layout:
    """Return the layout in which each rank holds the chunks whose first row is its own in `layout`, where row 0 has
    index `begin` in the data set.

    >>> align_layout(Layout((10,), 0, (5, 1, 4)), 3).counts
    (6, 0, 4)
    >>> align_layout(Layout((10,), 0, (5, 1, 4)), 3, 4).counts
    (5, 3, 2)
    """
    extent = layout.shape[layout.split]
    edges = [
        min(-(-(begin + start) // chunk) * chunk - begin, extent) if start else 0
        for start in (*layout.displs, extent)
    ]
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


def _grid(box: tuple[tuple[int, int], ...], item: Item) -> list[range]:
    """Return the first indices, in the data set, of the chunks that hold some of `box` of the item, per axis."""
    return [
        range((begin + start) // chunk * chunk, begin + stop, chunk) if start < stop else range(0)
        for (start, stop), chunk, begin in zip(box, item.chunks, item.starts)
    ]


def _number(grid: list[range]) -> int:
    return math.prod(len(axis) for axis in grid)


def _wave(grid: list[range], begin: int, wave: int) -> Iterator[tuple[int, ...]]:
    return itertools.islice(itertools.product(*grid), begin, begin + wave)


def _cut(
    item: Item,
    tail: torch.Tensor | None,
    aligned: Layout,
    origin: tuple[int, ...],
    rank: int,
    encoder: _Encoder,
) -> np.ndarray:
    """Return the chunk at `origin` as a full chunk in the type on disk; what lies beyond the array is what is in
    the file, or the fill value.
    """
    axis = aligned.split
    chunk = encoder.blank(origin)
    own = item.layout.box(rank)[axis]
    # In indices of the item; the chunk's first one is at -skip.
    skips = [max(begin - o, 0) for o, begin in zip(origin, item.starts)]
    inner = tuple(
        slice(max(o - begin, 0), min(o + c - begin, n))
        for o, c, begin, n in zip(origin, item.chunks, item.starts, aligned.shape)
    )
    low, high = inner[axis].start, inner[axis].stop
    for source, first, last in ((item.local, *own), (tail, own[1], high)):
        # The tail begins where this rank's own rows end; a rank with chunks in `aligned` holds the first row
        # of each.
        start, stop = max(low, first), min(high, last)
        if source is None or start >= stop:
            continue
        here = list(inner)
        here[axis] = slice(start - first, stop - first)
        place = [slice(skip, skip + s.stop - s.start) for skip, s in zip(skips, inner)]
        place[axis] = slice(skips[axis] + start - low, skips[axis] + stop - low)
        item.fill_block(source[tuple(here)], chunk[tuple(place)])
    return host_view(chunk)


class _Encoder:
    """HDF5's own filters on chunks in memory: a data set of one chunk in a file that is never written.

    The library's deflate was measured to be half as fast again as Python's, and the bytes are those it would store.
    """

    def __init__(self, item: Item) -> None:
        self._item, self._file, self._source, self._old = item, None, None, None
        self._type = file_type(item.dtype)
        self._origin = (0,) * len(item.chunks)
        if item.place is not None:
            self._source = h5py.File(item.place.source, "r")
            self._old = self._source[item.name].id
        if item.level is None and self._old is None:
            return
        name = f"chunks {id(self)}"  # files without a place on the disk are told apart by name
        self._file = h5py.File(name, "w", driver="core", backing_store=False, rdcc_nbytes=0)
        if self._old is not None:  # whatever filters it has
            plist, kind = self._old.get_create_plist(), self._old.get_type()
        else:
            plist, kind = h5py.h5p.create(h5py.h5p.DATASET_CREATE), self._type
            plist.set_chunk(item.chunks)
            plist.set_shuffle()
            plist.set_deflate(item.level)
        space = h5py.h5s.create_simple(item.chunks)
        self._dataset = h5py.h5d.create(self._file.id, b"x", kind, space, dcpl=plist)

    def __enter__(self) -> _Encoder:
        return self

    def __exit__(self, *failure: object) -> None:
        for file in (self._file, self._source):
            if file is not None:
                file.close()

    def blank(self, origin: tuple[int, ...]) -> torch.Tensor:
        """Return the chunk as it is before the item's elements are put into it."""
        item = self._item
        chunk = torch.zeros(item.chunks, dtype=item.dtype.torch)
        if self._old is None:
            if item.fill is not None:
                host_view(chunk)[...] = item.fill  # others may let the data set grow into it
            return chunk
        if item.dtype is not types.bfloat16:
            fill = np.zeros((), item.dtype.numpy)
            self._old.get_create_plist().get_fill_value(fill)
            host_view(chunk)[...] = fill
        counts = tuple(max(min(c, n - o), 0) for o, c, n in zip(origin, item.chunks, item.place.before))
        begin, end = item.starts, [s + n for s, n in zip(item.starts, item.layout.shape)]
        is_covered = all(s <= o and e >= o + n for o, n, s, e in zip(origin, counts, begin, end))
        if math.prod(counts) and not is_covered:
            where = self._old.get_space()
            where.select_hyperslab(origin, counts)
            space = h5py.h5s.create_simple(item.chunks)
            space.select_hyperslab(self._origin, counts)
            self._old.read(space, where, host_view(chunk), mtype=self._type)
        return chunk

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
