"""Numbers in lines of text: blocks parsed by NumPy's C parser, or by that of pandas where it is installed and
gives the same. Knows no communicator.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from ht_core import types

_BLOCK = 8 << 20
_PIECE = 1 << 16
#: Shorter blocks do not repay the import of another parser.
_LARGE = 1 << 20


@dataclass(frozen=True, slots=True)
class Dialect:
    """How the numbers are written.

    Attributes
    ----------
    op, sep, encoding : str
        The function's name, for messages; what stands between columns; what the bytes mean.
    target : types.dtype
        Element type of the result.
    """

    op: str
    sep: str
    encoding: str
    target: types.dtype

    @property
    def parsed(self) -> np.dtype:
        """The type that the parser makes: that of the result, or one that holds it."""
        return (
            np.dtype("float64")
            if self.target.itemsize == 2 and self.target.kind == "f"
            else self.target.numpy
        )


@dataclass(frozen=True, slots=True)
class TextRange:
    """Bytes [start, stop) of a file, of which those lines are meant that begin there; `first` is where its data
    begins.
    """

    path: str
    first: int
    start: int
    stop: int


def find_data(path: str, header_lines: int, encoding: str) -> tuple[int, int]:
    """Return where the lines after the header begin, and the length of the file."""
    with open(path, "rb") as file:
        if encoding.lower().replace("_", "-") in ("utf-8", "utf8") and file.read(3) != b"\xef\xbb\xbf":
            file.seek(0)
        for _ in range(header_lines):
            file.readline()
        return file.tell(), os.fstat(file.fileno()).st_size


def read_rows(part: TextRange, dialect: Dialect) -> torch.Tensor | None:
    """Return the rows of the lines that begin in `part`, of shape (rows, columns); None if there are none.

    Raises
    ------
    ValueError
        A line is not numbers, or not as many as the first one; the text names file and line.
    """
    with open(part.path, "rb", buffering=0) as file:
        start, stop = (_line_start(file, part.first, at) for at in (part.start, part.stop))
        most = sum(piece.count(b"\n") for _, piece in _pieces(file, start, stop, _PIECE)) + 1
        out, done = None, 0
        for at, text in _pieces(file, start, stop, _BLOCK, whole_lines=True):
            if not text.strip(b"\r\n"):
                continue
            block = parse_block(text, dialect, None if out is None else out.shape[1], part.path, at)
            if out is None:
                out = torch.empty((most, block.shape[1]), dtype=dialect.target.torch)
            out[done : done + len(block)].copy_(torch.from_numpy(block))
            done += len(block)
    return None if out is None else out[:done]


def _line_start(file: io.FileIO, first: int, at: int) -> int:
    """Return where the first line begins that begins at byte `at` or later."""
    if at <= first:
        return first
    at -= 1
    while True:
        piece = os.pread(file.fileno(), _PIECE, at)
        if not piece:
            return at
        found = piece.find(b"\n")
        if found >= 0:
            return at + found + 1
        at += len(piece)


def _pieces(
    file: io.FileIO, start: int, stop: int, size: int, whole_lines: bool = False
) -> Iterator[tuple[int, bytes]]:
    """Yield the bytes [start, stop) in pieces of about `size`, with the place of each."""
    while start < stop:
        piece = os.pread(file.fileno(), min(size, stop - start), start)
        if not piece:
            return
        if whole_lines and start + len(piece) < stop:
            cut = piece.rfind(b"\n") + 1
            if not cut:
                size *= 2  # a line longer than a piece
                continue
            piece = piece[:cut]
        yield start, piece
        start += len(piece)


def parse_block(text: bytes, dialect: Dialect, columns: int | None, path: str, at: int) -> np.ndarray:
    """Return the numbers in `text`, whole lines that stand at byte `at` of the file: shape (rows, columns)."""
    reader = _fast_reader() if dialect.parsed.kind == "f" and len(text) >= _LARGE else None
    if reader is not None:
        found = reader(text, dialect)
        if found is not None and columns in (None, found.shape[1]):
            return found.astype(dialect.parsed, copy=False)
    try:
        lines = text.decode(dialect.encoding).split("\n")
    except UnicodeDecodeError as error:
        line = line_number(path, at + error.start)
        raise ValueError(
            f"{dialect.op}: encoding must be that of the file, got {dialect.encoding!r}, which does not fit "
            f"{path}:{line} ({error.reason})"
        ) from None
    return _parse_lines(lines, dialect, columns, path, at)


def _parse_lines(lines: list[str], dialect: Dialect, columns: int | None, path: str, at: int) -> np.ndarray:
    try:
        found = _loadtxt(lines, dialect)
        if columns in (None, found.shape[1]):
            return found
    except ValueError:
        pass
    columns = columns or _loadtxt_columns(lines, dialect)
    low, high = 0, len(lines)  # the first wrong line is among these
    while high - low > 1:
        middle = (low + high) // 2
        is_good = _is_good(lines[low:middle], dialect, columns)
        low, high = (middle, high) if is_good else (low, middle)
    number = line_number(path, at) + low
    raise ValueError(
        f"{dialect.op}: path must be a file of {columns or 'equally many'} numbers of type {dialect.target} per "
        f"line, separated by {dialect.sep!r}, got {lines[low].strip()[:80]!r} at {path}:{number}"
    )


def _loadtxt(lines: list[str], dialect: Dialect) -> np.ndarray:
    return np.loadtxt(lines, dialect.parsed, delimiter=dialect.sep, comments=None, quotechar='"', ndmin=2)


def _loadtxt_columns(lines: list[str], dialect: Dialect) -> int | None:
    """Return the number of columns of the first line that has any, None if they are not numbers."""
    first = next(line for line in lines if line.strip("\r"))
    try:
        return _loadtxt([first], dialect).shape[1]
    except ValueError:
        return None


def _is_good(lines: list[str], dialect: Dialect, columns: int | None) -> bool:
    if not any(line.strip("\r") for line in lines):
        return True
    try:
        return columns in (None, _loadtxt(lines, dialect).shape[1])
    except ValueError:
        return False


def line_number(path: str, at: int) -> int:
    """Return the number, from 1, of the line that byte `at` of the file is in. Reads all before it."""
    with open(path, "rb", buffering=0) as file:
        return 1 + sum(piece.count(b"\n") for _, piece in _pieces(file, 0, at, _PIECE))


@functools.cache
def _fast_reader() -> Callable[[bytes, Dialect], np.ndarray | None] | None:
    """Return a faster parser of floating numbers, if one is installed that rounds as Python does."""
    try:
        import pandas
    except ImportError:
        return None

    def read(text: bytes, dialect: Dialect) -> np.ndarray | None:
        """Return the numbers, or None for what NumPy must look at: it decides what is refused."""
        if any(mark in text for mark in (b'"', b"t", b"T")):  # quotes; "true" would be a number
            return None
        if text.count(b"\r") != text.count(b"\r\n"):
            return None
        try:
            table = pandas.read_csv(
                io.BytesIO(text),
                header=None,
                sep=dialect.sep,
                dtype="float64",
                keep_default_na=False,
                na_values=["nan", "NaN", "-nan"],
            )
        except (ValueError, TypeError):  # the parser's own errors are ValueErrors
            return None
        lines = text.count(b"\n") + (not text.endswith(b"\n"))
        # It fills short rows, and skips lines of blanks.
        is_full = text.count(dialect.sep.encode()) == len(table) * (table.shape[1] - 1)
        return table.to_numpy() if is_full and len(table) == lines else None

    # Numbers half-way between two others, where a parser that takes short cuts is off by one digit.
    hard = [
        "9007199254740993",
        "2.2250738585072011e-308",
        "0.500000000000000166533453693773481063544750213623046875",
    ]
    hard += [
        "1.7976931348623157e308",
        "8.41e21",
        "9.5367431640625e-7",
        "4.9406564584124654e-324",
        "6.631236846766476e-316",
    ]
    probe = read("\n".join(hard).encode(), Dialect("", ",", "utf-8", types.float64))
    is_exact = probe is not None and probe.ravel().tolist() == [float(text) for text in hard]
    return read if is_exact else None
