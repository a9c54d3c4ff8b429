"""Integer images of the dtypes that torch stores but cannot compare: uint16, uint32 and uint64.

Flipping the sign bit maps the unsigned integers to the signed ones of the same width in the same order, and back.
Every other dtype is its own image, bool is that of uint8.
"""

from __future__ import annotations

import torch

_SIGNED = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


def to_ordered(x: torch.Tensor) -> torch.Tensor:
    """Return a tensor of a dtype with comparison kernels whose elements are in the order of those of `x`.

    >>> to_ordered(torch.tensor([0, 2**16 - 1], dtype=torch.uint16)).tolist()
    [-32768, 32767]
    """
    if x.dtype is torch.bool:
        return x.view(torch.uint8)
    signed = _SIGNED.get(x.dtype)
    return x if signed is None else x.view(signed) ^ torch.iinfo(signed).min


def from_ordered(image: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return the tensor of `dtype` whose image is `image`; images of other dtypes are returned as they are."""
    if dtype is torch.bool:
        return image.view(torch.bool) if image.dtype is torch.uint8 else image
    signed = _SIGNED.get(dtype)
    if signed is None or image.dtype is not signed:
        return image
    return (image ^ torch.iinfo(signed).min).view(dtype)
