"""Reading Zarr stores, version 3 and 2: each rank decodes the chunks that its part needs."""

from __future__ import annotations

import base64
import errno
import itertools
import math
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import torch
from ht_comm import Communicator
from ht_core import DNDarray, types
from ht_core.errors import DTypeError

from .cf import DecodedSource, plan_packing
from .loading import Source, load_source
from .selection import BLOCK_BYTES, Selection
from .storage import host_view

_LISTED = 20


def load_zarr(
    path: str | os.PathLike,
    variable: str | None = None,
    split: int | None = None,
    device: object = None,
    comm: Communicator | None = None,
    slices: object = None,
    *,
    dtype: object = None,
    mask_and_scale: bool = False,
) -> DNDarray:
    """Load an array, or a part of it, from a Zarr store. Collective.

    Parameters
    ----------
    path : path
        Directory that every rank can read: an array, or a group that holds arrays, of format 3 or 2, with any
        codecs of the zarr library.
    variable : str, optional
        Name of the array within a group, e.g. ``"run1/features"``.
    split : int or None, optional
        Axis of the result along which it is distributed; None: every rank holds all of it.
    device : optional
        Where the result lives; the current default device if not given.
    comm : Communicator, optional
        Whose ranks share the result; the current one if not given.
    slices : optional
        The part to read, in NumPy's notation, as in :func:`load_hdf5`.
    dtype : dtype, optional
        Element type of the result; by default the stored one.
    mask_and_scale : bool, default: False
        Decode packed values as xarray does (see :func:`load_netcdf`). What is missing is told by the attribute
        ``_FillValue``, in stores of format 2 by the fill value of the array.

    Returns
    -------
    DNDarray
        Shape of the selection, `split` as asked.

    Distribution
    ------------
    S(split) or R. One allreduce of three integers. Each rank reads the chunks that hold some of its part, in
    blocks of whole chunks of about 8 MiB.

    Raises
    ------
    ImportError
        The zarr library is not installed: ``pip install 'ht-io[zarr]'``.
    FileNotFoundError, PermissionError, OSError
        The store is absent, not readable or damaged.
    KeyError
        There is no such array; the text lists those there are.
    LayoutError, DTypeError
        As in :func:`load_hdf5`; text is refused.

    Whatever rank it happens on, all ranks raise the same error.

    Notes
    -----
    By the rules of the format a chunk whose file is absent is all fill value.

    Examples
    --------
    >>> import ht_core, ht_io
    >>> ht_io.save_zarr(ht_core.ones((6, 2), split=0), "ones.zarr")
    >>> ht_io.load_zarr("ones.zarr", split=0, slices=slice(2, None)).shape
    (4, 2)
    """
    return load_source(
        lambda: open_zarr(path, variable, "load_zarr", mask_and_scale),
        op="load_zarr",
        dtype=dtype,
        split=split,
        slices=slices,
        device=device,
        comm=comm,
    )


def find_zarr(op: str) -> ModuleType:
    """Return the zarr library, or say how to get it."""
    try:
        import zarr
    except ImportError:
        raise ImportError(
            f"{op}: zarr must be installed for this format; run: pip install 'ht-io[zarr]'"
        ) from None
    return zarr


@contextmanager
def open_zarr(path: object, variable: object, op: str, decode: bool = False) -> Iterator[Source]:
    """Open an array of a store for reading, as a source."""
    zarr = find_zarr(op)
    if variable is not None and not isinstance(variable, str):
        raise TypeError(f"{op}: variable must be a name or None, got {variable!r}")
    name, node = open_node(zarr, path, op)
    array = _find_array(zarr, node, variable, name, op)
    source = ZarrSource(array, name, op)
    packing = plan_packing(array.dtype.newbyteorder("="), _packing_of(array), op) if decode else None
    yield source if packing is None else DecodedSource(source, packing)


def _packing_of(array: object) -> dict[str, object]:
    """Return the attributes of an array as xarray takes them."""
    attrs = {name: v for name, v in array.attrs.items() if not isinstance(v, (dict, type(None)))}
    if array.metadata.zarr_format == 2:
        return attrs if array.fill_value is None else {**attrs, "_FillValue": array.fill_value}
    if isinstance(attrs.get("_FillValue"), str):  # floats are stored as the bytes of a double
        attrs["_FillValue"] = struct.unpack("<d", base64.standard_b64decode(attrs["_FillValue"]))[0]
    return attrs


def open_node(zarr: ModuleType, path: object, op: str) -> tuple[str, object]:
    """Return the name of a store and the array or group that it is."""
    name = os.fsdecode(os.fspath(path))
    try:
        os.listdir(name)
    except OSError as error:
        text = f"{op}: path must be an existing, readable directory, got {name!r}"
        raise type(error)(error.errno, text) from None
    try:
        return name, zarr.open(store=name, mode="r")
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise OSError(errno.EIO, f"{op}: path must be a Zarr store, got {name!r} ({error})") from None


def _find_array(zarr: ModuleType, node: object, variable: str | None, name: str, op: str) -> object:
    wanted = (variable or "").strip("/")
    if isinstance(node, zarr.Group):
        try:
            found = node.get(wanted) if wanted else node
        except (ValueError, TypeError) as error:
            text = f"{op}: path must be an undamaged store, got {name!r}, which fails in {wanted!r} ({error})"
            raise OSError(errno.EIO, text) from None
        if isinstance(found, zarr.Array):
            return found
        arrays = [key for key, item in node.members(max_depth=None) if isinstance(item, zarr.Array)]
        what = "not there" if found is None else "a group"
    elif not wanted:
        return node
    else:
        arrays, what = [], "not there: it is one array"
    listed = ", ".join(sorted(arrays)[:_LISTED])
    raise KeyError(
        f"{op}: variable must be an array of the store, got {variable!r}, which is {what} in {name!r}, which has: "
        f"{listed}"
    )


def _check_codecs(array: object, path: str, op: str) -> None:
    """Refuse chunks that are pickled: reading them could run any code."""
    codecs = [*array.filters, *array.compressors]
    if any("pickle" in f"{type(codec).__name__} {codec!r}".lower() for codec in codecs):
        raise DTypeError(
            f"{op}: variable must hold numbers as such; the chunks of {array.path!r} of {path!r} are pickled, and "
            "reading them could run any code"
        )


class ZarrSource:
    """An array of a store (see `ht_io.loading`)."""

    def __init__(self, array: object, path: str, op: str) -> None:
        self._array, self._path, self._op = array, path, op
        _check_codecs(array, path, op)
        stored = array.dtype
        if stored.kind not in "biufc" or stored.newbyteorder("=").name not in types.DTYPES:
            raise DTypeError(
                f"{op}: variable must hold elements of {', '.join(types.DTYPES)}; {array.path!r} of {path!r} has "
                f"elements of type {stored}"
            )
        self.shape, self.name = array.shape, f"{path}/{array.path}"
        self.dtype = types.canonical(stored.newbyteorder("="))

    def read_into(self, part: Selection, out: torch.Tensor) -> None:
        """Fill `out` with `part`, chunk rows by chunk rows."""
        if part.size == 0:
            return
        out = out.view(part.counts)
        if not part.counts or part.listed == 0:
            self._copy(part, out)
            return
        rows = self._array.chunks[0]
        row_bytes = math.prod(part.counts[1:]) * self._array.dtype.itemsize
        window = max(BLOCK_BYTES // max(row_bytes, 1) // rows, 1) * rows  # stored rows, whole chunks
        first, step = part.starts[0], part.steps[0]
        last = first + (part.counts[0] - 1) * step
        edges = [first, *range((first // window + 1) * window, last + 1, window), last + 1]
        for start, stop in itertools.pairwise(edges):
            low, high = (-(-(edge - first) // step) for edge in (start, stop))
            if low < high:
                self._copy(part.rows(low, high), out[low:high])

    def _copy(self, part: Selection, out: torch.Tensor) -> None:
        where = tuple(
            slice(start, start + (count - 1) * step + 1, step)
            for start, count, step in zip(part.starts, part.counts, part.steps)
        )
        try:
            if part.listed is None:
                found = np.asarray(self._array[where or ...])
            else:
                where = (*where[: part.listed], part.indices, *where[part.listed + 1 :])
                found = np.asarray(self._array.oindex[where])
        except (ValueError, RuntimeError, KeyError, OSError) as error:
            text = (
                f"{self._op}: path must be an undamaged store, got one that fails in {self.name!r} ({error})"
            )
            raise OSError(errno.EIO, text) from None
        if out.device.type == "cpu" and out.dtype is self.dtype.torch:
            np.copyto(host_view(out), found.reshape(tuple(out.shape)))
        else:
            native = np.ascontiguousarray(found.astype(found.dtype.newbyteorder("="), copy=False))
            out.copy_(torch.from_numpy(native.reshape(tuple(out.shape))))
