"""Discrete distributions: one row each; see :mod:`ht_core.sampling` for the engine.

Small means by inversion, walking up the distribution function from 0; larger ones by rejection under a transformed
density or a ratio of uniforms, with probabilities that keep their digits for any size (:mod:`ht_core.saddle_point`).
All of it is exact up to rounding; counts above 2**53 are multiples of the resolution of float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from .continuous import gamma_variate
from .random_arguments import Parameter, count, positive, probability
from .saddle_point import log_binomial, log_poisson
from .sampling import Distribution, Trials, distribution, interior, pick, unit

#: Means from which on rejection is faster than walking; the hats of Hoermann's methods cover the density from 10 on.
_WALKED = 10.0
#: Bound of steps of a walk: no probability of float64 is left long before, for means below `_WALKED`.
_STEPS = 1000


def _walk(u: torch.Tensor, first: torch.Tensor, ratio: Callable[[int], torch.Tensor]) -> torch.Tensor:
    """Return the first k with ``u < F(k)``.

    Parameters
    ----------
    u : torch.Tensor
        Uniform numbers.
    first : torch.Tensor
        The probability of 0.
    ratio : callable
        ``ratio(k)`` is the probability of k over that of k - 1; 0 once k is beyond the support.
    """
    k = torch.zeros_like(u)
    mass = first.expand_as(u).clone()
    below = mass.clone()
    for step in range(1, _STEPS):
        ahead = u >= below
        mass *= ratio(step)
        ahead &= mass > 1e-20  # rounding may leave the sum below the largest u
        if not bool(ahead.any()):
            break
        k += ahead
        below += mass
    return k


def _squeezed(fast: torch.Tensor, exact: Callable[..., torch.Tensor], *values: torch.Tensor) -> torch.Tensor:
    """Return where an attempt is accepted: where `fast` says so, and elsewhere where ``exact(*values)`` does.

    The squeeze lies below the density, so that it changes no result; it spares most elements the probabilities.
    """
    at = (~fast).nonzero().reshape(-1)
    if at.numel():
        fast[at] = exact(*(pick(value, at) for value in values))
    return fast


# -- Poisson --------------------------------------------------------------------------------------------------------


def poisson_variate(trials: Trials, lam: torch.Tensor) -> torch.Tensor:
    """Return Poisson variates of mean `lam`."""
    return trials.by_case(lam < _WALKED, _poisson_walk, _poisson_rejection, lam)


def _poisson_walk(trials, lam):
    return _walk(unit(trials.words()[0]), torch.exp(-lam), lambda k: lam / k)


def _poisson_rejection(trials, lam):
    return trials.until_accepted(_poisson_attempt, lam)[0]


def _poisson_attempt(words, lam):
    """Hoermann's transformed rejection (PTRS)."""
    b = 0.931 + 2.53 * torch.sqrt(lam)
    a = -0.059 + 0.02483 * b
    u, v = interior(words[0]) - 0.5, interior(words[1])
    left = 0.5 - u.abs()
    k = torch.floor((2.0 * a / left + b) * u + lam + 0.43)

    def exact(k, left, v, lam, a, b):
        hat = torch.log(v * (1.1239 + 1.1328 / (b - 3.4)) / (a / (left * left) + b))
        return (k >= 0) & (hat <= log_poisson(k.clamp(min=0.0), lam))

    fast = (left >= 0.07) & (v <= 0.9277 - 3.6224 / (b - 2.0))
    return (k,), _squeezed(fast, exact, k, left, v, lam, a, b)


# -- binomial -------------------------------------------------------------------------------------------------------


def binomial_variate(trials: Trials, n: torch.Tensor, p: torch.Tensor) -> torch.Tensor:
    """Return binomial variates of `n` trials of success `p`."""
    flipped = p > 0.5
    few = torch.where(flipped, 1.0 - p, p)
    k = trials.by_case(n * few < _WALKED, _binomial_walk, _binomial_rejection, n + 0.0 * few, few + 0.0 * n)
    return torch.where(flipped, n - k, k)


def _binomial_walk(trials, n, p):
    odds = p / (1.0 - p)
    return _walk(
        unit(trials.words()[0]),
        torch.exp(n * torch.log1p(-p)),
        lambda k: (n - (k - 1)).clamp(min=0.0) / k * odds,
    )


def _binomial_rejection(trials, n, p):
    return trials.until_accepted(_binomial_attempt, n, p)[0]


def _binomial_attempt(words, n, p):
    """Hoermann's transformed rejection (BTRS); p <= 1/2 and n p >= 10."""
    q = 1.0 - p
    spread = torch.sqrt(n * p * q)
    b = 1.15 + 2.53 * spread
    a = -0.0873 + 0.0248 * b + 0.01 * p
    u, v = interior(words[0]) - 0.5, interior(words[1])
    left = 0.5 - u.abs()
    k = torch.floor((2.0 * a / left + b) * u + n * p + 0.5)

    def exact(k, left, v, n, p, a, b, spread):
        q, mode = 1.0 - p, torch.floor((n + 1.0) * p)
        hat = torch.log(v * (2.83 + 5.1 / b) * spread / (a / (left * left) + b))
        inside = (k >= 0) & (k <= n)
        k = torch.minimum(k.clamp(min=0.0), n.expand_as(k))
        return inside & (hat <= log_binomial(k, n, p, q) - log_binomial(mode, n, p, q))

    fast = (left >= 0.07) & (v <= 0.92 - 4.2 / b)
    return (k,), _squeezed(fast, exact, k, left, v, n, p, a, b, spread)


# -- hypergeometric -------------------------------------------------------------------------------------------------


def hypergeometric_variate(
    trials: Trials, good: torch.Tensor, bad: torch.Tensor, drawn: torch.Tensor
) -> torch.Tensor:
    """Return how many of `drawn` things, taken without replacement from `good` and `bad` ones, are good."""
    total = good + bad
    fewer = torch.minimum(good, bad)
    taken = torch.minimum(drawn, total - drawn)  # what is left over is a sample, too
    k = trials.by_case(
        taken <= _WALKED, _hypergeometric_walk, _hypergeometric_rejection, fewer, total - fewer, taken + 0.0 * total
    )  # fmt: skip
    k = torch.where(good > bad, taken - k, k)
    return torch.where(taken < drawn, good - k, k)


def _hypergeometric_walk(trials, fewer, more, taken):
    first = torch.ones_like(taken + fewer)
    for i in range(int(_WALKED)):
        first = torch.where(taken > i, first * (more - i) / (more + fewer - i).clamp(min=1.0), first)

    def ratio(k: int) -> torch.Tensor:
        upper = (fewer - (k - 1)).clamp(min=0.0) * (taken - (k - 1)).clamp(min=0.0)
        return upper / (k * (more - taken + k).clamp(min=1.0))

    return _walk(unit(trials.words()[0]), first, ratio)


def _hypergeometric_rejection(trials, fewer, more, taken):
    return trials.until_accepted(_hypergeometric_attempt, fewer, more, taken)[0]


def _hypergeometric_attempt(words, fewer, more, taken):
    """Stadlober's ratio of uniforms about the mode (HRUA)."""
    total = fewer + more
    share, p = fewer / total, taken / total
    centre = taken * share + 0.5
    deviation = torch.sqrt((total - taken) * taken * share * (1.0 - share) / (total - 1.0) + 0.5)
    wide = 2.0 * math.sqrt(2.0 / math.e) * deviation + (3.0 - 2.0 * math.sqrt(3.0 / math.e))
    mode = torch.floor((taken + 1.0) * (fewer + 1.0) / (total + 2.0))
    most = torch.minimum(taken, fewer)
    x = interior(words[0])
    k = torch.floor(centre + wide * (unit(words[1]) - 0.5) / x)
    inside = (k >= 0) & (k <= most)
    k = torch.minimum(k.clamp(min=0.0), most.expand_as(k))

    def log_mass(j: torch.Tensor) -> torch.Tensor:
        # binomials of both groups with the same p: their product is the hypergeometric probability up to a constant
        return log_binomial(j, fewer, p, 1.0 - p) + log_binomial(taken - j, more, p, 1.0 - p)

    return (k,), inside & (2.0 * torch.log(x) <= log_mass(k) - log_mass(mode.expand_as(k)))


# -- others ---------------------------------------------------------------------------------------------------------


def _negative_binomial(trials, n, p):
    return poisson_variate(trials.along(1), gamma_variate(trials, n) * ((1.0 - p) / p))


def _geometric(words, p):
    k = torch.ceil(torch.log(interior(words)) / torch.log1p(-p))
    return k.clamp(min=1.0)


def _logseries(trials, p):
    """Kemp's mixture of geometric variates."""
    words = trials.words()
    v, exponent = interior(words[0]), torch.log1p(-p) * interior(words[1])
    q = -torch.expm1(exponent)
    log_q = torch.where(exponent < -0.7, torch.log1p(-torch.exp(exponent)), torch.log(q))
    long = torch.floor(1.0 + torch.log(v) / log_q)
    return torch.where((v >= q) | (v >= p), 1.0, torch.where(v > q * q, 2.0, long)).clamp(min=1.0)


def _zipf(trials, a):
    return trials.until_accepted(_zipf_attempt, a.clamp(max=500.0))[
        0
    ]  # beyond, 2 has the probability 2**-500


def _zipf_attempt(words, a):
    """Devroye's rejection from a rounded Pareto variate, cut at 2**63."""
    power = a - 1.0
    least = torch.exp(-power * math.log(2.0**63))
    u = interior(words[0])
    u = u * least + (1.0 - u)
    k = torch.floor(torch.exp(-torch.log(u) / power)).clamp(min=1.0)
    log_t = power * torch.log1p(1.0 / k)
    grown, bound = torch.expm1(log_t), torch.expm1(power * math.log(2.0))
    return (k,), interior(words[1]) * k * grown * (bound + 1.0) <= bound * (grown + 1.0)


def _row(name, parameters, kernel, summary, notes, words=4, conditions=()):
    row = Distribution(name, parameters, kernel, words, True, conditions)
    return distribution(row, summary, notes=notes)


_POISSON = (
    'Inversion below a mean of 10; above, rejection (PTRS): W. Hoermann, "The transformed rejection method for\n'
    'generating Poisson random variables", Insurance: Math. Econ. 12 (1993), doi 10.1016/0167-6687(93)90997-4.'
)

poisson = _row(
    "poisson",
    (
        Parameter(
            "lam",
            "Mean, in [0, 9.2e18].",
            lambda v: (v >= 0) & (v <= 9.2e18),
            "in [0, 9.2e18]",
            1.0,
        ),
    ),
    poisson_variate,
    "Draw from the Poisson distribution.",
    _POISSON,
)
binomial = _row(
    "binomial",
    (count("n", "Number of trials."), probability("p", "Probability of success, in [0, 1].")),
    binomial_variate,
    "Draw numbers of successes among `n` independent trials.",
    'Inversion below a mean of 10; above, rejection (BTRS): W. Hoermann, "The generation of binomial random\n'
    'variates", J. Stat. Comput. Simul. 46 (1993), doi 10.1080/00949659308811496.',
)
negative_binomial = _row(
    "negative_binomial",
    (
        positive("n", "Number of successes waited for, positive, not necessarily whole."),
        probability("p", "Probability of success, in (0, 1].", above=True),
    ),
    _negative_binomial,
    "Draw numbers of failures before the `n`-th success.",
    "A Poisson variate of a gamma variate; see :meth:`poisson` and :meth:`gamma`.",
)
geometric = _row(
    "geometric",
    (probability("p", "Probability of success, in (0, 1].", above=True),),
    _geometric,
    "Draw numbers of trials up to the first success, at least 1.",
    "Inversion.",
    words=1,
)
hypergeometric = _row(
    "hypergeometric",
    (
        count("ngood", "Number of good things, up to 2**50.", 2.0**50),
        count("nbad", "Number of the others, up to 2**50.", 2.0**50),
        count("nsample", "Number of things taken, at most ``ngood + nbad``.", 2.0**51),
    ),
    hypergeometric_variate,
    "Draw numbers of good things in a sample taken without replacement.",
    'Inversion for samples of up to 10 things; above, a ratio of uniforms: E. Stadlober, "The ratio of uniforms\n'
    'approach for generating discrete random variates", J. Comput. Appl. Math. 31 (1990),\n'
    "doi 10.1016/0377-0427(90)90349-5.",
    conditions=(
        (
            lambda ngood, nbad, nsample: nsample <= ngood + nbad,
            "nsample must be at most ngood + nbad",
        ),
    ),
)
logseries = _row(
    "logseries",
    (probability("p", "Parameter, in [0, 1).", below=True),),
    _logseries,
    "Draw from the logarithmic series distribution, at least 1.",
    'A. W. Kemp, "Efficient generation of logarithmically distributed pseudo-random variables", J. R. Stat. Soc. C 30\n'
    "(1981), doi 10.2307/2346348. Exact.",
)
zipf = _row(
    "zipf",
    (Parameter("a", "Exponent, above 1.", lambda v: (v > 1) & torch.isfinite(v), "greater than 1"),),
    _zipf,
    "Draw from the Zipf (zeta) distribution, in [1, 2**63).",
    'Rejection: L. Devroye, "Non-uniform random variate generation" (1986), section X.6.1,\n'
    "doi 10.1007/978-1-4613-8643-8; exact for the distribution cut at 2**63.",
)

METHODS = {
    method.__name__: method
    for method in (poisson, binomial, negative_binomial, geometric, hypergeometric, logseries, zipf)
}
