"""Laplacians: SciPy's and scikit-learn's matrices, in every storage and layout."""

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import whole
from ht_linalg.spatial import rbf
from ht_ml.graph import Laplacian
from ml_tables import KINDS, blobs, table
from scipy.sparse.csgraph import laplacian as reference
from sklearn.metrics.pairwise import euclidean_distances, rbf_kernel
from sklearn.neighbors import kneighbors_graph

X = blobs(40, 3, 3, std=2.0)[0]
GAMMA = 0.05


def weights(mode, similarity, weighted, key):
    values = rbf_kernel(X, gamma=GAMMA) if similarity == "rbf" else euclidean_distances(X)
    if mode == "kNN":
        edges = kneighbors_graph(X, 4, include_self=False).toarray()
        edges = edges * values if weighted and similarity == "rbf" else edges
        return (edges + edges.T) / 2
    if mode == "eNeighbour":
        keep = values < LIMIT[similarity] if key == "upper" else values > LIMIT[similarity]
        values = np.where(keep, values if weighted else 1.0, 0.0)
    np.fill_diagonal(values, 0.0)
    return values


LIMIT = {"rbf": 0.3, "euclidean": 4.0}
GRAPHS = [
    ("fully_connected", "rbf", True, "upper", ("dense", "operator", "auto")),
    ("fully_connected", "euclidean", True, "upper", ("dense", "operator")),
    ("eNeighbour", "rbf", True, "lower", ("dense", "sparse", "operator", "auto")),
    ("eNeighbour", "rbf", False, "upper", ("sparse",)),
    ("eNeighbour", "euclidean", False, "upper", ("dense", "sparse", "operator")),
    ("kNN", "rbf", True, "upper", ("dense", "sparse", "operator", "auto")),
    ("kNN", "euclidean", True, "upper", ("sparse",)),
    ("kNN", "rbf", False, "upper", ("sparse",)),
]


def dense(found, comm, n=40):
    """The matrix that a result stands for."""
    if isinstance(found, ht.DNDarray):
        return whole(found)
    if hasattr(found, "to_dense"):
        return whole(found.to_dense())
    eye = np.eye(n)
    layout = found.layout
    start = layout.offset(comm.rank)
    local = ht.array(eye[start : start + layout.lshape(comm.rank)[0]]).larray
    return whole(found @ ht.DNDarray(local, layout, comm))


@pytest.mark.parametrize("definition", ["norm_sym", "simple"])
@pytest.mark.parametrize(("mode", "similarity", "weighted", "key", "storages"), GRAPHS)
def test_agrees_with_scipy(mode, similarity, weighted, key, storages, definition):
    expected = reference(weights(mode, similarity, weighted, key), normed=definition == "norm_sym")

    def run(comm, kind, storage):
        graph = Laplacian(
            similarity,
            weighted,
            definition,
            mode,
            key,
            LIMIT[similarity],
            4,
            gamma=GAMMA,
            storage=storage,
        )
        found = graph.construct(table(X, comm, kind))
        assert found.shape == (40, 40)
        return dense(found, comm)

    for storage in storages:
        for p, kinds in ((1, ("even",)), (3, KINDS)):
            for kind in kinds:
                for found in spmd(p, run, kind, storage):
                    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("definition", ["norm_sym", "simple"])
@pytest.mark.parametrize("mode", ["fully_connected", "eNeighbour"])
def test_functions_of_tables(mode, definition):
    """As Heat is called: a function makes the dense similarities."""
    values = weights(mode, "rbf", True, "lower")

    def run(comm, kind):
        graph = Laplacian(
            lambda x: rbf(x, sigma=np.sqrt(0.5 / GAMMA)),
            definition=definition,
            mode=mode,
            threshold_key="lower",
            threshold_value=LIMIT["rbf"],
        )
        return whole(graph.construct(table(X, comm, kind)))

    for kind in KINDS:
        np.testing.assert_allclose(
            spmd(3, run, kind)[0], reference(values, normed=definition == "norm_sym"), atol=1e-12
        )


def test_nodes_without_edges():
    lonely = np.vstack([X, [[1e3, 0.0, 0.0]]])

    def run(comm, storage):
        graph = Laplacian("euclidean", False, mode="eNeighbour", threshold_value=4.0, storage=storage)
        return dense(graph.construct(table(lonely, comm)), comm, 41)

    for storage in ("dense", "sparse", "operator"):
        found = spmd(3, run, storage)[0]
        assert not found[-1].any()
        assert not found[:, -1].any()
        values = np.linalg.eigvalsh(found)
        assert values.min() > -1e-12
        assert values.max() < 2 + 1e-12


def test_no_graph_is_gathered():
    """Beyond the ring of rows a sparse graph moves edges, an operator nothing; both less than the matrix."""
    x = blobs(600, 3, 3)[0]

    def run(comm):
        rows = table(x, comm)
        sent = []
        for options in ({"mode": "kNN", "neighbours": 3}, {"storage": "operator"}):
            with comm.trace() as trace:
                Laplacian("rbf", **options).construct(rows)
            sent.append(sum(event.bytes for event in trace.events))
        return sent

    for knn, operator in spmd(3, run):
        assert knn < 600 * 3 * 200
        assert operator < 600 * 4 * 8
        assert max(knn, operator) < 600 * 600 * 8 / 3


WRONG = [
    ({"definition": "random"}, "definition must be one of"),
    ({"mode": "all"}, "mode must be one of"),
    ({"storage": "disk"}, "storage must be one of"),
    ({"similarity": "cosine"}, "similarity must be 'rbf', 'euclidean' or a function"),
    ({"threshold_key": "middle"}, "threshold_key must be 'upper' or 'lower'"),
    ({"gamma": 0.0}, "gamma must be a positive number"),
    ({"neighbours": 0}, "neighbours must be an int >= 1"),
    ({"mode": "kNN", "neighbours": 40}, r"neighbours must be in \[1, 39\], got 40"),
    ({"storage": "sparse"}, "storage must be 'dense' or 'operator' for mode 'fully_connected'"),
    ({"similarity": rbf, "storage": "operator"}, "similarity must be 'rbf' or 'euclidean' for storage"),
    ({"similarity": rbf, "mode": "kNN", "storage": "dense"}, "similarity must be .* for mode 'kNN'"),
]


@pytest.mark.parametrize(("options", "message"), WRONG)
def test_wrong_parameters_are_refused_before_any_message(options, message):
    def run(comm):
        with comm.trace() as sent, pytest.raises(ValueError, match=f"Laplacian.construct: {message}"):
            Laplacian(**options).construct(table(X, comm))
        return sent.calls

    assert spmd(2, run) == [0, 0]
