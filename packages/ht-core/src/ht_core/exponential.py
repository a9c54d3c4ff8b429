"""Exponentials and logarithms, one row each."""

import torch

from .engines.elementwise_rows import binary, unary
from .special_values import as_numpy_at_specials

_REAL = "biuf"


def _row(name: str, kernel, summary: str):
    fixed = as_numpy_at_specials(kernel, name, zeros=name.startswith("log"))
    return unary(name, fixed, summary, compute="floating")


exp = _row("exp", torch.exp, "Return e**x.")
expm1 = _row("expm1", torch.expm1, "Return e**x - 1, accurate near 0.")
exp2 = _row("exp2", torch.exp2, "Return 2**x.")
log = _row("log", torch.log, "Return the natural logarithm.")
log2 = _row("log2", torch.log2, "Return the logarithm to base 2.")
log10 = _row("log10", torch.log10, "Return the logarithm to base 10.")
log1p = _row("log1p", torch.log1p, "Return log(1 + x), accurate near 0.")
logaddexp = binary(
    "logaddexp", torch.logaddexp, "Return log(e**x1 + e**x2).", accepts=_REAL, compute="floating"
)
logaddexp2 = binary(
    "logaddexp2", torch.logaddexp2, "Return log2(2**x1 + 2**x2).", accepts=_REAL, compute="floating"
)
