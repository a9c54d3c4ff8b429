"""Distances and kernels against SciPy and scikit-learn, the nearest rows, and what is sent and held."""

import math

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.testing import spread, whole
from ht_linalg import spatial
from scipy.spatial import distance
from sklearn.metrics import pairwise
from torch.utils._python_dispatch import TorchDispatchMode

METRICS = {
    "cdist": (spatial.cdist, distance.cdist),
    "cdist of products": (lambda x, y: spatial.cdist(x, y, quadratic_expansion=True), distance.cdist),
    "manhattan": (spatial.manhattan, lambda x, y: distance.cdist(x, y, "cityblock")),
    "rbf": (
        lambda x, y: spatial.rbf(x, y, sigma=2.0),
        lambda x, y: pairwise.rbf_kernel(x, y, gamma=1 / 8),
    ),
    "cosine_similarity": (spatial.cosine_similarity, pairwise.cosine_similarity),
    "cosine": (spatial.cosine, pairwise.cosine_distances),
    "cosine_distances": (spatial.cosine_distances, pairwise.cosine_distances),
}
KERNELS = {
    "euclidean": distance.cdist,
    "sqeuclidean": lambda x, y: distance.cdist(x, y, "sqeuclidean"),
    "manhattan": lambda x, y: distance.cdist(x, y, "cityblock"),
    "rbf": lambda x, y: pairwise.rbf_kernel(x, y, gamma=0.25),
    "laplacian": lambda x, y: pairwise.laplacian_kernel(x, y, gamma=0.25),
    "linear": lambda x, y: x @ y.T,
    "cosine": pairwise.cosine_distances,
    "cosine_similarity": pairwise.cosine_similarity,
    "function": lambda x, y: (x @ y.T + 1) ** 2,
}
#: splits of X and Y -> split of the matrix
SPLITS = {(None, None): None, (0, None): 0, (None, 0): 1, (0, 0): 0, (1, None): 0, (None, 1): 1, (1, 1): 0}
COUNTS = {n: lambda p, n=n: uneven(n, p) for n in (3, 4, 7, 23, 31)}


def uneven(n, p):
    """Return counts for n rows, the first rank with none and the last with most."""
    if p == 1:
        return (n,)
    step = n // (2 * p)
    return (0, *(step,) * (p - 2), n - step * (p - 2))


def cut(values, split, comm):
    return spread(values, split, None if split is None else uneven(values.shape[split], comm.size), comm)


def tables(dtype="float64", n=31, m=23, d=4, seed=1):
    """Return two tables with rows in common and repeated ones."""
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(n, d)) + 3, rng.normal(size=(m, d)) + 3
    y[: m // 3] = x[: m // 3]
    y[m // 2 :][:2] = y[0]
    return x.astype(dtype), y.astype(dtype)


class Largest(TorchDispatchMode):
    """The most elements of a tensor made while it is active, on this thread."""

    def __init__(self):
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for made in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(made, torch.Tensor):
                self.numel = max(self.numel, made.untyped_storage().nbytes() // made.itemsize)
        return out


# -- matrices --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 2, 3, 5])
@pytest.mark.parametrize("name", METRICS)
def test_matrices(name, p):
    function, reference = METRICS[name]
    x, y = tables()
    expected = reference(x, y)

    def run(comm):
        results = []
        for (a, b), split in SPLITS.items():
            X, Y = cut(x, a, comm), cut(y, b, comm)
            result = function(X, Y)
            assert result.split == split
            assert result.dtype == ht.float64
            np.testing.assert_array_equal(whole(X), x)
            results.append(whole(result))
        return results

    for results in spmd(p, run):
        for result in results:
            np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("p", [1, 3])
@pytest.mark.parametrize("name", METRICS)
def test_a_table_with_itself(name, p):
    function, reference = METRICS[name]
    x = tables(n=700)[0]  # several tiles, mirrored
    expected = reference(x, x)

    def run(comm):
        results = [whole(function(cut(x, split, comm), None)) for split in (None, 0)]
        X = cut(x, 0, comm)
        np.testing.assert_array_equal(whole(function(X, X)), results[1])
        return results

    for results in spmd(p, run):
        for result in results:
            np.testing.assert_allclose(result, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "int32", "bool"])
def test_dtypes(name, dtype):
    function, reference = METRICS[name]
    x, y = tables("float64")
    x, y = (x > 3, y > 3) if dtype == "bool" else (x.astype(dtype), y.astype(dtype))
    kept = "float64" if dtype in ("int32", "bool") else "float32"
    expected = reference(x.astype("float64"), y.astype("float64"))

    def run(comm):
        return whole(function(cut(x, 0, comm), cut(y, 0, comm)))

    for result in spmd(2, run):
        assert result.dtype == kept
        np.testing.assert_allclose(result, expected, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("quadratic", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("offset", [0.0, 1e4])
def test_equal_and_close_rows(dtype, quadratic, offset):
    """Distances far below the norms, which products alone do not resolve."""
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(60, 5)) + offset).astype(dtype)
    x[20:40] = x[:20]
    step = 4 * np.spacing(np.abs(x[:20]).max())
    x[40:60] = x[:20] + step * rng.integers(0, 3, size=(20, 5)).astype(dtype)
    expected = distance.cdist(x.astype("float64"), x.astype("float64"))

    def run(comm):
        return whole(spatial.cdist(cut(x, 0, comm), quadratic_expansion=quadratic))

    for p in (1, 3):
        result = spmd(p, run)[0]
        assert np.all(result >= 0)
        assert np.all(result[expected == 0] == 0)
        loose = 2e-4 if dtype == "float32" else 1e-9
        np.testing.assert_allclose(
            result, expected, rtol=loose if quadratic else {"float32": 1e-6}.get(dtype, 1e-12)
        )


@pytest.mark.parametrize("shapes", [((0, 3), (4, 3)), ((4, 3), (0, 3)), ((2, 0), (3, 0)), ((1, 3), (1, 3))])
@pytest.mark.parametrize("name", METRICS)
def test_few_rows(name, shapes):
    function, reference = METRICS[name]
    x, y = (np.arange(1.0, 1 + math.prod(shape)).reshape(shape) for shape in shapes)

    def run(comm):
        for a in (None, 0):
            for b in (None, 0):
                result = whole(function(cut(x, a, comm), cut(y, b, comm)))
                assert result.shape == (len(x), len(y))
                if result.size and x.shape[1]:
                    np.testing.assert_allclose(result, reference(x, y), atol=1e-15)

    spmd(3, run)


def test_rows_of_zeros_nan_and_large_numbers():
    x = np.array([[0.0, 0.0], [1.0, 2.0], [np.nan, 1.0], [3e20, 1e20], [1.0, 2.0]], dtype="float32")
    result = spatial.cosine_distances(ht.array(x[[0, 1]])).numpy()
    np.testing.assert_array_equal(result, [[1, 1], [1, 0]])
    for quadratic in (False, True):
        result = spatial.cdist(ht.array(x), quadratic_expansion=quadratic).numpy()
        assert np.isnan(result[2]).all()
        assert np.isnan(result[:, 2]).all()
        assert result[1, 4] == 0
        assert result[0, 1] == pytest.approx(math.sqrt(5))
        assert result[3, 0] == math.inf


# -- what is sent and held -------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 2, 4])
def test_a_ring_of_blocks_is_all_that_is_sent(p):
    n, m, d = 40, 24, 3
    calls = [
        lambda X, Y: spatial.cdist(X, Y),
        lambda X, Y: spatial.manhattan(X, Y),
        lambda X, Y: spatial.rbf(X, Y),
        lambda X, Y: spatial.cosine_distances(X, Y),
        lambda X, Y: spatial.cdist_topk(X, Y, 3),
        lambda X, Y: spatial.pairwise_reduce(X, Y, "mean"),
    ]

    def run(comm):
        places = {split: (ht.ones((n, d), split=split), ht.ones((m, d), split=split)) for split in (None, 0)}
        for call in calls:
            with comm.trace() as sent:
                call(places[0][0], places[0][1])
            assert (sent.calls, sent.messages) == (int(p > 1), p - 1)
            assert sent.bytes == (p - 1) * (m // p) * d * places[0][1].itemsize
            with comm.trace() as sent:
                call(places[None][0], places[None][1])
                call(places[0][0], places[None][1])
            assert sent.calls == 0
        with comm.trace() as sent:
            for call in calls[:4]:
                call(places[None][0], places[0][1])
        assert sent.calls == 0
        v = ht.ones((m, 2), split=0, dtype=places[0][0].dtype)
        with comm.trace() as sent:
            spatial.kernel_matmul(*places[0], v)
        assert sent.messages == p - 1
        assert sent.bytes == (p - 1) * (m // p) * (d + 2) * v.itemsize

    spmd(p, run)


def test_the_matrix_is_never_held():
    n, d = 1500, 4

    def run(comm):
        x = ht.random.rand(n, d, split=0)
        v = ht.ones(n, split=0)
        for call in (
            lambda: spatial.cdist_topk(x, k=5, exclude_self=True),
            lambda: spatial.cdist_topk(x, k=5, metric="manhattan"),
            lambda: spatial.kernel_matmul(x, None, v),
            lambda: spatial.pairwise_reduce(x, op="argmax", metric="rbf"),
        ):
            with Largest() as made:
                call()
            assert made.numel <= 2**18  # a tile; the matrix has 1.1 million numbers on each rank
        with Largest() as made:
            spatial.cdist(x)
        assert made.numel == n * n // 2

    spmd(2, run)


# -- nearest rows ----------------------------------------------------------------------------------------------


def nearest(x, y, k, metric="sqeuclidean", exclude_self=False):
    """Return distances and indices by sorting all, ties by index."""
    every = distance.cdist(x, y, metric)
    if exclude_self:
        np.fill_diagonal(every, np.inf)
    indices = np.argsort(every, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(every, indices, axis=1), indices


@pytest.mark.parametrize("p", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("splits", list(SPLITS))
def test_nearest_of_a_grid(splits, dtype, p):
    """Integers, so that ties are exact: the answer is one, whatever p."""
    rng = np.random.default_rng(3)
    x = rng.integers(0, 6, size=(41, 3)).astype(dtype)
    y = rng.integers(0, 6, size=(150, 3)).astype(dtype)
    expected = nearest(x, y, 7)

    def run(comm):
        d, i = spatial.cdist_topk(cut(x, splits[0], comm), cut(y, splits[1], comm), 7, metric="sqeuclidean")
        assert d.split == i.split == (None if splits[0] is None else 0)
        assert d.larray.dtype == torch.from_numpy(x).dtype
        assert i.dtype == ht.int64
        return whole(d), whole(i)

    for d, i in spmd(p, run):
        np.testing.assert_array_equal(d, expected[0])
        np.testing.assert_array_equal(i, expected[1])


@pytest.mark.parametrize("metric", ["euclidean", "cosine", "manhattan", "function"])
@pytest.mark.parametrize("k", [1, 9, 80])
def test_nearest_do_not_depend_on_ranks(metric, k):
    rng = np.random.default_rng(5)
    x = (rng.normal(size=(900, 6)) + 5).astype("float32")
    x[300:600] = x[:300]
    name = {"manhattan": "cityblock", "function": "chebyshev"}.get(metric, metric)
    wide = x.astype("float64")
    expected = nearest(wide, wide, k, name, exclude_self=True)

    def run(comm):
        given = chebyshev if metric == "function" else metric
        d, i = spatial.cdist_topk(cut(x, 0, comm), k=k, metric=given, exclude_self=True)
        return whole(d), whole(i)

    alone = spmd(1, run)[0]
    np.testing.assert_allclose(alone[0], expected[0], rtol=1e-5, atol=1e-6)
    assert np.all(alone[1] != np.arange(900)[:, None])
    if metric != "cosine":  # whose small distances are those of scaled rows
        np.testing.assert_array_equal(alone[0][:600, 0], 0)
        np.testing.assert_array_equal(alone[1][:300, 0], np.arange(300, 600))
    for p in (2, 3):
        for result in spmd(p, run):
            np.testing.assert_array_equal(result[0], alone[0])
            np.testing.assert_array_equal(result[1], alone[1])


def chebyshev(a, b):
    return (a.unsqueeze(1) - b).abs().amax(dim=2)


def test_nearest_of_all_rows_and_of_clusters_far_away():
    rng = np.random.default_rng(2)
    x = np.repeat(rng.normal(size=(30, 3)) * 1e6, 20, axis=0) + rng.normal(size=(600, 3))
    for k in (3, 599):
        expected = nearest(x, x, k, "euclidean", exclude_self=True)

        def run(comm, k=k):
            d, i = spatial.cdist_topk(cut(x, 0, comm), k=k, exclude_self=True)
            return whole(d), whole(i)

        for d, i in spmd(3, run):
            np.testing.assert_allclose(d, expected[0], rtol=1e-13)
            np.testing.assert_array_equal(i, expected[1])


def test_neighbours_of_what_is_no_number():
    x = np.array([[0.0], [np.nan], [1.0], [np.inf]])

    def run(comm):
        d, i = spatial.cdist_topk(cut(x, 0, comm), k=3, exclude_self=True)
        return whole(d).tolist(), whole(i).tolist()

    for d, i in spmd(2, run):
        assert (d[0], i[0]) == ([1.0, math.inf, math.inf], [2, 3, -1])
        assert (d[1], i[1]) == ([math.inf] * 3, [-1, -1, -1])
        assert (d[3], i[3]) == ([math.inf] * 3, [0, 2, -1])


def test_nearest_over_split_y_sends_lists_only():
    n, m, k, p = 12, 4000, 2, 3

    def run(comm):
        x, y = ht.random.rand(n, 5, dtype=ht.float32), ht.random.rand(m, 5, split=0, dtype=ht.float32)
        with comm.trace() as sent:
            spatial.cdist_topk(x, y, k)
        assert sent.calls == 4
        assert sent.bytes == (n - n // p) * k * 12 + n // p * k * 12

    spmd(p, run)


# -- products and reductions -----------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 3])
@pytest.mark.parametrize("name", KERNELS)
def test_kernel_products_and_reductions(name, p):
    x, y = tables()
    rng = np.random.default_rng(0)
    v = rng.normal(size=(23, 3))
    kernel = (lambda a, b: (a @ b.T + 1) ** 2) if name == "function" else name
    matrix, square = KERNELS[name](x, y), KERNELS[name](x, x)
    np.fill_diagonal(square, 0)

    def run(comm):
        for a, b in SPLITS:
            X, Y = cut(x, a, comm), cut(y, b, comm)
            for c in (None, 0):
                product = spatial.kernel_matmul(X, Y, cut(v, c, comm), kernel, gamma=0.25)
                np.testing.assert_allclose(whole(product), matrix @ v, rtol=1e-11, atol=1e-12)
            for op in ("sum", "mean", "min", "max"):
                result = spatial.pairwise_reduce(X, Y, op, kernel, gamma=0.25)
                assert result.split == (None if a is None else 0)
                np.testing.assert_allclose(whole(result), getattr(matrix, op)(1), rtol=1e-12, atol=1e-13)
        X = cut(x, 0, comm)
        product = spatial.kernel_matmul(X, None, cut(x[:, 0], 0, comm), kernel, gamma=0.25, exclude_self=True)
        np.testing.assert_allclose(whole(product), square @ x[:, 0], rtol=1e-11, atol=1e-12)
        result = spatial.pairwise_reduce(X, op="mean", metric=kernel, gamma=0.25, exclude_self=True)
        np.testing.assert_allclose(whole(result), square.sum(1) / 30, rtol=1e-12, atol=1e-13)

    spmd(p, run)


@pytest.mark.parametrize("p", [1, 2, 4])
@pytest.mark.parametrize("splits", list(SPLITS))
def test_places_of_extremes(splits, p):
    rng = np.random.default_rng(4)
    x, y = rng.integers(0, 4, size=(31, 2)).astype(float), rng.integers(0, 4, size=(23, 2)).astype(float)
    matrix = distance.cdist(x, y, "cityblock")

    def run(comm):
        X, Y = cut(x, splits[0], comm), cut(y, splits[1], comm)
        for op in ("argmin", "argmax"):
            result = spatial.pairwise_reduce(X, Y, op, "manhattan")
            np.testing.assert_array_equal(whole(result), getattr(matrix, op)(1))
        lowest = spatial.pairwise_reduce(X, op="argmin", metric="manhattan", exclude_self=True)
        own = distance.cdist(x, x, "cityblock") + np.diag([np.inf] * 31)
        np.testing.assert_array_equal(whole(lowest), own.argmin(1))

    spmd(p, run)


def test_float32_is_kept_and_sums_are_double():
    x = np.full((2000, 2), 0.1, dtype="float32")
    x[0] = 0
    total = spatial.pairwise_reduce(ht.array(x), op="sum", metric="rbf")
    assert total.dtype == ht.float32
    product = spatial.kernel_matmul(ht.array(x), None, ht.ones(2000, dtype=ht.float64))
    assert product.dtype == ht.float64
    np.testing.assert_allclose(total.numpy()[1:], 1999 + math.exp(-0.02), rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: spatial.cdist(x, ht.ones((3, 5))), r"cdist: Y must have the 2 features of X, got 5"),
        (lambda x: spatial.cdist(ht.ones(3)), r"cdist: X must be 2-D, got shape \(3,\)"),
        (lambda x: spatial.rbf(x, x * 1j), r"rbf: Y must be real, got complex"),
        (lambda x: spatial.rbf(x, sigma=0), r"rbf: sigma must be positive, got 0"),
        (lambda x: spatial.cdist_topk(x, k=5), r"cdist_topk: k must be in \[1, 4\], got 5"),
        (
            lambda x: spatial.cdist_topk(x, k=4, exclude_self=True),
            r"cdist_topk: k must be in \[1, 3\], got 4",
        ),
        (
            lambda x: spatial.cdist_topk(x, x + 1, exclude_self=True),
            r"exclude_self must be False unless Y is X",
        ),
        (
            lambda x: spatial.cdist_topk(x, metric="rbf"),
            r"cdist_topk: metric must be euclidean, .* got 'rbf'",
        ),
        (
            lambda x: spatial.kernel_matmul(x, None, ht.ones(3)),
            r"V must have the 4 rows of Y, got shape \(3,\)",
        ),
        (
            lambda x: spatial.kernel_matmul(x, None, ht.ones(4), "none"),
            r"metric must be one of .* got 'none'",
        ),
        (lambda x: spatial.pairwise_reduce(x, op="median"), r"op must be sum, .* got 'median'"),
        (lambda x: spatial.pairwise_reduce(x, ht.ones((0, 2)), "max"), r"Y must have a row"),
    ],
)
def test_wrong_arguments_are_refused_before_any_message(call, text):
    def run(comm):
        x = ht.ones((4, 2), split=0)
        with comm.trace() as sent, pytest.raises((ValueError, TypeError), match=text):
            call(x)
        assert sent.calls == 0

    spmd(2, run)


def test_gradients_are_refused_not_lost():
    x = ht.ones((4, 2)).requires_grad_()
    for call in (spatial.cdist, spatial.cdist_topk, lambda x: spatial.kernel_matmul(x, None, ht.ones(4))):
        with pytest.raises(ht.GradientError, match="has no derivative"):
            call(x)
        with ht.no_grad():
            call(x)


@pytest.mark.mpi
def test_spatial_over_mpi(comm):
    x, y = tables(n=300, m=500)
    X, Y = cut(x, 0, comm), cut(y, 0, comm)
    np.testing.assert_allclose(whole(spatial.cdist(X, Y)), distance.cdist(x, y), rtol=1e-12)
    d, i = spatial.cdist_topk(X, Y, 4)
    expected = nearest(x, y, 4, "euclidean")
    np.testing.assert_allclose(whole(d), expected[0], rtol=1e-13)
    np.testing.assert_array_equal(whole(i), expected[1])
    product = spatial.kernel_matmul(X, Y, cut(y, 0, comm), gamma=0.25)
    np.testing.assert_allclose(whole(product), pairwise.rbf_kernel(x, y, gamma=0.25) @ y, rtol=1e-11)
