"""The Gram matrix of a local block, tile by tile, and the products that go with it.

Tall blocks are read once per pass, in tiles whose products stay in cache, into scratch that is reused.
Nothing here communicates.
"""

from __future__ import annotations

import os

import numpy as np
import torch

# NumPy's BLAS does half the work for a product with its own transpose and is quicker with few columns. It has threads
# of its own, which torch's budget does not reach: it is used only where the environment has set them to one.
_NUMPY = os.environ.get("OPENBLAS_NUM_THREADS", os.environ.get("OMP_NUM_THREADS")) == "1"

#: dtype in which sums over rows are kept.
WIDE = {
    torch.float32: torch.float64,
    torch.float64: torch.float64,
    torch.complex64: torch.complex128,
    torch.complex128: torch.complex128,
}

#: Rows of a tile. On the CPU two thousand run at the speed of a full product, and the fewer they are, the less
#: rounding there is in a product of single precision; on a device a tile must be large enough to fill it.
TILE_ROWS = {"cpu": 2048, "cuda": 65536}


def tiles(rows: int, device: torch.device) -> list[slice]:
    """Return slices that cover `rows` rows."""
    step = TILE_ROWS.get(device.type, 65536)
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def gram(x: torch.Tensor, wide: bool) -> torch.Tensor:
    """Return the Gram matrix of the columns of `x`, summed over rows.

    Parameters
    ----------
    x : torch.Tensor, shape (n, d)
        Floating or complex; n may be 0. Any strides.
    wide : bool
        Whether products within a tile are formed in double precision as well.

    Returns
    -------
    torch.Tensor, shape (d, d), float64 or complex128
        ``x.mH @ x``. With ``wide=False`` a single-precision product is rounded once per tile, and the
        tiles are added in double precision: relative error about 2^-24 at most, whatever n.
    """
    d, target = x.shape[1], WIDE[x.dtype]
    total = x.new_zeros((d, d), dtype=target)
    if x.dtype == target:
        add_square(total, x)
        return total
    scratch = None
    for rows in tiles(x.shape[0], x.device):
        tile = x[rows]
        if wide:
            scratch = _copied(tile, scratch, target)
            add_square(total, scratch[: tile.shape[0]])
        else:
            add_square(total, tile)
    return total


def _is_for_numpy(x: torch.Tensor) -> bool:
    return _NUMPY and x.device.type == "cpu" and not x.is_complex()


def add_square(total: torch.Tensor, tile: torch.Tensor) -> None:
    """Add ``tile.mH @ tile``, formed in the dtype of `tile`, to `total`."""
    if _is_for_numpy(tile):
        rows = tile.detach().numpy()
        with np.errstate(invalid="ignore", over="ignore"):  # refused where the merged products are looked at
            total += torch.from_numpy(rows.T @ rows)
    elif tile.dtype == total.dtype:
        total.addmm_(tile.mH, tile)
    else:
        total += torch.mm(tile.mH, tile)


def product(x: torch.Tensor, w: torch.Tensor, with_gram: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return ``y = x @ w`` and the Gram matrix of the y that was computed, in one pass over `x`.

    Parameters
    ----------
    x : torch.Tensor, shape (n, d)
    w : torch.Tensor, shape (d, r), dtype of x
    with_gram : bool
        Without it None is returned in place of the Gram matrix.

    Returns
    -------
    y : torch.Tensor, shape (n, r), dtype of x
    gram : torch.Tensor, shape (r, r), float64 or complex128
    """
    r = w.shape[1]
    y = x.new_empty((x.shape[0], r))
    if not with_gram and _is_for_numpy(x):
        with np.errstate(invalid="ignore", over="ignore"):
            np.matmul(x.detach().numpy(), w.numpy(), out=y.numpy())
        return y, None
    # BLAS kernels work on blocks of 8 columns; columns beyond the last full block cost up to twice as much
    padded = torch.nn.functional.pad(w, (0, -r % 8))
    total = x.new_zeros((padded.shape[1],) * 2, dtype=WIDE[x.dtype])
    scratch, square = None, torch.empty_like(total, dtype=x.dtype)
    for rows in tiles(x.shape[0], x.device):
        size = rows.stop - rows.start
        scratch = x.new_empty((size, padded.shape[1])) if scratch is None else scratch
        tile = torch.mm(x[rows], padded, out=scratch[:size])
        y[rows] = tile[:, :r]
        if with_gram:
            total += torch.mm(tile.mH, tile, out=square)
    return y, total[:r, :r].contiguous() if with_gram else None


def times(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """Return ``x @ w`` for few vectors w, which costs what reading x costs: by the library that reads faster."""
    if _is_for_numpy(x) and 1 in x.stride():
        return torch.from_numpy(x.detach().numpy() @ w.detach().numpy())
    return x @ w


def solve_with_gram(x: torch.Tensor, r: torch.Tensor, keep: bool) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Return ``y = x @ inv(r)`` for an upper triangular r, and the Gram matrix of y, in one pass over `x`.

    Rows are solved for, not multiplied with an explicit inverse: the residual ``x - y r`` then stays at
    rounding level however ill-conditioned r is.

    Parameters
    ----------
    x : torch.Tensor, shape (n, d)
    r : torch.Tensor, shape (d, d), dtype of x
    keep : bool
        Whether y is wanted; otherwise None is returned in its place and no memory of its size is used.
    """
    y = x.new_empty(x.shape) if keep else None
    total = x.new_zeros(r.shape, dtype=WIDE[x.dtype])
    scratch = torch.empty_like(r)
    for rows in tiles(x.shape[0], x.device):
        tile = torch.linalg.solve_triangular(r, x[rows], upper=True, left=False)
        total += torch.mm(tile.mH, tile, out=scratch)
        if y is not None:
            y[rows] = tile
    return y, total


def multiply_in_place(y: torch.Tensor, c: torch.Tensor) -> torch.Tensor:
    """Set ``y = y @ c`` for a square c, with one tile of scratch, and return y."""
    scratch = None
    for rows in tiles(y.shape[0], y.device):
        scratch = _copied(y[rows], scratch, y.dtype)
        torch.mm(scratch[: rows.stop - rows.start], c, out=y[rows])
    return y


def _copied(tile: torch.Tensor, scratch: torch.Tensor | None, dtype: torch.dtype) -> torch.Tensor:
    """Return `scratch` with `tile` in its first rows; made to the tile's size on the first call."""
    if scratch is None:
        scratch = tile.new_empty(tile.shape, dtype=dtype)
    scratch[: tile.shape[0]].copy_(tile)
    return scratch
