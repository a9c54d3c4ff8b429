"""One rank, no transport: what an ordinary process has."""

from typing import Any

from .buffers import Buffer
from .communicator import Communicator
from .errors import CommError
from .mailbox import OUTGOING, Incoming, Mailbox, Outgoing
from .operators import Reduction
from .trace import Ledger


class _FromSelf(Incoming):
    """A message from oneself."""

    def wait(self) -> None:
        """Check that the message is there: with one rank one not sent yet never comes."""
        if not self.is_complete:
            raise CommError(
                f"{self.label}: the message must be sent before it is awaited, got none: dead-lock"
            )
        self.check()

    def test(self) -> bool:
        """Tell whether the message is there."""
        self.check()
        return self.is_complete


class SerialComm(Communicator):
    """The communicator of a process on its own: rank 0 of 1. Needs no MPI."""

    def __init__(self, *, _ledger: Ledger | None = None) -> None:
        super().__init__(0, 1, None, _ledger)
        self._mailbox = Mailbox()

    def _isend(self, buffer: Buffer, dest: int, tag: int) -> Outgoing:
        self._mailbox.send(tag, buffer)
        return OUTGOING

    def _irecv(self, buffer: Buffer, source: int, tag: int) -> _FromSelf:
        message = _FromSelf(buffer, f"recv(source=0, tag={tag})")
        self._mailbox.expect(tag, message)
        return message

    def _split(self, color: int | None, key: int) -> "SerialComm | None":
        return None if color is None else self._dup()

    def _dup(self) -> "SerialComm":
        return SerialComm(_ledger=self._ledger)

    _split_node = _dup

    def _free(self) -> None:
        self._mailbox = Mailbox()

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

    def _istart(self, op: str, *args: Any) -> Outgoing:
        getattr(self, f"_{op}")(*args)
        return OUTGOING

    def _reduce_scatterv(self, send: Buffer, recv: Buffer, lengths: tuple[int, ...], red: Reduction) -> None:
        recv.array[...] = send.array
