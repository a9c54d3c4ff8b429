"""MiniBatchKMeans: exact means of what was seen, batches alike for any number of ranks, quality, messages."""

import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import whole
from ht_ml.cluster import KMeans, MiniBatchKMeans
from ml_tables import KINDS, blobs, digits, table
from sklearn.cluster import MiniBatchKMeans as Reference
from sklearn.metrics import adjusted_rand_score


def test_steps_agree_with_scikit_learn():
    """partial_fit on the same batches from the same start: the same centres and counts."""
    x, k = blobs(600, 4, 5, std=2.0)[0], 5
    start, parts = x[:k].copy(), np.array_split(np.arange(600), 6)
    theirs = Reference(k, init=start, n_init=1, reassignment_ratio=0.0)
    for part in parts:
        theirs.partial_fit(x[part])

    def run(comm, kind):
        ours = MiniBatchKMeans(k, init=start, reassignment_ratio=0.0)
        for part in parts:
            ours.partial_fit(table(x[part], comm, kind))
        return whole(ours.cluster_centers_), whole(ours.counts_), ours.n_steps_, whole(ours.labels_)

    for p, kinds in ((1, ("even",)), (3, KINDS)):
        for kind in kinds:
            for centres, counts, steps, labels in spmd(p, run, kind):
                np.testing.assert_allclose(centres, theirs.cluster_centers_, rtol=1e-9)
                np.testing.assert_array_equal(counts, theirs._counts)
                assert steps == 6
                assert len(labels) == 100


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_fit_does_not_depend_on_the_layout(dtype):
    x = digits(dtype)

    def run(comm, kind):
        model = MiniBatchKMeans(10, batch_size=200, random_state=4, max_iter=5).fit(table(x, comm, kind))
        return whole(model.cluster_centers_), whole(model.labels_), model.n_steps_

    centres, labels, steps = spmd(1, run, "even")[0]
    for p, kinds in ((2, ("even",)), (3, KINDS), (4, ("last",))):
        for kind in kinds:
            for other in spmd(p, run, kind):
                np.testing.assert_array_equal(other[0], centres)
                np.testing.assert_array_equal(other[1], labels)
                assert other[2] == steps


def test_quality():
    x = digits("float64")
    full = np.mean([KMeans(10, random_state=s).fit(x).inertia_ for s in range(5)])
    ours = np.mean([MiniBatchKMeans(10, random_state=s).fit(x).inertia_ for s in range(10)])
    theirs = np.mean([Reference(10, n_init=1, random_state=s).fit(x).inertia_ for s in range(10)])
    assert ours < 1.08 * full
    assert ours < 1.03 * theirs
    values, truth = blobs(3000, 5, 6, std=0.5)
    found = spmd(2, lambda comm: whole(MiniBatchKMeans(6, random_state=0).fit(table(values, comm)).labels_))[
        0
    ]
    assert adjusted_rand_score(found, truth) == 1.0


def test_clusters_that_see_nothing_are_moved():
    values, _ = blobs(600, 2, 4, std=0.3)
    start = np.vstack([values[:2], np.full((2, 2), 1e3)])

    def run(comm):
        model = MiniBatchKMeans(4, init=start, batch_size=100, random_state=0).fit(table(values, comm))
        return whole(model.cluster_centers_), whole(model.labels_)

    centres, labels = spmd(3, run)[0]
    assert np.abs(centres).max() < 100
    assert len(np.unique(labels)) == 4


def test_messages():
    """One allreduce for the moments, one for the sample, one per batch, one for the inertia."""
    x, k = digits(), 10

    def run(comm):
        rows = table(x, comm)
        model = MiniBatchKMeans(k, batch_size=300, random_state=0, reassignment_ratio=0.0)
        with comm.trace() as sent:
            model.fit(rows)
        assert [event.op for event in sent.events] == ["allreduce"] * (3 + model.n_steps_)
        assert sent.events[2].bytes <= 2 * 8 * (k * 65 + 2)
        with comm.trace() as sent:
            model.partial_fit(rows)
        assert sent.calls == 3
        with comm.trace() as none:
            MiniBatchKMeans(k, random_state=0, max_iter=1).fit(x)
        return none.calls

    assert spmd(2, run) == [0, 0]


def test_weights_mean_repetition():
    x = blobs(200, 3, 4, std=2.0)[0]
    weights = np.random.default_rng(0).integers(0, 3, 200)
    start = x[:4]

    def run(comm):
        options = {"init": start, "reassignment_ratio": 0.0}
        weighted = MiniBatchKMeans(4, **options).partial_fit(
            table(x, comm), sample_weight=weights.astype(float)
        )
        repeated = MiniBatchKMeans(4, **options).partial_fit(table(np.repeat(x, weights, axis=0), comm))
        return (
            whole(weighted.cluster_centers_),
            whole(repeated.cluster_centers_),
            weighted.inertia_,
            repeated.inertia_,
        )

    first, second, a, b = spmd(3, run)[0]
    np.testing.assert_allclose(first, second, rtol=1e-9)
    assert a == pytest.approx(b, rel=1e-9)


WRONG = [
    ({"batch_size": 0}, "batch_size must be an int >= 1, got 0"),
    ({"max_no_improvement": 0}, "max_no_improvement must be an int >= 1"),
    ({"init_size": 3}, "init_size must be an int >= 8, got 3"),
    ({"reassignment_ratio": 1.0}, r"reassignment_ratio must be in \[0, 1\)"),
    ({"n_clusters": 50}, r"n_clusters must be in \[1, 20\] for 20 rows, got 50"),
]


@pytest.mark.parametrize(("parameters", "message"), WRONG)
def test_wrong_parameters_are_refused_before_any_message(parameters, message):
    values = np.random.default_rng(0).normal(size=(20, 4))

    def run(comm):
        with comm.trace() as sent, pytest.raises(ValueError, match=f"MiniBatchKMeans.fit: {message}"):
            MiniBatchKMeans(**parameters).fit(table(values, comm))
        return sent.calls

    assert spmd(3, run) == [0, 0, 0]
