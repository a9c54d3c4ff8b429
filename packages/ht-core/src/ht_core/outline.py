"""Tensors without data: what an operation is run on to find out what it would do.

An `Outline` has the shape, strides and dtype of a tensor on the CPU and takes no memory. Operations on outlines give
outlines; real tensors (index arrays, say) may take part. What depends on values is either bounded from above (how many
elements a mask picks) or refused with `ValuesNeeded`. `OutlineComm` is the communicator for them: the code of
ht-comm plans and counts every message as always, and nothing is sent.
"""

from __future__ import annotations

import math
import threading
import weakref
from typing import Any

import numpy as np
import torch
from ht_comm import Communicator
from ht_comm.buffers import _KIND_OF_TYPE, Buffer, TorchKind
from ht_comm.mailbox import OUTGOING

from . import types

_SIZES_FROM_VALUES = "elements that a mask picks: all of them at most"


class ValuesNeeded(RuntimeError):
    """An operation has to see values before it can go on."""


class Outline(torch.Tensor):
    """A tensor without data, on the CPU for all who ask.

    Attributes
    ----------
    meta : torch.Tensor
        On torch's meta device; views share its storage, which is what memory is counted by.
    """

    meta: torch.Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def of(meta: torch.Tensor) -> Outline:
        """Return the outline of a tensor on the meta device."""
        made = torch.Tensor._make_wrapper_subclass(
            Outline, meta.shape, meta.stride(), meta.storage_offset(), dtype=meta.dtype, device="cpu"
        )
        made.meta = meta
        return made

    def __repr__(self) -> str:
        return f"Outline(shape={tuple(self.shape)}, dtype={self.dtype})"

    @classmethod
    def __torch_dispatch__(cls, func: Any, kinds: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.ops.aten._local_scalar_dense.default:
            raise ValuesNeeded("a value")
        if "device" in kwargs:
            kwargs["device"] = "meta"
        bounded = _bounded(func, args)
        if bounded is not None:
            note(_SIZES_FROM_VALUES)
            return Outline.of(bounded)
        made = func(*_map(args, _to_meta), **_map(kwargs, _to_meta))
        return _map(made, lambda y: _as_outline(y, (*args, *kwargs.values())))

    # What a tensor without storage cannot be asked by C++.

    def data_ptr(self) -> int:
        """Return a number that tells apart tensors that share no memory; zero for empty ones, as torch does."""
        if not self.numel():
            return 0
        return self.meta.untyped_storage()._cdata + self.storage_offset() * self.element_size()

    def untyped_storage(self) -> torch.UntypedStorage:
        """Return the storage of `meta`."""
        return self.meta.untyped_storage()

    def numpy(self, *, force: bool = False) -> np.ndarray:
        """Return zeros that take no memory."""
        return np.broadcast_to(np.zeros((), _NUMPY[self.dtype]), tuple(self.shape))

    def tolist(self) -> list:
        """Refuse."""
        raise ValuesNeeded("values")

    def item(self) -> Any:
        """Refuse."""
        raise ValuesNeeded("a value")

    def __bool__(self) -> bool:
        raise ValuesNeeded("a truth value")


_NUMPY = {d.torch: np.dtype(np.float32 if d.numpy is None else d.numpy) for d in types.DTYPES.values()}
_running = threading.local()  # ranks may be threads


def note(text: str) -> None:
    """Add a remark to the explanation in progress."""
    remarks = getattr(_running, "remarks", None)
    if remarks is not None and text not in remarks:
        remarks.append(text)


class remarking:
    """Collect remarks in a list until the end of the block."""

    def __init__(self, remarks: list[str]) -> None:
        self._remarks = remarks

    def __enter__(self) -> None:
        self._before = getattr(_running, "remarks", None)
        _running.remarks = self._remarks

    def __exit__(self, *exc_info: object) -> None:
        _running.remarks = self._before


def _map(value: Any, by: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return by(value)
    if isinstance(value, (tuple, list)):
        return type(value)(_map(item, by) for item in value)
    if isinstance(value, dict):
        return {key: _map(item, by) for key, item in value.items()}
    return torch.device("meta") if isinstance(value, torch.device) else value


def _to_meta(x: torch.Tensor) -> torch.Tensor:
    return x.meta if isinstance(x, Outline) else x.to("meta")


def _as_outline(made: torch.Tensor, given: tuple) -> torch.Tensor:
    """Return the outline of a result; of one written in place, the operand itself."""
    for x in given:
        if isinstance(x, Outline) and x.meta is made:
            return x
    return Outline.of(made)


def _bounded(func: Any, args: tuple) -> torch.Tensor | None:
    """Return the largest possible result of an operation whose result size depends on values."""
    aten = torch.ops.aten
    if func is aten.nonzero.default:
        x = args[0]
        return torch.empty((x.numel(), x.ndim), dtype=torch.int64, device="meta")
    if func is aten.masked_select.default:
        return torch.empty(args[0].numel(), dtype=args[0].dtype, device="meta")
    if func is aten.index.Tensor and any(isinstance(k, Outline) and k.dtype is torch.bool for k in args[1]):
        x, keys = args
        if sum(k is not None for k in keys) > 1:
            raise ValuesNeeded("several masks")
        at = next(i for i, k in enumerate(keys) if k is not None)
        shape = (*x.shape[:at], keys[at].numel(), *x.shape[at + keys[at].ndim :])
        return torch.empty(shape, dtype=x.dtype, device="meta")
    if func in (aten._unique2.default, aten.bincount.default):
        raise ValuesNeeded("distinct values")
    return None


class _Nothing:
    """Stands for the elements of an outline: takes whatever is written to it."""

    def __setitem__(self, key: object, value: object) -> None:
        pass


class OutlineBuffer(Buffer):
    """A buffer that has a length and no memory."""

    __slots__ = ()

    @property
    def array(self) -> Any:
        """Nothing."""
        return _Nothing()

    def part(self, start: int, count: int) -> OutlineBuffer:
        """Return elements ``start .. start + count``."""
        return OutlineBuffer(self.owner, count, self.dtype, self.start + start)


class OutlineKind(TorchKind):
    """What the communicator does with outlines: count them, and copy nothing."""

    name = "outline"

    @staticmethod
    def is_plain(x: Any) -> bool:
        return False

    @staticmethod
    def is_direct(x: Any) -> bool:
        return x.is_contiguous()

    @staticmethod
    def buffer(x: Any, dtype: Any) -> Buffer:
        return (OutlineBuffer if isinstance(x, Outline) else Buffer)(x, x.numel(), dtype)

    @staticmethod
    def empty_like(x: Any) -> Any:
        return Outline.of(torch.empty(x.shape, dtype=x.dtype, device="meta"))

    @staticmethod
    def empty(shape: tuple[int, ...], like: Any) -> Any:
        return Outline.of(torch.empty(shape, dtype=like.dtype, device="meta"))

    @staticmethod
    def copy(out: Any, x: Any) -> None:
        """Nothing to copy."""

    @staticmethod
    def fill(out: Any, value: Any) -> None:
        """Nothing to fill."""

    @staticmethod
    def is_same_memory(x: Any, y: Any) -> bool:
        return x is y


_KIND_OF_TYPE[Outline] = OutlineKind


class OutlineComm(Communicator):
    """Rank `rank` of `size`, alone: messages are counted, never sent. Other ranks are taken to be like this one."""

    def _barrier(self) -> None:
        """Nobody to wait for."""

    def _bcast(self, buffer: Any, root: int) -> None:
        if self.rank != root and not isinstance(buffer.owner, Outline):
            note("values that another rank would send")

    def _allreduce(self, send: Any, recv: Any, red: Any) -> None:
        self._take(send, recv)

    def _reduce(self, buffer: Any, red: Any, root: int) -> None:
        """The own contribution stands for the combination."""

    def _scan(self, buffer: Any, red: Any) -> None:
        """As `_reduce`."""

    def _exscan(self, buffer: Any, red: Any) -> None:
        """As `_reduce`."""

    def _allgatherv(self, send: Any, recv: Any, lengths: tuple[int, ...]) -> None:
        if not isinstance(recv.owner, Outline) and not isinstance(send.owner, Outline):
            start = 0
            for n in lengths:
                recv.array[start : start + n] = np.resize(send.array, n)
                start += n

    def _reduce_scatterv(self, send: Any, recv: Any, lengths: tuple[int, ...], red: Any) -> None:
        if not isinstance(recv.owner, Outline):
            recv.array[...] = 0

    @staticmethod
    def _take(send: Any, recv: Any) -> None:
        if send is not None and not isinstance(recv.owner, Outline) and not isinstance(send.owner, Outline):
            recv.array[...] = send.array

    def _istart(self, op: str, *args: Any) -> Any:
        getattr(self, f"_{op}")(*args)
        return OUTGOING

    def _isend(self, buffer: Any, dest: int, tag: int) -> Any:
        return OUTGOING

    def _irecv(self, buffer: Any, source: int, tag: int) -> Any:
        if not isinstance(buffer.owner, Outline):
            buffer.array[...] = 0
        return OUTGOING

    def _bcast_pickled(self, obj: Any, root: int) -> Any:
        if self.rank != root:
            raise ValuesNeeded("an object of another rank")
        return super()._bcast_pickled(obj, root)

    def _split(self, color: int | None, key: int) -> OutlineComm:
        raise ValuesNeeded("the colors of other ranks")

    def _dup(self) -> OutlineComm:
        return OutlineComm(self.rank, self.size, None, self._ledger)

    def _split_node(self) -> OutlineComm:
        return self._dup()

    def _free(self) -> None:
        """Holds nothing."""


_EMPTY = torch.ops.aten.empty.memory_format
_FACTORIES = frozenset(
    {_EMPTY, *(getattr(torch.ops.aten, name).default for name in ("zeros", "ones", "full", "empty_strided"))}
)
#: New integer tensors of at most so many elements stay real: what is planned with them has to be known.
_SMALL = 2**16


def _is_large(func: Any, args: tuple, kwargs: dict) -> bool:
    """Tell whether a new tensor is data, which is outlined, and not something that decides what is sent."""
    dtype = kwargs.get("dtype") or torch.get_default_dtype()
    n = math.prod(args[0])
    return n > _SMALL or (func is _EMPTY and dtype.is_floating_point) or dtype.is_complex


class Meter(torch.utils._python_dispatch.TorchDispatchMode):
    """Counts the bytes of outlines that are alive at one time, beyond those that were there before."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: dict[int, Any] = {}

    def know(self, meta: torch.Tensor) -> None:
        """Take memory as given."""
        storage = meta.untyped_storage()
        self._known[storage._cdata] = weakref.ref(storage)

    def __torch_dispatch__(self, func: Any, kinds: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if func in _FACTORIES and _is_large(func, args, kwargs):
            made = Outline.of(func(*args, **{**kwargs, "device": "meta", "pin_memory": None}))
        else:
            made = func(*args, **kwargs)
        _map(made, self._see)
        return made

    def _see(self, x: torch.Tensor) -> torch.Tensor:
        meta = x.meta if isinstance(x, Outline) else x
        if meta.device.type != "meta":
            return x
        storage = meta.untyped_storage()
        key, nbytes = storage._cdata, storage.nbytes()
        if key not in self._known:
            self.now += nbytes
            self.peak = max(self.peak, self.now)
            self._known[key] = weakref.ref(storage, lambda _: self._forget(key, nbytes))
        return x

    def _forget(self, key: int, nbytes: int) -> None:
        if self._known.pop(key, None) is not None:
            self.now -= nbytes


def outline_of(local: torch.Tensor, shape: tuple[int, ...]) -> Outline:
    """Return an outline of the dtype of `local` and a given shape, contiguous."""
    return Outline.of(torch.empty(shape, dtype=local.dtype, device="meta"))
