"""Random arrays: one set of numbers for any ranks and split, states that stay together, permutations, refusals."""

import copy
import math
import pickle
import threading
from collections import Counter

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import CommError, spmd
from ht_core import Layout
from ht_core.permutation import Permutation
from ht_core.testing import layouts, spread, whole
from hypothesis import given, settings
from hypothesis import strategies as st

FLOATS = ["float64", "float32", "float16", "bfloat16"]
INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]

# Every way to draw an array of a shape, as (generator, keywords) -> array.
CALLS = {
    "random": lambda g, size, **kw: g.random(size, **kw),
    "float32": lambda g, size, **kw: g.random(size, "float32", **kw),
    "bfloat16": lambda g, size, **kw: g.random(size, "bfloat16", **kw),
    "uniform": lambda g, size, **kw: g.uniform(-2, 3, size, **kw),
    "normal": lambda g, size, **kw: g.normal(1.0, 2.0, size, **kw),
    "normal float32": lambda g, size, **kw: g.standard_normal(size, "float32", **kw),
    "exponential": lambda g, size, **kw: g.exponential(3.0, size, **kw),
    "integers": lambda g, size, **kw: g.integers(-5, 6, size, **kw),
    "integers uint8": lambda g, size, **kw: g.integers(0, 256, size, "uint8", **kw),
    "choice": lambda g, size, **kw: g.choice(1000, size, **kw),
    "choice p": lambda g, size, **kw: g.choice(3, size, p=[0.2, 0.0, 0.8], **kw),
    "choice once": lambda g, size, **kw: g.choice(4000, size, replace=False, **kw),
    "raced": lambda g, size, **kw: g.choice(800, size, replace=False, p=np.full(800, 1 / 800), **kw),
}


def values(x):
    """The global array in NumPy; bfloat16 as float64."""
    return whole(x.astype("float64") if x.dtype == "bfloat16" else x)


# -- the same numbers everywhere --------------------------------------------------------------------


@pytest.mark.parametrize("name", CALLS)
@settings(max_examples=12, deadline=None, derandomize=True)
@given(data=st.data())
def test_numbers_do_not_depend_on_ranks_or_split(name, data):
    size = data.draw(st.lists(st.integers(0, 9), max_size=3).map(tuple))
    p = data.draw(st.integers(1, 5))
    split = data.draw(st.sampled_from([None, *range(len(size))]))
    expected = values(CALLS[name](ht.random.default_rng(11), size))

    def run(comm):
        x = CALLS[name](ht.random.default_rng(11), size, split=split)
        assert x.layout is Layout.even(size, split, p)
        np.testing.assert_array_equal(values(x), expected)

    spmd(p, run)


@pytest.mark.parametrize("method", ["random", "standard_normal", "standard_exponential"])
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_numbers_do_not_depend_on_the_layout(method, data):
    shape = data.draw(st.lists(st.integers(0, 12), min_size=1, max_size=3).map(tuple))
    p = data.draw(st.integers(1, 5))
    split, counts = data.draw(layouts(shape, p))
    dtype = data.draw(st.sampled_from(FLOATS))
    transposed = data.draw(st.booleans())
    expected = values(getattr(ht.random.default_rng(3), method)(shape, dtype))

    def run(comm):
        layout = Layout(shape, split, counts)
        lshape = layout.lshape(comm.rank)
        part = torch.empty(lshape[::-1] if transposed else lshape, dtype=ht.types.canonical(dtype).torch)
        x = ht.DNDarray(part.permute(*reversed(range(part.ndim))) if transposed else part, layout, comm)
        assert getattr(ht.random.default_rng(3), method)(out=x) is x
        np.testing.assert_array_equal(values(x), expected)

    spmd(p, run)


def test_short_runs_of_a_wide_array():
    # Each way to fill runs (all of a range, run by run, scattered blocks) occurs for some width.
    for width, p in ((10, 4), (3000, 5), (300_000, 2)):
        shape = (7, width)
        expected = whole(ht.random.default_rng(4).standard_normal(shape))

        def run(comm, shape=shape, expected=expected):
            np.testing.assert_array_equal(
                whole(ht.random.default_rng(4).standard_normal(shape, split=1)), expected
            )

        spmd(p, run)
    tall = ht.Layout.even((2, 100_000), 1, 50_000)
    part = ht.DNDarray(torch.empty(tall.lshape(777)), tall, _Rank(777))
    expected = whole(ht.random.default_rng(4).random(tall.shape, "float32"))
    np.testing.assert_array_equal(
        ht.random.default_rng(4).random(out=part).larray.numpy(), expected[tall.slices(777)]
    )


class _Rank:
    """A place among many ranks that nobody talks to."""

    def __init__(self, rank):
        self.rank = rank


def test_an_array_beyond_2_31_elements():
    """One rank's part of a huge array, without the others."""
    rank = 1
    layout = Layout((3, 1 << 30), 1, (987_654_320, 64, (1 << 30) - 987_654_384))
    part = ht.DNDarray(torch.empty(layout.lshape(rank), dtype=torch.float64), layout, _Rank(rank))
    ht.random.default_rng(4).random(out=part)
    words = np.random.Philox(key=np.array([4, 0], dtype=np.uint64))
    words.advance((2 * (1 << 30) + layout.displs[rank]) // 4 - 1)  # NumPy begins with block 1
    assert np.array_equal(part.larray[2].numpy(), np.random.Generator(words).random(64))


@pytest.mark.mpi
def test_known_numbers_on_processes(comm):
    ht.random.seed(2026)
    assert ht.random.integers(1000, size=6, split=0).numpy().tolist() == [426, 350, 784, 208, 715, 512]
    assert ht.random.permutation(8, split=0).numpy().tolist() == [3, 7, 6, 5, 2, 1, 4, 0]
    x = ht.random.rand(5, 3, split=1)
    np.testing.assert_allclose(x.numpy()[4], [0.8563827617686759, 0.8375091603592011, 0.6998964930575889])
    y = ht.random.permutation(x.resplit(0))
    np.testing.assert_array_equal(np.sort(y.numpy(), axis=0), np.sort(x.numpy(), axis=0))


# -- cost --------------------------------------------------------------------


def test_messages():
    def run(comm):
        with comm.trace() as sent:
            x = ht.random.randn(60, 4, split=0)
            ht.random.rand(5, 7, split=1)
            ht.random.randint(10, size=20, split=0)
            ht.random.permutation(50, split=0)
            ht.random.choice(50, 8, replace=False)
            ht.random.permutation(x, axis=1)
            ht.random.seed(1)
        assert sent.calls == 0
        with comm.trace() as sent:
            ht.random.permutation(x)
        assert sent.calls == 1
        assert sent.bytes <= x.lnbytes
        with comm.trace() as sent:
            ht.random.seed()
        assert sent.calls == 1
        return ht.random.get_state()["seed"]

    seeds = spmd(3, run)
    assert len(set(seeds)) == 1
    assert set(spmd(3, run)) != set(seeds)


# -- state --------------------------------------------------------------------


def test_calls_differ_and_states_return():
    rng = ht.random.default_rng(5)
    first = [values(rng.random(100)) for _ in range(3)]
    assert len(np.unique(np.concatenate(first))) == 300
    state = rng.get_state()
    assert state == {"algorithm": "philox4x64-10", "seed": 5, "calls": 3}
    expected = values(rng.random(100))
    for again in (copy.deepcopy(rng), pickle.loads(pickle.dumps(rng)), ht.random.default_rng(0)):
        again.set_state(state)
        np.testing.assert_array_equal(values(again.random(100)), expected)
        assert again.get_state() == rng.get_state()
    assert repr(rng) == "Generator(philox4x64-10, seed=5, calls=4)"
    for again in (copy.copy(rng), copy.deepcopy(rng)):
        rng.random()
        assert again.get_state()["calls"] == 4


def test_a_generator_of_some_ranks():
    def run(comm):
        sub = comm.split(comm.rank % 2)
        rng = ht.random.default_rng(8, comm=sub)
        x = copy.deepcopy(rng).random(20, split=0)
        assert x.comm is sub
        return whole(x)

    for found in spmd(5, run):
        np.testing.assert_array_equal(found, values(ht.random.default_rng(8).random(20)))


def test_default_generator():
    ht.random.seed(9)
    a, b = values(ht.random.rand(4, 5)), values(ht.random.randn(4, 5))
    state = ht.random.get_state()
    c = values(ht.random.random_sample((3,)))
    rng = ht.random.default_rng(9)
    np.testing.assert_array_equal(values(rng.random((4, 5))), a)
    np.testing.assert_array_equal(values(rng.standard_normal((4, 5))), b)
    ht.random.set_state(state)
    np.testing.assert_array_equal(values(ht.random.random(3)), c)
    assert ht.random.default_rng(rng) is rng


def test_ranks_start_from_the_state_of_the_process():
    ht.random.seed(12)
    ht.random.rand(3)
    before = ht.random.get_state()
    expected = [values(ht.random.rand(3)), values(ht.random.rand(3))]
    ht.random.set_state(before)

    def run(comm):
        found = values(ht.random.rand(3, split=0))
        sub = comm.split(comm.rank % 2)
        with ht.use_comm(sub):
            return found, values(ht.random.rand(3))

    for p in (1, 2, 3):
        for first, second in spmd(p, run):
            np.testing.assert_array_equal(first, expected[0])
            np.testing.assert_array_equal(second, expected[1])
        assert ht.random.get_state() == before

    def seeded(comm):
        ht.random.seed(13)
        return values(ht.random.rand(3))

    for found in spmd(3, seeded):
        np.testing.assert_array_equal(found, values(ht.random.default_rng(13).random(3)))


def test_threads_of_a_process_share_one_count():
    rng = ht.random.default_rng(1)
    drawn = []
    threads = [threading.Thread(target=lambda: drawn.append(values(rng.random(50)))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(np.unique(np.concatenate(drawn))) == 400


def test_spawned_generators_are_unrelated():
    rng = ht.random.default_rng(1)
    children = rng.spawn(3)
    seeds = {g.get_state()["seed"] for g in (rng, *children, *rng.spawn(2))}
    assert len(seeds) == 6
    again = ht.random.default_rng(1).spawn(3)
    assert [g.get_state() for g in again] == [g.get_state() for g in children]


def test_neighbouring_seeds_share_no_numbers():
    drawn = [values(ht.random.default_rng(seed).random(5000)) for seed in range(4)]
    assert len(np.unique(np.concatenate(drawn))) == 20_000


# -- types and shapes --------------------------------------------------------------------


@pytest.mark.parametrize("dtype", FLOATS)
def test_floating_types(dtype):
    for method in ("random", "standard_normal", "standard_exponential"):
        x = getattr(ht.random, method)((40, 5), dtype, split=0)
        assert x.dtype == dtype
        assert x.shape == (40, 5)
        assert np.isfinite(values(x)).all()
    assert ht.random.uniform(3, 4, 10, dtype).dtype == dtype
    assert (values(ht.random.normal(7, 0, 10, dtype)) == 7).all()


@pytest.mark.parametrize("dtype", [*INTEGERS, "bool"])
def test_integer_types_over_their_full_range(dtype):
    least, most = (0, 1) if dtype == "bool" else (np.iinfo(dtype).min, np.iinfo(dtype).max)
    x = ht.random.default_rng(2).integers(least, most, 4000, dtype, endpoint=True, split=0)
    assert x.dtype == dtype
    found = np.array(x.larray.tolist(), dtype=object).astype(int if dtype == "bool" else object)
    assert found.min() >= least
    assert found.max() <= most
    unit = [(int(v) - least) / (most - least) for v in found]
    assert abs(np.mean(unit) - 0.5) < 0.03
    narrow = ht.random.integers(most, most, 5, dtype, endpoint=True)
    assert narrow.larray.tolist() == [most] * 5


def test_shapes():
    rng = ht.random.default_rng(1)
    assert rng.random().shape == ()
    assert 0 <= float(rng.random()) < 1
    assert rng.random(3).shape == (3,)
    assert rng.random((0, 4), split=0).shape == (0, 4)
    assert ht.random.rand().shape == ()
    assert ht.random.randn(2, 3, dtype="float32").dtype == "float32"
    assert ht.random.randint(5).shape == ()
    assert ht.random.random.__name__ == "random"


def test_array_parameters_broadcast():
    def run(comm):
        loc = ht.array([0.0, 100.0, 1000.0], split=0)
        x = ht.random.default_rng(1).normal(loc, 1.0, (50, 3))
        assert x.split == 1
        assert np.abs(whole(x).mean(axis=0) - [0, 100, 1000]).max() < 1
        y = ht.random.default_rng(1).uniform(np.array([[0.0], [10.0]]), np.array([[1.0], [20.0]]))
        assert y.shape == (2, 1)
        assert ((whole(y) >= [[0], [10]]) & (whole(y) < [[1], [20]])).all()
        z = ht.random.default_rng(1).exponential(ht.array([1.0, 5.0]), (4, 2), split=0)
        assert z.split == 0
        return whole(x)

    first, second = spmd(2, run)
    np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(spmd(1, run)[0], first)


# -- permutations --------------------------------------------------------------------


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 600), st.integers(0, 2**64 - 1), st.integers(0, 50))
def test_permutation_is_a_bijection(n, seed, stream):
    order = Permutation(n, (seed, stream))
    things = order.image(torch.arange(n))
    assert torch.equal(things.sort().values, torch.arange(n))
    assert torch.equal(order.place(things), torch.arange(n))
    some = torch.arange(n)[n // 3 : n // 2]
    assert torch.equal(order.image(some), things[some])


@pytest.mark.parametrize("n", [10**6 + 3, 2**20, 2**33 + 7])
def test_large_permutations(n):
    order = Permutation(n, (1, 2))
    places = torch.randint(0, n, (5000,), generator=torch.Generator().manual_seed(1))
    things = order.image(places)
    assert 0 <= things.min() <= things.max() < n
    assert torch.equal(order.place(things), places)
    assert abs(float(things.double().mean()) / n - 0.5) < 4 / math.sqrt(12 * 5000)
    if n < 1 << 24:
        assert torch.equal(order.image(torch.arange(n)).sort().values, torch.arange(n))


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_small_permutations_are_equally_likely(n):
    draws = 20 * math.factorial(n)
    found = Counter(tuple(Permutation(n, (8, k)).image(torch.arange(n)).tolist()) for k in range(draws))
    assert len(found) == math.factorial(n)
    chi2 = sum((c - 20) ** 2 / 20 for c in found.values())
    freedom = math.factorial(n) - 1
    assert chi2 < freedom + 4 * math.sqrt(2 * freedom) + 4


@pytest.mark.parametrize("n", [16, 50, 300])
def test_permutations_have_the_statistics_of_uniform_ones(n):
    draws = 800
    rows = np.array([Permutation(n, (3, k)).image(torch.arange(n)).numpy() for k in range(draws)])
    fixed = (rows == np.arange(n)).sum(axis=1)
    ascents = (rows[:, 1:] > rows[:, :-1]).sum(axis=1)
    parity = [_cycles(row) % 2 for row in rows.tolist()]
    for sample, mean, variance in (
        (fixed, 1, 1),
        (ascents, (n - 1) / 2, (n + 1) / 12),
        (parity, 0.5, 0.25),
        (rows[:, 0], (n - 1) / 2, (n * n - 1) / 12),
        ((rows[:, 1] - rows[:, 0]) % n, n / 2, (n - 1) ** 2 / 12),
    ):
        assert abs(np.mean(sample) - mean) < 4 * math.sqrt(variance / draws)
    assert abs(np.var(ascents) / ((n + 1) / 12) - 1) < 4 * math.sqrt(2 / draws)


def _cycles(row):
    seen, count = [False] * len(row), 0
    for i in range(len(row)):
        count += not seen[i]
        while not seen[i]:
            seen[i], i = True, row[i]
    return count


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.data())
def test_permutation_moves_rows(data):
    shape = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=3).map(tuple))
    p = data.draw(st.integers(1, 5))
    layout = data.draw(layouts(shape, p))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    source = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
    order = whole(ht.random.default_rng(6).permutation(shape[axis]))
    expected = np.take(source, order, axis=axis)

    def run(comm):
        x = spread(source, *layout, comm)
        y = ht.random.default_rng(6).permutation(x, axis)
        assert y.layout is x.layout
        np.testing.assert_array_equal(whole(y), expected)
        np.testing.assert_array_equal(whole(x), source)
        assert ht.random.default_rng(6).shuffle(x, axis) is None
        np.testing.assert_array_equal(whole(x), expected)

    spmd(p, run)


def test_randperm_and_its_type():
    x = ht.random.randperm(100, "int16", split=0)
    assert x.dtype == "int16"
    assert sorted(whole(x).tolist()) == list(range(100))
    assert whole(ht.random.permutation([5, 6, 7])).sum() == 18


# -- choice --------------------------------------------------------------------


def test_choice_of_numbers():
    rng = ht.random.default_rng(3)
    once = whole(rng.choice(10**9, 1000, replace=False))
    assert len(set(once.tolist())) == 1000
    assert once.min() >= 0
    assert abs(once.mean() / 1e9 - 0.5) < 4 / math.sqrt(12_000)
    p = np.array([0.1, 0.0, 0.3, 0.6])
    counts = np.bincount(whole(rng.choice(4, 20_000, p=p)), minlength=4)
    assert counts[1] == 0
    assert np.abs(counts - 20_000 * p).max() < 4 * math.sqrt(20_000 / 4)
    firsts = [whole(rng.choice(4, 2, replace=False, p=p)).tolist() for _ in range(3000)]
    assert all(a != b and 1 not in (a, b) for a, b in firsts)
    # Drawn one after the other: 3, then 2 of the remaining {0: 0.1, 2: 0.3}.
    expected = 0.6 * 0.3 / 0.4
    assert abs(firsts.count([3, 2]) / 3000 - expected) < 4 * math.sqrt(expected * (1 - expected) / 3000)
    assert rng.choice(7).shape == ()


def test_choice_of_rows_and_columns():
    source = np.arange(60.0).reshape(12, 5)

    def run(comm, split):
        x = ht.array(source, split=split)
        numbers = whole(ht.random.default_rng(4).choice(12, 6))
        np.testing.assert_array_equal(whole(ht.random.default_rng(4).choice(x, 6)), source[numbers])
        columns = whole(ht.random.default_rng(4).choice(5, 3, replace=False))
        picked = ht.random.default_rng(4).choice(x, 3, replace=False, axis=1)
        np.testing.assert_array_equal(whole(picked), source[:, columns])

    for split in (None, 0, 1):
        spmd(3, run, split)


# -- refusals --------------------------------------------------------------------

REFUSED = {
    "seed below 0": (lambda: ht.random.seed(-1), ValueError, "seed: seed must be in [0, 2**64), got -1"),
    "seed too large": (lambda: ht.random.default_rng(2**64), ValueError, "seed must be in"),
    "seed a float": (lambda: ht.random.seed(1.5), TypeError, "seed: seed must be an integer, got 1.5"),
    "size negative": (lambda: ht.random.rand(3, -1), ht.LayoutError, "random: shape must consist of non-neg"),
    "split out of range": (lambda: ht.random.rand(3, 3, split=2), ht.LayoutError, "random: split must be in"),
    "dtype integer": (
        lambda: ht.random.rand(3, dtype="int32"),
        ht.DTypeError,
        "random: dtype must be a real",
    ),
    "dtype complex": (lambda: ht.random.randn(3, dtype="complex64"), ht.DTypeError, "dtype must be a real"),
    "dtype unknown": (lambda: ht.random.randn(3, dtype="float31"), ht.DTypeError, "dtype: must be one of"),
    "device unknown": (lambda: ht.random.randn(3, device="abacus"), ht.LayoutError, "device: must be"),
    "integers float": (
        lambda: ht.random.randint(0.5, 3),
        TypeError,
        "integers: low and high must be integers",
    ),
    "integers empty": (
        lambda: ht.random.randint(3, 3),
        ValueError,
        "integers: high must be greater than low",
    ),
    "integers dtype": (
        lambda: ht.random.randint(3, dtype="float32"),
        ht.DTypeError,
        "an integer type or bool",
    ),
    "integers range": (
        lambda: ht.random.integers(0, 257, 3, "uint8"),
        ValueError,
        "integers: the range must lie in [0, 255] of uint8, got [0, 257)",
    ),
    "scale negative": (lambda: ht.random.normal(0, -1, 3), ValueError, "normal: scale must be non-negative"),
    "scale NaN": (
        lambda: ht.random.exponential(math.nan, 3),
        ValueError,
        "scale must be non-negative, got nan",
    ),
    "ends infinite": (lambda: ht.random.uniform(0, math.inf, 3), ValueError, "low and high must be finite"),
    "parameters": (
        lambda: ht.random.normal([1, 2, 3], 1.0, (2, 2)),
        ht.LayoutError,
        "must broadcast to size",
    ),
    "out": (
        lambda: ht.random.random(out=np.zeros(3)),
        TypeError,
        "random: out must be a DNDarray, got ndarray",
    ),
    "out type": (
        lambda: ht.random.random(dtype="float32", out=ht.zeros(3)),
        ht.DTypeError,
        "random: dtype must be that of out (float64), got float32",
    ),
    "out shape": (
        lambda: ht.random.random(4, out=ht.zeros(3)),
        ht.LayoutError,
        "size must be the shape of out",
    ),
    "permutation": (lambda: ht.random.permutation(-1), ValueError, "permutation: x must be in"),
    "permutation 0-D": (lambda: ht.random.permutation(ht.zeros(())), ht.LayoutError, "at least one axis"),
    "permutation axis": (
        lambda: ht.random.permutation(ht.zeros(3), 1),
        ht.LayoutError,
        "axis must be in [-1, 1)",
    ),
    "randperm type": (
        lambda: ht.random.randperm(300, "uint8"),
        ht.DTypeError,
        "an integer type that holds 299",
    ),
    "shuffle": (
        lambda: ht.random.shuffle(np.arange(3)),
        TypeError,
        "shuffle: x must be a DNDarray, got ndarray",
    ),
    "choice too many": (
        lambda: ht.random.choice(3, 4, replace=False),
        ht.LayoutError,
        "without replacement, got 4",
    ),
    "choice of none": (lambda: ht.random.choice(0, 4), ValueError, "choice: a must not be empty"),
    "choice p shape": (
        lambda: ht.random.choice(3, 4, p=[0.5, 0.5]),
        ht.LayoutError,
        "p must have the shape (3,)",
    ),
    "choice p sum": (lambda: ht.random.choice(2, 4, p=[0.5, 0.6]), ValueError, "and add up to 1"),
    "state": (lambda: ht.random.set_state({"seed": 1}), ValueError, "set_state: state must be a dict"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments_are_refused_alike_on_all_ranks(name):
    call, kind, text = REFUSED[name]

    def run(comm):
        before = ht.random.get_state()
        with comm.trace() as sent, pytest.raises(kind) as caught:
            call()
        assert not isinstance(caught.value, CommError)
        assert text in str(caught.value)
        assert sent.calls == 0
        assert ht.random.get_state() == before
        return str(caught.value)

    assert len(set(spmd(3, run))) == 1
