"""Spectral clustering: scikit-learn's agreement with the truth, the same answers for every layout, memory, refusals."""

import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import whole
from ht_ml.cluster import Spectral
from ml_tables import KINDS, blobs, digits, table
from scipy.sparse.csgraph import laplacian
from sklearn.cluster import SpectralClustering
from sklearn.datasets import load_digits, make_circles, make_moons
from sklearn.metrics import adjusted_rand_score
from sklearn.metrics.pairwise import rbf_kernel

MOONS = make_moons(300, noise=0.05, random_state=0)
CIRCLES = make_circles(300, noise=0.05, factor=0.5, random_state=0)


def labels_of(x, p, kind="even", **parameters):
    def run(comm):
        rows = table(x, comm, kind)
        model = Spectral(**parameters).fit(rows)
        np.testing.assert_array_equal(whole(rows), x)
        assert model.labels_.split == (None if rows.split is None else 0)
        return whole(model.labels_), whole(model.eigenvalues_)

    results = spmd(p, run)
    for other in results[1:]:
        np.testing.assert_array_equal(other[0], results[0][0])
    return results[0]


SHAPES = [
    (MOONS, {"laplacian": "kNN"}, {"affinity": "nearest_neighbors"}),
    (MOONS, {"gamma": 30.0}, {"gamma": 30.0}),
    (MOONS, {"laplacian": "eNeighbour", "metric": "euclidean", "threshold": 0.3}, None),
    (CIRCLES, {"laplacian": "kNN"}, {"affinity": "nearest_neighbors"}),
    (CIRCLES, {"gamma": 30.0}, {"gamma": 30.0}),
    (CIRCLES, {"laplacian": "eNeighbour", "gamma": 30.0, "threshold": 0.1, "boundary": "lower"}, None),
]


@pytest.mark.filterwarnings("ignore:Graph is not fully connected")
@pytest.mark.parametrize(("data", "parameters", "theirs"), SHAPES)
def test_curved_clusters_are_found(data, parameters, theirs):
    x, truth = data
    for p, kind in ((1, "even"), (2, "uneven"), (3, "last"), (3, "none")):
        found, values = labels_of(x, p, kind, n_clusters=2, random_state=0, **parameters)
        assert adjusted_rand_score(truth, found) == 1.0
        assert (values >= 0).all()
        assert values[0] < 1e-6
    if theirs is not None:
        reference = SpectralClustering(2, random_state=0, **theirs).fit(x)
        assert adjusted_rand_score(truth, found) >= adjusted_rand_score(truth, reference.labels_)


@pytest.mark.parametrize(
    ("parameters", "theirs"),
    [({"laplacian": "kNN"}, {"affinity": "nearest_neighbors"}), ({"gamma": 1e-3}, {"gamma": 1e-3})],
)
def test_digits_as_scikit_learn(parameters, theirs):
    """Over some seeds at least the agreement of scikit-learn, up to one row in a hundred."""
    x, truth = digits("float64")[:900], load_digits().target[:900]
    ours = [
        adjusted_rand_score(truth, labels_of(x, 2, n_clusters=10, random_state=s, **parameters)[0])
        for s in range(3)
    ]
    reference = [
        adjusted_rand_score(truth, SpectralClustering(10, random_state=s, **theirs).fit(x).labels_)
        for s in range(3)
    ]
    assert np.mean(ours) >= np.mean(reference) - 0.01


@pytest.mark.parametrize("solver", ["lobpcg", "lanczos", "randomized"])
def test_eigenvalues(solver):
    x = blobs(150, 3, 4, std=3.0)[0]
    expected = np.linalg.eigvalsh(laplacian(rbf_kernel(x, gamma=0.02), normed=True))[:4]
    for p, kind in ((1, "even"), (3, "uneven"), (3, "features")):
        _, values = labels_of(x, p, kind, n_clusters=4, gamma=0.02, eigen_solver=solver, n_lanczos=80)
        np.testing.assert_allclose(values, expected, atol=1e-8)


@pytest.mark.parametrize("kind", KINDS)
def test_answers_do_not_depend_on_the_layout(kind):
    x, truth = blobs(200, 3, 4, "float32", 2.0)
    one = labels_of(x, 1, n_clusters=4, gamma=0.05, random_state=1)
    other = labels_of(x, 4, kind, n_clusters=4, gamma=0.05, random_state=1)
    assert adjusted_rand_score(one[0], other[0]) == 1.0
    np.testing.assert_allclose(other[1], one[1], atol=1e-5)
    assert adjusted_rand_score(truth, one[0]) > 0.9


def test_new_rows_are_placed():
    x, truth = CIRCLES
    more, expected = make_circles(90, noise=0.05, factor=0.5, random_state=7)

    def run(comm, kind, other):
        model = Spectral(2, gamma=30.0, random_state=0).fit(table(x, comm, kind))
        return (
            whole(model.labels_),
            whole(model.predict(table(x, comm, other))),
            whole(model.predict(table(more, comm))),
        )

    for kind, other in (("even", "uneven"), ("none", "even"), ("even", "none")):
        labels, same, new = spmd(3, run, kind, other)[0]
        assert (same == labels).mean() > 0.99
        assert adjusted_rand_score(np.r_[truth, expected], np.r_[labels, new]) > 0.99

    def far(comm):
        model = Spectral(2, gamma=30.0, random_state=0).fit(table(x, comm))
        return whole(model.predict(table(np.full((2, 2), 1e6), comm)))

    assert set(spmd(2, far)[0]) <= {0, 1}

    def sparse(comm):
        model = Spectral(2, laplacian="kNN", random_state=0).fit(table(x, comm))
        with (
            comm.trace() as sent,
            pytest.raises(ValueError, match=r"Spectral\.predict: laplacian must be 'fully_connected'"),
        ):
            model.predict(table(more, comm))
        return sent.calls

    assert spmd(2, sparse) == [0, 0]


def test_nothing_of_size_n_squared_travels():
    """A ring per product (p - 1 blocks of rows with m numbers each), small reductions; never n x n."""
    x, p, m = blobs(400, 3, 3)[0], 2, 3

    def run(comm):
        with comm.trace() as sent:
            Spectral(m, gamma=0.05, random_state=0, n_init=1).fit(table(x, comm))
        rings = [event.bytes for event in sent.events if event.op == "ring"]
        others = [event.bytes for event in sent.events if event.op != "ring"]
        return max(rings), max(others)

    for ring, other in spmd(p, run):
        assert ring <= 200 * (3 + m) * 8
        assert other <= 200 * 3 * m * 8


def test_no_rank_holds_a_matrix():
    """The peak memory of a process grows by far less than n x n numbers."""
    import subprocess
    import sys

    code = (
        "import resource, numpy as np; from ht_ml.cluster import Spectral, KMeans\n"
        "x = np.random.default_rng(0).normal(size=(6000, 2)) + 6.0 * (np.arange(6000) % 2)[:, None]\n"
        "fit = lambda x: Spectral(2, laplacian='fully_connected', gamma=0.1, random_state=0, n_init=1).fit(x)\n"
        "fit(x[:500]); before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "Spectral(2, gamma=0.1, random_state=0, n_init=1, eigen_tol=0.5).fit(x)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) * 1024 < 6000 * 6000 * 8 / 6


WRONG = [
    ({"n_clusters": 0}, "n_clusters must be an int >= 1, got 0"),
    ({"n_clusters": 301}, r"n_clusters must be in \[1, 300\] for 300 rows, got 301"),
    ({"n_components": 301}, r"n_components must be in \[1, 300\]"),
    ({"metric": "cosine"}, "metric must be 'rbf' or 'euclidean'"),
    ({"metric": "euclidean"}, "metric must be 'rbf' for a fully connected graph"),
    ({"laplacian": "all"}, "mode must be one of"),
    ({"boundary": "left", "laplacian": "eNeighbour"}, "threshold_key must be"),
    ({"gamma": -1.0}, "gamma must be a positive number"),
    ({"laplacian": "kNN", "n_neighbors": 300}, r"n_neighbors must be in \[1, 299\]"),
    ({"eigen_solver": "arpack"}, "eigen_solver must be one of"),
    ({"eigen_tol": 0.0}, "eigen_tol must be 'auto' or a positive number"),
    ({"assign_labels": "discretize"}, "assign_labels must be 'kmeans'"),
    ({"n_lanczos": 0}, "n_lanczos must be an int >= 1"),
]


@pytest.mark.parametrize(("parameters", "message"), WRONG)
def test_wrong_parameters_are_refused_before_any_message(parameters, message):
    def run(comm):
        with comm.trace() as sent, pytest.raises(ValueError, match=f"Spectral.fit: {message}"):
            Spectral(**parameters).fit(table(MOONS[0], comm))
        return sent.calls

    assert spmd(2, run) == [0, 0]
