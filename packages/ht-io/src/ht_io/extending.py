"""What it means to write into data sets that are there already: where new elements go, and what grows.

Planning is pure; reading what there is takes one message.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace

import h5py
from ht_comm import Communicator
from ht_core import Layout, types
from ht_core.errors import LayoutError

from .cf_pack import Packer, packer_of
from .classic import Header
from .hdf5_read import open_to_read
from .hdf5_scales import axis_names, common_shape
from .loading import agree_same
from .netcdf_read import is_classic, read_header
from .plan_write import Item, Place
from .storage import check_cast, stored_dtype


@dataclass(frozen=True, slots=True)
class Stored:
    """A data set of the file as it is: extents, limits, chunks, type, names of its axes, how values are packed.

    `begin` is where the next elements along each axis go: its extents, or for NetCDF those of its dimensions.
    """

    shape: tuple[int, ...]
    begin: tuple[int, ...]
    maxshape: tuple[int | None, ...]
    chunks: tuple[int, ...] | None
    dtype: types.dtype
    dims: tuple[str | None, ...]
    packer: Packer | None = None


def read_stored(
    path: str | os.PathLike, names: list[str], comm: Communicator, op: str, is_netcdf: bool = False
) -> dict[str, Stored] | Header:
    """Return the data sets `names` so far as the file has them; none if there is no file; of a classic NetCDF file
    the header. Collective.

    Distribution
    ------------
    Every rank looks at the file; one allreduce of three integers.
    """
    found: dict[str, Stored] | Header = {}
    error = None
    try:
        if is_netcdf and os.path.isfile(path) and is_classic(path):
            with open(path, "rb", buffering=0) as file:
                found = read_header(file, os.fsdecode(path))
        elif os.path.exists(path):
            with open_to_read(path, op) as file:
                for name in names:
                    if isinstance(file.get(name), h5py.Dataset):
                        found[name] = _describe(file[name], op, is_netcdf)
    except Exception as failure:
        error = failure
    agree_same(comm, f"{os.fspath(path)!r} with {found}", error, op)
    return found


def _describe(dataset: h5py.Dataset, op: str, is_netcdf: bool) -> Stored:
    dtype = stored_dtype(dataset, op)
    begin = common_shape(dataset) if is_netcdf else dataset.shape
    packer = packer_of(dtype, dict(dataset.attrs), op) if is_netcdf else None
    names = axis_names(dataset)
    return Stored(dataset.shape, begin, dataset.maxshape, dataset.chunks, dtype, names, packer)


def place_item(item: Item, stored: Stored, starts: tuple[int, ...], path: str, op: str) -> Item:
    """Return the item as it goes to `starts` in the data set `stored` of the file at `path`.

    Raises
    ------
    LayoutError, DTypeError
        It does not fit.
    """
    shape = item.layout.shape
    check_cast(types.of(item.local), stored.dtype, op)
    after = []
    for axis, (start, count, before, limit) in enumerate(zip(starts, shape, stored.shape, stored.maxshape)):
        if limit is not None and start + count > limit:
            raise LayoutError(
                f"{op}: x must fit into {item.name!r}, which may have {limit} indices along axis {axis}, got "
                f"{count} from index {start} on; only data sets made with maxshape=, or unlimited, grow"
            )
        after.append(max(before, start + count))
    place = Place(starts, stored.shape, tuple(after), os.path.realpath(os.fsdecode(path)))
    method = "none" if item.layout.size == 0 else "chunks" if stored.chunks else "turns"
    chosen = {"dtype": stored.dtype, "chunks": stored.chunks, "packer": stored.packer, "place": place}
    return replace(item, method=method, dims=stored.dims, fill=None, maxshape=None, attrs={}, **chosen)


def starts_of_append(item: Item, stored: Stored, axis: int, op: str) -> tuple[int, ...]:
    """Return where the elements of `item` go when they follow those of the data set along `axis`."""
    shape = item.layout.shape if not item.is_scalar else ()
    good = len(shape) == len(stored.begin)
    if not good or any(a != b for i, (a, b) in enumerate(zip(shape, stored.begin)) if i != axis):
        raise LayoutError(
            f"{op}: x must have the shape of {item.name!r}, {stored.begin}, but for axis {axis}, along which it is "
            f"added, got {shape}"
        )
    return tuple(extent if i == axis else 0 for i, extent in enumerate(stored.begin))


def plan_slices(
    shape: tuple[int, ...], name: str, given: object, stored: Stored, op: str
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return where in a data set an array of `shape` begins, and which axes it lacks as they have integers.

    >>> old = Stored((4, 3), (4, 3), (None, 3), None, types.float32, ())
    >>> plan_slices((2, 3), "x", slice(4, 6), old, "save"), plan_slices((3,), "x", (-1,), old, "save")
    (((4, 0), ()), ((3, 0), (0,)))
    """
    entries = given if isinstance(given, tuple) else (given,)
    if any(e is Ellipsis for e in entries):
        at = next(i for i, e in enumerate(entries) if e is Ellipsis)
        missing = len(stored.begin) - len(entries) + 1
        entries = (*entries[:at], *(slice(None),) * missing, *entries[at + 1 :])
    entries = (*entries, *(slice(None),) * (len(stored.begin) - len(entries)))
    kept = [e for e in entries if isinstance(e, slice) or e is None]
    if len(entries) != len(stored.begin) or len(kept) != len(shape):
        raise LayoutError(
            f"{op}: file_slices must have an entry for each of {len(stored.begin)} axes of {name!r}, and x an axis "
            f"for each that is no integer, got {given!r} for x of shape {shape}"
        )
    counts = iter(shape)
    starts, single = [], []
    for axis, (entry, extent) in enumerate(zip(entries, stored.begin)):
        is_slice = isinstance(entry, slice) or entry is None
        count = next(counts) if is_slice else 1
        starts.append(_start(entry, extent, count, axis, op))
        if not is_slice:
            single.append(axis)
    return tuple(starts), tuple(single)


def slice_item(item: Item, stored: Stored, slices: object, path: str | os.PathLike, op: str) -> Item:
    """Return the item as it goes to the part `slices` of a data set."""
    shape = () if item.is_scalar else item.layout.shape
    starts, single = plan_slices(shape, item.name, slices, stored, op)
    return place_item(insert_axes(item, single), stored, starts, path, op)


def insert_axes(item: Item, axes: tuple[int, ...]) -> Item:
    """Return the item with axes of one index, which `axes` are in the result."""
    local, layout = item.local, item.layout
    if item.is_scalar:  # it has an axis of one index already
        axes = axes[1:]
    shape, split = list(layout.shape), layout.split
    for axis in axes:
        local = local.unsqueeze(axis)
        shape.insert(axis, 1)
        split += axis <= split
    return replace(item, local=local, layout=Layout(tuple(shape), split, layout.counts), is_scalar=False)


def _start(entry: object, extent: int, count: int, axis: int, op: str) -> int:
    """Return the first index that an entry means; an open end is where `count` indices end."""
    first, last, step = (
        (entry.start, entry.stop, entry.step) if isinstance(entry, slice) else (entry, None, None)
    )
    good = all(n is None or hasattr(n, "__index__") for n in (first, last, step)) and step in (None, 1)
    start = 0 if first is None else (int(first) + extent if good and first < 0 else first)
    if good and last is not None:
        good = (last + extent if last < 0 else last) - start == count
    elif good and isinstance(entry, slice) and first is None:
        good = count == extent
    if not good or start < 0:
        raise LayoutError(
            f"{op}: file_slices must be integers or slices without steps, as long as x, got {entry} for axis "
            f"{axis} of {extent} indices, and {count} of x"
        )
    return int(start)


def check_addition(mode: str, append: object, file_slices: object, op: str) -> None:
    """Refuse what contradicts writing into data sets that are there."""
    if append is not None and file_slices is not None:
        raise ValueError(f"{op}: append must be None with file_slices, got {append!r} and {file_slices!r}")
    if mode not in ("a", "r+"):
        what = "append" if append is not None else "file_slices"
        raise ValueError(f"{op}: mode must be 'a' or 'r+' with {what}, got {mode!r}")


def all_or_none(
    found: Mapping[str, object], items: list[Item], slices: object, path: object, op: str
) -> bool:
    """Tell whether the file has the data sets; refuse a file that has some of them, or none to put slices into."""
    missing = [item.name for item in items if item.name not in found]
    if missing and slices is not None:
        raise KeyError(
            f"{op}: dataset must be one of the file with file_slices, got {missing[0]!r}, which is not in "
            f"{os.fspath(path)!r}"
        )
    if found and missing:
        raise KeyError(
            f"{op}: x must hold data sets of which the file has all, or none, got {missing[0]!r}, which is not in "
            f"{os.fspath(path)!r}, and {next(iter(found))!r}, which is"
        )
    return bool(found)
