"""Evenly spaced numbers, on a linear or a logarithmic scale. Each rank computes its own part from global indices."""

from __future__ import annotations

import math

import numpy as np
import torch

from . import types
from .dndarray import DNDarray, _cast
from .engines.creation import create, creates
from .engines.progression import progression
from .errors import LayoutError


@creates
def arange(start, /, stop=None, step=1, *, dtype=None, split=None, device=None, comm=None) -> DNDarray:
    """Make the values ``start, start + step, ...`` below `stop`. No message.

    As in NumPy, value i is ``start + i * (second - start)``, computed in the dtype of the result: multiples of a
    fraction carry its rounding error; ``linspace`` does not.

    Parameters
    ----------
    start, stop, step : number
        As for ``range``; a single argument is `stop`.
    dtype : dtype, optional
        int64 where all arguments are integers, float64 otherwise.
    {common}

    Raises
    ------
    LayoutError
        If `step` is 0.

    Examples
    --------
    >>> ht.arange(5, split=0).numpy().tolist()
    [0, 1, 2, 3, 4]
    """
    start, stop = (0, start) if stop is None else (start, stop)
    if step == 0:
        raise LayoutError("arange: step must not be 0, got 0")
    exact = all(isinstance(v, (int, np.integer)) for v in (start, stop, step))
    if exact:
        start, stop, step = int(start), int(stop), int(step)
    n = max(-((start - stop) // step) if exact else math.ceil((stop - start) / step), 0)
    dtype = (types.int64 if exact else types.float64) if dtype is None else types.canonical(dtype)

    def fill(lshape, offset, kind, device):
        first, gap, work = _first_and_gap(start, step, kind)
        return progression(lshape[0], offset, first, gap, work, kind, device)

    return create("arange", (n,), dtype, split, device, comm, fill)


def _first_and_gap(start, step, kind: torch.dtype) -> tuple[float, float, torch.dtype]:
    """Return the first value, the difference of the first two in the type `kind`, and the type to compute in."""
    if kind.is_floating_point or kind.is_complex:
        first, second = torch.tensor([start, start + step], dtype=torch.float64).to(kind).tolist()
        work = torch.float64 if kind in (torch.float64, torch.complex128) else torch.float32
        first, second = torch.tensor([first, second], dtype=torch.complex128).real.to(work)
        return first.item(), (second - first).item(), work
    return int(start), int(start + step) - int(start), torch.int64


@creates
def linspace(
    start, stop, num=50, endpoint=True, retstep=False, dtype=None, *, split=None, device=None, comm=None
) -> DNDarray:
    """Make `num` evenly spaced values from `start` to `stop`. No message.

    Parameters
    ----------
    start, stop : number
        First value and end of the interval.
    num : int
        Number of values.
    endpoint : bool
        Let `stop` be the last value; otherwise it is left out.
    retstep : bool
        Return the pair (values, spacing).
    dtype : dtype, optional
        float64 by default.
    {common}

    Raises
    ------
    LayoutError
        If `num` is negative.

    Examples
    --------
    >>> ht.linspace(0, 1, 5, split=0).numpy().tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    start, stop, step = _spacing("linspace", start, stop, num, endpoint)
    dtype = (types.complex128 if isinstance(step, complex) else types.float64) if dtype is None else dtype

    def fill(lshape, offset, kind, device):
        floors = not kind.is_floating_point and not kind.is_complex
        then = torch.Tensor.floor_ if floors else None
        return _linear(start, stop, step, num, endpoint, lshape[0], offset, kind, device, then)

    values = create("linspace", (num,), dtype, split, device, comm, fill)
    return (values, step) if retstep else values


def _spacing(op: str, start: object, stop: object, num: int, endpoint: bool):
    """Return start, stop and step as Python numbers; the step is NaN where there is no second value."""
    if num < 0:
        raise LayoutError(f"{op}: num must be non-negative, got {num}")
    start, stop = (v.item() if hasattr(v, "item") else v for v in (start, stop))
    kind = complex if isinstance(start, complex) or isinstance(stop, complex) else float
    start, stop = kind(start), kind(stop)
    gaps = num - 1 if endpoint else num
    return start, stop, (stop - start) / gaps if gaps > 0 else kind(math.nan)


def _linear(start, stop, step, num, endpoint, n, offset, dtype, device, then=None) -> torch.Tensor:
    """Return values `offset` to ``offset + n`` of `num` evenly spaced ones, changed by `then`, of type `dtype`."""
    work = torch.complex128 if isinstance(step, complex) else torch.float64
    values = progression(n, offset, start, 0.0 if step != step else step, work, dtype, device, then)
    if endpoint and num > 1 and offset + n == num and n:
        last = torch.full((1,), stop, dtype=work, device=device)
        if then is not None:
            then(last)
        values[-1:] = _cast(last, dtype)
    return values


@creates
def logspace(
    start, stop, num=50, endpoint=True, base=10.0, dtype=None, *, split=None, device=None, comm=None
) -> DNDarray:
    """Make `num` values from ``base**start`` to ``base**stop`` whose logarithms are evenly spaced. No message.

    Parameters
    ----------
    start, stop : number
        Exponents of the first value and of the end of the interval.
    num : int
        Number of values.
    endpoint : bool
        Let ``base**stop`` be the last value; otherwise it is left out.
    base : number
        Base of the exponents.
    dtype : dtype, optional
        float64 by default.
    {common}

    Raises
    ------
    LayoutError
        If `num` is negative.

    Examples
    --------
    >>> ht.logspace(0, 2, 3, split=0).numpy().tolist()
    [1.0, 10.0, 100.0]
    """
    start, stop, step = _spacing("logspace", start, stop, num, endpoint)
    base = base.item() if hasattr(base, "item") else base
    several = isinstance(step, complex) or isinstance(base, complex)
    dtype = (types.complex128 if several else types.float64) if dtype is None else dtype

    ends = (complex(start), complex(stop), complex(step)) if several else (start, stop, step)

    def fill(lshape, offset, kind, device):
        work = torch.complex128 if several else torch.float64
        power = _power_of(torch.full((), base, dtype=work, device=device))
        return _linear(*ends, num, endpoint, lshape[0], offset, kind, device, power)

    return create("logspace", (num,), dtype, split, device, comm, fill)


def _power_of(base: torch.Tensor):
    """Return the function that puts ``base**x`` in the place of x."""
    return lambda tile: torch.pow(base, tile, out=tile)


@creates
def geomspace(
    start, stop, num=50, endpoint=True, dtype=None, *, split=None, device=None, comm=None
) -> DNDarray:
    """Make `num` values from `start` to `stop`, each a constant multiple of the one before. No message.

    Parameters
    ----------
    start, stop : number
        First value and end of the interval; not 0.
    num : int
        Number of values.
    endpoint : bool
        Let `stop` be the last value; otherwise it is left out.
    dtype : dtype, optional
        float64 by default, complex128 for complex ends.
    {common}

    Raises
    ------
    LayoutError
        If `num` is negative, or `start` or `stop` is 0.

    Examples
    --------
    >>> ht.geomspace(1, 8, 4, split=0).numpy().round(9).tolist()
    [1.0, 2.0, 4.0, 8.0]
    """
    start, stop, step = _spacing("geomspace", start, stop, num, endpoint)
    if start == 0 or stop == 0:
        raise LayoutError(f"geomspace: start and stop must not be 0, got {start} and {stop}")
    several = isinstance(step, complex)
    work = torch.complex128 if several else torch.float64
    if not several and (start < 0) != (stop < 0):
        raise LayoutError(
            f"geomspace: start and stop must have one sign or be complex, got {start} and {stop}"
        )
    # The first value is turned to the positive real axis; what is between follows a logarithmic spiral.
    turn = start / abs(start)
    ends = np.log10(np.asarray([start / turn, stop / turn]))
    low, high, gap = _spacing("geomspace", ends[0], ends[1], num, endpoint)
    dtype = (types.complex128 if several else types.float64) if dtype is None else dtype

    def fill(lshape, offset, kind, device):
        power = _power_of(torch.full((), 10.0, dtype=work, device=device))
        ends = (low, high, gap) if not several else (complex(low), complex(high), complex(gap))
        values = _linear(
            *ends, num, endpoint, lshape[0], offset, kind, device, lambda tile: power(tile).mul_(turn)
        )
        if lshape[0] and offset == 0 and num:
            values[:1] = _cast(torch.full((1,), start, dtype=work, device=device), kind)
        if lshape[0] and endpoint and num > 1 and offset + lshape[0] == num:
            values[-1:] = _cast(torch.full((1,), stop, dtype=work, device=device), kind)
        return values

    return create("geomspace", (num,), dtype, split, device, comm, fill)
