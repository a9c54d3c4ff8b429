"""Messages between two ranks, and the `Request` of those still under way."""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from . import config
from .boxes import chunk_limit, cut_box, volume
from .buffers import Array, Buffer, Kind, check_writable, inspect, landing, pack
from .dtypes import DType
from .trace import traced

MAX_TAG = 32_000
"""Tags of users are below this; from here to 32767 (all that MPI promises) they are internal."""


class Handle(Protocol):
    """What a transport returns for a message under way. It keeps the message's memory alive."""

    def wait(self) -> None:
        """Block until the message has been sent or received."""

    def test(self) -> bool:
        """Tell whether the message has been sent or received."""


class Request:
    """A message under way.

    The memory it uses is kept alive until it has completed, even if the request is dropped. The array handed
    to `isend` must not be changed, and the one handed to `irecv` not be read, before `wait` has returned.
    """

    __slots__ = ("_array", "_finish", "_handles")

    def __init__(self, array: Array, handles: list[Handle], finish: Callable[[], None] | None = None) -> None:
        self._array = array
        self._handles = handles
        self._finish = finish

    @property
    def array(self) -> Array:
        """The array that `wait` returns, which may not hold the result yet."""
        return self._array

    def wait(self) -> Array:
        """Block until the message has been sent or received; return the array it was made with."""
        for handle in self._handles:
            handle.wait()
        self._complete()
        return self._array

    def test(self) -> bool:
        """Tell whether the message has been sent or received, without blocking."""
        while self._handles:
            if not self._handles[0].test():
                return False
            self._handles.pop(0)
        self._complete()
        return True

    def Wait(self) -> None:
        """Block until complete, as mpi4py's."""
        self.wait()

    def Test(self) -> bool:
        """Tell whether it is complete, as mpi4py's."""
        return self.test()

    def _complete(self) -> None:
        self._handles = []
        if self._finish is not None:
            self._finish()
            self._finish = None


class PointToPoint:
    """The point-to-point methods of a communicator."""

    @traced
    def isend(self, x: Array, dest: int, tag: int = 0) -> Request:
        """Start sending an array to one rank.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray, any shape and strides
            Must not be changed before the request has completed.
        dest : int
            Receiving rank.
        tag : int
            Messages between two ranks match by tag, in order.

        Returns
        -------
        Request

        Distribution
        ------------
        One message of ``x.nbytes``; beyond `config.chunk_bytes` one for each half of that.
        """
        self._check_peer("isend", "dest", dest, tag)
        kind, dtype = inspect("isend", "x", x)
        return Request(x, self._isend_pieces(pack(x, kind, dtype), x.shape, dest, tag))

    @traced
    def irecv(self, out: Array, source: int, tag: int = 0) -> Request:
        """Start receiving into `out` an array of equal shape and dtype from one rank.

        Parameters
        ----------
        out : torch.Tensor or numpy.ndarray, any shape and strides
            Holds the message once the request has completed; gaps between its elements are left alone.
        source : int
            Sending rank.
        tag : int
            Tag of the message.

        Returns
        -------
        Request
            Its ``wait()`` returns `out`.
        """
        self._check_peer("irecv", "source", source, tag)
        kind, dtype = inspect("irecv", "out", out)
        check_writable("irecv", "out", out, kind)
        buffer, finish = landing(out, kind, dtype)
        handles = [
            handle
            for piece in cut_buffer(buffer, out.shape)
            for handle in self._irecv_slices(piece, source, tag)
        ]
        return Request(out, handles, finish)

    @traced
    def send(self, x: Array, dest: int, tag: int = 0) -> None:
        """Send an array to one rank; `x` may be changed once this returns. See `isend`.

        Of a long array that is not contiguous no more than `config.chunk_bytes` are packed at a time.
        """
        if self._ledger.guard is not None:
            self.isend(x, dest, tag).wait()  # which has a time limit, perhaps
            return
        self._check_peer("send", "dest", dest, tag)
        kind, dtype = inspect("send", "x", x)
        if x.nbytes > config.chunk_bytes and not kind.is_direct(x):
            self._engine(tag).run([], [self._part(dest, x, kind, dtype)], [])
            return
        buffer = pack(x, kind, dtype)
        if not self._ledger.traces and buffer.nbytes <= min(config.slice_bytes, config.chunk_bytes):
            self._send(buffer, dest, tag)
        else:
            wait_all(self._isend_pieces(buffer, x.shape, dest, tag))

    @traced
    def recv(self, out: Array, source: int, tag: int = 0) -> Array:
        """Receive into `out` from one rank and return it. See `irecv`, and `send` on long arrays."""
        if self._ledger.guard is not None:
            return self.irecv(out, source, tag).wait()
        self._check_peer("recv", "source", source, tag)
        kind, dtype = inspect("recv", "out", out)
        check_writable("recv", "out", out, kind)
        if out.nbytes > config.chunk_bytes and not kind.is_direct(out):
            self._engine(tag).run([self._part(source, out, kind, dtype)], [], [])
            return out
        buffer, finish = landing(out, kind, dtype)
        if buffer.nbytes <= min(config.slice_bytes, config.chunk_bytes):
            self._recv(buffer, source, tag)
        else:
            for piece in cut_buffer(buffer, out.shape):
                wait_all(self._irecv_slices(piece, source, tag))
        if finish is not None:
            finish()
        return out

    @traced
    def sendrecv(self, x: Array, dest: int, out: Array, source: int, tag: int = 0) -> Array:
        """Send `x` to one rank while receiving `out` from another, without risk of dead-lock; return `out`.

        Parameters
        ----------
        x, out : torch.Tensor or numpy.ndarray
            What is sent and where the message received goes. They must not overlap.
        dest, source : int
            Receiving and sending rank.
        tag : int
            Tag of both messages.
        """
        incoming = self.irecv(out, source, tag)
        self.isend(x, dest, tag).wait()
        return incoming.wait()

    def _check_peer(self, where: str, argument: str, peer: int, tag: int) -> None:
        if not 0 <= peer < self.size:
            raise ValueError(f"{where}: {argument} must be in [0, {self.size}), got {peer!r}")
        if not 0 <= tag < MAX_TAG:
            raise ValueError(f"{where}: tag must be in [0, {MAX_TAG}), got {tag!r}")

    def _send(self, buffer: Buffer, dest: int, tag: int) -> None:
        """Send a buffer of at most `config.slice_bytes`. A transport may have a shorter way."""
        self._isend(buffer, dest, tag).wait()

    def _recv(self, buffer: Buffer, source: int, tag: int) -> None:
        """Receive a buffer of at most `config.slice_bytes`. A transport may have a shorter way."""
        self._irecv(buffer, source, tag).wait()

    def _engine(self, tag: int) -> Any:
        from .pieces import Engine  # the engine builds on this class

        return Engine(self, tag)

    @staticmethod
    def _part(peer: int, x: Array, kind: Kind, dtype: DType) -> Any:
        from .pieces import Part

        return Part(peer, x.detach() if getattr(x, "requires_grad", False) else x, kind, dtype)

    def _isend_pieces(self, buffer: Buffer, shape: tuple[int, ...], dest: int, tag: int) -> list[Handle]:
        return [
            handle for piece in cut_buffer(buffer, shape) for handle in self._isend_slices(piece, dest, tag)
        ]

    def _isend_slices(self, buffer: Buffer, dest: int, tag: int) -> list[Handle]:
        handles = []
        for part in self._slices(buffer):
            if self._ledger.traces and dest != self.rank:
                self._ledger.add(part.nbytes)
            handles.append(self._isend(part, dest, tag))
        return handles

    def _irecv_slices(self, buffer: Buffer, source: int, tag: int) -> list[Handle]:
        return [self._irecv(part, source, tag) for part in self._slices(buffer)]


def cut_buffer(buffer: Buffer, shape: tuple[int, ...]) -> Iterator[Buffer]:
    """Cut the buffer of an array longer than `config.chunk_bytes` as the engine cuts the array."""
    if buffer.nbytes <= config.chunk_bytes:
        yield buffer
        return
    start = 0
    for box in cut_box(tuple((0, extent) for extent in shape), chunk_limit(buffer.dtype.itemsize)):
        count = volume(box)
        yield buffer.part(start, count)
        start += count


def wait_all(handles: list[Any]) -> None:
    """Block until every message has completed."""
    for handle in handles:
        handle.wait()
