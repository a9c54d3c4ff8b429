"""Parallel writing of HDF5 with stock h5py: never a half-written file, never a parallel HDF5 library.

Rank 0 makes a temporary file in the target's directory, with every contiguous data set already allocated;
all ranks write their byte ranges into it; when all have agreed that all is well it gets the final name in
one step. Until then, and for ever if anything fails, the previous file is as it was.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import h5py
from ht_comm import Communicator
from ht_core.layout import normalize_axis

from .extending import (
    Stored,
    all_or_none,
    check_addition,
    place_item,
    read_stored,
    slice_item,
    starts_of_append,
)
from .hdf5_create import find_offset, make_dataset, open_new
from .hdf5_items import write_items
from .mpio import choose_engine
from .plan_write import Item, plan_items
from .saving import check_mode, save_file

_OP = "save_hdf5"


def save_hdf5(
    x: object,
    path: str | os.PathLike,
    dataset: str | None = None,
    mode: str = "w",
    *,
    dtype: object = None,
    chunks: object = None,
    compression: object = None,
    maxshape: Sequence[int | None] | None = None,
    fillvalue: object = None,
    attrs: object = None,
    dims: object = None,
    append: int | None = None,
    file_slices: object = None,
    engine: str | None = None,
) -> None:
    """Save an array, or several at once, to an HDF5 file, or add to those that it has. Collective.

    Parameters
    ----------
    x : DNDarray, or mapping from data set names to DNDarrays
        Any split, any counts. Tensors, NumPy arrays and numbers are taken too; they must be equal on all
        ranks.
    path : path
        File on a file system that all ranks share. A symbolic link is followed.
    dataset : str
        Name within the file; groups are made as needed. Not given with a mapping.
    mode : {"w", "x", "w-", "a", "r+"}
        "w": a new file, which replaces an existing one. "x", "w-": a new file; there must be none yet. "a":
        add to the file, or make it; the names must be new. "r+": add to an existing file; data sets of the
        same names are replaced. "a" and "r+" work on a copy that replaces the file at the end: they need
        room for both and take the time to copy; put what belongs together into one call.
    dtype : dtype, optional
        Element type on disk; by default that of `x`. bfloat16 is stored as a 16-bit float that any HDF5
        reader converts.
    chunks : bool or tuple of int, optional
        Chunk shape; True chooses chunks of about 1 MiB. By default contiguous, unless compressed.
    compression : optional
        "gzip" or a gzip level 0..9: shuffled and compressed by all ranks at once. "lzf" or another filter of
        h5py (e.g. from hdf5plugin): ranks write in turn.
    maxshape : tuple of int or None, optional
        Extents up to which other programs may resize the data sets, None without limit; makes them chunked.
    fillvalue : number, optional
        What a reader finds where a data set was enlarged and not written.
    attrs : mapping, optional
        Attributes of the data set; with a mapping `x`, a mapping from names to such mappings.
    dims : sequence of str or None, optional
        Names of the axes; with a mapping `x`, a mapping from names to such sequences. Where the file has a
        1-D data set of that name and length in the same group, it becomes the scale of the axis.
    append : int, optional
        Add `x` behind what the data set holds along this axis, in mode "a" or "r+". The data set must be able to
        grow along it; in mode "a" one that is not there is made so. Type, chunks, filters and attributes stay as they
        were when it was made; what this call says of them matters only then.
    file_slices : int, slice, Ellipsis or tuple of these, optional
        Put `x` into this part of the data set, in mode "a" or "r+": as in ``dataset[file_slices] = x``, without
        steps. It grows as far as its `maxshape` allows; gaps are fill value.
    engine : {"auto", "posix", "mpio"}, optional
        "posix": as the table of the package's README says. "mpio": through parallel HDF5, where h5py is built
        with it, except for filters other than gzip and additions to chunked data sets. "auto", which the environment
        variable ``HT_IO_ENGINE`` can change: "mpio" for additions to contiguous data sets, if it is there, and "posix"
        for the rest, which was not slower anywhere.

    Distribution
    ------------
    Any split, which stays what it is. Contiguous: a broadcast of a few integers and three one-number
    agreements in all; arrays not split along axis 0 whose rows are cut into short pieces are first moved to
    whole rows, 32 MiB per rank at a time. Chunked: as the compressed data travels to rank 0, in waves of 16
    MiB per rank. Added to: one allreduce of three integers more; chunks that were partly full are read and completed;
    contiguous data sets are written by ranks in turn.

    Raises
    ------
    FileNotFoundError, FileExistsError, IsADirectoryError, PermissionError, OSError
        The file cannot be made, or the disk is full.
    ValueError, TypeError, KeyError, DTypeError
        An argument does not fit; a name exists (mode "a").

    All ranks raise the same error, nothing is left behind, and a file that was there before is unchanged. If
    a process is killed during a save the file is unchanged too; the temporary file
    (``.name.host-process-number.tmp``) that is then left is removed by the next save of that name on that
    host.

    Examples
    --------
    >>> import ht_core, ht_io
    >>> x = ht_core.arange(10, split=0)
    >>> ht_io.save_hdf5({"x": x, "group/y": x * 2}, "two.h5", attrs={"x": {"unit": "m"}})
    >>> ht_io.load_hdf5("two.h5", "group/y", split=0).sum().item()
    90
    >>> ht_io.save_hdf5(ht_core.zeros((0, 4)), "steps.h5", "x", maxshape=(None, 4))
    >>> for step in range(3):
    ...     ht_io.save_hdf5(ht_core.full((1, 4), step), "steps.h5", "x", "a", append=0)
    >>> ht_io.load_hdf5("steps.h5", "x").shape
    (3, 4)
    """
    check_mode(mode, _OP)

    def plan(limits: object) -> tuple[list[Item], Communicator]:
        options = {"maxshape": limits, "fill": fillvalue, "dims": dims}
        return plan_items(x, dataset, dtype, chunks, compression, attrs, _OP, **options)

    def limits(name: str, shape: tuple[int, ...]) -> tuple[int | None, ...]:
        return _growing(maxshape, shape, append)

    items, comm = plan(maxshape if append is None else limits)
    if append is not None or file_slices is not None:
        check_addition(mode, append, file_slices, _OP)
        found = read_stored(path, [item.name for item in items], comm, _OP)
        if all_or_none(found, items, file_slices, path, _OP):
            items = [_placed(item, found[item.name], path, append, file_slices) for item in items]
    save_items(items, path, mode, comm, _OP, engine=engine, finish=_name_axes)


def _growing(maxshape: Sequence[int | None] | None, shape: tuple[int, ...], append: int) -> tuple | None:
    """Return the limits of a new data set that may grow along axis `append`."""
    axis = normalize_axis(append, len(shape), _OP, "append")
    limits = shape if maxshape is None else maxshape
    return tuple(None if i == axis else n for i, n in enumerate(limits))


def _placed(item: Item, stored: Stored, path: str | os.PathLike, append: int | None, slices: object) -> Item:
    if append is not None:
        axis = normalize_axis(append, len(stored.shape), _OP, "append")
        return place_item(item, stored, starts_of_append(item, stored, axis, _OP), path, _OP)
    return slice_item(item, stored, slices, path, _OP)


def save_items(
    items: list[Item],
    path: str | os.PathLike,
    mode: str,
    comm: Communicator,
    op: str,
    *,
    engine: str | None = None,
    ordered: bool = False,
    facts: str = "",
    prepare: Callable[[h5py.File], None] = lambda file: None,
    finish: Callable[[h5py.File, list[Item]], None] = lambda file, items: None,
) -> None:
    """Save planned items to an HDF5 file; `prepare` and `finish` run on rank 0 before and after it makes the data
    sets, `facts` are further ones that must be equal on all ranks.
    """
    items = choose_engine(items, engine, comm, op)

    def create(temporary: str, keep: bool) -> list[int]:
        with open_new(temporary, keep, os.path.realpath(os.fsdecode(path)), op, ordered) as file:
            prepare(file)
            for item in items:
                make_dataset(file, item, mode, op)
            finish(file, items)
            return [find_offset(file, item, op) for item in items]

    save_file(
        path,
        mode,
        create,
        lambda temporary, offsets: write_items(temporary, items, offsets, comm),
        facts=" ".join(item.signature() for item in items) + facts,
        needed=sum(item.nbytes for item in items if item.method == "raw"),
        comm=comm,
        op=op,
    )


def _name_axes(file: h5py.File, items: list[Item]) -> None:
    """Label the axes and attach the scales that the file has for them."""
    for item in items:
        if item.place is not None:
            continue
        made = file[item.name]
        for axis, name in enumerate(item.dims or ()):
            if name is None:
                continue
            made.dims[axis].label = name
            scale = made.parent.get(name)
            if isinstance(scale, h5py.Dataset) and scale.shape == (made.shape[axis],) and scale != made:
                if not scale.is_scale:
                    scale.make_scale(name)
                made.dims[axis].attach_scale(scale)
