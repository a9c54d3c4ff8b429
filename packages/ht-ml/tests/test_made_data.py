"""Matrices and clusters with known properties, against NumPy, for every split and number of ranks."""

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.errors import LayoutError
from ht_ml.data import matrixgallery as gallery
from ht_ml.data import spherical


def everywhere(make):
    """The global results of make(comm, split) at p = 1, 2, 3 and every split: split first, then ranks."""
    return [
        spmd(p, lambda comm, split=split: make(comm, split).numpy())[0]
        for split in (None, 0, 1)
        for p in (1, 2, 3)
    ]


@pytest.mark.parametrize("positive", [False, True])
@pytest.mark.parametrize("dtype", [ht.float32, ht.float64, ht.complex64, ht.complex128])
def test_hermitian(dtype, positive):
    options = {"dtype": dtype, "positive_definite": positive, "random_state": 4}
    made = everywhere(lambda comm, split: gallery.hermitian(7, split=split, comm=comm, **options))
    for a in made:
        assert a.shape == (7, 7)
        assert a.dtype == made[0].dtype
        np.testing.assert_array_equal(a, a.conj().T)
        np.testing.assert_allclose(a, made[0], rtol=1e-5, atol=1e-4)
        assert (np.linalg.eigvalsh(a).min() > 0) == positive
    assert np.iscomplexobj(made[0]) == (dtype in (ht.complex64, ht.complex128))


def test_parter():
    i = np.arange(9)
    expected = 1 / (i[:, None] - i[None, :] + 0.5)
    for a in everywhere(lambda comm, split: gallery.parter(9, split=split, comm=comm, dtype=ht.float64)):
        np.testing.assert_array_equal(a, expected)
    close = np.abs(np.linalg.svd(expected, compute_uv=False) - np.pi) < 1e-3
    assert close.sum() >= 4  # what the matrix is known for


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("split", [None, 0, 1])
@pytest.mark.parametrize("shape", [(9, 5), (4, 8)])
def test_known_singular_values(shape, split, p):
    given = [4.0, 2.0, 0.5]

    def make(comm):
        known = gallery.random_known_singularvalues(
            *shape, given, split=split, comm=comm, dtype=ht.float64, random_state=1
        )
        A, (U, S, V) = known
        return A.split, U.split, V.split, *(x.numpy() for x in (A, U, S, V))

    where, of_u, of_v, A, U, S, V = spmd(p, make)[0]
    assert (where, of_u, of_v) == (split, 0 if split == 0 else None, 0 if split == 1 else None)
    np.testing.assert_allclose(np.linalg.svd(A, compute_uv=False)[:3], given, rtol=1e-12)
    np.testing.assert_allclose((U * S) @ V.T, A, atol=1e-12)
    for factor in (U, V):
        np.testing.assert_allclose(factor.T @ factor, np.eye(3), atol=1e-12)


def test_known_rank():
    def make(comm, split):
        A, (_, S, _) = gallery.random_known_rank(
            12, 7, 3, split=split, comm=comm, dtype=ht.float64, random_state=2
        )
        assert (np.diff(S.numpy()) <= 0).all()
        return A

    made = everywhere(make)
    for a in made:
        assert np.linalg.matrix_rank(a) == 3
        np.testing.assert_allclose(a, made[0], atol=1e-12)


def test_balls():
    made = [
        spmd(p, lambda comm: spherical.create_spherical_dataset(500, 0.5, 3.0, comm=comm).numpy())[0]
        for p in (1, 3)
    ]
    np.testing.assert_array_equal(*made)
    for ball, centre in enumerate((-6, -3, 3, 6)):
        distance = np.linalg.norm(made[0][ball::4] - centre, axis=1)
        assert distance.max() <= 0.5 * (1 + 1e-5)
        assert (
            abs(((distance / 0.5) ** 3).mean() - 0.5) < 0.05
        )  # uniform in the ball: the cube is uniform in (0, 1)


@pytest.mark.parametrize(
    "std", [[1.0, 0.5], [[1.0, 2.0], [0.5, 0.1]], [[[1.0, 0.0], [0.7, 0.2]], [[0.3, 0.0], [0.0, 2.0]]]]
)
def test_clusters(std):
    mean, weight = [[-20.0, 0.0], [20.0, 5.0]], [0.25, 0.75]
    arguments = (8000, 2, 2, mean, std, weight)

    def make(comm):
        return spherical.create_clusters(*arguments, random_state=3, comm=comm).numpy()

    points = spmd(1, make)[0]
    np.testing.assert_allclose(spmd(3, make)[0], points, rtol=1e-6, atol=1e-6)
    right = points[:, 0] > 0
    assert abs(right.mean() - 0.75) < 0.02
    for c, rows in enumerate((~right, right)):
        factor = np.asarray(std[c])
        factor = factor if factor.ndim == 2 else np.diag(np.broadcast_to(factor, 2))
        np.testing.assert_allclose(points[rows].mean(axis=0), mean[c], atol=0.15)
        np.testing.assert_allclose(np.cov(points[rows].T), factor @ factor.T, atol=0.2)


def test_wrong_arguments_are_refused():
    with pytest.raises(ValueError, match="n must be an integer of at least 1, got 0"):
        gallery.parter(0)
    with pytest.raises(TypeError, match="dtype must be float32"):
        gallery.hermitian(3, dtype=ht.int32)
    with pytest.raises(LayoutError, match="singular_values must have shape"):
        gallery.random_known_singularvalues(3, 2, [1.0, 1.0, 1.0])
    with pytest.raises(ValueError, match="must not be negative"):
        gallery.random_known_singularvalues(3, 2, [1.0, -1.0])
    with pytest.raises(ValueError, match="r must be at most"):
        gallery.random_known_rank(3, 2, 3)
    with pytest.raises(LayoutError, match="cluster_mean must have shape"):
        spherical.create_clusters(5, 2, 2, [[0.0, 0.0]], [1.0, 1.0])
