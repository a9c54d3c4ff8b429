"""Where the time and the bytes of communication go, line by line of the program: `Communicator.profile`."""

from dataclasses import dataclass, field
from typing import Any

from .trace import Event, Trace


@dataclass(slots=True)
class Line:
    """The calls of one method from one line of the program.

    Attributes
    ----------
    calls, messages, bytes : int
        Totals of this rank.
    seconds : float
        Wall time of this rank, waiting included.
    fastest, slowest : float
        The totals of the ranks with the least and with the most; those of this rank unless gathered.
    """

    calls: int = 0
    messages: int = 0
    bytes: int = 0
    seconds: float = 0.0
    fastest: float = 0.0
    slowest: float = 0.0

    def add(self, event: Event) -> None:
        """Count one call."""
        self.calls += 1
        self.messages += event.messages
        self.bytes += event.bytes
        self.seconds += event.seconds
        self.fastest = self.slowest = self.seconds


@dataclass(eq=False)
class Profile(Trace):
    """Calls, bytes and seconds of each line that communicates, while active. Its ``str()`` is a table.

    Attributes
    ----------
    lines : dict
        `Line` by ``(site, op)``. The memory held grows with the lines of the program, not with the calls.
    """

    lines: dict[tuple[str, str], Line] = field(default_factory=dict)
    _comm: Any = field(default=None, repr=False)

    def record(self, event: Event) -> None:
        """Count one call."""
        key = event.site, event.op
        line = self.lines.get(key)
        if line is None:
            line = self.lines[key] = Line()
        line.add(event)

    def gather(self) -> "Profile":
        """Return the profile of all ranks together: sums of calls, messages, bytes; seconds are the mean.

        Distribution
        ------------
        Collective, after the block. Two messages.
        """
        tables = self._comm.allgather_object({key: _numbers(line) for key, line in self.lines.items()})
        whole = Profile(_comm=self._comm)
        for key in dict.fromkeys(key for table in tables for key in table):
            rows = [table.get(key, (0, 0, 0, 0.0)) for table in tables]
            calls, messages, nbytes, seconds = zip(*rows)
            mean = sum(seconds) / len(seconds)
            whole.lines[key] = Line(sum(calls), sum(messages), sum(nbytes), mean, min(seconds), max(seconds))
        return whole

    @property
    def calls(self) -> int:
        """Number of public communicator calls."""
        return sum(line.calls for line in self.lines.values())

    @property
    def messages(self) -> int:
        """Number of messages contributed to."""
        return sum(line.messages for line in self.lines.values())

    @property
    def bytes(self) -> int:
        """Bytes contributed to messages that leave a rank."""
        return sum(line.bytes for line in self.lines.values())

    @property
    def seconds(self) -> float:
        """Wall time within communicator calls."""
        return sum(line.seconds for line in self.lines.values())

    @property
    def by_op(self) -> dict[str, tuple[int, int, float]]:
        """Calls, bytes and seconds of each method."""
        table: dict[str, tuple[int, int, float]] = {}
        for (_, op), line in self.lines.items():
            calls, nbytes, seconds = table.get(op, (0, 0, 0.0))
            table[op] = (calls + line.calls, nbytes + line.bytes, seconds + line.seconds)
        return table

    def __str__(self) -> str:
        rows = [("seconds", "least", "most", "calls", "messages", "bytes", "call")]
        for (site, op), line in sorted(self.lines.items(), key=lambda item: -item[1].seconds):
            times = (f"{value:.6f}" for value in (line.seconds, line.fastest, line.slowest))
            rows.append((*times, str(line.calls), str(line.messages), str(line.bytes), f"{op} at {site}"))
        widths = [max(map(len, column)) for column in list(zip(*rows))[:-1]]
        return "\n".join(
            "  ".join((*(text.rjust(width) for text, width in zip(row, widths)), row[-1])) for row in rows
        )


def _numbers(line: Line) -> tuple[int, int, int, float]:
    return line.calls, line.messages, line.bytes, line.seconds
