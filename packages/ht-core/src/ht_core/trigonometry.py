"""Trigonometric and hyperbolic functions and their inverses, one row each. Angles are in radians."""

import torch

from .engines.elementwise_rows import binary, unary
from .special_values import as_numpy_at_specials

_REAL = "biuf"


def _row(name: str, kernel, summary: str, numpy: str = ""):
    """Define a function of real and complex numbers; `numpy` is the other name it goes by."""
    return unary(
        name,
        as_numpy_at_specials(kernel, numpy or name, zeros=bool(numpy)),
        summary,
        compute="floating",
        numpy=numpy or name,
        aliases=(numpy,) if numpy else (),
    )


sin = _row("sin", torch.sin, "Return the sine.")
cos = _row("cos", torch.cos, "Return the cosine.")
tan = _row("tan", torch.tan, "Return the tangent.")
asin = _row("asin", torch.asin, "Return the inverse sine.", "arcsin")
acos = _row("acos", torch.acos, "Return the inverse cosine.", "arccos")
atan = _row("atan", torch.atan, "Return the inverse tangent.", "arctan")
atan2 = binary(
    "atan2",
    torch.atan2,
    "Return the angle of the point (x2, x1), in [-pi, pi].",
    accepts=_REAL,
    compute="floating",
    numpy="arctan2",
    aliases=("arctan2",),
)
sinh = _row("sinh", torch.sinh, "Return the hyperbolic sine.")
cosh = _row("cosh", torch.cosh, "Return the hyperbolic cosine.")
tanh = _row("tanh", torch.tanh, "Return the hyperbolic tangent.")
asinh = _row("asinh", torch.asinh, "Return the inverse hyperbolic sine.", "arcsinh")
acosh = _row("acosh", torch.acosh, "Return the inverse hyperbolic cosine.", "arccosh")
atanh = _row("atanh", torch.atanh, "Return the inverse hyperbolic tangent.", "arctanh")
deg2rad = unary(
    "deg2rad",
    torch.deg2rad,
    "Convert degrees to radians.",
    accepts=_REAL,
    compute="floating",
    aliases=("radians",),
)
rad2deg = unary(
    "rad2deg",
    torch.rad2deg,
    "Convert radians to degrees.",
    accepts=_REAL,
    compute="floating",
    aliases=("degrees",),
)
