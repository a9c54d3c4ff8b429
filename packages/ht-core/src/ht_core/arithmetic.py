"""Arithmetic operations, one row each. Integer and bit operations are in ``integers.py``."""

import math

import torch

from .dndarray import DNDarray
from .engines.elementwise_rows import binary, pair, unary
from .special_values import as_numpy_at_specials, as_real_pairs, mend_with_numpy, numpy_on_cpu
from .types import NUMERIC, REAL

_BOOL_NUMERIC = "b" + NUMERIC
_BOOL_REAL = "b" + REAL


def _integer_quotient(kernel, by_minus_one):
    """Divide integers as NumPy does: by 0 gives 0, and the least integer by -1 wraps around; processors trap both."""

    def divide(x, y, out=None):
        if y.numel() == 1 and y.device.type == "cpu" and y.item() not in (0, -1):  # the usual x // 2
            return kernel(x, y, out=out)
        zero = y == 0
        minus = (y == -1) & torch.tensor(y.dtype.is_signed)
        value = kernel(x, torch.where(zero | minus, 1, y))
        value = torch.where(minus, by_minus_one(x), value).masked_fill_(zero, 0)
        return value if out is None else out.copy_(value)

    return divide


def _zeros(x):
    return torch.zeros((), dtype=x.dtype, device=x.device)


_integer_floor_divide = numpy_on_cpu("floor_divide", _integer_quotient(torch.floor_divide, lambda x: -x))
_integer_remainder = numpy_on_cpu("remainder", _integer_quotient(torch.remainder, _zeros))
_integer_fmod = numpy_on_cpu("fmod", _integer_quotient(torch.fmod, _zeros))


def _floor_divide(x, y, out=None):
    if not x.is_floating_point():
        return _integer_floor_divide(x, y, out=out)
    value = torch.floor_divide(x, y)
    if type(x) is not torch.Tensor or not math.isfinite(x.detach().sum().item()):
        # The quotient of infinities, and of an infinity by a number, is no number; x / 0 is what division says.
        value = torch.where(torch.isinf(x) & (y != 0), torch.nan, value)
    return value if out is None else out.copy_(value)


def _remainder(x, y, out=None):
    if not x.is_floating_point():
        return _integer_remainder(x, y, out=out)
    value = torch.remainder(x, y)
    value = _mended(value, "remainder", x, y)
    if not value.requires_grad:  # a remainder of 0 has the sign of the divisor, too
        value = torch.copysign(value, y, out=value)
    return value if out is None else out.copy_(value)


def _fmod(x, y, out=None):
    if not x.is_floating_point():
        return _integer_fmod(x, y, out=out)
    value = torch.fmod(x, y)
    value = _mended(value, "fmod", x, y)
    return value if out is None else out.copy_(value)


def _mended(value: torch.Tensor, name: str, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Return remainders with those that torch's vectorised kernel loses where the quotient overflows."""
    if not _has_nan(value):
        return value
    lost = torch.isnan(value) & torch.isfinite(x) & (y != 0) & ~torch.isnan(y)
    return mend_with_numpy(value, lost, name, x, y)


def _has_nan(x: torch.Tensor) -> bool:
    """Tell whether there may be NaN, or infinities of both signs, by one pass over the elements."""
    if type(x) is not torch.Tensor:  # without values, see outline
        return True
    total = x.detach().sum().item()
    return total != total


def _divmod(x, y):
    return _floor_divide(x, y), _remainder(x, y)


def _power(x, y, out=None):
    if not (x.is_floating_point() or x.is_complex()) and bool((y < 0).any()):
        raise ValueError("pow: integers to negative integer powers are not allowed; cast to a floating dtype")
    return _complex_power(x, y, out=out) if x.is_complex() else torch.pow(x, y, out=out)


def _hypot_of_parts(x, out=None):
    return torch.hypot(x.real, x.imag, out=out)  # neither overflows nor loses an infinite part


_length = numpy_on_cpu("abs", _hypot_of_parts)


def _abs(x, out=None):
    if x.dtype is torch.bool:
        return x.clone()
    return _length(x, out=out) if x.is_complex() else torch.abs(x, out=out)


def _square(x, out=None):
    return torch.mul(x, x, out=out)


def _sign(x, out=None):
    if x.is_complex():
        return _complex_sign(x, out=out)
    value = torch.sgn(x)
    if x.is_floating_point() and _has_nan(x):
        value = torch.where(torch.isnan(x), x, value)
    return value if out is None else out.copy_(value)


def _cbrt(x, out=None):
    root = torch.copysign(torch.pow(x.abs(), 1 / 3), x)
    # One step of Newton's method removes what 1/3 lacks of a third.
    step = (root * root * root - x) / (3 * root * root)
    value = torch.where(torch.isfinite(step), root - step, root)
    return value if out is None else out.copy_(value)


def _ldexp(x, n, out=None):
    # In three factors, none of which overflows before the product does.
    n = n.to(torch.int64).clamp(-2200, 2200)
    third = torch.div(n, 3, rounding_mode="trunc")
    two = torch.full((), 2.0, dtype=torch.float64, device=x.device)
    value = x.double() * torch.pow(two, third) * torch.pow(two, third) * torch.pow(two, n - 2 * third)
    return value.to(x.dtype) if out is None else out.copy_(value)


def _modf(x):
    whole = torch.trunc(x)
    rest = torch.where(torch.isinf(x), 0, x - whole)
    return torch.copysign(rest, x), whole


def _frexp(x):
    mantissa, exponent = torch.frexp(x.float() if x.dtype in (torch.float16, torch.bfloat16) else x)
    odd = ~torch.isfinite(x)
    return torch.where(odd, x, mantissa.to(x.dtype)), exponent.masked_fill(odd, 0)


def _heaviside(x, value, out=None):
    made = torch.where(torch.isnan(x), x, torch.heaviside(x, value))
    return made if out is None else out.copy_(made)


def _copy(x, out=None):
    return x.clone() if out is None else out.copy_(x)


def _direction(x, out=None):
    """Return z/|z|, scaled such that |z| neither overflows nor underflows."""
    pairs = torch.view_as_real(x.resolve_conj())
    scale = pairs.abs().amax(-1, keepdim=True)
    # Zeros of any sign have the direction 0 + 0j.
    pairs = torch.where(scale == 0, 0, pairs / scale)
    length = torch.hypot(pairs[..., :1], pairs[..., 1:])
    value = torch.view_as_complex(pairs / torch.where(length == 0, 1, length))
    return value if out is None else out.copy_(value)


_complex_power = as_numpy_at_specials(torch.pow, "power", zeros=True)
_complex_sign = as_numpy_at_specials(_direction, "sign")

add = binary("add", as_real_pairs(torch.add), "Add elementwise.", wide="bits", scalars=True, operator="add")
subtract = binary(
    "subtract",
    as_real_pairs(torch.sub),
    "Subtract elementwise.",
    accepts=NUMERIC,
    wide="bits",
    scalars=True,
    operator="sub",
    aliases=("sub",),
)
multiply = binary(
    "multiply",
    as_numpy_at_specials(torch.mul, "multiply", infectious=True),
    "Multiply elementwise.",
    wide="bits",
    scalars=True,
    operator="mul",
    aliases=("mul",),
)
divide = binary(
    "divide",
    as_numpy_at_specials(torch.true_divide, "divide", zeros=True),
    "Divide elementwise; integers give floating results.",
    accepts=_BOOL_NUMERIC,
    compute="quotient",
    scalars=True,
    operator="truediv",
    aliases=("div", "true_divide"),
)
floor_divide = binary(
    "floor_divide",
    _floor_divide,
    "Divide and round toward minus infinity; an integer divided by 0 gives 0.",
    accepts=_BOOL_REAL,
    compute="integer",
    operator="floordiv",
    aliases=("floordiv",),
)
remainder = binary(
    "remainder",
    _remainder,
    "Return the remainder with the sign of the divisor; an integer modulo 0 gives 0.",
    accepts=_BOOL_REAL,
    compute="integer",
    operator="mod",
    aliases=("mod",),
)
fmod = binary(
    "fmod",
    _fmod,
    "Return the remainder with the sign of the dividend; an integer modulo 0 gives 0.",
    accepts=_BOOL_REAL,
    compute="integer",
)
divmod = pair(
    "divmod",
    _divmod,
    "Return the quotient rounded toward minus infinity and the remainder.",
    results=("common", "common"),
    arity=2,
    accepts=_BOOL_REAL,
    compute="integer",
)
pow = binary(
    "pow",
    _power,
    "Raise elementwise to a power; integers to negative integers are refused.",
    accepts=_BOOL_NUMERIC,
    compute="integer",
    numpy="power",
    operator="pow",
    aliases=("power",),
)
float_power = binary(
    "float_power", _power, "Raise elementwise to a power in float64 or complex128.", compute="double"
)
maximum = binary(
    "maximum", torch.maximum, "Return the larger operand; NaN wins.", accepts=_BOOL_REAL, wide="order"
)
minimum = binary(
    "minimum", torch.minimum, "Return the smaller operand; NaN wins.", accepts=_BOOL_REAL, wide="order"
)
fmax = binary(
    "fmax",
    torch.fmax,
    "Return the larger operand; a number wins over NaN.",
    accepts=_BOOL_REAL,
    wide="order",
)
fmin = binary(
    "fmin",
    torch.fmin,
    "Return the smaller operand; a number wins over NaN.",
    accepts=_BOOL_REAL,
    wide="order",
)
hypot = binary("hypot", torch.hypot, "Return sqrt(x1**2 + x2**2).", accepts=_BOOL_REAL, compute="floating")
copysign = binary(
    "copysign", torch.copysign, "Return x1 with the sign of x2.", accepts=_BOOL_REAL, compute="floating"
)
heaviside = binary(
    "heaviside",
    _heaviside,
    "Return 0 where x1 < 0, x2 where x1 is 0, and 1 where x1 > 0.",
    accepts=_BOOL_REAL,
    compute="floating",
)
ldexp = binary(
    "ldexp",
    _ldexp,
    "Return x1 * 2**x2 for integers x2.",
    accepts=_BOOL_REAL,
    compute="floating",
    exponents=1,
)
frexp = pair(
    "frexp",
    _frexp,
    "Return mantissa in (-1, -0.5] or [0.5, 1) and exponent with x = mantissa * 2**exponent.",
    results=("common", "int32"),
    accepts=_BOOL_REAL,
    compute="floating",
)
modf = pair(
    "modf",
    _modf,
    "Return the fractional and the integral part, both with the sign of x.",
    results=("common", "common"),
    accepts=_BOOL_REAL,
    compute="floating",
)

negative = unary(
    "negative",
    as_real_pairs(torch.neg),
    "Negate.",
    accepts=NUMERIC,
    wide="bits",
    operators=("__neg__",),
    aliases=("neg",),
)
positive = unary(
    "positive",
    _copy,
    "Return a copy.",
    accepts=NUMERIC,
    wide="bits",
    operators=("__pos__",),
    aliases=("pos",),
)
abs = unary(
    "abs", _abs, "Return the absolute value.", result="real", operators=("__abs__",), aliases=("absolute",)
)
fabs = unary(
    "fabs",
    torch.abs,
    "Return the absolute value as a floating number.",
    accepts=_BOOL_REAL,
    compute="floating",
)
sign = unary(
    "sign",
    _sign,
    "Return the sign: -1, 0 or 1; z/|z| for complex z.",
    accepts=NUMERIC,
    aliases=("sgn",),
)
square = unary(
    "square",
    as_numpy_at_specials(_square, "square", infectious=True),
    "Return x * x.",
    compute="integer",
    wide="bits",
)
reciprocal = unary(
    "reciprocal",
    as_numpy_at_specials(torch.reciprocal, "reciprocal", zeros=True),
    "Return 1 / x.",
    accepts="fc",
)
sqrt = unary("sqrt", as_numpy_at_specials(torch.sqrt, "sqrt"), "Return the square root.", compute="floating")
cbrt = unary(
    "cbrt", numpy_on_cpu("cbrt", _cbrt), "Return the cube root.", accepts=_BOOL_REAL, compute="floating"
)


def _divide_with_remainder(self: DNDarray, other: object) -> tuple[DNDarray, DNDarray]:
    return divmod(self, other)


def _divide_other_with_remainder(self: DNDarray, other: object) -> tuple[DNDarray, DNDarray]:
    return divmod(other, self)


DNDarray.__divmod__, DNDarray.__rdivmod__ = _divide_with_remainder, _divide_other_with_remainder
