"""Sparse matrices against SciPy: assembly, conversions, products, reductions, and what they send."""

import functools
import itertools
import operator

import ht_core as ht
import ht_linalg as la
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from ht_comm import spmd
from ht_core.testing import spread, whole
from ht_linalg import sparse
from ht_linalg.sparse.halo import Halo

MAKE = {"csr": sparse.sparse_csr_matrix, "csc": sparse.sparse_csc_matrix}
AXIS = {"csr": 0, "csc": 1}
FORMATS = list(MAKE)


def values(shape, dtype="float64", density=0.3, seed=0):
    rng = np.random.default_rng(seed)
    dense = rng.integers(1, 9, size=shape) * (rng.random(shape) < density)
    if np.dtype(dtype).kind == "c":
        return (dense * (1 + 2j)).astype(dtype)
    return (dense * rng.choice([-1, 1], size=shape) if dtype[0] in "fi" else dense).astype(dtype)


def uneven(n, p):
    """Return counts for n rows, the first rank with none."""
    cuts = [0, *sorted(np.random.default_rng(n + p).integers(0, n + 1, size=p - 1).tolist()), n]
    counts = [b - a for a, b in itertools.pairwise(cuts)]
    return (0, *counts[:-2], counts[-2] + counts[-1]) if p > 1 else (n,)


def cut(x, split, comm):
    return spread(x, split, None if split is None else uneven(x.shape[split], comm.size), comm)


def placed(dense, format, how, comm):
    """Return a matrix that is replicated ("whole"), cut evenly or unevenly."""
    made = MAKE[format](dense, comm=comm)
    axis = AXIS[format]
    if how == "whole":
        return made
    return made.resplit(axis, uneven(dense.shape[axis], comm.size) if how == "uneven" else None)


def dense(a):
    """Return the whole matrix; check that its parts are what they should be."""
    n = a.lshape[a.major]
    assert a.lindptr.shape == (n + 1,)
    assert a.lnnz == a.lindices.shape[0] == a.ldata.shape[0] == a.lindptr[-1]
    assert a.nnz == sum(a.nnz_counts)
    assert a.nnz_counts[a.comm.rank if a.split is not None else 0] == a.lnnz
    keys = torch.arange(n).repeat_interleave(a.lindptr.diff()) * (a.shape[1 - a.major] + 1) + a.lindices
    assert bool((keys.diff() > 0).all())
    return whole(a.to_dense())


PLACES = ["whole", "even", "uneven"]
SHAPES = [(7, 5), (5, 7), (1, 1), (0, 4), (4, 0), (2, 9)]


# -- making ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 2, 3, 5])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_making_and_converting(shape, format, p):
    x = values(shape)
    axis, other = AXIS[format], "csc" if format == "csr" else "csr"
    sources = [x, sp.csr_array(x), sp.coo_matrix(x), torch.from_numpy(x).to_sparse_coo(), x.tolist()]

    def run(comm):
        for source in sources if 0 not in shape else sources[:4]:
            for split in (None, axis):
                with comm.trace() as sent:
                    a = MAKE[format](source, split=split)
                assert sent.calls == 0
                assert (a.shape, a.split, a.nnz, a.dtype) == (shape, split, np.count_nonzero(x), ht.float64)
                np.testing.assert_array_equal(dense(a), x)
        for how in PLACES:
            a = placed(x, format, how, comm)
            np.testing.assert_array_equal(dense(a), x)
            np.testing.assert_array_equal(dense(a.T), x.T)
            np.testing.assert_array_equal(dense(a.asformat(other)), x)
            np.testing.assert_array_equal(dense(a.asformat(other).asformat(format)), x)
            np.testing.assert_array_equal(dense(a.resplit(None)), x)
            np.testing.assert_array_equal(dense(a.resplit(axis)), x)
            expected = (sp.csr_array if format == "csr" else sp.csc_array)(x)
            for name, reference in (("data", "data"), ("indices", "indices"), ("indptr", "indptr")):
                part = getattr(a, name)
                np.testing.assert_array_equal(whole(part), getattr(expected, reference))
        for split in (None, 0, 1):
            d = cut(x, split, comm)
            np.testing.assert_array_equal(dense(sparse.to_sparse_csr(d)), x)
            np.testing.assert_array_equal(dense(sparse.to_sparse_csc(d)), x)
        rows = cut(x, axis, comm)
        np.testing.assert_array_equal(dense(MAKE[format](rows.larray, is_split=axis)), x)

    spmd(p, run)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "complex64", "complex128", "int32", "int64", "bool", "float16"]
)
def test_triplets_are_summed_where_they_belong(dtype, format):
    """Of any rank, in any order, with repeated places."""
    rng = np.random.default_rng(1)
    k, shape = 60, (9, 6)
    rows, columns = rng.integers(0, 9, size=k), rng.integers(0, 6, size=k)
    v = values((k,), dtype, density=0.9)
    expected = np.zeros(shape, dtype=bool if dtype == "bool" else np.result_type(dtype, "int8"))
    np.logical_or.at(expected, (rows, columns), v) if dtype == "bool" else np.add.at(
        expected, (rows, columns), v
    )

    def run(comm):
        for split in (None, 0):
            given = [cut(x, split, comm) for x in (v, rows, columns)]
            for target in (None, AXIS[format]):
                a = MAKE[format]((given[0], (given[1], given[2])), shape=shape, split=target)
                assert a.split == target
                assert a.dtype == given[0].dtype
                np.testing.assert_array_equal(dense(a), expected.astype(dtype))

    for p in (1, 2, 4):
        spmd(p, run)


def test_triplets_travel_once():
    k, n, p = 30, 12, 3

    def run(comm):
        # Every rank has ten entries, those of rank r all in rows of rank r + 1.
        rows = ht.array(np.arange(k) * n // k, split=0)
        rows = ht.array((rows.larray + n // p) % n, is_split=0)
        v = ht.ones(k, split=0, dtype=ht.float64)
        with comm.trace() as sent:
            a = sparse.sparse_csr_matrix((v, (rows, rows)), shape=(n, n), split=0)
        assert [event.op for event in sent.events] == ["alltoall", "alltoallv", "allgather"]
        assert sent.by_op["alltoallv"][1] == (k // p) * 24
        assert a.nnz == n
        assert float(a.sum().item()) == k

    spmd(p, run)


# -- arithmetic ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 3])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("shape", [(7, 5), (0, 3), (3, 0), (40, 30)])
def test_elementwise(shape, format, p):
    x, y = values(shape, seed=1), values(shape, "float32", seed=2)

    def run(comm):
        for how in PLACES:
            for other in PLACES:
                for other_format in FORMATS:
                    a, b = placed(x, format, how, comm), placed(y, other_format, other, comm)
                    for op in ("__add__", "__sub__", "__mul__"):
                        result = getattr(a, op)(b)
                        assert result.format == format
                        assert result.dtype == ht.float64
                        np.testing.assert_array_equal(dense(result), getattr(x, op)(y))
            a = placed(x, format, how, comm)
            with comm.trace() as sent:
                results = [a * 2, 2 * a, a / 4, -a, abs(a), a.astype("float32"), a.conj(), a.T, a.copy()]
            assert sent.calls == 0
            expected = [x * 2, x * 2, x / 4, -x, abs(x), x.astype("float32"), x, x.T, x]
            for result, reference in zip(results, expected):
                np.testing.assert_array_equal(dense(result), reference)
            np.testing.assert_array_equal(dense(a), x)

    spmd(p, run)


@pytest.mark.parametrize("p", [1, 2, 4])
@pytest.mark.parametrize("format", FORMATS)
def test_rows_and_columns(format, p):
    x = values((9, 7))
    keys = [
        (np.s_[2:8], np.s_[2:8]),
        (np.s_[:, 1:4], np.s_[:, 1:4]),
        (np.s_[3:3], np.s_[3:3]),
        (-1, np.s_[-1:]),
        (np.s_[1:9, 2:], np.s_[1:9, 2:]),
        (np.s_[:], np.s_[:]),
        (np.s_[4, 5], np.s_[4:5, 5:6]),
    ]

    def run(comm):
        for how in PLACES:
            a = placed(x, format, how, comm)
            for key, ranges in keys:
                np.testing.assert_array_equal(dense(a[key]), x[ranges])
            with pytest.raises(IndexError, match="step 1, got -1"):
                a[::-1]
            with pytest.raises(IndexError, match=r"index must be in \[-9, 9\), got 9"):
                a[9]

    spmd(p, run)


@pytest.mark.parametrize("p", [1, 3])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", ["float64", "int32", "bool", "complex128"])
@pytest.mark.parametrize("shape", [(7, 5), (5, 8), (0, 3), (3, 0)])
def test_reductions(shape, dtype, format, p):
    x = values(shape, dtype)

    def run(comm):
        for how in PLACES:
            a = placed(x, format, how, comm)
            for axis in (None, 0, 1, -1):
                result = a.sum(axis)
                np.testing.assert_array_equal(whole(result), x.sum(axis))
                assert result.dtype == ht.array(x.sum(axis)).dtype
                across = axis is not None and axis % 2 == AXIS[format]
                assert (result.split is None) == (axis is None or across or how == "whole")
            np.testing.assert_array_equal(whole(a.diagonal()), x.diagonal())
            assert a.trace().item() == np.trace(x)
            assert a.norm().item() == pytest.approx(np.linalg.norm(x), rel=1e-14)
            if 0 not in shape and dtype != "bool":
                assert a.norm(1).item() == pytest.approx(np.linalg.norm(x, 1), rel=1e-14)
                assert a.norm(np.inf).item() == pytest.approx(np.linalg.norm(x, np.inf), rel=1e-14)
                np.testing.assert_allclose(whole(a.mean(0)), x.mean(0), rtol=1e-14)

    spmd(p, run)


# -- products --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [1, 2, 3, 5])
@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("shape", SHAPES)
def test_products_with_dense(shape, format, p):
    a = values(shape)
    operands = [values((shape[1], *rest), density=1, seed=3) for rest in ((), (1,), (3,), (40,), (0,))]

    def run(comm):
        for how in PLACES:
            A = placed(a, format, how, comm)
            for x in operands:
                for split in (None, *range(x.ndim)):
                    y = A @ cut(x, split, comm)
                    np.testing.assert_array_equal(whole(y), a @ x)  # integers: exact in any order
            np.testing.assert_array_equal(whole(A @ operands[0]), a @ operands[0])

    spmd(p, run)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("dtype", ["float32", "int64", "int32", "bool", "float16", "complex64"])
def test_dtypes_of_products(dtype, format):
    a, x = values((12, 9), dtype), values((9, 2), dtype, density=0.8, seed=4)

    def run(comm):
        for how in PLACES:
            A = placed(a, format, how, comm)
            for split in (None, 0):
                y = A @ cut(x, split, comm)
                assert y.dtype == ht.array(x).dtype
                np.testing.assert_allclose(whole(y), a @ x, rtol=1e-6)
        assert (A @ cut(x.astype("complex128"), 0, comm)).dtype == ht.complex128

    spmd(3, run)


@pytest.mark.parametrize("p", [1, 3])
@pytest.mark.parametrize("formats", [(a, b) for a in FORMATS for b in FORMATS])
def test_products_of_sparse(formats, p):
    for inner in (6, 0):
        x, y = values((8, inner), seed=5), values((inner, 7), "float32", seed=6)

        def run(comm, x=x, y=y):
            for how in PLACES:
                for other in PLACES:
                    c = placed(x, formats[0], how, comm) @ placed(y, formats[1], other, comm)
                    assert c.format == formats[0]
                    assert c.dtype == ht.float64
                    np.testing.assert_array_equal(dense(c), x @ y)

        spmd(p, run)


def laplacian(k):
    """Return the Laplacian of a k x k grid with fixed edges; its smallest eigenvalue is 8 sin^2(pi / (2 k + 2))."""
    line = sp.diags_array([-np.ones(k - 1), np.full(k, 2.0), -np.ones(k - 1)], offsets=[-1, 0, 1])
    return sp.kronsum(line, line).tocsr()


def test_a_product_sends_the_border_only():
    k, p = 24, 4

    def run(comm):
        A = sparse.sparse_csr_matrix(laplacian(k), split=0)
        x = ht.random.randn(k * k, split=0)
        A @ x
        for y in (x, x.expand_dims(1)):
            with comm.trace() as sent:
                A @ y
            neighbours = 1 if comm.rank in (0, p - 1) else 2
            assert (sent.calls, sent.messages, sent.bytes) == (1, neighbours, neighbours * k * 8)
        with comm.trace() as sent:
            A @ x.resplit(None)
        assert sent.by_op.get("alltoallv") is None
        C = A.T
        C @ x
        with comm.trace() as sent:
            C @ x
        assert (sent.calls, sent.bytes) == (1, neighbours * k * 8)
        with comm.trace() as sent:
            C.T @ x
            C.T.sum(axis=1)
            A.diagonal()
        assert sent.by_op["alltoallv"][0] == 2  # a new matrix asks once more

    spmd(p, run)


def test_a_halo_gives_and_takes():
    def run(comm):
        counts = (2, 0, 3)
        wanted = {0: [4, 1, 4, 2], 1: [], 2: [0, 3]}[comm.rank]
        halo = Halo(torch.tensor(wanted, dtype=torch.int64), counts, comm)
        x = torch.arange(5.0)[sum(counts[: comm.rank]) :][: counts[comm.rank]]
        assert halo.gather(x)[halo.indices].tolist() == wanted
        added = halo.add_back(torch.ones(halo.n))
        return added.tolist()

    assert functools.reduce(operator.iadd, spmd(3, run), []) == [2, 1, 2, 1, 2]


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (
            lambda a: sparse.sparse_csr_matrix(np.eye(2), split=1),
            ValueError,
            "split must be None or 0, got 1",
        ),
        (lambda a: sparse.sparse_csr_matrix(np.ones(3)), ValueError, r"obj must be 2-D, got shape \(3,\)"),
        (lambda a: sparse.sparse_csr_matrix(([1], ([0], [0]))), ValueError, "shape must be given with"),
        (
            lambda a: sparse.sparse_csr_matrix(([1], ([0], [5])), shape=(2, 2)),
            IndexError,
            r"columns must be in \[0, 2\)",
        ),
        (
            lambda a: sparse.sparse_csr_matrix(([1], ([0.5], [0])), shape=(2, 2)),
            TypeError,
            "rows must be integers",
        ),
        (lambda a: a @ np.ones(3), ValueError, "x must have the 4 columns of the matrix as rows, got shape"),
        (lambda a: a @ a[:3], ValueError, "b must have the 4 columns of a as rows"),
        (lambda a: a + a[:3], ValueError, "must have one shape"),
        (lambda a: a + 1, TypeError, "must be a sparse matrix, got int; use to_dense"),
        (lambda a: a * np.ones(4), TypeError, "must be a number or a sparse matrix, got ndarray"),
        (lambda a: a.resplit(1), ValueError, r"split must be 0 or None for csr, got 1; use tocsc\(\)"),
        (lambda a: a.norm(2), ValueError, "ord must be fro, 1 or inf, got 2"),
    ],
)
def test_wrong_arguments_are_refused(call, error, text):
    def run(comm):
        a = sparse.sparse_csr_matrix(np.eye(4), split=0)
        with pytest.raises(error, match=text):
            call(a)

    spmd(2, run)


def test_places_outside_are_refused_on_all_ranks():
    def run(comm):
        rows = ht.array(torch.tensor([comm.rank * 2]), is_split=0)
        with pytest.raises(IndexError, match=r"must lie in a matrix of shape \(3, 3\), got some outside"):
            sparse.sparse_csr_matrix((rows, (rows, rows)), shape=(3, 3), split=0)

    spmd(3, run)


def test_names():
    a = sparse.sparse_csr_matrix(np.eye(3))
    assert (a.gnnz, a.lnnz, a.ndim, a.balanced, a.is_distributed()) == (3, 3, 2, True, False)
    assert a.larray.to_dense().tolist() == np.eye(3).tolist()
    assert repr(a) == "DCSR_matrix(shape=(3, 3), nnz=3, dtype=float64, split=None)"


def test_all_eigenvalues_of_a_grid():
    """Of which the Laplacian has 4 (sin^2 + sin^2) of multiples of pi / (2 k + 2)."""
    k = 9
    line = 4 * np.sin(np.pi * np.arange(1, k + 1) / (2 * k + 2)) ** 2

    def run(comm, format):
        A = MAKE[format](laplacian(k), split=AXIS[format])
        V, T = la.lanczos(A, k * k, v0=ht.random.rand(k * k, split=0, dtype=ht.float64))
        product = whole(A @ V)
        np.testing.assert_allclose(product, whole(V) @ whole(T), atol=1e-12)
        return np.linalg.eigvalsh(whole(T))

    expected = np.sort(np.add.outer(line, line).ravel())
    for format in FORMATS:
        for result in spmd(3, run, format):
            np.testing.assert_allclose(result, expected, atol=1e-11)


def test_a_graph_of_a_hundred_thousand_nodes_falls_into_its_parts():
    """Four random graphs with a few edges between them: four small eigenvalues, whose vectors tell the parts."""
    n, parts = 100_000, 4
    rng = np.random.default_rng(0)
    size = n // parts
    inner = [rng.permutation(size) + part * size for part in range(parts) for _ in range(5)]
    sources = np.concatenate([np.arange(size) + part * size for part in range(parts) for _ in range(5)])
    between = rng.integers(0, n, size=(2, 40))
    i, j = np.concatenate([sources, between[0]]), np.concatenate([*inner, between[1]])
    i, j = i[i != j], j[i != j]
    i, j = np.concatenate([i, j]), np.concatenate([j, i])
    reference = sp.coo_array((-np.ones(i.size), (i, j)), shape=(n, n)).tocsr()
    reference.setdiag(-reference.sum(axis=1))

    def run(comm):
        rows, columns = (ht.array(x, split=0) for x in (np.concatenate([i, i]), np.concatenate([j, i])))
        v = ht.array(np.repeat([-1.0, 1.0], i.size), split=0)
        L = sparse.sparse_csr_matrix((v, (rows, columns)), shape=(n, n), split=0)
        assert L.nnz == reference.nnz
        assert abs(L.sum(axis=1)).max().item() == 0
        x = ht.random.randn(n, split=0, dtype=ht.float64)
        np.testing.assert_allclose(whole(L @ x), reference @ whole(x), atol=1e-12)
        start = ht.random.randn(n, parts, split=0, dtype=ht.float64)
        found, vectors = la.lobpcg(L, start, largest=False, tol=1e-7, maxiter=60)
        residual = L @ vectors - vectors * found
        assert la.vector_norm(residual, axis=0).max().item() < 1e-6
        return whole(found), whole(vectors)

    found, vectors = spmd(2, run)[0]
    assert abs(found[0]) < 1e-8
    assert np.all(found[:parts] < 0.01)  # the next is above 2
    means = vectors.reshape(parts, size, parts).mean(axis=1, keepdims=True)
    assert np.linalg.norm(vectors.reshape(parts, size, parts) - means) < 0.1


@pytest.mark.mpi
def test_sparse_over_mpi(comm):
    L = laplacian(20)
    x = np.random.default_rng(0).normal(size=(400, 3))
    for format in FORMATS:
        A = MAKE[format](L, split=AXIS[format])
        np.testing.assert_allclose(whole(A @ cut(x, 0, comm)), L @ x, rtol=1e-13, atol=1e-13)
        np.testing.assert_array_equal(dense(A.asformat("csc" if format == "csr" else "csr")), L.toarray())
        np.testing.assert_allclose(dense(A @ A), (L @ L).toarray())
