"""This rank's part, by hand: local indexing, strides, the map of local shapes. No message."""

from __future__ import annotations

import numpy as np
import torch

from .dndarray import DNDarray
from .registry import register


class LocalIndex:
    """``x.lloc[key]``: get and set elements of this rank's tensor, with local indices.

    Nothing is checked or sent: what is set must be the same on all ranks where the array is replicated.
    """

    __slots__ = ("_array",)

    def __init__(self, array: DNDarray) -> None:
        self._array = array

    def __getitem__(self, key: object) -> torch.Tensor:
        return self._array.larray[key]

    def __setitem__(self, key: object, value: object) -> None:
        self._array.larray[key] = value.larray if isinstance(value, DNDarray) else value


def create_lshape_map(x: DNDarray, force_check: bool = False) -> np.ndarray:
    """Return the shapes of all ranks' parts, int64 of shape (p, ndim). No message: the layout knows them."""
    return x.lshape_map


register(create_lshape_map, kind="metadata")
DNDarray.lloc = property(LocalIndex, doc="This rank's tensor, to be indexed with local indices. No message.")
DNDarray.stride = property(
    lambda x: x.larray.stride, doc="``x.stride()``: steps of this rank's tensor along its axes, in elements."
)
DNDarray.strides = property(
    lambda x: tuple(step * x.larray.element_size() for step in x.larray.stride()),
    doc="Steps of this rank's tensor along its axes, in bytes.",
)
