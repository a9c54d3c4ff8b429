"""Linear systems with square matrices: solve, inverse, and triangular systems."""

from __future__ import annotations

import torch
from ht_core import DNDarray, conj, eye
from ht_core.engines.recording import record_rule
from ht_core.engines.tracking import is_tracked
from ht_core.errors import LayoutError
from ht_core.layout import Layout

from .arguments import as_pair
from .columns import as_stack, cut_by_columns, dealt, is_whole, map_matrices, moved
from .elimination import factor, substitute, substitute_along
from .errors import LinAlgError
from .factor_derivatives import inv_derivative, solve_derivative, triangular_derivative


def solve(a: object, b: object, /) -> DNDarray:
    """Solve ``a @ x = b``.

    Parameters
    ----------
    a : array_like, shape (..., n, n)
    b : array_like, shape (n,) or (..., n, k)

    Returns
    -------
    DNDarray
        Of the shape of `b`, with leading axes broadcast.

    *Distribution*: split as `b`. LU decomposition with partial pivoting of the columns of `a`, see
    :func:`ht_linalg.lu`; the right-hand sides are eliminated along the way. The back substitution passes few right-hand
    sides from rank to rank, n k words each, and broadcasts the panels of U, n^2 / 2 words, for many. Stacks are split
    along a leading axis, and need no message if they are so already.

    Raises
    ------
    LinAlgError
        If `a` is exactly singular; on every rank.
    LayoutError
        If `a` is not square or the shapes do not fit.

    References
    ----------
    N. J. Higham, Accuracy and Stability of Numerical Algorithms, 2002, doi:10.1137/1.9780898718027 (chapter 9: the
    backward error is at rounding level times the growth factor).

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> a = ht.array([[1e-20, 1.0], [1.0, 1.0]], split=0)
    >>> ht_linalg.solve(a, ht.array([1.0, 2.0])).numpy()
    array([1., 1.])
    """
    if is_tracked(a, b):
        return record_rule("solve", solve, as_pair("solve", a, b), solve_derivative)
    a, b, vector = _operands("solve", a, b)
    if a.ndim > 2 or b.ndim > 2 or (is_whole(a) and b.split != 0):
        return _of_stacks(a, b, vector, _solve_whole)
    columns = _cut_sides(a, b)
    matrix, layout = cut_by_columns(a)
    rhs = columns.larray.clone(memory_format=torch.contiguous_format)
    if factor(matrix, layout.counts, a.comm, rhs).singular:
        raise LinAlgError("solve: a must not be singular")
    return _substituted(matrix, layout, DNDarray(rhs, columns.layout, a.comm), b, vector, upper=True)


def inv(a: object, /) -> DNDarray:
    """Return the inverse of a matrix, or of a stack of matrices.

    *Distribution*: split as `a`; :func:`solve` with the columns of the identity.

    Raises
    ------
    LinAlgError
        If `a` is exactly singular; on every rank.
    LayoutError
        If `a` is not square.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.inv(ht.array([[0.0, 2.0], [4.0, 0.0]], split=1)).numpy()
    array([[0.  , 0.25],
           [0.5 , 0.  ]])
    """
    if is_tracked(a):
        return record_rule("inv", inv, (a,), inv_derivative)
    a = as_stack("inv", "a", a, square=True)
    if a.ndim > 2 or is_whole(a):
        whole = a if is_whole(a) else dealt(a)
        return map_matrices(whole, lambda x: _checked("inv", whole, torch.linalg.inv_ex(x)))
    identity = eye(a.shape[0], dtype=a.dtype, split=1, device=a.device, comm=a.comm)
    return moved(solve(a, identity), a.layout)


def solve_triangular(
    a: object, b: object, /, *, lower: bool = False, trans: int | str = 0, unit_diagonal: bool = False
) -> DNDarray:
    """Solve ``a @ x = b`` for triangular `a` (SciPy's conventions).

    Parameters
    ----------
    a : array_like, shape (..., n, n)
        Only one triangle is read.
    b : array_like, shape (n,) or (..., n, k)
    lower : bool
        Read the lower triangle instead of the upper one.
    trans : {0 or "N", 1 or "T", 2 or "C"}
        Solve with `a`, its transpose or its adjoint.
    unit_diagonal : bool
        Take the diagonal as ones without reading it.

    *Distribution*: split as `b`. As the back substitution of :func:`solve`.

    Raises
    ------
    LinAlgError
        If a diagonal element is zero; on every rank.
    LayoutError
        If `a` is not square or the shapes do not fit.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> a = ht.array([[2.0, 1.0], [9.0, 4.0]], split=1)
    >>> ht_linalg.solve_triangular(a, ht.array([3.0, 4.0], split=0)).numpy()
    array([1., 1.])
    """
    if trans not in (0, 1, 2, "N", "T", "C"):
        raise ValueError(f"solve_triangular: trans must be 0, 1, 2, N, T or C, got {trans!r}")
    if is_tracked(a, b):
        options = {"lower": lower, "trans": trans, "unit_diagonal": unit_diagonal}
        return record_rule(
            "solve_triangular",
            lambda x, y: solve_triangular(x, y, **options),
            as_pair("solve_triangular", a, b),
            lambda g, x, y: triangular_derivative(g, x, y, options),
        )
    a, b, vector = _operands("solve_triangular", a, b)
    if trans not in (0, "N"):
        a, lower = a.mT, not lower
        a = conj(a) if trans in (2, "C") and a.dtype.kind == "c" else a

    def kernel(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        singular = (x.diagonal(dim1=-2, dim2=-1) == 0).any(-1) & (not unit_diagonal)
        return torch.linalg.solve_triangular(x, y, upper=not lower, unitriangular=unit_diagonal), singular

    if a.ndim > 2 or b.ndim > 2 or (is_whole(a) and b.split != 0):
        return _of_stacks(a, b, vector, kernel, "solve_triangular")
    columns = _cut_sides(a, b)
    matrix, layout = cut_by_columns(a)
    zero = (matrix.diagonal(-layout.displs[a.comm.rank]) == 0).any() & (not unit_diagonal)
    error = LinAlgError("solve_triangular: a must not be singular")
    a.comm.agree(error if bool(zero) else None)
    rhs = DNDarray(columns.larray.clone(memory_format=torch.contiguous_format), columns.layout, a.comm)
    return _substituted(matrix, layout, rhs, b, vector, upper=not lower, unit=unit_diagonal)


# -- operands --------------------------------------------------------------------------------------------------


def _operands(op: str, a: object, b: object) -> tuple[DNDarray, DNDarray, bool]:
    """Return both operands in one dtype, `b` as a matrix, and whether it was a vector."""
    a, b = as_pair(op, a, b)
    vector = b.ndim == 1
    if vector:
        b = DNDarray(b.larray[:, None], b.layout.insert(1), b.comm)
    a, b = as_stack(op, "a", a, square=True), as_stack(op, "b", b)
    if a.shape[-1] != b.shape[-2]:
        raise LayoutError(f"{op}: b must have {a.shape[-1]} rows, got shape {b.shape}")
    if a.comm is not b.comm:
        raise LayoutError(f"{op}: b must live on the communicator of a ({a.comm}), got {b.comm}")
    dtype = torch.promote_types(a.larray.dtype, b.larray.dtype)
    a, b = (DNDarray(x.larray.to(dtype), x.layout, x.comm) for x in (a, b))
    return a, b, vector


def _cut_sides(a: DNDarray, b: DNDarray) -> DNDarray:
    """Return the right-hand sides as the substitution takes them: few on every rank, many cut by columns."""
    n, k = b.shape
    if k * a.comm.size <= n:
        return moved(b, Layout(b.shape, None))
    return b if b.split == 1 else moved(b, Layout.even(b.shape, 1, a.comm.size))


def _substituted(
    matrix: torch.Tensor,
    layout: Layout,
    rhs: DNDarray,
    b: DNDarray,
    vector: bool,
    *,
    upper: bool,
    unit: bool = False,
) -> DNDarray:
    """Return the solution in the layout of `b`; `matrix` are this rank's columns of a triangular matrix."""
    comm = rhs.comm
    if rhs.split is None:
        local = substitute_along(matrix, layout.counts, comm, rhs.larray, upper=upper, unit=unit)
        x = DNDarray(local, Layout(b.shape, 0, layout.counts), comm)
    else:
        substitute(matrix, layout.counts, comm, rhs.larray, upper=upper, unit=unit)
        x = rhs
    x = moved(x, b.layout)
    return DNDarray(x.larray[:, 0], x.layout.drop((1,)), comm) if vector else x


def _solve_whole(a: torch.Tensor, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.linalg.solve_ex(a, b)


def _checked(op: str, a: DNDarray, found: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Return the first of (result, info); raise on all ranks where a matrix of one of them was singular."""
    bad = bool(found[1].any())
    error = LinAlgError(f"{op}: a must not be singular") if bad else None
    if a.split is not None:
        a.comm.agree(error)
    elif error is not None:
        raise error
    return found[0]


def _of_stacks(a: DNDarray, b: DNDarray, vector: bool, kernel, op: str = "solve") -> DNDarray:
    """Solve stacks whose matrices are whole on their ranks, dealing them to the ranks where they are not."""
    try:
        batch = tuple(torch.broadcast_shapes(a.shape[:-2], b.shape[:-2]))
    except RuntimeError:
        raise LayoutError(
            f"{op}: the leading axes of a and b must broadcast, got shapes {a.shape} and {b.shape}"
        ) from None
    comm, ndim = a.comm, len(batch) + 2
    splits = [
        (x.split + ndim - x.ndim, x.layout.counts)
        for x in (b, a)
        if x.split is not None and x.split < x.ndim - 2 and x.shape[x.split] == batch[x.split + ndim - x.ndim]
    ]
    if not splits and batch and (a.split is not None or (b.split is not None and b.split != b.ndim - 1)):
        axis = max(range(len(batch)), key=lambda i: batch[i])
        splits = [(axis, Layout.even(batch, axis, comm.size).counts)]
    if not splits and b.split is not None:  # right-hand sides that are cut, or one rank
        splits = [(b.split + ndim - b.ndim, b.layout.counts)]
    layout = Layout((*batch, *b.shape[-2:]), *(splits[0] if splits else (None,)))
    local = []
    for x in (a, b):
        own = None if layout.split is None else layout.split - (ndim - x.ndim)
        follows = own is not None and own >= 0 and x.shape[own] == layout.shape[layout.split]
        follows &= x is b or own is None or own < x.ndim - 2
        local.append(
            moved(x, Layout(x.shape, own, layout.counts) if follows else Layout(x.shape, None)).larray
        )
    shapes = [(*torch.broadcast_shapes(*(y.shape[:-2] for y in local)), *x.shape[-2:]) for x in local]
    result = kernel(*(x.expand(shape) for x, shape in zip(local, shapes)))
    x = DNDarray(_checked(op, DNDarray(b.larray, layout, comm), result), layout, comm)
    return DNDarray(x.larray[..., 0], layout.drop((layout.ndim - 1,)), comm) if vector else x
