"""Products of every pair of layouts against NumPy; their messages against their plans."""

import itertools

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.layout import Layout
from ht_core.testing import layouts, make_values, spread, whole
from ht_linalg import matmul
from ht_linalg.matmul import accumulate_outer, execute
from ht_linalg.matmul_plan import RULES, SMALL_RESULT, plan_matmul
from hypothesis import given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=60, deadline=None, derandomize=True)
EXTENTS = st.integers(0, 5)
NUMPY_DTYPES = [d.name for d in ht.DTYPES.values() if d.numpy is not None]


def uneven(extent, p):
    """Counts with an empty first rank, the rest as it comes."""
    edges = [0, 0, *(extent * (i + 1) * (i + 1) // (p * p) for i in range(1, p - 1)), extent]
    return tuple(b - a for a, b in itertools.pairwise(edges))[:p] if p > 1 else (extent,)


def run_product(a, la, b, lb, p):
    def run(comm):
        x, y = spread(a, *la, comm), spread(b, *lb, comm)
        plan = plan_matmul(x.layout, y.layout, p, (x.itemsize, y.itemsize, sums_itemsize(x, y)))
        with comm.trace() as sent:
            c = matmul(x, y)
        assert c.layout is plan.result
        assert sent.bytes == plan.bytes(comm.rank), plan
        if 0 not in a.shape + b.shape:
            assert steps(sent) == plan.steps(comm.rank), plan
        np.testing.assert_array_equal(whole(x), a)
        np.testing.assert_array_equal(whole(y), b)
        return whole(c)

    return spmd(p, run)


def steps(sent):
    """Collectives and messages sent: all events except the receives."""
    return sum(event.op != "irecv" for event in sent.events)


def sums_itemsize(x, y):
    dtype = ht.promote_types(x.dtype, y.dtype)
    return {"bool": 4, "float16": 4, "uint16": 8, "uint32": 8}.get(dtype.name, dtype.itemsize)


@st.composite
def operand_shapes(draw):
    """Shapes of two operands that fit: vectors, matrices, stacks that broadcast."""
    m, k, n = draw(EXTENTS), draw(EXTENTS), draw(EXTENTS)
    if draw(st.integers(0, 3)) == 0:
        a = (k,) if draw(st.booleans()) else (m, k)
        return a, (k,) if draw(st.booleans()) or len(a) > 1 else (k, n)
    batch = draw(st.lists(st.integers(1, 3), max_size=2).map(tuple))
    shapes = []
    for tail in ((m, k), (k, n)):
        mine = tuple(1 if draw(st.integers(0, 3)) == 0 else e for e in batch)
        shapes.append(mine[draw(st.integers(0, len(batch))) :] + tail)
    return tuple(shapes)


@FEW
@given(data=st.data())
def test_any_pair_of_layouts(data):
    p = data.draw(st.integers(1, 4))
    shape_a, shape_b = data.draw(operand_shapes())
    dtype_a, dtype_b = data.draw(st.sampled_from(NUMPY_DTYPES)), data.draw(st.sampled_from(NUMPY_DTYPES))
    a, b = make_values(dtype_a, shape_a, 1), make_values(dtype_b, shape_b, 2)
    la, lb = data.draw(layouts(shape_a, p)), data.draw(layouts(shape_b, p))
    expected = np.matmul(a, b)
    for result in run_product(a, la, b, lb, p):
        assert result.shape == expected.shape
        assert result.dtype == expected.dtype
        # the values are small multiples of 1/4: every sum is exact
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("p", [2, 3, 4])
@pytest.mark.parametrize(
    "shapes", [(7, 300, 11), (600, 5, 700), (600, 300, 600), (2, 9, 1000), (1, 3, 2**18 + 1)]
)
def test_matrices(p, shapes):
    """Sizes at which every way is the cheapest for some pair of splits."""
    rng = np.random.default_rng(0)
    m, k, n = shapes
    a, b = rng.standard_normal((m, k)), rng.standard_normal((k, n))
    expected = a @ b
    for sa in (None, 0, 1):
        for sb in (None, 0, 1):
            la = (sa, () if sa is None else uneven(a.shape[sa], p))
            lb = (sb, () if sb is None else Layout.even(b.shape, sb, p).counts)
            for result in run_product(a, la, b, lb, p):
                np.testing.assert_allclose(result, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("p", [1, 2, 3, 4])
def test_every_rule_and_its_bytes(p):
    """Each row of the table, on layouts that force it, whatever the prices say."""
    shapes = {"A": 0, "K": 1, "G": 0}, {"K": 0, "B": 1, "G": 0}
    for rule in RULES:
        stacked = "G" in (rule.a, rule.b, rule.out)
        a = np.arange(3 * 4 * 5.0).reshape((3, 4, 5)) if stacked else np.arange(20.0).reshape(4, 5)
        b = np.arange(3 * 5 * 2.0).reshape((3, 5, 2)) if stacked else np.arange(10.0).reshape(5, 2)
        shift = int(stacked)
        axes = [
            None if kind is None else table[kind] + (shift if kind != "G" else 0)
            for kind, table in zip((rule.a, rule.b), shapes)
        ]
        split_out = {"A": shift, "B": 1 + shift, "G": 0, None: None}[rule.out]

        def run(comm, a=a, b=b, axes=axes, split_out=split_out, rule=rule):
            la, lb = (Layout.even(x.shape, s, p) for x, s in zip((a, b), axes))
            out = Layout.even((*a.shape[:-1], b.shape[-1]), split_out, p)
            plan = plan_matmul(la, lb, p)
            plan = type(plan)(rule, la, lb, la, lb, out, out, out, (8, 8, 8), p)
            x, y = spread(a, la.split, la.counts, comm), spread(b, lb.split, lb.counts, comm)
            with comm.trace() as sent:
                c = execute(plan, x.larray, y.larray, torch.float64, comm)
            assert p == 1 or (sent.bytes, steps(sent)) == (plan.bytes(comm.rank), plan.steps(comm.rank))
            np.testing.assert_array_equal(c.numpy(), (a @ b)[out.slices(comm.rank)])

        spmd(p, run)


def test_declared_splits():
    """The split of the result depends on layouts only."""
    p = 4

    def split(sa, sb, m=100, k=100, n=100):
        return plan_matmul(Layout.even((m, k), sa, p), Layout.even((k, n), sb, p), p).result.split

    assert [split(None, None), split(0, None), split(None, 1), split(0, 0), split(1, 1)] == [None, 0, 1, 0, 1]
    assert [split(1, 0), split(None, 0), split(1, None)] == [None, None, None]
    large = {"m": 1000, "n": SMALL_RESULT // 1000 + 1}
    assert [split(1, 0, **large), split(None, 0, **large), split(1, None, **large)] == [0, 0, 0]
    assert split(1, 0, m=2, n=SMALL_RESULT) == 1
    assert [split(0, 1, n=10), split(0, 1, m=10)] == [0, 1]


def test_cheapest_way():
    """The operand that costs less moves: here 10 x n @ n x d never moves the n x d one."""
    p, n, d = 4, 10**6, 64
    plan = plan_matmul(Layout.even((10, n), 0, p), Layout.even((n, d), 0, p), p)
    assert max(plan.bytes(r) for r in range(p)) <= 8 * (10 * n / p + 10 * d)
    forward = plan_matmul(Layout.even((n, d), 0, p), Layout.even((d, 10), 0, p), p)
    assert (forward.rule.kernel, forward.steps(0)) == ("local", 1)
    features = plan_matmul(Layout.even((n, d), 1, p), Layout.even((d, 10), 0, p), p)
    assert features.rule.kernel == "ring_sum"
    square = plan_matmul(Layout.even((4000, 4000), 0, p), Layout.even((4000, 4000), 0, p), p)
    assert square.rule.kernel == "ring_b"
    assert square.bytes(0) == 8 * 3 * 4000 * 1000


def test_more_ranks_than_rows_and_empty_operands():
    for shape_a, shape_b in (((2, 3), (3, 1)), ((0, 3), (3, 2)), ((2, 0), (0, 3)), ((2, 3), (3, 0))):
        a, b = make_values("float64", shape_a, 0), make_values("float64", shape_b, 1)
        for sa in (None, 0, 1):
            for sb in (None, 0, 1):
                la, lb = Layout.even(shape_a, sa, 5), Layout.even(shape_b, sb, 5)
                for result in run_product(a, (sa, la.counts), b, (sb, lb.counts), 5):
                    np.testing.assert_array_equal(result, a @ b)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_sums_are_float32(dtype):
    def run(comm):
        x = ht.ones((2, 4096), dtype=dtype, split=1)
        return matmul(x, ht.ones((4096, 2), dtype=dtype, split=0)).larray.float()

    for result in spmd(3, run):
        assert (result == 4096).all()


def test_outer_products_of_integers():
    """The kernel of devices without integer products."""
    for shape_a, shape_b in (((4, 3), (3, 5)), ((2, 4, 3), (2, 3, 1)), ((2, 1, 4, 0), (3, 0, 2))):
        x, y = (
            torch.from_numpy(make_values("int64", s, i)) + 2**61 for i, s in enumerate((shape_a, shape_b))
        )
        c = torch.full((x @ y).shape, 7)
        accumulate_outer(c, x, y, first=True)
        assert torch.equal(c, x @ y)
        accumulate_outer(c, x, y, first=False)
        assert torch.equal(c, 2 * (x @ y))


def test_operator_and_out():
    def run(comm):
        x = ht.array(np.arange(12.0).reshape(4, 3), split=0)
        w = ht.array(np.arange(6.0).reshape(3, 2))
        out = ht.zeros((4, 2), split=0)
        memory = out.larray.data_ptr()
        assert matmul(x, w, out=out) is out
        assert out.larray.data_ptr() == memory
        np.testing.assert_array_equal(whole(out), whole(x @ w))
        np.testing.assert_array_equal(whole(w.T @ x.T), whole(out).T)
        with pytest.raises(ht.LayoutError, match="matmul: out must have the layout"):
            matmul(x, w, out=ht.zeros((4, 2)))
        with pytest.raises(ht.DTypeError, match="matmul: out must have dtype"):
            matmul(x, w, out=ht.zeros((4, 2), split=0, dtype="float32"))

    spmd(3, run)


@pytest.mark.parametrize(
    ("a", "b", "text"),
    [
        ((2, 3), (2, 3), "b must have extent 3 along axis -2"),
        ((3,), (2,), "b must have extent 3 along axis -1"),
        ((2, 2, 3), (3, 3, 2), "the batch axes of a and b must broadcast"),
        ((), (2,), "a must have at least one axis"),
    ],
)
def test_shapes_that_do_not_fit(a, b, text):
    def run(comm):
        x, y = ht.zeros(a, split=0 if a else None), ht.zeros(b, split=0)
        with comm.trace() as sent, pytest.raises(ht.LayoutError, match=text):
            matmul(x, y)
        assert sent.calls == 0

    spmd(2, run)


@pytest.mark.mpi
def test_products_over_mpi(comm):
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((700, 60)), rng.standard_normal((60, 500))
    for sa in (None, 0, 1):
        for sb in (None, 0, 1):
            c = ht.array(a, split=sa) @ ht.array(b, split=sb)
            np.testing.assert_allclose(whole(c), a @ b, rtol=0, atol=1e-11)


def test_numpy_operands_on_either_side():
    a, b = np.arange(8.0).reshape(4, 2), np.arange(6.0).reshape(2, 3)

    def run(comm):
        return (
            whole(a @ ht.array(b, split=1)),
            whole(ht.array(a, split=0) @ b),
            whole(np.matmul(a, ht.array(b))),
        )

    for products in spmd(2, run):
        for product in products:
            np.testing.assert_array_equal(product, a @ b)
