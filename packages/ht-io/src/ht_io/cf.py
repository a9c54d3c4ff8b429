"""The climate and forecast conventions for packed values: what a stored number means. Pure; knows no file.

Rules as xarray applies them, so that both libraries show the same numbers in the same type; except that integer
scales give float64 here, where xarray would round the values to integers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from ht_core import types

from .loading import Source
from .selection import Selection, plan_blocks

_ATTRIBUTES = ("_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned")


@dataclass(frozen=True, slots=True)
class Packing:
    """How stored numbers become values: missing ones to NaN, then ``stored * scale + offset``.

    Attributes
    ----------
    stored : numpy.dtype
        As which the bytes are to be read (unsigned where ``_Unsigned`` says so).
    dtype : numpy.dtype
        Of the values.
    missing : tuple
        Stored numbers that mean "no value".
    scale, offset : float or None
    """

    stored: np.dtype
    dtype: np.dtype
    missing: tuple
    scale: float | None
    offset: float | None

    def decode(self, raw: np.ndarray) -> np.ndarray:
        """Return the values of an array as it is stored (native byte order)."""
        raw = raw.view(self.stored)
        values = raw.astype(self.dtype)
        if self.scale is not None:
            values *= self.dtype.type(self.scale)
        if self.offset is not None:
            values += self.dtype.type(self.offset)
        for number in self.missing:
            values[raw == number] = np.nan
        return values


def plan_packing(dtype: np.dtype, attrs: Mapping[str, object], op: str) -> Packing | None:
    """Return how numbers of `dtype` with these attributes are decoded; None if they are what they say.

    >>> plan_packing(np.dtype("i2"), {"scale_factor": 0.01, "_FillValue": -1}, "load").dtype
    dtype('float64')
    >>> plan_packing(np.dtype("i2"), {"units": "K"}, "load") is None
    True
    """
    found = {name: attrs[name] for name in _ATTRIBUTES if name in attrs}
    if not found or dtype.kind not in "iuf":
        return None
    stored = _stored(dtype, found.get("_Unsigned"))
    scale, offset = (_number(found.get(name), name, op) for name in ("scale_factor", "add_offset"))
    missing = []
    for name in ("_FillValue", "missing_value"):
        for number in np.atleast_1d(found[name]).ravel() if name in found else ():
            missing.append(_as_stored(number, dtype, stored, name, op))
    missing = tuple(number for number in dict.fromkeys(missing) if number == number)  # NaN is NaN already
    has_missing = any(name in found for name in ("_FillValue", "missing_value"))
    if scale is None and offset is None:
        if not has_missing:
            return None if stored == dtype else Packing(stored, stored, (), None, None)
        wanted = _float_for(stored)
    else:
        wanted = _float_for_scaled(stored, scale, offset)
    return Packing(stored, wanted, missing, *(None if n is None else float(n) for n in (scale, offset)))


def _stored(dtype: np.dtype, unsigned: object) -> np.dtype:
    text = unsigned.decode() if isinstance(unsigned, bytes) else unsigned
    if text == "true" and dtype.kind == "i":
        return np.dtype(f"u{dtype.itemsize}")
    if text == "false" and dtype.kind == "u":
        return np.dtype(f"i{dtype.itemsize}")
    return dtype


def _number(value: object, name: str, op: str) -> np.generic | None:
    if value is None:
        return None
    found = np.asarray(value)
    if found.size != 1 or found.dtype.kind not in "iuf":
        raise ValueError(f"{op}: {name} must be a number, got {value!r}; load with mask_and_scale=False")
    return found.reshape(())[()]


def _as_stored(number: object, dtype: np.dtype, stored: np.dtype, name: str, op: str) -> object:
    if np.asarray(number).dtype.kind not in "iuf":
        raise ValueError(f"{op}: {name} must be a number, got {number!r}; load with mask_and_scale=False")
    if stored.kind == "f":
        return stored.type(number)
    whole = int(number) if np.isfinite(number) else None
    if whole is None or whole != number:
        return float("nan")  # equals no integer
    bits = 8 * stored.itemsize
    limits = np.iinfo(stored)
    if not limits.min <= whole <= limits.max and stored != dtype:
        whole = whole % (1 << bits)  # a signed fill value of numbers that are to be read unsigned, or reverse
        whole = whole - (1 << bits) if stored.kind == "i" and whole > limits.max else whole
    return whole if limits.min <= whole <= limits.max else float("nan")


def _float_for(dtype: np.dtype) -> np.dtype:
    """The float type that holds NaN and all numbers of `dtype`."""
    if dtype.kind == "f":
        return dtype
    return np.dtype("f4") if dtype.itemsize <= 2 else np.dtype("f8")


def _float_for_scaled(dtype: np.dtype, scale: np.generic | None, offset: np.generic | None) -> np.dtype:
    """The type of the attributes where they agree on float32 or float64; an offset alone needs float64."""
    if scale is not None and offset is not None and scale.dtype == offset.dtype and scale.dtype.char in "fd":
        return np.dtype("f8") if dtype.kind in "iu" and dtype.itemsize == 4 else scale.dtype
    if offset is not None or scale.dtype.kind != "f":
        return np.dtype("f8")
    return scale.dtype


class DecodedSource:
    """A source whose stored numbers are decoded as they are read, in blocks of 8 MiB."""

    def __init__(self, source: Source, packing: Packing) -> None:
        self._source, self._packing = source, packing
        self.shape, self.name = source.shape, source.name
        self.dtype = types.canonical(packing.dtype)

    def read_into(self, part: Selection, out: torch.Tensor) -> None:
        """Fill `out` with the values of `part`."""
        if part.size == 0:
            return
        out = out.view(part.counts)
        if not part.counts:
            scratch = torch.empty((), dtype=self._source.dtype.torch)
            self._source.read_into(part, scratch)
            out.copy_(torch.from_numpy(np.asarray(self._packing.decode(scratch.numpy()[None]))[0:1])[0])
            return
        row_bytes = part.size // part.counts[0] * max(self._source.dtype.itemsize, self.dtype.itemsize)
        for low, high in plan_blocks(part.counts[0], row_bytes):
            block = part.rows(low, high)
            scratch = torch.empty(block.counts, dtype=self._source.dtype.torch)
            self._source.read_into(block, scratch)
            out[low:high].copy_(torch.from_numpy(self._packing.decode(scratch.numpy())))
