"""Array API 2025.12: every function against array-api-strict on drawn arguments, in every mode of distribution.

One rank, three ranks replicated, two and three ranks with every array split along its first and along its last axis.
"""

import importlib.util

import array_api_strict as strict
import ht_core as ht
import numpy as np
import pytest
from ht_core.testing import in_every_mode, make_values
from hypothesis import assume, given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=12, deadline=None, derandomize=True)
HAS_LINALG = importlib.util.find_spec("ht_linalg") is not None

INTEGRAL = ["int8", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
REAL = [*INTEGRAL, "float32", "float64"]
NUMERIC = [*REAL, "complex64", "complex128"]
ALL = ["bool", *NUMERIC]
FLOATING = ["float32", "float64", "complex64", "complex128"]


def shapes(least=0, most=3, side=5):
    return st.lists(st.integers(0, side), min_size=least, max_size=most).map(tuple)


@st.composite
def arrays(draw, dtypes=ALL, shape=None):
    shape = draw(shapes() if shape is None else shape if hasattr(shape, "map") else st.just(shape))
    return make_values(draw(st.sampled_from(dtypes)), shape, draw(st.integers(0, 99)))


def axis_of(draw, ndim, none=False, several=False):
    """Draw an axis of an array of `ndim` axes, or several, or None."""
    choices = [st.integers(-ndim, ndim - 1)] if ndim else []
    if none or not ndim:
        choices.append(st.none())
    if several and ndim > 1:
        choices.append(st.permutations(range(ndim)).map(lambda a: tuple(a[:2])))
    return draw(st.one_of(choices))


def to_strict(value):
    if isinstance(value, np.ndarray):
        return strict.asarray(value)
    if isinstance(value, str):
        return getattr(strict, value)
    return [to_strict(v) for v in value] if isinstance(value, list) else value


def from_strict(value):
    if isinstance(value, (tuple, list)):
        return [from_strict(v) for v in value]
    return np.asarray(value._array) if hasattr(value, "_array") else value


def dtypes_of(options, namespace):
    return {
        k: getattr(namespace, v) if k == "dtype" and isinstance(v, str) else v for k, v in options.items()
    }


def close(result, expected):
    if isinstance(expected, list):
        assert len(result) == len(expected)
        for r, e in zip(result, expected):
            close(r, e)
    elif not isinstance(expected, np.ndarray):
        assert result == expected
    else:
        result = np.asarray(result)
        assert result.dtype == expected.dtype
        assert result.shape == expected.shape
        if expected.dtype.kind in "fc":
            eps = np.finfo(expected.dtype).eps
            with np.errstate(all="ignore"):
                np.testing.assert_allclose(result, expected, rtol=256 * eps, atol=256 * eps)
        else:
            np.testing.assert_array_equal(result, expected)


def compare(name, operands, options, extension=None):
    """Check a function on `operands`, of which arrays and lists of arrays are distributed, against array-api-strict."""
    ours, theirs = (getattr(n, extension) if extension else n for n in (ht, strict))
    with np.errstate(all="ignore"):
        try:
            expected = from_strict(
                getattr(theirs, name)(*(to_strict(o) for o in operands), **dtypes_of(options, strict))
            )
        except (TypeError, ValueError, IndexError, np.exceptions.AxisError):
            assume(False)  # the standard leaves it open
    flat = [a for o in operands for a in (o if isinstance(o, list) else [o]) if isinstance(a, np.ndarray)]

    def call(*given):
        given = iter(given)

        def place(value):
            if isinstance(value, list):
                return [place(v) for v in value]
            return next(given) if isinstance(value, np.ndarray) else value

        return getattr(ours, name)(*map(place, operands), **dtypes_of(options, ht))

    for _, result in in_every_mode(call, *flat):
        close(result, expected)


# -- one strategy for each function: operands and keyword arguments -------------------------------------------


def unary(dtypes=ALL):
    return lambda draw: ([draw(arrays(dtypes))], {})


def binary(dtypes=ALL):
    def drawn(draw):
        shape = draw(shapes())
        shapes_ = [tuple(1 if draw(st.integers(0, 4)) == 0 else n for n in shape) for _ in range(2)]
        values = [draw(arrays(dtypes, s)) for s in shapes_]
        if draw(st.integers(0, 3)) == 0:
            kind = values[0].dtype.kind
            scalar = {"b": True, "i": 2, "u": 2, "f": 1.5, "c": 1.5j}[kind]
            values[draw(st.integers(0, 1))] = scalar
            values = values if any(isinstance(v, np.ndarray) for v in values) else [values[0], values[0]]
        return values, {}

    return drawn


def reduction(dtypes, typed=False, more=None):
    def drawn(draw):
        x = draw(arrays(dtypes))
        options = {"axis": axis_of(draw, x.ndim, none=True, several=True), "keepdims": draw(st.booleans())}
        if typed and draw(st.booleans()):
            options["dtype"] = {"b": "int64", "i": "int64", "u": "uint64", "f": "float64", "c": "complex128"}[
                x.dtype.kind
            ]
        return [x], {**options, **({} if more is None else more(draw))}

    return drawn


def index_reduction(draw):
    x = draw(arrays(REAL))
    axis = draw(st.sampled_from([None, *range(-x.ndim, x.ndim)]))
    return [x], {"axis": axis, "keepdims": draw(st.booleans())}


def with_axis(dtypes=ALL, none=False, several=False, name="axis", more=None):
    def drawn(draw):
        x = draw(arrays(dtypes, shapes(1)))
        return [x], {name: axis_of(draw, x.ndim, none, several), **({} if more is None else more(draw, x))}

    return drawn


def scan(draw):
    x = draw(arrays(NUMERIC, shapes(1)))
    return [x], {"axis": draw(st.integers(-x.ndim, x.ndim - 1)), "include_initial": draw(st.booleans())}


def sequence_of_equals(draw):
    shape = draw(shapes(1))
    return [[draw(arrays(ALL, shape)) for _ in range(draw(st.integers(1, 3)))]]


def joined(draw):
    (parts,) = sequence_of_equals(draw)
    axis = draw(st.sampled_from([None, *range(-parts[0].ndim, parts[0].ndim)]))
    if axis is not None and draw(st.booleans()):
        shape = list(parts[0].shape)
        shape[axis] = draw(st.integers(0, 4))
        parts.append(draw(arrays([parts[0].dtype.name], tuple(shape))))
    return [parts], {"axis": axis}


def stacked(draw):
    (parts,) = sequence_of_equals(draw)
    return [parts], {"axis": draw(st.integers(-parts[0].ndim - 1, parts[0].ndim))}


def reshaped(draw):
    x = draw(arrays())
    factors = [n for n in x.shape if n > 1]
    target = draw(st.permutations(factors))
    if 0 in x.shape:
        return [x, (0, 3)], {}
    if len(target) > 1 and draw(st.booleans()):
        target = [target[0] * target[1], *target[2:]]
    if target and draw(st.booleans()):
        target[draw(st.integers(0, len(target) - 1))] = -1
    return [x, tuple(target)], {"copy": draw(st.sampled_from([None, True]))}


def permuted(draw):
    x = draw(arrays())
    return [x, tuple(draw(st.permutations(range(x.ndim))))], {}


def rolled(draw):
    x = draw(arrays())
    axis = axis_of(draw, x.ndim, none=True, several=True)
    shift = draw(st.integers(-7, 7))
    return [x, (shift, shift + 1) if isinstance(axis, tuple) else shift], {"axis": axis}


def squeezed(draw):
    shape = tuple(draw(st.lists(st.sampled_from([1, 1, 3]), min_size=1, max_size=4)))
    ones = [a for a, n in enumerate(shape) if n == 1]
    x = draw(arrays(ALL, shape))
    return [x, draw(st.sampled_from([*ones, tuple(ones)]))], {}


def expanded(draw):
    x = draw(arrays())
    return [x], {"axis": draw(st.integers(-x.ndim - 1, x.ndim))}


def broadcast(draw):
    x = draw(arrays(ALL, st.lists(st.sampled_from([1, 1, 3]), max_size=3).map(tuple)))
    front = draw(shapes(0, 1))
    return [x, (*front, *(n if n > 1 else draw(st.integers(0, 4)) for n in x.shape))], {}


def broadcast_many(draw):
    shape = draw(shapes(1))
    return [draw(arrays(ALL, tuple(1 if draw(st.booleans()) else n for n in shape))) for _ in range(3)], {}


def moved(draw):
    x = draw(arrays(ALL, shapes(1)))
    return [x, draw(st.integers(-x.ndim, x.ndim - 1)), draw(st.integers(-x.ndim, x.ndim - 1))], {}


def repeated(draw):
    x = draw(arrays(ALL, shapes(1)))
    axis = draw(st.sampled_from([None, *range(-x.ndim, x.ndim)]))
    n = x.size if axis is None else x.shape[axis]
    repeats = (
        draw(st.integers(0, 3)) if draw(st.booleans()) else make_values("uint8", (n,), 3).astype("int64")
    )
    return [x, repeats], {"axis": axis}


def tiled(draw):
    return [draw(arrays()), tuple(draw(st.lists(st.integers(0, 3), min_size=1, max_size=3)))], {}


def taken(draw):
    x = draw(arrays(ALL, shapes(1)))
    axis = draw(st.integers(-x.ndim, x.ndim - 1))
    n = x.shape[axis]
    places = draw(st.lists(st.integers(-n, n - 1), max_size=6)) if n else []
    return [x, np.array(places, dtype="int64")], {"axis": axis}


def taken_along(draw):
    x = draw(arrays(ALL, st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)))
    axis = draw(st.integers(-x.ndim, x.ndim - 1))
    shape = list(x.shape)
    shape[axis] = draw(st.integers(0, 4))
    n = x.shape[axis]
    return [x, np.random.default_rng(5).integers(-n, n, size=shape)], {"axis": axis}


def cast(draw):
    return [draw(arrays(REAL)), "complex64" if draw(st.booleans()) else "int32"], {}


def searched(draw):
    edges = np.sort(draw(arrays(["int32", "float64"], shapes(1, 1, 8))))
    return [edges, draw(arrays([edges.dtype.name]))], {"side": draw(st.sampled_from(["left", "right"]))}


def ordered(draw, x=None):
    x = draw(arrays(REAL, shapes(1)))
    return [x], {"axis": draw(st.integers(-x.ndim, x.ndim - 1)), "descending": draw(st.booleans())}


def chosen(draw):
    shape = draw(shapes())
    condition = draw(arrays(["bool"], shape))
    return [condition, draw(arrays(ALL, shape)), draw(arrays(ALL, tuple(1 for _ in shape)))], {}


def differences(draw):
    x = draw(arrays(NUMERIC, shapes(1)))
    return [x], {"axis": draw(st.integers(-x.ndim, x.ndim - 1)), "n": draw(st.integers(1, 2))}


def triangle(draw):
    return [draw(arrays(ALL, shapes(2)))], {"k": draw(st.integers(-3, 3))}


def membership(draw):
    kind = draw(st.sampled_from(INTEGRAL))
    return [draw(arrays([kind])), draw(arrays([kind], (draw(st.integers(0, 8)),)))], {}


def unstacked(draw):
    x = draw(arrays(ALL, shapes(1)))
    return [x], {"axis": draw(st.integers(-x.ndim, x.ndim - 1))}


def rounded_power(draw):
    (x, y), options = binary(NUMERIC)(draw)
    return [x, abs(y) if not isinstance(y, complex) else y], options


def filled_like(draw):
    x = draw(arrays())
    value = {"b": True, "i": 3, "u": 3, "f": 2.5, "c": 1j}[x.dtype.kind]
    return [x, value], {}


def made(*arguments, **options):
    return lambda draw: (list(arguments), options)


def contracted(draw):
    n = draw(st.integers(0, 4))
    left, right = (draw(st.lists(st.integers(0, 4), max_size=2)) for _ in range(2))
    kind = draw(st.sampled_from(NUMERIC))
    return [draw(arrays([kind], (*left, n))), draw(arrays([kind], (n, *right)))], {"axes": 1}


def multiplied(draw):
    a, b, c = (draw(st.integers(0, 5)) for _ in range(3))
    kind = draw(st.sampled_from(NUMERIC))
    left, right = draw(
        st.sampled_from([((a, b), (b, c)), ((b,), (b, c)), ((a, b), (b,)), ((2, a, b), (b, c))])
    )
    return [draw(arrays([kind], left)), draw(arrays([kind], right))], {}


def vectors(draw):
    shape = draw(shapes(1))
    kind = draw(st.sampled_from(NUMERIC))
    return [draw(arrays([kind], shape)) for _ in range(2)], {"axis": -1}


_CORRECTION = reduction(
    ["float32", "float64"], more=lambda draw: {"correction": draw(st.sampled_from([0, 1, 0.5]))}
)

FUNCTIONS = {
    "all": reduction(ALL),
    "any": reduction(ALL),
    "arange": made(3, 20, 4),
    "argmax": index_reduction,
    "argmin": index_reduction,
    "argsort": ordered,
    "astype": cast,
    "broadcast_arrays": broadcast_many,
    "broadcast_shapes": made((3, 1), (1, 4), (2, 1, 1)),
    "broadcast_to": broadcast,
    "clip": lambda draw: ([draw(arrays(REAL)), 1, 3], {}),
    "concat": joined,
    "count_nonzero": reduction(ALL),
    "cumulative_prod": scan,
    "cumulative_sum": scan,
    "diff": differences,
    "expand_dims": expanded,
    "eye": made(4, 5, k=1, dtype="int32"),
    "flip": with_axis(none=True, several=True),
    "full": made((3, 4), 2.5),
    "full_like": filled_like,
    "isin": membership,
    "linspace": made(-1, 3, 7),
    "matrix_transpose": lambda draw: ([draw(arrays(ALL, shapes(2)))], {}),
    "max": reduction(REAL),
    "mean": reduction(FLOATING),
    "meshgrid": lambda draw: (
        [draw(arrays(["float64"], (draw(st.integers(0, 4)),))) for _ in range(3)],
        {"indexing": draw(st.sampled_from(["xy", "ij"]))},
    ),
    "min": reduction(REAL),
    "moveaxis": moved,
    "nonzero": lambda draw: ([draw(arrays(ALL, shapes(1)))], {}),
    "ones": made((3, 2), dtype="float32"),
    "ones_like": unary(),
    "permute_dims": permuted,
    "pow": rounded_power,
    "prod": reduction(NUMERIC, typed=True),
    "repeat": repeated,
    "reshape": reshaped,
    "roll": rolled,
    "searchsorted": searched,
    "sort": ordered,
    "squeeze": squeezed,
    "stack": stacked,
    "std": _CORRECTION,
    "sum": reduction(NUMERIC, typed=True),
    "take": taken,
    "take_along_axis": taken_along,
    "tile": tiled,
    "tril": triangle,
    "triu": triangle,
    "unique_values": unary(),
    "unstack": unstacked,
    "var": _CORRECTION,
    "where": chosen,
    "zeros": made((2, 0, 3)),
    "zeros_like": unary(),
}
BITS = ["bool", *INTEGRAL]
REAL_FLOATING = ["float32", "float64"]
UNARY = {
    (*ALL,): [
        "abs",
        "isfinite",
        "isinf",
        "isnan",
        "negative",
        "positive",
        "round",
        "sign",
        "square",
        "trunc",
    ],
    (*BITS,): ["bitwise_invert"],
    (*REAL,): ["ceil", "floor", "signbit"],
    (*FLOATING,): [
        *[
            "acos",
            "acosh",
            "asin",
            "asinh",
            "atan",
            "atanh",
            "conj",
            "cos",
            "cosh",
            "exp",
            "expm1",
            "imag",
            "log",
        ],
        *["log1p", "log2", "log10", "reciprocal", "sin", "sinh", "real", "sqrt", "tan", "tanh"],
    ],
    ("bool",): ["logical_not"],
}
BINARY = {
    (*ALL,): ["equal", "not_equal"],
    (*NUMERIC,): ["add", "multiply", "subtract"],
    (*REAL,): [
        *["floor_divide", "greater", "greater_equal", "less", "less_equal", "maximum", "minimum", "remainder"]
    ],
    (*FLOATING,): ["divide"],
    (*REAL_FLOATING,): ["atan2", "copysign", "hypot", "logaddexp", "nextafter"],
    (*BITS,): ["bitwise_and", "bitwise_or", "bitwise_xor"],
    ("bool",): ["logical_and", "logical_or", "logical_xor"],
}
FUNCTIONS |= {name: unary(dtypes) for dtypes, names in UNARY.items() for name in names}
FUNCTIONS |= {name: binary(dtypes) for dtypes, names in BINARY.items() for name in names}
FUNCTIONS |= {
    name: lambda draw: ([draw(arrays(INTEGRAL, (4, 3))), draw(arrays(["uint8"], (3,))).astype("uint8")], {})
    for name in ("bitwise_left_shift", "bitwise_right_shift")
}
if HAS_LINALG:
    FUNCTIONS |= {
        "matmul": multiplied,
        "tensordot": lambda draw: (*contracted(draw)[:1], {"axes": 1}),
        "vecdot": vectors,
    }

#: Have tests of their own below or in the other files of this folder.
ELSEWHERE = {
    *[
        "asarray",
        "can_cast",
        "empty",
        "empty_like",
        "finfo",
        "from_dlpack",
        "iinfo",
        "isdtype",
        "result_type",
    ],
    *["unique_all", "unique_counts", "unique_inverse"],
}


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
@FEW
@given(data=st.data())
def test_function(name, data):
    compare(name, *FUNCTIONS[name](data.draw))


def test_no_function_is_forgotten():
    import inspect

    names = {n for n in strict.__all__ if inspect.isfunction(getattr(strict, n)) and not n.startswith("__")}
    names -= {n for n in names if "flags" in n}
    higher = set() if HAS_LINALG else ht.upper_layers.names()
    assert names - set(FUNCTIONS) - ELSEWHERE - higher == set()


@FEW
@given(data=st.data())
def test_unique_functions(data):
    x = data.draw(arrays(REAL))
    expected = from_strict(strict.unique_all(strict.asarray(x)))

    def call(y):
        everything, counts, inverse = ht.unique_all(y), ht.unique_counts(y), ht.unique_inverse(y)
        assert everything._fields == ("values", "indices", "inverse_indices", "counts")
        assert counts._fields == ("values", "counts")
        assert inverse._fields == ("values", "inverse_indices")
        return [*everything, *counts, *inverse]

    for _, result in in_every_mode(call, x):
        close(result[:4], expected)
        close(result[4:6], [expected[0], expected[3]])
        close(result[6:], [expected[0], expected[2]])


@FEW
@given(data=st.data())
def test_empty(data):
    x = data.draw(arrays())
    for _, result in in_every_mode(lambda y: [ht.empty_like(y), ht.empty(y.shape, dtype=y.dtype)], x):
        assert all((r.shape, r.dtype) == (x.shape, x.dtype) for r in result)


@st.composite
def keys(draw, shape):
    """Draw an index of the standard: integers, slices, ellipsis, None, one mask, integer arrays along with integers."""
    if draw(st.integers(0, 3)) == 0:
        return make_values("bool", shape, draw(st.integers(0, 9)))
    arrays_too = draw(st.booleans())
    key = []
    for n in shape:
        step = draw(st.sampled_from([1, 2, -1, -2]))
        low, high = sorted(draw(st.integers(0, n)) for _ in range(2))
        cut = slice(low, high, step) if step > 0 else slice(high - 1, low - 1 if low > 0 else None, step)
        if step < 0 and high == 0:
            cut = slice(None, None, step)
        choices = [cut, slice(None), *([draw(st.integers(-n, n - 1))] if n else [])]
        if arrays_too and n:
            choices = [np.array([0, n - 1, 0]), draw(st.integers(0, n - 1))]
        key.append(draw(st.sampled_from(range(len(choices))).map(choices.__getitem__)))
    if not arrays_too and draw(st.booleans()):
        key.insert(draw(st.integers(0, len(key))), None)
    if not arrays_too and key and key[-1] == slice(None) and draw(st.booleans()):
        key[-1] = ...
    return tuple(key)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_indexing(data):
    x = data.draw(arrays(ALL, st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple)))
    key = data.draw(keys(x.shape))
    for _, result in in_every_mode(lambda y: y[key], x):
        close(result, x[key])
    value = x.dtype.type(1)
    changed = x.copy()
    changed[key] = value

    def assign(y):
        y[key] = value.item()
        return y

    for _, result in in_every_mode(assign, x):
        close(result, changed)


@FEW
@given(data=st.data())
def test_asarray(data):
    x = data.draw(arrays())
    listed = np.asarray(x.tolist())

    def call(y):
        return [ht.asarray(y, copy=True), ht.asarray(x), ht.asarray(x.tolist())]

    for _, result in in_every_mode(call, x):
        close(result, [x, x, listed])
