"""Integer keys whose order is the order of the elements: what lets one engine sort every dtype on every device.

``encode`` turns elements into integers of the same width such that a < b holds for elements where it holds for their
keys: unsigned integers lose their highest bit, floating-point numbers become the integers that count them, NaN comes
after all numbers. Complex numbers are ordered as NumPy orders them: by real, then by imaginary part, and numbers with
NaN after all others, in the order R + nan j, nan + R j, nan + nan j. Their two keys fit into one integer for complex64;
complex128 takes two.

Equal elements have equal keys where the signed zeros are joined; where not, -0.0 comes directly before 0.0. This module
knows nothing of distribution.
"""

from __future__ import annotations

import torch

#: Elements worked on at a time, so that temporaries stay in the cache.
_TILE = 1 << 16

_INTEGER = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def key_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the integer dtype of a key (of each of the two keys, for complex128)."""
    return torch.int64 if dtype.is_complex else _INTEGER[dtype.itemsize]


def encode(x: torch.Tensor, descending: bool = False, join_zeros: bool = True) -> torch.Tensor:
    """Return keys of the shape of `x`, contiguous, in memory of their own.

    Parameters
    ----------
    x : torch.Tensor
        Any shape, strides and dtype but complex128. Not changed.
    descending : bool
        Turn the order round; equal elements still have equal keys.
    join_zeros : bool
        Give -0.0 the key of 0.0. Without, :func:`decode` returns every element but the bits of a NaN.
    """
    if x.dtype is torch.complex64:
        keys = _join(*_parts(x))
    else:
        keys = torch.empty(x.shape, dtype=key_dtype(x.dtype), device=x.device)
        keys.copy_(x.view(keys.dtype) if x.dtype is not torch.bool else x)
        if x.is_floating_point():
            for tile in _tiles(keys):
                _order_floats(tile, _infinity(x.dtype), join_zeros)
        elif x.dtype is not torch.bool and not x.dtype.is_signed:
            keys.bitwise_xor_(torch.iinfo(keys.dtype).min)
    return keys.bitwise_not_() if descending else keys


def encode_words(x: torch.Tensor, descending: bool = False) -> list[torch.Tensor]:
    """Return one or more keys per element, the most significant first; zeros are joined."""
    if x.dtype is not torch.complex128:
        return [encode(x, descending)]
    return [key.bitwise_not_() if descending else key for key in _parts(x)]


def decode(keys: torch.Tensor, dtype: torch.dtype, descending: bool = False) -> torch.Tensor:
    """Return the elements whose keys these are, in the memory of `keys`, which is contiguous and given up."""
    if descending:
        keys.bitwise_not_()
    if dtype is torch.bool:
        return keys.view(torch.bool)
    if dtype is torch.complex64:
        return decode_words(_split(keys), dtype)
    if dtype.is_floating_point:
        for tile in _tiles(keys):
            _flip_negatives(tile)
    elif not dtype.is_signed:
        keys.bitwise_xor_(torch.iinfo(keys.dtype).min)
    return keys.view(dtype)


def decode_words(words: list[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """Return the elements of keys made by :func:`encode_words`."""
    if len(words) == 1:
        return decode(words[0], dtype)
    high, low = words
    real = torch.float32 if dtype is torch.complex64 else torch.float64
    infinity = _infinity(real)
    only_imaginary, only_real = high == infinity + 1, high == infinity + 2  # which part is NaN
    high = torch.where(only_imaginary, low, high)
    low = low.masked_fill(only_imaginary, nan_key(real))
    parts = [decode(word.to(key_dtype(real)), real) for word in (high, low)]
    return torch.complex(parts[0].masked_fill_(only_real, torch.nan), parts[1])


def nan_key(dtype: torch.dtype) -> int:
    """Return the key of NaN of a real floating dtype."""
    half = _infinity(dtype) & -_infinity(dtype)  # lowest bit of the exponent
    return _infinity(dtype) | half >> 1


def first_nan_key(dtype: torch.dtype) -> int | None:
    """Return the least (most significant) key that only elements with NaN have; None where there is no NaN."""
    if dtype.is_floating_point:
        return nan_key(dtype)
    if dtype is torch.complex64:
        return _infinity(torch.float32) + 1 << 32
    return _infinity(torch.float64) + 1 if dtype is torch.complex128 else None


def _infinity(dtype: torch.dtype) -> int:
    """Return the key of +inf, which is its bit pattern: the exponent's bits all set."""
    fraction = {torch.float16: 10, torch.bfloat16: 7, torch.float32: 23, torch.float64: 52}[dtype]
    return (1 << 8 * dtype.itemsize - 1) - (1 << fraction)


def _tiles(keys: torch.Tensor):
    flat = keys.view(-1)
    return flat.split(_TILE) if not keys.is_cuda and flat.numel() else (flat,)


def _flip_negatives(keys: torch.Tensor) -> None:
    """Turn bit patterns into keys, or back: magnitudes of negative numbers count downwards."""
    limits = torch.iinfo(keys.dtype)
    keys.bitwise_xor_(torch.bitwise_right_shift(keys, limits.bits - 1).bitwise_and_(limits.max))


def _order_floats(keys: torch.Tensor, infinity: int, join_zeros: bool) -> None:
    _flip_negatives(keys)
    if not keys.numel():
        return
    least, most = torch.aminmax(keys)
    if bool((least < ~infinity) | (most > infinity)):  # NaN of either sign
        quiet = infinity | (infinity & -infinity) >> 1
        keys.masked_fill_((keys > infinity) | (keys < ~infinity), quiet)
    if join_zeros and bool(least < 0):
        keys.masked_fill_(keys == -1, 0)


def _parts(x: torch.Tensor) -> list[torch.Tensor]:
    """Return the keys of real and imaginary parts as int64, with the ones of numbers with NaN set as ordered."""
    real, imag = (encode(part).to(torch.int64) for part in (x.real, x.imag))
    infinity, missing = _infinity(x.real.dtype), nan_key(x.real.dtype)
    no_real, no_imag = real == missing, imag == missing
    low = torch.where(no_imag & ~no_real, real, imag)
    high = real.masked_fill_(no_imag, infinity + 1).masked_fill_(no_real, infinity + 2)
    return [high, low]


def _join(high: torch.Tensor, low: torch.Tensor) -> torch.Tensor:
    """Return two 32-bit keys as one."""
    return high.bitwise_left_shift_(32).add_(low.add_(1 << 31))


def _split(keys: torch.Tensor) -> list[torch.Tensor]:
    return [keys >> 32, (keys & 0xFFFFFFFF).sub_(1 << 31)]
