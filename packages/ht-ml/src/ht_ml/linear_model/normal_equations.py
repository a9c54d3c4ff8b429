"""Least squares with or without an l2 penalty: one pass and one message where the features are few and independent.

The products of all features and targets come from one pass and one allreduce (``covariance``), in float64 and without
cancellation. The normal equations are solved by Cholesky after scaling the features to norm 1. Where the factor shows
that digits were lost, the residual of the rows themselves corrects the solution, one more pass and allreduce each
(corrected seminormal equations: Å. Björck, Stability analysis of the method of seminormal equations for linear least
squares problems, Linear Algebra and its Applications 88/89 (1987), doi:10.1016/0024-3795(87)90101-7). Dependent
features, or more of them than products would pay for, go to ``ht_linalg.lstsq`` (no penalty) or conjugate gradients.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ht_linalg import cg, lstsq

from ..covariance import covariance
from ..moments import checked_moments
from ..rows import Rows
from ..tiles import spans, tile_rows
from .coordinate_descent import GramLasso
from .linear_regressor import GRAM_FEATURES, refuse_unusable

# Smallest pivot of the scaled factor (about the inverse of the condition number of the features): above _EXACT the
# equations lose less than 1e-12, above _USABLE each correction gains at least four digits, below features count as
# dependent.
_EXACT, _USABLE = 1e-2, 1e-6
_CORRECTIONS = 2


@dataclass(slots=True, eq=False)
class Problem:
    """Rows, targets and penalties of ``min sum_i w_i |y_i - x_i W - b|^2 + sum_j alpha_j |W_j|^2``.

    Attributes
    ----------
    op : str
        The caller, for error texts.
    rows : Rows
    targets : torch.Tensor, shape (local rows, t), float64
    weights : torch.Tensor, shape (local rows,), float64, or None
    alphas : numpy.ndarray, shape (t,)
        Penalties.
    fit_intercept : bool
    n_iter : int
        Most steps that a target has needed; 1 where the equations were solved.
    """

    op: str
    rows: Rows
    targets: torch.Tensor
    weights: torch.Tensor | None
    alphas: np.ndarray
    fit_intercept: bool
    n_iter: int = 1

    def solve(self, *, positive: bool = False, max_iter: int, tol: float) -> tuple[np.ndarray, np.ndarray]:
        """Return coefficients (d, t) and intercepts (t,), float64; equal on every rank.

        Parameters
        ----------
        positive : bool
            Allow no negative coefficients.
        max_iter, tol
            Limits of the iterative ways: conjugate gradients, and descent where `positive`.

        *Distribution*: one allreduce of about (d + t)^2 / 2 numbers; two more of d t numbers where the features are
        nearly dependent; see :func:`ht_linalg.lstsq` where they are. Beyond 2000 features: one of 2 (d + t) + 1
        numbers, then, with a penalty, one of d numbers per step of conjugate gradients.
        """
        d = self.rows.d
        if d > GRAM_FEATURES and not positive:
            mean = self._means()
            solve = self._by_factorisation if (self.alphas == 0).all() else self._by_gradients
            coefficients = solve(mean, max_iter, tol)
        else:
            merged = covariance(self.rows, self.targets, self.weights)
            if not merged.is_finite or merged.n <= 0.0:
                refuse_unusable(self.op, merged.n, self.weights)
            mean, products = merged.mean, merged.products
            if not self.fit_intercept:
                products = products + merged.n * np.outer(mean, mean)
            if positive:
                coefficients = self._positive(products, max_iter, tol)
            else:
                coefficients = self._by_products(products, mean, max_iter, tol)
        if not self.fit_intercept:
            return coefficients, np.zeros(self.targets.shape[1])
        return coefficients, mean[d:] - mean[:d] @ coefficients

    def _by_products(self, products: np.ndarray, mean: np.ndarray, max_iter: int, tol: float) -> np.ndarray:
        d = self.rows.d
        gram, moment = products[:d, :d], products[:d, d:]
        found, pivot = np.zeros_like(moment), np.inf
        solvers = {}
        for j, alpha in enumerate(self.alphas.tolist()):
            if alpha not in solvers:
                solvers[alpha] = _Factor(gram, alpha)
            factor = solvers[alpha]
            if factor.pivot <= _USABLE:
                return (
                    self._by_factorisation(mean, max_iter, tol)
                    if alpha == 0.0
                    else self._by_gradients(mean, max_iter, tol)
                )
            pivot = min(pivot, factor.pivot)
            found[:, j] = factor.solve(moment[:, j])
        for _ in range(_CORRECTIONS if pivot < _EXACT else 0):
            left = self._correlation(found, mean).cpu().numpy() - self.alphas * found
            for j, alpha in enumerate(self.alphas.tolist()):
                found[:, j] += solvers[alpha].solve(left[:, j])
        return found

    def _positive(self, products: np.ndarray, max_iter: int, tol: float) -> np.ndarray:
        d = self.rows.d
        found = np.zeros((d, len(self.alphas)))
        for j, alpha in enumerate(self.alphas.tolist()):
            gram = products[:d, :d] + alpha * np.eye(d)
            solver = GramLasso(gram, products[:d, d + j].copy(), float(products[d + j, d + j]), 0.0, True)
            solution = solver.solve(np.zeros(d), max_iter, tol)
            found[:, j] = solution.coefficients
            self.n_iter = max(self.n_iter, solution.n_iter)
        return found

    def _by_factorisation(self, mean: np.ndarray, max_iter: int, tol: float) -> np.ndarray:
        """Return the solution of smallest norm; holds a centred float64 copy of the rows."""
        d = self.rows.d
        shift = torch.from_numpy(mean * self.fit_intercept).to(self.targets.device)
        left, right = self.rows.local.double() - shift[:d], self.targets - shift[d:]
        if self.weights is not None:
            root = self.weights.sqrt().unsqueeze(1)
            left, right = left.mul_(root), right.mul_(root)
        solution = lstsq(self.rows.table(left), self.rows.table(right)).x
        return solution.resplit(None).larray.cpu().numpy()

    def _by_gradients(self, mean: np.ndarray, max_iter: int, tol: float) -> np.ndarray:
        """Return the solution by conjugate gradients on the normal equations, target by target."""
        d, t = self.rows.d, len(self.alphas)
        moment = self._correlation(np.zeros((d, t)), mean)
        found = np.zeros((d, t))
        for j, alpha in enumerate(self.alphas.tolist()):
            steps = 0

            def product(v, alpha=alpha):
                nonlocal steps
                steps += 1
                image = self._correlation(v.larray.cpu().numpy()[:, None], mean, alone=True)[:, 0]
                return self.rows.replicated(v.larray * alpha - image.to(v.larray.device))

            right = self.rows.replicated(moment[:, j].contiguous())
            solution, _ = cg(product, right, rtol=tol, maxiter=max_iter)
            found[:, j] = solution.larray.cpu().numpy()
            self.n_iter = max(self.n_iter, steps)
        return found

    def _means(self) -> np.ndarray:
        """Return the means of features and targets, from one pass and one allreduce; refuse unusable data."""
        features, own = (
            checked_moments(self.rows.local, self.weights),
            checked_moments(self.targets, self.weights),
        )
        d, t = self.rows.d, self.targets.shape[1]
        packed = torch.cat([features[: d + 1], own[1 : t + 1], features[d + 1 :], own[t + 1 :]])
        packed = self.rows.comm.allreduce(packed, op="moments").cpu().numpy()
        if not np.isfinite(packed).all() or packed[0] <= 0.0:
            refuse_unusable(self.op, float(packed[0]), self.weights)
        return packed[1 : d + t + 1]

    def _correlation(
        self, coefficients: np.ndarray, mean: np.ndarray, *, alone: bool = False
    ) -> torch.Tensor:
        """Return ``X'(y - X W)`` of the centred rows, shape (d, t), float64; with `alone` y counts as 0.

        *Distribution*: one allreduce of d t numbers.
        """
        local, d = self.rows.local, self.rows.d
        device = local.device
        shift = torch.from_numpy(mean * self.fit_intercept).to(device)
        W = torch.from_numpy(np.ascontiguousarray(coefficients)).to(device)
        total = torch.zeros_like(W)
        step = min(max(local.shape[0], 1), tile_rows(d, device))
        scratch = torch.empty((step, d), dtype=torch.float64, device=device)
        for span in spans(local.shape[0], step):
            tile = scratch[: span.stop - span.start].copy_(local[span]).sub_(shift[:d])
            left = torch.mm(tile, W).neg_()
            if not alone:
                left += self.targets[span] - shift[d:]
            if self.weights is not None:
                left *= self.weights[span].unsqueeze(1)
            total.addmm_(tile.T, left)
        return self.rows.comm.allreduce(total, out=total)


class _Factor:
    """Cholesky factor of ``gram + alpha I``, with the features scaled to norm 1; replicated, sends nothing.

    Attributes
    ----------
    pivot : float
        The smallest pivot: 1 for orthogonal features, 0 where they are dependent.
    """

    def __init__(self, gram: np.ndarray, alpha: float) -> None:
        matrix = gram + alpha * np.eye(len(gram))
        norms = np.sqrt(matrix.diagonal())
        self._norms = np.where(norms > 0.0, norms, 1.0)
        scaled = torch.from_numpy(matrix / np.outer(self._norms, self._norms))
        self._factor, failed = torch.linalg.cholesky_ex(scaled)
        self.pivot = 0.0 if int(failed) else float(self._factor.diagonal().min()) if len(gram) else 1.0

    def solve(self, right: np.ndarray) -> np.ndarray:
        scaled = torch.from_numpy(right / self._norms).unsqueeze(1)
        return torch.cholesky_solve(scaled, self._factor).squeeze(1).numpy() / self._norms
