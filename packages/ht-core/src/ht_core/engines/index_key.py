"""The normal form of an index key: what the user wrote, sorted into a basic part and index arrays.

A key becomes a tuple of basic items (int, slice as a triple, None, Ellipsis), which can be planned and cached from the
layout alone, and the index arrays (integers or masks) that are applied to what the basic part leaves. Nothing here
communicates or touches the data of the array that is indexed.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from ht_comm import CommError

from ..dndarray import DNDarray
from ..layout import Layout

if TYPE_CHECKING:
    from ht_comm import Communicator

Item = int | tuple | None | type(Ellipsis)

_EVERYTHING = (None, None, None)
_KINDS = "must consist of integers, slices, '...', None and arrays of integers or booleans"


@dataclass(frozen=True, slots=True)
class Entry:
    """One index array and the first axis, of what the basic part leaves, that it indexes.

    Attributes
    ----------
    axis : int
    array : DNDarray
        Of dtype int64, any shape; or a mask of dtype bool that spans ``array.ndim`` axes from `axis`.
    """

    axis: int
    array: DNDarray

    @property
    def is_mask(self) -> bool:
        """True for a mask."""
        return self.array.larray.dtype is torch.bool

    @property
    def axes(self) -> range:
        """The axes that the array indexes."""
        return range(self.axis, self.axis + (self.array.ndim if self.is_mask else 1))


class Key(NamedTuple):
    """A key in normal form.

    Attributes
    ----------
    items : tuple
        The basic part: int, (start, stop, step), None or Ellipsis; whole slices where an index array stands.
    entries : tuple of Entry
        The index arrays, in the order of the key; empty for a basic key.
    position : int
        Where the axes of the broadcast index arrays go among the other axes of the result.
    """

    items: tuple
    entries: tuple[Entry, ...] = ()
    position: int = 0


def normalize(key: object, layout: Layout, comm: Communicator, device: torch.device) -> Key:
    """Return `key` in normal form for an array of `layout`.

    Raises
    ------
    IndexError
        If the key is of no known kind, too long, or a mask does not have the shape of the axes it spans.
    CommError
        If an index array lives on another communicator.
    """
    parts = [_part(part, comm, device) for part in (key if isinstance(key, tuple) else (key,))]
    if sum(part is Ellipsis for part in parts) > 1:
        raise IndexError("index: key must contain at most one ellipsis ('...'), got more")
    if not any(isinstance(part, (DNDarray, bool)) for part in parts):
        return Key(tuple(parts))
    return _with_arrays(parts, layout, comm, device)


def _part(part: object, comm: Communicator, device: torch.device) -> object:
    """Return one element of a key as int, triple, None, Ellipsis, bool or an index array of one dimension or more."""
    kind = type(part)
    if kind is int or part is None or part is Ellipsis or kind is bool:
        return part
    if kind is slice:
        return tuple(None if bound is None else _bound(bound) for bound in (part.start, part.stop, part.step))
    if isinstance(part, np.integer):
        return int(part)
    if isinstance(part, np.bool_):
        return bool(part)
    if isinstance(part, DNDarray):
        if part.comm is not comm:
            raise CommError(
                "index: an index array must live on the communicator of the array that it indexes"
            )
        array = part
    else:
        array = _replicated(part, comm)
    if array.ndim == 0:
        value = array.larray.item()
        return value if isinstance(value, bool) else int(value)
    local = array.larray.to(device=device)
    return DNDarray(local if local.dtype is torch.bool else local.to(torch.int64), array.layout, comm)


def _bound(bound: object) -> int:
    try:
        return int(operator.index(bound))
    except TypeError:
        raise TypeError(f"index: bounds of a slice must be integers or None, got {bound!r}") from None


def _replicated(part: object, comm: Communicator) -> DNDarray:
    if not isinstance(part, torch.Tensor):
        is_sequence = isinstance(part, (list, tuple))
        if not is_sequence and hasattr(part, "__index__") and not isinstance(part, np.ndarray):
            part = operator.index(part)
        array = np.asarray(part)
        if array.size == 0 and is_sequence:
            array = array.astype(np.int64)  # [] is an empty selection, whatever dtype NumPy gives it
        if array.dtype.kind not in "biu":
            raise IndexError(
                f"index: key {_KINDS}, got {part!r}" if array.dtype.kind not in "fc" else _floats(array)
            )
        if array.dtype.kind != "b":
            array = array.astype(np.int64)
        part = torch.from_numpy(np.ascontiguousarray(array).reshape(array.shape))
    return DNDarray(_integral(part), Layout(tuple(part.shape), None), comm)


def _floats(array: np.ndarray) -> str:
    return f"index: key {_KINDS}, got dtype {array.dtype}; cast with astype first"


def _integral(tensor: torch.Tensor) -> torch.Tensor:
    if tensor.is_floating_point() or tensor.is_complex():
        raise IndexError(
            f"index: key {_KINDS}, got dtype {str(tensor.dtype).split('.')[-1]}; cast with astype first"
        )
    return tensor


def expand_ellipsis(parts: tuple | list, used: int, ndim: int) -> list:
    """Return `parts`, which use `used` axes, with whole slices in place of the ellipsis (or at the end)."""
    if used > ndim:
        raise IndexError(f"index: key must index at most {ndim} axes of a {ndim}-D array, got {used}")
    rest = [_EVERYTHING] * (ndim - used)
    for at, part in enumerate(parts):
        if part is Ellipsis:
            return [*parts[:at], *rest, *parts[at + 1 :]]
    return [*parts, *rest]


def _with_arrays(parts: list, layout: Layout, comm: Communicator, device: torch.device) -> Key:
    """Sort a key with index arrays.

    NumPy's rule of placement: where index arrays and integers stand next to each other, the broadcast axes take their
    place; where a slice, None or an ellipsis (of no axes, too) separates them, the broadcast axes come first.
    """

    def width(part: object) -> int:
        if isinstance(part, DNDarray) and part.larray.dtype is torch.bool:
            return part.ndim
        return 0 if part is None or part is Ellipsis or isinstance(part, bool) else 1

    used = sum(map(width, parts))
    if used > layout.ndim:
        raise IndexError(
            f"index: key must index at most {layout.ndim} axes of a {layout.ndim}-D array, got {used}"
        )
    if not any(part is Ellipsis for part in parts):
        parts = [*parts, Ellipsis]
    items: list = []
    entries: list[Entry] = []
    axis = left = kept = (
        0  # axes of the array passed, axes that the basic part leaves, those of no index array
    )
    groups: list[int] = []  # value of `kept` where each run of index arrays begins
    in_run = False
    for part in parts:
        advanced = isinstance(part, (int, DNDarray))  # bool is an int
        if advanced and not in_run:
            groups.append(kept)
        in_run = advanced
        if part is Ellipsis:
            wide = layout.ndim - used
            items += [_EVERYTHING] * wide
            axis, left, kept = axis + wide, left + wide, kept + wide
        elif not advanced:
            items.append(part)
            axis, left, kept = axis + (part is not None), left + 1, kept + 1
        elif isinstance(part, bool):  # True and False index a new axis of extent 1
            items.append(None)
            entries.append(Entry(left, _constant([0] * part, comm, device)))
            left += 1
        elif isinstance(part, int):
            index = check_index(part, axis, layout.shape[axis])
            if axis == layout.split:  # the rows stay where they are; only what is asked for travels
                entries.append(Entry(left, _constant(index, comm, device)))
                items.append(_EVERYTHING)
                left += 1
            else:
                items.append(index)
            axis += 1
        else:
            wide = width(part)
            if part.larray.dtype is torch.bool and part.shape != layout.shape[axis : axis + wide]:
                raise IndexError(
                    f"index: mask must have the shape {layout.shape[axis : axis + wide]} of axes {axis} to "
                    f"{axis + wide - 1}, got {part.shape}"
                )
            entries.append(Entry(left, part))
            items += [_EVERYTHING] * wide
            axis, left = axis + wide, left + wide
    return Key(tuple(items), tuple(entries), groups[0] if len(groups) == 1 else 0)


def _constant(value: object, comm: Communicator, device: torch.device) -> DNDarray:
    tensor = torch.tensor(value, dtype=torch.int64, device=device)
    return DNDarray(tensor, Layout(tuple(tensor.shape), None), comm)


def check_index(index: int, axis: int, extent: int) -> int:
    """Return `index` in [0, extent)."""
    if not -extent <= index < extent:
        raise IndexError(f"index: key must be in [{-extent}, {extent}) on axis {axis}, got {index}")
    return index + extent if index < 0 else index
