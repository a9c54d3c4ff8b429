"""Listed rows of an array that lies plainly in a file, by whichever way is the quickest where this program runs.

How dear a row is depends on what no program can ask for: whether the file is in the page cache, and in pages of
which size. A system call per row costs about 1 us at any time. Copying out of the mapped file costs a fifth of that
where the cache holds large pages, and four times as much where another reader has left it in small ones. Rows that are
on the device come sooner if it is told of many at once. So batches are timed, and the next one goes the better way.
Knows no communicator and no format.
"""

from __future__ import annotations

import mmap
import os
import time
from collections import deque
from collections.abc import Callable
from itertools import repeat

import numpy as np

from .selection import BLOCK_BYTES

#: Rows of the first batches, by which a way is judged, and of later ones.
_TRIAL, _BATCH = 128, 4096
#: Bytes of the file that are mapped at once: they count as memory of this process.
_WINDOW = 4 * BLOCK_BYTES
#: Longer rows are never cheaper out of the mapped file: a page of it is all that a row touches.
_SMALL_ROW = 2048
#: Fewer rows than this in a window are not worth a mapping.
_CROWD = 32
#: Seconds per row, and per byte, above which rows come from a device instead of the cache.
_SLOW, _SLOW_BYTE = 5e-6, 1e-9


class RowReader:
    """Fills `rows`, 1-D of opaque elements, with those that begin at the bytes `places` of an open file.

    Parameters
    ----------
    places : numpy.ndarray
        Ascending.
    stride : int
        Their distances are multiples of it.
    order : numpy.ndarray or None
        Where in `rows` they go; None: in this order.
    """

    def __init__(
        self, handle: int, places: np.ndarray, stride: int, rows: np.ndarray, order: np.ndarray | None
    ) -> None:
        self._handle, self._places, self._stride, self._rows, self._order = (
            handle,
            places,
            stride,
            rows,
            order,
        )
        self._size = rows.dtype.itemsize

    def read(self) -> int:
        """Read all of them; return the number of bytes that came, fewer than wanted if calls were cut short."""
        way, cost, got, done = self._by_calls, {}, 0, 0
        total = len(self._places)
        while done < total:
            stop = min(done + (_BATCH if total < _BATCH or way in cost else _TRIAL), total)
            if way == self._from_map:
                stop = self._window(done, stop)
                if stop - done < min(_CROWD, total - done):
                    way, stop = self._by_calls, min(done + _BATCH, total)
            start = time.perf_counter()
            got += way(done, stop)
            cost[way] = (time.perf_counter() - start) / (stop - done)
            way = self._choose(way, cost)
            done = stop
        return got

    def _choose(self, way: Callable[[int, int], int], cost: dict) -> Callable[[int, int], int]:
        """Return the way of the next batch."""
        calls = cost[self._by_calls]
        if way == self._from_map:  # one batch that was interrupted decides nothing
            return way if cost[way] <= 1.5 * calls else self._by_calls
        if cost[way] > _SLOW + self._size * _SLOW_BYTE and hasattr(os, "posix_fadvise"):
            return self._announced
        is_open = self._size <= _SMALL_ROW and cost.get(self._from_map, 0.0) <= 3 * calls
        return self._from_map if is_open else self._by_calls

    def _window(self, start: int, stop: int) -> int:
        """Return how far the rows from `start` on lie within one mapping."""
        limit = self._places[start] + _WINDOW - self._size
        return start + int(np.searchsorted(self._places[start:stop], limit, "right"))

    def _by_calls(self, start: int, stop: int) -> int:
        """A system call per row. No Python code runs per row: map hands the buffers over."""
        rows = self._rows.view(np.uint8).reshape(-1, self._size)
        if self._order is None:
            buffers = list(rows[start:stop])
        else:
            buffers = [rows[index] for index in self._order[start:stop].tolist()]
        return sum(map(os.preadv, repeat(self._handle), zip(buffers), self._places[start:stop].tolist()))

    def _announced(self, start: int, stop: int) -> int:
        """The same, after the system has been told of all of them."""
        places = self._places[start:stop].tolist()
        calls = map(
            os.posix_fadvise,
            repeat(self._handle),
            places,
            repeat(self._size),
            repeat(os.POSIX_FADV_WILLNEED),
        )
        deque(calls, maxlen=0)
        return self._by_calls(start, stop)

    def _from_map(self, start: int, stop: int) -> int:
        """Copy out of the mapped file."""
        places = self._places[start:stop]
        first = int(places[0]) // mmap.ALLOCATIONGRANULARITY * mmap.ALLOCATIONGRANULARITY
        end = int(places[-1]) + self._size
        if os.fstat(self._handle).st_size < end:  # touching what is mapped beyond the end kills a process
            return self._by_calls(start, stop)
        mapped = mmap.mmap(self._handle, end - first, access=mmap.ACCESS_READ, offset=first)
        # Opaque bytes: elements of a number's type would have to be aligned, or all would be copied first.
        which = (places - places[0]) // self._stride
        view = np.ndarray(
            (int(which[-1]) + 1,), self._rows.dtype, mapped, int(places[0]) - first, (self._stride,)
        )
        if self._order is not None:
            self._rows[self._order[start:stop]] = view[which]
        elif self._stride == self._size:
            np.take(
                view, which, out=self._rows[start:stop], mode="clip"
            )  # without gaps: take copies the rest
        else:
            self._rows[start:stop] = view[which]
        return (stop - start) * self._size
