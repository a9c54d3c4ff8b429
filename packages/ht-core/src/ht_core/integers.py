"""Operations on integers and their bits, one row each."""

import numpy as np
import torch

from .engines.elementwise_rows import binary, unary
from .special_values import numpy_on_cpu
from .types import INTEGRAL

_COUNTS = (0x5555555555555555, 0x3333333333333333, 0x0F0F0F0F0F0F0F0F, 0x0101010101010101)


def _least(x):
    return torch.iinfo(x.dtype).min


def _gcd(x, y, out=None):
    value = torch.gcd(x, y)
    if x.dtype.is_signed:
        # The least integer has no absolute value; its divisors are powers of 2, the lowest bit of the other decides.
        value = torch.where(x == _least(x), y & -y, torch.where(y == _least(y), x & -x, value))
        value = torch.where((x == 0) | (y == 0), (x | y).abs(), value)
    return value if out is None else out.copy_(value)


def _lcm(x, y, out=None):
    divisor = _gcd(x, y)
    value = torch.div(x.abs(), torch.where(divisor == 0, 1, divisor), rounding_mode="floor") * y.abs()
    return value if out is None else out.copy_(value)


def _shift(kernel, beyond):
    """Shift by as many bits as there are, or more, as NumPy does; processors look at the lowest bits alone."""

    def shifted(x, n, out=None):
        bits = x.element_size() * 8
        wide = (n >= bits) | (n < 0)
        value = torch.where(wide, beyond(x), kernel(x, torch.where(wide, 0, n)))
        return value if out is None else out.copy_(value)

    return shifted


def _bitwise_count(x, out=None):
    if x.device.type == "cpu":
        value = torch.from_numpy(np.asarray(np.bitwise_count(x.numpy())))
    else:  # sums of neighbouring bits, then of pairs, and so on
        value = x.to(torch.int64).abs()
        value = value - ((value >> 1) & _COUNTS[0])
        value = (value & _COUNTS[1]) + ((value >> 2) & _COUNTS[1])
        value = (((value + (value >> 4)) & _COUNTS[2]) * _COUNTS[3]) >> 56
    return value.to(torch.uint8) if out is None else out.copy_(value)


gcd = binary("gcd", numpy_on_cpu("gcd", _gcd), "Return the greatest common divisor.", accepts="iu")
lcm = binary("lcm", numpy_on_cpu("lcm", _lcm), "Return the least common multiple.", accepts="iu")

bitwise_and = binary(
    "bitwise_and", torch.bitwise_and, "And, bit by bit.", accepts=INTEGRAL, wide="bits", operator="and"
)
bitwise_or = binary(
    "bitwise_or", torch.bitwise_or, "Or, bit by bit.", accepts=INTEGRAL, wide="bits", operator="or"
)
bitwise_xor = binary(
    "bitwise_xor",
    torch.bitwise_xor,
    "Exclusive or, bit by bit.",
    accepts=INTEGRAL,
    wide="bits",
    operator="xor",
)
bitwise_left_shift = binary(
    "bitwise_left_shift",
    _shift(torch.bitwise_left_shift, torch.zeros_like),
    "Shift bits to the left.",
    accepts=INTEGRAL,
    compute="integer",
    operator="lshift",
    aliases=("left_shift",),
)
bitwise_right_shift = binary(
    "bitwise_right_shift",
    _shift(torch.bitwise_right_shift, lambda x: torch.where(x < 0, -1, 0).to(x.dtype)),
    "Shift bits to the right, keeping the sign.",
    accepts=INTEGRAL,
    compute="integer",
    operator="rshift",
    aliases=("right_shift",),
)
bitwise_invert = unary(
    "bitwise_invert",
    torch.bitwise_not,
    "Invert bit by bit.",
    accepts=INTEGRAL,
    wide="bits",
    operators=("__invert__",),
    aliases=("bitwise_not", "invert"),
)
bitwise_count = unary(
    "bitwise_count",
    _bitwise_count,
    "Count the bits that are set in the absolute value.",
    accepts=INTEGRAL,
    result="uint8",
)
