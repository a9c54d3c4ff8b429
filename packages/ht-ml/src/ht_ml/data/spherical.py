"""Points in known clusters, for tests and timings; under the names that Heat gave them."""

from __future__ import annotations

from typing import Any

import ht_core as ht
import torch
from ht_comm import Communicator
from ht_core import DNDarray
from ht_core.errors import LayoutError
from ht_core.random import default_rng

from ..draws import resolve_seed
from .matrixgallery import extent

#: Centres of the balls, in units of the offset.
_CENTRES = (-2.0, -1.0, 1.0, 2.0)


def create_spherical_dataset(
    num_samples_cluster: int,
    radius: float = 1.0,
    offset: float = 4.0,
    dtype: object = ht.float32,
    random_state: Any = 1,
    *,
    comm: Communicator | None = None,
) -> DNDarray:
    """Return points in four balls along the diagonal of space, around ±offset and ±2 offset in every coordinate.

    Parameters
    ----------
    num_samples_cluster : int
        Points in each ball, uniformly distributed. Row i belongs to ball i modulo 4, counted along the diagonal.
    radius, offset : float
        Of the balls, and between them.
    dtype : dtype
        float32 or float64.
    random_state : int, None or Generator
        The same points for the same number, on any number of ranks.
    comm : Communicator, optional
        The ranks that hold them.

    Returns
    -------
    DNDarray, shape (4 num_samples_cluster, 3)
        Split along axis 0. No message.

    Raises
    ------
    ValueError
        If `num_samples_cluster` is not an integer of at least 1.

    Examples
    --------
    >>> ht.utils.data.spherical.create_spherical_dataset(100).shape
    (400, 3)
    """
    op = "create_spherical_dataset"
    n = 4 * extent(op, "num_samples_cluster", num_samples_cluster)
    rng = default_rng(resolve_seed(op, random_state), comm=comm)
    direction = rng.standard_normal((n, 3), split=0, comm=comm)
    direction /= ht.sqrt((direction * direction).sum(axis=1, keepdims=True))
    distance = radius * rng.uniform(size=(n, 1), split=0, comm=comm) ** (1 / 3)
    ball = ht.arange(n, split=0, comm=comm) % 4
    centre = offset * ht.array(_CENTRES, comm=comm)[ball]
    return (direction * distance + ht.expand_dims(centre, 1)).astype(dtype)


def create_clusters(
    n_samples: int,
    n_features: int,
    n_clusters: int,
    cluster_mean: Any,
    cluster_std: Any,
    cluster_weight: Any = None,
    device: object = None,
    *,
    random_state: Any = None,
    comm: Communicator | None = None,
) -> DNDarray:
    """Return a sample of a mixture of normal distributions.

    Parameters
    ----------
    n_samples, n_features, n_clusters : int
        Rows, columns, and components of the mixture.
    cluster_mean : array_like, shape (n_clusters, n_features)
        Means, the same on every rank, like all arguments.
    cluster_std : array_like, shape (n_clusters,) or (n_clusters, n_features) or (n_clusters, n_features, n_features)
        Standard deviations, of each coordinate where they differ; or the matrices with which standard normal vectors
        are multiplied.
    cluster_weight : array_like, shape (n_clusters,), optional
        Probability of each component; equal by default.
    device, comm
        Where the sample is made.
    random_state : int, None or Generator
        The same points for the same number, on any number of ranks.

    Returns
    -------
    DNDarray, shape (n_samples, n_features), float32
        Split along axis 0. No message. Each row's component is drawn by itself.

    Raises
    ------
    LayoutError, ValueError
        If a shape or a number is not as above.

    Examples
    --------
    >>> ht.utils.data.spherical.create_clusters(50, 2, 2, [[0, 0], [9, 9]], [1.0, 0.5]).shape
    (50, 2)
    """
    op = "create_clusters"
    n, d, k = (
        extent(op, name, value)
        for name, value in (("n_samples", n_samples), ("n_features", n_features), ("n_clusters", n_clusters))
    )
    mean = torch.as_tensor(cluster_mean, dtype=torch.float64)
    std = torch.as_tensor(cluster_std, dtype=torch.float64)
    weight = torch.full((k,), 1 / k) if cluster_weight is None else torch.as_tensor(cluster_weight)
    weight = weight.to(torch.float64)
    if mean.shape != (k, d):
        raise LayoutError(f"{op}: cluster_mean must have shape {(k, d)}, got {tuple(mean.shape)}")
    if std.shape not in ((k,), (k, d), (k, d, d)):
        raise LayoutError(
            f"{op}: cluster_std must have shape {(k,)}, {(k, d)} or {(k, d, d)}, got {tuple(std.shape)}"
        )
    if weight.shape != (k,) or not bool((weight >= 0).all()) or not float(weight.sum()) > 0:
        raise ValueError(
            f"{op}: cluster_weight must be {k} numbers, not negative and not all zero, got {weight.tolist()}"
        )
    rng = default_rng(resolve_seed(op, random_state), comm=comm)
    chances = rng.uniform(size=n, split=0, device=device, comm=comm)
    normals = rng.standard_normal((n, d), split=0, device=device, comm=comm)
    bounds = (weight.cumsum(0) / weight.sum())[:-1].to(normals.larray.device)
    component = torch.searchsorted(bounds, chances.larray, right=True)
    points = normals.larray
    for c in range(k):  # the rows of one component at a time: no (n, d, d) array
        rows = (component == c).nonzero().squeeze(1)
        factor = std[c].to(points.device)
        own = points[rows]
        own = own @ factor.T if factor.ndim == 2 else own * factor
        points[rows] = own + mean[c].to(points.device)
    return normals.astype(ht.float32)


__all__ = ["create_clusters", "create_spherical_dataset"]
