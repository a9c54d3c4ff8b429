"""Count, mean and centred second moment of local rows in one pass over cache-sized tiles; sends nothing.

Packed as ``[n, mean_0..mean_{d-1}, M2_0..M2_{d-1}]`` in float64, the form that
``allreduce(op="moments")`` merges. A NaN or an infinity in the data makes the moments of its feature
non-finite on every rank, which is how estimators refuse such data without a further message.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NoReturn

import torch

from .tiles import spans, tile_rows, wide_row

_TINY = torch.finfo(torch.float64).tiny


def local_moments(local: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Return the packed moments of the local rows.

    Each tile is converted to float64 in one re-used scratch and shifted by a mean that is already close,
    so that the sums of squares do not cancel. Tiles are merged by the pairwise update of Chan, Golub and
    LeVeque, "Algorithms for computing the sample variance", The American Statistician 37 (1983),
    doi:10.1080/00031305.1983.10483115.

    Parameters
    ----------
    local : torch.Tensor, shape (n, d), real
    weights : torch.Tensor, shape (n,), float64, optional
        Non-negative weights of the rows; n is then their sum.

    Returns
    -------
    torch.Tensor, shape (2 d + 1,), float64
    """
    return _pass(local, weights, None)[0]


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass tells of the local rows.

    Attributes
    ----------
    packed : torch.Tensor, shape (2 d + 1,), float64
        The packed moments.
    reference : torch.Tensor, shape (d,), float64
        A point near the rows; zeros where there are none.
    squares : torch.Tensor, shape (n,), dtype of the rows
        Squared distances of the rows to the reference, rounded once.
    """

    packed: torch.Tensor
    reference: torch.Tensor
    squares: torch.Tensor


def survey(local: torch.Tensor, weights: torch.Tensor | None = None) -> Survey:
    """Return the moments of the local rows and how far each lies from a point near them, from one pass."""
    squares = torch.empty(local.shape[0], dtype=local.dtype, device=local.device)
    packed, reference = _pass(local, weights, squares)
    return Survey(_spoiled_by(weights, packed), reference, squares)


def _pass(local: torch.Tensor, weights, squares: torch.Tensor | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the packed moments and the point around which they were summed; fill `squares` where given."""
    n, d = local.shape
    packed = torch.zeros(2 * d + 1, dtype=torch.float64, device=local.device)
    total, mean, m2 = 0.0, packed[1 : d + 1], packed[d + 1 :]
    reference = torch.zeros_like(mean)
    if n == 0 or d == 0:
        packed[0] = n if weights is None else weights.sum()
        return packed, reference
    rows = min(tile_rows(d, local.device), n)
    scratch = torch.empty((rows, d), dtype=torch.float64, device=local.device)
    for span in spans(n, rows):
        tile = scratch[: span.stop - span.start].copy_(local[span])
        weight = None if weights is None else weights[span]
        if span.start == 0:
            torch.mean(tile, 0, out=reference)
            shift = wide_row(reference, rows)
        tile.sub_(shift if shift.ndim == 1 else shift[: tile.shape[0]])
        count, first, second = _tile_sums(tile, weight)
        if squares is not None:
            squares[span] = tile.sum(1)
        total = _merge(total, mean, m2, count, first, second)
    packed[0] = total
    mean += reference
    return packed, reference


def _tile_sums(tile: torch.Tensor, weight: torch.Tensor | None) -> tuple[float, torch.Tensor, torch.Tensor]:
    """Return the weight, mean and M2 of one shifted tile; the tile is left squared."""
    if weight is None:
        count = float(tile.shape[0])
        mean = tile.sum(0).div_(count)
        second = tile.square_().sum(0)
    else:
        count = float(weight.sum())
        mean = (weight @ tile).div_(count) if count else torch.zeros_like(tile[0])
        second = weight @ tile.square_()
    return count, mean, second.sub_(count * mean.square()).clamp_(min=0.0)


def _merge(total: float, mean: torch.Tensor, m2: torch.Tensor, count: float, first, second) -> float:
    """Merge one tile's moments into (total, mean, m2) in place and return the new total."""
    if count == 0.0:
        return total
    together = total + count
    difference = first - mean
    m2.add_(second).addcmul_(difference, difference, value=total * count / together)
    mean.add_(difference, alpha=count / together)
    return together


def class_moments(local: torch.Tensor, codes: torch.Tensor, k: int, weights: torch.Tensor | None = None):
    """Return the packed moments of the local rows of each of k classes.

    Parameters
    ----------
    local : torch.Tensor, shape (n, d), real
    codes : torch.Tensor, shape (n,), int64
        The class of each row, 0 to k - 1.
    k : int
    weights : torch.Tensor, shape (n,), float64, optional
        Non-negative weights of the rows.

    Returns
    -------
    torch.Tensor, shape (k, 2 d + 1), float64
        One record of `local_moments` per class, from one pass; NaN where a weight is negative.
    """
    n, d = local.shape
    packed = torch.zeros((k, 2 * d + 1), dtype=torch.float64, device=local.device)
    total, mean, m2 = packed[:, :1], packed[:, 1 : d + 1], packed[:, d + 1 :]
    scratch = torch.empty((min(tile_rows(d, local.device), n), d), dtype=torch.float64, device=local.device)
    for span in spans(n, max(scratch.shape[0], 1)):
        tile, code = scratch[: span.stop - span.start].copy_(local[span]), codes[span]
        weight = torch.ones_like(code, dtype=torch.float64) if weights is None else weights[span]
        count = torch.zeros_like(total).index_add_(0, code, weight[:, None])
        first = _class_sums(tile, code, k, None if weights is None else weight).div_(count.clamp(min=_TINY))
        second = _class_sums(
            tile.sub_(first.index_select(0, code)).square_(), code, k, None if weights is None else weight
        )
        together = (total + count).clamp_(min=_TINY)
        difference = first.sub_(mean)
        m2.add_(second).add_(difference.square() * (total * count / together))
        mean.add_(difference.mul_(count / together))
        total.add_(count)
    return _spoiled_by(weights, packed)


def _class_sums(tile: torch.Tensor, codes: torch.Tensor, k: int, weight) -> torch.Tensor:
    """Return the sum of the rows of each class, shape (k, d)."""
    sums = torch.zeros((k, tile.shape[1]), dtype=torch.float64, device=tile.device)
    return sums.index_add_(0, codes, tile if weight is None else tile * weight[:, None])


def squared_distances(local: torch.Tensor, labels: torch.Tensor, centres: torch.Tensor):
    """Yield (span, squared distances of these rows to their centres in float64), tile by tile."""
    for span in spans(local.shape[0], tile_rows(local.shape[1], local.device)):
        # A sum along each row: its bits do not depend on where the row lies.
        yield span, (local[span].to(torch.float64) - centres[labels[span]]).square_().sum(1)


def merge_classes(packed: torch.Tensor) -> torch.Tensor:
    """Return the packed moments of all classes together, shape (2 d + 1,), of records of shape (k, 2 d + 1)."""
    d = packed.shape[1] // 2
    counts, means, squares = packed[:, :1], packed[:, 1 : d + 1], packed[:, d + 1 :]
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total.clamp(min=_TINY)
    return torch.cat([total, mean, (squares + counts * (means - mean).square()).sum(0)])


def merge_moments(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Return the packed moments of two disjoint sets of rows."""
    out = first.clone()
    d = out.numel() // 2
    out[0] = _merge(
        float(first[0]), out[1 : d + 1], out[d + 1 :], float(second[0]), second[1 : d + 1], second[d + 1 :]
    )
    return out


def checked_moments(local: torch.Tensor, weights: torch.Tensor | None) -> torch.Tensor:
    """Return `local_moments`, not finite where a weight is negative: the message that follows tells every
    rank."""
    return _spoiled_by(weights, local_moments(local, weights))


def _spoiled_by(weights: torch.Tensor | None, packed: torch.Tensor) -> torch.Tensor:
    if weights is not None and bool((weights < 0).any()):
        packed.fill_(torch.nan)
    return packed


def require_usable(op: str, packed: torch.Tensor, *, weighted: bool) -> None:
    """Refuse merged moments of unusable data; every rank holds the same and raises alike.

    Raises
    ------
    ValueError
        If the data (or weights) held NaN or infinity, squares overflow, a weight is negative, or all
        weights are zero.
    """
    if not bool(torch.isfinite(packed).all()):
        what = "X and sample_weight (not negative)" if weighted else "X"
        refuse_nonfinite(op, what)
    if float(packed[0]) <= 0.0:
        raise ValueError(f"{op}: sample_weight must have a positive sum, got {float(packed[0])}")


def refuse_nonfinite(op: str, what: str = "X", dtype: torch.dtype = torch.float64) -> NoReturn:
    """Raise the error for data that are not finite, or whose squares are not in the dtype they are formed in."""
    limit = f"{math.sqrt(torch.finfo(dtype).max):.0e}"
    raise ValueError(
        f"{op}: {what} must be finite, got NaN, infinity or values beyond {limit}; drop or replace them"
    )
