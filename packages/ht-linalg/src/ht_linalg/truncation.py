"""What an approximate SVD is asked for, and the choices every route makes alike. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import torch


@dataclass(frozen=True, slots=True)
class Truncation:
    """How many singular triplets are wanted.

    Parameters
    ----------
    op : str
        Name of the public function, for messages.
    rtol : float or None
        Bound of the relative error in the Frobenius norm; None for a fixed rank.
    maxrank : int or None
        Upper bound of the rank.
    """

    op: str
    rtol: float | None
    maxrank: int | None

    def rank(self, energies: torch.Tensor, slack: float = 0.0) -> int:
        """Return the smallest rank that keeps the discarded energy within the bound (at least 1).

        Parameters
        ----------
        energies : torch.Tensor, shape (d,), float64
            Squared singular values as shares of their sum, largest first.
        slack : float
            Uncertainty of the shares' sums, kept off the budget.
        """
        full = energies.numel()
        rank = full
        if self.rtol is not None:
            budget = max(self.rtol**2 - slack, 0.0)
            rank = full - int((tails(energies)[:-1] <= budget).sum())
        return max(1, min(rank, full if self.maxrank is None else self.maxrank))


def tails(energies: torch.Tensor) -> torch.Tensor:
    """Return, for r = 0 .. d, the sum of all energies but the first r; summed from the small end."""
    sums = energies.clamp_min(0).flip(0).cumsum(0).flip(0)
    return torch.cat((sums, sums.new_zeros(1)))


def signs(v: torch.Tensor) -> torch.Tensor:
    """Return, per column, the unit number by which to divide so that the sign of a singular vector is fixed.

    The first entry that is at least half as large as the largest one becomes positive. (The largest entry
    itself would not do: where symmetry makes two entries equal in size, rounding would decide between them.)
    """
    if not v.shape[-2]:
        return v.new_ones((*v.shape[:-2], v.shape[-1]))
    size = v.abs()
    first = (size >= 0.5 * size.amax(dim=-2, keepdim=True)).to(torch.uint8).argmax(dim=-2, keepdim=True)
    entry = v.gather(-2, first)[..., 0, :]
    return torch.where(entry == 0, torch.ones_like(entry), entry / entry.abs())
