"""Choosing elements by a condition."""

from __future__ import annotations

import torch

from . import types
from .engines.elementwise import Row, execute
from .indexing import nonzero
from .registry import register


def _select(condition, x, y, out=None):
    return torch.where(condition, x, y) if out is None else torch.where(condition, x, y, out=out)


_WHERE = Row("where", _select, types.ALL, compute="common", result="common", numpy="where", conditions=1)


def where(condition: object, x1: object = None, x2: object = None, /):
    """Choose from `x1` where the condition is true and from `x2` elsewhere.

    The branch not taken has no influence: a NaN in it stays there. With the condition alone, see :func:`nonzero`.

    *Distribution*: elementwise. No message where the layouts are equal or operands are replicated.

    Parameters
    ----------
    condition : array_like
        Nonzero means true.
    x1, x2 : array_like
        Values; the result has their promoted dtype.

    Raises
    ------
    LayoutError
        If the shapes do not broadcast, or one of `x1` and `x2` is missing.

    Examples
    --------
    >>> ht.where(ht.arange(3, split=0) > 1, 5, 0).numpy().tolist()
    [0, 0, 5]
    """
    if x1 is None and x2 is None:
        return nonzero(condition)
    if x1 is None or x2 is None:
        raise types.DTypeError("where: x1 and x2 must be given both or not at all")
    return execute(_WHERE, (condition, x1, x2), None, True)


register(where, kind="elementwise", numpy="where", arity=3, method=False)
