"""Medians, percentiles and quantiles: exact, along any axes, in small messages.

How elements are found is in :mod:`ht_core.engines.order_statistics`; here are the rules that say which elements a
quantile lies between, and the interpolation.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from . import types
from .dndarray import DNDarray
from .engines.elementwise import as_operand, common_comm
from .engines.order_statistics import Columns
from .engines.ordered import from_ordered
from .engines.recording import assign, record_rule, to_layout
from .engines.redistribution import redistribute
from .engines.tracking import is_tracked, untracked, watch
from .engines.weighted_selection import select_weighted
from .errors import DTypeError, GradientError, LayoutError
from .layout import Layout, normalize_axes
from .registry import OPERATIONS, register

# -- which elements: real index t into the sorted column of n elements -------------------------------------------
# A rule returns (k, gamma): the quantile lies at fraction gamma between elements k and k + 1. Definitions 1 to 9 of
# R. J. Hyndman, Y. Fan, Sample quantiles in statistical packages, The American Statistician 50, 1996,
# doi:10.1080/00031305.1996.10473566, and NumPy's four further ones.

Rule = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]


def _plotting(alpha: float, beta: float) -> Rule:
    def rule(n: torch.Tensor, q: torch.Tensor) -> tuple:
        return _between(n * q + (alpha + q * (1 - alpha - beta)) - 1, n)

    return rule


def _between(t: torch.Tensor, n: torch.Tensor) -> tuple:
    t = torch.minimum(t.clamp(min=0), n - 1)
    k = t.floor()
    return k, t - k


def _linear(n: torch.Tensor, q: torch.Tensor) -> tuple:
    return _between((n - 1) * q, n)


def _whole(k: torch.Tensor, n: torch.Tensor) -> tuple:
    return torch.minimum(k.clamp(min=0), n - 1), torch.zeros_like(k)


def _inverted_cdf(n: torch.Tensor, q: torch.Tensor) -> tuple:
    return _whole((n * q - 1).ceil(), n)


def _averaged_inverted_cdf(n: torch.Tensor, q: torch.Tensor) -> tuple:
    t = n * q - 1
    k = t.floor()
    gamma = torch.where(t == k, 0.5, 1.0)
    return _clipped(k, gamma, n)


def _clipped(k: torch.Tensor, gamma: torch.Tensor, n: torch.Tensor) -> tuple:
    gamma = torch.where((k < 0) | (k >= n - 1), 0.0, gamma)
    return torch.minimum(k.clamp(min=0), n - 1), gamma


def _closest_observation(n: torch.Tensor, q: torch.Tensor) -> tuple:
    t = n * q - 1.5
    k = t.floor()
    return _whole(torch.where((t == k) & (k % 2 == 1), k, k + 1), n)


def _midpoint(n: torch.Tensor, q: torch.Tensor) -> tuple:
    t = (n - 1) * q
    return t.floor(), torch.where(t == t.floor(), 0.0, 0.5)


_RULES: dict[str, Rule] = {
    "inverted_cdf": _inverted_cdf,
    "averaged_inverted_cdf": _averaged_inverted_cdf,
    "closest_observation": _closest_observation,
    "interpolated_inverted_cdf": _plotting(0, 1),
    "hazen": _plotting(0.5, 0.5),
    "weibull": _plotting(0, 0),
    "linear": _linear,
    "median_unbiased": _plotting(1 / 3, 1 / 3),
    "normal_unbiased": _plotting(3 / 8, 3 / 8),
    "lower": lambda n, q: _whole(((n - 1) * q).floor(), n),
    "higher": lambda n, q: _whole(((n - 1) * q).ceil(), n),
    "midpoint": _midpoint,
    "nearest": lambda n, q: _whole(((n - 1) * q).round(), n),
}
#: Rules that name an element: the result keeps the dtype.
_NAMES_ELEMENT = {"inverted_cdf", "closest_observation", "lower", "higher", "nearest"}


# -- the computation -----------------------------------------------------------------------------------------


def _execute(op, x, q, axis, out, method, keepdims, weights, skips_nan, result) -> DNDarray:
    """Compute quantiles `q`, a float64 NumPy array of any shape; `result` is the dtype of the result."""
    axes = normalize_axes(tuple(axis) if isinstance(axis, list) else axis, x.ndim, op)
    if watch.is_on and is_tracked(x, out, weights):
        return _recorded(op, x, q, axes, out, method, keepdims, weights, skips_nan, result)
    columns = Columns(x.larray, x.layout, axes, x.comm)
    reduced = x.layout.keep(axes) if keepdims else x.layout.drop(axes)
    layout = reduced
    for extent in reversed(q.shape):
        layout = layout.insert(0, extent)
    if out is not None:
        _check_out(op, out, layout, result, x)
    shape = (*q.shape, *reduced.lshape(x.comm.rank))
    wanted = torch.from_numpy(np.ascontiguousarray(q)).reshape(1, -1).to(x.larray.device)
    if weights is not None:
        value, nan = _weighted(op, x, columns, weights, axis, axes, wanted, skips_nan, reduced)
        value = value.to(result.torch)
    elif columns.n == 0:
        value = torch.full((columns.m, q.size), math.nan, dtype=result.torch, device=x.larray.device)
        nan = None
    else:
        value, nan = _unweighted(x, columns, wanted, method, skips_nan, result)
    if nan is not None and result.kind == "f":
        value = torch.where(nan[:, None], math.nan, value)
    value = value.T.reshape(shape).contiguous()
    if out is None:
        return DNDarray(value, layout, x.comm)
    out.larray.copy_(redistribute(value, layout, out.layout, x.comm))
    return out


def _unweighted(x: DNDarray, columns: Columns, q, method: str, skips_nan: bool, result) -> tuple:
    """Return quantiles of shape (columns, wanted) and which columns are NaN."""
    low, high, gamma, nan = _ends(x, columns, q, method, skips_nan)
    if method in _NAMES_ELEMENT:
        return low.to(result.torch), nan
    wide = torch.float32 if result.torch in (torch.float16, torch.bfloat16) else result.torch
    low, high, gamma = low.to(wide), high.to(wide), gamma.to(wide)
    step = high - low
    # The two forms meet the ends exactly; equal or exact ends are taken as they are, infinite ones too.
    value = torch.where(gamma < 0.5, low + step * gamma, high - step * (1 - gamma))
    value = torch.where((gamma == 0) | (low == high), low, value)
    return torch.where(gamma == 1, high, value).to(result.torch), nan


def _ends(x: DNDarray, columns: Columns, q, method: str, skips_nan: bool) -> tuple:
    """Return the elements between which quantiles lie, where between, and which columns are NaN."""
    skips_nan = skips_nan and x.dtype.kind == "f"
    numbers = columns.count_numbers() if skips_nan else None
    if numbers is not None:
        n = numbers.clamp(min=1).double()[:, None]
    else:
        n = torch.full((columns.m, 1), float(columns.n), dtype=torch.float64, device=q.device)
    k, gamma = _RULES[method](n, q)
    k = k.to(torch.int64).expand(columns.m, q.numel())
    gamma = gamma.expand(k.shape)
    low, high, nan = columns.pick(k.contiguous(), (gamma > 0).contiguous(), numbers)
    nan = nan if numbers is None else numbers == 0
    low, high = (from_ordered(v, x.larray.dtype) for v in (low, high))
    return low, high, gamma, nan


def _weighted(op, x, columns, weights, axis, axes, q, skips_nan, reduced) -> tuple:
    from .moments import fitted_weights

    weights = fitted_weights(as_operand(weights, x.comm, x.larray.device, op), x, axis, op)
    target = x.layout if weights.shape == x.shape else None
    if target is None:
        split = x.split if x.split is not None and weights.shape[x.split] != 1 else None
        target = Layout(weights.shape, split, x.layout.counts if split is not None else ())
    local = redistribute(weights.larray, weights.layout, target, x.comm).expand(x.larray.shape)
    parallel = Columns(local, x.layout, axes, x.comm)
    value, nan, is_bad = select_weighted(columns, parallel, q, skips_nan)
    error = ValueError(f"{op}: weights must be finite, not negative and not all zero; drop these columns")
    if reduced.split is not None:
        x.comm.agree(error if is_bad else None)
    elif is_bad:
        raise error
    return from_ordered(value, x.larray.dtype), nan


# -- gradients -----------------------------------------------------------------------------------------------


def _recorded(op, x, q, axes, out, method, keepdims, weights, skips_nan, result) -> DNDarray:
    """Do what `_execute` does for an array that requires a gradient."""
    if weights is not None:
        raise GradientError(
            f"{op}: the operation has no derivative where weights are given; use x.detach() or ht.no_grad()"
        )

    def run(x: DNDarray) -> DNDarray:
        return _execute(op, x, q, axes, None, method, keepdims, None, skips_nan, result)

    if not is_tracked(x):  # `out` is
        return assign(out, run(x), op)
    derivative = partial(_derivative, q=q, axes=axes, method=method, keepdims=keepdims, skips_nan=skips_nan)
    value = record_rule(op, run, (x,), derivative)
    if out is None:
        return value
    _check_out(op, out, value.layout, result, x)
    return assign(out, value, op)


def _derivative(g: DNDarray, x: DNDarray, q: np.ndarray, axes, method, keepdims, skips_nan) -> list[DNDarray]:
    """Give the gradient of each quantile to the elements that it lies between; equal ones share it evenly.

    *Distribution*: the elements are looked for again, as by the function itself; one allreduce of the size of one
    quantile for each of the elements that a quantile lies between.
    """
    where, total, isnan = (OPERATIONS[name].function for name in ("where", "sum", "isnan"))
    plain, keep = untracked(x), x.layout.keep(axes)
    with torch.no_grad():
        columns = Columns(plain.larray, x.layout, axes, x.comm)
        if not columns.n:
            return [OPERATIONS["zeros_like"].function(plain)]
        wanted = torch.from_numpy(np.ascontiguousarray(q)).reshape(1, -1).to(plain.larray.device)
        low, high, gamma, nan = _ends(plain, columns, wanted, method, skips_nan)
        if nan is not None:
            low, high = (torch.where(nan[:, None], math.nan, end) for end in (low, high))

    def column(values: torch.Tensor) -> DNDarray:
        return DNDarray(values.reshape(keep.lshape(x.comm.rank)), keep, x.comm)

    kept = (None if a in axes and not keepdims else slice(None) for a in range(x.ndim))
    kept, found = tuple(kept), None
    for j, place in enumerate(np.ndindex(q.shape)):
        slope = g[(*place, *kept)]
        ends = [(low, 1 - gamma)] if method in _NAMES_ELEMENT else [(low, 1 - gamma), (high, gamma)]
        for values, share in ends:
            end = column(values[:, j])
            hit = (plain == end) | (isnan(plain) & isnan(end))
            share = column(share[:, j]) / total(hit, axis=axes, keepdims=True)
            part = where(hit, slope * share, 0.0)
            found = part if found is None else found + part
    if found is None:
        return [OPERATIONS["zeros_like"].function(plain)]
    return [to_layout(found.astype(x.dtype, copy=False), x.layout)]


def _check_out(op: str, out: object, layout: Layout, result: types.dtype, x: DNDarray) -> None:
    if not isinstance(out, DNDarray) or out.shape != layout.shape or out.comm is not x.comm:
        got = out.shape if isinstance(out, DNDarray) else type(out).__name__
        raise LayoutError(
            f"{op}: out must be a DNDarray of shape {layout.shape} on the communicator of x, got {got}"
        )
    if not types.can_cast(result, out.dtype, "same_kind"):
        raise DTypeError(f"{op}: out must be able to hold {result}, got {out.dtype}; cast with astype")


def _as_array(op: str, x: object, accepts: str) -> DNDarray:
    if not isinstance(x, DNDarray):
        x = as_operand(x, common_comm([], op), torch.device("cpu"), op)
    if x.dtype.kind not in accepts:
        raise DTypeError(f"{op}: the array must be real, got {x.dtype}; cast with astype")
    return x


def _quantiles(op, x, q, axis, out, method, keepdims, weights, skips_nan, scale) -> DNDarray:
    x = _as_array(op, x, "biuf")
    if method not in _RULES:
        raise ValueError(f"{op}: method must be one of {', '.join(_RULES)}, got {method!r}")
    if x.dtype is types.bool_ and method not in _NAMES_ELEMENT:
        raise DTypeError(f"{op}: the array must be numeric to interpolate, got {x.dtype}; cast with astype")
    if weights is not None and method != "inverted_cdf":
        raise ValueError(f"{op}: method must be 'inverted_cdf' where weights are given, got {method!r}")
    if is_tracked(q):
        raise GradientError(f"{op}: the operation has no derivative by q; use q.detach() or ht.no_grad()")
    is_scalar = isinstance(q, (int, float))
    q = q.numpy() if isinstance(q, DNDarray) else np.asarray(q)
    if q.dtype.kind not in "biuf":
        raise DTypeError(f"{op}: q must be real, got {q.dtype}")
    fractions = q.astype(np.float64) / scale
    if not bool(((fractions >= 0) & (fractions <= 1)).all()):
        raise ValueError(f"{op}: q must be in [0, {scale}], got {q.tolist()}")
    result = x.dtype
    if method not in _NAMES_ELEMENT:
        result = types.result_type(x.dtype, types.float64 if x.dtype.kind != "f" else x.dtype)
        if not is_scalar and q.dtype.kind == "f":
            result = types.result_type(result, q.dtype)
        elif not is_scalar:
            result = types.float64
    n = math.prod(x.shape[a] for a in normalize_axes(axis, x.ndim, op))
    if n == 0 and result.kind != "f":
        raise LayoutError(f"{op}: the reduced axes must not be empty, got shape {x.shape}")
    return _execute(op, x, fractions, axis, out, method, keepdims, weights, skips_nan, result)


def _median(op, x, axis, out, keepdims, skips_nan) -> DNDarray:
    x = _as_array(op, x, "biuf")
    result = x.dtype if x.dtype.kind == "f" else types.float64
    q = np.asarray(0.5)
    # The mean of the middle elements: "midpoint", whose index (n - 1) / 2 is exact in float64.
    return _execute(op, x, q, axis, out, "midpoint", keepdims, None, skips_nan, result)


_DOC = """{summary}

Exact, without gathering: elements are found by distributed selection, or each column is sorted by one rank.{nan} The
gradient goes to the elements that a result lies between; equal ones share it evenly.{unweighted}

*Distribution*: where the split axis is reduced, the result is replicated. Columns of more than 2^21 elements, or of
more than about 2^17 if they are fewer than ranks or one element is wanted of each, take about 6 to 12 small
messages, whatever the number of columns and quantiles: samples of at most 2 MiB in all, counts, and the last 32768
candidates. Others, and more than 4096 columns times quantiles, are dealt to the ranks in chunks, which
moves each element once, and sorted there. Where the split axis is not reduced, the split stays and nothing is sent.
Temporary memory: at most 64 MiB, except where several axes that are not neighbours are reduced (a copy).{weighted}

Parameters
----------
x : DNDarray
    Real, of any shape and layout. Not changed.
{q}axis : int or tuple of int, optional
    Axes to reduce; all of them by default.
out : DNDarray, optional
    Where the result is written; it keeps its layout.
overwrite_input : bool
    Accepted for NumPy's sake; the input is never changed.
{method}keepdims : bool
    Keep the reduced axes with extent 1.
{weights}
Returns
-------
DNDarray
    {returns}

Raises
------
LayoutError
    If an axis is out of range.
DTypeError
    If the array is complex.
{raises}
References
----------
R. W. Floyd, R. L. Rivest, Expected time bounds for selection, Communications of the ACM 18, 1975,
doi:10.1145/360680.360691.

Examples
--------
>>> {example}
{output}
"""
_Q = "q : float or array_like\n    {unit}; its axes come first in the result. Equal on all ranks.\n"
_METHOD = "method : str\n    One of NumPy's thirteen; 'linear' by default.\n"
_WEIGHTS = "weights : array_like, optional\n    With method 'inverted_cdf': weights as of :func:`average`.\n"
_WEIGHTED = (
    "\nWith weights, each rank sorts a copy of its part (12 bytes per element of float32, 16 of other dtypes, and "
    "five times a chunk of columns), and 9 messages of 2 KiB per column and quantile find all of them."
)
_COST = "About 6 to 12 small messages where the split axis is reduced; none otherwise."


def _documented(name: str, summary: str, unit: str | None, skips_nan: bool, example: str, output: str):
    def decorate(function: Callable) -> Callable:
        function.__name__ = function.__qualname__ = name
        function.__module__ = "ht_core"
        has_q = unit is not None
        function.__doc__ = _DOC.format(
            summary=summary,
            nan=" NaN is left out." if skips_nan else " A column with NaN gives NaN.",
            weighted=_WEIGHTED if has_q else "",
            unweighted=" With weights it is refused." if has_q else "",
            q=_Q.format(unit=unit) if has_q else "",
            method=_METHOD if has_q else "",
            weights=_WEIGHTS if has_q else "",
            returns="Of the dtype of `x`, float64 for integers"
            + (" and for arrays `q`; methods that name an element keep the dtype of `x`." if has_q else "."),
            raises="ValueError\n    If q, the method or the weights are not as above.\n" if has_q else "",
            example=example,
            output=output,
        )
        return register(function, kind="quantile", numpy=name, accepts="biuf", cost=_COST)

    return decorate


@_documented(
    "median", "Return the median over axes.", None, False, "ht.median(ht.arange(6, split=0)).item()", "2.5"
)
def median(x, /, axis=None, out=None, overwrite_input=False, keepdims=False):
    return _median("median", x, axis, out, keepdims, False)


@_documented(
    "nanmedian",
    "Return the median of the numbers over axes.",
    None,
    True,
    "ht.nanmedian(ht.array([1.0, ht.nan, 3.0], split=0)).item()",
    "2.0",
)
def nanmedian(x, /, axis=None, out=None, overwrite_input=False, keepdims=False):
    return _median("nanmedian", x, axis, out, keepdims, True)


def _quantile_function(name: str, scale: int, skips_nan: bool) -> Callable:
    def function(
        x,
        /,
        q,
        axis=None,
        out=None,
        overwrite_input=False,
        method="linear",
        keepdims=False,
        *,
        weights=None,
        interpolation=None,
    ):
        method = method if interpolation is None else interpolation
        return _quantiles(name, x, q, axis, out, method, keepdims, weights, skips_nan, scale)

    what = "percentiles" if scale == 100 else "quantiles"
    unit = "Percentages in [0, 100]" if scale == 100 else "Fractions in [0, 1]"
    summary = f"Return {what}{' of the numbers' if skips_nan else ''} over axes."
    example = f"ht.{name}(ht.arange(5, split=0), {scale // 4 or 0.25}).item()"
    return _documented(name, summary, unit, skips_nan, example, "1.0")(function)


quantile = _quantile_function("quantile", 1, False)
percentile = _quantile_function("percentile", 100, False)
nanquantile = _quantile_function("nanquantile", 1, True)
nanpercentile = _quantile_function("nanpercentile", 100, True)
