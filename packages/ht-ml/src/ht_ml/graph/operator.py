"""Laplacians that are never formed: products with the weights of a graph, and the degrees of its nodes."""

from __future__ import annotations

from collections.abc import Callable

import torch
from ht_core import DNDarray
from ht_core.layout import Layout


class LaplacianOperator:
    """The Laplacian of a graph as a matrix that only multiplies: ``L @ x``.

    Parameters
    ----------
    weights : callable
        Maps a DNDarray (n,) or (n, r) to its product with the symmetric matrix of weights, whose diagonal is 0.
    like : DNDarray, shape (n, d)
        Vectors lie as its rows.
    definition : {"norm_sym", "simple"}
        ``D^-1/2 (D - W) D^-1/2`` or ``D - W``, where D holds the degrees (sums of weights).

    Attributes
    ----------
    degrees : DNDarray, shape (n,)
    scale : DNDarray, shape (n,)
        ``D^-1/2``; 1 for nodes without edges, whose rows of L are 0.

    *Distribution*: making it and each product cost one product with the weights.
    """

    ndim = 2

    def __init__(self, weights: Callable[[DNDarray], DNDarray], like: DNDarray, definition: str) -> None:
        n = like.shape[0]
        self.comm, self.shape = like.comm, (n, n)
        self.layout = Layout((n,), like.split, like.layout.counts).insert(1, n)
        self.dtype, self.device = like.dtype, like.device
        self.definition, self._weights = definition, weights
        self._vectors = self.layout.drop((1,))
        ones = torch.ones(like.larray.shape[0], dtype=like.larray.dtype, device=like.larray.device)
        self.degrees = weights(self._vector(ones))
        local = self.degrees.larray
        self._has_edges = local > 0
        self.scale = self._vector(torch.where(self._has_edges, local, 1).rsqrt())

    def _vector(self, local: torch.Tensor) -> DNDarray:
        return DNDarray(local, self._vectors, self.comm)

    def __matmul__(self, x: DNDarray) -> DNDarray:
        """Return the product with vectors (n,) or (n, r) that lie as the rows of the graph."""
        local, degrees, scale = x.larray, self.degrees.larray, self.scale.larray
        has_edges = self._has_edges
        if local.ndim == 2:
            degrees, scale, has_edges = degrees[:, None], scale[:, None], has_edges[:, None]
        if self.definition == "simple":
            return DNDarray(local * degrees - self._weights(x).larray, x.layout, x.comm)
        product = self._weights(DNDarray(local * scale, x.layout, x.comm)).larray
        return DNDarray(torch.where(has_edges, local - product * scale, 0), x.layout, x.comm)
