"""Metrics: scikit-learn's values for every layout, the messages they promise, what they refuse."""

import ht_core as ht
import ht_ml.metrics as ours
import numpy as np
import pytest
import sklearn.metrics as theirs
from ht_comm import spmd
from ht_core.testing import whole
from ht_ml.cluster import KMeans
from ml_tables import KINDS, blobs, cancer, digits, table

N = 90
RNG = np.random.default_rng(0)
TRUE = RNG.integers(0, 5, N)
PRED = np.where(RNG.random(N) < 0.6, TRUE, RNG.integers(2, 8, N))
WEIGHTS = RNG.random(N)
Y = RNG.normal(size=(N, 3)) + 1e4
P = Y + RNG.normal(size=(N, 3)) * [0.1, 1.0, 3.0]
POINTS = blobs(N, 4, 5, std=3.0)[0]

PAIRS = [
    ("adjusted_rand_score", {}),
    ("homogeneity_score", {}),
    ("completeness_score", {}),
    ("v_measure_score", {"beta": 0.3}),
    ("homogeneity_completeness_v_measure", {"beta": 2.0}),
    ("accuracy_score", {}),
    ("accuracy_score", {"normalize": False}),
    ("accuracy_score", {"sample_weight": WEIGHTS}),
    ("confusion_matrix", {}),
    ("confusion_matrix", {"labels": [4, 7, 1]}),
    ("confusion_matrix", {"sample_weight": WEIGHTS, "normalize": "true"}),
    ("confusion_matrix", {"normalize": "pred"}),
    ("confusion_matrix", {"normalize": "all"}),
]
ERRORS = [
    (name, options)
    for name in ("r2_score", "mean_squared_error")
    for options in (
        {},
        {"sample_weight": WEIGHTS},
        {"multioutput": "raw_values"},
        {"multioutput": [0.2, 0.3, 0.5]},
    )
] + [("r2_score", {"multioutput": "variance_weighted"})]
SHAPES = [
    ("silhouette_samples", {}),
    ("silhouette_score", {}),
    ("silhouette_score", {"metric": "manhattan"}),
    ("calinski_harabasz_score", {}),
    ("davies_bouldin_score", {}),
]


def identify(value):
    return value if isinstance(value, str) else "-".join(value) or "plain"


def values(result):
    return whole(result) if isinstance(result, ht.DNDarray) else np.asarray(result)


def spread_out(given, comm, kind):
    """NumPy arrays in one of the layouts; single columns of "features" are split unevenly instead."""
    if not isinstance(given, np.ndarray):
        return given
    if given.ndim == 1 or given.shape[1] == 1:
        kind = "uneven" if kind == "features" else kind
    return table(given, comm, kind)


def check(name, options, first, second, p, kind, other):
    flat = [part[:, 0] if part.shape[1:] == (1,) else part for part in (first, second)]
    expected = getattr(theirs, name)(*flat, **options)

    def run(comm):
        a, b = spread_out(first, comm, kind), spread_out(second, comm, other)
        given = {key: spread_out(value, comm, kind) for key, value in options.items()}
        return values(getattr(ours, name)(a, b, **given))

    for found in spmd(p, run):
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(("name", "options"), PAIRS, ids=identify)
def test_labels(name, options):
    check(name, options, TRUE, PRED, 1, "even", "even")
    for kind, other in (
        ("none", "none"),
        ("even", "even"),
        ("uneven", "none"),
        ("none", "last"),
        ("last", "even"),
    ):
        check(name, options, TRUE, PRED, 3, kind, other)
    check(name, options, TRUE[:, None], PRED, 4, "uneven", "uneven") if "weight" not in str(options) else None
    for constant in (np.zeros(N, int), np.arange(N)):  # one class; as many as rows
        if name != "confusion_matrix" or "labels" not in options:
            check(name, options, constant, PRED, 2, "even", "even")
            check(name, options, constant, constant, 2, "even", "even")


@pytest.mark.parametrize(("name", "options"), ERRORS, ids=identify)
def test_numbers(name, options):
    for p, kinds in ((1, ("even",)), (3, KINDS), (4, ("last",))):
        for kind in kinds:
            check(name, options, Y, P, p, kind, "even" if kind != "none" else "none")
    constant = np.full((N, 3), 2.0)
    check(name, options, constant, constant, 2, "even", "even")
    if "sample_weight" not in options:  # scikit-learn's weighted mean of equal numbers is not one of them
        check(name, options, constant, P, 2, "even", "even")
    if "multioutput" not in options:
        for kind in ("none", "even", "uneven"):
            check(name, options, Y[:, 0], P[:, 0], 3, kind, "last")


@pytest.mark.parametrize(("name", "options"), SHAPES, ids=identify)
def test_clusters(name, options):
    for p, kinds in ((1, ("even",)), (3, KINDS), (4, ("last",))):
        for kind in kinds:
            check(name, options, POINTS, TRUE, p, kind, "even" if kind != "none" else "none")
    alone = np.where(np.arange(N) == 7, 9, TRUE)  # a cluster of one row
    check(name, options, POINTS, alone, 3, "even", "even")
    check(name, options, POINTS, alone * 1.5, 3, "uneven", "none")


@pytest.mark.parametrize(("name", "options"), SHAPES, ids=identify)
def test_clusters_far_from_the_origin(name, options):
    expected = getattr(theirs, name)(POINTS, TRUE, **options)

    def run(comm):
        return values(getattr(ours, name)(table(POINTS + 2.0**20, comm), table(TRUE, comm), **options))

    np.testing.assert_allclose(spmd(2, run)[0], expected, rtol=1e-7)


def test_real_data():
    x = digits("float64")[:500]

    def run(comm):
        rows = table(x, comm)
        labels = KMeans(10, random_state=0).fit_predict(rows)
        return whole(labels), [
            getattr(ours, name)(rows, labels)
            for name in ("silhouette_score", "calinski_harabasz_score", "davies_bouldin_score")
        ]

    labels, found = spmd(3, run)[0]
    expected = [
        getattr(theirs, name)(x, labels)
        for name in ("silhouette_score", "calinski_harabasz_score", "davies_bouldin_score")
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_a_sample_does_not_depend_on_ranks():
    x, labels = cancer()[:200], (np.arange(200) // 50)

    def run(comm, kind):
        column = table(labels, comm, "none" if kind == "none" else "even")
        return ours.silhouette_score(table(x, comm, kind), column, sample_size=60, random_state=3)

    one = spmd(1, run, "even")[0]
    for kind in ("even", "none", "last"):
        np.testing.assert_allclose(spmd(3, run, kind), one, rtol=1e-12)
    assert one != pytest.approx(theirs.silhouette_score(x, labels), rel=1e-6)
    whole_sample = spmd(
        2, lambda comm: ours.silhouette_score(table(x, comm), table(labels, comm), sample_size=200)
    )
    np.testing.assert_allclose(whole_sample, theirs.silhouette_score(x, labels), rtol=1e-10)


def test_messages():
    """Contingency: one allreduce of k l counts beyond those of unique; numbers: one; silhouettes: a ring."""

    def run(comm, p):
        x, true, pred = table(POINTS, comm), table(TRUE, comm), table(PRED, comm)
        with comm.trace() as unique:
            ht.unique(true).resplit(None)
            ht.unique(pred).resplit(None)
        known = len(unique.events)
        with comm.trace() as sent:
            ours.adjusted_rand_score(true, pred)
        assert len(sent.events) == known + 1
        assert (sent.events[-1].op, sent.events[-1].bytes) == ("allreduce", 5 * 8 * 8)
        for name in ("mean_squared_error", "r2_score", "accuracy_score"):
            with comm.trace() as sent:
                getattr(ours, name)(true, pred)
            assert [event.op for event in sent.events] == ["allreduce"]
            assert sent.events[0].bytes <= 2 * 8 * 5
        with comm.trace() as unique:
            ht.unique(true).resplit(None)
        known = len(unique.events)
        for name, ops in (("calinski_harabasz_score", 1), ("davies_bouldin_score", 2)):
            with comm.trace() as sent:
                getattr(ours, name)(x, true)
            assert [event.op for event in sent.events[known:]] == ["allreduce"] * ops
        with comm.trace() as sent:
            ours.silhouette_score(x, true)
        ops = [event.op for event in sent.events[known:]]
        assert ops[0] == ops[-1] == "allreduce"
        assert set(ops[1:-1]) == {"ring"}
        moved = sum(event.bytes for event in sent.events[known + 1 : -1])
        assert moved <= (p - 1) * 8 * (N // p + 1) * (
            4 + 5
        )  # each block with k numbers per row, once per rank
        with comm.trace() as none:
            for name in ("adjusted_rand_score", "accuracy_score", "confusion_matrix", "r2_score"):
                getattr(ours, name)(TRUE, PRED)
            ours.silhouette_score(POINTS, TRUE)
        return none.calls

    for p in (2, 3):
        assert spmd(p, run, p) == [0] * p


WRONG = [
    ("adjusted_rand_score", (TRUE, PRED[:5]), {}, r"labels_pred must have one label per row, shape \(90,\)"),
    ("accuracy_score", (TRUE, PRED[:5]), {}, r"must have one label per row"),
    ("v_measure_score", (TRUE, PRED), {"beta": -1.0}, "beta must be at least 0"),
    ("confusion_matrix", (TRUE, PRED), {"normalize": "rows"}, "normalize must be one of"),
    ("confusion_matrix", (TRUE, PRED), {"labels": [1, 1]}, "labels must be different labels"),
    ("mean_squared_error", (Y, P[:, :2]), {}, r"y_pred must have one value per row, shape \(90, 3\)"),
    ("mean_squared_error", (Y, P), {"multioutput": "variance_weighted"}, "multioutput must be"),
    ("r2_score", (Y, P), {"multioutput": "best"}, "multioutput must be one of"),
    ("silhouette_score", (POINTS, TRUE), {"metric": "rbf"}, "metric must be a distance"),
    ("silhouette_score", (POINTS, TRUE), {"metric": "far"}, "metric must be one of"),
    ("silhouette_score", (POINTS, TRUE), {"sample_size": 2}, r"sample_size must be an int in \[3, 90\]"),
    ("silhouette_samples", (POINTS, TRUE[:5]), {}, "labels must have one label per row"),
]


@pytest.mark.parametrize(("name", "given", "options", "message"), WRONG)
def test_wrong_arguments_are_refused_before_any_message(name, given, options, message):
    def run(comm):
        spread = [table(part, comm) for part in given]
        with comm.trace() as sent, pytest.raises(ValueError, match=f"{name}: .*{message}"):
            getattr(ours, name)(*spread, **options)
        return sent.calls

    assert spmd(2, run) == [0, 0] if name not in ("adjusted_rand_score",) else spmd(2, run)


def test_what_only_one_rank_sees_is_refused_by_all():
    bad = POINTS.copy()
    bad[-1, 0] = np.nan
    missing = TRUE.astype(float)
    missing[-1] = np.nan

    def run(comm):
        labels = table(TRUE, comm)
        for name in ("silhouette_samples", "calinski_harabasz_score", "davies_bouldin_score"):
            with pytest.raises(ValueError, match=f"{name}: X must be finite"):
                getattr(ours, name)(table(bad, comm), labels)
            for wrong in (np.zeros(N, int), np.arange(N)):
                with pytest.raises(ValueError, match=f"{name}: labels must be of 2 to 89 different clusters"):
                    getattr(ours, name)(table(POINTS, comm), table(wrong, comm))
        with pytest.raises(ValueError, match="r2_score: X must be finite"):
            ours.r2_score(table(missing, comm), labels)
        with pytest.raises(ValueError, match="labels_true must hold a label for every row"):
            ours.adjusted_rand_score(table(missing, comm), labels)
        with pytest.raises(ValueError, match="labels must hold a label of y_true"):
            ours.confusion_matrix(labels, labels, labels=[77])
        for weights in (-WEIGHTS, 0 * WEIGHTS):
            with pytest.raises(ValueError, match="sample_weight"):
                ours.accuracy_score(labels, labels, sample_weight=table(weights, comm))
            with pytest.raises(ValueError, match="sample_weight"):
                ours.mean_squared_error(labels, labels, sample_weight=table(weights, comm))

    spmd(3, run)


def test_one_row():
    assert np.isnan(ours.r2_score([1.0], [2.0]))
    assert ours.mean_squared_error([1.0], [3.0]) == 4.0
    assert ours.accuracy_score([1], [1]) == 1.0
    assert ours.adjusted_rand_score([1], [1]) == 1.0


def test_float32_rows_are_summed_in_float64():
    x = POINTS.astype(np.float32)
    found = spmd(2, lambda comm: whole(ours.silhouette_samples(table(x, comm), table(TRUE, comm))))[0]
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, theirs.silhouette_samples(x.astype(np.float64), TRUE), atol=1e-6)


@pytest.mark.parametrize("name", ["confusion_matrix", "accuracy_score", "adjusted_rand_score"])
def test_labels_may_be_bool(name):
    true, pred = TRUE > 2, PRED > 2

    def run(comm):
        found = getattr(ours, name)(table(true, comm), table(pred, comm))
        return whole(found) if isinstance(found, ht.DNDarray) else found

    np.testing.assert_allclose(spmd(3, run)[0], getattr(theirs, name)(true, pred), rtol=1e-12)
