"""Messages between ranks of one process: those sent and not yet expected, and those expected and not yet sent."""

from collections import deque
from collections.abc import Hashable

import numpy as np

from .buffers import Buffer
from .errors import CommError


class Incoming:
    """A message a rank expects; the sender puts the data where it belongs."""

    __slots__ = ("_buffer", "error", "label")

    def __init__(self, buffer: Buffer, label: str) -> None:
        self._buffer: Buffer | None = buffer
        self.label = label
        self.error: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether the message has come, fitting or not."""
        return self._buffer is None

    def deliver(self, data: np.ndarray) -> None:
        """Take the data, or note that it does not fit."""
        buffer = self._buffer
        assert buffer is not None  # delivered once
        if data.size != buffer.count or data.dtype != buffer.dtype.storage:
            self.error = (
                f"{self.label}: out must hold the message of {data.size} x {data.dtype}, "
                f"got {buffer.count} x {buffer.dtype.name}"
            )
        else:
            buffer.array[...] = data
        self._buffer = None

    def check(self) -> None:
        """Raise if the message did not fit."""
        if self.error is not None:
            raise CommError(self.error)


class Outgoing:
    """A message handed over: it was copied at once."""

    def wait(self) -> None:
        """Return: the message is on its way."""

    def test(self) -> bool:
        """Tell that the message is on its way."""
        return True


OUTGOING = Outgoing()


class Mailbox:
    """Matches messages by key (source, destination and tag), in the order in which each side named them."""

    def __init__(self) -> None:
        self._sent: dict[Hashable, deque[np.ndarray]] = {}
        self._expected: dict[Hashable, deque[Incoming]] = {}

    def send(self, key: Hashable, buffer: Buffer) -> Incoming | None:
        """Deliver to whoever expects the message, and return that; else keep a copy."""
        expected = self._expected.get(key)
        if expected:
            message = expected.popleft()
            message.deliver(buffer.array)
            return message
        self._sent.setdefault(key, deque()).append(buffer.array.copy())
        return None

    def expect(self, key: Hashable, message: Incoming) -> None:
        """Deliver a message that was sent already, else remember that it is expected."""
        sent = self._sent.get(key)
        if sent:
            message.deliver(sent.popleft())
        else:
            self._expected.setdefault(key, deque()).append(message)
