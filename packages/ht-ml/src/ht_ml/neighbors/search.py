"""What the estimators of this package share: the rows learned, the search among them, values of the rows found.

The rows stay where they were given; the search is `ht_linalg.spatial.cdist_topk`, a ring of blocks where rows to be
searched for and rows learned are both spread over ranks.
"""

from __future__ import annotations

from typing import Any

import torch
from ht_core import DNDarray
from ht_core.layout import Layout
from ht_linalg.sparse import DCSR_matrix
from ht_linalg.sparse.halo import Halo
from ht_linalg.sparse.pattern import Compressed
from ht_linalg.spatial import cdist_topk

from ..base import BaseEstimator, check_is_fitted
from ..moments import refuse_nonfinite
from ..rows import Rows, as_rows, given

METRICS = {
    "euclidean": "euclidean",
    "minkowski": "euclidean",
    "l2": "euclidean",
    "sqeuclidean": "sqeuclidean",
    "manhattan": "manhattan",
    "l1": "manhattan",
    "cityblock": "manhattan",
    "cosine": "cosine",
}


class NeighborSearch(BaseEstimator):
    """Base of the estimators that keep the rows they are given and search among them."""

    n_neighbors: int
    metric: Any
    n_features_in_: int
    n_samples_fit_: int

    def kneighbors(
        self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True
    ) -> tuple[DNDarray, DNDarray] | DNDarray:
        """Return the nearest of the learned rows for each row of `X`, the nearest first.

        Parameters
        ----------
        X : DNDarray or array_like, shape (q, d), optional
            By default the learned rows, each without itself.
        n_neighbors : int, optional
            How many, by default the parameter.
        return_distance : bool
            Whether to return the distances too.

        Returns
        -------
        distances : DNDarray, shape (q, k), float32 or float64
        indices : DNDarray, shape (q, k), int64
            Of learned rows. Of rows at the same distance those of lower index come first.

        *Distribution*: results lie as the rows of `X`. Rows spread over ranks: one allreduce of one number (whether
        they are finite). Both tables spread: p - 1 messages of one block of learned rows, sent while
        distances are computed. Only the learned rows spread: two exchanges and two gatherings of q k numbers. Only
        `X` spread, or none: nothing more. Beyond tables and results a rank holds two blocks of learned rows, the
        tables with two columns more and tiles of 1 MiB, never q x n numbers. Collective.

        Raises
        ------
        ValueError
            If `X` does not fit, holds NaN or infinity, or `n_neighbors` is out of range; the same on every rank.
        """
        op = f"{type(self).__name__}.kneighbors"
        distances, indices = self._search(op, self._queries(op, X), n_neighbors)
        return (distances, indices) if return_distance else indices

    def kneighbors_graph(
        self, X: Any = None, n_neighbors: int | None = None, mode: str = "connectivity"
    ) -> DCSR_matrix:
        """Return a sparse matrix with an entry for each row of `X` and each of its nearest learned rows.

        Parameters
        ----------
        X, n_neighbors
            As of `kneighbors`.
        mode : {"connectivity", "distance"}
            Entries are 1 or the distances.

        Returns
        -------
        DCSR_matrix, shape (q, n)
            Split as the rows of `X`, k entries in each row.

        *Distribution*: the messages of `kneighbors`, none more.

        Raises
        ------
        ValueError
            As `kneighbors`, or if `mode` is another.
        """
        op = f"{type(self).__name__}.kneighbors_graph"
        if mode not in ("connectivity", "distance"):
            raise ValueError(f"{op}: mode must be connectivity or distance, got {mode!r}")
        distances, found = self._search(op, self._queries(op, X), n_neighbors)
        (rows, k), comm = found.lshape, found.comm
        columns, order = found.larray.sort(dim=1)
        values = (
            distances.larray.gather(1, order) if mode == "distance" else torch.ones_like(distances.larray)
        )
        ends = torch.arange(0, rows * k + 1, k, device=columns.device)
        layout = Layout((found.shape[0], self.n_samples_fit_), found.split, found.layout.counts)
        counts = found.layout.counts if found.split == 0 else (rows,)
        block = Compressed(ends, columns.reshape(-1), values.reshape(-1))
        return DCSR_matrix(block, layout, comm, tuple(count * k for count in counts))

    def _keep(self, rows: Rows) -> None:
        """Learn rows."""
        self._fit_X = rows.table(rows.local)
        self.n_features_in_, self.n_samples_fit_ = rows.d, rows.n
        self.effective_metric_ = METRICS.get(self.metric) if isinstance(self.metric, str) else self.metric

    def _check_parameters(self, op: str) -> None:
        if not is_count(self.n_neighbors):
            raise ValueError(f"{op}: n_neighbors must be an integer of at least 1, got {self.n_neighbors!r}")
        if not callable(self.metric) and self.metric not in METRICS:
            raise ValueError(
                f"{op}: metric must be one of {', '.join(METRICS)} or a function, got {self.metric!r}"
            )

    def _queries(self, op: str, X: Any) -> DNDarray | None:
        """Return the rows to search for, as a table split along its rows or replicated; None means those learned."""
        check_is_fitted(self)
        if X is None:
            return None
        rows = as_rows(op, given(op, "X", X, self._fit_X.comm), n_features=self.n_features_in_)
        require_near_zero(op, rows)
        return rows.table(rows.local)

    def _search(self, op: str, X: DNDarray | None, n_neighbors: int | None) -> tuple[DNDarray, DNDarray]:
        k = self.n_neighbors if n_neighbors is None else n_neighbors
        most = self.n_samples_fit_ - (X is None)
        if not is_count(k) or k > most:
            raise ValueError(
                f"{op}: n_neighbors must be in [1, {most}], for {self.n_samples_fit_} rows learned, got {k!r}"
            )
        metric = self.effective_metric_
        if X is None:
            return cdist_topk(self._fit_X, k=int(k), metric=metric, exclude_self=True)
        return cdist_topk(X, self._fit_X, int(k), metric=metric)


class Found:
    """Values of learned rows for the rows that found them.

    Parameters
    ----------
    indices : DNDarray, shape (q, k), int64
        Of the learned rows, as from `kneighbors`.
    learned : DNDarray, shape (n, ...)
        An array that lies as the learned rows.

    Attributes
    ----------
    indices : torch.Tensor, shape (local q, k), int64
        Places in what `fetch` returns.

    *Distribution*: learned rows spread: one exchange of p integers and one of 8 bytes for each row of another rank that
    is among a rank's nearest, asked for once however often it is found. Replicated: no message.
    """

    def __init__(self, indices: DNDarray, learned: DNDarray) -> None:
        self._halo = None
        self.indices = indices.larray
        if learned.split is not None and learned.comm.size > 1:
            self._halo = Halo(self.indices, learned.layout.counts, learned.comm)
            self.indices = self._halo.indices

    def fetch(self, values: torch.Tensor) -> torch.Tensor:
        """Return this rank's values, shape (local n, ...), and those of other ranks that it uses.

        *Distribution*: one exchange of the values asked for; no message where the learned rows are replicated.
        """
        return values if self._halo is None else self._halo.gather(values)


def is_count(value: Any) -> bool:
    """Return whether a value is an integer of at least 1."""
    return hasattr(value, "__index__") and not isinstance(value, bool) and value >= 1


def require_near_zero(op: str, rows: Rows, y: torch.Tensor | None = None) -> None:
    """Refuse rows that are not finite or so large that squared distances overflow.

    *Distribution*: one allreduce of one number; replicated rows send nothing.
    """
    x = rows.local
    least, most = x.aminmax() if x.numel() else (x.new_zeros(()), x.new_zeros(()))
    is_usable = (2 * torch.maximum(-least, most)).square().mul_(rows.d).isfinite()
    if y is not None:
        is_usable &= y.isfinite().all()
    flag = (~is_usable).to(torch.int32).reshape(1)
    if int(rows.comm.allreduce(flag, op="max")):
        refuse_nonfinite(op, "X" if y is None else "X and y", x.dtype)
