"""Tensors on a device: which device a rank uses, and how its memory reaches the transports.

Transports read and write host memory. `transfer` copies between it and a device through two pinned blocks of
`config.chunk_bytes`: while one chunk crosses the bus, the chunk before it is copied in host memory. Only the
current stream of the device is waited for, by an event per chunk, and only where the host reads: the rest of the
device goes on.

``HT_COMM_STAGE=all`` (or ``device.stage_all = True``) sends tensors in host memory the same way, which tests all of
this without a device. This module knows nothing of communication; whether MPI itself can take device memory is the
question of `ht_comm.awareness`.
"""

import math
import os
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Protocol

from . import config

if TYPE_CHECKING:
    from .communicator import Communicator

Tensor = Any

stage_all: bool = os.environ.get("HT_COMM_STAGE", "") == "all"
"""Whether tensors in host memory are treated as if they were on a device."""

SMALL = 2**16
"""Shorter tensors are copied in one piece: starting a pipeline would take longer."""

_PIPELINED = ("cuda", "xpu")
_local = threading.local()


class Lane(Protocol):
    """The way between host memory and one device."""

    def block(self, nbytes: int) -> Tensor:
        """Return host memory (uint8) that the device reaches without the help of a processor."""

    def submit(self, copy: Callable[[], Any]) -> Callable[[], None]:
        """Start a copy in the order of the current stream; return what waits for it."""


class DeviceLane:
    """Pinned memory, the current stream and its events."""

    def __init__(self, device: Any) -> None:
        self._device = device
        self._module = sys.modules["torch"].get_device_module(device)

    def block(self, nbytes: int) -> Tensor:
        """Return pinned memory."""
        torch = sys.modules["torch"]
        return torch.empty(nbytes, dtype=torch.uint8, pin_memory=True)

    def submit(self, copy: Callable[[], Any]) -> Callable[[], None]:
        """Start a copy and record an event behind it."""
        with self._module.device(self._device):
            copy()
            event = self._module.Event()
            event.record(self._module.current_stream(self._device))
        return event.synchronize


class HostLane:
    """Stands in for a device: host memory, and copies that are done at once."""

    def block(self, nbytes: int) -> Tensor:
        """Return ordinary memory."""
        torch = sys.modules["torch"]
        return torch.empty(nbytes, dtype=torch.uint8)

    def submit(self, copy: Callable[[], Any]) -> Callable[[], None]:
        """Copy."""
        copy()
        return lambda: None


class _Slot:
    """One block, and the copy that uses it."""

    __slots__ = ("_after", "_block", "_wait")

    def __init__(self, block: Tensor) -> None:
        self._block = block
        self._wait: Callable[[], None] | None = None
        self._after: Callable[[], Any] | None = None

    def view(self, shape: tuple[int, ...], dtype: Any) -> Tensor:
        """Return a tensor on the start of the block."""
        nbytes = math.prod(shape) * dtype.itemsize
        return self._block[:nbytes].view(dtype).view(shape)

    def use(self, wait: Callable[[], None], after: Callable[[], Any] | None = None) -> None:
        """Note what the block is used for."""
        self._wait, self._after = wait, after

    def finish(self) -> None:
        """Wait until the block is free."""
        wait, after = self._wait, self._after
        self._wait = self._after = None
        if wait is not None:
            wait()
        if after is not None:
            after()


class Staging:
    """Two blocks that take turns. For one thread.

    Parameters
    ----------
    lane : Lane
        The way to the device.
    nbytes : int
        Size of a block.
    """

    def __init__(self, lane: Lane, nbytes: int) -> None:
        self.nbytes = nbytes
        self._lane = lane
        self._slots = (_Slot(lane.block(nbytes)), _Slot(lane.block(nbytes)))

    def to_host(self, out: Tensor, x: Tensor) -> None:
        """Set `out`, in host memory, to `x`, on the device; the values are there when this returns.

        While chunk i crosses the bus, chunk i - 1 is copied from its block to its place.
        """
        for number, (target, source) in enumerate(self._chunks(out, x)):
            slot = self._slots[number % 2]
            slot.finish()
            staged = slot.view(source.shape, target.dtype)
            wait = self._lane.submit(_later(staged.copy_, source))
            slot.use(wait, _later(target.copy_, staged, is_blocking=True))
        for slot in self._slots:
            slot.finish()

    def to_device(self, out: Tensor, x: Tensor) -> None:
        """Set `out`, on the device, to `x`, in host memory, in the order of the current stream.

        When this returns `x` may be changed. The blocks are waited for when they are next needed.
        """
        for number, (target, source) in enumerate(self._chunks(out, x)):
            slot = self._slots[number % 2]
            slot.finish()
            staged = slot.view(source.shape, source.dtype)
            staged.copy_(source)
            slot.use(self._lane.submit(_later(target.copy_, staged)))

    def _chunks(self, out: Tensor, x: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        if out.is_contiguous() and x.is_contiguous():
            out, x = out.view(-1), x.view(-1)
        limit = max(self.nbytes // max(out.element_size(), x.element_size()), 1)
        for index in chunk_indices(tuple(x.shape), limit):
            yield out[index], x[index]


def _later(copy: Callable[..., Any], source: Tensor, *, is_blocking: bool = False) -> Callable[[], Any]:
    return lambda: copy(source, non_blocking=not is_blocking)


def chunk_indices(shape: tuple[int, ...], limit: int) -> Iterator[tuple[int | slice, ...]]:
    """Cut an array into views of at most `limit` elements, each a run of indices of one axis.

    Yields
    ------
    tuple of int and slice
        Indices of the views, which together are the array; nothing for an empty one.
    """
    total = math.prod(shape)
    if total <= limit:
        if total:
            yield ()
        return
    inner = total // shape[0]
    if inner > limit:
        for i in range(shape[0]):
            for rest in chunk_indices(shape[1:], limit):
                yield (i, *rest)
        return
    rows = limit // inner
    for start in range(0, shape[0], rows):
        yield (slice(start, start + rows),)


def transfer(out: Tensor, x: Tensor) -> None:
    """Set `out` to `x`, of which at most one is in host memory, converting the element type where they differ.

    Parameters
    ----------
    out, x : torch.Tensor of equal shape, any strides
        What is read by the host is complete when this returns; what is read by a device follows in the order of its
        current stream.
    """
    is_staged_host = stage_all and out.is_cpu and x.is_cpu
    if not is_staged_host:
        one = x if out.is_cpu else out
        is_pipelined = out.is_cpu != x.is_cpu and one.device.type in _PIPELINED
        if not is_pipelined or x.numel() * x.element_size() <= SMALL:
            out.copy_(x)
            return
        staging = _staging(one.device)
        (staging.to_host if out.is_cpu else staging.to_device)(out, x)
        return
    # Either may play the device; so both directions are used.
    staging = _staging(x.device)
    (staging.to_device if x.is_contiguous() else staging.to_host)(out, x)


def _staging(device: Any) -> Staging:
    """Return this thread's blocks for a device."""
    found: dict[Any, Staging] = _local.__dict__.setdefault("stagings", {})
    nbytes = max(config.chunk_bytes // 16 * 16, 16)  # whole elements of any type
    staging = found.get(device)
    if staging is None or staging.nbytes != nbytes:
        lane = HostLane() if device.type == "cpu" else DeviceLane(device)
        staging = found[device] = Staging(lane, nbytes)
    return staging


# ----- which device


def device_of_rank(comm: "Communicator", count: int | None = None) -> int | None:
    """Return the number of the device this rank uses: ranks of a node take turns. Collective on first use.

    Parameters
    ----------
    comm : Communicator
        All ranks of the job.
    count : int, optional
        Number of devices this rank sees; by default as torch counts them. One that the launcher has given a single
        device (``CUDA_VISIBLE_DEVICES``) sees that as number 0.

    Returns
    -------
    int or None
        None where there is no device.

    Distribution
    ------------
    Collective where `comm.node()` has not been called before: then one split.
    """
    local = comm.node().rank
    if count is None:
        torch = sys.modules.get("torch")
        count = torch.cuda.device_count() if torch is not None else 0
    if count < 0:
        raise ValueError(f"device_of_rank: count must be at least 0, got {count}")
    return local % count if count else None


def use_device_of_rank(comm: "Communicator") -> Any:
    """Make the device of this rank torch's current one and return it: ``cuda:n``, or ``cpu`` without one. Collective.

    Distribution
    ------------
    As `device_of_rank`.
    """
    import torch

    number = device_of_rank(comm)
    if number is None:
        return torch.device("cpu")
    torch.cuda.set_device(number)
    return torch.device("cuda", number)
