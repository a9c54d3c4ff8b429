"""Parallel writing of NetCDF: version 4 with the machinery of HDF5, the classic formats by byte ranges."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from ht_comm import Communicator

from .classic import TYPES, Header, Variable, build_header, pack_attribute, type_code
from .hdf5_items import write_items
from .hdf5_write import save_items
from .netcdf_dimensions import Dimensions
from .plan_netcdf import (
    FORMATS,
    NetCDFPlan,
    check_extents,
    plan_names,
    plan_unlimited,
    stored_item,
)
from .plan_write import plan_items
from .saving import check_mode, save_file

_OP = "save_netcdf"


def save_netcdf(
    x: object,
    path: str | os.PathLike,
    variable: str | None = None,
    mode: str = "w",
    dimension_names: object = None,
    is_unlimited: object = False,
    *,
    format: str = "NETCDF4",
    dtype: object = None,
    chunks: object = None,
    compression: object = None,
    attrs: Mapping | None = None,
    file_attrs: Mapping | None = None,
    engine: str | None = None,
) -> None:
    """Save an array, or several at once, to a NetCDF file that netCDF4, h5netcdf and xarray read. Collective.

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
    format : {"NETCDF4", "NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"}
        NetCDF-4, or CDF-1, CDF-2, CDF-5.
    dtype : dtype, optional
        Element type on disk. NetCDF has no complex numbers and no 16-bit floats, CDF-1 and CDF-2 neither int64
        nor unsigned numbers.
    chunks, compression, engine
        As in :func:`save_hdf5`; not for the classic formats.
    attrs : mapping, optional
        Attributes of the variable; with a mapping `x`, a mapping from names to such mappings. ``_FillValue``
        is stored in the variable's type. Values are written as they are: packing is the caller's.
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
        An argument does not fit the format or the dimensions of the file.

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
    plan, comm = _plan(x, variable, dtype, chunks, compression, attrs, dimension_names, is_unlimited, version)
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
    if version != 4:
        items = [stored_item(replace(item, dims=names[item.name]), version, _OP) for item in probe]
        return NetCDFPlan(items, extents, unlimited), comm

    def limits(name: str, shape: tuple[int, ...]) -> tuple[int | None, ...] | None:
        found = tuple(None if dim in unlimited else n for dim, n in zip(names[name], shape))
        return found if None in found else None

    items, comm = plan_items(x, variable, dtype, chunks, compression, attrs, _OP, maxshape=limits)
    items = [stored_item(replace(item, dims=names[item.name]), version, _OP) for item in items]
    return NetCDFPlan(items, extents, unlimited), comm


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
