"""Means, variances and higher moments over axes; weighted averages."""

from __future__ import annotations

from collections.abc import Callable

import torch

from . import types
from .dndarray import DNDarray
from .engines.elementwise import as_operand, common_comm
from .engines.monoid import Carry, by, by_moments
from .engines.reduction import (
    Domain,
    Row,
    execute,
    floating_accumulator,
    prepare,
    reduce,
    same,
    wide_accumulator,
)
from .engines.reduction_kernels import central, weighted_mean
from .engines.reduction_kernels import mean as mean_kernel
from .engines.reduction_rows import reduction
from .errors import LayoutError
from .layout import normalize_axes
from .registry import register


def mean_result(dtype: types.dtype) -> types.dtype:
    """Average integers in float64, as NumPy."""
    return dtype if dtype.kind in "fc" else types.float64


def variance_result(dtype: types.dtype) -> types.dtype:
    """Return the real dtype of a variance."""
    return types.to_real(mean_result(dtype))


def quotient(carry: Carry, domain: Domain) -> torch.Tensor:
    """Finish a mean: the sum over the number of elements."""
    return carry[0] / (carry[1] if len(carry) > 1 else float(domain.n))


def variance(
    carry: Carry, domain: Domain, ddof: float = 0, center: torch.Tensor | None = None
) -> torch.Tensor:
    """Finish a variance from (n, mean, M2); `center` is the mean where the caller knows it."""
    n, mean_, m2 = carry[0], carry[1], carry[2]
    if center is not None:  # the sum of squares about another point: Huygens and Steiner
        parts = torch.view_as_real(center.resolve_conj()) if center.is_complex() else center
        m2 = m2 + n * (mean_ - parts) ** 2
    if m2.ndim > len(domain.shape):  # real and imaginary part
        m2, n = m2.sum(-1), n[..., 0]
    return m2 / (n - ddof).clamp(min=0) if domain.masked else m2 / max(domain.n - ddof, 0.0)


def deviation(
    carry: Carry, domain: Domain, ddof: float = 0, center: torch.Tensor | None = None
) -> torch.Tensor:
    """Finish a standard deviation."""
    return torch.sqrt(variance(carry, domain, ddof, center))


mean = reduction(
    "mean",
    mean_kernel,
    "Return the arithmetic mean over axes.",
    monoid=by("sum"),
    finish=quotient,
    identity=0,
    result=mean_result,
    takes="mean",
    returns="Of the dtype of `x`; float64 for integers.",
    body="The mean of no element is NaN.",
)

MOMENTS = (
    "Each rank computes (n, mean, M2) tile by tile, which merge pairwise without cancellation.\n\n"
    "References: T. F. Chan, G. H. Golub, R. J. LeVeque, Algorithms for computing the sample variance, The American\n"
    "Statistician 37, 1983, doi:10.1080/00031305.1983.10483115."
)
_MOMENT_ROW = {
    "monoid": by_moments(),
    "identity": 0,
    "result": variance_result,
    "accumulate": floating_accumulator,
    "temporary": True,
    "takes": "ddof",
    "returns": "Of the dtype of `x`, real; float64 for integers.",
    "body": MOMENTS,
}
var = reduction("var", central(2), "Return the variance over axes.", finish=variance, **_MOMENT_ROW)
std = reduction(
    "std", central(2), "Return the standard deviation over axes.", finish=deviation, **_MOMENT_ROW
)


# -- shape of a distribution -------------------------------------------------------------------------------------


def _standardized(carry: Carry, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return n and the k-th moment in units of the standard deviation; NaN where all elements are equal."""
    n, mean_, m2, top = carry[0], carry[1], carry[2], carry[k]
    second = m2 / n
    flat = second <= (torch.finfo(torch.float64).eps * mean_) ** 2
    return n, torch.where(flat, torch.nan, top / n / second ** (k / 2))


def _skewness(carry: Carry, domain: Domain, unbiased: bool) -> torch.Tensor:
    n, g = _standardized(carry, 3)
    return torch.where(n > 2, torch.sqrt(n * (n - 1)) / (n - 2) * g, g) if unbiased else g


def _kurtosis(carry: Carry, domain: Domain, unbiased: bool, excess: bool) -> torch.Tensor:
    n, g = _standardized(carry, 4)
    if unbiased:
        corrected = ((n * n - 1) * g - 3 * (n - 1) ** 2) / ((n - 2) * (n - 3)) + 3
        g = torch.where(n > 3, corrected, g)
    return g - 3 if excess else g


def _shape_row(name: str, order: int, finish: Callable) -> Row:
    return Row(
        name,
        central(order),
        by_moments(order),
        finish,
        0,
        types.REAL + "b",
        mean_result,
        floating_accumulator,
        temporary=True,
    )


_SKEW, _KURTOSIS = _shape_row("skew", 3, _skewness), _shape_row("kurtosis", 4, _kurtosis)


def skew(
    x: DNDarray, axis: int | tuple[int, ...] | None = None, unbiased: bool = True, *, keepdims: bool = False
) -> DNDarray:
    """Return the skewness over axes: the third central moment in units of the standard deviation.

    Heat's signature; ``scipy.stats.skew(x, axis, bias=not unbiased)`` gives the same numbers, except that its `axis`
    is 0 by default.

    *Distribution*: where the split axis is reduced, the result is replicated and the ranks combine in one allreduce of
    32 bytes per element of it; otherwise the split stays and nothing is sent.

    Parameters
    ----------
    x : DNDarray
        Real, of any shape and layout.
    axis : int or tuple of int, optional
        Axes to reduce; all of them by default.
    unbiased : bool
        Multiply by sqrt(n (n - 1)) / (n - 2), which corrects the bias for normal populations, where n > 2.
    keepdims : bool
        Keep the reduced axes with extent 1.

    Returns
    -------
    DNDarray
        Of the dtype of `x`, float64 for integers. NaN where all elements are equal.

    Notes
    -----
    One pass over the data; (n, mean, M2, M3) of tiles and ranks merge pairwise.

    Examples
    --------
    >>> round(ht.skew(ht.array([1.0, 2.0, 6.0], split=0), unbiased=False).item(), 6)
    0.59517
    """
    return execute(_SKEW, x, axis, None, None, keepdims, unbiased=bool(unbiased))


def kurtosis(
    x: DNDarray,
    axis: int | tuple[int, ...] | None = None,
    unbiased: bool = True,
    Fischer: bool = True,
    *,
    keepdims: bool = False,
) -> DNDarray:
    """Return the kurtosis over axes: the fourth central moment in units of the squared variance.

    Heat's signature; ``scipy.stats.kurtosis(x, axis, fisher=Fischer, bias=not unbiased)`` gives the same numbers,
    except that its `axis` is 0 by default.

    *Distribution*: where the split axis is reduced, the result is replicated and the ranks combine in one allreduce of
    40 bytes per element of it; otherwise the split stays and nothing is sent.

    Parameters
    ----------
    x : DNDarray
        Real, of any shape and layout.
    axis : int or tuple of int, optional
        Axes to reduce; all of them by default.
    unbiased : bool
        Correct the bias for normal populations, where n > 3.
    Fischer : bool
        Subtract 3, the kurtosis of the normal distribution.
    keepdims : bool
        Keep the reduced axes with extent 1.

    Returns
    -------
    DNDarray
        Of the dtype of `x`, float64 for integers. NaN where all elements are equal.

    Notes
    -----
    One pass over the data; (n, mean, M2, M3, M4) of tiles and ranks merge pairwise.

    Examples
    --------
    >>> round(ht.kurtosis(ht.array([0.0, 1.0, 5.0, 6.0], split=0), unbiased=False).item(), 6)
    -1.852071
    """
    return execute(_KURTOSIS, x, axis, None, None, keepdims, unbiased=bool(unbiased), excess=bool(Fischer))


for _function in (skew, kurtosis):
    register(
        _function,
        kind="reduction",
        accepts=_SKEW.accepts,
        cost="One allreduce of a few times the size of the result where the split axis is reduced; none otherwise.",
    )


# -- weighted means ---------------------------------------------------------------------------------------------

_AVERAGE = Row(
    "average",
    weighted_mean,
    by("sum"),
    quotient,
    0,
    types.ALL,
    same,
    wide_accumulator,
    temporary=True,
    weighs=True,
)


def average(
    x: DNDarray,
    axis: int | tuple[int, ...] | None = None,
    weights: object = None,
    returned: bool = False,
    *,
    keepdims: bool = False,
):
    """Return the weighted average over axes: the sum of weighted elements over the sum of the weights.

    *Distribution*: where the split axis is reduced, the results are replicated and the ranks combine in one allreduce
    of twice the size of the result; otherwise the split stays, and where there are weights one message of 8 bytes
    tells whether any rank's add up to zero. Weights of the layout of `x`, and replicated ones, are not moved.

    Parameters
    ----------
    x : DNDarray
        Input of any shape and layout.
    axis : int or tuple of int, optional
        Axes to reduce; all of them by default.
    weights : array_like, optional
        Of the shape of `x`, or of the shape of the reduced axes in the order of `axis`. All 1 by default.
    returned : bool
        Return the sum of the weights, too.
    keepdims : bool
        Keep the reduced axes with extent 1.

    Returns
    -------
    DNDarray, or two of them
        Of the promoted dtype of `x` and the weights; float64 for integers.

    Raises
    ------
    ZeroDivisionError
        If weights add up to zero.
    LayoutError
        If the weights do not fit.

    Examples
    --------
    >>> ht.average(ht.arange(4, split=0), weights=[4, 3, 2, 1]).item()
    1.0
    """
    if weights is None:
        result = mean(x, axis, keepdims=keepdims)
        if not returned:
            return result
        n = float(x.size // result.size if result.size else 0)
        return result, DNDarray(torch.full_like(result.larray, n), result.layout, result.comm)
    x = x if isinstance(x, DNDarray) else as_operand(x, common_comm([], "average"), _CPU, "average")
    weights = fitted_weights(as_operand(weights, x.comm, x.larray.device, "average"), x, axis, "average")
    dtype = types.result_type(x.dtype, weights.dtype, *([types.float64] if x.dtype.kind in "biu" else []))
    x, plan = prepare(_AVERAGE, x, axis, mean_result(dtype), keepdims, True)
    carry = reduce(_AVERAGE, x, plan, weights)
    error = None
    if bool((carry[1] == 0).any()):
        error = ZeroDivisionError("average: weights must not add up to zero; drop these rows or columns")
    if plan.layout.split is not None:
        x.comm.agree(error)
    elif error is not None:
        raise error
    value, total = (
        DNDarray(c.reshape(plan.lshape).to(plan.result.torch), plan.layout, x.comm)
        for c in (carry[0] / carry[1], carry[1])
    )
    return (value, total) if returned else value


_CPU = torch.device("cpu")


def fitted_weights(weights: DNDarray, x: DNDarray, axis: object, op: str) -> DNDarray:
    """Return weights that broadcast to `x`: those of the reduced axes get axes of extent 1 for the others."""
    if weights.shape == x.shape:
        return weights
    axes = normalize_axes(axis, x.ndim, op)
    if axis is None:
        raise LayoutError(f"{op}: weights must have shape {x.shape} without axis, got {weights.shape}")
    given = [a % x.ndim for a in (axis if isinstance(axis, (tuple, list)) else (axis,))]
    if weights.shape != tuple(x.shape[a] for a in given):
        raise LayoutError(
            f"{op}: weights must have shape {x.shape} or {tuple(x.shape[a] for a in given)}, got {weights.shape}"
        )
    order = sorted(range(len(given)), key=given.__getitem__)
    layout, local = weights.layout.permute(order), weights.larray.permute(order)
    for a in range(x.ndim):
        if a not in axes:
            layout, local = layout.insert(a), local.unsqueeze(a)
    return DNDarray(local, layout, weights.comm)


register(
    average,
    kind="average",
    numpy="average",
    cost="One allreduce of twice the size of the result where the split axis is reduced; one of 8 bytes otherwise.",
)
