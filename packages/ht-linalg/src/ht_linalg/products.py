"""Products other than ``a @ b``: each is one contraction, or an elementwise product and a sum."""

from __future__ import annotations

import math
from collections.abc import Sequence

import ht_core
import torch
from ht_core import DNDarray, conj, expand_dims, multiply, ravel, reshape, squeeze, types
from ht_core.engines.elementwise import plan_elementwise
from ht_core.engines.redistribution import redistribute
from ht_core.errors import LayoutError
from ht_core.layout import Layout, normalize_axis

from .arguments import as_dndarray, as_pair, deliver
from .contraction import contract
from .matmul import matmul

#: Elements of a product that are formed at once before they are summed: 16 MiB of float64.
_TILE = 2**21


def dot(a: object, b: object, out: DNDarray | None = None) -> DNDarray:
    """Return the dot product as NumPy defines it: of vectors, of matrices, or over one axis of each.

    Parameters
    ----------
    a : array_like, shape (..., k)
    b : array_like, shape (k,) or (..., k, n)
        Where one is 0-D the product is elementwise.
    out : DNDarray, optional
        Where the result is written; it keeps its layout and dtype.

    Returns
    -------
    DNDarray, shape ``a.shape[:-1] + b.shape[:-2] + b.shape[-1:]``

    *Distribution*: as :func:`ht_linalg.matmul`; for two split vectors one allreduce of one number.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> x = ht.arange(4, split=0)
    >>> ht_linalg.dot(x, x).item()
    14
    """
    a, b = as_pair("dot", a, b)
    if a.ndim == 0 or b.ndim == 0:
        return deliver("dot", multiply(a, b), out)
    if a.ndim <= 2 and b.ndim <= 2:
        return deliver("dot", matmul(a, b), out)
    return deliver("dot", tensordot(a, b, ((a.ndim - 1,), (max(b.ndim - 2, 0),))), out)


def inner(a: object, b: object, /) -> DNDarray:
    """Return the inner product over the last axis of both.

    *Distribution*: as :func:`ht_linalg.tensordot`.

    Parameters
    ----------
    a, b : array_like, shapes (..., k) and (..., k)

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.inner(ht.ones((2, 3), split=0), ht.arange(3.0)).numpy()
    array([3., 3.])
    """
    a, b = as_pair("inner", a, b)
    if a.ndim == 0 or b.ndim == 0:
        return multiply(a, b)
    return tensordot(a, b, ((a.ndim - 1,), (b.ndim - 1,)))


def tensordot(x1: object, x2: object, /, *args: object, axes: int | Sequence[Sequence[int]] = 2) -> DNDarray:
    """Sum the product of two arrays over pairs of axes.

    Parameters
    ----------
    x1, x2 : array_like
    axes : int or pair of sequences of int
        The last `axes` axes of `x1` with the first of `x2`; or the axes of `x1` and those of `x2` they are paired
        with.

    Returns
    -------
    DNDarray
        The remaining axes of `x1`, then those of `x2`.

    *Distribution*: one matrix product of the merged axes, see :func:`ht_linalg.matmul`; the smaller operand moves
    where the two are split along different paired axes.

    Raises
    ------
    LayoutError
        If axes are out of range or paired extents differ.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> x = ht.ones((2, 3, 4), split=1)
    >>> ht_linalg.tensordot(x, x, axes=((1, 2), (1, 2))).numpy()
    array([[12., 12.],
           [12., 12.]])
    """
    if len(args) > 1:
        raise TypeError(f"tensordot: takes three arguments, got {2 + len(args)}")
    axes = args[0] if args else axes
    a, b = as_pair("tensordot", x1, x2)
    first, second = _paired_axes(axes, a, b)
    for i, j in zip(first, second):
        if a.shape[i] != b.shape[j]:
            raise LayoutError(
                f"tensordot: paired axes must have equal extents, got {a.shape[i]} (axis {i} of x1) and "
                f"{b.shape[j]} (axis {j} of x2)"
            )
    labels = list(range(a.ndim)), [a.ndim + j for j in range(b.ndim)]
    for i, j in zip(first, second):
        labels[1][j] = i
    out = (
        *(x for x in labels[0] if x not in first),
        *(x for j, x in enumerate(labels[1]) if j not in second),
    )
    return contract("tensordot", a, labels[0], b, labels[1], out)


def _paired_axes(axes, a: DNDarray, b: DNDarray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    if isinstance(axes, int):
        if not 0 <= axes <= min(a.ndim, b.ndim):
            raise LayoutError(
                f"tensordot: axes must be in [0, {min(a.ndim, b.ndim)}] for arrays of shapes {a.shape} and "
                f"{b.shape}, got {axes}"
            )
        return tuple(range(a.ndim - axes, a.ndim)), tuple(range(axes))
    first, second = ((x,) if isinstance(x, int) else tuple(x) for x in axes)
    first = tuple(normalize_axis(i, a.ndim, "tensordot", "axes") for i in first)
    second = tuple(normalize_axis(j, b.ndim, "tensordot", "axes") for j in second)
    if len(first) != len(second) or len(set(first)) < len(first) or len(set(second)) < len(second):
        raise LayoutError(f"tensordot: axes must pair each axis once, got {first} of x1 and {second} of x2")
    return first, second


def vecdot(x1: object, x2: object, /, *, axis: int = -1) -> DNDarray:
    """Return the dot product of vectors along one axis; the others broadcast. `x1` is conjugated.

    *Distribution*: no message where the operands have one layout and `axis` is not split; along the split axis one
    allreduce of the result. Otherwise the cheaper operand moves first, as in elementwise operations.

    Parameters
    ----------
    x1, x2 : array_like
        Shapes that broadcast, with equal extents along `axis`.
    axis : int
        Of the broadcast shape, where negative of each operand.

    Raises
    ------
    LayoutError
        If the shapes do not fit.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> x = ht.arange(6, split=0).reshape((3, 2))
    >>> ht_linalg.vecdot(x, x).numpy()
    array([ 1, 13, 41])
    """
    a, b = as_pair("vecdot", x1, x2)
    at = _vector_axis("vecdot", a, b, axis)
    if a.ndim == b.ndim == 1:
        return matmul(conj(a) if a.dtype.kind == "c" else a, b)
    x, y, layout = aligned("vecdot", a, b)
    dtype = x.dtype
    compute = torch.float32 if dtype in (torch.float16, torch.bfloat16) else dtype
    x, y = (t.movedim(at, -1) for t in torch.broadcast_tensors(x, y))
    flat = layout.drop((at,))
    step = max(1, _TILE // max(1, math.prod(x.shape[1:])))
    parts = [_dots(u, v, compute) for u, v in zip(x.split(step), y.split(step))] if x.dim() > 1 else []
    local = torch.cat(parts) if parts else _dots(x, y, compute)
    if layout.split != at:
        return DNDarray(local.to(dtype), flat, a.comm)
    # Each rank's sum is one element along a new axis, cut over the ranks: its sum is the one allreduce.
    p = a.comm.size
    partial = Layout((*flat.shape, p), flat.ndim, (1,) * p)
    partial = DNDarray(local.unsqueeze(-1), partial, a.comm)
    total = (
        partial.any(axis=-1) if dtype is torch.bool else partial.sum(axis=-1, dtype=types.canonical(compute))
    )
    return total.astype(types.canonical(dtype), copy=False)


def _dots(x: torch.Tensor, y: torch.Tensor, compute: torch.dtype) -> torch.Tensor:
    x, y = x.to(compute), y.to(compute)
    if compute is torch.bool:
        return (x & y).any(-1)
    return (x.conj() * y).sum(-1, dtype=compute)


def _vector_axis(op: str, a: DNDarray, b: DNDarray, axis: int) -> int:
    """Return the axis of the vectors as one of the broadcast shape."""
    ndim = max(a.ndim, b.ndim)
    if min(a.ndim, b.ndim) == 0:
        raise LayoutError(f"{op}: arrays must have at least one axis, got shapes {a.shape} and {b.shape}")
    at = normalize_axis(axis, ndim, op, "axis")
    extents = [x.shape[at - ndim] if at - ndim >= -x.ndim else None for x in (a, b)]
    if None in extents or extents[0] != extents[1]:
        raise LayoutError(
            f"{op}: both arrays must have the same extent along axis {axis}, got shapes {a.shape} and {b.shape}"
        )
    return at


def aligned(op: str, a: DNDarray, b: DNDarray) -> tuple[torch.Tensor, torch.Tensor, Layout]:
    """Return the local parts of two operands of an elementwise operation, of one dtype, and the result's layout."""
    if a.comm is not b.comm:
        raise LayoutError(f"{op}: x2 must live on the communicator of x1 ({a.comm}), got {b.comm}")
    dtype = types.promote_types(a.dtype, b.dtype).torch
    plan = plan_elementwise((a.layout, b.layout), a.comm.size, None, op)
    x, y = (
        redistribute(x.larray, x.layout, target, x.comm).to(dtype) for x, target in zip((a, b), plan.targets)
    )
    return x, y, plan.layout


def vdot(a: object, b: object, /) -> DNDarray:
    """Return the dot product of two arrays taken as vectors in C order; `a` is conjugated.

    *Distribution*: one allreduce of one number where the layouts agree.

    Raises
    ------
    LayoutError
        If the sizes differ.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.vdot(ht.array([1j, 2], split=0), ht.array([1j, 2], split=0)).item()
    (5+0j)
    """
    a, b = as_pair("vdot", a, b)
    if a.size != b.size:
        raise LayoutError(f"vdot: b must have as many elements as a ({a.size}), got shape {b.shape}")
    if a.shape != b.shape:
        a, b = ravel(a), ravel(b)
    labels = tuple(range(a.ndim))
    a = conj(a) if a.dtype.kind == "c" else a
    return contract("vdot", a, labels, b, labels, ()) if labels else multiply(a, b)


def outer(a: object, b: object, out: DNDarray | None = None, split: int | None = None) -> DNDarray:
    """Return the outer product of two arrays taken as vectors.

    Parameters
    ----------
    a, b : array_like, of m and n elements
    out : DNDarray, optional
        Where the result is written; it keeps its layout and dtype.
    split : {None, 0, 1}
        Axis of the result that is cut; by default that of the operand which need not move.

    Returns
    -------
    DNDarray, shape (m, n)

    *Distribution*: the operand along which the result is not cut is gathered if it is split: O(m + n) bytes.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.outer(ht.arange(2, split=0), ht.arange(3)).numpy()
    array([[0, 0, 0],
           [0, 1, 2]])
    """
    a, b = as_pair("outer", a, b)
    if split not in (None, 0, 1):
        raise LayoutError(f"outer: split must be 0, 1 or None, got {split}")
    a, b = ravel(a), ravel(b)
    if split == 0:
        a, b = a.resplit(0) if a.split is None else a, b.resplit(None)
    elif split == 1:
        a, b = a.resplit(None), b.resplit(0) if b.split is None else b
    return deliver("outer", multiply(expand_dims(a, 1), expand_dims(b, 0)), out)


def kron(a: object, b: object) -> DNDarray:
    """Return the Kronecker product.

    Parameters
    ----------
    a, b : array_like
        The one with fewer axes gains axes of extent 1 in front.

    Returns
    -------
    DNDarray
        Of shape ``a.shape[i] * b.shape[i]`` along axis i.

    *Distribution*: `b` is gathered where `a` is split, O(b) bytes; where only `b` is split, the result is resplit once.

    References
    ----------
    C. F. Van Loan, The ubiquitous Kronecker product, 2000, doi:10.1016/S0377-0427(00)00393-9.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.kron(ht.arange(2, split=0), ht.ones(2)).numpy()
    array([0., 0., 1., 1.])
    """
    a, b = as_pair("kron", a, b)
    ndim = max(a.ndim, b.ndim)
    a = expand_dims(a, tuple(range(ndim - a.ndim))) if a.ndim < ndim else a
    b = expand_dims(b, tuple(range(ndim - b.ndim))) if b.ndim < ndim else b
    shape = tuple(m * n for m, n in zip(a.shape, b.shape))
    if not ndim:
        return multiply(a, b)
    if a.split is not None and b.split is not None:
        b = b.resplit(None)
    left = expand_dims(a, tuple(range(1, 2 * ndim, 2)))
    right = expand_dims(b, tuple(range(0, 2 * ndim, 2)))
    product = multiply(left, right)
    if (
        product.split is None or product.split % 2 == 0
    ):  # a's axis: each of its rows becomes b's extent of rows
        axis = None if product.split is None else product.split // 2
        counts = () if axis is None else tuple(n * b.shape[axis] for n in product.layout.counts)
        layout = Layout(shape, axis, counts)
        return DNDarray(product.larray.reshape(layout.lshape(a.comm.rank)), layout, a.comm)
    return reshape(product, shape, new_split=product.split // 2)


def matvec(x1: object, x2: object, /) -> DNDarray:
    """Return the products of matrices (..., m, n) and vectors (..., n); other axes broadcast.

    *Distribution*: as :func:`ht_linalg.matmul`.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.matvec(ht.ones((2, 3), split=0), ht.arange(3.0)).numpy()
    array([3., 3.])
    """
    a, b = as_pair("matvec", x1, x2)
    _at_least("matvec", a, b, 2, 1)
    return matmul(a, b) if b.ndim == 1 else squeeze(matmul(a, expand_dims(b, b.ndim)), -1)


def vecmat(x1: object, x2: object, /) -> DNDarray:
    """Return the products of vectors (..., m), conjugated, and matrices (..., m, n); other axes broadcast.

    *Distribution*: as :func:`ht_linalg.matmul`.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.vecmat(ht.arange(3.0), ht.ones((3, 2), split=0)).numpy()
    array([3., 3.])
    """
    a, b = as_pair("vecmat", x1, x2)
    _at_least("vecmat", a, b, 1, 2)
    a = conj(a) if a.dtype.kind == "c" else a
    return matmul(a, b) if a.ndim == 1 else squeeze(matmul(expand_dims(a, a.ndim - 1), b), -2)


def _at_least(op: str, a: DNDarray, b: DNDarray, na: int, nb: int) -> None:
    for name, x, n in (("x1", a, na), ("x2", b, nb)):
        if x.ndim < n:
            raise LayoutError(f"{op}: {name} must have at least {n} axes, got shape {x.shape}")


def projection(a: object, b: object) -> DNDarray:
    """Return the projection of vector `a` onto the direction of vector `b`.

    *Distribution*: two allreduces of one number where the vectors are split.

    Raises
    ------
    LayoutError
        If an operand is not a vector.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.projection(ht.array([1.0, 1.0], split=0), ht.array([2.0, 0.0], split=0)).numpy()
    array([1., 0.])
    """
    a, b = as_pair("projection", a, b)
    if a.ndim != 1 or b.ndim != 1:
        raise LayoutError(f"projection: a and b must be vectors, got shapes {a.shape} and {b.shape}")
    return multiply(vdot(b, a) / vdot(b, b), b)


def trace(
    a: object,
    offset: int = 0,
    axis1: int = -2,
    axis2: int = -1,
    dtype: object = None,
    out: DNDarray | None = None,
) -> DNDarray:
    """Return the sum along a diagonal of two axes, the last two by default.

    ``ht.trace`` and the method of arrays take the first two by default, as NumPy's do.

    *Distribution*: every rank sums what it holds of the diagonal; one allreduce of the result where one of the two
    axes is split.

    Parameters
    ----------
    a : array_like, at least 2-D
    offset : int
        Diagonals above (positive) or below the main one.
    axis1, axis2 : int
    dtype : dtype, optional
        Of the sum; as :func:`ht_core.sum` has it by default.
    out : DNDarray, optional
        Where the result is written; it keeps its layout and dtype.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.trace(ht.eye(5, split=0)).item()
    5.0
    """
    a = as_dndarray("trace", "a", a)
    diagonal = ht_core.diagonal(a, offset, axis1, axis2)
    return deliver("trace", diagonal.sum(axis=-1, dtype=dtype), out)


def trace_of_first_axes(
    a: object,
    offset: int = 0,
    axis1: int = 0,
    axis2: int = 1,
    dtype: object = None,
    out: DNDarray | None = None,
) -> DNDarray:
    """Return the sum along a diagonal of two axes, the first two by default: ``ht.trace``.

    Parameters and *Distribution* are those of :func:`ht_linalg.trace`.

    Examples
    --------
    >>> import ht_core as ht
    >>> ht.trace(ht.ones((2, 2, 3), split=2)).numpy()
    array([2., 2., 2.])
    """
    return trace(a, offset, axis1, axis2, dtype, out)


def diagonal(x: object, /, *, offset: int = 0) -> DNDarray:
    """Return the diagonals of the matrices in the last two axes, as the last axis of the result.

    *Distribution*: as :func:`ht_core.diagonal`.

    Parameters
    ----------
    x : array_like, shape (..., m, n)
    offset : int
        Diagonals above (positive) or below the main one.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> ht_linalg.diagonal(ht.arange(6, split=0).reshape((2, 3)), offset=1).numpy()
    array([1, 5])
    """
    x = as_dndarray("diagonal", "x", x)
    if x.ndim < 2:
        raise LayoutError(f"diagonal: x must have at least two axes, got shape {x.shape}")
    return ht_core.diagonal(x, offset, -2, -1)
