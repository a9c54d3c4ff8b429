"""Conjugate gradients with one reduction per step."""

from __future__ import annotations

import math
from collections.abc import Callable

from ht_core import DNDarray

from .linear_systems import System, linear_system


def cg(
    A: object,
    b: object,
    x0: object = None,
    out: DNDarray | None = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    M: object = None,
    callback: Callable[[DNDarray], object] | None = None,
) -> tuple[DNDarray, int]:
    """Solve ``A @ x = b`` for a Hermitian positive definite matrix by conjugate gradients.

    Parameters
    ----------
    A : DNDarray (n, n), sparse matrix, object with `matvec`, or function
        See :func:`ht_linalg.operators.as_operator`. Functions map DNDarrays to DNDarrays; every rank calls them.
    b : array_like, shape (n,) or (n, 1)
    x0 : array_like of the shape of b, optional
        Start; zero by default.
    out : DNDarray, optional
        Where the solution is written; it keeps its layout and dtype.
    rtol, atol : float
        Stop where ``norm(b - A @ x) <= max(rtol * norm(b), atol)``.
    maxiter : int, optional
        Most iterations; 10 n by default.
    M : as A, optional
        Preconditioner: approximates the inverse of `A`, Hermitian positive definite.
    callback : callable, optional
        Called on every rank after each iteration with the iterate, split as vectors of `A`.

    Returns
    -------
    x : DNDarray
        Shape and layout of b; the dtype that `A`, b and `M` promote to.
    info : int
        0: converged, as confirmed by a residual computed anew. Positive: not converged, the number of iterations,
        `maxiter` or those after which rounding lets the residual fall no further. -1: `A` or `M` is not positive
        definite (or NaN appeared); x is the last iterate.

    *Distribution* (collective unless `A` and b are replicated): vectors are split as the rows or columns of `A`. Per
    iteration one product with `A` (and one with `M`) and one allreduce of two or three numbers: all inner products are
    fused. One more product at the start and whenever convergence is confirmed. Flops per rank and step: the product and
    10 n / p; memory: five vectors.

    Raises
    ------
    LayoutError
        If the shapes do not fit.
    ValueError
        If a tolerance or `maxiter` is out of range.

    Notes
    -----
    The recurrences of Chronopoulos and Gear, equal to Hestenes and Stiefel's in exact arithmetic. The error in the
    norm of A falls by ``(sqrt(k) - 1) / (sqrt(k) + 1)`` per step, k being the condition number. The recurred residual
    drifts from the true one by rounding: where it says that x is good, the residual is computed anew, and the
    iteration restarts from it if it is not.

    References
    ----------
    A. T. Chronopoulos, C. W. Gear, s-step iterative methods for symmetric linear systems, 1989,
    doi:10.1016/0377-0427(89)90045-9. M. R. Hestenes, E. Stiefel, Methods of conjugate gradients for solving linear
    systems, 1952, doi:10.6028/jres.049.044.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> A = ht.array([[4.0, 1.0], [1.0, 3.0]], split=0)
    >>> x, info = ht_linalg.cg(A, ht.array([1.0, 2.0], split=0))
    >>> x.numpy().round(6), info
    (array([0.090909, 0.636364]), 0)
    """
    options = {"rtol": rtol, "atol": atol, "maxiter": maxiter, "callback": callback, "out": out}
    system = linear_system("cg", A, b, x0, M, **options)
    return system.answer(_iterate(system))


def _iterate(system: System) -> int:
    """Improve ``system.x`` until it is good enough; return `info`."""
    space, x = system.space, system.x
    steps, limit, p, s, gamma, alpha = 0, None, None, None, 0.0, 0.0
    r, is_true, last = system.residual(), True, math.inf
    while True:
        u = system.precondition(r)
        w = space.apply(u)
        previous = gamma
        # without a preconditioner u is r; the norm of b rides in the first message
        pairs = [(r, r), (u, w)] + ([(r, u)] if u is not r else [])
        pairs += [(system.b, system.b)] if limit is None else []
        squared, delta, *others = (z.real for z in space.dots(*pairs))
        gamma = others[0] if u is not r else squared
        if limit is None:
            limit = system.limit(others[-1])
            if others[-1] == 0:  # x = 0 solves it exactly, wherever we start
                x.zero_()
                return 0
        norm = squared**0.5
        if is_true and norm <= limit:
            return 0
        if not is_true and norm <= max(limit, space.eps * last):
            r, is_true, p = system.residual(), True, None
            continue
        if is_true:
            if norm > 0.5 * last:  # rounding lets it fall no further
                return max(steps, 1)
            last = norm
        if steps >= system.maxiter:
            return max(steps, 1)
        beta = 0.0 if p is None else gamma / previous
        curvature = delta if p is None else delta - beta * gamma / alpha
        if not (gamma > 0 and curvature > 0 and math.isfinite(gamma / curvature)):
            return -1
        alpha = gamma / curvature
        if p is None:
            p, s = u.clone(), w.clone()
        else:
            p.mul_(beta).add_(u)
            s.mul_(beta).add_(w)
        x.add_(p, alpha=alpha)
        r = r.sub_(s, alpha=alpha)
        steps, is_true = steps + 1, False
        system.stepped()
