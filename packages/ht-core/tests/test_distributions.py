"""Distributions with parameters: the same numbers for any layout, SciPy's laws, refusals, cost."""

import math

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core import discrete, ordering, sampling
from ht_core.saddle_point import deviance, log_binomial, log_poisson, stirling_error
from ht_core.testing import layouts, spread, whole
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

ROWS = sorted({**ht.generator.continuous.METHODS, **ht.generator.discrete.METHODS})
N = 200_000

# name -> list of (parameters, SciPy's distribution)
CONTINUOUS = {
    "laplace": [((1.0, 2.0), stats.laplace(1, 2))],
    "logistic": [((-1.0, 3.0), stats.logistic(-1, 3))],
    "gumbel": [((1.0, 2.0), stats.gumbel_r(1, 2))],
    "standard_cauchy": [((), stats.cauchy())],
    "rayleigh": [((2.0,), stats.rayleigh(scale=2))],
    "weibull": [((0.5,), stats.weibull_min(0.5)), ((3.0,), stats.weibull_min(3))],
    "pareto": [((2.5,), stats.lomax(2.5))],
    "power": [((0.4,), stats.powerlaw(0.4)), ((5.0,), stats.powerlaw(5))],
    "triangular": [
        ((-1.0, 0.0, 3.0), stats.triang(0.25, -1, 4)),
        ((0.0, 0.0, 1.0), stats.triang(0, 0, 1)),
        ((0.0, 1.0, 1.0), stats.triang(1, 0, 1)),
    ],
    "standard_gamma": [((a,), stats.gamma(a)) for a in (0.1, 0.9, 1.0, 2.5, 1000.0, 1e9)],
    "gamma": [((3.0, 2.0), stats.gamma(3, scale=2))],
    "chisquare": [((1.0,), stats.chi2(1)), ((7.0,), stats.chi2(7))],
    "noncentral_chisquare": [((0.5, 3.0), stats.ncx2(0.5, 3)), ((4.0, 30.0), stats.ncx2(4, 30))],
    "f": [((3.0, 8.0), stats.f(3, 8))],
    "noncentral_f": [((3.0, 8.0, 2.0), stats.ncf(3, 8, 2))],
    "standard_t": [((1.0,), stats.t(1)), ((10.0,), stats.t(10))],
    "beta": [((a, b), stats.beta(a, b)) for a, b in ((0.1, 0.2), (1.0, 1.0), (2.0, 5.0), (800.0, 300.0))],
    "lognormal": [((0.5, 0.8), stats.lognorm(0.8, scale=math.exp(0.5)))],
    "wald": [((1.0, 2.0), stats.invgauss(0.5, scale=2)), ((300.0, 1.0), stats.invgauss(300, scale=1))],
    "vonmises": [((0.0, k), stats.vonmises(k)) for k in (0.0, 1e-3, 0.5, 4.0, 200.0)],
    "exponential": [((3.0,), stats.expon(scale=3))],
    "normal": [((1.0, 2.0), stats.norm(1, 2))],
    "uniform": [((1.0, 3.0), stats.uniform(1, 2))],
}
DISCRETE = {
    "poisson": [((m,), stats.poisson(m)) for m in (0.0, 0.3, 9.9, 10.0, 30.0, 1000.0, 1e7)],
    "binomial": [
        ((n, p), stats.binom(n, p))
        for n, p in (
            (0, 0.5), (10, 0.0), (10, 1.0), (1, 0.3), (20, 0.4), (25, 0.5), (100, 0.95), (1000, 0.01), (10**6, 0.3)
        )
    ],
    "negative_binomial": [((2.5, 0.3), stats.nbinom(2.5, 0.3)), ((40.0, 0.5), stats.nbinom(40, 0.5))],
    "geometric": [((p,), stats.geom(p)) for p in (1.0, 0.7, 0.01)],
    "hypergeometric": [
        ((g, b, n), stats.hypergeom(g + b, g, n))
        for g, b, n in (
            (5, 0, 3), (0, 5, 3), (5, 7, 12), (5, 7, 4), (7, 5, 10), (40, 60, 30), (60, 40, 80), (9000, 5000, 700)
        )
    ],
    "logseries": [((p,), stats.logser(p)) for p in (0.1, 0.6, 0.99)],
    "zipf": [((a,), stats.zipf(a)) for a in (1.5, 2.5, 6.0)],
}  # fmt: skip
CASES = [(name, *case) for name, cases in (CONTINUOUS | DISCRETE).items() for case in cases]


def label(value):
    return value if isinstance(value, str) else repr(value) if isinstance(value, tuple) else ""


def drawn(name, parameters, n=N, seed=20, **options):
    return getattr(ht.random.default_rng(seed), name)(*parameters, n, **options).larray.cpu().numpy()


# -- the laws -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "parameters", "law"), [c for c in CASES if c[0] in CONTINUOUS], ids=label)
def test_distribution_function(name, parameters, law):
    """Kolmogorov's distance; beyond the bound with probability 1e-4."""
    values = drawn(name, parameters)
    assert stats.kstest(values, law.cdf).pvalue > 1e-4
    assert len(np.unique(values)) > 0.999 * N


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # SciPy's geometric distribution of p = 1
@pytest.mark.parametrize(("name", "parameters", "law"), [c for c in CASES if c[0] in DISCRETE], ids=label)
def test_probabilities(name, parameters, law):
    """Chi-square over cells of equal expectation, the tails joined; beyond the bound with probability 1e-4."""
    values = drawn(name, parameters)
    assert values.dtype == np.int64
    cuts = np.unique(law.ppf(np.linspace(0, 1, 60)[1:-1]))
    if values.min() == values.max():
        assert law.pmf(values[0]) > 1 - 1e-6
        return
    edges = law.cdf(cuts)
    expected = np.diff(np.concatenate([[0.0], edges, [1.0]])) * N
    found = np.bincount(np.searchsorted(cuts, values, side="left"), minlength=len(expected))
    assert found[expected == 0].sum() == 0
    found, expected = found[expected > 0], expected[expected > 0]
    joined = expected < 5
    if joined.any():
        found = np.append(found[~joined], found[joined].sum())
        expected = np.append(expected[~joined], expected[joined].sum())
    chi2 = ((found - expected) ** 2 / expected).sum()
    assert stats.chi2.sf(chi2, len(found) - 1) > 1e-4


MOMENTS = [
    c
    for c in CASES
    if c[0] not in ("standard_cauchy", "zipf", "pareto", "f", "noncentral_f", "standard_t", "vonmises")
]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # SciPy's kurtosis of constants
@pytest.mark.parametrize(("name", "parameters", "law"), MOMENTS, ids=label)
def test_mean_and_variance(name, parameters, law):
    values = drawn(name, parameters).astype(float)
    mean, variance, kurtosis = (float(v) for v in law.stats("mvk"))
    assert abs(values.mean() - mean) <= 4.5 * math.sqrt(variance / N) + 1e-12
    if variance and name not in ("lognormal", "wald", "weibull"):
        spread_of = math.sqrt((kurtosis + 2) / N)
        assert abs(values.var() / variance - 1) < 4.5 * spread_of + 1e-9


@pytest.mark.parametrize(
    "name", ["normal", "laplace", "logistic", "gumbel", "gamma", "uniform", "exponential"]
)
def test_third_and_fourth_moment(name):
    parameters, law = CONTINUOUS[name][0]
    n = 2_000_000
    values = (drawn(name, parameters, n) - law.mean()) / law.std()
    skewness, kurtosis = (float(v) for v in law.stats("sk"))
    batches = values.reshape(100, -1)
    for power, expected in ((3, skewness), (4, kurtosis + 3)):
        of_batches = (batches**power).mean(axis=1)
        assert abs(of_batches.mean() - expected) < 5 * of_batches.std() / 10


def test_extreme_parameters():
    tiny = drawn("beta", (1e-4, 1e-4), 20_000)
    assert np.isfinite(tiny).all()
    assert abs(tiny.mean() - 0.5) < 0.02
    small = drawn("standard_gamma", (1e-3,), 20_000)
    assert stats.kstest(small[small > 0], lambda x: special.gammainc(1e-3, x)).pvalue < 1  # finite
    assert (drawn("standard_gamma", (0.0,), 10) == 0).all()
    assert (drawn("weibull", (0.0,), 10) == 0).all()
    sharp = drawn("vonmises", (0.0, 1e14), 20_000)
    assert abs(sharp.std() * 1e7 - 1) < 0.05
    assert np.abs(drawn("vonmises", (3.0, 0.2), 20_000)).max() <= math.pi
    assert (drawn("geometric", (1e-300,), 10) == 2**63 - 1).all()
    assert drawn("zipf", (1.0 + 1e-9,), 1000).min() >= 1
    assert (drawn("zipf", (1e6,), 1000) == 1).all()
    assert (drawn("hypergeometric", (0, 0, 0), 10) == 0).all()
    huge = drawn("poisson", (1e18,), 20_000).astype(float)
    assert abs((huge.mean() - 1e18) / 1e9) < 4 / math.sqrt(20_000)
    assert abs(huge.std() / 1e9 - 1) < 0.03
    halves = drawn("binomial", (2**62, 0.5), 20_000).astype(float)
    assert abs((halves.mean() - 2.0**61) / 2.0**30) < 4 / math.sqrt(20_000)
    assert abs(halves.std() / 2.0**30 - 1) < 0.03
    cards = drawn("hypergeometric", (2**49, 2**49, 2**40), 20_000).astype(float)
    assert abs((cards.mean() - 2.0**39) / 2.0**19) < 4 / math.sqrt(20_000)
    assert (drawn("poisson", (1e6,), 100, dtype="int8") == 127).all()
    assert drawn("poisson", (5.0,), 100, dtype="float32").dtype == np.float32


@pytest.mark.parametrize("name", ["gamma", "poisson", "vonmises", "binomial"])
def test_neighbours_are_independent(name):
    parameters, law = (CONTINUOUS | DISCRETE)[name][-1]
    u = law.cdf(drawn(name, parameters).astype(float)) - 0.5
    u -= u.mean()
    for lag in (1, 2, 3, 4, 64):
        assert abs((u[:-lag] * u[lag:]).mean() / u.var()) < 4.5 / math.sqrt(N)


# -- probabilities far out ------------------------------------------------------------------------------------------


def test_saddle_point_expansions():
    n = torch.arange(1, 200, dtype=torch.float64)
    exact = (
        special.gammaln(n.numpy() + 1)
        - (n.numpy() + 0.5) * np.log(n.numpy())
        + n.numpy()
        - 0.5 * math.log(2 * math.pi)
    )
    np.testing.assert_allclose(stirling_error(n), exact, atol=2e-13)
    for mean in (0.5, 20.0, 1e4):
        k = torch.arange(0, 60, dtype=torch.float64) + max(0, int(mean) - 30)
        np.testing.assert_allclose(
            log_poisson(k, torch.tensor([mean], dtype=torch.float64)),
            stats.poisson.logpmf(k, mean),
            rtol=1e-11,
        )
    one = torch.ones(1, dtype=torch.float64)
    for trials, p in ((1, 0.3), (2, 0.3), (40, 0.5), (10**6, 1e-4)):
        k = torch.arange(0, min(trials, 200) + 1, dtype=torch.float64)
        found = log_binomial(k, trials * one, p * one, (1 - p) * one)
        np.testing.assert_allclose(found, stats.binom.logpmf(k, trials, p), rtol=1e-9, atol=1e-12)
    # No cancellation: the deviance of a mean of 1e16 and a count 1e8 off is 0.5 up to 1e-8 / 6.
    assert abs(float(deviance(one * (1e16 + 1e8), one * 1e16)[0]) - 0.5) < 1e-8


def test_squeezes_change_nothing(monkeypatch):
    cases = [("poisson", (m,)) for m in (10.0, 10.5, 13.0, 50.0, 1e4)]
    cases += [("binomial", c) for c in ((20, 0.5), (100, 0.1), (35, 0.3), (1000, 0.3), (10**6, 0.4))]
    expected = [drawn(name, parameters) for name, parameters in cases]
    monkeypatch.setattr(discrete, "_squeezed", lambda fast, exact, *values: exact(*values))
    for (name, parameters), numbers in zip(cases, expected):
        np.testing.assert_array_equal(drawn(name, parameters), numbers)


# -- the same numbers everywhere ------------------------------------------------------------------------------------


def parameters_of(name):
    return (CONTINUOUS | DISCRETE)[name][-1][0]


VECTORS = {
    "dirichlet": lambda g, size, **kw: g.dirichlet([0.5, 1.0, 20.0], size, **kw),
    "multinomial": lambda g, size, **kw: g.multinomial(50, [0.1, 0.6, 0.3], size, **kw),
    "multivariate_hypergeometric": lambda g, size, **kw: g.multivariate_hypergeometric(
        [30, 0, 40], 33, size, **kw
    ),
    "multivariate_normal": lambda g, size, **kw: g.multivariate_normal(
        [0, 1, 2], [[2, 1, 0], [1, 2, 0], [0, 0, 0.5]], size, **kw
    ),
}
CALLS = {
    **{
        name: lambda g, size, name=name, **kw: getattr(g, name)(*parameters_of(name), size, **kw)
        for name in ROWS
    },
    **VECTORS,
}


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=8, deadline=None, derandomize=True)
@given(data=st.data())
def test_numbers_do_not_depend_on_ranks_or_split(name, data):
    size = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple))
    p = data.draw(st.integers(1, 5))
    expected = whole(CALLS[name](ht.random.default_rng(11), size))
    split = data.draw(st.sampled_from([None, *range(expected.ndim)]))

    def run(comm):
        with comm.trace() as sent:
            x = CALLS[name](ht.random.default_rng(11), size, split=split)
        # The factor of a covariance is one rank's: whether there is one, and its values.
        assert sent.calls == (2 if name == "multivariate_normal" and p > 1 else 0)
        assert x.layout is ht.Layout.even(expected.shape, split, p)
        tolerance = 1e-14 if name == "multivariate_normal" else 0
        np.testing.assert_allclose(whole(x), expected, rtol=tolerance, atol=tolerance)

    spmd(p, run)


@pytest.mark.parametrize("name", ROWS)
@settings(max_examples=6, deadline=None, derandomize=True)
@given(data=st.data())
def test_numbers_do_not_depend_on_the_layout(name, data):
    """Uneven and empty parts, strided memory, tiles shorter than the array."""
    shape = data.draw(st.lists(st.integers(0, 12), min_size=1, max_size=3).map(tuple))
    p = data.draw(st.integers(1, 5))
    split, counts = data.draw(layouts(shape, p))
    dtype = data.draw(st.sampled_from(["float64", "float32"]))
    values = parameters_of(name)
    expected = whole(getattr(ht.random.default_rng(3), name)(*values, shape, dtype))
    transposed, tile = data.draw(st.booleans()), data.draw(st.sampled_from([16, 64, 1 << 15]))

    def run(comm):
        layout = ht.Layout(shape, split, counts)
        lshape = layout.lshape(comm.rank)
        part = torch.empty(lshape[::-1] if transposed else lshape, dtype=ht.types.canonical(dtype).torch)
        x = ht.DNDarray(part.permute(*reversed(range(part.ndim))) if transposed else part, layout, comm)
        assert getattr(ht.random.default_rng(3), name)(*values, out=x) is x
        np.testing.assert_array_equal(whole(x), expected)

    patch = pytest.MonkeyPatch()
    patch.setattr(sampling, "TILE", tile)
    spmd(p, run)
    patch.undo()


def test_tiles_leave_no_seam(monkeypatch):
    expected = {name: drawn(name, parameters_of(name), 3000) for name in ROWS}
    monkeypatch.setattr(sampling, "TILE", 37)
    for name in ROWS:
        np.testing.assert_array_equal(drawn(name, parameters_of(name), 3000), expected[name])


ARRAYS = {  # parameters that change along an axis, through every case of the method
    "gamma": (np.array([0.0, 0.3, 1.0, 50.0]), np.array([[1.0], [2.0], [0.0]])),
    "poisson": (np.array([0.0, 3.0, 12.0, 1e5]),),
    "binomial": (np.array([5, 40, 1000]), np.array([[0.0], [0.2], [0.9], [1.0]])),
    "hypergeometric": (np.array([3, 70, 20]), np.array([[50], [60]]), np.array([2, 40, 17])),
    "negative_binomial": (np.array([0.5, 90.0]), 0.4),
    "vonmises": (np.array([0.0, 2.0]), np.array([0.0, 30.0])),
    "triangular": (np.array([0.0, 1.0]), np.array([0.5, 1.0]), 2.0),
    "laplace": (np.array([0.0, 9.0]), np.array([[1.0], [0.0]])),
    "wald": (np.array([0.5, 3.0]), 2.0),
    "zipf": (np.array([1.2, 3.0, 900.0]),),
    "normal": (np.array([0.0, 9.0]), np.array([[1.0], [0.0]])),
    "uniform": (np.array([0.0, 9.0]), np.array([[1.0], [20.0]])),
    "exponential": (np.array([0.0, 9.0]),),
}


@pytest.mark.parametrize("name", ARRAYS)
@settings(max_examples=10, deadline=None, derandomize=True)
@given(data=st.data())
def test_array_parameters(name, data):
    """Each element is that of the call with its own parameters; split and replicated parameters mean the same."""
    values = ARRAYS[name]
    shape = (data.draw(st.integers(1, 4)), *np.broadcast_shapes(*(np.shape(v) for v in values)))
    p = data.draw(st.integers(1, 4))
    split = data.draw(st.sampled_from([None, *range(len(shape))]))
    places = [data.draw(layouts(np.shape(v), p)) for v in values]
    full = np.broadcast_arrays(*values, np.empty(shape))[:-1]
    whole_calls = {}
    expected = np.empty(shape)
    for at in np.ndindex(shape):
        own = tuple(float(v[at]) for v in full)
        if own not in whole_calls:
            whole_calls[own] = whole(getattr(ht.random.default_rng(3), name)(*own, shape))
        expected[at] = whole_calls[own][at]

    def run(comm):
        parameters = [
            spread(np.asarray(v), *place, comm) if np.ndim(v) and comm.rank >= 0 else v
            for v, place in zip(values, places)
        ]
        x = getattr(ht.random.default_rng(3), name)(*parameters, size=shape, split=split)
        if split is not None:
            assert x.split == split
        np.testing.assert_allclose(whole(x), expected, rtol=1e-15)
        y = getattr(ht.random.default_rng(3), name)(*values, size=shape, split=split)
        np.testing.assert_array_equal(whole(y), whole(x))
        for given_value, parameter in zip(values, parameters):
            if np.ndim(given_value):
                np.testing.assert_array_equal(whole(parameter), given_value)

    spmd(p, run)


def test_cost_of_split_parameters():
    def run(comm):
        scale = ht.ones(40, split=0)
        with comm.trace() as sent:
            x = ht.random.gamma(2.0, scale)
        assert x.split == 0
        assert sent.calls == 1  # the check
        assert sent.bytes < 1000

    spmd(3, run)


KNOWN = [
    [0.8110610321011054, 1.2852820021709561, 0.5057115131083955, 0.07376388260310095, 3.944126503761],
    [27, 28, 18, 24, 22],
    [30, 29, 24, 30, 31],
    [7, 7, 6, 1, 14, 5],
    [0, 1, 2, 11, 4, 5, 10, 3, 8, 9, 6, 7],
]


@pytest.mark.mpi
def test_known_numbers_on_processes(comm):
    ht.random.seed(2026)
    found = [
        ht.random.gamma(0.7, 2.0, 5, split=0).numpy(),
        ht.random.poisson(25.0, 5, split=0).numpy(),
        ht.random.binomial(100, 0.3, 5, split=0).numpy(),
        ht.random.multinomial(20, [0.2, 0.5, 0.3], 2, split=1).numpy().ravel(),
        ht.random.permuted(ht.arange(12, split=0).reshape(3, 4), axis=0).numpy().ravel(),
    ]
    for a, b in zip(found, KNOWN):
        np.testing.assert_allclose(a, b, rtol=1e-9)


# -- vectors ----------------------------------------------------------------------------------------------------------


def test_dirichlet():
    alpha = np.array([0.5, 2.0, 7.5])
    x = ht.random.default_rng(1).dirichlet(alpha, N).larray.cpu().numpy()
    np.testing.assert_allclose(x.sum(axis=1), 1, rtol=1e-12)
    for j in range(3):
        assert stats.kstest(x[:, j], stats.beta(alpha[j], 10 - alpha[j]).cdf).pvalue > 1e-4
    assert abs(np.corrcoef(x.T)[0, 1] + math.sqrt(0.5 * 2 / (9.5 * 8))) < 5 / math.sqrt(N)
    tiny = ht.random.default_rng(1).dirichlet([1e-4] * 4, 1000).larray.cpu().numpy()
    np.testing.assert_allclose(tiny.sum(axis=1), 1, rtol=1e-12)


def test_multinomial():
    p = np.array([0.1, 0.0, 0.3, 0.6])
    x = ht.random.default_rng(1).multinomial(40, p, N).larray.cpu().numpy()
    assert (x.sum(axis=1) == 40).all()
    assert (x >= 0).all()
    assert (x[:, 1] == 0).all()
    np.testing.assert_allclose(x.mean(axis=0), 40 * p, atol=5 * math.sqrt(10 / N))
    expected = 40 * (np.diag(p) - np.outer(p, p))
    np.testing.assert_allclose(np.cov(x.T), expected, atol=0.15)
    one = ht.random.default_rng(1).multinomial(1, [1 / 3] * 3, 30_000).larray.cpu().numpy()
    assert np.abs(one.sum(axis=0) - 10_000).max() < 4.5 * math.sqrt(30_000 * 2 / 9)
    assert ht.random.multinomial(5, [1.0]).numpy().tolist() == [5]


def test_multivariate_hypergeometric():
    x = ht.random.default_rng(1).multivariate_hypergeometric([10, 0, 30, 20], 25, N).larray.cpu().numpy()
    assert (x.sum(axis=1) == 25).all()
    assert (x <= [10, 0, 30, 20]).all()
    law = stats.multivariate_hypergeom([10, 0, 30, 20], 25)
    np.testing.assert_allclose(x.mean(axis=0), law.mean(), atol=0.03)
    np.testing.assert_allclose(np.cov(x.T), law.cov(), atol=0.06)


@pytest.mark.parametrize("method", ["svd", "eigh", "cholesky"])
def test_multivariate_normal(method):
    cov = np.array([[2.0, 0.5, 0.0], [0.5, 1.0, -0.3], [0.0, -0.3, 0.7]])
    x = ht.random.default_rng(1).multivariate_normal([1, 2, 3], cov, N, method=method).larray.cpu().numpy()
    np.testing.assert_allclose(x.mean(axis=0), [1, 2, 3], atol=0.02)
    np.testing.assert_allclose(np.cov(x.T), cov, atol=0.04)
    assert stats.kstest(x[:, 0], stats.norm(1, math.sqrt(2)).cdf).pvalue > 1e-4


def test_multivariate_normal_of_no_covariance():
    bad = [[1.0, 2.0], [2.0, 1.0]]
    with pytest.warns(RuntimeWarning, match="positive semi-definite"):
        ht.random.multivariate_normal([0, 0], bad, 3)
    with pytest.raises(ValueError, match="positive semi-definite"):
        ht.random.multivariate_normal([0, 0], bad, 3, check_valid="raise")
    ht.random.multivariate_normal([0, 0], bad, 3, check_valid="ignore")
    flat = ht.random.multivariate_normal([0, 0], [[1.0, 1.0], [1.0, 1.0]], 50).numpy()  # semi-definite
    np.testing.assert_allclose(flat[:, 0], flat[:, 1], atol=1e-7)


# -- reordering slices ------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_permuted(data):
    shape = data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=3).map(tuple))
    axis = data.draw(st.sampled_from([None, *range(-len(shape), len(shape))]))
    p = data.draw(st.integers(1, 4))
    layout = data.draw(layouts(shape, p))
    source = np.arange(math.prod(shape), dtype=np.uint32).reshape(shape)
    expected = whole(ht.random.default_rng(6).permuted(source, axis))
    np.testing.assert_array_equal(np.sort(expected, axis=axis), np.sort(source, axis=axis))

    def run(comm):
        x = spread(source, *layout, comm)
        y = ht.random.default_rng(6).permuted(x, axis)
        assert y.layout is x.layout
        np.testing.assert_array_equal(whole(y), expected)
        np.testing.assert_array_equal(whole(x), source)
        assert ht.random.default_rng(6).permuted(x, axis, out=x) is x
        np.testing.assert_array_equal(whole(x), expected)

    spmd(p, run)


def test_slices_are_ordered_piece_by_piece(monkeypatch):
    """The order of a slice is its own, however few slices are ordered at once."""
    source = np.arange(210).reshape(5, 7, 6)
    expected = [whole(ht.random.default_rng(6).permuted(source, axis)) for axis in range(3)]
    for most in (1, 6, 20, 100):
        monkeypatch.setattr(ordering, "SLICES", most)
        for axis in range(3):
            np.testing.assert_array_equal(
                whole(ht.random.default_rng(6).permuted(source, axis)), expected[axis]
            )


def test_slices_are_permuted_independently():
    x = ht.random.default_rng(1).permuted(np.tile(np.arange(3), (60_000, 1)), axis=1).numpy()
    counts = np.bincount(x @ [9, 3, 1], minlength=27)
    assert (counts > 0).sum() == 6
    assert np.abs(counts[counts > 0] - 10_000).max() < 4.5 * math.sqrt(10_000)
    assert abs(np.corrcoef(x[:-1, 0], x[1:, 0])[0, 1]) < 4.5 / math.sqrt(60_000)


# -- helpers ------------------------------------------------------------------------------------------------------


def test_helpers():
    words = ht.random.default_rng(4).bytes(1001)
    assert isinstance(words, bytes)
    assert len(words) == 1001
    assert words[:800] == ht.random.default_rng(4).bytes(800)
    assert ht.random.bytes(0) == b""
    x = whole(ht.random.default_rng(4).random_integers(3, 5, 900))
    assert sorted(set(x.tolist())) == [3, 4, 5]
    assert set(whole(ht.random.random_integers(2, size=50)).tolist()) == {1, 2}
    for name in ("random_sample", "ranf", "sample"):
        assert getattr(ht.random, name)((2, 3)).shape == (2, 3)


def test_ranks_and_seeds_do_not_overlap():
    """Rank 1 of seed s does not draw what rank 0 of seed s + 1 draws, as where ranks have neighbouring seeds."""

    def run(comm):
        return [ht.random.default_rng(seed).random(2000, split=0).larray.tolist() for seed in (7, 8, 9)]

    parts = [part for rank in spmd(3, run) for part in rank]
    assert len({u for part in parts for u in part}) == 6000


def test_jumped_generators_share_nothing():
    rng = ht.random.default_rng(5)
    rng.random(3)
    assert rng.jumped().get_state()["calls"] == 2**48 + 1
    assert rng.jumped(3).get_state() == rng.jumped().jumped().jumped().get_state()
    drawn_ = [whole(g.random(2000)) for g in (rng, rng.jumped(), rng.jumped(2))]
    assert len(np.unique(np.concatenate(drawn_))) == 6000
    assert rng.get_state()["calls"] == 2


# -- refusals ---------------------------------------------------------------------------------------------------------

REFUSED = {
    "negative shape": (
        lambda: ht.random.gamma(-1.0),
        ValueError,
        "gamma: shape must be non-negative, got -1",
    ),
    "NaN": (lambda: ht.random.laplace(math.nan), ValueError, "laplace: loc must be finite, got nan"),
    "in an array": (
        lambda: ht.random.poisson([1.0, -2.0]),
        ValueError,
        r"poisson: lam must be in [0, 9.2e18], got -2",
    ),
    "no mean": (lambda: ht.random.wald(0.0, 1.0), ValueError, "wald: mean must be positive, got 0"),
    "probability": (lambda: ht.random.binomial(3, 1.5), ValueError, "binomial: p must be in [0, 1], got 1.5"),
    "fraction": (lambda: ht.random.binomial(3.5, 0.5), ValueError, "binomial: n must be a whole number"),
    "no success": (lambda: ht.random.geometric(0.0), ValueError, "geometric: p must be in (0, 1], got 0"),
    "series": (lambda: ht.random.logseries(1.0), ValueError, "logseries: p must be in [0, 1), got 1"),
    "zipf": (lambda: ht.random.zipf(1.0), ValueError, "zipf: a must be greater than 1, got 1"),
    "sample": (
        lambda: ht.random.hypergeometric(3, 4, 8),
        ValueError,
        "hypergeometric: nsample must be at most ngood + nbad",
    ),
    "mode": (lambda: ht.random.triangular(0, 5, 3), ValueError, "triangular: mode must lie in [left, right]"),
    "ends": (lambda: ht.random.triangular(3, 3, 3), ValueError, "triangular: left must be less than right"),
    "complex": (lambda: ht.random.gamma([1j]), ht.DTypeError, "gamma: shape must consist of real numbers"),
    "text": (lambda: ht.random.gamma("a"), ht.DTypeError, "gamma: shape"),
    "shapes": (
        lambda: ht.random.gamma([1.0, 2.0], size=3),
        ht.LayoutError,
        "gamma: parameters must broadcast to size",
    ),
    "missing": (lambda: ht.random.gamma(), TypeError, "missing a required argument: 'shape'"),
    "unknown": (lambda: ht.random.gamma(1.0, sise=3), TypeError, "unexpected keyword argument 'sise'"),
    "dtype": (
        lambda: ht.random.gamma(1.0, dtype="int32"),
        ht.DTypeError,
        "gamma: dtype must be a real floating type, got int32",
    ),
    "dtype of counts": (
        lambda: ht.random.poisson(1.0, dtype="complex64"),
        ht.DTypeError,
        "poisson: dtype must be an integer",
    ),
    "dtype of out": (
        lambda: ht.random.gamma(1.0, out=ht.zeros(3), dtype="float32"),
        ht.DTypeError,
        "gamma: dtype must be that of out (float64), got float32",
    ),
    "out": (lambda: ht.random.gamma(1.0, out=[1]), TypeError, "gamma: out must be a DNDarray, got list"),
    "out shape": (
        lambda: ht.random.gamma(1.0, size=4, out=ht.zeros(3)),
        ht.LayoutError,
        "gamma: size must be the shape of out",
    ),
    "uniform array": (
        lambda: ht.random.uniform([0.0, math.inf], 1.0),
        ValueError,
        "uniform: low must be finite, got inf",
    ),
    "normal array": (lambda: ht.random.normal(0, [-1.0]), ValueError, "normal: scale must be non-negative"),
    "alpha": (lambda: ht.random.dirichlet([1.0, 0.0]), ValueError, "dirichlet: alpha must be positive"),
    "alpha shape": (
        lambda: ht.random.dirichlet([[1.0]]),
        ht.LayoutError,
        "dirichlet: alpha must be a vector",
    ),
    "pvals": (lambda: ht.random.multinomial(3, [0.9, 0.9, 0.1]), ValueError, "multinomial: pvals must be"),
    "trials": (lambda: ht.random.multinomial(-3, [1.0]), ValueError, "multinomial: n must be in"),
    "colors": (
        lambda: ht.random.multivariate_hypergeometric([3, 4], 9),
        ValueError,
        "nsample must be at most the sum",
    ),
    "cov": (
        lambda: ht.random.multivariate_normal([0, 0], [[1.0]]),
        ht.LayoutError,
        "cov must have the shape",
    ),
    "cholesky": (
        lambda: ht.random.multivariate_normal([0, 0], np.zeros((2, 2)), method="cholesky"),
        ValueError,
        "cov must be positive definite",
    ),
    "permuted axis": (
        lambda: ht.random.permuted(ht.zeros(3), 1),
        ht.LayoutError,
        "permuted: axis must be in",
    ),
    "permuted out": (
        lambda: ht.random.permuted(ht.zeros(3), out=ht.zeros(4)),
        ht.LayoutError,
        "permuted: out must have the layout",
    ),
    "bytes": (lambda: ht.random.bytes(-1), ValueError, "bytes: length must be in"),
    "jumped": (lambda: ht.random.default_rng(1).jumped(-1), ValueError, "jumped: jumps must be in"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments_are_refused_alike_on_all_ranks(name):
    call, kind, text = REFUSED[name]

    def run(comm):
        before = ht.random.get_state()
        with comm.trace() as sent, pytest.raises(kind) as caught:
            call()
        assert text in str(caught.value)
        assert sent.calls == (name == "cholesky")  # whether there is a factor is one rank's word
        assert ht.random.get_state() == before
        return str(caught.value)

    assert len(set(spmd(3, run))) == 1


@pytest.mark.parametrize("split", [0, None])
def test_a_wrong_value_on_one_rank_is_everybodys_error(split):
    def run(comm):
        lam = ht.array([1.0, 2.0, 3.0, -4.0], split=split)
        before = ht.random.get_state()
        with pytest.raises(ValueError, match=r"poisson: lam must be in .*, got -4"):
            ht.random.poisson(lam)
        left, right = ht.array([0.0, 0.0, 5.0], split=split), ht.array([1.0, 1.0, 1.0])
        with pytest.raises(ValueError, match="triangular: mode must lie"):
            ht.random.triangular(left, 0.5, right)
        assert ht.random.get_state() == before

    spmd(3, run)
