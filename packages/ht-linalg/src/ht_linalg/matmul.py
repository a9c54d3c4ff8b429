"""Matrix products of distributed arrays: plan, then one of five kernels.

The plan (``matmul_plan``) says which kernel runs on which layouts; the kernels here move panels with
isend/irecv posted before the local product, so that a network with a will of its own works while we compute.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from ht_core import DNDarray, types
from ht_core.engines.recording import assign, record_rule
from ht_core.engines.redistribution import redistribute
from ht_core.engines.tracking import is_tracked
from ht_core.errors import DTypeError, LayoutError

from .arguments import as_pair
from .matmul_derivative import matmul_derivative
from .matmul_plan import MatmulPlan, plan_matmul

if TYPE_CHECKING:
    from ht_comm import Communicator

#: dtype of the sums where it differs from that of the result: sums of half floats are kept in float32 (each
#: panel and rank would round otherwise), a bool product asks whether any summand is true (a float32 sum of
#: non-negative terms never returns to zero), and torch has no products of wide unsigned integers (they agree
#: with int64 modulo 2^64).
_SUM_DTYPES = {
    torch.bool: torch.float32,
    torch.float16: torch.float32,
    torch.bfloat16: torch.float32,
    torch.uint16: torch.int64,
    torch.uint32: torch.int64,
    torch.uint64: torch.int64,
}


def matmul(a: DNDarray, b: DNDarray, *, out: DNDarray | None = None) -> DNDarray:
    """Return the matrix product ``a @ b``.

    The rules are NumPy's: the last axis of `a` is contracted with the second to last of `b` (the only one of
    a vector), other axes broadcast, vectors gain an axis for the product which the result lacks.

    Parameters
    ----------
    a : DNDarray, shape (..., m, k) or (k,)
        Any dtype. Arrays of NumPy and torch are taken as replicated.
    b : DNDarray, shape (..., k, n) or (k,)
    out : DNDarray, optional
        Where the result is written; must have the result's layout and dtype and share no memory with `a` or
        `b`.

    Returns
    -------
    DNDarray, shape (..., m, n)
        Of the promoted dtype. bool contracts with "or"; float16 and bfloat16 are summed in float32.

    *Distribution* (collective unless no operand is split). For 2-D operands, with B(x) the bytes of x:

    ========  ========  ===========================  ================================================
    a.split   b.split   result split                 cheapest way, bytes per rank at most
    ========  ========  ===========================  ================================================
    None      None      None                         no message
    0         None      0                            no message
    None      1         1                            no message
    0         0         0                            ring of b's panels B(b), or partial sums B(out)
    1         1         1                            ring of a's panels B(a), or partial sums B(out)
    0         1         0 if B(b) <= B(a) else 1     ring of the smaller operand
    1         0         None up to 2^18 elements,    allreduce of partial sums,
    ..        ..        else its longer side         ring of partial sums B(out)
    1, None   None, 0   as for (1, 0)                the whole operand is cut without a message
    ========  ========  ===========================  ================================================

    The row taken is the cheapest by bytes and messages (:func:`ht_linalg.matmul_plan.plan_matmul`); an
    operand of at most 2^18 elements may be replicated for the time of the product. Where it moves less, as for a
    long `a` split along its columns and a small `b` split along its own, an operand is resplit first and the
    result last, each once, and the product is formed in between. Counts of the result along its split are those
    of the operand it follows. A shared batch axis that is split needs no message. No rank ever holds more of a
    result than its layout says, plus two panels (plus its share of the result that is resplit).

    Raises
    ------
    LayoutError
        If the shapes do not fit, the operands live on different communicators, or `out` has another layout.
    DTypeError
        If `out` has another dtype.

    References
    ----------
    E. Chan, M. Heimlich, A. Purkayastha, R. van de Geijn, Collective communication: theory, practice, and
    experience, 2007, doi:10.1002/cpe.1206.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> x = ht.arange(6, split=0).reshape((3, 2))
    >>> (x.T @ x).numpy()
    array([[20, 26],
           [26, 35]])
    """
    if type(a) is not DNDarray or type(b) is not DNDarray:
        a, b = as_pair("matmul", a, b)
        if is_tracked(a, b, out):
            product = record_rule("matmul", matmul, (a, b), matmul_derivative)
            return product if out is None else assign(out, product, "matmul")
    if a.comm is not b.comm and (a.comm.size, a.comm.rank) != (b.comm.size, b.comm.rank):
        raise LayoutError(f"matmul: b must live on the communicator of a ({a.comm}), got {b.comm}")
    x, y = a.larray, b.larray
    dtype = x.dtype if x.dtype == y.dtype else types.promote_types(x.dtype, y.dtype).torch
    sums = _SUM_DTYPES.get(dtype, dtype)
    plan = plan_matmul(a.layout, b.layout, a.comm.size, (x.itemsize, y.itemsize, sums.itemsize))
    if out is None and plan.is_direct and x.dtype == y.dtype and _is_native(x):
        return DNDarray(torch.matmul(x, y), plan.result, a.comm)
    if out is not None:
        _check_out(out, plan, dtype)
    local = execute(plan, x, y, sums, a.comm, _buffer(out, plan, sums)).to(dtype)
    local = local.reshape(plan.result.lshape(a.comm.rank))
    if out is None:
        return DNDarray(local, plan.result, a.comm)
    if local.data_ptr() != out.larray.data_ptr():
        out.larray.copy_(local)
    return out


def _is_native(x: torch.Tensor) -> bool:
    """Tell whether torch's own product of two tensors like `x`, rounded once, is what is wanted.

    GPUs sum products of half floats in float32 themselves, but have no products of integers.
    """
    if x.device.type == "cpu":
        return x.dtype not in _SUM_DTYPES
    return x.dtype.is_floating_point or x.dtype.is_complex


def _check_out(out: DNDarray, plan: MatmulPlan, dtype: torch.dtype) -> None:
    if out.layout is not plan.result:
        raise LayoutError(f"matmul: out must have the layout of the result, {plan.result}, got {out.layout}")
    if out.larray.dtype != dtype:
        raise DTypeError(f"matmul: out must have dtype {types.canonical(dtype)}, got {out.dtype}")


def _buffer(out: DNDarray | None, plan: MatmulPlan, sums: torch.dtype) -> torch.Tensor | None:
    """Return `out`'s memory with all axes of the product where the sums can be formed in it."""
    if out is None or out.larray.dtype != sums or not out.larray.is_contiguous() or plan.made is not plan.out:
        return None
    return out.larray.view(plan.out.lshape(out.comm.rank))


def execute(
    plan: MatmulPlan,
    a: torch.Tensor,
    b: torch.Tensor,
    dtype: torch.dtype,
    comm: Communicator,
    out: torch.Tensor | None = None,
) -> torch.Tensor:
    """Return this rank's part of the product, of dtype `dtype` and shape ``plan.out.lshape(rank)``."""
    rank = comm.rank
    if comm.size == 1:
        a, b = a.reshape(plan.a_from.shape), b.reshape(plan.b_from.shape)
        return _local(plan, a, b, dtype, comm, out)
    a = redistribute(a.reshape(plan.a_from.lshape(rank)), plan.a_from, plan.a, comm)
    b = redistribute(b.reshape(plan.b_from.lshape(rank)), plan.b_from, plan.b, comm)
    made = _KERNELS[plan.rule.kernel](plan, a, b, dtype, comm, out)
    return redistribute(made, plan.made, plan.out, comm)


# -- kernels -------------------------------------------------------------------------------------------------


def _local(plan, a, b, dtype, comm, out):
    """C_i = A_i B_i; nothing moves."""
    c = _result(plan, a, dtype, comm, out)
    accumulate(c, a, b, first=True)
    return c


def _allreduce(plan, a, b, dtype, comm, out):
    """C = sum over ranks of A_i B_i, on every rank."""
    partial = _local(plan, a, b, dtype, comm, out)
    return comm.allreduce(partial, "sum", out=partial)


def _ring_b(plan, a, b, dtype, comm, out):
    """B's blocks travel, C_i and A_i stay."""
    c = _result(plan, a, dtype, comm, out)
    axis, ndim = plan.b.split, plan.b.ndim
    contracted = axis == ndim - 2
    in_a, in_c = (ndim - 1, None) if contracted else (axis if plan.rule.b == "G" else None, axis)

    def combine(block: slice, panel: torch.Tensor, first: bool) -> None:
        accumulate(_cut(c, in_c, block), _cut(a, in_a, block), panel, first or not contracted)

    _ring(plan.b, b, comm, combine)
    return c


def _ring_a(plan, a, b, dtype, comm, out):
    """A's blocks travel, C_i and B_i stay."""
    c = _result(plan, b, dtype, comm, out)
    axis, ndim = plan.a.split, plan.a.ndim
    contracted = axis == ndim - 1
    in_b, in_c = (ndim - 2, None) if contracted else (axis if plan.rule.a == "G" else None, axis)

    def combine(block: slice, panel: torch.Tensor, first: bool) -> None:
        accumulate(_cut(c, in_c, block), panel, _cut(b, in_b, block), first or not contracted)

    _ring(plan.a, a, comm, combine)
    return c


def _ring_sum(plan, a, b, dtype, comm, out):
    """C's blocks travel and every rank adds its share: the sum for rank j starts at rank j + 1 and ends at j.

    Each block is sent on as soon as it is complete here, and the next one is received while this rank
    computes its own share of it, so that three blocks of C are the only scratch.
    """
    p, rank = comm.size, comm.rank
    layout, axis = plan.made, plan.made.split
    sending, block = None, None
    for step in range(p):
        owner = (rank - 1 - step) % p
        shape = layout.lshape(owner)
        empty = 0 in shape
        incoming = a.new_empty(shape, dtype=dtype) if step else None
        waiting = comm.irecv(incoming, (rank - 1) % p) if step and not empty else None
        rows = layout.slices(owner)[axis]
        x, y = (a, _cut(b, axis, rows)) if axis == layout.ndim - 1 else (_cut(a, axis, rows), b)
        target = out if owner == rank and out is not None else a.new_empty(shape, dtype=dtype)
        accumulate(target, x, y, True)
        if waiting is not None:
            waiting.wait()
            target += incoming
        if sending is not None:
            sending.wait()
        block = target
        sending = comm.isend(block, (rank + 1) % p) if step < p - 1 and not empty else None
    return block


_KERNELS: dict[str, Callable[..., torch.Tensor]] = {
    "local": _local,
    "allreduce": _allreduce,
    "ring_a": _ring_a,
    "ring_b": _ring_b,
    "ring_sum": _ring_sum,
}


# -- parts of the kernels ------------------------------------------------------------------------------------


def _result(plan, like, dtype, comm, out):
    """Return memory for this rank's part of C."""
    return like.new_empty(plan.made.lshape(comm.rank), dtype=dtype) if out is None else out


def _cut(x: torch.Tensor, axis: int | None, block: slice) -> torch.Tensor:
    return x if axis is None else x.narrow(axis, block.start, block.stop - block.start)


def _ring(
    layout, own: torch.Tensor, comm: Communicator, combine: Callable[[slice, torch.Tensor, bool], None]
) -> None:
    """Call `combine` with every rank's block, one's own first; blocks travel left through two buffers."""
    p, rank = comm.size, comm.rank
    largest = max(_numel(layout.lshape(r)) for r in range(p))
    buffers = (own.new_empty(largest), own.new_empty(largest)) if p > 2 else (own.new_empty(largest),)
    panel = own.contiguous()
    for step in range(p):
        owner, coming = (rank + step) % p, (rank + step + 1) % p
        requests, arriving = [], panel
        if step < p - 1:
            shape = layout.lshape(coming)
            arriving = buffers[step % len(buffers)].narrow(0, 0, _numel(shape)).view(shape)
            if arriving.numel():
                requests.append(comm.irecv(arriving, (rank + 1) % p))
            if panel.numel():
                requests.append(comm.isend(panel, (rank - 1) % p))
        combine(layout.slices(owner)[layout.split], panel, step == 0)
        for request in requests:
            request.wait()
        panel = arriving


def _numel(shape: tuple[int, ...]) -> int:
    return torch.Size(shape).numel()


def accumulate(c: torch.Tensor, x: torch.Tensor, y: torch.Tensor, first: bool) -> None:
    """Set ``c = x @ y`` or add to it, in the dtype of c: panels may have travelled in a narrower one."""
    x, y = x.to(c.dtype), y.to(c.dtype)
    if c.device.type != "cpu" and not (c.dtype.is_floating_point or c.dtype.is_complex):
        accumulate_outer(c, x, y, first)
    elif c.shape == (1, 1):  # seven times as fast as a product of matrices
        value = torch.dot(x[0], y[:, 0])
        c.copy_(value) if first else c.add_(value)
    elif c.dim() == 2:
        torch.addmm(c, x, y, beta=0 if first else 1, out=c)
    elif first:
        torch.matmul(x, y, out=c) if c.is_contiguous() else c.copy_(torch.matmul(x, y))
    else:
        c += torch.matmul(x, y)


def accumulate_outer(c: torch.Tensor, x: torch.Tensor, y: torch.Tensor, first: bool) -> None:
    """The same by outer products, exact for integers of any size, for devices without integer products."""
    if first:
        c.zero_()
    for k in range(x.shape[-1]):
        c.addcmul_(x[..., k : k + 1], y[..., k : k + 1, :])
