"""Fourier transforms of any layout against NumPy; nothing is gathered."""

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.testing import layouts, make_values, spread, whole
from ht_linalg import fft
from ht_linalg.fft_along_split import factor
from hypothesis import given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=12, deadline=None, derandomize=True)
NORMS = (None, "ortho", "forward")
REAL_ONLY = ("rfft", "ihfft")


def compare(function, reference, a, place, p, tolerance=1e-10):
    expected = reference(a)

    def run(comm):
        x = spread(a, *place, comm)
        result = function(x)
        np.testing.assert_array_equal(whole(x), a)
        if x.split is not None:
            assert result.split == x.split
        return whole(result)

    for result in spmd(p, run):
        assert result.dtype == expected.dtype
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"])
@FEW
@given(data=st.data())
def test_one_axis(name, data):
    p = data.draw(st.integers(1, 4))
    shape = data.draw(st.lists(st.integers(2, 7), min_size=1, max_size=3).map(tuple))
    dtype = data.draw(st.sampled_from(["float32", "float64", "int32", "complex64", "complex128"]))
    if name in REAL_ONLY and dtype.startswith("complex"):
        dtype = "float64"
    options = {
        "n": data.draw(st.sampled_from([None, 1, 3, 6, 9])),
        "axis": data.draw(st.integers(-len(shape), len(shape) - 1)),
        "norm": data.draw(st.sampled_from(NORMS)),
    }
    a = make_values(dtype, shape, 1)
    if dtype == "int32" and name in ("irfft", "hfft"):
        a = a.astype("float64")
    compare(
        lambda x: getattr(fft, name)(x, **options),
        lambda x: getattr(np.fft, name)(x, **options),
        a,
        data.draw(layouts(shape, p)),
        p,
        1e-4 if dtype in ("float32", "complex64") else 1e-10,
    )


@pytest.mark.parametrize("name", ["fft2", "ifft2", "rfft2", "irfft2", "fftn", "ifftn", "rfftn", "irfftn"])
@FEW
@given(data=st.data())
def test_several_axes(name, data):
    p = data.draw(st.integers(1, 4))
    shape = data.draw(st.lists(st.integers(2, 6), min_size=2, max_size=3).map(tuple))
    axes = tuple(data.draw(st.permutations(range(len(shape))))[: data.draw(st.integers(1, len(shape)))])
    options = {"axes": axes, "norm": data.draw(st.sampled_from(NORMS))}
    if data.draw(st.booleans()):
        options["s"] = tuple(data.draw(st.integers(1, 7)) for _ in axes)
    a = make_values("float64" if name.startswith("r") else "complex128", shape, 1)
    compare(
        lambda x: getattr(fft, name)(x, **options),
        lambda x: getattr(np.fft, name)(x, **options),
        a,
        data.draw(layouts(shape, p)),
        p,
    )


@pytest.mark.parametrize("name", ["hfft2", "hfftn", "ihfft2", "ihfftn"])
def test_hermitian_signals_of_several_axes(name):
    """NumPy has no such transforms; torch does."""
    a = make_values("float64" if name.startswith("i") else "complex128", (4, 5, 6), 1)
    expected = getattr(torch.fft, name)(torch.from_numpy(a)).numpy()
    for split in range(3):
        for result in spmd(3, lambda comm, split=split: whole(getattr(fft, name)(ht.array(a, split=split)))):
            np.testing.assert_allclose(result, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [1, 2, 7, 12, 97, 128, 360, 1009, 2 * 499])
@pytest.mark.parametrize("name", ["fft", "ifft", "rfft", "irfft", "hfft", "ihfft"])
def test_the_split_axis_alone(name, n):
    """Lengths with and without factors, of vectors and of arrays whose other axes are too short to be cut."""
    rng = np.random.default_rng(n)
    for shape in ((n,), (n, 2)):
        a = rng.standard_normal(shape)
        if name not in REAL_ONLY:
            a = a + 1j * rng.standard_normal(shape)
        if n == 1 and name in ("irfft", "hfft"):
            continue
        for p in (3, 4):
            compare(
                lambda x: getattr(fft, name)(x, axis=0),
                lambda x: getattr(np.fft, name)(x, axis=0),
                a,
                (0, tuple(np.diff([0, n // 5, *([n // 2] * (p - 2)), n]))),
                p,
            )


def test_rounding_grows_slowly():
    """Errors of a distributed transform are those of a local one, also through the chirp."""
    rng = np.random.default_rng(0)
    for n in (2**16, 65537):
        a = rng.standard_normal(n) + 1j * rng.standard_normal(n)
        expected = np.fft.fft(a)
        for result in spmd(3, lambda comm, a=a: whole(fft.fft(ht.array(a, split=0)))):
            assert np.linalg.norm(result - expected) < 3e-15 * np.log2(n) * np.linalg.norm(expected)


def test_nothing_is_gathered():
    n, p = 2**12, 4

    def run(comm):
        x = ht.ones((n // 64, 64), split=0)
        with comm.trace() as sent:
            fft.fft(x)
            fft.rfftn(x, axes=(1,))
        assert sent.calls == 0
        with comm.trace() as sent:
            fft.fft2(x)
        assert sent.bytes <= 2 * n // p * 16
        with comm.trace() as sent:
            fft.fft(ht.ones(n, split=0))
        assert sent.bytes <= 3 * n // p * 16

    spmd(p, run)


@pytest.mark.parametrize("p", range(2, 9))
def test_the_split_axis_is_exchanged_not_gathered(p):
    """Three exchanges of the local part; through the chirp, for a prime, twelve at most of the padded length."""

    def run(comm):
        for n, bound in ((4096, 3 * 4096), (3600, 3 * 3600), (4099, 12 * 16384)):
            x = ht.ones(n, split=0, dtype="complex128")
            for function in (fft.fft, fft.ifft):
                with comm.trace() as sent:
                    result = function(x)
                assert result.split == 0
                assert {event.op for event in sent.events} <= {"redistribute", "exchange"}
                assert sent.bytes * p <= bound * 16 * 1.05
                assert result.larray.shape[0] <= -(-n // p)

    spmd(p, run)


@pytest.mark.parametrize("n", [1, 4, 7])
def test_frequencies_and_shifts(n):
    a = np.arange(3.0 * n).reshape(3, n)

    def run(comm):
        for split in (None, 0):
            np.testing.assert_array_equal(whole(fft.fftfreq(n, 0.3, split=split)), np.fft.fftfreq(n, 0.3))
            np.testing.assert_array_equal(whole(fft.rfftfreq(n, 0.3, split=split)), np.fft.rfftfreq(n, 0.3))
        for split in (None, 0, 1):
            for axes in (None, 0, (1,), (0, 1)):
                x = ht.array(a, split=split)
                np.testing.assert_array_equal(whole(fft.fftshift(x, axes)), np.fft.fftshift(a, axes))
                np.testing.assert_array_equal(whole(fft.ifftshift(x, axes)), np.fft.ifftshift(a, axes))

    spmd(3, run)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: fft.fft(x, n=0), "must be a positive integer"),
        (lambda x: fft.fft(x, axis=2), "axes must be in"),
        (lambda x: fft.fft(x, norm="none"), "norm must be one of"),
        (lambda x: fft.rfft(x + 1j), "rfft: a must be real, got complex128; use fft"),
        (lambda x: fft.fftn(x, axes=(0, 0)), "each axis once"),
        (lambda x: fft.fft2(x, s=(2,)), "one length per axis"),
    ],
)
def test_wrong_arguments_are_refused_before_any_message(call, text):
    def run(comm):
        x = ht.ones((4, 3), split=0)
        with comm.trace() as sent, pytest.raises((ValueError, TypeError), match=text):
            call(x)
        assert sent.calls == 0

    spmd(2, run)


def test_factors():
    assert [factor(n) for n in (1, 2, 12, 13, 36, 4096)] == [1, 1, 3, 1, 6, 64]


@pytest.mark.mpi
def test_transforms_over_mpi(comm):
    rng = np.random.default_rng(0)
    a = rng.standard_normal((30, 41, 3))
    for split in (None, 0, 1, 2):
        x = ht.array(a, split=split)
        np.testing.assert_allclose(whole(fft.rfftn(x)), np.fft.rfftn(a), rtol=0, atol=1e-11)
        np.testing.assert_allclose(whole(fft.irfftn(fft.rfftn(x), s=a.shape)), a, rtol=0, atol=1e-13)
