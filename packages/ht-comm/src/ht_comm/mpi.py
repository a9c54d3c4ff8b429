"""MPI as a transport: pointers, counts and types handed to mpi4py.

torch tensors are never given to mpi4py: its own conversion costs 40 to 160 microseconds, the pointer two.
Internal traffic runs on a duplicate of the user's communicator. Operators and datatypes made here are
released before MPI is finalised.
"""

import atexit
import itertools
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from mpi4py import MPI

from .buffers import Buffer
from .communicator import Communicator
from .dtypes import DTYPES, DType
from .operators import Reduction, merge_moments
from .trace import Ledger

_TYPES: dict[DType, MPI.Datatype] = {dtype: getattr(MPI, dtype.mpi) for dtype in DTYPES.values()}
_fromaddress, _address = MPI.buffer.fromaddress, MPI.Get_address


def _memory(buffer: Buffer) -> MPI.buffer:
    owner, itemsize = buffer.owner, buffer.dtype.itemsize
    # NumPy takes longest to tell an address; mpi4py reads it from the buffer protocol.
    base = _address(owner) if isinstance(owner, np.ndarray) else owner.data_ptr()
    return _fromaddress(base + buffer.start * itemsize, buffer.count * itemsize)


def _spec(buffer: Buffer) -> list:
    return [_memory(buffer), buffer.count, _TYPES[buffer.dtype]]


# ----- operators and datatypes of our own. MPI may call an operator on any part of a message that holds whole
# elements of the datatype, so callbacks go by the length they are given; moments travel as a datatype that
# holds a whole record.


def _extremum(ufunc: np.ufunc) -> Callable[..., None]:
    def callback(lower: MPI.buffer, higher: MPI.buffer, datatype: MPI.Datatype) -> None:
        dtype = np.float32 if datatype.Get_size() == 4 else np.float64
        result = np.frombuffer(higher, dtype)
        with np.errstate(all="ignore"):
            ufunc(np.frombuffer(lower, dtype), result, out=result)

    return callback


def _moments(lower: MPI.buffer, higher: MPI.buffer, datatype: MPI.Datatype) -> None:
    result = np.frombuffer(higher, np.float64)
    merge_moments(np.frombuffer(lower, np.float64), result, result, record=datatype.Get_size() // 8)


def _dispatch(lower: MPI.buffer, higher: MPI.buffer, datatype: MPI.Datatype) -> None:
    """Combine as the operator does whose datatype this is: mpi4py has room for 32 operators only."""
    red = _reductions[MPI._handleof(datatype)]()
    result = np.frombuffer(higher, red.transport.storage)
    with np.errstate(all="ignore"):
        red.combine(np.frombuffer(lower, red.transport.storage), result, out=result)


_CALLBACKS = {"min": _extremum(np.minimum), "max": _extremum(np.maximum), "moments": _moments}
_operators: dict[Reduction, MPI.Op] = {}
_own_operators: dict[Any, MPI.Op] = {}  # by name; by `commute` for those that dispatch
_datatypes: "weakref.WeakKeyDictionary[Reduction, MPI.Datatype]" = weakref.WeakKeyDictionary()
_reductions: dict[int, "weakref.ref[Reduction]"] = {}  # by the handle of the datatype
# In the order in which they were made, which is the same on all ranks: they are freed together.
_communicators: "weakref.WeakValueDictionary[int, MPIComm]" = weakref.WeakValueDictionary()
_serials = itertools.count()


def _operator(red: Reduction) -> MPI.Op:
    if red.is_typed and red.op != "moments":
        found = _own_operators.get(red.commute)
        if found is None:
            found = _own_operators[red.commute] = MPI.Op.Create(_dispatch, commute=red.commute)
        return found
    found = _operators.get(red)
    if found is None:
        if red.mpi is not None:
            found = getattr(MPI, red.mpi)
        else:
            # Not declared commutative, so MPI combines in rank order and all ranks get the same bits.
            found = _own_operators.get(red.op)
            if found is None:
                found = _own_operators[red.op] = MPI.Op.Create(_CALLBACKS[red.op], commute=False)
        _operators[red] = found
    return found


def _record_spec(buffer: Buffer, red: Reduction) -> list:
    datatype = _datatypes.get(red)
    if datatype is None:
        datatype = _datatypes[red] = _TYPES[red.transport].Create_contiguous(red.record).Commit()
        handle = MPI._handleof(datatype)
        _reductions[handle] = weakref.ref(red)
        weakref.finalize(red, _free_datatype, handle, datatype)
    return [_memory(buffer), buffer.count // red.record, datatype]


def _free_datatype(handle: int, datatype: MPI.Datatype) -> None:
    """A pending operation that uses it goes on: MPI frees it afterwards."""
    _reductions.pop(handle, None)
    if datatype != MPI.DATATYPE_NULL and not MPI.Is_finalized():
        datatype.Free()


def _reduction_spec(buffer: Buffer, red: Reduction) -> list:
    return _record_spec(buffer, red) if red.is_typed else _spec(buffer)


def _release() -> None:
    """Free what was made here; runs at exit, before mpi4py finalises MPI."""
    if MPI.Is_finalized():
        return
    for _, comm in sorted(_communicators.items()):
        comm.free()
    for item in (*_own_operators.values(), *_datatypes.values()):
        if item not in (MPI.OP_NULL, MPI.DATATYPE_NULL):
            item.Free()
    _operators.clear()
    _own_operators.clear()


atexit.register(_release)


class _Handle:
    """A message or collective under way, and the memory it uses.

    One that is dropped before it has completed leaves both to `_dropped`: MPI may still read or write there.
    """

    __slots__ = ("_buffer", "_request")

    def __init__(self, request: MPI.Request, buffer: Any) -> None:
        self._request = request
        self._buffer: Any = buffer

    def wait(self) -> None:
        """Block until complete."""
        self._request.Wait()
        self._buffer = None

    def test(self) -> bool:
        """Tell whether it is complete."""
        if self._request.Test():
            self._buffer = None
        return self._buffer is None

    def __del__(self) -> None:
        if self._buffer is not None:
            _dropped.append((self._request, self._buffer))


_dropped: list[tuple[MPI.Request, Any]] = []


def _sweep() -> None:
    """Let go of dropped messages that have completed."""
    _dropped[:] = [(request, buffer) for request, buffer in _dropped if not request.Test()]


# ----- what the MPI calls are given, blocking or not


def _allreduce_arguments(comm: Communicator, send: Buffer | None, recv: Buffer, red: Reduction) -> tuple:
    source = MPI.IN_PLACE if send is None else _reduction_spec(send, red)
    return source, _reduction_spec(recv, red), _operator(red)


def _reduce_arguments(comm: Communicator, buffer: Buffer, red: Reduction, root: int) -> tuple:
    spec = _reduction_spec(buffer, red)
    return (*((MPI.IN_PLACE, spec) if comm.rank == root else (spec, None)), _operator(red), root)


def _scan_arguments(comm: Communicator, buffer: Buffer, red: Reduction) -> tuple:
    return MPI.IN_PLACE, _reduction_spec(buffer, red), _operator(red)


def _reduce_scatter_arguments(
    comm: Communicator, send: Buffer, recv: Buffer, lengths: tuple[int, ...], red: Reduction
) -> tuple:
    counts = [length // red.record for length in lengths]
    return _reduction_spec(send, red), _reduction_spec(recv, red), counts, _operator(red)


def _allgather_arguments(comm: Communicator, send: Buffer, recv: Buffer, lengths: tuple[int, ...]) -> tuple:
    spec = _spec(recv)
    return _spec(send), [spec[0], lengths, None, spec[2]]


_NONBLOCKING: dict[str, tuple[str, Callable[..., tuple]]] = {
    "barrier": ("Ibarrier", lambda comm: ()),
    "bcast": ("Ibcast", lambda comm, buffer, root: (_spec(buffer), root)),
    "allreduce": ("Iallreduce", _allreduce_arguments),
    "reduce": ("Ireduce", _reduce_arguments),
    "scan": ("Iscan", _scan_arguments),
    "exscan": ("Iexscan", _scan_arguments),
    "allgatherv": ("Iallgatherv", _allgather_arguments),
    "reduce_scatterv": ("Ireduce_scatter", _reduce_scatter_arguments),
}


class MPIComm(Communicator):
    """The ranks of an MPI communicator.

    Parameters
    ----------
    handle : mpi4py.MPI.Intracomm
        Stays the caller's: it is not freed here. Making the object is collective over it.
    """

    _has_processes = True

    def __init__(
        self, handle: MPI.Intracomm, *, _ledger: Ledger | None = None, _is_owner: bool = False
    ) -> None:
        if not isinstance(handle, MPI.Intracomm) or handle == MPI.COMM_NULL:
            raise TypeError(f"MPIComm: handle must be an mpi4py.MPI.Intracomm, got {handle!r}")
        super().__init__(handle.Get_rank(), handle.Get_size(), handle, _ledger)
        self._is_owner = _is_owner
        self._serial = next(_serials)
        self._mpi = handle.Dup()
        if not _is_owner:
            _communicators[self._serial] = self

    def _barrier(self) -> None:
        self._mpi.Barrier()

    def _bcast(self, buffer: Buffer, root: int) -> None:
        self._mpi.Bcast(_spec(buffer), root)

    def _allreduce(self, send: Buffer | None, recv: Buffer, red: Reduction) -> None:
        if red.is_typed:
            self._mpi.Allreduce(*_allreduce_arguments(self, send, recv, red))
        else:
            op = _operators.get(red) or _operator(red)
            self._mpi.Allreduce(MPI.IN_PLACE if send is None else _spec(send), _spec(recv), op)

    def _reduce(self, buffer: Buffer, red: Reduction, root: int) -> None:
        self._mpi.Reduce(*_reduce_arguments(self, buffer, red, root))

    def _scan(self, buffer: Buffer, red: Reduction) -> None:
        self._mpi.Scan(*_scan_arguments(self, buffer, red))

    def _exscan(self, buffer: Buffer, red: Reduction) -> None:
        self._mpi.Exscan(*_scan_arguments(self, buffer, red))

    def _allgatherv(self, send: Buffer, recv: Buffer, lengths: tuple[int, ...]) -> None:
        spec = _spec(recv)
        if len(set(lengths)) == 1:
            self._mpi.Allgather(_spec(send), [spec[0], lengths[0], spec[2]])
        else:
            self._mpi.Allgatherv(_spec(send), [spec[0], lengths, None, spec[2]])

    def _reduce_scatterv(self, send: Buffer, recv: Buffer, lengths: tuple[int, ...], red: Reduction) -> None:
        self._mpi.Reduce_scatter(*_reduce_scatter_arguments(self, send, recv, lengths, red))

    def _istart(self, op: str, *args: Any) -> _Handle:
        if _dropped:
            _sweep()
        name, arguments = _NONBLOCKING[op]
        return _Handle(getattr(self._mpi, name)(*arguments(self, *args)), args)

    def _isend(self, buffer: Buffer, dest: int, tag: int) -> _Handle:
        if _dropped:
            _sweep()
        return _Handle(self._mpi.Isend(_spec(buffer), dest, tag), buffer)

    def _irecv(self, buffer: Buffer, source: int, tag: int) -> _Handle:
        if _dropped:
            _sweep()
        return _Handle(self._mpi.Irecv(_spec(buffer), source, tag), buffer)

    def _send(self, buffer: Buffer, dest: int, tag: int) -> None:
        self._mpi.Send(_spec(buffer), dest, tag)

    def _recv(self, buffer: Buffer, source: int, tag: int) -> None:
        self._mpi.Recv(_spec(buffer), source, tag)

    def _split(self, color: int | None, key: int) -> "MPIComm | None":
        made = self._mpi.Split(MPI.UNDEFINED if color is None else color, key)
        return None if made == MPI.COMM_NULL else self._derived(made)

    def _dup(self) -> "MPIComm":
        return self._derived(self._mpi.Dup())

    def _split_node(self) -> "MPIComm":
        return self._derived(self._mpi.Split_type(MPI.COMM_TYPE_SHARED, self.rank))

    def _derived(self, handle: MPI.Intracomm) -> "MPIComm":
        return MPIComm(handle, _ledger=self._ledger, _is_owner=True)

    def _free(self) -> None:
        _communicators.pop(self._serial, None)
        self._mpi.Free()
        if self._is_owner:
            self.handle.Free()
