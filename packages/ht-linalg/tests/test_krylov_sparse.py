"""Iterative methods on distributed sparse matrices."""

import ht_core as ht
import numpy as np
import pytest
import scipy.sparse
from ht_comm import spmd
from ht_core.testing import whole
from ht_linalg import cg, gmres, lanczos, lobpcg, minres, sparse


@pytest.mark.parametrize("make", ["sparse_csr_matrix", "sparse_csc_matrix"])
@pytest.mark.parametrize("p", [1, 3])
def test_sparse_matrices(make, p):
    """A Laplacian of a grid: solved, tridiagonalised, its eigenvalues found, with halos instead of gathers."""
    k = 12
    d = scipy.sparse.diags([-np.ones(k - 1), 2 * np.ones(k), -np.ones(k - 1)], [-1, 0, 1])
    a = (scipy.sparse.kron(d, scipy.sparse.eye(k)) + scipy.sparse.kron(scipy.sparse.eye(k), d)).tocsr()
    n = k * k
    b = np.random.default_rng(0).standard_normal((n, 3))
    exact = np.linalg.eigvalsh(a.toarray())

    def run(comm):
        for split in (None, 0 if make == "sparse_csr_matrix" else 1):
            A = getattr(sparse, make)(a, split=split, comm=comm)
            for b_split in (None, 0):
                B = ht.array(b[:, 0], split=b_split, comm=comm)
                for solver, options in ((cg, {}), (minres, {}), (gmres, {"restart": 60})):
                    x, info = solver(A, B, rtol=1e-9, **options)
                    assert info == 0
                    assert x.layout is B.layout
                    np.testing.assert_allclose(a @ whole(x), b[:, 0], atol=1e-7)
            V, T = lanczos(A, 40)
            v = whole(V)
            np.testing.assert_allclose(v.T @ v, np.eye(40), atol=1e-13)
            assert np.linalg.eigvalsh(whole(T)).min() >= exact[0] - 1e-12
            values, _ = lobpcg(A, ht.array(b, split=0, comm=comm), tol=1e-8, maxiter=300, largest=False)
            np.testing.assert_allclose(whole(values), exact[:3], atol=1e-12)

    spmd(p, run)
