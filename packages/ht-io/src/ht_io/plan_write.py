"""What a save will do, from facts that every rank knows: names, types, who writes what. No file, no
message.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from ht_comm import Communicator, get_comm
from ht_core import DNDarray, Layout, array, types

from .selection import plan_chunks
from .storage import check_cast

#: Ranges of a file shorter than this are not written one by one: the data is moved to rows first.
SMALL_RANGE = 64 << 10
#: Replicated arrays up to this size are written by rank 0 alone.
SMALL_ARRAY = 1 << 20

Method = Literal["none", "raw", "chunks", "turns"]


@dataclass(frozen=True, slots=True)
class Item:
    """One data set to be written.

    Attributes
    ----------
    name : str
        Without leading slash.
    local : torch.Tensor
        What this rank holds of it.
    layout : Layout
        Where the elements are; the split is the axis along which ranks write, also for replicated arrays.
    dtype : types.dtype
        Element type on disk.
    method : str
        "raw": byte ranges of a contiguous data set; "chunks": compressed by all, stored by rank 0; "turns":
        each rank through h5py in turn (any filter); "none": no elements.
    chunks, level, compression, attrs
        Chunk shape or None; gzip level or None; what h5py is given for "turns"; attributes.
    is_scalar : bool
        0-d on disk, although `local` and `layout` have an axis of length 1.
    """

    name: str
    local: torch.Tensor
    layout: Layout
    dtype: types.dtype
    method: Method
    chunks: tuple[int, ...] | None
    level: int | None
    compression: object
    attrs: Mapping[str, object]
    is_scalar: bool = False

    @property
    def nbytes(self) -> int:
        """Bytes of the elements on disk, uncompressed."""
        return self.layout.size * self.dtype.itemsize

    def signature(self) -> str:
        """Return the facts that must be equal on all ranks, as text."""
        return f"{self.name} {self.layout} {self.dtype} {self.method} {self.chunks} {self.level}"


def plan_items(
    x: object, dataset: object, dtype: object, chunks: object, compression: object, attrs: object, op: str
) -> tuple[list[Item], Communicator]:
    """Return the data sets that a call means and the communicator that writes them; all errors of arguments
    are raised here.
    """
    if isinstance(x, Mapping):
        if dataset is not None:
            raise TypeError(
                f"{op}: dataset must not be given with a mapping, whose keys are the names, got {dataset!r}"
            )
        arrays = dict(x)
        attributes = {} if attrs is None else attrs
        unknown = [key for key in attributes if key not in arrays]
        if unknown:
            raise KeyError(
                f"{op}: attrs must be a mapping from the names of x to attributes, got {unknown[0]!r}"
            )
    else:
        if dataset is None:
            raise TypeError(f"{op}: dataset must be a name (or x a mapping from names to arrays), got None")
        arrays, attributes = {dataset: x}, {dataset: {} if attrs is None else attrs}
    names = [_check_name(name, op) for name in arrays]
    _check_tree(names, op)
    comm = _common_comm(arrays.values(), op)
    target = None if dtype is None else types.canonical(dtype)
    items = [
        _plan_item(
            name, _as_array(value, comm, op, key), target, chunks, compression, attributes.get(key, {}), op
        )
        for name, (key, value) in zip(names, arrays.items())
    ]
    return items, comm


def _check_name(name: object, op: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"{op}: dataset must be a string, got {name!r}")
    parts = [part for part in name.split("/") if part]
    if not parts or any(part in (".", "..") for part in parts) or "\0" in name:
        raise ValueError(f"{op}: dataset must be a name such as 'group/values', got {name!r}")
    return "/".join(parts)


def _check_tree(names: list[str], op: str) -> None:
    """Refuse names of which one is another or a group of another."""
    taken = set()
    for name in sorted(names):
        parts = name.split("/")
        if any("/".join(parts[:n]) in taken for n in range(1, len(parts) + 1)):
            raise ValueError(
                f"{op}: dataset must be a different name for each array, none within another, got {name!r}"
            )
        taken.add(name)


def _common_comm(values: object, op: str) -> Communicator:
    found = [value.comm for value in values if isinstance(value, DNDarray)]
    for comm in found[1:]:
        if comm is not found[0]:
            raise ValueError(f"{op}: x must hold arrays of one communicator, got {found[0]!r} and {comm!r}")
    return found[0] if found else get_comm()


def _as_array(value: object, comm: Communicator, op: str, name: object) -> DNDarray:
    if isinstance(value, DNDarray):
        return value
    try:
        return array(value, comm=comm)  # equal on all ranks: replicated
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"{op}: x must be an array, got {type(value).__name__} for {name!r} ({error})"
        ) from None


def _plan_item(
    name: str,
    x: DNDarray,
    target: types.dtype | None,
    chunks: object,
    compression: object,
    attrs: object,
    op: str,
) -> Item:
    stored = types.of(x.larray)
    target = stored if target is None else target
    check_cast(stored, target, op)
    if not isinstance(attrs, Mapping):
        raise TypeError(f"{op}: attrs must be a mapping from names to values, got {attrs!r}")
    local, layout = x.larray.detach(), x.layout
    shape = layout.shape
    compression, level, by_turns = _plan_filter(compression, op)
    chunks = _check_chunks(chunks, compression is not None, shape, target.itemsize, op)
    method: Method = "raw" if chunks is None else "turns" if by_turns else "chunks"
    if layout.size == 0:
        method, chunks = "none", None
    if layout.split is None:
        local, layout = _share_rows(local, layout, target, x.comm, chunks[0] if chunks else 1)
    return Item(name, local, layout, target, method, chunks, level, compression, attrs, is_scalar=not shape)


def _plan_filter(compression: object, op: str) -> tuple[object, int | None, bool]:
    """Return what to tell h5py, the gzip level if it is gzip, and whether ranks must write in turn."""
    if compression is None:
        return None, None, False
    is_level = isinstance(compression, int) and not isinstance(compression, bool)
    if compression == "gzip" or (is_level and 0 <= compression <= 9):
        return "gzip", 4 if compression == "gzip" else compression, False
    if isinstance(compression, (bool, int)) or (
        isinstance(compression, str) and compression not in ("lzf", "szip")
    ):
        known = "'gzip', a gzip level 0..9, 'lzf' or a filter of h5py"
        raise ValueError(f"{op}: compression must be {known}, got {compression!r}")
    return compression, None, True


def _check_chunks(
    chunks: object, needed: bool, shape: tuple[int, ...], itemsize: int, op: str
) -> tuple[int, ...] | None:
    if chunks is None or chunks is False:
        chunks = True if needed else None
    if (
        chunks is None or not shape or 0 in shape
    ):  # HDF5 has no chunks of scalars; without elements there is nothing to cut
        return None
    if chunks is True:
        return plan_chunks(shape, itemsize)
    if hasattr(chunks, "__index__"):
        chunks = (chunks,)
    good = isinstance(chunks, (tuple, list)) and len(chunks) == len(shape)
    if not good or any(not hasattr(c, "__index__") or not 1 <= c <= n for c, n in zip(chunks, shape)):
        raise ValueError(
            f"{op}: chunks must be True or one extent in [1, n] per axis of {shape}, got {chunks!r}"
        )
    if math.prod(chunks) * itemsize >= 1 << 32:
        raise ValueError(
            f"{op}: chunks must be of less than 4 GiB, got {chunks!r} of {itemsize}-byte elements"
        )
    return tuple(int(c) for c in chunks)


def _share_rows(
    local: torch.Tensor, layout: Layout, dtype: types.dtype, comm: Communicator, multiple: int
) -> tuple[torch.Tensor, Layout]:
    """Deal the rows of a replicated array to the ranks that write them: even parts, of whole chunks; small
    ones to rank 0.
    """
    if not layout.shape:
        local, layout = local.reshape(1), Layout.replicated((1,))
    rows = layout.shape[0]
    parts = [rows] + [0] * (comm.size - 1)
    if layout.size * dtype.itemsize > SMALL_ARRAY:
        bands = Layout.even((-(-rows // multiple),), 0, comm.size)
        edges = [min(multiple * band, rows) for band in (*bands.displs, bands.shape[0])]
        parts = [stop - start for start, stop in itertools.pairwise(edges)]
    layout = Layout(layout.shape, 0, parts)
    return local[layout.slices(comm.rank)], layout
