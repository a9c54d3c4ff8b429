"""Reductions and products of matrices of distances or kernels, whose entries are computed where they are used."""

from __future__ import annotations

import math

import torch
from ht_core import DNDarray
from ht_core.engines.redistribution import redistribute
from ht_core.errors import DTypeError, LayoutError
from ht_core.layout import Layout

from ..arguments import as_dndarray
from ..qr import computing_dtype
from .metrics import BoundMetric, bind, check_metric, spans, tile_shape
from .operands import Tables, as_tables

_SUMS = ("sum", "mean")
_PLACES = ("argmin", "argmax")
_NONE = torch.iinfo(torch.int64).max


def kernel_matmul(
    X: object,
    Y: object | None,
    V: object,
    kernel: object = "rbf",
    *,
    gamma: float = 1.0,
    exclude_self: bool = False,
) -> DNDarray:
    """Return ``K @ V`` for the matrix K of values of a kernel between the rows of X and Y, which is never stored.

    Parameters
    ----------
    X : array_like, shape (n, d)
        Real; dtypes as in :func:`cdist`.
    Y : array_like, shape (m, d), or None
        None means X.
    V : array_like, shape (m,) or (m, r)
        Real. Its rows are brought to the ranks of those of Y.
    kernel : {"rbf", "laplacian", "linear", "euclidean", "sqeuclidean", "manhattan", "cosine", "cosine_similarity"} or \
function
        A function takes tensors of shapes (a, d) and (b, d) and returns values of shape (a, b).
    gamma : float
        Of "rbf", ``exp(-gamma |x - y|^2)``, and "laplacian", ``exp(-gamma |x - y|_1)``.
    exclude_self : bool
        Let the diagonal of K be 0. Y must be X.

    Returns
    -------
    DNDarray, shape (n,) or (n, r)
        Of the promoted dtype.

    *Distribution*: split as X. Both tables split: a ring, p - 1 messages of one block of Y beside its rows of V, sent
    while tiles are computed. Only Y split: one allreduce of the result. Otherwise no message. V is redistributed where
    it lies otherwise than Y; an operand of split 1 likewise.

    Memory beyond operands and result: two blocks of Y with V, the blocks of X and Y once more, and tiles of 2 MiB;
    never n x m. Work: 2 (d + r) flops per pair and the kernel's function, each time it is called.

    Raises
    ------
    ValueError
        If the kernel is not known.
    LayoutError, DTypeError
        As :func:`cdist`, or if V does not fit.

    Examples
    --------
    >>> x = ht.array([[0.0], [1.0], [3.0]], split=0)
    >>> ht.spatial.kernel_matmul(x, None, ht.ones(3, split=0), "manhattan").numpy()
    array([4., 3., 5.])
    """
    op = "kernel_matmul"
    tables = as_tables(op, X, Y)
    check_metric(op, kernel)
    _check_self(op, tables, exclude_self)
    V = as_dndarray(op, "V", V, tables.comm)
    if V.ndim not in (1, 2) or V.shape[0] != tables.Y.shape[0]:
        raise LayoutError(f"{op}: V must have the {tables.Y.shape[0]} rows of Y, got shape {V.shape}")
    if V.dtype.kind == "c":
        raise DTypeError(f"{op}: V must be real, got {V.dtype}; multiply real and imaginary part")
    dtype = torch.promote_types(tables.x.dtype, computing_dtype(op, V.larray.dtype))
    target = Layout(V.shape, tables.Y.split, tables.Y.counts)
    v = redistribute(V.larray, V.layout, target, V.comm).to(dtype)
    v = v if V.ndim == 2 else v.unsqueeze(1)
    x, d = tables.x, tables.x.shape[1]
    result = v.new_zeros((x.shape[0], v.shape[1]))
    bound = bind(kernel, x, gamma)
    panels = torch.cat((tables.y.to(dtype), v), dim=1) if tables.is_ring else None
    for start, block in tables.blocks(panels):
        y, values = (block, v) if panels is None else (block[:, :d].to(x.dtype), block[:, d:])
        for rows, columns, tile in tiles(bound, tables, y, start, 0.0 if exclude_self else None):
            torch.addmm(result[rows], tile.to(dtype), values[columns], out=result[rows])
    if tables.is_shared:
        result = tables.comm.allreduce(result, out=result)
    return tables.per_row(result if V.ndim == 2 else result.squeeze(1))


def pairwise_reduce(
    X: object,
    Y: object | None = None,
    op: str = "sum",
    metric: object = "euclidean",
    *,
    gamma: float = 1.0,
    exclude_self: bool = False,
) -> DNDarray:
    """Return a reduction of each row of the matrix of distances, or values of a kernel, which is never stored.

    Parameters
    ----------
    X : array_like, shape (n, d)
        Real; dtypes as in :func:`cdist`.
    Y : array_like, shape (m, d), optional
        By default X.
    op : {"sum", "mean", "min", "max", "argmin", "argmax"}
        Over the rows of Y. Sums are formed in float64. Of equal values the arg functions take the first.
    metric, gamma
        As the kernel of :func:`kernel_matmul`.
    exclude_self : bool
        Leave out the diagonal. Y must be X.

    Returns
    -------
    DNDarray, shape (n,)
        Of the dtype of the data; int64 of the arg functions.

    *Distribution*: split as X. Both split: a ring, p - 1 messages of one block of Y, sent while tiles are computed.
    Only Y split: one allreduce of n numbers, two of the arg functions. Otherwise no message.

    Memory beyond operands and result: as :func:`kernel_matmul`.

    Raises
    ------
    ValueError
        If `op` or `metric` is not known, or there is no row to choose from.
    LayoutError, DTypeError
        As :func:`cdist`.

    Examples
    --------
    >>> x = ht.array([[0.0], [1.0], [3.0]], split=0)
    >>> ht.spatial.pairwise_reduce(x, op="max").numpy()
    array([3., 2., 3.])
    """
    where = "pairwise_reduce"
    tables = as_tables(where, X, Y)
    check_metric(where, metric)
    _check_self(where, tables, exclude_self)
    if op not in (*_SUMS, "min", "max", *_PLACES):
        raise ValueError(f"{where}: op must be sum, mean, min, max, argmin or argmax, got {op!r}")
    m = tables.Y.shape[0] - bool(exclude_self)
    if m < 1 and op != "sum" and tables.X.shape[0]:
        raise ValueError(f"{where}: Y must have a row to take the {op} of, got shape {tables.Y.shape}")
    bound = bind(metric, tables.x, gamma)
    if op not in _SUMS:
        return tables.per_row(_extremes(tables, bound, op, exclude_self))
    sums = tables.x.new_zeros(tables.x.shape[0], dtype=torch.float64)
    for start, block in tables.blocks():
        for rows, _, tile in tiles(bound, tables, block, start, 0.0 if exclude_self else None):
            sums[rows] += tile.sum(dim=1, dtype=torch.float64)
    if tables.is_shared:
        sums = tables.comm.allreduce(sums, out=sums)
    return tables.per_row((sums / m if op == "mean" else sums).to(tables.x.dtype))


def _extremes(tables: Tables, bound: BoundMetric, op: str, exclude_self: bool) -> torch.Tensor:
    """Return the smallest or largest value of each row, or its place; a NaN wins, as in NumPy."""
    x, comm = tables.x, tables.comm
    is_low = op in ("min", "argmin")
    worst = math.inf if is_low else -math.inf
    values = x.new_full((x.shape[0],), worst)
    places = torch.full((x.shape[0],), _NONE, dtype=torch.int64, device=x.device)
    for start, block in tables.blocks():
        for rows, columns, tile in tiles(bound, tables, block, start, worst if exclude_self else None):
            if op not in _PLACES:
                extreme = torch.minimum if is_low else torch.maximum
                extreme(values[rows], tile.amin(dim=1) if is_low else tile.amax(dim=1), out=values[rows])
                continue
            found, j = tile.min(dim=1) if is_low else tile.max(dim=1)
            _take_better(values[rows], places[rows], found, j + (start + columns.start), is_low)
    if tables.is_shared:
        best = comm.allreduce(values, "min" if is_low else "max")
        if op in _PLACES:
            is_best = (values == best) | (values.isnan() & best.isnan())
            places = comm.allreduce(torch.where(is_best, places, _NONE), "min")
        values = best
    return places if op in _PLACES else values


def _take_better(
    values: torch.Tensor, places: torch.Tensor, found: torch.Tensor, at: torch.Tensor, is_low: bool
) -> None:
    """Replace values by better ones, or by equal ones of a lower place; NaN is best."""
    better = found < values if is_low else found > values
    is_equal = (found == values) | (found.isnan() & values.isnan())
    better = (better | (found.isnan() & ~values.isnan()) | (is_equal & (at < places))) & ~(
        values.isnan() & ~found.isnan()
    )
    torch.where(better, found, values, out=values)
    torch.where(better, at, places, out=places)


def _check_self(op: str, tables: Tables, exclude_self: bool) -> None:
    if exclude_self and not tables.is_same:
        raise ValueError(f"{op}: exclude_self must be False unless Y is X, got two tables")


def tiles(bound: BoundMetric, tables: Tables, y: torch.Tensor, start: int, diagonal: float | None):
    """Yield rows, columns and tile for all of this rank's rows of X and a block of Y; one scratch for all tiles.

    `diagonal` is written in place of the value of a row with itself.
    """
    n, m = tables.x.shape[0], y.shape[0]
    if not n or not m:
        return
    bound.face(y)
    height, width = tile_shape(tables.x)
    scratch = tables.x.new_empty(min(height, n) * min(width, m))
    for rows in spans(n, height):
        for columns in spans(m, width):
            shape = rows.stop - rows.start, columns.stop - columns.start
            tile = scratch[: math.prod(shape)].view(shape)
            bound.fill(tile, rows, columns)
            offset = tables.first + rows.start - start - columns.start
            if diagonal is not None and -shape[0] < offset < shape[1]:
                tile.diagonal(offset).fill_(diagonal)
            yield rows, columns, tile
