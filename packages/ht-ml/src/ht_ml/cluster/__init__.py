"""Clustering."""

from ..metrics.silhouette import silhouette_samples, silhouette_score
from .batch_parallel import BatchParallelKMeans, BatchParallelKMedians
from .kmeans import KMeans
from .kmedians import KMedians, KMedoids
from .mini_batch import MiniBatchKMeans
from .spectral import Spectral

__all__ = [
    "BatchParallelKMeans",
    "BatchParallelKMedians",
    "KMeans",
    "KMedians",
    "KMedoids",
    "MiniBatchKMeans",
    "Spectral",
    "silhouette_samples",
    "silhouette_score",
]
