"""Gradients in flat buffers, one message each, started in one order on every rank.

Knows tensors and a communicator, nothing of modules. What travels in a bucket: the weighted gradients, for each
parameter a flag whether this rank has a gradient, the weight, and in the last bucket the module's buffers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from ht_comm import Communicator, Request

MEBI = 1 << 20
_WIDE = {torch.float16: torch.float32, torch.bfloat16: torch.float32}


def _flat(x: torch.Tensor) -> torch.Tensor:
    """Return the real numbers of `x` as a vector, a view where its strides allow."""
    return (torch.view_as_real(x) if x.is_complex() else x).reshape(-1)


def _real(dtype: torch.dtype) -> torch.dtype:
    dtype = dtype.to_real() if dtype.is_complex else dtype
    return _WIDE.get(dtype, dtype)


class Bucket:
    """Some parameters of one device and one dtype, whose gradients travel in one message.

    Parameters
    ----------
    parameters : sequence of torch.nn.Parameter
        Equal in number, shape and dtype on all ranks.
    buffers : sequence of torch.Tensor
        Module buffers that are averaged in the same message: floating ones as they are, others by their change
        since the last message, which is a small integer.
    """

    def __init__(self, parameters: Sequence[torch.Tensor], buffers: Sequence[torch.Tensor] = ()) -> None:
        self.parameters, self.buffers = list(parameters), list(buffers)
        first = (self.parameters or self.buffers)[0]
        dtype = _real(first.dtype) if self.parameters else torch.float32
        sizes = [_flat(x.detach()).numel() for x in (*self.parameters, *self.buffers)]
        self.flat = torch.zeros(sum(sizes) + len(self.parameters) + 1, dtype=dtype, device=first.device)
        *pieces, self.tail = self.flat.split([*sizes, len(self.parameters) + 1])
        self.views, self.extra = pieces[: len(self.parameters)], pieces[len(self.parameters) :]
        self._seen = [None if b.is_floating_point() or b.is_complex() else b.clone() for b in self.buffers]
        self.missing = len(self.parameters)
        self.request: Request | None = None

    @torch.no_grad()
    def start(self, comm: Communicator, weight: float, is_mean: bool) -> None:
        """Start the sum over the ranks of the gradients, times `weight` for a mean; weight 0 adds zeros in any case."""
        factor = weight if is_mean else 1.0
        flags = [float(weight > 0 and p.grad is not None) for p in self.parameters]
        for has, p, view in zip(flags, self.parameters, self.views):
            if not has:
                view.zero_()
                continue
            grad = _flat(p.grad.to_dense() if p.grad.is_sparse else p.grad)
            if grad.dtype == view.dtype:
                torch.mul(grad, factor, out=view)
            else:
                view.copy_(grad).mul_(factor)
        for buffer, seen, view in zip(self.buffers, self._seen, self.extra):
            if weight == 0:
                view.zero_()
            elif seen is None:
                view.copy_(_flat(buffer)).mul_(weight)
            else:
                view.copy_((buffer.to(torch.int64) - seen.to(torch.int64)).reshape(-1)).mul_(weight)
        self.tail.copy_(torch.tensor([*flags, weight], dtype=self.flat.dtype))
        self.request = comm.iallreduce(self.flat, out=self.flat)

    @torch.no_grad()
    def finish(self, is_mean: bool) -> float:
        """Wait for the sum, write the gradients (and buffers) of all ranks; return the sum of the weights."""
        self.request.wait()
        self.request, self.missing = None, len(self.parameters)
        *flags, total = self.tail.tolist()
        if total == 0:  # nobody had data
            return 0.0
        divisor = total if is_mean else 1.0
        for has, p, view in zip(flags, self.parameters, self.views):
            # What no rank uses keeps no gradient, so that the optimizer skips it as on one process.
            if has:
                self._write(p, view, divisor)
        for number, (buffer, view) in enumerate(zip(self.buffers, self.extra)):
            self._write_buffer(number, buffer, view, total)
        return total

    @staticmethod
    def _write(p: torch.Tensor, view: torch.Tensor, divisor: float) -> None:
        if p.grad is None or p.grad.is_sparse:
            p.grad = torch.empty_like(p)
        target = p.grad.detach()
        real = torch.view_as_real(target) if target.is_complex() else target
        if real.dtype == view.dtype:
            torch.div(view.view(real.shape), divisor, out=real)
        else:
            real.copy_(view.view(real.shape) / divisor)

    def _write_buffer(self, number: int, buffer: torch.Tensor, view: torch.Tensor, total: float) -> None:
        seen, mean = self._seen[number], view / total
        if seen is None:
            real = torch.view_as_real(buffer) if buffer.is_complex() else buffer
            real.copy_(mean.view(real.shape))
        else:
            change = mean.round().to(torch.int64).view(buffer.shape)
            buffer.copy_(seen.to(torch.int64) + change)
            self._seen[number] = buffer.clone()

    def forget_changes(self) -> None:
        """Take the buffers as they are for what all ranks have: after a broadcast or a loaded state."""
        self._seen = [None if seen is None else b.clone() for seen, b in zip(self._seen, self.buffers)]


def plan_buckets(
    parameters: Sequence[torch.Tensor], buffers: Sequence[torch.Tensor], limit: int
) -> list[Bucket]:
    """Return the buckets of at most `limit` bytes (a larger parameter has its own).

    Parameters are taken from the last to the first, which is about the order in which backward gets to them. A
    function of shapes and dtypes alone: the same on every rank.
    """
    groups: list[list[torch.Tensor]] = []
    filled = 0
    for p in reversed(parameters):
        size = _flat(p.detach()).numel() * _real(p.dtype).itemsize
        fits = groups and (p.device, _real(p.dtype)) == (groups[-1][0].device, _real(groups[-1][0].dtype))
        if fits and filled + size <= limit:
            groups[-1].append(p)
            filled += size
        else:
            groups.append([p])
            filled = size
    rides = [b for b in buffers if groups and b.device == groups[-1][0].device]
    own = [b for b in buffers if not groups or b.device != groups[-1][0].device]
    buckets = [Bucket(group, rides if group is groups[-1] else ()) for group in groups]
    for device in dict.fromkeys(b.device for b in own):
        buckets.append(Bucket((), [b for b in own if b.device == device]))
    return buckets
