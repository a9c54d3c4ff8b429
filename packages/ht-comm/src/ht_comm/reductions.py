"""Collectives that combine: allreduce, reduce, scan, exscan, reduce_scatter(v)."""

from collections.abc import Callable

from . import config
from .buffers import (
    Array,
    Buffer,
    Kind,
    check_target,
    check_writable,
    inspect,
    landing,
    pack,
    pack_blocks,
    pack_copy,
)
from .dtypes import DType
from .operators import Operator, Reduction, find_reduction
from .pairs import pack_pairs, unpack_pairs
from .point_to_point import Handle, Request
from .trace import traced


class Reductions:
    """The reducing methods of a communicator."""

    @traced
    def allreduce(self, x: Array, op: Operator = "sum", *, out: Array | None = None) -> Array:
        """Combine the arrays of all ranks element by element; every rank gets the result.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray, the same shape and dtype on all ranks
            This rank's contribution.
        op : str or Op
            ``sum prod min max land lor lxor band bor bxor``, an `Op` of your own, or ``"moments"``: `x` is float64
            and its last axis holds ``[n, mean_1..mean_d, M2_1..M2_d]``, which are merged; n = 0 is an empty
            contribution. For (value, index) pairs see `allreduce_pairs`.
        out : array like `x`, optional
            Receives the result; may be `x`.

        Returns
        -------
        array of the shape, dtype and device of `x`
            The same bits on every rank.

        Distribution
        ------------
        Collective. One message of ``x.nbytes`` (one per `config.slice_bytes`); float16 and bfloat16 travel as
        float32.

        Raises
        ------
        TypeError
            If the operator is not defined for the dtype.
        ValueError
            If the operator is unknown, or `out` does not fit.
        """
        kind, dtype = inspect("allreduce", "x", x)
        red = find_reduction("allreduce", op, dtype, x.shape)
        out, is_direct = self._result("allreduce", x, out, kind, dtype)
        if self.size == 1:
            _single(x, out, kind, red)
        elif red.transport is dtype and not red.is_normalised and is_direct:
            send = None
            if out is not x:
                if kind.is_direct(x):
                    send = kind.buffer(x, dtype)
                else:
                    kind.copy(out, kind.prepare(x))
            self._allreduce_slices(send, kind.buffer(out, dtype), red)
        else:
            work = _operand(x, kind, red)
            self._allreduce_slices(None, work, red)
            kind.copy(out, work.owner)
        return out

    @traced
    def allreduce_pairs(self, values: Array, indices: Array, op: str = "argmin") -> tuple[Array, Array]:
        """Find the best values of all ranks, and where they are; every rank gets the result.

        Parameters
        ----------
        values : torch.Tensor or numpy.ndarray, real or bool, the same shape and dtype on all ranks
            This rank's candidates.
        indices : array of the shape and kind of `values`, int64
            Where each was found, by any global numbering; negative: there is no candidate.
        op : str
            ``argmin``, ``argmax``: of each element the least or greatest value; NaN wins, as in NumPy, and of
            equal values the lowest index. ``topk``, ``bottomk``: the last axis holds k candidates, of which
            the k greatest or least of all ranks remain, best first; NaN is greater than all numbers.

        Returns
        -------
        values, indices
            Arrays like the operands. Where no rank has a candidate the index is negative and the value
            undefined.

        Distribution
        ------------
        Collective. One message of 16 bytes per candidate (one per `config.slice_bytes`).

        Examples
        --------
        >>> import numpy as np, ht_comm
        >>> comm = ht_comm.get_comm()
        >>> value, index = comm.allreduce_pairs(np.array([5.0 - comm.rank]), np.array([comm.rank]))
        >>> int(index[0]) == comm.size - 1
        True
        """
        words, operator = pack_pairs("allreduce_pairs", values, indices, op)
        return unpack_pairs(self.allreduce(words, operator, out=words), values, indices)

    @traced
    def reduce(
        self, x: Array, op: Operator = "sum", *, root: int = 0, out: Array | None = None
    ) -> Array | None:
        """Combine the arrays of all ranks; one rank gets the result.

        Parameters
        ----------
        x, op, out
            As for `allreduce`; `out` is used on the root only.
        root : int
            The rank that gets the result.

        Returns
        -------
        array or None
            The result on the root, None on the other ranks.

        Distribution
        ------------
        Collective. One message of ``x.nbytes`` (one per `config.slice_bytes`).
        """
        kind, dtype = inspect("reduce", "x", x)
        red = find_reduction("reduce", op, dtype, x.shape)
        self._check_root("reduce", root)
        is_root = self.rank == root
        out = self._result("reduce", x, out, kind, dtype)[0] if is_root else None
        if self.size == 1:
            _single(x, out, kind, red)
            return out
        # A copy on the root receives the result; the others send from where the data lies.
        if is_root or red.transport is not dtype or red.is_normalised:
            work = _operand(x, kind, red)
        else:
            work = pack(x, kind, dtype)
        for part in self._slices(work, red.record):
            if self._ledger.traces:
                self._ledger.add(0 if is_root else part.nbytes)
            self._reduce(part, red, root)
        if is_root:
            kind.copy(out, work.owner)
        return out

    @traced
    def scan(self, x: Array, op: Operator = "sum", *, out: Array | None = None) -> Array:
        """Combine the arrays of ranks ``0 .. rank`` element by element.

        Parameters and result as for `allreduce`.

        Distribution
        ------------
        Collective. One message of ``x.nbytes`` (one per `config.slice_bytes`).
        """
        return self._start_prefix("scan", x, op, out).wait()

    @traced
    def exscan(self, x: Array, op: Operator = "sum", *, out: Array | None = None) -> Array:
        """Combine the arrays of ranks ``0 .. rank - 1``; rank 0 gets the operator's identity.

        Parameters and result as for `allreduce`. The identity of ``min`` is +inf or the largest integer, of
        ``max`` -inf or the smallest, of ``moments`` the empty record.

        Distribution
        ------------
        Collective. One message of ``x.nbytes`` (one per `config.slice_bytes`).
        """
        return self._start_prefix("exscan", x, op, out).wait()

    def _start_prefix(self, where: str, x: Array, op: Operator, out: Array | None) -> Request:
        """Carry out `scan` or `exscan`, or start them where the name begins with an i."""
        kind, dtype = inspect(where, "x", x)
        red = find_reduction(where, op, dtype, x.shape)
        is_exclusive = where.endswith("exscan")
        if is_exclusive and red.identity is None:
            raise ValueError(f"{where}: op must have an identity, got {red.op!r}; give Op one")
        out, _ = self._result(where, x, out, kind, dtype)
        if self.size == 1 and not is_exclusive:
            _single(x, out, kind, red)
            return Request(out, [])
        work = _operand(x, kind, red)
        handles: list[Handle] = []
        if self.size > 1:
            for part in self._slices(work, red.record):
                if self._ledger.traces:
                    self._ledger.add(part.nbytes if self.rank < self.size - 1 else 0)
                if where.startswith("i"):
                    handles.append(self._istart(where[1:], part, red))
                else:
                    (self._exscan if is_exclusive else self._scan)(part, red)

        def finish() -> None:
            if is_exclusive and self.rank == 0:
                work.array.reshape(-1, red.record)[...] = red.identity
            kind.copy(out, work.owner)

        return Request(out, handles, finish)

    @traced
    def reduce_scatterv(
        self,
        x: Array,
        counts: tuple[int, ...],
        op: Operator = "sum",
        *,
        axis: int = 0,
        out: Array | None = None,
    ) -> Array:
        """Combine the arrays of all ranks and give each rank its block of the result.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray, the same shape and dtype on all ranks
            This rank's contribution; ``x.shape[axis] == sum(counts)``.
        counts : tuple of int
            Extent along `axis` of each rank's block; zeros are allowed.
        op : str or Op
            As for `allreduce`.
        axis : int
            The axis that is divided; for operators on records any but the last.
        out : array, optional
            Receives this rank's block.

        Returns
        -------
        array of the shape of `x` with extent ``counts[rank]`` along `axis`

        Distribution
        ------------
        Collective. One message of ``x.nbytes``; beyond `config.slice_bytes` one or more per rank.
        """
        kind, dtype = inspect("reduce_scatterv", "x", x)
        red = find_reduction("reduce_scatterv", op, dtype, x.shape)
        axis = self._check_axis("reduce_scatterv", axis, x.ndim)
        counts = self._check_counts("reduce_scatterv", "counts", counts, x.shape[axis])
        check_record_axis("reduce_scatterv", red, axis, x.ndim)
        shape = (*x.shape[:axis], counts[self.rank], *x.shape[axis + 1 :])
        if out is None:
            out = kind.empty(shape, x)
        else:
            check_target("reduce_scatterv", "out", out, kind, dtype, shape)
        if self.size == 1:
            _single(x, out, kind, red)
            return out
        lengths = self._lengths(x.shape, counts, axis)
        if red.transport is not dtype or red.is_normalised:
            x = _operand(x, kind, red).owner
        send = pack_blocks(x, counts, axis, kind, red.transport)
        self._reduce_scatter_into(send, out, lengths, red, kind, dtype)
        return out

    @traced
    def reduce_scatter(
        self, x: Array, op: Operator = "sum", *, axis: int = 0, out: Array | None = None
    ) -> Array:
        """Combine the arrays of all ranks and give each rank one of `size` equal blocks of the result.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray, the same shape and dtype on all ranks
            This rank's contribution; `size` divides its extent along `axis`.
        op, axis, out
            As for `reduce_scatterv`.

        Returns
        -------
        array of the shape of `x` with one `size`-th of its extent along `axis`

        Distribution
        ------------
        As for `reduce_scatterv`.
        """
        inspect("reduce_scatter", "x", x)
        axis = self._check_axis("reduce_scatter", axis, x.ndim)
        counts = (self._check_divisible("reduce_scatter", x, axis),) * self.size
        return self.reduce_scatterv(x, counts, op, axis=axis, out=out)

    def _reduce_scatter_into(
        self, send: Buffer, out: Array, lengths: tuple[int, ...], red: Reduction, kind: Kind, dtype: DType
    ) -> None:
        own = lengths[self.rank]
        recv, finish = self._reduced_landing(out, red, kind, dtype)
        if self._fits(send):
            if self._ledger.traces:
                self._ledger.add(send.nbytes - own * send.dtype.itemsize)
            self._reduce_scatterv(send, recv, lengths, red)
        else:
            self._reduce_to_each(send, recv, lengths, red)
        if finish is not None:
            finish()

    @staticmethod
    def _reduced_landing(
        out: Array, red: Reduction, kind: Kind, dtype: DType
    ) -> tuple[Buffer, Callable[[], None] | None]:
        """Return a buffer for a result in the type in which it is combined, and what brings it home."""
        if red.transport is dtype:
            return landing(out, kind, dtype)
        work = kind.scratch(tuple(out.shape), red.transport)
        return kind.buffer(work, red.transport), lambda: kind.copy(out, work)

    def _reduce_to_each(self, send: Buffer, recv: Buffer, lengths: tuple[int, ...], red: Reduction) -> None:
        """Too long for one message: one sliced reduction to each rank in turn."""
        start = 0
        for root, length in enumerate(lengths):
            block = send.part(start, length)
            if root == self.rank:
                recv.array[...] = block.array
                block = recv
            for part in self._slices(block, red.record):
                if self._ledger.traces:
                    self._ledger.add(0 if root == self.rank else part.nbytes)
                self._reduce(part, red, root)
            start += length

    @staticmethod
    def _result(where: str, x: Array, out: Array | None, kind: Kind, dtype: DType) -> tuple[Array, bool]:
        """Return the array for the result, and whether it can be received into as it is."""
        if out is None:
            out = kind.empty_like(x)
            return out, kind.is_host(out)
        # First the test that an ordinary `out` passes at once; the second one finds the words for the others.
        if type(out) is not type(x) or out.dtype != x.dtype or out.shape != x.shape:
            check_target(where, "out", out, kind, dtype, x.shape)
        is_direct = kind.is_direct(out)
        if not is_direct or not kind.is_writable(out):
            check_writable(where, "out", out, kind)
        return out, is_direct

    def _allreduce_slices(self, send: Buffer | None, recv: Buffer, red: Reduction) -> None:
        if recv.count * recv.dtype.itemsize <= config.slice_bytes:
            if self._ledger.traces:
                self._ledger.add(recv.nbytes)
            self._allreduce(send, recv, red)
            return
        for part in self._slices(recv, red.record):
            if self._ledger.traces:
                self._ledger.add(part.nbytes)
            own = None if send is None else send.part(part.start - recv.start, part.count)
            self._allreduce(own, part, red)


def _single(x: Array, out: Array, kind: Kind, red: Reduction) -> None:
    """One rank: the result is the operand, but for logical operators, whose result is 0 or 1."""
    if red.is_normalised:
        kind.copy(out, kind.truth(x))
    elif out is not x:
        kind.copy(out, kind.prepare(x))


def check_record_axis(where: str, red: Reduction, axis: int, ndim: int) -> None:
    """Raise unless blocks along `axis` hold whole records."""
    if red.record > 1 and axis == ndim - 1:
        raise ValueError(
            f"{where}: axis must not be the last one for op {red.op!r}, which holds the records, got {axis}"
        )


def _operand(x: Array, kind: Kind, red: Reduction) -> Buffer:
    """Return a fresh copy of the operand in the form in which it is combined."""
    return pack_copy(kind.truth(x) if red.is_normalised else x, kind, red.transport)
