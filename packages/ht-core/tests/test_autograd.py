"""Gradients across ranks against torch on one: engines, layouts, higher derivatives, cost, memory, refusals."""

import gc
import weakref

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.engines import tracking
from ht_core.testing import spread, whole

RNG = np.random.default_rng(7)
A = RNG.normal(size=(5, 4))
B = RNG.normal(size=(5, 4))
POSITIVE = np.abs(A) + 0.5
#: (split, counts at p = 2, counts at p = 3) of arrays of shape (5, 4): replicated, even, uneven, with an empty rank.
LAYOUTS = [
    (None, (), ()),
    (0, (3, 2), (2, 2, 1)),
    (0, (5, 0), (0, 4, 1)),
    (1, (1, 3), (2, 0, 2)),
]


def counts_at(layout, p):
    return () if layout[0] is None else layout[p - 1] if p > 1 else (A.shape[layout[0]],)


def torch_gradients(function, *values):
    leaves = [torch.tensor(v, requires_grad=True) for v in values]
    loss = function(*leaves)
    return float(loss.detach()), [
        torch.zeros_like(x) if g is None else g
        for g, x in zip(torch.autograd.grad(loss, leaves, allow_unused=True), leaves)
    ]


def weights(shape):
    return np.cos(np.arange(1, 1 + int(np.prod(shape, dtype=int))).reshape(shape))


def check(ours, theirs, values, layouts, p):
    """Compare value and gradients of ``sum(f(x...) * weights)``."""
    expected = theirs(*(torch.tensor(v) for v in values))
    w = weights(tuple(expected.shape))
    value, slopes = torch_gradients(lambda *xs: (theirs(*xs) * torch.tensor(w)).sum(), *values)

    def run(comm):
        xs = [
            spread(v, split, counts, comm).requires_grad_()
            for v, (split, counts) in zip(values, layouts, strict=True)
        ]
        y = ours(*xs)
        assert y.requires_grad
        assert not y.is_leaf
        loss = (y * ht.array(w, comm=comm)).sum()
        loss.backward()
        assert all(x.grad.layout is x.layout and not x.grad.requires_grad for x in xs)
        return loss.item(), [whole(x.grad) for x in xs]

    for found, gradients in spmd(p, run):
        assert found == pytest.approx(value, rel=1e-12, abs=1e-12)
        for g, slope in zip(gradients, slopes, strict=True):
            np.testing.assert_allclose(g, slope.numpy(), rtol=1e-10, atol=1e-12)


UNARY = {
    "exp": (ht.exp, torch.exp, A),
    "log": (ht.log, torch.log, POSITIVE),
    "sqrt": (ht.sqrt, torch.sqrt, POSITIVE),
    "tanh": (ht.tanh, torch.tanh, A),
    "abs": (abs, torch.abs, A),
    "chain": (
        lambda x: ht.sin(x) * x + 3 / (x**2 + 1) - 2 * x,
        lambda x: x.sin() * x + 3 / (x**2 + 1) - 2 * x,
        A,
    ),
    "astype": (lambda x: x.astype(ht.float32).astype(ht.float64), lambda x: x.float().double(), A),
    "twice": (lambda x: x * x + x, lambda x: x * x + x, A),
    "clip": (lambda x: ht.clip(x, -0.5, 0.5), lambda x: x.clamp(-0.5, 0.5), A),
    "where": (lambda x: ht.where(x > 0, x, 0.1 * x), lambda x: torch.where(x > 0, x, 0.1 * x), A),
}
REDUCTIONS = {
    "sum": (lambda x: x.sum(), lambda x: x.sum()),
    "sum0": (lambda x: x.sum(axis=0), lambda x: x.sum(0)),
    "sum1": (lambda x: x.sum(axis=1, keepdims=True), lambda x: x.sum(1, keepdim=True)),
    "mean0": (lambda x: x.mean(axis=0), lambda x: x.mean(0)),
    "prod1": (lambda x: x.prod(axis=1), lambda x: x.prod(1)),
    "prod0": (lambda x: x.prod(axis=0), lambda x: x.prod(0)),
    "max0": (lambda x: x.max(axis=0), lambda x: x.amax(0)),
    "min": (lambda x: x.min(), lambda x: x.amin()),
    "std0": (lambda x: x.std(axis=0, ddof=1), lambda x: x.std(0)),
    "var": (lambda x: x.var(), lambda x: x.var(correction=0)),
    "norm": (lambda x: ht.sqrt((x * x).sum(axis=1)), lambda x: x.norm(dim=1)),
}
REARRANGING = {
    "resplit0": (lambda x: x.resplit(0), lambda x: x),
    "resplit1": (lambda x: x.resplit(1), lambda x: x),
    "whole": (lambda x: x.resplit(None), lambda x: x),
    "collect": (lambda x: ht.collect(x, 1), lambda x: x),
    "balance": (lambda x: ht.balance(x) * 1, lambda x: x),
    "T": (lambda x: x.T, lambda x: x.T),
    "reshape": (lambda x: x.reshape(2, 10), lambda x: x.reshape(2, 10)),
    "squeeze": (lambda x: ht.squeeze(x[None]), lambda x: x),
    "broadcast": (lambda x: ht.broadcast_to(x, (3, 5, 4)), lambda x: x.expand(3, 5, 4)),
    "row": (lambda x: x[3], lambda x: x[3]),
    "column": (lambda x: x[:, 1], lambda x: x[:, 1]),
    "slice": (lambda x: x[1:4:2, ::-1], lambda x: x[1:4:2].flip(1)),
    "backwards": (lambda x: x[::-1], lambda x: x.flip(0)),
    "list": (lambda x: x[[4, 0, 4, 2]], lambda x: x[[4, 0, 4, 2]]),
    "pairs": (lambda x: x[[0, 3, 0], [1, 2, 1]], lambda x: x[[0, 3, 0], [1, 2, 1]]),
    "mask": (lambda x: x[x > 0.1], lambda x: x[x > 0.1]),
    "take": (lambda x: ht.take(x, [2, 2, 1], axis=1), lambda x: x[:, [2, 2, 1]]),
    "iterate": (
        lambda x: sum(row * k for k, row in enumerate(x)),
        lambda x: sum(r * k for k, r in enumerate(x)),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize(
    "group", [UNARY, REDUCTIONS, REARRANGING], ids=["unary", "reductions", "rearranging"]
)
@pytest.mark.parametrize("p", [2, 3])
def test_one_operand(group, layout, p):
    for name, (ours, theirs, *values) in group.items():
        try:
            check(ours, theirs, values or [A], [(layout[0], counts_at(layout, p))], p)
        except Exception as error:
            error.add_note(f"case {name}")
            raise


BINARY = {
    "add": (lambda x, y: x + y, None),
    "mul": (lambda x, y: x * y, None),
    "div": (lambda x, y: x / y, None),
    "row": (lambda x, y: x * y[2], None),
    "total": (lambda x, y: x / y.sum(), None),
    "columns": (lambda x, y: x - y.mean(axis=0), lambda x, y: x - y.mean(0)),
    "concatenate0": (lambda x, y: ht.concatenate([x, y], axis=0), lambda x, y: torch.cat([x, y], 0)),
    "concatenate1": (lambda x, y: ht.concatenate([x, y, x], axis=1), lambda x, y: torch.cat([x, y, x], 1)),
    "stack": (lambda x, y: ht.stack([x, y], axis=1), lambda x, y: torch.stack([x, y], 1)),
    "where": (lambda x, y: ht.where(x > y, x, y), lambda x, y: torch.where(x > y, x, y)),
    "maximum": (lambda x, y: ht.maximum(x, y), torch.maximum),
    "set": (lambda x, y: assigned(x, y, lambda v: v * 1), lambda x, y: assigned(x, y, lambda v: v.clone())),
}


def assigned(x, y, copy):
    z = copy(x)
    z[1:3] = y[0:2] * 2
    z[0] = 1.0
    return z * x


@pytest.mark.parametrize("second", LAYOUTS, ids=str)
@pytest.mark.parametrize("first", LAYOUTS, ids=str)
def test_two_operands(first, second):
    p = 3
    layouts = [(layout[0], counts_at(layout, p)) for layout in (first, second)]
    for name, (ours, theirs) in BINARY.items():
        try:
            check(ours, theirs or ours, [A, B], layouts, p)
        except Exception as error:
            error.add_note(f"case {name}")
            raise


SMOOTH = {
    "product": (lambda x, y: (x * x * y).sum(), None),
    "exp of mean": (lambda x, y: ht.exp(x.mean(axis=0) * y).sum(), lambda x, y: (x.mean(0) * y).exp().sum()),
    "var": (
        lambda x, y: (x.var(axis=0) * y.sum(axis=0)).sum(),
        lambda x, y: (x.var(0, correction=0) * y.sum(0)).sum(),
    ),
    "resplit": (lambda x, y: (ht.tanh(x.resplit(1)) * y).sum(), lambda x, y: (x.tanh() * y).sum()),
    "row": (lambda x, y: (x[3] ** 3 * y).sum(), lambda x, y: (x[3] ** 3 * y).sum()),
    "list": (
        lambda x, y: (x[[4, 0, 4]] ** 3 * y[[0, 1, 2]]).sum(),
        lambda x, y: (x[[4, 0, 4]] ** 3 * y[[0, 1, 2]]).sum(),
    ),
    "concatenate": (
        lambda x, y: (ht.concatenate([x, y], axis=0) ** 3).sum(),
        lambda x, y: (torch.cat([x, y]) ** 3).sum(),
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivatives(name, layout):
    ours, theirs = SMOOTH[name]
    theirs = theirs or ours
    x, y = (torch.tensor(v, requires_grad=True) for v in (A, B))
    gx, gy = torch.autograd.grad(theirs(x, y), [x, y], create_graph=True)
    mixed = (gx**2).sum() + (gx * gy).sum()
    expected = torch.autograd.grad(mixed, [x, y])
    p = 3

    def run(comm):
        x = spread(A, layout[0], counts_at(layout, p), comm)
        y = spread(B, *((0, (1, 1, 3)) if layout[0] != 0 else (None, ())), comm)

        def curvature(x, y):
            gx, gy = ht.grad(ours, argnums=(0, 1))(x, y)
            return (gx**2).sum() + (gx * gy).sum()

        return [whole(g) for g in ht.grad(curvature, argnums=(0, 1))(x, y)]

    for found in spmd(p, run):
        for g, e in zip(found, expected, strict=True):
            np.testing.assert_allclose(g, e.numpy(), rtol=1e-9, atol=1e-10)


def test_third_derivative_and_aux():
    def run(comm):
        x = spread(A, 0, (2, 0, 3), comm)
        f = lambda x: (x**4).sum()  # noqa: E731
        third = ht.grad(lambda x: ht.grad(lambda x: ht.grad(f)(x).sum())(x).sum())(x)
        (value, aux), slope = ht.value_and_grad(lambda x: (f(x), "seen"), has_aux=True)(x)
        return whole(third), float(value), aux, whole(slope)

    for third, value, aux, slope in spmd(3, run):
        np.testing.assert_allclose(third, 24 * A, rtol=1e-12)
        assert value == pytest.approx((A**4).sum())
        assert aux == "seen"
        np.testing.assert_allclose(slope, 4 * A**3, rtol=1e-12)


def registry_cases():
    """Rows with one array argument that take float64 and are differentiated as they are written."""
    for name, row in ht.OPERATIONS.items():
        if (
            name == row.name
            and row.kind in ("elementwise", "reduction")
            and row.arity == 1
            and "f" in row.accepts
        ):
            yield name


@pytest.mark.parametrize("name", list(registry_cases()))
def test_every_row_against_differences(name):
    """Central differences of every elementwise operation of one operand and of every reduction, split unevenly."""
    function = ht.OPERATIONS[name].function
    values = np.linspace(0.15, 0.85, 8).reshape(4, 2) + np.sin(np.arange(8)).reshape(4, 2) / 50
    eps = 1e-6

    def loss(x, comm):
        y = function(x)
        ys = [
            v
            for v in (y if isinstance(y, tuple) else (y,))
            if isinstance(v, ht.DNDarray) and v.dtype.kind == "f"
        ]
        return sum((v * ht.array(weights(v.shape), comm=comm)).sum() for v in ys) if ys else None

    def run(comm):
        x = spread(values, 0, (3, 1), comm).requires_grad_()
        value = loss(x, comm)
        if value is None or not value.requires_grad:
            return None
        value.backward()
        slopes = np.empty_like(values)
        for at in np.ndindex(values.shape):
            ends = []
            for sign in (1, -1):
                moved = values.copy()
                moved[at] += sign * eps
                ends.append(loss(spread(moved, 0, (3, 1), comm), comm).item())
            slopes[at] = (ends[0] - ends[1]) / (2 * eps)
        return whole(x.grad), slopes

    def checked(comm):
        try:
            return run(comm)
        except (ht.GradientError, ValueError) as error:
            if "derivative" in str(error) or "differentiated" in str(error) or "recorded" in str(error):
                return None  # refused, and says so
            raise

    for result in spmd(2, checked):
        if result is not None:
            np.testing.assert_allclose(result[0], result[1], rtol=2e-4, atol=2e-6)


def test_what_has_no_derivative_says_so():
    def run(comm):
        x = spread(A, 0, (3, 2), comm).requires_grad_()
        texts = []
        for call in (
            lambda: ht.histogram(x),
            lambda: ht.unique(x),
            lambda: ht.unique_counts(x),
            lambda: ht.union1d(x, x),
            lambda: ht.quantile(x, 0.5, method="inverted_cdf", weights=ht.ones_like(x)),
            lambda: ht.quantile(A, x.sum() * 0 + 0.5),
            lambda: ht.floor_divide(x, 2.0).sum().backward(),
            lambda: ht.put(x, 0, 1.0),
        ):
            with pytest.raises(ht.GradientError) as caught:
                call()
            texts.append(str(caught.value))
        order, equal, zeros = ht.argsort(x, axis=0), ht.array_equal(x, x), ht.zeros_like(x)
        return texts, order.requires_grad, bool(equal), zeros.requires_grad

    for texts, order, equal, zeros in spmd(2, run):
        assert all("ht.no_grad()" in text for text in texts)
        assert (order, equal, zeros) == (False, True, False)


# -- cost -----------------------------------------------------------------------------------------------------------


COSTS = [
    # loss of (split x, replicated w, comm) -> calls of the backward pass besides the check
    ("sum", lambda x, w: (x * x).sum(), []),
    ("mean of axis", lambda x, w: x.mean(axis=0).sum(), []),
    ("resplit", lambda x, w: x.resplit(1).sum(), ["redistribute"]),
    ("gather", lambda x, w: x.resplit(None).sum(), []),
    ("row that all ranks use", lambda x, w: (x * w[0]).sum(), ["allreduce"]),
    ("replicated array of which each rank uses its rows", lambda x, w: (x * w).sum(), ["allgatherv"]),
    ("slice", lambda x, w: x[1:3].sum(), []),
]


@pytest.mark.parametrize(("name", "loss", "calls"), COSTS, ids=[c[0] for c in COSTS])
def test_messages_of_backward(name, loss, calls):
    def run(comm):
        x = spread(A, 0, (3, 2), comm).requires_grad_()
        w = spread(B, None, (), comm)
        w = w.requires_grad_() if calls in (["allreduce"], ["allgatherv"]) else w
        value = loss(x, w)
        with comm.trace() as t:
            value.backward()
        sent = [event for event in t.events if event.messages or event.op == "allreduce"]
        assert (sent[0].op, sent[0].bytes) == ("allreduce", 16)  # the ranks recorded the same
        return [event.op for event in sent[1:]]

    assert spmd(2, run) == [calls, calls]


def test_nothing_is_recorded_unless_asked():
    def run(comm):
        x = spread(A, 0, (3, 2), comm).requires_grad_()
        with ht.no_grad():
            y = x * 2
        z = x.detach() * 2
        with ht.no_grad():
            x -= 0.1
        return y.requires_grad, z.requires_grad, (x > 0).requires_grad, x.argmax().requires_grad, x.is_leaf

    assert spmd(2, run) == [(False, False, False, False, True)] * 2


def test_the_graph_is_freed():
    def run(comm):
        x = spread(A, 0, (3, 2), comm).requires_grad_()
        y = ht.exp(x.resplit(1))
        kept = weakref.ref(y._edge.node.rule)
        loss = y.sum()
        loss.backward(retain_graph=True)
        alive = kept() is not None
        loss.backward()
        gc.collect()
        freed = kept() is None
        with pytest.raises(ht.GradientError, match="retain_graph"):
            loss.backward()
        node = weakref.ref((x * 2)._edge.node.rule)
        gc.collect()
        return alive, freed, node() is None, whole(x.grad)

    for alive, freed, dropped, g in spmd(2, run):
        assert alive
        assert freed
        assert dropped
        np.testing.assert_allclose(g, 2 * np.exp(A))


# -- refusals -------------------------------------------------------------------------------------------------------


def test_refusals_are_the_same_on_all_ranks():
    def run(comm):
        x = spread(A, 0, (5, 0), comm).requires_grad_()
        texts = []
        for error, action in (
            (ht.GradientError, lambda: x.larray),
            (ht.GradientError, lambda: x.__iadd__(1)),
            (ht.GradientError, lambda: x.__setitem__(0, 1.0)),
            (ht.GradientError, lambda: (x * 1).requires_grad_(False)),
            (ht.GradientError, lambda: x.detach().sum().backward()),
            (ht.LayoutError, lambda: (x * 1).backward()),
            (ht.DTypeError, lambda: x.detach().astype(ht.int64).requires_grad_()),
            (ht.LayoutError, lambda: setattr(x, "grad", x.detach()[0])),
            (ht.GradientError, lambda: ht.grad(lambda z: z.detach().sum())(x)),
        ):
            with pytest.raises(error) as caught:
                action()
            texts.append(str(caught.value))
        return texts

    first, *rest = spmd(2, run)
    assert all(texts == first for texts in rest)


def test_ranks_that_recorded_different_operations_are_told():
    """A rank that does not reach a collective's result must not leave the others waiting."""

    def run(comm):
        x = spread(A, 0, (3, 2), comm).requires_grad_()
        moved = x.resplit(1).sum()
        loss = x.sum()
        loss = loss + moved if comm.rank == 0 else loss
        with pytest.raises(ht.CommError, match="same operations"):
            loss.backward()
        loss = (x * x).sum()
        with pytest.raises(ht.CommError, match="same operations"):
            (loss if comm.rank else loss.detach()).backward()
        return True

    assert spmd(2, run) == [True, True]


def test_unused_results_do_no_harm():
    def run(comm):
        x = spread(A, 0, (3, 2), comm).requires_grad_()
        moved = x.resplit(1)
        if comm.rank == 0:
            moved = moved * 3  # goes nowhere
        (x * x).sum().backward()
        return whole(x.grad)

    for g in spmd(2, run):
        np.testing.assert_allclose(g, 2 * A)


# -- leaves ---------------------------------------------------------------------------------------------------------


def test_leaves_accumulate_copy_and_pickle():
    import copy
    import pickle

    def run(comm):
        x = spread(A, 0, (3, 2), comm).requires_grad_()
        for _ in range(2):
            (x * x).sum().backward()
        twice = whole(x.grad)
        again = copy.deepcopy(x)
        loaded = pickle.loads(pickle.dumps(x))
        same = (
            again.requires_grad and again.is_leaf and loaded.requires_grad and whole(again.grad) is not None
        )
        x.zero_grad()
        return twice, same, x.grad is None, type(x) is tracking.TrackedArray

    for twice, same, cleared, tracked in spmd(2, run):
        np.testing.assert_allclose(twice, 4 * A)
        assert same
        assert cleared
        assert tracked


def test_results_change_in_place():
    """Operations in place on results are recorded like their twins, and leave what was recorded before alone."""

    def ours(x, y):
        z = x * y
        before = z * z
        z += y
        z *= x
        z.resplit_(1)
        z[1:3, 0] = 2.0
        total = ht.zeros_like(z)
        total += z
        return before.resplit(1) + ht.exp(total)

    def theirs(x, y):
        z = (x * y + y) * x
        mask = torch.ones_like(z)
        mask[1:3, 0] = 0
        return (x * y) ** 2 + torch.exp(z * mask + 2 * (1 - mask))

    check(ours, theirs, [A, B], [(0, (3, 0, 2)), (None, ())], 3)


def test_complex_gradients_follow_torch():
    z = A + 1j * B
    check(
        lambda x: ht.real(x * ht.conj(x) * x) + ht.imag(ht.exp(x)),
        lambda x: (x * x.conj() * x).real + torch.exp(x).imag,
        [z],
        [(0, (1, 4))],
        2,
    )


@pytest.mark.mpi
def test_training_on_real_ranks(comm):
    """A regression by elementwise operations and reductions alone, as torch does it."""
    data, target = RNG.normal(size=(23, 3)), RNG.normal(size=23)
    x, y = ht.array(data, split=0, comm=comm), ht.array(target, split=0, comm=comm)
    w = ht.zeros(3, dtype=ht.float64, comm=comm).requires_grad_()
    tx, ty, tw = (
        torch.tensor(data),
        torch.tensor(target),
        torch.zeros(3, dtype=torch.float64, requires_grad=True),
    )
    for _ in range(20):
        loss = (((x * w).sum(axis=1) - y) ** 2).mean()
        loss.backward()
        other = (((tx * tw).sum(1) - ty) ** 2).mean()
        other.backward()
        assert loss.item() == pytest.approx(other.item(), rel=1e-10)
        with ht.no_grad(), torch.no_grad():
            w -= 0.1 * w.grad
            tw -= 0.1 * tw.grad
        w.grad = tw.grad = None
