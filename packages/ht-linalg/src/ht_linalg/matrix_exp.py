"""Exponential of a matrix by scaling, a Pade approximant and squaring."""

from __future__ import annotations

import math

import torch
from ht_core import DNDarray
from ht_core.layout import Layout

from .columns import as_stack, dealt, is_whole, map_matrices, moved
from .errors import LinAlgError
from .matmul import matmul
from .one_rank import alone
from .solve import solve

#: Up to this many rows one rank computes the exponential.
SMALL_EXP = 256

#: Degree of the approximant -> largest norm for which its backward error is below the rounding unit 2^-53.
_LIMITS = {
    3: 1.495585217958292e-2,
    5: 2.539398330063230e-1,
    7: 9.504178996162932e-1,
    9: 2.097847961257068,
    13: 5.371920351148152,
}
#: The same for the rounding unit 2^-24 of single precision.
_LIMITS_SINGLE = {3: 4.258730016922831e-1, 5: 1.880152677804762, 7: 3.925724783138660}


def matrix_exp(a: object, /) -> DNDarray:
    """Return the exponential of matrices, ``I + a + a @ a / 2 + ...``.

    Parameters
    ----------
    a : array_like, shape (..., n, n)

    Returns
    -------
    DNDarray, shape (..., n, n)

    *Distribution*: split as `a`. Replicated matrices take no message; stacks are split along a leading axis, and need
    no message if they are so already. A matrix that is split is exponentiated by one rank up to 256 rows, n^2 words
    each way; a larger one by at most six products, one :func:`ht_linalg.solve` with n right-hand sides, and a product
    for each squaring (about log2 of the norm): 2 n^3 / p flops and n^2 words received by each rank a product. The norms
    of powers take at most 27 allreduces of n words.

    Raises
    ------
    LayoutError
        If `a` is not square.
    LinAlgError
        If a matrix that is split is not finite; on every rank.

    Notes
    -----
    The backward error is at the rounding unit in exact arithmetic: the degree of the approximant and the number of
    squarings follow from the 1-norms of powers of the matrix, which for non-normal matrices are much smaller than the
    powers of the norm, so that fewer squarings lose fewer digits.

    References
    ----------
    N. J. Higham, The scaling and squaring method for the matrix exponential revisited, 2005, doi:10.1137/04061101X.
    A. H. Al-Mohy, N. J. Higham, A new scaling and squaring algorithm for the matrix exponential, 2009,
    doi:10.1137/09074721X.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.matrix_exp(ht.array([[0.0, 1.0], [0.0, 0.0]], split=0)).numpy()
    array([[1., 1.],
           [0., 1.]])
    """
    a = as_stack("matrix_exp", "a", a, square=True)
    if a.ndim > 2 and not is_whole(a):
        a = dealt(a)
    if is_whole(a):
        return map_matrices(a, torch.linalg.matrix_exp)
    if a.shape[0] <= SMALL_EXP:
        here = moved(a, alone(a.shape, 0, a.comm.size))
        local = torch.linalg.matrix_exp(here.larray) if a.comm.rank == 0 else here.larray
        return moved(DNDarray(local.contiguous(), here.layout, a.comm), a.layout)
    rows = a.layout if a.split == 0 else Layout.even(a.shape, 0, a.comm.size)
    return moved(_scaled_and_squared(moved(a, rows)), a.layout)


expm = matrix_exp


def _scaled_and_squared(a: DNDarray) -> DNDarray:
    """Return the exponential of a matrix that is split along its rows."""
    norm = _norm(a)
    if not math.isfinite(norm):
        raise LinAlgError("matrix_exp: a must be finite, got NaN, infinity or overflow")
    single = a.larray.real.dtype == torch.float32
    limits = _LIMITS_SINGLE if single else _LIMITS
    unit = 2.0**-24 if single else 2.0**-53
    evens, largest = [_times(a, a)], max(limits)
    for degree, limit in limits.items():
        _extend(evens, min(degree // 2, 3))
        bound = min(norm, _growth(evens))
        if degree < largest and bound <= limit and not _extra(a, norm, degree, unit):
            _extend(evens, degree // 2)
            return _approximant(a, evens, degree)
    squarings = max(0, math.ceil(math.log2(bound / limits[largest]))) if bound else 0
    squarings += _extra(a, norm, largest, unit, squarings)
    evens = [_scale(x, 2.0 ** (-2 * i * squarings)) for i, x in enumerate(evens, 1)]
    result = _approximant(_scale(a, 2.0**-squarings), evens, largest)
    for _ in range(squarings):
        result = _times(result, result)
    return result


def _extend(evens: list[DNDarray], count: int) -> None:
    """Append to A^2, A^4, ... until there are `count`."""
    while len(evens) < count:
        evens.append(_times(evens[-1], evens[0]))


def _growth(evens: list[DNDarray]) -> float:
    """Return a bound of ``||A^k||^(1/k)`` for even k > 2, from A^4 and A^6 where they are there."""
    return max(_norm(evens[1]) ** (1 / 4), _norm(evens[2]) ** (1 / 6)) if len(evens) > 2 else math.inf


def _extra(a: DNDarray, norm: float, degree: int, unit: float, squarings: int = 0) -> int:
    """Return the squarings that rounding asks for: the first term left out, of moduli, against the unit."""
    if not norm:
        return 0
    size = 2 * degree + 1
    logarithm = _log_norm_of_power(a, size) - squarings * size * math.log(2)
    if logarithm == -math.inf:  # the power vanishes
        return 0
    logarithm -= math.log(norm) - squarings * math.log(2)
    logarithm -= math.log(math.comb(2 * degree, degree)) + math.lgamma(size + 1)
    return max(0, math.ceil((logarithm - math.log(unit)) / math.log(2) / (2 * degree)))


def _log_norm_of_power(a: DNDarray, k: int) -> float:
    """Return the logarithm of ``|| |A|^k ||_1``; k products with a vector, one allreduce of n words each."""
    moduli, mine = a.larray.abs(), a.layout.slices(a.comm.rank)[0]
    v, logarithm = moduli.new_ones(a.shape[0]), 0.0
    for _ in range(k):
        v = a.comm.allreduce(v[mine] @ moduli)
        largest = v.max().item()
        if not largest:
            return -math.inf
        v, logarithm = v / largest, logarithm + math.log(largest)
    return logarithm


def _approximant(a: DNDarray, evens: list[DNDarray], degree: int) -> DNDarray:
    """Return the diagonal Pade approximant of the exponential: ``(V - U)^-1 (V + U)``, U odd, V even."""
    c = _coefficients(degree)
    if degree == 13:
        high = [_combined(a, evens, c[9 + shift :: 2], 0.0) for shift in (0, -1)]
        odd, even = (_times(evens[2], x) for x in high)
        odd = _sum(odd, _combined(a, evens, c[3:9:2], c[1]))
        even = _sum(even, _combined(a, evens, c[2:8:2], c[0]))
    else:
        terms = evens[: degree // 2]
        odd, even = _combined(a, terms, c[3::2], c[1]), _combined(a, terms, c[2::2], c[0])
    odd = _times(a, odd)
    above = DNDarray(even.larray + odd.larray, a.layout, a.comm)
    below = DNDarray(even.larray - odd.larray, a.layout, a.comm)
    return solve(below, above)


def _coefficients(m: int) -> list[float]:
    """Return the coefficients of the numerator, lowest first, scaled to integers."""
    f = math.factorial
    return [float(f(2 * m - j) // (f(m - j) * f(j))) for j in range(m + 1)]


def _combined(a: DNDarray, powers: list[DNDarray], weights: list[float], constant: float) -> DNDarray:
    """Return ``constant I + sum of weights * powers``; local."""
    local = torch.zeros_like(a.larray)
    for weight, power in zip(weights, powers):
        local.add_(power.larray, alpha=weight)
    local.diagonal(a.layout.displs[a.comm.rank]).add_(constant)
    return DNDarray(local, a.layout, a.comm)


def _sum(x: DNDarray, y: DNDarray) -> DNDarray:
    return DNDarray(x.larray + y.larray, x.layout, x.comm)


def _scale(x: DNDarray, factor: float) -> DNDarray:
    return DNDarray(x.larray * factor, x.layout, x.comm)


def _times(x: DNDarray, y: DNDarray) -> DNDarray:
    return moved(matmul(x, y), x.layout)


def _norm(x: DNDarray) -> float:
    """Return the largest sum of moduli of a column: one allreduce of n words."""
    sums = x.comm.allreduce(x.larray.abs().sum(0).double())
    return sums.max().item() if bool(torch.isfinite(sums).all()) else math.inf
