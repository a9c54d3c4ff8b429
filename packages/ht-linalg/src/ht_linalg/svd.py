"""Singular value decomposition by a QR decomposition and a small dense one; what follows from it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from ht_core import DNDarray, broadcast_to, concatenate, expand_dims
from ht_core.errors import DTypeError, LayoutError
from ht_core.layout import Layout

from .arguments import as_dndarray, as_pair
from .columns import adjoint, as_stack, dealt, is_whole, map_matrices, moved
from .consensus import pack, tell, unpack
from .eigh import eigh, eigvalsh
from .errors import LinAlgError
from .matmul import matmul
from .one_rank import WHOLE_ON_ONE_RANK
from .polar import polar
from .qr import qr


class SVD(NamedTuple):
    """Result of :func:`svd`: ``a = (U * S) @ Vh``."""

    U: DNDarray
    S: DNDarray
    Vh: DNDarray


def svd(a: object, /, *, full_matrices: bool = True, compute_uv: bool = True) -> SVD | DNDarray:
    """Return the singular value decomposition ``a = U @ diag(S) @ Vh``.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
    full_matrices : bool
        Return all m columns of U and n rows of Vh instead of k = min(m, n).
    compute_uv : bool
        Return U and Vh, too.

    Returns
    -------
    SVD(U, S, Vh), or S alone
        S descending, of shape (..., k). The element of largest absolute value in each row of Vh (column of U where
        m < n) is positive real, so that the result does not depend on the number of ranks.

    *Distribution*: a matrix that is split and not wide is decomposed by :func:`ht_linalg.qr`, whose k x k factor up to
    k = 4096 moves to one rank, k^2 words, which decomposes it (it holds about five such matrices for that time) and
    broadcasts 2 k^2 words; a wide one is transposed. The longer of U and Vh is split as `a` is (or, with `a` cut along
    its shorter side, as :func:`ht_linalg.qr` leaves it), S and the shorter one are replicated. Above k = 4096 nothing
    but S is whole on a rank: the factor is decomposed by :func:`ht_linalg.polar` and :func:`ht_linalg.eigh`, 110 k^3 /
    p flops, and both U and Vh are split; signs are those of :func:`ht_linalg.eigh`. Stacks are split along a leading
    axis, and need no message if they are so already.

    Raises
    ------
    LayoutError
        If `a` has fewer than two axes.
    LinAlgError
        If the small decomposition does not converge (NaN in the data); on every rank.

    References
    ----------
    T. F. Chan, An improved algorithm for computing the singular value decomposition, 1982, doi:10.1145/355984.355990.
    Y. Nakatsukasa, N. J. Higham, Stable and efficient spectral divide and conquer algorithms for the symmetric
    eigenvalue decomposition and the SVD, 2013, doi:10.1137/120876605 (above 4096).

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> a = ht.array([[0.0, 3.0], [4.0, 0.0], [0.0, 0.0]], split=0)
    >>> ht_linalg.svd(a).S.numpy()
    array([4., 3.])
    """
    a = as_stack("svd", "a", a)
    if a.ndim > 2 and not is_whole(a):
        a = dealt(a)
    m, n = a.shape[-2:]
    if is_whole(a):
        return _whole(a, full_matrices, compute_uv)
    if m < n:
        found = svd(adjoint(a), full_matrices=full_matrices, compute_uv=compute_uv)
        return SVD(adjoint(found.Vh), found.S, adjoint(found.U)) if compute_uv else found
    if not compute_uv:
        return _small(qr(a, mode="r"), False)[1]
    q, r = qr(a, mode="complete" if full_matrices else "reduced")
    u, s, vh = _small(r[:n] if full_matrices else r, True)
    left = matmul(q[:, :n], u)
    if full_matrices and m > n:
        left = moved(concatenate([left, q[:, n:]], axis=1), q.layout)
    return SVD(left, s, vh)


def svdvals(x: object, /) -> DNDarray:
    """Return the singular values, descending.

    *Distribution*: as :func:`svd`, without the vectors.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.svdvals(ht.array([[0.0, 3.0], [4.0, 0.0]], split=0)).numpy()
    array([4., 3.])
    """
    return svd(x, compute_uv=False)


def pinv(a: object, /, *, rtol: object = None) -> DNDarray:
    """Return the Moore-Penrose pseudo-inverse.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
    rtol : float or array_like, shape (...), optional
        Singular values up to this share of the largest one count as zero; max(m, n) times the rounding unit by default.
        An array has one for each matrix of the stack, and is brought to its layout.

    *Distribution*: as :func:`svd`; the result is split as the adjoint of `a`.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.pinv(ht.array([[2.0], [0.0]], split=0)).numpy()
    array([[0.5, 0. ]])
    """
    a = as_stack("pinv", "a", a)
    if a.ndim > 2 and not is_whole(a):
        a = dealt(a)
    u, s, vh = svd(a, full_matrices=False)
    largest = s.larray.amax(-1, keepdim=True) if s.shape[-1] else s.larray
    zero = s.larray <= _tolerance("pinv", a, s, rtol) * largest
    inverse = torch.where(zero, torch.zeros_like(s.larray), 1 / torch.where(zero, 1, s.larray))
    v = adjoint(vh)
    result = matmul(DNDarray(v.larray * inverse[..., None, :], v.layout, a.comm), adjoint(u))
    return moved(result, adjoint(a).layout)


def matrix_rank(a: object, tol: float | None = None, *, rtol: object = None) -> DNDarray:
    """Return the number of singular values that are not zero.

    Parameters
    ----------
    a : array_like, shape (..., m, n), or a vector
    tol : float, optional
        Values up to this one count as zero.
    rtol : float or array_like, shape (...), optional
        The same as a share of the largest value; max(m, n) times the rounding unit by default. An array has one for
        each matrix of the stack.

    *Distribution*: as :func:`svdvals`.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.matrix_rank(ht.ones((4, 3), split=0)).item()
    1
    """
    a = as_dndarray("matrix_rank", "a", a)
    if a.ndim < 2:
        return a.any().astype("int64")
    a = as_stack("matrix_rank", "a", a)
    s = svdvals(a)
    if not s.shape[-1]:
        return s.sum(axis=-1, dtype="int64")
    limit = tol if tol is not None else s.larray[..., :1] * _tolerance("matrix_rank", a, s, rtol)
    return DNDarray(s.larray > limit, s.layout, s.comm).sum(axis=-1)


class LstsqResult(NamedTuple):
    """Result of :func:`lstsq`."""

    x: DNDarray
    residuals: DNDarray
    rank: int
    s: DNDarray


def lstsq(a: object, b: object, rcond: float | None = None) -> LstsqResult:
    """Return the least-squares solution of ``a @ x = b``, of smallest norm where there are several.

    Parameters
    ----------
    a : array_like, shape (m, n)
    b : array_like, shape (m,) or (m, k)
    rcond : float, optional
        Singular values up to this share of the largest one count as zero; max(m, n) times the rounding unit by default.

    Returns
    -------
    LstsqResult(x, residuals, rank, s)
        `residuals` are the sums of squares of ``b - a @ x``, empty unless m > n = rank.

    *Distribution*: as :func:`svd` and three products; x is replicated for a tall matrix, split as `a`'s columns
    for a wide one that is.

    Raises
    ------
    LayoutError
        If `a` is not 2-D or the shapes do not fit.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> a = ht.array([[0.0, 1.0], [1.0, 1.0], [2.0, 1.0]], split=0)
    >>> ht_linalg.lstsq(a, ht.array([1.0, 3.0, 5.0], split=0)).x.numpy().round(12)
    array([2., 1.])
    """
    a, b = as_pair("lstsq", a, b)
    a = as_stack("lstsq", "a", a)
    if a.ndim != 2 or b.ndim not in (1, 2) or b.shape[0] != a.shape[0]:
        raise LayoutError(f"lstsq: a must be (m, n) and b (m,) or (m, k), got shapes {a.shape} and {b.shape}")
    m, n = a.shape
    u, s, vh = svd(a, full_matrices=False)
    kept = s.larray > (s.larray[:1] * _tolerance("lstsq", a, s, rcond) if len(s.larray) else 0)
    rank = int(kept.sum())
    projected = matmul(adjoint(u), b)
    inverse = torch.where(kept, 1 / torch.where(kept, s.larray, 1), torch.zeros_like(s.larray))
    inverse = DNDarray(
        inverse if b.ndim == 1 else inverse[:, None], Layout((len(s.larray), 1)[: b.ndim], None), a.comm
    )
    x = matmul(adjoint(vh), projected * inverse)
    if m > n == rank:
        error = b - matmul(a, x)
        residuals = (abs(error) ** 2).sum(axis=0).reshape((1,) if b.ndim == 1 else (b.shape[1],))
    else:
        residuals = DNDarray(s.larray.new_empty(0), Layout((0,), None), a.comm)
    return LstsqResult(x, residuals, rank, s)


# -- parts ---------------------------------------------------------------------------------------------------------


def _tolerance(op: str, a: DNDarray, s: DNDarray, rtol: object) -> float | torch.Tensor:
    """Return the share below which singular values `s` count as zero: of all matrices, or of this rank's, one each."""
    if rtol is None:
        return max(a.shape[-2:]) * torch.finfo(a.larray.dtype).eps
    if isinstance(rtol, (int, float)):
        return rtol
    rtol = as_dndarray(op, "rtol", rtol, a.comm)
    if rtol.larray.dtype.is_complex:
        raise DTypeError(f"{op}: rtol must be real, got {rtol.dtype}; take its absolute values")
    each = s.layout.with_axis(s.ndim - 1, 1)
    try:
        shares = broadcast_to(expand_dims(rtol, -1), each.shape)
    except LayoutError:
        raise LayoutError(
            f"{op}: rtol must have the shape of the stack, {a.shape[:-2]}, got {rtol.shape}"
        ) from None
    return moved(shares, each).larray.to(s.larray.dtype)


def _whole(a: DNDarray, full_matrices: bool, compute_uv: bool) -> SVD | DNDarray:
    """Decompose matrices that are whole on their ranks."""
    if a.split is not None and a.split >= a.ndim - 2:  # one rank
        a = DNDarray(a.larray, Layout(a.shape, None), a.comm)
    if not compute_uv:
        return map_matrices(a, torch.linalg.svdvals, 1)
    u, s, vh = _signed(*torch.linalg.svd(a.larray, full_matrices=full_matrices))
    return SVD(map_matrices(a, lambda _: u), map_matrices(a, lambda _: s, 1), map_matrices(a, lambda _: vh))


def _signed(u: torch.Tensor, s: torch.Tensor, vh: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Turn each pair of vectors so that the largest element of the shorter side's vector is positive real."""
    k, tall = s.shape[-1], u.shape[-2] >= vh.shape[-1]
    if not k:
        return u, s, vh
    vectors = vh[..., :k, :] if tall else u[..., :k].mT
    at = vectors.abs().argmax(-1, keepdim=True)
    largest = vectors.gather(-1, at)[..., 0]
    phase = torch.where(largest == 0, torch.ones_like(largest), torch.sgn(largest))
    phase = phase if tall else phase.conj()
    u, vh = u.clone(), vh.clone()
    u[..., :k] *= phase[..., None, :]
    vh[..., :k, :] *= phase.conj()[..., :, None]
    return u, s, vh


def _small(r: DNDarray, compute_uv: bool) -> tuple[DNDarray | None, DNDarray, DNDarray | None]:
    """Decompose a square matrix: a small one on one rank, which tells all; a large one where it lies."""
    if r.shape[0] > WHOLE_ON_ONE_RANK:
        return _large(r, compute_uv)
    r = moved(r, Layout(r.shape, None))
    k, like = r.shape[0], r.larray

    def solve() -> torch.Tensor:
        if not bool(torch.isfinite(like).all()):
            raise LinAlgError("svd: the matrix must be finite")
        if not compute_uv:
            return pack(1, torch.linalg.svdvals(like), like=like)
        return pack(1, *_signed(*torch.linalg.svd(like)), like=like)

    shapes = [(k, k), (k,), (k, k)] if compute_uv else [(k,)]
    answer = tell(r.comm, solve, like.new_empty(1 + sum(map(math.prod, shapes))))
    parts = [DNDarray(x, Layout(tuple(x.shape), None), r.comm) for x in unpack(answer[1:], *shapes)]
    u, s, vh = parts if compute_uv else (None, parts[0], None)
    return u, DNDarray(s.larray.real.contiguous(), s.layout, r.comm), vh


def _large(r: DNDarray, compute_uv: bool) -> tuple[DNDarray | None, DNDarray, DNDarray | None]:
    """Decompose R = U H and H = V S V^H, so that R = (U V) S V^H; the eigenvalues of -H come largest S first."""
    u, h = polar(r)
    h = DNDarray(-h.larray, h.layout, h.comm)
    values, v = eigh(h) if compute_uv else (eigvalsh(h), None)
    s = DNDarray((-values.larray).clamp_min(0), values.layout, r.comm)
    return (matmul(u, v), s, adjoint(v)) if compute_uv else (None, s, None)
