"""LOBPCG: extreme eigenvalues of large Hermitian matrices by blocks, with preconditioner and constraints."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real

import torch
from ht_core import DNDarray
from ht_core.errors import LayoutError
from ht_core.layout import Layout

from .arguments import as_dndarray
from .columns import moved
from .consensus import pack, solve_sum, unpack
from .errors import LinAlgError
from .gram import times
from .linear_systems import preconditioner
from .operators import Operator, as_operator, tied, vector_dtype
from .qr import qr

_LOG = logging.getLogger("ht.linalg")

#: Status words of rank 0's answers: the block is orthonormal, or needs another round.
DONE, AGAIN = 1, 2
#: Iterations after which products with A and B, which are updated with the basis, are formed anew.
REFRESH = 20


def lobpcg(
    A: object,
    X: object,
    B: object = None,
    M: object = None,
    Y: object = None,
    tol: float | None = None,
    maxiter: int | None = None,
    largest: bool = True,
    verbosityLevel: int = 0,
    retLambdaHistory: bool = False,
    retResidualNormsHistory: bool = False,
    restartControl: int = 20,
) -> tuple:
    """Return the largest or smallest eigenvalues, and eigenvectors, of ``A x = lambda B x``.

    Parameters
    ----------
    A : DNDarray (n, n), sparse matrix, object with `matmat` or `matvec`, or function
        Hermitian; see :func:`ht_linalg.operators.as_operator`. Functions get blocks (n, j).
    X : array_like, shape (n, k)
        Start: k linearly independent columns. Not changed.
    B : as A, optional
        Hermitian positive definite; the identity by default.
    M : as A, optional
        Preconditioner: approximates the inverse of `A`.
    Y : array_like, shape (n, c), optional
        Eigenvectors are sought among the vectors that are B-orthogonal to these.
    tol : float, optional
        Stop where all ``norm(A x - lambda B x) <= tol``; by default n times the square root of the rounding unit.
    maxiter : int, optional
        20 by default.
    largest : bool
        Which end of the spectrum.
    verbosityLevel : int
        Above 0, residuals are logged on rank 0 (level INFO, logger ``ht.linalg``).
    retLambdaHistory, retResidualNormsHistory : bool
        Return a list of eigenvalues, or norms, of each iteration as well.
    restartControl : int
        Search directions are forgotten where residuals grow 2^restartControl times above the smallest seen.

    Returns
    -------
    lambda : DNDarray, shape (k,)
        Real, replicated; descending for `largest`, else ascending.
    v : DNDarray, shape (n, k)
        B-orthonormal, in the layout of X.
    histories : lists of DNDarray, shape (k,)
        Where asked for.

    *Distribution* (collective unless `A` and X are replicated): blocks are split as the rows or columns of `A`. An
    iteration costs one product of `A` (of `B`, of `M`) with a block, two allreduces (k and (2 k + c) k numbers) and
    two pairs of a reduction and a broadcast (three where directions are nearly dependent), of at most 18 k^2 numbers:
    constant, and no n in them. Flops per rank: the products and about 60 n k^2 / p; memory: 12 blocks of n k / p
    numbers.

    Raises
    ------
    LayoutError
        If the shapes do not fit.
    ValueError
        If a parameter is out of range.
    LinAlgError
        If the columns of X or Y are linearly dependent, or `B` is not positive definite; on every rank.

    Notes
    -----
    Robust as in Duersch et al.: the basis [X, P, W] is kept B-orthonormal (W by projection and SVQB, dropping
    directions without content; P in coefficients, against the new X), so that the small eigenproblem is well
    conditioned until the end. Converged columns stay in the basis but are no longer preconditioned. Not converging is
    told by a warning on rank 0. Eigenvalues are accurate to the squares of the residuals over the gaps.

    References
    ----------
    A. V. Knyazev, Toward the optimal preconditioned eigensolver: locally optimal block preconditioned conjugate
    gradient method, 2001, doi:10.1137/S1064827500366124. J. A. Duersch, M. Shao, C. Yang, M. Gu, A robust and efficient
    implementation of LOBPCG, 2018, doi:10.1137/17M1129830. A. Stathopoulos, K. Wu, A block orthogonalization procedure
    with constant synchronization requirements, 2002, doi:10.1137/S1064827500370883 (SVQB).

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> A = ht.diag(ht.arange(1.0, 31.0, split=0))
    >>> values, v = ht_linalg.lobpcg(A, ht.eye(30, split=0)[:, :2] + 0.1, largest=False, maxiter=60)
    >>> values.numpy().round(3), v.shape
    (array([1., 2.]), (30, 2))
    """
    space, given, B, M, Y, limit = _checked(A, X, B, M, Y, tol, maxiter)
    solver = _Solver(space, B, M, -1.0 if largest else 1.0)
    steps = 20 if maxiter is None else int(maxiter)
    y = None if Y is None else solver.start("Y", space.local(Y), None)
    x = solver.start("X", space.local(given), y)
    values, x, lambdas, norms = solver.iterate(x, y, limit, steps, 2.0**restartControl)
    worst = norms[-1].max().item()
    if verbosityLevel > 0 and space.comm.rank == 0:
        _LOG.info("lobpcg: %d iterations, largest residual %.3e", len(norms) - 1, worst)
    if not worst <= limit and space.comm.rank == 0:
        text = f"lobpcg: not converged in {len(norms) - 1} iterations: residual {worst:.2e} above {limit:.2e}"
        warnings.warn(text, stacklevel=2)

    def told(numbers: torch.Tensor) -> DNDarray:
        real = torch.empty(0, dtype=space.dtype).real.dtype
        return DNDarray(numbers.to(real), Layout(tuple(numbers.shape), None), space.comm)

    answer = [told(values), moved(space.array(x.v), given.layout)]
    answer += [[told(z) for z in lambdas]] if retLambdaHistory else []
    answer += [[told(z) for z in norms]] if retResidualNormsHistory else []
    return tuple(answer)


def _checked(A, X, B, M, Y, tol, maxiter):
    """Return the operands as the iteration takes them, and the tolerance."""
    X = as_dndarray("lobpcg", "X", X, getattr(A, "comm", None))
    if X.ndim != 2 or not 1 <= X.shape[1] <= X.shape[0]:
        raise LayoutError(f"lobpcg: X must be (n, k) with 1 <= k <= n, got shape {X.shape}")
    n, k = X.shape
    if tol is not None and (not isinstance(tol, Real) or not tol >= 0):
        raise ValueError(f"lobpcg: tol must be a number of at least 0, got {tol!r}")
    if maxiter is not None and (not isinstance(maxiter, Integral) or maxiter < 0):
        raise ValueError(f"lobpcg: maxiter must be an integer of at least 0, got {maxiter!r}")
    Y = None if Y is None else as_dndarray("lobpcg", "Y", Y, X.comm)
    if Y is not None and (Y.ndim != 2 or Y.shape[0] != n or Y.shape[1] + k > n):
        raise LayoutError(f"lobpcg: Y must be (n, c) with n = {n} and c <= {n - k}, got shape {Y.shape}")
    dtype = vector_dtype("lobpcg", X, *(x for x in (A, B, M, Y) if x is not None))
    space = tied(as_operator("lobpcg", "A", A, dtype, X), B, M)
    B, M = (preconditioner("lobpcg", y, space, name) for y, name in ((B, "B"), (M, "M")))
    return space, X, B, M, Y, n * space.eps**0.5 if tol is None else float(tol)


@dataclass(slots=True)
class _Block:
    """Columns v with their products; b is v itself where B is the identity."""

    v: torch.Tensor
    a: torch.Tensor | None
    b: torch.Tensor

    def times(self, c: torch.Tensor) -> _Block:
        """Return the columns combined with the coefficients c."""
        c = c.to(self.v.dtype)
        v = times(self.v, c)
        a = None if self.a is None else times(self.a, c)
        return _Block(v, a, v if self.b is self.v else times(self.b, c))


def _joined(blocks: list[_Block | None], with_a: bool) -> _Block | None:
    blocks = [block for block in blocks if block is not None]
    if not blocks:
        return None
    v = torch.cat([block.v for block in blocks], 1)
    is_plain = all(block.b is block.v for block in blocks)
    b = v if is_plain else torch.cat([block.b for block in blocks], 1)
    return _Block(v, torch.cat([block.a for block in blocks], 1) if with_a else None, b)


@dataclass(frozen=True, slots=True)
class _Solver:
    """The matrices of one problem; the smallest eigenvalues of ``sign * A`` are wanted."""

    space: Operator
    B: Callable[[torch.Tensor], torch.Tensor]
    M: Callable[[torch.Tensor], torch.Tensor]
    sign: float

    def decide(
        self, partial: torch.Tensor, solve: Callable[[torch.Tensor], torch.Tensor], numel: int
    ) -> torch.Tensor:
        """Return what rank 0 makes of a sum over ranks, on every rank; see :func:`ht_linalg.consensus.solve_sum`."""
        space, partial = self.space, partial.to(self.space.wide)
        if space.comm.size > 1 and space.layout.split is not None:
            return solve_sum(partial, space.comm, solve, numel)
        answer = solve(partial)
        return space.comm.bcast(answer, root=0) if space.is_tied and space.comm.size > 1 else answer

    def start(self, name: str, x: torch.Tensor, y: _Block | None) -> _Block:
        """Return an orthonormal basis of the columns of x, orthogonal to y.

        Raises
        ------
        LinAlgError
            If they are linearly dependent; on every rank.
        """
        k, dependent = x.shape[1], False
        if k:
            q, r = qr(self.space.array(x))  # rank 0's R on every rank
            r = moved(r, Layout(r.shape, None)).larray
            tiny = 10 * k * self.space.eps * torch.linalg.vector_norm(r, dim=0)
            dependent = bool((r.diagonal().abs() <= tiny).any())
            x = self.space.local(q)
        block = self.orthonormal(x, y, least=2)
        if dependent or block.v.shape[1] < k:
            raise LinAlgError(f"lobpcg: {name} must have linearly independent columns")
        return block

    def orthonormal(self, w: torch.Tensor, q: _Block | None, least: int = 1) -> _Block:
        """Return a B-orthonormal basis of the part of w that is B-orthogonal to q, with as many columns as are needed.

        One round of SVQB is enough for a basis of a Rayleigh-Ritz step, which is told how orthonormal it is, unless the
        columns were nearly dependent; what is used without one takes two.

        *Distribution*: one allreduce; once or twice a reduction and a broadcast.
        """
        space = self.space
        known = w[:, :0] if q is None else q.v
        known_b = known if q is None else q.b
        size = (w * w.conj()).sum(0, keepdim=True)
        total = space.total(torch.cat((times(known_b.mH, w), size)))
        norm = total[-1].real.sqrt()
        scale = torch.where(norm > 0, 1 / norm, torch.zeros_like(norm)).to(w.dtype)
        w = (w - times(known, total[:-1].to(w.dtype))) * scale
        bw = self.B(w)
        for done in (1, 2):
            rows, width = known.shape[1], w.shape[1]
            partial = torch.cat((times(known_b.mH, w), times(w.mH, bw)))
            answer = self.decide(partial, _svqb(rows, space.eps), 2 + rows * width + width * width)
            status, count, c, t = unpack(answer, (), (), (rows, width), (width, width))
            c, t = c.to(w.dtype), t[:, : round(count.real.item())].to(w.dtype)
            is_plain = bw is w
            w = times(w - times(known, c), t)
            bw = w if is_plain else times(bw - times(known_b, c), t)
            if done >= least and round(status.real.item()) == DONE:
                break
        return _Block(w, None, bw)

    def select(
        self, x: _Block, p: _Block | None, w: _Block | None
    ) -> tuple[torch.Tensor, _Block, _Block | None] | None:
        """Return Ritz values, Ritz vectors and the next search directions in the span of the blocks.

        None where the blocks are too close to linearly dependent.

        *Distribution*: a reduction and a broadcast.
        """
        k = x.v.shape[1]
        basis = _joined([x, p, w], with_a=True)
        width = basis.v.shape[1]
        partial = torch.cat((times(basis.v.mH, basis.a), times(basis.v.mH, basis.b)))
        answer = self.decide(partial, _rayleigh_ritz(k, self.sign, self.space.eps), 2 + k + 2 * width * k)
        status, count, values, new, search = unpack(answer, (), (), (k,), (width, k), (width, k))
        if round(status.real.item()) == 0:
            return None
        search = search[:, : round(count.real.item())]
        return values.real.contiguous(), basis.times(new), basis.times(search) if search.shape[1] else None

    def iterate(
        self, x: _Block, y: _Block | None, limit: float, steps: int, jump: float
    ) -> tuple[torch.Tensor, _Block, list[torch.Tensor], list[torch.Tensor]]:
        """Improve x until all residuals are at most `limit`; return Ritz values and vectors, and their histories."""
        space = self.space
        x.a = space.apply(x.v)
        values, x, _ = self.chosen(x, None, None)
        p, lambdas, norms, best = None, [], [], float("inf")
        for step in range(steps + 1):
            r = x.a - x.b * values.to(x.v.dtype)
            norm = space.total((r * r.conj()).sum(0)).real.sqrt()
            lambdas.append(values)
            norms.append(norm)
            worst = norm.max().item()
            if worst <= limit or step == steps:
                break
            p = None if worst > jump * best else p
            best = min(best, worst)
            w = self.orthonormal(self.M(r[:, ~(norm <= limit)]), _joined([y, x, p], with_a=False))
            if not w.v.shape[1] and p is None:
                break  # the preconditioned residuals lie in the span already
            w.a = space.apply(w.v)
            if step % REFRESH == REFRESH - 1:
                self.refresh(x, p)
            values, x, p = self.chosen(x, p, w)
        return values, x, lambdas, norms

    def chosen(
        self, x: _Block, p: _Block | None, w: _Block | None
    ) -> tuple[torch.Tensor, _Block, _Block | None]:
        """Return :meth:`select` of the blocks, without old directions where these spoil the basis.

        Raises
        ------
        LinAlgError
            If that does not help: the matrices are not what they must be; on every rank.
        """
        found = self.select(x, p, w)
        if found is None and p is not None:
            found = self.select(x, None, w)
        if found is None:
            raise LinAlgError("lobpcg: A must be Hermitian and finite, B Hermitian and positive definite")
        return found

    def refresh(self, x: _Block, p: _Block | None) -> None:
        """Form the products with the matrices anew: those updated with the basis have drifted by rounding."""
        for block in (x, p):
            if block is not None:
                block.a = self.space.apply(block.v)
                block.b = block.v if block.b is block.v else self.B(block.v)


def _svqb(rows: int, eps: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what rank 0 does with the products of a block with a basis of `rows` vectors and with itself.

    The answer: a status, the number of columns that are kept, the coefficients of the basis; the matrix that makes
    the rest of the block orthonormal.
    """

    def judge(total: torch.Tensor) -> torch.Tensor:
        c, gram = total[:rows], total[rows:]
        gram = gram - c.mH @ c
        if not bool(torch.isfinite(gram).all()):
            raise LinAlgError("lobpcg: A, B, M and X must be finite")
        size = gram.diagonal().real
        scale = torch.where(size > (1e3 * eps) ** 2, size, torch.inf).rsqrt()
        values, vectors = torch.linalg.eigh(scale[:, None] * (gram + gram.mH) / 2 * scale)
        largest = values[-1] if values.numel() else 0.0
        kept = (values > 100 * eps * max(1, values.numel()) * largest) & (values > 0)
        t = scale[:, None] * vectors[:, kept] * values[kept].rsqrt()
        padded = torch.nn.functional.pad(t, (0, gram.shape[1] - t.shape[1]))
        is_good = bool((values > 1e-4 * largest).all())
        return pack(DONE if is_good else AGAIN, t.shape[1], c, padded, like=total)

    return judge


def _rayleigh_ritz(k: int, sign: float, eps: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return what rank 0 does with the matrices of A and B in a basis whose first k vectors are the present iterate.

    The answer: a status, 0 where the basis is not independent; the number of search directions; k eigenvalues; the
    coefficients of k eigenvectors and of the directions.
    """

    def judge(total: torch.Tensor) -> torch.Tensor:
        width = total.shape[1]
        a, b = ((m + m.mH) / 2 for m in total.split(width))
        lower, info = torch.linalg.cholesky_ex(b)
        if info.item() or not bool(torch.isfinite(a).all()) or lower.diagonal().real.min() < 1e-3:
            return pack(0, 0, total.new_zeros(k + 2 * width * k), like=total)
        half = torch.linalg.solve_triangular(lower, sign * a, upper=False)
        small = torch.linalg.solve_triangular(lower, half.mH, upper=False)
        values, z = torch.linalg.eigh((small + small.mH) / 2)
        values, z = sign * values[:k], z[:, :k]
        new = torch.linalg.solve_triangular(lower.mH, z, upper=True)
        # the part of the new iterate that is not in the old one, orthogonal to the new one (in coordinates of z)
        step = torch.cat((torch.zeros_like(new[:k]), new[k:]))
        step = lower.mH @ step
        size = torch.linalg.vector_norm(step, dim=0)
        step = step / torch.where(size > 0, size, torch.ones_like(size))
        for _ in range(2):
            step = step - z @ (z.mH @ step)
        u, s, _ = torch.linalg.svd(step, full_matrices=False)
        u = u[:, s > 1e4 * eps]
        u = u - z @ (z.mH @ u)
        search = torch.linalg.solve_triangular(lower.mH, u, upper=True)
        padded = torch.nn.functional.pad(search, (0, k - search.shape[1]))
        return pack(1, search.shape[1], values, new, padded, like=total)

    return judge
