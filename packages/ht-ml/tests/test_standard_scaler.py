"""StandardScaler: one message, scikit-learn's numbers, in place, hard columns."""

import numpy as np
import pytest
from ht_comm import spmd
from ht_core import DTypeError
from ht_core.testing import whole
from ht_ml.preprocessing import StandardScaler
from ml_tables import KINDS, cancer, table
from sklearn.preprocessing import StandardScaler as Reference


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("options", [{}, {"with_mean": False}, {"with_std": False}])
def test_agrees_with_scikit_learn(options, dtype, kind):
    values = cancer(dtype)
    reference = Reference(**options).fit(values.astype("float64"))
    tolerance = {"float32": 1e-4, "float64": 1e-11}[dtype]

    def run(comm):
        x = table(values, comm, kind)
        scaler = StandardScaler(**options)
        assert scaler.fit(x) is scaler
        y = scaler.transform(x)
        np.testing.assert_array_equal(whole(x), values)
        assert y.layout is x.layout
        assert y.dtype is x.dtype
        back = whole(scaler.inverse_transform(y))
        return (
            [whole(a) if a is not None else None for a in (scaler.mean_, scaler.var_, scaler.scale_)],
            whole(y),
            back,
        )

    for p in (1, 3):
        learned, y, back = spmd(p, run)[0]
        for mine, theirs in zip(learned, (reference.mean_, reference.var_, reference.scale_)):
            assert (mine is None) == (theirs is None)
            if mine is not None:
                np.testing.assert_allclose(mine, theirs, rtol=1e-10)
        np.testing.assert_allclose(
            y, reference.transform(values.astype("float64")), atol=tolerance, rtol=tolerance
        )
        np.testing.assert_allclose(back, values, rtol=tolerance, atol=tolerance * 100)


@pytest.mark.parametrize("kind", KINDS)
def test_one_message(kind):
    values = cancer()

    def run(comm):
        x = table(values, comm, kind)
        with comm.trace() as sent:
            scaler = StandardScaler(copy=False).fit(x)
        ops = [event.op for event in sent.events]
        with comm.trace() as none:
            scaler.inverse_transform(scaler.transform(x))
        assert none.calls == 0
        return ops, sent.bytes

    expected = {"none": [], "features": ["allgatherv"]}.get(kind, ["allreduce"])
    d = values.shape[1]
    for ops, sent in spmd(2, run):
        assert ops == expected
        assert sent <= 2 * 8 * (2 * d + 1)


def test_rounded_statistics_do_not_depend_on_ranks():
    values = cancer("float32")

    def run(comm, kind):
        scaler = StandardScaler().fit(table(values, comm, kind))
        return whole(scaler.mean_).astype("float32"), whole(scaler.scale_).astype("float32")

    mean, scale = spmd(1, run, "even")[0]
    for p in (2, 3, 4):
        for kind in KINDS:
            for other in spmd(p, run, kind):
                np.testing.assert_array_equal(other[0], mean)
                np.testing.assert_array_equal(other[1], scale)


@pytest.mark.parametrize("kind", KINDS)
def test_in_place(kind):
    values = cancer("float32")

    def run(comm):
        x = table(values, comm, kind)
        pointer = x.larray.data_ptr()
        scaler = StandardScaler(copy=False)
        y = scaler.fit_transform(x)
        assert y is x
        assert x.larray.data_ptr() == pointer
        assert x.larray.dtype.itemsize == 4
        scaled = whole(x).copy()
        assert scaler.inverse_transform(x) is x
        np.testing.assert_allclose(whole(x), values, rtol=1e-4, atol=1e-2)
        return scaled

    np.testing.assert_allclose(
        spmd(2, run)[0], Reference().fit_transform(values.astype("float64")), atol=1e-4
    )


def test_in_place_needs_floats():
    def run(comm):
        with pytest.raises(
            DTypeError, match=r"StandardScaler.transform: X must be float32 or float64 with copy=False"
        ):
            StandardScaler(copy=False).fit_transform(table(np.arange(6).reshape(3, 2), comm))
        return whole(StandardScaler().fit_transform(table(np.arange(6).reshape(3, 2), comm)))

    np.testing.assert_allclose(spmd(2, run)[0], Reference().fit_transform(np.arange(6.0).reshape(3, 2)))


@pytest.mark.parametrize("kind", ["even", "none", "features"])
def test_partial_fit_and_weights(kind):
    values = cancer()
    weights = np.random.default_rng(0).integers(0, 3, len(values)).astype(float)

    def run(comm):
        scaler = StandardScaler()
        for part in (values[:100], values[100:101], values[101:]):
            scaler.partial_fit(table(part, comm, kind))
        weighted = StandardScaler().fit(table(values, comm, kind), sample_weight=weights)
        return (
            scaler.n_samples_seen_,
            whole(scaler.mean_),
            whole(scaler.var_),
            whole(weighted.mean_),
            whole(weighted.var_),
        )

    seen, mean, variance, weighted_mean, weighted_variance = spmd(3, run)[0]
    assert seen == len(values)
    np.testing.assert_allclose(mean, values.mean(0), rtol=1e-12)
    np.testing.assert_allclose(variance, values.var(0), rtol=1e-10)
    repeated = np.repeat(values, weights.astype(int), axis=0)
    np.testing.assert_allclose(weighted_mean, repeated.mean(0), rtol=1e-12)
    np.testing.assert_allclose(weighted_variance, repeated.var(0), rtol=1e-10)


def test_constant_features_and_one_row():
    values = np.column_stack([np.full(50, 0.1), np.full(50, 1e10), np.arange(50.0), np.full(50, 0.0)])

    def run(comm):
        scaler = StandardScaler().fit(table(values, comm))
        one = StandardScaler().fit(table(values[:1], comm))
        return whole(scaler.scale_), whole(scaler.transform(table(values, comm))), whole(one.scale_)

    scale, scaled, one = spmd(3, run)[0]
    np.testing.assert_array_equal(scale[[0, 1, 3]], 1.0)
    assert np.abs(scaled[:, [0, 3]]).max() < 1e-15
    np.testing.assert_array_equal(one, 1.0)
    assert scaled[:, 2].std() == pytest.approx(1.0)


@pytest.mark.parametrize("shape", [(3000, 1), (3000, 3), (100, 31), (100, 33)])
def test_narrow_and_wide_tiles(shape):
    values = np.random.default_rng(0).normal(5, 2, size=shape)

    def run(comm):
        return whole(StandardScaler(copy=False).fit_transform(table(values, comm)))

    np.testing.assert_allclose(spmd(2, run)[0], Reference().fit_transform(values), atol=1e-12)
