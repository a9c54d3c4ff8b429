"""Logistic regression by L-BFGS: one pass and one message per evaluation."""

from __future__ import annotations

import warnings
from numbers import Integral, Real
from typing import Any

import torch
from ht_core import DNDarray

from ..base import BaseEstimator, ClassifierMixin, ConvergenceWarning, check_is_fitted
from ..labels import as_classes
from ..moments import refuse_nonfinite
from ..rows import Rows, as_rows, as_weights
from ..tiles import spans, tile_rows

_HISTORY = 10
_RESOLUTION = 64 * torch.finfo(torch.float64).eps  # changes of the objective below this are rounding


class LogisticRegression(ClassifierMixin, BaseEstimator):
    """Classify by linear log-odds, as ``sklearn.linear_model.LogisticRegression`` with its "lbfgs" solver.

    Minimises ``C sum_i s_i loss(x_i, y_i) + |W|^2 / 2``, the loss being minus the logarithm of the probability of the
    row's class: logistic for two classes, softmax for more. Intercepts are not penalised.

    Parameters
    ----------
    C : float
        Inverse weight of the penalty, > 0; infinity for none.
    fit_intercept : bool
        Whether to fit intercepts; otherwise they are 0.
    max_iter : int
        Most iterations.
    tol : float
        Stop where no component of the gradient of the objective, divided by ``C`` times the sum of the weights, is
        larger, or the objective changes by rounding only.
    warm_start : bool
        Start from the last solution.

    Attributes
    ----------
    classes_ : DNDarray, shape (k,), replicated
        The labels, ascending.
    coef_ : DNDarray, shape (1, d) for two classes, else (k, d), dtype of `X`, replicated
    intercept_ : DNDarray, shape (1,) or (k,), dtype of `X`, replicated
    n_iter_ : int
        Iterations that were needed.
    n_features_in_ : int

    Notes
    -----
    D. C. Liu and J. Nocedal, "On the limited memory BFGS method for large scale optimization", Mathematical
    Programming 45 (1989), doi:10.1007/BF01589116, as in ``torch.optim.LBFGS`` with strong Wolfe steps. Every rank
    takes the same steps from the same sums; losses and gradients are summed in float64.

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[-2.0], [-1.0], [1.0], [2.0]], split=0)
    >>> model = LogisticRegression().fit(X, [0, 0, 1, 1])
    >>> model.predict(ht.array([[-0.5], [3.0]], split=0)).numpy().tolist()
    [0, 1]
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        fit_intercept: bool = True,
        max_iter: int = 100,
        tol: float = 1e-4,
        warm_start: bool = False,
    ) -> None:
        self.C = C
        self.fit_intercept = fit_intercept
        self.max_iter = max_iter
        self.tol = tol
        self.warm_start = warm_start

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> LogisticRegression:
        """Find the coefficients.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : DNDarray or array_like, shape (n,)
            Labels of at least two classes.
        sample_weight : DNDarray or array_like, shape (n,), optional
            Non-negative weights of the rows.

        Returns
        -------
        LogisticRegression
            The estimator itself.

        *Distribution*: the labels (see ``ht_core.unique``), then one allreduce of k (d + 1) + 2 numbers per evaluation
        of the objective (k is 1 for two classes), a little more than one per iteration. Split 1 is brought to split 0
        first; a replicated table sends nothing. Collective.

        Raises
        ------
        ValueError
            If a parameter is out of range, there is one class only, shapes do not fit, or the data hold NaN or
            infinity; the same on every rank.
        """
        op = "LogisticRegression.fit"
        self._check_parameters(op)
        rows = as_rows(op, X)
        labels = as_classes(op, y, rows)
        k = len(labels.classes)
        if k < 2:
            raise ValueError(f"{op}: y must hold at least two classes, got {labels.classes.tolist()}")
        objective = _Objective(
            rows, labels.codes, k, as_weights(op, sample_weight, rows), self.C, self.fit_intercept
        )
        objective.check(op)
        start = torch.zeros_like(objective.gradient)
        shape = (objective.outputs, rows.d)
        if self.warm_start and hasattr(self, "coef_") and self.coef_.shape == shape:
            start[:, :-1], start[:, -1] = self.coef_.larray, self.intercept_.larray
        found, self.n_iter_, steepest = _minimise(objective, start, int(self.max_iter), float(self.tol))
        if self.n_iter_ >= self.max_iter and steepest > self.tol and rows.home.rank == 0:
            warnings.warn(
                f"{op}: the gradient is {steepest:.3g} after {self.n_iter_} iterations; raise max_iter or scale X",
                ConvergenceWarning,
                stacklevel=2,
            )
        self.classes_ = rows.replicated(labels.classes)
        found = found.to(rows.local.dtype)
        self.coef_ = rows.replicated(found[:, :-1].contiguous())
        self.intercept_ = rows.replicated(found[:, -1].contiguous())
        self.n_features_in_ = rows.d
        return self

    def decision_function(self, X: Any) -> DNDarray:
        """Return ``X @ coef_.T + intercept_``, shape (n, k), or (n,) for two classes; no message for rows."""
        rows, scores = self._scores("LogisticRegression.decision_function", X)
        return rows.column(scores[:, 0]) if scores.shape[1] == 1 else rows.table(scores)

    def predict(self, X: Any) -> DNDarray:
        """Return the most probable label of each row, shape (n,), dtype of the labels; no message for rows.

        Raises
        ------
        ValueError
            If the number of features differs, or a row of this rank holds NaN or infinity (the other ranks do not
            know of the latter).
        """
        op = "LogisticRegression.predict"
        rows, scores = self._scores(op, X)
        if not bool(scores.isfinite().all()) and not bool(rows.local.isfinite().all()):
            refuse_nonfinite(op)
        best = (scores[:, 0] > 0).long() if scores.shape[1] == 1 else scores.argmax(1)
        return rows.column(self.classes_.larray.to(best.device)[best])

    def predict_proba(self, X: Any) -> DNDarray:
        """Return the probability of each class for each row, shape (n, k), dtype of `X`; no message for rows."""
        return self._probabilities("predict_proba", X, torch.softmax)

    def predict_log_proba(self, X: Any) -> DNDarray:
        """Return the logarithms of `predict_proba`; no message for rows."""
        return self._probabilities("predict_log_proba", X, torch.log_softmax)

    def _probabilities(self, method: str, X: Any, normalise: Any) -> DNDarray:
        rows, scores = self._scores(f"LogisticRegression.{method}", X)
        if scores.shape[1] == 1:
            scores = torch.cat([torch.zeros_like(scores), scores], 1)
        return rows.table(normalise(scores, 1))

    def _scores(self, op: str, X: Any) -> tuple[Rows, torch.Tensor]:
        check_is_fitted(self)
        rows = as_rows(op, X, n_features=self.n_features_in_)
        options = {"device": rows.local.device, "dtype": rows.local.dtype}
        weights, intercept = self.coef_.larray.to(**options), self.intercept_.larray.to(**options)
        return rows, torch.addmm(intercept, rows.local, weights.T)

    def _check_parameters(self, op: str) -> None:
        if not isinstance(self.C, Real) or not self.C > 0:
            raise ValueError(f"{op}: C must be a number > 0, got {self.C!r}")
        if isinstance(self.max_iter, bool) or not isinstance(self.max_iter, Integral) or self.max_iter < 1:
            raise ValueError(f"{op}: max_iter must be an int >= 1, got {self.max_iter!r}")
        if not isinstance(self.tol, Real) or not self.tol >= 0:
            raise ValueError(f"{op}: tol must be a number >= 0, got {self.tol!r}")


class _Objective:
    """The objective divided by ``C`` times the sum of the weights, and its gradient; equal on every rank."""

    def __init__(
        self, rows: Rows, codes: torch.Tensor, k: int, weights, C: float, fit_intercept: bool
    ) -> None:
        self.rows, self.codes, self.weights = rows, codes, weights
        self.penalty, self.fit_intercept = 1.0 / C, fit_intercept
        self.outputs = 1 if k == 2 else k
        device, (n, d) = rows.local.device, rows.local.shape
        self._step = min(max(n, 1), tile_rows(d, device))
        self._scratch = torch.ones((self._step, d + 1), dtype=torch.float64, device=device)
        self.gradient = torch.zeros((self.outputs, d + 1), dtype=torch.float64, device=device)
        self.total = 1.0

    def check(self, op: str) -> None:
        """Refuse unusable data and weights, and learn the sum of the weights; one evaluation at zero."""
        value, total = self._sums(torch.zeros_like(self.gradient))
        if self.weights is not None and total <= 0.0 and value == value:
            raise ValueError(f"{op}: sample_weight must have a positive sum, got {total}")
        if not (torch.isfinite(self.gradient).all() and total < float("inf") and value == value):
            refuse_nonfinite(op, "X" if self.weights is None else "X and sample_weight (not negative)")
        self.total = total

    def evaluate(self, W: torch.Tensor) -> float:
        """Return the value at `W`, shape (outputs, d + 1), intercepts last; leave the gradient in `gradient`."""
        value, _ = self._sums(W)
        kept = W[:, :-1]
        self.gradient[:, :-1].add_(kept, alpha=self.penalty)
        if not self.fit_intercept:
            self.gradient[:, -1] = 0.0
        self.gradient /= self.total
        return (value + 0.5 * self.penalty * float(kept.square().sum())) / self.total

    def _sums(self, W: torch.Tensor) -> tuple[float, float]:
        """Return loss and weight of all rows, and put the gradient of the loss into `gradient`; one allreduce."""
        rows, d = self.rows, self.rows.d
        message = torch.zeros(W.numel() + 2, dtype=torch.float64, device=W.device)
        gradient = message[:-2].view_as(W)
        for span in spans(rows.local.shape[0], self._step):
            tile = self._scratch[: span.stop - span.start]
            tile[:, :d] = rows.local[span]
            loss, slope = _loss(torch.mm(tile, W.T), self.codes[span])
            if self.weights is not None:
                weight = self.weights[span]
                loss, slope = loss * weight, slope * weight.unsqueeze(1)
            message[-2] += loss.sum()
            gradient.addmm_(slope.T, tile)
        message[-1] = rows.local.shape[0] if self.weights is None else self.weights.sum()
        if self.weights is not None and bool((self.weights < 0).any()):
            message.fill_(torch.nan)  # every rank has to learn of it, and this message is sent anyway
        message = rows.comm.allreduce(message, out=message)
        self.gradient.copy_(message[:-2].view_as(W))
        value, total = message[-2:].tolist()
        return value, total


def _loss(scores: torch.Tensor, codes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the loss of each row (n,) and its derivative by the scores (n, outputs)."""
    if scores.shape[1] == 1:
        sign = (2 * codes - 1).to(scores.dtype)
        margin = scores[:, 0] * sign
        return torch.nn.functional.softplus(-margin), (-sign * torch.sigmoid(-margin)).unsqueeze(1)
    logarithms = torch.log_softmax(scores, 1)
    chosen = codes.unsqueeze(1)
    slope = logarithms.exp()
    slope.scatter_add_(1, chosen, torch.full_like(chosen, -1, dtype=slope.dtype))
    return -logarithms.gather(1, chosen).squeeze(1), slope


def _minimise(
    objective: _Objective, start: torch.Tensor, max_iter: int, tol: float
) -> tuple[torch.Tensor, int, float]:
    """Return the minimum, the number of iterations and the largest component of the gradient there."""
    W = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [W],
        max_iter=max_iter,
        max_eval=4 * max_iter + 4,
        tolerance_grad=tol,
        tolerance_change=_RESOLUTION,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
    )

    def closure() -> torch.Tensor:
        with torch.no_grad():
            value = objective.evaluate(W)
            W.grad = objective.gradient.clone()
        return torch.tensor(value, dtype=torch.float64)

    optimizer.step(closure)
    found = W.detach()
    return found, int(optimizer.state[W]["n_iter"]), float(W.grad.abs().max())
