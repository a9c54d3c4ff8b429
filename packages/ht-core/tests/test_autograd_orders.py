"""Gradients through order, products and neighbours: sort, topk, quantiles, cumprod, gradient, halos."""

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.engines.taped import TapedComm
from ht_core.testing import gradcheck, spread, whole

A = np.random.default_rng(11).permutation(8).reshape(4, 2) / 3 - 0.9
WEIGHTS = np.cos(np.arange(1, 9))
POINTS = [0.0, 1.0, 3.0, 3.5]
#: name -> function of an array of shape (4, 2).
CASES = {
    "sort": lambda x: ht.sort(x, axis=0),
    "sort descending": lambda x: ht.sort(x, axis=1, descending=True),
    "sort all": lambda x: ht.sort(x, axis=None),
    "sort with places": lambda x: ht.sort(x, axis=0, return_sort_indices=True)[0],
    "partition": lambda x: ht.partition(x, 1, axis=0),
    "take along argsort": lambda x: ht.take_along_axis(x, ht.argsort(x, axis=0), axis=0),
    "topk": lambda x: ht.topk(x, 2, dim=0).values,
    "topk of the least": lambda x: ht.topk(x, 1, dim=1, largest=False).values,
    "sort_complex": lambda x: ht.sort_complex(x).real,
    "median": lambda x: ht.median(x, axis=0),
    "median of all": lambda x: ht.median(x),
    "median kept": lambda x: ht.median(x, axis=1, keepdims=True),
    "nanmedian": lambda x: ht.nanmedian(x, axis=0),
    "quantiles": lambda x: ht.quantile(x, [0.2, 0.7], axis=0),
    "quantiles of both axes": lambda x: ht.quantile(x, [[0.1], [0.55]], axis=(0, 1), keepdims=True),
    "percentile": lambda x: ht.percentile(x, 30, axis=1, method="weibull"),
    "an element": lambda x: ht.quantile(x, 0.4, axis=0, method="lower"),
    "nanpercentile": lambda x: ht.nanpercentile(x, [10, 80], axis=0),
    "cumprod": lambda x: ht.cumprod(x, axis=0),
    "cumprod along": lambda x: ht.cumprod(x, axis=1),
    "cumprod of all": lambda x: ht.cumprod(x),
    "nancumprod": lambda x: ht.nancumprod(x, axis=0),
    "cumulative_prod": lambda x: ht.cumulative_prod(x, axis=0, include_initial=True),
    "gradient": lambda x: ht.gradient(x, axis=0),
    "gradients": lambda x: ht.stack(ht.gradient(x, 0.5)),
    "gradient on points": lambda x: ht.gradient(x, POINTS, axis=0),
    "gradient of order 2": lambda x: ht.gradient(x, axis=0, edge_order=2),
}
LAYOUTS = [(2, 1, (1, 1)), (3, 0, (3, 0, 1)), (2, None, ())]  # uneven and empty parts of rows, columns, whole


@pytest.mark.parametrize(("p", "split", "counts"), LAYOUTS, ids=str)
@pytest.mark.parametrize("name", CASES)
def test_against_differences(name, p, split, counts):
    function = CASES[name]

    def run(comm):
        def loss(x):
            y = function(x)
            w = ht.array(WEIGHTS, comm=comm)
            return (y * y * ht.resize(w, y.shape)).sum()

        return gradcheck(loss, spread(A, split, counts, comm), atol=1e-7)

    assert max(spmd(p, run)) < 1e-7


def test_gradcheck_sees_a_wrong_gradient():
    def run(comm):
        x = spread(A, 0, (3, 1), comm)
        with pytest.raises(AssertionError, match="gradient"):
            gradcheck(lambda x: (x * x.detach()).sum(), x)

    spmd(2, run)


def test_gradient_by_coordinates():
    def run(comm):
        points = spread(np.array(POINTS), 0, (3, 1), comm)
        values = spread(A, 0, (1, 3), comm)
        order = [
            lambda t, order=order: (ht.gradient(values, t, axis=0, edge_order=order) ** 2).sum()
            for order in (1, 2)
        ]
        return [gradcheck(loss, points, atol=1e-6) for loss in order]

    spmd(2, run)


SMOOTH = {
    "sort": (lambda x: ht.sort(x, axis=0), lambda x: x.sort(dim=0)[0]),
    "topk": (lambda x: ht.topk(x, 3, dim=0).values, lambda x: x.topk(3, dim=0)[0]),
    "quantile": (
        lambda x: ht.quantile(x, [0.2, 0.7], axis=0),
        lambda x: x.quantile(torch.tensor([0.2, 0.7], dtype=x.dtype), dim=0),
    ),
    "cumprod": (lambda x: ht.cumprod(x, axis=0), lambda x: x.cumprod(0)),
    "gradient": (lambda x: ht.gradient(x, axis=0), lambda x: torch.gradient(x, dim=0)[0]),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivatives_are_torchs(name):
    ours, theirs = SMOOTH[name]
    x = torch.tensor(A, requires_grad=True)
    (slope,) = torch.autograd.grad((theirs(x) ** 3).sum(), x, create_graph=True)
    (expected,) = torch.autograd.grad((slope**2).sum(), x)

    def run(comm):
        x = spread(A, 0, (2, 0, 2), comm)
        return whole(ht.grad(lambda x: (ht.grad(lambda x: (ours(x) ** 3).sum())(x) ** 2).sum())(x))

    for found in spmd(3, run):
        np.testing.assert_allclose(found, expected.numpy(), rtol=1e-9, atol=1e-12)


def gradient_of(function, values, counts):
    def run(comm):
        x = spread(np.asarray(values), 0, counts, comm).requires_grad_()
        function(x).backward()
        return whole(x.grad)

    found = spmd(len(counts), run)
    for other in found[1:]:
        np.testing.assert_array_equal(other, found[0])
    return found[0].tolist()


def test_equal_elements():
    nan = np.nan
    # Sorting is stable: places are definite. A quantile is shared by all elements that are equal to it.
    assert gradient_of(lambda x: ht.sort(x)[1], [2.0, 1, 1, 1], (1, 2, 1)) == [0, 0, 1, 0]
    assert gradient_of(ht.median, [2.0, 1, 1, 5, 1, 0, 1], (3, 0, 4)) == [0, 0.25, 0.25, 0, 0.25, 0, 0.25]
    assert gradient_of(ht.median, [3.0, 1, 1, 5], (2, 2)) == [0.5, 0.25, 0.25, 0]
    assert gradient_of(ht.nanmedian, [3.0, nan, 1, 5], (1, 3)) == [1, 0, 0, 0]
    assert gradient_of(ht.median, [3.0, nan, 1, nan], (1, 3)) == [0, 0.5, 0, 0.5]
    # A factor of 0 has a derivative, too.
    assert gradient_of(lambda x: ht.cumprod(x)[3], [2.0, 0, 3, 5], (1, 1, 2)) == [0, 30, 0, 0]
    assert gradient_of(lambda x: ht.cumprod(x).sum(), [2.0, 0, 0, 5], (2, 2)) == [1, 2, 0, 0]


def test_out_and_dtypes():
    def run(comm):
        x = spread(A.astype(np.float32), 0, (3, 1), comm).requires_grad_()
        out = ht.empty(A.shape, dtype=ht.float64, split=1, comm=comm)
        kept = ht.sort(x, axis=0, out=out)
        middle = ht.empty(2, dtype=ht.float32, comm=comm)
        ht.median(x, axis=0, out=middle)
        assert kept is out
        assert out.split == 1
        (out[0].sum() + 2 * middle.sum()).backward()
        assert x.grad.dtype is ht.float32
        y = spread(A, 0, (3, 1), comm).requires_grad_()
        with pytest.raises(ht.GradientError, match="no_grad"):
            y.sort(axis=0)
        with pytest.raises(ht.LayoutError, match="sort: out"):
            ht.sort(y, out=ht.empty(3, comm=comm))
        z = y * 1
        z.sort(axis=0)
        z[-1].sum().backward()
        return whole(x.grad), whole(y.grad)

    ranked = np.sort(A, axis=0)
    first = (ranked[0] == A) + 2 * np.isin(A, ranked[1:3]) / 2
    for g, last in spmd(2, run):
        np.testing.assert_allclose(g, first)
        np.testing.assert_allclose(last, ranked[-1] == A)


@pytest.mark.parametrize("counts", [(3, 2), (4, 0, 1), (1, 1, 1)], ids=str)
@pytest.mark.parametrize(("before", "after"), [(1, 0), (2, 3), (0, 7)])
def test_periodic_halos(counts, before, after):
    """Rows that go round several times give back the sum of the gradients of all their copies."""
    n = sum(counts)

    def run(comm):
        taped = TapedComm(comm, False)
        start = sum(counts[: comm.rank])
        x = torch.arange(start, start + counts[comm.rank], dtype=torch.float64).requires_grad_()
        wide = taped.halo(x[:, None], before, after, counts, periodic=True)
        same = comm.halo(x.detach()[:, None], before, after, counts, periodic=True)
        assert torch.equal(wide.detach(), same)
        weights = torch.arange(1.0, 1 + len(wide), dtype=torch.float64)[:, None] + 10 * comm.rank
        (g,) = taped.tape.grad((wide * weights).sum(), [x])
        return g.tolist()

    expected = np.zeros(n)
    for rank in range(len(counts)):
        rows = np.arange(sum(counts[:rank]) - before, sum(counts[: rank + 1]) + after)
        np.add.at(expected, rows % n, np.arange(1.0, 1 + len(rows)) + 10 * rank)
    assert np.concatenate(spmd(len(counts), run)).tolist() == expected.tolist()


def test_messages():
    """Sorted elements go back the way they came; a median costs two allreduces beside its search."""

    def run(comm):
        x = spread(A, 0, (3, 1), comm).requires_grad_()
        y = ht.median(x, axis=0).sum()
        with comm.trace() as found:
            ht.median(x.detach(), axis=0)
        with comm.trace() as t:
            y.backward()
        return [e.op for e in t.events if e.messages or e.op == "allreduce"], [
            e.op for e in found.events if e.messages
        ]

    for sent, search in spmd(2, run):
        assert sent == ["allreduce", *search, "allreduce", "allreduce"]


@pytest.mark.mpi
def test_on_real_ranks(comm):
    x = ht.array(np.sin(np.arange(20.0)).reshape(10, 2), split=0, comm=comm)
    gradcheck(lambda x: (ht.sort(x, axis=0) * ht.cumprod(x, axis=0)).sum() + ht.median(x), x, atol=1e-7)
