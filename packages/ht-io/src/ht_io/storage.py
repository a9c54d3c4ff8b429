"""Element types on disk and in memory, and the NumPy views through which h5py reaches a tensor's memory.

bfloat16 has no NumPy type. It is stored as an HDF5 floating type of 16 bits with an 8-bit exponent: nothing
is lost, and every HDF5 reader converts it (h5py shows float32).
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import mmap
from collections.abc import Callable

import h5py
import numpy as np
import torch
from ht_core import types
from ht_core.errors import DTypeError

#: Bit fields of bfloat16: sign position, exponent position and size, mantissa position and size.
_BFLOAT16_FIELDS = (15, 7, 8, 0, 7)


def bfloat16_type() -> h5py.h5t.TypeFloatID:
    """Return the HDF5 type of bfloat16, little-endian."""
    made = h5py.h5t.IEEE_F16LE.copy()
    made.set_fields(*_BFLOAT16_FIELDS)
    made.set_ebias(127)
    return made


def file_type(dtype: types.dtype) -> h5py.h5t.TypeID:
    """Return the HDF5 type of `dtype` on disk and in memory, which are the same bytes (bool is h5py's
    enumeration).
    """
    return bfloat16_type() if dtype is types.bfloat16 else h5py.h5t.py_create(dtype.numpy, logical=True)


def stored_dtype(dataset: h5py.Dataset, op: str) -> types.dtype:
    """Return the dtype of the elements of `dataset`.

    Raises
    ------
    DTypeError
        If they are not numbers of a supported type (text, records, long double, an empty data space).
    """
    raw = dataset.id.get_type()
    if isinstance(raw, h5py.h5t.TypeFloatID) and raw.get_size() == 2 and raw.get_fields() == _BFLOAT16_FIELDS:
        return types.bfloat16
    found = dataset.dtype
    if dataset.shape is None or found.kind not in "biufc" or found.newbyteorder("=").name not in types.DTYPES:
        what = "an empty data space" if dataset.shape is None else f"elements of type {found}"
        names = ", ".join(types.DTYPES)
        where = f"{dataset.name!r} of {dataset.file.filename!r}"
        raise DTypeError(f"{op}: dataset must hold elements of {names}; {where} has {what}")
    return types.canonical(found.newbyteorder("="))


def check_cast(source: types.dtype, target: types.dtype, op: str) -> None:
    """Refuse the one cast that drops half of the data silently.

    Raises
    ------
    DTypeError
        If `source` is complex and `target` is not.
    """
    if source.kind == "c" and target.kind != "c":
        raise DTypeError(
            f"{op}: dtype must be complex for complex data, got {target}; take .real or .imag first"
        )


def empty(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return a tensor without contents, in huge pages where the system has them.

    The first touch of fresh memory in pages of 4 KiB costs several times what reading a cached file does.
    """
    out = torch.empty(shape, dtype=dtype, device=device)
    if _MADVISE is not None and device.type == "cpu" and out.nbytes >= 2 * _HUGE_PAGE:
        start = -(-out.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        length = (out.data_ptr() + out.nbytes - start) // mmap.PAGESIZE * mmap.PAGESIZE
        _MADVISE(start, length, mmap.MADV_HUGEPAGE)  # advice: whether it is taken does not matter
    return out


def unpooled(shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """Return a tensor without contents whose memory goes back to the system as soon as it goes.

    The heap keeps what is freed for the next result; blocks made in one thread and freed in another leave holes there
    that are not used again.
    """
    size = math.prod(shape) * dtype.itemsize
    if device.type != "cpu" or size < 2 * _HUGE_PAGE:
        return torch.empty(shape, dtype=dtype, device=device)
    memory = mmap.mmap(-1, size)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
    return torch.frombuffer(memory, dtype=torch.uint8).view(dtype).view(shape)


def _find_madvise() -> Callable[[int, int, int], int] | None:
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return None
    try:
        found = ctypes.CDLL(None).madvise
    except (OSError, AttributeError):
        return None
    found.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return found


_MADVISE = _find_madvise()
_HUGE_PAGE = 2 << 20


def host_view(tensor: torch.Tensor) -> np.ndarray:
    """Return a NumPy view of a contiguous CPU tensor's memory, same shape; bfloat16 appears as int16."""
    return (tensor.view(torch.int16) if tensor.dtype is torch.bfloat16 else tensor).numpy()


def byte_view(tensor: torch.Tensor) -> memoryview:
    """Return the bytes of a contiguous CPU tensor, without copying."""
    return memoryview(host_view(tensor).reshape(-1).view(np.uint8))


def put_along(out: torch.Tensor, axis: int, places: np.ndarray, block: torch.Tensor) -> None:
    """Set the indices `places` of `axis` of `out` to `block`, of the same type: unsigned ones too."""
    signed = _SIGNED.get(out.dtype)
    out, block = (out, block) if signed is None else (out.view(signed), block.view(signed))
    out[(*(slice(None),) * axis, torch.from_numpy(places).to(out.device))] = block


#: torch cannot index arrays of these types; the bits are the same.
_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}
