"""The Lasso on a Gram matrix: coordinate descent, finished exactly on the active set. Replicated, sends
nothing.

Minimises ``1/2 w'Gw - q'w + penalty |w|_1`` (times 1/n this is scikit-learn's objective with penalty = n
alpha). Sweeps of coordinate descent find which coefficients are not zero and their signs; given these,
the minimum solves linear equations. Coefficients whose sign would change are left out and the equations
solved again; the solution is taken if the objective has decreased. In the spirit of H. Lee, A. Battle, R.
Raina and A. Y. Ng, "Efficient sparse coding algorithms", NIPS 2006; sweeps as in J. Friedman, T. Hastie
and R. Tibshirani, "Regularization paths for generalized linear models via coordinate descent", Journal of
Statistical Software 33 (2010), doi:10.18637/jss.v033.i01.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

_SETTLED = 1e-12
_ROUNDS = 8


@dataclass(frozen=True, slots=True)
class Solution:
    """Coefficients (d,), the duality gap (unscaled), the number of sweeps and whether the tolerance was
    reached."""

    coefficients: np.ndarray
    gap: float
    n_iter: int
    has_converged: bool


def duality_gap(
    w: np.ndarray, correlation: np.ndarray, residual: float, fit: float, penalty: float, positive: bool
):
    """Return the duality gap of ``1/2 |y - Xw|^2 + penalty |w|_1``.

    Parameters
    ----------
    w : numpy.ndarray, shape (d,)
    correlation : numpy.ndarray, shape (d,)
        X'(y - Xw).
    residual : float
        |y - Xw|^2.
    fit : float
        (y - Xw)'y.
    """
    norm = float(correlation.max() if positive else np.abs(correlation).max()) if w.size else 0.0
    scale = min(1.0, penalty / norm) if norm > 0.0 else 1.0
    return 0.5 * residual * (1.0 + scale * scale) + penalty * float(np.abs(w).sum()) - scale * fit


class GramLasso:
    """State of the solver: coefficients `w` and correlations with the residual `h` = q - G w.

    Parameters
    ----------
    gram : numpy.ndarray, shape (d, d), float64
    moment : numpy.ndarray, shape (d,), float64
        q = X'y.
    square : float
        y'y.
    penalty : float
    positive : bool
        Whether coefficients must not be negative.
    """

    def __init__(self, gram, moment, square: float, penalty: float, positive: bool) -> None:
        self.gram, self.moment, self.square = gram, moment, square
        self.penalty, self.positive = penalty, positive
        self._rows, self._diagonal = list(gram), gram.diagonal().tolist()
        self._buffer = np.empty_like(moment)

    def solve(self, start: np.ndarray, max_iter: int, tol: float) -> Solution:
        """Sweep until the duality gap is at most ``tol * square``, at most `max_iter` times.

        Each sweep is one pass of coordinate descent and the solution on the active set.
        """
        self.w = start.copy()
        self.h = self.moment - self.gram @ self.w
        gap, n_iter = self._gap(), 0
        for n_iter in range(1, max_iter + 1):
            largest_step, largest = self._sweep()
            solved = self._finish()
            self.h = self.moment - self.gram @ self.w  # forget the rounding of the updates
            gap = self._gap()
            if gap <= tol * self.square and (solved or largest_step <= tol * largest):
                return Solution(self.w, gap, n_iter, True)
            if solved and (gap <= _SETTLED * self.square or self.penalty == 0.0):
                return Solution(self.w, gap, n_iter, True)  # further sweeps would change nothing
        return Solution(self.w, gap, n_iter, False)

    def _gap(self) -> float:
        linear, inner = float(self.w @ self.moment), float(self.w @ self.h)
        return duality_gap(
            self.w, self.h, self.square - linear - inner, self.square - linear, self.penalty, self.positive
        )

    def _sweep(self) -> tuple[float, float]:
        """Minimise over each coefficient in turn; return the largest change and the largest coefficient."""
        w, h, buffer, penalty = self.w, self.h, self._buffer, self.penalty
        magnitude = h if self.positive else np.abs(h)
        # Zeros that satisfy their optimality condition now are left to the next sweep.
        visit = np.flatnonzero((w != 0.0) | (magnitude > penalty))
        largest_step = 0.0
        for j in visit.tolist():
            curvature = self._diagonal[j]
            if curvature <= 0.0:  # a constant feature
                continue
            old = w.item(j)
            rho = h.item(j) + curvature * old
            if rho > penalty:
                new = (rho - penalty) / curvature
            elif rho < -penalty and not self.positive:
                new = (rho + penalty) / curvature
            else:
                new = 0.0
            step = new - old
            if step != 0.0:
                w[j] = new
                np.multiply(self._rows[j], step, out=buffer)
                np.subtract(h, buffer, out=h)
                largest_step = max(largest_step, abs(step))
        return largest_step, float(np.abs(w).max()) if w.size else 0.0

    def _finish(self) -> bool:
        """Move to the minimum for the present signs, without the coefficients that would change theirs.

        Taken only where the objective decreases; otherwise the next sweep goes on from where this one ended.

        Returns
        -------
        bool
            Whether this is the minimum of the whole problem.
        """
        active = np.flatnonzero(self.w)
        goal = self.w[active]
        for _ in range(_ROUNDS):
            signs = np.sign(goal)
            # torch keeps to this rank's share of the cores; NumPy's LAPACK does not.
            factor, failed = torch.linalg.cholesky_ex(torch.from_numpy(self.gram[np.ix_(active, active)]))
            if failed:  # not positive definite: the minimum is not unique
                return False
            right = torch.from_numpy(self.moment[active] - self.penalty * signs).unsqueeze(1)
            goal = torch.cholesky_solve(right, factor).squeeze(1).numpy()
            keep = goal * signs > 0.0
            if keep.all():
                break
            active, goal = active[keep], goal[keep]
        else:
            return False
        w = np.zeros_like(self.w)
        w[active] = goal
        product = self.gram @ w
        if self._objective(w, product) > self._objective(self.w, self.gram @ self.w):
            return False
        self.w = w
        rest = np.delete(self.moment - product, active)
        bound = self.penalty * (1.0 + 1e-10) + 1e-14 * float(np.abs(self.moment).max(initial=0.0))
        return bool(((rest if self.positive else np.abs(rest)) <= bound).all())

    def _objective(self, w: np.ndarray, product: np.ndarray) -> float:
        return float(w @ (0.5 * product - self.moment)) + self.penalty * float(np.abs(w).sum())
