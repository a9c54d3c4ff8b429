"""From the words of Philox blocks to variates, and from runs of global indices to a local tensor.

A *draw* says how the four words of a block become `per_block` variates; so variate i of a stream is a function of
(seed, stream, i) alone, and every way to compute a tile gives the same numbers: NumPy's native generator for
consecutive blocks on the CPU, int64 arithmetic for scattered blocks and on other devices. Work is done in tiles that
stay in cache and is written straight into the output; nothing of full size is allocated.

This module knows nothing of layouts or communicators: a local tensor is a number of equally spaced runs of global
indices (:func:`fill`).

References
----------
G. E. P. Box and M. E. Muller, "A note on the generation of random normal deviates", Ann. Math. Statist. 29 (1958),
doi 10.1214/aoms/1177706645.
D. Lemire, "Fast random integer generation in an interval", ACM TOMACS 29 (2019), doi 10.1145/3230636.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from .philox import NATIVE, WORDS, Array, Key, Native, blocks, multiply_high, signed

Again = Callable[[Array, int], Array]
_LOW = 0xFFFFFFFF
_MANTISSA = {torch.float16: 11, torch.bfloat16: 8}
_SIGNED_TWIN = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}

#: Variates in a tile: a tile and its scratch stay in the second-level cache.
TILE = 1 << 15
#: Blocks evaluated at once on a device, where a tile must outlast the start of a kernel.
DEVICE_BLOCKS = 1 << 20
#: Cost of starting a run and of a scattered block, in units of one variate of a consecutive block (measured).
RUN_COST, BLOCK_COST = 4000, 50


@dataclass(frozen=True, slots=True, eq=False)
class Draw:
    """How words become variates.

    Attributes
    ----------
    per_block : int
        Variates per block of four words.
    work : torch.dtype
        Type in which a tile is computed; it is cast to the type of the output at the end.
    transform : callable
        ``transform(words, out, again)``: write the variates of int64 `words`, shape (4 b,), into `out`, shape
        (per_block * b,); ``again(positions, sub)`` returns draw `sub` of the words at `positions`. May overwrite
        `words`.
    finish : callable or None
        ``finish(out)``: change the variates of a tile in place (scale and shift, ...).
    native : bool
        NumPy's ``Generator.random`` gives the variates of `transform` at native speed.
    sub : int
        Which draw of the blocks the words are.
    """

    per_block: int
    work: torch.dtype
    transform: Callable[[Array, Array, Again], None]
    finish: Callable[[Array], None] | None = None
    native: bool = False
    sub: int = 0


# -- uniform ------------------------------------------------------------------------------------------------------


def uniform(dtype: torch.dtype, low: float = 0.0, high: float = 1.0) -> Draw:
    """Return the draw of uniform variates ``low + (high - low) * u`` with u in [0, 1).

    u has the full resolution of the type: multiples of 2**-53 (float64), 2**-24 (float32), 2**-11 (float16), 2**-8
    (bfloat16), each equally likely; it is never 1. float64 uses a word each, the others half a word each (the lower
    half first).
    """
    bits = _MANTISSA.get(dtype)

    def finish(out: Array) -> None:
        if bits is not None:  # Rounding down to the grid of the short type: to nearest would reach 1.
            out *= 2.0**bits
            _module(out).floor(out, out=out)
            out *= 2.0**-bits
        if (low, high) != (0.0, 1.0):
            out *= high - low
            out += low

    last = finish if bits is not None or (low, high) != (0.0, 1.0) else None
    if dtype == torch.float64:
        return Draw(WORDS, dtype, _uniform64, last, native=True)
    # NumPy's own float32 takes the halves one call at a time; converting whole tiles of words is faster.
    return Draw(2 * WORDS, torch.float32, _uniform32, last)


def _uniform64(words: Array, out: Array, again: Again) -> None:
    out[...] = (words >> 11) & (2**53 - 1)
    out *= 2.0**-53


def _uniform32(words: Array, out: Array, again: Again) -> None:
    halves = _halves(words)
    halves >>= 8
    halves &= 2**24 - 1
    out[...] = halves
    out *= 2.0**-24


def exponential(dtype: torch.dtype, scale: float = 1.0) -> Draw:
    """Return the draw of exponential variates ``-scale * log(1 - u)``, computed in float64 from 53-bit u."""

    def finish(out: Array) -> None:
        xp = _module(out)
        xp.negative(out, out=out)
        xp.log1p(out, out=out)
        out *= -scale

    return Draw(WORDS, torch.float64, _uniform64, finish, native=True)


# -- normal -------------------------------------------------------------------------------------------------------


def normal(dtype: torch.dtype, loc: float = 0.0, scale: float = 1.0) -> Draw:
    """Return the draw of normal variates, by Box and Muller's transform of each pair.

    Variates 2j and 2j + 1 are ``r cos(t), r sin(t)`` with ``r = sqrt(-2 log v)``. float64: v in (0, 1] and t from a
    53-bit word each, so that ``|z| <= 8.6``. Others, computed in float32: v in (0, 1] from 31 bits of the lower half
    of a word and t from the upper half, ``|z| <= 6.7``; the probability beyond that is 2e-11.
    """

    def finish(out: Array) -> None:
        out *= scale
        out += loc

    last = None if (loc, scale) == (0.0, 1.0) else finish
    if dtype == torch.float64:
        return Draw(WORDS, dtype, _normal64, last)
    return Draw(2 * WORDS, torch.float32, _normal32, last)


def _normal32(words: Array, out: Array, again: Again) -> None:
    xp = _module(words)
    halves = _halves(words)
    radius = xp.empty(len(words), dtype=xp.float32)
    angle = xp.empty_like(radius)
    # A non-negative integer keeps its low bits in float32 where it is small, which is where the tail comes from; the
    # half added keeps the logarithm away from 0.
    radius[...] = halves[0::2] & 0x7FFFFFFF
    radius += 0.5
    radius *= 2.0**-31
    angle[...] = halves[1::2]
    angle *= math.pi * 2.0**-31
    _polar(xp, radius, angle, out)


def _normal64(words: Array, out: Array, again: Again) -> None:
    # torch's float64 sine and cosine are three times as fast as NumPy's.
    words, out = torch.as_tensor(words), torch.as_tensor(out)
    mantissa = (words >> 11) & (2**53 - 1)
    radius = mantissa[0::2].to(torch.float64)
    radius.mul_(-(2.0**-53)).add_(1.0)  # exact: 1 - u is a multiple of 2**-53 in (0, 1]
    angle = mantissa[1::2].to(torch.float64)
    angle *= math.pi * 2.0**-52
    _polar(torch, radius, angle, out)


def _polar(xp, radius: Array, angle: Array, out: Array) -> None:
    """Write ``sqrt(-2 log(radius)) * (cos, sin)(angle)`` into the even and odd places of `out`."""
    xp.log(radius, out=radius)
    radius *= -2.0
    xp.sqrt(radius, out=radius)
    part = xp.cos(angle)
    xp.multiply(radius, part, out=out[0::2])
    xp.sin(angle, out=part)
    xp.multiply(radius, part, out=out[1::2])


# -- integers -----------------------------------------------------------------------------------------------------


def raw(sub: int = 0) -> Draw:
    """Return the draw of whole words, int64 by their bits; those of draw `sub` of the blocks."""
    return Draw(WORDS, torch.int64, _words, sub=sub)


def _words(words: Array, out: Array, again: Again) -> None:
    out[...] = words


def integers(low: int, span: int) -> Draw:
    """Return the draw of integers in [low, low + span), unbiased, computed modulo 2**64.

    The integer is the upper half of the product of `span` and a random word: 32 bits (two to a word, the lower half
    first) up to a span of 2**32, 64 bits above. The lower half tells whether the word is one of the ``2**bits mod
    span`` that would favour some integers; it is then drawn again, from the same place of the next draw of its block
    (Lemire 2019), so that the result still depends on the index alone.

    Parameters
    ----------
    low : int
    span : int
        In [1, 2**64].
    """
    scale = _scale32 if span <= 1 << 32 else _scale64
    per_block = 2 * WORDS if span <= 1 << 32 else WORDS

    def transform(words: Array, out: Array, again: Again) -> None:
        scale(words, span, out, again)
        if low:
            out += signed(low)

    return Draw(per_block, torch.int64, transform)


def _scale32(words: Array, span: int, out: Array, again: Again) -> None:
    """Write ``floor(half * span / 2**32)`` of the fair halves of `words`."""
    out[...] = _halves(words)
    out &= _LOW
    if span & (span - 1) == 0:
        out >>= 33 - span.bit_length()
        return
    out *= span
    places = _where((out & _LOW) < (1 << 32) % span)
    out >>= 32
    out &= _LOW  # a product above 2**63 was negative
    sub = 0
    while len(places):
        sub += 1
        fresh = ((again(places >> 1, sub) >> ((places & 1) << 5)) & _LOW) * span
        out[places] = (fresh >> 32) & _LOW
        places = places[(fresh & _LOW) < (1 << 32) % span]


def _scale64(words: Array, span: int, out: Array, again: Again) -> None:
    """Write ``floor(word * span / 2**64)`` of the fair `words`."""
    if span & (span - 1) == 0:
        shift = 65 - span.bit_length()
        out[...] = (words >> shift) & (span - 1) if shift else words
        return
    # torch has no unsigned comparison: flip the sign bit of both sides.
    flip, factor = signed(1 << 63), signed(span)
    bound = signed(((1 << 64) % span) ^ (1 << 63))
    out[...] = multiply_high(words, span)
    places = _where(((words * factor) ^ flip) < bound)
    sub = 0
    while len(places):
        sub += 1
        fresh = again(places, sub)
        out[places] = multiply_high(fresh, span)
        places = places[((fresh * factor) ^ flip) < bound]


def _where(mask: Array) -> Array:
    if not bool(mask.any()):  # nearly always; much cheaper than looking for the places
        return mask[:0]
    return torch.nonzero(mask).flatten() if isinstance(mask, torch.Tensor) else np.flatnonzero(mask)


# -- filling ------------------------------------------------------------------------------------------------------


def fill(out: torch.Tensor, draw: Draw, key: Key, start: int = 0, stride: int | None = None) -> None:
    """Write the variates of equally spaced runs of global indices into `out`.

    Parameters
    ----------
    out : contiguous torch.Tensor of shape (runs, length) or (length,)
        Any device, any size including 0.
    draw : Draw
    key : two int
        Seed and stream.
    start : int
        Global index of ``out[0, 0]``; ``out[r, j]`` receives variate ``start + r * stride + j``.
    stride : int, optional
        At least `length`; only used where there are several runs.

    Notes
    -----
    Time is proportional to the size of `out`, except that short runs cost at least a scattered block each: the
    cheapest of three ways is taken (all of the range they span, run by run, scattered blocks).
    """
    if out.numel() == 0:
        return
    out = out.view(_SIGNED_TWIN.get(out.dtype, out.dtype))
    out = out.view(-1, out.shape[-1]) if out.ndim != 1 else out.view(1, -1)
    runs, length = out.shape
    if runs == 1 or stride == length:
        _fill_run(out.view(-1), draw, key, start)
        return
    way = (
        _plan_runs(length, stride, draw.per_block)
        if _is_native(out)
        else _plan_device_runs(length, draw.per_block)
    )
    way(out, draw, key, start, stride)


def _plan_runs(length: int, stride: int, per_block: int) -> Callable:
    """Return the cheapest way to fill runs of `length` every `stride` on the CPU."""
    costs = {
        _fill_span: stride,
        _fill_each: RUN_COST + length,
        _fill_scattered: BLOCK_COST * _touched(length, per_block),
    }
    return min(costs, key=costs.__getitem__)


def _plan_device_runs(length: int, per_block: int) -> Callable:
    return _fill_each if _touched(length, per_block) > DEVICE_BLOCKS // 4 else _fill_scattered


def _touched(length: int, per_block: int) -> int:
    """Return the most blocks that a run of `length` touches, wherever it starts."""
    return (length + per_block - 2) // per_block + 1


def _fill_each(out: torch.Tensor, draw: Draw, key: Key, start: int, stride: int) -> None:
    for r in range(len(out)):
        _fill_run(out[r], draw, key, start + r * stride)


def _fill_span(out: torch.Tensor, draw: Draw, key: Key, start: int, stride: int) -> None:
    """Compute the range that a few runs span, copy the runs, go on."""
    runs, length = out.shape
    step = max(1, TILE // stride)
    span = torch.empty((min(step, runs) - 1) * stride + length, dtype=out.dtype, device="cpu")
    for r in range(0, runs, step):
        some = min(step, runs - r)
        used = span[: (some - 1) * stride + length]
        _fill_run(used, draw, key, start + r * stride)
        out[r : r + some] = used.as_strided((some, length), (stride, 1))


def _fill_scattered(out: torch.Tensor, draw: Draw, key: Key, start: int, stride: int) -> None:
    """Compute only the blocks that the runs touch."""
    runs, length = out.shape
    per = draw.per_block
    width = _touched(length, per)
    native = _is_native(out)
    step = max(1, (TILE if native else DEVICE_BLOCKS) // width)
    for r in range(0, runs, step):
        some = out[r : r + step]
        first = start + stride * torch.arange(r, r + len(some), device=out.device)
        numbers = (first // per)[:, None] + torch.arange(width, device=out.device)
        tile = torch.empty(numbers.numel() * per, dtype=draw.work, device=out.device)
        numbers = numbers.view(-1)
        if native:  # the same memory; NumPy's integer kernels are twice as fast
            _transform(draw, numbers.numpy(), key, tile.numpy())
        else:
            _transform(draw, numbers, key, tile)
        places = (first % per)[:, None] + torch.arange(length, device=out.device)
        some.copy_(tile.view(len(some), -1).gather(1, places))


def _transform(draw: Draw, numbers: Array, key: Key, tile: Array) -> None:
    """Compute the tile of the blocks `numbers` by int64 arithmetic."""

    def again(places: Array, sub: int) -> Array:
        return _words_at(numbers[places >> 2], places & 3, key, sub)

    draw.transform(blocks(numbers, key, draw.sub).reshape(-1), tile, again)
    if draw.finish is not None:
        draw.finish(tile)


def _words_at(numbers: Array, places: Array, key: Key, sub: int) -> Array:
    rows = blocks(numbers, key, sub)
    return rows[_module(rows).arange(len(rows)), places]


def _fill_run(out: torch.Tensor, draw: Draw, key: Key, start: int) -> None:
    """Fill a contiguous run, shape (length,), tile by tile; tiles begin and end with blocks."""
    per, length = draw.per_block, len(out)
    native, same = _is_native(out), out.dtype == draw.work
    most = TILE if native else DEVICE_BLOCKS * per
    source = NATIVE.seek(key, start // per, draw.sub) if native else None
    memory = out.numpy() if native and same else out
    scratch = None
    at = -(start % per)
    while at < length:
        left = length - at
        # What does not begin and end with blocks, or is of another type, goes through the scratch.
        aligned = at >= 0 and (left >= most or left % per == 0)
        count = min(left // per * per if aligned else -(-left // per) * per, most)
        if aligned and same:
            _fill_tile(memory[at : at + count], draw, key, (start + at) // per, source)
        else:
            if scratch is None:
                scratch = torch.empty(count, dtype=draw.work, device=out.device)
                scratch = scratch.numpy() if native else scratch
            tile = scratch[:count]
            _fill_tile(tile, draw, key, (start + at) // per, source)
            first, last = max(at, 0), min(at + count, length)
            part = tile[first - at : last - at]
            memory[first:last] = part if same else torch.as_tensor(part)
        at += count


def _fill_tile(tile: Array, draw: Draw, key: Key, block: int, source: Native | None) -> None:
    """Compute whole consecutive blocks: from `source`, which stands on the first, or by arithmetic where it is None."""
    count = len(tile) // draw.per_block
    if source is None:
        _transform(draw, torch.arange(block, block + count, device=tile.device), key, tile)
        return
    if draw.native:
        source.generator.random(out=tile, dtype=tile.dtype)
    else:

        def again(places: np.ndarray, sub: int) -> np.ndarray:
            return _words_at(block + (places >> 2), places & 3, key, sub)

        draw.transform(source.words(count), tile, again)
    if draw.finish is not None:
        draw.finish(tile)


def _is_native(out: torch.Tensor) -> bool:
    """Tell whether NumPy's generator can write into the memory of `out`."""
    return out.device.type == "cpu"


def _halves(words: Array) -> Array:
    """Return the 32-bit halves of int64 words as int32, the lower one first."""
    return words.view(_module(words).int32)


def _module(array: Array):
    return torch if isinstance(array, torch.Tensor) else np
