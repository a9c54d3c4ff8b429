"""One rank, no transport: what an ordinary process has."""

from collections import deque

import numpy as np

from .buffers import Buffer
from .communicator import Communicator
from .errors import CommError
from .operators import Reduction
from .trace import Ledger


class _Arrived:
    """A message to oneself that has been sent."""

    def wait(self) -> None:
        """Return: nothing is under way."""

    def test(self) -> bool:
        """Tell that nothing is under way."""
        return True


class _Expected:
    """A message from oneself, taken from the mailbox when asked for."""

    def __init__(self, mailbox: deque[np.ndarray], buffer: Buffer) -> None:
        self._mailbox = mailbox
        self._buffer: Buffer | None = buffer

    def wait(self) -> None:
        """Take the message; with one rank a message not sent yet never comes."""
        if not self.test():
            raise CommError(
                "recv: a message must be sent before it is awaited on one rank, got none; dead-lock"
            )

    def test(self) -> bool:
        """Take the message if it is there."""
        if self._buffer is None:
            return True
        if not self._mailbox:
            return False
        message = self._mailbox.popleft()
        if message.size != self._buffer.count or message.dtype != self._buffer.dtype.storage:
            raise CommError(
                f"recv: out must hold the message of {message.size} x {message.dtype}, "
                f"got {self._buffer.count} x {self._buffer.dtype.name}"
            )
        self._buffer.array[...] = message
        self._buffer = None
        return True


class SerialComm(Communicator):
    """The communicator of a process on its own: rank 0 of 1. Needs no MPI."""

    def __init__(self, *, _ledger: Ledger | None = None) -> None:
        super().__init__(0, 1, None, _ledger)
        self._mail: dict[int, deque[np.ndarray]] = {}

    def _isend(self, buffer: Buffer, dest: int, tag: int) -> _Arrived:
        self._mail.setdefault(tag, deque()).append(buffer.array.copy())
        return _Arrived()

    def _irecv(self, buffer: Buffer, source: int, tag: int) -> _Expected:
        return _Expected(self._mail.setdefault(tag, deque()), buffer)

    def _split(self, color: int | None, key: int) -> "SerialComm | None":
        return None if color is None else self._dup()

    def _dup(self) -> "SerialComm":
        return SerialComm(_ledger=self._ledger)

    _split_node = _dup

    def _free(self) -> None:
        self._mail.clear()

    # With one rank the public methods copy the operand and never come here.

    def _barrier(self) -> None:
        """Nothing to wait for."""

    def _bcast(self, buffer: Buffer, root: int) -> None:
        """The buffer is the root's."""

    def _allreduce(self, send: Buffer | None, recv: Buffer, red: Reduction) -> None:
        if send is not None:
            recv.array[...] = send.array

    def _reduce(self, buffer: Buffer, red: Reduction, root: int) -> None:
        """The buffer is the combination."""

    def _scan(self, buffer: Buffer, red: Reduction) -> None:
        """The buffer is the combination."""

    def _exscan(self, buffer: Buffer, red: Reduction) -> None:
        """Rank 0 gets the identity from the caller."""

    def _allgatherv(self, send: Buffer, recv: Buffer, lengths: tuple[int, ...]) -> None:
        recv.array[...] = send.array

    def _reduce_scatterv(self, send: Buffer, recv: Buffer, lengths: tuple[int, ...], red: Reduction) -> None:
        recv.array[...] = send.array
