"""Collectives that leave tensors on a device where they are.

A transport with `_device_group`, a process group that takes device memory (NCCL), gets allreduce, bcast,
allgather(v) and alltoall(v) on tensors from here, without a copy through the host. What a process group cannot
combine, and arrays in host memory, go the ordinary way. Messages are not sliced: counts have 64 bits there.

Which way is taken follows from dtype, operator and place of the tensor, so **a tensor must be on a device on all
ranks or on none**. Nothing here waits for the device: results are ready in the order of the current stream.
"""

import math
import sys
from typing import Any

from .buffers import Array, TorchKind, check_target, check_writable, inspect
from .dtypes import DType, torch_dtype
from .operators import Operator, Reduction, find_reduction
from .point_to_point import Request
from .trace import traced

# What process groups combine, gloo and NCCL alike: (element types, their form, operators). Sums and products of
# unsigned numbers are those of the signed ones of equal width; sums of complex numbers are sums of pairs; bool and the
# operands of logical operators are 0 or 1. Extrema of floating point numbers are missing: NaN is not ordered.
_EXACT = ("int8", "uint8", "int32", "int64")
_PLAIN: tuple[tuple[tuple[str, ...], str, dict[str, str]], ...] = (
    (("float32", "complex64"), "float32", {"sum": "SUM"}),
    (("float64", "complex128"), "float64", {"sum": "SUM"}),
    (("float32",), "float32", {"prod": "PRODUCT"}),
    (("float64",), "float64", {"prod": "PRODUCT"}),
    (("int8", "uint8"), "uint8", {"sum": "SUM", "prod": "PRODUCT"}),
    (("int32", "uint32"), "int32", {"sum": "SUM", "prod": "PRODUCT"}),
    (("int64", "uint64"), "int64", {"sum": "SUM", "prod": "PRODUCT"}),
    (("bool",), "uint8", {"lor": "MAX", "land": "MIN"}),
    *(((name,), name, {"min": "MIN", "max": "MAX", "lor": "MAX", "land": "MIN"}) for name in _EXACT),
)
_FORMS = {
    (name, op): (form, reduce_op)
    for names, form, ops in _PLAIN
    for name in names
    for op, reduce_op in ops.items()
}


def plain_form(red: Reduction) -> tuple[str, str] | None:
    """Return the torch dtype and operator that combine as `red` does; None where no process group has them."""
    return None if red.is_typed else _FORMS.get((red.transport.name, red.op))


def reduce_options(op: str, kind: str = "AllreduceOptions") -> Any:
    """Return the options of a reduction with an operator."""
    import torch.distributed as dist

    options = getattr(dist, kind)()
    options.reduceOp = getattr(dist.ReduceOp, op)
    return options


class DirectCollectives:
    """Methods of a communicator whose `_device_group` takes tensors as they are."""

    _device_group: Any

    @staticmethod
    def _is_on_device(x: Array) -> bool:
        return not x.is_cpu

    def _is_direct(self, x: Any) -> bool:
        """Tell whether the device group takes `x`. Whatever is wrong with it is said by the ordinary way."""
        if self._device_group is None or not hasattr(x, "is_cpu"):
            return False
        return not x.is_meta and self._is_on_device(x) and x.numel() > 0

    @traced
    def allreduce(self, x: Array, op: Operator = "sum", *, out: Array | None = None) -> Array:
        """As `Communicator.allreduce`."""
        if not self._is_direct(x):
            return super().allreduce(x, op, out=out)
        kind, dtype = inspect("allreduce", "x", x)
        red = find_reduction("allreduce", op, dtype, x.shape)
        form = plain_form(red)
        if form is None:
            return super().allreduce(x, op, out=out)
        out, _ = self._result("allreduce", x, out, kind, dtype)
        # A copy, as it is combined in place
        work = _flat(kind.truth(x) if red.is_normalised else x, red.transport, is_copy=True)
        if self._ledger.traces:
            self._ledger.add(work.nbytes)
        torch = sys.modules["torch"]
        self._device_group.allreduce([work.view(getattr(torch, form[0]))], reduce_options(form[1])).wait()
        kind.copy(out, work.view(x.shape))
        return out

    @traced
    def bcast(self, x: Array, root: int = 0) -> Array:
        """As `Communicator.bcast`."""
        if not self._is_direct(x):
            return super().bcast(x, root)
        kind, dtype = inspect("bcast", "x", x)
        self._check_root("bcast", root)
        if self.rank != root:
            check_writable("bcast", "x", x, kind)
        elif self._ledger.traces:
            self._ledger.add(x.nbytes)
        work = _flat(x, dtype)
        self._device_group.broadcast(_bytes(work), root).wait()
        if self.rank != root and work.data_ptr() != x.data_ptr():
            kind.copy(x, work.view(x.shape))
        return x

    def _allgather_into(
        self, where: str, x: Array, counts: tuple[int, ...], axis: int, out: Array | None
    ) -> Array:
        """gloo and NCCL want equal lengths, and ranks without rows take part: shorter blocks are padded."""
        like_empty = self._device_group is not None and hasattr(x, "is_cpu") and self._is_on_device(x)
        if not like_empty or x.is_meta:
            return super()._allgather_into(where, x, counts, axis, out)
        kind, dtype = inspect(where, "x", x)
        shape = (*x.shape[:axis], sum(counts), *x.shape[axis + 1 :])
        if out is None:
            out = kind.empty(shape, x)
        else:
            check_target(where, "out", out, kind, dtype, shape)
        lengths = self._lengths(x.shape, counts, axis)
        if not sum(lengths):
            return out
        torch, longest = sys.modules["torch"], max(lengths)
        send = x.new_zeros(longest, requires_grad=False)
        send[: lengths[self.rank]] = _flat(x, dtype)
        if self._ledger.traces:
            self._ledger.add(lengths[self.rank] * dtype.itemsize)
        recv = torch.empty(self.size * longest, dtype=x.dtype, device=x.device)
        parts = [_bytes(part) for part in recv.split(longest)]
        self._device_group.allgather([parts], [_bytes(send)]).wait()
        start = 0
        for rank, (count, length) in enumerate(zip(counts, lengths)):
            block = kind.narrow(out, axis, start, count)
            kind.copy(block, recv[rank * longest : rank * longest + length].view(block.shape))
            start += count
        return out

    def _start_alltoallv(
        self,
        where: str,
        x: Array,
        send_counts: tuple[int, ...],
        recv_counts: tuple[int, ...],
        axis: int,
        out: Array | None,
    ) -> Request:
        on_device = self._device_group is not None and hasattr(x, "is_cpu") and self._is_on_device(x)
        if not on_device or x.is_meta or not _is_consistent(self, x, send_counts, recv_counts, axis):
            return super()._start_alltoallv(where, x, send_counts, recv_counts, axis, out)
        kind, dtype = inspect(where, "x", x)
        axis %= x.ndim
        shape = (*x.shape[:axis], sum(recv_counts), *x.shape[axis + 1 :])
        if out is None:
            out = kind.empty(shape, x)
        else:
            check_target(where, "out", out, kind, dtype, shape)
        torch = sys.modules["torch"]
        lengths = [n * dtype.itemsize for n in self._lengths(x.shape, send_counts, axis)]
        arriving = [n * dtype.itemsize for n in self._lengths(x.shape, recv_counts, axis)]
        blocks = kind.prepare(x).split(list(send_counts), axis)
        send = torch.cat([block.reshape(-1) for block in blocks])
        recv = torch.empty(math.prod(shape), dtype=x.dtype, device=x.device)
        if self._ledger.traces:
            for dest, nbytes in enumerate(lengths):
                if dest != self.rank and nbytes:
                    self._ledger.add(nbytes)
        work = self._device_group.alltoall_base(_bytes(recv), _bytes(send), arriving, lengths)

        def bring_home() -> None:
            start = 0
            pieces = recv.split([nbytes // dtype.itemsize for nbytes in arriving])
            for count, piece in zip(recv_counts, pieces):
                block = kind.narrow(out, axis, start, count)
                kind.copy(block, piece.view(block.shape))
                start += count

        return Request(out, [_Work(work, send)], bring_home)


class _Work:
    """An operation under way, and what it sends."""

    __slots__ = ("_send", "_work")

    def __init__(self, work: Any, send: Array) -> None:
        self._work = work
        self._send = send

    def wait(self) -> None:
        """Let the current stream (gloo: the caller) wait for it."""
        self._work.wait()

    def test(self) -> bool:
        """Tell whether it is complete."""
        return self._work.is_completed()


def _is_consistent(comm: Any, x: Array, send: tuple[int, ...], recv: tuple[int, ...], axis: int) -> bool:
    """Tell whether the counts fit; if not, the ordinary way says why."""
    if not -x.ndim <= axis < x.ndim or len(send) != comm.size or len(recv) != comm.size:
        return False
    return min(*send, *recv) >= 0 and sum(send) == x.shape[axis] and send[comm.rank] == recv[comm.rank]


def _flat(x: Array, dtype: DType, *, is_copy: bool = False) -> Array:
    """Return the elements in C order, of an element type."""
    flat = TorchKind.prepare(x).to(torch_dtype(dtype)).contiguous().view(-1)
    if (
        flat.stride(0) != 1
    ):  # one element, contiguous whatever its stride; yet no view of another type accepts it
        flat = flat.as_strided(flat.shape, (1,))
    return flat.clone() if is_copy and flat.data_ptr() == x.data_ptr() else flat


def _bytes(flat: Array) -> Array:
    return flat.view(sys.modules["torch"].uint8)
