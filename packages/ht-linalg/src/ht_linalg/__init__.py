"""Linear algebra on distributed arrays."""

from . import fft, signal
from ._version import __version__
from .cross import cross
from .einsum import einsum, einsum_path
from .hsvd import HSVD, hsvd_rank, hsvd_rtol
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

__all__ = [
    "HSVD",
    "QR",
    "__version__",
    "cross",
    "dot",
    "einsum",
    "einsum_path",
    "fft",
    "hsvd_rank",
    "hsvd_rtol",
    "inner",
    "kron",
    "matmul",
    "matvec",
    "multi_dot",
    "outer",
    "projection",
    "qr",
    "signal",
    "tensordot",
    "trace",
    "vdot",
    "vecdot",
    "vecmat",
]
