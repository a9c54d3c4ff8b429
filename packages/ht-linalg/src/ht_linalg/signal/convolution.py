"""Convolution and correlation by halos: a rank receives the rows around its own that its results need, no more."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from ht_core import DNDarray, conj, flip, types
from ht_core.engines.redistribution import move_boxes
from ht_core.errors import LayoutError
from ht_core.layout import Layout

from ..arguments import as_pair

_MODES = ("full", "same", "valid")
#: Elements of the windows that a product may copy at once: 16 MiB of float64.
_TILE = 2**21


@dataclass(frozen=True, slots=True)
class Axis:
    """One convolved axis: result o is the sum over j of ``x[o * stride + first + j] * reversed_kernel[j]``."""

    extent: int  # of the input
    kernel: int
    stride: int
    first: int
    outputs: int

    def inputs(self, start: int, stop: int) -> tuple[int, int]:
        """Return the input rows, also outside the array, that results [start, stop) need."""
        begin = start * self.stride + self.first
        return begin, begin + ((stop - start - 1) * self.stride + self.kernel if stop > start else 0)

    def clipped(self, start: int, stop: int) -> tuple[int, int]:
        """Return the input rows inside the array that results [start, stop) need."""
        begin, end = self.inputs(start, stop)
        low = min(max(begin, 0), self.extent)
        return low, max(low, min(end, self.extent))


def plan_axis(extent: int, kernel: int, mode: str, stride: int) -> Axis:
    """Return what one axis does. Pure."""
    first, outputs = {
        "full": (1 - kernel, extent + kernel - 1),
        "same": ((1 - kernel) + (kernel - 1) // 2, extent),
        "valid": (0, extent - kernel + 1),
    }[mode]
    return Axis(extent, kernel, stride, first, -(-outputs // stride))


def plan_counts(axis: Axis, counts: Sequence[int]) -> tuple[int, ...]:
    """Return how many results each rank computes: those whose window is centred on a row it has. Pure."""
    centre = axis.first + (axis.kernel - 1) // 2
    edges = [0]
    for displ in itertools.accumulate(counts[:-1]):
        edges.append(min(max(-(-(displ - centre) // axis.stride), edges[-1]), axis.outputs))
    return tuple(b - a for a, b in itertools.pairwise([*edges, axis.outputs]))


def convolve(a: object, v: object, mode: str = "full", stride: int = 1) -> DNDarray:
    """Return the discrete linear convolution along the last axis.

    Parameters
    ----------
    a : array_like, shape (..., n)
    v : array_like, shape (k,) or (..., k)
        Leading axes broadcast. Of vectors the shorter one is the kernel, as in NumPy.
    mode : {"full", "same", "valid"}
        Results for every overlap (n + k - 1), as many as the longer operand, or for complete overlaps (n - k + 1).
    stride : int
        Distance between results.

    Returns
    -------
    DNDarray
        Of the promoted dtype.

    *Distribution*: split as `a`; results lie on the rank that has the centre of their window. Along the split axis one
    exchange of the k - 1 rows at each border; none along others. The kernel is gathered where it is split, k elements.

    Raises
    ------
    LayoutError
        If an operand is empty or 0-D, `mode` is unknown or `stride` is not positive.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_linalg import signal
    >>> signal.convolve(ht.arange(4, split=0), ht.array([1, 1])).numpy()
    array([0, 1, 3, 5, 3])
    """
    a, v = as_pair("convolve", a, v)
    if a.ndim == v.ndim == 1 and v.shape[0] > a.shape[0]:
        a, v = v, a
    return _convolve("convolve", a, v, mode, (stride,))


def correlate(a: object, v: object, mode: str = "valid", stride: int = 1) -> DNDarray:
    """Return the cross-correlation along the last axis: ``sum over n of a[n + k] * conj(v[n])``.

    Parameters are those of :func:`convolve`; the default of `mode` is NumPy's.

    *Distribution*: as :func:`convolve`.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_linalg import signal
    >>> signal.correlate(ht.arange(4, split=0), ht.array([0, 1])).numpy()
    array([1, 2, 3])
    """
    a, v = as_pair("correlate", a, v)
    v = conj(v) if v.dtype.kind == "c" else v
    if stride == 1 and a.ndim == v.ndim == 1 and v.shape[0] > a.shape[0] > 0:
        # The longer operand slides: the same sums come out in the reverse order.
        return flip(_convolve("correlate", v, flip(a, axis=-1), mode, (1,)), axis=-1)
    return _convolve("correlate", a, flip(v, axis=-1) if v.ndim else v, mode, (stride,))


def convolve2d(a: object, v: object, mode: str = "full", stride: int | Sequence[int] = 1) -> DNDarray:
    """Return the discrete linear convolution along the last two axes.

    Parameters
    ----------
    a : array_like, shape (..., m, n)
    v : array_like, shape (k, l) or (..., k, l)
        Leading axes broadcast.
    mode : {"full", "same", "valid"}
        "same" has the extents of `a`; "valid" needs the kernel inside the array.
    stride : int or pair of int

    *Distribution*: as :func:`convolve`, with the rows or columns next to a border.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_linalg import signal
    >>> signal.convolve2d(ht.eye(3, split=0), ht.ones((2, 2)), mode="valid").numpy()
    array([[2., 1.],
           [1., 2.]])
    """
    a, v = as_pair("convolve2d", a, v)
    strides = (stride, stride) if isinstance(stride, int) else tuple(stride)
    if len(strides) != 2:
        raise LayoutError(f"convolve2d: stride must be one or two integers, got {stride}")
    return _convolve("convolve2d", a, v, mode, strides)


def _convolve(op: str, a: DNDarray, v: DNDarray, mode: str, strides: tuple[int, ...]) -> DNDarray:
    ndim = len(strides)
    _check(op, a, v, mode, strides)
    dtype = types.promote_types(a.dtype, v.dtype).torch
    axes = [plan_axis(n, k, mode, s) for n, k, s in zip(a.shape[-ndim:], v.shape[-ndim:], strides)]
    batch = tuple(torch.broadcast_shapes(a.shape[:-ndim], v.shape[:-ndim]))
    v = v.resplit(None)
    cut, kernel = None, v.larray
    layout = Layout((*batch, *(axis.outputs for axis in axes)), None)
    if a.split is not None:
        at = a.split + layout.ndim - a.ndim
        if at >= len(batch):
            cut = at - len(batch)
            layout = Layout(layout.shape, at, plan_counts(axes[cut], a.layout.counts))
        elif a.shape[a.split] != layout.shape[at]:  # one row that the kernels broadcast
            a = a.resplit(None)
        else:
            layout = Layout(layout.shape, at, a.layout.counts)
            if v.shape[at - layout.ndim :][0] != 1 and at >= layout.ndim - v.ndim:
                start = layout.displs[a.comm.rank]
                kernel = kernel.narrow(at - layout.ndim, start, layout.counts[a.comm.rank])
    window = _window(a, axes, cut, layout)
    local = _sums(window.to(dtype), kernel.to(dtype).flip(tuple(range(-ndim, 0))), strides)
    return DNDarray(local, layout, a.comm)


def _check(op: str, a: DNDarray, v: DNDarray, mode: str, strides: tuple[int, ...]) -> None:
    ndim = len(strides)
    if mode not in _MODES:
        raise LayoutError(f"{op}: mode must be one of {', '.join(_MODES)}, got {mode!r}")
    if any(not isinstance(s, int) or s < 1 for s in strides):
        raise LayoutError(f"{op}: stride must be a positive integer, got {strides}")
    for name, x in (("a", a), ("v", v)):
        if x.ndim < ndim or 0 in x.shape[x.ndim - ndim :]:
            raise LayoutError(f"{op}: {name} must have {ndim} axes that are not empty, got shape {x.shape}")
    if any(m != n and 1 not in (m, n) for m, n in zip(a.shape[-ndim - 1 :: -1], v.shape[-ndim - 1 :: -1])):
        raise LayoutError(f"{op}: leading axes must broadcast, got shapes {a.shape} and {v.shape}")
    if mode == "valid" and any(k > n for n, k in zip(a.shape[-ndim:], v.shape[-ndim:])):
        raise LayoutError(f"{op}: v must fit into a in mode 'valid', got shapes {v.shape} and {a.shape}")


def _window(a: DNDarray, axes: list[Axis], cut: int | None, layout: Layout) -> torch.Tensor:
    """Return the input rows that this rank's results need, zero where they lie outside the array."""
    ndim, rank = len(axes), a.comm.rank
    results = [(0, axis.outputs) for axis in axes]
    if cut is not None:
        results[cut] = layout.box(rank)[layout.split]
    extents = [stop - start for start, stop in (axis.inputs(*r) for axis, r in zip(axes, results))]
    window = a.larray.new_zeros((*a.lshape[:-ndim], *extents))
    inside, source, source_layout = window, a.larray, a.layout
    for i, (axis, r) in enumerate(zip(axes, results)):
        low, high = axis.clipped(*r)
        inside = inside.narrow(i - ndim, low - axis.inputs(*r)[0] if high > low else 0, high - low)
        if i != cut:
            source = source.narrow(i - ndim, low, high - low)
            source_layout = source_layout.with_axis(source_layout.ndim - ndim + i, high - low)
    if cut is None:
        inside.copy_(source)
    else:
        ranges = [axes[cut].clipped(*layout.box(r)[layout.split]) for r in range(a.comm.size)]
        move_boxes(source, source_layout, ranges, source_layout.split, a.comm, inside)
    return window


def _sums(x: torch.Tensor, kernel: torch.Tensor, strides: tuple[int, ...]) -> torch.Tensor:
    """Return the sums of windows of `x` times `kernel`; leading axes broadcast."""
    ndim, dtype = len(strides), x.dtype
    compute = {torch.float16: torch.float32, torch.bfloat16: torch.float32, torch.bool: torch.int64}.get(
        dtype, dtype
    )
    extents = kernel.shape[-ndim:]
    outputs = [max(0, (n - k) // s + 1) for n, k, s in zip(x.shape[-ndim:], extents, strides)]
    batch = torch.broadcast_shapes(x.shape[:-ndim], kernel.shape[:-ndim])
    result = x.new_zeros((*batch, *outputs))
    if 0 in result.shape:
        return result
    # Tiles along the first convolved axis keep the copies of windows that the products make in cache.
    step = max(1, _TILE // (math.prod(batch) * math.prod(outputs[1:]) * math.prod(extents)))
    column = kernel.to(compute).reshape(*kernel.shape[:-ndim], math.prod(extents), 1)
    for start in range(0, outputs[0], step):
        n = min(step, outputs[0] - start)
        windows = x.narrow(-ndim, start * strides[0], (n - 1) * strides[0] + extents[0]).to(compute)
        for axis, (k, s) in enumerate(zip(extents, strides), start=x.dim() - ndim):
            windows = windows.unfold(axis, k, s)
        rows = windows.reshape(*x.shape[:-ndim], n * math.prod(outputs[1:]), math.prod(extents))
        sums = torch.matmul(rows, column).reshape(*batch, n, *outputs[1:])
        result.narrow(-ndim, start, n).copy_(sums)
    return result
