"""Leading singular vectors of rows that are not centred."""

from __future__ import annotations

from numbers import Integral
from typing import Any

import numpy as np
import torch
from ht_core import DNDarray

from ..base import BaseEstimator, TransformerMixin, check_is_fitted
from ..draws import resolve_seed
from ..moments import checked_moments
from ..rows import as_rows, as_table
from .pca import check_sketch
from .spectrum import from_rows, from_sketch, with_signs

_ALGORITHMS = ("randomized", "arpack", "exact")


class TruncatedSVD(TransformerMixin, BaseEstimator):
    """Projection of rows onto their leading right singular vectors, as ``sklearn.decomposition.TruncatedSVD``.

    Parameters
    ----------
    n_components : int
        Number of components, at most min(n, d).
    algorithm : {"randomized", "arpack", "exact"}
        "randomized": ``ht_linalg.rsvd`` with `n_iter` passes. "exact", also called "arpack": singular values of the
        rows, compressed by QR, to float64 accuracy (``ht_linalg.hsvd_rank``).
    n_iter, n_oversamples : int
        "randomized": passes with the products that sharpen the sketch, and its additional columns.
    random_state : int, Generator or None
        "randomized": the seed of the sketch.

    Attributes
    ----------
    components_ : DNDarray, shape (n_components, d), dtype of `X`, replicated
        Orthonormal rows; the entry of largest magnitude of each is positive.
    explained_variance_, explained_variance_ratio_, singular_values_ : DNDarray, shape (n_components,), replicated
        Variance of the transformed features, also as a share of the variance of all features.
    n_features_in_ : int

    Notes
    -----
    N. Halko, P. G. Martinsson, J. A. Tropp, Finding structure with randomness: probabilistic algorithms for
    constructing approximate matrix decompositions, 2011, doi:10.1137/090771806.

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[3.0, 0.0], [0.0, 1.0], [0.0, 1.0]], split=0)
    >>> TruncatedSVD(1, algorithm="exact").fit(X).singular_values_.numpy().round(6).tolist()
    [3.0]
    """

    def __init__(
        self,
        n_components: int = 2,
        *,
        algorithm: str = "randomized",
        n_iter: int = 5,
        n_oversamples: int = 10,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.algorithm = algorithm
        self.n_iter = n_iter
        self.n_oversamples = n_oversamples
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> TruncatedSVD:
        """Find the components.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : ignored

        Returns
        -------
        TruncatedSVD
            The estimator itself.

        *Distribution*: split 0 or None; split 1 is brought to split 0 first. Two allreduces of 2 d + 1 and 2 k + 1
        numbers, and the messages of ``rsvd``, or of ``hsvd`` on at most d rows per rank. A replicated table sends
        nothing. Collective.

        Raises
        ------
        ValueError
            If a parameter is out of range, or `X` holds NaN or infinity; the same on every rank.
        """
        op = "TruncatedSVD.fit"
        X = as_table(op, X)
        self._check_parameters(op, X)
        rows, count = as_rows(op, X), int(self.n_components)
        if self.algorithm == "randomized":
            found = from_sketch(
                op,
                rows,
                count,
                oversamples=int(self.n_oversamples),
                passes=int(self.n_iter),
                seed=resolve_seed(op, self.random_state),
                centred=False,
            )
        else:
            found = from_rows(op, rows, count, centred=False)

        def wrap(values: np.ndarray | torch.Tensor) -> DNDarray:
            tensor = torch.as_tensor(np.ascontiguousarray(values))
            return rows.replicated(tensor.to(device=rows.local.device, dtype=rows.local.dtype))

        self.components_ = wrap(with_signs(found.vectors))
        self.singular_values_ = wrap(np.sqrt(found.squares))
        self.n_features_in_ = rows.d
        # Squares less n times the squared mean would cancel for rows far from the origin.
        moments = rows.comm.allreduce(checked_moments(self.transform(X).larray, None), op="moments").cpu()
        variance = moments[count + 1 :].numpy() / rows.n
        self.explained_variance_ = wrap(variance)
        self.explained_variance_ratio_ = wrap(variance / (found.total / rows.n or 1.0))
        return self

    def transform(self, X: Any) -> DNDarray:
        """Return the rows in the basis of the components, shape (n, n_components), dtype of `X`.

        *Distribution*: split 0 or None: no message. Split 1 is brought to split 0 first.
        """
        check_is_fitted(self)
        rows = as_rows("TruncatedSVD.transform", X, n_features=self.n_features_in_)
        return rows.table(rows.local @ self._basis(rows.local).T)

    def inverse_transform(self, X: Any) -> DNDarray:
        """Return rows of features for rows in the basis of the components, shape (n, d).

        *Distribution*: split 0 or None: no message. Split 1 is brought to split 0 first.
        """
        check_is_fitted(self)
        count = self.components_.shape[0]
        rows = as_rows("TruncatedSVD.inverse_transform", X, n_features=count)
        return rows.table(rows.local @ self._basis(rows.local))

    def _basis(self, local: torch.Tensor) -> torch.Tensor:
        return self.components_.larray.to(device=local.device, dtype=local.dtype)

    def _check_parameters(self, op: str, X: DNDarray) -> None:
        count, limit = self.n_components, min(X.shape)
        if not isinstance(count, Integral) or isinstance(count, bool) or not 1 <= count <= limit:
            raise ValueError(
                f"{op}: n_components must be an int in [1, {limit}] for shape {X.shape}, got {count!r}"
            )
        if self.algorithm not in _ALGORITHMS:
            raise ValueError(
                f"{op}: algorithm must be one of {', '.join(_ALGORITHMS)}, got {self.algorithm!r}"
            )
        if self.n_iter == "auto":
            raise ValueError(f"{op}: n_iter must be an int of at least 0, got 'auto'")
        check_sketch(op, self.n_oversamples, self.n_iter, "n_iter")
