"""MINRES: Hermitian systems that need not be definite."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import torch
from ht_core import DNDarray

from .linear_systems import System, linear_system


def minres(
    A: object,
    b: object,
    x0: object = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    shift: float = 0.0,
    maxiter: int | None = None,
    M: object = None,
    callback: Callable[[DNDarray], object] | None = None,
) -> tuple[DNDarray, int]:
    """Solve ``(A - shift * I) @ x = b`` for a Hermitian matrix, definite or not, by minimal residuals.

    Parameters
    ----------
    A : DNDarray (n, n), sparse matrix, object with `matvec`, or function
        See :func:`ht_linalg.operators.as_operator`.
    b : array_like, shape (n,) or (n, 1)
    x0 : array_like of the shape of b, optional
        Start; zero by default.
    rtol, atol : float
        Stop where the norm of the residual is at most ``max(rtol * norm(b), atol)``.
    shift : float
        Real.
    maxiter : int, optional
        Most iterations; 5 n by default.
    M : as A, optional
        Preconditioner: approximates the inverse of `A`, Hermitian positive definite.
    callback : callable, optional
        Called on every rank after each iteration with the iterate, split as vectors of `A`.

    Returns
    -------
    x : DNDarray
        Shape and layout of b; the dtype that `A`, b and `M` promote to.
    info : int
        0: converged, as confirmed by a residual computed anew. Positive: not converged, the number of iterations; where
        the system is singular and has no solution the iteration ends early, with a least-squares solution. -1: `M` is
        not positive definite (or NaN appeared). (SciPy calls least-squares solutions converged, too.)

    *Distribution* (collective unless `A` and b are replicated): vectors are split as the rows or columns of `A`. Per
    iteration one product with `A` (and one with `M`) and two allreduces, of two numbers and one. Flops per rank and
    step: the product and 18 n / p; memory: nine vectors.

    Raises
    ------
    LayoutError
        If the shapes do not fit.
    ValueError
        If a tolerance or `maxiter` is out of range.

    Notes
    -----
    Lanczos' three-term recurrence and a QR decomposition of its tridiagonal matrix by rotations. The residual is
    optimal over the Krylov space; for a spectrum in [-a, -b] and [c, d] of equal lengths it falls every two steps by
    ``(sqrt(ad) - sqrt(bc)) / (sqrt(ad) + sqrt(bc))``. The basis is not
    kept orthogonal, which costs steps, not accuracy.

    References
    ----------
    C. C. Paige, M. A. Saunders, Solution of sparse indefinite systems of linear equations, 1975, doi:10.1137/0712047.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> A = ht.array([[0.0, 2.0], [2.0, 0.0]], split=1)
    >>> x, info = ht_linalg.minres(A, ht.array([2.0, 4.0], split=0))
    >>> x.numpy().round(6), info
    (array([2., 1.]), 0)
    """
    options = {"rtol": rtol, "atol": atol, "maxiter": maxiter, "callback": callback, "steps_per_row": 5}
    system = linear_system("minres", A, b, x0, M, **options)
    if shift:
        product, sigma = system.space.apply, float(shift)
        system.space = replace(system.space, apply=lambda x: product(x) - sigma * x)
    return system.answer(_iterate(system))


def _iterate(system: System) -> int:
    """Improve ``system.x`` until it is good enough; return `info`."""
    limit, steps, last = None, 0, math.inf
    while True:
        r = system.residual()
        z = system.precondition(r)
        pairs = [(r, z), (r, r)] + ([(system.b, system.b)] if limit is None else [])
        energy, squared, *first = (y.real for y in system.space.dots(*pairs))
        if first:
            limit = system.limit(first[0])
            if first[0] == 0:
                system.x.zero_()
                return 0
        if squared**0.5 <= limit:
            return 0
        if steps >= system.maxiter or squared**0.5 > 0.5 * last:  # rounding lets it fall no further
            return max(steps, 1)
        if not (energy > 0 and math.isfinite(energy)):
            return -1
        last = squared**0.5
        goal = max(limit, system.space.eps * last)
        done, status = _run(system, r, z, energy**0.5, goal, system.maxiter - steps)
        steps += done
        if status != 0:
            return max(steps, 1) if status > 0 else -1


def _run(
    system: System, r: torch.Tensor, z: torch.Tensor, gamma: float, limit: float, most: int
) -> tuple[int, int]:
    """Iterate from the residual r, with z = M r and gamma = sqrt(r'z).

    Returns the number of steps, and 0 where the recurred residual is small enough (or the steps are used up), 1 where
    only a least-squares solution exists, -1 where the preconditioner is not definite.
    """
    space, x = system.space, system.x
    v, v_old, w, w_old = r.clone(), torch.zeros_like(r), torch.zeros_like(r), torch.zeros_like(r)
    gamma_old, eta, c, c_old, s, s_old, norm = 1.0, gamma, 1.0, 1.0, 0.0, 0.0, 0.0
    for step in range(most):
        z = z / gamma
        v_new = space.apply(z)
        delta, squared = (y.real for y in space.dots((z, v_new), (r, r)))
        if step and squared**0.5 <= limit:
            return step, 0
        # the part along earlier vectors; v carries the factor gamma of its normalisation
        v_new.sub_(v, alpha=delta / gamma).sub_(v_old, alpha=gamma / gamma_old)
        v_old, v = v, v_new
        z_new = system.precondition(v)
        energy = space.dots((v, z_new))[0].real
        norm = max(norm, math.hypot(delta, gamma if step else 0.0))
        if not energy >= 0 or not math.isfinite(delta):
            return step, -1
        gamma_new = energy**0.5
        if gamma_new <= 4 * space.eps * norm:  # the Krylov space is invariant: this is the last step
            gamma_new = 0.0
        a0 = c * delta - c_old * s * gamma
        a1 = math.hypot(a0, gamma_new)
        if math.hypot(a0, c * gamma_new) <= 100 * space.eps * norm:  # A r vanishes beside r
            return step, 1
        a2, a3 = s * delta + c_old * c * gamma, s_old * gamma
        c_old, s_old, c, s = c, s, a0 / a1, gamma_new / a1
        w_new = (z - a2 * w - a3 * w_old).div_(a1)
        w_old, w = w, w_new
        x.add_(w, alpha=c * eta)
        system.stepped()
        if gamma_new == 0.0:
            return step + 1, 0
        r = r.mul(s * s).sub_(v, alpha=s * c * eta / gamma_new)
        eta *= -s
        gamma_old, gamma, z = gamma, gamma_new, z_new
    return most, 0
