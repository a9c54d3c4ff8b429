"""Rows of reductions: from a kernel and its algebra to the public function, its signature and its documentation.

How a reduction runs is in :mod:`ht_core.engines.reduction`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from .. import types
from ..dndarray import DNDarray
from ..errors import LayoutError
from ..layout import normalize_axes
from ..registry import register
from .elementwise import as_operand
from .monoid import Carry, Monoid
from .redistribution import redistribute
from .reduction import TILE_BYTES, Row, execute, first, same, wide_accumulator

_DOC = """{summary}

{body}
*Distribution*: where the split axis is reduced, the result is replicated and the ranks combine in {messages} of the
size of the result; otherwise the split stays and nothing is sent. No temporary larger than a tile of {tile} KiB.

Parameters
----------
x : DNDarray
    Input of any shape and layout.
axis : int or tuple of int, optional
    Axes to reduce; all of them by default.
{dtype}out : DNDarray, optional
    Where the result is written; it keeps its layout.
keepdims : bool
    Keep the reduced axes with extent 1.
{more}
Returns
-------
DNDarray
    {returns}

Raises
------
LayoutError
    If an axis is out of range or named twice{empty}.
DTypeError
    If the dtype is not accepted.
"""

_DTYPE = "dtype : dtype, optional\n    Dtype of the result and of the accumulation.\n"
_WHERE = "where : array of bool, optional\n    Reduce only the elements where True.\n"
_INITIAL = "initial : scalar, optional\n    One more element of every reduction.\n"
_DDOF = (
    "ddof : int or float\n    The divisor is n - ddof. `correction` is the Array API's name for it.\n"
    "mean : array, optional\n    The mean, with the reduced axes kept, where it is known already.\n"
)


def reduction(
    name: str,
    local: Callable[..., Carry],
    summary: str,
    *,
    monoid: Monoid,
    finish: Callable = first,
    identity: object = None,
    accepts: str = types.ALL,
    result: Callable[[types.dtype], types.dtype] = same,
    accumulate: Callable[[types.dtype, types.dtype], types.dtype] = wide_accumulator,
    skips_nan: bool = False,
    temporary: bool = False,
    takes: str = "dtype",
    returns: str = "Of the dtype of `x`.",
    body: str = "",
    numpy: str | None = "",
    aliases: tuple[str, ...] = (),
    method: bool = True,
) -> Callable[..., DNDarray]:
    """Define a reduction: the public function and its method.

    `takes` picks the signature, a key of ``_SIGNATURES``: "dtype" (as ``sum``), "mean", "test" (as ``any``), "count",
    "plain" (as ``ptp``), "extreme" (as ``max``), "index" (as ``argmax``) or "ddof" (as ``var``).
    """
    row = Row(
        name, local, monoid, finish, identity, accepts, result, accumulate, skips_nan, temporary=temporary
    )
    function = _SIGNATURES[takes](row)
    function.__name__ = function.__qualname__ = name
    function.__module__ = "ht_core"
    function.__doc__ = _DOC.format(
        summary=summary,
        body=body + "\n" if body else "",
        messages="one allreduce",
        tile=TILE_BYTES >> 10,
        dtype=_DTYPE if takes in ("dtype", "mean", "ddof") else "",
        more=_MORE.get(takes, ""),
        returns=returns,
        empty="" if identity is not None else ", or the reduced axes are empty",
    )
    return register(
        function,
        kind="reduction",
        numpy=name if numpy == "" else numpy,
        accepts=accepts,
        cost="One allreduce of the size of the result where the split axis is reduced; none otherwise.",
        method=method,
        aliases=aliases,
    )


def _with_dtype(row: Row) -> Callable:
    def function(x, /, axis=None, dtype=None, out=None, keepdims=False, initial=None, where=True):
        return execute(row, x, axis, dtype, out, keepdims, where, initial)

    return function


def _mean(row: Row) -> Callable:
    def function(x, /, axis=None, dtype=None, out=None, keepdims=False, *, where=True):
        return execute(row, x, axis, dtype, out, keepdims, where)

    return function


def _extreme(row: Row) -> Callable:
    def function(x, /, axis=None, out=None, keepdims=False, initial=None, where=True):
        return execute(row, x, axis, None, out, keepdims, where, initial)

    return function


def _index(row: Row) -> Callable:
    def function(x, /, axis=None, out=None, *, keepdims=False):
        if axis is not None and not hasattr(axis, "__index__"):
            raise LayoutError(f"{row.name}: axis must be an integer or None, got {axis!r}")
        return execute(row, x, axis, None, out, keepdims)

    return function


def _test(row: Row) -> Callable:
    def function(x, /, axis=None, out=None, keepdims=False, *, where=True):
        return execute(row, x, axis, None, out, keepdims, where)

    return function


def _plain(row: Row) -> Callable:
    def function(x, /, axis=None, out=None, keepdims=False):
        return execute(row, x, axis, None, out, keepdims)

    return function


def _with_ddof(row: Row) -> Callable:
    def function(
        x,
        /,
        axis=None,
        dtype=None,
        out=None,
        ddof=0,
        keepdims=False,
        *,
        where=True,
        mean=None,
        correction=None,
    ):
        if ddof != 0 and correction is not None:
            raise ValueError(
                f"{row.name}: ddof must be left out where correction is given, got {ddof} and {correction}"
            )
        ddof = ddof if correction is None else correction
        center = None if mean is None else _center(row, x, axis, mean)
        return execute(row, x, axis, dtype, out, keepdims, where, ddof=ddof, center=center)

    return function


def _center(row: Row, x: DNDarray, axis: object, mean: object) -> torch.Tensor:
    """Return this rank's part of a mean given with the reduced axes kept."""
    mean = as_operand(mean, x.comm, x.larray.device, row.name)
    target = x.layout.keep(normalize_axes(axis, x.ndim, row.name))
    if mean.shape != target.shape:
        raise LayoutError(f"{row.name}: mean must have shape {target.shape}, got {mean.shape}")
    return redistribute(mean.larray, mean.layout, target, x.comm)


_SIGNATURES = {
    "dtype": _with_dtype,
    "mean": _mean,
    "plain": _plain,
    "test": _test,
    "count": _test,
    "extreme": _extreme,
    "index": _index,
    "ddof": _with_ddof,
}
_MORE = {
    "dtype": _INITIAL + _WHERE,
    "extreme": _INITIAL + _WHERE,
    "mean": _WHERE,
    "test": _WHERE,
    "count": _WHERE,
    "ddof": _WHERE + _DDOF,
}
