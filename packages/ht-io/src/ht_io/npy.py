"""NumPy's .npy files: the header through NumPy, the data by byte ranges of each rank. Nothing is ever
unpickled.
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np
import torch
from ht_comm import Communicator
from ht_core import DNDarray, permute_dims, types
from ht_core.errors import DTypeError

from .hdf5_items import write_items
from .joined import load_joined
from .loading import check_readable, load_source
from .plan_write import Item, as_array, plan_items
from .saving import check_mode, save_file
from .selection import Selection
from .slabs import Slab, check_length, read_slab


def load_npy(
    path: str | os.PathLike,
    *,
    dtype: object = None,
    split: int | None = None,
    slices: object = None,
    device: object = None,
    comm: Communicator | None = None,
) -> DNDarray:
    """Load an array, or a part of it, from an .npy file. Collective.

    Parameters
    ----------
    path : path
        File that every rank can read, in C or Fortran order, of any byte order.
    dtype : dtype, optional
        Element type of the result; by default the stored one.
    split : int or None, optional
        Axis of the result along which it is distributed; None: every rank holds all of it.
    slices : optional
        The part to read, in NumPy's notation, as in :func:`load_hdf5`.
    device : optional
        Where the result lives; the current default device if not given.
    comm : Communicator, optional
        Whose ranks share the result; the current one if not given.

    Returns
    -------
    DNDarray
        Shape of the selection, `split` as asked.

    Distribution
    ------------
    S(split) or R. One allreduce of three integers. Each rank reads only its own part, straight into the
    result's memory.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError, OSError
        The file is absent, not readable, no .npy file or truncated.
    LayoutError
        `split` or `slices` do not fit the array.
    DTypeError
        The elements are objects (which would have to be unpickled), text, records or of another type that
        arrays here do not have; or `dtype` would drop the imaginary part.

    Whatever rank it happens on, all ranks raise the same error.

    Examples
    --------
    >>> import ht_core, ht_io
    >>> ht_io.save_npy(ht_core.ones((6, 2), split=0), "ones.npy")
    >>> ht_io.load_npy("ones.npy", split=0, slices=slice(2, None)).shape
    (4, 2)
    """
    return load_source(
        lambda: open_npy(path, "load_npy"),
        op="load_npy",
        dtype=dtype,
        split=split,
        slices=slices,
        device=device,
        comm=comm,
    )


def load_npy_from_path(
    path: str | os.PathLike,
    dtype: object = None,
    split: int | None = 0,
    device: object = None,
    comm: Communicator | None = None,
    *,
    axis: int | None = None,
    slices: object = None,
) -> DNDarray:
    """Load all .npy files of a folder, joined along an axis in the order of their names. Collective.

    Parameters
    ----------
    path : path
        Directory that all ranks see. The arrays must have one element type and equal extents but for `axis`.
    dtype, split, device, comm, slices
        As in :func:`load_npy`; of the joined array.
    axis : int, optional
        Axis along which the files are joined; by default `split`, or 0.

    Returns
    -------
    DNDarray

    Distribution
    ------------
    S(split), even whatever the sizes of the files, or R. One allreduce of three integers. Every rank reads
    every header, and of the data only what it keeps.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        The folder, or a file in it, is absent.
    LayoutError
        The arrays do not fit together.
    Exception
        As :func:`load_npy`; the same on all ranks.

    Examples
    --------
    >>> import os, ht_core, ht_io
    >>> if ht_core.ones(1).comm.rank == 0:
    ...     os.makedirs("parts", exist_ok=True)
    >>> ht_io.save_npy(ht_core.ones((2, 3)), "parts/1.npy")
    >>> ht_io.save_npy(ht_core.ones((4, 3)), "parts/2.npy")
    >>> ht_io.load_npy_from_path("parts").shape
    (6, 3)
    """
    op = "load_npy_from_path"
    return load_joined(
        path,
        lambda name: open_npy(name, op),
        op=op,
        suffixes=(".npy",),
        axis=(0 if split is None else split) if axis is None else axis,
        what="array",
        dtype=dtype,
        split=split,
        slices=slices,
        device=device,
        comm=comm,
    )


def save_npy(
    x: object, path: str | os.PathLike, mode: str = "w", *, dtype: object = None, order: str = "C"
) -> None:
    """Save an array to an .npy file. Collective.

    Parameters
    ----------
    x : DNDarray
        Any split, any counts. Tensors, NumPy arrays and numbers are taken too; they must be equal on all
        ranks.
    path : path
        File on a file system that all ranks share. No suffix is added.
    mode : {"w", "x", "w-"}
        "w" replaces an existing file; "x" and "w-" refuse.
    dtype : dtype, optional
        Element type on disk; by default that of `x`. NumPy has no bfloat16: give "float32", which holds it.
    order : {"C", "F"}
        Order of the elements in the file.

    Distribution
    ------------
    Any split, which stays what it is. A broadcast of a few integers and three one-number agreements. Arrays
    whose ranks would write short pieces are first moved to whole rows (for "F": columns), 32 MiB per rank at a
    time.

    Raises
    ------
    OSError
        The file cannot be made, or the disk is full.
    ValueError, DTypeError
        An argument does not fit.

    All ranks raise the same error, nothing is left behind, and a file that was there before is unchanged.

    Examples
    --------
    >>> import numpy, ht_core, ht_io
    >>> ht_io.save_npy(ht_core.arange(4, split=0), "four.npy")
    >>> numpy.load("four.npy")
    array([0, 1, 2, 3])
    """
    op = "save_npy"
    check_new(mode, op)
    if order not in ("C", "F"):
        raise ValueError(f"{op}: order must be 'C' or 'F', got {order!r}")
    items, comm = plan_items(in_order(x, order, op), "x", dtype, None, None, None, op)
    item = check_type(items[0], op)
    header = npy_header(item, order)

    def create(temporary: str, keep: bool) -> list[int]:
        with open(temporary, "xb") as file:
            file.write(header)
            file.truncate(len(header) + item.nbytes)
        return [len(header)]

    save_file(
        path,
        mode,
        create,
        lambda temporary, offsets: write_items(temporary, items, offsets, comm),
        facts=f"{item.signature()} {order}",
        needed=item.nbytes,
        comm=comm,
        op=op,
    )


def check_new(mode: object, op: str) -> None:
    """Refuse modes that add to a file."""
    check_mode(mode, op)
    if mode in ("a", "r+"):
        raise ValueError(f"{op}: mode must be 'w', 'x' or 'w-' for this format, got {mode!r}")


def in_order(x: object, order: str, op: str) -> object:
    """Return `x`, or for Fortran order its transpose, whose C order that is."""
    if order == "C":
        return x
    found = as_array(x, op)
    return permute_dims(found, tuple(reversed(range(found.ndim))))


def check_type(item: Item, op: str) -> Item:
    """Return `item` if NumPy has its element type."""
    if item.dtype is types.bfloat16:
        raise DTypeError(f"{op}: dtype must be one that NumPy has, got bfloat16; give dtype='float32'")
    return item


def npy_header(item: Item, order: str = "C") -> bytes:
    """Return what stands before the data of `item`, which is transposed where `order` is "F"."""
    shape = () if item.is_scalar else item.layout.shape
    out = io.BytesIO()
    facts = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(item.dtype.numpy)),
        "fortran_order": order == "F",
        "shape": shape if order == "C" else shape[::-1],
    }
    np.lib.format.write_array_header_1_0(out, facts)
    return out.getvalue()


@contextmanager
def open_npy(path: object, op: str) -> Iterator[SlabSource]:
    """Open an .npy file for reading, as a source."""
    name = check_readable(path, op)
    with open(name, "rb", buffering=0) as file:
        slab = read_header(file, name, op)
        check_length(file.fileno(), slab, name, op)
        yield SlabSource(file.fileno(), slab, name)


def read_header(file: BinaryIO, name: str, op: str) -> Slab:
    """Return where the elements are, in the file whose header `file` is about to give.

    Raises
    ------
    OSError
        There is no complete header.
    DTypeError
        Arrays here have no such elements.
    """
    shape, is_fortran, dtype = parse_header(file, name, op)
    if dtype.hasobject or dtype.kind not in "biufc" or dtype.newbyteorder("=").name not in types.DTYPES:
        why = "objects, which are pickled: that could run any code" if dtype.hasobject else f"type {dtype}"
        raise DTypeError(
            f"{op}: path must hold elements of {', '.join(types.DTYPES)}; {name!r} has elements of {why}"
        )
    return Slab.dense(file.tell(), shape, dtype, "F" if is_fortran else "C")


def parse_header(file: BinaryIO, name: str, op: str) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Return shape, whether the order is Fortran's, and type of the array whose header `file` is about to give."""
    try:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
        if version not in read:
            raise ValueError(f"version {version} is not known")
        return read[version](file)
    except (ValueError, TypeError, SyntaxError, UnicodeError) as error:
        raise OSError(errno.EIO, f"{op}: path must be a complete .npy file, got {name!r} ({error})") from None


class SlabSource:
    """An array that lies plainly in an open file (see `ht_io.loading`)."""

    def __init__(self, handle: int, slab: Slab, name: str) -> None:
        self._handle, self._slab = handle, slab
        self.shape, self.dtype, self.name = slab.shape, types.canonical(slab.dtype.newbyteorder("=")), name

    def read_into(self, part: Selection, out: torch.Tensor) -> None:
        """Read `part` by its byte ranges."""
        read_slab(self._handle, self._slab, part, out)
