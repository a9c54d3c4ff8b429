"""Rounding, one row each. Integers stay what they are."""

import torch

from .engines.elementwise import unary


def _integers_stay(kernel):
    def rounded(x, out=None):
        return kernel(x, out=out) if x.is_floating_point() else torch.positive(x).clone()

    return rounded


def _round_half_even(x, out=None):
    if x.is_complex():
        return torch.complex(torch.round(x.real), torch.round(x.imag))
    return torch.round(x, out=out)


floor = unary("floor", _integers_stay(torch.floor), "Round toward minus infinity.", accepts="iuf")
ceil = unary("ceil", _integers_stay(torch.ceil), "Round toward plus infinity.", accepts="iuf")
trunc = unary("trunc", _integers_stay(torch.trunc), "Round toward 0.", accepts="iuf")
rint = unary("rint", _round_half_even, "Round to the nearest integer, halves to even.", accepts="fc")
