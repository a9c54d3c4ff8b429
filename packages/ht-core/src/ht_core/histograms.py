"""Histograms, counts and bins.

Each rank counts its elements tile by tile; the counts are added in one allreduce. Edges are replicated.
"""

from __future__ import annotations

import builtins
import math
import operator
from collections.abc import Callable

import numpy as np
import torch

from . import types
from .bin_rules import RULES
from .dndarray import DNDarray
from .engines.binning import add_up, bin_of, count, ordinary, tiles
from .engines.elementwise import as_operand, common_comm
from .engines.ordered import from_ordered, to_ordered
from .engines.redistribution import redistribute
from .engines.reduction_kernels import lowest, reverse
from .errors import DTypeError, LayoutError
from .layout import Layout
from .registry import register


def _array(x: object, op: str, comm=None, device=None) -> DNDarray:
    if isinstance(x, DNDarray):
        return x
    return as_operand(x, comm or common_comm([], op), device or torch.device("cpu"), op)


def _replicated(x: DNDarray) -> torch.Tensor:
    return redistribute(x.larray, x.layout, Layout.replicated(x.shape), x.comm)


def _everywhere(local: torch.Tensor, like: DNDarray) -> DNDarray:
    return DNDarray(local, Layout(tuple(local.shape), None), like.comm)


def _spans(x: DNDarray) -> bool:
    return x.split is not None and x.comm.size > 1


def _extent(x: DNDarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the least and the greatest element, 0-D, of a not empty array. One allreduce of two numbers if split."""
    image = to_ordered(x.larray.reshape(-1))
    if image.numel():
        ends = torch.stack([image.amax(), reverse(image.amin())])
    else:
        worst = lowest(image.dtype, True)
        ends = torch.full((2,), worst, dtype=image.dtype, device=image.device)
    if _spans(x):
        ends = x.comm.allreduce(ends, "max")
    top, bottom = ends[:1], reverse(ends[1:])
    return from_ordered(bottom, x.larray.dtype)[0], from_ordered(top, x.larray.dtype)[0]


def _total(local: torch.Tensor, x: DNDarray) -> torch.Tensor:
    return x.comm.allreduce(local) if _spans(x) else local


def _aligned(op: str, weights: object, x: DNDarray) -> torch.Tensor | None:
    """Return the weights of this rank's elements, flat."""
    if weights is None:
        return None
    weights = _array(weights, op, x.comm, x.larray.device)
    if weights.shape != x.shape:
        raise LayoutError(f"{op}: weights must have shape {x.shape}, got {weights.shape}")
    return redistribute(weights.larray, weights.layout, x.layout, x.comm).reshape(-1)


# -- edges ------------------------------------------------------------------------------------------------------


def _outer_edges(op: str, x: DNDarray, range_: object) -> tuple:
    """Return the first and the last edge as NumPy scalars of the dtype of `x`, or as given."""
    if range_ is not None:
        first, last = range_
        if first > last:
            raise ValueError(f"{op}: range must be (min, max) with min <= max, got {(first, last)}")
        if not (np.isfinite(first) and np.isfinite(last)):
            raise ValueError(f"{op}: range must be finite, got {(first, last)}")
    elif x.size == 0:
        first, last = 0, 1
    else:
        first, last = (end.cpu().numpy()[()] for end in _extent(x))
        if not (np.isfinite(first) and np.isfinite(last)):
            raise ValueError(
                f"{op}: the array must be finite to find a range, got [{first}, {last}]; give range"
            )
    if first == last:
        first, last = first - 0.5, last + 0.5
    return first, last


def _edges(op: str, x: DNDarray, bins: object, range_: object, weights: object) -> tuple[np.ndarray, bool]:
    """Return the edges, and whether they are evenly spaced."""
    if isinstance(bins, str):
        if bins not in RULES:
            raise ValueError(f"{op}: bins must be a number, edges or one of {', '.join(RULES)}, got {bins!r}")
        if weights is not None:
            raise TypeError(f"{op}: bins must be a number or edges where weights are given, got {bins!r}")
        first, last = _outer_edges(op, x, range_)
        bins = _number_by_rule(x, RULES[bins], first, last, range_)
    elif np.ndim(bins) == 0 and not isinstance(bins, DNDarray):
        try:
            bins = operator.index(bins)
        except TypeError:
            raise TypeError(f"{op}: bins must be an integer, a string or an array, got {bins!r}") from None
        if bins < 1:
            raise ValueError(f"{op}: bins must be positive, got {bins}")
        first, last = _outer_edges(op, x, range_)
    else:
        edges = _replicated(bins).cpu().numpy() if isinstance(bins, DNDarray) else np.asarray(bins)
        if edges.ndim != 1:
            raise ValueError(f"{op}: bins must be 1-D, got {edges.ndim} dimensions")
        if np.any(edges[:-1] > edges[1:]):
            raise ValueError(f"{op}: bins must increase monotonically, got {edges.tolist()}")
        return edges, False
    kind = np.result_type(first, last, x.dtype.numpy or np.float32)
    kind = np.result_type(kind, float) if np.issubdtype(kind, np.integer) or kind.kind == "b" else kind
    return np.linspace(first, last, bins + 1, endpoint=True, dtype=kind), True


def _number_by_rule(x: DNDarray, rule: Callable, first, last, range_: object) -> int:
    if x.size == 0:
        return 1
    if range_ is not None:
        x = x[(x >= first).logical_and(x <= last)]
        if x.size == 0:
            return 1
    low, high = (float(end) for end in _extent(x))
    width = rule(x, high - low)
    if not width:
        return 1
    if x.dtype.kind in "iu":
        width = builtins.max(width, 1.0)
    return builtins.max(math.ceil((float(last) - float(first)) / width), 1)


# -- counting ---------------------------------------------------------------------------------------------------


def histogram_bin_edges(
    a: object, bins: object = 10, range: object = None, weights: object = None
) -> DNDarray:
    """Return the edges that :func:`histogram` uses.

    *Distribution*: replicated. One allreduce of two numbers to find the range of a split array; rules by name take
    their statistics (the messages of ``std``, ``percentile``).

    Parameters
    ----------
    a : array_like
        Real, of any shape and layout.
    bins : int, str or array_like
        Number, rule (``auto doane fd rice scott sqrt sturges``) or edges.
    range : (float, float), optional
        Of the bins; that of the elements by default.
    weights : ignored with a number or edges

    Returns
    -------
    DNDarray
        1-D, floating.

    Raises
    ------
    ValueError
        If the bins or the range are not as above, or the elements are not finite.

    Examples
    --------
    >>> ht.histogram_bin_edges(ht.array([0, 4], split=0), bins=2).numpy().tolist()
    [0.0, 2.0, 4.0]
    """
    a = _real("histogram_bin_edges", a)
    edges, _ = _edges("histogram_bin_edges", a, bins, range, weights)
    return _everywhere(torch.from_numpy(edges).to(a.larray.device), a)


def _real(op: str, x: object) -> DNDarray:
    x = _array(x, op)
    if x.dtype.kind == "c":
        raise DTypeError(f"{op}: the array must be real, got {x.dtype}; take its real part")
    return x


def histogram(
    a: object, bins: object = 10, range: object = None, density: bool | None = None, weights: object = None
) -> tuple[DNDarray, DNDarray]:
    """Count elements in bins; the last bin holds its right edge.

    *Distribution*: replicated results. For a split array one allreduce of the counts, and one of two numbers to find
    the range. No temporary larger than a tile of 64 Ki elements.

    Parameters
    ----------
    a : array_like
        Real, of any shape and layout.
    bins, range
        As for :func:`histogram_bin_edges`.
    density : bool
        Return a density: the integral over the range is 1.
    weights : array_like, optional
        Of the shape of `a`; what each element counts.

    Returns
    -------
    hist : DNDarray
        int64; of the dtype of the weights; float64 for a density.
    edges : DNDarray
        One more than bins.

    Raises
    ------
    ValueError
        As for :func:`histogram_bin_edges`.

    Examples
    --------
    >>> hist, edges = ht.histogram(ht.array([1, 2, 1, 4], split=0), bins=[0, 1, 2, 3, 4])
    >>> hist.numpy().tolist()
    [0, 2, 1, 1]
    """
    a = _real("histogram", a)
    mass = _aligned("histogram", weights, a)
    edges, is_even = _edges("histogram", a, bins, range, weights)
    device = a.larray.device
    covers = is_even and range is None  # then the elements, found finite, gave the edges
    hist = _total(count(a.larray.reshape(-1), edges, is_even, covers, mass), a)
    if density:
        hist = hist / torch.from_numpy(edges).to(device).double().diff() / hist.sum()
    return _everywhere(hist, a), _everywhere(torch.from_numpy(edges).to(device), a)


def histogramdd(
    sample: object,
    bins: object = 10,
    range: object = None,
    density: bool | None = None,
    weights: object = None,
) -> tuple[DNDarray, tuple[DNDarray, ...]]:
    """Count points in bins of several dimensions.

    *Distribution*: replicated results. For split points one allreduce of the counts, and one of two numbers per
    dimension without edges or range.

    Parameters
    ----------
    sample : array_like of shape (n, d), or sequence of d array_like of shape (n,)
        Points, of any layout.
    bins : int, or sequence of d int or array_like
        Number of bins, or edges, for all or for each dimension.
    range : sequence of d (float, float) or None, optional
        Of the bins.
    density : bool
        Return a density: the integral is 1.
    weights : array_like of shape (n,), optional
        What each point counts.

    Returns
    -------
    hist : DNDarray
        float64, of d dimensions.
    edges : tuple of DNDarray

    Raises
    ------
    ValueError
        If the number of bins or ranges is not d, or as for :func:`histogram_bin_edges`.
    """
    return _several("histogramdd", _columns("histogramdd", sample), bins, range, density, weights)


def histogram2d(
    x: object,
    y: object,
    bins: object = 10,
    range: object = None,
    density: bool | None = None,
    weights: object = None,
) -> tuple[DNDarray, DNDarray, DNDarray]:
    """Count pairs in bins of two dimensions; returns the counts and both edges. See :func:`histogramdd`.

    Parameters
    ----------
    x, y : array_like of shape (n,)
        Coordinates, of any layout.
    bins : int, array_like, or two of these
        Number or edges, for both or for each dimension.
    range, density, weights
        As for :func:`histogramdd`.

    *Distribution*: as :func:`histogramdd`.
    """
    if not isinstance(bins, (int, np.integer)) and len(bins) not in (1, 2):
        bins = [np.asarray(bins), np.asarray(bins)]
    hist, edges = _several("histogram2d", _columns("histogram2d", [x, y]), bins, range, density, weights)
    return hist, *edges


def _columns(op: str, sample: object) -> list[DNDarray]:
    """Return the coordinates, one array per dimension, all of one layout."""
    if isinstance(sample, (list, tuple)) and any(isinstance(s, DNDarray) for s in sample):
        arrays = [s for s in sample if isinstance(s, DNDarray)]
        comm, device = common_comm(arrays, op), arrays[0].larray.device
        columns = [_array(s, op, comm, device) for s in sample]
    elif isinstance(sample, DNDarray) and sample.ndim == 2:
        if sample.split == 1:
            sample = sample.resplit(0)
        layout = sample.layout.drop((1,))
        columns = [DNDarray(c, layout, sample.comm) for c in sample.larray.unbind(1)]
    else:
        array = np.asarray(sample)
        array = array.T if isinstance(sample, (list, tuple)) and array.ndim == 2 else np.atleast_2d(array.T).T
        columns = [_array(c, op) for c in array.T]
    if any(c.ndim != 1 or c.shape != columns[0].shape for c in columns):
        raise LayoutError(
            f"{op}: coordinates must be 1-D and of one length, got {[c.shape for c in columns]}"
        )
    lead = next((c for c in columns if c.split is not None), columns[0])
    return [
        c
        if c.layout is lead.layout
        else DNDarray(redistribute(c.larray, c.layout, lead.layout, c.comm), lead.layout, c.comm)
        for c in columns
    ]


def _several(op: str, columns: list[DNDarray], bins, range_, density, weights) -> tuple:
    d = len(columns)
    bins = [bins] * d if np.ndim(bins) == 0 else list(bins)
    ranges = [None] * d if range_ is None else list(range_)
    if len(bins) != d or len(ranges) != d:
        raise ValueError(
            f"{op}: bins and range must be given for {d} dimensions, got {len(bins)}, {len(ranges)}"
        )
    lead = columns[0]
    mass = _aligned(op, weights, lead)
    edges = [_edges(op, _real(op, c), b, r, None)[0] for c, b, r in zip(columns, bins, ranges)]
    device = lead.larray.device
    marks = [torch.from_numpy(e).to(device).double() for e in edges]
    shape = [len(e) - 1 for e in edges]
    hist = torch.zeros(
        math.prod(shape) + 1, dtype=torch.float64, device=device
    )  # the last is for what is outside
    for tile in tiles(lead.larray, hist.numel()):
        index = torch.zeros((), dtype=torch.int64, device=device)
        outside = torch.zeros((), dtype=torch.bool, device=device)
        for column, mark, n in zip(columns, marks, shape):
            here = bin_of(ordinary(column.larray[tile]), mark, False)
            index, outside = index * n + here, outside | (here < 0)
        add_up(hist, torch.where(outside, len(hist) - 1, index), None if mass is None else mass[tile])
    hist = _total(hist[:-1], lead).reshape(shape)
    if density:
        total = hist.sum()
        for axis, mark in enumerate(marks):
            hist = hist / mark.diff().reshape([-1 if a == axis else 1 for a in builtins.range(d)])
        hist = hist / total
    return _everywhere(hist, lead), tuple(_everywhere(torch.from_numpy(e).to(device), lead) for e in edges)


def histc(
    input: object, bins: int = 100, min: float = 0, max: float = 0, out: DNDarray | None = None
) -> DNDarray:
    """Count elements in equal bins between `min` and `max`, as torch and Heat; elements outside are left out.

    *Distribution*: replicated result. For a split array one allreduce of the counts, and one of two numbers where
    ``min == max``, which stands for the range of the elements.

    Parameters
    ----------
    input : array_like
        Real, of any shape and layout.
    bins : int
        Number of bins.
    min, max : float
        The range.
    out : DNDarray, optional
        Receives the result.

    Returns
    -------
    DNDarray
        1-D, of the dtype of `input`.

    Raises
    ------
    ValueError
        If `bins` is not positive or ``min > max``.

    Examples
    --------
    >>> ht.histc(ht.array([1.0, 2.0, 1.0], split=0), bins=4, min=0, max=3).numpy().tolist()
    [0.0, 2.0, 1.0, 0.0]
    """
    input = _real("histc", input)
    hist, _ = histogram(input, bins, None if min == max else (min, max))
    result = DNDarray(hist.larray.to(input.larray.dtype), hist.layout, hist.comm)
    if out is None:
        return result
    if not isinstance(out, DNDarray) or out.shape != result.shape:
        raise LayoutError(f"histc: out must be a DNDarray of shape {result.shape}, got {out!r}")
    out.larray.copy_(redistribute(result.larray, result.layout, out.layout, out.comm))
    return out


def bincount(x: object, /, weights: object = None, minlength: int = 0) -> DNDarray:
    """Count how often each number from 0 on occurs.

    *Distribution*: replicated result. For a split array two allreduces: of two numbers, and of the counts.

    Parameters
    ----------
    x : array_like
        1-D, of integers that are not negative, of any layout.
    weights : array_like, optional
        Of the shape of `x`; what each element counts.
    minlength : int
        Least length of the result.

    Returns
    -------
    DNDarray
        int64; float64 with weights.

    Raises
    ------
    ValueError
        If an element or `minlength` is negative.
    DTypeError
        If the elements are not integers.

    Examples
    --------
    >>> ht.bincount(ht.array([0, 1, 1, 3], split=0)).numpy().tolist()
    [1, 2, 0, 1]
    """
    x = _array(x, "bincount")
    if x.dtype.kind not in "biu" and x.size:
        raise DTypeError(f"bincount: the array must hold integers, got {x.dtype}; cast with astype")
    if x.ndim != 1:
        raise LayoutError(f"bincount: the array must be 1-D, got shape {x.shape}")
    if minlength < 0:
        raise ValueError(f"bincount: minlength must not be negative, got {minlength}")
    mass = _aligned("bincount", weights, x)
    low, high = (int(end) for end in _extent(x)) if x.size else (0, -1)
    if low < 0:
        raise ValueError(f"bincount: elements must not be negative, got {low}")
    length = builtins.max(high + 1, minlength)
    dtype = torch.int64 if mass is None else torch.float64
    counts = torch.zeros(length, dtype=dtype, device=x.larray.device)
    casts = x.larray.dtype is not torch.int64
    for tile in tiles(x.larray, length if casts or mass is not None else len(x.larray)):
        add_up(counts, x.larray[tile].to(torch.int64), None if mass is None else mass[tile])
    return _everywhere(_total(counts, x), x)


def digitize(x: object, bins: object, right: bool = False) -> DNDarray:
    """Return the index of the bin of each element: ``bins[i - 1] <= x < bins[i]`` (`right`: ``<`` and ``<=``).

    *Distribution*: the layout of `x` stays; nothing is sent, unless `bins` are split: then they are gathered.

    Parameters
    ----------
    x : array_like
        Real, of any shape and layout.
    bins : array_like
        1-D, increasing or decreasing.
    right : bool
        Bins hold their right edge.

    Returns
    -------
    DNDarray
        int64, of the shape of `x`.

    Raises
    ------
    ValueError
        If `bins` are not monotonic.

    Examples
    --------
    >>> ht.digitize(ht.array([0.5, 3.0], split=0), [0.0, 1.0, 3.0]).numpy().tolist()
    [1, 3]
    """
    x = _real("digitize", x)
    bins = _array(bins, "digitize", x.comm, x.larray.device)
    if bins.ndim != 1:
        raise LayoutError(f"digitize: bins must be 1-D, got shape {bins.shape}")
    common = types.result_type(x.dtype, bins.dtype).torch
    edges = to_ordered(_replicated(bins).to(common))
    rises, falls = bool((edges[:-1] <= edges[1:]).all()), bool((edges[:-1] >= edges[1:]).all())
    if not (rises or falls):
        raise ValueError("digitize: bins must be monotonic, got values that rise and fall")
    values = to_ordered(x.larray.to(common)).contiguous()
    if rises:
        index = torch.searchsorted(edges, values, right=not right)
    else:
        index = edges.numel() - torch.searchsorted(edges.flip(0), values, right=not right)
    return DNDarray(index, x.layout, x.comm)


def bucketize(
    input: object,
    boundaries: object,
    out_int32: bool = False,
    right: bool = False,
    out: DNDarray | None = None,
) -> DNDarray:
    """Return the index of the bucket of each element, as torch and Heat: ``boundaries[i - 1] < x <= boundaries[i]``.

    With `right`: ``<=`` and ``<``. Compare :func:`digitize`, whose `right` is the other way round.

    *Distribution*: the layout of `input` stays; nothing is sent, unless `boundaries` are split: then they are gathered.

    Parameters
    ----------
    input : array_like
        Real, of any shape and layout.
    boundaries : array_like
        1-D, increasing.
    out_int32 : bool
        Return int32.
    right : bool
        Buckets hold their left boundary.
    out : DNDarray, optional
        Receives the result.

    Returns
    -------
    DNDarray
        int64 or int32, of the shape of `input`.

    Examples
    --------
    >>> ht.bucketize(ht.array([3.0, 6.0], split=0), [1.0, 3.0, 5.0]).numpy().tolist()
    [1, 3]
    """
    index = digitize(input, boundaries, right=not right)
    if out_int32:
        index = index.astype(types.int32)
    if out is None:
        return index
    if not isinstance(out, DNDarray) or out.shape != index.shape:
        raise LayoutError(f"bucketize: out must be a DNDarray of shape {index.shape}, got {out!r}")
    out.larray.copy_(redistribute(index.larray, index.layout, out.layout, out.comm))
    return out


_COUNTS = "One allreduce of the counts, and one of two numbers to find the range; none for replicated arrays."
for _function, _numpy, _cost in (
    (histogram, "histogram", _COUNTS),
    (histogram_bin_edges, "histogram_bin_edges", "One allreduce of two numbers to find the range."),
    (histogramdd, "histogramdd", _COUNTS),
    (histogram2d, "histogram2d", _COUNTS),
    (histc, None, _COUNTS),
    (bincount, "bincount", _COUNTS),
    (digitize, "digitize", "None."),
    (bucketize, None, "None."),
):
    register(
        _function, kind="histogram", numpy=_numpy, accepts="biuf", cost=_cost, method=_function in (digitize,)
    )
