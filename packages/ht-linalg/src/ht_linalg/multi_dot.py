"""Products of several matrices in the order of fewest multiplications."""

from __future__ import annotations

from collections.abc import Sequence

from ht_core import DNDarray
from ht_core.errors import LayoutError

from .arguments import as_dndarray, deliver
from .matmul import matmul


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
