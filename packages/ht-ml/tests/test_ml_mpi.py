"""The estimators on real MPI: the same answers as one process, the declared messages."""

import numpy as np
import pytest
from ht_comm import SerialComm, use_comm
from ht_core.testing import whole
from ht_ml import PCA, KMeans, Lasso, StandardScaler
from ht_ml.cluster import BatchParallelKMeans, KMedoids, MiniBatchKMeans, Spectral
from ht_ml.metrics import adjusted_rand_score, silhouette_score
from ht_ml.neighbors import KNeighborsClassifier, LocalOutlierFactor
from ml_tables import diabetes, digits, table

pytestmark = pytest.mark.mpi


@pytest.mark.parametrize("init", ["random", "k-means++", "k-means||", "batchparallel"])
def test_kmeans(comm, init):
    values = np.tile(digits(), (2, 1))
    x = table(values, comm, "uneven")
    model = KMeans(8, init=init, n_init=1, random_state=2, max_iter=30)
    with comm.trace() as sent:
        model.fit(x)
    assert sent.by_op["allreduce"][0] <= 5 + model.n_iter_
    with use_comm(SerialComm()):
        alone = KMeans(8, init=init, n_init=1, random_state=2, max_iter=30).fit(values)
    np.testing.assert_array_equal(whole(model.labels_), whole(alone.labels_))
    np.testing.assert_array_equal(whole(model.cluster_centers_), whole(alone.cluster_centers_))
    np.testing.assert_array_equal(whole(model.predict(x)), whole(model.labels_))
    assert model.inertia_ == pytest.approx(alone.inertia_, rel=1e-12)


def test_other_clusterings(comm):
    values = digits()[:400]
    x = table(values, comm, "uneven")
    for model in (KMedoids(5, random_state=0), MiniBatchKMeans(5, batch_size=100, random_state=0)):
        labels = model.fit_predict(x)
        with use_comm(SerialComm()):
            alone = type(model)(**model.get_params()).fit(values)
            score = silhouette_score(values, alone.labels_)
        np.testing.assert_array_equal(whole(labels), whole(alone.labels_))
        assert silhouette_score(x, labels) == pytest.approx(score, rel=1e-9)
    for options in ({"gamma": 1e-3}, {"laplacian": "kNN"}):
        labels = Spectral(5, random_state=0, **options).fit_predict(x)
        with use_comm(SerialComm()):
            alone = Spectral(5, random_state=0, **options).fit(values)
        assert adjusted_rand_score(labels, whole(alone.labels_)) > 0.99
    model = BatchParallelKMeans(5, random_state=0)
    with comm.trace() as sent:
        model.fit(x)
    assert sent.calls == 3
    assert model.functional_value_ == pytest.approx(-model._fitted.score(x))


def test_scaler_lasso_and_pca(comm):
    values, y = diabetes("float32")
    x, target = table(values, comm, "last"), table(y, comm)
    for model, messages in (
        (StandardScaler(), 1),
        (Lasso(0.1), 1),
        (PCA(3), 2),
    ):  # PCA: and whether float32 will do
        name = "predict" if isinstance(model, Lasso) else "transform"
        with comm.trace() as sent:
            model.fit(x, table(y, comm, "last"))
        assert sent.calls == messages
        with use_comm(SerialComm()):
            alone = type(model)(**model.get_params()).fit(values, y)
            expected = whole(getattr(alone, name)(values))
        np.testing.assert_allclose(whole(getattr(model, name)(x)), expected, rtol=1e-4, atol=1e-4)
    assert Lasso(0.1).fit(x, target).score(x, target) == pytest.approx(0.51, abs=0.02)


def test_neighbours(comm):
    values = digits()[:700]
    labels = values[:, 20] > 8
    queries = digits()[600:900]
    x, y, asked = table(values, comm, "uneven"), table(labels, comm, "uneven"), table(queries, comm, "last")
    model, outliers = KNeighborsClassifier(weights="distance").fit(x, y), LocalOutlierFactor(9).fit(x)
    with use_comm(SerialComm()):
        alone = KNeighborsClassifier(weights="distance").fit(values, labels)
        expected = [whole(part) for part in (*alone.kneighbors(queries), alone.predict_proba(queries))]
        factors = whole(LocalOutlierFactor(9).fit(values).negative_outlier_factor_)
    found = [whole(part) for part in (*model.kneighbors(asked), model.predict_proba(asked))]
    for mine, theirs in zip(found, expected):
        np.testing.assert_array_equal(mine, theirs)
    np.testing.assert_array_equal(whole(outliers.negative_outlier_factor_), factors)


def test_nan_is_refused_on_every_rank(comm):
    values = digits()[:50].copy()
    values[-1, 3] = np.nan
    for model in (StandardScaler(), KMeans(2), PCA(2), Lasso()):
        with pytest.raises(ValueError, match="must be finite"):
            model.fit(table(values, comm), table(np.ones(50), comm))
    comm.barrier()


@pytest.mark.mpi(ranks=[1, 2, 4])
def test_decompositions_and_splits(comm):
    from ht_ml.decomposition import DMD, IncrementalPCA
    from ht_ml.model_selection import train_test_split
    from sklearn.decomposition import IncrementalPCA as Reference

    values = digits("float64")[:400]
    x = table(values, comm, "uneven")
    model = IncrementalPCA(5, batch_size=150).fit(x)
    expected = Reference(5, batch_size=150).fit(values)
    np.testing.assert_allclose(whole(model.singular_values_), expected.singular_values_, rtol=1e-9)
    train, test, rows, _ = train_test_split(x, np.arange(400), test_size=0.2, random_state=0)
    assert train.split == test.split == 0
    np.testing.assert_array_equal(whole(train), values[whole(rows)])
    snapshots = np.array([[0.9**k, (-0.5) ** k, 0.9**k - (-0.5) ** k] for k in range(9)]).T
    forecast = DMD().fit(table(snapshots[:, :6], comm)).predict(snapshots[:, 0], 9)
    np.testing.assert_allclose(whole(forecast), snapshots, atol=1e-10)
