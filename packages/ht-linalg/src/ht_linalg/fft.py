"""Discrete Fourier transforms of distributed arrays, with the names and conventions of ``numpy.fft``.

A transform runs where its axis is whole. Axes that are not split send nothing. For the split axis the array is cut
along another axis and back (two exchanges); where there is no other axis to cut, the transform itself is distributed
(``fft_along_split``, three exchanges). Nothing is ever gathered, and the result is split as the input was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from ht_core import DNDarray, arange, concatenate, conj, flip, roll, types
from ht_core.errors import DTypeError, LayoutError
from ht_core.layout import normalize_axis

from .arguments import as_dndarray, deliver
from .fft_along_split import spread_transform

_NORMS = (None, "backward", "ortho", "forward")
_FORWARD = {"c2c": "fft", "r2c": "rfft", "c2r": "hfft"}
_INVERSE = {"c2c": "ifft", "r2c": "ihfft", "c2r": "irfft"}
#: dtype of the result where it differs from that of the input.
_RESULT = {
    "c2c": {},
    "r2c": {torch.float32: torch.complex64, torch.float64: torch.complex128},
    "c2r": {torch.complex64: torch.float32, torch.complex128: torch.float64},
}

_DOC = """{summary}

Parameters
----------
a : array_like
    {takes}
{sizes}
norm : {{"backward", "ortho", "forward"}}, optional
    Where the factor 1/n stands: on the inverse, its square root on both, or on the forward transform.
out : DNDarray, optional
    Where the result is written; it keeps its layout and dtype.

Returns
-------
DNDarray
    {gives}, in single precision for float16, bfloat16, float32 and complex64 and in double otherwise.

*Distribution*: split as `a`. No message along axes that are not split; along the split axis two exchanges of the
local part (three where no other axis can be cut).

Raises
------
LayoutError
    If an axis is out of range or a length is not positive.
DTypeError
    If `a` is complex where it must be real.

References
----------
J. W. Cooley, J. W. Tukey, An algorithm for the machine calculation of complex Fourier series, 1965,
doi:10.1090/S0025-5718-1965-0178586-1; D. H. Bailey, FFTs in external or hierarchical memory, 1990,
doi:10.1007/BF00162341 (along the split axis).
"""
_SIZE = """n : int, optional
    Length of the transform; the input is cut or padded with zeros.
axis : int"""
_SIZES = """s : sequence of int, optional
    Lengths of the transforms; the input is cut or padded with zeros.
axes : sequence of int, optional"""


def _public(name: str, kind: str, summary: str, takes: str, gives: str, ndim: int | None):
    """Make one of the functions of this module: of one axis, of two, or of any number (`ndim` None)."""
    inverse = name.startswith("i")

    def one(a, n=None, axis=-1, norm=None, out=None):
        return _transform(name, kind, inverse, a, None if n is None else (n,), (axis,), norm, out)

    def two(a, s=None, axes=(-2, -1), norm=None, out=None):
        return _transform(name, kind, inverse, a, s, axes, norm, out)

    def many(a, s=None, axes=None, norm=None, out=None):
        return _transform(name, kind, inverse, a, s, axes, norm, out)

    function = {1: one, 2: two, None: many}[ndim]
    function.__name__ = function.__qualname__ = name
    function.__doc__ = _DOC.format(
        summary=summary, takes=takes, gives=gives, sizes=_SIZE if ndim == 1 else _SIZES
    )
    return function


_ROWS = (
    ("", "c2c", "Return the Fourier transform over {where}.", "Real or complex.", "Complex"),
    ("i", "c2c", "Return the inverse Fourier transform over {where}.", "Real or complex.", "Complex"),
    (
        "r",
        "r2c",
        "Return the non-negative half of the transform of real input over {where}.",
        "Real.",
        "Complex",
    ),
    (
        "ir",
        "c2r",
        "Return the inverse of the transform of real input over {where}.",
        "Half a spectrum.",
        "Real",
    ),
    (
        "h",
        "c2r",
        "Return the real spectrum of a signal with Hermitian symmetry over {where}.",
        "Half a signal.",
        "Real",
    ),
    ("ih", "r2c", "Return the inverse of the transform of such a signal over {where}.", "Real.", "Complex"),
)
for _prefix, _kind, _summary, _takes, _gives in _ROWS:
    for _suffix, _ndim, _where in (("", 1, "one axis"), ("2", 2, "two axes"), ("n", None, "several axes")):
        _name = f"{_prefix}fft{_suffix}"
        globals()[_name] = _public(_name, _kind, _summary.format(where=_where), _takes, _gives, _ndim)


def fftfreq(
    n: int,
    d: float = 1.0,
    *,
    dtype: object = None,
    split: int | None = None,
    device: object = None,
    comm: object = None,
) -> DNDarray:
    """Return the frequencies of the bins of :func:`fft` in cycles per unit of the sample spacing `d`.

    *Distribution*: no message.

    Examples
    --------
    >>> from ht_linalg import fft
    >>> fft.fftfreq(4, 0.5).numpy()
    array([ 0. ,  0.5, -1. , -0.5])
    """
    n = _length("fftfreq", n)
    index = arange(n, dtype="float64", split=split, device=device, comm=comm)
    local = torch.where(index.larray < (n + 1) // 2, index.larray, index.larray - n) * (1 / (n * d))
    return DNDarray(local, index.layout, index.comm).astype(dtype or "float64", copy=False)


def rfftfreq(
    n: int,
    d: float = 1.0,
    *,
    dtype: object = None,
    split: int | None = None,
    device: object = None,
    comm: object = None,
) -> DNDarray:
    """Return the frequencies of the bins of :func:`rfft` in cycles per unit of the sample spacing `d`.

    *Distribution*: no message.

    Examples
    --------
    >>> from ht_linalg import fft
    >>> fft.rfftfreq(4, 0.5).numpy()
    array([0. , 0.5, 1. ])
    """
    n = _length("rfftfreq", n)
    index = arange(n // 2 + 1, dtype="float64", split=split, device=device, comm=comm)
    return DNDarray(index.larray * (1 / (n * d)), index.layout, index.comm).astype(
        dtype or "float64", copy=False
    )


def fftshift(x: object, axes: int | Sequence[int] | None = None) -> DNDarray:
    """Return the array with the zero-frequency bin in the middle of `axes` (all by default).

    *Distribution*: no message along axes that are not split; one exchange of the local part along the split axis.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_linalg import fft
    >>> fft.fftshift(ht.arange(5, split=0)).numpy()
    array([3, 4, 0, 1, 2])
    """
    return _shifted("fftshift", x, axes, lambda n: n // 2)


def ifftshift(x: object, axes: int | Sequence[int] | None = None) -> DNDarray:
    """Undo :func:`fftshift`.

    *Distribution*: as :func:`fftshift`.

    Examples
    --------
    >>> import ht_core as ht
    >>> from ht_linalg import fft
    >>> fft.ifftshift(fft.fftshift(ht.arange(5, split=0))).numpy()
    array([0, 1, 2, 3, 4])
    """
    return _shifted("ifftshift", x, axes, lambda n: -(n // 2))


def _shifted(op: str, x: object, axes, by) -> DNDarray:
    x = as_dndarray(op, "x", x)
    axes = range(x.ndim) if axes is None else (axes,) if isinstance(axes, int) else axes
    axes = tuple(normalize_axis(axis, x.ndim, op, "axes") for axis in axes)
    return roll(x, tuple(by(x.shape[axis]) for axis in axes), axes)


# -- one engine for all --------------------------------------------------------------------------------------


def _transform(op: str, kind: str, inverse: bool, a, s, axes, norm, out) -> DNDarray:
    """Run a transform; the last of the axes is the real one where `kind` is "r2c" or "c2r"."""
    x = as_dndarray(op, "a", a)
    axes, lengths = _plan(op, kind, x, s, axes, norm)
    if kind == "r2c" and x.dtype.kind == "c":
        raise DTypeError(f"{op}: a must be real, got {x.dtype}; use {op.replace('r', '').replace('ih', 'i')}")
    if not axes:
        return deliver(op, x, out)
    single = x.dtype in (types.float16, types.bfloat16, types.float32, types.complex64)
    dtype = types.float32 if single else types.float64
    if kind != "r2c":
        dtype = types.complex64 if single else types.complex128
    x, split = x.astype(dtype, copy=False), x.split
    *others, last = axes
    half = {"r2c": lengths[-1], "c2r": lengths[-1] // 2 + 1, "c2c": lengths[-1]}[kind]
    for axis, n in zip(axes, (*lengths[:-1], half)):
        x = _resized(x, axis, n)
    # The split axis goes last: whatever precedes it needs no message. A real transform fixes its own place.
    others.sort(key=lambda axis: axis == split)
    steps = [*others, last] if kind == "c2r" or (kind == "c2c" and last == split) else [last, *others]
    for axis in steps:
        real = axis == last and kind != "c2c"
        x = _along(x, axis, kind if real else "c2c", inverse, lengths[-1])
    x = _scaled(x, inverse, norm, math.prod(lengths))
    if x.split != split:
        x = x.resplit(split)
    return deliver(op, x, out)


def _plan(op: str, kind: str, x: DNDarray, s, axes, norm) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return the axes and the lengths along them, of the real side where there is one."""
    if norm not in _NORMS:
        raise ValueError(f"{op}: norm must be one of backward, ortho, forward, got {norm!r}")
    if axes is None:
        axes = range(x.ndim) if s is None else range(x.ndim - len(tuple(s)), x.ndim)
    axes = tuple(normalize_axis(axis, x.ndim, op, "axes") for axis in axes)
    if s is not None and len(tuple(s)) != len(axes):
        raise LayoutError(f"{op}: s must have one length per axis ({len(axes)}), got {tuple(s)}")
    if len(set(axes)) < len(axes):
        raise LayoutError(f"{op}: axes must name each axis once, got {axes}")
    lengths = [x.shape[axis] for axis in axes]
    if kind == "c2r" and lengths:
        lengths[-1] = 2 * (lengths[-1] - 1)
    if s is not None:
        lengths = [n if given in (None, -1) else given for n, given in zip(lengths, s)]
    return axes, tuple(_length(op, n) for n in lengths)


def _length(op: str, n: int) -> int:
    if not hasattr(n, "__index__") or n < 1:
        raise LayoutError(f"{op}: the length of a transform must be a positive integer, got {n}")
    return int(n)


def _resized(x: DNDarray, axis: int, n: int) -> DNDarray:
    """Return `x` cut or padded with zeros to extent `n` along `axis`. No message: the last rank holds the zeros."""
    extent = x.shape[axis]
    if n == extent:
        return x
    if axis != x.split:
        layout = x.layout.with_axis(axis, n)
    else:
        ends = [min(n, start + count) for start, count in zip(x.layout.displs, x.layout.counts)]
        counts = [max(0, end - start) for start, end in zip(x.layout.displs, ends)]
        counts[-1] += max(0, n - extent)
        layout = x.layout.with_counts(counts)
    mine = layout.lshape(x.comm.rank)[axis]
    here = min(mine, x.lshape[axis])
    if mine == here:
        return DNDarray(x.larray.narrow(axis, 0, mine), layout, x.comm)
    local = x.larray.new_zeros(layout.lshape(x.comm.rank))
    local.narrow(axis, 0, here).copy_(x.larray)
    return DNDarray(local, layout, x.comm)


def _along(x: DNDarray, axis: int, kind: str, inverse: bool, n: int) -> DNDarray:
    """Transform one axis without a factor; the result may be cut along another axis."""
    if x.split == axis and x.comm.size > 1:
        others = [other for other in range(x.ndim) if other != axis]
        target = max(others, key=lambda other: x.shape[other], default=None)
        if target is None or x.shape[target] < x.comm.size:
            return _along_split(x, axis, kind, inverse, n)
        x = x.resplit(target)
    # torch scales its inverse transforms, unless told that the factor belongs to the other direction.
    norm, name = ("forward", _INVERSE[kind]) if inverse else ("backward", _FORWARD[kind])
    length = n if kind == "c2r" else x.shape[axis]
    if 0 in x.lshape:  # the libraries below refuse stacks without elements
        extent = n // 2 + 1 if kind == "r2c" else length
        shape = [extent if other == axis else m for other, m in enumerate(x.lshape)]
        local = x.larray.new_zeros(shape, dtype=_RESULT[kind].get(x.larray.dtype))
    else:
        local = getattr(torch.fft, name)(x.larray, length, dim=axis, norm=norm)
    if x.split == axis:  # on one rank
        return DNDarray(local, x.layout.with_counts((local.shape[axis],)), x.comm)
    return DNDarray(local, x.layout.with_axis(axis, local.shape[axis]), x.comm)


def _along_split(x: DNDarray, axis: int, kind: str, inverse: bool, n: int) -> DNDarray:
    """Transform the split axis where no other axis can be cut: real transforms through complex ones."""
    if kind == "c2c":
        return spread_transform(x, axis, inverse)
    if kind == "r2c":
        complex_dtype = types.complex64 if x.dtype is types.float32 else types.complex128
        full = spread_transform(x.astype(complex_dtype), axis, inverse)
        return _resized(full, axis, n // 2 + 1)
    full = spread_transform(_hermitian(x, axis, n), axis, inverse)
    return DNDarray(full.larray.real.contiguous(), full.layout, full.comm)


def _hermitian(x: DNDarray, axis: int, n: int) -> DNDarray:
    """Return the n coefficients of which `x` holds the first n // 2 + 1: the others are conjugates in reverse."""
    key = [slice(None)] * x.ndim
    key[axis] = slice(1, (n + 1) // 2)
    tail = conj(flip(x[tuple(key)], axis=axis))
    first = x.larray.clone()
    edges = (0, n // 2) if n % 2 == 0 else (0,)  # these are real by symmetry; an imaginary part is ignored
    start = x.layout.displs[x.comm.rank]
    for edge in edges:
        if start <= edge < start + first.shape[axis]:
            row = first.select(axis, edge - start)
            row.copy_(row.real.to(row.dtype))
    return concatenate([DNDarray(first, x.layout, x.comm), tail], axis=axis)


def _scaled(x: DNDarray, inverse: bool, norm: str | None, n: int) -> DNDarray:
    if norm == "ortho":
        factor = 1 / math.sqrt(n)
    elif (norm == "forward") != inverse:
        factor = 1 / n
    else:
        return x
    return DNDarray(x.larray * factor, x.layout, x.comm)
