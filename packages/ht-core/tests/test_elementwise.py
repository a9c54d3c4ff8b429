"""Elementwise operations: what goes beyond the registry's property tests (test_operations.py).

Out, where and dtype arguments, in-place twins, options of single functions, comparisons of whole arrays.
"""

import itertools
import math
import operator

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.engines.choosing import choose
from ht_core.testing import layouts, make_values, spread, whole
from hypothesis import given, settings
from hypothesis import strategies as st

ROWS = {n: r for n, r in ht.OPERATIONS.items() if n == r.name and r.kind == "elementwise" and r.numpy}
FEW = settings(max_examples=15, deadline=None, derandomize=True)
WIDE = ["uint16", "uint32", "uint64"]


def in_layouts(data, *values, p):
    """Return a function that spreads `values` over ranks, in drawn layouts."""
    drawn = [data.draw(layouts(v.shape, p)) for v in values]
    return lambda comm: [spread(v, *layout, comm) for v, layout in zip(values, drawn)]


@pytest.mark.parametrize("name", ["add", "multiply", "maximum", "divide", "less", "hypot", "bitwise_xor"])
@FEW
@given(data=st.data())
def test_out_and_where_of_binary_operations(name, data):
    p = data.draw(st.integers(1, 5))
    shape = data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=3).map(tuple))
    dtype = "int32" if name == "bitwise_xor" else data.draw(st.sampled_from(["int32", "float64"]))
    a, b = make_values(dtype, shape, 1), make_values(dtype, shape[1:], 2)
    mask = make_values("bool", shape, 3)
    function = getattr(np, name)
    with np.errstate(all="ignore"):
        kind = function(a, b).dtype
        expected = make_values(kind.name, shape, 4)
        before = expected.copy()
        function(a, b, out=expected, where=mask)
    place = in_layouts(data, a, b, mask, before, p=p)

    def run(comm):
        x, y, m, out = place(comm)
        result = getattr(ht, name)(x, y, out, where=m)
        assert result is out
        return whole(out)

    for result in spmd(p, run):
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("name", ["sqrt", "negative", "abs", "sin", "square", "floor", "isfinite", "conj"])
@FEW
@given(data=st.data())
def test_out_of_unary_operations(name, data):
    p = data.draw(st.integers(1, 5))
    shape = data.draw(st.lists(st.integers(0, 4), max_size=3).map(tuple))
    a = np.abs(make_values("float32", shape, 1))
    expected = getattr(np, name)(a)
    place = in_layouts(data, a, np.zeros_like(expected), p=p)

    def run(comm):
        x, out = place(comm)
        assert getattr(ht, name)(x, out=out) is out
        return whole(out)

    for result in spmd(p, run):
        np.testing.assert_allclose(result, expected, rtol=1e-6)
        assert result.dtype == expected.dtype


def test_out_may_overlap_an_operand():
    values = np.arange(8.0)
    whole_array = ht.array(values)
    ht.add(whole_array[:-1], whole_array[1:], out=whole_array[1:])
    expected = values.copy()
    expected[1:] = values[:-1] + values[1:]
    np.testing.assert_array_equal(whole_array.numpy(), expected)


@pytest.mark.parametrize("p", [1, 3])
def test_dtype_argument(p):
    values = np.arange(1, 6, dtype="int32")

    def run(comm):
        x = ht.array(values, split=0)
        wide = ht.add(x, x, dtype="float64")
        assert wide.dtype is ht.float64
        assert ht.sqrt(x, dtype=ht.float32).dtype is ht.float32
        with pytest.raises(ht.DTypeError, match="dtype must be"):
            ht.add(wide, x, dtype="int32")
        with pytest.raises(ht.DTypeError, match="dtype must be"):
            ht.sqrt(x, dtype="int64")
        return whole(wide)

    for result in spmd(p, run):
        np.testing.assert_array_equal(result, np.add(values, values, dtype="float64"))


TWINS = [n for n, r in ROWS.items() if hasattr(ht.DNDarray, f"{n}_") and r.arity in (1, 2)]


@pytest.mark.parametrize("name", TWINS)
def test_inplace_twins(name):
    row = ROWS[name]
    dtype = "int32" if "f" not in row.accepts else "float64"
    a, b = (np.abs(make_values(dtype, (7,), s)) + 1 for s in (1, 2))
    operands = (a, b)[: row.arity]
    if name == "ldexp":
        operands = (a, b.astype("int32"))
    with np.errstate(all="ignore"):
        expected = getattr(np, row.numpy)(*operands)
    if expected.dtype != a.dtype:
        return

    def run(comm):
        x, *others = (ht.array(v, split=0) for v in operands)
        part = x.larray
        result = getattr(x, f"{name}_")(*others)
        assert result is x
        assert x.larray is part
        return whole(x)

    for result in spmd(3, run):
        np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_inplace_twins_are_heats():
    names = (
        [
            "add",
            "sub",
            "subtract",
            "mul",
            "multiply",
            "div",
            "divide",
            "floordiv",
            "floor_divide",
            "fmod",
            "mod",
        ]
        + [
            "remainder",
            "pow",
            "power",
            "gcd",
            "lcm",
            "hypot",
            "copysign",
            "neg",
            "negative",
            "invert",
            "bitwise_not",
        ]
        + [
            "bitwise_and",
            "bitwise_or",
            "bitwise_xor",
            "left_shift",
            "right_shift",
            "nan_to_num",
            "sqrt",
            "clip",
        ]
    )
    assert [n for n in names if not hasattr(ht.DNDarray, f"{n}_")] == []
    with pytest.raises(ht.DTypeError, match="out must be able to hold"):
        ht.arange(3).sqrt_()


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize(
    "name",
    [n for n, r in ROWS.items() if "u" in r.accepts and r.arity in (1, 2) and n not in ("clip", "ldexp")],
)
def test_unsigned_integers_wider_than_a_byte(name, dtype):
    row = ROWS[name]
    top = np.iinfo(dtype).max
    values = np.array([0, 1, 2, 3, 200, top // 2, top // 2 + 1, top - 1, top], dtype=dtype)
    operands = [values] if row.arity == 1 else [v.ravel() for v in np.meshgrid(values, values)]
    if name in ("pow", "float_power") or "shift" in name:
        operands[1] = operands[1] % np.array(7, dtype=dtype)
    with np.errstate(all="ignore"):
        expected = getattr(np, row.numpy)(*operands)
    for results in spmd(2, lambda comm: row.function(*(ht.array(v, split=0) for v in operands))):
        for result, wanted in zip(*((v if isinstance(v, tuple) else (v,)) for v in (results, expected))):
            assert result.dtype.numpy == wanted.dtype
            part = wanted[result.layout.slices(result.comm.rank)]
            np.testing.assert_allclose(
                result.larray.numpy(), part, rtol=1e-3 if wanted.dtype == "float16" else 1e-6
            )


@pytest.mark.parametrize("dtype", ["int32", "float32", "float64"])
def test_ldexp_takes_exponents_of_their_own(dtype):
    mantissas = np.array([0, 1, -3, 5], dtype=dtype)
    exponents = np.array([-3, 0, 4, 70], dtype="int32")
    expected = np.ldexp(mantissas, exponents)
    for result in spmd(
        3, lambda c: whole(ht.ldexp(ht.array(mantissas, split=0), ht.array(exponents, split=0)))
    ):
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)
    small = ht.ldexp(ht.array([1.5e300, 5e-324]), ht.array([-2000, 2000]))
    np.testing.assert_array_equal(small.numpy(), np.ldexp([1.5e300, 5e-324], [-2000, 2000]))
    with pytest.raises(ht.DTypeError, match="integer"):
        ht.ldexp(ht.ones(3), ht.ones(3))


@pytest.mark.parametrize("decimals", [-2, -1, 0, 1, 3])
@pytest.mark.parametrize("dtype", ["int16", "int64", "uint8", "uint32", "float32", "float64", "complex128"])
def test_round(decimals, dtype):
    values = np.array([0, 15, 25, 35, 149, 150, 250]).astype(dtype)
    if np.dtype(dtype).kind in "fc":
        values = np.array([-2.5, -0.45, 0.5, 1.25, 1234.5675, np.inf]).astype(dtype)
    expected = np.round(values, decimals)
    for result in spmd(2, lambda comm: whole(ht.round(ht.array(values, split=0), decimals))):
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)
    if np.dtype(dtype).kind == "f":
        np.testing.assert_array_equal(round(ht.array(values), decimals).numpy(), expected)


def test_nan_to_num():
    values = np.array([1.0, np.nan, np.inf, -np.inf])
    x = ht.array(values, split=0)
    np.testing.assert_array_equal(ht.nan_to_num(x).numpy(), np.nan_to_num(values))
    options = {"nan": 2.0, "posinf": 3.0, "neginf": -4.0}
    np.testing.assert_array_equal(ht.nan_to_num(x, **options).numpy(), np.nan_to_num(values, **options))
    z = values + 1j * values[::-1]
    np.testing.assert_array_equal(ht.nan_to_num(ht.array(z), **options).numpy(), np.nan_to_num(z, **options))
    assert ht.nan_to_num(x, copy=False) is x
    np.testing.assert_array_equal(x.numpy(), np.nan_to_num(values))


@pytest.mark.parametrize("low", [None, 1, 2.5, -7, "array"])
@pytest.mark.parametrize("high", [None, 3, 0, 400, "array"])
def test_clip(low, high):
    values = np.arange(-4, 6).reshape(2, 5)
    lows, highs = np.arange(-2, 3), np.arange(1, 6)
    a, b = (lows if low == "array" else low), (highs if high == "array" else high)
    for dtype in ("int64", "float32"):
        before = values.astype(dtype)
        if a is None and b is None:
            expected = before
        else:
            expected = np.clip(before, a, b)

        def run(comm, before=before):
            x = ht.array(before, split=1)
            bounds = (ht.array(v, split=0) if isinstance(v, np.ndarray) else v for v in (a, b))
            with comm.trace() as sent:
                y = ht.clip(x, *bounds)
            assert sent.calls == 0
            return whole(y)

        for result in spmd(3, run):
            assert result.dtype == expected.dtype
            np.testing.assert_array_equal(result, expected)


def test_clip_keeps_integers_where_bounds_are_beyond_them():
    x = ht.array([0, 100, 255], dtype="uint8", split=0)
    np.testing.assert_array_equal(x.clip(-5, 300).numpy(), [0, 100, 255])
    np.testing.assert_array_equal(ht.clip(x, a_min=20).numpy(), [20, 100, 255])
    with pytest.raises(ht.DTypeError, match="once"):
        ht.clip(x, 1, a_min=2)


@pytest.mark.parametrize("dtype", ["int8", "int64", "uint64", "float32", "complex128", "bool"])
def test_isclose(dtype):
    a = make_values(dtype, (40,), 1)
    b = make_values(dtype, (40,), 2)
    for options in ({}, {"rtol": 0.3}, {"atol": 1.1}):
        expected = np.isclose(a, b, **options) if dtype != "bool" else np.isclose(a * 1.0, b * 1.0, **options)
        result = ht.isclose(ht.array(a, split=0), ht.array(b), **options)
        np.testing.assert_array_equal(result.numpy(), expected)
    specials = np.array([np.nan, np.inf, -np.inf, 1.0])
    for (x, y), equal_nan in itertools.product(itertools.product(specials, specials), (True, False)):
        ours = ht.isclose(ht.array(x), ht.array(y), equal_nan=equal_nan).item()
        assert ours == np.isclose(x, y, equal_nan=equal_nan)


@pytest.mark.parametrize("p", [1, 2, 4])
def test_comparisons_of_whole_arrays(p):
    values = np.arange(12.0).reshape(4, 3)
    other = values.copy()
    other[3, 2] += 1

    def run(comm):
        x, y, z = (ht.array(v, split=s) for v, s in ((values, 0), (values, 1), (other, 0)))
        with comm.trace() as sent:
            assert ht.array_equal(x, x)
            assert not ht.array_equal(x, z)
            assert ht.allclose(x, z, atol=1) is True
            assert x.allclose(z) is False
        assert sent.calls <= 4
        assert ht.array_equal(x, y)
        with comm.trace() as sent:
            assert not ht.array_equal(x, values[:2])
            assert not ht.array_equiv(x, values[:, :2])
        assert sent.calls == 0
        assert ht.array_equiv(ht.ones((4, 3), split=0), [1, 1, 1])
        nans = ht.full(5, ht.nan, split=0)
        assert not ht.array_equal(nans, nans)
        assert ht.array_equal(nans, nans, equal_nan=True)

    spmd(p, run)


@pytest.mark.parametrize("p", [1, 3])
def test_complex_numbers(p):
    values = np.array([1 + 2j, -3 - 0.5j, 0, 4j])

    def run(comm):
        z = ht.array(values, split=0)
        np.testing.assert_array_equal(whole(z.real), values.real)
        np.testing.assert_array_equal(whole(ht.imag(z)), values.imag)
        np.testing.assert_array_equal(whole(ht.imag(ht.arange(3, split=0))), [0, 0, 0])
        np.testing.assert_allclose(whole(ht.angle(z, deg=True)), np.angle(values, deg=True), rtol=1e-14)
        np.testing.assert_array_equal(whole(z.conj().imag), values.conj().imag)
        assert ht.real_if_close(z) is z
        near = ht.array(values.real + 1e-15j, split=0)
        with comm.trace() as sent:
            real = ht.real_if_close(near)
        assert sent.calls == (comm.size > 1)
        assert real.dtype is ht.float64
        assert ht.real_if_close(real) is real
        assert ht.iscomplexobj(z)
        assert ht.isrealobj(real)

    spmd(p, run)


def test_complex_special_values_keep_their_gradient():
    x = torch.tensor([1 + 1j, complex(np.inf, 0)], dtype=torch.complex128, requires_grad=True)
    y = ht.sqrt(ht.array(x, copy=False))
    assert np.isinf(y.numpy()[1].real)


@pytest.mark.parametrize("p", [1, 3])
@pytest.mark.parametrize("b", [np.array([2, -3, 4]), 3, 2.5])
def test_divmod_and_its_operators(p, b):
    a = np.array([7, -7, 8])

    def run(comm):
        x = ht.array(a, split=0)
        y = ht.array(b, split=0) if isinstance(b, np.ndarray) else b
        pairs = [divmod(x, y), ht.divmod(x, y), divmod(y, x), divmod(a, x)]
        out = [ht.zeros_like(pairs[0][0]), ht.zeros_like(pairs[0][1])]
        assert ht.divmod(x, y, out=tuple(out))[1] is out[1]
        return [[whole(v) for v in pair] for pair in [*pairs, out]]

    expected = [divmod(a, b), divmod(a, b), divmod(b, a), divmod(a, a), divmod(a, b)]
    for results in spmd(p, run):
        for result, wanted in zip(results, expected):
            for r, w in zip(result, wanted):
                np.testing.assert_array_equal(r, w)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64"])
def test_least_integer_divided_by_minus_one_does_not_trap(dtype):
    least = np.iinfo(dtype).min
    x, y = ht.array([least, 7, 7], dtype=dtype), ht.array([-1, -1, 0], dtype=dtype)
    np.testing.assert_array_equal((x // y).numpy(), np.array([least, -7, 0], dtype=dtype))
    np.testing.assert_array_equal((x % y).numpy(), [0, 0, 0])
    np.testing.assert_array_equal(ht.fmod(x, y).numpy(), [0, 0, 0])
    np.testing.assert_array_equal((x // -1).numpy(), np.array([least, -7, -7], dtype=dtype))
    np.testing.assert_array_equal(ht.gcd(x, ht.array([12, 7, 0], dtype=dtype)).numpy(), [4, 7, 7])


@pytest.mark.parametrize(
    "function",
    [
        operator.add,
        operator.sub,
        operator.mul,
        operator.truediv,
        operator.floordiv,
        operator.mod,
        operator.pow,
    ],
)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_numbers_meet_16_bits_in_16_bits(function, dtype):
    x = ht.arange(1, 5, dtype=dtype, split=0)
    for result in (function(x, 0.1), function(0.1, x)):
        assert result.dtype.name == dtype
    tenth = ht.full((), 0.1, dtype=dtype)
    np.testing.assert_array_equal(function(x, 0.1).numpy(), function(x, tenth).numpy())


VALUES_16 = [0.0, -0.0, 0.5, 1.0, 1.5, 2.0, 3.0, -1.0, -2.5, 10.0, math.inf, -math.inf, math.nan]
OF_THE_DTYPE = {"copysign", "float_power", "ldexp", "nan_to_num", "nextafter", "signbit", "spacing"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    "name", [n for n, r in ROWS.items() if "f" in r.accepts and r.arity in (1, 2) and n not in OF_THE_DTYPE]
)
def test_16_bits_follow_32_bits(name, dtype):
    row, v = ROWS[name], torch.tensor(VALUES_16)
    operands = [v] if row.arity == 1 else [m.ravel() for m in torch.meshgrid(v, v, indexing="ij")]
    short = row.function(*(ht.array(o).astype(dtype) for o in operands))
    long = row.function(*(ht.array(o) for o in operands))
    top = ht.finfo(dtype).max
    for x, y in zip(*(r if isinstance(r, tuple) else (r,) for r in (short, long))):
        assert x.dtype.name == (dtype if y.dtype is ht.float32 else y.dtype.name)
        a, b = x.larray.double(), y.larray.double()
        b = torch.where(b.abs() > top, torch.copysign(torch.tensor(math.inf, dtype=b.dtype), b), b)
        torch.testing.assert_close(a, b, rtol=0.03, atol=0.02, equal_nan=True)


def test_functions_take_what_numpy_takes():
    np.testing.assert_array_equal(ht.add([1, 2], [3, 4]).numpy(), [4, 6])
    np.testing.assert_array_equal(ht.maximum(ht.arange(3.0), 1.5).numpy(), [1.5, 1.5, 2])
    assert ht.sqrt(4).item() == 2
    assert ht.add(np.float32(1), 2).dtype is ht.float32
    with pytest.raises(ht.DTypeError, match="numbers"):
        ht.add(ht.ones(2), "x")
    with pytest.raises(ht.LayoutError, match="broadcast"):
        ht.add(ht.ones(2), ht.ones(3))
    with pytest.raises(ht.DTypeError, match="out must be"):
        ht.add(ht.ones(2), 1, out=np.ones(2))
    with pytest.raises(ht.DTypeError, match="pair"):
        ht.modf(ht.ones(2), out=(ht.ones(2),))


def test_the_operand_with_fewer_elements_moves():
    def run(comm):
        large = spread(np.ones((40, 6)), 0, (30, 0, 10), comm)
        for small in (
            spread(np.arange(6.0), 0, (1, 4, 1), comm),
            spread(np.ones((1, 6)), 1, (6, 0, 0), comm),
        ):
            for y in (lambda: large + small, lambda: small + large):  # noqa: B023
                with comm.trace() as sent:
                    found = y()
                assert found.layout is large.layout
                assert sent.bytes <= 2 * 6 * 8
                np.testing.assert_array_equal(whole(found), 1 + whole(small) + np.zeros((40, 6)))

    spmd(3, run)


@pytest.mark.mpi
def test_elementwise_chain_on_real_ranks(comm):
    values = np.linspace(-2, 2, 31)
    x = ht.array(values, split=0, comm=comm)
    with comm.trace() as sent:
        y = ht.clip(ht.sin(x) * 2 + ht.heaviside(x, 0.5), -1, 1.5)
        y.add_(1).sqrt_()
        whole_part, rest = ht.modf(y)[1], ht.modf(y)[0]
    assert sent.calls == 0
    expected = np.sqrt(np.clip(np.sin(values) * 2 + np.heaviside(values, 0.5), -1, 1.5) + 1)
    np.testing.assert_allclose(whole(y), expected, rtol=1e-14)
    np.testing.assert_allclose(whole(whole_part + rest), expected, rtol=1e-14)
    assert math.isclose(expected[-1], whole(y)[-1])


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "float16", "int8", "int64", "bool", "complex64", "complex128"]
)
@pytest.mark.parametrize("branches", ["both", "number", "numbers", "row"])
def test_where_of_more_than_a_tile_has_the_bits_of_numpy(dtype, branches):
    rng = np.random.default_rng(2)
    condition = rng.random((1100, 64)) > 0.5
    x, y = ((rng.standard_normal(condition.shape) * 40).astype(dtype) for _ in range(2))
    if np.dtype(dtype).kind in "fc":
        x[~condition], y[condition] = np.nan, np.inf  # nothing of the branch not taken
    x = x[0, 0] if branches == "numbers" else x
    y = {"both": y, "row": y[0]}.get(branches, y[1, 1])
    expected = np.where(condition, x, y)

    def run(comm):
        a, b = (ht.array(v, split=0 if v.ndim == 2 else None) for v in (x, y))
        return whole(ht.where(ht.array(condition, split=0), a, b))

    for p in (1, 2):
        for result in spmd(p, run):
            assert result.dtype == expected.dtype
            np.testing.assert_array_equal(result.view("uint8"), expected.view("uint8"))


def test_where_of_more_than_a_tile_is_differentiated_and_mapped():
    x = ht.linspace(-1, 1, 70_000, split=0).requires_grad_()
    ht.where(x > 0, x * x, 0.0).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.where(x.numpy() > 0, 2 * x.numpy(), 0))
    rows = ht.arange(140_000.0).reshape((2, 70_000))
    found = ht.vmap(lambda row: choose(row > 5, row, row.new_zeros(())))(rows)
    np.testing.assert_array_equal(found.numpy(), np.where(rows.numpy() > 5, rows.numpy(), 0))


@pytest.mark.parametrize(
    "dtype", ["int8", "int32", "int64", "uint16", "float16", "float32", "complex64", "bool"]
)
@pytest.mark.parametrize("number", [True, 3, 0.5, float("nan")])
def test_where_with_numbers_promotes_as_numpy(dtype, number):
    values = np.array([[1, 0, 5], [0, 7, 1]]).astype(dtype)
    condition = np.array([[True, False, True], [False, False, True]])
    expected = np.where(condition, values, number)

    def run(comm):
        x, c = ht.array(values, split=1, comm=comm), ht.array(condition, split=1, comm=comm)
        assert whole(ht.where(c, x, x)).tolist() == values.tolist()
        return whole(ht.where(c, x, number))

    for result in spmd(2, run):
        assert result.dtype == expected.dtype
        np.testing.assert_array_equal(result, expected)
