"""Distributed sparse matrices: compressed rows (DCSR) or columns (DCSC), cut along the compressed axis."""

from .creation import add, mul, sparse_csc_matrix, sparse_csr_matrix, to_dense, to_sparse_csc, to_sparse_csr
from .matrix import DCSC_matrix, DCSR_matrix

__all__ = [
    "DCSC_matrix",
    "DCSR_matrix",
    "add",
    "mul",
    "sparse_csc_matrix",
    "sparse_csr_matrix",
    "to_dense",
    "to_sparse_csc",
    "to_sparse_csr",
]
