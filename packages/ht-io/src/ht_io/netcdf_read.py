"""Parallel reading of NetCDF: version 4 as the HDF5 file it is, the classic formats by byte ranges."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

import h5py
import numpy as np
import torch
from ht_comm import Communicator
from ht_core import DNDarray, types
from ht_core.errors import DTypeError

from .cf import DecodedSource, plan_packing
from .classic import Header, HeaderError, parse_header
from .hdf5_read import HDF5Source, find_dataset, open_to_read
from .hdf5_scales import common_shape
from .loading import Source, check_readable, load_source
from .padded import PaddedSource
from .selection import Selection
from .slabs import check_length, read_slab

_OP = "load_netcdf"
_HEADER_BYTES = 64 << 10
#: HDF5 name under which netCDF stores a variable that has the name of a dimension without being its coordinate.
HIDDEN = "_nc4_non_coord_"
#: How the NAME attribute of a dimension without a variable begins.
NO_VARIABLE = b"This is a netCDF dimension but not a netCDF variable"


def load_netcdf(
    path: str | os.PathLike,
    variable: str,
    *,
    dtype: object = None,
    split: int | None = None,
    slices: object = None,
    mask_and_scale: bool = True,
    device: object = None,
    comm: Communicator | None = None,
) -> DNDarray:
    """Load a variable, or a part of it, from a NetCDF file: NetCDF-4, CDF-1, CDF-2 or CDF-5. Collective.

    Parameters
    ----------
    path : path
        File that all ranks can open.
    variable : str
        Its name, e.g. ``"temperature"``; in a group ``"forecast/temperature"``.
    dtype : dtype, optional
        Element type of the result; by default that of the (decoded) values.
    split, slices, device, comm
        As in :func:`load_hdf5`.
    mask_and_scale : bool, default: True
        Decode packed values as the CF conventions say and xarray does: numbers equal to ``_FillValue`` or
        ``missing_value`` become NaN, then ``scale_factor`` and ``add_offset`` apply; ``_Unsigned`` is obeyed,
        and bytes that were saved from booleans become booleans. Integers with missing values or a scale become
        floats. False: the numbers as they are stored.

    Returns
    -------
    DNDarray
        Shape of the selection, `split` as asked.

    Distribution
    ------------
    S(split) or R. One allreduce of three integers after reading. Each rank reads only its own part.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError, OSError
        The file is absent, not readable, no NetCDF, truncated or damaged.
    KeyError
        There is no such variable; the text lists those there are.
    LayoutError, DTypeError
        As in :func:`load_hdf5`; text is refused.

    Whatever rank it happens on, all ranks raise the same error.

    Examples
    --------
    >>> import ht_core, ht_io
    >>> x = ht_core.arange(6, dtype="float32", split=0)
    >>> ht_io.save_netcdf(x, "t.nc", "t", dimension_names=("time",), attrs={"units": "K"})
    >>> ht_io.load_netcdf("t.nc", "t", split=0, slices=slice(2, None)).shape
    (4,)
    """
    if not isinstance(variable, str) or not variable.strip("/"):
        raise TypeError(f"{_OP}: variable must be a name, got {variable!r}")
    return load_source(
        lambda: open_variable(path, variable, _OP, mask_and_scale),
        op=_OP,
        dtype=dtype,
        split=split,
        slices=slices,
        device=device,
        comm=comm,
    )


@contextmanager
def open_variable(path: object, variable: str, op: str = _OP, decode: bool = True) -> Iterator[Source]:
    """Open a variable for reading, as a source of decoded numbers."""
    name = check_readable(path, op)
    with open(name, "rb", buffering=0) as file:
        if file.read(3) == b"CDF":
            source, attrs = _open_classic(file, name, variable)
            yield _decoded(source, attrs) if decode else source
            return
    with open_to_read(name, op) as file:
        dataset = _find_variable(file, variable)
        source: Source = HDF5Source(dataset, op)
        shape = common_shape(dataset)
        if shape != source.shape:
            source = PaddedSource(source, shape, dataset.attrs.get("_FillValue", dataset.fillvalue))
        yield _decoded(source, dict(dataset.attrs)) if decode else source


def _decoded(source: Source, attrs: dict[str, object]) -> Source:
    if source.dtype is types.int8 and attrs.get("dtype") in ("bool", b"bool"):
        return BooleanSource(source)
    if source.dtype is types.bfloat16:
        return source
    packing = plan_packing(np.dtype(source.dtype.numpy), attrs, _OP)
    return source if packing is None else DecodedSource(source, packing)


class BooleanSource:
    """Booleans that were stored as bytes: NetCDF has no type for them."""

    dtype = types.canonical("bool")

    def __init__(self, source: Source) -> None:
        self._source, self.shape, self.name = source, source.shape, source.name

    def read_into(self, part: Selection, out: torch.Tensor) -> None:
        """Fill `out` with `part`; a cast to bool tells zero from the rest."""
        if out.dtype is not torch.bool:
            raw = torch.empty(out.shape, dtype=torch.bool)
            self._source.read_into(part, raw)
            out.copy_(raw)
        else:
            self._source.read_into(part, out)


def _find_variable(file: h5py.File, variable: str) -> h5py.Dataset:
    group, _, last = variable.strip("/").rpartition("/")
    hidden = f"{group}/{HIDDEN}{last}"
    found = file[hidden] if hidden in file else find_dataset(file, variable, _OP)
    if bytes(found.attrs.get("NAME", b"")).startswith(NO_VARIABLE):
        raise KeyError(
            f"{_OP}: variable must be one with values, got {variable!r}, which is only a dimension of length "
            f"{found.shape[0]} in {file.filename!r}"
        )
    return found


def is_classic(path: str | os.PathLike) -> bool:
    """Tell whether a file begins as classic ones do."""
    with open(path, "rb") as file:
        return file.read(3) == b"CDF"


def read_header(file: object, path: str) -> Header:
    """Return the header of an open classic file, reading no more of it than needed.

    Raises
    ------
    OSError
        If it is damaged.
    """
    size, length = os.fstat(file.fileno()).st_size, _HEADER_BYTES
    while True:
        try:
            return parse_header(os.pread(file.fileno(), length, 0), size)
        except (HeaderError, UnicodeDecodeError) as error:
            if length >= size:
                text = f"{_OP}: path must be a complete NetCDF file, got {path!r} ({error})"
                raise OSError(errno.EIO, text) from None
            length *= 8


def _open_classic(file: object, path: str, variable: str) -> tuple[ClassicSource, dict[str, object]]:
    header = read_header(file, path)
    found = header.variables.get(variable.strip("/"))
    if found is None:
        listed = ", ".join(sorted(header.variables)[:20])
        raise KeyError(
            f"{_OP}: variable must be one of the file, got {variable!r}, which is not there in {path!r}, "
            f"which has: {listed}"
        )
    if found.dtype.kind == "S":
        raise DTypeError(f"{_OP}: variable must hold numbers, got {variable!r} of {path!r}, which is text")
    slab = header.slab(found)
    check_length(file.fileno(), slab, path, _OP)
    return ClassicSource(file.fileno(), slab, found.name), found.attrs


class ClassicSource:
    """A variable of an open classic file (see `ht_io.loading`)."""

    def __init__(self, handle: int, slab: object, name: str) -> None:
        self._handle, self._slab = handle, slab
        self.shape, self.name = slab.shape, name
        self.dtype = types.canonical(slab.dtype.newbyteorder("="))

    def read_into(self, part: Selection, out: torch.Tensor) -> None:
        """Fill `out` with `part`."""
        read_slab(self._handle, self._slab, part, out)
