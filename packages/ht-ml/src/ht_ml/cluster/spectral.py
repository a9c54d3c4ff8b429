"""Spectral clustering: k-means on the smoothest functions on a graph of similar rows, which is never stored densely."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import torch
from ht_core import DNDarray
from ht_linalg.spatial import kernel_matmul

from ..base import BaseEstimator, ClusterMixin, check_is_fitted
from ..draws import resolve_seed
from ..graph import Laplacian
from ..moments import checked_moments, refuse_nonfinite, require_usable
from ..rows import Rows, as_rows, as_table
from .eigenvectors import SOLVERS, smallest_eigenvectors
from .kmeans import KMeans


class Spectral(ClusterMixin, BaseEstimator):
    """Spectral clustering of the rows of a table, as ``sklearn.cluster.SpectralClustering``.

    Parameters
    ----------
    n_clusters : int
        Number of clusters k.
    gamma : float
        Of the similarity ``exp(-gamma |x - y|^2)``.
    metric : {"rbf", "euclidean"}
        What edges are weighed by. "euclidean" gives all edges the weight 1, and its threshold is a distance; not for
        "fully_connected" graphs.
    laplacian : {"fully_connected", "eNeighbour", "kNN"}
        Edges between all rows (recomputed in every step, never stored), to all rows on the right side of `threshold`,
        or to the nearest `n_neighbors` rows (stored as a sparse matrix).
    threshold : float
        Of "eNeighbour".
    boundary : {"upper", "lower"}
        Whether `threshold` is the upper bound of edges (for distances) or the lower one (for similarities).
    n_neighbors : int
        Of "kNN", the row itself not among them. Edges weigh 1 (or 1/2 where only one row is a neighbour of the other).
    n_components : int, optional
        Number of eigenvectors; `n_clusters` by default.
    eigen_solver : {"lobpcg", "lanczos"}
        "lobpcg" iterates on a block ("randomized" is another name of it); "lanczos" takes `n_lanczos` steps. Lanczos'
        method finds one eigenvector of a multiple eigenvalue: it is not for graphs that fall apart.
    eigen_tol : "auto" or float
        Residual at which LOBPCG ends; "auto" is 1e-5, for float32 data 3e-4.
    n_lanczos : int
    assign_labels : {"kmeans"}
        How rows of eigenvectors become clusters.
    n_init : int
        Starts of k-means.
    random_state : int, None or generator
        Seed; None draws one from ht-core's global stream, the same on all ranks.

    Attributes
    ----------
    labels_ : DNDarray, shape (n,), int64, distributed as the rows of `X`
    eigenvalues_ : DNDarray, shape (n_components,), replicated
        The smallest eigenvalues of the Laplacian, ascending; none is negative (rounding below zero is cut off).
    n_features_in_ : int

    Notes
    -----
    The smallest eigenvectors of ``D^-1/2 (D - W) D^-1/2``, divided by the roots of the degrees, and k-means on their
    rows. A product with W of a fully connected graph costs n^2 evaluations of the kernel, divided among the ranks, and
    no memory: n = 10^5 rows take minutes, where "kNN" takes seconds after one search of the neighbours.

    References
    ----------
    U. von Luxburg, "A tutorial on spectral clustering", Statistics and Computing 17 (2007),
    doi:10.1007/s11222-007-9033-z. J. Shi and J. Malik, "Normalized cuts and image segmentation", IEEE Transactions on
    Pattern Analysis and Machine Intelligence 22 (2000), doi:10.1109/34.868688.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.cluster import Spectral
    >>> X = ht.array([[0.0], [0.2], [9.0], [9.2]], split=0)
    >>> labels = Spectral(2, random_state=0).fit(X).labels_.numpy()
    >>> bool(labels[0] == labels[1] != labels[2] == labels[3])
    True
    """

    def __init__(
        self,
        n_clusters: int = 8,
        gamma: float = 1.0,
        metric: str = "rbf",
        laplacian: str = "fully_connected",
        threshold: float = 1.0,
        boundary: str = "upper",
        n_lanczos: int = 300,
        assign_labels: str = "kmeans",
        *,
        n_neighbors: int = 10,
        n_components: int | None = None,
        eigen_solver: str = "lobpcg",
        eigen_tol: Any = "auto",
        n_init: int = 10,
        random_state: Any = None,
    ) -> None:
        self.n_clusters = n_clusters
        self.gamma = gamma
        self.metric = metric
        self.laplacian = laplacian
        self.threshold = threshold
        self.boundary = boundary
        self.n_lanczos = n_lanczos
        self.assign_labels = assign_labels
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.eigen_solver = eigen_solver
        self.eigen_tol = eigen_tol
        self.n_init = n_init
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Spectral:
        """Find the clusters.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : ignored

        Returns
        -------
        Spectral
            The estimator itself.

        *Distribution*: split 0 or None; split 1 is brought to split 0 first. One allreduce of 2 d + 1 numbers; for a
        sparse graph one ring over the rows, and the exchange of its edges; then per iteration a product, which is a
        ring of blocks of rows (p - 1 messages) for "fully_connected" and an exchange of the entries that edges to other
        ranks name for the others, and a few reductions of (3 m)^2 numbers for m eigenvectors; k-means at last.
        Collective.

        Memory beyond the rows: about 12 m n / p numbers, two blocks of rows, the edges of a sparse graph, and tiles;
        never n x n.

        Raises
        ------
        ValueError
            If a parameter is out of range, there are fewer rows than clusters, or `X` holds NaN or infinity; the same
            on every rank.
        """
        op = "Spectral.fit"
        m = self._check_parameters(op)
        X = as_table(op, X)
        n = X.shape[0]
        for name, least in (("n_clusters", self.n_clusters), ("n_components", m)):
            if least > n:
                raise ValueError(f"{op}: {name} must be in [1, {n}] for {n} rows, got {least}; use fewer")
        graph = self._graph(op, n)
        seed = resolve_seed(op, self.random_state)
        rows = as_rows(op, X)
        moments = rows.comm.allreduce(checked_moments(rows.local, None), op="moments")
        require_usable(op, moments, weighted=False)
        table = rows.table(rows.local)
        operator = graph.construct(table)
        values, vectors = smallest_eigenvectors(
            operator, m, seed, SOLVERS[self.eigen_solver], self._tolerance(rows), int(self.n_lanczos)
        )
        embedding = DNDarray(
            vectors * operator.scale.larray[:, None], operator.layout.drop((1,)).insert(1, m), rows.home
        )
        self._kmeans = KMeans(self.n_clusters, n_init=self.n_init, random_state=seed).fit(embedding)
        self._table = table if self.laplacian == "fully_connected" else None
        self._embedding = embedding
        self.labels_ = self._kmeans.labels_
        self.eigenvalues_ = rows.replicated(values)
        self.n_features_in_ = rows.d
        return self

    def predict(self, X: Any) -> DNDarray:
        """Return a cluster for each row, shape (n,), int64, distributed as the rows; for "fully_connected" graphs.

        The clusters of the rows of `fit` are in `labels_`. Other rows are placed by Nystroem's formula: the
        eigenvectors are extended to a row by their mean over the rows of `fit`, weighed by similarity, over ``1 -
        eigenvalue``; the nearest centre decides. It is an approximation: a row of `fit` that lies between clusters may
        get another label than in `labels_`, and a row that is far from all rows of `fit` gets any label.

        *Distribution*: a ring of blocks of the rows of `fit` with m + 1 numbers each; no other message. Needs the rows
        of `fit`, which are kept (not copied).

        Raises
        ------
        ValueError
            If the graph was sparse, the number of features differs, or `X` holds NaN or infinity (on the ranks that
            hold these).

        Notes
        -----
        C. Williams and M. Seeger, "Using the Nystroem method to speed up kernel machines", NIPS 13 (2000).
        """
        op = "Spectral.predict"
        check_is_fitted(self)
        rows = as_rows(op, X, n_features=self.n_features_in_)
        if self._table is None:
            raise ValueError(
                f"{op}: laplacian must be 'fully_connected' to place new rows, got {self.laplacian!r}; "
                "labels_ holds the clusters of the rows of fit"
            )
        local = self._embedding.larray
        ones = torch.ones((local.shape[0], 1), dtype=local.dtype, device=local.device)
        m = local.shape[1]
        known = DNDarray(
            torch.cat([local, ones], 1),
            self._table.layout.drop((1,)).insert(1, m + 1),
            self._table.comm,
        )
        sums = kernel_matmul(rows.table(rows.local), self._table, known, "rbf", gamma=self.gamma).larray
        if not bool(torch.isfinite(rows.local).all()):
            refuse_nonfinite(op)
        total = sums[:, m:]
        share = 1.0 - self.eigenvalues_.larray.to(sums)
        factors = torch.where(share > 1e-6, share, torch.inf)
        placed = torch.where(total > 0, sums[:, :m] / (total * factors), 0)
        return self._kmeans.predict(rows.table(placed.to(local.dtype)))

    def _check_parameters(self, op: str) -> int:
        """Refuse what is out of range; return the number of eigenvectors."""
        m = self.n_clusters if self.n_components is None else self.n_components
        whole = {
            "n_clusters": self.n_clusters,
            "n_components": m,
            "n_lanczos": self.n_lanczos,
            "n_init": self.n_init,
            "n_neighbors": self.n_neighbors,
        }
        for name, value in whole.items():
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise ValueError(f"{op}: {name} must be an int >= 1, got {value!r}")
        if self.eigen_solver not in SOLVERS:
            raise ValueError(
                f"{op}: eigen_solver must be one of {', '.join(map(repr, SOLVERS))}, got {self.eigen_solver!r}"
            )
        if self.assign_labels != "kmeans":
            raise ValueError(f"{op}: assign_labels must be 'kmeans', got {self.assign_labels!r}")
        if self.metric not in ("rbf", "euclidean"):
            raise ValueError(f"{op}: metric must be 'rbf' or 'euclidean', got {self.metric!r}")
        if self.metric == "euclidean" and self.laplacian == "fully_connected":
            raise ValueError(
                f"{op}: metric must be 'rbf' for a fully connected graph, got 'euclidean'; "
                "distances are no similarities"
            )
        tol = self.eigen_tol
        if tol != "auto" and (isinstance(tol, bool) or not isinstance(tol, Real) or not 0 < tol < math.inf):
            raise ValueError(f"{op}: eigen_tol must be 'auto' or a positive number, got {tol!r}")
        return int(m)

    def _graph(self, op: str, n: int) -> Laplacian:
        graph = Laplacian(
            self.metric,
            self.metric == "rbf" and self.laplacian != "kNN",
            "norm_sym",
            self.laplacian,
            self.boundary,
            self.threshold,
            self.n_neighbors,
            gamma=self.gamma,
            storage="operator",
        )
        graph.check(op)
        if self.laplacian == "kNN" and not self.n_neighbors < n:
            raise ValueError(
                f"{op}: n_neighbors must be in [1, {n - 1}] for {n} rows, got {self.n_neighbors}"
            )
        return graph

    def _tolerance(self, rows: Rows) -> float:
        if self.eigen_tol != "auto":
            return float(self.eigen_tol)
        return 1e-5 if rows.local.dtype == torch.float64 else 3e-4
