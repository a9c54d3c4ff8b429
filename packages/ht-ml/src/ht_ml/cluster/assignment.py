"""Nearest-centre assignment of local rows, in cache-sized tiles; knows tensors only, sends nothing.

For row x and centres c_j with common shift m (the mean of the centres)

    argmin_j |x - c_j|^2 = argmin_j  b_j - 2 x . e_j,     e_j = c_j - m,   b_j = |e_j|^2 + 2 m . e_j

so a tile costs one product with k rows and t columns: the minimum over the *outer* axis vectorises, and
the k x t scores never leave the cache. The shift keeps the rounding error proportional to |x| |e_j|
without touching the data.

A product's last bits depend on the library, the tile's shape and its address. Labels must not. So every score
carries an error bound tau: a row with more than one centre within tau of its minimum (or with none:
overflow) is *decided again*, first by a float64 product on the centred row, and at last by a sum in a
fixed order. Labels are therefore those of exact arithmetic up to float64 rounding, equal for any number
of ranks and any BLAS.
"""

from __future__ import annotations

import torch

from ..tiles import tile_rows

_EXACT_ELEMENTS = 1 << 20


class Assigner:
    """Find the nearest centre of each local row, re-using its scratch from call to call.

    Parameters
    ----------
    local : torch.Tensor, shape (n, d), float32 or float64
        This rank's rows; never copied or changed.
    k : int
        Number of centres.

    Attributes
    ----------
    is_finite : bool
        Whether the rows of the last call are finite; labels of rows that are not mean nothing.
    """

    def __init__(self, local: torch.Tensor, k: int) -> None:
        self.local = local
        self.k = k
        n = local.shape[0]
        options = {"dtype": local.dtype, "device": local.device}
        self.tile = tile_rows(k, local.device, 2)  # k x t scores in the cache
        width = min(self.tile, max(n, 1))
        self._scores = torch.empty((k, width), **options)
        self._minimum = torch.empty(width, **options)
        # Times the marks of the minimal centres: k + j for one centre j, at least 2 k for several.
        self._codes = torch.arange(k, 2 * k, **options)
        self._found = torch.empty(n, **options)
        self._norms: list[float] | None = None
        self.is_finite = True

    def keep_norms(self) -> None:
        """Compute the largest row norm of each tile once, for callers that assign the same rows many
        times."""
        self._norms = [self._norm(block) for block in self.local.split(self.tile)]

    @staticmethod
    def _norm(block: torch.Tensor) -> float:
        return float(torch.linalg.vector_norm(block, dim=1).amax()) if block.numel() else 0.0

    def assign(self, centres: torch.Tensor) -> torch.Tensor:
        """Return the index of the nearest centre of each row, shape (n,), as numbers of the data's dtype.

        Parameters
        ----------
        centres : torch.Tensor, shape (k, d), float64
            Values that the data's dtype can hold.

        Returns
        -------
        torch.Tensor, shape (n,)
            A view of scratch that the next call overwrites. Ties go to the lowest index.
        """
        labels = self._found
        if self.k == 1 or not self.local.numel():
            self.is_finite = all(bool(torch.isfinite(block).all()) for block in self.local.split(self.tile))
            return labels.zero_()
        shift = centres.mean(0)
        offsets = centres - shift
        bias = offsets.square().sum(1) + 2.0 * (offsets @ shift)
        dtype = self.local.dtype
        factors, column = (-2.0 * offsets).to(dtype), bias.to(dtype).unsqueeze(1)
        largest_bias = float(bias.abs().amax())
        largest_offset = 2.0 * float(torch.linalg.vector_norm(offsets, dim=1).amax())
        start = 0
        for number, block in enumerate(self.local.split(self.tile)):
            stop = start + block.shape[0]
            norm = self._norms[number] if self._norms is not None else self._norm(block)
            self._assign_tile(
                block, factors, column, largest_bias + norm * largest_offset, labels[start:stop]
            )
            start = stop
        doubtful = (labels.sub_(self.k) >= self.k).nonzero().squeeze(1)
        self.is_finite = True
        if doubtful.numel():  # a row that is not finite has no minimum, so it is here
            self.is_finite = bool(torch.isfinite(self.local.index_select(0, doubtful)).all())
            labels[doubtful] = decide(self.local, doubtful, centres, shift).to(dtype)
        return labels

    def _assign_tile(self, block, factors, column, largest: float, out) -> None:
        """Write k + label to `out`, or at least 2 k where the products leave a doubt.

        `largest` bounds the magnitude of the scores; (d + 4) eps times it bounds the error of two of them.
        """
        limits = torch.finfo(block.dtype)
        if not largest < 0.25 * limits.max:  # NaN, infinity, or products that might overflow
            out.fill_(2 * self.k)
            return
        scores, minimum = self._scores[:, : block.shape[0]], self._minimum[: block.shape[0]]
        torch.addmm(column, factors, block.T, out=scores)
        torch.amin(scores, 0, out=minimum)
        minimum.add_(limits.eps * (block.shape[1] + 4) * largest)
        scores.le_(minimum)
        torch.mv(scores.T, self._codes, out=out)


def decide(
    local: torch.Tensor, rows: torch.Tensor, centres: torch.Tensor, shift: torch.Tensor
) -> torch.Tensor:
    """Return the nearest centres of a few doubtful rows, shape (m,), int64; ties go to the lowest index."""
    answer = torch.empty(rows.numel(), dtype=torch.int64, device=local.device)
    offsets = centres - shift
    bias = offsets.square().sum(1, keepdim=True)
    k, d = centres.shape
    largest = float(bias.sqrt().amax())
    step = max(1, _EXACT_ELEMENTS // max(k, d))
    for start in range(0, rows.numel(), step):
        block = local.index_select(0, rows[start : start + step]).to(torch.float64).sub_(shift)
        scores = torch.addmm(bias, offsets, block.T, alpha=-2.0)
        minimum = scores.amin(0)
        norm = float(torch.linalg.vector_norm(block, dim=1).amax())
        tau = torch.finfo(torch.float64).eps * (d + 8) * (largest * largest + 2.0 * norm * largest)
        near = scores <= minimum + tau
        part = near.to(torch.uint8).argmax(0)
        doubtful = (near.sum(0) != 1).nonzero().squeeze(1)
        if doubtful.numel():
            part[doubtful] = _decide_in_order(block[doubtful], offsets)
        answer[start : start + step] = part
    return answer


def _decide_in_order(block: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    """Return the nearest centres of centred float64 rows by sums over the features in one fixed order."""
    k, d = offsets.shape
    answer = torch.empty(block.shape[0], dtype=torch.int64, device=block.device)
    step = max(1, _EXACT_ELEMENTS // k)
    for start in range(0, block.shape[0], step):
        part = block[start : start + step]
        total = torch.zeros((part.shape[0], k), dtype=torch.float64, device=block.device)
        difference = torch.empty_like(total)
        for f in range(d):
            # Separate elementwise steps: no reduction, no fused rounding, hence no dependence on the
            # position.
            torch.sub(part[:, f : f + 1], offsets[:, f], out=difference)
            total += difference.mul_(difference)
        answer[start : start + step] = total.argmin(1)  # the first of equals
    return answer
