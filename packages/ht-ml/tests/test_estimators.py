"""What holds for every estimator: parameters, cloning, pickling, refusals that are the same on every rank."""

import copy
import pickle

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import whole
from ht_ml.base import BaseEstimator, NotFittedError, check_is_fitted, clone
from ht_ml.cluster import (
    BatchParallelKMeans,
    BatchParallelKMedians,
    KMeans,
    KMedians,
    KMedoids,
    MiniBatchKMeans,
    Spectral,
)
from ht_ml.decomposition import DMD, PCA, DMDc, IncrementalPCA, TruncatedSVD
from ht_ml.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from ht_ml.naive_bayes import GaussianNB
from ht_ml.neighbors import KNeighborsClassifier, KNeighborsRegressor, LocalOutlierFactor, NearestNeighbors
from ht_ml.preprocessing import MaxAbsScaler, MinMaxScaler, Normalizer, RobustScaler, StandardScaler
from ml_tables import KINDS, public_estimators, table

ESTIMATORS = [
    KMeans(n_clusters=2, random_state=0),
    KMeans(n_clusters=2, init="random", random_state=0, n_init=2),
    KMeans(n_clusters=2, init="batchparallel", random_state=0),
    KMeans(n_clusters=2, init="k-means||", random_state=0),
    MiniBatchKMeans(n_clusters=2, batch_size=30, random_state=0),
    KMedians(n_clusters=2, random_state=0),
    KMedoids(n_clusters=2, random_state=0),
    BatchParallelKMeans(n_clusters=2, random_state=0),
    BatchParallelKMedians(n_clusters=2, random_state=0),
    Spectral(n_clusters=2, gamma=0.05, random_state=0),
    StandardScaler(),
    StandardScaler(with_mean=False, copy=False),
    MinMaxScaler(feature_range=(-1, 2), clip=True),
    MaxAbsScaler(),
    RobustScaler(unit_variance=True),
    Normalizer("l1"),
    Lasso(alpha=0.01),
    Lasso(alpha=0.01, precompute=False, positive=True),
    PCA(n_components=1),
    PCA(n_components=1, svd_solver="full", whiten=True),
    PCA(n_components=1, svd_solver="hierarchical"),
    PCA(n_components=1, svd_solver="randomized", random_state=0),
    IncrementalPCA(n_components=1, batch_size=40),
    TruncatedSVD(n_components=1, random_state=0),
    TruncatedSVD(n_components=1, algorithm="exact"),
    ElasticNet(alpha=0.01, l1_ratio=0.3),
    LinearRegression(),
    Ridge(alpha=0.1),
    LogisticRegression(tol=1e-8),
    GaussianNB(var_smoothing=1e-8),
    NearestNeighbors(n_neighbors=3),
    KNeighborsClassifier(n_neighbors=3),
    KNeighborsRegressor(n_neighbors=3, weights="distance"),
    LocalOutlierFactor(n_neighbors=7, novelty=True),
]
#: What takes no table of rows: snapshots are columns.
OTHERS = [DMD(svd_rank=2), DMDc(svd_tol=0.1)]
CLASSIFIERS = (GaussianNB, KNeighborsClassifier, LogisticRegression)
METHODS = {
    KMeans: ("predict", "transform"),
    **dict.fromkeys((KMedians, KMedoids, MiniBatchKMeans), ("predict", "transform")),
    **dict.fromkeys((BatchParallelKMeans, BatchParallelKMedians, Spectral), ("predict",)),
    Normalizer: ("transform",),
    GaussianNB: ("predict", "predict_proba"),
    LogisticRegression: ("predict", "predict_proba"),
    NearestNeighbors: ("kneighbors",),
    KNeighborsClassifier: ("predict", "predict_proba", "kneighbors"),
    KNeighborsRegressor: ("predict", "kneighbors"),
    LocalOutlierFactor: ("score_samples", "predict"),
    **dict.fromkeys((ElasticNet, Lasso, LinearRegression, Ridge), ("predict",)),
}
BATCHED = (BatchParallelKMeans, BatchParallelKMedians)
CLUSTERERS = (*BATCHED, KMeans, KMedians, KMedoids, MiniBatchKMeans, Spectral)
STATELESS = (Normalizer,)
NEIGHBORS = (NearestNeighbors, KNeighborsClassifier, KNeighborsRegressor, LocalOutlierFactor)
DECOMPOSITIONS = (PCA, IncrementalPCA, TruncatedSVD)
WITHOUT_WEIGHTS = (
    *DECOMPOSITIONS,
    *(set(CLUSTERERS) - {KMeans, MiniBatchKMeans}),
    MinMaxScaler,
    MaxAbsScaler,
    RobustScaler,
    Normalizer,
    *NEIGHBORS,
)
everything = pytest.mark.parametrize("estimator", [*ESTIMATORS, *OTHERS], ids=lambda e: repr(e)[:50])
each = pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda e: repr(e)[:50])


def methods(estimator):
    return METHODS.get(type(estimator), ("transform", "inverse_transform"))


def data(n=40, d=3, dtype="float64"):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d)) + 4.0 * (np.arange(n) % 2)[:, None]
    return x.astype(dtype), (x[:, 0] - 0.5 * x[:, -1]).astype(dtype)


def fit(estimator, x, y, comm, kind="even"):
    rows = table(x, comm, kind)
    if getattr(estimator, "_estimator_type", None) == "classifier":
        y = (y > np.median(y)).astype(np.int64)
    return (estimator.fit(rows, table(y[:, None], comm, kind if kind != "features" else "even")), rows)


def answer(fitted, name, rows):
    """What a method returns, or the first of it, as a NumPy array."""
    found = getattr(fitted, name)(rows)
    return whole(found[0] if isinstance(found, tuple) else found)


def learned(estimator):
    """Everything that fit has set, as NumPy arrays and numbers."""
    values = {name: value for name, value in vars(estimator).items() if name.endswith("_")}
    return {name: whole(v) if isinstance(v, ht.DNDarray) else v for name, v in values.items()}


def assert_equal(first, second, rtol=0.0):
    assert first.keys() == second.keys()
    for name, value in first.items():
        if value is None or isinstance(value, str):
            assert second[name] == value
        else:
            np.testing.assert_allclose(second[name], value, rtol=rtol, atol=rtol, err_msg=name)


def test_every_estimator_is_listed():
    assert {type(e) for e in (*ESTIMATORS, *OTHERS)} == set(public_estimators().values())


@everything
def test_parameters(estimator):
    parameters = estimator.get_params()
    assert all(getattr(estimator, name) is value for name, value in parameters.items())
    assert type(estimator)(**parameters).get_params() == parameters
    other = type(estimator)()
    assert other.set_params(**parameters) is other
    assert other.get_params() == parameters
    with pytest.raises(
        ValueError, match=f"{type(other).__name__}.set_params: name must be one of .*, got 'colour'"
    ):
        other.set_params(colour=1)
    assert vars(type(estimator)()).keys() == type(estimator)().get_params().keys()
    assert repr(estimator).startswith(type(estimator).__name__ + "(")
    assert eval(repr(estimator)).get_params() == parameters


@each
def test_clone_and_pickle(estimator):
    x, y = data()

    def run(comm):
        original = copy.deepcopy(estimator)
        fitted, _ = fit(original, x, y, comm)
        assert fitted is original
        new = clone(fitted)
        assert new.get_params() == fitted.get_params()
        with pytest.raises(NotFittedError):
            check_is_fitted(new)
        check_is_fitted(fitted)
        for again in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
            assert_equal(learned(fitted), learned(again))
            rows = table(x, comm)
            if hasattr(again, "predict"):
                np.testing.assert_array_equal(whole(again.predict(rows)), whole(fitted.predict(rows)))

    spmd(2, run)


@everything
def test_scikit_learn_can_clone(estimator):
    from sklearn.base import clone as clone_elsewhere

    assert clone_elsewhere(estimator).get_params() == estimator.get_params()


@pytest.mark.parametrize("estimator", OTHERS, ids=repr)
def test_models_of_snapshots(estimator):
    snapshots = np.random.default_rng(1).normal(size=(6, 12))
    spoilt = snapshots.copy()
    spoilt[-1, -1] = np.nan

    def fitted(comm, values):
        arguments = [ht.array(values, split=0)]
        if isinstance(estimator, DMDc):
            arguments.append(ht.array(snapshots[:1], split=1))
        return clone(estimator).fit(*arguments)

    def run(comm):
        model = fitted(comm, snapshots)
        assert model.n_features_in_ == 6
        for again in (pickle.loads(pickle.dumps(model)), copy.deepcopy(model), fitted(comm, snapshots)):
            assert_equal(learned(model), learned(again))
        with pytest.raises(ValueError, match="must be finite, got NaN") as caught:
            fitted(comm, spoilt)
        new = clone(model)
        with pytest.raises(NotFittedError):
            check_is_fitted(new)
        return str(caught.value)

    assert len(set(spmd(3, run))) == 1


@pytest.mark.parametrize("estimator", [e for e in ESTIMATORS if not isinstance(e, STATELESS)], ids=repr)
def test_not_fitted(estimator):
    x, _ = data()

    def run(comm):
        for name in methods(estimator):
            with pytest.raises(NotFittedError, match=rf"{type(estimator).__name__}: .*call fit\(X\)"):
                getattr(clone(estimator), name)(table(x, comm))

    spmd(2, run)


# Batches are the ranks' rows: these say so, and are tested in test_kmedians.py.
@pytest.mark.parametrize(
    "estimator", [e for e in ESTIMATORS if not isinstance(e, BATCHED)], ids=lambda e: repr(e)[:50]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_answers_do_not_depend_on_ranks_or_layout(estimator, dtype):
    x, y = data(dtype=dtype)
    tolerance = 1e-5 if dtype == "float32" else 1e-9

    def run(comm, kind):
        fitted, _rows = fit(clone(estimator), x, y, comm, kind)
        attributes = {name: v for name, v in learned(fitted).items() if name not in ("n_iter_", "dual_gap_")}
        outputs = [answer(fitted, methods(fitted)[0], table(x, comm, kind))]
        return attributes, outputs

    attributes, outputs = spmd(1, run, "even")[0]
    for p, kinds in ((2, ("even",)), (3, KINDS), (4, ("last",))):
        for kind in kinds:
            for other in spmd(p, run, kind):
                assert_equal(attributes, other[0], tolerance)
                for mine, theirs in zip(outputs, other[1]):
                    np.testing.assert_allclose(theirs, mine, rtol=tolerance, atol=10 * tolerance)


@each
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_data_that_are_not_finite_are_refused_on_every_rank(estimator, value):
    x, y = data()
    x[-1, 1] = value  # the last rank's

    def run(comm, kind):
        with (
            comm.trace() as sent,
            pytest.raises(ValueError, match="must be finite, got NaN, infinity") as caught,
        ):
            fit(clone(estimator), x, y, comm, kind)
        return str(caught.value), [event.op for event in sent.events]

    for kind in KINDS:
        results = spmd(3, run, kind)
        assert all(result == results[0] for result in results)
        ops = [op for op in results[0][1] if op != "redistribute"]
        if isinstance(estimator, CLASSIFIERS):  # the labels come first
            ops = [op for op in ops if op == "allreduce"]
        assert len(ops) <= 1, ops  # refused with the first message, which is sent anyway


@each
def test_wrong_shapes_are_refused_before_any_message(estimator):
    x, y = data()

    def run(comm):
        fitted, _ = fit(clone(estimator), x, y, comm)
        with comm.trace() as sent:
            for wrong in (x[:, 0], x[None], np.empty((0, 3)), np.empty((5, 0))):
                with pytest.raises(
                    ValueError, match=r"X must be (two-dimensional|a table of at least [12] row)"
                ):
                    clone(estimator).fit(ht.array(wrong, split=0), ht.array(y))
            with pytest.raises(TypeError, match="X must be real"):
                clone(estimator).fit(ht.array(x + 1j, split=0), ht.array(y))
            for name in methods(estimator):
                expected = 1 if (isinstance(estimator, DECOMPOSITIONS) and name == "inverse_transform") else 3
                with pytest.raises(
                    ValueError, match=f"X must have the {expected} features it was fitted with, got 2"
                ):
                    getattr(fitted, name)(ht.array(x[:, :2], split=0))
        return sent.calls

    assert spmd(2, run) == [0, 0]


@each
def test_numpy_and_lists_are_replicated_tables(estimator):
    x, y = data()
    target = y > 0 if isinstance(estimator, CLASSIFIERS) else y

    def run(comm):
        with comm.trace() as sent:
            a = clone(estimator).fit(x, target)
            b = clone(estimator).fit(x.tolist(), target.tolist())
        assert sent.calls == 0
        assert_equal(learned(a), learned(b))
        assert a.n_features_in_ == 3
        return learned(a)

    results = spmd(2, run)
    assert_equal(results[0], results[1])


@each
def test_a_second_fit_forgets_the_first(estimator):
    x, y = data()
    other, target = data(30, 2)

    def run(comm):
        twice = clone(estimator)
        fit(twice, other, target, comm)
        assert twice.n_features_in_ == 2
        fit(twice, x, y, comm)
        once, _ = fit(clone(estimator), x, y, comm)
        assert_equal(learned(once), learned(twice))

    spmd(2, run)


@each
def test_constant_features_and_float32(estimator):
    x, y = data(dtype="float32")
    x[:, 1] = 5.0

    def run(comm):
        fitted, rows = fit(clone(estimator), x, y, comm)
        return [answer(fitted, name, rows) for name in methods(fitted) if name != "inverse_transform"]

    alone = spmd(1, run)[0]
    for found in spmd(3, run):
        for name, mine, expected in zip(methods(estimator), found, alone):
            assert np.isfinite(mine).all()
            if not isinstance(estimator, BATCHED):
                np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-4)
            if name == "transform" or isinstance(estimator, (ElasticNet, LinearRegression, Ridge)):
                assert mine.dtype == np.float32


@pytest.mark.parametrize(
    "estimator",
    [e for e in ESTIMATORS if not hasattr(e, "random_state") and not isinstance(e, IncrementalPCA)]
    + [
        KMeans(2, init=[[0.0] * 3, [4.0] * 3]),
        KMedians(2, init=[[0.0] * 3, [4.0] * 3]),
        PCA(2),
        PCA(1, whiten=True),
    ],
    ids=repr,
)
def test_order_of_rows(estimator):
    x, y = data()
    order = np.random.default_rng(2).permutation(len(x))

    def run(comm):
        name = methods(estimator)[0]
        found = []
        for chosen in (np.arange(len(x)), order):
            fitted, _ = fit(clone(estimator), x[chosen], y[chosen], comm, "uneven")
            found.append(answer(fitted, name, table(x, comm)))
        return found

    for first, second in spmd(2, run):
        np.testing.assert_allclose(second, first, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("n", [1, 2])
@each
def test_one_row_one_feature_and_more_ranks_than_rows(estimator, n):
    estimator = clone(estimator)
    if isinstance(estimator, CLUSTERERS):
        estimator.set_params(n_clusters=1)
    if isinstance(estimator, NEIGHBORS):
        estimator.set_params(n_neighbors=1)
    x, y = data(n, 1)

    def run(comm):
        if isinstance(estimator, LogisticRegression) and n == 1:
            with pytest.raises(ValueError, match="y must hold at least two classes, got"):
                fit(clone(estimator), x, y, comm)
            return [np.zeros(1)]
        if isinstance(estimator, LocalOutlierFactor) and n == 1:
            with pytest.raises(ValueError, match="X must be a table of at least 2 row"):
                fit(clone(estimator), x, y, comm)
            return [np.zeros(1)]
        fitted, _ = fit(clone(estimator), x, y, comm)
        return [answer(fitted, name, table(x, comm)) for name in methods(fitted)[:1]]

    for results in spmd(4, run):
        assert np.isfinite(results[0]).all()


@pytest.mark.parametrize("estimator", [e for e in ESTIMATORS if not isinstance(e, WITHOUT_WEIGHTS)], ids=repr)
def test_weights(estimator):
    x, y = data()
    y = y > 0 if isinstance(estimator, CLASSIFIERS) else y

    def run(comm):
        rows, target = table(x, comm), table(y, comm)
        ones = learned(clone(estimator).fit(rows, target, sample_weight=np.ones(40)))
        attributes = learned(clone(estimator).fit(rows.copy(), target))
        skip = ("n_iter_", "dual_gap_")
        assert_equal(
            {k: v for k, v in attributes.items() if k not in skip},
            {k: v for k, v in ones.items() if k not in skip},
            1e-7,
        )
        with pytest.raises(
            ValueError, match=r"sample_weight must have one value per row, shape \(40,\), got shape \(3,\)"
        ):
            clone(estimator).fit(rows, target, sample_weight=np.ones(3))
        bad = np.ones(40)
        bad[-1] = -1.0
        with pytest.raises(ValueError, match=r"sample_weight \(not negative\) must be finite"):
            clone(estimator).fit(rows, target, sample_weight=table(bad, comm))
        with pytest.raises(ValueError, match="sample_weight must have a positive sum, got 0"):
            clone(estimator).fit(rows, target, sample_weight=np.zeros(40))

    spmd(3, run)


def test_base_estimator():
    class Inner(BaseEstimator):
        def __init__(self, a=1, b=2):
            self.a, self.b = a, b

    class Outer(BaseEstimator):
        def __init__(self, inner=None, *, c=3):
            self.inner, self.c = inner, c

    outer = Outer(Inner(a=5))
    assert outer.get_params()["inner__a"] == 5
    outer.set_params(inner__b=7, c=4)
    assert (outer.inner.b, outer.c) == (7, 4)
    new = clone(outer)
    assert new.inner is not outer.inner
    assert repr(new) == "Outer(inner=Inner(a=5, b=7), c=4)"
    with pytest.raises(TypeError, match="clone: estimator must be an instance with get_params"):
        clone(Outer)

    class Loose(BaseEstimator):
        def __init__(self, **options):
            pass

    with pytest.raises(TypeError, match="Loose: parameters must be named"):
        Loose().get_params()
