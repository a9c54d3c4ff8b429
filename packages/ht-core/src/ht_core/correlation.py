"""Covariance and correlation matrices: a weighted mean and one product, each combined in one allreduce."""

from __future__ import annotations

import torch

from . import types
from .dndarray import DNDarray, _cast
from .engines.elementwise import as_operand, common_comm
from .engines.redistribution import redistribute
from .errors import DTypeError, LayoutError
from .layout import Layout
from .registry import register

#: Observations that are centred at a time.
_ROWS = 1 << 12


def cov(
    m: object,
    y: object = None,
    rowvar: bool = True,
    bias: bool = False,
    ddof: float | None = None,
    fweights: object = None,
    aweights: object = None,
    *,
    dtype: object = None,
) -> DNDarray:
    """Return the covariance matrix of variables from observations.

    *Distribution*: replicated result. Observations split over ranks: two allreduces, of d + 2 numbers (means) and of
    d x d numbers; no copy of the data. Variables split over ranks: one redistribution, which moves each element once,
    to split the observations instead.

    Parameters
    ----------
    m : array_like
        Variables in rows and observations in columns; one variable where 1-D.
    y : array_like, optional
        More variables.
    rowvar : bool
        False: observations are in rows.
    bias : bool
        Divide by n, not by n - 1.
    ddof : int, optional
        Divide by n - ddof, whatever `bias`.
    fweights, aweights : array_like, optional
        1-D, not negative: how often each observation occurs (integers), and how reliable it is.
    dtype : dtype, optional
        Of the result; at least float64 by default.

    Returns
    -------
    DNDarray
        Of shape (d, d); 0-D for a single variable. NaN or infinite where there are not more than ddof observations.

    Raises
    ------
    LayoutError
        If the arrays have more than two dimensions or weights do not fit.
    DTypeError, ValueError
        If weights are not integers where they must be, or negative.

    Examples
    --------
    >>> ht.cov(ht.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]], split=1)).numpy().tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    if ddof is not None and ddof != int(ddof):
        raise ValueError(f"cov: ddof must be an integer, got {ddof}")
    ddof = (0 if bias else 1) if ddof is None else ddof
    arrays = [a for a in (m, y, fweights, aweights) if isinstance(a, DNDarray)]
    comm = common_comm(arrays, "cov")
    device = arrays[0].larray.device if arrays else torch.device("cpu")
    m = as_operand(m, comm, device, "cov")
    y = None if y is None else as_operand(y, comm, device, "cov")
    for a in (m, y):
        if a is not None and a.ndim > 2:
            raise LayoutError(f"cov: arrays must have at most 2 dimensions, got {a.ndim}")
    if dtype is None:
        dtype = types.result_type(*(a.dtype for a in (m, y) if a is not None), types.float64)
    dtype = types.canonical(dtype)
    parts = [_observations(a, rowvar) for a in (m, y) if a is not None]
    layout = next((a.layout for a in parts if a.split == 0), parts[0].layout)
    n = parts[0].shape[0]
    if any(a.shape[0] != n for a in parts):
        raise LayoutError(
            f"cov: arrays must have the same number of observations, got {[a.shape[0] for a in parts]}"
        )
    if layout.split == 0:
        rows = Layout((n,), 0, layout.counts)
    else:
        rows = Layout.even((n,), 0 if any(a.split == 1 for a in parts) else None, comm.size)
    local = [_rows_of(a, rows) for a in parts]
    weights = _weights(fweights, aweights, rows, comm, device)
    result = _covariance(local, weights, rows, comm, ddof, dtype)
    return DNDarray(result, Layout(tuple(result.shape), None), comm)


def _observations(a: DNDarray, rowvar: bool) -> DNDarray:
    """Return `a` with observations in rows; a view."""
    if a.ndim < 2:
        local = a.larray.reshape(-1, 1)
        layout = Layout((a.size, 1), a.split, a.layout.counts)
        return DNDarray(local, layout, a.comm)
    return DNDarray(a.larray.T, a.layout.permute((1, 0)), a.comm) if rowvar else a


def _rows_of(a: DNDarray, rows: Layout) -> torch.Tensor:
    """Return this rank's observations, all variables of them."""
    return redistribute(a.larray, a.layout, Layout(a.shape, rows.split, rows.counts), a.comm)


def _weights(fweights, aweights, rows: Layout, comm, device) -> tuple:
    """Return the product of both weights of this rank's observations, and aweights; None where there are none."""
    found = []
    for weights, name in ((fweights, "fweights"), (aweights, "aweights")):
        if weights is None:
            found.append(None)
            continue
        weights = as_operand(weights, comm, device, "cov")
        if weights.shape != rows.shape:
            raise LayoutError(f"cov: {name} must have shape {rows.shape}, got {weights.shape}")
        if name == "fweights" and weights.dtype.kind not in "iu":
            raise DTypeError(f"cov: fweights must be integers, got {weights.dtype}; cast with astype")
        found.append(redistribute(weights.larray, weights.layout, rows, comm).double())
    f, a = found
    return (a if f is None else f if a is None else f * a), a


def _covariance(
    local: list[torch.Tensor], weights: tuple, rows: Layout, comm, ddof: int, dtype
) -> torch.Tensor:
    w, a = weights
    kind = dtype.torch
    wide = (
        kind
        if kind in (torch.float64, torch.complex128)
        else (torch.complex128 if kind.is_complex else torch.float64)
    )
    is_split = rows.split == 0 and comm.size > 1
    d = sum(x.shape[1] for x in local)
    n = local[0].shape[0]
    device = local[0].device
    sums = torch.zeros(d + 3, dtype=wide, device=device)
    tiles = range(0, n, _ROWS)
    for start in tiles:
        x, part = _tile(local, start, wide), None if w is None else w[start : start + _ROWS]
        sums[:d] += x.sum(0) if part is None else part.to(wide) @ x
    sums[d] = n if w is None else w.sum()
    sums[d + 1] = sums[d] if a is None else (w * a).sum()
    sums[d + 2] = 0 if w is None else (w < 0).any().double()
    sums = comm.allreduce(sums) if is_split else sums
    if w is not None and float(sums[d + 2].real) > 0:
        raise ValueError("cov: fweights and aweights must not be negative; drop these observations")
    total = sums[d].real
    mean = sums[:d] / total
    product = torch.zeros((d, d), dtype=wide, device=device)
    for start in tiles:
        x = _tile(local, start, wide) - mean
        y = x if w is None else x * w[start : start + _ROWS, None].to(wide)
        product.addmm_(y.T, x.conj())
    product = comm.allreduce(product) if is_split else product
    divisor = total - ddof * (sums[d + 1].real / total if a is not None else 1.0)
    result = product / divisor.clamp(min=0)
    result = _cast(result, kind)
    return result.reshape(()) if d == 1 else result


def _tile(local: list[torch.Tensor], start: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.cat([_cast(x[start : start + _ROWS], dtype) for x in local], dim=1)


def corrcoef(x: object, y: object = None, rowvar: bool = True, *, dtype: object = None) -> DNDarray:
    """Return the matrix of correlation coefficients, the covariances over the product of standard deviations.

    *Distribution*: as :func:`cov`.

    Parameters
    ----------
    x, y, rowvar, dtype
        As for :func:`cov`.

    Returns
    -------
    DNDarray
        Of shape (d, d), in [-1, 1]; 0-D for a single variable. NaN for constant variables.

    Examples
    --------
    >>> ht.corrcoef(ht.array([[0.0, 1.0, 2.0], [2.0, 1.0, 0.0]], split=1)).numpy().tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    c = cov(x, y, rowvar, dtype=dtype)
    local = c.larray
    if local.ndim == 0:
        return DNDarray(local / local, c.layout, c.comm)
    deviation = torch.sqrt(local.diagonal().real)
    local = local / deviation[:, None] / deviation[None, :]
    if local.is_complex():
        local = torch.complex(local.real.clamp(-1, 1), local.imag.clamp(-1, 1))
    else:
        local = local.clamp(-1, 1)
    return DNDarray(local, c.layout, c.comm)


for _function in (cov, corrcoef):
    register(
        _function,
        kind="correlation",
        numpy=_function.__name__,
        cost="Two allreduces, of the means and of the matrix; variables that are split are redistributed first.",
        method=False,
    )
