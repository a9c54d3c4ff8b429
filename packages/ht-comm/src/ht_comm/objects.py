"""Python objects between ranks, by pickle, and `agree`."""

import pickle
import struct
from typing import Any

import numpy as np

from .buffers import NumpyKind
from .dtypes import DTYPES
from .errors import CommError
from .operators import find_reduction
from .trace import traced

_UINT8, _INT64 = DTYPES["uint8"], DTYPES["int64"]
# A broadcast starts with a message of fixed length: 8 bytes of total length, then as much as fits.
_HEAD_BYTES = 256
_INLINE_BYTES = _HEAD_BYTES - 8


class Objects:
    """The methods of a communicator that carry any picklable object."""

    @traced
    def bcast_object(self, obj: Any, root: int = 0) -> Any:
        """Return the root's object on every rank.

        Parameters
        ----------
        obj : picklable
            Read on the root only.
        root : int
            The rank whose object is sent.

        Distribution
        ------------
        Collective. One message of 256 bytes, and a second one where the pickle is longer than 248 bytes.
        """
        self._check_root("bcast_object", root)
        return obj if self.size == 1 else self._bcast_pickled(obj, root)

    @traced
    def allgather_object(self, obj: Any) -> list[Any]:
        """Return the objects of all ranks, in rank order, on every rank.

        Distribution
        ------------
        Collective. Two messages: the lengths (8 bytes), then the pickles.
        """
        if self.size == 1:
            return [obj]
        return [pickle.loads(text) for text in self._allgather_bytes(pickle.dumps(obj, 5))]

    @traced
    def gather_object(self, obj: Any, root: int = 0) -> list[Any] | None:
        """Return the objects of all ranks, in rank order, on the root, and None on the other ranks.

        Distribution
        ------------
        Collective. One message with the lengths (8 bytes) and one to the root.
        """
        self._check_root("gather_object", root)
        if self.size == 1:
            return [obj]
        own = np.frombuffer(pickle.dumps(obj, 5), np.uint8)
        lengths = self._allgather_lengths(own.size)
        whole = self.gatherv(own, lengths, root=root)
        if whole is None:
            return None
        return [pickle.loads(part) for part in _cut(whole, lengths)]

    @traced
    def agree(self, error: BaseException | None = None) -> None:
        """Raise on all ranks if any rank has an error.

        Parameters
        ----------
        error : BaseException or None
            What went wrong on this rank, if anything did.

        Raises
        ------
        type(error)
            The error of the lowest failing rank, with the same type and text on all ranks and a note naming
            the rank. Where an error cannot be rebuilt on another rank from its pickle, it arrives as a
            `CommError` with its text.

        Distribution
        ------------
        Collective. One message of 8 bytes when all is well, one or two more when not.

        Examples
        --------
        >>> import ht_comm
        >>> comm = ht_comm.get_comm()
        >>> try:
        ...     error = None
        ...     value = int("12")
        ... except ValueError as caught:
        ...     error = caught
        >>> comm.agree(error)
        """
        if self.size == 1:
            if error is not None:
                raise error
            return
        lowest = np.array([self.size if error is None else self.rank])
        recv = NumpyKind.buffer(lowest, _INT64)
        self._allreduce_slices(None, recv, find_reduction("agree", "min", _INT64, (1,)))
        failing = int(lowest[0])
        if failing == self.size:
            return
        packed = self._bcast_pickled(_portable(error) if self.rank == failing else None, failing)
        if self.rank != failing:
            error = pickle.loads(packed)
        assert error is not None  # the lowest failing rank has one
        note = f"raised on rank {failing} of {self.size}"
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
        error.__ht_origin__ = failing  # type: ignore[attr-defined]
        raise error

    def _bcast_pickled(self, obj: Any, root: int) -> Any:
        if self.size == 1:
            return obj
        head = np.zeros(_HEAD_BYTES, np.uint8)
        text = b""
        if self.rank == root:
            text = pickle.dumps(obj, 5)
            first = text[:_INLINE_BYTES]
            head[:8] = np.frombuffer(struct.pack("<q", len(text)), np.uint8)
            head[8 : 8 + len(first)] = np.frombuffer(first, np.uint8)
        self._bcast_slices(NumpyKind.buffer(head, _UINT8), root)
        length = struct.unpack("<q", head[:8].tobytes())[0]
        if length > _INLINE_BYTES:
            rest = np.empty(length - _INLINE_BYTES, np.uint8)
            if self.rank == root:
                rest[:] = np.frombuffer(text[_INLINE_BYTES:], np.uint8)
            self._bcast_slices(NumpyKind.buffer(rest, _UINT8), root)
            text = head[8:].tobytes() + rest.tobytes()
        else:
            text = head[8 : 8 + length].tobytes()
        return obj if self.rank == root else pickle.loads(text)

    def _allgather_lengths(self, length: int) -> tuple[int, ...]:
        own = np.array([length])
        everyone = np.empty(self.size, np.int64)
        if self._ledger.traces:
            self._ledger.add(8)
        self._allgatherv(NumpyKind.buffer(own, _INT64), NumpyKind.buffer(everyone, _INT64), (1,) * self.size)
        return tuple(everyone.tolist())

    def _allgather_bytes(self, text: bytes) -> list[bytes]:
        own = np.frombuffer(text, np.uint8)
        lengths = self._allgather_lengths(own.size)
        return _cut(self.allgatherv(own, lengths), lengths)


def _cut(whole: np.ndarray, lengths: tuple[int, ...]) -> list[bytes]:
    parts, start = [], 0
    for length in lengths:
        parts.append(whole[start : start + length].tobytes())
        start += length
    return parts


def _portable(error: BaseException | None) -> bytes:
    """Pickle an error if it comes back with the same type and text; if not, a `CommError` that tells both."""
    try:
        packed = pickle.dumps(error, 5)
        copy = pickle.loads(packed)
        if type(copy) is type(error) and str(copy) == str(error):
            return packed
    except Exception:
        # Unpicklable attributes, local classes, constructors with other arguments: any of them may fail here.
        pass
    return pickle.dumps(CommError(f"{type(error).__name__}: {error}"), 5)
