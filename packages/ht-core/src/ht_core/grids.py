"""Grids of coordinates: indices, open and full meshes, arrays made from a function of the index."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from ht_comm import Communicator

from . import types
from .creation import asarray
from .dndarray import DNDarray
from .engines.creation import create, normalize_shape, normalize_split
from .engines.elementwise import common_comm, plan_elementwise
from .engines.redistribution import redistribute
from .errors import LayoutError
from .layout import Layout
from .numerical_ranges import arange, linspace
from .registry import OPERATIONS, register


def meshgrid(
    *arrays: object, indexing: str = "xy", sparse: bool = False, copy: bool = True
) -> list[DNDarray]:
    """Return arrays of the coordinates of a grid, given its coordinates along each axis.

    *Distribution*: all results have one layout: that of a split coordinate, along whose axis they are cut; replicated
    where none is split. A further split coordinate is gathered: O(n) bytes for its n elements, while the grid has
    the product of all extents.

    Parameters
    ----------
    arrays : array_like
        Coordinates along each axis, of shape (n,) or ().
    indexing : str
        "xy", Cartesian: the first two axes of the results are exchanged; or "ij", as indices of a matrix.
    sparse : bool
        Return arrays that broadcast to the grid instead, with extent 1 along all axes but one.
    copy : bool
        False lets the results share memory with the coordinates.

    Returns
    -------
    list of DNDarray

    Raises
    ------
    LayoutError
        If `indexing` is neither, or a coordinate has more than one axis.

    Examples
    --------
    >>> x, y = ht.meshgrid(ht.arange(2, split=0), ht.arange(3))
    >>> x.numpy().tolist()
    [[0, 1], [0, 1], [0, 1]]
    """
    if indexing not in ("xy", "ij"):
        raise LayoutError(f"meshgrid: indexing must be 'xy' or 'ij', got {indexing!r}")
    given = [asarray(x) for x in arrays]
    if any(x.ndim > 1 for x in given):
        raise LayoutError(
            f"meshgrid: arrays must have one axis at most, got shapes {[x.shape for x in given]}"
        )
    comm = common_comm(given, "meshgrid")
    opened = [_along(x, _axis(i, len(given), indexing), len(given)) for i, x in enumerate(given)]
    if sparse or not opened:
        return [x.copy() if copy else x for x in opened]
    plan = plan_elementwise(tuple(x.layout for x in opened), comm.size, None, "meshgrid")
    shape = plan.layout.lshape(comm.rank)
    results = []
    for x, target in zip(opened, plan.targets):
        local = redistribute(x.larray, x.layout, target, comm).expand(shape)
        results.append(DNDarray(local.contiguous() if copy else local, plan.layout, comm))
    return results


def _axis(position: int, n: int, indexing: str) -> int:
    return 1 - position if indexing == "xy" and n > 1 and position < 2 else position


def _along(x: DNDarray, axis: int, ndim: int) -> DNDarray:
    """Return a one-dimensional array as one of `ndim` axes that extends along `axis`."""
    layout = x.layout if x.ndim else x.layout.insert(0)
    local = x.larray.reshape([-1 if a == axis else 1 for a in range(ndim)])
    for a in range(ndim):
        if a != axis:
            layout = layout.insert(a)
    return DNDarray(local, layout, x.comm)


def indices(
    dimensions: Sequence[int],
    dtype: object = types.int64,
    sparse: bool = False,
    *,
    split: int | None = None,
    device: object = None,
    comm: Communicator | None = None,
) -> DNDarray | tuple[DNDarray, ...]:
    """Return the indices of all elements of an array. No message.

    Parameters
    ----------
    dimensions : tuple of int
        Shape of the array, of n axes.
    dtype : dtype
        int64 by default.
    sparse : bool
        Return n arrays that broadcast to the shape instead; the one along `split` is cut.
    split : int, optional
        The axis of the array along which it is cut: axis ``split + 1`` of the result.
    device : Device or str, optional
        "cpu", "gpu" or a torch device; the default is ``ht.get_device()``.
    comm : Communicator, optional
        The ranks that hold the result; the default is ``ht.get_comm()``.

    Returns
    -------
    DNDarray or tuple of DNDarray
        Of shape (n, *dimensions).

    Examples
    --------
    >>> ht.indices((2, 2), split=0).numpy().tolist()
    [[[0, 0], [1, 1]], [[0, 1], [0, 1]]]
    """
    shape = normalize_shape(dimensions, "indices")
    n, cut = len(shape), normalize_split(split, len(shape), "indices")
    if sparse:
        ranges = [
            arange(e, dtype=dtype, split=0 if a == cut else None, device=device, comm=comm)
            for a, e in enumerate(shape)
        ]
        return tuple(_along(x, a, n) for a, x in enumerate(ranges))

    def fill(lshape, offset, kind, device):
        part = torch.empty(lshape, dtype=kind, device=device)
        for a in range(n):
            first = offset if a == cut else 0
            index = torch.arange(first, first + lshape[a + 1], device=device).to(kind)
            part[a] = index.reshape([-1 if b == a else 1 for b in range(n)])
        return part

    return create("indices", (n, *shape), dtype, None if cut is None else cut + 1, device, comm, fill)


def fromfunction(
    function: Callable,
    shape: Sequence[int],
    *,
    dtype: object = types.float64,
    split: int | None = None,
    device: object = None,
    comm: Communicator | None = None,
    **options: object,
) -> object:
    """Make an array whose elements are a function of their indices. No message, where the function sends none.

    Parameters
    ----------
    function : callable
        Takes as many arrays as there are axes: the indices of all elements along each axis, cut along `split`.
    shape : tuple of int
        Global shape.
    dtype : dtype
        Of the indices; float64 by default.
    split : int, optional
        The axis along which the indices, and so the result, are cut.
    device : Device or str, optional
        "cpu", "gpu" or a torch device; the default is ``ht.get_device()``.
    comm : Communicator, optional
        The ranks that hold the result; the default is ``ht.get_comm()``.
    **options
        Passed on to `function`.

    Returns
    -------
    object
        What `function` returns.

    Examples
    --------
    >>> ht.fromfunction(lambda i, j: i + 10 * j, (2, 2), split=0).numpy().tolist()
    [[0.0, 10.0], [1.0, 11.0]]
    """
    shape = normalize_shape(shape, "fromfunction")
    cut = normalize_split(split, len(shape), "fromfunction")
    full = indices(shape, dtype, split=cut, device=device, comm=comm)
    layout = full.layout.drop((0,))
    return function(*(DNDarray(x, layout, full.comm) for x in full.larray), **options)


class Grid:
    """Coordinates by slicing: ``mgrid[0:3, 0:1:5j]``. A complex step is a number of points, ends included.

    ``mgrid(split=0)[...]`` cuts the results along an axis of the grid.

    ``device=`` and ``comm=`` place them. No message.

    Parameters
    ----------
    sparse : bool
        Make arrays that broadcast to the grid (``ogrid``) instead of the grid itself (``mgrid``).

    Examples
    --------
    >>> ht.mgrid(split=0)[0:2, 0:2].numpy().tolist()
    [[[0, 0], [1, 1]], [[0, 1], [0, 1]]]
    >>> [x.shape for x in ht.ogrid[0:2, 0:1:5j]]
    [(2, 1), (1, 5)]
    """

    def __init__(self, sparse: bool, split: int | None = None, device: object = None, comm=None) -> None:
        self._sparse, self._split, self._device, self._comm = sparse, split, device, comm

    def __call__(self, *, split: int | None = None, device: object = None, comm=None) -> Grid:
        """Return the same, with its results cut and placed like this."""
        return Grid(self._sparse, split, device, comm)

    def __getitem__(self, key: slice | tuple[slice, ...]):
        keys = key if isinstance(key, tuple) else (key,)
        cut = normalize_split(self._split, len(keys), "grid")
        lines = [self._line(k, a == cut) for a, k in enumerate(keys)]
        if not isinstance(key, tuple):
            return lines[0]
        kind = types.result_type(*lines)
        lines = [x.astype(kind, copy=False) for x in lines]
        if self._sparse:
            return tuple(_along(x, a, len(lines)) for a, x in enumerate(lines))
        return _stacked(meshgrid(*lines, indexing="ij", copy=False))

    def _line(self, key: slice, cut: bool) -> DNDarray:
        if not isinstance(key, slice) or key.stop is None:
            raise LayoutError(f"grid: the key must consist of slices with an end, got {key!r}")
        start = 0 if key.start is None else key.start
        step = 1 if key.step is None else key.step
        place = {"split": 0 if cut else None, "device": self._device, "comm": self._comm}
        if isinstance(step, complex):
            return linspace(start, key.stop, int(abs(step)), **place)
        return arange(start, key.stop, step, **place)


def _stacked(parts: list[DNDarray]) -> DNDarray:
    layout: Layout = parts[0].layout.insert(0, len(parts))
    return DNDarray(torch.stack([x.larray for x in parts]), layout, parts[0].comm)


class Joiner:
    """Arrays by joining what stands between brackets: ``r_[0:3, 7, x]``. Slices are ranges, numbers arrays of one.

    ``r_`` joins along the first axis, ``c_`` along the last one of arrays of two axes at least. NumPy's directives in
    strings are refused. *Distribution*: that of :func:`concatenate`; numbers and ranges are replicated.

    Parameters
    ----------
    columns : bool
        Join along the last axis.

    Examples
    --------
    >>> ht.r_[0:3, 7, ht.arange(2, split=0)].numpy().tolist()
    [0, 1, 2, 7, 0, 1]
    >>> ht.c_[ht.arange(2), ht.ones(2)].numpy().tolist()
    [[0.0, 1.0], [1.0, 1.0]]
    """

    def __init__(self, columns: bool) -> None:
        self._columns = columns

    def __getitem__(self, key: object) -> DNDarray:
        parts = [self._part(k) for k in (key if isinstance(key, tuple) else (key,))]
        join = OPERATIONS["concatenate"].function
        if not self._columns:
            ndim = max(x.ndim for x in parts)
            return join([_with_axes_in_front(x, ndim) for x in parts], 0)
        columns = [
            DNDarray(x.larray.unsqueeze(1), x.layout.insert(1), x.comm) if x.ndim == 1 else x for x in parts
        ]
        return join(columns, -1)

    @staticmethod
    def _part(key: object) -> DNDarray:
        if isinstance(key, str):
            raise LayoutError(
                f"r_: the key must consist of arrays, numbers and slices, got the directive {key!r}"
            )
        if isinstance(key, slice):
            return Grid(sparse=True)[key]
        x = asarray(key)
        return x if x.ndim else DNDarray(x.larray.reshape(1), x.layout.insert(0), x.comm)


def _with_axes_in_front(x: DNDarray, ndim: int) -> DNDarray:
    layout, local = x.layout, x.larray
    for _ in range(ndim - x.ndim):
        layout, local = layout.insert(0), local.unsqueeze(0)
    return DNDarray(local, layout, x.comm)


r_ = Joiner(columns=False)
c_ = Joiner(columns=True)
mgrid = Grid(sparse=False)
ogrid = Grid(sparse=True)

register(
    meshgrid,
    kind="creation",
    numpy="meshgrid",
    method=False,
    cost="No message where one coordinate at most is split; O(n) bytes for each further one of n elements.",
)
register(indices, kind="creation", numpy="indices", arity=0, method=False)
register(fromfunction, kind="creation", numpy="fromfunction", arity=0, method=False)
