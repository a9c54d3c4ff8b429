"""Clustering."""

from ..metrics.silhouette import silhouette_samples, silhouette_score
from .kmeans import KMeans
from .spectral import Spectral

__all__ = ["KMeans", "Spectral", "silhouette_samples", "silhouette_score"]
