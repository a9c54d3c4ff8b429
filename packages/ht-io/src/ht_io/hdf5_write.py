"""Parallel writing of HDF5 with stock h5py: never a half-written file, never a parallel HDF5 library.

Rank 0 makes a temporary file in the target's directory, with every contiguous data set already allocated;
all ranks write their byte ranges into it; when all have agreed that all is well it gets the final name in
one step. Until then, and for ever if anything fails, the previous file is as it was.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import zlib

import h5py
import numpy as np
from ht_comm import Communicator

from .chunked import write_chunks
from .plan_write import Item, plan_items
from .raw import write_raw
from .replace import Temporary, check_space, remove_stale
from .storage import file_type
from .turns import write_in_turns

_OP = "save_hdf5"
_MODES = ("w", "w-", "x", "a", "r+")
_INLINE_OFFSETS = 8  # data sets whose places fit into the first message


def save_hdf5(
    x: object,
    path: str | os.PathLike,
    dataset: str | None = None,
    *,
    mode: str = "w",
    dtype: object = None,
    chunks: object = None,
    compression: object = None,
    attrs: object = None,
) -> None:
    """Save an array, or several at once, to an HDF5 file. Collective.

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
    attrs : mapping, optional
        Attributes of the data set; with a mapping `x`, a mapping from names to such mappings.

    Distribution
    ------------
    Any split, which stays what it is. Contiguous: a broadcast of a few integers and three one-number
    agreements in all; arrays not split along axis 0 whose rows are cut into short pieces are first moved to
    whole rows, 32 MiB per rank at a time. Chunked: as the compressed data travels to rank 0, in waves of 16
    MiB per rank.

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
    """
    if mode not in _MODES:
        raise ValueError(f"{_OP}: mode must be one of {', '.join(_MODES)}, got {mode!r}")
    name = os.fspath(path)
    name = os.fsdecode(name) if isinstance(name, bytes) else name
    items, comm = plan_items(x, dataset, dtype, chunks, compression, attrs, _OP)
    target = os.path.realpath(name)
    temporary, offsets = _begin(target, mode, items, comm)
    try:
        error = _write(temporary.path, items, offsets, comm)
        comm.agree(error)
        comm.agree(_finish(temporary, mode) if comm.rank == 0 else None)
    finally:
        if comm.rank == 0:
            temporary.remove()


def _begin(target: str, mode: str, items: list[Item], comm: Communicator) -> tuple[Temporary, list[int]]:
    """Let rank 0 make the temporary file; return it and where the data of each item begins (-1: not contiguous)."""
    error: Exception | None = None
    temporary = Temporary.new(target)
    facts = " ".join([target, mode, *(item.signature() for item in items)])
    mark = zlib.crc32(facts.encode("utf-8", "surrogateescape"))
    offsets = np.full(len(items), -1, dtype=np.int64)
    # Of fixed length, so that ranks that were given different things find that out instead of failing in the message.
    header = np.full(5 + _INLINE_OFFSETS, -1, dtype=np.int64)
    if comm.rank == 0:
        try:
            offsets[:] = _create(temporary, mode, items)
            header[:5] = (0, mark, *temporary.token)
            header[5 : 5 + len(items)] = offsets[:_INLINE_OFFSETS]
        except Exception as failure:
            error = _explain(failure, target)
            temporary.remove()
    header = comm.bcast(header, root=0)
    if header[0] == 0 and comm.rank > 0:
        temporary = Temporary(target, tuple(header[2:5].tolist()))
        if header[1] != mark:
            text = f"{_OP}: path and arguments must be the same on every rank"
            error = ValueError(f"{text}, got others than rank 0's for {target!r}")
        elif not os.path.exists(temporary.path):
            text = f"{_OP}: path must be on a file system that all ranks share, got {target!r}"
            error = OSError(errno.EXDEV, text)
    try:
        comm.agree(error)
        if len(items) > _INLINE_OFFSETS:
            return temporary, comm.bcast(offsets, root=0).tolist()
    except BaseException:
        if comm.rank == 0:
            temporary.remove()
        raise
    return temporary, header[5 : 5 + len(items)].tolist()


def _explain(error: Exception, target: str) -> Exception:
    """Return the error of a system call or of HDF5 with the house's text."""
    if not isinstance(error, OSError) or _OP in str(error):
        return error
    number = error.errno or errno.EIO
    text = (
        f"{_OP}: path must be a place where a file can be written, got {target!r} ({error.strerror or error})"
    )
    return OSError(number, text)


def _create(temporary: Temporary, mode: str, items: list[Item]) -> list[int]:
    """Make the temporary file with all data sets and attributes; return the byte offset of each one's data,
    or -1.
    """
    target = temporary.target
    folder = os.path.dirname(target)
    exists = os.path.lexists(target)
    if os.path.isdir(target):
        raise IsADirectoryError(errno.EISDIR, f"{_OP}: path must be a file, got the directory {target!r}")
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, f"{_OP}: path must be in an existing directory, got {target!r}")
    if exists and mode in ("x", "w-"):
        raise FileExistsError(
            errno.EEXIST, f"{_OP}: path must be a new file in mode {mode!r}, got {target!r}"
        )
    if not exists and mode == "r+":
        raise FileNotFoundError(
            errno.ENOENT, f"{_OP}: path must be an existing file in mode 'r+', got {target!r}"
        )
    if exists and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, f"{_OP}: path must be writable by this user, got {target!r}")
    remove_stale(target)
    keep = exists and mode in ("a", "r+")
    needed = sum(item.nbytes for item in items if item.method == "raw")
    check_space(folder, needed + (os.path.getsize(target) if keep else 0), _OP)
    if keep:
        shutil.copyfile(target, temporary.path)
    with _open_copy(temporary, keep) as file:
        for item in items:
            _make_dataset(file, item, mode)
        return [_offset(file, item) for item in items]


def _open_copy(temporary: Temporary, keep: bool) -> h5py.File:
    try:
        return h5py.File(temporary.path, "r+" if keep else "w-")
    except OSError as error:
        if not keep:
            raise
        text = f"{_OP}: path must be a complete HDF5 file to be added to, got {temporary.target!r} ({error})"
        raise OSError(error.errno or errno.EIO, text) from None


def _make_dataset(file: h5py.File, item: Item, mode: str) -> None:
    _make_room(file, item.name, mode)
    shape = item.layout.shape if not item.is_scalar else ()
    if item.method == "turns":
        made = file.create_dataset(
            item.name,
            shape,
            dtype=h5py.Datatype(file_type(item.dtype)),
            chunks=item.chunks,
            compression=item.compression,
        )
    else:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_fill_time(h5py.h5d.FILL_TIME_NEVER)  # every byte is written by a rank
        plist.set_obj_track_times(False)  # equal data makes equal files
        if item.chunks:
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
        space = h5py.h5s.create_simple(shape) if shape else h5py.h5s.create(h5py.h5s.SCALAR)
        kind = file_type(item.dtype)
        made = h5py.Dataset(
            h5py.h5d.create(file.id, item.name.encode(), kind, space, dcpl=plist, lcpl=groups)
        )
    for key, value in item.attrs.items():
        try:
            made.attrs[key] = value
        except (TypeError, ValueError) as error:
            text = (
                f"{_OP}: attrs must hold numbers, text or arrays of them under names, got {key!r}: {value!r}"
            )
            raise TypeError(f"{text} ({error})") from None


def _make_room(file: h5py.File, name: str, mode: str) -> None:
    """Delete the data set of that name if it is to be replaced; refuse a name that cannot be used."""
    parts = name.split("/")
    for number in range(1, len(parts) + 1):
        taken = "/".join(parts[:number])
        if taken not in file:
            return
        is_dataset, is_last = isinstance(file[taken], h5py.Dataset), number == len(parts)
        if is_last and is_dataset and mode == "r+":
            del file[taken]
        elif is_last or is_dataset:
            what = "a data set" if is_dataset else "a group"
            text = f"{_OP}: dataset must be a new name in mode {mode!r}, got {name!r}"
            raise ValueError(f"{text}: {taken!r}, which is {what} already; mode 'r+' replaces data sets")


def _offset(file: h5py.File, item: Item) -> int:
    if item.method != "raw":
        return -1
    offset = file[item.name].id.get_offset()
    if offset is None:
        raise OSError(
            errno.EIO, f"{_OP}: HDF5 gave the contiguous data set {item.name!r} no place in the file"
        )
    return offset


def _write(path: str, items: list[Item], offsets: list[int], comm: Communicator) -> Exception | None:
    """Write all items; ranks go through the same messages whatever fails, and the error is returned."""
    error: Exception | None = None
    handle = None
    try:
        handle = os.open(path, os.O_WRONLY)
    except OSError as failure:
        error = failure
    for item, offset in zip(items, offsets):
        if item.method == "raw":
            failure = write_raw(None if error else handle, offset, item, comm)
            error = error or failure
    try:
        if handle is not None:
            os.fsync(handle)  # also where a full disk shows itself on network file systems
    except OSError as failure:
        error = error or failure
    finally:
        if handle is not None:
            os.close(handle)
    if any(item.method in ("chunks", "turns") for item in items):
        comm.barrier()  # before HDF5 opens the file again
    return _write_filtered(path, items, comm, error)


def _write_filtered(
    path: str, items: list[Item], comm: Communicator, error: Exception | None
) -> Exception | None:
    """Write the chunked items, which go through HDF5."""
    with contextlib.ExitStack() as stack:
        file = None
        if comm.rank == 0 and any(item.method == "chunks" for item in items):
            try:
                file = stack.enter_context(h5py.File(path, "r+"))
            except OSError as failure:
                error = error or failure
        for item in items:
            if item.method == "chunks":
                failure = write_chunks(file[item.name] if file else None, item, comm)
                error = error or failure
    for item in items:
        if item.method == "turns":
            error = write_in_turns(path, item, comm, error)
    return error


def _finish(temporary: Temporary, mode: str) -> Exception | None:
    """Give the file its final name; return what went wrong instead of raising."""
    try:
        temporary.commit(must_be_new=mode in ("x", "w-"))
    except OSError as error:
        return _explain(error, temporary.target)
    return None
