"""Polar decomposition of matrices of any shape and layout."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from ht_core import DNDarray
from ht_core.layout import Layout
from ht_core.random import default_rng

from .columns import adjoint, as_stack, dealt, is_whole, map_matrices, moved
from .errors import LinAlgError
from .matmul import matmul
from .one_rank import alone, told
from .qdwh import global_norm, qdwh
from .qr import qr

#: Up to this many columns one rank decomposes the square factor, by its singular values; 26 n^3 flops at the speed of
#: LAPACK are no slower than the iteration's 40 n^3 / p on up to four ranks.
SMALL_POLAR, SMALL_POLAR_ON_FEW = 512, 2048


class Polar(NamedTuple):
    """Result of :func:`polar`: ``a = U @ H`` (side "right") or ``a = H @ U`` (side "left")."""

    U: DNDarray
    H: DNDarray


def polar(
    a: object, side: str = "right", *, calcH: bool = True, condition_estimate: float | None = None
) -> Polar | DNDarray:
    """Return the polar decomposition: a factor U with orthonormal columns (or rows), and a Hermitian H.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
    side : {"right", "left"}
        ``a = U @ H`` with H of shape (..., n, n), or ``a = H @ U`` with H of shape (..., m, m).
    calcH : bool
        Return H, too.
    condition_estimate : float, optional
        About the condition number of `a`; saves a step or two in the iteration. By default nothing is assumed.

    Returns
    -------
    Polar(U, H), or U alone
        U (..., m, n), H positive semidefinite. Of a matrix without full rank, U is one of several.

    *Distribution*: U is split as `a`. Stacks are split along a leading axis, and need no message if they are so
    already. A matrix that is split and not square is brought to a square one by :func:`ht_linalg.qr`. One rank
    decomposes a square matrix of up to 512 rows (2048 on up to four ranks), n^2 words each way; it holds about five
    such matrices for that time. A larger one is iterated on where it lies, see :func:`ht_linalg.qdwh.qdwh`: six steps,
    40 n^3 / p flops, no rank holds more than eight times its part. H has the layout of a square `a`; else it is
    replicated up to 512 rows, and split as `a` above.

    Raises
    ------
    ValueError
        If `side` is unknown or `condition_estimate` is below 1.
    LayoutError
        If `a` has fewer than two axes.
    LinAlgError
        If `a` is not finite; on every rank. (A matrix of a stack gives NaN instead.)

    References
    ----------
    Y. Nakatsukasa, Z. Bai, F. Gygi, Optimizing Halley's iteration for computing the matrix polar decomposition, 2010,
    doi:10.1137/090774999: both the distance of U from unitary and the backward error are at rounding level.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> a = ht.array([[0.0, 2.0], [3.0, 0.0]], split=0)
    >>> U, H = ht_linalg.polar(a)
    >>> (abs(U).numpy().round(6) + 0.0).tolist(), (H.numpy().round(6) + 0.0).tolist()
    ([[0.0, 1.0], [1.0, 0.0]], [[3.0, 0.0], [0.0, 2.0]])
    """
    a = as_stack("polar", "a", a)
    if side not in ("right", "left"):
        raise ValueError(f'polar: side must be "right" or "left", got {side!r}')
    if condition_estimate is not None and not condition_estimate >= 1:
        raise ValueError(f"polar: condition_estimate must be at least 1, got {condition_estimate}")
    if a.ndim > 2 and not is_whole(a):
        a = dealt(a)
    if is_whole(a):
        return _whole(a, side, calcH)
    if a.shape[0] < a.shape[1]:
        other = "left" if side == "right" else "right"
        found = polar(adjoint(a), other, calcH=calcH, condition_estimate=condition_estimate)
        return Polar(adjoint(found.U), found.H) if calcH else adjoint(found)
    if a.shape[0] == a.shape[1]:
        u, layout = _square(a, condition_estimate), a.layout
    else:
        q, r = qr(a)
        n = a.shape[1]
        u = moved(matmul(q, _square(r, condition_estimate)), a.layout)
        side_rows = n if side == "right" else a.shape[0]
        layout = Layout.even((side_rows,) * 2, a.split if side_rows > SMALL_POLAR else None, a.comm.size)
    if not calcH:
        return u
    product = matmul(adjoint(u), a) if side == "right" else matmul(a, adjoint(u))
    return Polar(u, _hermitian(moved(product, layout)))


def _square(a: DNDarray, condition: float | None) -> DNDarray:
    """Return the unitary factor of a square matrix in its layout."""
    n, comm = a.shape[0], a.comm
    if n <= (SMALL_POLAR_ON_FEW if comm.size <= 4 else SMALL_POLAR):
        return _on_one_rank(a)
    rows = moved(a, a.layout if a.split == 0 else Layout.even(a.shape, 0, comm.size))
    scale = global_norm(rows.larray, comm)
    if math.isinf(scale):
        raise LinAlgError("polar: a must be finite, got NaN, infinity or overflow; divide a by its maximum")
    eps = torch.finfo(a.larray.dtype).eps
    # The Frobenius norm is at most sqrt(n) times the largest singular value
    low = eps / 8 if condition is None else max(eps / 8, 1 / (condition * math.sqrt(n)))
    u = qdwh(DNDarray(rows.larray / scale, rows.layout, comm), low) if scale else None
    if u is None:
        u = qdwh(_perturbed(rows, scale), eps / (100 * n))
    if u is None:
        raise LinAlgError("polar: the iteration must converge, which it did not")
    return moved(u, a.layout)


def _perturbed(a: DNDarray, scale: float) -> DNDarray:
    """Return a / scale with random noise at rounding level, which makes a singular matrix a regular one."""
    eps, shape = torch.finfo(a.larray.dtype).eps, a.shape
    kind = "float32" if a.larray.real.dtype == torch.float32 else "float64"
    noise = default_rng(1, comm=a.comm).standard_normal(shape, kind, split=0, device=a.device, comm=a.comm)
    noise = moved(noise, a.layout).larray * (eps / math.sqrt(shape[0]))
    return DNDarray((a.larray / scale if scale else a.larray) + noise, a.layout, a.comm)


def _on_one_rank(a: DNDarray) -> DNDarray:
    """Return the unitary factor of a small square matrix in its layout."""
    comm, there = a.comm, alone(a.shape, 0, a.comm.size)
    if not a.shape[0]:
        return a
    local = moved(a, there).larray
    u = _unitary(local)[0] if comm.rank == 0 else local
    if a.split is None:
        u = told(u if comm.rank == 0 else local.new_empty(a.shape), 0, comm)
        failed, result = bool(torch.isnan(u[:1, :1]).any()), DNDarray(u, a.layout, comm)
    else:
        result = moved(DNDarray(u, there, comm), a.layout)
        failed = bool(torch.isnan(told(u[:1, 0].real if comm.rank == 0 else u.new_empty(1).real, 0, comm)))
    if failed:
        raise LinAlgError("polar: a must be finite, got NaN or infinity")
    return result


def _unitary(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return U and the singular triplets of matrices; NaN for those that are not finite."""
    bad = ~torch.isfinite(x).flatten(-2).all(-1)[..., None, None]
    left, s, right = torch.linalg.svd(torch.where(bad, 0, x), full_matrices=False)
    nan = torch.where(bad, float("nan"), 1.0).to(s.dtype)
    return (left @ right) * nan, left, s * nan[..., 0], right


def _whole(a: DNDarray, side: str, calcH: bool) -> Polar | DNDarray:
    """Decompose matrices that are whole on their ranks."""
    u, left, s, right = _unitary(a.larray)
    if a.ndim == 2 and a.larray.numel() and bool(torch.isnan(u[0, 0])):
        raise LinAlgError("polar: a must be finite, got NaN or infinity")
    result = map_matrices(a, lambda _: u)
    if not calcH:
        return result
    if side == "right":
        return Polar(result, _stack_of(a, (right.mH * s[..., None, :]) @ right))
    return Polar(result, _stack_of(a, (left * s[..., None, :]) @ left.mH))


def _stack_of(a: DNDarray, h: torch.Tensor) -> DNDarray:
    """Return Hermitian matrices as an array split as `a`; along the only cut axis of a lone rank, as `a` is."""
    h = (h + h.mH) / 2
    if a.split is None or a.split < a.ndim - 2:
        return map_matrices(a, lambda _: h)
    return DNDarray(h, Layout.even(tuple(h.shape), a.split, 1), a.comm)


def _hermitian(h: DNDarray) -> DNDarray:
    """Return the Hermitian part; one redistribution where `h` is split."""
    return DNDarray((h.larray + moved(adjoint(h), h.layout).larray) / 2, h.layout, h.comm)
