"""Lanczos' tridiagonalisation with a basis that stays orthogonal."""

from __future__ import annotations

from numbers import Integral
from typing import NamedTuple

import torch
from ht_core import DNDarray, random
from ht_core.errors import LayoutError
from ht_core.layout import Layout

from .arguments import as_dndarray, deliver
from .operators import Operator, as_operator, vector_dtype
from .orthogonalisation import orthogonalise


class Lanczos(NamedTuple):
    """Result of :func:`lanczos`: ``V.conj().T @ A @ V = T``."""

    V: DNDarray
    T: DNDarray


def lanczos(
    A: object,
    m: int,
    v0: object = None,
    V_out: DNDarray | None = None,
    T_out: DNDarray | None = None,
) -> Lanczos:
    """Return an orthonormal basis of a Krylov space of a Hermitian matrix, and the matrix in it, which is tridiagonal.

    Parameters
    ----------
    A : DNDarray (n, n), sparse matrix, object with `matvec`, or function
        Hermitian; see :func:`ht_linalg.operators.as_operator`.
    m : int
        Vectors of the basis, at most n.
    v0 : array_like, shape (n,), optional
        Start; drawn from ``ht.random``'s generator by default, alike for any number of ranks. A function as `A`
        needs one.
    V_out, T_out : DNDarray, optional
        Where the results are written; they keep their layout and dtype.

    Returns
    -------
    V : DNDarray, shape (n, m)
        Orthonormal columns, split along the rows as `A` is cut; never gathered.
    T : DNDarray, shape (m, m)
        Real symmetric tridiagonal, on every rank.

    *Distribution* (collective unless `A` is replicated): step j costs one product with `A` and two allreduces of j + 1
    numbers, whatever j. Flops per rank: m products and 4 m^2 n / p; memory: the m vectors and two more.

    Raises
    ------
    LayoutError
        If `A` is not square, m is not in [1, n] or v0 does not fit.
    ValueError
        If v0 is zero or not finite; on every rank.

    Notes
    -----
    Every vector is orthogonalised against all earlier ones, twice, so that V is orthonormal at rounding level and no
    eigenvalue is found twice; ``||A V - V T - b v e'||`` is at rounding level times ``||A||``. Where the Krylov space
    is invariant (b = 0), T has a zero beside its diagonal there and the basis goes on with a new random vector.

    References
    ----------
    C. Lanczos, An iteration method for the solution of the eigenvalue problem of linear differential and integral
    operators, 1950, doi:10.6028/jres.045.026. H. D. Simon, The Lanczos algorithm with partial reorthogonalization,
    1984, doi:10.1090/S0025-5718-1984-0725988-X.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> A = ht.array([[2.0, 1.0], [1.0, 2.0]], split=0)
    >>> V, T = ht_linalg.lanczos(A, 2, v0=ht.array([1.0, 0.0]))
    >>> T.numpy().round(6)
    array([[2., 1.],
           [1., 2.]])
    """
    comm = getattr(A, "comm", None)
    v0 = None if v0 is None else as_dndarray("lanczos", "v0", v0, comm)
    if v0 is not None and v0.ndim != 1:
        raise LayoutError(f"lanczos: v0 must be 1-D, got shape {v0.shape}")
    given = [x for x in (A, v0) if x is not None]
    space = as_operator("lanczos", "A", A, vector_dtype("lanczos", *given), v0)
    n = space.layout.shape[0]
    if not isinstance(m, Integral) or not 1 <= m <= n:
        raise LayoutError(f"lanczos: m must be an integer in [1, {n}], got {m!r}")
    start = drawn(space) if v0 is None else space.local(v0)
    basis, alphas, betas = _tridiagonalise(space, start, int(m))
    T = torch.diag(torch.tensor(alphas, dtype=torch.float64))
    if betas:
        side = torch.tensor(betas, dtype=torch.float64)
        T += torch.diag(side, 1) + torch.diag(side, -1)
    T = T.to(device=space.device, dtype=space.empty().real.dtype)
    V = space.array(basis.mT)
    T = DNDarray(T, Layout(tuple(T.shape), None), space.comm)
    return Lanczos(deliver("lanczos", V, V_out), deliver("lanczos", T, T_out))


def drawn(space: Operator, *columns: int) -> torch.Tensor:
    """Return this rank's part of a normal vector, or block; the same numbers for any number of ranks. No message."""
    out = space.array(torch.empty_like(space.empty(*columns).real))
    generator = random.get_generator()
    real = generator.standard_normal(out.shape, out=out).larray
    if not space.dtype.is_complex:
        return real
    imaginary = space.array(torch.empty_like(real))
    return torch.complex(real, generator.standard_normal(out.shape, out=imaginary).larray)


def _tridiagonalise(
    space: Operator, v: torch.Tensor, m: int
) -> tuple[torch.Tensor, list[float], list[float]]:
    """Return the basis, vectors as rows, and the diagonals of T."""
    norm = space.dots((v, v))[0].real ** 0.5
    if not 0 < norm < float("inf"):
        raise ValueError(f"lanczos: v0 must be finite and not zero, got norm {norm}")
    basis = v.new_empty((m, v.shape[0]))
    torch.div(v, norm, out=basis[0])
    alphas, betas = [], []
    for j in range(m):
        w = space.apply(basis[j])
        h, beta, _ = orthogonalise(space, basis[: j + 1], w)
        alphas.append(h[j].real)
        if j + 1 == m:
            break
        betas.append(beta)
        if beta == 0:
            w, beta = _fresh(space, basis[: j + 1])
        torch.div(w, beta, out=basis[j + 1])
    return basis, alphas, betas


def _fresh(space: Operator, basis: torch.Tensor) -> tuple[torch.Tensor, float]:
    """Return a random vector orthogonal to the basis, and its norm."""
    w, norm = drawn(space), 0.0
    while norm == 0.0:  # a random vector lies in the span with probability 0
        _, norm, _ = orthogonalise(space, basis, w)
        w = w if norm else drawn(space)
    return w, norm
