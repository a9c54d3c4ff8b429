"""Scale rows to unit norm."""

from __future__ import annotations

from typing import Any

import torch
from ht_core import DNDarray

from ..base import BaseEstimator, TransformerMixin
from ..moments import refuse_nonfinite
from ..rows import as_table, source_and_target
from ..tiles import spans, tile_rows

_ORDERS = {"l1": 1.0, "l2": 2.0, "max": torch.inf}


class Normalizer(TransformerMixin, BaseEstimator):
    """Divide each row by its norm, as ``sklearn.preprocessing.Normalizer``; rows of zeros stay.

    Parameters
    ----------
    norm : {"l2", "l1", "max"}
    copy : bool
        False transforms in place, tile by tile; the dtype must then be float32 or float64.

    Attributes
    ----------
    n_features_in_ : int

    Examples
    --------
    >>> import ht_core as ht
    >>> Normalizer().fit_transform(ht.array([[3.0, 4.0], [0.0, 0.0]], split=0)).numpy().round(12).tolist()
    [[0.6, 0.8], [0.0, 0.0]]
    """

    _requires_fit = False

    def __init__(self, norm: str = "l2", *, copy: bool = True) -> None:
        self.norm = norm
        self.copy = copy

    def fit(self, X: Any, y: Any = None) -> Normalizer:
        """Check `X`, remember its number of features and return self; there is nothing to learn.

        *Distribution*: one allreduce of one number, which tells every rank whether all values are finite.
        """
        op = "Normalizer.fit"
        self._order(op)
        X = as_table(op, X)
        _check_finite(op, _is_finite(X.larray), X if X.split is not None else None)
        self.n_features_in_ = X.shape[1]
        return self

    def transform(self, X: Any, copy: bool | None = None) -> DNDarray:
        """Return `X` with rows of norm 1, of its dtype and distribution; `X` itself with ``copy=False``.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
            Half precision becomes float32, integers become float64.
        copy : bool, optional
            Overrides the parameter `copy`.

        *Distribution*: split 0 and None: one allreduce of one number (whether all rows have a norm). Split 1
        (features): one allreduce of n numbers, the parts of the norms.

        Raises
        ------
        DTypeError
            With ``copy=False``, if the dtype of `X` is neither float32 nor float64.
        ValueError
            If `X` holds NaN or infinity; the same on every rank.
        """
        op = "Normalizer.transform"
        order = self._order(op)
        X = as_table(op, X, n_features=getattr(self, "n_features_in_", None))
        in_place = not (self.copy if copy is None else copy)
        local, out = source_and_target(op, X, in_place)
        norms = _norms(X, local, order)
        # With the features split every rank holds all norms by now.
        _check_finite(op, bool(torch.isfinite(norms).all()), X if X.split == 0 else None)
        norms = torch.where(norms == 0.0, 1.0, norms).to(local.dtype).unsqueeze(1)
        torch.div(local, norms, out=out)
        return X if in_place else DNDarray(out, X.layout, X.comm)

    def _order(self, op: str) -> float:
        if self.norm not in _ORDERS:
            raise ValueError(f"{op}: norm must be one of {', '.join(_ORDERS)}, got {self.norm!r}")
        return _ORDERS[self.norm]


def _is_finite(local: torch.Tensor) -> bool:
    """Return whether all values are finite: by the extremes, for ``isfinite`` of the values would copy them."""
    if not (local.numel() and local.is_floating_point()):
        return True
    return bool(torch.stack(local.aminmax()).isfinite().all())


def _check_finite(op: str, is_finite: bool, shared: DNDarray | None) -> None:
    """Refuse values that are not finite; the ranks of `shared` first tell each other."""
    if shared is not None:
        flag = torch.tensor([0 if is_finite else 1], dtype=torch.int32, device=shared.larray.device)
        is_finite = not int(shared.comm.allreduce(flag, op="max"))
    if not is_finite:
        refuse_nonfinite(op)


def _norms(X: DNDarray, local: torch.Tensor, order: float) -> torch.Tensor:
    """Return the norm of every row that this rank holds (a part of), float64; accumulated in float64."""
    n, d = local.shape
    norms = torch.zeros(n, dtype=torch.float64, device=local.device)
    if d:
        for span in spans(n, tile_rows(d, local.device)):
            torch.linalg.vector_norm(local[span], order, dim=1, dtype=torch.float64, out=norms[span])
    if X.split != 1 or X.comm.size == 1:
        return norms
    if order == torch.inf:
        return X.comm.allreduce(norms, op="max")
    return X.comm.allreduce(norms**order).pow_(1.0 / order)
