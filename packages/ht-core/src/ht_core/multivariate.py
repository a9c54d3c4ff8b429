"""Multivariate distributions, as methods: each variate is a vector along the last axis of the result.

Each rank computes whole vectors, tile by tile, and keeps what is its own: where the result is split along its last
axis, all ranks compute all vectors, without a message. So the numbers never depend on how vectors are cut.
"""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable

import numpy as np
import torch

from .continuous import log_gamma_variate
from .devices import sanitize_device
from .discrete import binomial_variate, hypergeometric_variate
from .dndarray import DNDarray
from .draws import normal
from .engines.creation import normalize_shape, normalize_split
from .errors import LayoutError
from .layout import Layout
from .random_arguments import in_range
from .sampling import FLOATS, Trials, fill_range, result_type, runs_of, tiles

_PLACE = """split : int, optional
    The axis of the result along which it is cut.
device, comm
    As in :meth:`random`."""
#: Texts of parameters that several methods share.
_TEXTS = {
    "{size}": "size : int or tuple of int, optional\n    Number of vectors; a tuple gives the shape.",
    "{floats}": f"dtype : dtype, optional\n    {FLOATS}\n{_PLACE}",
    "{integers}": f"dtype : dtype, optional\n    An integer type (int64 by default) or a floating one.\n{_PLACE}",
}


def _documented(method: Callable) -> Callable:
    text = inspect.cleandoc(method.__doc__)
    for name, part in _TEXTS.items():
        text = text.replace(name, part)
    method.__doc__ = text
    return method


class Multivariate:
    """The methods of ``Generator`` that draw vectors."""

    __slots__ = ()

    @_documented
    def dirichlet(self, alpha, size=None, dtype=None, *, split=None, device=None, comm=None) -> DNDarray:
        """Draw from the Dirichlet distribution: vectors of k positive numbers that add up to 1.

        Parameters
        ----------
        alpha : array_like of float, shape (k,)
            Positive. Held by every rank (a split array is gathered: 8 k bytes).
        {size}
        {floats}

        Returns
        -------
        DNDarray
            Of shape (*size, k).

        Raises
        ------
        ValueError
            If an entry of `alpha` is not positive.
        LayoutError
            If `alpha` is not a vector.

        Notes
        -----
        *Distribution*: no message for a replicated `alpha`. Gamma variates (see :meth:`gamma`) divided by their sum,
        from their logarithms, so that tiny `alpha` do not give 0 / 0.
        """
        weights = _vector("dirichlet", "alpha", alpha)
        if not ((weights > 0) & np.isfinite(weights)).all():
            raise ValueError("dirichlet: alpha must be positive")
        k = len(weights)

        def vectors(trials: Trials, shape: torch.Tensor) -> torch.Tensor:
            logs = log_gamma_variate(trials, shape.repeat(trials.count // k)).view(-1, k)
            parts = torch.exp(logs - logs.amax(1, keepdim=True))
            return parts / parts.sum(1, keepdim=True)

        kind = result_type("dirichlet", dtype, None, False)
        return self._vectors("dirichlet", size, weights, kind, vectors, k, split, device, comm)

    @_documented
    def multinomial(self, n, pvals, size=None, dtype=None, *, split=None, device=None, comm=None) -> DNDarray:
        """Draw how `n` independent trials fall into k categories.

        Parameters
        ----------
        n : int
            Number of trials, in [0, 2**63).
        pvals : array_like of float, shape (k,)
            Probabilities; the last one is what the others leave of 1. Held by every rank (a split array is gathered).
        {size}
        {integers}

        Returns
        -------
        DNDarray
            Of shape (*size, k); vectors add up to `n`.

        Raises
        ------
        ValueError
            If `n` is out of range or `pvals` no probabilities.
        LayoutError
            If `pvals` is not a vector.

        Notes
        -----
        *Distribution*: no message for replicated `pvals`. One binomial variate per category, of what the ones before
        have left (see :meth:`binomial`).
        """
        trials_each = float(in_range("multinomial", "n", n, 1 << 63))
        chances = _vector("multinomial", "pvals", pvals)
        if not ((chances >= 0) & (chances <= 1)).all() or math.fsum(chances[:-1]) > 1 + 1e-12:
            raise ValueError(
                "multinomial: pvals must be non-negative, with a sum of at most 1 without the last"
            )
        k = len(chances)
        chances = np.append(chances[:-1], max(0.0, 1.0 - math.fsum(chances[:-1])))
        rest = np.cumsum(chances[::-1])[::-1]
        shares = np.divide(chances, rest, out=np.zeros(k), where=rest > 0)

        def vectors(trials: Trials, shares: torch.Tensor) -> torch.Tensor:
            left = torch.full((trials.count,), trials_each, dtype=torch.float64, device=trials.device)
            found = left.new_empty(k, trials.count)
            for j in range(k - 1):
                found[j] = binomial_variate(trials.along(j), left, shares[j : j + 1])
                left = left - found[j]
            found[k - 1] = left
            return found.t()

        kind = result_type("multinomial", dtype, None, True)
        return self._vectors(
            "multinomial", size, shares.clip(0, 1), kind, vectors, k, split, device, comm, per=1
        )

    @_documented
    def multivariate_hypergeometric(
        self,
        colors,
        nsample,
        size=None,
        method="marginals",
        dtype=None,
        *,
        split=None,
        device=None,
        comm=None,
    ) -> DNDarray:
        """Draw how a sample without replacement falls into k colours.

        Parameters
        ----------
        colors : array_like of int, shape (k,)
            How many things there are of each colour, 2**50 in all at most. Held by every rank.
        nsample : int
            How many are taken.
        {size}
        method : {"marginals", "count"}
            Accepted as in NumPy; the numbers are the same.
        {integers}

        Returns
        -------
        DNDarray
            Of shape (*size, k); vectors add up to `nsample`.

        Raises
        ------
        ValueError
            If `colors` are not whole numbers of at least 0, `nsample` is larger than their sum or `method` unknown.
        LayoutError
            If `colors` is not a vector.

        Notes
        -----
        *Distribution*: no message for replicated `colors`. One hypergeometric variate per colour, of what the ones
        before have left (see :meth:`hypergeometric`).
        """
        op = "multivariate_hypergeometric"
        things = _vector(op, "colors", colors)
        if not ((things >= 0) & (things == np.floor(things))).all() or things.sum() > 2.0**50:
            raise ValueError(f"{op}: colors must be whole numbers of at least 0 with a sum of at most 2**50")
        taken = in_range(op, "nsample", nsample, 1 << 51)
        if taken > things.sum():
            raise ValueError(f"{op}: nsample must be at most the sum of colors, got {nsample}")
        if method not in ("marginals", "count"):
            raise ValueError(f"{op}: method must be marginals or count, got {method!r}")
        k = len(things)
        others = np.append(np.cumsum(things[::-1])[::-1][1:], 0.0)

        def vectors(trials: Trials, both: torch.Tensor) -> torch.Tensor:
            left = torch.full((trials.count,), float(taken), dtype=torch.float64, device=trials.device)
            found = left.new_empty(k, trials.count)
            for j in range(k - 1):
                good, bad = both[0, j : j + 1], both[1, j : j + 1]
                found[j] = hypergeometric_variate(trials.along(j), good, bad, left)
                left = left - found[j]
            found[k - 1] = left
            return found.t()

        kind = result_type(op, dtype, None, True)
        table = np.stack([things, others])
        return self._vectors(op, size, table, kind, vectors, k, split, device, comm, per=1)

    @_documented
    def multivariate_normal(
        self,
        mean,
        cov,
        size=None,
        check_valid="warn",
        tol=1e-8,
        *,
        method="svd",
        dtype=None,
        split=None,
        device=None,
        comm=None,
    ) -> DNDarray:
        """Draw normal vectors of a given mean and covariance.

        Parameters
        ----------
        mean : array_like of float, shape (k,)
            Held by every rank, as is `cov`.
        cov : array_like of float, shape (k, k)
            Symmetric, positive semi-definite.
        {size}
        check_valid : {"warn", "raise", "ignore"}
            What happens where `cov` is not positive semi-definite within `tol`.
        tol : float
            Tolerance of that check.
        method : {"svd", "eigh", "cholesky"}
            How the factor of `cov` is found.
        {floats}

        Returns
        -------
        DNDarray
            Of shape (*size, k).

        Raises
        ------
        LayoutError
            If the shapes do not fit.
        ValueError
            If `cov` is no covariance and `check_valid` is "raise", or an option is unknown.

        Notes
        -----
        *Distribution*: the factor is found on one rank and sent to all (8 k**2 bytes, after a word on whether there is
        one), as processors of different kinds may round it differently. Standard normal vectors times the factor:
        their products may differ in the last digits between numbers of ranks.
        """
        op = "multivariate_normal"
        centre = _vector(op, "mean", mean)
        k = len(centre)
        matrix = _replicated(cov)
        if matrix.shape != (k, k):
            raise LayoutError(f"{op}: cov must have the shape {(k, k)}, got {matrix.shape}")
        factor = _shared_factor(matrix, method, check_valid, tol, self._comm(comm))

        def vectors(trials: Trials, table: torch.Tensor) -> torch.Tensor:
            z = torch.empty(trials.count, dtype=torch.float64, device=trials.device)
            fill_range(z, normal(torch.float64), trials.key, trials.runs, trials.first, 1)
            return torch.addmm(table[0], z.view(-1, k), table[1:])

        kind = result_type(op, dtype, None, False)
        table = np.concatenate([centre[None], factor])
        return self._vectors(op, size, table, kind, vectors, k, split, device, comm)

    def _vectors(self, op, size, table, kind, vectors, k, split, device, comm, per=None) -> DNDarray:
        """Make an array of vectors of length `k`.

        ``vectors(trials, table)`` returns whole vectors, float64 of shape (rows, k), for trials of `per` elements per
        vector (`k` unless given); `table` holds what the distribution needs, float64 on every rank.
        """
        per = k if per is None else per
        shape = (*(() if size is None else normalize_shape(size, op)), k)
        split = normalize_split(split, len(shape), op)
        place, comm = sanitize_device(device).torch_device, self._comm(comm)
        layout = Layout.even(shape, split, comm.size)
        out = DNDarray(torch.empty(layout.lshape(comm.rank), dtype=kind.torch, device=place), layout, comm)
        key, table = self._next_key(), torch.as_tensor(table, dtype=torch.float64).to(place)
        is_cut = split == len(shape) - 1
        own = layout.slices(comm.rank)[-1]
        start, _, length, stride = runs_of(
            Layout(shape[:-1], None) if is_cut else layout.drop((len(shape) - 1,)), comm.rank
        )
        runs = (start * per, max(length, 1) * per, stride * per)
        rows = out.larray.view(math.prod(out.lshape[:-1]), out.lshape[-1])
        for first, count in tiles(len(rows) * per, per, place):
            made = vectors(Trials(key, runs, first, count, place), table)
            rows[first // per : (first + count) // per] = made[:, own]
        return out


def _replicated(value: object) -> np.ndarray:
    return np.asarray(value.numpy() if isinstance(value, DNDarray) else value, dtype=np.float64)


def _vector(op: str, argument: str, value: object) -> np.ndarray:
    """Return `value` as float64 of shape (k,), k > 0, on every rank; a split array is gathered."""
    vector = _replicated(value)
    if vector.ndim != 1 or not vector.size:
        raise LayoutError(
            f"{op}: {argument} must be a vector with at least one entry, got shape {vector.shape}"
        )
    return vector


def _shared_factor(cov: np.ndarray, method: str, check_valid: str, tol: float, comm) -> np.ndarray:
    """Return the first rank's A with ``A.T @ A = cov`` on every rank. One bcast, and one word to agree."""
    op = "multivariate_normal"
    if method not in ("svd", "eigh", "cholesky"):
        raise ValueError(f"{op}: method must be svd, eigh or cholesky, got {method!r}")
    if check_valid not in ("warn", "raise", "ignore"):
        raise ValueError(f"{op}: check_valid must be warn, raise or ignore, got {check_valid!r}")
    if comm.size == 1:
        return _factor(cov, method, check_valid, tol)
    factor, error = np.empty_like(cov), None
    if comm.rank == 0:
        try:
            factor = np.ascontiguousarray(_factor(cov, method, check_valid, tol))
        except ValueError as found:  # linear algebra that fails is one of them
            error = found
    comm.agree(error)
    return comm.bcast(factor)


def _factor(cov: np.ndarray, method: str, check_valid: str, tol: float) -> np.ndarray:
    """Return A with ``A.T @ A = cov``."""
    op = "multivariate_normal"
    if method == "cholesky":
        try:
            return np.linalg.cholesky(cov).T
        except np.linalg.LinAlgError:
            raise ValueError(
                f"{op}: cov must be positive definite for the Cholesky factorisation; use method='svd'"
            ) from None
    values, columns = np.linalg.eigh((cov + cov.T) / 2)
    if method == "svd":
        _, sizes, right = np.linalg.svd(cov)
        factor = np.sqrt(sizes)[:, None] * right
    else:
        factor = np.sqrt(np.abs(values))[:, None] * columns.T
    scale = max(1.0, float(np.abs(values).max()))
    is_valid = np.allclose(cov, cov.T, rtol=tol, atol=tol) and (values >= -tol * scale).all()
    if not is_valid and check_valid == "raise":
        raise ValueError(f"{op}: cov must be symmetric and positive semi-definite")
    if not is_valid and check_valid == "warn":
        text = f"{op}: cov must be symmetric and positive semi-definite"
        warnings.warn(text, RuntimeWarning, stacklevel=5)
    return factor
