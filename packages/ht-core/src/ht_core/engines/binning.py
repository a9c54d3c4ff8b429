"""Engine of histograms: which bin each element of a rank's part lies in, and how many lie in each.

Tiles stay in cache. Even bins cost a multiplication for each element: only elements whose place is within rounding of
an edge are compared with the edges, which decide. This file knows no operation by name and sends nothing.
"""

from __future__ import annotations

import numpy as np
import torch

from .. import types

#: Elements of a tile: a few of them in float64 stay in the second-level cache.
TILE = 1 << 14
_DEVICE_TILE = 1 << 22
#: Tolerance, in bins, up to which float32 does: one element in five hundred is unsure, or fewer.
_FEW = 1e-3
#: Scales of bins between this and its inverse keep clear of the limits of float32.
_SMALL = 1e-30


def tiles(flat: torch.Tensor, least: int = 0) -> list[slice]:
    """Return the slices of `flat`, 1-D, that are worked on in turn, of at least `least` elements but the last."""
    size = max(TILE if flat.device.type == "cpu" else _DEVICE_TILE, least)
    return [slice(start, start + size) for start in range(0, flat.shape[0], size)]


def ordinary(x: torch.Tensor) -> torch.Tensor:
    """Return `x` in float64."""
    return x if x.is_complex() else x.double()


def bin_of(x: torch.Tensor, edges: torch.Tensor, is_even: bool) -> torch.Tensor:
    """Return the bin of each element, -1 outside; the last bin holds its right edge."""
    n = edges.numel() - 1
    if is_even:
        first, last = edges[0], edges[-1]
        index = ((x - first) * (n / (last - first))).nan_to_num(0.0, 0.0, 0.0).to(torch.int64).clamp(0, n - 1)
        # Rounding may miss by one bin: the edges decide.
        index -= (x < edges[index]).to(torch.int64)
        index += ((x >= edges[index + 1]) & (index != n - 1)).to(torch.int64)
    else:
        index = torch.searchsorted(edges, x.contiguous(), right=True) - 1
        index = torch.where(x == edges[-1], n - 1, index)
    return torch.where((x >= edges[0]) & (x <= edges[-1]), index, -1)


def weight_dtype(weights: torch.Tensor | None) -> torch.dtype:
    """Return the dtype in which `weights`, or elements where there are none, are added up."""
    if weights is None or weights.dtype in (torch.bool, *types.WIDE_UNSIGNED):
        return torch.int64
    return weights.dtype


def add_up(target: torch.Tensor, index: torch.Tensor, weights: torch.Tensor | None) -> None:
    """Add one, or the weights, to the places `index` of `target`."""
    if weights is None:
        target += torch.bincount(index, minlength=target.numel())
    else:
        target.index_add_(0, index, weights.to(target.dtype))


def count(
    flat: torch.Tensor, edges: np.ndarray, is_even: bool, is_inside: bool, weights: torch.Tensor | None
) -> torch.Tensor:
    """Return how many elements of this rank, or what weight, each bin holds.

    Parameters
    ----------
    flat : torch.Tensor
        1-D, real.
    edges : numpy.ndarray of shape (n + 1,)
        Increasing.
    is_even : bool
        The edges are evenly spaced, each rounded to its dtype.
    is_inside : bool
        No element lies outside the edges, or is NaN.
    weights : torch.Tensor, optional
        Of the shape of `flat`.
    """
    n, device = max(len(edges) - 1, 0), flat.device
    slots = torch.zeros(n + 2, dtype=weight_dtype(weights), device=device)  # below, the bins, above
    if not n:
        return slots[:0]
    marks = torch.from_numpy(edges).to(device).double()
    fast = EvenBins(edges, is_inside, flat.dtype) if is_even and device.type == "cpu" else None
    for part in tiles(flat):
        if fast is not None and fast.is_usable:
            index = fast.slots(flat[part])
        else:
            index = bin_of(ordinary(flat[part]), marks, is_even) + 1
        add_up(slots, index, None if weights is None else weights[part])
    return slots[1:-1].clone()


class EvenBins:
    """Evenly spaced bins, as a linear function from values to places.

    The place of x is ``t = (x - first) * n / (last - first)``, and its bin the integer below. Rounding moves t by at
    most a few eps of the type of the computation times n, and an edge by half an eps of its dtype times its magnitude:
    where t is further than that from an integer, the bin is sure. The others, often few, are compared with the edge
    next to them.

    Parameters
    ----------
    edges : numpy.ndarray of shape (n + 1,)
    is_inside : bool
        No element lies outside the edges, or is NaN.
    dtype : torch.dtype
        Of the elements. The places of floating-point numbers of up to 32 bits are computed in float32 where that
        leaves few of them unsure.

    Attributes
    ----------
    is_usable : bool
        The tolerance is small against a bin.
    """

    def __init__(self, edges: np.ndarray, is_inside: bool, dtype: torch.dtype) -> None:
        self.n, self.is_inside = len(edges) - 1, is_inside
        self.first, last = float(edges[0]), float(edges[-1])
        with np.errstate(all="ignore"):
            self.scale = float(np.float64(self.n) / np.float64(last - self.first))
        largest = max(abs(self.first), abs(last)) * self.scale
        held = float(np.finfo(edges.dtype).eps) if edges.dtype.kind == "f" else 0.0
        narrow = self._near(2.0**-23, held, largest)
        is_narrow = dtype.is_floating_point and dtype.itemsize <= 4 and narrow < _FEW
        # Far from where float32 overflows or loses bits.
        is_narrow = is_narrow and _SMALL < self.scale < 1 / _SMALL and largest / self.scale < 1 / _SMALL
        self.near = narrow if is_narrow else self._near(2.0**-52, held, largest)
        self.is_usable = 0 < self.scale < np.inf and bool(self.near < 1 / 64)
        self._edges = edges.astype(np.float64)
        work = np.float32 if is_narrow else np.float64
        self._place, self._gap = np.empty(TILE, work), np.empty(TILE, work)
        self._index = torch.empty(TILE, dtype=torch.int32)

    def _near(self, eps: float, held: float, largest: float) -> float:
        return 4 * (max(eps, held) * largest + eps * self.n)

    def slots(self, x: torch.Tensor) -> torch.Tensor:
        """Return one more than the bin of each element, int32: 0 below, n + 1 above; NaN is below.

        The memory is used again by the next call.
        """
        size = x.shape[0]
        place, gap, index = self._place[:size], self._gap[:size], self._index[:size]
        torch.from_numpy(place).copy_(x)
        with np.errstate(all="ignore"):
            place -= self.first
            place *= self.scale
            if not self.is_inside:
                np.fmax(place, -0.5, out=place)
                np.fmin(place, self.n + 0.5, out=place)
            np.rint(place, out=gap)
            gap -= place
            np.abs(gap, out=gap)
            where = np.flatnonzero(gap <= self.near)
            nearest = np.rint(place[where]).astype(np.intp)
            place += 1.0
            index.copy_(torch.from_numpy(place))
        if len(where):
            exact = ordinary(x[torch.from_numpy(where)]).numpy()
            edge = self._edges[nearest]
            # The last bin holds its right edge, and the others do not.
            is_over = np.where(nearest == self.n, exact > edge, exact >= edge)
            index.numpy()[where] = nearest + is_over
        return index
