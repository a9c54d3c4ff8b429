"""Neighbours: scikit-learn's answers on real data for any layout of learned rows and queries; the declared messages."""

import numpy as np
import pytest
from ht_comm import spmd
from ht_core import LayoutError
from ht_core.testing import whole
from ht_ml import classification
from ht_ml.neighbors import KNeighborsClassifier, KNeighborsRegressor, NearestNeighbors
from ml_tables import KINDS, cancer, diabetes, digits, table
from scipy.spatial.distance import cdist
from sklearn import datasets, neighbors

PAIRS = [("even", "uneven"), ("last", "even"), ("none", "uneven"), ("even", "none"), ("features", "features")]
layouts = pytest.mark.parametrize(("learned", "asked"), PAIRS)


def lies(kind):
    return "even" if kind == "features" else kind


def nearest(x, y, k, **options):
    """Distances and indices of the k nearest, of equally near those of lower index."""
    apart = cdist(x.astype("float64"), y.astype("float64"), **options)
    order = apart.argsort(axis=1, kind="stable")[:, :k]
    return np.take_along_axis(apart, order, 1), order


@layouts
@pytest.mark.parametrize("metric", ["euclidean", "cityblock"])
def test_search(learned, asked, metric):
    """Digits are integers: many distances are equal, and all are exact."""
    x, y = digits()[:300], digits()[300:420]
    near = nearest(y, x, 6, metric=metric)
    alone = nearest(x, x, 7, metric=metric)
    theirs = neighbors.NearestNeighbors(n_neighbors=6, metric=metric).fit(x)

    def run(comm):
        model = NearestNeighbors(6, metric=metric).fit(table(x, comm, learned))
        distances, indices = model.kneighbors(table(y, comm, asked))
        assert distances.split == indices.split == (None if asked == "none" else 0)
        assert distances.larray.dtype == model._fit_X.larray.dtype
        own = model.kneighbors(n_neighbors=5, return_distance=False)
        return whole(distances), whole(indices), whole(own), model.kneighbors_graph(table(y, comm, asked), 3)

    for p in (1, 2, 3, 4):
        for distances, indices, own, graph in spmd(p, run):
            np.testing.assert_array_equal(indices, near[1])
            np.testing.assert_allclose(distances, near[0], rtol=1e-6)
            for i, row in enumerate(alone[1]):
                np.testing.assert_array_equal(own[i], row[row != i][:5])
            assert graph.nnz == 3 * len(y)
    np.testing.assert_allclose(distances, theirs.kneighbors(y)[0], rtol=1e-5)


@pytest.mark.parametrize("mode", ["connectivity", "distance"])
def test_graph(mode):
    x = cancer()
    for source in (None, x[:40] + 0.5):
        expected = neighbors.NearestNeighbors(n_neighbors=4).fit(x).kneighbors_graph(source, mode=mode)

        def run(comm, source=source):
            model = NearestNeighbors(4).fit(table(x, comm, "uneven"))
            rows = None if source is None else table(source, comm, "last")
            with comm.trace() as searching:
                model.kneighbors(rows)
            with comm.trace() as sent:
                graph = model.kneighbors_graph(rows, mode=mode)
            assert (sent.calls, sent.bytes) == (searching.calls, searching.bytes)
            return whole(graph.to_dense()), graph.split

        for dense, split in spmd(3, run):
            np.testing.assert_allclose(dense, expected.toarray(), rtol=1e-7, atol=1e-9)
            assert split == 0


@layouts
@pytest.mark.parametrize("metric", ["euclidean", "manhattan"])
def test_radius(learned, asked, metric):
    """Digits are integers: there are rows exactly at the radius, and equal rows."""
    x, y = digits()[:300], np.concatenate([digits()[300:400], digits()[:5]])
    radius = 20.0 if metric == "euclidean" else 90.0
    if metric == "euclidean":
        radius = float(np.float32(np.sqrt(np.float32(425.0))))
    for source in (y, None):
        theirs = neighbors.NearestNeighbors(radius=radius, metric=metric, algorithm="kd_tree").fit(
            x.astype("float64")
        )
        expected = theirs.radius_neighbors_graph(source, radius * (1 + 1e-6), mode="distance")
        dense = expected.toarray()
        assert np.isclose(dense, radius, rtol=1e-7).any()

        def run(comm, source=source):
            model = NearestNeighbors(radius=radius, metric=metric).fit(table(x, comm, learned))
            rows = None if source is None else table(source, comm, asked)
            graph = model.radius_neighbors_graph(rows, mode="distance")
            ones = model.radius_neighbors_graph(rows)
            return whole(graph.to_dense()), whole(ones.to_dense()), graph.nnz, graph.split

        for p in (1, 2, 4):
            for distances, ones, nnz, split in spmd(p, run):
                np.testing.assert_allclose(distances, dense, rtol=1e-6)
                assert nnz == ones.sum() == expected.nnz > 50
                kind = learned if source is None else asked
                assert split == (None if kind == "none" else 0)


LABELLED = {
    "cancer": lambda: datasets.load_breast_cancer(return_X_y=True),
    # Noise far below a grey level: scikit-learn takes any of the rows at the same distance.
    "digits": lambda: (
        digits("float64") + np.random.default_rng(0).normal(size=(1797, 64)) * 1e-3,
        datasets.load_digits().target * 3,
    ),
}


@layouts
@pytest.mark.parametrize("name", LABELLED)
@pytest.mark.parametrize("weights", ["uniform", "distance", lambda d: 1 / (1 + d)])
def test_classifier_agrees_with_scikit_learn(learned, asked, name, weights):
    x, y = LABELLED[name]()
    fit, new = slice(0, 400), slice(350, 560)  # 50 queries are learned rows: distance 0
    # Its trees work from differences, as we do; its matrix products put equal rows at a distance above 0.
    theirs = neighbors.KNeighborsClassifier(7, weights=weights, algorithm="kd_tree").fit(x[fit], y[fit])

    def run(comm):
        model = KNeighborsClassifier(7, weights=weights)
        assert model.fit(table(x[fit], comm, learned), table(y[fit], comm, lies(learned))) is model
        rows = table(x[new], comm, asked)
        labels, shares = model.predict(rows), model.predict_proba(rows)
        assert labels.split == shares.split == (None if asked == "none" else 0)
        return whole(labels), whole(shares), model.score(rows, table(y[new], comm, lies(asked)))

    for p in (1, 3):
        for labels, shares, score in spmd(p, run):
            np.testing.assert_array_equal(labels, theirs.predict(x[new]))
            np.testing.assert_allclose(shares, theirs.predict_proba(x[new]), atol=1e-10)
            assert score == theirs.score(x[new], y[new])


@layouts
@pytest.mark.parametrize("weights", ["uniform", "distance"])
@pytest.mark.parametrize("outputs", [None, 1, 3])
def test_regressor_agrees_with_scikit_learn(learned, asked, weights, outputs):
    x, y = diabetes()
    if outputs is not None:
        y = np.stack([y, y**2, -y], 1)[:, :outputs]
    fit, new = slice(0, 300), slice(250, None)
    theirs = neighbors.KNeighborsRegressor(5, weights=weights, algorithm="kd_tree").fit(x[fit], y[fit])

    def run(comm):
        model = KNeighborsRegressor(weights=weights)
        model.fit(table(x[fit], comm, learned), table(y[fit], comm, lies(learned)))
        rows = table(x[new], comm, asked)
        found = model.predict(rows)
        return whole(found), model.score(rows, table(y[new], comm, lies(asked)))

    for p in (1, 3):
        for found, score in spmd(p, run):
            expected = theirs.predict(x[new])
            assert found.shape == expected.shape
            np.testing.assert_allclose(found, expected, rtol=1e-9)
            assert score == pytest.approx(theirs.score(x[new], y[new]), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_ties_go_to_the_lower_index_and_label(kind):
    x = np.zeros((12, 2), "float32")
    x[8:] = 1.0
    y = np.array([5, 5, 3, 3, 3, 3, 3, 3, 9, 9, 2, 2])

    def run(comm):
        rows = table(x, comm, kind)
        model = KNeighborsClassifier(4).fit(rows, table(y, comm, lies(kind)))
        indices = whole(model.kneighbors(table(np.zeros((3, 2)), comm), return_distance=False))
        return indices, whole(model.predict(rows))

    for p in (1, 2, 4):
        for indices, labels in spmd(p, run):
            np.testing.assert_array_equal(indices, [[0, 1, 2, 3]] * 3)
            np.testing.assert_array_equal(labels, [3] * 8 + [2] * 4)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "float32"])
def test_labels_of_any_dtype(dtype):
    x, y = datasets.load_breast_cancer(return_X_y=True)

    def run(comm):
        model = KNeighborsClassifier().fit(table(x, comm), table(y.astype(dtype), comm))
        return whole(model.predict(table(x, comm)))

    np.testing.assert_array_equal(spmd(2, run)[0], neighbors.KNeighborsClassifier().fit(x, y).predict(x))


def test_messages():
    x, (_, y) = digits(), LABELLED["digits"]()
    n, d, k, p = 1400, 64, 5, 3

    def run(comm):
        rows, queries = table(x[:n], comm), table(x[n:], comm)
        q = queries.lshape[0]
        with comm.trace() as fitting:
            model = KNeighborsClassifier(k).fit(rows, table(y[:n], comm))
        assert fitting.by_op["allreduce"][0] == 1
        with comm.trace() as searching:
            model.kneighbors(queries)
        assert searching.bytes <= (p - 1) * (n // p + 1) * d * 4 + 4  # a ring of blocks, and one number
        with comm.trace() as using:
            model.predict(queries)
        # Requests of 8 bytes, answers of 4 to as many as the others ask for: all ask for about as many.
        assert using.bytes - searching.bytes <= 8 * p + 8 * q * k + 2 * 4 * q * k
        replicated = KNeighborsClassifier(k).fit(x[:n], y[:n])
        with comm.trace() as local:
            replicated.predict(queries)
        assert [(e.op, local.bytes) for e in local.events] == [("allreduce", 4)]
        return [[e.op for e in trace.events] for trace in (searching, using)]

    for searching, using in spmd(p, run):
        assert searching[0] == "allreduce"
        assert "allreduce" not in searching[1:]
        assert not {"allgather", "allgatherv", "alltoallv"} & set(searching)
        assert using == [*searching, "alltoall", "alltoallv", "alltoallv"]


def test_rows_are_not_copied():
    x = digits()

    def run(comm):
        rows = table(x, comm)
        return NearestNeighbors().fit(rows)._fit_X.larray.data_ptr() == rows.larray.data_ptr()

    assert all(spmd(2, run))


def test_other_names():
    assert classification.KNeighborsClassifier is KNeighborsClassifier
    assert classification.kneighborsclassifier.KNeighborsClassifier is KNeighborsClassifier


X, Y = diabetes()
REFUSED = {
    "NearestNeighbors.fit: n_neighbors must be an integer of at least 1, got 0": lambda t: NearestNeighbors(
        0
    ).fit(t(X)),
    "NearestNeighbors.fit: metric must be one of euclidean, .* or a function, got 'far'": lambda t: (
        NearestNeighbors(metric="far").fit(t(X))
    ),
    "KNeighborsClassifier.fit: weights must be uniform, distance or a function, got 'heavy'": lambda t: (
        KNeighborsClassifier(weights="heavy").fit(t(X), t(Y))
    ),
    r"NearestNeighbors.kneighbors: n_neighbors must be in \[1, 6\], for 6 rows learned, got 7": lambda t: (
        NearestNeighbors(7).fit(t(X[:6])).kneighbors(t(X))
    ),
    r"NearestNeighbors.kneighbors: n_neighbors must be in \[1, 5\], for 6 rows learned, got 6": lambda t: (
        NearestNeighbors(6).fit(t(X[:6])).kneighbors()
    ),
    "NearestNeighbors.kneighbors_graph: mode must be connectivity or distance, got 'far'": lambda t: (
        NearestNeighbors().fit(t(X)).kneighbors_graph(mode="far")
    ),
    "NearestNeighbors.radius_neighbors_graph: radius must be a number in .0, inf., got -1": lambda t: (
        NearestNeighbors().fit(t(X)).radius_neighbors_graph(radius=-1)
    ),
    "KNeighborsRegressor.predict: X must be finite, got NaN": lambda t: (
        KNeighborsRegressor()
        .fit(t(X), t(Y))
        .predict(t(np.where(np.arange(len(X))[:, None] == 441, np.nan, X)))
    ),
    "KNeighborsRegressor.fit: X and y must be finite, got NaN": lambda t: KNeighborsRegressor().fit(
        t(X), t(np.where(np.arange(len(X)) == 441, np.inf, Y))
    ),
    r"NearestNeighbors.fit: X must be finite, got NaN, infinity or values beyond 2e\+19": lambda t: (
        NearestNeighbors().fit(t(np.full((9, 1), 2e19, "float32")))
    ),
    r"KNeighborsRegressor.fit: y must have shape \(442,\) or \(442, t\), got shape \(3, 2\)": lambda t: (
        KNeighborsRegressor().fit(t(X), np.ones((3, 2)))
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refusals_are_the_same_on_every_rank(message):
    def run(comm):
        with pytest.raises(ValueError, match=message) as caught:
            REFUSED[message](lambda values: table(values, comm))
        return str(caught.value)

    assert len(set(spmd(3, run))) == 1


def test_wrong_n_neighbors_sends_nothing():
    def run(comm):
        model = NearestNeighbors().fit(table(X, comm))
        with comm.trace() as sent, pytest.raises((ValueError, LayoutError)):
            model.kneighbors(n_neighbors=442)
        return sent.calls

    assert spmd(2, run) == [0, 0]
