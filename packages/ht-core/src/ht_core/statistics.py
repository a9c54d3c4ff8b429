"""Reductions: sums, extremes, moments and tests over axes, one row each.

The kernels below get this rank's part and a `Domain`, and return carries with the reduced axes kept at extent 1. A
rank without rows returns the carries of no element, which leave the others' unchanged.
"""

import builtins
import math

import numpy as np
import torch

from . import types
from .engines.reduction import Carry, Domain, by, by_index, by_moments, reduction

_REAL = "biuf"


def _kept_shape(x: torch.Tensor, domain: Domain) -> list[int]:
    return [1 if a in domain.axes else n for a, n in enumerate(x.shape)]


def _over(kernel):
    """Return the carry function of a torch reduction that takes a tuple of axes."""

    def local(x: torch.Tensor, domain: Domain) -> Carry:
        if not domain.axes:  # torch reads an empty tuple as all axes; here each element is reduced by itself
            return (kernel(x.unsqueeze(-1), dim=-1, keepdim=False),)
        return (kernel(x, dim=domain.axes, keepdim=True),)

    return local


def _prod(x: torch.Tensor, domain: Domain) -> Carry:
    for axis in domain.axes:
        x = torch.prod(x, dim=axis, keepdim=True)
    return (x if domain.axes else x.clone(),)


def _limit(x: torch.Tensor, largest: bool) -> object:
    """Return the value that every element of the dtype beats or equals."""
    if x.dtype is torch.bool:
        return not largest
    if x.is_floating_point():
        return -math.inf if largest else math.inf
    return torch.iinfo(x.dtype).min if largest else torch.iinfo(x.dtype).max


def _extreme(kernel, ufunc, largest: bool):
    def local(x: torch.Tensor, domain: Domain) -> Carry:
        if x.numel() == 0:
            return (torch.full(_kept_shape(x, domain), _limit(x, largest), dtype=x.dtype, device=x.device),)
        if not domain.axes:
            return (x.clone(),)
        if x.dtype in types.WIDE_UNSIGNED:  # torch has no kernel for them
            value = ufunc.reduce(x.cpu().numpy(), axis=domain.axes, keepdims=True)
            return (torch.from_numpy(value).to(x.device),)
        return (kernel(x, dim=domain.axes, keepdim=True),)

    return local


def _arg(kernel, nkernel, largest: bool):
    extreme = _extreme(*((torch.amax, np.maximum) if largest else (torch.amin, np.minimum)), largest)

    def local(x: torch.Tensor, domain: Domain) -> Carry:
        (value,) = extreme(x, domain)
        if x.numel() == 0:
            return value, torch.full(value.shape, torch.iinfo(torch.int64).max, device=x.device)
        flat = (
            len(domain.axes) != 1
        )  # axis=None of an array that is not 1-D: the index is into the flattened array
        axis = None if flat else domain.axes[0]
        if x.dtype in types.WIDE_UNSIGNED:
            index = torch.from_numpy(np.asarray(nkernel(x.cpu().numpy(), axis=axis))).to(x.device)
        else:
            index = kernel(x.to(torch.uint8) if x.dtype is torch.bool else x, dim=axis)
        if flat:
            return value, _global_flat(index, x.shape, domain).reshape(value.shape)
        return value, index.reshape(value.shape) + domain.offset

    return local


def _global_flat(index: torch.Tensor, lshape: torch.Size, domain: Domain) -> torch.Tensor:
    """Turn an index into the flattened local part into one into the flattened global array.

    The order of a part's elements is their order in the whole, so the first hit stays the first.
    """
    if domain.split is None:
        return index
    inner, extent = math.prod(domain.shape[domain.split + 1 :]), lshape[domain.split]
    outer, row, rest = index // (inner * extent), index // inner % extent, index % inner
    return (outer * domain.shape[domain.split] + row + domain.offset) * inner + rest


def _second(carry: Carry, domain: Domain) -> torch.Tensor:
    return carry[1]


def _mean(carry: Carry, domain: Domain) -> torch.Tensor:
    return carry[0] / float(domain.n)


def _moments(x: torch.Tensor, domain: Domain, ddof: float = 0) -> Carry:
    n = math.prod(x.shape[a] for a in domain.axes)
    shape = _kept_shape(x, domain)
    if x.is_complex():  # the two parts are two variables; their M2 are added at the end
        x, shape = torch.view_as_real(x), [*shape, 2]
    if x.numel() == 0 or not domain.axes:
        mean = x.double() if x.numel() else torch.zeros(shape, dtype=torch.float64, device=x.device)
        return torch.tensor(float(n), device=x.device, dtype=torch.float64), mean, torch.zeros_like(mean)
    var, mean = torch.var_mean(x, dim=domain.axes, correction=0, keepdim=True)
    return torch.tensor(float(n), device=x.device, dtype=torch.float64), mean.double(), var.double() * n


def _variance(carry: Carry, domain: Domain, ddof: float = 0) -> torch.Tensor:
    m2 = carry[2]
    if m2.ndim > len(domain.shape):
        m2 = m2.sum(-1)
    return m2 / builtins.max(domain.n - ddof, 0.0)


def _sum_result(dtype: types.dtype) -> types.dtype:
    return {"b": types.int64, "i": types.int64, "u": types.uint64}.get(dtype.kind, dtype)


def _mean_result(dtype: types.dtype) -> types.dtype:
    return dtype if dtype.kind in "fc" else types.float64


def _real_mean_result(dtype: types.dtype) -> types.dtype:
    return types.to_real(_mean_result(dtype))


def _as_is(dtype: types.dtype, result: types.dtype) -> types.dtype:
    return dtype


def _floating_input(dtype: types.dtype, result: types.dtype) -> types.dtype:
    wide = types.float64 if dtype.kind in "biu" else dtype
    return types.float32 if wide in (types.float16, types.bfloat16) else wide


sum = reduction(
    "sum",
    _over(torch.sum),
    "Add up elements over axes.",
    combine=by("sum"),
    identity=0,
    result=_sum_result,
    returns="Of the dtype of `x`; int64 (uint64) for smaller integers and bool.",
    body="16-bit floats are accumulated in float32; integers are exact modulo 2**64.",
)
prod = reduction(
    "prod",
    _prod,
    "Multiply elements over axes.",
    combine=by("prod"),
    identity=1,
    result=_sum_result,
    returns="Of the dtype of `x`; int64 (uint64) for smaller integers and bool.",
)
max = reduction(
    "max",
    _extreme(torch.amax, np.maximum, True),
    "Return the largest element over axes; NaN wins.",
    combine=by("max"),
    accepts=_REAL,
    accumulate=_as_is,
    takes="extreme",
    aliases=("amax",),
)
min = reduction(
    "min",
    _extreme(torch.amin, np.minimum, False),
    "Return the smallest element over axes; NaN wins.",
    combine=by("min"),
    accepts=_REAL,
    accumulate=_as_is,
    takes="extreme",
    aliases=("amin",),
)
all = reduction(
    "all",
    _over(lambda x, dim, keepdim: torch.all(x.bool(), dim=dim, keepdim=keepdim)),
    "Tell whether all elements over axes are nonzero.",
    combine=by("land"),
    identity=True,
    result=lambda dtype: types.bool_,
    accumulate=_as_is,
    takes="plain",
    returns="Of dtype bool.",
)
any = reduction(
    "any",
    _over(lambda x, dim, keepdim: torch.any(x.bool(), dim=dim, keepdim=keepdim)),
    "Tell whether any element over axes is nonzero.",
    combine=by("lor"),
    identity=False,
    result=lambda dtype: types.bool_,
    accumulate=_as_is,
    takes="plain",
    returns="Of dtype bool.",
)
count_nonzero = reduction(
    "count_nonzero",
    _over(lambda x, dim, keepdim: torch.sum(x != 0, dim=dim, keepdim=keepdim)),
    "Count nonzero elements over axes.",
    combine=by("sum"),
    identity=0,
    result=lambda dtype: types.int64,
    accumulate=_as_is,
    takes="plain",
    returns="Of dtype int64.",
)
argmax = reduction(
    "argmax",
    _arg(torch.argmax, np.argmax, True),
    "Return the index of the first largest element along an axis, or in the flattened array; NaN wins.",
    combine=by_index("max"),
    finish=_second,
    accepts=_REAL,
    result=lambda dtype: types.int64,
    accumulate=_as_is,
    takes="index",
    messages="two allreduces",
    returns="Of dtype int64.",
)
argmin = reduction(
    "argmin",
    _arg(torch.argmin, np.argmin, False),
    "Return the index of the first smallest element along an axis, or in the flattened array; NaN wins.",
    combine=by_index("min"),
    finish=_second,
    accepts=_REAL,
    result=lambda dtype: types.int64,
    accumulate=_as_is,
    takes="index",
    messages="two allreduces",
    returns="Of dtype int64.",
)
mean = reduction(
    "mean",
    _over(torch.sum),
    "Return the arithmetic mean over axes.",
    combine=by("sum"),
    finish=_mean,
    identity=0,
    result=_mean_result,
    takes="mean",
    returns="Of the dtype of `x`; float64 for integers.",
    body="The mean of no element is NaN.",
)

_MOMENTS = (
    "Each rank computes (n, mean, M2), which merge pairwise without cancellation.\n\n"
    "References: T. F. Chan, G. H. Golub, R. J. LeVeque, Algorithms for computing the sample variance, The American\n"
    "Statistician 37, 1983, doi:10.1080/00031305.1983.10483115."
)
var = reduction(
    "var",
    _moments,
    "Return the variance over axes.",
    combine=by_moments,
    finish=_variance,
    identity=0,
    result=_real_mean_result,
    accumulate=_floating_input,
    takes="ddof",
    returns="Of the dtype of `x`, real; float64 for integers.",
    body=_MOMENTS,
)
std = reduction(
    "std",
    _moments,
    "Return the standard deviation over axes.",
    combine=by_moments,
    finish=lambda carry, domain, ddof=0: torch.sqrt(_variance(carry, domain, ddof)),
    identity=0,
    result=_real_mean_result,
    accumulate=_floating_input,
    takes="ddof",
    returns="Of the dtype of `x`, real; float64 for integers.",
    body=_MOMENTS,
)
