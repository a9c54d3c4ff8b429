"""Linear equations and inverses of tensors, read as matrices."""

from __future__ import annotations

import math

from ht_core import DNDarray, moveaxis, reshape
from ht_core.errors import LayoutError

from .arguments import as_dndarray, as_pair
from .solve import inv, solve


def tensorsolve(a: object, b: object, axes: tuple[int, ...] | None = None) -> DNDarray:
    """Solve ``tensordot(a, x, x.ndim) = b``.

    Parameters
    ----------
    a : array_like, shape b.shape + x.shape
        With as many elements in the axes of `b` as in those of x.
    b : array_like
        The right side, of any shape.
    axes : tuple of int, optional
        Axes of `a` that are moved to its end first.

    Notes
    -----
    *Distribution*: `a` is reshaped to a matrix (no message where the first axis, or none, is split), then
    :func:`ht_linalg.solve`; x is reshaped from a vector that is split as `b` is.

    Raises
    ------
    LayoutError
        If `a` is not square in this sense.
    LinAlgError
        If it is singular; on every rank.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> a = ht.reshape(2 * ht.eye(6, split=0), (2, 3, 6))
    >>> ht_linalg.tensorsolve(a, ht.ones((2, 3))).numpy()
    array([0.5, 0.5, 0.5, 0.5, 0.5, 0.5])
    """
    a, b = as_pair("tensorsolve", a, b)
    if axes is not None:
        a = moveaxis(a, tuple(axes), tuple(range(a.ndim - len(axes), a.ndim)))
    of_x = tuple(a.shape[b.ndim :])
    n = math.prod(of_x)
    if a.ndim < b.ndim or math.prod(a.shape[: b.ndim]) != n or math.prod(b.shape) != n:
        raise LayoutError(
            f"tensorsolve: a must have as many elements in its first {b.ndim} axes as in the others and as b, got "
            f"shapes {a.shape} and {b.shape}"
        )
    return reshape(solve(reshape(a, (n, n)), reshape(b, (n,))), of_x)


def tensorinv(a: object, ind: int = 2) -> DNDarray:
    """Return the x for which ``tensordot(x, a, ind)`` is the identity of :func:`ht_linalg.tensordot`.

    Parameters
    ----------
    a : array_like
        With as many elements in the first `ind` axes as in the others.
    ind : int
        At least 1.

    Returns
    -------
    DNDarray, shape a.shape[ind:] + a.shape[:ind]

    *Distribution*: reshaped to a matrix (no message where the first axis, or none, is split), then
    :func:`ht_linalg.inv`.

    Raises
    ------
    ValueError
        If `ind` is not positive.
    LayoutError
        If `a` is not square in this sense.
    LinAlgError
        If it is singular; on every rank.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> x = ht_linalg.tensorinv(ht.reshape(2 * ht.eye(6, split=0), (2, 3, 6)))
    >>> x.shape, x[0, 0, 0].item()
    ((6, 2, 3), 0.5)
    """
    a = as_dndarray("tensorinv", "a", a)
    if ind <= 0:
        raise ValueError(f"tensorinv: ind must be positive, got {ind}")
    n = math.prod(a.shape[:ind])
    if math.prod(a.shape[ind:]) != n:
        raise LayoutError(
            f"tensorinv: a must have as many elements in its first {ind} axes as in the others, got shape {a.shape}"
        )
    return reshape(inv(reshape(a, (n, n))), (*a.shape[ind:], *a.shape[:ind]))
