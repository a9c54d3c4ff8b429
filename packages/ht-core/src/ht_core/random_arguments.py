"""What the arguments of random functions must be. Everything here reads replicated facts and ends before a message."""

from __future__ import annotations

import math

import numpy as np

from . import types
from .dndarray import DNDarray
from .engines.creation import normalize_shape
from .errors import DTypeError, LayoutError


def in_range(op: str, argument: str, value: object, stop: int) -> int:
    """Return `value` as an int in [0, stop); `stop` is a power of two."""
    try:
        number = value.__index__()
    except (AttributeError, TypeError):
        raise TypeError(f"{op}: {argument} must be an integer, got {value!r}") from None
    if not 0 <= number < stop:
        raise ValueError(f"{op}: {argument} must be in [0, 2**{stop.bit_length() - 1}), got {value}")
    return number


def is_scalar(value: object) -> bool:
    """Tell whether `value` is a real number rather than an array of them."""
    return isinstance(value, (int, float, np.number)) or (isinstance(value, np.ndarray) and value.ndim == 0)


def check_scale(op: str, scale: object) -> None:
    """Refuse a negative scale and NaN."""
    if not scale >= 0:
        raise ValueError(f"{op}: scale must be non-negative, got {scale}")


def joint_shape(
    op: str, size: object, split: int | None, *parameters: object
) -> tuple[tuple[int, ...], int | None]:
    """Return shape and split of a result of array parameters; it is cut as the first split one unless `split` says."""
    shapes = [np.shape(v) if not isinstance(v, DNDarray) else v.shape for v in parameters]
    wanted = [] if size is None else [normalize_shape(size, op)]
    try:
        shape = np.broadcast_shapes(*shapes, *wanted)
    except ValueError:
        shape = None
    if shape is None or (wanted and shape != wanted[0]):
        raise LayoutError(f"{op}: parameters must broadcast to size, got shapes {shapes} and size {size}")
    for v in parameters:
        if split is None and isinstance(v, DNDarray) and v.split is not None:
            axis = v.split + len(shape) - v.ndim
            split = axis if v.shape[v.split] == shape[axis] else None
    return shape, split


def integer_range(op: str, low: object, high: object, kind: types.dtype, endpoint: bool) -> tuple[int, int]:
    """Return (low, number of integers) after checking that they fit `kind`."""
    low, high = (0, low) if high is None else (low, high)
    try:
        low, high = low.__index__(), high.__index__() + bool(endpoint)
    except (AttributeError, TypeError):
        raise TypeError(f"{op}: low and high must be integers, got {low!r} and {high!r}") from None
    if kind.kind not in "biu":
        raise DTypeError(f"{op}: dtype must be an integer type or bool, got {kind}")
    least, most = (0, 1) if kind.kind == "b" else _limits(kind)
    if high <= low:
        raise ValueError(f"{op}: high must be greater than low, got [{low}, {high})")
    if low < least or high - 1 > most:
        raise ValueError(f"{op}: the range must lie in [{least}, {most}] of {kind}, got [{low}, {high})")
    return low, high - low


def _limits(kind: types.dtype) -> tuple[int, int]:
    bits = 8 * kind.itemsize
    return (0, (1 << bits) - 1) if kind.kind == "u" else (-(1 << bits - 1), (1 << bits - 1) - 1)


def probabilities(p: object, n: int) -> np.ndarray:
    """Return `p` as float64 of shape (n,) on every rank; a split array is gathered."""
    values = p.numpy() if isinstance(p, DNDarray) else np.asarray(p)
    if values.shape != (n,):
        raise LayoutError(f"choice: p must have the shape ({n},), got {values.shape}")
    values = values.astype(np.float64)
    # As NumPy: the sum may be off by the rounding of single precision.
    if not (np.isfinite(values).all() and (values >= 0).all() and abs(math.fsum(values) - 1) <= 1.5e-8):
        raise ValueError("choice: p must be non-negative and add up to 1")
    return values


def as_array(op: str, x: object, split, device, comm) -> DNDarray:
    """Return `x` as an array with at least one axis."""
    if not isinstance(x, DNDarray):
        from .creation import array

        x = array(x, split=split, device=device, comm=comm)
    if x.ndim == 0:
        raise LayoutError(f"{op}: the array must have at least one axis, got a 0-D one")
    return x
