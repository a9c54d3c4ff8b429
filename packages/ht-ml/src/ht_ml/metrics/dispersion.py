"""How far clusters lie apart, measured by their spread about their means."""

from __future__ import annotations

from typing import Any

import torch

from ..labels import Labels, as_labels
from ..moments import class_moments, merge_classes, require_usable, squared_distances
from ..rows import Rows, as_rows


def calinski_harabasz_score(X: Any, labels: Any) -> float:
    """Return the ratio of the variance between clusters to that within them; larger is better.

    Parameters
    ----------
    X : DNDarray or array_like, shape (n, d)
    labels : DNDarray or array_like, shape (n,) or (n, 1)
        A cluster of each row; 2 to n - 1 different ones.

    Returns
    -------
    float

    *Distribution*: rows split along 0 (a split along the features is redistributed first): the messages of
    ``ht_core.unique`` for the labels, and one allreduce of k (2 d + 1) numbers. Replicated operands send nothing.
    Collective.

    Raises
    ------
    LayoutError
        If there is not one label per row.
    ValueError
        If the number of clusters is not in [2, n - 1], or `X` holds NaN or infinity; the same on every rank.

    Notes
    -----
    T. Calinski and J. Harabasz, "A dendrite method for cluster analysis", Communications in Statistics 3 (1974),
    doi:10.1080/03610927408827101.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.metrics import calinski_harabasz_score
    >>> X = ht.array([[0.0], [2.0], [8.0], [10.0]], split=0)
    >>> calinski_harabasz_score(X, ht.array([0, 0, 1, 1], split=0))
    32.0
    """
    rows, found, packed = _clusters("calinski_harabasz_score", X, labels)
    d, k = rows.d, len(found.classes)
    within = float(packed[:, d + 1 :].sum())
    between = float(merge_classes(packed)[d + 1 :].sum()) - within
    return 1.0 if within == 0.0 else between * (rows.n - k) / (within * (k - 1.0))


def davies_bouldin_score(X: Any, labels: Any) -> float:
    """Return the mean likeness of each cluster to the one most like it; smaller is better, 0 the least.

    The likeness of two clusters is the sum of their mean distances to their means over the distance of these means.

    Parameters
    ----------
    X : DNDarray or array_like, shape (n, d)
    labels : DNDarray or array_like, shape (n,) or (n, 1)
        A cluster of each row; 2 to n - 1 different ones.

    Returns
    -------
    float

    *Distribution*: as `calinski_harabasz_score`, and one allreduce of k numbers.

    Raises
    ------
    LayoutError, ValueError
        As `calinski_harabasz_score`.

    Notes
    -----
    D. L. Davies and D. W. Bouldin, "A cluster separation measure", IEEE Transactions on Pattern Analysis and Machine
    Intelligence 1 (1979), doi:10.1109/TPAMI.1979.4766909.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.metrics import davies_bouldin_score
    >>> X = ht.array([[0.0], [2.0], [8.0], [10.0]], split=0)
    >>> davies_bouldin_score(X, ht.array([0, 0, 1, 1], split=0))
    0.25
    """
    rows, found, packed = _clusters("davies_bouldin_score", X, labels)
    means = packed[:, 1 : rows.d + 1].contiguous()
    spread = torch.zeros(len(means), dtype=torch.float64, device=means.device)
    for span, squares in squared_distances(rows.local, found.codes, means):
        spread.index_add_(0, found.codes[span], squares.sqrt_())
    spread = rows.comm.allreduce(spread, out=spread) / packed[:, 0]
    apart = torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist")
    if float(spread.abs().max()) <= 1e-8 or float(apart.max()) <= 1e-8:
        return 0.0
    apart = torch.where(apart == 0.0, torch.inf, apart)
    return float(((spread[:, None] + spread) / apart).amax(1).mean())


def _clusters(op: str, X: Any, labels: Any) -> tuple[Rows, Labels, torch.Tensor]:
    """Return the rows, their clusters and the merged moments of each cluster, shape (k, 2 d + 1)."""
    rows = as_rows(op, X)
    found = as_labels(op, labels, rows, argument="labels")
    require_clusters(op, len(found.classes), rows.n)
    moments = class_moments(rows.local, found.codes, len(found.classes), None)
    packed = rows.comm.allreduce(moments, op="moments")
    require_usable(op, merge_classes(packed), weighted=False)
    return rows, found, packed


def require_clusters(op: str, k: int, n: int) -> None:
    """Refuse a number of clusters for which the score means nothing."""
    if not 2 <= k <= n - 1:
        raise ValueError(f"{op}: labels must be of 2 to {n - 1} different clusters for {n} rows, got {k}")
