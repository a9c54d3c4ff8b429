"""Products of several matrices, in the order of fewest multiplications, and powers."""

from __future__ import annotations

from collections.abc import Sequence

from ht_core import DNDarray, eye
from ht_core.errors import LayoutError

from .arguments import as_dndarray, deliver
from .matmul import matmul
from .solve import inv


def multi_dot(arrays: Sequence[object], *, out: DNDarray | None = None) -> DNDarray:
    """Return the product of several matrices, in the order of fewest multiplications.

    Parameters
    ----------
    arrays : sequence of array_like
        At least two; the first and the last may be vectors, the others are matrices.
    out : DNDarray, optional
        Where the result is written; it keeps its layout and dtype.

    *Distribution*: one :func:`ht_linalg.matmul` per pair.

    Raises
    ------
    LayoutError
        If there are fewer than two arrays or their shapes do not fit.

    References
    ----------
    T. H. Cormen, C. E. Leiserson, R. L. Rivest, C. Stein, Introduction to Algorithms, 2009, section 15.2.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> x = ht.ones((2, 3), split=0)
    >>> ht_linalg.multi_dot([x, ht.ones((3, 2)), ht.ones(2)]).numpy()
    array([6., 6.])
    """
    comm = next((x.comm for x in arrays if isinstance(x, DNDarray)), None)
    chain = [as_dndarray("multi_dot", f"array {i}", x, comm) for i, x in enumerate(arrays)]
    if len(chain) < 2:
        raise LayoutError(f"multi_dot: arrays must be at least two, got {len(chain)}")
    for i, x in enumerate(chain):
        if not (x.ndim == 2 or (x.ndim == 1 and i in (0, len(chain) - 1))):
            raise LayoutError(f"multi_dot: array {i} must be a matrix, got shape {x.shape}")
    shapes = [
        x.shape if x.ndim == 2 else ((1, *x.shape) if i == 0 else (*x.shape, 1)) for i, x in enumerate(chain)
    ]
    for i in range(len(chain) - 1):
        if shapes[i][1] != shapes[i + 1][0]:
            raise LayoutError(
                f"multi_dot: array {i + 1} must have {shapes[i][1]} rows, got shape {chain[i + 1].shape}"
            )
    cut = _chain_order([shape[0] for shape in shapes] + [shapes[-1][1]])

    def product(i: int, j: int) -> DNDarray:
        return chain[i] if i == j else matmul(product(i, cut[i, j]), product(cut[i, j] + 1, j))

    return deliver("multi_dot", product(0, len(chain) - 1), out)


def _chain_order(extents: list[int]) -> dict[tuple[int, int], int]:
    """Return for each run i..j of the chain the matrix after which it is cut."""
    n = len(extents) - 1
    cost = {(i, i): 0 for i in range(n)}
    cut = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            cost[i, j], cut[i, j] = min(
                (cost[i, k] + cost[k + 1, j] + extents[i] * extents[k + 1] * extents[j + 1], k)
                for k in range(i, j)
            )
    return cut


def matrix_power(a: object, n: int, /) -> DNDarray:
    """Return the n-th power of square matrices, by repeated squaring; of the inverse where `n` is negative.

    Parameters
    ----------
    a : array_like, shape (..., m, m)
    n : int

    *Distribution*: split as `a`; at most 2 log2 ``abs(n)`` products of :func:`ht_linalg.matmul`, and one :func:`inv`.

    Raises
    ------
    LayoutError
        If `a` is not square.
    LinAlgError
        If `n` is negative and `a` is exactly singular; on every rank.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.matrix_power(ht.array([[1, 1], [1, 0]], split=0), 10).numpy()
    array([[89, 55],
           [55, 34]])
    """
    a = as_dndarray("matrix_power", "a", a)
    if a.ndim < 2 or a.shape[-1] != a.shape[-2]:
        raise LayoutError(f"matrix_power: a must be square, got shape {a.shape}")
    if not hasattr(n, "__index__"):
        raise TypeError(f"matrix_power: n must be an integer, got {n!r}")
    n, split = n.__index__(), a.split
    if n == 0:
        identity = eye(a.shape[-1], dtype=a.dtype, device=a.device, comm=a.comm)
        local = identity.larray.expand(a.shape)[a.layout.slices(a.comm.rank)].clone()
        return DNDarray(local, a.layout, a.comm)
    square, result = inv(a) if n < 0 else a, None
    n = abs(n)
    while n:
        if n & 1:
            result = square if result is None else matmul(result, square)
        n >>= 1
        if n:
            square = matmul(square, square)
    result = result.copy() if result is a else result
    return result if result.split == split else result.resplit(split)
