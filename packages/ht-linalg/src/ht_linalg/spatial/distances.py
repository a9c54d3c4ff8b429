"""All distances, or values of a kernel, between the rows of two tables, as a matrix."""

from __future__ import annotations

import torch
from ht_core import DNDarray
from ht_core.layout import Layout

from .metrics import bind, spans, tile_shape
from .operands import Tables, as_tables


def cdist(X: object, Y: object | None = None, quadratic_expansion: bool = False) -> DNDarray:
    """Return the Euclidean distances of the rows of X and Y.

    Parameters
    ----------
    X : array_like, shape (n, d)
        Real. float32 and float64 are kept, half precision becomes float32, integers float64.
    Y : array_like, shape (m, d), optional
        By default X.
    quadratic_expansion : bool
        Use products in the precision of the data, which for float32 are twice as fast. By default products of float32
        data are formed in float64.

    Returns
    -------
    DNDarray, shape (n, m)
        Never negative; 0 for equal rows. Squares must fit the dtype: beyond 1.8e19 distances in float32 are inf.

    *Distribution*: with p ranks

    ========  ========  ============  ==================================================
    X.split   Y.split   result split  messages of a rank
    ========  ========  ============  ==================================================
    None      None      None          none
    0         None      0             none
    None      0         1             none
    0         0         0             p - 1 of one block of Y, sent while tiles are computed
    1         any       as for 0      one redistribution more, to split 0; likewise for Y
    ========  ========  ============  ==================================================

    Beyond operands and result a rank holds two blocks of Y, the blocks of X and Y again in the precision of the
    products, and tiles of 2 MiB.

    Raises
    ------
    LayoutError
        If an operand is not 2-D or the numbers of features differ.
    DTypeError
        If an operand is complex.

    Notes
    -----
    ``|x - y|^2 = |x|^2 - 2 x.y + |y|^2`` about the mean of a block of X: 2 d flops per pair in matrix products. Where a
    squared distance is below a limit L times the norms, the products have lost digits, and the pair is computed from
    differences. So the relative error of a squared distance is at most 2 (d + 2) eps / L in any case, and about eps for
    pairs as far from each other as from the mean. L is 2^-10 in float64 and 2^-22 in float32, whose products have the
    eps of float64; with `quadratic_expansion` 2^-24 and 2^-8.

    References
    ----------
    N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2002, doi:10.1137/1.9780898718027, section 3.1.

    Examples
    --------
    >>> x = ht.array([[0.0, 0.0], [3.0, 4.0]], split=0)
    >>> ht.spatial.cdist(x).numpy()
    array([[0., 5.],
           [5., 0.]])
    """
    return _matrix(as_tables("cdist", X, Y), "euclidean", quadratic=quadratic_expansion)


def manhattan(X: object, Y: object | None = None, expand: bool = False) -> DNDarray:
    """Return the Manhattan distances, sums of absolute differences, of the rows of X and Y.

    Parameters
    ----------
    X, Y
        As for :func:`cdist`.
    expand : bool
        Makes no difference; here because Heat has it.

    Returns
    -------
    DNDarray, shape (n, m)

    *Distribution*: as :func:`cdist`. Where Y is X, tiles of a rank's own rows are computed once for both triangles.

    Examples
    --------
    >>> x = ht.array([[0.0, 0.0], [3.0, 4.0]], split=0)
    >>> ht.spatial.manhattan(x).numpy()
    array([[0., 7.],
           [7., 0.]])
    """
    return _matrix(as_tables("manhattan", X, Y), "manhattan")


def rbf(
    X: object, Y: object | None = None, sigma: float = 1.0, quadratic_expansion: bool = False
) -> DNDarray:
    """Return the Gaussian kernel ``exp(-|x - y|^2 / (2 sigma^2))`` of the rows of X and Y.

    Parameters
    ----------
    X, Y, quadratic_expansion
        As for :func:`cdist`.
    sigma : float
        The width, positive.

    Returns
    -------
    DNDarray, shape (n, m)
        1 for equal rows.

    *Distribution*: as :func:`cdist`.

    Raises
    ------
    ValueError
        If `sigma` is not positive.

    Examples
    --------
    >>> x = ht.array([[0.0, 0.0], [3.0, 4.0]], split=0)
    >>> ht.spatial.rbf(x, sigma=5.0).numpy().round(4)
    array([[1.    , 0.6065],
           [0.6065, 1.    ]])
    """
    if not sigma > 0:
        raise ValueError(f"rbf: sigma must be positive, got {sigma!r}")
    return _matrix(as_tables("rbf", X, Y), "rbf", 0.5 / float(sigma) ** 2, quadratic_expansion)


def cosine_similarity(X: object, Y: object | None = None) -> DNDarray:
    """Return the cosines of the angles between the rows of X and Y.

    Parameters
    ----------
    X, Y
        As for :func:`cdist`.

    Returns
    -------
    DNDarray, shape (n, m)
        In [-1, 1]; 0 where a row is zero.

    *Distribution*: as :func:`cdist`.

    Examples
    --------
    >>> x = ht.array([[1.0, 0.0], [3.0, 4.0]], split=0)
    >>> ht.spatial.cosine_similarity(x).numpy().round(4)
    array([[1. , 0.6],
           [0.6, 1. ]])
    """
    return _matrix(as_tables("cosine_similarity", X, Y), "cosine_similarity")


def cosine_distances(X: object, Y: object | None = None) -> DNDarray:
    """Return one minus the cosines of the angles between the rows of X and Y.

    Computed as half the squared distance of the rows scaled to length 1, so that small angles keep their digits.

    Parameters
    ----------
    X, Y
        As for :func:`cdist`.

    Returns
    -------
    DNDarray, shape (n, m)
        In [0, 2]; 0 for equal rows, 1 where a row is zero.

    *Distribution*: as :func:`cdist`.

    Examples
    --------
    >>> x = ht.array([[1.0, 0.0], [3.0, 4.0]], split=0)
    >>> ht.spatial.cosine_distances(x).numpy().round(4)
    array([[0. , 0.4],
           [0.4, 0. ]])
    """
    return _matrix(as_tables("cosine_distances", X, Y), "cosine")


#: The metric's own name, as ``metric="cosine"`` elsewhere.
cosine = cosine_distances


def _matrix(tables: Tables, metric: str, gamma: float = 1.0, quadratic: bool = False) -> DNDarray:
    """Return all values of a metric."""
    x, comm = tables.x, tables.comm
    shape = tables.X.shape[0], tables.Y.shape[0]
    if tables.X.split == 0:
        layout = Layout(shape, 0, tables.X.counts)
    else:
        layout = Layout(shape, None if tables.Y.split is None else 1, tables.Y.counts)
    result = x.new_empty(layout.lshape(comm.rank))
    bound = bind(metric, x, gamma, quadratic)
    for start, block in tables.blocks():
        if x.shape[0] and block.shape[0]:
            bound.face(block)
            column = start - (layout.offset(comm.rank) if layout.split == 1 else 0)
            is_diagonal = tables.is_same and start == tables.first and block.shape[0] == x.shape[0]
            _fill(bound, result.narrow(1, column, block.shape[0]), is_diagonal)
    return DNDarray(result, layout, comm)


def _fill(bound, result: torch.Tensor, is_symmetric: bool) -> None:
    """Fill the matrix of the rows of X and one block of Y, tile by tile; one triangle where it is symmetric."""
    height, width = tile_shape(result)
    for rows in spans(result.shape[0], height):
        first = rows.start if is_symmetric else 0
        for part in spans(result.shape[1] - first, width):
            columns = slice(first + part.start, first + part.stop)
            tile = result[rows, columns]
            bound.fill(tile, rows, columns)
            if is_symmetric:
                below = max(rows.stop, columns.start)
                result[below : columns.stop, rows].copy_(result[rows, below : columns.stop].T)
