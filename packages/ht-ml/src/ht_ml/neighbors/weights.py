"""How much a neighbour counts, from its distance. Nothing here communicates."""

from __future__ import annotations

from typing import Any

import torch


def check_weights(op: str, weights: Any) -> None:
    """Refuse what is neither "uniform", "distance" nor a function.

    Raises
    ------
    ValueError
    """
    if weights not in ("uniform", "distance") and not callable(weights):
        raise ValueError(f"{op}: weights must be uniform, distance or a function, got {weights!r}")


def weights_of(weights: Any, distances: torch.Tensor) -> torch.Tensor | None:
    """Return the weights of neighbours, shape (q, k), float64; None where all count alike.

    With "distance" they are inverse distances; where some distances are 0 only those neighbours count, alike.
    """
    if weights == "uniform":
        return None
    distances = distances.to(torch.float64)
    if callable(weights):
        return weights(distances).to(torch.float64)
    found = distances.reciprocal()
    is_same = found.isinf()
    return torch.where(is_same.any(dim=1, keepdim=True), is_same.to(torch.float64), found)
