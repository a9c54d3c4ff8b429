"""Norms of vectors and matrices, as sums, maxima or singular values."""

from __future__ import annotations

import math

from ht_core import DNDarray, types
from ht_core.errors import LayoutError
from ht_core.layout import normalize_axis

from .arguments import as_dndarray
from .columns import as_stack
from .errors import LinAlgError
from .products import vdot
from .qr import computing_dtype
from .solve import inv
from .svd import svdvals


def norm(x: object, ord: object = None, axis: object = None, keepdims: bool = False) -> DNDarray:
    """Return a norm of the array taken as a vector, or of its vectors or matrices.

    Parameters
    ----------
    x : array_like
    ord : {None, int, float, inf, -inf, "fro", "nuc"}
        None is the Euclidean norm, or Frobenius' of matrices; see :func:`vector_norm` and :func:`matrix_norm`.
    axis : int, pair of int, optional
        The axis of the vectors or the two of the matrices; by default all axes where `ord` is None, else those of `x`,
        which must be 1-D or 2-D.
    keepdims : bool
        Keep the reduced axes with extent 1.

    *Distribution*: one allreduce of the result where a reduced axis is split; as :func:`svdvals` for the orders 2, -2
    and "nuc" of matrices.

    Raises
    ------
    LayoutError
        If the axes do not fit.
    ValueError
        If the order does not exist.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.norm(ht.array([3.0, -4.0], split=0)).item()
    5.0
    """
    x = as_dndarray("norm", "x", x)
    if axis is None and ord is None:
        return vector_norm(x, keepdims=keepdims)
    if axis is None:
        axis = tuple(range(x.ndim))
    axes = (axis,) if isinstance(axis, int) else tuple(axis)
    if len(axes) == 1:
        return vector_norm(x, axis=axes[0], keepdims=keepdims, ord=2 if ord is None else ord)
    if len(axes) != 2:
        raise LayoutError(f"norm: axis must name the axis of vectors or the two of matrices, got {axes}")
    return _of_matrices("norm", x, axes, keepdims, "fro" if ord is None else ord)


def vector_norm(
    x: object, /, *, axis: int | tuple[int, ...] | None = None, keepdims: bool = False, ord: float = 2
) -> DNDarray:
    """Return ``sum(abs(x) ** ord) ** (1 / ord)`` over `axis` (all axes by default).

    Parameters
    ----------
    x : array_like
    axis : int or tuple of int, optional
    keepdims : bool
    ord : float
        inf and -inf are the largest and smallest absolute value, 0 counts what is not zero.

    Returns
    -------
    DNDarray
        Real, of at least single precision.

    *Distribution*: one allreduce of the result where a reduced axis is split.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.vector_norm(ht.array([[3.0, 1.0], [-4.0, 0.0]], split=0), axis=0, ord=1).numpy()
    array([7., 1.])
    """
    x = as_dndarray("vector_norm", "x", x)
    if isinstance(ord, str) or not isinstance(ord, (int, float)):
        raise ValueError(f"vector_norm: ord must be a number, got {ord!r}")
    dtype = types.canonical(computing_dtype("vector_norm", x.larray.dtype))
    x = x.astype(dtype, copy=False)
    options = {"axis": axis, "keepdims": keepdims}
    if ord == math.inf:
        return abs(x).max(**options)
    if ord == -math.inf:
        return abs(x).min(**options)
    if ord == 0:
        return (x != 0).sum(**options).astype(types.to_real(dtype))
    if ord == 1:
        return abs(x).sum(**options)
    if ord == 2 and axis is None and not keepdims:
        squares = vdot(x, x)  # without a temporary array
        return (squares.real if dtype.kind == "c" else squares) ** 0.5
    if ord == 2:
        size = abs(x) if dtype.kind == "c" else x
        return (size * size).sum(**options) ** 0.5
    return (abs(x) ** ord).sum(**options) ** (1 / ord)


def matrix_norm(x: object, /, *, keepdims: bool = False, ord: object = "fro") -> DNDarray:
    """Return a norm of the matrices in the last two axes.

    Parameters
    ----------
    x : array_like, shape (..., m, n)
    keepdims : bool
    ord : {"fro", "nuc", 1, -1, 2, -2, inf, -inf}
        Frobenius; sum of singular values; largest and smallest column sum, singular value and row sum.

    *Distribution*: as :func:`norm`.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.matrix_norm(ht.array([[1.0, -2.0], [3.0, 4.0]], split=0), ord=math.inf).item()
    7.0
    """
    x = as_dndarray("matrix_norm", "x", x)
    if x.ndim < 2:
        raise LayoutError(f"matrix_norm: x must have at least two axes, got shape {x.shape}")
    return _of_matrices("matrix_norm", x, (x.ndim - 2, x.ndim - 1), keepdims, ord)


def _of_matrices(op: str, x: DNDarray, axes: tuple[int, int], keepdims: bool, ord: object) -> DNDarray:
    rows, columns = (normalize_axis(axis, x.ndim, op, "axis") for axis in axes)
    if rows == columns:
        raise LayoutError(f"{op}: axis must name two different axes, got {axes}")
    if ord in ("fro", None):
        return vector_norm(x, axis=(rows, columns), keepdims=keepdims)
    if ord in (1, -1, math.inf, -math.inf):
        summed, other = (rows, columns) if ord in (1, -1) else (columns, rows)
        sums = vector_norm(x, axis=summed, keepdims=True, ord=1)
        result = sums.max(axis=other, keepdims=True) if ord > 0 else sums.min(axis=other, keepdims=True)
    elif ord in (2, -2, "nuc"):
        others = [axis for axis in range(x.ndim) if axis not in (rows, columns)]
        s = svdvals(x.permute_dims((*others, rows, columns)))
        result = s.sum(axis=-1) if ord == "nuc" else s.max(axis=-1) if ord == 2 else s.min(axis=-1)
        if keepdims:
            for axis in sorted((rows, columns)):
                result = result.expand_dims(axis)
        return result
    else:
        raise ValueError(f"{op}: ord must be fro, nuc, 1, -1, 2, -2, inf or -inf, got {ord!r}")
    return result if keepdims else result.squeeze((rows, columns))


def cond(x: object, p: object = None) -> DNDarray:
    """Return the condition number of a matrix, ``norm(x) * norm(inv(x))``.

    Parameters
    ----------
    x : array_like, shape (..., m, n); square unless `p` is None, 2 or -2
    p : {None, 2, -2, 1, -1, inf, -inf, "fro", "nuc"}
        The norm; None is 2, for which the singular values suffice.

    *Distribution*: as :func:`svdvals`, or as :func:`ht_linalg.inv` and two norms.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.cond(ht.array([[0.0, 3.0], [6.0, 0.0]], split=0)).item()
    2.0
    """
    x = as_stack("cond", "x", x)
    if 0 in x.shape:
        raise LinAlgError(f"cond: x must not be empty, got shape {x.shape}")
    if p in (None, 2, -2):
        s = svdvals(x)
        return s[..., -1] / s[..., 0] if p == -2 else s[..., 0] / s[..., -1]
    return matrix_norm(x, ord=p) * matrix_norm(inv(x), ord=p)
