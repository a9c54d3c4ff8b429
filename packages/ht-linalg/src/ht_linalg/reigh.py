"""Randomised eigendecomposition of a Hermitian matrix of low rank."""

from __future__ import annotations

from operator import index

from ht_core import DNDarray
from ht_core.layout import Layout
from ht_core.random import Generator, default_rng, get_generator

from .arguments import as_matrix
from .columns import adjoint, as_stack, moved
from .eigh import EighResult, eigh
from .matmul import matmul
from .qr import qr


def reigh(
    A: object,
    n_eigenvalues: int,
    n_oversamples: int = 10,
    power_iter: int = 0,
    *,
    random_state: int | Generator | None = None,
) -> EighResult:
    """Return approximations of the eigenvalues of largest magnitude of a Hermitian matrix, and their eigenvectors.

    Parameters
    ----------
    A : array_like, shape (n, n)
        Real symmetric or complex Hermitian; both triangles are read.
    n_eigenvalues : int
        In [1, n].
    n_oversamples : int
        Further random vectors, which make the result more accurate.
    power_iter : int
        Further products with `A` (each followed by a QR decomposition), for eigenvalues that decay slowly.
    random_state : int, Generator or None
        None draws from the default generator (``ht.random.seed``). The result does not depend on the number of ranks.

    Returns
    -------
    EighResult(eigenvalues, eigenvectors)
        Shapes (n_eigenvalues,), largest magnitude first, and (n, n_eigenvalues).

    *Distribution*: eigenvectors are split along axis 0 where `A` is split, eigenvalues are replicated. With
    l = n_eigenvalues + n_oversamples, ``2 + power_iter`` products of `A` with n x l matrices, whose blocks of n l / p
    words go round, as many QR decompositions of n x l matrices less one (:func:`ht_linalg.qr`), and an allreduce of
    l^2 words; 2 n^2 l / p flops a product. The l x l problem is solved by :func:`ht_linalg.eigh` where it is small.

    Raises
    ------
    LayoutError
        If `A` is not a square matrix.
    ValueError
        If a number is out of range.

    Notes
    -----
    The expected error of the range is at most ``(1 + n_eigenvalues / (n_oversamples - 1))**0.5`` times the least
    possible one in the Frobenius norm, without power iterations (theorem 10.5).

    References
    ----------
    N. Halko, P. G. Martinsson, J. A. Tropp, Finding structure with randomness: probabilistic algorithms for
    constructing approximate matrix decompositions, 2011, doi:10.1137/090771806 (algorithms 4.4 and 5.3).

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> a = ht.diag(ht.array([0.0, -5.0, 0.0, 3.0, 0.0], split=0))
    >>> ht_linalg.reigh(a, 2, random_state=0).eigenvalues.numpy().round(10)
    array([-5.,  3.])
    """
    a = as_stack("reigh", "A", as_matrix("reigh", "A", A), square=True)
    n = a.shape[0]
    for name, number, low, high in (
        ("n_eigenvalues", n_eigenvalues, 1, n),
        ("n_oversamples", n_oversamples, 0, None),
        ("power_iter", power_iter, 0, None),
    ):
        if index(number) < low or (high is not None and number > high):
            limits = f"in [{low}, {high}]" if high is not None else f"at least {low}"
            raise ValueError(f"reigh: {name} must be {limits}, got {number}")
    count = min(n, n_eigenvalues + n_oversamples)
    rng = get_generator() if random_state is None else default_rng(random_state, comm=a.comm)
    kind = "float32" if a.larray.real.dtype.itemsize == 4 else "float64"
    split = None if a.split is None else 0
    start = rng.standard_normal((n, count), kind, split=split, device=a.device, comm=a.comm)
    rows = start.layout
    basis = DNDarray(start.larray.to(a.larray.dtype), rows, a.comm)
    for _ in range(power_iter + 1):
        basis = moved(qr(moved(matmul(a, basis), rows)).Q, rows)
    small = matmul(adjoint(basis), moved(matmul(a, basis), rows))
    small = moved(small, Layout(small.shape, None))
    small = DNDarray((small.larray + small.larray.mH) / 2, small.layout, a.comm)
    found = eigh(small)
    values, turn = found if a.split is None else _told(found)
    order = values.larray.abs().argsort(descending=True, stable=True)[:n_eigenvalues]
    values = DNDarray(values.larray[order], Layout((n_eigenvalues,), None), a.comm)
    turn = DNDarray(turn.larray[:, order].contiguous(), Layout((count, n_eigenvalues), None), a.comm)
    return EighResult(values, matmul(basis, turn))


def _told(found: EighResult) -> EighResult:
    """Return rank 0's decomposition on every rank: processors may round differently. Two broadcasts."""
    for x in found:
        x.larray = x.larray.contiguous()
        x.comm.bcast(x.larray, root=0)
    return found
