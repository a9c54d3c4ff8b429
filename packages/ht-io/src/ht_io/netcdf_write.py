"""Parallel writing of NetCDF: version 4 with the machinery of HDF5, the classic formats by byte ranges."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from ht_comm import Communicator

from .classic import TYPES, Header, Variable, build_header, pack_attribute, type_code
from .classic_append import append_records
from .extending import (
    Stored,
    all_or_none,
    check_addition,
    place_item,
    read_stored,
    slice_item,
    starts_of_append,
)
from .hdf5_items import write_items
from .hdf5_write import save_items
from .netcdf_dimensions import Dimensions, grow_dimensions
from .plan_netcdf import (
    FORMATS,
    NetCDFPlan,
    check_extents,
    encoded_item,
    plan_encodings,
    plan_names,
    plan_unlimited,
    stored_item,
    with_fill,
)
from .plan_write import Item, plan_items
from .saving import check_mode, save_file

_OP = "save_netcdf"


def save_netcdf(
    x: object,
    path: str | os.PathLike,
    variable: str | None = None,
    mode: str = "w",
    dimension_names: object = None,
    is_unlimited: object = False,
    file_slices: object = None,
    *,
    append: str | None = None,
    format: str = "NETCDF4",
    dtype: object = None,
    chunks: object = None,
    compression: object = None,
    attrs: Mapping | None = None,
    encoding: Mapping | None = None,
    file_attrs: Mapping | None = None,
    engine: str | None = None,
) -> None:
    """Save an array, or several at once, to a NetCDF file that netCDF4, h5netcdf and xarray read, or add to those
    that it has. Collective.

    Parameters
    ----------
    x : DNDarray, or mapping from variable names to DNDarrays
        Any split, any counts. Booleans are stored as bytes and marked as xarray marks them.
    path : path
        File on a file system that all ranks share.
    variable : str
        Name of the variable, ``"group/name"`` in a group (NETCDF4). Not given with a mapping.
    mode : {"w", "x", "w-", "a", "r+"}
        As in :func:`save_hdf5`; "a" and "r+" only for NETCDF4. Dimensions of the file are used again.
    dimension_names : str or sequence of str, or mapping from variable names to these, optional
        One name per axis. Axes of the same name are the same dimension; a 1-D variable named as a dimension
        holds its coordinates. By default ``{variable}_dim_{axis}``.
    is_unlimited : bool, str or sequence of str
        Dimensions that other programs may extend; True: the first of every variable.
    file_slices : int, slice, Ellipsis or tuple of these, optional
        Put `x` into this part of the variable, in mode "a" or "r+": as in ``variable[file_slices] = x``, without
        steps. Unlimited dimensions grow as needed.
    append : str, optional
        The dimension along which `x` is added behind what the file has, in mode "a" or "r+": for a mapping, with all
        variables in step. Other variables along it get fill values. In mode "a", variables that are not there are
        made, with this dimension unlimited. Types, packing, chunks and attributes stay as they were when a variable
        was made; what this call says of them matters only then. A classic file gets the records where it is, without a
        copy: they are part of it when all is on the disk and rank 0 has written their number.
    format : {"NETCDF4", "NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"}
        NetCDF-4, or CDF-1, CDF-2, CDF-5.
    dtype : dtype, optional
        Element type on disk. NetCDF has no complex numbers and no 16-bit floats, CDF-1 and CDF-2 neither int64
        nor unsigned numbers.
    chunks, compression, engine
        As in :func:`save_hdf5`; not for the classic formats.
    attrs : mapping, optional
        Attributes of the variable; with a mapping `x`, a mapping from names to such mappings. ``_FillValue``
        is stored in the variable's type. Values are written as they are, whatever attributes say.
    encoding : mapping, optional
        How values are packed, in xarray's words: ``{"dtype": "int16", "scale_factor": 0.01, "add_offset": 273.15,
        "_FillValue": -32768}``, all optional; with a mapping `x`, a mapping from names to such mappings. Stored is
        ``(value - add_offset) / scale_factor``, rounded for integer types, and ``_FillValue`` for NaN; the numbers
        become attributes, by which readers decode. Computed in float64, in blocks of 8 MiB as they are written.
    file_attrs : mapping, optional
        Attributes of the file.

    Distribution
    ------------
    Any split, which stays what it is. As :func:`save_hdf5`; classic formats as contiguous data sets there.

    Raises
    ------
    FileNotFoundError, FileExistsError, IsADirectoryError, PermissionError, OSError
        The file cannot be made, or the disk is full.
    ValueError, TypeError, KeyError, DTypeError
        An argument does not fit the format or the dimensions of the file, or values do not fit their encoding:
        they are outside the type's range, NaN without a ``_FillValue``, or would be stored as it.

    All ranks raise the same error, nothing is left behind, and a file that was there before is unchanged.

    Examples
    --------
    >>> import ht_core, ht_io
    >>> t = ht_core.ones((4, 3), dtype="float32", split=0)
    >>> days = ht_core.arange(4, dtype="float64")
    >>> ht_io.save_netcdf({"t": t, "day": days}, "two.nc", dimension_names={"t": ("day", "x")})
    >>> ht_io.load_netcdf("two.nc", "day", split=0).sum().item()
    6.0
    """
    check_mode(mode, _OP)
    if format not in FORMATS:
        raise ValueError(f"{_OP}: format must be one of {', '.join(FORMATS)}, got {format!r}")
    version = FORMATS[format]
    if append is not None or file_slices is not None:
        check_addition(mode, append, file_slices, _OP)
        items, comm = plan_items(x, variable, None, None, None, None, _OP)
        found = read_stored(path, [item.name for item in items], comm, _OP, is_netcdf=True)
        if isinstance(found, Header):
            _append_classic(items, path, found, append, comm)
            return
        if all_or_none(found, items, file_slices, path, _OP):
            items = _place(items, found, path, dimension_names, append, file_slices)
            grow = functools.partial(grow_dimensions, items=items)
            save_items(items, path, mode, comm, _OP, engine=engine, prepare=grow)
            return
        is_unlimited = _with_name(is_unlimited, append)
        mode = "x" if version != 4 and mode == "a" else mode  # all ranks have seen that there is no such file
    plan, comm = _plan(
        x, variable, dtype, chunks, compression, attrs, encoding, dimension_names, is_unlimited, version
    )
    file_attrs = {} if file_attrs is None else file_attrs
    if not isinstance(file_attrs, Mapping):
        raise TypeError(f"{_OP}: file_attrs must be a mapping from names to values, got {file_attrs!r}")
    if version != 4:
        _save_classic(plan, path, mode, version, file_attrs, comm)
        return
    dimensions = Dimensions(plan, file_attrs, _OP)
    save_items(
        plan.items,
        path,
        mode,
        comm,
        _OP,
        engine=engine,
        ordered=True,
        prepare=dimensions.prepare,
        finish=dimensions.finish,
    )


def _plan(
    x: object,
    variable: object,
    dtype: object,
    chunks: object,
    compression: object,
    attrs: object,
    encoding: object,
    dimension_names: object,
    is_unlimited: object,
    version: int,
) -> tuple[NetCDFPlan, Communicator]:
    """Return what will be written; all errors of arguments are raised here."""
    if version != 4 and (chunks or compression is not None):
        raise ValueError(f"{_OP}: chunks and compression must be None for classic formats; use NETCDF4")
    probe, comm = plan_items(x, variable, dtype, None, None, attrs, _OP)
    shapes = {item.name: () if item.is_scalar else item.layout.shape for item in probe}
    single = probe[0].name if not isinstance(x, Mapping) else None
    names = plan_names(shapes, dimension_names, single, _OP)
    unlimited = plan_unlimited(names, is_unlimited, _OP)
    extents = check_extents(shapes, names, _OP)
    encodings = plan_encodings(encoding, shapes, single, _OP)

    def stored(items: list[Item]) -> list[Item]:
        named = (replace(item, dims=names[item.name]) for item in items)
        coded = (encoded_item(item, encodings.get(item.name), _OP) for item in named)
        return [with_fill(stored_item(item, version, _OP)) for item in coded]

    if version != 4:
        return NetCDFPlan(stored(probe), extents, unlimited), comm

    def limits(name: str, shape: tuple[int, ...]) -> tuple[int | None, ...] | None:
        found = tuple(None if dim in unlimited else n for dim, n in zip(names[name], shape))
        return found if None in found else None

    items, comm = plan_items(x, variable, dtype, chunks, compression, attrs, _OP, maxshape=limits)
    return NetCDFPlan(stored(items), extents, unlimited), comm


def _append_classic(
    items: list[Item], path: str | os.PathLike, header: Header, append: str | None, comm: Communicator
) -> None:
    if append is None:
        raise ValueError(f"{_OP}: file_slices must be None for classic formats; use append=, or NETCDF4")
    missing = [item.name for item in items if item.name not in header.variables]
    if missing:
        text = f"{_OP}: variable must be one of the file for classic formats, got {missing[0]!r}; it has"
        raise KeyError(f"{text} {', '.join(header.variables)}")
    append_records(items, path, header, append, comm, _OP)


def _with_name(unlimited: object, name: str) -> object:
    """Return what `is_unlimited` says with one more dimension."""
    if unlimited is True:
        return True
    given = () if unlimited in (False, None) else (unlimited,) if isinstance(unlimited, str) else unlimited
    return (*given, name)


def _place(
    items: list[Item],
    found: Mapping[str, Stored],
    path: str | os.PathLike,
    names: object,
    append: str | None,
    slices: object,
) -> list[Item]:
    """Return the items with their places in the variables of the file."""
    for name, dims in names.items() if isinstance(names, Mapping) else ((item.name, names) for item in items):
        if dims is not None and name in found and tuple(np.atleast_1d(dims)) != found[name].dims:
            raise ValueError(
                f"{_OP}: dimension_names must be those of the file, {found[name].dims} for {name!r}, got {dims!r}"
            )
    if append is None:
        return [slice_item(item, found[item.name], slices, path, _OP) for item in items]
    placed = []
    for item in items:
        stored = found[item.name]
        if append not in stored.dims:
            text = (
                f"{_OP}: append must be a dimension of every variable, got {append!r} for {item.name!r} with"
            )
            raise ValueError(f"{text} {stored.dims}; save the others once, in a call of their own")
        axis = stored.dims.index(append)
        placed.append(place_item(item, stored, starts_of_append(item, stored, axis, _OP), path, _OP))
    lengths = {item.name: item.place.after[found[item.name].dims.index(append)] for item in placed}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"{_OP}: x must add as many indices of {append!r} to each variable, got {lengths}")
    return placed


def _save_classic(
    plan: NetCDFPlan,
    path: str | os.PathLike,
    mode: str,
    version: int,
    file_attrs: Mapping[str, object],
    comm: Communicator,
) -> None:
    if mode in ("a", "r+"):
        raise ValueError(
            f"{_OP}: mode must be 'w', 'x' or 'w-' for classic formats, got {mode!r}; use NETCDF4"
        )
    header = _plan_header(plan, version, file_attrs)
    data = build_header(header)
    _check_limits(header)
    items, begins = [], []
    for item in plan.items:
        variable = header.variables[item.name]
        record = header.record_bytes() if header.is_record(variable) else 0
        inner = math.prod(item.layout.shape[1:]) * item.dtype.itemsize
        items.append(replace(item, swapped=item.dtype.itemsize > 1, record=0 if record == inner else record))
        begins.append(variable.begin)
    end = max((header.slab(v).end for v in header.variables.values()), default=len(data))
    end = max(len(data), -(-end // 4) * 4)  # readers expect the padding of the last variable

    def create(temporary: str, keep: bool) -> list[int]:
        with open(temporary, "xb") as file:
            file.write(data)
            file.truncate(end)
        return begins

    save_file(
        path,
        mode,
        create,
        lambda temporary, offsets: write_items(temporary, items, offsets, comm),
        facts=" ".join(item.signature() for item in items) + f" {version}",
        needed=end,
        comm=comm,
        op=_OP,
    )


def _plan_header(plan: NetCDFPlan, version: int, file_attrs: Mapping[str, object]) -> Header:
    if len(plan.unlimited) > 1:
        raise ValueError(
            f"{_OP}: is_unlimited must be one dimension for classic formats, got {sorted(plan.unlimited)}"
        )
    record = next(iter(plan.unlimited), None)
    variables = {}
    for item in plan.items:
        if "/" in item.name:
            raise ValueError(f"{_OP}: variable must not be in a group for classic formats, got {item.name!r}")
        if record in item.dims[1:]:
            raise ValueError(
                f"{_OP}: is_unlimited must be a first dimension for classic formats, got {record!r} in "
                f"{item.dims} of {item.name!r}"
            )
        code = type_code(np.dtype(item.dtype.numpy), version)
        variables[item.name] = Variable(item.name, item.dims, np.dtype(TYPES[code]), dict(item.attrs))
    for attrs in (file_attrs, *(v.attrs for v in variables.values())):
        for name, value in attrs.items():
            try:
                pack_attribute(name, value, version)
            except (TypeError, ValueError, AttributeError) as error:
                text = f"{_OP}: attrs must hold text, or numbers of types of the format, got"
                raise TypeError(f"{text} {name!r}: {value!r} ({error})") from None
    dims = {name: extent for (_, name), extent in plan.extents.items()}
    if record is None and 0 in dims.values():
        empty = next(name for name, extent in dims.items() if extent == 0)
        record = empty  # the formats write 0 for "unlimited": that is what an empty dimension is
        if any(empty in item.dims[1:] for item in plan.items) or list(dims.values()).count(0) > 1:
            raise ValueError(f"{_OP}: x must not be empty along {empty!r} for classic formats; use NETCDF4")
    return Header(version, dims, record, dict(file_attrs), variables)


def _check_limits(header: Header) -> None:
    """Refuse what the offsets and sizes of the format cannot hold."""
    limit = {1: (1 << 31) - 1, 2: (1 << 63) - 1, 5: (1 << 63) - 1}[header.version]
    most = {1: (1 << 31) - 4, 2: (1 << 32) - 4, 5: (1 << 63) - 4}[header.version]
    last = max(header.variables.values(), key=lambda v: v.begin, default=None)
    for variable in header.variables.values():
        is_too_large = variable.vsize > most and (variable is not last or header.is_record(variable))
        if variable.begin > limit or is_too_large:
            wanted = (
                "NETCDF3_64BIT_OFFSET or NETCDF3_64BIT_DATA" if header.version == 1 else "NETCDF3_64BIT_DATA"
            )
            raise ValueError(
                f"{_OP}: format must be {wanted} for {variable.name!r} of {variable.vsize} bytes at byte "
                f"{variable.begin}"
            )
