"""Truncated singular value decompositions to a tolerance or of a given rank."""

from __future__ import annotations

import logging
from numbers import Integral, Real
from typing import NamedTuple

import torch
from ht_core import DNDarray
from ht_core.engines.redistribution import redistribute
from ht_core.errors import LayoutError
from ht_core.layout import Layout

from .arguments import as_matrix
from .gram_svd import Triplets, svd_tall
from .merge_tree import svd_tree
from .qr import computing_dtype
from .truncation import Truncation

#: Up to this extent of the shorter side its Gram matrix is held by every rank; above, factors are merged in a
#: tree.
SMALL_SIDE = 4096

_LOG = logging.getLogger("ht.linalg")


class HSVD(NamedTuple):
    """Result of :func:`hsvd_rtol` and :func:`hsvd_rank`; A is about ``U @ diag(S) @ V.conj().T``."""

    U: DNDarray
    S: DNDarray
    V: DNDarray
    error: float


def hsvd_rtol(
    A: DNDarray,
    rtol: float,
    compute_sv: bool = False,
    maxrank: int | None = None,
    maxmergedim: int | None = None,
    safetyshift: int = 5,
    no_of_merges: int | None = None,
    silent: bool = True,
) -> DNDarray | HSVD:
    """Return the leading singular vectors of `A` that reproduce it to a relative error.

    The rank r is the smallest one (of a full SVD, to rounding) with
    ``||A - U diag(S) V^T||_F <= rtol ||A||_F``, at least 1.

    Parameters
    ----------
    A : DNDarray, shape (m, n)
        Real or complex, finite; integers are computed in float64, half floats in float32.
    rtol : float
        Bound of the relative error in the Frobenius norm, in (0, 1).
    compute_sv : bool
        Whether S, V and the error are returned as well.
    maxrank : int, optional
        Upper bound of r; where it acts, the error may exceed `rtol`.
    maxmergedim, safetyshift, no_of_merges : int
        Of the merge tree only (shorter side above 4096): the most rows two or more partial factors may have
        when they are stacked, how many triplets beyond `maxrank` are passed on, and how many factors are
        merged at once (2).
    silent : bool
        If False, the rank and the error are logged (level INFO, logger ``ht.linalg``).

    Returns
    -------
    U : DNDarray, shape (m, r)
        Left singular vectors, orthonormal to about 1000 eps of the dtype, mostly better.
    S : DNDarray, shape (r,)
        Singular values, largest first, replicated; real.
    V : DNDarray, shape (n, r)
        Right singular vectors. (Not their transpose, which is what Heat 1.8 and NumPy return.)
    error : float
        Relative error in the Frobenius norm.

    U alone with ``compute_sv=False``, else the named tuple (U, S, V, error).

    *Distribution* (collective where `A` is split over more than one rank): with k = min(m, n) <= 4096

    =======  ======  =============  =============  =================================================
    A.split  shape   U split        V split        messages
    =======  ======  =============  =============  =================================================
    0        m >= n  0, A's counts  None           a reduction of k^2 words, a broadcast of k^2 + k;
    1        m < n   None           0, A's counts  twice where U is refined (then of r^2 words)
    0        m < n   0, A's counts  0, even        A is redistributed along the longer side,
    1        m >= n  0, even        0, A's counts  then as above
    None     any     None           None           as above, and an allgather of the long factor
    =======  ======  =============  =============  =================================================

    For k > 4096 U and V are split along 0 (with A's counts where A is split along that side) and factors with
    at most `maxmergedim` rows travel up a tree.

    Raises
    ------
    LayoutError
        If `A` is not a matrix or is empty.
    ValueError
        If a parameter is out of range, or `A` holds NaN or infinity (the same error on every rank).

    Notes
    -----
    Tall matrices: eigenvectors of the Gram matrix A'A, formed in tiles, then U = A V inv(S). Where the
    smallest singular value kept is so small (1/30 of the largest, or 1/100 in large data) that rounding in
    the Gram matrix shows, the columns of U are made orthogonal once more, by a second, small Gram matrix.
    Where rank 0 sees that the Gram matrix cannot resolve `rtol` or the smallest singular value wanted,
    products are formed in double precision, and then by TSQR and an SVD of R. Wide matrices are treated as
    their transposes. Signs: the first entry of a singular vector of the shorter side that is at least half
    its largest one is positive, so that the answer does not depend on the number of ranks.

    References
    ----------
    C. Himpe, T. Leibner, S. Rave, Hierarchical approximate proper orthogonal decomposition, 2018,
    doi:10.1137/16M1085413.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> x = ht.arange(12, dtype="float64", split=0).reshape((6, 2))
    >>> U, S, V, error = ht_linalg.hsvd_rtol(x, 0.1, compute_sv=True)
    >>> U.shape, S.numpy().round(2), error < 0.1
    ((6, 1), array([22.48]), True)
    """
    if not isinstance(rtol, Real) or not 0 < rtol < 1:
        raise ValueError(f"hsvd_rtol: rtol must be in (0, 1), got {rtol!r}")
    _check_at_least(1, "hsvd_rtol", maxrank=maxrank, maxmergedim=maxmergedim)
    want = Truncation("hsvd_rtol", float(rtol), maxrank)
    return _hsvd(A, want, compute_sv, maxmergedim, safetyshift, no_of_merges, silent)


def hsvd_rank(
    A: DNDarray,
    maxrank: int,
    compute_sv: bool = False,
    maxmergedim: int | None = None,
    safetyshift: int = 5,
    silent: bool = True,
) -> DNDarray | HSVD:
    """Return the `maxrank` leading singular vectors of `A`.

    Parameters, returns, distribution and notes are those of :func:`hsvd_rtol`, with the rank
    r = min(maxrank, m, n) instead of a tolerance.

    Parameters
    ----------
    A : DNDarray, shape (m, n)
    maxrank : int
        Number of singular triplets, at least 1.
    compute_sv, maxmergedim, safetyshift, silent
        As in :func:`hsvd_rtol`.

    *Distribution*: as :func:`hsvd_rtol`.

    Raises
    ------
    LayoutError
        If `A` is not a matrix or is empty.
    ValueError
        If a parameter is out of range, or `A` holds NaN or infinity (the same error on every rank).

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> x = ht.arange(12, dtype="float64", split=0).reshape((6, 2))
    >>> ht_linalg.hsvd_rank(x, 2).shape
    (6, 2)
    """
    if maxrank is None:
        raise ValueError("hsvd_rank: maxrank must be an integer of at least 1, got None")
    _check_at_least(1, "hsvd_rank", maxrank=maxrank, maxmergedim=maxmergedim)
    return _hsvd(
        A, Truncation("hsvd_rank", None, maxrank), compute_sv, maxmergedim, safetyshift, None, silent
    )


def hsvd(
    A: DNDarray,
    maxrank: int | None = None,
    maxmergedim: int | None = None,
    rtol: float | None = None,
    safetyshift: int = 5,
    no_of_merges: int | None = None,
    compute_sv: bool = False,
    silent: bool = True,
    warnings_off: bool = False,
) -> DNDarray | HSVD:
    """Return the leading singular vectors of `A`, to a relative error or of a given rank.

    Parameters, returns, distribution and notes are those of :func:`hsvd_rtol`; with neither `rtol` nor `maxrank` all
    min(m, n) triplets are returned.

    Parameters
    ----------
    A : DNDarray, shape (m, n)
    maxrank : int, optional
        Most singular triplets.
    maxmergedim, safetyshift, no_of_merges : int
        Of the merge tree, as in :func:`hsvd_rtol`.
    rtol : float, optional
        Bound of the relative error in the Frobenius norm, in (0, 1).
    compute_sv, silent
        As in :func:`hsvd_rtol`.
    warnings_off : bool
        Accepted for scripts written for Heat; nothing here warns.

    *Distribution*: as :func:`hsvd_rtol`.

    Raises
    ------
    LayoutError
        If `A` is not a matrix or is empty.
    ValueError
        If a parameter is out of range, or `A` holds NaN or infinity (the same error on every rank).

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> x = ht.arange(12, dtype="float64", split=0).reshape((6, 2))
    >>> ht_linalg.hsvd(x, rtol=0.1).shape, ht_linalg.hsvd(x).shape
    ((6, 1), (6, 2))
    """
    if rtol is not None and (not isinstance(rtol, Real) or not 0 < rtol < 1):
        raise ValueError(f"hsvd: rtol must be in (0, 1), got {rtol!r}")
    _check_at_least(1, "hsvd", maxrank=maxrank, maxmergedim=maxmergedim)
    want = Truncation("hsvd", None if rtol is None else float(rtol), maxrank)
    return _hsvd(A, want, compute_sv, maxmergedim, safetyshift, no_of_merges, silent)


def _check_at_least(least: int, op: str, **arguments: int | None) -> None:
    for name, value in arguments.items():
        if value is not None and (not isinstance(value, Integral) or value < least):
            raise ValueError(f"{op}: {name} must be an integer of at least {least}, got {value!r}")


def _hsvd(
    A: DNDarray,
    want: Truncation,
    compute_sv: bool,
    maxmergedim: int | None,
    safetyshift: int,
    no_of_merges: int | None,
    silent: bool,
) -> DNDarray | HSVD:
    A = as_matrix(want.op, "A", A)
    if 0 in A.shape:
        raise LayoutError(f"{want.op}: A must not be empty, got shape {A.shape}")
    _check_at_least(0, want.op, safetyshift=safetyshift)
    _check_at_least(2, want.op, no_of_merges=no_of_merges)
    dtype = computing_dtype(want.op, A.larray.dtype)
    if min(A.shape) <= SMALL_SIDE:
        U, S, V, error = _small_side(A, dtype, want, compute_sv)
    else:
        U, S, V, error = svd_tree(A, dtype, want, maxmergedim, safetyshift, no_of_merges or 2)
    if not silent and A.comm.rank == 0:
        _LOG.info("%s: rank %d, relative error %.3e", want.op, S.shape[0], error)
    return HSVD(U, S, V, error) if compute_sv else U


def _small_side(A: DNDarray, dtype: torch.dtype, want: Truncation, compute_sv: bool):
    """Decompose by the Gram matrix of the shorter side: X = A, or its (conjugate) transpose where A is wide."""
    wide = A.shape[0] < A.shape[1]
    long, comm = int(wide), A.comm
    spread = A.layout if A.split == long else Layout.even(A.shape, long, comm.size)
    x = redistribute(A.larray, A.layout, spread, comm).to(dtype)
    x = x.mH.resolve_conj() if wide else x
    found = svd_tall(x, spread.counts, comm, want, want_u=compute_sv or not wide)
    long_factor, short_factor = _factors(found, A, spread, dtype)
    s = found.s.to(x.real.dtype)
    S = DNDarray(s, Layout.replicated(tuple(s.shape)), comm)
    U, V = (short_factor, long_factor) if wide else (long_factor, short_factor)
    return U, S, V, found.error


def _factors(found: Triplets, A: DNDarray, spread: Layout, dtype: torch.dtype):
    """Return the factors of the longer and the shorter side in the layouts that follow from A's."""
    comm, rank, long_factor = A.comm, found.s.shape[0], None
    split_long, split_short = spread.split, 1 - spread.split
    if found.u is not None:
        layout = Layout((A.shape[split_long], rank), 0, spread.counts)
        target = layout if A.split is not None else Layout.replicated(layout.shape)
        long_factor = DNDarray(redistribute(found.u, layout, target, comm), target, comm)
    counts = A.layout.counts if A.split == split_short else ()
    layout = Layout((A.shape[split_short], rank), 0 if counts else None, counts)
    v = found.v[layout.slices(comm.rank)[0]].to(dtype).contiguous()
    return long_factor, DNDarray(v, layout, comm)
