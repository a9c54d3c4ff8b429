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

from dataclasses import dataclass

import torch

from ..tiles import spans, tile_rows

_EXACT_ELEMENTS = 1 << 20


@dataclass(frozen=True, slots=True)
class Factors:
    """Centres in the form that products with rows need: -2 e_j, b_j, and bounds of |b_j| and 2 |e_j|."""

    shift: torch.Tensor
    offsets: torch.Tensor
    bias: torch.Tensor
    largest_bias: float
    largest_offset: float

    @classmethod
    def of(cls, centres: torch.Tensor, shift: torch.Tensor, dtype: torch.dtype) -> Factors:
        offsets = centres - shift
        bias = offsets.square().sum(1) + 2.0 * (offsets @ shift)
        largest_offset = 2.0 * float(torch.linalg.vector_norm(offsets, dim=1).amax())
        column = bias.to(dtype).unsqueeze(1)
        return cls(shift, (-2.0 * offsets).to(dtype), column, float(bias.abs().amax()), largest_offset)


class Assigner:
    """Find the nearest centre of each local row.

    Parameters
    ----------
    local : torch.Tensor, shape (n, d), float32 or float64
        This rank's rows; never copied or changed.
    k : int
        Number of centres.

    Attributes
    ----------
    labels : torch.Tensor, shape (n,), int64
        The labels of the last call; the next one overwrites them.
    is_finite : bool
        Whether the rows of the last call are finite; labels of rows that are not mean nothing.
    """

    def __init__(self, local: torch.Tensor, k: int) -> None:
        self.local, self.k = local, k
        n = local.shape[0]
        options = {"dtype": local.dtype, "device": local.device}
        self.tile = tile_rows(k, local.device)  # k x t scores in the cache
        width = min(self.tile, max(n, 1))
        self._scores = torch.empty((k, width), **options)
        self._minimum = torch.empty(width, **options)
        # Times the marks of the minimal centres: k + j for one centre j, at least 2 k for several.
        self._codes = torch.arange(k, 2 * k, **options)
        self.labels = torch.empty(n, dtype=torch.int64, device=local.device)
        self.is_finite = True

    def assign(self, centres: torch.Tensor) -> torch.Tensor:
        """Return the index of the nearest centre of each row, ties to the lowest: `labels`.

        Parameters
        ----------
        centres : torch.Tensor, shape (k, d), float64
            Values that the data's dtype can hold.
        """
        n = self.local.shape[0]
        self.is_finite = True
        if self.k == 1:
            self.is_finite = all(bool(torch.isfinite(self.local[span]).all()) for span in spans(n, self.tile))
            return self.labels.zero_()
        factors = Factors.of(centres, centres.mean(0), self.local.dtype)
        found = torch.empty(n, dtype=self.local.dtype, device=self.local.device)
        for span in spans(n, self.tile):
            block = self.local[span]
            norm = float(torch.linalg.vector_norm(block, dim=1).amax())
            if self._score(block, factors, norm) is None:
                found[span] = 2 * self.k
            else:
                marks = self._scores[:, : block.shape[0]].le_(self._minimum[: block.shape[0]])
                torch.mv(marks.T, self._codes, out=found[span])
        doubtful = self._settle(self.local, found, centres, factors.shift, self.labels)
        if doubtful is not None:  # a row that is not finite has no minimum, so it is among these
            self.is_finite = bool(torch.isfinite(self.local.index_select(0, doubtful)).all())
        return self.labels

    def _score(self, block: torch.Tensor, factors: Factors, norm: float) -> float | None:
        """Write the scores of a block, and their minimum plus tau, to scratch; return tau.

        `norm` bounds the rows' norms. The error of two scores together is below tau. Returns None for
        NaN, infinity, and where products might overflow.
        """
        limits, m = torch.finfo(block.dtype), block.shape[0]
        largest = factors.largest_bias + norm * factors.largest_offset
        if not largest < 0.25 * limits.max:
            return None
        tau = limits.eps * (block.shape[1] + 4) * largest
        scores, minimum = self._scores[:, :m], self._minimum[:m]
        torch.addmm(factors.bias, factors.offsets, block.T, out=scores)
        torch.amin(scores, 0, out=minimum)
        minimum.add_(tau)
        return tau

    def _settle(self, block, found, centres, shift, labels: torch.Tensor) -> torch.Tensor | None:
        """Turn codes into `labels` and return the rows of the block that had to be decided again, if any."""
        labels.copy_(found.sub_(self.k))
        doubtful = (found >= self.k).nonzero().squeeze(1)
        if not doubtful.numel():
            return None
        labels[doubtful] = decide(block, doubtful, centres, shift)
        return doubtful


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
