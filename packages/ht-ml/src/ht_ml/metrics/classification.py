"""Predicted against true classes."""

from __future__ import annotations

from typing import Any

import torch
from ht_core import DNDarray

from ..labels import as_labels, rows_of_labels, without_bool
from ..rows import as_weights
from ..scores import accuracy
from .contingency import counted

_NORMALIZE = (None, "true", "pred", "all")


def accuracy_score(y_true: Any, y_pred: Any, *, normalize: bool = True, sample_weight: Any = None) -> float:
    """Return the share of rows whose predicted label is the true one.

    Parameters
    ----------
    y_true, y_pred : DNDarray or array_like, shape (n,) or (n, 1)
        Labels.
    normalize : bool
        With False the number (or weight) of these rows.
    sample_weight : DNDarray or array_like, shape (n,), optional
        Non-negative weights of the rows.

    Returns
    -------
    float

    *Distribution*: labels split alike (others are redistributed): one allreduce of 2 numbers. Replicated labels send
    nothing. Collective.

    Raises
    ------
    LayoutError
        If there are not as many labels in both.
    ValueError
        If weights are negative, not finite or all zero; the same on every rank.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.metrics import accuracy_score
    >>> accuracy_score(ht.array([0, 1, 2, 3], split=0), ht.array([0, 1, 2, 0], split=0))
    0.75
    """
    return accuracy(
        "accuracy_score", y_pred, y_true, sample_weight, normalize=normalize, names=("y_pred", "y_true")
    )


def confusion_matrix(
    y_true: Any, y_pred: Any, *, labels: Any = None, sample_weight: Any = None, normalize: str | None = None
) -> DNDarray:
    """Return how many rows of class i were predicted as class j.

    Parameters
    ----------
    y_true, y_pred : DNDarray or array_like, shape (n,) or (n, 1), int, bool or float
    labels : array_like, shape (k,), optional
        The classes and their order; rows with other labels do not count. By default all classes of both, ascending.
    sample_weight : DNDarray or array_like, shape (n,), optional
    normalize : {None, "true", "pred", "all"}
        Divide by the sums of rows, of columns, or of all; what has sum 0 stays 0.

    Returns
    -------
    DNDarray, shape (k, k), int64, replicated
        float64 with weights or `normalize`.

    *Distribution*: labels split alike (others are redistributed): the messages of ``ht_core.unique`` for both, and one
    allreduce of k^2 numbers. Replicated labels send nothing. Collective.

    Raises
    ------
    LayoutError
        If there are not as many labels in both.
    ValueError
        If no label of `labels` is in `y_true`, one is there twice, or `normalize` is not known.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_ml.metrics import confusion_matrix
    >>> confusion_matrix(ht.array([0, 1, 1, 0], split=0), ht.array([0, 1, 0, 0], split=0)).numpy()
    array([[2, 0],
           [1, 1]])
    """
    op = "confusion_matrix"
    if normalize not in _NORMALIZE:
        raise ValueError(
            f"{op}: normalize must be one of {', '.join(map(repr, _NORMALIZE))}, got {normalize!r}"
        )
    rows = rows_of_labels(op, "y_true", y_true, y_pred)
    given = None if labels is None else _given_labels(op, labels, rows.local.device)
    weights = as_weights(op, sample_weight, rows)
    true = as_labels(op, y_true, rows, argument="y_true")
    pred = as_labels(op, y_pred, rows, argument="y_pred")
    true_classes, pred_classes = without_bool(true.classes), without_bool(pred.classes)
    classes = torch.unique(torch.cat([true_classes, pred_classes])) if given is None else without_bool(given)
    if not bool(torch.isin(true_classes, classes).any()):
        raise ValueError(f"{op}: labels must hold a label of y_true, got {classes.tolist()}")
    k = len(classes)
    i, j = _places(true_classes, classes)[true.codes], _places(pred_classes, classes)[pred.codes]
    # What is not among the classes is counted in a row and a column more, which are cut off.
    counts = counted(rows, i, k + 1, j, k + 1, weights)[:k, :k].clone()
    if normalize is not None:
        axes = {"true": (1,), "pred": (0,), "all": (0, 1)}[normalize]
        counts = counts.to(torch.float64)  # a quotient of integers would be float32
        counts = (counts / counts.sum(axes, keepdim=True)).nan_to_num_(0.0, 0.0, 0.0)
    return rows.replicated(counts)


def _given_labels(op: str, labels: Any, device: torch.device) -> torch.Tensor:
    values = labels.resplit(None).larray if isinstance(labels, DNDarray) else torch.as_tensor(labels)
    if values.ndim != 1 or not values.numel() or len(values.unique()) < len(values):
        raise ValueError(f"{op}: labels must be different labels, shape (k,), got {values.tolist()}")
    return values.to(device)


def _places(found: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    """Return the position of each label in `classes`, their number for a label that is not there."""
    ordered, order = torch.sort(classes)
    dtype = torch.promote_types(found.dtype, classes.dtype)
    at = torch.searchsorted(ordered.to(dtype), found.to(dtype)).clamp_(max=len(classes) - 1)
    return torch.where(ordered[at] == found, order[at], len(classes))
