"""Comparisons, logic, and tests of elements, one row each."""

import torch

from .engines.elementwise import binary, unary

_ORDERED = "biuf"


equal = binary("equal", torch.eq, "Tell where x1 == x2.", result="bool", operator="eq", aliases=("eq",))
not_equal = binary(
    "not_equal", torch.ne, "Tell where x1 != x2.", result="bool", operator="ne", aliases=("ne",)
)
less = binary(
    "less", torch.lt, "Tell where x1 < x2.", accepts=_ORDERED, result="bool", operator="lt", aliases=("lt",)
)
less_equal = binary(
    "less_equal",
    torch.le,
    "Tell where x1 <= x2.",
    accepts=_ORDERED,
    result="bool",
    operator="le",
    aliases=("le",),
)
greater = binary(
    "greater",
    torch.gt,
    "Tell where x1 > x2.",
    accepts=_ORDERED,
    result="bool",
    operator="gt",
    aliases=("gt",),
)
greater_equal = binary(
    "greater_equal",
    torch.ge,
    "Tell where x1 >= x2.",
    accepts=_ORDERED,
    result="bool",
    operator="ge",
    aliases=("ge",),
)
logical_and = binary("logical_and", torch.logical_and, "Tell where both are nonzero.", result="bool")
logical_or = binary("logical_or", torch.logical_or, "Tell where one or both are nonzero.", result="bool")
logical_xor = binary("logical_xor", torch.logical_xor, "Tell where exactly one is nonzero.", result="bool")
logical_not = unary("logical_not", torch.logical_not, "Tell where x is zero.", result="bool")
isfinite = unary(
    "isfinite",
    lambda x, out=None: torch.isfinite(x),
    "Tell where x is neither infinite nor NaN.",
    result="bool",
)
isinf = unary("isinf", lambda x, out=None: torch.isinf(x), "Tell where x is infinite.", result="bool")
isnan = unary("isnan", lambda x, out=None: torch.isnan(x), "Tell where x is NaN.", result="bool")
signbit = unary("signbit", torch.signbit, "Tell where the sign bit is set.", accepts="iuf", result="bool")
