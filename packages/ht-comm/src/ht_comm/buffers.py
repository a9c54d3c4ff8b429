"""Arrays as the transports see them: contiguous host memory with a pointer, a count and an element type.

Two *kinds* of array are known, NumPy's and torch's. A kind is a namespace of the few functions the
communicator needs (`NumpyKind`, `TorchKind`), so that no other module asks what it has in hand. Whatever the
strides, `pack` gives a contiguous `Buffer` (the array's own memory where possible) and `landing` a buffer to
receive into plus what remains to be done once the data is there. Arrays that live on a device are carried
through host memory, by way of `ht_comm.device`.

How a rank packs is its own affair: only the sequence of elements must match its peers.
"""

import math
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from . import device
from .dtypes import BY_NATIVE, DTYPES, DType, find_dtype, torch_dtype

Array = Any  # numpy.ndarray or torch.Tensor
LONG_ROW = 64  # from this many elements on, picking whole rows is up to three times faster than torch.flip


class Buffer:
    """`count` consecutive elements of host memory, kept alive by `owner`.

    Attributes
    ----------
    owner : numpy.ndarray or torch.Tensor
        The C-contiguous array that holds the memory.
    count : int
        Number of elements.
    dtype : DType
        Their type.
    start : int
        First element of this buffer within `owner`.
    """

    __slots__ = ("count", "dtype", "owner", "start")

    def __init__(self, owner: Array, count: int, dtype: DType, start: int = 0) -> None:
        self.owner = owner
        self.count = count
        self.dtype = dtype
        self.start = start

    @property
    def nbytes(self) -> int:
        """Length in bytes."""
        return self.count * self.dtype.itemsize

    @property
    def ptr(self) -> int:
        """Address of the first element."""
        owner = self.owner
        if isinstance(owner, np.ndarray):
            base = owner.__array_interface__["data"][0]
        else:
            base = owner.data_ptr()
        return base + self.start * self.dtype.itemsize

    def part(self, start: int, count: int) -> "Buffer":
        """Return elements ``start .. start + count`` as a buffer on the same memory."""
        return Buffer(self.owner, count, self.dtype, self.start + start)

    @property
    def array(self) -> np.ndarray:
        """The elements as a flat NumPy array on the same memory, of dtype ``dtype.storage``."""
        owner = self.owner
        if not isinstance(owner, np.ndarray):
            flat = owner.detach().reshape(-1)
            if self.dtype.name == "bfloat16":
                flat = flat.view(torch_dtype(DTYPES["uint16"]))
            owner = flat.numpy()
        return owner.reshape(-1)[self.start : self.start + self.count]


class NumpyKind:
    """What the communicator does with NumPy arrays."""

    name = "NumPy array"

    @staticmethod
    def prepare(x: np.ndarray) -> np.ndarray:
        """Return `x` in a form whose memory holds its values."""
        return x

    @staticmethod
    def is_plain(x: np.ndarray) -> bool:
        """Tell whether the memory of `x`, with its strides, is its elements, in host memory."""
        return True

    @staticmethod
    def address(x: np.ndarray) -> int:
        """Return where the first element is."""
        return x.__array_interface__["data"][0]

    @staticmethod
    def is_direct(x: np.ndarray) -> bool:
        """Tell whether the memory of `x` is its elements in C order, in host memory."""
        return x.flags.c_contiguous

    @staticmethod
    def is_writable(x: np.ndarray) -> bool:
        return x.flags.writeable

    @staticmethod
    def strides(x: np.ndarray) -> tuple[int, ...]:
        return x.strides

    @staticmethod
    def is_host(x: np.ndarray) -> bool:
        """Tell whether `x` is in host memory."""
        return True

    @staticmethod
    def contiguous(x: np.ndarray) -> np.ndarray:
        """Return a copy in C order, in host memory, of an array that is not direct."""
        return x.copy()

    @staticmethod
    def buffer(x: np.ndarray, dtype: DType) -> Buffer:
        """Return the buffer of a direct array."""
        return Buffer(x, x.size, dtype)

    @staticmethod
    def empty_like(x: np.ndarray) -> np.ndarray:
        """Return a new contiguous array of the shape and type (and device) of `x`."""
        return np.empty(x.shape, x.dtype)

    @staticmethod
    def empty(shape: tuple[int, ...], like: np.ndarray) -> np.ndarray:
        """Return a new contiguous array of the type (and device) of `like`."""
        return np.empty(shape, like.dtype)

    @staticmethod
    def scratch(shape: tuple[int, ...], dtype: DType) -> np.ndarray:
        """Return a new contiguous array in host memory."""
        return np.empty(shape, dtype.storage)

    @staticmethod
    def copy(out: np.ndarray, x: np.ndarray) -> None:
        """Set `out` to `x`, converting the element type where they differ."""
        if out.dtype == x.dtype:
            out[...] = x
        else:
            # float32 to float16: what overflows becomes infinite, as in torch; that is no cause for a
            # warning.
            with np.errstate(all="ignore"):
                np.copyto(out, x, casting="unsafe")

    @staticmethod
    def fill(out: np.ndarray, value: Any) -> None:
        out[...] = value

    @staticmethod
    def truth(x: np.ndarray) -> np.ndarray:
        """Return whether each element differs from zero."""
        return x != 0

    @staticmethod
    def narrow(x: np.ndarray, axis: int, start: int, count: int) -> np.ndarray:
        """Return the view ``start .. start + count`` along an axis."""
        return x[(slice(None),) * axis + (slice(start, start + count),)]

    @staticmethod
    def flip(x: np.ndarray, axes: tuple[int, ...]) -> np.ndarray:
        """Return the elements in reverse order along `axes`, perhaps as a view."""
        return np.flip(x, axes)

    @staticmethod
    def is_same_memory(x: np.ndarray, y: np.ndarray) -> bool:
        """Tell whether two arrays of equal shape and type are the same elements."""
        pointers = (each.__array_interface__["data"][0] for each in (x, y))
        return x.strides == y.strides and next(pointers) == next(pointers)

    @staticmethod
    def bring(scratch: np.ndarray, like: np.ndarray) -> np.ndarray:
        """Return an array made by `scratch` where `like` lives."""
        return scratch

    @staticmethod
    def signature(x: np.ndarray) -> tuple[str, str]:
        """Return the element type and the place, as text."""
        return x.dtype.name, "cpu"

    @staticmethod
    def from_signature(signature: tuple[str, str]) -> np.ndarray:
        """Return an empty array of that type and place, to be passed as `like`."""
        return np.empty(0, signature[0])


class TorchKind:
    """What the communicator does with torch tensors."""

    name = "torch tensor"

    @staticmethod
    def prepare(x: Array) -> Array:
        """Return `x` without its graph and with lazy conjugation and negation carried out."""
        if x.requires_grad:
            x = x.detach()
        if x.is_neg():
            x = x.resolve_neg()
        return x.resolve_conj() if x.is_conj() else x

    @staticmethod
    def is_plain(x: Array) -> bool:
        """Tell whether the memory of `x`, with its strides, is its elements, in host memory."""
        return x.is_cpu and not device.stage_all and not x.is_conj() and not x.is_neg()

    @staticmethod
    def address(x: Array) -> int:
        """Return where the first element is."""
        return x.data_ptr()

    @staticmethod
    def is_direct(x: Array) -> bool:
        """Tell whether the memory of `x` is its elements in C order, in host memory."""
        is_host = x.is_cpu and not device.stage_all
        return is_host and x.is_contiguous() and not x.is_conj() and not x.is_neg()

    @staticmethod
    def is_writable(x: Array) -> bool:
        return True

    @staticmethod
    def strides(x: Array) -> tuple[int, ...]:
        return x.stride()

    @staticmethod
    def is_host(x: Array) -> bool:
        """Tell whether `x` is in host memory."""
        return x.is_cpu and not device.stage_all

    @staticmethod
    def contiguous(x: Array) -> Array:
        """Return a copy in C order, in host memory, of a tensor that is not direct."""
        if x.is_cpu and not device.stage_all:
            x = TorchKind.prepare(x)  # what has been carried out is a copy already
            return x.contiguous()
        scratch = sys.modules["torch"].empty(x.shape, dtype=x.dtype, device="cpu")
        TorchKind.copy(scratch, TorchKind.prepare(x))
        return scratch

    @staticmethod
    def buffer(x: Array, dtype: DType) -> Buffer:
        """Return the buffer of a direct tensor."""
        return Buffer(x, x.numel(), dtype)

    @staticmethod
    def empty_like(x: Array) -> Array:
        """Return a new contiguous tensor of the shape, type and device of `x`."""
        torch = sys.modules["torch"]
        if x.is_contiguous() and not x.is_conj():
            return torch.empty_like(x)
        return torch.empty_like(x, memory_format=torch.contiguous_format, requires_grad=False)

    @staticmethod
    def empty(shape: tuple[int, ...], like: Array) -> Array:
        """Return a new contiguous tensor of the type and device of `like`."""
        return sys.modules["torch"].empty(shape, dtype=like.dtype, device=like.device)

    @staticmethod
    def scratch(shape: tuple[int, ...], dtype: DType) -> Array:
        """Return a new contiguous tensor in host memory."""
        return sys.modules["torch"].empty(shape, dtype=torch_dtype(dtype), device="cpu")

    @staticmethod
    def copy(out: Array, x: Array) -> None:
        """Set `out` to `x`, converting the element type where they differ."""
        if out.requires_grad:
            out = out.detach()
        if out.is_cpu and x.is_cpu and not device.stage_all:
            out.copy_(x)
        else:
            device.transfer(out, x)

    @staticmethod
    def fill(out: Array, value: Any) -> None:
        (out.detach() if out.requires_grad else out).fill_(value.item())

    @staticmethod
    def truth(x: Array) -> Array:
        """Return whether each element differs from zero."""
        return x != 0

    @staticmethod
    def narrow(x: Array, axis: int, start: int, count: int) -> Array:
        """Return the view ``start .. start + count`` along an axis."""
        return x.narrow(axis, start, count)

    @staticmethod
    def flip(x: Array, axes: tuple[int, ...]) -> Array:
        """Return the elements in reverse order along `axes`, perhaps as a view."""
        torch = sys.modules["torch"]
        if not x.is_complex() and not x.is_floating_point() and x.itemsize > 1:
            # torch reverses no wide unsigned integers
            signed = x.view(getattr(torch, f"int{8 * x.itemsize}"))
        else:
            signed = x
        if len(axes) == 1 and math.prod(x.shape[axes[0] + 1 :]) >= LONG_ROW:
            rows = torch.arange(x.shape[axes[0]] - 1, -1, -1, device=x.device)
            return signed.index_select(axes[0], rows).view(x.dtype)
        return signed.flip(axes).view(x.dtype)

    @staticmethod
    def is_same_memory(x: Array, y: Array) -> bool:
        """Tell whether two tensors of equal shape and type are the same elements."""
        return (
            x.data_ptr() == y.data_ptr()
            and x.stride() == y.stride()
            and x.is_conj() == y.is_conj()
            and x.is_neg() == y.is_neg()
        )

    @staticmethod
    def bring(scratch: Array, like: Array) -> Array:
        """Return a tensor made by `scratch` where `like` lives."""
        return scratch.to(like.device)

    @staticmethod
    def signature(x: Array) -> tuple[str, str]:
        """Return the element type and the place, as text."""
        return str(x.dtype).removeprefix("torch."), x.device.type

    @staticmethod
    def from_signature(signature: tuple[str, str]) -> Array:
        """Return an empty tensor of that type and place, to be passed as `like`."""
        import torch

        return torch.empty(0, dtype=getattr(torch, signature[0]), device=signature[1])


Kind = type[NumpyKind] | type[TorchKind]
KINDS: dict[str, Kind] = {"numpy": NumpyKind, "torch": TorchKind}
_KIND_OF_TYPE: dict[type, Kind] = {np.ndarray: NumpyKind}


def _find_kind(where: str, argument: str, x: Any) -> Kind:
    torch = sys.modules.get("torch")
    if isinstance(x, np.ndarray) and not isinstance(x, np.ma.MaskedArray):
        kind: Kind = NumpyKind
    elif torch is not None and isinstance(x, torch.Tensor):
        kind = TorchKind
    else:
        raise TypeError(
            f"{where}: {argument} must be a torch tensor or a NumPy array, got {type(x).__name__}; "
            "wrap it with numpy.asarray, or use the *_object methods"
        )
    _KIND_OF_TYPE[type(x)] = kind
    return kind


def inspect(where: str, argument: str, x: Any) -> tuple[Kind, DType]:
    """Return kind and element type of an array, or raise `TypeError`."""
    kind = _KIND_OF_TYPE.get(type(x)) or _find_kind(where, argument, x)
    dtype = BY_NATIVE.get(x.dtype) or find_dtype(x.dtype)
    if dtype is None:
        raise TypeError(
            f"{where}: {argument} must have a dtype of {', '.join(DTYPES)}, got {x.dtype}; cast it first"
        )
    if kind is TorchKind and (x.is_meta or x.layout is not sys.modules["torch"].strided):
        raise TypeError(
            f"{where}: {argument} must be a strided tensor with data, got {x.layout} on {x.device}"
        )
    return kind, dtype


def check_like(where: str, argument: str, x: Any, kind: Kind, dtype: DType, shape: tuple[int, ...]) -> None:
    """Raise unless `x` is of the given kind, element type (`TypeError`) and shape (`ValueError`)."""
    x_kind, x_dtype = inspect(where, argument, x)
    if x_kind is not kind or x_dtype is not dtype:
        raise TypeError(
            f"{where}: {argument} must be a {kind.name} of dtype {dtype.name}, "
            f"got a {x_kind.name} of dtype {x_dtype.name}"
        )
    if x.shape != shape:
        raise ValueError(f"{where}: {argument} must have shape {tuple(shape)}, got {tuple(x.shape)}")


def check_target(
    where: str, argument: str, out: Any, kind: Kind, dtype: DType, shape: tuple[int, ...]
) -> None:
    """Raise unless `out` is like that and can be written: see `check_like` and `check_writable`."""
    check_like(where, argument, out, kind, dtype, shape)
    check_writable(where, argument, out, kind)


def check_writable(where: str, argument: str, out: Any, kind: Kind) -> None:
    """Raise `ValueError` unless every element of `out` can be set on its own."""
    if not kind.is_writable(out):
        raise ValueError(f"{where}: {argument} must be writable, got a read-only {kind.name}; pass a copy")
    if kind.is_direct(out) or 0 in tuple(out.shape):
        return
    if any(stride == 0 and extent > 1 for stride, extent in zip(kind.strides(out), out.shape)):
        raise ValueError(
            f"{where}: {argument} must not have elements that share memory, got an expanded {kind.name} "
            f"of strides {tuple(kind.strides(out))}; pass a copy"
        )


def pack(x: Array, kind: Kind, dtype: DType) -> Buffer:
    """Return the elements of `x` in C order as a buffer, on its own memory if they lie so, else a copy."""
    if kind.is_direct(x):
        return kind.buffer(x, dtype)
    return kind.buffer(kind.contiguous(x), dtype)


def pack_copy(x: Array, kind: Kind, dtype: DType) -> Buffer:
    """Return a buffer on a fresh copy of the elements of `x`, converted to `dtype`."""
    scratch = kind.scratch(tuple(x.shape), dtype)
    kind.copy(scratch, kind.prepare(x))
    return kind.buffer(scratch, dtype)


def landing(out: Array, kind: Kind, dtype: DType) -> tuple[Buffer, Callable[[], None] | None]:
    """Return a buffer to receive the elements of `out` into, and what brings them home (None if they are)."""
    if kind.is_direct(out):
        return kind.buffer(out, dtype), None
    scratch = kind.scratch(tuple(out.shape), dtype)
    return kind.buffer(scratch, dtype), lambda: kind.copy(out, scratch)


def is_leading(shape: tuple[int, ...], axis: int) -> bool:
    """Tell whether blocks along `axis` follow one another in memory."""
    return all(extent == 1 for extent in shape[:axis])


def pack_blocks(x: Array, counts: tuple[int, ...], axis: int, kind: Kind, dtype: DType) -> Buffer:
    """Return the blocks of `x` along `axis`, each in C order, one after the other.

    Each block is copied with its own runs of memory, which is several times faster than transposing the axis
    to the front.
    """
    shape = tuple(x.shape)
    if is_leading(shape, axis):
        return pack(x, kind, dtype)
    scratch = kind.scratch((x.size if kind is NumpyKind else x.numel(),), dtype)
    x = kind.prepare(x)
    for block, piece in _blocks(scratch, x, counts, axis, kind):
        kind.copy(piece, block)
    return kind.buffer(scratch, dtype)


def landing_blocks(
    out: Array, counts: tuple[int, ...], axis: int, kind: Kind, dtype: DType
) -> tuple[Buffer, Callable[[], None] | None]:
    """Return a buffer to receive the blocks of `out` along `axis` into, and what brings them home."""
    if is_leading(tuple(out.shape), axis):
        return landing(out, kind, dtype)
    scratch = kind.scratch((out.size if kind is NumpyKind else out.numel(),), dtype)

    def bring_home() -> None:
        for block, piece in _blocks(scratch, out, counts, axis, kind):
            kind.copy(block, piece)

    return kind.buffer(scratch, dtype), bring_home


def _blocks(flat: Array, x: Array, counts: tuple[int, ...], axis: int, kind: Kind):
    """Yield (view of a block of `x`, view of its place in `flat`) for each non-empty block."""
    start, offset = 0, 0
    for count in counts:
        block = kind.narrow(x, axis, start, count)
        shape = tuple(block.shape)
        n = 1
        for extent in shape:
            n *= extent
        if n:
            yield block, flat[offset : offset + n].reshape(shape)
        start += count
        offset += n
