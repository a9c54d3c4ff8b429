"""The bits of the random numbers: Philox4x64-10, a keyed bijection of counters, evaluated anywhere.

A *block* is the image of one counter: four 64-bit words. Block number b of the stream ``key = (seed, stream)`` is the
image of the counter ``(b, 0, 0, sub)``; `sub` separates what is drawn again (see ``distributions.integers``) from the
first draw. Because a block depends on nothing but its number and its key, any rank can compute any part of a stream.

Two evaluations give the same bits: NumPy's native generator for consecutive blocks on the CPU, and int64 arithmetic
on NumPy arrays or torch tensors (any device) for arbitrary blocks. This module knows nothing of distributions, arrays
over ranks or communicators.

References
----------
J. K. Salmon, M. A. Moraes, R. O. Dror and D. E. Shaw, "Parallel random numbers: as easy as 1, 2, 3", Proc. SC 2011,
doi 10.1145/2063384.2063405.
"""

from __future__ import annotations

import threading
from typing import TypeVar

import numpy as np
import torch

Array = TypeVar("Array", np.ndarray, torch.Tensor)
Key = tuple[int, int]

WORDS = 4  #: 64-bit words in a block
ROUNDS = 10  #: the number that passes BigCrush with a margin (Salmon et al., section 5)
_MULTIPLIERS = (0xD2E7470EE14C6C93, 0xCA5A826395121157)
_WEYL = (0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B)
_LOW = 0xFFFFFFFF
_ALL = 0xFFFFFFFFFFFFFFFF


def signed(word: int) -> int:
    """Return the int64 with the bits of `word` (taken modulo 2**64).

    >>> signed(2**64 - 1)
    -1
    """
    word &= _ALL
    return word - (1 << 64) if word >> 63 else word


def multiply_high(a: Array, m: int) -> Array:
    """Return the upper 64 bits of the unsigned products ``a * m``.

    Parameters
    ----------
    a : int64 array or tensor
        Unsigned 64-bit words by their bits.
    m : int
        In [0, 2**64).

    Returns
    -------
    int64 array or tensor of the shape of `a`
        The bits of ``floor(a * m / 2**64)``.
    """
    # torch has no unsigned arithmetic: products of 32-bit pieces are right modulo 2**64 as signed numbers too, and
    # a mask after each shift takes back the copies of the sign bit.
    low, high = m & _LOW, m >> 32
    a_low, a_high = a & _LOW, (a >> 32) & _LOW
    cross = a_high * low + (((a_low * low) >> 32) & _LOW)
    middle = a_low * high + (cross & _LOW)
    return a_high * high + ((cross >> 32) & _LOW) + ((middle >> 32) & _LOW)


def philox4x64(counter: tuple[Array, Array, Array, Array], key: Key) -> tuple[Array, Array, Array, Array]:
    """Return the four words of each counter.

    Parameters
    ----------
    counter : four int64 arrays or tensors, at least 1-D, that broadcast against each other
        The counter's words by their bits, least significant first.
    key : two int
        In [0, 2**64).

    Returns
    -------
    four int64 arrays or tensors
        The words by their bits.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    m0, m1 = _MULTIPLIERS
    for _ in range(ROUNDS):
        high0, low0 = multiply_high(c0, m0), c0 * signed(m0)
        high1, low1 = multiply_high(c2, m1), c2 * signed(m1)
        c0, c1, c2, c3 = high1 ^ c1 ^ signed(k0), low1, high0 ^ c3 ^ signed(k1), low0
        k0, k1 = k0 + _WEYL[0], k1 + _WEYL[1]
    return c0, c1, c2, c3


def blocks(numbers: Array, key: Key, sub: int | Array = 0) -> Array:
    """Return the words of arbitrary blocks, by int64 arithmetic, where `numbers` lie.

    Parameters
    ----------
    numbers : int64 array or tensor of shape (n,)
        Block numbers.
    key : two int
        Seed and stream.
    sub : int, or int64 array or tensor of shape (n,)
        Which draw of the blocks, in [0, 2**63).

    Returns
    -------
    int64 array or tensor of shape (n, 4)
    """
    # Counter words of one element broadcast: the first round multiplies them once instead of n times.
    zero = numbers[:1] * 0
    words = philox4x64((numbers, zero, zero, zero + sub), key)
    if isinstance(numbers, torch.Tensor):
        return torch.stack(words, dim=-1)
    return np.stack(words, axis=-1)


class Native(threading.local):
    """NumPy's Philox4x64-10, one per thread, put onto a block before each use.

    Attributes
    ----------
    bits : numpy.random.Philox
    generator : numpy.random.Generator
        Draws from `bits`.
    """

    def __init__(self) -> None:
        self.bits = np.random.Philox(0)
        self.generator = np.random.Generator(self.bits)
        self._state = self.bits.state

    def seek(self, key: Key, block: int, sub: int = 0) -> Native:
        """Make block number `block` of draw `sub` the next one, with no word of an earlier one left over."""
        # The generator increments its counter (256 bits) before it computes a block: stand on the one before.
        before = ((sub << 192) + block - 1) % (1 << 256)
        state = self._state
        state["state"]["counter"][:] = [(before >> shift) & _ALL for shift in (0, 64, 128, 192)]
        state["state"]["key"][:] = key
        state["buffer_pos"] = WORDS
        state["has_uint32"] = 0
        self.bits.state = state
        return self

    def words(self, count: int) -> np.ndarray:
        """Return the words of the next `count` blocks, int64 (by their bits) of shape (4 * count,)."""
        return self.bits.random_raw(WORDS * count).view(np.int64)


NATIVE = Native()
