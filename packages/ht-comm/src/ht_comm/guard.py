"""What happens around a call when checked mode, time-out mode or the log of calls is on.

A `Guard` belongs to one ledger, that is to one rank and all communicators it made. While no mode is on there is
no guard, and a call costs what it costs without this module.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from . import config, trace
from .calls import compare, describe
from .timeout import await_all, limit
from .trace import Ledger, Trace

LOG_LENGTH = 32
_POINT_TO_POINT = frozenset({"send", "recv", "isend", "irecv", "sendrecv"})


@dataclass
class CommState:
    """What a guard knows of one communicator.

    Attributes
    ----------
    number : int
        Collectives called so far, the present one included.
    pending : list of str
        The non-blocking collectives started since the ranks last compared their calls.
    is_known : bool
        Whether the ranks have told each other where their stacks can be read.
    """

    number: int = 0
    pending: list[str] = field(default_factory=list)
    is_known: bool = False


class Guard:
    """The modes of one ledger.

    Parameters
    ----------
    check : bool or "calls"
        Compare the calls of the ranks before each collective; with "calls" not their lines.
    timeout : float or None
        Seconds to wait for other ranks.
    """

    def __init__(self, check: bool | str, timeout: float | None) -> None:
        self.check = check
        self.timeout = timeout
        self.site = "unknown"
        self.is_forwarding = False
        self.log = Trace(deque(maxlen=LOG_LENGTH))
        self.states: WeakKeyDictionary[Any, CommState] = WeakKeyDictionary()

    def run(self, op: str, function: Callable[..., Any], args: tuple, kwargs: dict, site: str) -> Any:
        """Make a public call."""
        if args[0].size == 1 or not (self.check or self.timeout):
            return function(*args, **kwargs)
        self.site = site
        # A capital name stands for calls in lower case, which say what is meant: those are looked after.
        self.is_forwarding = op[0].isupper()
        try:
            return self._make(op, function, args, kwargs, is_public=not self.is_forwarding)
        finally:
            self.is_forwarding = False

    def nested(self, op: str, function: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        """Make a call within a public call."""
        if not self.is_forwarding:
            return self._make(op, function, args, kwargs, is_public=False)
        self.is_forwarding = False
        try:
            return self._make(op, function, args, kwargs, is_public=args[0].size > 1)
        finally:
            self.is_forwarding = True

    def _make(
        self, op: str, function: Callable[..., Any], args: tuple, kwargs: dict, *, is_public: bool
    ) -> Any:
        if is_public and op not in _POINT_TO_POINT:
            self._before_collective(args[0], op, args, kwargs)
        result = function(*args, **kwargs)
        if self.timeout is not None and op[0].islower() and args[0].handle is not None:
            limit(args[0], op, args, kwargs, result, self.site, self.timeout)
        return result

    def _before_collective(self, comm: Any, op: str, args: tuple, kwargs: dict) -> None:
        state = self.states.get(comm)
        if state is None:
            state = self.states[comm] = CommState()
        state.number += 1
        call = None
        if self.check:
            call = describe(op, args, kwargs, self.site, self.check is True)
            if op[0] == "i":
                # It must not wait for the others: compared together with the next call that may.
                state.pending.append(call.key)
                return
        elif op[0] == "i":
            return
        if self.timeout is not None and comm.handle is not None:
            await_all(comm, state, f"{op} #{state.number}", self.site, self.timeout)
        if call is not None:
            compare(comm, call, state.pending)
            state.pending.clear()


def attach(ledger: Ledger, guard: Guard | None) -> Guard | None:
    """Give a ledger a guard, or none; return the one it had."""
    previous = ledger.guard
    if previous is not None:
        ledger.traces.remove(previous.log)
    ledger.guard = guard
    if guard is not None:
        ledger.traces.insert(0, guard.log)
    return previous


def _configured() -> Guard | None:
    if config.check or config.timeout is not None or config.log:
        return Guard(config.check, config.timeout)
    return None


def _configure() -> None:
    """Make the ledgers that exist follow the configuration."""
    for ledger in list(trace.ledgers):
        attach(ledger, _configured())


def _configure_new(ledger: Ledger) -> None:
    guard = _configured()
    if guard is not None:
        attach(ledger, guard)


trace.on_new_ledger = _configure_new
config.listeners.append(_configure)


def last_calls() -> list[str]:
    """Return the last calls of this process, oldest first, one line each; empty where no guard keeps them."""
    lines = []
    for ledger in list(trace.ledgers):
        if ledger.guard is not None:
            lines += [
                f"{event.op}, {event.bytes} bytes sent, {event.seconds:.3g} s, at {event.site}"
                for event in ledger.guard.log.events
            ]
    return lines[-LOG_LENGTH:]
