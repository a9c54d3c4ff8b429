"""What each step costs: seconds, messages, bytes and peak memory, over all ranks."""

from __future__ import annotations

import contextlib
import io
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import TextIO

import numpy as np
from ht_comm import Communicator

_QUIET = 5.0  # seconds without a sign of life
_STATUS, _RESET = "/proc/self/status", "/proc/self/clear_refs"


@dataclass(slots=True)
class Step:
    """One line of the table.

    Attributes
    ----------
    name : str
    seconds : float
        From when the last rank began to when the last one ended.
    messages : int
        Collective or point-to-point calls per rank, the most of any rank.
    bytes_sent : int
        Bytes that left their rank, all ranks together.
    peak_bytes : int
        Most memory that any rank had resident.
    note : str
        What came out, for people.
    """

    name: str
    seconds: float
    messages: int
    bytes_sent: int
    peak_bytes: int
    note: str = ""

    def as_dict(self) -> dict[str, object]:
        """Return the step for JSON."""
        return asdict(self)


class Meter:
    """Measures steps, which all ranks go through together, and tells rank 0's `say` about them."""

    def __init__(self, comm: Communicator, total: int, say: Callable[[str], None]) -> None:
        self.comm, self.total, self.say = comm, total, say
        self.steps: list[Step] = []
        self.is_reset = reset_peak()
        self._last_told = time.monotonic()

    @property
    def memory_source(self) -> str:
        """What the memory column is, in words."""
        if self.is_reset:
            return "VmHWM of /proc/self/status, reset before each step"
        return "ru_maxrss, the most since the start of the process"

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[Step]:
        """Measure what is done inside; set ``.note`` on the value to say what came out."""
        done = Step(name, 0.0, 0, 0, 0)
        self._tell(f"[{len(self.steps) + 1}/{self.total}] {name} ...")
        self.comm.barrier()
        if self.is_reset:
            reset_peak()
        start = time.perf_counter()
        with self._signs_of_life(), self.comm.trace() as traced:
            yield done
        self.comm.barrier()
        done.seconds = time.perf_counter() - start
        most = self.comm.allreduce(np.array([traced.calls, peak_bytes()], dtype=np.int64), "max")
        done.messages, done.peak_bytes = (int(n) for n in most)
        done.bytes_sent = int(self.comm.allreduce(np.array([traced.bytes], dtype=np.int64), "sum")[0])
        self.steps.append(done)
        self._tell(f"      {done.seconds:.2f} s" + (f"; {done.note}" if done.note else ""))

    def _tell(self, text: str) -> None:
        self._last_told = time.monotonic()
        self.say(text)

    @contextlib.contextmanager
    def _signs_of_life(self) -> Iterator[None]:
        """Show progress bars and, in steps without one, the time: where there is no terminal, as lines now and then."""
        if self.comm.rank > 0 or sys.stderr.isatty():
            yield
            return
        is_over = threading.Event()
        start = time.perf_counter()

        def beat() -> None:
            while not is_over.wait(1.0):
                if time.monotonic() - self._last_told >= _QUIET:
                    self._tell(f"      ... {time.perf_counter() - start:.0f} s")

        thread = threading.Thread(target=beat, daemon=True)
        thread.start()
        try:
            with contextlib.redirect_stderr(BarsAsLines(sys.stderr, self._tell)):
                yield
        finally:
            is_over.set()
            thread.join()


class BarsAsLines(io.TextIOBase):
    """A stream that looks like a terminal to progress bars and passes on a bar every few seconds, as a line.

    What does not begin with a carriage return goes through to `file`.
    """

    def __init__(self, file: TextIO, tell: Callable[[str], None]) -> None:
        self.file, self.tell = file, tell
        self._shown = time.monotonic()
        self._in_bar = False

    def isatty(self) -> bool:
        """Return True: bars draw themselves on terminals only."""
        return True

    def write(self, text: str) -> int:
        """Pass on a bar if the last one was a while ago; other text always."""
        if text.startswith("\r"):
            self._in_bar = True
            if time.monotonic() - self._shown >= _QUIET:
                self._shown = time.monotonic()
                self.tell("      " + text.strip())
        elif self._in_bar and text == "\n":
            self._in_bar = False
        else:
            self.file.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush the file behind."""
        self.file.flush()


def reset_peak() -> bool:
    """Let this process's peak of resident memory start again from what it has now; tell whether that is
    possible.
    """
    try:
        with open(_RESET, "w") as file:
            file.write("5")
    except OSError:
        return False
    return True


def peak_bytes() -> int:
    """Return the most memory this process had resident, since the start or the last :func:`reset_peak`."""
    with contextlib.suppress(OSError), open(_STATUS) as file:
        for line in file:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def format_table(steps: list[Step], memory_source: str) -> str:
    """Return the table of steps as text."""
    width = max(len(step.name) for step in steps)
    head = f"{'step':{width}}  {'seconds':>8}  {'messages':>8}  {'bytes':>9}  {'peak/rank':>9}"
    lines = [head, "-" * len(head)]
    for step in steps:
        sent, peak = format_bytes(step.bytes_sent), format_bytes(step.peak_bytes)
        lines.append(f"{step.name:{width}}  {step.seconds:8.2f}  {step.messages:8d}  {sent:>9}  {peak:>9}")
    total = sum(step.seconds for step in steps)
    peak = format_bytes(max(step.peak_bytes for step in steps))
    sent = format_bytes(sum(step.bytes_sent for step in steps))
    lines += ["-" * len(head)]
    lines += [f"{'all':{width}}  {total:8.2f}  {sum(s.messages for s in steps):8d}  {sent:>9}  {peak:>9}"]
    lines += ["messages: communication calls of a rank; bytes: sent by all ranks together;"]
    return "\n".join([*lines, f"peak/rank: most resident memory of any rank ({memory_source})"])


def format_bytes(number: int) -> str:
    """Return a number of bytes in the unit that makes it short.

    >>> format_bytes(0), format_bytes(999), format_bytes(1536), format_bytes(5 << 30)
    ('0 B', '999 B', '1.5 KiB', '5.0 GiB')
    """
    value = float(number)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if value < 1000 or unit == "TiB":
            return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return ""
