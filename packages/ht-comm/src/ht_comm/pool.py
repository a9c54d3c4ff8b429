"""Scratch memory that is kept between uses.

Touching fresh pages costs about ten times as much as copying into memory that is already mapped, so the
engines borrow their scratch here. Blocks are plain bytes of host memory; `Scratch` shapes them as an array
of either kind.
"""

import math
import threading

import numpy as np

from . import config
from .buffers import Array, Kind, NumpyKind
from .dtypes import DType, torch_dtype

GRAIN = 2**16  # smaller requests come from the allocator, which does not map fresh pages for them


class Pool:
    """Blocks of bytes that were given back; the oldest are dropped beyond `limit` bytes (default 2 chunks).

    Safe to use from several threads. What is lent out is not counted: the borrower bounds it.
    """

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit
        self._blocks: list[np.ndarray] = []
        self._lock = threading.Lock()

    @property
    def limit(self) -> int:
        """Most bytes kept."""
        return 2 * config.chunk_bytes if self._limit is None else self._limit

    @property
    def kept_bytes(self) -> int:
        """Bytes waiting to be lent again."""
        with self._lock:
            return sum(block.size for block in self._blocks)

    def take(self, nbytes: int) -> np.ndarray:
        """Return at least `nbytes` bytes (uint8), contents undefined: the best fit of those kept."""
        if nbytes < GRAIN:
            return np.empty(nbytes, np.uint8)
        with self._lock:
            fitting = [index for index, block in enumerate(self._blocks) if block.size >= nbytes]
            if fitting:
                return self._blocks.pop(min(fitting, key=lambda index: self._blocks[index].size))
        return np.empty(-(-nbytes // GRAIN) * GRAIN, np.uint8)

    def give(self, block: np.ndarray) -> None:
        """Take back a block that nobody uses any more."""
        if block.size < GRAIN:
            return
        with self._lock:
            self._blocks.append(block)
            kept = sum(each.size for each in self._blocks)
            while kept > self.limit:
                kept -= self._blocks.pop(0).size

    def clear(self) -> None:
        """Release all blocks that are kept."""
        with self._lock:
            self._blocks.clear()


POOL = Pool()


class Scratch:
    """A contiguous host array in borrowed memory; `release` gives the memory back.

    Attributes
    ----------
    array : numpy.ndarray or torch.Tensor
        Shape and element type as asked for, contents undefined.
    """

    __slots__ = ("_block", "_pool", "array")

    def __init__(self, shape: tuple[int, ...], kind: Kind, dtype: DType, pool: Pool = POOL) -> None:
        nbytes = math.prod(shape) * dtype.itemsize
        self._pool = pool
        self._block: np.ndarray | None = pool.take(nbytes)
        self.array = _shaped(self._block[:nbytes], shape, kind, dtype)

    def release(self) -> None:
        """Give the memory back; the array must not be used any more."""
        block, self._block = self._block, None
        self.array = None
        if block is not None:
            self._pool.give(block)


def _shaped(flat: np.ndarray, shape: tuple[int, ...], kind: Kind, dtype: DType) -> Array:
    if kind is NumpyKind:
        return flat.view(dtype.storage).reshape(shape)
    import torch

    return torch.from_numpy(flat).view(torch_dtype(dtype)).view(shape)
