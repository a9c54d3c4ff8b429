"""Eigenvalues and eigenvectors of Hermitian matrices: the choice of the algorithm by shape, split and cost."""

from __future__ import annotations

from typing import NamedTuple

import torch
from ht_core import DNDarray
from ht_core.engines.recording import record_rule
from ht_core.engines.tracking import is_tracked
from ht_core.layout import Layout

from .columns import as_stack, dealt, is_whole, map_matrices, moved
from .errors import LinAlgError
from .factor_derivatives import eigvalsh_derivative
from .one_rank import WHOLE_ON_ONE_RANK
from .spectral_division import divided, eigen_here

#: Matrices of up to this many rows are not worth dividing, however many ranks there are.
SMALL_EIGH = 1024


class EighResult(NamedTuple):
    """Result of :func:`eigh`: ``a @ eigenvectors = eigenvectors * eigenvalues``."""

    eigenvalues: DNDarray
    eigenvectors: DNDarray


def eigh(a: object, /, UPLO: str = "L") -> EighResult:
    """Return the eigenvalues, ascending, and orthonormal eigenvectors of Hermitian matrices.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
        Real symmetric or complex Hermitian; only one triangle is read.
    UPLO : {"L", "U"}
        The triangle that is read.

    Returns
    -------
    EighResult(eigenvalues, eigenvectors)
        Shapes (..., n), real, and (..., n, n), one eigenvector per column. Its first element that is at least half as
        large as its largest one is positive real, so that simple eigenvectors do not depend on the number of ranks.

    *Distribution*: eigenvectors are split as `a`, eigenvalues are replicated (a stack's are split as the stack).
    Replicated matrices are decomposed where they are, without a message. Stacks are split along a leading axis, and
    need no message if they are so already. A matrix that is split goes one of two ways (:func:`plan_leaf`):

    - up to 4096 rows on up to 16 ranks, up to 1024 on any: one rank decomposes it, 9 n^3 flops. It holds about four
      matrices for that time (512 MiB at n = 4096 in double precision); n^2 words go there and n^2 + n come back.
    - else it is divided, see :func:`ht_linalg.spectral_division.divided`: about 80 n^3 / p flops whatever the
      eigenvalues (19 n^2 words contributed by each of two ranks to the first division), until the parts are so small
      that single ranks decompose them side by side.

    Raises
    ------
    LayoutError
        If `a` is not square.
    ValueError
        If `UPLO` is unknown.
    LinAlgError
        If the matrix is not finite; on every rank. (A matrix of a stack gives NaN instead, without a message.)

    Notes
    -----
    ``||a V - V L||`` and ``||V^H V - 1||`` are at rounding level, relative to the norm of `a` and to 1, for any
    distribution of the eigenvalues.

    References
    ----------
    Y. Nakatsukasa, N. J. Higham, Stable and efficient spectral divide and conquer algorithms for the symmetric
    eigenvalue decomposition and the SVD, 2013, doi:10.1137/120876605.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> w, v = ht_linalg.eigh(ht.array([[2.0, 1.0], [1.0, 2.0]], split=0))
    >>> w.numpy().round(12), (v**2).numpy().round(12)
    (array([1., 3.]), array([[0.5, 0.5],
           [0.5, 0.5]]))
    """
    values, vectors = _eigen("eigh", a, UPLO, True)
    return EighResult(values, vectors)


def eigvalsh(a: object, /, UPLO: str = "L") -> DNDarray:
    """Return the eigenvalues, ascending, of Hermitian matrices; can be differentiated.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
    UPLO : {"L", "U"}

    *Distribution*: as :func:`eigh`, without the vectors and the n^2 words back.

    Raises
    ------
    LayoutError, ValueError, LinAlgError
        As :func:`eigh`.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.eigvalsh(ht.array([[2.0, 1.0], [1.0, 2.0]], split=1)).numpy().round(12)
    array([1., 3.])
    """
    if is_tracked(a):
        return record_rule(
            "eigvalsh",
            lambda x: eigvalsh(x, UPLO),
            (a,),
            lambda g, x: eigvalsh_derivative(g, x, UPLO),
        )
    return _eigen("eigvalsh", a, UPLO, False)[0]


def plan_leaf(n: int, p: int) -> int:
    """Return up to which size a matrix is decomposed by one rank when one of n rows is to be on `p` ranks. Pure.

    A division of k rows takes the time of 135 k^3 / p flops at the speed of a product (measured; it is not perfectly
    balanced), and one rank decomposes k rows in that of 9 k^3, as many such matrices at once as there are ranks:
    dividing the n / k of them further pays above 16 n / p rows.
    """
    return max(SMALL_EIGH, min(WHOLE_ON_ONE_RANK, 16 * n // p))


def _eigen(op: str, a: object, UPLO: str, vectors: bool) -> tuple[DNDarray, DNDarray | None]:
    if UPLO not in ("L", "U"):
        raise ValueError(f'{op}: UPLO must be "L" or "U", got {UPLO!r}')
    a = as_stack(op, "a", a, square=True)
    if a.ndim > 2 and not is_whole(a):
        a = dealt(a)
    if is_whole(a):
        values, found = eigen_here(a.larray, UPLO, vectors)
        if a.ndim == 2 and bool(torch.isnan(values).any()):
            raise LinAlgError(f"{op}: a must be finite, got NaN or infinity")
        layout = a.layout.drop((a.ndim - 2,)) if a.split is not None and a.split < a.ndim - 2 else None
        layout = layout or Layout(tuple(values.shape), None)
        return DNDarray(values, layout, a.comm), map_matrices(a, lambda _: found) if vectors else None
    values, found = divided(a, UPLO, vectors, plan_leaf(a.shape[0], a.comm.size), op)
    return DNDarray(values, Layout((a.shape[0],), None), a.comm), moved(found, a.layout) if vectors else None
