"""Exponentials and logarithms, one row each."""

import torch

from .engines.elementwise import binary, unary

exp = unary("exp", torch.exp, "Return e**x.", compute="floating")
expm1 = unary("expm1", torch.expm1, "Return e**x - 1, accurate near 0.", compute="floating")
exp2 = unary("exp2", torch.exp2, "Return 2**x.", compute="floating")
log = unary("log", torch.log, "Return the natural logarithm.", compute="floating")
log2 = unary("log2", torch.log2, "Return the logarithm to base 2.", compute="floating")
log10 = unary("log10", torch.log10, "Return the logarithm to base 10.", compute="floating")
log1p = unary("log1p", torch.log1p, "Return log(1 + x), accurate near 0.", compute="floating")
logaddexp = binary(
    "logaddexp", torch.logaddexp, "Return log(e**x1 + e**x2).", accepts="biuf", compute="floating"
)
logaddexp2 = binary(
    "logaddexp2", torch.logaddexp2, "Return log2(2**x1 + 2**x2).", accepts="biuf", compute="floating"
)
