"""Sums, products, extremes and tests over axes, one row each.

Means and higher moments are in ``moments.py``, the variants that leave NaN out in ``nan_reductions.py``, order
statistics in ``quantiles.py``.
"""

import torch

from . import types
from .engines.monoid import Carry, by, by_index
from .engines.ordered import from_ordered
from .engines.reduction import Domain, as_is
from .engines.reduction_kernels import arg, count, extreme, over, product, reverse, span, test
from .engines.reduction_rows import reduction


def sum_result(dtype: types.dtype) -> types.dtype:
    """Sum integers in 64 bits, as NumPy."""
    return {"b": types.int64, "i": types.int64, "u": types.uint64}.get(dtype.kind, dtype)


def int64_result(dtype: types.dtype) -> types.dtype:
    """Count and index in int64."""
    return types.int64


def restored(carry: Carry, domain: Domain) -> torch.Tensor:
    """Finish with the value whose ordered image is the carry."""
    return from_ordered(carry[0], domain.source)


def index_of(carry: Carry, domain: Domain) -> torch.Tensor:
    """Finish with the index of (value, index)."""
    return carry[1]


def _span(carry: Carry, domain: Domain) -> torch.Tensor:
    top, bottom = carry[0], reverse(carry[1])
    if domain.source not in types.WIDE_UNSIGNED:
        return top - bottom
    # The images of unsigned integers are shifted alike: their difference, as unsigned bits, is that of the values.
    return (top - bottom).view(domain.source)


#: What a reduction and its variant that leaves NaN out have in common.
_TOTAL = {
    "result": sum_result,
    "returns": "Of the dtype of `x`; int64 (uint64) for smaller integers and bool.",
}
SUM = {"monoid": by("sum"), "identity": 0, **_TOTAL}
PROD = {"monoid": by("prod"), "identity": 1, **_TOTAL}
EXTREME = {"finish": restored, "accepts": "biuf", "accumulate": as_is, "takes": "extreme"}
_INDEX = {
    "finish": index_of,
    "accepts": "biuf",
    "result": int64_result,
    "accumulate": as_is,
    "temporary": True,
    "takes": "index",
    "returns": "Of dtype int64.",
    "body": "The message holds 16 bytes per element of the result: value and index.",
}

sum = reduction(
    "sum",
    over(torch.sum, 0),
    "Add up elements over axes.",
    **SUM,
    body="16-bit floats are accumulated in float32; integers are exact modulo 2**64.",
)
prod = reduction("prod", product, "Multiply elements over axes.", **PROD)
max = reduction(
    "max",
    extreme(torch.amax, True),
    "Return the largest element over axes; NaN wins.",
    monoid=by("max"),
    **EXTREME,
    aliases=("amax",),
)
min = reduction(
    "min",
    extreme(torch.amin, False),
    "Return the smallest element over axes; NaN wins.",
    monoid=by("min"),
    **EXTREME,
    aliases=("amin",),
)
ptp = reduction(
    "ptp",
    span,
    "Return the largest minus the smallest element over axes; NaN wins.",
    monoid=by("max"),
    finish=_span,
    accepts=types.REAL,
    accumulate=as_is,
    takes="plain",
    body="Both travel in one message, the smallest as the largest in reverse order. Integers wrap, as in NumPy.",
)
all = reduction(
    "all",
    test(torch.all, True),
    "Tell whether all elements over axes are nonzero.",
    monoid=by("land"),
    identity=True,
    result=lambda dtype: types.bool_,
    accumulate=as_is,
    takes="test",
    returns="Of dtype bool.",
    body="NaN is nonzero.",
)
any = reduction(
    "any",
    test(torch.any, False),
    "Tell whether any element over axes is nonzero.",
    monoid=by("lor"),
    identity=False,
    result=lambda dtype: types.bool_,
    accumulate=as_is,
    takes="test",
    returns="Of dtype bool.",
    body="NaN is nonzero.",
)
count_nonzero = reduction(
    "count_nonzero",
    count,
    "Count nonzero elements over axes.",
    monoid=by("sum"),
    identity=0,
    result=int64_result,
    accumulate=as_is,
    temporary=True,
    takes="test",
    returns="Of dtype int64.",
)
argmax = reduction(
    "argmax",
    arg(torch.argmax, True),
    "Return the index of the first largest element along an axis, or in the flattened array; NaN wins.",
    monoid=by_index("argmax"),
    **_INDEX,
)
argmin = reduction(
    "argmin",
    arg(torch.argmin, False),
    "Return the index of the first smallest element along an axis, or in the flattened array; NaN wins.",
    monoid=by_index("argmin"),
    **_INDEX,
)
