"""The memory budget: how large a single result may get on a rank before it is refused.

The engines of redistribution and creation ask here before they allocate or send. What they ask is a function of layouts
and of the budget, which all ranks set alike, so that an operation is refused on all ranks or on none.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING

from .errors import LayoutError, MemoryBudgetError

if TYPE_CHECKING:
    from .layout import Layout

_current = threading.local()
_UNITS = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


class _Switch:
    """Whether a budget has ever been set: until then nothing is computed."""

    is_on = False


switch = _Switch()


class memory_budget:
    """Refuse operations whose result and scratch take more than so many bytes on a rank.

    As a statement it holds until the next one; as a context manager until the end of the block. Call it on all ranks
    with the same budget. Asked are the operations that can blow up an array: resplit and everything that moves or
    gathers (``numpy()``, ``collect``, operands that are replicated), and creation. No message.

    Parameters
    ----------
    nbytes : int, str or None
        Bytes per rank, also as "2 GiB" or "500 MB"; None allows everything.

    Raises
    ------
    LayoutError
        If it is none of these.

    Examples
    --------
    >>> x = ht.zeros(10**6, split=0)
    >>> with ht.memory_budget("1 MB"):
    ...     try:
    ...         ht.zeros(10**7, dtype=ht.float32)
    ...     except ht.MemoryBudgetError as error:
    ...         print(error)
    zeros: the result must fit the memory budget of 1000000 bytes per rank, got 40000000 for shape (10000000,), \
split=None; split it, work on parts of it, or raise ht.memory_budget
    """

    def __init__(self, nbytes: int | str | None) -> None:
        self._before = get_memory_budget()
        limit = _parse(nbytes)
        switch.is_on = switch.is_on or limit is not None
        _current.limit = limit

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exc_info: object) -> None:
        _current.limit = self._before


def get_memory_budget() -> int | None:
    """Return the bytes per rank that a result may take; None where there is no limit. No message."""
    return getattr(_current, "limit", None)


def _parse(nbytes: object) -> int | None:
    if nbytes is None:
        return None
    if isinstance(nbytes, str):
        number = nbytes.strip().rstrip("bBkKmMgGiI").strip()
        unit = nbytes.strip()[len(number) :].strip().lower() or "b"
        try:
            return int(float(number) * _UNITS[unit])
        except (ValueError, KeyError):
            nbytes = repr(nbytes)
    elif hasattr(nbytes, "__index__") and nbytes >= 0:
        return nbytes.__index__()
    raise LayoutError(f"memory_budget: nbytes must be bytes, text such as '2 GiB', or None, got {nbytes}")


def check(op: str, layout: Layout, itemsize: int, scratch: int = 0) -> None:
    """Raise if the largest part of an array of this layout, and the scratch of its making, do not fit the budget.

    Raises
    ------
    MemoryBudgetError
        On all ranks alike.
    """
    limit = get_memory_budget()
    if limit is None:
        return
    largest = max(layout.counts) if layout.split is not None else 1
    shape = layout.shape if layout.split is None else layout.lshape(layout.counts.index(largest))
    wanted = math.prod(shape) * itemsize
    wanted += min(scratch, wanted)
    if wanted > limit:
        raise MemoryBudgetError(
            f"{op}: the result must fit the memory budget of {limit} bytes per rank, got {wanted} for shape "
            f"{layout.shape}, split={layout.split}; split it, work on parts of it, or raise ht.memory_budget"
        )
