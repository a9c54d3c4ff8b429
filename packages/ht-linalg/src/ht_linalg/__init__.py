"""Linear algebra on distributed arrays."""

from ._version import __version__
from .matmul import matmul
from .qr import QR, qr

__all__ = ["QR", "__version__", "matmul", "qr"]
