"""What estimators with orthonormal components and a mean share: projections and the Gaussian model of the rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from ht_core import DNDarray

from ..base import BaseEstimator, TransformerMixin, check_is_fitted
from ..rows import Rows, as_rows
from ..tiles import spans, tile_rows
from .spectrum import Spectrum, with_signs


class Components(TransformerMixin, BaseEstimator):
    """Base of `PCA` and `IncrementalPCA`: an orthonormal basis ``components_`` about ``mean_``.

    Below, s is ``noise_variance_`` and v_i ``explained_variance_``, at least s. The model of the rows is the normal
    distribution with covariance ``sum_i (v_i - s) c_i c_i^T + s I`` of M. E. Tipping and C. M. Bishop, Probabilistic
    principal component analysis, 1999, doi:10.1111/1467-9868.00196.
    """

    def transform(self, X: Any) -> DNDarray:
        """Return the rows in the basis of the components, shape (n, n_components_), dtype of `X`.

        *Distribution*: split 0 or None: no message. Split 1 is brought to split 0 first.
        """
        check_is_fitted(self)
        rows = as_rows(self._op("transform"), X, n_features=self.n_features_in_)
        local = rows.local
        mean, basis = self._mean_and_basis(local, inverse=False)
        out = torch.empty((local.shape[0], basis.shape[1]), dtype=local.dtype, device=local.device)
        step = tile_rows(rows.d, local.device)
        scratch = torch.empty((min(step, local.shape[0]), rows.d), dtype=local.dtype, device=local.device)
        for span in spans(local.shape[0], step):
            block = local[span]
            # The mean first: products of offsets that cancel later would lose digits.
            tile = torch.sub(block, mean, out=scratch[: block.shape[0]])
            torch.mm(tile, basis, out=out[span])
        return rows.table(out)

    def inverse_transform(self, X: Any) -> DNDarray:
        """Return rows of features for rows in the basis of the components, shape (n, d).

        *Distribution*: split 0 or None: no message. Split 1 is brought to split 0 first.
        """
        check_is_fitted(self)
        rows = as_rows(self._op("inverse_transform"), X, n_features=self.n_components_)
        mean, basis = self._mean_and_basis(rows.local, inverse=True)
        return rows.table(torch.addmm(mean, rows.local, basis))

    def get_covariance(self) -> DNDarray:
        """Return the covariance of the model, shape (d, d), dtype of the components, replicated; no message."""
        check_is_fitted(self)
        basis, variance = self._basis_and_variance()
        covariance = basis.T @ ((variance - self.noise_variance_).unsqueeze(1) * basis)
        covariance.diagonal().add_(self.noise_variance_)
        return self._like_components(covariance)

    def get_precision(self) -> DNDarray:
        """Return the inverse of the covariance of the model, shape (d, d), replicated; no message.

        Raises
        ------
        ValueError
            If the covariance is singular.
        """
        check_is_fitted(self)
        basis, variance = self._regular("get_precision")
        if self.noise_variance_ == 0.0:
            return self._like_components(basis.T @ (basis / variance.unsqueeze(1)))
        factor = 1.0 / variance - 1.0 / self.noise_variance_
        precision = basis.T @ (factor.unsqueeze(1) * basis)
        precision.diagonal().add_(1.0 / self.noise_variance_)
        return self._like_components(precision)

    def score_samples(self, X: Any) -> DNDarray:
        """Return the logarithm of the model's density at each row, shape (n,), float64, cut as the rows are.

        *Distribution*: split 0 or None: no message. Split 1 is brought to split 0 first.

        Raises
        ------
        ValueError
            If the covariance of the model is singular.
        """
        rows, values = self._densities("score_samples", X)
        return rows.column(values)

    def score(self, X: Any, y: Any = None) -> float:
        """Return the mean of `score_samples`.

        *Distribution*: one allreduce of 2 numbers.
        """
        rows, values = self._densities("score", X)
        found = torch.stack([values.sum(), torch.full_like(values.sum(), values.numel())])
        total, n = rows.comm.allreduce(found).tolist()
        return total / n

    def _densities(self, name: str, X: Any) -> tuple[Rows, torch.Tensor]:
        check_is_fitted(self)
        rows = as_rows(self._op(name), X, n_features=self.n_features_in_)
        device = rows.local.device
        basis, variance = (part.to(device) for part in self._regular(name))
        mean = self.mean_.larray.to(device=device, dtype=torch.float64)
        d, left = rows.d, rows.d - len(basis)
        log = float(variance.log().sum()) + (left * math.log(self.noise_variance_) if left else 0.0)
        out = torch.empty(rows.local.shape[0], dtype=torch.float64, device=device)
        for span in spans(len(out), tile_rows(d, device)):
            tile = rows.local[span].to(torch.float64) - mean
            inner = tile @ basis.T
            out[span] = (inner.square() / variance).sum(1)
            if left:  # what lies outside of the components, as a residual: squares would cancel
                out[span] += tile.addmm_(inner, basis, alpha=-1.0).square_().sum(1) / self.noise_variance_
        return rows, out.add_(d * math.log(2.0 * math.pi) + log).mul_(-0.5)

    def _regular(self, name: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Return components and variances, refusing a singular covariance."""
        basis, variance = self._basis_and_variance()
        if bool((variance <= 0.0).any()) or (len(basis) < basis.shape[1] and self.noise_variance_ <= 0.0):
            raise ValueError(
                f"{self._op(name)}: the covariance must be positive definite, got noise variance "
                f"{self.noise_variance_} and least variance {float(variance.min())}; fit fewer components or more rows"
            )
        return basis, variance

    def _basis_and_variance(self) -> tuple[torch.Tensor, torch.Tensor]:
        basis = self.components_.larray.to(torch.float64)
        variance = self.explained_variance_.larray.to(torch.float64)
        return basis, variance.clamp(min=self.noise_variance_)

    def _like_components(self, values: torch.Tensor) -> DNDarray:
        layout = type(self.components_.layout).replicated(tuple(values.shape))
        return DNDarray(values.to(self.components_.larray.dtype), layout, self.components_.comm)

    def _op(self, name: str) -> str:
        return f"{type(self).__name__}.{name}"

    def _mean_and_basis(self, local: torch.Tensor, *, inverse: bool) -> tuple[torch.Tensor, torch.Tensor]:
        options = {"device": local.device, "dtype": local.dtype}
        basis = self.components_.larray.to(device=local.device, dtype=torch.float64)
        if self.whiten:
            deviation = self.explained_variance_.larray.to(device=local.device, dtype=torch.float64).sqrt()
            # A component without variance has no scale; it stays what it is.
            deviation = torch.where(deviation > 0.0, deviation, 1.0).unsqueeze(1)
            basis = basis * deviation if inverse else basis / deviation
        mean = self.mean_.larray.to(**options)
        return mean, (basis if inverse else basis.T.contiguous()).to(**options)

    def _learn(self, rows: Rows, found: Spectrum, count: int) -> None:
        """Set what follows from the leading `count` components of a spectrum."""
        n, d = int(found.moments[0]), rows.d
        freedom, total = max(n - 1, 1), found.total
        kept = found.squares[:count]

        def wrap(values: np.ndarray) -> DNDarray:
            tensor = torch.from_numpy(np.ascontiguousarray(values))
            return rows.replicated(tensor.to(device=rows.local.device, dtype=rows.local.dtype))

        self.components_ = wrap(with_signs(found.vectors[:count]))
        self.explained_variance_ = wrap(kept / freedom)
        self.explained_variance_ratio_ = wrap(kept / (total or 1.0))
        self.singular_values_ = wrap(np.sqrt(kept))
        self.mean_ = wrap(found.mean)
        left = min(n, d) - count
        rest = max(total - float(kept.sum()), 0.0)
        self.noise_variance_ = rest / freedom / left if left > 0 else 0.0
        self.n_components_, self.n_features_in_ = count, d
