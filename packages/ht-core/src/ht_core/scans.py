"""Cumulative sums and products, one row each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from .dndarray import DNDarray
from .engines.scan import SUM, Row, execute
from .registry import register

_PROD = Row(
    "cumprod",
    torch.cumprod,
    torch.Tensor.cumprod_,
    torch.prod,
    torch.Tensor.mul_,
    operator="prod",
    identity=1,
)

_DOC = """{summary}

{body}
*Distribution*: the split stays. Along the split axis the ranks combine in one exscan of one row (the size of `x`
without that axis); along other axes nothing is sent.{flattening}

Parameters
----------
x : DNDarray
    Numeric or bool, of any layout. Not changed.
axis : int, optional
    {axis}
dtype : dtype, optional
    Dtype of the result and of the accumulation; 64 bits for smaller integers and bool by default.
out : DNDarray, optional
    Where the result is written; it keeps its layout.
{initial}
Returns
-------
DNDarray
    Of the shape of `x`{shape}.

Raises
------
LayoutError
    If the axis is out of range, or `out` has another shape.
DTypeError
    If the dtype is bool, or `out` cannot hold the result.

Examples
--------
>>> ht.{name}(ht.arange(1, 5, split=0){call}).numpy().tolist()
{output}
"""


def _scan(name: str, row: Row, summary: str, output: str, aliases: tuple[str, ...] = ()) -> Callable:
    """Define NumPy's form: without an axis the array is flattened."""
    row = replace(row, name=name)

    def function(x: object, /, axis=None, dtype=None, out=None) -> DNDarray:
        return execute(row, x, axis, dtype, out)

    def inplace(self: DNDarray, axis=None) -> DNDarray:
        return execute(row, self, axis, self.dtype, self)

    inplace.__name__, inplace.__doc__ = f"{name}_", f"Write :func:`{name}` over the array; return it."
    for alias in (name, *aliases) if not row.skips_nan else ():
        setattr(DNDarray, f"{alias}_", inplace)
    return _finished(name, function, summary, output, row, aliases, standard=False)


def _cumulative(name: str, row: Row, summary: str, output: str) -> Callable:
    """Define the Array API's form, which can include the initial element."""
    row = replace(row, name=name)

    def function(x: object, /, *, axis=None, dtype=None, out=None, include_initial=False) -> DNDarray:
        return execute(row, x, axis, dtype, out, bool(include_initial), flattens=False)

    return _finished(name, function, summary, output, row, (), standard=True)


def _finished(name, function, summary, output, row, aliases, standard: bool) -> Callable:
    function.__name__ = function.__qualname__ = name
    function.__module__ = "ht_core"
    function.__doc__ = _DOC.format(
        name=name,
        summary=summary,
        body=f"NaN counts as {row.identity}.\n" if row.skips_nan else "",
        flattening="" if standard else " Without `axis`, see :func:`ravel` for what flattening costs.",
        axis="The axis; may be left out for a 1-D array."
        if standard
        else "The axis; the flattened array by default.",
        initial=f"include_initial : bool\n    Begin with {row.identity}, on rank 0.\n" if standard else "",
        shape="; one longer along the axis with `include_initial`" if standard else "; 1-D without `axis`",
        call="",
        output=output,
    )
    return register(
        function,
        kind="scan",
        numpy=name,
        accepts="biufc",
        cost="One exscan of one row along the split axis; none otherwise.",
        aliases=aliases,
    )


_NANSUM, _NANPROD = replace(SUM, skips_nan=True), replace(_PROD, skips_nan=True)
cumsum = _scan("cumsum", SUM, "Return cumulative sums along an axis.", "[1, 3, 6, 10]")
cumprod = _scan(
    "cumprod", _PROD, "Return cumulative products along an axis.", "[1, 2, 6, 24]", ("cumproduct",)
)
nancumsum = _scan(
    "nancumsum", _NANSUM, "Return cumulative sums of the numbers along an axis.", "[1, 3, 6, 10]"
)
nancumprod = _scan(
    "nancumprod", _NANPROD, "Return cumulative products of the numbers along an axis.", "[1, 2, 6, 24]"
)
cumulative_sum = _cumulative("cumulative_sum", SUM, "Return cumulative sums along an axis.", "[1, 3, 6, 10]")
cumulative_prod = _cumulative(
    "cumulative_prod", _PROD, "Return cumulative products along an axis.", "[1, 2, 6, 24]"
)
