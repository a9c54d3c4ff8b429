"""Writing CSV files: each rank formats its rows, with as few digits as say exactly what they are, and writes
them at their place.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable

import numpy as np
import torch
from ht_comm import Communicator
from ht_core.errors import LayoutError

from .csv_read import check_dialect
from .npy import check_new
from .plan_write import Item, plan_items
from .raw import move_to_rows
from .replace import write_all
from .saving import save_file
from .selection import plan_blocks

_OP = "save_csv"
#: Numbers per rank that are text at the same time: some 20 MiB.
_BAND = 1 << 20


def save_csv(
    data: object,
    path: str | os.PathLike,
    header_lines: str | Iterable[str] | None = None,
    sep: str = ",",
    decimals: int = -1,
    encoding: str = "utf-8",
    comm: Communicator | None = None,
    truncate: bool = True,
    *,
    mode: str = "w",
    dtype: object = None,
) -> None:
    r"""Save a table of numbers to a CSV file. Collective.

    Parameters
    ----------
    data : DNDarray
        Of at most two axes, any split, any counts; one axis becomes one column. Tensors, NumPy arrays and
        numbers are taken too; they must be equal on all ranks.
    path : path
        File on a file system that all ranks share.
    header_lines : str or iterable of str, optional
        Lines to begin with, without their line ends.
    sep : str
        The one character between columns.
    decimals : int
        Digits after the point of floating numbers; -1: as few as give the same number when they are read
        in the array's type.
    encoding : str
        As in :func:`load_csv`.
    comm : Communicator, optional
        That of `data`; another one is refused.
    truncate : bool
        Must be true: the file is always replaced as a whole.
    mode : {"w", "x", "w-"}
        "w" replaces an existing file; "x" and "w-" refuse.
    dtype : dtype, optional
        Element type whose numbers are written; by default that of `data`.

    Distribution
    ------------
    Any split, which stays what it is. A broadcast of a few integers, three one-number agreements and an
    allgather of one number, in which ranks learn the place of their lines. More than 2^20 numbers per rank are
    written in bands of rows of that size, one allgather each, for which they move to even parts; so do arrays
    that are not split along axis 0.

    Raises
    ------
    OSError
        The file cannot be made, or the disk is full.
    ValueError, LayoutError, DTypeError
        An argument does not fit.

    All ranks raise the same error, nothing is left behind, and a file that was there before is unchanged.

    Notes
    -----
    Lines end in ``\n``. Bools are 0 and 1, complex numbers like ``1.5-2j``, the others as Python writes them:
    ``nan``, ``inf``, ``1e-05``.

    Examples
    --------
    >>> import ht_core, ht_io
    >>> ht_io.save_csv(ht_core.arange(4, split=0).reshape((2, 2)) / 3, "thirds.csv", header_lines="a,b")
    >>> print(open("thirds.csv").read().strip())
    a,b
    0.0,0.3333333333333333
    0.6666666666666666,1.0
    """
    check_new(mode, _OP)
    if truncate is not True:
        raise ValueError(f"{_OP}: truncate must be True, got {truncate!r}; a file is replaced as a whole")
    if not hasattr(decimals, "__index__") or isinstance(decimals, bool) or not -1 <= decimals <= 1000:
        raise ValueError(f"{_OP}: decimals must be in [-1, 1000], got {decimals!r}")
    items, found = plan_items(data, "x", dtype, None, None, None, _OP)
    item = items[0]
    if comm is not None and comm is not found:
        raise ValueError(f"{_OP}: comm must be that of data, got {comm!r} and {found!r}")
    if len(item.layout.shape) > 2:
        raise LayoutError(
            f"{_OP}: data must have at most 2 axes, got shape {item.layout.shape}; reshape it, or use save_npy"
        )
    check_dialect(sep, encoding, item.dtype, _OP)
    header = _encode_header(header_lines, encoding)

    def create(temporary: str, keep: bool) -> list[int]:
        with open(temporary, "xb") as file:
            file.write(header)
        return [len(header)]

    save_file(
        path,
        mode,
        create,
        lambda temporary, places: _write(temporary, places[0], item, sep, int(decimals), found),
        facts=f"{item.signature()} {sep} {decimals} {encoding} {header!r}",
        needed=2 * item.layout.size,
        comm=found,
        op=_OP,
    )


def _encode_header(lines: str | Iterable[str] | None, encoding: str) -> bytes:
    lines = [] if lines is None else [lines] if isinstance(lines, str) else list(lines)
    for line in lines:
        if not isinstance(line, str):
            raise TypeError(f"{_OP}: header_lines must be strings, got {line!r}")
    try:
        return "".join(line.removesuffix("\n") + "\n" for line in lines).encode(encoding)
    except UnicodeEncodeError as error:
        raise ValueError(f"{_OP}: encoding must have the letters of header_lines, got {error}") from None


def _write(
    path: str, place: int, item: Item, sep: str, decimals: int, comm: Communicator
) -> Exception | None:
    """Write the rows in bands; return what went wrong instead of raising."""
    error, handle = None, None
    shape = item.layout.shape
    rows = max(_BAND // max(math.prod(shape[1:]), 1), 1) * comm.size
    is_one = item.layout.split == 0 and shape[0] <= rows
    try:
        handle = os.open(path, os.O_WRONLY)
    except OSError as failure:
        error = failure
    try:
        for low in range(0, shape[0], rows):
            high = min(low + rows, shape[0])
            block = item.local if is_one else move_to_rows(item, low, high, comm)[0]
            text = b""
            try:
                text = format_rows(block.to(item.dtype.torch), sep, decimals) if error is None else b""
            except Exception as failure:
                error = failure
            lengths = comm.allgather(np.array([len(text)], dtype=np.int64)).tolist()
            try:
                if error is None:
                    write_all(handle, memoryview(text), place + sum(lengths[: comm.rank]))
            except OSError as failure:
                text = f"{_OP}: path must be on a file system that takes the data: {failure.strerror}"
                error = OSError(failure.errno, text)
            place += sum(lengths)
        if error is None:
            os.fsync(handle)
    except OSError as failure:
        error = error or failure
    finally:
        if handle is not None:
            os.close(handle)
    return error


def format_rows(block: torch.Tensor, sep: str, decimals: int = -1) -> bytes:
    """Return the lines of the rows of `block`, of shape (rows,) or (rows, columns).

    >>> format_rows(torch.tensor([[0.1, 2.0], [float("nan"), -float("inf")]]), ",")
    b'0.1,2.0\\nnan,-inf\\n'
    """
    block = block.detach().reshape(len(block), -1 if block.numel() else block.shape[1:].numel())
    if block.numel() == 0:
        return b"\n" * len(block)
    pieces = []
    for low, high in plan_blocks(len(block), block.shape[1] * 8, budget=1 << 20):
        values = block[low:high].cpu().resolve_conj().resolve_neg()
        pieces += [sep.join(row) for row in _words(values, decimals)]
    pieces.append("")
    return "\n".join(pieces).encode()


def _words(values: torch.Tensor, decimals: int) -> Iterable[Iterable[str]]:
    """Return the numbers of each row as text."""
    if values.dtype.is_complex:
        parts = zip(_words(values.real, decimals), _words(values.imag, decimals))
        return [
            [f"{a}{b}j" if b[0] == "-" else f"{a}+{b}j" for a, b in zip(real, imag)] for real, imag in parts
        ]
    if values.dtype is torch.bool:
        values = values.to(torch.uint8)
    if not values.dtype.is_floating_point:
        return (map(str, row) for row in values.tolist())
    if decimals >= 0:
        line = f"%.{decimals}f"
        return ([line % number for number in row] for row in values.double().tolist())
    if values.dtype is torch.float64:
        return (map(repr, row) for row in values.tolist())
    # The shortest digits of a type are found in that type; those of bfloat16 in float32, which holds it.
    if values.dtype is torch.bfloat16:
        values = values.float()
    return np.ascontiguousarray(values.numpy()).astype("U").tolist()
