"""What a save will do, from facts that every rank knows: names, types, who writes what. No file, no
message.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from ht_comm import Communicator, get_comm
from ht_core import DNDarray, Layout, array, types

from .cf_pack import Packer
from .selection import plan_chunks
from .storage import check_cast

#: Ranges of a file shorter than this are not written one by one: the data is moved to rows first.
SMALL_RANGE = 64 << 10
#: Replicated arrays up to this size are written by rank 0 alone.
SMALL_ARRAY = 1 << 20
#: Indices and bytes that a chunk of an array that grows has at least room for, along the axis along which it grows.
_GROWTH, _GROWTH_BYTES = 1024, 64 << 10

Method = Literal["none", "raw", "chunks", "turns", "mpio"]


@dataclass(frozen=True, slots=True)
class Place:
    """Where an item goes in a data set that is in the file already.

    Attributes
    ----------
    starts : tuple of int
        Index of its first element, per axis.
    before, after : tuple of int
        Extents of the data set as it is and as it will be.
    source : str
        The file as it is, which nobody writes: a copy of it gets the new elements.
    """

    starts: tuple[int, ...]
    before: tuple[int, ...]
    after: tuple[int, ...]
    source: str


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
        each rank through h5py in turn (any filter); "mpio": by parallel HDF5; "none": no elements.
    chunks, level, compression, attrs
        Chunk shape or None; gzip level or None; what h5py is given for "turns"; attributes.
    is_scalar : bool
        0-d on disk, although `local` and `layout` have an axis of length 1.
    maxshape, fill, dims
        Extents up to which it may grow, fill value (an array of one element of the type on disk), names of
        the axes; or None.
    swapped : bool
        The bytes on disk are big-endian and those in memory are not.
    record : int
        Bytes from one index of axis 0 to the next on disk, if they do not follow each other; 0 if they do.
    packer : Packer or None
        How values become the numbers on disk, if not by a cast.
    place : Place or None
        Where it goes in a data set that is there; by default it makes a new one.
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
    maxshape: tuple[int | None, ...] | None = None
    fill: np.ndarray | None = None
    dims: tuple[str | None, ...] | None = None
    swapped: bool = False
    record: int = 0
    packer: Packer | None = None
    place: Place | None = None

    @property
    def starts(self) -> tuple[int, ...]:
        """Index of the first element in the data set, per axis."""
        return self.place.starts if self.place else (0,) * len(self.layout.shape)

    @property
    def extents(self) -> tuple[int, ...]:
        """Extents of the data set when all is written."""
        return self.place.after if self.place else self.layout.shape

    @property
    def nbytes(self) -> int:
        """Bytes of the elements on disk, uncompressed."""
        return self.layout.size * self.dtype.itemsize

    @property
    def is_cast(self) -> bool:
        """The elements on disk are other bytes than those in memory."""
        is_same = self.local.dtype is self.dtype.torch and self.local.device.type == "cpu"
        return not is_same or self.swapped or self.packer is not None

    def fill_block(self, part: torch.Tensor, out: torch.Tensor) -> None:
        """Fill `out`, a CPU tensor of the type on disk, with `part` of the elements: gathers strides, casts or
        packs, fetches from the device.
        """
        if self.packer is None:
            out.copy_(part)
        else:
            self.packer.encode(part, out)

    def signature(self) -> str:
        """Return the facts that must be equal on all ranks, as text."""
        what = f"{self.name} {self.layout} {self.dtype} {self.method} {self.chunks} {self.level} {self.dims}"
        return f"{what} {self.packer} {self.place}"


def plan_items(
    x: object,
    dataset: object,
    dtype: object,
    chunks: object,
    compression: object,
    attrs: object,
    op: str,
    *,
    maxshape: object = None,
    fill: object = None,
    dims: object = None,
) -> tuple[list[Item], Communicator]:
    """Return the data sets that a call means and the communicator that writes them; all errors of arguments
    are raised here.

    `maxshape` may be a function from (name, shape) to the tuple or None.
    """
    if isinstance(x, Mapping):
        if dataset is not None:
            raise TypeError(
                f"{op}: dataset must not be given with a mapping, whose keys are the names, got {dataset!r}"
            )
        arrays = dict(x)
        attributes, axes = ({} if given is None else given for given in (attrs, dims))
        for what, given in (("attrs", attributes), ("dims", axes)):
            if not isinstance(given, Mapping):
                raise TypeError(f"{op}: {what} must be a mapping, as x is one, got {given!r}")
            unknown = [key for key in given if key not in arrays]
            if unknown:
                raise KeyError(f"{op}: {what} must be a mapping from the names of x, got {unknown[0]!r}")
    else:
        if dataset is None:
            raise TypeError(f"{op}: dataset must be a name (or x a mapping from names to arrays), got None")
        arrays, attributes, axes = {dataset: x}, {dataset: {} if attrs is None else attrs}, {dataset: dims}
    names = [_check_name(name, op) for name in arrays]
    _check_tree(names, op)
    comm = _common_comm(arrays.values(), op)
    target = None if dtype is None else types.canonical(dtype)
    items = []
    for name, (key, value) in zip(names, arrays.items()):
        found = as_array(value, op, comm, key)
        limits = maxshape(name, found.shape) if callable(maxshape) else maxshape
        limits = _check_maxshape(limits, found.shape, op)
        cut = True if chunks is None and limits is not None else chunks
        item = _plan_item(name, found, target, cut, compression, attributes.get(key, {}), op, limits)
        item = replace(item, fill=_check_fill(fill, item.dtype, op))
        items.append(replace(item, dims=_check_dims(axes.get(key), found.ndim, op)))
    return items, comm


def _check_maxshape(limits: object, shape: tuple[int, ...], op: str) -> tuple[int | None, ...] | None:
    if limits is None:
        return None
    good = isinstance(limits, (tuple, list)) and len(limits) == len(shape) and shape
    if not good or any(
        n is not None and (not hasattr(n, "__index__") or n < m) for n, m in zip(limits, shape)
    ):
        raise ValueError(
            f"{op}: maxshape must be None or at least the extent for each axis of {shape}, got {limits!r}"
        )
    return tuple(None if n is None else int(n) for n in limits)


def _check_fill(fill: object, dtype: types.dtype, op: str) -> np.ndarray | None:
    if fill is None:
        return None
    if dtype is types.bfloat16:
        raise ValueError(f"{op}: fillvalue must be None for bfloat16, got {fill!r}")
    try:
        return np.array(fill, dtype=dtype.numpy).reshape(())
    except (TypeError, ValueError, OverflowError) as error:
        raise TypeError(f"{op}: fillvalue must be a number of type {dtype}, got {fill!r} ({error})") from None


def _check_dims(dims: object, ndim: int, op: str) -> tuple[str | None, ...] | None:
    if dims is None:
        return None
    dims = (dims,) if isinstance(dims, str) else dims
    good = isinstance(dims, (tuple, list)) and len(dims) == ndim
    if not good or not all(name is None or isinstance(name, str) for name in dims):
        raise ValueError(f"{op}: dims must be one name or None per axis, {ndim} here, got {dims!r}")
    return tuple(dims)


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


def as_array(value: object, op: str, comm: Communicator | None = None, name: object = "x") -> DNDarray:
    """Return `value` if it is a DNDarray, or what is equal on all ranks as a replicated one."""
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
    maxshape: tuple[int | None, ...] | None = None,
) -> Item:
    stored = types.of(x.larray)
    target = stored if target is None else target
    check_cast(stored, target, op)
    if not isinstance(attrs, Mapping):
        raise TypeError(f"{op}: attrs must be a mapping from names to values, got {attrs!r}")
    local, layout = x.larray.detach(), x.layout
    shape = layout.shape
    compression, level, by_turns = _plan_filter(compression, op)
    room = shape if maxshape is None else _room(shape, maxshape, target.itemsize)
    limits = shape if maxshape is None else tuple(1 << 40 if n is None else n for n in maxshape)
    chunks = _check_chunks(chunks, compression is not None, room, limits, target.itemsize, op)
    method: Method = "raw" if chunks is None else "turns" if by_turns else "chunks"
    if layout.size == 0:
        method, chunks = "none", chunks if maxshape is not None else None
    if layout.split is None:
        local, layout = _share_rows(local, layout, target, x.comm, chunks[0] if chunks else 1)
    return Item(name, local, layout, target, method, chunks, level, compression, attrs, not shape, maxshape)


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


def _room(shape: tuple[int, ...], maxshape: tuple[int | None, ...], itemsize: int) -> tuple[int, ...]:
    """Return the extents for which chunks are chosen: where an array grows, some more of what is short."""
    room = [max(n, 1) for n in shape]
    for axis, limit in enumerate(maxshape):
        if limit is None:
            row = math.prod(room) // room[axis] * itemsize
            room[axis] = max(room[axis], min(_GROWTH, _GROWTH_BYTES // row))
    return tuple(room)


def _check_chunks(
    chunks: object, needed: bool, shape: tuple[int, ...], limits: tuple[int, ...], itemsize: int, op: str
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
    if not good or any(not hasattr(c, "__index__") or not 1 <= c <= n for c, n in zip(chunks, limits)):
        raise ValueError(
            f"{op}: chunks must be True or one extent in [1, n] per axis of {limits}, got {chunks!r}"
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
