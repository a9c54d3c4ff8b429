"""The nearest rows of Y for each row of X, without the matrix of distances.

Tiles of squared distances come from products and are only a sieve: what may be among the k nearest, given a bound on
the error of the products, is computed from differences. So the distances, and which rows are chosen, do not depend on
how rows are dealt to ranks and tiles.
"""

from __future__ import annotations

import math

import torch
from ht_core import DNDarray
from ht_core.layout import even_counts

from .metrics import BoundMetric, Squares, bind, directions, pair_squares, spans, tile_shape
from .operands import Tables, as_tables

_NONE = -1  # index where there is no neighbour
_FAR = torch.iinfo(torch.int64).max
_GROUPS = 64


def cdist_topk(
    X: object,
    Y: object | None = None,
    k: int = 1,
    *,
    metric: object = "euclidean",
    exclude_self: bool = False,
) -> tuple[DNDarray, DNDarray]:
    """Return the k nearest rows of Y for each row of X, the nearest first.

    Parameters
    ----------
    X : array_like, shape (n, d)
        Real; dtypes as in :func:`cdist`.
    Y : array_like, shape (m, d), optional
        By default X.
    k : int
        Number of neighbours, 1 to m (m - 1 with `exclude_self`).
    metric : {"euclidean", "sqeuclidean", "cosine", "manhattan"} or function
        A function takes tensors of shapes (a, d) and (b, d) and returns distances of shape (a, b); the value of a pair
        should not depend on the others.
    exclude_self : bool
        A row of X is not its own neighbour; other rows equal to it are. Y must be X.

    Returns
    -------
    distances : DNDarray, shape (n, k)
    indices : DNDarray, shape (n, k), int64
        Rows of Y. Of rows at the same distance those of lower index come first. Where fewer than k distances are
        numbers, the rest are inf and -1.

    *Distribution*: both as X. Both operands split: p - 1 messages of one block of Y per rank, sent while distances are
    computed. Only Y split: each rank searches its rows of Y for all rows of X; two exchanges and two gatherings of n k
    numbers follow. Otherwise no message. An operand of split 1 is redistributed to split 0 before.

    Memory beyond operands and result: two blocks of Y, the blocks of X and Y with two columns more, and tiles of 1 MiB;
    never n x m.

    Raises
    ------
    ValueError
        If `k` is out of range, `metric` is not known, or `exclude_self` is set for two tables.
    LayoutError, DTypeError
        As :func:`cdist`.

    Notes
    -----
    2 d flops per pair in matrix products, and a minimum over groups of columns of a tile; what stays below the k-th
    distance known so far, about k log(m / 1024) rows of Y, is computed from differences. The sieve errs by at most
    (2 d + 16) eps times the squared norms about the mean (Higham, section 3.1, see :func:`cdist`), which is added to
    the bound: no neighbour is lost.

    Examples
    --------
    >>> x = ht.array([[0.0], [1.0], [3.0], [7.0]], split=0)
    >>> distances, indices = ht.spatial.cdist_topk(x, k=1, exclude_self=True)
    >>> distances.numpy().ravel(), indices.numpy().ravel()
    (array([1., 1., 2., 4.]), array([1, 0, 1, 2]))
    """
    tables = as_tables("cdist_topk", X, Y)
    _check(tables, k, metric, exclude_self)
    best = find_nearest(tables, int(k), metric, exclude_self)
    if tables.is_shared:
        best = _combine(tables, best)
    return tables.per_row(best.values), tables.per_row(best.indices)


def _check(tables: Tables, k: int, metric: object, exclude_self: bool) -> None:
    require_metric("cdist_topk", metric)
    if exclude_self and not tables.is_same:
        raise ValueError("cdist_topk: exclude_self must be False unless Y is X, got two tables")
    most = tables.Y.shape[0] - bool(exclude_self)
    if isinstance(k, bool) or not hasattr(k, "__index__") or not 1 <= k <= most:
        raise ValueError(f"cdist_topk: k must be in [1, {most}], got {k!r}")


def require_metric(op: str, metric: object) -> None:
    """Refuse what is neither the name of a distance nor a function.

    Raises
    ------
    ValueError
    """
    if not callable(metric) and metric not in ("euclidean", "sqeuclidean", "cosine", "manhattan"):
        raise ValueError(
            f"{op}: metric must be euclidean, sqeuclidean, cosine, manhattan or a function, "
            f"got {metric!r}; the nearest by rbf are those by euclidean"
        )


class Nearest:
    """The k nearest rows found so far: ``values`` and ``indices`` of shape (n, k), ordered by value, then index."""

    def __init__(self, n: int, k: int, like: torch.Tensor) -> None:
        self.values = like.new_full((n, k), math.inf)
        self.indices = torch.full((n, k), _NONE, dtype=torch.int64, device=like.device)

    def merge(self, rows: slice, i: torch.Tensor, values: torch.Tensor, indices: torch.Tensor) -> None:
        """Take candidates, of any number for each row ``rows.start + i``; a candidate must not come twice."""
        keep = values <= self.values[rows, -1][i]
        if keep.all():
            i, order = i.sort(stable=True)
        else:
            i, order = i[keep].sort(stable=True)
            values, indices = values[keep], indices[keep]
        if not i.shape[0]:
            return
        n, k = rows.stop - rows.start, self.values.shape[1]
        counts = torch.bincount(i, minlength=n)
        place = torch.arange(i.shape[0], device=i.device) - (counts.cumsum(0) - counts)[i] + k
        shape = n, k + int(counts.max())
        all_values = self.values.new_full(shape, math.inf)
        all_indices = self.indices.new_full(shape, _NONE)
        all_values[:, :k], all_indices[:, :k] = self.values[rows], self.indices[rows]
        all_values[i, place], all_indices[i, place] = values[order], indices[order]
        self.values[rows], self.indices[rows] = smallest(all_values, all_indices, k)


def smallest(values: torch.Tensor, indices: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the k smallest of each row, in order of (value, index); places without a neighbour come last.

    Parameters
    ----------
    values : torch.Tensor, shape (n, c), float32 or float64
        Not negative, no NaN.
    indices : torch.Tensor, shape (n, c), int64
    """
    if values.dtype == torch.float32 and values.shape[1]:
        # The bits of numbers that are not negative are in their order: value and index make one integer.
        keys = (values + 0.0).view(torch.int32).to(torch.int64) << 32 | (indices & 0xFFFFFFFF)
        keys = keys.topk(k, dim=1, largest=False).values
        found = keys & 0xFFFFFFFF
        found = torch.where(found == 0xFFFFFFFF, _NONE, found)
        return (keys >> 32).to(torch.int32).view(torch.float32), found
    by_index = torch.where(indices < 0, _FAR, indices).argsort(dim=1)
    values, order = values.gather(1, by_index).sort(dim=1, stable=True)
    return values[:, :k], indices.gather(1, by_index).gather(1, order)[:, :k]


class Sieve:
    """Tiles of lower bounds of distances, and the distances of single pairs."""

    def __init__(self, metric: object, x: torch.Tensor) -> None:
        self._metric, self.is_angle = metric, metric == "cosine"
        if self.is_angle:
            x = directions(x, 0)
        self.is_square = metric in ("euclidean", "sqeuclidean", "cosine")
        self.bound: BoundMetric = Squares(x, True, lambda tile: tile) if self.is_square else bind(metric, x)
        self._scratch = x.new_empty(math.prod(tile_shape(x)))

    def face(self, y: torch.Tensor) -> None:
        self.bound.face(directions(y, 1) if self.is_angle else y)

    def tile(self, rows: slice, columns: slice) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Return a scratch of about the distances, and by how much each row of it may be wrong (None: exact)."""
        if self.is_square:
            tile, m = self.bound.products(rows, columns), self.bound
            # of the products, the norms, the shift and the differences together, twice what it may be at most
            error = (2 * m.x.shape[1] + 16) * torch.finfo(tile.dtype).eps
            return tile, error * (m.x_squares[rows, 0] + m.y_squares[columns].amax())
        shape = rows.stop - rows.start, columns.stop - columns.start
        tile = self._scratch[: math.prod(shape)].view(shape)
        self.bound.fill(tile, rows, columns)
        return tile, None

    def exact(
        self, tile: torch.Tensor, rows: slice, columns: slice, i: torch.Tensor, j: torch.Tensor
    ) -> torch.Tensor:
        """Return the distances of some pairs of a tile, in the dtype of the data."""
        if self.is_square:
            x, y = self.bound.x[rows], self.bound.y[columns]
            return pair_squares(x, y, i, j).to(tile.dtype)
        return tile[i, j]

    def finish(self, values: torch.Tensor) -> torch.Tensor:
        """Make distances of what `exact` returns, in place."""
        if self._metric == "euclidean":
            values.sqrt_()
        elif self.is_angle:
            values.mul_(0.5).clamp_(max=2)
        return values

    def bound_of(self, distance: float) -> float:
        """Return a value in a tile, without its error, that is not below that of a distance."""
        if self.is_square:
            wide = distance * (1 + 4 * torch.finfo(self.bound.x.dtype).eps)  # distances are rounded
            return wide * wide if self._metric == "euclidean" else 2 * wide if self.is_angle else wide
        return distance


def find_nearest(tables: Tables, k: int, metric: object, exclude_self: bool) -> Nearest:
    """Return the nearest of this rank's rows of X; of its rows of Y only where X is shared. A ring or no message."""
    best = Nearest(tables.x.shape[0], k, tables.x)
    sieve = Sieve(metric, tables.x)
    for start, block in tables.blocks():
        if tables.x.shape[0] and block.shape[0]:
            sieve.face(block)
            _search(sieve, best, start, block.shape[0], start - tables.first if exclude_self else None)
    sieve.finish(best.values)
    return best


def _search(sieve: Sieve, best: Nearest, start: int, m: int, shift: int | None) -> None:
    """Let the rows of X meet a block of m rows of Y; pairs with ``i == j + shift`` do not count."""
    height, width = tile_shape(best.values)
    k = best.values.shape[1]
    for rows in spans(best.values.shape[0], height):
        found: list[tuple[torch.Tensor, ...]] = []
        n_found = 0
        limit = best.values[rows, -1].clone()
        for columns in spans(m, width):
            tile, slack = sieve.tile(rows, columns)
            offset = None if shift is None else rows.start - columns.start - shift
            if offset is not None and -tile.shape[0] < offset < tile.shape[1]:
                tile.diagonal(offset).fill_(math.inf)
            i, j = _sift(tile, slack, limit, k)
            if offset is not None:
                other = j - i != offset
                i, j = i[other], j[other]
            if not i.shape[0]:
                continue
            values = sieve.exact(tile, rows, columns, i, j)
            found.append((i, values, j + (start + columns.start)))
            n_found += i.shape[0]
            if n_found >= (rows.stop - rows.start) * k:
                best.merge(rows, *map(torch.cat, zip(*found)))
                torch.minimum(limit, best.values[rows, -1], out=limit)
                found, n_found = [], 0
        if found:
            best.merge(rows, *map(torch.cat, zip(*found)))


def _sift(
    tile: torch.Tensor, slack: torch.Tensor | None, limit: torch.Tensor, k: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the pairs of a tile that may be below the limit of their row; lower limits where the tile allows it."""
    m = tile.shape[1]
    width = -(-m // _GROUPS)
    groups = m // width
    # Columns of a group are `groups` apart, so that the minimum over them runs along rows of memory.
    least = tile[:, : groups * width].unflatten(1, (width, groups)).amin(dim=1)
    if groups * width < m:
        least = torch.cat((least, tile[:, groups * width :]), dim=1)
    if limit.isinf().any():
        bounds = least if least.shape[1] >= k else tile
        if bounds.shape[1] >= k:
            highest = bounds.kthvalue(k, dim=1).values
            highest = highest if slack is None else highest + slack
            torch.minimum(limit, torch.where(highest.isnan(), math.inf, highest), out=limit)
    highest = (limit if slack is None else limit + slack).unsqueeze(1)
    i, group = (~(least > highest)).nonzero(as_tuple=True)
    if not i.shape[0]:
        return i, group
    member = group.unsqueeze(1) + groups * torch.arange(width, device=tile.device)
    member = torch.where((group < groups).unsqueeze(1), member, -1)
    member[:, 0] = torch.where(group < groups, group, group - groups + groups * width)
    values = tile.reshape(-1).take(i.unsqueeze(1) * m + member.clamp(min=0))
    hit, place = (~(values > highest[i]) & (member >= 0)).nonzero(as_tuple=True)
    return i[hit], member[hit, place]


def _combine(tables: Tables, best: Nearest) -> Nearest:
    """Return the nearest of all ranks' lists: each rank merges those of some rows, then all gather the rows."""
    comm, (n, k) = tables.comm, best.values.shape
    counts = even_counts(n, comm.size)
    mine = counts[comm.rank]
    lists = [
        comm.alltoallv(part, counts, (mine,) * comm.size).view(comm.size, mine, k).transpose(0, 1)
        for part in (best.values, best.indices)
    ]
    merged = smallest(*(part.reshape(mine, comm.size * k) for part in lists), k)
    best.values, best.indices = (comm.allgatherv(part.contiguous(), counts) for part in merged)
    return best
