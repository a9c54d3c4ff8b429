"""Special functions and neighbouring floating-point numbers, one row each."""

import numpy as np
import torch

from .engines.elementwise_rows import binary, unary

_REAL = "biuf"


def _on_host(function, *operands: torch.Tensor) -> torch.Tensor:
    """Compute by NumPy what torch has no kernel for."""
    with np.errstate(all="ignore"):
        found = function(*(x.detach().cpu().numpy() for x in operands))
    return torch.from_numpy(np.asarray(found)).to(operands[0].device)


def _nextafter(x, y, out=None):
    if x.dtype is torch.float16:
        value = _on_host(np.nextafter, x, y)
        return value if out is None else out.copy_(value)
    return torch.nextafter(x, y, out=out)


def _spacing(x, out=None):
    if x.dtype is torch.float16:
        value = _on_host(np.spacing, x)
        return value if out is None else out.copy_(value)
    magnitude = x.abs()
    gap = _nextafter(magnitude, torch.full_like(magnitude, torch.inf)) - magnitude
    # The largest number has the gap of its binade, too, though its neighbour is infinite.
    largest = torch.finfo(x.dtype).max
    below = largest - _nextafter(torch.full_like(magnitude, largest), torch.zeros_like(magnitude))
    gap = torch.where(magnitude == largest, below, gap)
    value = torch.where(torch.isfinite(x), torch.copysign(gap, x), torch.nan)
    return value if out is None else out.copy_(value)


def _i0(x, out=None):
    value = torch.i0(x.float()).to(x.dtype) if x.dtype is torch.float16 else torch.i0(x)
    return value if out is None else out.copy_(value)


def _sinc(x, out=None):
    return torch.sinc(x, out=out)


nextafter = binary(
    "nextafter",
    _nextafter,
    "Return the next floating-point number after x1 toward x2.",
    accepts=_REAL,
    compute="floating",
)
spacing = unary(
    "spacing",
    _spacing,
    "Return the distance to the next floating-point number away from 0, with the sign of x.",
    accepts=_REAL,
    compute="floating",
)
sinc = unary("sinc", _sinc, "Return sin(pi x) / (pi x), and 1 at 0.", compute="quotient")
i0 = unary(
    "i0",
    _i0,
    "Return the modified Bessel function of the first kind and order 0.",
    accepts=_REAL,
    compute="quotient",
)
