"""Collectives that return at once: iallreduce, ibcast and the rest, each a `Request`.

They pack, slice and check as their blocking forms. All ranks must start collectives, blocking ones included, in the
same order; they may wait in any order. A trace has the event at the call: waiting is not counted.

What is sent must not be changed, and what is received not be read, before ``wait()`` has returned (or ``test()`` has
returned True). Whether anything moves between the call and the wait is up to MPI: where ranks share memory and keep
their cores busy, expect nothing; see the guide of the package.
"""

from .buffers import Array, check_target, check_writable, inspect, landing, landing_blocks, pack, pack_blocks
from .movement import TAG_ALLGATHER, _cut
from .operators import Operator, find_reduction
from .point_to_point import Handle, Request
from .reductions import _operand, _single, check_record_axis
from .trace import traced


class NonBlocking:
    """The methods of a communicator that start a collective."""

    @traced
    def ibarrier(self) -> Request:
        """Start a barrier: the request completes once all ranks have started it; its ``wait()`` returns None."""
        if self.size == 1:
            return Request(None, [])
        if self._ledger.traces:
            self._ledger.add(0)
        return Request(None, [self._istart("barrier")])

    @traced
    def iallreduce(self, x: Array, op: Operator = "sum", *, out: Array | None = None) -> Request:
        """Start `allreduce`; ``wait()`` returns the result.

        Parameters
        ----------
        x, op, out
            As for `allreduce`. Neither may be touched before the request has completed.

        Returns
        -------
        Request

        Distribution
        ------------
        Collective. Messages as for `allreduce`.
        """
        kind, dtype = inspect("iallreduce", "x", x)
        red = find_reduction("iallreduce", op, dtype, x.shape)
        out, is_direct = self._result("iallreduce", x, out, kind, dtype)
        if self.size == 1:
            _single(x, out, kind, red)
            return Request(out, [])
        send, finish = None, None
        if red.transport is not dtype or red.is_normalised:
            recv = _operand(x, kind, red)
            finish = lambda: kind.copy(out, recv.owner)  # noqa: E731 - as `landing` gives one
        elif out is x and is_direct:
            recv = kind.buffer(out, dtype)
        else:
            send = pack(x, kind, dtype)
            recv, finish = landing(out, kind, dtype)
        handles: list[Handle] = []
        for part in self._slices(recv, red.record):
            if self._ledger.traces:
                self._ledger.add(part.nbytes)
            own = None if send is None else send.part(part.start - recv.start, part.count)
            handles.append(self._istart("allreduce", own, part, red))
        return Request(out, handles, finish)

    @traced
    def ireduce(self, x: Array, op: Operator = "sum", *, root: int = 0, out: Array | None = None) -> Request:
        """Start `reduce`; ``wait()`` returns the result on the root and None on the other ranks.

        Parameters, result and messages as for `reduce`. Collective.
        """
        kind, dtype = inspect("ireduce", "x", x)
        red = find_reduction("ireduce", op, dtype, x.shape)
        self._check_root("ireduce", root)
        is_root = self.rank == root
        out = self._result("ireduce", x, out, kind, dtype)[0] if is_root else None
        if self.size == 1:
            _single(x, out, kind, red)
            return Request(out, [])
        if is_root or red.transport is not dtype or red.is_normalised:
            work = _operand(x, kind, red)
        else:
            work = pack(x, kind, dtype)
        handles: list[Handle] = []
        for part in self._slices(work, red.record):
            if self._ledger.traces:
                self._ledger.add(0 if is_root else part.nbytes)
            handles.append(self._istart("reduce", part, red, root))
        return Request(out, handles, (lambda: kind.copy(out, work.owner)) if is_root else None)

    @traced
    def ibcast(self, x: Array, root: int = 0) -> Request:
        """Start `bcast`; ``wait()`` returns `x`.

        Parameters, result and messages as for `bcast`. Collective.
        """
        kind, dtype = inspect("ibcast", "x", x)
        self._check_root("ibcast", root)
        if self.size == 1:
            return Request(x, [])
        finish = None
        if self.rank == root:
            buffer = pack(x, kind, dtype)
        else:
            check_writable("ibcast", "x", x, kind)
            buffer, finish = landing(x, kind, dtype)
        handles: list[Handle] = []
        for part in self._slices(buffer):
            if self._ledger.traces and self.rank == root:
                self._ledger.add(part.nbytes)
            handles.append(self._istart("bcast", part, root))
        return Request(x, handles, finish)

    @traced
    def iallgather(self, x: Array, *, axis: int = 0, out: Array | None = None) -> Request:
        """Start `allgather`; ``wait()`` returns the result.

        Parameters, result and messages as for `allgather`. Collective.
        """
        inspect("iallgather", "x", x)
        axis = self._check_axis("iallgather", axis, x.ndim)
        return self._start_allgather("iallgather", x, (int(x.shape[axis]),) * self.size, axis, out)

    @traced
    def iallgatherv(
        self, x: Array, counts: tuple[int, ...], *, axis: int = 0, out: Array | None = None
    ) -> Request:
        """Start `allgatherv`; ``wait()`` returns the result.

        Parameters, result and messages as for `allgatherv`. Collective.
        """
        inspect("iallgatherv", "x", x)
        axis = self._check_axis("iallgatherv", axis, x.ndim)
        counts = self._check_counts("iallgatherv", "counts", counts)
        self._check_extent("iallgatherv", x, axis, counts)
        return self._start_allgather("iallgatherv", x, counts, axis, out)

    def _start_allgather(
        self, where: str, x: Array, counts: tuple[int, ...], axis: int, out: Array | None
    ) -> Request:
        kind, dtype = inspect(where, "x", x)
        shape = (*x.shape[:axis], sum(counts), *x.shape[axis + 1 :])
        if out is None:
            out = kind.empty(shape, x)
        else:
            check_target(where, "out", out, kind, dtype, shape)
        if self.size == 1:
            kind.copy(out, kind.prepare(x))
            return Request(out, [])
        lengths = self._lengths(x.shape, counts, axis)
        send = pack(x, kind, dtype)
        recv, finish = landing_blocks(out, counts, axis, kind, dtype)
        if self._fits(recv):
            if self._ledger.traces:
                self._ledger.add(send.nbytes)
            return Request(out, [self._istart("allgatherv", send, recv, lengths)], finish)
        return Request(
            out, self._start_exchange([send] * self.size, _cut(recv, lengths), TAG_ALLGATHER), finish
        )

    @traced
    def igather(self, x: Array, *, axis: int = 0, root: int = 0, out: Array | None = None) -> Request:
        """Start `gather`; ``wait()`` returns the result on the root and None on the other ranks.

        Parameters, result and messages as for `gather`. Collective.
        """
        axis = self._check_gather("igather", x, axis, root)
        return self._start_gather("igather", x, (int(x.shape[axis]),) * self.size, axis, root, out)

    @traced
    def igatherv(
        self, x: Array, counts: tuple[int, ...], *, axis: int = 0, root: int = 0, out: Array | None = None
    ) -> Request:
        """Start `gatherv`; ``wait()`` returns the result on the root and None on the other ranks.

        Parameters, result and messages as for `gatherv`. Collective.
        """
        axis = self._check_gather("igatherv", x, axis, root)
        counts = self._check_counts("igatherv", "counts", counts)
        self._check_extent("igatherv", x, axis, counts)
        return self._start_gather("igatherv", x, counts, axis, root, out)

    @traced
    def iscatterv(
        self, x: Array | None, counts: tuple[int, ...], *, axis: int = 0, root: int = 0, like: Array
    ) -> Request:
        """Start `scatterv`; ``wait()`` returns this rank's block.

        Parameters, result and messages as for `scatterv`, but `like` must be given: without it the ranks would
        have to wait for a description of the root's array. Collective.
        """
        self._check_root("iscatterv", root)
        counts = self._check_counts("iscatterv", "counts", counts)
        inspect("iscatterv", "like", like)
        axis = self._check_axis("iscatterv", axis, like.ndim)
        return self._start_scatter("iscatterv", x, counts, axis, root, like, tuple(like.shape))

    @traced
    def iscatter(self, x: Array | None, *, axis: int = 0, root: int = 0, like: Array) -> Request:
        """Start `scatter`; ``wait()`` returns this rank's block.

        Parameters, result and messages as for `scatter`, but `like` must be given. Collective.
        """
        self._check_root("iscatter", root)
        inspect("iscatter", "like", like)
        axis = self._check_axis("iscatter", axis, like.ndim)
        counts = (int(like.shape[axis]),) * self.size
        return self._start_scatter("iscatter", x, counts, axis, root, like, tuple(like.shape))

    @traced
    def ialltoall(self, x: Array, *, axis: int = 0, out: Array | None = None) -> Request:
        """Start `alltoall`; ``wait()`` returns the result.

        Parameters, result and messages as for `alltoall`. Collective.
        """
        inspect("ialltoall", "x", x)
        axis = self._check_axis("ialltoall", axis, x.ndim)
        counts = (self._check_divisible("ialltoall", x, axis),) * self.size
        return self._start_alltoallv("ialltoall", x, counts, counts, axis, out)

    @traced
    def ialltoallv(
        self,
        x: Array,
        send_counts: tuple[int, ...],
        recv_counts: tuple[int, ...],
        *,
        axis: int = 0,
        out: Array | None = None,
    ) -> Request:
        """Start `alltoallv`; ``wait()`` returns the result.

        Parameters, result and messages as for `alltoallv`. Collective.
        """
        return self._start_alltoallv("ialltoallv", x, send_counts, recv_counts, axis, out)

    @traced
    def ireduce_scatter(
        self, x: Array, op: Operator = "sum", *, axis: int = 0, out: Array | None = None
    ) -> Request:
        """Start `reduce_scatter`; ``wait()`` returns this rank's block.

        Parameters, result and messages as for `reduce_scatter`. Collective.
        """
        inspect("ireduce_scatter", "x", x)
        axis = self._check_axis("ireduce_scatter", axis, x.ndim)
        counts = (self._check_divisible("ireduce_scatter", x, axis),) * self.size
        return self.ireduce_scatterv(x, counts, op, axis=axis, out=out)

    @traced
    def ireduce_scatterv(
        self,
        x: Array,
        counts: tuple[int, ...],
        op: Operator = "sum",
        *,
        axis: int = 0,
        out: Array | None = None,
    ) -> Request:
        """Start `reduce_scatterv`; ``wait()`` returns this rank's block.

        Parameters, result and messages as for `reduce_scatterv`. Collective.
        """
        kind, dtype = inspect("ireduce_scatterv", "x", x)
        red = find_reduction("ireduce_scatterv", op, dtype, x.shape)
        axis = self._check_axis("ireduce_scatterv", axis, x.ndim)
        counts = self._check_counts("ireduce_scatterv", "counts", counts, x.shape[axis])
        check_record_axis("ireduce_scatterv", red, axis, x.ndim)
        shape = (*x.shape[:axis], counts[self.rank], *x.shape[axis + 1 :])
        if out is None:
            out = kind.empty(shape, x)
        else:
            check_target("ireduce_scatterv", "out", out, kind, dtype, shape)
        if self.size == 1:
            _single(x, out, kind, red)
            return Request(out, [])
        lengths = self._lengths(x.shape, counts, axis)
        if red.transport is not dtype or red.is_normalised:
            x = _operand(x, kind, red).owner
        send = pack_blocks(x, counts, axis, kind, red.transport)
        recv, finish = self._reduced_landing(out, red, kind, dtype)
        if self._fits(send):
            if self._ledger.traces:
                self._ledger.add(send.nbytes - recv.nbytes)
            return Request(out, [self._istart("reduce_scatterv", send, recv, lengths, red)], finish)
        handles: list[Handle] = []
        for root, block in enumerate(_cut(send, lengths)):
            if root == self.rank:
                recv.array[...] = block.array
                block = recv
            for part in self._slices(block, red.record):
                if self._ledger.traces:
                    self._ledger.add(0 if root == self.rank else part.nbytes)
                handles.append(self._istart("reduce", part, red, root))
        return Request(out, handles, finish)

    @traced
    def iscan(self, x: Array, op: Operator = "sum", *, out: Array | None = None) -> Request:
        """Start `scan`; ``wait()`` returns the result. Parameters and messages as for `scan`. Collective."""
        return self._start_prefix("iscan", x, op, out)

    @traced
    def iexscan(self, x: Array, op: Operator = "sum", *, out: Array | None = None) -> Request:
        """Start `exscan`; ``wait()`` returns the result. Parameters and messages as for `exscan`. Collective."""
        return self._start_prefix("iexscan", x, op, out)
