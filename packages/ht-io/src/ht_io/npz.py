"""NumPy's .npz archives: plain members are read and written by byte ranges of each rank, compressed ones are
inflated in passing. Nothing is ever unpickled.
"""

from __future__ import annotations

import errno
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import torch
from ht_comm import Communicator, get_comm
from ht_core import DNDarray, types

from .hdf5_items import write_items
from .loading import Source, agree_same, check_readable, load_source
from .npy import SlabSource, check_new, check_type, npy_header, parse_header, read_header
from .plan_write import plan_items
from .saving import save_file
from .selection import Selection, plan_blocks
from .slabs import Slab, check_length
from .storage import put_along
from .zip_layout import Member, directory, join_checksums, lay_out

_SUFFIX = ".npy"
_PIECE = 8 << 20


def load_npz(
    path: str | os.PathLike,
    name: str | None = None,
    *,
    dtype: object = None,
    split: int | None = None,
    slices: object = None,
    device: object = None,
    comm: Communicator | None = None,
) -> DNDarray | dict[str, DNDarray]:
    """Load an array, or all arrays, from an .npz archive. Collective.

    Parameters
    ----------
    path : path
        Archive that every rank can read.
    name : str, optional
        Name of the array; without it all are loaded.
    dtype, split, slices, device, comm
        As in :func:`load_npy`; `split` and `slices` must fit every array that is loaded.

    Returns
    -------
    DNDarray, or dict of str to DNDarray in the order of the archive if no `name` is given

    Distribution
    ------------
    S(split) or R. One allreduce of three integers per array, and one for the names if none is given. Of a plain
    member each rank reads only its own part. A compressed member is one stream: each rank inflates it up to the
    last byte of its own part and keeps only that, 8 MiB at a time.

    Raises
    ------
    KeyError
        There is no such array; the text lists those there are.
    Exception
        As :func:`load_npy`; the same on all ranks.

    Examples
    --------
    >>> import ht_core, ht_io
    >>> ht_io.save_npz({"a": ht_core.ones(3, split=0), "b": ht_core.zeros((2, 2))}, "two.npz")
    >>> ht_io.load_npz("two.npz", "a", split=0).shape
    (3,)
    >>> sorted(ht_io.load_npz("two.npz"))
    ['a', 'b']
    """
    op = "load_npz"
    options = {"dtype": dtype, "split": split, "slices": slices, "device": device}
    comm = get_comm() if comm is None else comm
    if name is not None:
        return load_source(lambda: open_member(path, name, op), op=op, comm=comm, **options)
    names, error = [], None
    try:
        names = list_members(path, op)
    except Exception as failure:
        error = failure
    agree_same(comm, repr(names), error, op)
    return {
        each: load_source(lambda each=each: open_member(path, each, op), op=op, comm=comm, **options)
        for each in names
    }


def save_npz(
    x: object, path: str | os.PathLike, name: str | None = None, mode: str = "w", *, dtype: object = None
) -> None:
    """Save several arrays to an uncompressed .npz archive. Collective.

    Parameters
    ----------
    x : mapping from names to DNDarrays, or DNDarray
        Any split, any counts. Tensors, NumPy arrays and numbers are taken too; they must be equal on all
        ranks.
    path : path
        File on a file system that all ranks share. No suffix is added.
    name : str, optional
        Name of a single array; "arr_0", as NumPy calls it, if not given.
    mode, dtype
        As in :func:`save_npy`.

    Distribution
    ------------
    As :func:`save_npy`, and, as the archive holds a checksum of each array, every rank reads back an equal
    part of each of them, and one allgather of a number per array joins the results.

    Raises
    ------
    OSError, ValueError, TypeError, DTypeError
        As :func:`save_npy`; the same on all ranks. A file that was there before is then unchanged.

    Examples
    --------
    >>> import numpy, ht_core, ht_io
    >>> ht_io.save_npz({"a": ht_core.arange(3, split=0)}, "one.npz")
    >>> numpy.load("one.npz")["a"]
    array([0, 1, 2])
    """
    op = "save_npz"
    check_new(mode, op)
    if not isinstance(x, Mapping):
        name = "arr_0" if name is None else name
    items, comm = plan_items(x, name, dtype, None, None, None, op)
    headers = [npy_header(check_type(item, op)) for item in items]
    members = [Member(item.name + _SUFFIX, len(h) + item.nbytes) for item, h in zip(items, headers)]
    end = lay_out(members)

    def create(temporary: str, keep: bool) -> list[int]:
        with open(temporary, "xb") as file:
            for member, header in zip(members, headers):
                file.seek(member.data)
                file.write(header)
            file.truncate(end)
        return [member.data + len(header) for member, header in zip(members, headers)]

    def write(temporary: str, offsets: list[int]) -> Exception | None:
        error = write_items(temporary, items, offsets, comm)
        return _seal(temporary, members, end, comm, error)

    save_file(
        path,
        mode,
        create,
        write,
        facts=" ".join(item.signature() for item in items),
        needed=end,
        comm=comm,
        op=op,
    )


def _seal(
    path: str, members: list[Member], end: int, comm: Communicator, error: Exception | None
) -> Exception | None:
    """Compute the checksums of the members and let rank 0 write what needs them; return what went wrong."""
    comm.barrier()  # all data is in the file
    own = np.zeros(len(members), dtype=np.int64)
    edges = [[m.data + m.size * r // comm.size for r in range(comm.size + 1)] for m in members]
    try:
        with open(path, "rb", buffering=0) as file:
            for index, edge in enumerate(edges):
                own[index] = _checksum(file, edge[comm.rank], edge[comm.rank + 1])
    except OSError as failure:
        error = error or failure
    found = comm.allgather(own).reshape(comm.size, len(members)).tolist()
    if comm.rank != 0 or error is not None:
        return error
    for index, (member, edge) in enumerate(zip(members, edges)):
        for rank in range(comm.size):
            member.crc = join_checksums(member.crc, found[rank][index], edge[rank + 1] - edge[rank])
    try:
        with open(path, "r+b") as file:
            for member in members:
                file.seek(member.begin)
                file.write(member.header())
            file.seek(end)
            file.write(directory(members, end))
    except OSError as failure:
        return failure
    return None


def _checksum(file: object, start: int, stop: int) -> int:
    file.seek(start)
    crc = 0
    while start < stop:
        piece = file.read(min(_PIECE, stop - start))
        if not piece:
            raise OSError(errno.EIO, "the file has become shorter while it was written")
        crc = zlib.crc32(piece, crc)
        start += len(piece)
    return crc


@contextmanager
def open_archive(path: object, op: str) -> Iterator[zipfile.ZipFile]:
    """Open an archive for reading, with errors that say what is wrong."""
    name = check_readable(path, op)
    try:
        archive = zipfile.ZipFile(name)
    except (zipfile.BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise OSError(errno.EIO, f"{op}: path must be a complete .npz file, got {name!r} ({error})") from None
    with archive:
        yield archive


def list_members(path: object, op: str) -> list[str]:
    """Return the names of the arrays of an archive."""
    with open_archive(path, op) as archive:
        return [n.removesuffix(_SUFFIX) for n in archive.namelist() if n.endswith(_SUFFIX)]


def read_member_header(archive: zipfile.ZipFile, name: str, op: str) -> tuple[tuple[int, ...], np.dtype]:
    """Return the shape and the type of an array of an open archive."""
    try:
        with archive.open(name + _SUFFIX) as stream:
            shape, _, dtype = parse_header(stream, f"{archive.filename}/{name}", op)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
        text = f"{op}: path must be an undamaged file, got {archive.filename!r}, which fails in {name!r}"
        raise OSError(errno.EIO, f"{text} ({error})") from None
    return shape, dtype


@contextmanager
def open_member(path: object, name: str, op: str) -> Iterator[Source]:
    """Open an array of an archive for reading, as a source."""
    if not isinstance(name, str):
        raise TypeError(f"{op}: name must be a string, got {name!r}")
    with open_archive(path, op) as archive:
        if name + _SUFFIX not in archive.namelist():
            listed = ", ".join(list_members(path, op))
            raise KeyError(
                f"{op}: name must be an array of the file, got {name!r}, which is not in {archive.filename!r}, "
                f"which has: {listed}"
            )
        info = archive.getinfo(name + _SUFFIX)
        try:
            with archive.open(info) as stream:
                slab = read_header(stream, f"{archive.filename}/{name}", op)
                if info.compress_type != zipfile.ZIP_STORED:
                    yield StreamSource(stream, slab, name, op)
                    return
        except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as error:
            text = f"{op}: path must be an undamaged file, got {archive.filename!r}, which fails in {name!r}"
            raise OSError(errno.EIO, f"{text} ({error})") from None
        with open(archive.filename, "rb", buffering=0) as file:
            begin = _data_of(file, info) + slab.offset
            slab = Slab(begin, slab.shape, slab.dtype, slab.strides)
            check_length(file.fileno(), slab, archive.filename, op)
            yield SlabSource(file.fileno(), slab, name)


def _data_of(file: object, info: zipfile.ZipInfo) -> int:
    """Return where the data of a member begins: its own header tells, not the directory."""
    file.seek(info.header_offset)
    name, extra = struct.unpack("<HH", file.read(30)[26:])
    return info.header_offset + 30 + name + extra


class StreamSource:
    """A compressed array (see `ht_io.loading`): blocks of the slowest axis pass by, and what is wanted of each
    is kept.
    """

    def __init__(self, stream: zipfile.ZipExtFile, slab: Slab, name: str, op: str) -> None:
        self._stream, self._slab, self._op = stream, slab, op
        self.shape, self.dtype, self.name = slab.shape, types.canonical(slab.dtype.newbyteorder("=")), name

    def read_into(self, part: Selection, out: torch.Tensor) -> None:
        """Inflate up to the last element of `part`."""
        slab, native = self._slab, self._slab.dtype.newbyteorder("=")
        if part.size == 0:
            return
        out = out.view(part.counts)
        if not slab.shape:
            self._stream.seek(slab.offset)
            out.copy_(torch.from_numpy(self._take(1).reshape(()).astype(native)))
            return
        is_c = slab.strides[0] == max(slab.strides)
        axis = 0 if is_c else len(slab.shape) - 1
        inner = math.prod(slab.shape) // slab.shape[axis]
        wanted = _indices(part, axis)
        for low, high in plan_blocks(slab.shape[axis], inner * native.itemsize, budget=_PIECE):
            places = np.flatnonzero((wanted >= low) & (wanted < high))
            if not len(places):
                continue
            self._stream.seek(slab.offset + low * inner * native.itemsize)  # inflates what it passes over
            shape = (high - low, *slab.shape[1:]) if is_c else (*slab.shape[:-1], high - low)
            block = self._take((high - low) * inner).reshape(shape, order="C" if is_c else "F")
            for other in range(len(shape)):
                index = wanted[places] - low if other == axis else _indices(part, other)
                block = block.take(index, axis=other)
            found = torch.from_numpy(block.astype(native)).to(out.device, out.dtype)
            put_along(out, axis, places, found)

    def _take(self, number: int) -> np.ndarray:
        size = number * self._slab.dtype.itemsize
        data = self._stream.read(size)
        if len(data) < size:
            raise OSError(
                errno.EIO, f"{self._op}: path must be a complete file, got one that ends in {self.name!r}"
            )
        return np.frombuffer(data, self._slab.dtype)


def _indices(part: Selection, axis: int) -> np.ndarray:
    """Return the stored indices that `part` selects along `axis`."""
    if part.listed == axis:
        return part.indices
    return part.starts[axis] + part.steps[axis] * np.arange(part.counts[axis])
