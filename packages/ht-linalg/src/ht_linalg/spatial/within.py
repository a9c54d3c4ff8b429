"""All rows of Y within a distance of each row of X, as a sparse matrix.

As for the nearest rows, products are only a sieve: who is near is decided by distances from differences, which do not
depend on how rows are dealt to ranks and tiles.
"""

from __future__ import annotations

import math
from numbers import Real

import torch
from ht_core import DNDarray
from ht_core.layout import Layout

from ..sparse.assembly import exchange_counts
from ..sparse.matrix import DCSR_matrix
from ..sparse.pattern import Compressed
from .metrics import spans, tile_shape
from .nearest import Sieve, require_metric
from .operands import Tables, as_tables


def cdist_within(
    X: object,
    Y: object | None = None,
    radius: float = 1.0,
    *,
    metric: object = "euclidean",
    exclude_self: bool = False,
) -> DCSR_matrix:
    """Return the distances of each row of X to the rows of Y that are at most `radius` away.

    Parameters
    ----------
    X : array_like, shape (n, d)
        Real; dtypes as in :func:`cdist`.
    Y : array_like, shape (m, d), optional
        By default X.
    radius : float
        Not negative; rounded to the dtype of the data.
    metric : {"euclidean", "sqeuclidean", "cosine", "manhattan"} or function
        As of :func:`cdist_topk`.
    exclude_self : bool
        A row of X is not near itself; other rows equal to it are. Y must be X.

    Returns
    -------
    DCSR_matrix, shape (n, m)
        With an entry, 0 of equal rows too, for each pair that is near enough.

    *Distribution*: as X. Both operands split: p - 1 messages of one block of Y per rank, sent while distances are
    computed, and an allgather of p integers. Only Y split: likewise, each rank with its part of X, and one allgatherv
    of what was found. Otherwise no message but the allgather of a split result. An operand of split 1 is redistributed
    to split 0 before.

    Memory beyond operands and result: two blocks of Y, the blocks of X and Y with two columns more, tiles of 1 MiB, and
    what was found twice; never n x m.

    Raises
    ------
    ValueError
        If `radius` is negative or no number, `metric` is not known, or `exclude_self` is set for two tables.
    LayoutError, DTypeError
        As :func:`cdist`.

    Examples
    --------
    >>> x = ht.array([[0.0], [1.0], [3.0], [7.0]], split=0)
    >>> ht.spatial.cdist_within(x, radius=2.0, exclude_self=True).to_dense().numpy()
    array([[0., 1., 0., 0.],
           [1., 0., 2., 0.],
           [0., 2., 0., 0.],
           [0., 0., 0., 0.]])
    """
    op = "cdist_within"
    tables = as_tables(op, X, Y)
    require_metric(op, metric)
    if exclude_self and not tables.is_same:
        raise ValueError(f"{op}: exclude_self must be False unless Y is X, got two tables")
    if not isinstance(radius, Real) or not 0 <= radius < math.inf:
        raise ValueError(f"{op}: radius must be a number in [0, inf), got {radius!r}")
    if tables.is_shared:
        part = DNDarray(tables.x, tables.X, tables.comm).resplit(0)
        return cdist_within(part, Y, radius, metric=metric).resplit(None)
    block = _near(tables, float(radius), metric, exclude_self)
    layout = Layout((tables.X.shape[0], tables.Y.shape[0]), tables.X.split, tables.X.counts)
    found = block.values.shape[0]
    counts = (found,) if layout.split is None else exchange_counts(found, tables.comm, tables.x.device)
    return DCSR_matrix(block, layout, tables.comm, counts)


def _near(tables: Tables, radius: float, metric: object, exclude_self: bool) -> Compressed:
    """Return what is near this rank's rows of X, in order."""
    x, n, m = tables.x, tables.x.shape[0], tables.Y.shape[0]
    sieve = Sieve(metric, x)
    found = [(torch.zeros(0, dtype=torch.int64, device=x.device),) * 2 + (x.new_zeros(0),)]
    for start, block in tables.blocks():
        if n and block.shape[0]:
            sieve.face(block)
            shift = start - tables.first if exclude_self else None
            found += _search(sieve, n, start, block.shape[0], radius, shift)
    i, j, values = map(torch.cat, zip(*found))
    order = (i * max(m, 1) + j).argsort()
    ends = torch.zeros(n + 1, dtype=torch.int64, device=x.device)
    ends[1:] = torch.bincount(i, minlength=n).cumsum(0)
    return Compressed(ends, j[order], values[order])


def _search(sieve: Sieve, n: int, start: int, m: int, radius: float, shift: int | None):
    """Yield rows, columns and distances of the near pairs of n rows of X and a block of m rows of Y."""
    height, width = tile_shape(sieve.bound.x)
    limit = sieve.bound_of(radius)
    for rows in spans(n, height):
        for columns in spans(m, width):
            tile, slack = sieve.tile(rows, columns)
            highest = limit if slack is None else (limit + slack).unsqueeze(1)
            i, j = (~(tile > highest)).nonzero(as_tuple=True)
            values = sieve.finish(sieve.exact(tile, rows, columns, i, j))
            keep = values <= radius
            if shift is not None:
                keep &= j - i != rows.start - columns.start - shift
            yield i[keep] + rows.start, j[keep] + (start + columns.start), values[keep]
