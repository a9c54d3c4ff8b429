"""Reading CSV files: each rank parses the lines that begin in its range of bytes."""

from __future__ import annotations

import os
import zlib

import numpy as np
import torch
from ht_comm import Communicator, get_comm
from ht_core import DNDarray, Layout, resplit, types
from ht_core.devices import sanitize_device
from ht_core.layout import normalize_axis

from .csv_parse import Dialect, TextRange, find_data, line_number, read_rows
from .joined import list_files
from .loading import check_readable


def load_csv(
    path: str | os.PathLike,
    header_lines: int = 0,
    sep: str = ",",
    dtype: object = None,
    encoding: str = "utf-8",
    split: int | None = None,
    device: object = None,
    comm: Communicator | None = None,
) -> DNDarray:
    r"""Load a table of numbers from a CSV file. Collective.

    Parameters
    ----------
    path : path
        File that every rank can read. Lines end in ``\n`` or ``\r\n``; empty lines are skipped; numbers may
        be quoted.
    header_lines : int
        Lines at the beginning that are not read.
    sep : str
        The one character between columns.
    dtype : dtype, optional
        Element type of the result, float64 if not given. Integers of any size and every digit of a float are
        kept; what does not fit the type is refused. Bools are 0 and 1.
    encoding : str
        An encoding in which a line end is the byte 10, as in UTF-8, Latin-1 and all of ISO 8859.
    split : {None, 0, 1}
        Axis along which the result is distributed; None: every rank holds all of it.
    device : optional
        Where the result lives; the current default device if not given.
    comm : Communicator, optional
        Whose ranks share the result; the current one if not given.

    Returns
    -------
    DNDarray
        Always of two axes: (lines, columns), also for one column or one line; (0, 0) if there are no lines.

    Distribution
    ------------
    S(split), even, or R. Each rank parses the lines that begin in its p-th of the bytes. It reads them twice: the
    first time to count the lines, so that the result is made once, in its size. One allgather of four integers;
    then the rows at the edges move to even parts (split 0), or all of them (split 1 and None), in
    one redistribution. Memory: the rows that were parsed and the result, and blocks of 8 MiB of text.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError, OSError
        The file is absent or not readable.
    ValueError
        A line is not numbers, or not as many as the others; the text names file and line.
    LayoutError, DTypeError
        `split` or `dtype` do not fit.

    Whatever rank it happens on, all ranks raise the same error.

    Notes
    -----
    Parsed by :func:`numpy.loadtxt`. Where pandas is installed, its parser reads blocks of plain floating numbers,
    several times faster and to the same bits.

    Examples
    --------
    >>> import ht_core, ht_io
    >>> ht_io.save_csv(ht_core.ones((5, 2), split=0), "ones.csv", header_lines=["a,b"])
    >>> ht_io.load_csv("ones.csv", header_lines=1, split=0).shape
    (5, 2)
    """
    return _load(lambda: [path], header_lines, sep, dtype, encoding, split, device, comm, "load_csv")


def load_csv_from_folder(
    path: str | os.PathLike,
    dtype: object = None,
    split: int | None = 0,
    device: object = None,
    comm: Communicator | None = None,
    *,
    header_lines: int = 0,
    sep: str = ",",
    encoding: str = "utf-8",
) -> DNDarray:
    """Load all .csv files of a folder as one table, in the order of their names. Collective.

    Parameters
    ----------
    path : path
        Directory that all ranks see. Every file must have equally many columns.
    dtype, split, device, comm, header_lines, sep, encoding
        As in :func:`load_csv`; the header is skipped in each file.

    Returns
    -------
    DNDarray

    Distribution
    ------------
    As :func:`load_csv`, with the bytes of all files in a row shared out: as many messages as for one file.

    Raises
    ------
    FileNotFoundError, NotADirectoryError
        The folder is absent or has no such file.
    Exception
        As :func:`load_csv`; the same on all ranks.

    Examples
    --------
    >>> import os, ht_core, ht_io
    >>> if ht_core.ones(1).comm.rank == 0:
    ...     os.makedirs("tables", exist_ok=True)
    >>> ht_io.save_csv(ht_core.ones((2, 3)), "tables/1.csv")
    >>> ht_io.save_csv(ht_core.ones((4, 3)), "tables/2.csv")
    >>> ht_io.load_csv_from_folder("tables").shape
    (6, 3)
    """
    op = "load_csv_from_folder"
    return _load(
        lambda: list_files(path, (".csv",), None, op),
        header_lines,
        sep,
        dtype,
        encoding,
        split,
        device,
        comm,
        op,
    )


def _load(
    find: object,
    header_lines: object,
    sep: object,
    dtype: object,
    encoding: object,
    split: object,
    device: object,
    comm: Communicator | None,
    op: str,
) -> DNDarray:
    comm = get_comm() if comm is None else comm
    dialect = check_dialect(sep, encoding, types.float64 if dtype is None else types.canonical(dtype), op)
    if not hasattr(header_lines, "__index__") or isinstance(header_lines, bool) or header_lines < 0:
        raise ValueError(f"{op}: header_lines must be a number of lines, got {header_lines!r}")
    axis = None if split is None else normalize_axis(split, 2, op, "split")
    place = sanitize_device(device).torch_device
    error, blocks, mark = None, [], 0
    try:
        names = [check_readable(path, op) for path in find()]
        found = [find_data(name, int(header_lines), dialect.encoding) for name in names]
        mark = zlib.crc32(f"{names} {found} {dialect} {header_lines}".encode("utf-8", "surrogateescape"))
        for part in plan_parts(names, found, comm.rank, comm.size):
            rows = read_rows(part, dialect)
            if rows is not None:
                check_columns(rows, blocks, part, dialect)
                blocks.append((rows, part))
    except Exception as failure:
        error = failure
    local, layout = _agree(blocks, mark, error, comm, dialect)
    x = DNDarray(local.to(place), layout, comm)
    if axis != 0:
        return resplit(x, axis)
    return x if layout.is_even else x.balance_()


def check_dialect(sep: object, encoding: object, target: types.dtype, op: str) -> Dialect:
    """Return how numbers are written, or raise."""
    if not isinstance(sep, str) or len(sep) != 1 or sep in '"\r\n' or not sep.isascii():
        raise ValueError(f"{op}: sep must be one ASCII character that is no quote or line end, got {sep!r}")
    try:
        is_fit = "\n,1".encode(encoding) == b"\n,1"
    except (LookupError, TypeError):
        is_fit = False
    if not is_fit:
        raise ValueError(
            f"{op}: encoding must be one in which ASCII is one byte each, such as 'utf-8', got {encoding!r}"
        )
    return Dialect(op, sep, encoding, target)


def plan_parts(names: list[str], found: list[tuple[int, int]], rank: int, size: int) -> list[TextRange]:
    """Return the pieces of the files that are the `rank`-th part of all their bytes.

    >>> [(part.path, part.start, part.stop) for part in plan_parts(["a", "b"], [(2, 10), (0, 8)], 0, 2)]
    [('a', 2, 10)]
    """
    total = sum(max(end - first, 0) for first, end in found)
    low, high = total * rank // size, total * (rank + 1) // size
    parts, before = [], 0
    for name, (first, end) in zip(names, found):
        start, stop = (min(max(edge - before + first, first), end) for edge in (low, high))
        if start < stop:
            parts.append(TextRange(name, first, start, stop))
        before += max(end - first, 0)
    return parts


def check_columns(
    rows: torch.Tensor, blocks: list[tuple[torch.Tensor, TextRange]], part: TextRange, dialect: Dialect
) -> None:
    """Refuse rows of a file that are not as long as those of the files before."""
    if blocks and blocks[0][0].shape[1] != rows.shape[1]:
        raise _ragged(part, rows.shape[1], blocks[0][0].shape[1], dialect)


def _ragged(part: TextRange, got: int, wanted: int, dialect: Dialect) -> ValueError:
    line = line_number(part.path, part.start)
    return ValueError(
        f"{dialect.op}: path must be a file of equally many numbers per line, got {got} instead of {wanted} "
        f"from {part.path}:{line} on"
    )


def _agree(
    blocks: list[tuple[torch.Tensor, TextRange]],
    mark: int,
    error: Exception | None,
    comm: Communicator,
    dialect: Dialect,
) -> tuple[torch.Tensor, Layout]:
    """Return this rank's rows and the layout of all, or raise the same error everywhere."""
    rows = sum(len(block) for block, _ in blocks)
    columns = blocks[0][0].shape[1] if blocks else 0
    own = np.array([error is not None, rows, columns, mark], dtype=np.int64)
    table = comm.allgather(own).reshape(comm.size, 4).tolist()
    widths = [width for _, number, width, _ in table if number]
    wanted = widths[0] if widths else 0
    if any(row[0] for row in table) or any(w != wanted for w in widths) or len({r[3] for r in table}) > 1:
        if error is None and not any(row[0] for row in table):
            if len({row[3] for row in table}) > 1:
                error = OSError(
                    f"{dialect.op}: path and arguments must mean the same on every rank; put the file where all "
                    f"nodes share it"
                )
            elif rows and columns != wanted:
                error = _ragged(blocks[0][1], columns, wanted, dialect)
        comm.agree(error)
    layout = Layout((sum(row[1] for row in table), wanted), 0, tuple(row[1] for row in table))
    if len(blocks) == 1:
        return blocks[0][0].contiguous(), layout
    if not blocks:
        return torch.empty((0, wanted), dtype=dialect.target.torch), layout
    return torch.cat([block for block, _ in blocks]), layout
