"""What a NetCDF save will do: dimension names, limits, types. From facts that every rank knows; no file."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

import numpy as np
from ht_core import types
from ht_core.errors import DTypeError

from .cf_pack import plan_encoding
from .plan_write import Item
from .storage import check_cast

FORMATS = {
    "NETCDF4": 4,
    "NETCDF3_CLASSIC": 1,
    "NETCDF3_64BIT": 2,
    "NETCDF3_64BIT_OFFSET": 2,
    "NETCDF3_64BIT_DATA": 5,
}


#: What the netCDF library takes for "never written" where a variable does not say.
DEFAULT_FILLS = {
    "int8": -127,
    "uint8": 255,
    "int16": -32767,
    "uint16": 65535,
    "int32": -2147483647,
    "uint32": 4294967295,
    "int64": -9223372036854775806,
    "uint64": 18446744073709551614,
    "float32": 9.969209968386869e36,
    "float64": 9.969209968386869e36,
}


def with_fill(item: Item) -> Item:
    """Return an item that can grow with the fill value that it has by default."""
    if item.maxshape is None or item.fill is not None:
        return item
    return replace(item, fill=np.array(DEFAULT_FILLS[item.dtype.name], item.dtype.numpy))


def plan_names(
    shapes: Mapping[str, tuple[int, ...]], given: object, single: str | None, op: str
) -> dict[str, tuple[str, ...]]:
    """Return the dimension names of each variable.

    Parameters
    ----------
    shapes : mapping
        Of the variables, by name.
    given : None, str, sequence of str, or mapping of these
        What the caller said; a mapping unless there is one variable, `single`.

    Notes
    -----
    A 1-D variable that has the name of a dimension of another one is its coordinate. Other axes without a name
    are called ``{variable}_dim_{axis}``.
    """
    given = {single: given} if single is not None and not isinstance(given, Mapping) else given or {}
    unknown = [name for name in given if name not in shapes]
    if unknown:
        raise KeyError(f"{op}: dimension_names must have names of x as keys, got {unknown[0]!r}")
    found: dict[str, tuple[str, ...]] = {}
    for name, dims in given.items():
        dims = () if dims is None and not shapes[name] else dims
        if dims is None:
            continue
        dims = (dims,) if isinstance(dims, str) else tuple(dims)
        good = len(dims) == len(shapes[name]) and len(set(dims)) == len(dims)
        if not good or not all(isinstance(d, str) and d and "/" not in d for d in dims):
            text = f"{op}: dimension_names must be {len(shapes[name])} different names for {name!r}"
            raise ValueError(f"{text}, got {dims!r}")
        found[name] = dims
    used = {dim for dims in found.values() for dim in dims}
    for name, shape in shapes.items():
        base = name.rpartition("/")[2]
        is_coordinate = len(shape) == 1 and base in used
        default = (base,) if is_coordinate else tuple(f"{base}_dim_{axis}" for axis in range(len(shape)))
        found.setdefault(name, default)
    return {name: found[name] for name in shapes}


def plan_unlimited(dims: Mapping[str, tuple[str, ...]], given: object, op: str) -> frozenset[str]:
    """Return the names of the dimensions that may grow: True means the first one of every variable."""
    if given is True:
        return frozenset(names[0] for names in dims.values() if names)
    wanted = () if given in (False, None) else (given,) if isinstance(given, str) else tuple(given)
    known = {name for names in dims.values() for name in names}
    for name in wanted:
        if name not in known:
            raise ValueError(f"{op}: is_unlimited must be True, False or names of dimensions, got {name!r}")
    return frozenset(wanted)


def check_extents(
    shapes: Mapping[str, tuple[int, ...]], dims: Mapping[str, tuple[str, ...]], op: str
) -> dict[tuple[str, str], int]:
    """Return the extent of each dimension, by group and name; refuse two extents for one.

    >>> check_extents({"a": (3,), "g/b": (3, 2)}, {"a": ("t",), "g/b": ("t", "u")}, "save")
    {('', 't'): 3, ('g', 'u'): 2}
    """
    found: dict[tuple[str, str], int] = {}
    for variable in sorted(shapes, key=lambda name: name.count("/")):
        group = variable.rpartition("/")[0]
        for name, extent in zip(dims[variable], shapes[variable]):
            home = find_home(found, group, name)
            known = found.setdefault((group if home is None else home, name), extent)
            if known != extent:
                text = f"{op}: dimension_names must name axes of one extent alike, got {name!r} for {known}"
                raise ValueError(f"{text} and {extent}")
    return found


def find_home(dimensions: Mapping[tuple[str, str], object], group: str, name: str) -> str | None:
    """Return the nearest group, `group` or one around it, that has a dimension `name`."""
    while True:
        if (group, name) in dimensions:
            return group
        if not group:
            return None
        group = group.rpartition("/")[0]


def plan_encodings(given: object, names: Collection[str], single: str | None, op: str) -> dict[str, object]:
    """Return the encoding of each variable that has one."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise TypeError(f"{op}: encoding must be a mapping, got {given!r}")
    found = {single: given} if single is not None else {str(k).strip("/"): v for k, v in given.items()}
    unknown = [name for name in found if name not in names]
    if unknown:
        raise KeyError(f"{op}: encoding must be a mapping from the names of x, got {unknown[0]!r}")
    return found


def encoded_item(item: Item, encoding: object, op: str) -> Item:
    """Return the item as it is packed; without an encoding as it is."""
    if encoding is None:
        return item
    dtype, attrs, packer = plan_encoding(encoding, item.dtype, item.attrs, op)
    if packer is None:
        check_cast(types.of(item.local), dtype, op)
    return replace(item, dtype=dtype, attrs=attrs, packer=packer)


def stored_item(item: Item, version: int, op: str) -> Item:
    """Return the item with the type, fill value and attributes under which NetCDF stores it.

    Raises
    ------
    DTypeError
        If that version has no such type.
    """
    attrs = dict(item.attrs)
    if item.dtype.kind == "b":
        item = replace(item, dtype=types.int8)
        attrs.setdefault("dtype", "bool")  # as xarray marks them
    kinds = {"iuf": (4, 5), "if": (1, 2)}
    names = next(kind for kind, versions in kinds.items() if version in versions)
    small = version in (1, 2)
    is_good = item.dtype.kind in names and item.dtype not in (types.float16, types.bfloat16)
    if not is_good or (small and item.dtype is types.int64):
        remedy = "give dtype=, or save it with save_hdf5"
        raise DTypeError(f"{op}: x must be of a type that the format has, got {item.dtype}; {remedy}")
    if "_FillValue" in attrs:
        try:
            fill = np.array(attrs["_FillValue"], dtype=item.dtype.numpy).reshape(())
        except (TypeError, ValueError, OverflowError) as error:
            text = f"{op}: attrs must have a _FillValue of the variable's type {item.dtype}"
            raise TypeError(f"{text}, got {attrs['_FillValue']!r} ({error})") from None
        attrs["_FillValue"] = fill.reshape(1)
        item = replace(item, fill=fill)
    return replace(item, attrs=attrs)


@dataclass(frozen=True, slots=True)
class NetCDFPlan:
    """Items with their dimensions: extent by (group, name), and the names of those that may grow."""

    items: list[Item]
    extents: dict[tuple[str, str], int]
    unlimited: frozenset[str]
