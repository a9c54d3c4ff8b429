"""Counting what is sent: `Communicator.trace`.

While no trace is active a public method pays for one truth test of an empty list. This module knows nothing
of transports: the communicator reports, the ledger distributes the report to the active traces.
"""

import functools
import sys
import time
import weakref
from collections.abc import Callable, MutableSequence
from dataclasses import dataclass, field
from types import FrameType
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from .guard import Guard

_OWN_PACKAGES = frozenset({"ht_comm", "ht_core", "ht_linalg", "ht_io", "ht_ml", "ht_meta"})
# Modules a caller's frame may be wrapped in, which say nothing about where the call is written.
_TRANSPARENT = _OWN_PACKAGES | {"contextlib", "functools", "threading"}


@dataclass(frozen=True, slots=True)
class Event:
    """One public communicator call.

    Attributes
    ----------
    op : str
        Name of the method.
    bytes : int
        Bytes this rank contributed to messages that leave it.
    messages : int
        Messages this rank contributed to: one for a collective (one per slice of a long one), one for each
        point-to-point message sent.
    seconds : float
        Wall time within the call, waiting included.
    site : str
        ``file:line`` of the first frame outside this project's packages.
    """

    op: str
    bytes: int
    messages: int
    seconds: float
    site: str


@dataclass(eq=False)
class Trace:
    """The calls made while a trace was active, in order."""

    events: MutableSequence[Event] = field(default_factory=list)
    _ledger: "Ledger | None" = field(default=None, repr=False)

    @property
    def calls(self) -> int:
        """Number of public communicator calls."""
        return len(self.events)

    @property
    def bytes(self) -> int:
        """Bytes this rank contributed to messages that leave it."""
        return sum(event.bytes for event in self.events)

    @property
    def messages(self) -> int:
        """Number of messages this rank contributed to."""
        return sum(event.messages for event in self.events)

    @property
    def seconds(self) -> float:
        """Wall time within communicator calls."""
        return sum(event.seconds for event in self.events)

    @property
    def by_op(self) -> dict[str, tuple[int, int, float]]:
        """Calls, bytes and seconds of each method."""
        table: dict[str, tuple[int, int, float]] = {}
        for event in self.events:
            calls, nbytes, seconds = table.get(event.op, (0, 0, 0.0))
            table[event.op] = (calls + 1, nbytes + event.bytes, seconds + event.seconds)
        return table

    def record(self, event: Event) -> None:
        """Take one call."""
        self.events.append(event)

    def __enter__(self) -> "Trace":
        if self._ledger is None:
            raise TypeError(
                "Trace: a trace must belong to a communicator, got one made by hand; use comm.trace()"
            )
        self._ledger.traces.append(self)
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._ledger.traces.remove(self)  # type: ignore[union-attr]


class Ledger:
    """The active traces of one rank; a communicator and all that is split from it share one.

    A `Guard`, if there is one, does what checked mode and time-out mode do around a call. It keeps a trace of the
    last calls, so `traces` alone tells whether a call has to come here.
    """

    __slots__ = ("__weakref__", "bytes", "depth", "guard", "messages", "traces")

    def __init__(self) -> None:
        self.traces: list[Trace] = []
        self.guard: Guard | None = None
        self.depth = 0
        self.bytes = 0
        self.messages = 0
        ledgers.add(self)
        if on_new_ledger is not None:
            on_new_ledger(self)

    def add(self, nbytes: int, messages: int = 1) -> None:
        """Charge the call in progress with bytes that leave this rank."""
        self.bytes += nbytes
        self.messages += messages

    def run(self, op: str, function: Callable[..., Any], args: tuple, kwargs: dict[str, Any]) -> Any:
        """Call a function as one event; a call within a call belongs to the outer one."""
        guard = self.guard
        if self.depth:
            return function(*args, **kwargs) if guard is None else guard.nested(op, function, args, kwargs)
        self.depth, self.bytes, self.messages = 1, 0, 0
        site = call_site(sys._getframe(1))
        start = time.perf_counter()
        try:
            if guard is None:
                return function(*args, **kwargs)
            return guard.run(op, function, args, kwargs, site)
        finally:
            seconds = time.perf_counter() - start
            self.depth = 0
            event = Event(op, self.bytes, self.messages, seconds, site)
            for trace in self.traces:
                trace.record(event)


ledgers: "weakref.WeakSet[Ledger]" = weakref.WeakSet()
# Set by the guards: gives a new ledger what the configuration asks for.
on_new_ledger: Callable[[Ledger], None] | None = None


def call_site(frame: FrameType | None) -> str:
    """Return ``file:line`` of the first frame outside this project, going outwards from `frame`."""
    last = "unknown"
    while frame is not None:
        last = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        if frame.f_globals.get("__name__", "").partition(".")[0] not in _TRANSPARENT:
            break
        frame = frame.f_back
    return last


Method = TypeVar("Method", bound=Callable[..., Any])


def traced(method: Method) -> Method:
    """Make a communicator method report itself to the active traces.

    This is the one gate every public call that communicates passes through.
    """
    op = method.__name__

    @functools.wraps(method)
    def gate(self, *args, **kwargs):
        if self._ledger.traces:
            return self._ledger.run(op, method, (self, *args), kwargs)
        return method(self, *args, **kwargs)

    return gate  # type: ignore[return-value]
