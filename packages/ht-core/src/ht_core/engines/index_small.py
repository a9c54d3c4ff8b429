"""Engine of small index arrays on a rank that holds everything: NumPy itself does the work.

Where one rank holds the array and the keys, an index array needs no route, only the layout of the result. For a few
elements the price is that of the Python between the user and the kernel, so this path has little of it: the place of
the split axis in the result is planned once per kind of key (its slices, the shapes and splits of its arrays), the
elements are read or written by NumPy on the same memory. Whatever is out of the ordinary (another device, gradients,
wrong keys, large results) is left to the general engines, which also word the errors.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from ..dndarray import DNDarray, _cast
from ..layout import Layout
from .gather import varying_axis
from .index_key import _with_arrays
from .indexing import plan_index

#: Entries of index arrays, and elements of a result or array, up to which this path is the faster one.
KEYS, ELEMENTS = 1 << 12, 1 << 16
_PLAIN = {int, slice, type(None), type(Ellipsis)}


class SmallKey(NamedTuple):
    """A key of this path, and the array it is for.

    Attributes
    ----------
    local : torch.Tensor
        The array's memory in a type that NumPy has.
    key : object
        For NumPy.
    structure : tuple
        For :func:`plan_split`.
    """

    local: torch.Tensor
    key: object
    structure: tuple


def get_small(x: DNDarray, small: SmallKey) -> DNDarray | None:
    """Return the elements that a small key names; None where the general engines must do it. No message."""
    try:
        split = plan_split(x.layout, small.structure)
        values = small.local.numpy()[small.key]
    except (IndexError, ValueError, RuntimeError):
        return None
    shape = values.shape
    layout = Layout(shape, split, () if split is None else (shape[split],))
    result = torch.from_numpy(values)
    return DNDarray(result if small.local is x.larray else result.view(x.larray.dtype), layout, x.comm)


def set_small(x: DNDarray, small: SmallKey, value: DNDarray | bool | int | float | complex) -> bool:
    """Write `value` (from ``as_value``) to the elements that a small key names; False if that is not for this path."""
    local = small.local
    if isinstance(value, DNDarray):
        tensor = value.larray
        if (value.comm.size > 1 and value.layout.split is not None) or tensor.requires_grad:
            return False
        if tensor.numel() > ELEMENTS:
            return False
        value = _cast(tensor, x.larray.dtype)
    elif local is not x.larray:
        value = torch.tensor(value, dtype=x.larray.dtype)
    try:
        if isinstance(value, torch.Tensor):
            value = value.view(local.dtype).numpy()
        local.numpy()[small.key] = value
    except (IndexError, ValueError, TypeError, RuntimeError):
        return False
    torch.autograd.graph.increment_version(x.larray)  # as every write by torch does
    return True


def find_small(x: DNDarray, key: object) -> SmallKey | None:
    """Return a key as this path takes it; None where the key or the array is not for it."""
    if type(key) in _PLAIN or (type(key) is tuple and all(type(part) in _PLAIN for part in key)):
        return None
    local = x.larray
    if (
        (x.comm.size > 1 and x.layout.split is not None)
        or local.device.type != "cpu"
        or local.requires_grad
        or not local.numel()
    ):
        return None
    parts = key if type(key) is tuple else (key,)
    made, structure, entries = [], [], 0
    for part in parts:
        if type(part) is slice:
            made.append(part)
            structure.append((slice, part.start, part.stop, part.step))
        elif type(part) in _PLAIN:
            made.append(part)
            structure.append(part)
        else:
            array, split = _array(part, x)
            if array is None or array.dtype.kind not in "biu" or array.ndim == 0:
                return None
            entries += array.size
            made.append(array)
            structure.append((array.dtype.kind == "b", array.shape, split))
    if entries > KEYS:
        return None
    if local.numel() > ELEMENTS:  # then one array along the first axis, and few elements
        is_rows = len(parts) == 1 and not structure[0][0]
        if not is_rows or local.numel() // local.shape[0] * entries > ELEMENTS:
            return None
    plain = local.view(torch.int16) if local.dtype is torch.bfloat16 else local
    return SmallKey(plain, tuple(made) if type(key) is tuple else made[0], tuple(structure))


def _array(part: object, x: DNDarray) -> tuple[np.ndarray | None, int | None]:
    """Return one index array in NumPy and its split axis; (None, None) where it is none of this path."""
    kind, split = type(part), None
    if kind is DNDarray:
        if part.comm is not x.comm or (x.comm.size > 1 and part.layout.split is not None):
            return None, None
        split, part = part.layout.split, part.larray
        kind = torch.Tensor
    if kind is torch.Tensor:
        is_index = part.device.type == "cpu" and not part.is_floating_point() and not part.is_complex()
        return (part.numpy(), split) if is_index else (None, None)
    if kind is list and len(part) <= KEYS:
        try:
            return (np.array(part) if part else np.empty(0, np.int64)), None
        except (ValueError, TypeError, RuntimeError):  # ragged, or worse
            return None, None
    return (part, None) if kind is np.ndarray else (None, None)


@lru_cache(maxsize=4096)
def plan_split(layout: Layout, structure: tuple) -> int | None:
    """Return the split axis of the result on one rank, by the rules of ``gather``. Pure.

    Parameters
    ----------
    layout : Layout
    structure : tuple
        Per part of the key: an int, None, Ellipsis, (slice, start, stop, step), or (is_mask, shape, split) of an array.

    Raises
    ------
    IndexError
        If the key does not fit; the general engines word the error.
    ValueError
        If the key is none of this path.
    """
    parts = []
    for part in structure:
        if type(part) is not tuple:
            parts.append(part)
        elif part[0] is slice:
            parts.append(part[1:])
        else:
            is_mask, shape, split = part
            dtype = torch.bool if is_mask else torch.int64
            empty = torch.empty(shape, dtype=dtype, device="meta")
            parts.append(
                DNDarray(empty, Layout(shape, split, () if split is None else (shape[split],)), None)
            )
    items, entries, position = _with_arrays(parts, layout, None, torch.device("meta"))
    source = plan_index(layout, items).layout
    split_keys = [e for e in entries if e.array.layout.split is not None]
    if len(split_keys) > 1 or (split_keys and len(entries) > 1):
        raise ValueError("index: split keys beside others are left to the general engine")
    shapes = [(2,) if e.is_mask else e.array.shape for e in entries]  # as many as may be: more than one
    ndim = max(map(len, shapes))
    axes = {axis for e in entries for axis in e.axes}
    along = None
    if source.split in axes and not split_keys:
        across = next(shape for e, shape in zip(entries, shapes) if source.split in e.axes)
        along = varying_axis(across, ndim)
    elif split_keys and (source.split is None or source.split in axes):
        along = 0 if entries[0].is_mask else entries[0].array.layout.split
    if along is not None:
        return position + along
    rest = source.drop(axes)
    return None if rest.split is None else rest.split + (ndim if rest.split >= position else 0)
