"""What is computed between two rows: tiles of distances and kernels of local rows. Nothing here communicates.

A metric is bound to this rank's rows of X once (:func:`bind`), then faces one block of Y after the other and fills
tiles of values between some rows of both.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch

#: Elements of a tile: on a CPU it stays in the cache of a core.
_TILE = {"cpu": (256, 1024)}
_DEVICE_TILE = (4096, 16384)
#: Numbers that one recomputation of single pairs holds at once.
_PAIRS = 1 << 18

#: A squared distance below this part of both squared norms (about the mean of X) is computed from differences.
#: The rest has a relative error of at most 2 (d + 2) eps / limit, with eps that of the products.
_NEAR = {
    (torch.float32, False): 2.0**-22,  # products in float64: rounding to float32 dominates
    (torch.float64, False): 2.0**-10,
    (torch.float32, True): 2.0**-8,
    (torch.float64, True): 2.0**-24,
}


def spans(n: int, step: int) -> Iterator[slice]:
    """Yield slices of at most `step` that cover n rows."""
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def tile_shape(x: torch.Tensor) -> tuple[int, int]:
    """Return rows of X and rows of Y of a tile."""
    rows, columns = _TILE.get(x.device.type, _DEVICE_TILE)
    return (rows, columns) if x.itemsize <= 4 else (rows, columns // 2)


class BoundMetric(ABC):
    """A metric and this rank's rows of X."""

    x: torch.Tensor
    y: torch.Tensor

    @abstractmethod
    def face(self, y: torch.Tensor) -> None:
        """Take the rows of Y that the following tiles are about, shape (m, d)."""

    @abstractmethod
    def fill(self, out: torch.Tensor, rows: slice, columns: slice) -> None:
        """Write the values between ``x[rows]`` and ``y[columns]`` to `out`, any strides with unit last one."""


def row_squares(x: torch.Tensor) -> torch.Tensor:
    """Return the squared norms of rows, shape (n, 1)."""
    return torch.linalg.vecdot(x, x).unsqueeze(1)


def pair_squares(x: torch.Tensor, y: torch.Tensor, i: torch.Tensor, j: torch.Tensor) -> torch.Tensor:
    """Return the squared distances of rows i of x and rows j of y, from differences, as float64.

    The value of a pair does not depend on which other pairs are asked for.
    """
    out = torch.empty(i.shape[0], dtype=torch.float64, device=x.device)
    for part in spans(i.shape[0], max(_PAIRS // max(x.shape[1], 1), 16)):
        difference = x.index_select(0, i[part]).sub_(y.index_select(0, j[part])).square_()
        torch.sum(difference, dim=1, dtype=torch.float64, out=out[part])
    return out


class Squares(BoundMetric):
    """Squared Euclidean distances as products of tiles, corrected where products lose digits.

    With rows (-2 x, x.x, 1) and (y, 1, y.y) one product gives x.x - 2 x.y + y.y. Its error is that of a sum whose terms
    add up to 2 (x.x + y.y), so that pairs much closer than their norms are computed again from differences; equal rows
    are at distance 0. Norms are taken about the mean of this rank's rows of X: any point will do, and an offset of the
    data costs no digits.
    """

    def __init__(self, x: torch.Tensor, quadratic: bool, finish: Callable[[torch.Tensor], object]) -> None:
        self.x, self._finish = x, finish
        self._limit = _NEAR[x.dtype, quadratic]
        self._dtype = x.dtype if quadratic else torch.float64
        shift = x.mean(dim=0, dtype=self._dtype)  # NaN without rows
        self._shift = torch.where(shift.isfinite(), shift, 0)
        self._left, self.x_squares = self._factors(x, -2)
        self._scratch = x.new_empty(0, dtype=self._dtype)

    def _factors(self, rows: torch.Tensor, scale: int) -> tuple[torch.Tensor, torch.Tensor]:
        n, d = rows.shape
        factors = rows.new_empty((n, d + 2), dtype=self._dtype)
        values = torch.sub(rows, self._shift, out=factors[:, :d])
        squares = row_squares(values)
        at, one = (d, d + 1) if scale != 1 else (d + 1, d)
        factors[:, at : at + 1] = squares
        factors[:, one] = 1
        values.mul_(scale)
        return factors, squares

    def face(self, y: torch.Tensor) -> None:
        self.y = y
        self._right, self.y_squares = self._factors(y, 1)

    def products(self, rows: slice, columns: slice, out: torch.Tensor | None = None) -> torch.Tensor:
        """Return the squared distances of a tile as the products give them: a scratch, or `out` where it will do."""
        if out is None or out.dtype != self._dtype:
            shape = rows.stop - rows.start, columns.stop - columns.start
            if self._scratch.numel() < math.prod(shape):
                self._scratch = self._scratch.new_empty(math.prod(shape))
            out = self._scratch[: math.prod(shape)].view(shape)
        return torch.mm(self._left[rows], self._right[columns].T, out=out)

    def fill(self, out: torch.Tensor, rows: slice, columns: slice) -> None:
        tile = self.products(rows, columns, out)
        self._correct(tile, rows, columns)
        if tile is not out:
            out.copy_(tile)
        self._finish(out)

    def _correct(self, tile: torch.Tensor, rows: slice, columns: slice) -> None:
        """Compute the pairs again that are so close, or so large, that the products do not say how far."""
        x_squares, y_squares = self.x_squares[rows], self.y_squares[columns]
        least = self._limit * (x_squares[:, 0] + y_squares.amax())
        close = (~(tile.amin(dim=1) >= least)).nonzero().squeeze(1)
        if not close.shape[0]:
            return
        x, y = self.x[rows][close], self.y[columns]
        i, j = (~(tile[close] >= self._limit * (x_squares[close] + y_squares.T))).nonzero(as_tuple=True)
        if 4 * i.shape[0] > tile.numel():
            tile[close] = _differences(x, y, 2.0).square_().to(tile.dtype)
        else:
            tile[close[i], j] = pair_squares(x, y, i, j).to(tile.dtype)


class PerTile(BoundMetric):
    """A function of two tables of rows; tiles are what it returns."""

    def __init__(
        self, x: torch.Tensor, function: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    ) -> None:
        self.x, self._function = x, function

    def face(self, y: torch.Tensor) -> None:
        self.y = y

    def fill(self, out: torch.Tensor, rows: slice, columns: slice) -> None:
        out.copy_(self._function(self.x[rows], self.y[columns]))


class Directions(Squares):
    """Cosine distances: half the squared distance of rows of length 1. Equal rows are at distance 0."""

    def __init__(self, x: torch.Tensor) -> None:
        super().__init__(directions(x, 0), False, lambda tile: tile.mul_(0.5).clamp_(max=2))

    def face(self, y: torch.Tensor) -> None:
        super().face(directions(y, 1))


class Similarities(BoundMetric):
    """Cosine similarities."""

    def __init__(self, x: torch.Tensor) -> None:
        self.x = directions(x)

    def face(self, y: torch.Tensor) -> None:
        self.y = directions(y)

    def fill(self, out: torch.Tensor, rows: slice, columns: slice) -> None:
        torch.mm(self.x[rows], self.y[columns].T, out=out).clamp_(-1, 1)


def directions(x: torch.Tensor, side: int | None = None) -> torch.Tensor:
    """Return the rows scaled to length 1; rows of zeros stay.

    With `side` (0 or 1) two columns are added in which rows of zeros point away from all others and from those of the
    other side: their squared distance to every row is 2.
    """
    scale = x.abs().amax(dim=1, keepdim=True) if x.shape[1] else x.new_zeros((x.shape[0], 1))
    x = x / torch.where(scale > 0, scale, 1)  # squares neither overflow nor vanish
    size = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    x /= torch.where(size > 0, size, 1)
    if side is None:
        return x
    extra = x.new_zeros((x.shape[0], 2))
    extra[:, side] = size[:, 0] == 0
    return torch.cat((x, extra), dim=1)


def _differences(x: torch.Tensor, y: torch.Tensor, p: float) -> torch.Tensor:
    return torch.cdist(x, y, p=p, compute_mode="donot_use_mm_for_euclid_dist")


def _bell(scale: float) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda tile: tile.mul_(-scale).exp_()


#: name -> function of (rows of X, gamma, quadratic) that binds the metric.
METRICS: dict[str, Callable[[torch.Tensor, float, bool], BoundMetric]] = {
    "euclidean": lambda x, gamma, quadratic: Squares(x, quadratic, torch.Tensor.sqrt_),
    "sqeuclidean": lambda x, gamma, quadratic: Squares(x, quadratic, lambda tile: tile),
    "manhattan": lambda x, gamma, quadratic: PerTile(x, lambda a, b: _differences(a, b, 1.0)),
    "cosine": lambda x, gamma, quadratic: Directions(x),
    "cosine_similarity": lambda x, gamma, quadratic: Similarities(x),
    "linear": lambda x, gamma, quadratic: PerTile(x, lambda a, b: a @ b.T),
    "rbf": lambda x, gamma, quadratic: Squares(x, quadratic, _bell(gamma)),
    "laplacian": lambda x, gamma, quadratic: PerTile(x, lambda a, b: _bell(gamma)(_differences(a, b, 1.0))),
}


def check_metric(op: str, metric: object) -> None:
    """Refuse what is neither the name of a metric nor a function.

    Raises
    ------
    ValueError
    """
    if not callable(metric) and metric not in METRICS:
        raise ValueError(f"{op}: metric must be one of {', '.join(METRICS)} or a function, got {metric!r}")


def bind(metric: object, x: torch.Tensor, gamma: float = 1.0, quadratic: bool = False) -> BoundMetric:
    """Return a metric, one of :data:`METRICS` or a function of two tables of rows, bound to rows of X."""
    return PerTile(x, metric) if callable(metric) else METRICS[metric](x, gamma, quadratic)
