"""What the arguments of random functions must be. Everything here reads replicated facts and ends before a message."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from . import types
from .devices import sanitize_device
from .dndarray import DNDarray
from .engines.creation import normalize_shape, normalize_split
from .engines.elementwise import as_operand, common_comm
from .engines.redistribution import redistribute
from .errors import DTypeError, LayoutError
from .layout import Layout

#: Default of a parameter that the caller must give.
REQUIRED = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a distribution: its name, its range and its words.

    Attributes
    ----------
    name : str
    text : str
        For the docstring.
    holds : callable
        ``holds(values)``: where float64 values are allowed; NaN never is.
    requirement : str
        The range in words.
    default : float
    """

    name: str
    text: str
    holds: Callable[[torch.Tensor], torch.Tensor]
    requirement: str
    default: object = REQUIRED


def number(name: str, text: str, default: object = REQUIRED) -> Parameter:
    """A parameter that may be any finite number."""
    return Parameter(name, text, torch.isfinite, "finite", default)


def positive(name: str, text: str, default: object = REQUIRED) -> Parameter:
    """A parameter above 0, finite."""
    return Parameter(name, text, lambda v: (v > 0) & torch.isfinite(v), "positive", default)


def non_negative(name: str, text: str, default: object = REQUIRED) -> Parameter:
    """A parameter of at least 0, finite."""
    return Parameter(name, text, lambda v: (v >= 0) & torch.isfinite(v), "non-negative", default)


def count(name: str, text: str, most: float = 2.0**63) -> Parameter:
    """A parameter that is a whole number of at least 0, at most `most`."""
    words = f"a whole number in [0, {most:g}]"
    return Parameter(name, text, lambda v: (v >= 0) & (v <= most) & (v == torch.floor(v)), words)


def probability(name: str, text: str, above: bool = False, below: bool = False) -> Parameter:
    """A parameter in [0, 1], without the ends that `above` (0) and `below` (1) exclude."""

    def holds(v: torch.Tensor) -> torch.Tensor:
        return ((v > 0) if above else (v >= 0)) & ((v < 1) if below else (v <= 1))

    return Parameter(name, text, holds, f"in {'(' if above else '['}0, 1{')' if below else ']'}")


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


def aligned(
    generator, row, values: tuple, kind: types.dtype, size, out: DNDarray | None, split, device, comm
) -> tuple[DNDarray, list[torch.Tensor]]:
    """Return the array to be filled and, for each parameter of `row`, what this rank needs of it in float64.

    *Distribution*: no message where the parameters are numbers or replicated. Otherwise one check that all ranks share
    and one redistribution of each that is split otherwise than the result.

    Raises
    ------
    ValueError
        If a value is out of its range, on every rank.
    LayoutError
        If the shapes do not broadcast.
    DTypeError
        If a parameter does not consist of real numbers.
    """
    op = row.name
    arrays = [v for v in values if isinstance(v, DNDarray)] + ([] if out is None else [out])
    comm = common_comm(arrays, op) if arrays and comm is None else generator._comm(comm)
    if any(x.comm is not comm for x in arrays):
        raise LayoutError(f"{op}: comm must be that of the array parameters, got another one")
    if device is None and arrays:
        place = arrays[0].larray.device
    else:
        place = sanitize_device(device).torch_device
    operands = [_operand(v, comm, place, f"{op}: {p.name}") for v, p in zip(values, row.parameters)]
    if out is not None:
        if size is not None and normalize_shape(size, op) != out.shape:
            raise LayoutError(f"{op}: size must be the shape of out, {out.shape}, got {size}")
        size, split = out.shape, out.split
    shape, split = joint_shape(op, size, split, *operands)
    layout = Layout.even(shape, normalize_split(split, len(shape), op), comm.size)
    layout = layout if out is None else out.layout
    _check(row, operands, comm)
    locals_ = [_meeting(x, layout).contiguous() for x in operands]
    if out is None:
        out = DNDarray(torch.empty(layout.lshape(comm.rank), dtype=kind.torch, device=place), layout, comm)
    return out, locals_


def _operand(value: object, comm, device: torch.device, argument: str) -> DNDarray:
    """Return a parameter as an array of float64."""
    if is_scalar(value):
        tensor = torch.tensor(float(value), dtype=torch.float64, device=device)
        return DNDarray(tensor, Layout((), None), comm)
    array = as_operand(value, comm, device, argument)
    if array.dtype.kind not in "biuf":
        raise DTypeError(f"{argument} must consist of real numbers, got {array.dtype}")
    return DNDarray(array.larray.detach().to(torch.float64), array.layout, comm)


def _check(row, operands: list[DNDarray], comm) -> None:
    """Refuse values out of range; collective where a parameter is split."""
    error = None
    for parameter, x in zip(row.parameters, operands):
        bad = x.larray[~parameter.holds(x.larray)] if error is None else ()
        if len(bad):
            error = ValueError(
                f"{row.name}: {parameter.name} must be {parameter.requirement}, got {bad[0].item():g}"
            )
    if row.conditions:  # whatever this rank has found: the others may have to meet it in a redistribution
        shape = np.broadcast_shapes(*(x.shape for x in operands))
        split = next((x.split + len(shape) - x.ndim for x in operands if x.split is not None), None)
        layout = Layout.even(shape, split, comm.size)
        locals_ = [_meeting(x, layout) for x in operands]
        for holds, requirement in row.conditions:
            if error is None and not bool(holds(*locals_).all()):
                error = ValueError(f"{row.name}: {requirement}")
    if any(x.split is not None for x in operands):
        comm.agree(error)
    elif error is not None:
        raise error


def _meeting(x: DNDarray, layout: Layout) -> torch.Tensor:
    """Return this rank's part of a parameter, as it broadcasts to an array of `layout`."""
    axis = None if layout.split is None else layout.split - (layout.ndim - x.ndim)
    if axis is None or axis < 0 or x.shape[axis] != layout.shape[layout.split]:
        target = Layout(x.shape, None)
    else:
        target = Layout(x.shape, axis, layout.counts)
    return redistribute(x.larray, x.layout, target, x.comm)


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
