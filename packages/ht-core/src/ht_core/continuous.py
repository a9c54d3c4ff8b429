"""Continuous distributions: one row each; see :mod:`ht_core.sampling` for the engine.

Inversion where the inverse distribution function is elementary (exact up to the rounding of 52-bit uniform numbers),
transformations of gamma and normal variates, and rejection for the gamma and the von Mises distribution, which is
exact. All of them are methods of ``Generator`` and functions of ``ht.random``.
"""

from __future__ import annotations

import math

import torch

from .random_arguments import non_negative, number, positive
from .sampling import Distribution, Trials, distribution, gauss, interior, sign, unit

_SCALE = non_negative("scale", "Scale of the variates, at least 0.", 1.0)
_LOC = number("loc", "Centre of the distribution.", 0.0)

# -- inversion: one word per element ------------------------------------------------------------------------------


def _waiting(words: torch.Tensor) -> torch.Tensor:
    """Return exponential variates of mean 1, never 0."""
    return interior(words).log_().neg_()


def _raised(logarithm: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    """Return ``exp(logarithm * exponent)``."""
    return torch.exp(logarithm * exponent)


def _laplace(words, loc, scale):
    return loc + scale * sign(words) * _waiting(words)


def _logistic(words, loc, scale):
    u = interior(words)
    return loc + scale * (torch.log(u) - torch.log1p(-u))


def _gumbel(words, loc, scale):
    return loc - scale * torch.log(_waiting(words))


def _cauchy(words):
    return torch.tan((interior(words) - 0.5) * math.pi)


def _rayleigh(words, scale):
    return scale * torch.sqrt(2.0 * _waiting(words))


def _weibull(words, a):
    return torch.where(a > 0, _raised(torch.log(_waiting(words)), 1.0 / a), 0.0)


def _pareto(words, a):
    return torch.expm1(_waiting(words) / a)


def _power(words, a):
    return _raised(-_waiting(words), 1.0 / a)


def _triangular(words, left, mode, right):
    u, base, wide = interior(words), right - left, mode - left
    lower = left + torch.sqrt(u * base * wide)
    upper = right - torch.sqrt((1.0 - u) * base * (right - mode))
    return torch.where(u * base <= wide, lower, upper)


def _inversion(name, parameters, kernel, summary, body="", notes="", conditions=()):
    row = Distribution(name, parameters, kernel, 1, conditions=conditions)
    return distribution(row, summary, body, notes)


laplace = _inversion(
    "laplace",
    (_LOC, _SCALE),
    _laplace,
    "Draw from the Laplace (double exponential) distribution.",
    notes="An exponential variate with a random sign.",
)
logistic = _inversion(
    "logistic",
    (_LOC, _SCALE),
    _logistic,
    "Draw from the logistic distribution.",
    notes="Inversion, ``log(u / (1 - u))``.",
)
gumbel = _inversion(
    "gumbel",
    (_LOC, _SCALE),
    _gumbel,
    "Draw from the Gumbel distribution of largest values.",
    notes="Inversion, ``-log(-log(u))``.",
)
standard_cauchy = _inversion(
    "standard_cauchy",
    (),
    _cauchy,
    "Draw from the Cauchy distribution with mode 0 and half-width 1.",
    notes="Inversion, ``tan(pi (u - 1/2))``.",
)
rayleigh = _inversion(
    "rayleigh",
    (_SCALE,),
    _rayleigh,
    "Draw from the Rayleigh distribution.",
    notes="Inversion, ``sqrt(-2 log(u))``.",
)
weibull = _inversion(
    "weibull",
    (non_negative("a", "Shape, at least 0; 0 gives 0."),),
    _weibull,
    "Draw from the Weibull distribution of scale 1.",
    notes="Inversion, ``(-log(u))**(1 / a)``.",
)
pareto = _inversion(
    "pareto",
    (positive("a", "Shape, positive."),),
    _pareto,
    "Draw from the Lomax (Pareto II) distribution: Pareto's classical one is ``1 + pareto(a)`` times its scale.",
    notes="Inversion, ``u**(-1 / a) - 1``.",
)
power = _inversion(
    "power",
    (positive("a", "Exponent plus 1, positive: the density is ``a x**(a - 1)``."),),
    _power,
    "Draw from the power function distribution on [0, 1].",
    notes="Inversion, ``u**(1 / a)``.",
)
triangular = _inversion(
    "triangular",
    (
        number("left", "Lower end."),
        number("mode", "Where the density is largest, in [left, right]."),
        number("right", "Upper end, above `left`."),
    ),
    _triangular,
    "Draw from the triangular distribution on [left, right].",
    notes="Inversion.",
    conditions=(
        (lambda left, mode, right: (left <= mode) & (mode <= right), "mode must lie in [left, right]"),
        (lambda left, mode, right: left < right, "left must be less than right"),
    ),
)

# -- gamma and what is made of it ---------------------------------------------------------------------------------


def _gamma_attempt(words, shape):
    """Marsaglia and Tsang: d (1 + c z)**3 with z normal, for the shape raised to at least 1."""
    d = torch.where(shape < 1, shape + 1.0, shape) - 1 / 3
    z = gauss(words[0], words[1])
    v = 1.0 + z / torch.sqrt(9.0 * d)
    cube = v * v * v
    bound = 0.5 * z * z + d * (1.0 - cube + torch.log(cube.clamp(min=1e-300)))
    return (d * cube,), (v > 0) & (interior(words[2]).log_() < bound)


def _small_gamma_attempt(words, shape):
    """The same with the logarithm of one more uniform number."""
    values, accepted = _gamma_attempt(words, shape)
    return (*values, interior(words[3]).log_()), accepted


def gamma_parts(trials: Trials, shape: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (g, b) of gamma variates ``g * exp(b)``; b is 0 for shapes of at least 1.

    A gamma variate of shape a < 1 is one of shape a + 1 times ``u**(1 / a)``, whose logarithm b does not underflow.
    """
    if not bool((shape < 1).any()):
        return trials.until_accepted(_gamma_attempt, shape)[0], torch.zeros_like(shape)
    value, log_u = trials.until_accepted(_small_gamma_attempt, shape)
    return value, torch.where(shape < 1, (log_u / shape).clamp(min=-1e300), 0.0)


def gamma_variate(trials: Trials, shape: torch.Tensor) -> torch.Tensor:
    """Return gamma variates of scale 1."""
    value, boost = gamma_parts(trials, shape)
    return value * torch.exp(boost) if bool((boost < 0).any()) else value


def log_gamma_variate(trials: Trials, shape: torch.Tensor) -> torch.Tensor:
    """Return logarithms of gamma variates, finite for any shape."""
    value, boost = gamma_parts(trials, shape)
    return torch.log(value) + boost


def chi_square(trials: Trials, df: torch.Tensor) -> torch.Tensor:
    """Return chi-square variates."""
    return 2.0 * gamma_variate(trials, 0.5 * df)


def _beta(trials, a, b):
    odds = log_gamma_variate(trials.along(1), b) - log_gamma_variate(trials, a)
    return 1.0 / (1.0 + torch.exp(odds))


def _f(trials, dfnum, dfden):
    return (chi_square(trials, dfnum) / dfnum) / (chi_square(trials.along(1), dfden) / dfden)


def _standard_t(trials, df):
    words = trials.along(1).words()
    return gauss(words[0], words[1]) / torch.sqrt(chi_square(trials, df) / df)


def _noncentral_chisquare(trials, df, nonc):
    from .discrete import poisson_variate

    return chi_square(trials, df + 2.0 * poisson_variate(trials.along(1), 0.5 * nonc))


def _noncentral_f(trials, dfnum, dfden, nonc):
    upper = _noncentral_chisquare(trials, dfnum, nonc) / dfnum
    return upper / (chi_square(trials.along(2), dfden) / dfden)


def _trials(name, parameters, kernel, summary, body="", notes=""):
    return distribution(Distribution(name, parameters, kernel, 4), summary, body, notes)


_MARSAGLIA = (
    'Rejection, exact: G. Marsaglia and W. W. Tsang, "A simple method for generating gamma variables", ACM TOMS 26\n'
    "(2000), doi 10.1145/358407.358414; each attempt of each element has a Philox block of its own."
)
_DF = positive("df", "Degrees of freedom, positive.")
_SHAPE = non_negative("shape", "Shape, at least 0; 0 gives 0.")

standard_gamma = _trials(
    "standard_gamma",
    (_SHAPE,),
    gamma_variate,
    "Draw from the gamma distribution of scale 1.",
    notes=_MARSAGLIA,
)
gamma = _trials(
    "gamma",
    (_SHAPE, _SCALE),
    lambda trials, shape, scale: scale * gamma_variate(trials, shape),
    "Draw from the gamma distribution.",
    notes=_MARSAGLIA,
)
chisquare = _trials(
    "chisquare",
    (_DF,),
    chi_square,
    "Draw from the chi-square distribution.",
    notes="Twice a gamma variate of shape ``df / 2``; see :meth:`gamma`.",
)
noncentral_chisquare = _trials(
    "noncentral_chisquare",
    (_DF, non_negative("nonc", "Non-centrality, at least 0.")),
    _noncentral_chisquare,
    "Draw from the non-central chi-square distribution.",
    notes="A chi-square variate whose degrees of freedom are `df` plus twice a Poisson variate of mean ``nonc / 2``.",
)
f = _trials(
    "f",
    (
        positive("dfnum", "Degrees of freedom of the numerator."),
        positive("dfden", "Those of the denominator."),
    ),
    _f,
    "Draw from the F distribution.",
    notes="Two chi-square variates over their degrees of freedom, divided.",
)
noncentral_f = _trials(
    "noncentral_f",
    (
        positive("dfnum", "Degrees of freedom of the numerator."),
        positive("dfden", "Those of the denominator."),
        non_negative("nonc", "Non-centrality of the numerator, at least 0."),
    ),
    _noncentral_f,
    "Draw from the non-central F distribution.",
    notes="A non-central and a central chi-square variate over their degrees of freedom, divided.",
)
standard_t = _trials(
    "standard_t",
    (_DF,),
    _standard_t,
    "Draw from Student's t distribution.",
    notes="A normal variate over the root of a chi-square variate divided by its degrees of freedom.",
)
beta = _trials(
    "beta",
    (positive("a", "First shape, positive."), positive("b", "Second shape, positive.")),
    _beta,
    "Draw from the beta distribution.",
    notes="``X / (X + Y)`` of two gamma variates, from their logarithms, so that tiny shapes do not give 0 / 0.",
)

# -- others -------------------------------------------------------------------------------------------------------


def _lognormal(trials, mean, sigma):
    words = trials.words()
    return torch.exp(mean + sigma * gauss(words[0], words[1]))


def _wald(trials, mean, scale):
    words = trials.words()
    z = gauss(words[0], words[1])
    # The roots of the quadratic equation are mean * larger and mean / larger: no cancellation.
    half = mean * z * z / (2.0 * scale)
    larger = 1.0 + half + torch.sqrt(half * (half + 2.0))
    return torch.where(unit(words[2]) * (1.0 + larger) <= larger, mean / larger, mean * larger)


def _vonmises(trials, mu, kappa):
    kappa = kappa.clamp(max=1e150)  # its square must be finite
    root = torch.sqrt(1.0 + 4.0 * kappa * kappa)
    tau = 1.0 + root
    both = torch.sqrt(tau) + math.sqrt(2.0)
    rho = torch.sqrt(tau) * 2.0 * kappa / (both * tau)
    # 1 - rho and kappa / rho without cancellation, for concentrations from 0 to the largest
    rest = (2.0 * tau).sqrt() - 1.0 - 1.0 / (root + 2.0 * kappa)
    rest = torch.where(kappa > 1.0, rest / (2.0 * kappa), 1.0 - rho)
    ratio = both * tau / (2.0 * torch.sqrt(tau))
    (gap, turn) = trials.until_accepted(_vonmises_attempt, kappa, rho, rest, ratio)
    angle = mu + turn * 2.0 * torch.asin(torch.sqrt(0.5 * gap))
    return angle - 2 * math.pi * torch.round(angle / (2 * math.pi))


def _vonmises_attempt(words, kappa, rho, rest, ratio):
    """Best and Fisher: the wrapped Cauchy hat; `gap` is 1 - cos(angle)."""
    z = torch.cos(math.pi * interior(words[0]))
    q = 2.0 * rho / (1.0 + rho * rho)
    gap = rest * rest / (1.0 + rho * rho) * (1.0 - z) / (1.0 + q * z)
    y = 0.5 * ratio * rest * rest + kappa * gap
    accepted = torch.log(y / interior(words[1])) + 1.0 - y >= 0
    return (gap, sign(words[1])), accepted


lognormal = _trials(
    "lognormal",
    (
        number("mean", "Mean of the logarithm.", 0.0),
        non_negative("sigma", "Standard deviation of the logarithm.", 1.0),
    ),
    _lognormal,
    "Draw from the log-normal distribution.",
    notes="The exponential of a normal variate (Box and Muller).",
)
wald = _trials(
    "wald",
    (positive("mean", "Mean, positive."), positive("scale", "Shape of the distribution, positive.")),
    _wald,
    "Draw from the Wald (inverse Gaussian) distribution.",
    notes='J. R. Michael, W. R. Schucany and R. W. Haas, "Generating random variates using transformations with\n'
    'multiple roots", Am. Stat. 30 (1976), doi 10.2307/2683801; the roots in a form that does not cancel.',
)
vonmises = _trials(
    "vonmises",
    (number("mu", "Mode, in radians."), non_negative("kappa", "Concentration, at least 0.")),
    _vonmises,
    "Draw angles in [-pi, pi] from the von Mises distribution.",
    notes='Rejection, exact: D. J. Best and N. I. Fisher, "Efficient simulation of the von Mises distribution", J. R.\n'
    "Stat. Soc. C 28 (1979), doi 10.2307/2346732, in a form that keeps its digits for any `kappa`.",
)

METHODS = {
    method.__name__: method
    for method in (
        laplace, logistic, gumbel, standard_cauchy, rayleigh, weibull, pareto, power, triangular, standard_gamma, gamma,
        chisquare, noncentral_chisquare, f, noncentral_f, standard_t, beta, lognormal, wald, vonmises,
    )
}  # fmt: skip
