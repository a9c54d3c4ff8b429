"""Reductions that leave NaN out, one row each.

NaN is left out tile by tile: no copy of the data is made. A slice of NaN alone gives what NumPy gives, without its
warning, since ranks would warn apart.
"""

from __future__ import annotations

import torch

from .dndarray import DNDarray
from .engines.monoid import by, by_index, by_moments
from .engines.reduction import (
    Row,
    as_is,
    check_out,
    deliver,
    floating_accumulator,
    prepare,
    reduce,
)
from .engines.reduction_kernels import arg, central, mean, nan_extreme, over, product
from .engines.reduction_rows import reduction
from .errors import LayoutError
from .moments import MOMENTS, deviation, mean_result, quotient, variance, variance_result
from .registry import register
from .statistics import EXTREME, PROD, SUM, index_of, int64_result

nansum = reduction(
    "nansum",
    over(torch.sum, 0),
    "Add up elements over axes, NaN as 0.",
    **SUM,
    skips_nan=True,
)
nanprod = reduction(
    "nanprod",
    product,
    "Multiply elements over axes, NaN as 1.",
    **PROD,
    skips_nan=True,
)
nanmax = reduction(
    "nanmax",
    nan_extreme(torch.amax, True),
    "Return the largest number over axes; NaN only where there is no number.",
    monoid=by("fmax"),
    **EXTREME,
    skips_nan=True,
)
nanmin = reduction(
    "nanmin",
    nan_extreme(torch.amin, False),
    "Return the smallest number over axes; NaN only where there is no number.",
    monoid=by("fmin"),
    **EXTREME,
    skips_nan=True,
)
nanmean = reduction(
    "nanmean",
    mean,
    "Return the arithmetic mean of the numbers over axes.",
    monoid=by("sum"),
    finish=quotient,
    identity=0,
    result=mean_result,
    skips_nan=True,
    takes="mean",
    returns="Of the dtype of `x`; float64 for integers. NaN where there is no number.",
)
_MOMENT_ROW = {
    "monoid": by_moments(),
    "identity": 0,
    "result": variance_result,
    "accumulate": floating_accumulator,
    "skips_nan": True,
    "temporary": True,
    "takes": "ddof",
    "returns": "Of the dtype of `x`, real; float64 for integers. NaN where there are not more than ddof numbers.",
    "body": MOMENTS,
}


def _defined(finish):
    def finished(carry, domain, ddof=0, center=None):
        value = finish(carry, domain, ddof, center)
        n = carry[0][..., 0] if carry[0].ndim > len(domain.shape) else carry[0]
        return torch.where(n - ddof > 0, value, torch.nan)

    return finished


nanvar = reduction(
    "nanvar",
    central(2),
    "Return the variance of the numbers over axes.",
    finish=_defined(variance),
    **_MOMENT_ROW,
)
nanstd = reduction(
    "nanstd",
    central(2),
    "Return the standard deviation of the numbers over axes.",
    finish=_defined(deviation),
    **_MOMENT_ROW,
)


def _nan_index(name: str, row: Row, best: str):
    def function(
        x: DNDarray, /, axis: int | None = None, out: DNDarray | None = None, *, keepdims: bool = False
    ) -> DNDarray:
        if axis is not None and not hasattr(axis, "__index__"):
            raise LayoutError(f"{name}: axis must be an integer or None, got {axis!r}")
        x, plan = prepare(row, x, axis, None, keepdims, False)
        if out is not None:
            check_out(row, out, plan, x.comm)
        index = reduce(row, x, plan)[1]
        error = ValueError(f"{name}: each slice must hold a number, got a slice of NaN alone")
        is_empty = bool((index < 0).any())
        if plan.layout.split is not None:
            x.comm.agree(error if is_empty else None)
        elif is_empty:
            raise error
        return deliver(index, plan, x.comm, out)

    function.__name__ = function.__qualname__ = name
    function.__module__ = "ht_core"
    function.__doc__ = f"""Return the index of the first {best} number along an axis, or in the flattened array.

    *Distribution*: where the split axis is reduced, the result is replicated and the ranks combine in one allreduce of
    16 bytes per element of it; otherwise the split stays, and one message of 8 bytes tells whether a slice holds no
    number.

    Parameters
    ----------
    x : DNDarray
        Real, of any shape and layout.
    axis : int, optional
        The axis to reduce; the index is into the flattened array by default.
    out : DNDarray, optional
        Where the result is written; it keeps its layout.
    keepdims : bool
        Keep the reduced axes with extent 1.

    Returns
    -------
    DNDarray
        Of dtype int64.

    Raises
    ------
    ValueError
        If a slice holds no number; on all ranks.
    LayoutError
        If the axis is out of range or empty.
    """
    return register(
        function,
        kind="reduction",
        numpy=name,
        accepts="biuf",
        cost="One allreduce of twice the size of the result where the split axis is reduced; one of 8 bytes otherwise.",
    )


def _index_row(name: str, kernel, op: str, largest: bool) -> Row:
    return Row(
        name,
        arg(kernel, largest),
        by_index(op),
        index_of,
        None,
        "biuf",
        int64_result,
        as_is,
        skips_nan=True,
        temporary=True,
    )


nanargmax = _nan_index("nanargmax", _index_row("nanargmax", torch.argmax, "argmax", True), "largest")
nanargmin = _nan_index("nanargmin", _index_row("nanargmin", torch.argmin, "argmin", False), "smallest")
