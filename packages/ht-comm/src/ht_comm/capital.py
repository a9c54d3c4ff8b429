"""The collectives under the names and signatures of mpi4py and Heat: ``Allreduce(sendbuf, recvbuf, op)`` and so on.

For code that is being ported. Buffers are NumPy arrays or torch tensors of any strides; as in MPI they are sequences
of elements (in C order), whose shapes need not match. Blocks along an axis, new results and Python objects are what
the lower-case methods are for, which these call.

- `sendbuf` None or ``MPI.IN_PLACE``: the operand is in `recvbuf`.
- `op`: a name of ours (``"sum"``), `Op`, or a predefined operator of mpi4py.
- Uneven blocks: ``(array, counts)`` or ``(array, counts, displs)``, displs without gaps. An MPI datatype at the end is
  ignored: the array knows its own. As in MPI only the root needs the counts of ``Gatherv`` and ``Scatterv``.
- ``I...``: returns a `Request`, which has ``Wait`` and ``Test``, too.
"""

import math
import sys
from collections.abc import Callable
from itertools import accumulate
from typing import Any

from .buffers import Array, inspect
from .operators import Op, Operator
from .point_to_point import Request
from .trace import traced

_MPI_OPERATORS = ("SUM", "PROD", "MIN", "MAX", "LAND", "LOR", "LXOR", "BAND", "BOR", "BXOR")


def _operator(op: Any) -> Operator:
    if isinstance(op, str):
        return op.lower()
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and not isinstance(op, Op):
        for name in _MPI_OPERATORS:
            if op == getattr(mpi, name):
                return name.lower()
    return op


def _is_in_place(buf: Any) -> bool:
    return buf is None or type(buf).__name__ == "InPlaceType"


class _Target:
    """A receive buffer as a flat array, and the way home from it."""

    def __init__(self, where: str, buf: Array, count: int | None = None, is_operand: bool = False) -> None:
        kind, _ = inspect(where, "recvbuf", buf)
        size = math.prod(buf.shape)
        is_direct = kind.is_direct(buf)
        self.flat = buf.reshape(-1) if is_direct or is_operand else kind.empty((size,), buf)
        if count is not None and count != size:
            self.flat = self.flat[:count]
            is_direct = is_direct or count == 0
        self.buf = buf

        def bring_home() -> None:
            if count is None or count == size:
                kind.copy(buf, self.flat.reshape(buf.shape))
            else:
                whole = kind.prepare(buf).reshape(-1)
                whole[:count] = self.flat
                kind.copy(buf, whole.reshape(buf.shape))

        self.finish: Callable[[], None] | None = None if is_direct else bring_home

    def own(self, start: int, count: int) -> Array:
        """Return a copy of a part: what is sent must not be memory that is received into."""
        part = self.flat[start : start + count]
        kind, _ = inspect("", "recvbuf", part)
        copy = kind.empty_like(part)
        kind.copy(copy, kind.prepare(part))
        return copy

    def end(self, result: Any) -> Any:
        """Return what the caller gets for the result of a lower-case method: nothing, or a request."""
        if isinstance(result, Request):
            return Request(self.buf, [result], self.finish)
        if self.finish is not None:
            self.finish()
        return None


def _flat(where: str, buf: Any) -> Array:
    inspect(where, "sendbuf", buf)
    return buf.reshape(-1)


def _blocks(where: str, argument: str, spec: Any, size: int) -> tuple[Array, tuple[int, ...]]:
    """Return the array of a buffer with blocks and their extents; equal ones where none are given."""
    buf, *rest = spec if isinstance(spec, (list, tuple)) else (spec,)
    while rest and (rest[-1] is None or isinstance(rest[-1], str) or hasattr(rest[-1], "Get_extent")):
        rest.pop()
    if (
        rest
        and isinstance(rest[0], (list, tuple))
        and any(isinstance(each, (list, tuple)) for each in rest[0])
    ):
        rest = list(rest[0])
    inspect(where, argument, buf)
    length = math.prod(buf.shape)
    if not rest or isinstance(rest[0], int):
        if length % size:
            raise ValueError(
                f"{where}: {argument} must have a multiple of {size} elements where it has no counts, got {length}"
            )
        return buf, (length // size,) * size
    counts = tuple(map(int, rest[0]))
    if len(counts) != size or min(counts) < 0 or sum(counts) > length:
        raise ValueError(
            f"{where}: {argument} must have {size} counts >= 0 of at most {length} elements in all, got {counts}"
        )
    displs = tuple(map(int, rest[1])) if len(rest) > 1 and rest[1] is not None else None
    if displs is not None and displs != tuple(accumulate(counts, initial=0))[:-1]:
        raise ValueError(
            f"{where}: {argument} must have blocks that follow one another, got displs {displs} for counts {counts}"
        )
    return buf, counts


def _end(request: Request, method: str) -> Request | None:
    """Hand out a request that is only to be started, wait for one that is to be finished."""
    if method == "start":
        return request
    request.wait()
    return None


# ----- forms: each makes the method of one name


def _reduction(name: str, method: str) -> Callable[..., Any]:
    def call(self, sendbuf, recvbuf, op="sum"):
        in_place = _is_in_place(sendbuf)
        target = _Target(name, recvbuf, is_operand=in_place)
        operand = target.flat if in_place else _flat(name, sendbuf)
        return target.end(getattr(self, method)(operand, _operator(op), out=target.flat))

    return call


def _rooted_reduction(name: str, method: str) -> Callable[..., Any]:
    def call(self, sendbuf, recvbuf, op="sum", root=0):
        if self.rank != root:
            return getattr(self, method)(_flat(name, sendbuf), _operator(op), root=root)
        in_place = _is_in_place(sendbuf)
        target = _Target(name, recvbuf, is_operand=in_place)
        operand = target.flat if in_place else _flat(name, sendbuf)
        return target.end(getattr(self, method)(operand, _operator(op), root=root, out=target.flat))

    return call


def _broadcast(name: str, method: str) -> Callable[..., Any]:
    def call(self, buf, root=0):
        result = getattr(self, method)(buf, root)
        return result if isinstance(result, Request) else None

    return call


def _allgather(name: str, method: str) -> Callable[..., Any]:
    def call(self, sendbuf, recvbuf):
        buf, counts = _blocks(name, "recvbuf", recvbuf, self.size)
        in_place = _is_in_place(sendbuf)
        target = _Target(name, buf, sum(counts), is_operand=in_place)
        start = sum(counts[: self.rank])
        own = target.own(start, counts[self.rank]) if in_place else _flat(name, sendbuf)
        return target.end(getattr(self, method)(own, counts, out=target.flat))

    return call


def _gather(name: str, method: str) -> Callable[..., Any]:
    def call(self, sendbuf, recvbuf, root=0):
        self._check_root(name, root)
        if self.rank != root:
            own = _flat(name, sendbuf)
            return _end(self._start_gather(name, own, (len(own),) * self.size, 0, root, None), method)
        buf, counts = _blocks(name, "recvbuf", recvbuf, self.size)
        in_place = _is_in_place(sendbuf)
        target = _Target(name, buf, sum(counts), is_operand=in_place)
        start = sum(counts[:root])
        own = target.flat[start : start + counts[root]] if in_place else _flat(name, sendbuf)
        self._check_extent(name, own, 0, counts)
        request = self._start_gather(name, own, counts, 0, root, target.flat)
        return _end(Request(buf, [request], target.finish), method)

    return call


def _scatter(name: str, method: str) -> Callable[..., Any]:
    def call(self, sendbuf, recvbuf, root=0):
        self._check_root(name, root)
        whole, counts = None, ()
        if self.rank == root:
            whole, counts = _blocks(name, "sendbuf", sendbuf, self.size)
            whole = _flat(name, whole)[: sum(counts)]
            if _is_in_place(recvbuf):
                return _end(self._start_scatter(name, whole, counts, 0, root, whole, (0,)), method)
        kind, _ = inspect(name, "recvbuf", recvbuf)
        size = math.prod(recvbuf.shape)
        if counts and counts[root] != size:
            raise ValueError(f"{name}: recvbuf must have {counts[root]} elements on the root, got {size}")
        request = self._start_scatter(name, whole, counts or (size,) * self.size, 0, root, recvbuf, (0,))
        block = request.array
        finish = lambda: kind.copy(recvbuf, block.reshape(recvbuf.shape))  # noqa: E731 - for the request
        return _end(Request(recvbuf, [request], finish), method)

    return call


def _alltoall(name: str, method: str) -> Callable[..., Any]:
    def call(self, sendbuf, recvbuf):
        buf, counts = _blocks(name, "recvbuf", recvbuf, self.size)
        in_place = _is_in_place(sendbuf)
        target = _Target(name, buf, sum(counts), is_operand=in_place)
        if in_place:
            x, send_counts = target.own(0, sum(counts)), counts
        else:
            x, send_counts = _blocks(name, "sendbuf", sendbuf, self.size)
        return target.end(
            getattr(self, method)(_flat(name, x)[: sum(send_counts)], send_counts, counts, out=target.flat)
        )

    return call


def _reduce_scatter(name: str, method: str) -> Callable[..., Any]:
    def call(self, sendbuf, recvbuf, recvcounts=None, op="sum"):
        x, counts = _blocks(name, "sendbuf", (sendbuf, recvcounts), self.size)
        target = _Target(name, recvbuf, counts[self.rank])
        return target.end(getattr(self, method)(_flat(name, x), counts, _operator(op), out=target.flat))

    return call


def _same(name: str, method: str) -> Callable[..., Any]:
    def call(self, *args, **kwargs):
        return getattr(self, method)(*args, **kwargs)

    return call


def _sendrecv(name: str, method: str) -> Callable[..., Any]:
    def call(self, sendbuf, dest, sendtag=0, recvbuf=None, source=0, recvtag=0):
        incoming = self.irecv(recvbuf, source, recvtag)
        self.isend(sendbuf, dest, sendtag).wait()
        incoming.wait()

    return call


_TABLE: dict[str, tuple[Callable[[str, str], Callable[..., Any]], str]] = {
    "Allreduce": (_reduction, "allreduce"),
    "Iallreduce": (_reduction, "iallreduce"),
    "Scan": (_reduction, "scan"),
    "Iscan": (_reduction, "iscan"),
    "Exscan": (_reduction, "exscan"),
    "Iexscan": (_reduction, "iexscan"),
    "Reduce": (_rooted_reduction, "reduce"),
    "Ireduce": (_rooted_reduction, "ireduce"),
    "Reduce_scatter": (_reduce_scatter, "reduce_scatterv"),
    "Ireduce_scatter": (_reduce_scatter, "ireduce_scatterv"),
    "Bcast": (_broadcast, "bcast"),
    "Ibcast": (_broadcast, "ibcast"),
    "Allgather": (_allgather, "allgatherv"),
    "Iallgather": (_allgather, "iallgatherv"),
    "Allgatherv": (_allgather, "allgatherv"),
    "Iallgatherv": (_allgather, "iallgatherv"),
    "Gather": (_gather, "finish"),
    "Igather": (_gather, "start"),
    "Gatherv": (_gather, "finish"),
    "Igatherv": (_gather, "start"),
    "Scatter": (_scatter, "finish"),
    "Iscatter": (_scatter, "start"),
    "Scatterv": (_scatter, "finish"),
    "Iscatterv": (_scatter, "start"),
    "Alltoall": (_alltoall, "alltoallv"),
    "Ialltoall": (_alltoall, "ialltoallv"),
    "Alltoallv": (_alltoall, "alltoallv"),
    "Ialltoallv": (_alltoall, "ialltoallv"),
    "Barrier": (_same, "barrier"),
    "Ibarrier": (_same, "ibarrier"),
    "Send": (_same, "send"),
    "Recv": (_same, "recv"),
    "Isend": (_same, "isend"),
    "Irecv": (_same, "irecv"),
    "Sendrecv": (_sendrecv, "sendrecv"),
    "Split": (_same, "split"),
    "Dup": (_same, "dup"),
}


def _method(name: str) -> Callable[..., Any]:
    form, method = _TABLE[name]
    call = form(name, method)
    call.__name__ = name
    call.__qualname__ = f"Capital.{name}"
    call.__doc__ = (
        f"As `mpi4py.MPI.Comm.{name}`, on arrays and tensors of any strides; see `ht_comm.capital`."
    )
    return traced(call)


class Capital:
    """The methods of a communicator under mpi4py's names: see the head of this module."""

    def Get_rank(self) -> int:
        """Return the number of this rank."""
        return self.rank

    def Get_size(self) -> int:
        """Return the number of ranks."""
        return self.size


for _name in _TABLE:
    setattr(Capital, _name, _method(_name))
