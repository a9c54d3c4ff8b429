"""QR decomposition: the choice of the algorithm by shape and split."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from ht_core import DNDarray, types
from ht_core.engines.redistribution import redistribute
from ht_core.errors import DTypeError, LayoutError
from ht_core.layout import Layout

from .arguments import as_dndarray
from .cholesky_qr import cholesky_qr2
from .householder import block_householder
from .tsqr import phases, tsqr

if TYPE_CHECKING:
    from ht_comm import Communicator

#: Up to this many columns R (n x n) is small enough to be held by every rank.
SMALL_FACTOR = 4096
#: Below this ratio of rows to columns Householder's method is faster than two Gram matrices, whose small dense
#: problems one rank solves alone, if each rank has panels of at least WIDE_PANEL columns.
SQUARISH = 4
WIDE_PANEL = 64


class QR(NamedTuple):
    """Result of :func:`qr`."""

    Q: DNDarray
    R: DNDarray


def qr(a: DNDarray, mode: str = "reduced") -> QR | DNDarray:
    """Return the QR decomposition ``a = Q @ R`` with R's diagonal real and not negative.

    The sign convention makes the decomposition of a matrix of full rank unique, so that it does not depend on
    the number of ranks or the split; NumPy leaves the signs to LAPACK.

    Parameters
    ----------
    a : DNDarray, shape (..., m, n)
        Integers and bool are computed in float64, half floats in float32.
    mode : {"reduced", "complete", "r"}
        With k = min(m, n): "reduced" gives Q (..., m, k) and R (..., k, n); "complete" gives Q (..., m, m)
        and R (..., m, n); "r" gives only the R of "reduced", without forming Q where the algorithm permits.

    Returns
    -------
    QR(Q, R), or R alone for mode "r"

    *Distribution* (collective where `a` is split). "Small" means n <= 4096.

    =======  ===============  ============  ============================================================
    a.split  shape            Q, R split    algorithm and messages
    =======  ===============  ============  ============================================================
    None     any              None, None    local, no message
    0        m >= n, n small  0, None       CholeskyQR2: two reductions and broadcasts of n^2 words;
    ..       ..               ..            on breakdown TSQR: n^2 words in 2 log2 p steps
    1        m >= n, n small  1, 1          redistribution to split 0, as above, and back
    1        otherwise        1, 1          block Householder, 2 p broadcasts, m k words each way
    0        otherwise        0, 1          redistribution to split 1, as above, and back
    0        n <= m < 4 n     0, None       the same, and an allgather of R; where n >= 64 p
    batch    any              batch, batch  local, no message
    =======  ===============  ============  ============================================================

    A matrix split along 1 takes block Householder, too, where n <= m < 4 n and n >= 64 p. Mode "complete" takes
    the rows marked "otherwise". A stack of matrices split along its last two axes is redistributed along its
    first one.

    Raises
    ------
    LayoutError
        If `a` has fewer than two axes.
    ValueError
        If `mode` is unknown.

    Notes
    -----
    Orthogonality and residual are at rounding level for any input, rank-deficient ones included: CholeskyQR2
    detects where its Gram matrix loses too much (:mod:`ht_linalg.cholesky_qr`) and Householder's method takes
    over (:mod:`ht_linalg.tsqr`, :mod:`ht_linalg.householder`).

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> a = ht.array([[3.0, 2.0], [4.0, 11.0], [0.0, 0.0]], split=0)
    >>> ht_linalg.qr(a).R.numpy().round(6)
    array([[ 5., 10.],
           [ 0.,  5.]])
    """
    a = as_dndarray("qr", "a", a)
    if a.ndim < 2:
        raise LayoutError(f"qr: a must have at least two axes, got shape {a.shape}")
    if mode not in ("reduced", "complete", "r"):
        raise ValueError(f'qr: mode must be "reduced", "complete" or "r", got {mode!r}')
    x = a.larray.to(computing_dtype("qr", a.larray.dtype))
    if a.split is None or a.split < a.ndim - 2:
        q, r, layout_q, layout_r = _local(x, a, mode)
    elif a.ndim > 2:
        return _stack(a, mode)
    elif mode != "complete" and a.shape[0] >= a.shape[1] and a.shape[1] <= SMALL_FACTOR:
        q, r, layout_q, layout_r = _squarish(x, a, mode) if _is_squarish(a) else _tall(x, a, mode)
    else:
        q, r, layout_q, layout_r = _general(x, a, mode)
    result = DNDarray(r, layout_r, a.comm)
    return result if mode == "r" else QR(DNDarray(q, layout_q, a.comm), result)


def computing_dtype(op: str, dtype: torch.dtype) -> torch.dtype:
    """Return the dtype in which a factorisation of data of `dtype` is computed and returned.

    Raises
    ------
    DTypeError
        Never for the dtypes of ht-core; kept for those torch may add.
    """
    known = types.of(torch.empty(0, dtype=dtype))
    if known.kind in "biu":
        return torch.float64
    if known.kind not in "fc":
        raise DTypeError(f"{op}: dtype must be real or complex, got {known}")
    return torch.float32 if known.itemsize == 2 else dtype


def _local(x: torch.Tensor, a: DNDarray, mode: str):
    """Matrices that are whole on their rank."""
    q, r = torch.linalg.qr(x, mode="complete" if mode == "complete" else "reduced")
    sign = phases(r.diagonal(dim1=-2, dim2=-1))
    k = sign.shape[-1]
    r = torch.cat((r[..., :k, :] * sign.conj()[..., None], r[..., k:, :]), dim=-2)
    q = torch.cat((q[..., :k] * sign[..., None, :], q[..., k:]), dim=-1)
    return q, r, *(Layout((*a.shape[:-2], *y.shape[-2:]), a.split, a.layout.counts) for y in (q, r))


def _stack(a: DNDarray, mode: str):
    """A stack of matrices cut along one of its last two axes: deal whole matrices to the ranks instead."""
    target = Layout.even(a.shape, 0, a.comm.size)
    whole = DNDarray(redistribute(a.larray, a.layout, target, a.comm), target, a.comm)
    return qr(whole, mode)


def _tall(x: torch.Tensor, a: DNDarray, mode: str):
    """m >= n, n small: rows are spread, R is on every rank."""
    n, rank = a.shape[1], a.comm.rank
    rows = a.layout if a.split == 0 else Layout.even(a.shape, 0, a.comm.size)
    x = redistribute(x, a.layout, rows, a.comm)
    q, r = tall_qr(x, rows.counts, a.comm, want_q=mode != "r")
    if a.split == 0:
        return q, r, rows, Layout.replicated((n, n))
    layout_r = Layout((n, n), 1, a.layout.counts)
    q = None if q is None else redistribute(q, rows, a.layout, a.comm)
    return q, r[layout_r.slices(rank)].contiguous(), a.layout, layout_r


def tall_qr(
    x: torch.Tensor, counts: tuple[int, ...], comm: Communicator, want_q: bool
) -> tuple[torch.Tensor | None, torch.Tensor]:
    """Return this rank's rows of Q, and R on every rank, of a tall matrix whose rows are spread.

    *Distribution*: collective; see :func:`qr`.
    """
    d = x.shape[1]
    found = cholesky_qr2(x, comm, want_q)
    if found is None and x.dtype in (torch.float32, torch.complex64) and want_q:
        found = cholesky_qr2(x, comm, want_q, wide=True)
    if found is not None:
        return found
    tree = tsqr(x, counts, comm)
    r, w = x.new_empty((d, d)), None
    if comm.rank == 0:
        sign = phases(tree.r.diagonal())
        r, w = tree.r * sign.conj()[:, None], torch.diag(sign)
    comm.bcast(r, root=0)
    return tree.apply(w, d) if want_q else None, r


def _is_squarish(a: DNDarray) -> bool:
    m, n = a.shape
    return m < SQUARISH * n and n >= WIDE_PANEL * a.comm.size


def _squarish(x: torch.Tensor, a: DNDarray, mode: str):
    """Not much taller than wide: Householder's method, and the layouts of a tall matrix."""
    q, r, layout_q, layout_r = _general(x, a, mode)
    if a.split == 0:
        target = Layout.replicated(layout_r.shape)
        r, layout_r = redistribute(r, layout_r, target, a.comm), target
    return q, r, layout_q, layout_r


def _general(x: torch.Tensor, a: DNDarray, mode: str):
    """Wide or large: columns are spread, and so is R."""
    m, n = a.shape
    columns = a.layout if a.split == 1 else Layout.even(a.shape, 1, a.comm.size)
    x = redistribute(x, a.layout, columns, a.comm)
    k = m if mode == "complete" else min(m, n)
    q, r, layout_q = block_householder(x, columns, a.comm, k, want_q=mode != "r")
    layout_r = Layout((k, n), 1, columns.counts)
    if a.split == 0 and q is not None:
        target = Layout((m, k), 0, a.layout.counts)
        q, layout_q = redistribute(q, layout_q, target, a.comm), target
    return q, r, layout_q, layout_r
