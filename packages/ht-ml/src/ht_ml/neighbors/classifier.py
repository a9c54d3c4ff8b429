"""Classes by the vote of the nearest rows."""

from __future__ import annotations

from typing import Any

import torch
from ht_core import DNDarray

from ..base import ClassifierMixin
from ..labels import as_classes
from ..rows import as_rows
from .search import Found, NeighborSearch, require_near_zero
from .weights import check_weights, weights_of


class KNeighborsClassifier(ClassifierMixin, NeighborSearch):
    """Classify by the labels of the nearest rows, as ``sklearn.neighbors.KNeighborsClassifier``.

    Parameters
    ----------
    n_neighbors : int
        How many rows vote.
    weights : {"uniform", "distance"} or function
        Whether votes count alike, or by the inverse distance (where some distances are 0 only those rows vote), or by a
        function of a tensor of distances, shape (rows, k), float64.
    metric : str or function
        As of `NearestNeighbors`.

    Attributes
    ----------
    classes_ : DNDarray, shape (c,), replicated
        The labels, ascending.
    n_features_in_, n_samples_fit_ : int
    effective_metric_ : str or function

    Notes
    -----
    Of neighbours at the same distance those of lower index are taken, of classes with the same votes the lower label,
    so that answers do not depend on the ranks. The learned rows are not copied where their dtype is float32 or
    float64: do not change them.

    References
    ----------
    T. Cover and P. Hart, "Nearest neighbor pattern classification", IEEE Transactions on Information Theory 13 (1967),
    doi:10.1109/TIT.1967.1053964.

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[0.0], [1.0], [2.0], [7.0], [8.0]], split=0)
    >>> model = KNeighborsClassifier(n_neighbors=3).fit(X, [4, 4, 4, 9, 9])
    >>> model.predict(ht.array([[1.1], [9.0]], split=0)).numpy().tolist()
    [4, 9]
    """

    def __init__(self, n_neighbors: int = 5, *, weights: Any = "uniform", metric: Any = "euclidean") -> None:
        self.n_neighbors = n_neighbors
        self.weights = weights
        self.metric = metric

    def fit(self, X: Any, y: Any) -> KNeighborsClassifier:
        """Keep the rows and their labels.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : DNDarray or array_like, shape (n,)
            Labels: bool or whole numbers of any dtype.

        Returns
        -------
        KNeighborsClassifier
            The estimator itself.

        *Distribution*: rows: one allreduce of one number (whether they are finite), then the labels (see
        ``ht_core.unique``). Features (split 1) are resplit first. Replicated: no message. Collective.

        Raises
        ------
        ValueError
            If `X` is not a table or holds NaN or infinity, labels do not fit, or a parameter is wrong; the same on
            every rank.
        """
        op = "KNeighborsClassifier.fit"
        self._check_parameters(op)
        check_weights(op, self.weights)
        rows = as_rows(op, X)
        require_near_zero(op, rows)
        labels = as_classes(op, y, rows)
        self._keep(rows)
        self.classes_ = rows.replicated(labels.classes)
        self._codes = rows.column(labels.codes.to(torch.int32))
        return self

    def predict(self, X: Any) -> DNDarray:
        """Return the label with most votes for each row, shape (q,), dtype of the labels.

        *Distribution*: as `predict_proba`.
        """
        votes = self._votes("KNeighborsClassifier.predict", X)
        best = votes.larray.argmax(1)
        labels = self.classes_.larray.to(best.device)[best]
        return DNDarray(labels, votes.layout.drop((1,)), votes.comm)

    def predict_proba(self, X: Any) -> DNDarray:
        """Return the share of the votes of each class for each row, shape (q, c), float64.

        *Distribution*: the messages of `kneighbors`; where the learned rows are spread over ranks, one exchange each of
        p integers, of 8 bytes and of 4 bytes for each row of another rank that is among the nearest of a rank's rows:
        at most 12 q k / p bytes from a rank. Memory beyond `kneighbors` and the result: 4 n / p bytes and the
        votes, q k / p numbers. Collective.
        """
        votes = self._votes("KNeighborsClassifier.predict_proba", X)
        total = votes.larray.sum(1, keepdim=True)
        votes.larray.div_(torch.where(total == 0.0, 1.0, total))
        return votes

    def _votes(self, op: str, X: Any) -> DNDarray:
        """Return the votes for each class, shape (q, c), float64."""
        distances, indices = self._search(op, self._queries(op, X), None)
        found = Found(indices, self._codes)
        codes = found.fetch(self._codes.larray)[found.indices].to(torch.int64)
        weights = weights_of(self.weights, distances.larray)
        if weights is None:
            weights = torch.ones((), dtype=torch.float64, device=codes.device).expand(codes.shape)
        c = self.classes_.shape[0]
        votes = torch.zeros((codes.shape[0], c), dtype=torch.float64, device=codes.device)
        votes.scatter_add_(1, codes, weights)
        return DNDarray(votes, distances.layout.with_axis(1, c), distances.comm)
