"""Linear algebra on distributed arrays."""

from ht_core import matrix_transpose

from . import fft, signal, sparse, spatial
from ._version import __version__
from .cg import cg
from .cholesky import cholesky
from .condest import condest
from .cross import cross
from .eig import EigResult, eig, eigvals
from .eigh import EighResult, eigh, eigvalsh
from .einsum import einsum, einsum_path
from .errors import LinAlgError
from .gmres import gmres
from .hsvd import HSVD, hsvd, hsvd_rank, hsvd_rtol
from .isvd import isvd
from .lanczos import Lanczos, lanczos
from .lobpcg import lobpcg
from .lu import LU, det, lu, slogdet
from .matmul import matmul
from .matrix_exp import expm, matrix_exp
from .minres import minres
from .multi_dot import matrix_power, multi_dot
from .norms import cond, matrix_norm, norm, vector_norm
from .polar import Polar, polar
from .products import (
    diagonal,
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
from .reigh import reigh
from .rsvd import RSVD, rsvd
from .solve import inv, solve, solve_triangular
from .svd import SVD, lstsq, matrix_rank, pinv, svd, svdvals
from .tensor_equations import tensorinv, tensorsolve

__all__ = [
    "HSVD",
    "LU",
    "QR",
    "RSVD",
    "SVD",
    "EigResult",
    "EighResult",
    "Lanczos",
    "LinAlgError",
    "Polar",
    "__version__",
    "cg",
    "cholesky",
    "cond",
    "condest",
    "cross",
    "det",
    "diagonal",
    "dot",
    "eig",
    "eigh",
    "eigvals",
    "eigvalsh",
    "einsum",
    "einsum_path",
    "expm",
    "fft",
    "gmres",
    "hsvd",
    "hsvd_rank",
    "hsvd_rtol",
    "inner",
    "inv",
    "isvd",
    "kron",
    "lanczos",
    "lobpcg",
    "lstsq",
    "lu",
    "matmul",
    "matrix_exp",
    "matrix_norm",
    "matrix_power",
    "matrix_rank",
    "matrix_transpose",
    "matvec",
    "minres",
    "multi_dot",
    "norm",
    "outer",
    "pinv",
    "polar",
    "projection",
    "qr",
    "reigh",
    "rsvd",
    "signal",
    "slogdet",
    "solve",
    "solve_triangular",
    "sparse",
    "spatial",
    "svd",
    "svdvals",
    "tensordot",
    "tensorinv",
    "tensorsolve",
    "trace",
    "vdot",
    "vecdot",
    "vecmat",
    "vector_norm",
]
