"""Linear algebra on distributed arrays."""

from . import fft, signal
from ._version import __version__
from .cholesky import cholesky
from .cross import cross
from .einsum import einsum, einsum_path
from .hsvd import HSVD, hsvd_rank, hsvd_rtol
from .lu import LU, det, lu, slogdet
from .matmul import matmul
from .multi_dot import multi_dot
from .products import (
    dot,
    inner,
    kron,
    matvec,
    outer,
    projection,
    tensordot,
    trace,
    vdot,
    vecdot,
    vecmat,
)
from .qr import QR, qr
from .solve import inv, solve, solve_triangular

__all__ = [
    "HSVD",
    "LU",
    "QR",
    "__version__",
    "cholesky",
    "cross",
    "det",
    "dot",
    "einsum",
    "einsum_path",
    "fft",
    "hsvd_rank",
    "hsvd_rtol",
    "inner",
    "inv",
    "kron",
    "lu",
    "matmul",
    "matvec",
    "multi_dot",
    "outer",
    "projection",
    "qr",
    "signal",
    "slogdet",
    "solve",
    "solve_triangular",
    "tensordot",
    "trace",
    "vdot",
    "vecdot",
    "vecmat",
]
