"""The derivative of the matrix product: two more products, planned like any other.

With C = A B and the gradient G of C, that of A is G B^H and that of B is A^H G. Both are contractions of arrays in the
layouts at hand, so the plan takes the cheapest way: an operand that every rank held whole gets its gradient by one
allreduce of partial sums, one that stayed in place needs no message.
"""

from __future__ import annotations

from ht_core import DNDarray, conj, expand_dims, real, squeeze
from ht_core import sum as sum_over
from ht_core.engines.recording import to_layout


def matmul_derivative(g: DNDarray, a: DNDarray, b: DNDarray) -> tuple[DNDarray, DNDarray]:
    """Return the gradients of `a` and `b` from the gradient `g` of ``a @ b``, in the layouts of `a` and `b`.

    Parameters
    ----------
    g : DNDarray, shape (..., m, n)
        Without the axes that vectors lack.
    a : DNDarray, shape (..., m, k) or (k,)
    b : DNDarray, shape (..., k, n) or (k,)

    *Distribution*: as two products, and one redistribution where the layout of a product is not that of the operand.
    """
    from .matmul import matmul  # which records products, and so imports this module

    g = expand_dims(g, -1) if b.ndim == 1 else g
    g = expand_dims(g, -2) if a.ndim == 1 else g
    rows = expand_dims(a, 0) if a.ndim == 1 else a
    columns = expand_dims(b, 1) if b.ndim == 1 else b
    left = reduced(matmul(g, adjoint(columns)), rows)
    right = reduced(matmul(adjoint(rows), g), columns)
    return (
        as_operand(squeeze(left, 0) if a.ndim == 1 else left, a),
        as_operand(squeeze(right, 1) if b.ndim == 1 else right, b),
    )


def adjoint(x: DNDarray) -> DNDarray:
    """Return the conjugate transposes of a stack of matrices; recorded."""
    return conj(x).mT if x.dtype.kind == "c" else x.mT


def reduced(x: DNDarray, like: DNDarray) -> DNDarray:
    """Sum over the batch axes along which `like` was broadcast."""
    extra = x.ndim - like.ndim
    ones = [extra + axis for axis in range(like.ndim - 2) if like.shape[axis] == 1 != x.shape[extra + axis]]
    if ones:
        x = sum_over(x, axis=tuple(ones), keepdims=True)
    return sum_over(x, axis=tuple(range(extra))) if extra else x


def as_operand(x: DNDarray, like: DNDarray) -> DNDarray:
    """Return a gradient in the layout and dtype of the operand whose gradient it is."""
    if x.dtype.kind == "c" and like.dtype.kind != "c":
        x = real(x)
    return to_layout(x, like.layout).astype(like.dtype, copy=False)
