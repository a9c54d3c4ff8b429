"""The header of classic NetCDF files (CDF-1, CDF-2, CDF-5): parse it, build it. Pure: bytes in, bytes out.

Format: Unidata, *NetCDF Classic Format Specification*; the 64-bit data format is that of PnetCDF. All numbers are
big-endian. Variables of fixed size follow each other; variables along the record dimension are interleaved record
by record.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass, field

import numpy as np

from .slabs import Slab

#: nc_type -> NumPy type on disk. Type 2 is text.
TYPES = {
    1: "i1",
    2: "S1",
    3: ">i2",
    4: ">i4",
    5: ">f4",
    6: ">f8",
    7: "u1",
    8: ">u2",
    9: ">u4",
    10: ">i8",
    11: ">u8",
}
_CODES = {np.dtype(name): code for code, name in TYPES.items()}
_DIMENSION, _VARIABLE, _ATTRIBUTE = 10, 11, 12
_STREAMING = -1  # number of records of a file that was never closed


class HeaderError(ValueError):
    """The bytes are no complete classic NetCDF header."""


@dataclass(slots=True)
class Variable:
    """A variable: dimensions by name, type on disk, attributes, first byte, bytes of (a record of) it."""

    name: str
    dims: tuple[str, ...]
    dtype: np.dtype
    attrs: dict[str, object] = field(default_factory=dict)
    begin: int = 0
    vsize: int = 0


@dataclass(slots=True)
class Header:
    """Everything before the data.

    Attributes
    ----------
    version : {1, 2, 5}
    dims : dict
        Name to extent; that of the record dimension, if there is one, is the number of records.
    record : str or None
        Name of the record dimension.
    attrs, variables
        Of the file; by name.
    """

    version: int
    dims: dict[str, int]
    record: str | None
    attrs: dict[str, object]
    variables: dict[str, Variable]

    def shape(self, variable: Variable) -> tuple[int, ...]:
        """Return the extents of a variable."""
        return tuple(self.dims[name] for name in variable.dims)

    def is_record(self, variable: Variable) -> bool:
        """Tell whether the variable grows with the records."""
        return bool(variable.dims) and variable.dims[0] == self.record

    def record_bytes(self) -> int:
        """Return the bytes from one record to the next: padded to four, except where one variable is alone."""
        sizes = [_row_bytes(self, v) for v in self.variables.values() if self.is_record(v)]
        return sizes[0] if len(sizes) == 1 else sum(_padded(size) for size in sizes)

    def slab(self, variable: Variable) -> Slab:
        """Return where the elements of a variable are."""
        dense = Slab.dense(variable.begin, self.shape(variable), variable.dtype)
        if not self.is_record(variable):
            return dense
        return Slab(dense.offset, dense.shape, dense.dtype, (self.record_bytes(), *dense.strides[1:]))


def _row_bytes(header: Header, variable: Variable) -> int:
    shape = header.shape(variable)
    return math.prod(shape[1:] if header.is_record(variable) else shape) * variable.dtype.itemsize


def _padded(size: int) -> int:
    return -(-size // 4) * 4


class _Reader:
    def __init__(self, data: bytes, version: int) -> None:
        self.data, self.at = data, 4
        self.long = ">q" if version == 5 else ">i"  # counts and lengths
        self.begin = ">i" if version == 1 else ">q"

    def take(self, size: int) -> bytes:
        piece = self.data[self.at : self.at + size]
        if size < 0 or len(piece) < size:
            raise HeaderError("the header ends too early")
        self.at += size
        return piece

    def number(self, form: str) -> int:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def count(self) -> int:
        found = self.number(self.long)
        if found < 0:
            raise HeaderError(f"a count is {found}")
        return found

    def name(self) -> str:
        size = self.count()
        return self.take(_padded(size))[:size].decode()

    def table(self, tag: int) -> int:
        found, number = self.number(">i"), self.count()
        if found not in (0, tag) or (found == 0 and number):
            raise HeaderError(f"a list begins with {found}")
        return number

    def attributes(self) -> dict[str, object]:
        found = {}
        for _ in range(self.table(_ATTRIBUTE)):
            name, kind = self.name(), self.kind()
            number = self.count()
            raw = self.take(_padded(number * kind.itemsize))[: number * kind.itemsize]
            if kind.kind == "S":
                found[name] = raw.decode("utf-8", "replace").rstrip("\0")
            else:
                values = np.frombuffer(raw, kind).astype(kind.newbyteorder("="))
                found[name] = values[0] if number == 1 else values
        return found

    def kind(self) -> np.dtype:
        code = self.number(">i")
        if code not in TYPES:
            raise HeaderError(f"type {code} is unknown")
        return np.dtype(TYPES[code])


def parse_header(data: bytes, file_size: int) -> Header:
    """Return the header that `data`, the beginning of a file of `file_size` bytes, holds.

    Raises
    ------
    HeaderError
        If it is none, or ends beyond `data`.
    """
    if data[:3] != b"CDF" or data[3:4] not in (b"\1", b"\2", b"\5"):
        raise HeaderError("it does not begin as one")
    version = data[3]
    reader = _Reader(data, version)
    records = reader.number(reader.long)
    names, dims, record = [], {}, None
    for _ in range(reader.table(_DIMENSION)):
        name, extent = reader.name(), reader.count()
        names.append(name)
        dims[name] = extent
        record = name if extent == 0 else record
    attrs = reader.attributes()
    variables = {}
    for _ in range(reader.table(_VARIABLE)):
        name = reader.name()
        numbers = [reader.count() for _ in range(reader.count())]
        if any(number >= len(names) for number in numbers):
            raise HeaderError(f"{name!r} has a dimension that is not there")
        own, kind = reader.attributes(), reader.kind()
        reader.count()  # its size: follows from the shape, and is capped in old formats
        begin = reader.number(reader.begin)
        variables[name] = Variable(name, tuple(names[n] for n in numbers), kind, own, begin)
    header = Header(version, dims, record, attrs, variables)
    if record is not None:
        is_open = records == _STREAMING
        dims[record] = _count_records(header, file_size) if is_open else records
    for variable in variables.values():
        variable.vsize = _padded(_row_bytes(header, variable))
    return header


def _count_records(header: Header, file_size: int) -> int:
    begins = [v.begin for v in header.variables.values() if header.is_record(v)]
    size = header.record_bytes()
    return max((file_size - min(begins)) // size, 0) if begins and size else 0


def type_code(dtype: np.dtype, version: int) -> int | None:
    """Return the nc_type of a NumPy type of any byte order, None if files of that version have none."""
    code = _CODES.get(dtype if dtype.itemsize == 1 else dtype.newbyteorder(">"))
    return code if code is not None and (code <= 6 or version == 5) else None


def _pack_name(text: str, long: str) -> bytes:
    raw = text.encode()
    return struct.pack(long, len(raw)) + raw.ljust(_padded(len(raw)), b"\0")


def pack_attribute(name: str, value: object, version: int) -> bytes:
    """Return the bytes of an attribute.

    Raises
    ------
    TypeError
        If it is neither text nor numbers of a type of the format.
    """
    long = ">q" if version == 5 else ">i"
    if isinstance(value, (str, bytes)):
        raw = value.encode() if isinstance(value, str) else value
        code, number = 2, len(raw)
    else:
        found = np.atleast_1d(np.asarray(value))
        if found.dtype == np.int64 and version != 5 and (found == found.astype("i4")).all():
            found = found.astype("i4")  # a Python integer
        code = type_code(found.dtype, version) if found.ndim == 1 and found.dtype.kind in "iuf" else None
        if code is None:
            raise TypeError(f"{name!r}: {value!r} of type {found.dtype}")
        raw, number = found.astype(TYPES[code]).tobytes(), len(found)
    return (
        _pack_name(name, long)
        + struct.pack(">i", code)
        + struct.pack(long, number)
        + raw.ljust(_padded(len(raw)), b"\0")
    )


def build_header(header: Header) -> bytes:
    """Return the bytes of a header, and set where each variable begins: fixed ones first, then the records."""
    first = _padded(len(_pack(header)))
    order = sorted(header.variables.values(), key=header.is_record)
    for variable in order:
        variable.vsize = _padded(_row_bytes(header, variable))
        variable.begin = first
        first += variable.vsize
    return _pack(header)


def _pack(header: Header) -> bytes:
    long = ">q" if header.version == 5 else ">i"
    place = ">i" if header.version == 1 else ">q"
    limit = (1 << 63) - 1 if header.version == 5 else (1 << 32) - 4
    numbers = {name: i for i, name in enumerate(header.dims)}
    out = [b"CDF", bytes([header.version]), struct.pack(long, header.dims.get(header.record, 0))]
    out.append(_table(_DIMENSION, len(numbers), long))
    for name, extent in header.dims.items():
        out += [_pack_name(name, long), struct.pack(long, 0 if name == header.record else extent)]
    out.append(_pack_attributes(header.attrs, header.version))
    out.append(_table(_VARIABLE, len(header.variables), long))
    for variable in header.variables.values():
        out += [_pack_name(variable.name, long), struct.pack(long, len(variable.dims))]
        out += [struct.pack(long, numbers[name]) for name in variable.dims]
        out.append(_pack_attributes(variable.attrs, header.version))
        size = min(variable.vsize, limit)
        out.append(struct.pack(">i", _CODES[variable.dtype]))
        out.append(struct.pack(long if header.version == 5 else ">I", size))
        out.append(struct.pack(place, variable.begin))
    return b"".join(out)


def _table(tag: int, number: int, long: str) -> bytes:
    return struct.pack(">i", tag if number else 0) + struct.pack(long, number)


def _pack_attributes(attrs: dict[str, object], version: int) -> bytes:
    long = ">q" if version == 5 else ">i"
    return _table(_ATTRIBUTE, len(attrs), long) + b"".join(
        pack_attribute(name, value, version) for name, value in attrs.items()
    )
