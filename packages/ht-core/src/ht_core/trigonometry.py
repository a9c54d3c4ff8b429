"""Trigonometric and hyperbolic functions and their inverses, one row each. Angles are in radians."""

import torch

from .engines.elementwise import binary, unary

sin = unary("sin", torch.sin, "Return the sine.", compute="floating")
cos = unary("cos", torch.cos, "Return the cosine.", compute="floating")
tan = unary("tan", torch.tan, "Return the tangent.", compute="floating")
asin = unary(
    "asin", torch.asin, "Return the inverse sine.", compute="floating", numpy="arcsin", aliases=("arcsin",)
)
acos = unary(
    "acos", torch.acos, "Return the inverse cosine.", compute="floating", numpy="arccos", aliases=("arccos",)
)
atan = unary(
    "atan", torch.atan, "Return the inverse tangent.", compute="floating", numpy="arctan", aliases=("arctan",)
)
atan2 = binary(
    "atan2",
    torch.atan2,
    "Return the angle of the point (x2, x1), in [-pi, pi].",
    accepts="biuf",
    compute="floating",
    numpy="arctan2",
    aliases=("arctan2",),
)
sinh = unary("sinh", torch.sinh, "Return the hyperbolic sine.", compute="floating")
cosh = unary("cosh", torch.cosh, "Return the hyperbolic cosine.", compute="floating")
tanh = unary("tanh", torch.tanh, "Return the hyperbolic tangent.", compute="floating")
asinh = unary(
    "asinh",
    torch.asinh,
    "Return the inverse hyperbolic sine.",
    compute="floating",
    numpy="arcsinh",
    aliases=("arcsinh",),
)
acosh = unary(
    "acosh",
    torch.acosh,
    "Return the inverse hyperbolic cosine.",
    compute="floating",
    numpy="arccosh",
    aliases=("arccosh",),
)
atanh = unary(
    "atanh",
    torch.atanh,
    "Return the inverse hyperbolic tangent.",
    compute="floating",
    numpy="arctanh",
    aliases=("arctanh",),
)
deg2rad = unary(
    "deg2rad",
    torch.deg2rad,
    "Convert degrees to radians.",
    accepts="biuf",
    compute="floating",
    aliases=("radians",),
)
rad2deg = unary(
    "rad2deg",
    torch.rad2deg,
    "Convert radians to degrees.",
    accepts="biuf",
    compute="floating",
    aliases=("degrees",),
)
