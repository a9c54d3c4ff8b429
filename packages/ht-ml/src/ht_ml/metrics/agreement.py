"""Agreement of two partitions of the same rows, from the counts of pairs of labels."""

from __future__ import annotations

from typing import Any

import torch

from .contingency import contingency

_NAMES = ("labels_true", "labels_pred")


def adjusted_rand_score(labels_true: Any, labels_pred: Any) -> float:
    """Return how often two partitions agree on whether two rows belong together, adjusted for chance.

    1 for equal partitions, about 0 for independent ones, negative for less agreement than by chance.

    Parameters
    ----------
    labels_true, labels_pred : DNDarray or array_like, shape (n,) or (n, 1), int, bool or float
        One label per row; their names do not matter.

    Returns
    -------
    float

    *Distribution*: labels split alike (others are redistributed): the messages of ``ht_core.unique`` for both, and one
    allreduce of k l counts. Replicated labels send nothing. Collective.

    Raises
    ------
    LayoutError
        If there are not as many labels in both.
    ValueError
        If a label is NaN.

    Notes
    -----
    L. Hubert and P. Arabie, "Comparing partitions", Journal of Classification 2 (1985), doi:10.1007/BF01908075. Counts
    of pairs are integers of any size.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.metrics import adjusted_rand_score
    >>> adjusted_rand_score(ht.array([0, 0, 1, 1], split=0), ht.array([5, 5, 3, 3], split=0))
    1.0
    """
    counts, _, _ = contingency("adjusted_rand_score", _NAMES, labels_true, labels_pred)
    together = _squares(counts)
    rows, columns = _squares(counts.sum(1)), _squares(counts.sum(0))
    n = int(counts.sum())
    both, only_true, only_pred = together - n, rows - together, columns - together
    neither = n * n - rows - columns + together
    if only_true == 0 and only_pred == 0:
        return 1.0
    above = 2 * (both * neither - only_true * only_pred)
    return above / ((both + only_true) * (only_true + neither) + (both + only_pred) * (only_pred + neither))


def _squares(counts: torch.Tensor) -> int:
    """Return the sum of squares as an exact integer: pairs of more than 3e9 rows exceed 64 bits."""
    return sum(count * count for count in counts[counts > 0].tolist())


def homogeneity_completeness_v_measure(
    labels_true: Any, labels_pred: Any, *, beta: float = 1.0
) -> tuple[float, float, float]:
    """Return homogeneity, completeness and their weighted harmonic mean, the V-measure.

    Homogeneity is 1 where each cluster holds rows of one class only, completeness is 1 where all rows of a class are in
    one cluster.

    Parameters
    ----------
    labels_true, labels_pred : DNDarray or array_like, shape (n,) or (n, 1), int, bool or float
        Classes and clusters of the rows.
    beta : float
        Weight of homogeneity against completeness: below 1 the first counts more.

    Returns
    -------
    tuple of three float
        Each in [0, 1].

    *Distribution*: as `adjusted_rand_score`.

    Raises
    ------
    LayoutError
        If there are not as many labels in both.
    ValueError
        If a label is NaN, or `beta` negative.

    Notes
    -----
    A. Rosenberg and J. Hirschberg, "V-measure: a conditional entropy-based external cluster evaluation measure",
    EMNLP-CoNLL 2007.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.metrics import homogeneity_completeness_v_measure
    >>> labels = ht.array([0, 0, 1, 1], split=0)
    >>> homogeneity_completeness_v_measure(labels, ht.array([0, 0, 0, 0], split=0))
    (0.0, 1.0, 0.0)
    """
    return _entropies("homogeneity_completeness_v_measure", labels_true, labels_pred, beta)


def _entropies(op: str, labels_true, labels_pred, beta: float = 1.0) -> tuple[float, float, float]:
    if not beta >= 0.0:
        raise ValueError(f"{op}: beta must be at least 0, got {beta!r}")
    counts, _, _ = contingency(op, _NAMES, labels_true, labels_pred)
    shares = counts.to(torch.float64) / int(counts.sum())
    of_true, of_pred = shares.sum(1), shares.sum(0)
    i, j = counts.nonzero(as_tuple=True)
    joint = shares[i, j]
    shared = float((joint * (joint.log() - of_true[i].log() - of_pred[j].log())).sum())
    shared = 0.0 if abs(shared) < torch.finfo(torch.float64).eps else max(shared, 0.0)
    of_classes, of_clusters = _entropy(of_true), _entropy(of_pred)
    homogeneity = shared / of_classes if of_classes else 1.0
    completeness = shared / of_clusters if of_clusters else 1.0
    if homogeneity + completeness == 0.0:
        return homogeneity, completeness, 0.0
    mean = (1.0 + beta) * homogeneity * completeness / (beta * homogeneity + completeness)
    return homogeneity, completeness, mean


def _entropy(shares: torch.Tensor) -> float:
    return 0.0 if shares.numel() == 1 else -float((shares * shares.log()).sum())


def homogeneity_score(labels_true: Any, labels_pred: Any) -> float:
    """Return 1 where each cluster holds rows of one class only; see `homogeneity_completeness_v_measure`.

    *Distribution*: as `adjusted_rand_score`.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.metrics import homogeneity_score
    >>> homogeneity_score(ht.array([0, 0, 1, 1], split=0), ht.array([0, 1, 2, 3], split=0))
    1.0
    """
    return _entropies("homogeneity_score", labels_true, labels_pred)[0]


def completeness_score(labels_true: Any, labels_pred: Any) -> float:
    """Return 1 where all rows of a class are in one cluster; see `homogeneity_completeness_v_measure`.

    *Distribution*: as `adjusted_rand_score`.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.metrics import completeness_score
    >>> completeness_score(ht.array([0, 0, 1, 1], split=0), ht.array([0, 1, 2, 3], split=0))
    0.5
    """
    return _entropies("completeness_score", labels_true, labels_pred)[1]


def v_measure_score(labels_true: Any, labels_pred: Any, *, beta: float = 1.0) -> float:
    """Return the harmonic mean of homogeneity and completeness; see `homogeneity_completeness_v_measure`.

    *Distribution*: as `adjusted_rand_score`.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.metrics import v_measure_score
    >>> round(v_measure_score(ht.array([0, 0, 1, 1], split=0), ht.array([0, 1, 2, 3], split=0)), 4)
    0.6667
    """
    return _entropies("v_measure_score", labels_true, labels_pred, beta)[2]
