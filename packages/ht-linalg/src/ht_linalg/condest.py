"""Condition numbers without the inverse: block estimation of a 1-norm."""

from __future__ import annotations

import math
from numbers import Integral

import numpy as np
import torch
from ht_core import DNDarray
from ht_core.errors import LayoutError
from ht_core.layout import Layout

from .columns import adjoint, as_stack
from .consensus import pack, tell, unpack
from .errors import LinAlgError
from .lu import lu
from .norms import matrix_norm
from .solve import solve_triangular

#: Rounds of the estimation; two suffice nearly always.
ROUNDS = 5


def condest(A: object, p: float | str | None = 1, *, t: int = 2) -> DNDarray:
    """Return an estimate from below of the condition number ``norm(A, p) * norm(inv(A), p)``.

    Parameters
    ----------
    A : array_like, shape (n, n)
    p : {1, inf}
        The norm; None is 1.
    t : int
        Columns of the block: the larger, the surer. 1 is Hager's and Higham's method.

    Returns
    -------
    DNDarray, 0-d
        Real; infinity where `A` is exactly singular. Nearly always within a factor of 3 below the true value, mostly
        equal to it.

    *Distribution* (collective where `A` is split): one decomposition (:func:`ht_linalg.lu`), one norm, and up to 10
    pairs of triangular solves with t right-hand sides, which every rank holds (n t words); 2 broadcasts of n t numbers
    per round. Against :func:`ht_linalg.cond` with p = 1: a third of the flops, 2 n^3 / 3 p, and no inverse.

    Raises
    ------
    LayoutError
        If `A` is not square, or empty.
    ValueError
        If `p` or t is something else.

    References
    ----------
    N. J. Higham, F. Tisseur, A block algorithm for matrix 1-norm estimation, with an application to 1-norm
    pseudospectra, 2000, doi:10.1137/S0895479899356080. W. W. Hager, Condition estimates, 1984, doi:10.1137/0905023.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.condest(ht.diag(ht.array([1.0, 100.0, 10.0], split=0))).item()
    100.0
    """
    if p not in (1, None, math.inf, "inf"):
        raise ValueError(f"condest: p must be 1 or inf, got {p!r}; ht_linalg.cond has the other norms")
    if not isinstance(t, Integral) or t < 1:
        raise ValueError(f"condest: t must be an integer of at least 1, got {t!r}")
    A = as_stack("condest", "A", A, square=True)
    if A.ndim != 2 or 0 in A.shape:
        raise LayoutError(f"condest: A must be a square matrix that is not empty, got shape {A.shape}")
    A = adjoint(A) if p in (math.inf, "inf") else A
    size = matrix_norm(A, ord=1)
    found = _Inverse(A).norm(min(int(t), A.shape[0]))
    return DNDarray(size.larray * found, size.layout, A.comm)


class _Inverse:
    """The inverse of a matrix, by its triangular factors."""

    def __init__(self, A: DNDarray) -> None:
        order, self.lower, self.upper = lu(A)
        self.order, self.comm = order.larray, A.comm

    def _solved(self, x: torch.Tensor, factors: list[tuple[DNDarray, bool]], **options) -> torch.Tensor:
        y = DNDarray(x, Layout(tuple(x.shape), None), self.comm)
        for factor, is_lower in factors:
            y = solve_triangular(factor, y, lower=is_lower, unit_diagonal=is_lower, **options)
        return y.larray

    def apply(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``inv(A) @ x``; A = L[order] @ U."""
        y = torch.empty_like(x)
        y[self.order] = x
        return self._solved(y, [(self.lower, True), (self.upper, False)])

    def apply_adjoint(self, x: torch.Tensor) -> torch.Tensor:
        """Return the adjoint of the inverse times x."""
        return self._solved(x, [(self.upper, False), (self.lower, True)], trans="C")[self.order]

    def norm(self, t: int) -> float:
        """Return a lower bound of the 1-norm, infinity where there is no inverse. Rank 0 decides for all.

        A round asks which sums of columns of the inverse are long (Y = inv(A) X), and then which unit vectors lie in
        the direction in which the norm grows (the subgradient Z = inv(A)^H sign(Y)).
        """
        n, like = self.order.shape[0], self.lower.larray
        state = _State(n, t, like)
        shapes = (), (), (n, t)
        answer = like.new_empty(2 + n * t)
        x = unpack(tell(self.comm, state.first, answer), *shapes)[2].clone()
        for _ in range(ROUNDS):
            try:
                y = self.apply(x)
            except LinAlgError:
                return math.inf
            status, best, s = unpack(tell(self.comm, lambda y=y: state.grown(y), answer), *shapes)
            if round(status.real.item()) == 2:
                break
            z = self.apply_adjoint(s.clone())
            status, _, x = unpack(tell(self.comm, lambda z=z: state.turned(z), answer), *shapes)
            if round(status.real.item()) == 2:
                break
            x = x.clone()
        return best.real.item()


class _State:
    """What rank 0 knows of an estimation; its answers are a status (1: go on, 2: done), the best norm and a block."""

    def __init__(self, n: int, t: int, like: torch.Tensor) -> None:
        self.n, self.t, self.like = n, t, like
        self.rng = np.random.default_rng(0)
        self.best, self.at, self.signs, self.asked, self.present = 0.0, -1, None, set(), None

    def first(self) -> torch.Tensor:
        x = torch.full((self.n, self.t), 1.0 / self.n, dtype=torch.float64)
        x[:, 1:] *= torch.from_numpy(self.rng.choice([-1.0, 1.0], (self.n, self.t - 1)))
        return pack(1, 0.0, x, like=self.like)

    def grown(self, y: torch.Tensor) -> torch.Tensor:
        """Take Y = inv(A) X; answer with its signs."""
        size, column = y.abs().sum(0).max(0)
        if not bool(torch.isfinite(size)):
            return pack(2, size, torch.zeros_like(y), like=self.like)
        if not size > self.best and self.present is not None:
            return pack(2, self.best, torch.zeros_like(y), like=self.like)
        self.best = max(self.best, size.item())
        self.at = -1 if self.present is None else self.present[column.item()]
        signs = torch.where(y == 0, torch.ones_like(y), torch.sgn(y))
        if self.signs is not None and not y.is_complex():
            repeated = ((self.signs.mT @ signs).abs() == self.n).any(0)
            if bool(repeated.all()):
                return pack(2, self.best, signs, like=self.like)
            for j in repeated.nonzero().flatten().tolist():
                signs[:, j] = torch.from_numpy(self.rng.choice([-1.0, 1.0], self.n)).to(signs)
        self.signs = signs
        return pack(1, self.best, signs, like=self.like)

    def turned(self, z: torch.Tensor) -> torch.Tensor:
        """Take Z = inv(A)^H S; answer with the unit vectors to try next."""
        size = z.abs().amax(1)
        order = size.argsort(descending=True, stable=True).tolist()
        x = torch.zeros_like(z)
        new = [i for i in order if i not in self.asked][: self.t]
        is_done = self.at >= 0 and not size.max() > size[self.at]
        if is_done or not new or set(order[: self.t]) <= self.asked:
            return pack(2, self.best, x, like=self.like)
        self.present = new + [new[-1]] * (self.t - len(new))
        self.asked.update(new)
        x[self.present, range(self.t)] = 1.0
        return pack(1, self.best, x, like=self.like)
