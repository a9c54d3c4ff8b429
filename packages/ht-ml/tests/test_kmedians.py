"""KMedians, KMedoids, BatchParallelKMeans and BatchParallelKMedians: exact medians, existing rows, messages."""

import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.testing import whole
from ht_ml.cluster import BatchParallelKMeans, BatchParallelKMedians, KMeans, KMedians, KMedoids
from ht_ml.cluster.medians import grouped_medians
from ht_ml.rows import as_rows
from ml_tables import KINDS, blobs, cancer, digits, table
from sklearn.metrics import adjusted_rand_score


def manhattan(values, centres):
    return np.abs(values[:, None].astype("float64") - centres[None].astype("float64")).sum(2)


def plain(values, start, is_medoid=False, max_iter=100):
    """The same alternation with NumPy on one process."""
    centres, labels = start.astype(values.dtype), None
    if is_medoid:
        centres = values[manhattan(values, centres).argmin(0)]
    for _ in range(max_iter):
        found = manhattan(values, centres).argmin(1)
        if labels is not None and (found == labels).all():
            break
        labels = found
        for j in range(len(centres)):
            mine = values[labels == j]
            centre = np.median(mine.astype("float64"), axis=0).astype(values.dtype)
            centres[j] = mine[manhattan(mine, centre[None])[:, 0].argmin()] if is_medoid else centre
    return centres, labels, manhattan(values, centres).min(1).sum()


def fitted(model, values, p, kind="even", **parameters):
    def run(comm):
        x = table(values, comm, kind)
        found = model(**parameters)
        with comm.trace() as sent:
            found.fit(x)
        np.testing.assert_array_equal(whole(x), values)
        ops = [event.op for event in sent.events]
        predicted = whole(found.predict(x))
        return (
            whole(found.cluster_centers_),
            whole(found.labels_),
            found.functional_value_,
            ops,
            predicted,
            found,
        )

    results = spmd(p, run)
    for other in results[1:]:
        np.testing.assert_array_equal(other[0], results[0][0])
        np.testing.assert_array_equal(other[1], results[0][1])
    np.testing.assert_array_equal(results[0][4], results[0][1])
    return results[0]


@pytest.mark.parametrize("model", [KMedians, KMedoids])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_agrees_with_a_plain_alternation(model, dtype):
    for values, k in ((digits(dtype)[:600], 6), (blobs(400, 5, 4, dtype, 2.0)[0], 4)):
        start = values[:k].copy()
        centres, labels, value = plain(values, start, model is KMedoids)
        for p, kinds in ((1, ("even",)), (3, KINDS), (4, ("last",))):
            for kind in kinds:
                found = fitted(model, values, p, kind, n_clusters=k, init=start, tol=-1.0, max_iter=100)
                np.testing.assert_array_equal(found[0], centres)
                np.testing.assert_array_equal(found[1], labels)
                assert found[2] == pytest.approx(value, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("n", [0, 1, 7, 500, 30000])
def test_medians_of_groups(n, dtype):
    """Exact for groups of any size: none, one, even and odd numbers of rows; many equal elements; one huge."""
    rng = np.random.default_rng(n)
    values = np.stack([rng.normal(size=n), rng.integers(0, 3, n), 1e30 * rng.normal(size=n)], 1).astype(dtype)
    labels = rng.integers(0, 4, n) * (rng.random(n) < 0.5)  # group 0 is the largest, group 4 has no row
    sizes = np.bincount(labels, minlength=5)

    def run(comm, kind):
        rows = as_rows("test", table(values, comm, kind), min_rows=0)
        mine = torch.from_numpy(labels)[rows.start : rows.start + rows.local.shape[0]]
        with comm.trace() as sent:
            found = grouped_medians(rows, mine, torch.from_numpy(sizes))
        return found.numpy(), sent.calls, sum(event.bytes for event in sent.events)

    for p, kind in ((1, "even"), (3, "uneven"), (4, "last")):
        for found, calls, sent in spmd(p, run, kind):
            for j in range(5):
                if sizes[j]:
                    expected = np.median(values[labels == j].astype("float64"), axis=0)
                    np.testing.assert_array_equal(found[j], expected)
            assert calls <= 11
            assert sent < 3 << 20


def test_every_iteration_of_medians_helps():
    values = cancer()
    last = np.inf
    for iterations in (1, 2, 4, 8):
        value = fitted(KMedians, values, 2, n_clusters=5, init=values[:5], max_iter=iterations, tol=-1.0)[2]
        assert value <= last * (1 + 1e-12)
        last = value


def test_medoids_are_rows():
    values = cancer("float32")
    for kind in ("even", "last"):
        centres = fitted(KMedoids, values, 3, kind, n_clusters=6, random_state=2)[0]
        assert {tuple(row) for row in centres} <= {tuple(row) for row in values}
    start = np.full((2, values.shape[1]), 1e6)  # no rows
    centres = fitted(KMedoids, values, 2, n_clusters=2, init=start, max_iter=1)[0]
    assert {tuple(row) for row in centres} <= {tuple(row) for row in values}


@pytest.mark.parametrize("model", [KMedians, KMedoids])
def test_empty_clusters_are_reseeded(model):
    values, _ = blobs(200, 2, 4, std=0.3)
    start = np.vstack([values[:2], np.full((2, 2), 1e3)])
    one = fitted(model, values, 1, n_clusters=4, init=start)
    three = fitted(model, values, 3, "uneven", n_clusters=4, init=start)
    assert len(np.unique(one[1])) == 4
    assert np.abs(one[0]).max() < 100
    np.testing.assert_array_equal(one[0], three[0])
    same = fitted(
        model, np.ones((9, 2)), 3, n_clusters=3, random_state=0
    )  # fewer different rows than clusters
    assert same[2] == 0.0


def test_outliers_move_means_not_medians():
    values, truth = blobs(300, 3, 3, std=0.5)
    spoiled = np.vstack([values, [[1e4, 1e4, 1e4]]])
    clean = fitted(
        KMedians, values, 2, n_clusters=3, init=values[[np.flatnonzero(truth == j)[0] for j in range(3)]]
    )
    again = fitted(KMedians, spoiled, 2, n_clusters=3, init=clean[0])
    assert np.abs(again[0] - clean[0]).max() < 0.1
    means = fitted(KMeans, spoiled, 2, n_clusters=3, init=clean[0], max_iter=1)
    assert np.abs(means[0] - clean[0]).max() > 10


def test_messages():
    values, k = digits(), 5
    for p in (2, 3):
        for model, more in ((KMedians, 0), (KMedoids, 1)):
            counts = {}
            for iterations in (2, 3):
                ops = fitted(model, values, p, n_clusters=k, init=values[:k], max_iter=iterations, tol=-1.0)[
                    3
                ]
                counts[iterations] = len(ops)
            assert counts[3] - counts[2] <= 1 + more + 11
        ops = fitted(BatchParallelKMeans, values, p, n_clusters=k, random_state=0)[3]
        assert ops == ["allreduce", "allgather", "allreduce"]
        ops = fitted(BatchParallelKMedians, values, p, n_clusters=k, random_state=0)[3]
        assert ops == ["allreduce", "allgather", "allreduce"]
    for model in (KMedians, KMedoids, BatchParallelKMeans, BatchParallelKMedians):
        assert fitted(model, values, 3, "none", n_clusters=k, random_state=0)[3] == []


def test_transform_and_score():
    values = digits("float64")[:300]

    def run(comm):
        x = table(values, comm, "uneven")
        model = KMedians(5, random_state=0).fit(x)
        with comm.trace() as none:
            distances = model.transform(x)
            model.predict(x)
        assert none.calls == 0
        return whole(distances), model.score(x), whole(model.cluster_centers_), model.functional_value_

    distances, score, centres, value = spmd(3, run)[0]
    np.testing.assert_allclose(distances, manhattan(values, centres), rtol=1e-12)
    assert -score == pytest.approx(manhattan(values, centres).min(1).sum(), rel=1e-12)
    assert value == pytest.approx(-score, rel=1e-12)


@pytest.mark.parametrize("model", [BatchParallelKMeans, BatchParallelKMedians])
@pytest.mark.parametrize("merge", [None, 2])
def test_batches_find_what_is_there(model, merge):
    values, truth = blobs(800, 4, 5, "float64", 0.4)
    for p, kind in ((1, "even"), (4, "even"), (4, "uneven"), (3, "last"), (3, "features")):
        found = fitted(model, values, p, kind, n_clusters=5, random_state=1, n_procs_to_merge=merge)
        assert adjusted_rand_score(found[1], truth) == 1.0
        if model is BatchParallelKMeans:
            expected = ((values - found[0][found[1]]) ** 2).sum()
        else:
            expected = manhattan(values, found[0]).min(1).sum()
        assert found[2] == pytest.approx(expected, rel=1e-9)
        assert found[5].inertia_ == found[2]


def test_batches_on_one_rank_are_k_means():
    values = digits()
    ours = fitted(BatchParallelKMeans, values, 1, n_clusters=10, random_state=3)
    single = fitted(KMeans, values, 1, n_clusters=10, random_state=3)
    np.testing.assert_array_equal(ours[0], single[0])
    many = fitted(BatchParallelKMeans, values, 3, n_clusters=10, random_state=3)
    assert many[2] < 1.1 * single[2]


def test_more_ranks_than_rows():
    values = np.array([[0.0], [1.0], [5.0]])
    for model in (KMedians, KMedoids, BatchParallelKMeans, BatchParallelKMedians):
        centres, labels, value, *_ = fitted(model, values, 4, n_clusters=3, random_state=0)
        assert sorted(centres[:, 0].tolist()) == [0.0, 1.0, 5.0]
        assert value == 0.0
        assert len(set(labels.tolist())) == 3


WRONG = [
    ({"n_clusters": 0}, "n_clusters must be an int >= 1, got 0"),
    ({"n_clusters": 50}, r"n_clusters must be in \[1, 20\] for 20 rows, got 50"),
    ({"max_iter": 0}, "max_iter must be an int >= 1, got 0"),
    ({"init": "best"}, "init must be one of"),
    ({"random_state": -1}, r"random_state must be in \[0, 2\*\*63\)"),
]
WRONG_BATCHES = [
    ({"n_procs_to_merge": 1}, "n_procs_to_merge must be None or an int >= 2"),
    ({"init": np.zeros((8, 4))}, "init must be the name of a start"),
]


@pytest.mark.parametrize("model", [KMedians, KMedoids, BatchParallelKMeans, BatchParallelKMedians])
def test_wrong_parameters_are_refused_before_any_message(model):
    values = np.random.default_rng(0).normal(size=(20, 4))
    cases = WRONG + (WRONG_BATCHES if model in (BatchParallelKMeans, BatchParallelKMedians) else [])

    def run(comm):
        with comm.trace() as sent:
            for parameters, message in cases:
                with pytest.raises(ValueError, match=f"{model.__name__}.fit: {message}"):
                    model(**parameters).fit(table(values, comm))
        return sent.calls

    assert spmd(3, run) == [0, 0, 0]
