"""The Lasso and the elastic net without a Gram matrix: accelerated proximal gradients.

One allreduce of d + 3 numbers per step, for tables with so many features that d x d products would not pay. A. Beck and
M. Teboulle, "A fast iterative shrinkage-thresholding algorithm for linear inverse problems", SIAM Journal on Imaging
Sciences 2 (2009), doi:10.1137/080716542; restarts after B. O'Donoghue and E. Candes, "Adaptive restart for accelerated
gradient schemes", Foundations of Computational Mathematics 15 (2015), doi:10.1007/s10208-013-9150-3.
"""

from __future__ import annotations

import numpy as np
import torch

from ..rows import Rows
from ..tiles import spans, tile_rows
from .coordinate_descent import Solution, duality_gap

_POWER_STEPS = 8


class Fista:
    """Proximal gradient steps on centred rows that are never formed.

    Parameters
    ----------
    rows : Rows
    target : torch.Tensor, shape (local rows,), float64
    weights : torch.Tensor, shape (local rows,), float64, or None
    mean : numpy.ndarray, shape (d + 1,)
        Global means of the features and the target; zeros fit without intercept.
    square : float
        y'y of all rows, centred.
    penalty : float
        Weight of |w|_1.
    ridge : float
        Weight of |w|^2 / 2: rows ``sqrt(ridge) I`` with targets 0, which no rank holds.
    positive : bool
    """

    def __init__(
        self,
        rows: Rows,
        target,
        weights,
        mean: np.ndarray,
        square: float,
        penalty: float,
        ridge: float,
        positive: bool,
    ) -> None:
        self.rows, self.weights, self.square = rows, weights, square
        self.penalty, self.ridge, self.positive = penalty, ridge, positive
        device, (n, d) = rows.local.device, rows.local.shape
        self._centre = torch.from_numpy(np.ascontiguousarray(mean[:-1])).to(device)
        self._target = target - float(mean[-1])
        self._step = min(max(n, 1), tile_rows(d, device))
        self._scratch = torch.empty((self._step, d), dtype=torch.float64, device=device)

    def _pass(self, v: torch.Tensor, target: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
        """Return r = (target or 0) - (X - 1 m')v for the local rows, and this rank's part of (X - 1 m')'Wr.

        Both from one pass, as the residual of a row needs no other row. Tiles are converted to float64: the
        duality gap is a small difference of large sums.
        """
        local = self.rows.local
        r = torch.empty(local.shape[0], dtype=torch.float64, device=v.device)
        total = torch.zeros_like(v)
        for span in spans(local.shape[0], self._step):
            tile = self._scratch[: span.stop - span.start].copy_(local[span]).sub_(self._centre)
            part = torch.mv(tile, v, out=r[span]).neg_()
            if target is not None:
                part += target[span]
            total.addmv_(tile.T, part if self.weights is None else part * self.weights[span])
        return r, total

    def _inner(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a * b if self.weights is None else a * b * self.weights).sum()

    def curvature(self) -> float:
        """Return an estimate of the largest eigenvalue of the Gram matrix, by a few power steps (one
        allreduce each)."""
        d = self.rows.d
        v = torch.full((d,), d**-0.5, dtype=torch.float64, device=self._centre.device)
        # Alternate a little so that a vector of ones, which centring may annihilate, is not the only start.
        v[1::2] *= 0.5
        norm = 1.0
        for _ in range(_POWER_STEPS):
            v = self._pass(v, None)[1]
            v = self.rows.comm.allreduce(v, out=v)
            norm = float(torch.linalg.vector_norm(v))
            if norm == 0.0:
                return 1.0 + self.ridge
            v /= norm
        return 1.05 * norm + self.ridge

    def solve(self, start: np.ndarray, max_iter: int, tol: float) -> Solution:
        """Step until the duality gap is at most ``tol * y'y``, at most `max_iter` times.

        Residuals and correlations are affine in the coefficients: those of the last iterate follow from
        those of the extrapolated points, so one message per step serves the step, the check of its length
        and the duality gap.
        """
        x = torch.from_numpy(start.copy()).to(self._centre.device)
        point, momentum, t = x.clone(), 0.0, 1.0
        curvature, model = self.curvature(), np.inf
        residual = correlation = None  # of the iterate before x
        for n_iter in range(1, max_iter + 2):
            r_point, products = self._pass(point, self._target)
            r_x = r_point if residual is None else (r_point + momentum * residual) / (1.0 + momentum)
            inner = [self._inner(r_x, r_x), self._inner(r_x, self._target), self._inner(r_point, r_point)]
            message = torch.cat([products, torch.stack(inner)])
            message = self.rows.comm.allreduce(message, out=message)
            at_point, (square_x, fit_x, square_point) = message[:-3], message[-3:].tolist()
            if self.ridge:
                at_point = at_point - self.ridge * point
                square_x += self.ridge * float(x @ x)
                square_point += self.ridge * float(point @ point)
            at_x = at_point if residual is None else (at_point + momentum * correlation) / (1.0 + momentum)
            gap = duality_gap(
                x.cpu().numpy(), at_x.cpu().numpy(), square_x, fit_x, self.penalty, self.positive
            )
            if gap <= tol * self.square or n_iter > max_iter:
                break
            if 0.5 * square_x > model * (1.0 + 1e-9):
                # The last step was longer than the curvature allows: go on from x in shorter ones.
                curvature *= 1.5
                point, momentum, t, model, residual = x.clone(), 0.0, 1.0, np.inf, None
                continue
            new = self._shrink(point + at_point / curvature, self.penalty / curvature)
            step = new - point
            model = 0.5 * square_point - float(step @ at_point) + 0.5 * curvature * float(step @ step)
            if float((point - new) @ (new - x)) > 0.0:
                t = 1.0
            t_next = 0.5 * (1.0 + (1.0 + 4.0 * t * t) ** 0.5)
            momentum, t = (t - 1.0) / t_next, t_next
            residual, correlation = r_x, at_x
            point, x = new + momentum * (new - x), new
        return Solution(x.cpu().numpy(), gap, min(n_iter, max_iter), gap <= tol * self.square)

    def _shrink(self, v: torch.Tensor, by: float) -> torch.Tensor:
        if self.positive:
            return (v - by).clamp_(min=0.0)
        return torch.sign(v) * (v.abs() - by).clamp_(min=0.0)
