"""Numbers by the mean of the nearest rows."""

from __future__ import annotations

from typing import Any

import torch
from ht_core import DNDarray

from ..base import RegressorMixin
from ..rows import as_rows, as_targets
from ..tiles import spans, tile_rows
from .search import Found, NeighborSearch, require_near_zero
from .weights import check_weights, weights_of


class KNeighborsRegressor(RegressorMixin, NeighborSearch):
    """Predict the mean of the targets of the nearest rows, as ``sklearn.neighbors.KNeighborsRegressor``.

    Parameters
    ----------
    n_neighbors, weights, metric
        As of `KNeighborsClassifier`.

    Attributes
    ----------
    n_features_in_, n_samples_fit_ : int
    effective_metric_ : str or function

    Notes
    -----
    Of neighbours at the same distance those of lower index are taken. The learned rows are not copied where their dtype
    is float32 or float64: do not change them.

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[0.0], [1.0], [2.0], [7.0], [8.0]], split=0)
    >>> model = KNeighborsRegressor(n_neighbors=2).fit(X, [0.0, 1.0, 4.0, 9.0, 10.0])
    >>> model.predict(ht.array([[1.6], [9.0]], split=0)).numpy().tolist()
    [2.5, 9.5]
    """

    _takes_targets = True

    def __init__(self, n_neighbors: int = 5, *, weights: Any = "uniform", metric: Any = "euclidean") -> None:
        self.n_neighbors = n_neighbors
        self.weights = weights
        self.metric = metric

    def fit(self, X: Any, y: Any) -> KNeighborsRegressor:
        """Keep the rows and their targets.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : DNDarray or array_like, shape (n,) or (n, t)

        Returns
        -------
        KNeighborsRegressor
            The estimator itself.

        *Distribution*: rows: one allreduce of one number (whether rows and targets are finite); targets that lie
        elsewhere than the rows are redistributed. Features (split 1) are resplit first. Replicated: no message.
        Collective.

        Raises
        ------
        ValueError
            If `X` is not a table, targets do not fit, one of them holds NaN or infinity, or a parameter is wrong; the
            same on every rank.
        """
        op = "KNeighborsRegressor.fit"
        self._check_parameters(op)
        check_weights(op, self.weights)
        rows = as_rows(op, X)
        targets, self._is_single = as_targets(op, y, rows)
        require_near_zero(op, rows, targets)
        self._keep(rows)
        self._y = rows.table(targets)
        return self

    def predict(self, X: Any) -> DNDarray:
        """Return the weighted mean of the targets of the nearest rows, shape (q,) or (q, t), float64.

        *Distribution*: the messages of `kneighbors`; where the learned rows are spread over ranks, one exchange each of
        p integers, of 8 bytes and of t numbers for each row of another rank that is among the nearest of a rank's
        rows: at most (8 + 8 t) q k / p bytes from a rank. Memory beyond `kneighbors` and the result: the targets of a
        rank, those it fetched, and tiles of 1 MiB. Collective.

        Raises
        ------
        ValueError
            As `kneighbors`.
        """
        op = "KNeighborsRegressor.predict"
        distances, indices = self._search(op, self._queries(op, X), None)
        found = Found(indices, self._y)
        targets = found.fetch(self._y.larray)
        weights = weights_of(self.weights, distances.larray)
        (q, k), t = found.indices.shape, targets.shape[1]
        out = targets.new_empty((q, t))
        for span in spans(q, tile_rows(k * t, targets.device)):
            tile = targets[found.indices[span]]
            if weights is None:
                torch.mean(tile, 1, out=out[span])
            else:
                share = weights[span].unsqueeze(1)
                torch.div(torch.bmm(share, tile).squeeze(1), share.sum(2), out=out[span])
        if self._is_single:
            return DNDarray(out[:, 0], distances.layout.drop((1,)), distances.comm)
        return DNDarray(out, distances.layout.with_axis(1, t), distances.comm)
