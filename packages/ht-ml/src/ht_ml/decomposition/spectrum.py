"""Squared singular values and right singular vectors of the rows of a table: from products, from compressed rows, or
from a random sketch.

Small results are NumPy arrays in float64, equal on every rank. Knows nothing of estimators.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ht_core import DNDarray
from ht_core.layout import Layout
from ht_linalg import hsvd_rank, hsvd_rtol, rsvd

from ..covariance import Covariance, covariance
from ..moments import checked_moments, refuse_nonfinite, require_usable
from ..rows import Rows
from ..tiles import spans, tile_rows

#: Least ratio of the last wanted squared singular value to the first, and least mean square, for float32 products.
_NARROW, _TINY = 2.0**-10, 1e-25


@dataclass(frozen=True, slots=True)
class Spectrum:
    """What the rows of a table amount to.

    Attributes
    ----------
    squares : numpy.ndarray, shape (k,)
        Squared singular values, largest first.
    vectors : numpy.ndarray, shape (k, d)
        Right singular vectors as rows.
    moments : torch.Tensor, shape (2 d + 1,), float64
        Number of rows, mean and sum of squares about the mean of each feature, as `ht_ml.moments` packs them.
    """

    squares: np.ndarray
    vectors: np.ndarray
    moments: torch.Tensor

    @property
    def mean(self) -> np.ndarray:
        """Mean of each feature, shape (d,)."""
        return self.moments[1 : self.moments.numel() // 2 + 1].numpy()

    @property
    def total(self) -> float:
        """Sum of all squares about the mean."""
        return float(self.moments[self.moments.numel() // 2 + 1 :].sum())


def from_covariance(
    op: str, rows: Rows, kept: Spectrum | None = None, leading: int | None = None
) -> Spectrum:
    """Return all d singular values of the centred rows, those below 1e-8 of the largest being uncertain.

    Parameters
    ----------
    op : str
        The caller, for error texts.
    rows : Rows
    kept : Spectrum, optional
        What is known of earlier rows, which take part as `rows_of` them.
    leading : int, optional
        How many singular values are wanted. Those of a float32 table on CPUs are then found from float32 products,
        unless the last of them is below 1/32 of the largest: at that bound its square is wrong by about 5e-6 of
        itself.

    *Distribution*: one allreduce of about d^2 / 2 numbers. With `leading`, for a float32 table, one more of one
    number, and the first again if the products have to be formed again.
    """
    if leading is not None and rows.local.dtype == torch.float32 and rows.local.device.type == "cpu":
        narrow = covariance(rows, is_narrow=True)
        found = _of_products(narrow) if narrow.is_finite else None
        # Squares of tiny numbers vanish in float32, those of huge ones overflow.
        is_enough = found is not None and found.squares[0] > narrow.n * _TINY
        is_enough = is_enough and found.squares[leading - 1] >= _NARROW * found.squares[0]
        flag = torch.tensor([not is_enough], dtype=torch.int32)
        if not int(
            rows.comm.allreduce(flag, op="max")
        ):  # processors may differ in the last bits of eigenvalues
            return found
    merged = covariance(rows)
    if not merged.is_finite:
        refuse_nonfinite(op)
    return _of_products(merged, kept)


def _of_products(merged: Covariance, kept: Spectrum | None = None) -> Spectrum:
    products = merged.products
    moments = torch.from_numpy(np.concatenate([[merged.n], merged.mean, np.diagonal(products)]))
    if kept is not None:
        earlier = rows_of(kept, moments)
        products = products + earlier.T @ earlier
    # torch keeps to this rank's share of the cores; NumPy's LAPACK does not.
    squares, vectors = (part.numpy() for part in torch.linalg.eigh(torch.from_numpy(products)))
    return Spectrum(np.clip(squares[::-1], 0.0, None), vectors[:, ::-1].T, moments)


def from_rows(
    op: str,
    rows: Rows,
    rank: int,
    rtol: float | None = None,
    kept: Spectrum | None = None,
    centred: bool = True,
) -> Spectrum:
    """Return the leading singular values of the rows, compressed by QR to at most d on each rank.

    Parameters
    ----------
    op, rows, kept
        As `from_covariance`.
    rank : int
        How many singular values are wanted at most.
    rtol : float, optional
        Relative error in the Frobenius norm at which fewer do.
    centred : bool
        Whether the mean is taken off.

    *Distribution*: one allreduce of 2 d + 1 numbers, then the messages of ``ht_linalg.hsvd_rank``.
    """
    moments = merged_moments(op, rows)
    d = rows.d
    mean = moments[1 : d + 1].to(rows.local.device)
    local = _compressed(rows.local, mean if centred else torch.zeros_like(mean))
    counts = [min(count, d) for count in rows.layout.counts]
    if kept is not None:
        earlier = rows_of(kept, moments)
        if rows.start == 0 and rows.comm.rank == 0:
            local = torch.cat([local, torch.from_numpy(earlier).to(local.device)])
        counts = [counts[0] + len(earlier), *counts[1:]] if counts else counts
    if rows.comm.size > 1:
        table = DNDarray(local, Layout((sum(counts), d), 0, tuple(counts)), rows.comm)
    else:
        table = DNDarray(local, Layout.replicated(tuple(local.shape)), rows.comm)
    if not _is_nonzero(moments, centred, kept):
        limit = min(rank, d)  # all rows are equal: any orthonormal vectors do
        return Spectrum(np.zeros(limit), np.eye(limit, d), moments)
    rank = min(rank, *table.shape)
    found = (
        hsvd_rank(table, rank, compute_sv=True)
        if rtol is None
        else hsvd_rtol(table, rtol, compute_sv=True, maxrank=rank)
    )
    return Spectrum(found.S.numpy().astype(np.float64) ** 2, found.V.numpy().T, moments)


def from_sketch(
    op: str, rows: Rows, rank: int, *, oversamples: int, passes: int, seed: int, centred: bool = True
) -> Spectrum:
    """Return the leading singular values of the rows, found by ``ht_linalg.rsvd`` in the dtype of the rows.

    *Distribution*: one allreduce of 2 d + 1 numbers, then the messages of ``ht_linalg.rsvd``. With `centred` it
    holds a centred copy of the local rows.
    """
    moments = merged_moments(op, rows)
    local = rows.local
    if not _is_nonzero(moments, centred, None):
        return Spectrum(np.zeros(rank), np.eye(rank, rows.d), moments)
    if centred:
        local = local - moments[1 : rows.d + 1].to(device=local.device, dtype=local.dtype)
    found = rsvd(rows.table(local), rank, oversamples, passes, random_state=seed)
    values, vectors = (part.resplit(None).larray.to(torch.float64).cpu() for part in (found.S, found.V))
    return Spectrum(values.numpy() ** 2, vectors.numpy().T, moments)


def merged_moments(op: str, rows: Rows) -> torch.Tensor:
    """Return the packed moments of all rows, on the CPU, refusing data that are not finite.

    *Distribution*: one allreduce of 2 d + 1 numbers.
    """
    moments = rows.comm.allreduce(checked_moments(rows.local, None), op="moments")
    require_usable(op, moments, weighted=False)
    return moments.cpu()


def rows_of(kept: Spectrum, moments: torch.Tensor) -> np.ndarray:
    """Return k + 1 rows with the products that earlier rows add to centred new ones, shape (k + 1, d).

    The last one stands for the distance of the two means: n m / (n + m) times its square is what the common mean
    leaves over.
    """
    n, m = float(kept.moments[0]), float(moments[0])
    offset = kept.mean - moments[1 : moments.numel() // 2 + 1].numpy()
    return np.vstack([np.sqrt(kept.squares)[:, None] * kept.vectors, np.sqrt(n * m / (n + m)) * offset])


def with_signs(vectors: np.ndarray) -> np.ndarray:
    """Return the rows with signs such that each one's entry of largest magnitude is positive."""
    if not vectors.size:
        return vectors
    magnitude = np.abs(vectors)
    # Entries equal up to rounding: the first decides, for any number of ranks.
    first = (magnitude >= magnitude.max(axis=1, keepdims=True) * (1.0 - 1e-9)).argmax(axis=1)
    signs = np.sign(vectors[np.arange(len(vectors)), first])
    return vectors * np.where(signs == 0.0, 1.0, signs)[:, None]


def _is_nonzero(moments: torch.Tensor, centred: bool, kept: Spectrum | None) -> bool:
    """Return whether the rows that are to be decomposed hold anything but zeros."""
    d = moments.numel() // 2
    if bool((moments[d + 1 :] != 0.0).any()):
        return True
    if not centred:
        return bool((moments[1 : d + 1] != 0.0).any())
    return kept is not None and bool((rows_of(kept, moments) != 0.0).any())


def _compressed(local: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Return at most d rows with the singular values and right singular vectors of the rows less `mean`, float64."""
    n, d = local.shape
    if n <= d:
        return local.to(torch.float64) - mean
    triangle = None
    for span in spans(n, max(2 * d, tile_rows(d, local.device))):
        tile = local[span].to(torch.float64) - mean
        stacked = tile if triangle is None else torch.cat([triangle, tile])
        triangle = torch.linalg.qr(stacked, mode="r").R
    return triangle
