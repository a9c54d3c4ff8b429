"""Arithmetic and integer operations, one row each."""

import torch

from .engines.elementwise import binary, unary
from .types import INTEGRAL, NUMERIC, REAL

_BOOL_NUMERIC = "b" + NUMERIC
_BOOL_REAL = "b" + REAL


def _zero_safe(kernel):
    """Give 0 where an integer divisor is 0, as NumPy does; torch raises on the CPU and is undefined on GPUs."""

    def divide(x, y, out=None):
        if x.is_floating_point():
            return kernel(x, y, out=out)
        zero = y == 0
        return kernel(x, torch.where(zero, 1, y)).masked_fill_(zero, 0)

    return divide


def _integer_power(x, y, out=None):
    if not (x.is_floating_point() or x.is_complex()) and bool((y < 0).any()):
        raise ValueError("pow: integers to negative integer powers are not allowed; cast to a floating dtype")
    return torch.pow(x, y, out=out)


def _abs(x, out=None):
    return x.clone() if x.dtype is torch.bool else torch.abs(x, out=out)


add = binary("add", torch.add, "Add elementwise.", operator="add")
subtract = binary(
    "subtract", torch.sub, "Subtract elementwise.", accepts=NUMERIC, operator="sub", aliases=("sub",)
)
multiply = binary("multiply", torch.mul, "Multiply elementwise.", operator="mul", aliases=("mul",))
divide = binary(
    "divide",
    torch.true_divide,
    "Divide elementwise; integers give floating results.",
    accepts=_BOOL_NUMERIC,
    compute="quotient",
    operator="truediv",
    aliases=("div", "true_divide"),
)
floor_divide = binary(
    "floor_divide",
    _zero_safe(torch.floor_divide),
    "Divide and round toward minus infinity; an integer divided by 0 gives 0.",
    accepts=REAL,
    operator="floordiv",
    aliases=("floordiv",),
)
remainder = binary(
    "remainder",
    _zero_safe(torch.remainder),
    "Return the remainder with the sign of the divisor; an integer modulo 0 gives 0.",
    accepts=REAL,
    operator="mod",
    aliases=("mod",),
)
fmod = binary(
    "fmod",
    _zero_safe(torch.fmod),
    "Return the remainder with the sign of the dividend; an integer modulo 0 gives 0.",
    accepts=REAL,
)
pow = binary(
    "pow",
    _integer_power,
    "Raise elementwise to a power; integers to negative integers are refused.",
    accepts=NUMERIC,
    numpy="power",
    operator="pow",
    aliases=("power",),
)
maximum = binary("maximum", torch.maximum, "Return the larger operand; NaN wins.", accepts=_BOOL_REAL)
minimum = binary("minimum", torch.minimum, "Return the smaller operand; NaN wins.", accepts=_BOOL_REAL)
fmax = binary("fmax", torch.fmax, "Return the larger operand; a number wins over NaN.", accepts=_BOOL_REAL)
fmin = binary("fmin", torch.fmin, "Return the smaller operand; a number wins over NaN.", accepts=_BOOL_REAL)
hypot = binary("hypot", torch.hypot, "Return sqrt(x1**2 + x2**2).", accepts=_BOOL_REAL, compute="floating")
copysign = binary(
    "copysign", torch.copysign, "Return x1 with the sign of x2.", accepts=_BOOL_REAL, compute="floating"
)
gcd = binary("gcd", torch.gcd, "Return the greatest common divisor.", accepts="iu")
lcm = binary("lcm", torch.lcm, "Return the least common multiple.", accepts="iu")

bitwise_and = binary("bitwise_and", torch.bitwise_and, "And, bit by bit.", accepts=INTEGRAL, operator="and")
bitwise_or = binary("bitwise_or", torch.bitwise_or, "Or, bit by bit.", accepts=INTEGRAL, operator="or")
bitwise_xor = binary(
    "bitwise_xor", torch.bitwise_xor, "Exclusive or, bit by bit.", accepts=INTEGRAL, operator="xor"
)
bitwise_left_shift = binary(
    "bitwise_left_shift",
    torch.bitwise_left_shift,
    "Shift bits to the left.",
    accepts="iu",
    operator="lshift",
    aliases=("left_shift",),
)
bitwise_right_shift = binary(
    "bitwise_right_shift",
    torch.bitwise_right_shift,
    "Shift bits to the right, keeping the sign.",
    accepts="iu",
    operator="rshift",
    aliases=("right_shift",),
)
bitwise_invert = unary(
    "bitwise_invert",
    torch.bitwise_not,
    "Invert bit by bit.",
    accepts=INTEGRAL,
    operators=("__invert__",),
    aliases=("bitwise_not", "invert"),
)

negative = unary("negative", torch.neg, "Negate.", accepts=NUMERIC, operators=("__neg__",), aliases=("neg",))
positive = unary(
    "positive",
    lambda x, out=None: x.clone(),
    "Return a copy.",
    accepts=NUMERIC,
    operators=("__pos__",),
    aliases=("pos",),
)
abs = unary(
    "abs", _abs, "Return the absolute value.", result="real", operators=("__abs__",), aliases=("absolute",)
)
sign = unary("sign", torch.sgn, "Return the sign: -1, 0 or 1; z/|z| for complex z.", accepts=NUMERIC)
square = unary("square", torch.square, "Return x * x.", accepts=NUMERIC)
reciprocal = unary("reciprocal", torch.reciprocal, "Return 1 / x.", accepts="fc")
sqrt = unary("sqrt", torch.sqrt, "Return the square root.", compute="floating")
conj = unary(
    "conj", torch.conj_physical, "Return the complex conjugate.", accepts=NUMERIC, aliases=("conjugate",)
)
