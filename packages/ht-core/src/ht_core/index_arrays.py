"""Arrays of positions: of triangles and diagonals, open meshes, and positions in C order as one number per element.

``ndenumerate`` is left out on purpose: it would gather the array for a loop; loop over ``x.larray``, whose place is
``x.layout.slices(rank)``.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import torch
from ht_comm import Communicator

from . import types
from .devices import sanitize_device
from .dndarray import DNDarray
from .engines.creation import create, normalize_shape
from .engines.operands import as_arrays
from .errors import DTypeError, LayoutError
from .indexing import flatnonzero, nonzero
from .layout import Layout
from .picking import meet
from .registry import register

# -- one number per element <-> one number per axis -----------------------------------------------------------------


def _order(order: object, op: str) -> bool:
    if order not in ("C", "F"):
        raise LayoutError(f"{op}: order must be C or F, got {order!r}")
    return order == "C"


def _refuse(op: str, bad: torch.Tensor, argument: str, requirement: str, arrays: Sequence[DNDarray]) -> None:
    """Raise where a position is out of bounds; one check that all ranks share where an array is split."""
    error = None
    if len(bad):
        error = ValueError(f"{op}: {argument} must be {requirement}, got {int(bad[0])}")
    if any(x.split is not None for x in arrays):
        arrays[0].comm.agree(error)
    elif error is not None:
        raise error


def _integral(arrays: Sequence[DNDarray], op: str, argument: str) -> None:
    for x in arrays:
        if x.dtype.kind not in "iu":
            raise DTypeError(f"{op}: {argument} must be integers, got {x.dtype}; cast with astype first")


def unravel_index(indices: object, shape: object, order: str = "C") -> tuple:
    """Return positions in the flattened array as one position per axis.

    *Distribution*: elementwise; one check of the bounds where `indices` are split.

    Parameters
    ----------
    indices : array_like of int
    shape : int or tuple of int
        Of the array that was flattened.
    order : {"C", "F"}
        Whether the last or the first axis runs fastest.

    Returns
    -------
    tuple of DNDarray
        int64, one per axis, each of the shape and layout of `indices`; of int where `indices` is an int.

    Raises
    ------
    ValueError
        If a position is out of bounds, on every rank.
    DTypeError, LayoutError
        If `indices` are not integers or `order` is unknown.

    Examples
    --------
    >>> [i.numpy().tolist() for i in ht.unravel_index(ht.array([5, 3], split=0), (2, 3))]
    [[1, 1], [2, 0]]
    """
    op = "unravel_index"
    shape, is_c = normalize_shape(shape, op), _order(order, op)
    (x,) = as_arrays([indices], op)
    _integral([x], op, "indices")
    local, size = x.larray.to(torch.int64), math.prod(shape)
    _refuse(op, local[(local < 0) | (local >= size)], "indices", f"in [0, {size})", [x])
    found = []
    for extent in reversed(shape) if is_c else shape:
        found.append(local % max(extent, 1))
        local = local // max(extent, 1)
    found = found[::-1] if is_c else found
    if not isinstance(indices, (DNDarray, torch.Tensor)) and np.ndim(indices) == 0:
        return tuple(int(column) for column in found)
    return tuple(DNDarray(column, x.layout, x.comm) for column in found)


def ravel_multi_index(
    multi_index: Sequence[object], dims: object, mode: str | Sequence[str] = "raise", order: str = "C"
) -> DNDarray:
    """Return positions along each axis as positions in the flattened array.

    *Distribution*: elementwise; one check of the bounds where positions are split and ``mode`` is "raise".

    Parameters
    ----------
    multi_index : sequence of array_like of int
        One per axis; they broadcast.
    dims : int or tuple of int
        Shape of the array.
    mode : {"raise", "wrap", "clip"}, or one per axis
        What happens to positions outside [0, n): an error; modulo n; 0 or n - 1.
    order : {"C", "F"}
        Whether the last or the first axis runs fastest.

    Returns
    -------
    DNDarray
        int64.

    Raises
    ------
    ValueError
        If a position is out of bounds, on every rank.
    DTypeError, LayoutError
        If the arguments do not fit.

    Examples
    --------
    >>> ht.ravel_multi_index([ht.array([1, 0], split=0), 2], (2, 3)).numpy().tolist()
    [5, 2]
    """
    op = "ravel_multi_index"
    dims, is_c = normalize_shape(dims, op), _order(order, op)
    arrays = as_arrays(list(multi_index), op)
    _integral(arrays, op, "multi_index")
    modes = (mode,) * len(dims) if isinstance(mode, str) else tuple(mode)
    if len(arrays) != len(dims) or len(modes) != len(dims) or not arrays:
        raise LayoutError(
            f"{op}: multi_index must have one entry per axis of dims, got {len(arrays)} for {dims}"
        )
    if any(m not in ("raise", "wrap", "clip") for m in modes):
        raise LayoutError(f"{op}: mode must be raise, wrap or clip, got {mode!r}")
    bad = torch.empty(0, dtype=torch.int64)
    columns = []
    for x, n, how in zip(arrays, dims, modes):
        local = x.larray.to(torch.int64)
        if how == "wrap":
            local = local % max(n, 1)
        elif how == "clip":
            local = local.clamp(0, max(n - 1, 0))
        elif not len(bad):
            bad = local[(local < 0) | (local >= n)]
        columns.append(DNDarray(local, x.layout, x.comm))
    if "raise" in modes:
        _refuse(op, bad, "multi_index", f"positions in an array of shape {dims}", arrays)
    layout, parts = meet(columns, op)
    pairs = list(zip(parts, dims))
    total = torch.zeros(layout.lshape(arrays[0].comm.rank), dtype=torch.int64, device=parts[0].device)
    for column, n in pairs if is_c else pairs[::-1]:
        total = total * n + column
    return DNDarray(total, layout, arrays[0].comm)


def ix_(*args: object) -> tuple[DNDarray, ...]:
    """Return an open mesh: ``x[ix_(rows, columns)]`` are the elements where these cross.

    *Distribution*: each array keeps its split; no message, except one exchange of counts for a split mask.

    Parameters
    ----------
    args : array_like of int or bool, vectors
        A mask stands for the positions where it is true.

    Returns
    -------
    tuple of DNDarray
        The k-th of shape (1, ..., n, ..., 1) with n at axis k.

    Raises
    ------
    LayoutError
        If an argument is no vector.

    Examples
    --------
    >>> x = ht.arange(12, split=0).reshape(3, 4)
    >>> x[ht.ix_([0, 2], [True, False, False, True])].numpy().tolist()
    [[0, 3], [8, 11]]
    """
    found = []
    for at, x in enumerate(as_arrays(args, "ix_")):
        if x.ndim != 1:
            raise LayoutError(f"ix_: arguments must be vectors, got shape {x.shape}")
        if x.dtype is types.bool_:
            x = flatnonzero(x)
        elif not x.size:
            x = x.astype(types.int64)
        shape = tuple(x.lshape[0] if a == at else 1 for a in range(len(args)))
        whole = tuple(x.size if a == at else 1 for a in range(len(args)))
        layout = Layout(whole, None if x.split is None else at, x.layout.counts)
        found.append(DNDarray(x.larray.reshape(shape), layout, x.comm))
    return tuple(found)


# -- triangles and diagonals ----------------------------------------------------------------------------------------

_TRIANGLE = """Return the positions of the {which} triangle of an n x m matrix, row by row.

*Distribution*: no message. Each rank computes its own part, in time and memory of its size and 16 n bytes.

Parameters
----------
n : int
    Number of rows.
k : int
    The diagonal with which the triangle {ends}; 0 is the main one.
m : int, optional
    Number of columns; n by default.
split : {{0, None}}
    Whether the vectors are cut.
device, comm
    As for :func:`zeros`.

Returns
-------
tuple of DNDarray
    Rows and columns, int64, two vectors.

Raises
------
LayoutError
    If an extent is negative.

Examples
--------
>>> [i.numpy().tolist() for i in ht.{name}(2)]
{example}
"""


def _triangle(op: str, n: object, k: object, m: object, is_lower: bool, split, device, comm) -> tuple:
    n, m = normalize_shape((n, n if m is None else m), op)
    try:
        k = k.__index__()
    except AttributeError:
        raise LayoutError(f"{op}: k must be an integer, got {k!r}") from None
    place = sanitize_device(device).torch_device
    rows = torch.arange(n, device=place)
    starts = torch.zeros_like(rows) if is_lower else (rows + k).clamp(0, m)
    widths = (rows + k + 1).clamp(0, m) if is_lower else m - starts
    stops = widths.cumsum(0)
    total = int(stops[-1]) if n else 0

    def rows_of(lshape: tuple[int, ...], offset: int, kind: torch.dtype, place: torch.device) -> torch.Tensor:
        places = torch.arange(offset, offset + lshape[0], device=place)
        return torch.searchsorted(stops, places, right=True)

    def columns(lshape: tuple[int, ...], offset: int, kind: torch.dtype, place: torch.device) -> torch.Tensor:
        places = torch.arange(offset, offset + lshape[0], device=place)
        row = torch.searchsorted(stops, places, right=True)
        return places - (stops - widths - starts)[row]

    return tuple(create(op, (total,), types.int64, split, place, comm, fill) for fill in (rows_of, columns))


def tril_indices(
    n: int, k: int = 0, m: int | None = None, *, split=None, device=None, comm: Communicator | None = None
) -> tuple[DNDarray, DNDarray]:
    return _triangle("tril_indices", n, k, m, True, split, device, comm)


def triu_indices(
    n: int, k: int = 0, m: int | None = None, *, split=None, device=None, comm: Communicator | None = None
) -> tuple[DNDarray, DNDarray]:
    return _triangle("triu_indices", n, k, m, False, split, device, comm)


tril_indices.__doc__ = _TRIANGLE.format(
    which="lower", ends="ends", name="tril_indices", example="[[0, 1, 1], [0, 0, 1]]"
)
triu_indices.__doc__ = _TRIANGLE.format(
    which="upper", ends="begins", name="triu_indices", example="[[0, 0, 1], [0, 1, 1]]"
)


def _split_of(x: DNDarray) -> int | None:
    return None if x.split is None else 0


def tril_indices_from(x: DNDarray, k: int = 0) -> tuple[DNDarray, DNDarray]:
    """Return the positions of the lower triangle of a matrix; split where it is. See :func:`tril_indices`. No message.

    Raises
    ------
    LayoutError
        If `x` is no matrix.
    """
    _check_matrix(x, "tril_indices_from")
    n, m = x.shape
    return tril_indices(n, k, m, split=_split_of(x), device=x.device, comm=x.comm)


def triu_indices_from(x: DNDarray, k: int = 0) -> tuple[DNDarray, DNDarray]:
    """Return the positions of the upper triangle of a matrix; split where it is. See :func:`triu_indices`. No message.

    Raises
    ------
    LayoutError
        If `x` is no matrix.
    """
    _check_matrix(x, "triu_indices_from")
    n, m = x.shape
    return triu_indices(n, k, m, split=_split_of(x), device=x.device, comm=x.comm)


def _check_matrix(x: DNDarray, op: str) -> None:
    if x.ndim != 2:
        raise LayoutError(f"{op}: x must have two axes, got shape {x.shape}")


def diag_indices(
    n: int, ndim: int = 2, *, split=None, device=None, comm: Communicator | None = None
) -> tuple[DNDarray, ...]:
    """Return the positions of the main diagonal of an array of `ndim` axes of extent n. No message.

    Parameters
    ----------
    n, ndim : int
    split, device, comm
        As for :func:`arange`.

    Returns
    -------
    tuple of DNDarray
        `ndim` times the numbers 0, ..., n - 1, int64.

    Raises
    ------
    LayoutError
        If an argument is negative.

    Examples
    --------
    >>> x = ht.zeros((3, 3), split=0)
    >>> x[ht.diag_indices(3)] = 1
    >>> float(x.sum())
    3.0
    """
    n, ndim = normalize_shape((n, ndim), "diag_indices")

    def fill(lshape: tuple[int, ...], offset: int, kind: torch.dtype, place: torch.device) -> torch.Tensor:
        return torch.arange(offset, offset + lshape[0], device=place)

    return (create("diag_indices", (n,), types.int64, split, device, comm, fill),) * ndim


def diag_indices_from(x: DNDarray) -> tuple[DNDarray, ...]:
    """Return the positions of the main diagonal of an array whose axes have one extent; split where it is. No message.

    Raises
    ------
    LayoutError
        If `x` has fewer than two axes or their extents differ.
    """
    if x.ndim < 2 or len(set(x.shape)) > 1:
        raise LayoutError(
            f"diag_indices_from: x must have two axes or more of one extent, got shape {x.shape}"
        )
    return diag_indices(x.shape[0], x.ndim, split=_split_of(x), device=x.device, comm=x.comm)


def mask_indices(
    n: int, mask_func: Callable, k: object = 0, *, split=None, device=None, comm: Communicator | None = None
) -> tuple[DNDarray, ...]:
    """Return the positions where ``mask_func(ones((n, n)), k)`` is not zero.

    *Distribution*: with ``split=0`` the matrix and the positions are split; one exchange of counts then.

    Parameters
    ----------
    n : int
    mask_func : callable
        As :func:`triu` and :func:`tril`.
    k
        Passed on.
    split, device, comm
        As for :func:`ones`.

    Returns
    -------
    tuple of DNDarray
        Rows and columns, int64.

    Examples
    --------
    >>> [i.numpy().tolist() for i in ht.mask_indices(2, ht.triu)]
    [[0, 0, 1], [0, 1, 1]]
    """
    from .creation import ones

    shape = normalize_shape((n, n), "mask_indices")
    return nonzero(mask_func(ones(shape, dtype=types.int64, split=split, device=device, comm=comm), k))


def ndindex(*shape: object) -> Iterator[tuple[int, ...]]:
    """Iterate over the index tuples of a shape, in C order; every rank over all of them. No message.

    Raises
    ------
    LayoutError
        If an extent is negative or no integer.

    Examples
    --------
    >>> list(ht.ndindex(2, 2))
    [(0, 0), (0, 1), (1, 0), (1, 1)]
    """
    if len(shape) == 1 and not hasattr(shape[0], "__index__"):
        (shape,) = shape
    return itertools.product(*map(range, normalize_shape(shape, "ndindex")))


_CHECK = "One check where positions are split."
register(unravel_index, kind="index arrays", numpy="unravel_index", method=False, cost=_CHECK)
register(ravel_multi_index, kind="index arrays", numpy="ravel_multi_index", method=False, cost=_CHECK)
register(ix_, kind="index arrays", numpy="ix_", method=False)
for _function in (tril_indices, triu_indices, diag_indices, ndindex):
    register(_function, kind="creation", numpy=_function.__name__, arity=0, method=False)
for _function in (tril_indices_from, triu_indices_from, diag_indices_from):
    register(_function, kind="creation", numpy=_function.__name__, method=False)
register(
    mask_indices,
    kind="index arrays",
    numpy="mask_indices",
    arity=0,
    method=False,
    cost="One allgather of p integers where split.",
)
