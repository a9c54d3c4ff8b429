"""MinMaxScaler, MaxAbsScaler, RobustScaler, Normalizer: scikit-learn's numbers, messages, in place, hard columns."""

import numpy as np
import pytest
import sklearn.preprocessing as reference
from ht_comm import spmd
from ht_core import DTypeError
from ht_core.testing import whole
from ht_ml import preprocessing
from ml_tables import KINDS, cancer, table

CASES = [
    ("MinMaxScaler", {}),
    ("MinMaxScaler", {"feature_range": (-3, 1.5)}),
    ("MaxAbsScaler", {}),
    ("RobustScaler", {}),
    ("RobustScaler", {"quantile_range": (5, 60), "unit_variance": True}),
    ("RobustScaler", {"with_centering": False}),
    ("RobustScaler", {"with_scaling": False}),
    ("Normalizer", {}),
    ("Normalizer", {"norm": "l1"}),
    ("Normalizer", {"norm": "max"}),
]
LEARNED = (
    "min_",
    "scale_",
    "data_min_",
    "data_max_",
    "data_range_",
    "max_abs_",
    "center_",
    "n_samples_seen_",
)


def shifted(dtype="float64"):
    return (cancer() - 30.0).astype(dtype)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_agrees_with_scikit_learn(name, options, dtype, kind):
    values = shifted(dtype)
    theirs = getattr(reference, name)(**options).fit(values.astype("float64"))
    tolerance = {"float32": 1e-4, "float64": 1e-12}[dtype]  # of the subtracted offset

    def run(comm):
        x = table(values, comm, kind)
        scaler = getattr(preprocessing, name)(**options)
        assert scaler.fit(x) is scaler
        y = scaler.transform(x)
        np.testing.assert_array_equal(whole(x), values)
        assert y.layout is x.layout
        assert y.dtype is x.dtype
        back = whole(scaler.inverse_transform(y)) if hasattr(scaler, "inverse_transform") else None
        learned = {n: getattr(scaler, n) for n in LEARNED if getattr(scaler, n, None) is not None}
        return {n: v if isinstance(v, int) else whole(v) for n, v in learned.items()}, whole(y), back

    expected = theirs.transform(values.astype("float64"))
    for p in (1, 3):
        learned, y, back = spmd(p, run)[0]
        assert set(learned) == {n for n in LEARNED if getattr(theirs, n, None) is not None}
        for attribute, value in learned.items():
            np.testing.assert_allclose(
                value, getattr(theirs, attribute), rtol=1e-6 if dtype == "float32" else 1e-12
            )
        assert (np.abs(y - expected) <= tolerance * np.abs(expected).max(0)).all()
        if back is not None:
            assert (np.abs(back - values) <= tolerance * np.abs(values).max(0)).all()


MESSAGES = {
    "MinMaxScaler": ({"none": [], "features": ["allgatherv"]}, ["allreduce"], []),
    "MaxAbsScaler": ({"none": [], "features": ["allgatherv"]}, ["allreduce"], []),
    "Normalizer": ({"none": []}, ["allreduce"], ["allreduce"]),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", MESSAGES)
def test_one_message(name, kind):
    values = shifted()
    special, fit_ops, transform_ops = MESSAGES[name]

    def run(comm):
        x = table(values, comm, kind)
        scaler = getattr(preprocessing, name)()
        with comm.trace() as fitting:
            scaler.fit(x)
        with comm.trace() as using:
            scaler.transform(x)
        return [e.op for e in fitting.events], [e.op for e in using.events], fitting.bytes

    for fitted, used, sent in spmd(2, run):
        assert fitted == special.get(kind, fit_ops)
        assert used == ([] if kind == "none" else transform_ops)
        assert sent <= 2 * 8 * 2 * values.shape[1]


@pytest.mark.parametrize(("shape", "share"), [((20_000, 4), 1 / 2), ((2_200_000, 1), 1 / 10)])
def test_median_and_quantiles_are_not_gathered(shape, share):
    """Every number moves once at most; those of tall columns do not move."""
    values = np.random.default_rng(0).random(shape, dtype=np.float32)

    def run(comm):
        x = table(values, comm)
        with comm.trace() as sent:
            preprocessing.RobustScaler().fit(x)
        return sent.bytes

    assert max(spmd(2, run)) < values.nbytes * share


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "options"), CASES)
def test_in_place(name, options, kind):
    values = shifted("float32")

    def run(comm):
        x = table(values, comm, kind)
        pointer = x.larray.data_ptr()
        scaler = getattr(preprocessing, name)(copy=False, **options)
        assert scaler.fit_transform(x) is x
        assert x.larray.data_ptr() == pointer
        with pytest.raises(
            DTypeError, match=rf"{name}.transform: X must be float32 or float64 with copy=False"
        ):
            scaler.transform(table(values.astype(int), comm, kind))
        return whole(x)

    expected = getattr(reference, name)(**options).fit_transform(values.astype("float64"))
    assert (np.abs(spmd(2, run)[0] - expected) <= 1e-4 * np.abs(expected).max(0)).all()


@pytest.mark.parametrize("name", ["MinMaxScaler", "MaxAbsScaler"])
@pytest.mark.parametrize("kind", ["even", "none", "features"])
def test_partial_fit(name, kind):
    values = shifted()

    def run(comm):
        parts, once = (getattr(preprocessing, name)() for _ in range(2))
        for part in (values[:100], values[100:101], values[101:]):
            parts.partial_fit(table(part, comm, kind))
        once.fit(table(values, comm, kind))
        assert parts.n_samples_seen_ == once.n_samples_seen_ == len(values)
        np.testing.assert_array_equal(whole(parts.scale_), whole(once.scale_))
        assert parts.fit(table(values[:7], comm, kind)).n_samples_seen_ == 7  # forgets

    spmd(3, run)


def test_constant_features_and_clipping():
    values = np.column_stack([np.full(9, 0.1), np.zeros(9), np.arange(9.0), np.full(9, 1e-30)])

    def run(comm):
        x = table(values, comm)
        results = [
            whole(s.fit_transform(x)) for s in (preprocessing.MinMaxScaler(), preprocessing.RobustScaler())
        ]
        clipping = preprocessing.MinMaxScaler(clip=True).fit(x)
        return (*results, whole(clipping.transform(table(values * 3 - 1, comm))))

    ranged, robust, clipped = spmd(3, run)[0]
    np.testing.assert_array_equal(ranged[:, [0, 1, 3]], 0.0)
    np.testing.assert_array_equal(robust[:, [0, 1, 3]], 0.0)
    assert clipped.min() == 0.0
    assert clipped.max() == 1.0


def test_bounds_are_met_exactly():
    """The smallest value becomes 0 exactly, in float32 too, however far from zero it lies."""
    values = (1e6 + np.random.default_rng(1).normal(size=(500, 4))).astype("float32")

    def run(comm):
        return whole(preprocessing.MinMaxScaler().fit_transform(table(values, comm)))

    scaled = spmd(3, run)[0]
    np.testing.assert_array_equal(scaled.min(0), 0.0)
    np.testing.assert_allclose(scaled.max(0), 1.0, rtol=1e-6)


@pytest.mark.parametrize(
    ("scaler", "message"),
    [
        (preprocessing.MinMaxScaler((2, 1)), r"MinMaxScaler.fit: feature_range must be \(low, high\)"),
        (preprocessing.RobustScaler(quantile_range=(60, 40)), r"RobustScaler.fit: quantile_range must be"),
        (preprocessing.Normalizer("l3"), r"Normalizer.fit: norm must be one of l1, l2, max, got 'l3'"),
    ],
)
def test_parameters_are_refused_before_any_message(scaler, message):
    def run(comm):
        with comm.trace() as sent, pytest.raises(ValueError, match=message):
            scaler.fit(table(shifted(), comm))
        return sent.calls

    assert spmd(2, run) == [0, 0]
