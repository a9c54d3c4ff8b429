"""Zip archives whose members are stored plainly, laid out before their data is written: headers, places,
checksums. Pure: numbers in, bytes out.

Format: PKWARE, *.ZIP File Format Specification* (APPNOTE 6.3). Every member has the 64-bit fields, so that one
layout serves all sizes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

_LOCAL, _CENTRAL, _END, _END64, _LOCATOR = 0x04034B50, 0x02014B50, 0x06054B50, 0x06064B50, 0x07064B50
_VERSION = 45  # the first with 64-bit fields
_UTF8 = 1 << 11
_DATE = (1 << 5) | 1  # 1980-01-01: equal contents make equal files
_FULL = 0xFFFFFFFF
_POLYNOMIAL = 0xEDB88320


@dataclass(slots=True)
class Member:
    """A member: its name, the bytes of its data, and, once laid out, where its header begins."""

    name: str
    size: int
    begin: int = 0
    crc: int = 0

    @property
    def data(self) -> int:
        """The byte at which its data begins."""
        return self.begin + len(self.header())

    def header(self) -> bytes:
        """Return what stands before the data."""
        name = self.name.encode()
        extra = struct.pack("<HHQQ", 1, 16, self.size, self.size)
        fixed = struct.pack(
            "<IHHHHHIIIHH",
            _LOCAL,
            _VERSION,
            _UTF8,
            0,
            0,
            _DATE,
            self.crc,
            _FULL,
            _FULL,
            len(name),
            len(extra),
        )
        return fixed + name + extra

    def entry(self) -> bytes:
        """Return its entry in the directory at the end of the archive."""
        name = self.name.encode()
        extra = struct.pack("<HHQQQ", 1, 24, self.size, self.size, self.begin)
        fixed = struct.pack(
            "<IHHHHHHIII", _CENTRAL, 3 << 8 | _VERSION, _VERSION, _UTF8, 0, 0, _DATE, self.crc, _FULL, _FULL
        )
        rest = struct.pack("<HHHHHII", len(name), len(extra), 0, 0, 0, 0o600 << 16, _FULL)
        return fixed + rest + name + extra


def lay_out(members: Sequence[Member]) -> int:
    """Place the members one after the other; return where the directory begins."""
    at = 0
    for member in members:
        member.begin = at
        at = member.data + member.size
    return at


def directory(members: Sequence[Member], begin: int) -> bytes:
    """Return all that follows the last member's data."""
    entries = b"".join(member.entry() for member in members)
    count, size = len(members), len(entries)
    end64 = struct.pack("<IQHHIIQQQQ", _END64, 44, _VERSION, _VERSION, 0, 0, count, count, size, begin)
    locator = struct.pack("<IIQI", _LOCATOR, 0, begin + size, 1)
    end = struct.pack("<IHHHHIIH", _END, 0, 0, min(count, 0xFFFF), min(count, 0xFFFF), _FULL, _FULL, 0)
    return entries + end64 + locator + end


def join_checksums(first: int, second: int, length: int) -> int:
    """Return the CRC-32 of two pieces from those of each, the second of `length` bytes.

    The checksum is a remainder of polynomials over GF(2): the first one's is multiplied by x to the power of the
    bits that follow, by repeated squaring.

    >>> import zlib
    >>> join_checksums(zlib.crc32(b"ab"), zlib.crc32(b"cde"), 3) == zlib.crc32(b"abcde")
    True
    """
    power, factor, exponent = 1 << 31, 1 << 30, 8 * length  # 1 and x, lowest power in the highest bit
    while exponent:
        if exponent & 1:
            power = _multiply(power, factor)
        factor = _multiply(factor, factor)
        exponent >>= 1
    return _multiply(power, first) ^ second


def _multiply(a: int, b: int) -> int:
    product = 0
    for bit in range(31, -1, -1):
        if a >> bit & 1:
            product ^= b
        b = (b >> 1) ^ (_POLYNOMIAL if b & 1 else 0)
    return product
