"""Means and centred products of the columns of a table, from one pass over the rows and one allreduce.

Each rank centres its own rows around its own mean, so nothing cancels; the message carries the ranks'
means in slots that the others leave zero (a sum of zeros is a gather), and the ranks' products are merged
as

    C = sum_r C_r + sum_r n_r (m_r - m)(m_r - m)^T.

Knows tensors and a communicator; not what the products are for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from ht_linalg.gram import add_square

from .rows import Rows
from .tiles import spans, tile_rows

#: Of float32 products: rows of a tile at most, which of its rows name its mean, and tiles merged at a time.
_NARROW_ROWS, _SAMPLED, _TILES = 2048, 16, 64


@dataclass(frozen=True, slots=True)
class Covariance:
    """Merged products of all rows, equal on every rank, float64 on the CPU.

    Attributes
    ----------
    n : float
        Number of rows, or the sum of their weights.
    mean : numpy.ndarray, shape (m,)
    products : numpy.ndarray, shape (m, m)
        Sum over the rows of w (x - mean)(x - mean)^T.
    """

    n: float
    mean: np.ndarray
    products: np.ndarray

    @property
    def is_finite(self) -> bool:
        """Whether no rank holds NaN, infinity or squares that overflow."""
        return bool(np.isfinite(self.n) and np.isfinite(self.mean).all() and np.isfinite(self.products).all())


def covariance(
    rows: Rows,
    target: torch.Tensor | None = None,
    weights: torch.Tensor | None = None,
    *,
    is_narrow: bool = False,
) -> Covariance:
    """Return means and centred products of the features, and of targets as the last columns.

    Parameters
    ----------
    rows : Rows
    target : torch.Tensor, shape (local rows,) or (local rows, t), float64, optional
    weights : torch.Tensor, shape (local rows,), float64, optional
    is_narrow : bool
        Form the products of float32 features, without target or weights, in float32 within tiles of at most 2048
        centred rows, and add the tiles in float64: twice as fast. An entry is then wrong by about 1e-7 of the
        product of the two columns' norms.

    *Distribution*: one allreduce of m (m + 1) / 2 + p (m + 1) numbers for m columns and p ranks.
    """
    n, mean, products = _local_narrow(rows.local) if is_narrow else _local(rows, target, weights)
    m, comm = mean.shape[0], rows.comm
    upper = np.triu_indices(m)
    message = np.zeros(upper[0].size + comm.size * (m + 1))
    slots = message[upper[0].size :].reshape(comm.size, m + 1)
    message[: upper[0].size] = products[upper]
    slots[comm.rank, 0], slots[comm.rank, 1:] = n, mean
    if weights is not None and bool((weights < 0).any()):
        message.fill(np.nan)  # every rank has to learn of it, and this message is sent anyway
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        message = comm.allreduce(message, out=message)
        slots = message[upper[0].size :].reshape(comm.size, m + 1)
        counts, means = slots[:, :1], slots[:, 1:]
        total = float(counts.sum())
        mean = (counts * means).sum(0) / total if comm.size > 1 else means[0].copy()
        products = np.zeros((m, m))
        products[upper] = message[: upper[0].size]
        products += np.triu(products, 1).T
        offsets = means - mean
        products += (counts * offsets).T @ offsets
    return Covariance(total, mean, products)


def _local(rows: Rows, target, weights) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the weight, means and centred products of the local rows."""
    n, d = rows.local.shape
    if target is not None and target.dim() == 1:
        target = target.unsqueeze(1)
    m = d if target is None else d + target.shape[1]
    device = rows.local.device
    products = torch.zeros((m, m), dtype=torch.float64, device=device)
    first = torch.zeros(m, dtype=torch.float64, device=device)
    total = float(n) if weights is None else float(weights.sum())
    if n == 0 or total == 0.0:
        return total, first.cpu().numpy(), products.cpu().numpy()
    step = min(n, max(256, tile_rows(m, device)))
    scratch = torch.empty((step, m), dtype=torch.float64, device=device)
    reference: torch.Tensor | None = None
    for span in spans(n, step):
        tile = scratch[: span.stop - span.start]
        tile[:, :d].copy_(rows.local[span])
        if target is not None:
            tile[:, d:] = target[span]
        if reference is None:
            reference = tile.mean(0)
        tile.sub_(reference)
        if weights is None:
            first += tile.sum(0)
        else:
            first += weights[span] @ tile
            tile.mul_(weights[span].sqrt().unsqueeze(1))
        add_square(products, tile)
    first /= total
    products -= total * torch.outer(first, first)
    return total, (first + reference).cpu().numpy(), products.cpu().numpy()


def _local_narrow(local: torch.Tensor) -> tuple[float, np.ndarray, np.ndarray]:
    """Return the number, means and centred products of float32 rows, from float32 products of centred tiles.

    Each tile is shifted by the mean of every 16th of its rows. However the rows lie, that is close enough: what the
    shift misses adds at most 16 times the tile's own variance, and is taken off again in float64.
    """
    n, d = local.shape
    products = torch.zeros((d, d), dtype=torch.float64, device=local.device)
    first = torch.zeros(d, dtype=torch.float64, device=local.device)
    if n == 0:
        return 0.0, first.cpu().numpy(), products.cpu().numpy()
    step = min(n, max(256, min(_NARROW_ROWS, tile_rows(d, local.device))))
    scratch, ones = local.new_empty((step, d)), local.new_ones(step)
    reference: torch.Tensor | None = None
    found: list[tuple[int, torch.Tensor, torch.Tensor]] = []
    for span in spans(n, step):
        block = local[span]
        shift = block[::_SAMPLED].mean(0)
        tile = torch.sub(block, shift, out=scratch[: block.shape[0]])
        add_square(products, tile)
        found.append((block.shape[0], shift, ones[: block.shape[0]] @ tile))
        if len(found) == _TILES or span.stop == n:
            counts = first.new_tensor([[count] for count, _, _ in found])
            shifts, left = (torch.stack(part).double() for part in list(zip(*found))[1:])
            left /= counts
            reference = shifts[0] if reference is None else reference
            offsets = shifts - reference + left
            products += (counts * offsets).T @ offsets - (counts * left).T @ left
            first += (counts * offsets).sum(0)
            found.clear()
    first /= n
    products -= n * torch.outer(first, first)
    return float(n), (first + reference).cpu().numpy(), products.cpu().numpy()
