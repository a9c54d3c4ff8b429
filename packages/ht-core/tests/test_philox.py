"""The bits and the variates: published vectors, two evaluations that agree, any cut into runs, distributions."""

import math

import numpy as np
import pytest
import torch
from ht_core import draws
from ht_core.draws import Draw, exponential, fill, integers, normal, raw, uniform
from ht_core.philox import NATIVE, blocks, multiply_high, philox4x64, signed
from hypothesis import example, given, settings
from hypothesis import strategies as st

KEY = (20260801, 5)
WORDS = st.integers(0, 2**64 - 1)

# (counter, key, words) of philox4x64-10 from kat_vectors of Random123 1.14, least significant word first.
VECTORS = {
    "zeros": (
        "0 0 0 0",
        "0 0",
        "16554d9eca36314c db20fe9d672d0fdc d7e772cee186176b 7e68b68aec7ba23b",
    ),
    "ones": (
        " ".join(["ffffffffffffffff"] * 4),
        " ".join(["ffffffffffffffff"] * 2),
        "87b092c3013fe90b 438c3c67be8d0224 9cc7d7c69cd777b6 a09caebf594f0ba0",
    ),
    "pi": (
        "243f6a8885a308d3 13198a2e03707344 a4093822299f31d0 082efa98ec4e6c89",
        "452821e638d01377 be5466cf34e90c6c",
        "a528f45403e61d95 38c72dbd566e9788 a5a1610e72fd18b5 57bd43b5e52b7fe6",
    ),
}

# name -> (draw, type of the output)
DRAWS: dict[str, tuple[Draw, torch.dtype]] = {
    "uniform float64": (uniform(torch.float64), torch.float64),
    "uniform float32": (uniform(torch.float32), torch.float32),
    "uniform float16": (uniform(torch.float16), torch.float16),
    "uniform bfloat16": (uniform(torch.bfloat16), torch.bfloat16),
    "uniform shifted": (uniform(torch.float32, -3.0, 5.0), torch.float32),
    "normal float64": (normal(torch.float64), torch.float64),
    "normal float32": (normal(torch.float32), torch.float32),
    "normal bfloat16": (normal(torch.bfloat16), torch.bfloat16),
    "normal shifted": (normal(torch.float64, 2.0, 3.0), torch.float64),
    "exponential float64": (exponential(torch.float64), torch.float64),
    "exponential float32": (exponential(torch.float32, 0.5), torch.float32),
    "integers 6": (integers(-3, 6), torch.int8),
    "integers 1": (integers(9, 1), torch.int64),
    "integers 256": (integers(0, 256), torch.uint8),
    "integers 3 * 2**30": (integers(0, 3 << 30), torch.int64),
    "integers 2**32": (integers(0, 1 << 32), torch.uint32),
    "integers 10**12": (integers(-5, 10**12), torch.int64),
    "integers 3 * 2**62": (integers(0, 3 << 62), torch.uint64),
    "integers 2**64": (integers(-(1 << 63), 1 << 64), torch.int64),
    "raw": (raw(), torch.int64),
}


def _hex(text):
    return tuple(int(word, 16) for word in text.split())


def _bits(x):
    """The bits of a tensor as integers: torch compares few of the unsigned types, and -0.0 equals 0.0."""
    return x.view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[x.element_size()])


def _drawn(name, n, start=0, key=KEY):
    draw, dtype = DRAWS[name]
    out = torch.empty(n, dtype=dtype)
    fill(out, draw, key, start)
    return out


# -- bits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VECTORS)
@pytest.mark.parametrize("make", [np.array, torch.tensor], ids=["numpy", "torch"])
def test_published_vectors_by_arithmetic(name, make):
    counter, key, words = map(_hex, VECTORS[name])
    found = philox4x64(tuple(make([signed(c)]) for c in counter), key)
    assert tuple(int(w[0]) % 2**64 for w in found) == words


@pytest.mark.parametrize("name", VECTORS)
def test_published_vectors_by_the_native_generator(name):
    counter, key, words = map(_hex, VECTORS[name])
    number = sum(c << (64 * i) for i, c in enumerate(counter))
    assert tuple(w % 2**64 for w in NATIVE.seek(key, number).words(1).tolist()) == words


@given(WORDS, WORDS)
@example(2**64 - 1, 2**64 - 1)
def test_multiply_high(a, m):
    for make in (np.array, torch.tensor):
        assert int(multiply_high(make([signed(a)]), m)[0]) % 2**64 == (a * m) >> 64


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.tuples(WORDS, WORDS), st.integers(0, 2**62), st.integers(0, 2**62), st.integers(1, 20))
def test_both_evaluations_agree(key, first, sub, count):
    native = NATIVE.seek(key, first, sub).words(count).reshape(-1, 4)
    numbers = np.arange(first, first + count)
    np.testing.assert_array_equal(blocks(numbers, key, sub), native)
    np.testing.assert_array_equal(blocks(torch.from_numpy(numbers), key, sub).numpy(), native)


# -- any way to compute a tile ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", DRAWS)
@settings(max_examples=15, deadline=None, derandomize=True)
@given(data=st.data())
def test_runs_are_parts_of_one_stream(name, data):
    draw, dtype = DRAWS[name]
    base = data.draw(st.sampled_from([0, 2**31 - 20, 2**33 + 5]), "base")
    start = data.draw(st.integers(0, 30), "start")
    runs, length = data.draw(st.integers(0, 6), "runs"), data.draw(st.integers(0, 70), "length")
    stride = max(1, length) + data.draw(st.sampled_from([0, 1, 7, 64, 333]), "gap")
    whole = _drawn(name, start + runs * stride + length + 1, base)
    expected = whole.as_strided((runs, length), (stride, 1), start)
    ways = [draws._fill_span, draws._fill_each, draws._fill_scattered] if runs and length else []
    for way in [fill, *ways]:
        out = torch.empty(runs, length, dtype=dtype)
        target = out if way is fill else out.view(draws._SIGNED_TWIN.get(dtype, dtype))
        way(target, draw, KEY, base + start, stride)
        assert torch.equal(_bits(out), _bits(expected)), way


@pytest.mark.parametrize("name", DRAWS)
def test_tiles_leave_no_seam(name):
    n = 3 * draws.TILE
    whole = _drawn(name, n)
    for start, stop in ((1, n), (5, n - 3), (draws.TILE - 3, n), (0, 17 * 8), (n - 1, n)):
        assert torch.equal(_bits(_drawn(name, stop - start, start)), _bits(whole[start:stop]))


@pytest.mark.parametrize("name", DRAWS)
def test_arithmetic_on_tensors_agrees_with_the_native_generator(name, device):
    draw, dtype = DRAWS[name]
    numbers = torch.arange(2000, device=device)
    work = torch.empty(len(numbers) * draw.per_block, dtype=draw.work, device=device)
    draws._transform(draw, numbers, KEY, work)
    native = _drawn(name, len(work))
    found = torch.empty(len(work), dtype=draws._SIGNED_TWIN.get(dtype, dtype)).copy_(work)
    if draw.native or (dtype not in draws._SIGNED_TWIN and not dtype.is_floating_point):
        tolerance = 0.0 if "exponential" not in name else 1e-14 if dtype == torch.float64 else 1e-7
        assert ((found.double() - native.double()).abs() <= tolerance * (1 + native.double().abs())).all()
    elif dtype in draws._SIGNED_TWIN:
        assert torch.equal(found, _bits(native))
    else:
        eps = torch.finfo(dtype if dtype.itemsize > 2 else torch.bfloat16).eps
        torch.testing.assert_close(found, native, rtol=4 * eps, atol=4 * eps)


@pytest.mark.parametrize("name", DRAWS)
def test_the_ways_of_a_device_give_the_same_numbers(name, monkeypatch):
    """What a GPU would do, in tiles small enough to have seams."""
    monkeypatch.setattr(draws, "_is_native", lambda out: False)
    monkeypatch.setattr(draws, "DEVICE_BLOCKS", 64)
    draw, dtype = DRAWS[name]
    n = 70 * draw.per_block
    whole = _drawn(name, n)
    tile = torch.empty(n, dtype=draw.work)
    draws._transform(draw, torch.arange(70), KEY, tile)
    expected = torch.empty(n, dtype=draws._SIGNED_TWIN.get(dtype, dtype)).copy_(tile)
    assert torch.equal(_bits(whole), _bits(expected))
    for start, stop in ((3, n), (0, n - 3), (9, 11)):
        assert torch.equal(_bits(_drawn(name, stop - start, start)), _bits(whole[start:stop]))
    for length, stride in ((5, 40), (200, 250)):
        out = torch.empty(2, length, dtype=dtype)
        fill(out, draw, KEY, 7, stride)
        for row, start in zip(out, (7, 7 + stride)):
            assert torch.equal(_bits(row), _bits(_drawn(name, length, start)))


@pytest.mark.parametrize("name", DRAWS)
def test_fill_on_the_device_of_this_run(name, device):
    draw, dtype = DRAWS[name]
    out = torch.empty(7, 50, dtype=dtype, device=device)
    fill(out, draw, KEY, 3, 120)
    again = torch.empty(50, dtype=dtype, device=device)
    fill(again, draw, KEY, 3 + 2 * 120)
    assert torch.equal(_bits(out[2]), _bits(again))


def test_keys_and_places_make_different_numbers():
    words = [_drawn("raw", 2000, key=key) for key in ((1, 0), (1, 1), (2, 0), (2, 1))]
    assert len(torch.unique(torch.cat(words))) == 8000  # no stream is a shifted copy of another
    for a, b in ((0, 1), (0, 2), (1, 2), (0, 3)):
        u, v = words[a].double(), words[b].double()
        assert abs(float(torch.corrcoef(torch.stack([u, v]))[0, 1])) < 4 / math.sqrt(2000)


# -- distributions ------------------------------------------------------------------------------------------------


def _distance(values, cdf):
    """Kolmogorov's distance times sqrt(n); beyond 1.95 with probability 0.001."""
    x = np.sort(values.double().numpy())
    expected, n = cdf(x), len(x)
    below, above = np.arange(n) / n, np.arange(1, n + 1) / n
    return math.sqrt(n) * max(np.max(expected - below), np.max(above - expected))


def _normal_cdf(x):
    return np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in x])


CDFS = {
    "uniform float64": lambda x: x,
    "uniform float32": lambda x: x,
    "normal float64": _normal_cdf,
    "normal float32": _normal_cdf,
    "normal shifted": lambda x: _normal_cdf((x - 2) / 3),
    "uniform shifted": lambda x: (x + 3) / 8,
    "exponential float64": lambda x: 1 - np.exp(-x),
    "exponential float32": lambda x: 1 - np.exp(-x / 0.5),
}


@pytest.mark.parametrize("name", CDFS)
def test_distribution_function(name):
    assert _distance(_drawn(name, 100_000), CDFS[name]) < 1.95


@pytest.mark.parametrize("name", ["normal float64", "normal float32"])
def test_normal_moments_and_tail(name):
    n = 1 << 21
    z = _drawn(name, n).double()
    assert abs(float(z.mean())) < 4 / math.sqrt(n)
    assert abs(float((z**2).mean()) - 1) < 4 * math.sqrt(2 / n)
    assert abs(float((z**3).mean())) < 4 * math.sqrt(15 / n)
    assert abs(float((z**4).mean()) - 3) < 4 * math.sqrt(96 / n)
    for bound in (3.0, 4.0, 4.5):
        expected = n * math.erfc(bound / math.sqrt(2))
        assert abs(int((z.abs() > bound).sum()) - expected) < 4 * math.sqrt(expected)
    # The cosine and the sine of a pair, and neighbours of different pairs.
    for lag in (1, 2, 3):
        assert abs(float((z[:-lag] * z[lag:]).mean())) < 4 / math.sqrt(n)
        assert abs(float((z[:-lag] ** 2 * z[lag:] ** 2).mean()) - 1) < 4 * math.sqrt(8 / n)


def test_normal_of_the_extreme_words_is_finite():
    words = torch.tensor([0, -1, 1 << 63 - 1, -(1 << 63), 0x7FFFFFFF, -(1 << 32), (1 << 32) - 1, 1])
    for draw, dtype in (DRAWS["normal float64"], DRAWS["normal float32"]):
        out = torch.empty(len(words) * draw.per_block // 4, dtype=dtype)
        draw.transform(words, out, None)
        assert out.isfinite().all()
        assert out.abs().max() < 9


@pytest.mark.parametrize(
    "name", ["uniform float64", "uniform float32", "uniform float16", "uniform bfloat16"]
)
def test_uniform_stays_below_one(name):
    draw, dtype = DRAWS[name]
    top = torch.full((4,), -1)
    work = torch.empty(draw.per_block, dtype=draw.work)
    draw.transform(top, work, None)
    if draw.finish:
        draw.finish(work)
    out = work.to(dtype)
    assert (out < 1).all()
    assert (out >= 1 - 2 * torch.finfo(dtype).eps).all()
    values = _drawn(name, 1 << 16).double()
    assert 0 <= values.min() < values.max() < 1
    grid = {torch.float16: 2**-11, torch.bfloat16: 2**-8}.get(dtype, 0)
    assert abs(float(values.mean()) + grid / 2 - 0.5) < 4 / math.sqrt(12 * (1 << 16))


@pytest.mark.parametrize(("low", "span"), [(0, 2), (-3, 6), (5, 7), (0, 10), (0, 100), (-8, 16)])
def test_integers_are_equally_likely(low, span):
    n = 200_000
    out = torch.empty(n, dtype=torch.int64)
    fill(out, integers(low, span), KEY)
    counts = torch.bincount(out - low, minlength=span).double()
    assert len(counts) == span
    chi2 = float(((counts - n / span) ** 2).sum() * span / n)
    assert abs(chi2 - (span - 1)) < 4 * math.sqrt(2 * (span - 1))


@pytest.mark.parametrize("span", [(3 << 30), (3 << 62), (1 << 63) + 1, (1 << 31) + 1])
def test_integers_of_a_span_that_needs_redraws(span):
    # Without redraws a third of the range would be twice as likely as the rest.
    n = 60_000
    out = torch.empty(n, dtype=torch.int64)
    fill(out, integers(0, span), KEY)
    values = np.array(out.tolist(), dtype=object) % 2**64
    assert values.min() >= 0
    assert values.max() < span
    counts = np.bincount(np.array([v * 9 // span for v in values]), minlength=9)
    assert ((counts - n / 9) ** 2).sum() * 9 / n < 8 + 4 * math.sqrt(16)
    for residue in range(3):  # the low digits too
        assert abs(np.sum(values % 3 == residue) - n / 3) < 4 * math.sqrt(n * 2 / 9)
