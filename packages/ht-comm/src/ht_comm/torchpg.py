"""torch.distributed as a transport: `TorchComm`, over gloo for host memory and NCCL for devices.

All traffic goes through process groups of our own, made from a store (see `rendezvous`); torch's default group is
neither needed nor touched. Data that is only moved travels as bytes. gloo adds, multiplies and compares few
element types (`plain_form`); whatever else is reduced is exchanged and combined here, in rank order.

With ``backend="nccl"`` the collectives of `DirectCollectives` give tensors on a device to NCCL as they are; everything
else, and arrays in host memory, uses gloo.
"""

import atexit
import ctypes
import re
import threading
import weakref
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from . import config
from .buffers import Buffer, NumpyKind
from .communicator import Communicator
from .direct import DirectCollectives, plain_form, reduce_options
from .dtypes import DTYPES, DType
from .errors import CommError
from .mailbox import OUTGOING, Mailbox, Outgoing
from .operators import Reduction
from .rendezvous import Meeting, check_backend, distributed, host_number, meet, meet_from_environment
from .serial import _FromSelf
from .trace import Ledger

TIMEOUT = 1800.0

_open: "weakref.WeakSet[TorchComm]" = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """End the threads of all groups while the interpreter is whole: one that asks for it later kills the process."""
    for comm in list(_open):
        comm._group = comm._device_group = None


def _tensor(buffer: Buffer, form: str) -> Any:
    """Return the memory of a buffer as a flat tensor; the buffer must outlive it."""
    import torch

    dtype = getattr(torch, form)
    if buffer.count == 0:
        return torch.empty(0, dtype=dtype)
    # By address: torch warns of NumPy arrays that are read-only, which those that are sent may be.
    return torch.frombuffer((ctypes.c_char * buffer.nbytes).from_address(buffer.ptr), dtype=dtype)


def _bytes(buffer: Buffer) -> Any:
    return _tensor(buffer, "uint8")


def _scratch(count: int, dtype: DType) -> Buffer:
    return NumpyKind.buffer(np.empty(count, dtype.storage), dtype)


class _Pending:
    """Operations under way, what remains to be done after them, and the memory they use."""

    __slots__ = ("_finish", "_keep", "_label", "_poller", "_problem", "_works")

    def __init__(
        self, label: str, works: list[Any], keep: Any, finish: Callable[[], None] | None = None
    ) -> None:
        self._label = label
        self._works = works
        self._keep = keep
        self._finish = finish
        self._poller: threading.Thread | None = None
        self._problem: BaseException | None = None

    def wait(self) -> None:
        """Block until complete."""
        if self._poller is not None:
            self._poller.join()
        elif self._works:
            self._drain()
        self._complete()

    def test(self) -> bool:
        """Tell whether it is complete.

        gloo tells of a message only to whoever waits for it, so the first question sends a thread to wait.
        """
        if self._works:
            if self._poller is None:
                self._poller = threading.Thread(target=self._drain, daemon=True)
                self._poller.start()
            self._poller.join(1e-5)
            if self._poller.is_alive():
                return False
        self._complete()
        return True

    def _drain(self) -> None:
        try:
            for work in self._works:
                work.wait()
        except BaseException as error:
            self._problem = error

    def _complete(self) -> None:
        self._works, self._poller = [], None
        if self._problem is not None:
            # Without the line of gloo's source and its advice
            text = re.sub(r"^\[[^]]*\] *", "", str(self._problem).splitlines()[0]).partition(". This is")[0]
            raise CommError(
                f"{self._label}: all ranks must take part in time, got {text}; one has failed, or makes another call"
            ) from self._problem
        if self._finish is not None:
            self._finish()
        self._finish = self._keep = None

    def __del__(self) -> None:
        if self._works:
            _dropped.append(_Pending(self._label, self._works, self._keep))


_dropped: list[_Pending] = []


def _sweep() -> None:
    """Let go of dropped operations that have completed."""
    _dropped[:] = [pending for pending in _dropped if not _is_over(pending)]


def _is_over(pending: _Pending) -> bool:
    try:
        return pending.test()
    except CommError:
        return True


class TorchComm(DirectCollectives, Communicator):
    """The ranks of a torch.distributed process group.

    Parameters
    ----------
    group : torch.distributed.ProcessGroup, optional
        Says who takes part and is used to meet; stays the caller's. By default torch's default group. Making
        the object is collective over it.
    backend : str
        ``"gloo"``: tensors on a device travel through host memory. ``"nccl"``: the collectives that NCCL has take
        them directly; then a tensor is on a device on all ranks or on none.
    timeout : float
        Seconds after which an operation that does not complete raises `CommError`.

    Notes
    -----
    `from_mpi` makes one from the ranks of another communicator, `world` from torchrun's environment. Ranks meet at a
    `TCPStore` of rank 0; ``HT_COMM_IFACE`` names the network interface to use.
    """

    _has_processes = True

    def __init__(self, group: Any = None, *, backend: str = "gloo", timeout: float = TIMEOUT) -> None:
        dist = distributed()
        check_backend("TorchComm", backend)
        if group is None and not dist.is_initialized():
            raise CommError(
                "TorchComm: group must be given where torch has no default group, got None; "
                "use TorchComm.world or TorchComm.from_mpi"
            )
        rank, size = dist.get_rank(group), dist.get_world_size(group)
        if rank < 0:
            raise ValueError("TorchComm: this rank must be a member of the group, got one it is not in")

        def gather(obj: Any) -> list[Any]:
            everyone = [None] * size
            dist.all_gather_object(everyone, obj, group=group)
            return everyone

        meeting = meet(rank, gather, lambda obj: gather(obj)[0], backend, timeout)
        self._join(meeting, "world", rank, size)

    @classmethod
    def from_mpi(cls, comm: Any, *, backend: str = "gloo", timeout: float = TIMEOUT) -> "TorchComm":
        """Make one of the ranks of another communicator. Collective.

        Parameters
        ----------
        comm : Communicator or mpi4py.MPI.Intracomm
            Only used to meet.
        backend, timeout
            As for the class.
        """
        check_backend("TorchComm.from_mpi", backend)
        if isinstance(comm, Communicator):
            gather, bcast, rank, size = comm.allgather_object, comm.bcast_object, comm.rank, comm.size
        elif hasattr(comm, "Get_rank") and hasattr(comm, "allgather"):
            gather, bcast, rank, size = comm.allgather, comm.bcast, comm.Get_rank(), comm.Get_size()
        else:
            raise TypeError(
                f"TorchComm.from_mpi: comm must be an ht_comm or mpi4py communicator, got {comm!r}"
            )
        meeting = meet(rank, gather, bcast, backend, timeout)
        return cls.__new__(cls)._join(meeting, "world", rank, size)

    @classmethod
    def world(cls, *, backend: str = "gloo", timeout: float = TIMEOUT) -> "TorchComm":
        """Make one of all ranks that torchrun started (``RANK WORLD_SIZE MASTER_ADDR MASTER_PORT``). Collective."""
        check_backend("TorchComm.world", backend)
        if distributed().is_initialized():
            return cls(backend=backend, timeout=timeout)
        meeting, rank, size = meet_from_environment(backend, timeout)
        return cls.__new__(cls)._join(meeting, "world", rank, size)

    def _join(
        self, meeting: Meeting, prefix: str, rank: int, size: int, ledger: Ledger | None = None
    ) -> "TorchComm":
        """Meet the other ranks under a prefix of the store."""
        Communicator.__init__(self, rank, size, None, ledger)
        self._meeting = meeting
        self._prefix = prefix
        self._made = 0  # groups made from this one
        self._mailbox = Mailbox()  # messages to oneself
        self._group = self._device_group = None
        _open.add(self)
        if size > 1:
            try:
                self._group = meeting.group(prefix, rank, size)
                self._device_group = meeting.device_group(prefix, rank, size)
            except RuntimeError as error:
                raise CommError(
                    f"TorchComm: all {size} ranks must be reachable from {meeting.address}, got {error}; "
                    "name a network interface in HT_COMM_IFACE"
                ) from error
            self._barrier()  # nobody may leave, and take the store along, before all have met
        return self

    # ----- collectives: `_start_*` returns what is under way

    def _barrier(self) -> None:
        self._start_barrier().wait()

    def _start_barrier(self) -> _Pending:
        return _Pending("barrier", [self._group.barrier()], None)

    def _bcast(self, buffer: Buffer, root: int) -> None:
        self._start_bcast(buffer, root).wait()

    def _start_bcast(self, buffer: Buffer, root: int) -> _Pending:
        works = [self._group.broadcast(_bytes(buffer), root)] if buffer.count else []
        return _Pending("bcast", works, buffer)

    def _allreduce(self, send: Buffer | None, recv: Buffer, red: Reduction) -> None:
        own = recv if send is None else send
        if plain_form(red) is None and own.nbytes * self.size > config.chunk_bytes:
            self._allreduce_blocks(own, recv, red)
        else:
            self._start_allreduce(send, recv, red).wait()

    def _allreduce_blocks(self, own: Buffer, recv: Buffer, red: Reduction) -> None:
        """Each rank combines one block; two messages of about the length of the operand, scratch of it."""
        records = own.count // red.record
        ends = [records * rank // self.size * red.record for rank in range(self.size + 1)]
        lengths = tuple(end - start for start, end in pairwise(ends))
        block = _scratch(lengths[self.rank], red.transport)
        self._reduce_scatterv(own, block, lengths, red)
        self._allgatherv(block, recv, lengths)

    def _start_allreduce(self, send: Buffer | None, recv: Buffer, red: Reduction) -> _Pending:
        own = recv if send is None else send
        plain = plain_form(red)
        if not own.count:
            return _Pending("allreduce", [], None)
        if plain is None:
            return self._gathered("allreduce", own, lambda parts: _fold(parts, recv.array, red))
        if send is not None:
            recv.array[...] = send.array
        return _Pending(
            "allreduce", [self._group.allreduce([_tensor(recv, plain[0])], reduce_options(plain[1]))], recv
        )

    def _reduce(self, buffer: Buffer, red: Reduction, root: int) -> None:
        self._start_reduce(buffer, red, root).wait()

    def _start_reduce(self, buffer: Buffer, red: Reduction, root: int) -> _Pending:
        """gloo overwrites the operands, which the other ranks keep: they give it a copy."""
        if not buffer.count:
            return _Pending("reduce", [], None)
        plain = plain_form(red)
        if plain is not None:
            work = buffer
            if self.rank != root:
                work = _scratch(buffer.count, buffer.dtype)
                work.array[...] = buffer.array
            options = reduce_options(plain[1], "ReduceOptions")
            options.rootRank = root
            return _Pending("reduce", [self._group.reduce([_tensor(work, plain[0])], options)], work)
        options = distributed().GatherOptions()
        options.rootRank = root
        if self.rank != root:
            return _Pending("reduce", [self._group.gather([], [_bytes(buffer)], options)], buffer)
        parts = self._parts(buffer)
        work = self._group.gather([[_bytes(part) for part in parts]], [_bytes(buffer)], options)
        return _Pending("reduce", [work], (buffer, parts), lambda: _fold(parts, buffer.array, red))

    def _scan(self, buffer: Buffer, red: Reduction) -> None:
        self._start_scan(buffer, red).wait()

    def _start_scan(self, buffer: Buffer, red: Reduction) -> _Pending:
        n = self.rank + 1
        return self._gathered("scan", buffer, lambda parts: _fold(parts[:n], buffer.array, red))

    def _exscan(self, buffer: Buffer, red: Reduction) -> None:
        self._start_exscan(buffer, red).wait()

    def _start_exscan(self, buffer: Buffer, red: Reduction) -> _Pending:
        n = max(self.rank, 1)
        return self._gathered("exscan", buffer, lambda parts: _fold(parts[:n], buffer.array, red))

    def _gathered(self, label: str, own: Buffer, use: Callable[[list[Buffer]], None]) -> _Pending:
        """Start to collect the buffers of all ranks, of equal length, in scratch of that size."""
        if not own.count:
            return _Pending(label, [], None)
        parts = self._parts(own)
        work = self._group.allgather([[_bytes(part) for part in parts]], [_bytes(own)])
        return _Pending(label, [work], (own, parts), lambda: use(parts))

    def _parts(self, buffer: Buffer) -> list[Buffer]:
        """Return scratch for one such buffer per rank."""
        whole = _scratch(buffer.count * self.size, buffer.dtype)
        return [whole.part(rank * buffer.count, buffer.count) for rank in range(self.size)]

    def _allgatherv(self, send: Buffer, recv: Buffer, lengths: tuple[int, ...]) -> None:
        self._start_allgatherv(send, recv, lengths).wait()

    def _start_allgatherv(self, send: Buffer, recv: Buffer, lengths: tuple[int, ...]) -> _Pending:
        """gloo gathers equal lengths only; others are broadcast, one rank after the other."""
        starts = accumulate(lengths, initial=0)
        parts = [recv.part(start, length) for start, length in zip(starts, lengths)]
        if not recv.count:
            works = []
        elif len(set(lengths)) == 1 and self.size > 1:
            works = [self._group.allgather([[_bytes(part) for part in parts]], [_bytes(send)])]
        else:
            parts[self.rank].array[...] = send.array
            works = [
                self._group.broadcast(_bytes(part), root)
                for root, part in enumerate(parts)
                if part.count and self.size > 1
            ]
        return _Pending("allgatherv", works, (send, recv))

    def _reduce_scatterv(self, send: Buffer, recv: Buffer, lengths: tuple[int, ...], red: Reduction) -> None:
        self._start_reduce_scatterv(send, recv, lengths, red).wait()

    def _start_reduce_scatterv(
        self, send: Buffer, recv: Buffer, lengths: tuple[int, ...], red: Reduction
    ) -> _Pending:
        """Each rank collects its block from all and combines them in rank order."""
        if not send.count:
            return _Pending("reduce_scatterv", [], None)
        itemsize, parts = send.dtype.itemsize, self._parts(recv)
        work = self._group.alltoall_base(
            _bytes(Buffer(parts[0].owner, recv.count * self.size, recv.dtype)),
            _bytes(send),
            [recv.nbytes] * self.size,
            [length * itemsize for length in lengths],
        )
        return _Pending("reduce_scatterv", [work], (send, recv, parts), lambda: _fold(parts, recv.array, red))

    def _istart(self, op: str, *args: Any) -> _Pending:
        if _dropped:
            _sweep()
        return getattr(self, f"_start_{op}")(*args)

    # ----- messages. An empty one travels as a byte: gloo has none.

    def _isend(self, buffer: Buffer, dest: int, tag: int) -> _Pending | Outgoing:
        if dest == self.rank:
            self._mailbox.send(tag, buffer)
            return OUTGOING
        if _dropped:
            _sweep()
        data = _bytes(buffer if buffer.count else _scratch(1, DTYPES["uint8"]))
        return _Pending(
            f"send(dest={dest}, tag={tag})", [self._group.send([data], dest, tag)], (buffer, data)
        )

    def _irecv(self, buffer: Buffer, source: int, tag: int) -> "_Pending | _FromSelf":
        if source == self.rank:
            message = _FromSelf(buffer, f"recv(source={source}, tag={tag})")
            self._mailbox.expect(tag, message)
            return message
        if _dropped:
            _sweep()
        target = buffer if buffer.count else _scratch(1, DTYPES["uint8"])
        work = self._group.recv([_bytes(target)], source, tag)
        return _Pending(f"recv(source={source}, tag={tag})", [work], target)

    # ----- other communicators

    def _split(self, color: int | None, key: int) -> "TorchComm | None":
        own = _scratch(2, DTYPES["int64"])
        own.array[...] = (-1 if color is None else color), key
        everyone = _scratch(2 * self.size, DTYPES["int64"])
        self._allgatherv(own, everyone, (2,) * self.size)
        table = everyone.array.reshape(-1, 2).tolist()
        self._made += 1
        if color is None:
            return None
        members = sorted((k, rank) for rank, (c, k) in enumerate(table) if c == color)
        new_rank = members.index((key, self.rank))
        return self._derived(f"{self._prefix}/{self._made}.{color}", new_rank, len(members))

    def _dup(self) -> "TorchComm":
        self._made += 1
        return self._derived(f"{self._prefix}/{self._made}", self.rank, self.size)

    def _split_node(self) -> "TorchComm":
        made = self._split(host_number(), self.rank)
        assert made is not None  # the color is a number
        return made

    def _derived(self, prefix: str, rank: int, size: int) -> "TorchComm":
        return type(self).__new__(type(self))._join(self._meeting, prefix, rank, size, self._ledger)

    def _free(self) -> None:
        self._mailbox = Mailbox()
        if self._group is not None:
            self._barrier()  # a connection that is closed early takes along what its peer has yet to read
        if self._device_group is not None and self._meeting.backend == "nccl":
            # NCCL keeps threads and device memory until told; torch before 2.7 has the name with an underscore.
            group = self._device_group
            (getattr(group, "shutdown", None) or group._shutdown)()
        self._group = self._device_group = None


def _fold(parts: list[Buffer], out: np.ndarray, red: Reduction) -> None:
    """Combine in rank order: parts[0] serves as scratch."""
    total = parts[0].array
    with np.errstate(all="ignore"):
        for part in parts[1:]:
            red.combine(total, part.array, out=total)
    out[...] = total
