"""Logarithms of binomial and Poisson probabilities that keep their relative accuracy for any size of the arguments.

Differences of ``lgamma`` lose all digits where counts are large; Loader's expansion about the saddle point does not:
each probability is ``exp(-deviance)`` times a Stirling error, both computed without cancellation. Everything is
float64, elementwise, on any device. This module knows nothing of random numbers.

References
----------
C. Loader, "Fast and accurate computation of binomial probabilities" (2000).
"""

from __future__ import annotations

import math

import torch

_EXACT = 16
#: log(n!) - log(sqrt(2 pi n) (n / e)**n) for n = 0 (by convention), 1, ..., 15.
_ERRORS = [0.0] + [
    math.lgamma(n + 1) - (n + 0.5) * math.log(n) + n - 0.5 * math.log(2 * math.pi) for n in range(1, _EXACT)
]
_SERIES = (1 / 12, 1 / 360, 1 / 1260, 1 / 1680, 1 / 1188, 691 / 360360)


def stirling_error(n: torch.Tensor) -> torch.Tensor:
    """Return ``log(n!) - log(sqrt(2 pi n) (n / e)**n)`` of whole numbers n >= 0; 0 for 0. Error below 1e-16."""
    table = torch.tensor(_ERRORS, dtype=n.dtype, device=n.device)
    large = n.clamp(min=_EXACT)
    square = 1.0 / (large * large)
    total = torch.full_like(large, _SERIES[-1])
    for term in reversed(_SERIES[:-1]):  # the signs alternate
        total = term - total * square
    return torch.where(n < _EXACT, table[n.clamp(0, _EXACT - 1).to(torch.int64)], total / large)


def deviance(x: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Return ``x log(x / mean) + mean - x`` of x > 0 and mean > 0 without cancellation."""
    d = x - mean
    v = d / (x + mean)
    square = v * v
    total = torch.full_like(v, 1 / 19)
    for k in (17, 15, 13, 11, 9, 7, 5, 3):
        total = total * square + 1 / k
    series = d * v + 2 * x * v * square * total
    return torch.where(v.abs() < 0.1, series, x * torch.log(x / mean) - d)


def log_poisson(k: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of k >= 0 events where `mean` > 0 are expected."""
    x = k.clamp(min=1.0)
    inner = -stirling_error(x) - deviance(x, mean) - 0.5 * torch.log(2 * math.pi * x)
    return torch.where(k < 1, -mean, inner)


def log_binomial(k: torch.Tensor, n: torch.Tensor, p: torch.Tensor, q: torch.Tensor) -> torch.Tensor:
    """Return the log-probability of k successes in n trials, 0 <= k <= n, 0 < p < 1, q = 1 - p."""
    x = torch.maximum(torch.minimum(k, n - 1), torch.ones_like(k))
    # Where n < 2 only the ends are left; the values computed for the interior are then not used, but must be finite.
    rest = (n - x).clamp(min=1.0)
    trials = x + rest
    inner = (
        stirling_error(trials) - stirling_error(x) - stirling_error(rest)
        - deviance(x, trials * p) - deviance(rest, trials * q)
        + 0.5 * torch.log(trials / (2 * math.pi * x * rest))
    )  # fmt: skip
    ends = torch.where(k < 1, n * torch.log1p(-p), n * torch.log(p))
    return torch.where((k < 1) | (k >= n), ends, inner)
