"""Comparisons, logic, and tests of elements, one row each."""

from __future__ import annotations

import torch

from . import types
from .dndarray import DNDarray
from .engines.elementwise import Row, execute
from .engines.elementwise_rows import binary, unary
from .registry import OPERATIONS, register
from .special_values import numpy_on_cpu

_ORDERED = "biuf"


def _comparison(name: str, kernel, summary: str, operator: str, accepts: str = types.ALL):
    return binary(
        name,
        kernel,
        summary,
        accepts=accepts,
        result="bool",
        wide="order",
        scalars=True,
        operator=operator,
        aliases=(operator,),
    )


def _test(name: str, kernel, summary: str, accepts: str = types.ALL, wide: str = "bits"):
    def tested(x, out=None):
        value = kernel(x)
        return value if out is None else out.copy_(value)

    return unary(name, tested, summary, accepts=accepts, result="bool", wide=wide)


def _without_out(kernel):
    return lambda x, out=None: kernel(x)


def _signbit(x):
    return torch.signbit(x) if x.is_floating_point() else x < 0


equal = _comparison("equal", torch.eq, "Tell where x1 == x2.", "eq")
not_equal = _comparison("not_equal", torch.ne, "Tell where x1 != x2.", "ne")
less = _comparison("less", torch.lt, "Tell where x1 < x2.", "lt", _ORDERED)
less_equal = _comparison("less_equal", torch.le, "Tell where x1 <= x2.", "le", _ORDERED)
greater = _comparison("greater", torch.gt, "Tell where x1 > x2.", "gt", _ORDERED)
greater_equal = _comparison("greater_equal", torch.ge, "Tell where x1 >= x2.", "ge", _ORDERED)

logical_and = binary(
    "logical_and", torch.logical_and, "Tell where both are nonzero.", result="bool", wide="bits"
)
logical_or = binary(
    "logical_or", torch.logical_or, "Tell where one or both are nonzero.", result="bool", wide="bits"
)
logical_xor = binary(
    "logical_xor", torch.logical_xor, "Tell where exactly one is nonzero.", result="bool", wide="bits"
)
logical_not = unary("logical_not", torch.logical_not, "Tell where x is zero.", result="bool", wide="bits")

isfinite = _test(
    "isfinite",
    numpy_on_cpu("isfinite", _without_out(torch.isfinite)),
    "Tell where x is neither infinite nor NaN.",
)
isinf = _test("isinf", numpy_on_cpu("isinf", _without_out(torch.isinf)), "Tell where x is infinite.")
isnan = _test("isnan", numpy_on_cpu("isnan", _without_out(torch.isnan)), "Tell where x is NaN.")
isneginf = _test("isneginf", torch.isneginf, "Tell where x is minus infinity.", _ORDERED)
isposinf = _test("isposinf", torch.isposinf, "Tell where x is plus infinity.", _ORDERED)
signbit = _test("signbit", _signbit, "Tell where the sign bit is set.", _ORDERED, "host")


# -- comparisons of whole arrays -------------------------------------------------------------------------------


def _close(rtol: float, atol: float, equal_nan: bool):
    def close(x, y, out=None):
        value = (x - y).abs() <= atol + rtol * y.abs()
        value &= torch.isfinite(y)
        value |= x == y
        if equal_nan:
            value |= torch.isnan(x) & torch.isnan(y)
        return value if out is None else out.copy_(value)

    return close


def isclose(
    x: object, y: object, /, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> DNDarray:
    """Tell where ``|x - y| <= atol + rtol * |y|``; equal infinities are close.

    *Distribution*: elementwise. No message where the layouts are equal or an operand is replicated.

    Parameters
    ----------
    x, y : array_like
        Operands that broadcast; `y` is the reference.
    rtol, atol : float
        Relative and absolute tolerance.
    equal_nan : bool
        Let NaN be close to NaN.

    Returns
    -------
    DNDarray
        Of dtype bool.

    Examples
    --------
    >>> ht.isclose(ht.array([1.0, 2.0], split=0), [1.0, 2.1]).numpy().tolist()
    [True, False]
    """
    row = Row("isclose", _close(rtol, atol, equal_nan), types.ALL, "tolerance", "bool", "isclose")
    return execute(row, (x, y))


def allclose(
    x: object, y: object, /, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False
) -> bool:
    """Tell whether all elements are close to each other; see :func:`isclose`.

    *Distribution*: one allreduce of a byte where an operand is split.

    Returns
    -------
    bool
        The same on every rank.

    Examples
    --------
    >>> ht.allclose(ht.ones(3, split=0), 1.0 + 1e-9)
    True
    """
    return _all(isclose(x, y, rtol, atol, equal_nan))


def _all(x: DNDarray) -> bool:
    return bool(OPERATIONS["all"].function(x))


def _same(equal_nan: bool):
    def same(x, y, out=None):
        value = x == y
        if equal_nan and (x.is_floating_point() or x.is_complex()):
            value |= torch.isnan(x) & torch.isnan(y)
        return value

    return same


def array_equal(x: object, y: object, /, equal_nan: bool = False) -> bool:
    """Tell whether two arrays have one shape and equal elements.

    *Distribution*: one allreduce of a byte where an operand is split; none where the shapes differ.

    Parameters
    ----------
    equal_nan : bool
        Let NaN equal NaN.

    Returns
    -------
    bool
        The same on every rank.

    Examples
    --------
    >>> ht.array_equal(ht.arange(3, split=0), [0, 1, 2])
    True
    """
    return _shape(x) == _shape(y) and _all_equal(x, y, equal_nan)


def array_equiv(x: object, y: object, /) -> bool:
    """Tell whether two arrays broadcast to one shape with equal elements.

    *Distribution*: as :func:`array_equal`.

    Returns
    -------
    bool
        The same on every rank.

    Examples
    --------
    >>> ht.array_equiv(ht.ones((2, 3), split=0), [1, 1, 1])
    True
    """
    try:
        torch.broadcast_shapes(_shape(x), _shape(y))
    except RuntimeError:
        return False
    return _all_equal(x, y, False)


def _shape(x: object) -> tuple[int, ...]:
    return x.shape if isinstance(x, DNDarray) else tuple(torch.as_tensor(x).shape)


def _all_equal(x: object, y: object, equal_nan: bool) -> bool:
    row = Row("array_equal", _same(equal_nan), types.ALL, "common", "bool", "equal", wide="bits")
    return _all(execute(row, (x, y)))


register(isclose, kind="elementwise", numpy="isclose", arity=2)
for _function in (allclose, array_equal, array_equiv):
    register(
        _function,
        kind="comparison",
        numpy=_function.__name__,
        arity=2,
        cost="One allreduce of a byte where an operand is split; none otherwise.",
        method=_function is allclose,
    )
