"""Fourier transforms of the split axis itself, for arrays with no other axis to cut.

A length N = N1 N2 is a matrix of N1 rows: transforms of its columns, a multiplication by roots of unity, transforms
of its rows, a transposition. Each needs the other cut: three exchanges of the local part. A length without factors
near its square root becomes a convolution of a length that is a power of two.
"""

from __future__ import annotations

import math

import torch
from ht_core import DNDarray, moveaxis, reshape
from ht_core.engines.redistribution import redistribute
from ht_core.errors import LayoutError
from ht_core.layout import Layout

#: Squares of indices below this number are exact in 64 bits.
_LARGEST_CHIRP = 3_037_000_499
#: Roots of unity worked out at once: 4 MiB.
_BLOCK = 2**18


def factor(n: int) -> int:
    """Return the largest divisor of `n` that is not larger than its square root. Pure."""
    return next(d for d in range(math.isqrt(n), 0, -1) if n % d == 0)


def spread_transform(x: DNDarray, axis: int, inverse: bool) -> DNDarray:
    """Return the unscaled transform of complex `x` along its split axis; the result is split evenly along it.

    *Distribution*: three exchanges of the local part; with a length that has no factor between the number of ranks and
    its square root, six of up to four times the size.

    Raises
    ------
    LayoutError
        If such a length is above 3e9.

    References
    ----------
    D. H. Bailey, FFTs in external or hierarchical memory, 1990, doi:10.1007/BF00162341; L. I. Bluestein, A linear
    filtering approach to the computation of discrete Fourier transform, 1970, doi:10.1109/TAU.1970.1162132.
    """
    x = moveaxis(x, axis, 0)
    n, rows = x.shape[0], factor(x.shape[0])
    if rows >= x.comm.size or 4 * rows * rows >= n:
        result = _by_factors(x, rows, inverse)
    else:
        result = _by_chirp(x, inverse)
    return moveaxis(result, 0, axis)


def _fft(local: torch.Tensor, dim: int, inverse: bool) -> torch.Tensor:
    if not local.numel():  # the libraries below refuse stacks without elements
        return local
    return torch.fft.ifft(local, dim=dim, norm="forward") if inverse else torch.fft.fft(local, dim=dim)


def _roots(numerator: torch.Tensor, denominator: int, inverse: bool, like: torch.Tensor) -> torch.Tensor:
    """Return exp(-2 pi i numerator / denominator), or its conjugate, worked out in double precision."""
    angle = numerator.to(torch.float64) * ((2 if inverse else -2) * math.pi / denominator)
    return torch.polar(torch.ones_like(angle), angle).to(like.dtype)


def _by_factors(x: DNDarray, rows: int, inverse: bool) -> DNDarray:
    n, rest = x.shape[0], x.shape[1:]
    columns = n // rows
    matrix = reshape(x, (rows, columns, *rest), new_split=1)
    local = _fft(matrix.larray, 0, inverse)
    _twiddle(local, matrix.layout.displs[x.comm.rank], n, inverse)
    matrix = DNDarray(local, matrix.layout, x.comm).resplit(0)
    matrix = DNDarray(_fft(matrix.larray, 1, inverse), matrix.layout, x.comm)
    return reshape(moveaxis(matrix, 0, 1), (n, *rest), new_split=0)


def _twiddle(local: torch.Tensor, start: int, n: int, inverse: bool) -> None:
    """Multiply element (r, c) by the root of unity of power r (start + c), in place.

    A row is worked out from two short lists of roots, c = i step + j, in double precision: a sine for each element
    would take longer than the transforms. Blocks of rows stay in the caches.
    """
    rows, columns = local.shape[:2]
    if not local.numel():
        return
    step = math.isqrt(columns - 1) + 1
    device, wide = local.device, torch.empty(0, dtype=torch.complex128)
    r = torch.arange(rows, device=device)[:, None]
    coarse = _roots(r * (start + step * torch.arange(-(-columns // step), device=device)), n, inverse, wide)
    fine = _roots(r * torch.arange(step, device=device), n, inverse, wide)
    block = max(1, _BLOCK // (coarse.shape[1] * step))
    for first in range(0, rows, block):
        part = slice(first, first + block)
        roots = (coarse[part, :, None] * fine[part, None, :]).flatten(1)[:, :columns].to(local.dtype)
        local[part] *= roots.reshape(*roots.shape, *(1 for _ in local.shape[2:]))


def _by_chirp(x: DNDarray, inverse: bool) -> DNDarray:
    """Use n k = (n^2 + k^2 - (n - k)^2) / 2: a product, a cyclic convolution with a chirp, a product."""
    n, rest = x.shape[0], x.shape[1:]
    if n > _LARGEST_CHIRP:
        raise LayoutError(f"fft: a length above {_LARGEST_CHIRP} must not be near a prime, got {n}; give n=")
    length = 1 << (2 * n - 2).bit_length()
    wide = Layout.even((length, *rest), 0, x.comm.size)
    chirp = _chirp(wide, n, inverse, x)
    padded = _padded(x, wide)
    signal = DNDarray(padded * chirp.conj(), wide, x.comm)
    kernel = DNDarray(chirp.expand(padded.shape).contiguous(), wide, x.comm)
    if rest:
        kernel = DNDarray(chirp, Layout((length, *(1 for _ in rest)), 0, wide.counts), x.comm)
    spectra = [_by_factors(y, factor(length), False) for y in (signal, kernel)]
    product = DNDarray(spectra[0].larray * spectra[1].larray, spectra[0].layout, x.comm)
    convolved = _by_factors(product, factor(length), True)
    local = convolved.larray * (chirp.conj() / length)
    # Beyond n the convolution is of no interest: keep the first n rows, cut evenly.
    kept = Layout((n, *rest), 0, [max(0, min(n, d + c) - d) for d, c in zip(wide.displs, wide.counts)])
    local = local.narrow(0, 0, kept.lshape(x.comm.rank)[0])
    target = Layout.even((n, *rest), 0, x.comm.size)
    return DNDarray(redistribute(local, kept, target, x.comm), target, x.comm)


def _chirp(wide: Layout, n: int, inverse: bool, x: DNDarray) -> torch.Tensor:
    """Return this rank's rows of exp(pi i m^2 / n), m counted from zero both ways around, zero in between."""
    start = wide.displs[x.comm.rank]
    m = torch.arange(start, start + wide.counts[x.comm.rank], device=x.larray.device)
    m = torch.minimum(m, wide.shape[0] - m)
    value = _roots((m * m) % (2 * n), 2 * n, not inverse, x.larray)
    value = torch.where(m < n, value, torch.zeros((), dtype=value.dtype, device=value.device))
    return value.reshape(-1, *(1 for _ in x.shape[1:]))


def _padded(x: DNDarray, wide: Layout) -> torch.Tensor:
    """Return this rank's rows of `x` followed by zeros, cut as `wide` says."""
    n = x.shape[0]
    counts = [max(0, min(n, d + c) - d) for d, c in zip(wide.displs, wide.counts)]
    target = Layout(x.shape, 0, counts)
    padded = x.larray.new_zeros(wide.lshape(x.comm.rank))
    redistribute(x.larray, x.layout, target, x.comm, out=padded.narrow(0, 0, counts[x.comm.rank]))
    return padded
