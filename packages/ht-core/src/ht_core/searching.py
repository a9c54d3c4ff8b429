"""Choosing elements by a condition; looking up values in a sorted vector."""

from __future__ import annotations

import torch

from . import types
from .dndarray import DNDarray
from .engines.choosing import choose
from .engines.elementwise import Row, as_operand, common_comm, execute
from .engines.elementwise_rows import direct_dtypes, number_beside
from .engines.sorted_lookup import look_up
from .errors import LayoutError
from .indexing import nonzero
from .registry import register

_WHERE = Row("where", choose, types.ALL, compute="common", result="common", numpy="where", conditions=1)
_DIRECT = direct_dtypes(_WHERE)
_number = number_beside(_DIRECT, scalars=False)


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
    if type(condition) is DNDarray and type(x1) is DNDarray and condition.larray.dtype is torch.bool:
        a = x1.larray
        if condition.layout is x1.layout and condition.comm is x1.comm and a.dtype in _DIRECT:
            b = None
            if type(x2) is not DNDarray:
                b = _number(x2, a)
            elif x1.layout is x2.layout and x1.comm is x2.comm and a.dtype is x2.larray.dtype:
                b = x2.larray
            if b is not None:
                return DNDarray(choose(condition.larray, a, b), x1.layout, x1.comm)
    return execute(_WHERE, (condition, x1, x2), None, True)


register(where, kind="elementwise", numpy="where", arity=3, method=False)


def searchsorted(x1: object, x2: object, /, side: str = "left", sorter: object = None) -> DNDarray:
    """Return where values would have to be inserted into a sorted vector to keep it sorted.

    *Distribution*: the layout of `x2`. The vector stays where it is. `x1` replicated: no message. `x1` split, `x2`
    replicated: one allreduce of 8 bytes per value. Both split: each value goes to the rank that knows its place, and 8
    bytes come back, besides an allgather of one element and an alltoall of one integer per rank. With `sorter`, x1 is
    first put in order by one exchange of its elements, as ``x1[sorter]``.

    Parameters
    ----------
    x1 : array_like, shape (n,)
        Sorted in ascending order, NaN last.
    x2 : array_like
        Values of any shape.
    side : {"left", "right"}
        Before or behind the elements that are equal to the value.
    sorter : array_like of int, shape (n,), optional
        Indices that sort `x1`.

    Returns
    -------
    DNDarray
        int64, of the shape of `x2`.

    Raises
    ------
    LayoutError
        If `x1` or `sorter` is not 1-D or `side` is unknown.

    Examples
    --------
    >>> ht.searchsorted(ht.array([1, 3, 5], split=0), [3, 6]).numpy().tolist()
    [1, 3]
    """
    if side not in ("left", "right"):
        raise LayoutError(f"searchsorted: side must be left or right, got {side!r}")
    arrays = [x for x in (x1, x2, sorter) if isinstance(x, DNDarray)]
    comm = common_comm(arrays, "searchsorted")
    device = arrays[0].larray.device if arrays else torch.device("cpu")
    common = types.result_type(
        *(x if hasattr(x, "dtype") or _is_number(x) else _as(x, comm, device) for x in (x1, x2))
    )
    x1, x2 = _as(x1, comm, device), _as(x2, comm, device)
    if x1.ndim != 1:
        raise LayoutError(f"searchsorted: x1 must be 1-D, got shape {x1.shape}")
    if sorter is not None:
        sorter = _as(sorter, comm, device)
        if sorter.shape != x1.shape:
            raise LayoutError(f"searchsorted: sorter must have shape {x1.shape}, got {sorter.shape}")
        x1 = x1[sorter]
    x1, x2 = x1.astype(common, copy=False), x2.astype(common, copy=False)
    found = look_up(x1.larray, x1.layout, x2.larray, side == "right", x2.split is not None, comm)
    return DNDarray(found, x2.layout, comm)


def _is_number(x: object) -> bool:
    return type(x) in (bool, int, float, complex)


def _as(x: object, comm, device: torch.device) -> DNDarray:
    return as_operand(x, comm, device, "searchsorted")


register(
    searchsorted,
    kind="searching",
    numpy="searchsorted",
    arity=2,
    cost="8 bytes per value, and the values where both operands are split; none where x1 is replicated.",
)
