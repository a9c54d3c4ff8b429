"""Linear algebra on distributed arrays."""

from ._version import __version__
from .hsvd import HSVD, hsvd_rank, hsvd_rtol
from .matmul import matmul
from .qr import QR, qr

__all__ = ["HSVD", "QR", "__version__", "hsvd_rank", "hsvd_rtol", "matmul", "qr"]
