"""Diagonals and triangles. Elements stay with their rows, so that nothing is sent."""

from __future__ import annotations

from itertools import pairwise

import torch

from .dndarray import DNDarray
from .engines.indexing import as_value, bits, fill, is_repeated
from .engines.operands import as_arrays
from .engines.redistribution import redistribute
from .errors import LayoutError
from .layout import Layout, normalize_axis
from .padding import plan_pad
from .registry import register
from .reshaping import ravel


def diagonal(x: DNDarray, offset: int = 0, axis1: int = 0, axis2: int = 1) -> DNDarray:
    """Return the diagonal of the planes of two axes, along a new last axis.

    *Distribution*: no message. Where one of the two axes is split, elements stay with their rows and the result is
    split along its last axis (uneven); otherwise the split stays.

    Parameters
    ----------
    offset : int
        Places above (positive) or below the main diagonal.
    axis1, axis2 : int
        The first and second axis of the planes.

    Returns
    -------
    DNDarray
        A read-only view.

    Raises
    ------
    LayoutError
        If the array has fewer than two axes or the axes are not two different ones.

    Examples
    --------
    >>> ht.diagonal(ht.arange(9, split=0).reshape(3, 3), 1).numpy().tolist()
    [1, 5]
    """
    if x.ndim < 2:
        raise LayoutError(f"diagonal: x must have two axes or more, got shape {x.shape}")
    first = normalize_axis(axis1, x.ndim, "diagonal", "axis1")
    second = normalize_axis(axis2, x.ndim, "diagonal", "axis2")
    if first == second:
        raise LayoutError(f"diagonal: axis1 and axis2 must differ, got {axis1} and {axis2}")
    above, below = max(offset, 0), max(-offset, 0)
    length = max(min(x.shape[first] - below, x.shape[second] - above), 0)
    layout = x.layout
    rest = layout.drop((first, second))
    shift = offset
    if layout.split in (first, second):
        # Element i lies in row i + below and column i + above; one of the two is local.
        is_row = layout.split == first
        edge = below if is_row else above
        marks = [min(max(d - edge, 0), length) for d in (*layout.displs, layout.shape[layout.split])]
        start = layout.displs[x.comm.rank]
        result = Layout((*rest.shape, length), rest.ndim, [stop - begin for begin, stop in pairwise(marks)])
        shift = offset + start if is_row else offset - start
    else:
        result = rest.insert(rest.ndim, length)
    local = x.larray.diagonal(shift, first, second)
    # torch measures from the local corner; what lies beyond the last element of the global diagonal is none of it.
    return DNDarray(local.narrow(-1, 0, result.lshape(x.comm.rank)[-1]), result, x.comm)


def diag(x: object, k: int = 0) -> DNDarray:
    """Return the diagonal `k` of a matrix, or the matrix that has a vector as its diagonal `k`.

    *Distribution*: no message where ``abs(k)`` is at most the even part of a rank. Elements of a vector stay on their
    ranks: row by row with a split vector; a longer offset gives an even matrix by one redistribution of the vector.

    Parameters
    ----------
    x : array_like
        Of shape (n,) or (m, n).

    Returns
    -------
    DNDarray
        Of shape ``(n + abs(k), n + abs(k))``, or the view :func:`diagonal`.

    Raises
    ------
    LayoutError
        If the array is neither a vector nor a matrix.

    Examples
    --------
    >>> ht.diag(ht.array([1, 2], split=0), 1).numpy().tolist()
    [[0, 1, 0], [0, 0, 2], [0, 0, 0]]
    """
    (x,) = as_arrays([x], "diag")
    if x.ndim == 2:
        return diagonal(x, k)
    if x.ndim != 1:
        raise LayoutError(f"diag: x must have one or two axes, got shape {x.shape}")
    above, below, comm, n = max(k, 0), max(-k, 0), x.comm, x.shape[0]
    # Row `below + i` holds element i; the others are zero.
    rows = plan_pad(x.layout, ((below, above),))
    layout = rows.insert(1, n + above + below)
    local, begin, first = x.larray, 0, below
    if rows.split is not None:
        marks = [min(max(d - below, 0), n) for d in (*rows.displs, rows.shape[0])]
        held = x.layout.with_counts([stop - start for start, stop in pairwise(marks)])
        local = redistribute(local, x.layout, held, comm)
        begin = rows.displs[comm.rank]
        first = max(below - begin, 0)
    out = torch.zeros(layout.lshape(comm.rank), dtype=local.dtype, device=local.device)
    count = local.shape[0]
    first = min(first, out.shape[0])  # beyond the end where there is no element
    column = min(max(begin + first + k, 0), out.shape[1])
    out.narrow(0, first, count).narrow(1, column, count).diagonal().copy_(local)
    return DNDarray(out, layout, comm)


def diagflat(x: object, k: int = 0) -> DNDarray:
    """Return the matrix whose diagonal `k` holds the elements of an array in C order.

    *Distribution*: as :func:`ravel` and :func:`diag`: no message where the array is split along axis 0.
    """
    (x,) = as_arrays([x], "diagflat")
    return diag(ravel(x), k)


def _triangle(x: DNDarray, k: int, kernel, op: str) -> DNDarray:
    if x.ndim < 2:
        raise LayoutError(f"{op}: x must have two axes or more, got shape {x.shape}")
    shift = k
    if x.split == x.ndim - 2:
        shift = k + x.layout.displs[x.comm.rank]
    elif x.split == x.ndim - 1:
        shift = k - x.layout.displs[x.comm.rank]
    local = kernel(bits(x.larray), shift)
    return DNDarray(local.view(x.larray.dtype), x.layout, x.comm)


def tril(x: DNDarray, /, k: int = 0) -> DNDarray:
    """Return the array with zeros above diagonal `k` of its last two axes. The layout stays; no message.

    Raises
    ------
    LayoutError
        If the array has fewer than two axes.

    Examples
    --------
    >>> ht.tril(ht.ones((2, 2), split=0)).numpy().tolist()
    [[1.0, 0.0], [1.0, 1.0]]
    """
    return _triangle(x, k, torch.tril, "tril")


def triu(x: DNDarray, /, k: int = 0) -> DNDarray:
    """Return the array with zeros below diagonal `k` of its last two axes. The layout stays; no message.

    Raises
    ------
    LayoutError
        If the array has fewer than two axes.
    """
    return _triangle(x, k, torch.triu, "triu")


def fill_diagonal(x: DNDarray, value: object, wrap: bool = False) -> DNDarray:
    """Set the main diagonal of an array, in place; return the array.

    Of a matrix, the elements ``(i, i)``; with `wrap`, the diagonal of a tall matrix starts again below the row
    after its end. Of more axes, which must have one extent, the elements ``(i, i, ..., i)``.

    *Distribution*: no message; split values are gathered.

    Parameters
    ----------
    value : number or array_like
        Its elements in C order, repeated as often as it takes. Equal on all ranks.

    Raises
    ------
    LayoutError
        If the array has fewer than two axes, or more of different extents, or was made by broadcasting.
    """
    if x.ndim < 2 or (x.ndim > 2 and len(set(x.shape)) != 1):
        raise LayoutError(f"fill_diagonal: x must have two axes, or more of one extent, got shape {x.shape}")
    if is_repeated(x.larray):
        raise LayoutError("fill_diagonal: x must be writable, got a view made by broadcasting; copy it first")
    values = as_value(value, x)
    if isinstance(values, DNDarray):
        values = redistribute(values.larray, values.layout, Layout.replicated(values.shape), x.comm).reshape(
            -1
        )
        if not values.numel():
            return x
    rows, columns = x.shape[0], x.shape[-1]
    axis, start = (0, 0) if x.split is None else (x.split, x.layout.displs[x.comm.rank])
    stop = start + x.larray.shape[axis]
    period = columns + 1 if wrap and x.ndim == 2 else max(rows, 1)
    for first in range(0, rows, period):  # the diagonal that begins in row `first`
        length = min(rows - first, columns)
        low, high = (start - first, stop - first) if axis == 0 else (start, stop)
        low, high = max(low, 0), min(high, length)
        if low >= high:
            continue
        index = torch.arange(low, high, device=x.larray.device)
        number = index + first // period * columns  # how many elements of the diagonal come before
        places = [index] * x.ndim
        places[0] = index + first
        places[axis] = places[axis] - start
        if isinstance(values, torch.Tensor):
            picked = bits(values)[number % values.numel()].view(values.dtype).to(x.larray.dtype)
            bits(x.larray)[tuple(places)] = bits(picked)
        elif x.ndim == 2:
            corner = x.larray.narrow(0, int(places[0][0]), high - low).narrow(
                1, int(places[1][0]), high - low
            )
            fill(corner.diagonal(), values)
        else:
            x.larray[tuple(places)] = torch.tensor(values, dtype=x.larray.dtype, device=x.larray.device)
    return x


for _function in (diag, diagflat):
    register(_function, kind="manipulation", numpy=_function.__name__, method=_function is diag)
for _function in (diagonal, tril, triu):
    register(_function, kind="manipulation", numpy=_function.__name__)
register(fill_diagonal, kind="assignment", numpy="fill_diagonal")
