"""vmap and Python functions over arrays, against torch and NumPy on one process."""

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.testing import spread, whole

RNG = np.random.default_rng(11)
X, W, Z = RNG.normal(size=(7, 4)), RNG.normal(size=4), RNG.normal(size=(3, 7))
ROWS = {2: (5, 2), 3: (3, 0, 4), 5: (2, 0, 1, 4, 0)}


@pytest.mark.parametrize("p", [2, 3, 5])
@pytest.mark.parametrize("chunk_size", [None, 2])
def test_split_axis_is_mapped_without_a_message(p, chunk_size):
    f = lambda row, w: (row @ w, torch.outer(row, w))  # noqa: E731
    expected = torch.vmap(f, (0, None), (0, 1))(torch.tensor(X), torch.tensor(W))

    def run(comm):
        x, w = spread(X, 0, ROWS[p], comm), spread(W, None, (), comm)
        with comm.trace() as sent:
            a, b = ht.vmap(f, out_dims=(0, 1), chunk_size=chunk_size)(x, w)
        assert sent.calls == 0
        assert (a.layout, b.layout) == (
            ht.Layout((7,), 0, ROWS[p]),
            ht.Layout((4, 7, 4), 1, ROWS[p]),
        )
        return whole(a), whole(b)

    for found in spmd(p, run):
        for g, e in zip(found, expected, strict=True):
            np.testing.assert_allclose(g, e.numpy(), rtol=1e-12)


def test_other_layouts_move_once():
    f = lambda row, column: row.sum() * column  # noqa: E731
    expected = torch.vmap(f, (0, 1))(torch.tensor(X), torch.tensor(Z))

    def run(comm):
        found = []
        for x, z, calls in (
            (spread(X, 1, (1, 2, 1), comm), spread(Z, 0, (1, 1, 1), comm), 2),
            (spread(X, 0, (3, 0, 4), comm), spread(Z, 1, (1, 1, 5), comm), 1),
            (spread(X, 0, (3, 0, 4), comm), spread(Z, None, (), comm), 0),
            (spread(X, None, (), comm), spread(Z, None, (), comm), 0),
        ):
            with comm.trace() as sent:
                y = ht.vmap(f, in_dims=(0, 1))(x, z)
            assert sent.calls == calls
            assert (y.split is None) == (x.split is z.split is None)
            found.append(whole(y))
        return found

    for found in spmd(3, run):
        for y in found:
            np.testing.assert_allclose(y, expected.numpy(), rtol=1e-12)


def test_keywords_scalars_and_gradients():
    def run(comm):
        x = spread(X, 0, (3, 4), comm)
        y = ht.vmap(lambda row, k, power=1: (row**power).sum() * k)(x, 3, power=2)
        g = ht.grad(lambda x: ht.vmap(lambda row: (row**3).sum())(x).sum())(x)
        return whole(y), whole(g)

    for y, g in spmd(2, run):
        np.testing.assert_allclose(y, 3 * (X**2).sum(1), rtol=1e-12)
        np.testing.assert_allclose(g, 3 * X**2, rtol=1e-12)


def test_randomness():
    def noisy(row):
        return row + torch.rand(row.shape, dtype=row.dtype)

    def run(comm, randomness):
        ht.random.seed(4)
        state = torch.get_rng_state()
        y = whole(ht.vmap(noisy, randomness=randomness)(ht.array(X, split=0, comm=comm)))
        assert comm.size > 1 or torch.equal(
            state, torch.get_rng_state()
        )  # torch's own stream goes on as before
        return y - X

    alike = [spmd(p, run, "same")[0] for p in (1, 2, 3)]
    for noise in alike:
        np.testing.assert_allclose(noise, np.broadcast_to(alike[0][0], X.shape), atol=1e-12)
    first, again = (spmd(2, run, "different")[0] for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert len(np.unique(first.round(9))) == X.size
    with pytest.raises(RuntimeError):
        spmd(1, run, "error")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: ht.vmap(torch.sum, randomness="often"), "randomness must be one of"),
        (lambda x: ht.vmap(torch.sum, chunk_size=0), "chunk_size must be a positive"),
        (lambda x: ht.vmap(torch.add, in_dims=(0, None))(x, x), r"args\[1\] must be mapped or replicated"),
        (lambda x: ht.vmap(torch.add, in_dims=(0,))(x, x), "in_dims must have 2 entries"),
        (lambda x: ht.vmap(torch.add, in_dims=(0, 1))(x, x), "equal extents"),
        (lambda x: ht.vmap(torch.sum, in_dims=None)(x), "at least one argument"),
        (lambda x: ht.vmap(torch.sum, in_dims=2)(x), r"in_dims\[0\] must be in"),
        (lambda x: ht.vmap(torch.add)(x, other=x), "positional"),
    ],
)
def test_refusals(call, text):
    def run(comm):
        with comm.trace() as sent, pytest.raises(ht.LayoutError, match=text):
            call(spread(X, 0, (5, 2), comm))
        return sent.calls

    assert spmd(2, run) == [0, 0]


# -- functional -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("layout", [(None, ()), (0, (3, 0, 4)), (1, (2, 0, 2))], ids=str)
def test_apply_along_axis(axis, layout):
    functions = [np.ptp, lambda v: np.sort(v)[:2], lambda v, k: np.outer(v[:2], v[:3]) * k]

    def run(comm):
        found = []
        for f, args in zip(functions, [(), (), (2.0,)], strict=True):
            y = ht.apply_along_axis(f, axis, spread(X, *layout, comm), *args)
            found.append(whole(y))
        return found

    expected = [np.apply_along_axis(f, axis, X, *a) for f, a in zip(functions, [(), (), (2.0,)], strict=True)]
    for found in spmd(3, run):
        for y, e in zip(found, expected, strict=True):
            np.testing.assert_array_equal(y, e)


def test_apply_over_axes():
    values = RNG.normal(size=(2, 3, 4))

    def run(comm):
        return [
            whole(ht.apply_over_axes(ht.sum, ht.array(values, split=s, comm=comm), [0, -1]))
            for s in (None, 0, 1, 2)
        ]

    for found in spmd(3, run):
        for y in found:
            np.testing.assert_allclose(y, np.apply_over_axes(np.sum, values, [0, -1]), rtol=1e-12)


def test_vectorize():
    def step(a, b):
        return a - b if a > b else a + b

    values = np.arange(7)

    def run(comm):
        x = spread(values, 0, (0, 3, 4), comm)
        outs = [
            ht.vectorize(step)(x, 2),
            ht.vectorize(step, otypes=["float32"])(x, spread(values[:, None], 0, (2, 2, 3), comm)),
            *ht.vectorize(lambda a: (a, a / 2))(x),
            ht.vectorize(lambda a, k: a * k["by"], excluded={1})(x, {"by": 3}),
        ]
        with comm.trace() as sent:
            ht.vectorize(step, otypes=[float])(x, 2)
        with pytest.raises(ht.LayoutError, match="otypes"):
            ht.vectorize(step)(x[:0], 1)
        return [whole(y) for y in outs], sent.calls

    expected = [
        np.vectorize(step)(values, 2),
        np.vectorize(step, otypes=["float32"])(values, values[:, None]),
        values,
        values / 2,
        values * 3,
    ]
    for found, calls in spmd(3, run):
        assert calls == 0
        for y, e in zip(found, expected, strict=True):
            assert y.dtype == e.dtype
            np.testing.assert_array_equal(y, e)
