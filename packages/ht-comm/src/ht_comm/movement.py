"""Collectives that move data without changing it: bcast, allgather(v), gather(v), scatter(v), alltoall(v)."""

import math
from itertools import accumulate, pairwise

from . import config
from .boxes import chunk_limit, cut_box, volume
from .buffers import (
    KINDS,
    Array,
    Buffer,
    Kind,
    NumpyKind,
    check_like,
    check_target,
    check_writable,
    inspect,
    is_leading,
    landing,
    landing_blocks,
    pack,
    pack_blocks,
)
from .dtypes import DType
from .point_to_point import MAX_TAG, Handle, Request, wait_all
from .pool import Scratch
from .trace import traced

# Tags of internal traffic. Messages between two ranks keep their order and every collective waits for its
# own, so consecutive collectives may share one.
TAG_GATHER, TAG_SCATTER, TAG_ALLGATHER, TAG_ALLTOALL, TAG_REDISTRIBUTE = range(MAX_TAG, MAX_TAG + 5)


class Movement:
    """The data-moving methods of a communicator."""

    @traced
    def bcast(self, x: Array, root: int = 0) -> Array:
        """Copy the root's array into the array of every other rank, in place.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray, the same shape and dtype on all ranks
            Sent on the root, overwritten elsewhere.
        root : int
            The rank whose values are sent.

        Returns
        -------
        array
            `x` itself.

        Distribution
        ------------
        Collective. One message of ``x.nbytes`` from the root; beyond `config.chunk_bytes` one for each half of that,
        so that an array that is not contiguous needs no more scratch.
        """
        kind, dtype = inspect("bcast", "x", x)
        self._check_root("bcast", root)
        if self.size == 1:
            return x
        if x.nbytes > config.chunk_bytes:
            if self.rank != root:
                check_writable("bcast", "x", x, kind)
            self._bcast_pieces(x, root, kind, dtype)
        elif self.rank == root:
            self._bcast_slices(pack(x, kind, dtype), root)
        else:
            check_writable("bcast", "x", x, kind)
            buffer, finish = landing(x, kind, dtype)
            self._bcast_slices(buffer, root)
            if finish is not None:
                finish()
        return x

    @traced
    def allgather(self, x: Array, *, axis: int = 0, out: Array | None = None) -> Array:
        """Concatenate the arrays of all ranks, which have equal shapes, along an axis; every rank gets the
        result.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray, the same shape and dtype on all ranks
            This rank's block.
        axis : int
            The axis of concatenation.
        out : array, optional
            Receives the result.

        Returns
        -------
        array of the shape of `x` with `size` times its extent along `axis`

        Distribution
        ------------
        Collective. One message of ``x.nbytes``; to each rank one for each half of `config.chunk_bytes` where the result
        is longer than that and the blocks do not follow one another in memory, or longer than `config.slice_bytes`.
        """
        inspect("allgather", "x", x)
        axis = self._check_axis("allgather", axis, x.ndim)
        return self._allgather_into("allgather", x, (int(x.shape[axis]),) * self.size, axis, out)

    @traced
    def allgatherv(
        self, x: Array, counts: tuple[int, ...], *, axis: int = 0, out: Array | None = None
    ) -> Array:
        """Concatenate the arrays of all ranks along an axis of which each has its own extent.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray
            This rank's block; ``x.shape[axis] == counts[rank]``.
        counts : tuple of int
            Extent of every rank's block along `axis`, the same on all ranks; zeros are allowed.
        axis : int
            The axis of concatenation.
        out : array, optional
            Receives the result.

        Returns
        -------
        array of the shape of `x` with extent ``sum(counts)`` along `axis`

        Distribution
        ------------
        Collective. One message of ``x.nbytes``; to each rank one for each half of `config.chunk_bytes` where the result
        is longer than that and the blocks do not follow one another in memory, or longer than `config.slice_bytes`.
        """
        inspect("allgatherv", "x", x)
        axis = self._check_axis("allgatherv", axis, x.ndim)
        counts = self._check_counts("allgatherv", "counts", counts)
        self._check_extent("allgatherv", x, axis, counts)
        return self._allgather_into("allgatherv", x, counts, axis, out)

    def _allgather_into(
        self, where: str, x: Array, counts: tuple[int, ...], axis: int, out: Array | None
    ) -> Array:
        kind, dtype = inspect(where, "x", x)
        shape = (*x.shape[:axis], sum(counts), *x.shape[axis + 1 :])
        if out is None:
            out = kind.empty(shape, x)
        else:
            check_target(where, "out", out, kind, dtype, shape)
        if self.size == 1:
            kind.copy(out, kind.prepare(x))
            return out
        lengths = self._lengths(x.shape, counts, axis)
        if sum(lengths) * dtype.itemsize > config.chunk_bytes and not is_leading(shape, axis):
            return self._allgather_pairwise(x, counts, axis, out)
        send = pack(x, kind, dtype)
        recv, finish = landing_blocks(out, counts, axis, kind, dtype)
        if self._fits(recv):
            if self._ledger.traces:
                self._ledger.add(send.nbytes)
            self._allgatherv(send, recv, lengths)
        else:
            self._exchange([send] * self.size, _cut(recv, lengths), TAG_ALLGATHER)
        if finish is not None:
            finish()
        return out

    def _allgather_pairwise(self, x: Array, counts: tuple[int, ...], axis: int, out: Array) -> Array:
        """Gather long blocks that do not follow one another in memory, without scratch of the result's length."""
        from .redistribute import execute, plan_redistribution  # the engine builds on this class

        whole = tuple((0, extent) for extent in out.shape)
        marks = pairwise(accumulate(counts, initial=0))
        src = tuple((*whole[:axis], mark, *whole[axis + 1 :]) for mark in marks)
        return execute(self, x, plan_redistribution(src, (whole,) * self.size), out)

    @traced
    def gatherv(
        self, x: Array, counts: tuple[int, ...], *, axis: int = 0, root: int = 0, out: Array | None = None
    ) -> Array | None:
        """Concatenate the arrays of all ranks along an axis; one rank gets the result.

        Parameters
        ----------
        x, counts, axis
            As for `allgatherv`.
        root : int
            The rank that gets the result.
        out : array, optional
            Receives the result; used on the root only.

        Returns
        -------
        array or None
            The result on the root, None on the other ranks.

        Distribution
        ------------
        Collective. One message of ``x.nbytes`` to the root (one per `config.slice_bytes`).
        """
        axis = self._check_gather("gatherv", x, axis, root)
        counts = self._check_counts("gatherv", "counts", counts)
        self._check_extent("gatherv", x, axis, counts)
        return self._start_gather("gatherv", x, counts, axis, root, out).wait()

    @traced
    def gather(self, x: Array, *, axis: int = 0, root: int = 0, out: Array | None = None) -> Array | None:
        """Concatenate the arrays of all ranks, which have equal shapes, along an axis; one rank gets the result.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray, the same shape and dtype on all ranks
            This rank's block.
        axis, root, out
            As for `gatherv`.

        Returns
        -------
        array or None
            The result on the root, of `size` times the extent of `x` along `axis`; None on the other ranks.

        Distribution
        ------------
        Collective. One message of ``x.nbytes`` to the root (one per `config.slice_bytes`).
        """
        axis = self._check_gather("gather", x, axis, root)
        return self._start_gather("gather", x, (int(x.shape[axis]),) * self.size, axis, root, out).wait()

    def _check_gather(self, where: str, x: Array, axis: int, root: int) -> int:
        inspect(where, "x", x)
        self._check_root(where, root)
        return self._check_axis(where, axis, x.ndim)

    def _start_gather(
        self, where: str, x: Array, counts: tuple[int, ...], axis: int, root: int, out: Array | None
    ) -> Request:
        kind, dtype = inspect(where, "x", x)
        shape = (*x.shape[:axis], sum(counts), *x.shape[axis + 1 :])
        lengths = self._lengths(x.shape, counts, axis)
        if self.rank != root:
            return Request(None, self._isend_slices(pack(x, kind, dtype), root, TAG_GATHER))
        if out is None:
            out = kind.empty(shape, x)
        else:
            check_target(where, "out", out, kind, dtype, shape)
        recv, finish = landing_blocks(out, counts, axis, kind, dtype)
        handles = []
        for source, block in enumerate(_cut(recv, lengths)):
            if source == root:
                block.array[...] = pack(x, kind, dtype).array
            else:
                handles += self._irecv_slices(block, source, TAG_GATHER)
        return Request(out, handles, finish)

    @traced
    def scatterv(
        self,
        x: Array | None,
        counts: tuple[int, ...],
        *,
        axis: int = 0,
        root: int = 0,
        like: Array | None = None,
    ) -> Array:
        """Give each rank its block of the root's array.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray, or None on the ranks that are not the root
            The whole array; ``x.shape[axis] == sum(counts)``.
        counts : tuple of int
            Extent of every rank's block along `axis`, the same on all ranks; zeros are allowed.
        axis : int
            The axis that is divided.
        root : int
            The rank that holds `x`.
        like : array, optional
            An array with the dtype, kind, device and the other extents of `x`, given **on all ranks or on
            none**. Without it these travel first, in one small message.

        Returns
        -------
        array of the shape of `x` with extent ``counts[rank]`` along `axis`

        Distribution
        ------------
        Collective. One message from the root to each rank with a block (one per `config.slice_bytes`), after
        one small broadcast where `like` is not given.
        """
        self._check_root("scatterv", root)
        counts = self._check_counts("scatterv", "counts", counts)
        if like is None:
            shape, like = self._describe_root("scatterv", x, counts, axis, root)
        else:
            inspect("scatterv", "like", like)
            shape = tuple(like.shape)
        axis = self._check_axis("scatterv", axis, len(shape))
        return self._start_scatter("scatterv", x, counts, axis, root, like, shape).wait()

    @traced
    def scatter(self, x: Array | None, *, axis: int = 0, root: int = 0, like: Array | None = None) -> Array:
        """Divide the root's array into equal blocks along an axis, one for each rank.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray, or None on the ranks that are not the root
            The whole array; `size` divides its extent along `axis`.
        axis, root
            As for `scatterv`.
        like : array, optional
            An array with the shape, dtype, kind and device of one **block**, given on all ranks or on none.

        Returns
        -------
        array
            This rank's block.

        Distribution
        ------------
        Collective. One message from the root to each rank (one per `config.slice_bytes`), after one small
        broadcast where `like` is not given.
        """
        self._check_root("scatter", root)
        if like is None:
            shape, like = self._describe_root("scatter", x, None, axis, root)
            axis = self._check_axis("scatter", axis, len(shape))
            count = shape[axis] // self.size
        else:
            inspect("scatter", "like", like)
            shape = tuple(like.shape)
            axis = self._check_axis("scatter", axis, len(shape))
            count = shape[axis]
        return self._start_scatter("scatter", x, (count,) * self.size, axis, root, like, shape).wait()

    def _start_scatter(
        self,
        where: str,
        x: Array | None,
        counts: tuple[int, ...],
        axis: int,
        root: int,
        like: Array,
        shape: tuple[int, ...],
    ) -> Request:
        """Start the messages; `shape` holds the extents along the other axes."""
        kind, dtype = inspect(where, "like", like)
        lengths = self._lengths(shape, counts, axis)
        out = kind.empty((*shape[:axis], counts[self.rank], *shape[axis + 1 :]), like)
        if self.rank != root:
            recv, finish = landing(out, kind, dtype)
            return Request(out, self._irecv_slices(recv, root, TAG_SCATTER), finish)
        check_like(where, "x", x, kind, dtype, (*shape[:axis], sum(counts), *shape[axis + 1 :]))
        send = pack_blocks(x, counts, axis, kind, dtype)
        handles = []
        for dest, block in enumerate(_cut(send, lengths)):
            if dest != root:
                handles += self._isend_slices(block, dest, TAG_SCATTER)
        kind.copy(out, kind.narrow(kind.prepare(x), axis, sum(counts[:root]), counts[root]))
        return Request(out, handles)

    def _describe_root(
        self, where: str, x: Array | None, counts: tuple[int, ...] | None, axis: int, root: int
    ) -> tuple[tuple[int, ...], Array]:
        """Tell all ranks kind, dtype, device and shape of the root's array, or raise what is wrong with it.

        Without `counts` the extent along the axis must be a multiple of the number of ranks.
        """
        message: tuple = ()
        if self.rank == root:
            try:
                kind, _ = inspect(where, "x", x)
                axis = self._check_axis(where, axis, x.ndim)
                if counts is None:
                    self._check_divisible(where, x, axis)
                else:
                    self._check_counts(where, "counts", counts, x.shape[axis])
                message = ("numpy" if kind is NumpyKind else "torch", kind.signature(x), tuple(x.shape))
            except (TypeError, ValueError) as error:
                message = (type(error).__name__, str(error))
        message = self._bcast_pickled(message, root)
        if len(message) == 2:
            raise {"TypeError": TypeError, "ValueError": ValueError}[message[0]](message[1])
        kind_name, signature, shape = message
        return shape, x if self.rank == root else KINDS[kind_name].from_signature(signature)

    def _check_divisible(self, where: str, x: Array, axis: int) -> int:
        """Return the extent of the equal blocks of `x`, one for each rank."""
        if x.shape[axis] % self.size:
            raise ValueError(
                f"{where}: x must have an extent along axis {axis} that {self.size} ranks divide evenly, "
                f"got shape {tuple(x.shape)}; use {where}v"
            )
        return int(x.shape[axis]) // self.size

    @traced
    def alltoallv(
        self,
        x: Array,
        send_counts: tuple[int, ...],
        recv_counts: tuple[int, ...],
        *,
        axis: int = 0,
        out: Array | None = None,
    ) -> Array:
        """Send a block of `x` to each rank and concatenate the blocks received, in rank order.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray
            The blocks to send, in rank order along `axis`; ``x.shape[axis] == sum(send_counts)``.
        send_counts, recv_counts : tuple of int
            Extents along `axis` of the blocks for and from each rank; zeros are allowed.
            ``send_counts[j]`` on rank i equals ``recv_counts[i]`` on rank j.
        axis : int
            The axis along which the blocks lie.
        out : array, optional
            Receives the result; must not overlap `x`.

        Returns
        -------
        array of the shape of `x` with extent ``sum(recv_counts)`` along `axis`

        Distribution
        ------------
        Collective. One message to each rank that gets a block (one per `config.slice_bytes`).
        """
        return self._start_alltoallv("alltoallv", x, send_counts, recv_counts, axis, out).wait()

    @traced
    def alltoall(self, x: Array, *, axis: int = 0, out: Array | None = None) -> Array:
        """Send one of `size` equal blocks of `x` to each rank and concatenate those received, in rank order.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray, the same shape and dtype on all ranks
            `size` divides its extent along `axis`.
        axis, out
            As for `alltoallv`.

        Returns
        -------
        array of the shape of `x`

        Distribution
        ------------
        Collective. One message of ``x.nbytes / size`` to each other rank (one per `config.slice_bytes`).
        """
        inspect("alltoall", "x", x)
        axis = self._check_axis("alltoall", axis, x.ndim)
        counts = (self._check_divisible("alltoall", x, axis),) * self.size
        return self._start_alltoallv("alltoall", x, counts, counts, axis, out).wait()

    def _start_alltoallv(
        self,
        where: str,
        x: Array,
        send_counts: tuple[int, ...],
        recv_counts: tuple[int, ...],
        axis: int,
        out: Array | None,
    ) -> Request:
        kind, dtype = inspect(where, "x", x)
        axis = self._check_axis(where, axis, x.ndim)
        send_counts = self._check_counts(where, "send_counts", send_counts, x.shape[axis])
        recv_counts = self._check_counts(where, "recv_counts", recv_counts)
        if send_counts[self.rank] != recv_counts[self.rank]:
            raise ValueError(
                f"{where}: recv_counts[{self.rank}] must be {send_counts[self.rank]} on rank {self.rank}, "
                f"as send_counts there, got {recv_counts[self.rank]}"
            )
        shape = (*x.shape[:axis], sum(recv_counts), *x.shape[axis + 1 :])
        if out is None:
            out = kind.empty(shape, x)
        else:
            check_target(where, "out", out, kind, dtype, shape)
        if self.size == 1:
            kind.copy(out, kind.prepare(x))
            return Request(out, [])
        send = pack_blocks(x, send_counts, axis, kind, dtype)
        recv, finish = landing_blocks(out, recv_counts, axis, kind, dtype)
        outgoing = _cut(send, self._lengths(x.shape, send_counts, axis))
        incoming = _cut(recv, self._lengths(x.shape, recv_counts, axis))
        return Request(out, self._start_exchange(outgoing, incoming, TAG_ALLTOALL), finish)

    def _exchange(self, outgoing: list[Buffer], incoming: list[Buffer], tag: int) -> None:
        wait_all(self._start_exchange(outgoing, incoming, tag))

    def _start_exchange(self, outgoing: list[Buffer], incoming: list[Buffer], tag: int) -> list[Handle]:
        """Start to send a buffer to each rank and to receive one from each, pairwise.

        Both ends of a message know its length, so they agree on its slices and on its absence. (One
        ``MPI_Alltoallv`` could not be sliced: no rank knows all lengths.)
        """
        rank, size = self.rank, self.size
        handles = []
        for step in range(1, size):
            source = (rank - step) % size
            if incoming[source].count:
                handles += self._irecv_slices(incoming[source], source, tag)
        for step in range(1, size):
            dest = (rank + step) % size
            if outgoing[dest].count:
                handles += self._isend_slices(outgoing[dest], dest, tag)
        if outgoing[rank].count:
            incoming[rank].array[...] = outgoing[rank].array
        return handles

    def _bcast_pieces(self, x: Array, root: int, kind: Kind, dtype: DType) -> None:
        """Send a long array piece by piece, by way of a short scratch where it is not contiguous."""
        is_direct, start = kind.is_direct(x), 0
        x = x.detach() if getattr(x, "requires_grad", False) else x
        for box in cut_box(tuple((0, extent) for extent in x.shape), chunk_limit(dtype.itemsize)):
            if is_direct:
                self._bcast_slices(kind.buffer(x, dtype).part(start, volume(box)), root)
                start += volume(box)
                continue
            view = x[tuple(slice(*interval) for interval in box)]
            scratch = Scratch(tuple(view.shape), kind, dtype)
            if self.rank == root:
                kind.copy(scratch.array, view)
            self._bcast_slices(kind.buffer(scratch.array, dtype), root)
            if self.rank != root:
                kind.copy(view, scratch.array)
            scratch.release()

    def _bcast_slices(self, buffer: Buffer, root: int) -> None:
        for part in self._slices(buffer):
            if self._ledger.traces and self.rank == root:
                self._ledger.add(part.nbytes)
            self._bcast(part, root)

    @staticmethod
    def _lengths(shape: tuple[int, ...], counts: tuple[int, ...], axis: int) -> tuple[int, ...]:
        """Elements in each block, given extents along `axis`."""
        rest = math.prod(shape[:axis]) * math.prod(shape[axis + 1 :])
        return tuple(count * rest for count in counts)


def _cut(buffer: Buffer, lengths: tuple[int, ...]) -> list[Buffer]:
    """Return consecutive parts of the given lengths."""
    parts, start = [], 0
    for length in lengths:
        parts.append(buffer.part(start, length))
        start += length
    return parts
