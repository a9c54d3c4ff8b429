"""Principal components from blocks of rows, one after the other."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Integral
from typing import Any

from ht_core import DNDarray

from ..base import check_is_fitted
from ..moments import merge_moments
from ..rows import Rows, as_rows, as_table
from .components import Components
from .pca import COVARIANCE_FEATURES
from .spectrum import Spectrum, from_covariance, from_rows


class IncrementalPCA(Components):
    """Principal component analysis of blocks of rows, as ``sklearn.decomposition.IncrementalPCA``.

    Only the components and moments of the rows seen are kept: tables that do not fit into memory are read block by
    block.

    Parameters
    ----------
    n_components : int or None
        Number of components; None keeps min(n, d) of the first block.
    whiten : bool
        Scale the transformed features to unit variance.
    batch_size : int or None
        Rows of a block in `fit`; None takes 5 d.

    Attributes
    ----------
    components_ : DNDarray, shape (n_components_, d), dtype of the first block, replicated
        Orthonormal rows; the entry of largest magnitude of each is positive.
    explained_variance_, explained_variance_ratio_, singular_values_ : DNDarray, shape (n_components_,), replicated
    mean_, var_ : DNDarray, shape (d,), replicated
    n_components_, n_samples_seen_, batch_size_, n_features_in_ : int
    noise_variance_ : float
        Mean variance of the components that were left out, of all rows seen.

    Notes
    -----
    A block's centred rows are joined by the components found so far, scaled by their singular values, and one row for
    the distance of the two means; the products of both together are those of all rows, up to the components that were
    dropped before. D. A. Ross, J. Lim, R.-S. Lin, M.-H. Yang, Incremental learning for robust visual tracking, 2008,
    doi:10.1007/s11263-007-0075-7.

    Examples
    --------
    >>> import ht_core as ht
    >>> blocks = (ht.array([[i, 2.0 * i], [-i, -2.0 * i]], split=0) for i in range(1, 5))
    >>> model = IncrementalPCA(1).fit(blocks)
    >>> model.n_samples_seen_, model.explained_variance_ratio_.numpy().round(6).tolist()
    (8, [1.0])
    """

    def __init__(self, n_components: Any = None, *, whiten: bool = False, batch_size: Any = None) -> None:
        self.n_components = n_components
        self.whiten = whiten
        self.batch_size = batch_size

    def fit(self, X: Any, y: Any = None) -> IncrementalPCA:
        """Forget what was learned and find the components of `X` in blocks.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d); or an iterable of such tables
            A table is cut into blocks of `batch_size` rows, the last one, where it is shorter than `n_components`,
            joined to the one before; each is spread evenly over the ranks. An iterable (without indices) yields the
            blocks, the same number on every rank, so that only one or two are in memory:
            ``fit(ht.io.stream("x.h5", "x"))``.
        y : ignored

        Returns
        -------
        IncrementalPCA
            The estimator itself.

        *Distribution*: of a table split 0, each row is sent once at most, and each block is a `partial_fit`. Split 1
        is brought to split 0 first. A replicated table sends nothing. Collective.

        Raises
        ------
        ValueError
            If a parameter is out of range, or `X` holds NaN or infinity; the same on every rank.
        """
        op = "IncrementalPCA.fit"
        if isinstance(X, Iterable) and not hasattr(X, "__getitem__") and not hasattr(X, "nnz"):
            self._forget()
            for block in X:
                self.partial_fit(block)
            check_is_fitted(self)
            return self
        X = as_table(op, X)
        self._check_parameters(op, X, first=True)
        size = 5 * X.shape[1] if self.batch_size is None else int(self.batch_size)
        rows = as_rows(op, X)
        table = rows.table(rows.local)
        self._forget()
        for start, stop in _blocks(rows.n, size, self.n_components or 1):
            block = table[start:stop] if (start, stop) != (0, rows.n) else table
            if rows.comm.size > 1:  # consecutive rows lie on one or two ranks, and all should work
                block = block.balance()
            self._update(op, as_rows(op, block))
        self.batch_size_ = size
        return self

    def partial_fit(self, X: Any, y: Any = None) -> IncrementalPCA:
        """Take one more block of rows into account.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, d)
            At least `n_components` rows in the first block.
        y : ignored

        Returns
        -------
        IncrementalPCA
            The estimator itself.

        *Distribution*: split 0 or None; split 1 is brought to split 0 first. Up to 2000 features: one allreduce of
        about d^2 / 2 numbers. Otherwise: one allreduce of 2 d + 1 numbers, then the messages of ``hsvd`` on at most d
        rows per rank. A replicated block sends nothing. Collective.

        Raises
        ------
        ValueError
            If a parameter is out of range, the number of features is another one than before, or `X` holds NaN or
            infinity; the same on every rank, and what was learned stays.
        """
        op = "IncrementalPCA.partial_fit"
        is_first = getattr(self, "_kept", None) is None
        X = as_table(op, X, n_features=None if is_first else self.n_features_in_)
        self._check_parameters(op, X, first=is_first)
        self._update(op, as_rows(op, X))
        return self

    def _update(self, op: str, rows: Rows) -> None:
        kept = getattr(self, "_kept", None)
        kept = None if kept is None else Spectrum(*kept)
        if kept is None:
            count = min(rows.n, rows.d) if self.n_components is None else int(self.n_components)
        else:
            count = len(kept.squares)
        if rows.d <= COVARIANCE_FEATURES:
            found = from_covariance(op, rows, kept)
        else:
            found = from_rows(op, rows, count, kept=kept)
        moments = found.moments if kept is None else merge_moments(kept.moments, found.moments)
        found = Spectrum(found.squares[:count].copy(), found.vectors[:count].copy(), moments)
        self._learn(rows, found, count)
        self._kept = (found.squares, found.vectors, found.moments)  # arrays alone, which checkpoints hold
        n = float(moments[0])
        variance = (moments[rows.d + 1 :] / n).to(device=rows.local.device, dtype=rows.local.dtype)
        self.var_: DNDarray = rows.replicated(variance)
        self.n_samples_seen_ = int(n)

    def _forget(self) -> None:
        for name in [name for name in vars(self) if name.endswith("_") or name == "_kept"]:
            delattr(self, name)

    def _check_parameters(self, op: str, X: DNDarray, *, first: bool) -> None:
        count, size, limit = self.n_components, self.batch_size, min(X.shape)
        if count is not None:
            if not isinstance(count, Integral) or isinstance(count, bool) or count < 1:
                raise ValueError(f"{op}: n_components must be an int of at least 1 or None, got {count!r}")
            if first and count > limit:
                raise ValueError(
                    f"{op}: n_components must be in [1, {limit}] for a first block of shape {X.shape}, got {count}"
                )
        if size is not None and (not isinstance(size, Integral) or size < max(1, count or 1)):
            raise ValueError(
                f"{op}: batch_size must be an int of at least n_components ({count}) or None, got {size!r}"
            )


def _blocks(n: int, size: int, least: int) -> list[tuple[int, int]]:
    """Return the ends of blocks of `size` rows; one that would leave fewer than `least` rows takes them too."""
    blocks, start = [], 0
    while start < n:
        stop = start + size
        if stop + least > n:
            stop = n
        blocks.append((start, stop))
        start = stop
    return blocks
