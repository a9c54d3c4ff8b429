"""Decompositions into components and into modes of linear dynamics."""

from .dmd import DMD, DMDc
from .incremental_pca import IncrementalPCA
from .pca import PCA
from .truncated_svd import TruncatedSVD

__all__ = ["DMD", "PCA", "DMDc", "IncrementalPCA", "TruncatedSVD"]
