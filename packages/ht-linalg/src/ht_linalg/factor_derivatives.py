"""Derivatives of solves, inverses, determinants, Cholesky factors and eigenvalues: more of the same operations.

With A X = B and the gradient G of X, that of B is ``Y = A^-H G`` and that of A is ``-Y X^H``; the others follow. All is
written with operations on arrays in the layouts at hand, so that nothing is gathered here that the operation itself
does not gather, and the rules without eigenvectors and triangular factors can be differentiated again.

References
----------
M. B. Giles, Collected matrix derivative results for forward and reverse mode algorithmic differentiation, 2008,
doi:10.1007/978-3-540-68942-3_4. I. Murray, Differentiation of the Cholesky decomposition, 2016, arXiv:1602.07527.
"""

from __future__ import annotations

from ht_core import DNDarray, conj, expand_dims, imag, squeeze, tril, triu

from .matmul import matmul
from .matmul_derivative import adjoint, as_operand, reduced

# The functions whose derivatives these are record themselves, and so import this module: they are imported when used.


def solve_derivative(g: DNDarray, a: DNDarray, b: DNDarray) -> tuple[DNDarray, DNDarray]:
    """Return the gradients of both operands of ``x = solve(a, b)`` from that of x.

    *Distribution*: two solves and a product.
    """
    from .solve import solve

    return _of_system(g, a, b, solve(a, b), solve(adjoint(a), _columns(g, b)))


def triangular_derivative(g: DNDarray, a: DNDarray, b: DNDarray, options: dict) -> tuple[DNDarray, DNDarray]:
    """The same for ``x = solve_triangular(a, b, **options)``; what is not read of `a` has the gradient zero.

    *Distribution*: two substitutions and a product.
    """
    from .solve import solve_triangular

    lower, unit = options["lower"], options["unit_diagonal"]
    trans = {"N": 0, "T": 1, "C": 2}.get(options["trans"], options["trans"])
    x = solve_triangular(a, b, **options)
    # With op(A) the transpose or adjoint, op(A)^H Y = G is a system with the conjugate of A, or with A itself
    if trans == 1:
        y = conj(solve_triangular(a, conj(_columns(g, b)), **{**options, "trans": 0}))
    else:
        y = solve_triangular(a, _columns(g, b), **{**options, "trans": 2 - trans})
    ga, gb = _of_system(g, a, b, x, y, transposed=trans)
    keep = tril if lower else triu
    return keep(ga, -1 if lower else 1) if unit else keep(ga), gb


def _columns(g: DNDarray, b: DNDarray) -> DNDarray:
    return expand_dims(g, -1) if b.ndim == 1 else g


def _of_system(g: DNDarray, a: DNDarray, b: DNDarray, x: DNDarray, y: DNDarray, transposed: int = 0):
    """Return ``-y x^H``, transposed as A was, and y in the layouts of the operands."""
    outer = matmul(y, adjoint(_columns(x, b)))
    if transposed:
        outer = outer.mT if transposed == 1 else adjoint(outer)
    sides = reduced(y, _columns(b, b))
    return as_operand(-reduced(outer, a), a), as_operand(squeeze(sides, -1) if b.ndim == 1 else sides, b)


def inv_derivative(g: DNDarray, a: DNDarray) -> tuple[DNDarray]:
    """Return the gradient of the matrix of ``x = inv(a)``: ``-x^H g x^H``. *Distribution*: an inverse, two products."""
    from .solve import inv

    x = adjoint(inv(a))
    return (as_operand(-matmul(x, matmul(g, x)), a),)


def det_derivative(g: DNDarray, a: DNDarray) -> tuple[DNDarray]:
    """Return ``g conj(det a) a^-H``; a singular matrix is refused. *Distribution*: a determinant and an inverse."""
    from .lu import det
    from .solve import inv

    return (as_operand(_scaled(g * conj(det(a)), adjoint(inv(a))), a),)


def logabsdet_derivative(g: DNDarray, a: DNDarray) -> tuple[DNDarray]:
    """Return ``g a^-H``; a singular matrix is refused. *Distribution*: an inverse."""
    from .solve import inv

    return (as_operand(_scaled(g, adjoint(inv(a))), a),)


def phase_derivative(g: DNDarray, a: DNDarray) -> tuple[DNDarray]:
    """Return the gradient of the matrix of ``sign = slogdet(a).sign``: ``i Im(g conj(sign)) a^-H``, zero for real ones.

    *Distribution*: a determinant and an inverse.
    """
    from .lu import slogdet
    from .solve import inv

    if a.dtype.kind != "c":
        return (a * 0,)
    return (as_operand(_scaled(1j * imag(g * conj(slogdet(a).sign)), adjoint(inv(a))), a),)


def _scaled(numbers: DNDarray, matrices: DNDarray) -> DNDarray:
    return expand_dims(expand_dims(numbers, -1), -1) * matrices


def cholesky_derivative(g: DNDarray, a: DNDarray) -> tuple[DNDarray]:
    """Return the gradient of the matrix of ``l = cholesky(a)``, as a Hermitian one.

    With P the lower triangle of ``l^H g``, its diagonal halved, it is the Hermitian part of ``l^-H P l^-1``.

    *Distribution*: a Cholesky decomposition, a product and two substitutions.
    """
    from .cholesky import cholesky
    from .solve import solve_triangular

    lower = cholesky(a)
    product = matmul(adjoint(lower), g)
    half = (tril(product) + tril(product, -1)) / 2
    left = solve_triangular(lower, half, lower=True, trans="C")
    both = as_operand(adjoint(solve_triangular(lower, adjoint(left), lower=True, trans="C")), a)
    return (as_operand((both + as_operand(adjoint(both), a)) / 2, a),)


def eigvalsh_derivative(g: DNDarray, a: DNDarray, UPLO: str) -> tuple[DNDarray]:
    """Return ``V diag(g) V^H``. *Distribution*: eigenvectors and a product."""
    from .eigh import eigh

    _, vectors = eigh(a, UPLO)
    return (as_operand(matmul(vectors * expand_dims(g, -2), adjoint(vectors)), a),)
