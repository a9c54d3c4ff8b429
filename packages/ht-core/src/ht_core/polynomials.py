"""Polynomials of the elements of an array."""

from __future__ import annotations

from . import types
from .creation import asarray, zeros_like
from .dndarray import DNDarray
from .engines.elementwise import as_operand
from .errors import LayoutError
from .registry import register


def polyval(p: object, x: object, /) -> DNDarray:
    """Evaluate a polynomial at each element.

    *Distribution*: elementwise, keeps the layout of `x`; a split `p` is gathered, O(n) bytes for n coefficients.

    Parameters
    ----------
    p : array_like
        Coefficients, of shape (n,), that of the highest power first.
    x : array_like
        Where the polynomial is evaluated.

    Returns
    -------
    DNDarray
        Of the shape of `x` and the promoted dtype.

    Raises
    ------
    LayoutError
        If `p` is not one-dimensional.

    Examples
    --------
    >>> ht.polyval([1, 0, -1], ht.arange(3, split=0)).numpy().tolist()
    [-1, 0, 3]
    """
    x = x if isinstance(x, DNDarray) else asarray(x)
    p = as_operand(p, x.comm, x.larray.device, "polyval")
    if p.ndim != 1:
        raise LayoutError(f"polyval: p must be one-dimensional, got shape {p.shape}")
    result = zeros_like(x, dtype=types.result_type(x, p))
    for coefficient in p:  # Horner's rule; iterating over a split array sends one message in all
        result = result * x + coefficient
    return result


register(polyval, kind="elementwise", numpy=None, arity=2, method=False)
