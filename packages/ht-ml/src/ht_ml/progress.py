"""A progress bar on rank 0: one line on standard error, nothing where nobody looks at it.

Needs no message and no other package. The other ranks, and output that is not a terminal, get a bar that
does nothing.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import Any, TextIO

from ht_comm import get_comm

__all__ = ["ProgressBar", "bar"]

_WIDTH = 28
_INTERVAL = 0.1


class ProgressBar:
    """Shows how far a loop has come.

    Parameters
    ----------
    total : int or None
        Number of steps; None where it is not known.
    title : str
        What is being done.
    enabled : bool or None
        None shows the bar on rank 0 where `file` is a terminal; True on rank 0 in any case; False nowhere.
    comm : Communicator, optional
        Whose rank 0 shows it; the current communicator by default. Nothing is sent.
    file : text stream, optional
        Standard error by default.

    Examples
    --------
    >>> with bar(3, "fit", enabled=False) as progress:
    ...     for step in range(3):
    ...         progress.update()
    >>> progress.done
    3
    """

    def __init__(
        self,
        total: int | None = None,
        title: str = "",
        *,
        enabled: bool | None = None,
        comm: Any = None,
        file: TextIO | None = None,
    ) -> None:
        self.total, self.title, self.done = total, title, 0
        self._file = sys.stderr if file is None else file
        rank = (get_comm() if comm is None else comm).rank
        is_terminal = bool(getattr(self._file, "isatty", lambda: False)())
        self.enabled = rank == 0 and (is_terminal if enabled is None else enabled)
        self._rewrite = is_terminal
        self._started = self._shown = time.monotonic()
        self._length = 0

    def update(self, steps: int = 1, note: str = "") -> None:
        """Add finished steps; redraws at most ten times a second."""
        self.done += steps
        if not self.enabled:
            return
        now = time.monotonic()
        if now - self._shown >= _INTERVAL and self._rewrite:
            self._shown = now
            self._draw(note, "\r")

    def close(self, note: str = "") -> None:
        """Draw the last state and end the line."""
        if self.enabled:
            self._draw(note, "\r" if self._rewrite else "")
            self._file.write("\n")
            self._file.flush()
            self.enabled = False

    def _draw(self, note: str, start: str) -> None:
        seconds = time.monotonic() - self._started
        parts = [self.title] if self.title else []
        if self.total:
            filled = min(_WIDTH, _WIDTH * self.done // self.total)
            parts.append(f"[{'#' * filled}{'.' * (_WIDTH - filled)}]")
            parts.append(f"{self.done}/{self.total}")
        else:
            parts.append(str(self.done))
        parts.append(f"{seconds:.1f} s")
        if note:
            parts.append(note)
        line = " ".join(parts)
        self._file.write(start + line.ljust(self._length))
        self._file.flush()
        self._length = len(line)

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def bar(steps: int | Iterable | None = None, title: str = "", **options: Any) -> Any:
    """Return a progress bar for a number of steps, or wrap an iterable.

    Parameters
    ----------
    steps : int, iterable or None
        An int or None gives a `ProgressBar`, to be used with ``with``; an iterable gives an iterator over
        its items that shows the progress.
    title : str
        What is being done.
    **options
        ``enabled``, ``comm``, ``file`` of `ProgressBar`.

    Examples
    --------
    >>> sum(bar([1, 2, 3], enabled=False))
    6
    """
    if steps is None or isinstance(steps, int):
        return ProgressBar(steps, title, **options)
    return _iterate(steps, title, options)


def _iterate(items: Iterable, title: str, options: dict[str, Any]) -> Iterator:
    total = len(items) if hasattr(items, "__len__") else None
    with ProgressBar(total, title, **options) as progress:
        for item in items:
            yield item
            progress.update()
