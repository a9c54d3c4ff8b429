"""Kernels that agree with C99 and NumPy where torch's do not: at infinities, NaN and signed zeros of complex numbers.

torch's complex kernels are exact in between; only the few special elements are computed by NumPy. Kernels that torch
lacks, or has at a fraction of NumPy's speed, are NumPy's on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch


def as_real_pairs(kernel: Callable) -> Callable:
    """Return `kernel`, which is linear, with complex numbers as pairs of reals: keeps the signs of zeros."""

    def paired(*operands, out=None):
        if not operands[0].is_complex():
            return kernel(*operands, out=out)
        value = torch.view_as_complex(kernel(*map(_pairs, operands)))
        return value if out is None else out.copy_(value)

    return paired


def _pairs(x: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(x.resolve_conj())


def numpy_on_cpu(name: str, kernel: Callable) -> Callable:
    """Return NumPy's function `name` for tensors on the CPU, which NumPy computes in place, and `kernel` for others."""
    function = getattr(np, name)

    def chosen(*operands, out=None):
        if not all(map(_is_numpys, operands)):
            return kernel(*operands, out=out)
        with np.errstate(all="ignore"):
            found = function(*(x.numpy() for x in operands), out=None if out is None else out.numpy())
        return torch.from_numpy(np.asarray(found)) if out is None else out

    return chosen


def _is_numpys(x: torch.Tensor) -> bool:
    """Tell whether NumPy can see the memory of a tensor, and no gradient is lost by letting it."""
    plain = type(x) is torch.Tensor and x.device.type == "cpu" and x.dtype is not torch.bfloat16
    return plain and not (x.requires_grad or x.is_conj() or x.is_neg())


def as_numpy_at_specials(
    kernel: Callable, name: str, zeros: bool = False, infectious: bool = False
) -> Callable:
    """Return `kernel` with the elements of complex arrays that are not finite computed by NumPy's function `name`.

    Parameters
    ----------
    zeros : bool
        Elements with a zero operand are special too.
    infectious : bool
        An operand that is not finite never gives a finite result: looking at the result is enough, and what overflows
        in between is computed by NumPy, too.
    """
    function = getattr(np, name)

    def fixed(*operands, out=None):
        if not operands[0].is_complex() or type(operands[0]) is not torch.Tensor:
            return kernel(*operands, out=out)
        if infectious:
            value = kernel(*operands)
            if _is_finite(value):
                return value if out is None else out.copy_(value)
        elif all(map(_is_finite, operands)) and not (zeros and any(bool((x == 0).any()) for x in operands)):
            return kernel(*operands, out=out)
        spread = torch.broadcast_tensors(*operands)
        special = ~torch.isfinite(value) if infectious else _special(spread, zeros)
        with np.errstate(all="ignore"):
            found = function(*(x[special].detach().resolve_conj().cpu().numpy() for x in spread))
        value = value if infectious else kernel(*operands)
        value = value.masked_scatter(special, torch.from_numpy(found).to(value.device, value.dtype))
        return value if out is None else out.copy_(value)

    return fixed


def mend_with_numpy(
    value: torch.Tensor, wrong: torch.Tensor, name: str, *operands: torch.Tensor
) -> torch.Tensor:
    """Return `value` with the elements that are `wrong` computed by NumPy's function `name`; there are few."""
    if type(value) is not torch.Tensor or not bool(wrong.any()):
        return value
    spread = torch.broadcast_tensors(*operands)
    with np.errstate(all="ignore"):
        found = getattr(np, name)(*(_host(x[wrong]) for x in spread))
    return value.masked_scatter(wrong, torch.from_numpy(found).to(value.device, value.dtype))


def _host(x: torch.Tensor) -> np.ndarray:
    x = x.detach().cpu()
    return (x.float() if x.dtype is torch.bfloat16 else x).numpy()


def _is_finite(x: torch.Tensor) -> bool:
    """Tell whether all elements are finite, by one pass; a sum that overflows is told as an element that is not."""
    return math.isfinite(_pairs(x.detach()).sum().item())


def _special(operands: tuple[torch.Tensor, ...], zeros: bool) -> torch.Tensor:
    special = torch.zeros(operands[0].shape, dtype=torch.bool, device=operands[0].device)
    for x in operands:
        special |= ~torch.isfinite(x)
        if zeros:
            special |= x == 0
    return special
