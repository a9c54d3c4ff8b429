"""Restarted GMRES: any non-singular system."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral

import torch
from ht_core import DNDarray

from .linear_systems import System, linear_system
from .orthogonalisation import orthogonalise


def gmres(
    A: object,
    b: object,
    x0: object = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    restart: int | None = None,
    maxiter: int | None = None,
    M: object = None,
    callback: Callable[[object], object] | None = None,
    callback_type: str = "x",
) -> tuple[DNDarray, int]:
    """Solve ``A @ x = b`` by generalised minimal residuals, restarted.

    Parameters
    ----------
    A : DNDarray (n, n), sparse matrix, object with `matvec`, or function
        See :func:`ht_linalg.operators.as_operator`. Need not be symmetric.
    b : array_like, shape (n,) or (n, 1)
    x0 : array_like of the shape of b, optional
        Start; zero by default.
    rtol, atol : float
        Stop where ``norm(b - A @ x) <= max(rtol * norm(b), atol)``.
    restart : int, optional
        Steps of a cycle, and vectors that are kept: 20 by default, n at most.
    maxiter : int, optional
        Most cycles; 10 n by default.
    M : as A, optional
        Preconditioner: approximates the inverse of `A`. Applied from the right: the residual is the true one.
    callback : callable, optional
        Called on every rank; what it gets is said by `callback_type`.
    callback_type : {"x", "pr_norm"}
        "x": the iterate, after each cycle. "pr_norm": the relative norm of the residual, after each step.

    Returns
    -------
    x : DNDarray
        Shape and layout of b; the dtype that `A`, b and `M` promote to.
    info : int
        0: converged, as confirmed by a residual computed anew. Positive: not converged, the number of steps; a cycle
        that does not reduce the residual is the last one. -1: NaN or infinity appeared.

    *Distribution* (collective unless `A` and b are replicated): vectors are split as the rows or columns of `A`. Step j
    of a cycle costs one product with `A` (and one with `M`) and two allreduces of j + 1 numbers, whatever j; a cycle
    one product and one allreduce more. Flops per rank and cycle of m steps: m products and 4 m^2 n / p; memory: m + 4
    vectors.

    Raises
    ------
    LayoutError
        If the shapes do not fit.
    ValueError
        If a tolerance, `restart`, `maxiter` or `callback_type` is out of range.

    Notes
    -----
    Arnoldi's basis is orthogonal at rounding level (classical Gram-Schmidt twice), so that the method is backward
    stable within a cycle. Residuals never grow from cycle to cycle.

    References
    ----------
    Y. Saad, M. H. Schultz, GMRES: a generalized minimal residual algorithm for solving nonsymmetric linear systems,
    1986, doi:10.1137/0907058.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> A = ht.array([[2.0, 1.0], [0.0, 4.0]], split=0)
    >>> x, info = ht_linalg.gmres(A, ht.array([4.0, 8.0], split=0))
    >>> x.numpy().round(6), info
    (array([1., 2.]), 0)
    """
    if restart is not None and (not isinstance(restart, Integral) or restart < 1):
        raise ValueError(f"gmres: restart must be an integer of at least 1, got {restart!r}")
    if callback_type not in ("x", "pr_norm"):
        raise ValueError(f'gmres: callback_type must be "x" or "pr_norm", got {callback_type!r}')
    system = linear_system("gmres", A, b, x0, M, rtol=rtol, atol=atol, maxiter=maxiter, callback=callback)
    n = system.space.layout.shape[0]
    report, system.callback = system.callback, system.callback if callback_type == "x" else None
    report = report if callback_type == "pr_norm" else None
    return system.answer(_iterate(system, max(1, min(restart or 20, n)), report))


def _iterate(system: System, restart: int, report: Callable | None) -> int:
    """Improve ``system.x`` until it is good enough; return `info`."""
    r, scale, limit, steps, last = system.residual(), None, None, 0, math.inf
    for cycle in range(system.maxiter + 1):
        squared = [y.real for y in system.space.dots((r, r), *(((system.b, system.b),) if not cycle else ()))]
        norm = squared[0] ** 0.5
        if not cycle:
            scale, limit = squared[1] ** 0.5, system.limit(squared[1])
            if scale == 0:
                system.x.zero_()
                return 0
        if norm <= limit:
            return 0
        if not math.isfinite(norm):
            return -1
        # the next cycle would start from the same residual and fail as this one did
        if cycle == system.maxiter or norm >= last * (1 - system.space.eps):
            return max(steps, 1)
        basis, y = _cycle(system, r, norm, restart, limit, report, scale)
        if y is None:
            return -1
        last, steps = norm, steps + len(y)
        if y:
            weights = torch.tensor(y, dtype=system.space.wide, device=r.device).to(r.dtype)
            system.x.add_(system.precondition(weights @ basis[: len(y)]))
        system.stepped()
        r = system.residual()
    return max(steps, 1)


def _cycle(
    system: System,
    r: torch.Tensor,
    norm: float,
    restart: int,
    limit: float,
    report: Callable | None,
    scale: float,
) -> tuple[torch.Tensor, list[complex] | None]:
    """Return the basis (vectors as rows) of at most `restart` steps and the coefficients of the correction in it.

    None in place of coefficients where numbers are not finite.
    """
    space = system.space
    basis = r.new_empty((restart + 1, r.shape[0]))
    torch.div(r, norm, out=basis[0])
    columns, rotations, g = [], [], [complex(norm)]
    for j in range(restart):
        w = space.apply(system.precondition(basis[j]))
        h, beta, before = orthogonalise(space, basis[: j + 1], w)
        if not math.isfinite(before) or beta != beta:
            return basis, None
        h = [complex(z) for z in h]
        for i, (c, s) in enumerate(rotations):
            h[i], h[i + 1] = c * h[i] + s * h[i + 1], -s.conjugate() * h[i] + c * h[i + 1]
        c, s, h[j] = _rotation(h[j], beta)
        if abs(h[j]) <= 32 * space.eps * before:  # A is singular here: this direction does not help
            break
        rotations.append((c, s))
        columns.append(h)
        g.append(-s.conjugate() * g[j])
        g[j] = c * g[j]
        if report is not None:
            report(abs(g[j + 1]) / scale)
        if beta == 0 or abs(g[j + 1]) <= limit:
            break
        torch.div(w, beta, out=basis[j + 1])
    return basis, _back_substituted(columns, g, space.dtype.is_complex)


def _rotation(a: complex, b: float) -> tuple[float, complex, complex]:
    """Return c, s, r with ``c a + s b = r`` and ``-conj(s) a + c b = 0``, for a real b >= 0."""
    size = math.hypot(abs(a), b)
    if size == 0:
        return 1.0, 0j, 0j
    if a == 0:
        return 0.0, 1 + 0j, complex(b)
    phase = a / abs(a)
    return abs(a) / size, phase * b / size, phase * size


def _back_substituted(columns: list[list[complex]], g: list[complex], is_complex: bool) -> list[complex]:
    """Solve the triangular system whose columns are given."""
    y = list(g[: len(columns)])
    for j in reversed(range(len(columns))):
        y[j] /= columns[j][j]
        for i in range(j):
            y[i] -= columns[j][i] * y[j]
    return y if is_complex else [z.real for z in y]
