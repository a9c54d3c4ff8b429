"""What a file holds, without its data: arrays with shapes, types, chunks, names of axes and attributes.

Each format has a function that runs on one rank and returns a :class:`Contents`; it is a column of the table in
:mod:`ht_io.formats`.
"""

from __future__ import annotations

import csv
import errno
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType

import h5py
import numpy as np
from ht_core import types

from .classic import Header
from .csv_parse import find_data
from .csv_read import check_dialect
from .hdf5_read import open_to_read
from .hdf5_scales import axis_names, common_length, common_shape, find_scales
from .loading import check_readable
from .netcdf_read import HIDDEN, NO_VARIABLE, read_header
from .npy import parse_header
from .npz import list_members, open_archive, read_member_header
from .zarr_read import find_zarr, open_node

_HEAD_BYTES = 64 << 10
#: Attributes by which HDF5 and netCDF keep dimensions: not the user's.
_INTERNAL = {
    "CLASS",
    "DIMENSION_LABELS",
    "DIMENSION_LIST",
    "NAME",
    "REFERENCE_LIST",
    "_NCProperties",
    "_Netcdf4Coordinates",
    "_Netcdf4Dimid",
    "_nc3_strict",
}


@dataclass(frozen=True)
class ArrayInfo:
    """An array of a file.

    Attributes
    ----------
    shape : tuple of int or None
        None for an extent that only reading the file tells (rows of CSV).
    dtype : str
        Of the stored elements: a name of `ht_core.types`, or NumPy's text for what cannot be loaded, such as text.
    chunks, maxshape : tuple or None
        Shape of chunks; extents up to which the array can grow, None without limit.
    dims : tuple of (str or None)
        Names of the axes.
    attrs : dict
        Numbers, NumPy arrays, text, lists of text.
    """

    shape: tuple[int | None, ...]
    dtype: str
    chunks: tuple[int, ...] | None = None
    maxshape: tuple[int | None, ...] | None = None
    dims: tuple[str | None, ...] = ()
    attrs: dict[str, object] = field(default_factory=dict)


@dataclass(frozen=True)
class Contents:
    """What a file holds; printing it lists that.

    Attributes
    ----------
    path, format : str
    arrays : dict of str to ArrayInfo
        By their names, in the order of the file; the name is "" in a format of one array.
    attrs : dict
        Of the file.
    dims : dict of str to int
        Extents of the named dimensions (NetCDF); in groups ``"group/name"``.
    unlimited : tuple of str
        Those that can grow.
    """

    path: str
    format: str
    arrays: dict[str, ArrayInfo]
    attrs: dict[str, object] = field(default_factory=dict)
    dims: dict[str, int] = field(default_factory=dict)
    unlimited: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return a line for each dimension, array and attribute."""
        lines = [f"{self.format} file {self.path!r}"]
        for name, extent in self.dims.items():
            lines.append(f"  {name} = {extent}{', unlimited' if name in self.unlimited else ''}")
        lines += [f"  {name}: {value!r}" for name, value in self.attrs.items()]
        for name, array in self.arrays.items():
            named = any(array.dims)
            axes = ", ".join(f"{d} = {n}" if d else f"{n}" for d, n in zip(array.dims, array.shape))
            cut = "" if array.chunks is None else f", chunks {array.chunks}"
            shape = f"({axes})" if named else f"{array.shape}"
            lines.append(f"  {name or 'array'}: {array.dtype} {shape}{cut}")
            lines += [f"    {key}: {value!r}" for key, value in array.attrs.items()]
        return "\n".join(lines)


def describe_hdf5(path: object, op: str) -> Contents:
    """Return what an HDF5 file holds."""
    with open_to_read(path, op) as file:
        arrays: dict[str, ArrayInfo] = {}

        def visit(name: str, node: h5py.HLObject) -> None:
            if isinstance(node, h5py.Dataset):
                arrays[name] = _describe_dataset(node, node.shape)

        file.visititems(visit)
        return Contents(file.filename, "HDF5", arrays, _attributes(file.attrs))


def _describe_dataset(
    dataset: h5py.Dataset, shape: tuple[int, ...] | None, is_netcdf: bool = False
) -> ArrayInfo:
    dtype = dataset.dtype
    raw = dataset.id.get_type()
    if isinstance(raw, h5py.h5t.TypeFloatID) and raw.get_size() == 2 and raw.get_ebias() == 127:
        text = "bfloat16"
    else:
        text = "str" if h5py.check_string_dtype(dtype) else dtype_name(dtype)
    limits = dataset.maxshape if dataset.maxshape != dataset.shape else None
    return ArrayInfo(
        shape or (), text, dataset.chunks, limits, axis_names(dataset), _attributes(dataset.attrs, is_netcdf)
    )


def dtype_name(dtype: np.dtype) -> str:
    """Return the name of a type, without its byte order if it is one of numbers."""
    name = dtype.newbyteorder("=").name
    return name if name in types.DTYPES else str(dtype)


def _attributes(attrs: h5py.AttributeManager, is_netcdf: bool = False) -> dict[str, object]:
    """Return attributes in plain types; NetCDF does not tell a number from a list of one."""
    found = {}
    for name in attrs:
        if name in _INTERNAL:
            continue
        try:
            value = attrs[name]
        except (OSError, TypeError):
            value = None  # of a type that h5py cannot read
        if not isinstance(value, (h5py.Reference, h5py.RegionReference)):
            is_single = is_netcdf and isinstance(value, np.ndarray) and value.shape == (1,)
            found[name] = plain(value[0] if is_single else value)
    return found


def plain(value: object) -> object:
    """Return the value of an attribute as text, a list of texts, a number, an array or None."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, h5py.Empty):
        return None
    if isinstance(value, np.ndarray) and value.dtype.kind in "OSU":
        return [plain(item) for item in value.ravel().tolist()]
    if isinstance(value, (h5py.Reference, h5py.RegionReference)):
        return None
    return value


def describe_netcdf(path: object, op: str) -> Contents:
    """Return what a NetCDF file holds, of any version: extents along unlimited dimensions are those of the
    dimensions.
    """
    name = check_readable(path, op)
    with open(name, "rb", buffering=0) as file:
        if file.read(3) == b"CDF":
            return _describe_classic(read_header(file, name), name)
    with open_to_read(path, op) as file:
        dims, unlimited = {}, []
        for (group, base), scale in find_scales(file).items():
            full = f"{group}/{base}" if group else base
            dims[full] = common_length(scale)
            if scale.maxshape[0] is None:
                unlimited.append(full)
        arrays: dict[str, ArrayInfo] = {}

        def visit(path: str, node: h5py.HLObject) -> None:
            is_variable = isinstance(node, h5py.Dataset)
            if is_variable and not bytes(node.attrs.get("NAME", b"")).startswith(NO_VARIABLE):
                arrays[path.replace(HIDDEN, "")] = _describe_dataset(node, common_shape(node), is_netcdf=True)

        file.visititems(visit)
        return Contents(
            name, "NetCDF", arrays, _attributes(file.attrs, is_netcdf=True), dims, tuple(unlimited)
        )


def _describe_classic(header: Header, path: str) -> Contents:
    arrays = {}
    for variable in header.variables.values():
        text = "str" if variable.dtype.kind == "S" else dtype_name(variable.dtype)
        shape = header.shape(variable)
        limits = (None, *shape[1:]) if header.is_record(variable) else None
        arrays[variable.name] = ArrayInfo(shape, text, None, limits, variable.dims, dict(variable.attrs))
    unlimited = () if header.record is None else (header.record,)
    return Contents(path, "NetCDF", arrays, dict(header.attrs), dict(header.dims), unlimited)


def describe_npy(path: object, op: str) -> Contents:
    """Return what an .npy file holds."""
    name = check_readable(path, op)
    with open(name, "rb") as file:
        shape, _, dtype = parse_header(file, name, op)
    return Contents(name, "NPY", {"": ArrayInfo(shape, dtype_name(dtype), dims=(None,) * len(shape))})


def describe_npz(path: object, op: str) -> Contents:
    """Return what an .npz archive holds."""
    arrays = {}
    with open_archive(path, op) as archive:
        for name in list_members(path, op):
            shape, dtype = read_member_header(archive, name, op)
            arrays[name] = ArrayInfo(shape, dtype_name(dtype), dims=(None,) * len(shape))
    return Contents(check_readable(path, op), "NPZ", arrays)


def describe_csv(path: object, op: str, sep: str = ",", encoding: str = "utf-8") -> Contents:
    """Return what the first lines of a CSV file tell: lines that are not all numbers are its header."""
    check_dialect(sep, encoding, types.float64, op)
    name = check_readable(path, op)
    start, _ = find_data(name, 0, encoding)
    with open(name, "rb") as file:
        file.seek(start)
        text = file.read(_HEAD_BYTES)
    lines = text.splitlines()
    lines = lines[:-1] if len(text) == _HEAD_BYTES and len(lines) > 1 else lines
    try:
        decoded = [line.decode(encoding) for line in lines]
    except UnicodeDecodeError as error:
        text = f"{op}: encoding must be that of the file, got {encoding!r} for {name!r} ({error})"
        raise ValueError(text) from None
    rows = [next(csv.reader([line], delimiter=sep), []) for line in decoded]
    header = next((i for i, row in enumerate(rows) if row and all(map(_is_number, row))), len(rows))
    columns = rows[header - 1] if header else []
    width = len(rows[header]) if header < len(rows) else len(columns)
    attrs: dict[str, object] = {"header_lines": header}
    if columns and len(columns) == width:
        attrs["columns"] = [column.strip() for column in columns]
    return Contents(
        name, "CSV", {"": ArrayInfo((None, width), "float64", dims=(None, None), attrs=attrs)}, attrs
    )


def _is_number(text: str) -> bool:
    try:
        complex(text.strip())
    except ValueError:
        return text.strip() in ("True", "False")
    return True


def describe_zarr(path: object, op: str) -> Contents:
    """Return what a Zarr store holds."""
    zarr = find_zarr(op)
    name, node = open_node(zarr, path, op)
    if not isinstance(node, zarr.Group):
        return Contents(name, "Zarr", {"": _describe_zarr(zarr, node)}, dict(node.attrs))
    try:
        members = dict(node.members(max_depth=None))
    except (ValueError, KeyError, TypeError, OSError) as error:
        raise OSError(errno.EIO, f"{op}: path must be an undamaged store, got {name!r} ({error})") from None
    arrays = {
        key: _describe_zarr(zarr, item)
        for key, item in sorted(members.items())
        if isinstance(item, zarr.Array)
    }
    return Contents(name, "Zarr", arrays, dict(node.attrs))


def _describe_zarr(zarr: ModuleType, array: object) -> ArrayInfo:
    dims = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    attrs: Mapping[str, object] = {k: v for k, v in array.attrs.items() if k != "_ARRAY_DIMENSIONS"}
    dims = tuple(dims or (None,) * len(array.shape))
    return ArrayInfo(array.shape, dtype_name(np.dtype(array.dtype)), array.chunks, None, dims, dict(attrs))
