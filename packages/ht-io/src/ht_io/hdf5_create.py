"""What rank 0 does to an HDF5 file before all ranks write: data sets, attributes, room. No message."""

from __future__ import annotations

import errno
from collections.abc import Mapping

import h5py

from .hdf5_file import WritableFile
from .plan_write import Item
from .storage import file_type


def open_new(path: str, keep: bool, target: str, op: str, ordered: bool = False) -> h5py.File:
    """Make the file at `path`, or open the copy of the previous one there; `ordered`: groups list their members in
    the order in which they were made, as netCDF wants it.
    """
    if not keep:
        return WritableFile(path, "w-", track_order=ordered or None)
    try:
        return WritableFile(path, "r+")
    except OSError as error:
        text = f"{op}: path must be a complete HDF5 file to be added to, got {target!r} ({error})"
        raise OSError(error.errno or errno.EIO, text) from None


def make_dataset(file: h5py.File, item: Item, mode: str, op: str) -> h5py.Dataset:
    """Make the data set of `item`, allocated where ranks will write by byte ranges, with its attributes; or let
    the one that is there grow.
    """
    if item.place is not None:
        return _grow_dataset(file, item, op)
    _make_room(file, item.name, mode, op)
    shape = item.layout.shape if not item.is_scalar else ()
    if item.chunks and item.compression is not None and item.level is None:  # whoever writes it
        made = file.create_dataset(
            item.name,
            shape,
            dtype=h5py.Datatype(file_type(item.dtype)),
            chunks=item.chunks,
            compression=item.compression,
            maxshape=item.maxshape,
            fillvalue=item.fill,
        )
    else:
        made = _make_plain(file, item, shape)
    set_attributes(made, item.attrs, op)
    return made


def _grow_dataset(file: h5py.File, item: Item, op: str) -> h5py.Dataset:
    found = file[item.name]
    if found.shape != item.place.before:
        text = f"{op}: path must be a file that nobody else changes, got {item.place.source!r} with {item.name!r} of"
        raise OSError(errno.EBUSY, f"{text} {found.shape} instead of {item.place.before}")
    if found.shape != item.place.after:
        found.resize(item.place.after)
    return found


def _make_plain(file: h5py.File, item: Item, shape: tuple[int, ...]) -> h5py.Dataset:
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # every byte is written by a rank
    plist.set_obj_track_times(False)  # equal data makes equal files
    if item.fill is not None:
        plist.set_fill_value(item.fill)
    if item.chunks:
        if item.maxshape is not None:
            plist.set_fill_time(h5py.h5d.FILL_TIME_IFSET)  # for the rows that others will add
        plist.set_chunk(item.chunks)
        if item.level is not None:
            plist.set_shuffle()
            plist.set_deflate(item.level)
    else:
        plist.set_layout(h5py.h5d.CONTIGUOUS)
        plist.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)  # so that the data has an address now
    groups = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    groups.set_create_intermediate_group(True)
    groups.set_char_encoding(h5py.h5t.CSET_UTF8)
    limits = None
    if item.maxshape is not None:
        limits = tuple(h5py.h5s.UNLIMITED if n is None else n for n in item.maxshape)
    space = h5py.h5s.create_simple(shape, limits) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
    kind = file_type(item.dtype)
    return h5py.Dataset(h5py.h5d.create(file.id, item.name.encode(), kind, space, dcpl=plist, lcpl=groups))


def set_attributes(made: h5py.HLObject, attrs: Mapping[str, object], op: str) -> None:
    """Set attributes of a data set or group."""
    for key, value in attrs.items():
        try:
            made.attrs[key] = value
        except (TypeError, ValueError) as error:
            text = (
                f"{op}: attrs must hold numbers, text or arrays of them under names, got {key!r}: {value!r}"
            )
            raise TypeError(f"{text} ({error})") from None


def _make_room(file: h5py.File, name: str, mode: str, op: str) -> None:
    """Delete the data set of that name if it is to be replaced; refuse a name that cannot be used."""
    parts = name.split("/")
    for number in range(1, len(parts) + 1):
        taken = "/".join(parts[:number])
        if taken not in file:
            return
        is_dataset, is_last = isinstance(file[taken], h5py.Dataset), number == len(parts)
        if is_last and is_dataset and mode == "r+":
            _detach(file[taken], op)
            del file[taken]
        elif is_last or is_dataset:
            what = "a data set" if is_dataset else "a group"
            text = f"{op}: dataset must be a new name in mode {mode!r}, got {name!r}"
            raise ValueError(f"{text}: {taken!r}, which is {what} already; mode 'r+' replaces data sets")


def _detach(old: h5py.Dataset, op: str) -> None:
    """Cut the links between a data set that will be replaced and its dimension scales."""
    if old.attrs.get("CLASS") == b"DIMENSION_SCALE" and "REFERENCE_LIST" in old.attrs:
        text = f"{op}: dataset must not be a dimension scale of other data sets, got {old.name!r}"
        raise ValueError(f"{text}; it cannot be replaced without them")
    if "DIMENSION_LIST" in old.attrs:
        for axis in old.dims:
            for scale in axis.values():
                axis.detach_scale(scale)


def find_offset(file: h5py.File, item: Item, op: str) -> int:
    """Return the byte at which the data of a contiguous data set begins, -1 for others."""
    if item.method != "raw":
        return -1
    offset = file[item.name].id.get_offset()
    if offset is None:
        raise OSError(
            errno.EIO, f"{op}: HDF5 gave the contiguous data set {item.name!r} no place in the file"
        )
    return offset
