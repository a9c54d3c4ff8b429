"""Principal components: from the covariance of the features, or from singular values of compressed rows."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from ht_core import DNDarray
from ht_core.layout import Layout

from ..base import BaseEstimator, TransformerMixin, check_is_fitted
from ..covariance import covariance
from ..moments import checked_moments, refuse_nonfinite, require_usable
from ..rows import Rows, as_rows, as_table
from ..tiles import spans, tile_rows

_COVARIANCE_FEATURES = 2000
_SOLVERS = ("auto", "covariance_eigh", "full", "hierarchical")


@dataclass(frozen=True, slots=True)
class _Spectrum:
    """Squared singular values (largest first), their vectors as rows, the mean, and the sum of all
    squares."""

    squares: np.ndarray
    vectors: np.ndarray
    mean: np.ndarray
    total: float


class PCA(TransformerMixin, BaseEstimator):
    """Principal component analysis, as ``sklearn.decomposition.PCA``.

    Parameters
    ----------
    n_components : int, float or None
        Number of components; or the least share of variance that they must explain, in (0, 1); None keeps
        min(n, d).
    whiten : bool
        Scale the transformed features to unit variance.
    svd_solver : {"auto", "covariance_eigh", "full", "hierarchical"}
        "covariance_eigh": eigenvectors of the d x d covariance, formed in float64 in one pass. It
        resolves singular values down to 1e-8 of the largest. "full": singular values of the rows,
        compressed by QR, to full float64 accuracy. "hierarchical": the same, truncated to `n_components`
        while merging (``ht_linalg.hsvd_rank`` and ``hsvd_rtol``). "auto": "covariance_eigh" up to 2000
        features, else "hierarchical".

    Attributes
    ----------
    components_ : DNDarray, shape (n_components_, d), dtype of `X`, replicated
        Orthonormal rows; the entry of largest magnitude of each is positive.
    explained_variance_, explained_variance_ratio_, singular_values_ : DNDarray, shape (n_components_,),
    replicated mean_ : DNDarray, shape (d,), replicated n_components_, n_samples_, n_features_in_ : int
    noise_variance_ : float
        Mean variance of the components that were left out.

    Notes
    -----
    The data are neither centred in place nor copied: the mean is folded into the products
    (``ht_ml.covariance``) or taken off tile by tile.

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], split=0)
    >>> PCA(1).fit(X).explained_variance_ratio_.numpy().round(6).tolist()
    [1.0]
    """

    def __init__(self, n_components: Any = None, *, whiten: bool = False, svd_solver: str = "auto") -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.svd_solver = svd_solver

    def fit(self, X: Any, y: Any = None) -> PCA:
        """Find the components.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
        y : ignored

        Returns
        -------
        PCA
            The estimator itself.

        *Distribution*: split 0 or None; split 1 is brought to split 0 first. "covariance_eigh": one
        allreduce of about d^2 / 2 numbers. Otherwise: one allreduce of 2 d + 1 numbers, then the messages
        of ``hsvd`` on at most d rows per rank. A replicated table sends nothing. Collective.

        Raises
        ------
        ValueError
            If a parameter is out of range, or `X` holds NaN or infinity; the same on every rank.
        """
        op = "PCA.fit"
        solver = self._check_parameters(op, X := as_table(op, X))
        rows = as_rows(op, X)
        spectrum = (
            _from_covariance(op, rows) if solver == "covariance_eigh" else self._from_rows(op, rows, solver)
        )
        n, d = rows.n, rows.d
        count = self._count(spectrum, min(n, d))
        freedom = max(n - 1, 1)
        variance = spectrum.squares / freedom
        vectors = _with_signs(spectrum.vectors[:count])

        def wrap(values: np.ndarray) -> DNDarray:
            tensor = torch.from_numpy(np.ascontiguousarray(values))
            return rows.replicated(tensor.to(device=rows.local.device, dtype=rows.local.dtype))

        self.components_ = wrap(vectors)
        self.explained_variance_ = wrap(variance[:count])
        self.explained_variance_ratio_ = wrap(spectrum.squares[:count] / (spectrum.total or 1.0))
        self.singular_values_ = wrap(np.sqrt(spectrum.squares[:count]))
        self.mean_ = wrap(spectrum.mean)
        left = min(n, d) - count
        rest = max(spectrum.total - float(spectrum.squares[:count].sum()), 0.0)
        self.noise_variance_ = rest / freedom / left if left else 0.0
        self.n_components_, self.n_samples_, self.n_features_in_ = count, n, d
        return self

    def transform(self, X: Any) -> DNDarray:
        """Return the rows in the basis of the components, shape (n, n_components_), dtype of `X`.

        *Distribution*: split 0 or None: no message. Split 1 is brought to split 0 first.
        """
        check_is_fitted(self)
        rows = as_rows("PCA.transform", X, n_features=self.n_features_in_)
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
        rows = as_rows("PCA.inverse_transform", X, n_features=self.n_components_)
        mean, basis = self._mean_and_basis(rows.local, inverse=True)
        return rows.table(torch.addmm(mean, rows.local, basis))

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

    def _check_parameters(self, op: str, X: DNDarray) -> str:
        count, limit = self.n_components, min(X.shape)
        if isinstance(count, Integral) and not isinstance(count, bool):
            if not 1 <= count <= limit:
                raise ValueError(
                    f"{op}: n_components must be in [1, {limit}] for shape {X.shape}, got {count}"
                )
        elif count is not None and not (isinstance(count, Real) and 0.0 < count < 1.0):
            raise ValueError(f"{op}: n_components must be an int, a share in (0, 1) or None, got {count!r}")
        if self.svd_solver not in _SOLVERS:
            raise ValueError(
                f"{op}: svd_solver must be one of {', '.join(_SOLVERS)}, got {self.svd_solver!r}"
            )
        if self.svd_solver != "auto":
            return self.svd_solver
        return "covariance_eigh" if X.shape[1] <= _COVARIANCE_FEATURES else "hierarchical"

    def _count(self, spectrum: _Spectrum, limit: int) -> int:
        if self.n_components is None:
            return min(limit, spectrum.squares.size)
        if isinstance(self.n_components, Integral):
            return int(self.n_components)
        shares = np.cumsum(spectrum.squares) / (spectrum.total or 1.0)
        return min(int(np.searchsorted(shares, self.n_components, side="right")) + 1, limit, shares.size)

    def _from_rows(self, op: str, rows: Rows, solver: str) -> _Spectrum:
        from ht_linalg import hsvd_rank, hsvd_rtol

        moments = rows.comm.allreduce(checked_moments(rows.local, None), op="moments")
        require_usable(op, moments, weighted=False)
        d, limit = rows.d, min(rows.n, rows.d)
        mean, total = moments[1 : d + 1], float(moments[d + 1 :].sum())
        local = _compressed(rows.local, mean)
        if total == 0.0:  # all rows are equal: any orthonormal vectors do
            return _Spectrum(np.zeros(limit), np.eye(limit, d), mean.cpu().numpy(), 0.0)
        if rows.comm.size > 1:
            counts = tuple(min(count, d) for count in rows.layout.counts)
            table = DNDarray(local, Layout((sum(counts), d), 0, counts), rows.comm)
        else:
            table = DNDarray(local, Layout.replicated(tuple(local.shape)), rows.comm)
        if solver == "full" or self.n_components is None:
            found = hsvd_rank(table, limit, compute_sv=True)
        elif isinstance(self.n_components, Integral):
            found = hsvd_rank(table, int(self.n_components), compute_sv=True)
        else:
            found = hsvd_rtol(table, float(np.sqrt(1.0 - self.n_components)), compute_sv=True)
        values = found.S.numpy().astype(np.float64)
        return _Spectrum(values**2, found.V.numpy().T, mean.cpu().numpy(), total)


def _from_covariance(op: str, rows: Rows) -> _Spectrum:
    merged = covariance(rows)
    if not merged.is_finite:
        refuse_nonfinite(op)
    # torch keeps to this rank's share of the cores; NumPy's LAPACK does not.
    squares, vectors = (part.numpy() for part in torch.linalg.eigh(torch.from_numpy(merged.products)))
    return _Spectrum(
        np.clip(squares[::-1], 0.0, None),
        vectors[:, ::-1].T,
        merged.mean,
        float(np.trace(merged.products)),
    )


def _compressed(local: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Return at most d rows with the singular values and right singular vectors of the centred rows,
    float64."""
    n, d = local.shape
    if n <= d:
        return local.to(torch.float64) - mean
    triangle = None
    for span in spans(n, max(2 * d, tile_rows(d, local.device))):
        tile = local[span].to(torch.float64) - mean
        stacked = tile if triangle is None else torch.cat([triangle, tile])
        triangle = torch.linalg.qr(stacked, mode="r").R
    return triangle


def _with_signs(vectors: np.ndarray) -> np.ndarray:
    """Return the rows with signs such that each one's entry of largest magnitude is positive."""
    if not vectors.size:
        return vectors
    magnitude = np.abs(vectors)
    # Entries equal up to rounding: the first decides, for any number of ranks.
    first = (magnitude >= magnitude.max(axis=1, keepdims=True) * (1.0 - 1e-9)).argmax(axis=1)
    signs = np.sign(vectors[np.arange(len(vectors)), first])
    return vectors * np.where(signs == 0.0, 1.0, signs)[:, None]
