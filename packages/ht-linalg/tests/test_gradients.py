"""Gradients of products for every pair of layouts, and models trained with DNDarray operations alone, against torch."""

import ht_core as ht
import ht_linalg
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.testing import spread, whole

RNG = np.random.default_rng(3)
#: Shapes of operands, all pairs of which are split in every way.
SHAPES = [
    ((5, 4), (4, 3)),
    ((4,), (4, 3)),
    ((5, 4), (4,)),
    ((4,), (4,)),
    ((2, 5, 4), (4, 3)),
    ((2, 5, 4), (2, 4, 3)),
]


def cuts(n, p):
    """Return uneven extents, with an empty rank where there are three."""
    return (n - 1, 1) if p == 2 else (2, 0, n - 2)


def layouts_of(shape, p):
    yield None, ()
    for axis, n in enumerate(shape):
        yield axis, cuts(n, p)


@pytest.mark.parametrize(
    ("a_shape", "b_shape", "p"), [*((a, b, 3) for a, b in SHAPES), (*SHAPES[0], 2), (*SHAPES[5], 2)], ids=str
)
def test_matmul(a_shape, b_shape, p):
    a, b = RNG.normal(size=a_shape), RNG.normal(size=b_shape)
    ta, tb = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
    loss = ((ta @ tb) ** 2).sum()
    first = torch.autograd.grad(loss, [ta, tb], create_graph=True)
    second = torch.autograd.grad((first[0] ** 2).sum() + (first[1] * tb).sum(), [ta, tb])

    def run(comm):
        found = []
        for la in layouts_of(a_shape, p):
            for lb in layouts_of(b_shape, p):
                x, y = spread(a, *la, comm), spread(b, *lb, comm)
                f = lambda x, y: ((x @ y) ** 2).sum()  # noqa: E731
                g = ht.grad(f, (0, 1))

                def curvature(x, y):
                    gx, gy = g(x, y)  # noqa: B023
                    return (gx**2).sum() + (gy * y).sum()

                gx, gy = g(x, y)
                assert gx.layout is x.layout
                assert gy.layout is y.layout
                gradients = [gx, gy]
                if p == 3:
                    gradients += ht.grad(curvature, (0, 1))(x, y)
                found.append([whole(g) for g in gradients])
        return found

    expected = [t.detach().numpy() for t in (*first, *second)]
    for each in spmd(p, run):
        for found in each:
            for g, e in zip(found, expected, strict=p == 3):
                np.testing.assert_allclose(g, e, rtol=1e-9, atol=1e-9)


def test_complex_and_mixed_products():
    a, b = RNG.normal(size=(3, 4)), RNG.normal(size=(4, 2)) + 1j * RNG.normal(size=(4, 2))
    ta, tb = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
    expected = torch.autograd.grad((ta.to(tb.dtype) @ tb).abs().square().sum(), [ta, tb])

    def run(comm):
        x, y = spread(a, 0, (1, 2), comm), spread(b, None, (), comm)
        gx, gy = ht.grad(lambda x, y: (abs(x @ y) ** 2).sum(), (0, 1))(x, y)
        return gx.dtype, whole(gx), whole(gy)

    for dtype, gx, gy in spmd(2, run):
        assert dtype is ht.float64
        np.testing.assert_allclose(gx, expected[0].numpy(), rtol=1e-10)
        np.testing.assert_allclose(gy, expected[1].numpy(), rtol=1e-10)


CONTRACTIONS = {
    "tensordot": (lambda x, y: ht_linalg.tensordot(x, y, axes=1), lambda x, y: torch.tensordot(x, y, dims=1)),
    "einsum": (
        lambda x, y: ht_linalg.einsum("ij,jk->ki", x, y),
        lambda x, y: torch.einsum("ij,jk->ki", x, y),
    ),
    "trace": (lambda x, y: ht_linalg.einsum("ij,jk->", x, y), lambda x, y: torch.einsum("ij,jk->", x, y)),
}


@pytest.mark.parametrize("name", CONTRACTIONS)
def test_contractions(name):
    ours, theirs = CONTRACTIONS[name]
    a, b = RNG.normal(size=(5, 4)), RNG.normal(size=(4, 3))
    ta, tb = torch.tensor(a, requires_grad=True), torch.tensor(b, requires_grad=True)
    expected = torch.autograd.grad(torch.tanh(theirs(ta, tb)).sum(), [ta, tb])

    def run(comm):
        found = []
        for la in layouts_of(a.shape, 3):
            for lb in layouts_of(b.shape, 3):
                g = ht.grad(lambda x, y: ht.tanh(ours(x, y)).sum(), (0, 1))
                found.append(tuple(map(whole, g(spread(a, *la, comm), spread(b, *lb, comm)))))
        return found

    for each in spmd(3, run):
        for gx, gy in each:
            np.testing.assert_allclose(gx, expected[0].numpy(), rtol=1e-9, atol=1e-10)
            np.testing.assert_allclose(gy, expected[1].numpy(), rtol=1e-9, atol=1e-10)


def test_a_replicated_operand_costs_one_allreduce():
    """x @ w with split rows: the gradient of w is summed once, that of x needs nothing."""

    def run(comm):
        x = spread(RNG_A, 0, (3, 2), comm).requires_grad_()
        w = spread(RNG_W, None, (), comm).requires_grad_()
        loss = (x @ w).sum()
        with comm.trace() as t:
            loss.backward()
        return [(e.op, e.bytes) for e in t.events]

    RNG_A, RNG_W = RNG.normal(size=(5, 4)), RNG.normal(size=(4, 3))
    assert spmd(2, run) == [[("allreduce", 16), ("allreduce", 4 * 3 * 8)]] * 2


# -- training ------------------------------------------------------------------------------------------------------

DATA = RNG.normal(size=(37, 6))
TARGET = np.tanh(DATA @ RNG.normal(size=(6, 1))) + 0.1 * RNG.normal(size=(37, 1))


def train(parameters, loss, step, no_grad, steps=40):
    """Return the losses of plain gradient descent."""
    losses = []
    for _ in range(steps):
        value = loss(*parameters)
        value.backward()
        losses.append(value.item())
        with no_grad():
            for w in parameters:
                w -= step * w.grad
        for w in parameters:
            w.grad = None
    return losses


def regression(x, y, mean):
    return lambda w, b: mean((x @ w + b - y) ** 2)


def network(x, y, mean, tanh):
    return lambda w1, b1, w2, b2: mean((tanh(x @ w1 + b1) @ w2 + b2 - y) ** 2)


def weights_of(*shapes):
    rng = np.random.default_rng(1)
    return [0.5 * rng.normal(size=shape) for shape in shapes]


SPLITS = [(0, None), (0, 0), (1, None), (None, 1), (None, None), (0, 1)]


def check_training(comm, splits):
    """Train both models with the data split along splits[0] and the matrices of weights along splits[1]."""
    data, target = (ht.array(v, split=splits[0], comm=comm) for v in (DATA, TARGET))
    tdata, ttarget = torch.tensor(DATA), torch.tensor(TARGET)
    for shapes, ours, theirs, step in (
        ([(6, 1), (1,)], regression(data, target, ht.mean), regression(tdata, ttarget, torch.mean), 0.1),
        (
            [(6, 8), (8,), (8, 1), (1,)],
            network(data, target, ht.mean, ht.tanh),
            network(tdata, ttarget, torch.mean, torch.tanh),
            0.2,
        ),
    ):
        start = weights_of(*shapes)
        parameters = [
            ht.array(v, split=splits[1] if v.ndim == 2 else None, comm=comm).requires_grad_() for v in start
        ]
        references = [torch.tensor(v, requires_grad=True) for v in start]
        found = train(parameters, ours, step, ht.no_grad)
        expected = train(references, theirs, step, torch.no_grad)
        assert expected[-1] < 0.5 * expected[0]
        np.testing.assert_allclose(found, expected, rtol=1e-10)


@pytest.mark.parametrize(
    ("splits", "p"), [*((splits, 3) for splits in SPLITS), (SPLITS[0], 2), (SPLITS[5], 2)], ids=str
)
def test_training(splits, p):
    spmd(p, check_training, splits)


@pytest.mark.mpi
def test_training_on_processes(comm):
    check_training(comm, (0, None))
