"""Packing of values as the climate and forecast conventions want them stored: the reverse of :mod:`ht_io.cf`.

Runs on blocks as they are written. Pure; knows no file and no communicator.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from ht_core import types
from ht_core.errors import DTypeError

from .selection import plan_blocks

#: What an encoding may say, as xarray calls it.
KEYS = ("dtype", "scale_factor", "add_offset", "_FillValue")


@dataclass(frozen=True, slots=True)
class Packer:
    """How values become stored numbers: ``(value - offset) / scale``, rounded for integers; NaN becomes `fill`.

    Attributes
    ----------
    dtype : types.dtype
        Of the stored numbers.
    scale, offset : float or None
    fill : int, float or None
        What stands for NaN.
    """

    dtype: types.dtype
    scale: float | None
    offset: float | None
    fill: int | float | None

    def encode(self, part: torch.Tensor, out: torch.Tensor) -> None:
        """Fill `out`, a tensor of the stored type, with `part`, in blocks of 8 MiB of float64.

        Raises
        ------
        ValueError
            A value does not fit: it is outside the type's range, NaN without a `fill`, or would be stored as `fill`.
        """
        if not part.ndim:
            part, out = part.reshape(1), out.reshape(1)
        if not part.numel():
            return
        row_bytes = 8 * (part.numel() // part.shape[0])
        for low, high in plan_blocks(part.shape[0], row_bytes):
            out[low:high].copy_(self._block(part[low:high]))

    def _block(self, part: torch.Tensor) -> torch.Tensor:
        values = part.to(torch.float64, copy=True)
        if self.offset is not None:
            values.sub_(self.offset)
        if self.scale is not None:
            values.div_(self.scale)
        missing = values.isnan()
        if self.dtype.kind in "iu":
            self._check(values.round_(), missing)
        if self.fill is not None:
            values.masked_fill_(missing, self.fill)
        return values

    def _check(self, values: torch.Tensor, missing: torch.Tensor) -> None:
        """Refuse what integers of the type cannot tell apart."""
        has_missing = bool(missing.any())
        if has_missing and self.fill is None:
            raise ValueError(
                "save_netcdf: x must not hold NaN where it is packed to integers, got some; give a _FillValue"
            )
        limits = np.iinfo(self.dtype.numpy)
        outside = (values < float(limits.min)) | (values >= float(limits.max + 1))
        if bool(outside.any()):
            text = (
                f"save_netcdf: x must fit {self.dtype} when it is packed with scale {self.scale} and offset"
            )
            raise ValueError(f"{text} {self.offset}, got values that do not; choose a larger scale or type")
        if self.fill is not None and bool((values == self.fill).any()):
            raise ValueError(
                f"save_netcdf: x must not hold values that are packed to {self.fill}, which means missing; "
                "choose another _FillValue"
            )


def plan_encoding(
    given: object, stored: types.dtype, attrs: Mapping[str, object], op: str
) -> tuple[types.dtype, dict[str, object], Packer | None]:
    """Return the type on disk, the attributes and the packer that an encoding means for values of type `stored`.

    >>> plan_encoding({"dtype": "int16", "scale_factor": 0.1}, types.float32, {"units": "K"}, "save")[:2]
    (ht.int16, {'units': 'K', 'scale_factor': np.float64(0.1)})
    """
    if not isinstance(given, Mapping) or any(key not in KEYS for key in given):
        raise ValueError(f"{op}: encoding must be a mapping with keys among {', '.join(KEYS)}, got {given!r}")
    twice = [key for key in given if key in attrs]
    if twice:
        raise ValueError(f"{op}: attrs must not repeat what encoding says, got {twice[0]!r} in both")
    target = types.canonical(given.get("dtype", stored))
    numbers = {name: _number(given[name], name, op) for name in KEYS[1:] if given.get(name) is not None}
    if numbers.get("scale_factor") == 0:
        raise ValueError(f"{op}: scale_factor must not be zero, got {given['scale_factor']!r}")
    if not numbers:
        return target, dict(attrs), None
    if stored.kind not in "iuf" or target.kind not in "iuf":
        raise DTypeError(f"{op}: encoding must be of real numbers, got {stored} to be stored as {target}")
    fill = numbers.get("_FillValue")
    if fill is not None:
        cast = np.asarray(fill).astype(target.numpy)
        if cast != fill and fill == fill:
            raise ValueError(f"{op}: _FillValue must be a number of type {target}, got {fill!r}")
    return target, {**attrs, **numbers}, _packer(target, numbers)


def packer_of(dtype: types.dtype, attrs: Mapping[str, object], op: str) -> Packer | None:
    """Return how values are to be packed for a variable that is in a file already, from its attributes."""
    numbers = {name: _number(attrs[name], name, op) for name in KEYS[1:] if name in attrs}
    if dtype.kind not in "iuf" or not numbers:
        return None
    if attrs.get("_Unsigned") is not None:
        raise ValueError(f"{op}: variable must not be marked _Unsigned to be packed into, got one that is")
    return _packer(dtype, numbers)


def _packer(dtype: types.dtype, numbers: Mapping[str, np.generic]) -> Packer:
    scale, offset = (float(numbers[n]) if n in numbers else None for n in ("scale_factor", "add_offset"))
    fill = numbers["_FillValue"].item() if "_FillValue" in numbers else None
    return Packer(dtype, scale, offset, fill)


def _number(value: object, name: str, op: str) -> np.generic:
    found = np.asarray(value)
    if found.size != 1 or found.dtype.kind not in "iuf":
        raise ValueError(f"{op}: {name} must be a number, got {value!r}")
    return found.reshape(())[()]
