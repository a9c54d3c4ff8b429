"""What products send, beside a list of all one-axis algorithms that is written here anew; what they hold."""

import itertools

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.layout import Layout
from ht_linalg import matmul
from ht_linalg.matmul_plan import MESSAGE_BYTES, SMALL_RESULT, plan_matmul
from torch.utils._python_dispatch import TorchDispatchMode

P = range(2, 9)
#: (m, k, n): square, long, wide, inner, outer, layers of a network, a stack of any of them.
SHAPES = [
    (2000, 2000, 2000),
    (10**6, 64, 64),
    (64, 64, 10**6),
    (64, 10**6, 64),
    (30_000, 8, 30_000),
    (10**5, 500, 300),
    (300, 500, 10**5),
    (2000, 10**5, 400),
]
#: Kind of each axis of a stack of matrices: shared batch axis, rows, contracted axis, columns.
AXES_A, AXES_B, AXES_C = tuple("GAK"), tuple("GKB"), tuple("GAB")


def move(source, target, size, p):
    """Bytes that all ranks together send to bring an array of `size` bytes from one cut to another."""
    if source is None or source == target:
        return 0
    return (p - 1) * size if target is None else (p - 1) / p * size


def cheapest(a, b, out, sizes, p, stacked=False):
    """Bytes all ranks send in the cheapest algorithm that cuts one axis: `a`, `b`, `out` are kinds or None.

    Operands are resplit or sent round, products are formed in a cut of one kind, and resplit; or partial sums are
    summed where they belong (for a result that all ranks keep: summed and sent round).
    """
    size_a, size_b, size_c = sizes
    ways = [move(a, "K", size_a, p) + move(b, "K", size_b, p) + (p - 1) * size_c * (2 if out is None else 1)]
    for made in (None, *(AXES_C if stacked else AXES_C[1:])):
        ways.append(
            move(a, made if made in AXES_A else None, size_a, p)
            + move(b, made if made in AXES_B else None, size_b, p)
            + move(made, out, size_c, p)
        )
    return min(ways)


def sent_by(plan):
    """Bytes that all ranks send: a gather and an allreduce as what they move, not as what a rank hands over."""
    p = plan.p
    allreduce = plan.rule.kernel == "allreduce"
    total = (plan.cost() - MESSAGE_BYTES * plan.steps(0)) * p
    return total + ((p - 2) * plan.out.size * plan.itemsizes[2] if allreduce else 0)


def kinds(layouts, stacked):
    tables = (AXES_A, AXES_B, AXES_C)
    return [
        None if x.split is None else table[x.split + (0 if stacked else 1)]
        for x, table in zip(layouts, tables)
    ]


@pytest.mark.parametrize("p", P)
@pytest.mark.parametrize("stacked", [False, True])
def test_no_one_axis_algorithm_sends_less(p, stacked):
    """All pairs of splits, also of stacks; transposes are pairs of splits, too."""
    batch = (840,) if stacked else ()
    splits = (None, *range(len(batch) + 2))
    for m, k, n in SHAPES:
        for sa, sb in itertools.product(splits, repeat=2):
            la, lb = Layout.even((*batch, m, k), sa, p), Layout.even((*batch, k, n), sb, p)
            plan = plan_matmul(la, lb, p)
            sizes = [8 * x.size for x in (la, lb, plan.out)]
            bound = cheapest(*kinds((la, lb, plan.out), stacked), sizes, p, stacked)
            assert sent_by(plan) <= 1.1 * bound, (m, k, n, sa, sb, plan)
            if (sa, sb) != (None, None) and plan.out.size > SMALL_RESULT:
                assert plan.out.split is not None
                assert plan.made.split is not None


@pytest.mark.parametrize("p", P)
def test_vectors_send_no_more_than_needed(p):
    n, few = 10**6, 64
    for a, b in (((n,), (n,)), ((few, n), (n,)), ((n, few), (few,)), ((n,), (n, few)), ((few,), (few, n))):
        for sa, sb in itertools.product((None, *range(len(a))), (None, *range(len(b)))):
            la, lb = Layout.even(a, sa, p), Layout.even(b, sb, p)
            plan = plan_matmul(la, lb, p)
            sizes = [8 * x.size for x in (la, lb, plan.out)]
            bound = cheapest(*kinds((plan.a_from, plan.b_from, plan.out), False), sizes, p)
            assert sent_by(plan) <= 1.1 * bound, (a, b, sa, sb, plan)


class Largest(TorchDispatchMode):
    """Notes the largest memory behind any tensor that an operation returns."""

    def __init__(self):
        super().__init__()
        self.nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(x, torch.Tensor):
                self.nbytes = max(self.nbytes, x.untyped_storage().nbytes())
        return result


def traced(event, p):
    """Bytes that a call moves, per rank: a gather sends a rank's part to all others."""
    return event.bytes * {"allgather": p - 1, "allgatherv": p - 1}.get(event.op, 1)


@pytest.mark.parametrize("p", P)
def test_what_is_sent_and_held(p):
    """The trace of real products, of matrices and of transposed ones; no rank ever holds a whole result."""
    m, k, n = 600, 480, 560
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    expected, sizes = a @ b, [8 * m * k, 8 * k * n, 8 * m * n]

    def run(comm):
        found = []
        for sa, sb, turned in itertools.product((None, 0, 1), (None, 0, 1), (False, True)):
            if (sa, sb) == (None, None):
                continue
            if turned:
                x = ht.array(a.T.copy(), split=None if sa is None else 1 - sa).T
                y = ht.array(b.T.copy(), split=None if sb is None else 1 - sb).T
            else:
                x, y = ht.array(a, split=sa), ht.array(b, split=sb)
            assert (x.split, y.split) == (sa, sb)
            with comm.trace() as sent, Largest() as held:
                c = matmul(x, y)
            np.testing.assert_allclose(
                c.numpy() if c.split is None else c.larray.numpy(),
                expected[c.layout.slices(comm.rank)],
                rtol=0,
                atol=1e-10,
            )
            assert held.nbytes < sizes[2], (sa, sb)
            found.append(
                (
                    kinds((x.layout, y.layout, c.layout), False),
                    sum(traced(e, p) for e in sent.events),
                    len(sent.events),
                )
            )
        return found

    for rows in zip(*spmd(p, run)):
        bound = cheapest(*rows[0][0], sizes, p)
        steps = sum(count for _, _, count in rows)
        assert sum(nbytes for _, nbytes, _ in rows) <= 1.1 * bound + MESSAGE_BYTES * steps


@pytest.mark.parametrize("p", P)
def test_columns_times_rows_move_partial_sums_only(p):
    """X cut by columns times W cut by rows: neither operand moves, each sum leaves a rank p - 1 times in parts."""
    rows, inner, columns = 4096, 720, 72  # dealing the rows of X instead would move more, at any p here

    def run(comm):
        x, w = ht.ones((rows, inner), split=1), ht.ones((inner, columns), split=0)
        with comm.trace() as sent:
            c = matmul(x, w)
        assert c.split == 0
        assert float(c.larray.min()) == float(c.larray.max()) == inner
        assert {event.op for event in sent.events} <= {"isend", "irecv"}
        return sent.bytes

    itemsize = ht.ones(1).itemsize
    assert sum(spmd(p, run)) == (p - 1) * rows * columns * itemsize


def test_a_product_formed_in_another_cut():
    """Long and narrow, cut by columns, times small: rows are dealt, multiplied, and the columns dealt back."""
    p, shape_a, shape_b = 4, (8000, 900), (900, 800)
    plan = plan_matmul(Layout.even((10**6, 900), 1, p), Layout.even((900, 800), 1, p), p)
    assert (plan.out.split, plan.made.split) == (1, 0)
    assert plan_matmul(Layout.even(shape_a, 1, 2), Layout.even(shape_b, 1, 2), 2).made.split == 1

    def run(comm):
        x = ht.array(np.arange(shape_a[0] * 1.0)[:, None] * np.ones(shape_a[1]), split=1, dtype="float32")
        w = ht.ones(shape_b, split=1, dtype="float32")
        assert plan_matmul(x.layout, w.layout, p, (4, 4, 4)).made.split == 0
        with comm.trace() as sent:
            c = matmul(x, w)
        out = ht.zeros(c.shape, split=1, dtype="float32")
        assert matmul(x, w, out=out) is out
        assert sent.bytes == plan_matmul(x.layout, w.layout, p, (4, 4, 4)).bytes(comm.rank)
        for product in (c, out):
            assert product.split == 1
            expected = np.arange(shape_a[0] * 1.0)[:, None] * np.full(product.lshape[1], shape_a[1])
            np.testing.assert_allclose(product.larray.numpy(), expected, rtol=1e-5)

    spmd(p, run)
