"""Distances and kernels between the rows of distributed tables."""

from .distances import cdist, cosine, cosine_distances, cosine_similarity, manhattan, rbf
from .nearest import cdist_topk
from .reductions import kernel_matmul, pairwise_reduce
from .within import cdist_within

__all__ = [
    "cdist",
    "cdist_topk",
    "cdist_within",
    "cosine",
    "cosine_distances",
    "cosine_similarity",
    "kernel_matmul",
    "manhattan",
    "pairwise_reduce",
    "rbf",
]
