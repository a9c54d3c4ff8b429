"""Sums of rows whose bits do not depend on the order of addition, hence not on the number of ranks.

Every summand is first rounded to a grid of spacing 2^-s, chosen so coarse that no partial sum needs more
than the 53 bits of a float64: then each addition is exact, addition is associative, and rows can be added
and taken away again for ever without drift. The grid follows from the global moments: by Cauchy and
Schwarz, any partial sum of |w x| is at most W (|mean| + sigma). Rounding costs one part in 2^51 of that
bound per row, i.e. at most 5e-10 sigma per row at a million rows.

Pre-rounding as in J. Demmel and H. D. Nguyen, "Fast reproducible floating-point summation", ARITH 21 (2013),
doi:10.1109/ARITH.2013.9.
"""

from __future__ import annotations

import torch

from .tiles import spans, tile_rows


class RowSums:
    """Sums and weights of rows by label, kept exactly for this rank.

    Parameters
    ----------
    local : torch.Tensor, shape (n, d)
        This rank's rows; never copied or changed.
    weights : torch.Tensor, shape (n,), float64, or None
        Weights of the rows.
    moments : torch.Tensor, shape (2 d + 1,), float64
        The merged moments of all ranks.
    k : int
        Number of labels.

    Attributes
    ----------
    packed : torch.Tensor, shape (k (d + 1) + 1,), float64
        The sums (k x d), the weights (k) and the number of labels that the last update changed: one message.
    """

    def __init__(
        self, local: torch.Tensor, weights: torch.Tensor | None, moments: torch.Tensor, k: int
    ) -> None:
        n, d = local.shape
        self.local, self.k = local, k
        self._magic = rounding_constant(moments)
        self._weights = None if weights is None else round_weights(weights, moments)
        self.packed = torch.zeros(k * (d + 1) + 1, dtype=torch.float64, device=local.device)
        self.sums, self.totals, self._changed = unpack(self.packed, k, d)
        self._tile = tile_rows(d, local.device)
        self._scratch = torch.empty((min(self._tile, n), d), dtype=torch.float64, device=local.device)
        self._ones = torch.ones(self._scratch.shape[0], dtype=torch.float64, device=local.device)
        self.labels = torch.full((n,), -1, dtype=torch.int64, device=local.device)

    def update(self, found: torch.Tensor) -> int:
        """Move the rows whose label differs from the last call's to their new label; return their number.

        Parameters
        ----------
        found : torch.Tensor, shape (n,), int64
            The new labels.
        """
        differs = found != self.labels
        count = int(differs.count_nonzero())
        self._changed.fill_(count)
        if 3 * count >= self.labels.numel():  # to add a row costs a third of moving it
            self.labels.copy_(found)
            self._add_all()
        elif count:
            moved = differs.nonzero().squeeze(1)
            new = found[moved]
            self._move(moved, self.labels[moved], new)
            self.labels[moved] = new
        return count

    def _add_all(self) -> None:
        self.sums.zero_()
        self.totals.zero_()
        for span in spans(self.labels.numel(), self._tile):
            weight = None if self._weights is None else self._weights[span]
            self._add(self.local[span], weight, self.labels[span], None)

    def _move(self, rows: torch.Tensor, old: torch.Tensor, new: torch.Tensor) -> None:
        for span in spans(rows.numel(), self._tile):
            part = rows[span]
            weight = None if self._weights is None else self._weights[part]
            self._add(self.local.index_select(0, part), weight, new[span], old[span])

    def _add(
        self, block: torch.Tensor, weight: torch.Tensor | None, new: torch.Tensor, old: torch.Tensor | None
    ) -> None:
        tile = self._scratch[: block.shape[0]].copy_(block)
        if weight is not None:
            tile.mul_(weight.unsqueeze(1))
        tile.add_(self._magic).sub_(self._magic)
        weight = self._ones[: block.shape[0]] if weight is None else weight
        self.sums.index_add_(0, new, tile)
        self.totals.index_add_(0, new, weight)
        if old is not None:
            self.sums.index_add_(0, old, tile.neg_())  # a factor alpha would leave the fast path
            self.totals.index_add_(0, old, -weight)


def unpack(packed: torch.Tensor, k: int, d: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return views (k x d sums, k weights, number of changed labels) of a packed message."""
    return packed[: k * d].view(k, d), packed[k * d : k * (d + 1)], packed[-1]


def _grid(bound: torch.Tensor) -> torch.Tensor:
    """Return 1.5 * 2^(e + 1) with 2^e >= bound: adding and subtracting it rounds to multiples of 2^(e -
    51)."""
    # 1.1 keeps the step from one grid to the next away from the powers of two that standardised data
    # would sit on.
    _, exponent = torch.frexp((1.1 * bound).clamp_(min=1e-290))
    return torch.ldexp(torch.full_like(bound, 3.0), exponent.to(bound.dtype))


def rounding_constant(moments: torch.Tensor) -> torch.Tensor:
    """Return each feature's rounding constant for weighted rows, shape (d,), from the merged moments."""
    d = moments.numel() // 2
    n, mean, m2 = moments[0], moments[1 : d + 1], moments[d + 1 :]
    return _grid(n * (mean.abs() + (m2 / n).sqrt()))


def round_weights(weights: torch.Tensor, moments: torch.Tensor) -> torch.Tensor:
    """Return the weights on the grid on which their sums are exact."""
    magic = _grid(moments[:1])
    return (weights + magic).sub_(magic)
