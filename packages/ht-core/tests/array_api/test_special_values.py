"""Array API 2025.12: special cases, that is signed zeros, infinities and NaN, real and complex.

NumPy satisfies them; its results on all combinations of special values are what ours must equal, signs of zeros too.
"""

import inspect

import array_api_strict as strict
import ht_core as ht
import numpy as np
import pytest
from array_api_strict import _elementwise_functions
from ht_comm import spmd
from ht_core.testing import whole

REAL = [0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 10.0, np.pi / 2, np.pi, 1e4, np.inf]
REAL = np.array([*REAL, *(-v for v in REAL), np.nan])
COMPLEX = np.array([complex(a, b) for a in REAL for b in REAL])
INTEGERS = [0, 1, 2, 3, 5, 7, 31, 63, 100, 127]

NAMES = sorted(
    n
    for n, f in vars(_elementwise_functions).items()
    if n in strict.__all__ and f.__module__ == _elementwise_functions.__name__ and n != "clip"
)
UNARY, BINARY = [], []
for _name in NAMES:
    _places = [
        p
        for p in inspect.signature(getattr(strict, _name)).parameters.values()
        if p.kind is p.POSITIONAL_ONLY
    ]
    (UNARY if len(_places) == 1 else BINARY).append(_name)
OLD_NAMES = {
    "acos": "arccos",
    "acosh": "arccosh",
    "asin": "arcsin",
    "asinh": "arcsinh",
    "atan": "arctan",
    "atan2": "arctan2",
    "atanh": "arctanh",
    "bitwise_invert": "invert",
    "bitwise_left_shift": "left_shift",
    "bitwise_right_shift": "right_shift",
    "pow": "power",
}
#: The text has no complex special cases for powers, and is silent about the sign of a zero that wins over another.
UNSPECIFIED = {("pow", "c")}
EITHER_ZERO = {"maximum", "minimum"}


def values_of(dtype):
    kind = np.dtype(dtype).kind
    if kind == "b":
        return np.array([False, True])
    if kind == "c":
        return COMPLEX.astype(dtype)
    if kind == "f":
        return REAL.astype(dtype)
    limits = np.iinfo(dtype)
    found = [*INTEGERS, *(-v for v in INTEGERS), limits.max, limits.max - 1, limits.min, limits.min + 1]
    return np.array([v for v in found if limits.min <= v <= limits.max], dtype=dtype)


def agree(result, expected, name):
    """Tell where two arrays are equal to a few units in the last place, with the same signs of zeros and infinities."""
    if expected.dtype.kind not in "fc":
        return result == expected
    if expected.dtype.kind == "c":
        finite = np.isfinite(result) & np.isfinite(expected)
        near = np.abs(result - expected) <= 64 * np.finfo(expected.dtype).eps * np.abs(expected)
        zero = (expected == 0) & (np.abs(result) < 1e-30)
        parts = agree(result.real, expected.real, name) & agree(result.imag, expected.imag, name)
        return np.where(finite, near | zero, parts)
    same = (result == expected) | (np.isnan(result) & np.isnan(expected))
    same |= np.abs(result - expected) <= 64 * np.finfo(expected.dtype).eps * np.abs(expected)
    both_zero = (result == 0) & (expected == 0)
    if name not in EITHER_ZERO:
        same &= ~both_zero | (np.signbit(result) == np.signbit(expected))
    return same & (np.isinf(result) == np.isinf(expected))


def check(name, *operands):
    function = getattr(ht, name)
    with np.errstate(all="ignore"):
        expected = getattr(np, OLD_NAMES.get(name, name))(*operands)

        def run(comm, split):
            return whole(function(*(ht.array(x, split=split) for x in operands)))

        for p, split in ((1, None), (3, 0)):
            for result in spmd(p, run, split):
                assert result.dtype == expected.dtype
                fine = agree(result, expected, name)
                wrong = np.flatnonzero(~fine)[:3]
                got = [(tuple(x[i] for x in operands), result[i], expected[i]) for i in wrong]
                assert fine.all(), f"{name} of {got[0][0]} must be {got[0][2]}, got {got[0][1]}"


def accepts(name, *dtypes):
    kinds = {np.dtype(d).kind for d in dtypes}
    if any((name, k) in UNSPECIFIED for k in kinds):
        return False
    try:
        with np.errstate(all="ignore"):
            getattr(strict, name)(*(strict.ones((1,), dtype=getattr(strict, d)) for d in dtypes))
    except TypeError:
        return False
    return True


DTYPES = [
    "bool",
    "int8",
    "int64",
    "uint8",
    "uint16",
    "uint64",
    "float32",
    "float64",
    "complex64",
    "complex128",
]


@pytest.mark.parametrize("name", UNARY)
def test_unary(name):
    done = 0
    for dtype in DTYPES:
        if accepts(name, dtype):
            check(name, values_of(dtype))
            done += 1
    assert done


@pytest.mark.parametrize("name", BINARY)
def test_binary(name):
    done = 0
    for dtype in DTYPES:
        if not accepts(name, dtype, dtype):
            continue
        values = values_of(dtype)
        values = values[::11] if values.dtype.kind == "c" else values
        x, y = (a.ravel() for a in np.meshgrid(values, values))
        if name == "pow" and x.dtype.kind in "iu":
            x, y = x[y >= 0], y[y >= 0]
        if "shift" in name:
            x, y = x[(y >= 0)], y[(y >= 0)]
        check(name, x, y)
        done += 1
    assert done


@pytest.mark.parametrize("dtype", ["int32", "uint32", "float32", "float64"])
def test_clip(dtype):
    values = values_of(dtype)
    limits = [None, *values[:: max(len(values) // 7, 1)].tolist()]

    for low in limits:
        for high in limits:
            if low is None and high is None:
                continue
            expected = np.clip(values, low, high)
            for result in spmd(
                2, lambda comm, a=low, b=high: whole(ht.clip(ht.array(values, split=0), a, b))
            ):
                np.testing.assert_array_equal(result, expected)
                assert result.dtype == expected.dtype


def test_zeros_of_any_sign_have_the_sign_of_zero():
    zeros = np.array([complex(a, b) for a in (0.0, -0.0) for b in (0.0, -0.0)])
    for result in spmd(2, lambda comm: whole(ht.sign(ht.array(zeros, split=0)))):
        assert not np.signbit(result.real).any()
        assert not np.signbit(result.imag).any()
        np.testing.assert_array_equal(result, 0)


#: Finite results where NumPy's own overflow, or lose what is small beside 1.
BETTER_THAN_NUMPY = {("pow", "c"), ("sign", "c"), ("log1p", "c"), ("acos", "c")}


@pytest.mark.parametrize("name", UNARY + BINARY)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64", "complex128"])
def test_extreme_values(name, dtype):
    arity = 1 if name in UNARY else 2
    if not accepts(name, *[dtype] * arity) or (name, np.dtype(dtype).kind) in BETTER_THAN_NUMPY:
        return
    info = np.finfo(dtype)
    top, least, eps = float(info.max), float(info.tiny), float(info.eps)
    values = [
        0.0,
        0.3,
        20.0,
        720.0,
        top,
        top / 2,
        top**0.5,
        top**0.25,
        least,
        least**0.5,
        eps,
        eps**0.5,
        1 / eps,
    ]
    values = np.array(values + [-v for v in values])
    if np.dtype(dtype).kind == "c":
        values = (values[:, None] + 1j * values).ravel()
    values = values.astype(dtype)[:: 7 if arity == 2 and "complex" in dtype else 1]
    operands = (values,) if arity == 1 else [v.ravel() for v in np.meshgrid(values, values)]
    with np.errstate(all="ignore"):
        expected = getattr(np, OLD_NAMES.get(name, name))(*operands)
        result = getattr(ht, name)(*map(ht.array, operands)).numpy()
        near = np.abs(result * 0.5 - expected * 0.5) <= 1e-3 * np.abs(expected * 0.5) + 100 * least
        finite = np.isfinite(result) & np.isfinite(expected)
        if expected.dtype.kind == "c":
            same = agree(result.real, expected.real, name) & agree(result.imag, expected.imag, name)
        else:
            same = (result == expected) | (np.isnan(result) & np.isnan(expected))
    fine = np.where(finite, near, same)
    wrong = np.flatnonzero(~fine)[:3]
    assert fine.all(), [(tuple(x[i] for x in operands), result[i], expected[i]) for i in wrong]
