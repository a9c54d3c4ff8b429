"""Principal components: from the covariance of the features, from singular values of compressed rows, or from a
random sketch."""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

import numpy as np
from ht_core import DNDarray

from ..draws import resolve_seed
from ..rows import Rows, as_rows, as_table
from .components import Components
from .spectrum import Spectrum, from_covariance, from_rows, from_sketch

COVARIANCE_FEATURES = 2000
_SOLVERS = ("auto", "covariance_eigh", "full", "hierarchical", "randomized")


class PCA(Components):
    """Principal component analysis, as ``sklearn.decomposition.PCA``.

    Parameters
    ----------
    n_components : int, float, "mle" or None
        Number of components; or the least share of variance that they must explain, in (0, 1); or "mle", the
        likeliest number, for n >= d ("covariance_eigh" and "full"); None keeps min(n, d).
    whiten : bool
        Scale the transformed features to unit variance.
    svd_solver : {"auto", "covariance_eigh", "full", "hierarchical", "randomized"}
        "covariance_eigh": eigenvectors of the d x d covariance, formed in one pass. In float64 it
        resolves singular values down to 1e-8 of the largest. A float32 table with an int `n_components` on CPUs takes
        float32 products of centred tiles, added in float64: explained variances are right to about 5e-6 of
        themselves. Where the last component wanted has less than 1/1024 of the variance of the first, the
        products are formed again in float64. "full": singular values of the rows,
        compressed by QR, to full float64 accuracy. "hierarchical": the same, truncated to `n_components`
        while merging (``ht_linalg.hsvd_rank`` and ``hsvd_rtol``). "randomized": ``ht_linalg.rsvd`` of a centred
        copy of the rows, for a number of components far below d. "auto": "covariance_eigh" up to 2000
        features, else "hierarchical" ("full" for "mle").
    iterated_power : int or "auto"
        "randomized": passes with the products that sharpen the sketch; "auto" is 7 for fewer components than a tenth
        of the shorter side, else 4.
    n_oversamples : int
        "randomized": how many more columns the sketch has than there are components.
    random_state : int, Generator or None
        "randomized": the seed of the sketch.

    Attributes
    ----------
    components_ : DNDarray, shape (n_components_, d), dtype of `X`, replicated
        Orthonormal rows; the entry of largest magnitude of each is positive.
    explained_variance_, explained_variance_ratio_, singular_values_ : DNDarray, shape (n_components_,), replicated
    mean_ : DNDarray, shape (d,), replicated
    n_components_, n_samples_, n_features_in_ : int
    noise_variance_ : float
        Mean variance of the components that were left out.

    Notes
    -----
    The data are neither centred in place nor copied (except by "randomized"): the mean is folded into the products
    (``ht_ml.covariance``) or taken off tile by tile. "mle" is the estimate of T. P. Minka, Automatic choice of
    dimensionality for PCA, 2000, Advances in Neural Information Processing Systems 13, pp. 577-583.

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]], split=0)
    >>> PCA(1).fit(X).explained_variance_ratio_.numpy().round(6).tolist()
    [1.0]
    """

    def __init__(
        self,
        n_components: Any = None,
        *,
        whiten: bool = False,
        svd_solver: str = "auto",
        iterated_power: Any = "auto",
        n_oversamples: int = 10,
        random_state: Any = None,
    ) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.svd_solver = svd_solver
        self.iterated_power = iterated_power
        self.n_oversamples = n_oversamples
        self.random_state = random_state

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
        allreduce of about d^2 / 2 numbers, with float32 products one more of one number. Otherwise: one allreduce of
        2 d + 1 numbers, then the messages of ``hsvd`` on at most d rows per rank, or of ``rsvd``. A replicated table
        sends nothing. Collective.

        Raises
        ------
        ValueError
            If a parameter is out of range, or `X` holds NaN or infinity; the same on every rank.
        """
        op = "PCA.fit"
        solver = self._check_parameters(op, X := as_table(op, X))
        rows = as_rows(op, X)
        found = self._spectrum(op, rows, solver)
        self._learn(rows, found, self._count(found, min(rows.n, rows.d)))
        self.n_samples_ = rows.n
        return self

    def _check_parameters(self, op: str, X: DNDarray) -> str:
        count, limit = self.n_components, min(X.shape)
        if self.svd_solver not in _SOLVERS:
            raise ValueError(
                f"{op}: svd_solver must be one of {', '.join(_SOLVERS)}, got {self.svd_solver!r}"
            )
        solver = self.svd_solver
        if solver == "auto":
            wide = "full" if count == "mle" else "hierarchical"
            solver = "covariance_eigh" if X.shape[1] <= COVARIANCE_FEATURES else wide
        if isinstance(count, str) and count == "mle":
            if X.shape[0] < X.shape[1] or solver not in ("covariance_eigh", "full"):
                raise ValueError(
                    f"{op}: n_components='mle' must have n >= d and svd_solver 'covariance_eigh' or 'full', got shape "
                    f"{X.shape} and {solver!r}"
                )
        elif isinstance(count, Integral) and not isinstance(count, bool):
            if not 1 <= count <= limit:
                raise ValueError(
                    f"{op}: n_components must be in [1, {limit}] for shape {X.shape}, got {count}"
                )
        elif count is not None and not (isinstance(count, Real) and 0.0 < count < 1.0):
            raise ValueError(f"{op}: n_components must be an int, a share in (0, 1) or None, got {count!r}")
        elif count is not None and solver == "randomized":
            raise ValueError(f"{op}: n_components must be an int or None with 'randomized', got {count!r}")
        check_sketch(op, self.n_oversamples, self.iterated_power, "iterated_power")
        return solver

    def _spectrum(self, op: str, rows: Rows, solver: str) -> Spectrum:
        limit, count = min(rows.n, rows.d), self.n_components
        if solver == "covariance_eigh":
            return from_covariance(op, rows, leading=int(count) if isinstance(count, Integral) else None)
        if solver == "randomized":
            count = limit if count is None else int(count)
            passes = self.iterated_power
            if passes == "auto":
                passes = 7 if count < 0.1 * limit else 4
            seed = resolve_seed(op, self.random_state)
            return from_sketch(
                op, rows, count, oversamples=int(self.n_oversamples), passes=int(passes), seed=seed
            )
        if solver == "full" or count is None:
            return from_rows(op, rows, limit)
        if isinstance(count, Integral):
            return from_rows(op, rows, int(count))
        return from_rows(op, rows, limit, float(np.sqrt(1.0 - count)))

    def _count(self, found: Spectrum, limit: int) -> int:
        if self.n_components is None:
            return min(limit, found.squares.size)
        if isinstance(self.n_components, str):
            return _likeliest_count(found.squares / found.moments[0].item(), int(found.moments[0]))
        if isinstance(self.n_components, Integral):
            return int(self.n_components)
        shares = np.cumsum(found.squares) / (found.total or 1.0)
        return min(int(np.searchsorted(shares, self.n_components, side="right")) + 1, limit, shares.size)


def check_sketch(op: str, oversamples: Any, passes: Any, name: str) -> None:
    """Refuse parameters of a random sketch that are not numbers of columns or passes."""
    if not isinstance(oversamples, Integral) or oversamples < 0:
        raise ValueError(f"{op}: n_oversamples must be an int of at least 0, got {oversamples!r}")
    if passes != "auto" and (not isinstance(passes, Integral) or passes < 0):
        raise ValueError(f"{op}: {name} must be an int of at least 0 or 'auto', got {passes!r}")


def _likeliest_count(variances: np.ndarray, n: int) -> int:
    """Return the number of components, 1 to d - 1, of the largest evidence by Minka's expansion (his equation 30)."""
    d = variances.size
    # Directions without variance have no finite evidence.
    usable = int((variances > variances[0] * np.finfo(float).eps).sum()) if variances[0] > 0.0 else 0
    evidence = [_evidence(variances, n, k) for k in range(1, min(d - 1, usable) + 1)]
    return int(np.argmax(evidence)) + 1 if evidence else 1


def _evidence(variances: np.ndarray, n: int, k: int) -> float:
    d = variances.size
    rest = float(variances[k:].mean())
    if rest <= 0.0:
        return -math.inf
    sizes = (d - np.arange(k)) / 2.0
    value = -k * math.log(2.0) + sum(math.lgamma(size) - size * math.log(math.pi) for size in sizes)
    value -= 0.5 * n * (np.log(variances[:k]).sum() + (d - k) * math.log(rest))
    value += 0.5 * (d * k - k * (k + 1) / 2 + k) * math.log(2.0 * math.pi) - 0.5 * k * math.log(n)
    inverse = 1.0 / np.concatenate([variances[:k], np.full(d - k, rest)])
    first, second = np.triu_indices(k, 1, d)
    curvature = (inverse[second] - inverse[first]) * (variances[first] - variances[second])
    with np.errstate(divide="ignore"):
        return value - 0.5 * float((np.log(curvature) + math.log(n)).sum())
