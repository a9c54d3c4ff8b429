"""Silhouettes: how much nearer each row is to its own cluster than to the next; distances are never stored."""

from __future__ import annotations

import math
from typing import Any

import torch
from ht_core import DNDarray
from ht_core.layout import Layout
from ht_linalg.spatial import kernel_matmul
from ht_linalg.spatial.metrics import check_metric

from ..draws import different_rows, resolve_seed
from ..labels import Labels, as_labels
from ..moments import refuse_nonfinite
from ..rows import Rows, as_rows, take
from .dispersion import require_clusters


def silhouette_samples(X: Any, labels: Any, *, metric: Any = "euclidean") -> DNDarray:
    """Return the silhouette of each row: ``(b - a) / max(a, b)``.

    a is the mean distance to the other rows of its cluster, b the least mean distance to the rows of another cluster.
    A row that is alone in its cluster has 0.

    Parameters
    ----------
    X : DNDarray or array_like, shape (n, d)
    labels : DNDarray or array_like, shape (n,) or (n, 1)
        A cluster of each row; 2 to n - 1 different ones.
    metric : {"euclidean", "sqeuclidean", "manhattan", "cosine"} or function
        A function takes tensors of shapes (a, d) and (b, d) and returns distances of shape (a, b).

    Returns
    -------
    DNDarray, shape (n,), float64
        In [-1, 1], distributed as the rows.

    *Distribution*: rows split along 0 (a split along the features is redistributed first): the messages of
    ``ht_core.unique`` for the labels, one allreduce of k + 1 numbers, and a ring: p - 1 messages of one block of rows
    with k numbers each. Replicated operands send nothing. Collective.

    Memory beyond operands and result: three times n k / p numbers, two blocks of rows, and tiles; never n x n.

    Raises
    ------
    LayoutError
        If there is not one label per row.
    ValueError
        If the number of clusters is not in [2, n - 1], `X` holds NaN or infinity, or `metric` is not known; the same on
        every rank.

    Notes
    -----
    P. J. Rousseeuw, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis", Journal of
    Computational and Applied Mathematics 20 (1987), doi:10.1016/0377-0427(87)90125-7.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.metrics import silhouette_samples
    >>> X = ht.array([[0.0], [1.0], [4.0], [5.0]], split=0)
    >>> silhouette_samples(X, ht.array([0, 0, 1, 1], split=0)).numpy().round(3).tolist()
    [0.778, 0.714, 0.714, 0.778]
    """
    op = "silhouette_samples"
    _check_metric(op, metric)
    rows = as_rows(op, X)
    return rows.column(_silhouettes(op, rows, as_labels(op, labels, rows, argument="labels"), metric))


def silhouette_score(
    X: Any,
    labels: Any,
    *,
    metric: Any = "euclidean",
    sample_size: int | None = None,
    random_state: Any = None,
) -> float:
    """Return the mean silhouette of all rows, or of a sample among themselves.

    Parameters
    ----------
    X, labels, metric
        As for `silhouette_samples`.
    sample_size : int, optional
        Number of rows to draw; the work is its square. The same rows for any number of ranks.
    random_state : int, None or generator
        Seed of the draw.

    Returns
    -------
    float

    *Distribution*: as `silhouette_samples`, and one allreduce of one number; a sample costs two allreduces of its rows
    and labels.

    Raises
    ------
    LayoutError, ValueError
        As `silhouette_samples`, or if `sample_size` is not in [3, n].

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.metrics import silhouette_score
    >>> X = ht.array([[0.0], [1.0], [4.0], [5.0]], split=0)
    >>> round(silhouette_score(X, ht.array([0, 0, 1, 1], split=0)), 3)
    0.746
    """
    op = "silhouette_score"
    _check_metric(op, metric)
    rows = as_rows(op, X)
    if sample_size is not None and not (
        isinstance(sample_size, int) and not isinstance(sample_size, bool) and 3 <= sample_size <= rows.n
    ):
        raise ValueError(f"{op}: sample_size must be an int in [3, {rows.n}], got {sample_size!r}")
    seed = None if sample_size is None else resolve_seed(op, random_state)
    found = as_labels(op, labels, rows, argument="labels")
    if seed is not None:
        rows, found = _sampled(rows, found, sample_size, seed)
    values = _silhouettes(op, rows, found, metric)
    return float(rows.comm.allreduce(values.sum())) / rows.n


def _check_metric(op: str, metric: Any) -> None:
    if metric in ("rbf", "linear", "laplacian", "cosine_similarity"):
        raise ValueError(f"{op}: metric must be a distance, got the similarity {metric!r}")
    check_metric(op, metric)


def _sampled(rows: Rows, found: Labels, size: int, seed: int) -> tuple[Rows, Labels]:
    """Return some rows, dealt evenly to the ranks, and their labels."""
    indices = different_rows(seed, rows.n, size, rows.comm)
    table = rows.replicated(take(rows.local, rows, indices))
    codes = take(found.codes, rows, indices)
    classes, codes = torch.unique(codes, return_inverse=True)
    part = as_rows("silhouette_score", table if rows.layout.split is None else table.resplit(0))
    return part, Labels(classes, codes[part.start : part.start + part.local.shape[0]])


def _silhouettes(op: str, rows: Rows, found: Labels, metric: Any) -> torch.Tensor:
    k, codes, n = len(found.classes), found.codes, rows.local.shape[0]
    require_clusters(op, k, rows.n)
    counts = torch.zeros(k + 1, dtype=torch.float64, device=codes.device)
    counts[:k] = torch.bincount(codes, minlength=k)
    counts[k] = not math.isfinite(float(rows.local.sum(dtype=torch.float64)))
    counts = rows.comm.allreduce(counts, out=counts)
    if float(counts[k]):
        refuse_nonfinite(op)
    members = torch.zeros((n, k), dtype=torch.float64, device=codes.device)
    members.scatter_(1, codes[:, None], 1.0)
    layout = Layout((rows.n, rows.d), rows.layout.split, rows.layout.counts)
    table = DNDarray(rows.local, layout, rows.home)
    sums = kernel_matmul(table, None, rows.table(members), metric).larray
    size = counts[codes]
    own = sums.gather(1, codes[:, None])[:, 0] / (size - 1.0)
    others = sums.div_(counts[:k]).scatter_(1, codes[:, None], torch.inf).amin(1)
    values = (others - own) / torch.maximum(own, others)
    return torch.where(size > 1, values.nan_to_num_(0.0), 0.0)
