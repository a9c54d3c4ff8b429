"""What an expression will send and allocate, before it runs: `explain`.

The expression is run on outlines (``outline``): arrays without data, on communicators that count and send nothing. So
what is told is what the code does, not what a table says of it.
"""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from ht_comm import use_comm

from .budget import memory_budget
from .dndarray import DNDarray
from .engines.elementwise import common_comm
from .engines.recording import _arrays_in, _replace
from .engines.tracking import raw, untracked
from .layout import Layout
from .outline import Meter, OutlineComm, ValuesNeeded, outline_of, remarking

#: Replicated index arrays and masks of at most so many elements keep their values: they decide what is sent.
_KEPT_ELEMENTS = 2**16
#: Up to so many ranks are all asked; of more, the first, the second, one in the middle and the last.
_ALL_RANKS = 8


@dataclass(frozen=True)
class RankPlan:
    """What one rank would do.

    Attributes
    ----------
    rank : int
    calls : tuple of (str, int, int)
        Communicator calls in their order: name, messages, bytes this rank contributes; as ``comm.trace()`` counts.
    peak_bytes : int
        Largest memory of results and scratch at one time, beyond the arguments'.
    lshape : tuple of tuple of int
        Local shapes of the results.
    """

    rank: int
    calls: tuple[tuple[str, int, int], ...]
    peak_bytes: int
    lshape: tuple[tuple[int, ...], ...]

    @property
    def messages(self) -> int:
        """Messages this rank contributes to."""
        return sum(n for _, n, _ in self.calls)

    @property
    def bytes(self) -> int:
        """Bytes this rank contributes to messages."""
        return sum(n for _, _, n in self.calls)


@dataclass(frozen=True)
class Explanation:
    """What an expression would send and allocate; the same on every rank. ``str()`` is a table.

    Attributes
    ----------
    size : int
        Number of ranks.
    ranks : tuple of RankPlan
        All ranks, or four of more than eight.
    layouts : tuple of Layout
        Of the results.
    notes : tuple of str
        What depends on values, and how it was bounded. Without notes the counts are exact.
    is_complete : bool
        False where the expression cannot go on without values: the counts end there.
    """

    size: int
    ranks: tuple[RankPlan, ...]
    layouts: tuple[Layout, ...]
    notes: tuple[str, ...]
    is_complete: bool

    @property
    def messages(self) -> int:
        """Most messages of a rank."""
        return max(r.messages for r in self.ranks)

    @property
    def bytes(self) -> int:
        """Most bytes that a rank contributes."""
        return max(r.bytes for r in self.ranks)

    @property
    def peak_bytes(self) -> int:
        """Largest peak of a rank."""
        return max(r.peak_bytes for r in self.ranks)

    @property
    def is_exact(self) -> bool:
        """Whether nothing depends on values."""
        return self.is_complete and not self.notes

    def _rows(self) -> list[tuple[str, ...]]:
        rows = []
        for r in self.ranks:
            names: dict[str, int] = {}
            for name, _, _ in r.calls:
                names[name] = names.get(name, 0) + 1
            calls = ", ".join(name if n == 1 else f"{n} {name}" for name, n in names.items())
            rows.append((str(r.rank), calls or "-", str(r.messages), _human(r.bytes), _human(r.peak_bytes)))
        return rows

    def _facts(self) -> list[str]:
        made = [f"result: shape {x.shape}, split={x.split}, counts {x.counts}" for x in self.layouts]
        if len(self.ranks) < self.size:
            made.append(f"{len(self.ranks)} of {self.size} ranks are shown")
        made += [f"depends on values: {text}" for text in self.notes]
        if not self.is_complete:
            made.append("the counts end where values are needed")
        return made

    def __str__(self) -> str:
        rows = [_HEADER, *self._rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(_HEADER))]
        lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows]
        return "\n".join([*lines, *self._facts()])

    def _repr_html_(self) -> str:
        head = "".join(f"<th>{name}</th>" for name in _HEADER)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._rows()
        )
        facts = "".join(f"<p>{html.escape(text)}</p>" for text in self._facts())
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{facts}"


_HEADER = ("rank", "calls", "messages", "bytes", "peak memory")


def _human(n: int) -> str:
    value, units = float(n), ("B", "KiB", "MiB", "GiB", "TiB")
    for unit in units:
        if value < 1024 or unit == units[-1]:
            return f"{n} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return ""


def explain(fn: Callable, *args: Any, **kwargs: Any) -> Explanation:
    """Tell what ``fn(*args, **kwargs)`` would send and allocate on each rank, without running it.

    *Distribution*: no message, and no memory of the size of the data. Call it on any rank.

    Parameters
    ----------
    fn : callable
        Takes and returns arrays, also within sequences and dicts. It is called once for each rank that is asked, with
        arrays without data; what it does besides (printing, random numbers drawn from the default generator) happens
        as often.
    args, kwargs
        Its arguments. Replicated integer and bool arrays of at most 65536 elements keep their values, as keys do.

    Returns
    -------
    Explanation
        Messages, bytes and calls are those that ``comm.trace()`` counts when the expression runs, unless it depends on
        values. Sizes that do (how many elements a mask picks) are bounded from above, which `notes` says; where values
        decide what is sent next the explanation ends, and `is_complete` is False.

    Examples
    --------
    >>> x = ht.zeros((6, 4), split=0, dtype=ht.float64)
    >>> plan = ht.explain(lambda x: (x + 1).sum(), x)
    >>> plan.messages <= 1, plan.layouts[0].shape
    (True, ())
    """
    comm = common_comm([untracked(x) for x in _arrays_in((args, kwargs))], "explain")
    asked = range(comm.size) if comm.size <= _ALL_RANKS else (0, 1, comm.size // 2, comm.size - 1)
    plans, layouts, notes, is_complete = [], (), [], True
    for rank in asked:
        plan, made, remarks, done = _ask(fn, args, kwargs, OutlineComm(rank, comm.size))
        plans.append(plan)
        layouts = layouts or made
        notes += [text for text in remarks if text not in notes]
        is_complete = is_complete and done
    return Explanation(comm.size, tuple(plans), layouts, tuple(notes), is_complete)


def _ask(fn: Callable, args: tuple, kwargs: dict, comm: OutlineComm) -> tuple:
    meter, remarks = Meter(), []

    def outline(x: DNDarray) -> DNDarray:
        local = raw(x)
        if (
            x.split is None
            and not (local.is_floating_point() or local.is_complex())
            and x.size <= _KEPT_ELEMENTS
        ):
            return DNDarray(local, x.layout, comm)
        made = outline_of(local, x.layout.lshape(comm.rank))
        meter.know(made.meta)
        return DNDarray(made, x.layout, comm)

    given, named = _replace((args, kwargs), outline)
    result, done = None, True
    try:
        with (
            comm.trace() as sent,
            meter,
            use_comm(comm),
            remarking(remarks),
            memory_budget(None),
            torch.no_grad(),
        ):
            result = fn(*given, **named)
    except ValuesNeeded as error:
        remarks.append(str(error))
        done = False
    arrays = _arrays_in(result)
    calls = tuple((event.op, event.messages, event.bytes) for event in sent.events)
    plan = RankPlan(comm.rank, calls, meter.peak, tuple(tuple(y.larray.shape) for y in arrays))
    return plan, tuple(y.layout for y in arrays), remarks, done
