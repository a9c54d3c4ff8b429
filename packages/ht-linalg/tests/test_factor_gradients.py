"""Gradients of solves, inverses, determinants, Cholesky factors and eigenvalues against torch's."""

import ht_core as ht
import ht_linalg as la
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.testing import spread, whole

N = 4


def matrix(dtype, shape, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return x + 1j * rng.standard_normal(shape) if dtype == "complex128" else x


def positive(x):
    return x @ (x.conj().mT if x.dtype.kind == "c" else x.mT) + 2 * ht.eye(N)


def tpositive(x):
    return x @ x.mH + 2 * torch.eye(N, dtype=x.dtype)


def log_sum(found):
    sign, log = found
    return (
        log * 2 + (sign * (0.3 - 0.4j)).real
        if torch.is_tensor(sign)
        else log * 2 + ht.real(sign * (0.3 - 0.4j))
    )


#: name -> (ours, torch's); both of the matrix alone.
ONE = {
    "inv": (la.inv, torch.linalg.inv),
    "det": (la.det, torch.linalg.det),
    "slogdet": (lambda a: log_sum(la.slogdet(a)), lambda a: log_sum(torch.linalg.slogdet(a))),
    "cholesky": (lambda a: la.cholesky(positive(a)), lambda a: torch.linalg.cholesky(tpositive(a))),
    "cholesky upper": (
        lambda a: la.cholesky(positive(a), upper=True),
        lambda a: torch.linalg.cholesky(tpositive(a), upper=True),
    ),
    "eigvalsh": (lambda a: la.eigvalsh(positive(a)), lambda a: torch.linalg.eigvalsh(tpositive(a))),
}
#: Of a matrix and right-hand sides.
TWO = {"solve": (la.solve, torch.linalg.solve)}
for _lower in (False, True):
    for _trans in (0, 1, "C"):
        for _unit in (False, True):

            def _ours(a, b, options={"lower": _lower, "trans": _trans, "unit_diagonal": _unit}):  # noqa: B006
                return la.solve_triangular(a, b, **options)

            def _theirs(a, b, lower=_lower, trans=_trans, unit=_unit):
                a = {0: a, 1: a.mT, "C": a.mH}[trans]
                upper = lower if trans else not lower
                b = b[:, None] if b.ndim == 1 else b
                x = torch.linalg.solve_triangular(a, b, upper=upper, unitriangular=unit)
                return x

            TWO[f"triangular {_lower} {_trans} {_unit}"] = (_ours, _theirs)


def loss(x):
    return (x * x.conj()).real.sum() + (x * (0.5 + 0.25j)).real.sum()


def our_loss(x):
    return ht.real(x * ht.conj(x)).sum() + ht.real(x * (0.5 + 0.25j)).sum()


def cuts(n, p):
    return (n - 1, 1) if p == 2 else (2, 0, n - 2)


@pytest.mark.parametrize("dtype", ["float64", "complex128"])
@pytest.mark.parametrize("p", [2, 3])
@pytest.mark.parametrize("name", ONE)
def test_of_a_matrix(name, p, dtype):
    ours, theirs = ONE[name]
    a = matrix(dtype, (N, N)) / 2 + 2 * np.eye(N)
    t = torch.tensor(a, requires_grad=True)
    (expected,) = torch.autograd.grad(loss(theirs(t)), t)

    def run(comm):
        found = []
        for split in (None, 0, 1):
            x = spread(a, split, cuts(N, p), comm)
            g = ht.grad(lambda x: our_loss(ours(x)))(x)
            assert g.layout is x.layout
            found.append(whole(g))
        return found

    for found in spmd(p, run):
        for g in found:
            np.testing.assert_allclose(g, expected.resolve_conj().numpy(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", TWO)
def test_of_a_system(name):
    ours, theirs = TWO[name]
    a, p = matrix("complex128", (N, N)) / 2 + 2 * np.eye(N), 3
    for b in (matrix("complex128", (N,), 1), matrix("complex128", (N, 2), 1)):
        ta, tb = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
        expected = torch.autograd.grad(loss(theirs(ta, tb)), (ta, tb))

        def run(comm, b=b):
            found = []
            for places in ((None, None), (0, None), (1, 0), (None, 0)):
                x, y = (spread(v, split, cuts(N, p), comm) for v, split in zip((a, b), places))
                found.append([whole(g) for g in ht.grad(lambda x, y: our_loss(ours(x, y)), (0, 1))(x, y)])
            return found

        for found in spmd(p, run):
            for pair in found:
                for g, e in zip(pair, expected):
                    np.testing.assert_allclose(g, e.resolve_conj().numpy(), rtol=1e-8, atol=1e-9)


def test_of_stacks():
    a, b = matrix("float64", (3, N, N)) + 4 * np.eye(N), matrix("float64", (N, 2), 1)
    ta, tb = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
    value = (
        torch.linalg.solve(ta, tb).square().sum()
        + torch.linalg.det(ta).sum()
        + torch.linalg.slogdet(ta)[1].sum()
    )
    expected = torch.autograd.grad(value + torch.linalg.inv(ta).square().sum(), (ta, tb))

    def ours(x, y):
        return (
            (la.solve(x, y) ** 2).sum()
            + la.det(x).sum()
            + la.slogdet(x).logabsdet.sum()
            + (la.inv(x) ** 2).sum()
        )

    def run(comm):
        return [
            [whole(g) for g in ht.grad(ours, (0, 1))(ht.array(a, split=split), ht.array(b))]
            for split in (None, 0, 2)
        ]

    for found in spmd(2, run):
        for pair in found:
            for g, e in zip(pair, expected):
                np.testing.assert_allclose(g, e.resolve_conj().numpy(), rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", ["inv", "det", "solve"])
def test_second_derivatives(name):
    a = matrix("float64", (N, N)) / 2 + 2 * np.eye(N)
    ours, theirs = {
        **ONE,
        **TWO,
        "solve": (lambda x: la.solve(x, x[0]), lambda x: torch.linalg.solve(x, x[0])),
    }[name]
    t = torch.tensor(a, requires_grad=True)
    (first,) = torch.autograd.grad(theirs(t).square().sum(), t, create_graph=True)
    (expected,) = torch.autograd.grad(first.square().sum(), t)

    def run(comm):
        g = ht.grad(lambda x: (ours(x) ** 2).sum())
        return whole(ht.grad(lambda x: (g(x) ** 2).sum())(ht.array(a, split=0)))

    for found in spmd(2, run):
        np.testing.assert_allclose(found, expected.resolve_conj().numpy(), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize(
    "call",
    [
        la.eigh,
        la.svd,
        la.svdvals,
        la.qr,
        la.lu,
        la.polar,
        la.matrix_exp,
        la.pinv,
        lambda x: la.lstsq(x, x[0]),
    ],
)
def test_the_others_refuse(call):
    def run(comm):
        with pytest.raises(ht.GradientError, match=r"no derivative; use x\.detach\(\)"):
            call(ht.array(np.eye(N) + 1, split=0).requires_grad_())

    spmd(2, run)
