"""KMeans: the same bits for any number of ranks and layout, scikit-learn's answers, messages, hard cases."""

import math

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import whole
from ht_ml.cluster import KMeans
from ml_tables import KINDS, blobs, digits, table
from sklearn.cluster import KMeans as Reference
from sklearn.metrics import adjusted_rand_score


def fitted(values, p, kind="even", *, weights=None, **parameters):
    """Fit on p ranks; every rank must learn the same."""

    def run(comm):
        x = table(values, comm, kind)
        w = None if weights is None else table(weights[:, None], comm, "none" if kind == "none" else "even")
        with comm.trace() as sent:
            model = KMeans(**parameters).fit(x, sample_weight=w)
        np.testing.assert_array_equal(whole(x), values)  # the input is not touched
        assert model.functional_value_ == model.inertia_
        assert model.labels_.split == (None if x.split is None else 0)
        predicted = whole(model.predict(x))
        ops = [event.op for event in sent.events]
        return (
            whole(model.cluster_centers_),
            whole(model.labels_),
            model.inertia_,
            model.n_iter_,
            ops,
            predicted,
        )

    results = spmd(p, run)
    for other in results[1:]:
        np.testing.assert_array_equal(other[0], results[0][0])
        np.testing.assert_array_equal(other[1], results[0][1])
        assert other[2:4] == results[0][2:4]
    return results[0]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("init", ["random", "k-means++", "k-means||", "batchparallel", "array"])
def test_bits_do_not_depend_on_ranks_or_layout(init, dtype):
    values = digits(dtype) if init != "batchparallel" else blobs(2500, 5, 6, dtype, 3.0)[0]
    start = values[:10].copy() if init == "array" else init
    options = {"n_clusters": 10, "init": start, "n_init": 2, "random_state": 5, "max_iter": 40}
    centres, labels, inertia, n_iter, _, predicted = fitted(values, 1, **options)
    np.testing.assert_array_equal(predicted, labels)
    for p in (2, 3, 4):
        for kind in KINDS if p == 3 else ("even",):
            other = fitted(values, p, kind, **options)
            np.testing.assert_array_equal(other[0], centres)
            np.testing.assert_array_equal(other[1], labels)
            assert other[2] == pytest.approx(inertia, rel=1e-13)
            assert other[3] == n_iter
            np.testing.assert_array_equal(other[5], labels)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("p", [1, 3])
def test_agrees_with_scikit_learn(p, dtype):
    for values, k in ((digits(dtype), 10), (blobs(600, 5, 6, dtype)[0], 6)):
        start = values[:k].copy()
        reference = Reference(k, init=start.astype("float64"), n_init=1).fit(values.astype("float64"))
        centres, labels, inertia, _, _, _ = fitted(values, p, n_clusters=k, init=start)
        assert adjusted_rand_score(labels, reference.labels_) == 1.0
        np.testing.assert_allclose(centres, reference.cluster_centers_, atol=1e-5)
        assert inertia == pytest.approx(reference.inertia_, rel=1e-5)
        assert centres.dtype == dtype
        assert labels.dtype == np.int64


def test_starts_are_as_good_as_scikit_learns():
    values, truth = blobs(1200, 8, 12)
    for init in ("k-means++", "batchparallel"):
        scores = [
            adjusted_rand_score(fitted(values, 2, n_clusters=12, init=init, random_state=s)[1], truth)
            for s in range(5)
        ]
        assert np.median(scores) == 1.0


def test_messages():
    values = digits()
    for p in (1, 3):
        # One allreduce for the moments and one per iteration; one more where the labels have not settled.
        ops = fitted(values, p, n_clusters=10, init=values[:10], max_iter=3)[4]
        assert ops == ["allreduce"] * (1 + 3 + 1)
        _, _, _, n_iter, ops, _ = fitted(values, p, n_clusters=10, init=values[:10], tol=0.0)
        assert ops == ["allreduce"] * (1 + n_iter)
        _, _, _, n_iter, ops, _ = fitted(values, p, n_clusters=10, init="random", n_init=1, tol=0.0)
        assert ops == ["allreduce"] * (2 + n_iter)
        ops = fitted(values, p, n_clusters=10, init="k-means++", max_iter=1)[4]
        assert ops == ["allreduce"] + ["allgather"] * 11 + ["allreduce"] * 2
        ops = fitted(values, p, n_clusters=10, init="k-means||", max_iter=1)[4]
        assert ops == ["allreduce"] + ["allgather"] * 6 + ["allreduce"] * 3
        ops = fitted(blobs(2500)[0], p, n_clusters=4, init="batchparallel", max_iter=1)[4]
        assert ops[:3] == ["allreduce"] * 3
        assert len(ops) <= 5
    assert fitted(values, 3, "none", n_clusters=10, init="k-means++")[4] == []


def test_bytes_per_iteration_and_silent_prediction():
    values, k = digits(), 10

    def run(comm):
        x = table(values, comm)
        with comm.trace() as short:
            KMeans(k, init=values[:k], max_iter=2, tol=0.0).fit(x)
        with comm.trace() as long:
            model = KMeans(k, init=values[:k], max_iter=3, tol=0.0).fit(x)
        with comm.trace() as none:
            model.predict(x)
            model.transform(x)
        assert none.calls == 0
        with comm.trace() as one:
            model.score(x)
        assert one.calls == 1
        numbers = k * (values.shape[1] + 1) + 1
        assert {event.bytes for event in long.events[1:]} == {long.events[1].bytes}
        return long.calls - short.calls, long.events[1].bytes, numbers

    for calls, sent, numbers in spmd(2, run):
        assert calls == 1
        assert numbers * 8 <= sent <= 2 * numbers * 8


def test_no_rank_holds_more_than_the_rows_that_were_drawn():
    """k-means|| sends rows by the number of clusters, whatever the number of rows."""
    k = 3

    def run(comm, n):
        with comm.trace() as sent:
            KMeans(k, init="k-means||", max_iter=1).fit(table(blobs(n)[0], comm))
        return [event.bytes for event in sent.events if event.op == "allgather"]

    few, many = spmd(3, run, 200)[0], spmd(3, run, 3000)[0]
    assert few == many
    assert max(many) <= 3 * 2 * k * (5 + 2) * 8


def test_starts_are_as_good_as_those_of_scikit_learn():
    """The mean over 20 seeds, up to what chance does to a mean of 20."""
    values, k = digits("float64"), 10
    theirs = np.array([Reference(k, n_init=1, random_state=s).fit(values).inertia_ for s in range(20)])
    for init in ("k-means++", "k-means||"):
        ours = np.array([KMeans(k, init=init, random_state=s).fit(values).inertia_ for s in range(20)])
        chance = np.sqrt((ours.var() + theirs.var()) / 20)
        assert ours.mean() <= theirs.mean() + 2 * chance
        random = [
            KMeans(k, init="random", n_init=1, random_state=s, max_iter=1).fit(values).inertia_
            for s in range(9)
        ]
        drawn = [KMeans(k, init=init, random_state=s, max_iter=1).fit(values).inertia_ for s in range(9)]
        assert np.mean(drawn) < 0.98 * np.mean(random)


def test_transform_and_score():
    values = digits("float64")

    def run(comm):
        x = table(values, comm, "uneven")
        model = KMeans(10, init=values[:10]).fit(x)
        distances, score = whole(model.transform(x)), model.score(x)
        np.testing.assert_array_equal(whole(x), values)
        np.testing.assert_array_equal(
            whole(KMeans(10, init=values[:10]).fit_predict(x)), whole(model.labels_)
        )
        np.testing.assert_array_equal(whole(KMeans(10, init=values[:10]).fit_transform(x)), distances)
        return distances, score, whole(model.cluster_centers_), model.inertia_

    distances, score, centres, inertia = spmd(3, run)[0]
    expected = np.linalg.norm(values[:, None] - centres, axis=2)
    np.testing.assert_allclose(distances, expected, atol=1e-10)
    assert score == pytest.approx(-(expected.min(1) ** 2).sum(), rel=1e-12)
    assert inertia == pytest.approx(-score, rel=1e-9)


@pytest.mark.parametrize("kind", ["even", "uneven", "none"])
def test_weights_mean_repetition(kind):
    values, _ = blobs(300, 3, 5, std=2.5)
    weights = np.random.default_rng(0).integers(0, 4, 300)
    repeated = np.repeat(values, weights, axis=0)
    start = values[:5].copy()
    weighted = fitted(values, 3, kind, weights=weights.astype(float), n_clusters=5, init=start)
    plain = fitted(repeated, 3, kind, n_clusters=5, init=start)
    np.testing.assert_allclose(weighted[0], plain[0], atol=1e-9)
    np.testing.assert_array_equal(np.repeat(weighted[1], weights), plain[1])
    assert weighted[2] == pytest.approx(plain[2], rel=1e-9)
    unweighted = fitted(values, 3, kind, n_clusters=5, init=start)
    assert np.abs(unweighted[0] - weighted[0]).max() > 1e-3
    reference = Reference(5, init=start, n_init=1).fit(values, sample_weight=weights)
    np.testing.assert_allclose(weighted[0], reference.cluster_centers_, atol=1e-5)


@pytest.mark.parametrize("init", ["random", "k-means++", "k-means||", "batchparallel"])
def test_rows_of_weight_zero_are_no_seeds(init):
    n = 1500 if init == "batchparallel" else 60
    values = np.vstack([np.full((n, 2), 100.0), blobs(n, 2, 3)[0]])
    weights = np.concatenate([np.zeros(n), np.ones(n)])
    for seed in range(3):
        found = [
            fitted(values, p, weights=weights, n_clusters=3, init=init, random_state=seed) for p in (1, 3)
        ]
        assert found[0][0].max() < 50
        np.testing.assert_array_equal(found[0][0], found[1][0])


@pytest.mark.parametrize("p", [1, 2, 3])
def test_empty_clusters_are_reseeded(p):
    values, _ = blobs(200, 2, 4, std=0.3)
    start = np.vstack([values[:2], np.full((2, 2), 1e3)])  # two centres that attract nothing
    centres, labels, inertia, _, _, _ = fitted(values, p, n_clusters=4, init=start)
    assert len(np.unique(labels)) == 4
    assert np.abs(centres).max() < 100
    one = fitted(values, 1, n_clusters=4, init=start)
    np.testing.assert_array_equal(labels, one[1])
    reference = Reference(4, init=start, n_init=1).fit(values)
    assert inertia <= reference.inertia_ * 1.001


def test_fewer_distinct_rows_than_clusters():
    values = np.repeat(np.array([[1.0, 2.0], [3.0, 4.0]]), 5, axis=0)
    values = np.tile(values, (8, 1))
    for init in ("random", "k-means++", "k-means||", values[:4].copy()):
        centres, labels, inertia, _, _, _ = fitted(values, 3, n_clusters=4, init=init, random_state=1)
        assert inertia == 0.0
        assert np.isfinite(centres).all()
        assert {tuple(row) for row in centres.tolist()} <= {(1.0, 2.0), (3.0, 4.0)}
        np.testing.assert_array_equal(centres[labels], values)


def test_more_ranks_than_rows_and_k_equal_n():
    values = np.array([[0.0], [1.0], [5.0]])
    for init in ("random", "k-means++", "batchparallel"):
        centres, labels, inertia, _, _, _ = fitted(values, 4, n_clusters=3, init=init, random_state=0)
        assert sorted(centres[:, 0].tolist()) == [0.0, 1.0, 5.0]
        assert len(set(labels.tolist())) == 3
        assert inertia == 0.0
    for kind in KINDS:
        centres, labels, *_ = fitted(values, 3, kind, n_clusters=1)
        assert centres.tolist() == [[2.0]]
        assert labels.tolist() == [0, 0, 0]


def test_every_row_can_be_a_seed():
    values = np.arange(5.0)[:, None]
    seeds = {
        float(row)
        for s in range(60)
        for row in fitted(values, 1, n_clusters=5, init="random", n_init=1, max_iter=1, random_state=s)[0][
            :, 0
        ]
    }
    assert seeds == set(range(5))
    firsts = {
        float(fitted(values, 1, n_clusters=2, init="random", n_init=1, max_iter=1, random_state=s)[0][0, 0])
        for s in range(60)
    }
    assert len(firsts) > 3


def test_ties_go_to_the_lowest_index():
    values = np.array([[0.0], [1.0], [2.0]], dtype="float32")

    def run(comm):
        model = KMeans(3, init=[[0.0], [2.0], [2.0]], max_iter=1).fit(table(values, comm))
        model.cluster_centers_ = ht.array([[0.0], [2.0], [2.0]], dtype="float32")
        return whole(model.predict(table(values, comm))).tolist()

    assert spmd(2, run)[0] == [0, 0, 1]


def test_far_from_the_origin():
    """Data whose offset is a million times their spread are clustered as their offsets are."""
    values, truth = blobs(400, 3, 4, std=0.2)
    moved = values + 1e7
    centres, labels, inertia, _, _, _ = fitted(moved, 3, n_clusters=4, random_state=0)
    assert adjusted_rand_score(labels, truth) == 1.0
    direct = ((moved - centres[labels]) ** 2).sum()
    assert inertia == pytest.approx(direct, rel=1e-4)


def test_tiny_inertia_is_summed_directly():
    values = np.repeat(np.array([[0.0, 1e6], [1e6, 0.0]]), 50, axis=0)
    values += np.random.default_rng(0).normal(scale=1e-5, size=values.shape)
    centres, labels, inertia, _, _, _ = fitted(values, 2, n_clusters=2, init=values[[0, 99]])
    assert inertia == pytest.approx(((values - centres[labels]) ** 2).sum(), rel=1e-9)


@pytest.mark.parametrize("kind", ["int64", "float16", "bool"])
def test_other_dtypes(kind):
    values = digits()[:200].astype(kind)
    centres, labels, *_ = fitted(values, 2, n_clusters=4, init=values[:4].astype("float64"))
    assert centres.dtype == ("float32" if kind == "float16" else "float64")
    again = fitted(values.astype(centres.dtype), 2, n_clusters=4, init=values[:4].astype("float64"))
    np.testing.assert_array_equal(labels, again[1])


def test_sub_communicators():
    values = digits()[:300]

    def run(comm):
        part = comm.split(comm.rank % 2)
        return whole(KMeans(4, random_state=3).fit(table(values, part)).labels_)

    results = spmd(4, run)
    for labels in results:
        np.testing.assert_array_equal(labels, results[0])


def test_random_state():
    values = digits()[:300]

    def run(comm):
        x = table(values, comm)
        ht.random.seed(7)
        first = whole(KMeans(4).fit(x).labels_)
        second = whole(KMeans(4).fit(x).labels_)
        ht.random.seed(7)
        again = whole(KMeans(4).fit(x).labels_)
        own = whole(KMeans(4, random_state=ht.random.default_rng(7)).fit(x).labels_)
        return first, second, again, own

    first, second, again, own = spmd(2, run)[0]
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, own)
    assert (first != second).any()


WRONG = [
    ({"n_clusters": 0}, "n_clusters must be an int >= 1, got 0"),
    ({"n_clusters": 2.5}, "n_clusters must be an int >= 1, got 2.5"),
    ({"n_clusters": 50}, r"n_clusters must be in \[1, 20\] for 20 rows, got 50"),
    ({"max_iter": 0}, "max_iter must be an int >= 1, got 0"),
    ({"tol": math.nan}, "tol must be a number, got nan"),
    ({"init": "best"}, "init must be one of"),
    ({"n_init": 0}, "n_init must be 'auto' or an int >= 1, got 0"),
    ({"init": np.zeros((3, 4))}, r"init must have shape \(n_clusters, n_features\) = \(8, 4\)"),
    ({"init": np.full((8, 4), np.nan)}, "init must be finite"),
    ({"random_state": -1}, r"random_state must be in \[0, 2\*\*63\)"),
    ({"random_state": "seed"}, "random_state must be an int, a generator or None"),
]


@pytest.mark.parametrize(("parameters", "message"), WRONG)
def test_wrong_parameters_are_refused_before_any_message(parameters, message):
    values = np.random.default_rng(0).normal(size=(20, 4))

    def run(comm):
        with comm.trace() as sent, pytest.raises(ValueError, match="KMeans.fit: " + message):
            KMeans(**parameters).fit(table(values, comm))
        return sent.calls

    assert spmd(3, run) == [0, 0, 0]
