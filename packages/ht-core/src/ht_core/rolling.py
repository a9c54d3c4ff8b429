"""Rolling arrays along axes or in C order: one exchange at most, and none off the split axis."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch

from .dndarray import DNDarray
from .engines.pieces import Piece, assemble, plan_pieces
from .errors import LayoutError
from .layout import normalize_axis
from .registry import register

Shift = tuple[tuple[int, int], tuple[int, int], int]  # rows of the source, rows of the result, carry


def roll(x: DNDarray, /, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> DNDarray:
    """Return the array with its elements shifted along axes; what leaves at one end enters at the other.

    *Distribution*: the layout stays. No message where the split axis is not rolled. Otherwise one exchange of the
    rows whose rank changes: ``abs(shift)`` rows between neighbours for small shifts.

    Parameters
    ----------
    shift : int or sequence of int
        Places by which elements move towards higher indices, for each axis; negative ones move to lower indices.
    axis : int or sequence of int, optional
        The axes; shifts of an axis named twice add up. Without it the array is rolled in C order, across its rows.

    Raises
    ------
    LayoutError
        If an axis is out of range, or shifts and axes do not match.

    Examples
    --------
    >>> ht.roll(ht.arange(5, split=0), 2).numpy().tolist()
    [3, 4, 0, 1, 2]
    """
    shifts = _shifts(x, shift, axis)
    if not x.size:
        return DNDarray(x.larray.clone(), x.layout, x.comm)
    split = x.split
    if x.comm.size == 1 or split is None or (axis is not None and not shifts[split]):
        if axis is None:
            local = x.larray.roll(shift if hasattr(shift, "__index__") else sum(shift))
        else:
            axes = [a for a, s in enumerate(shifts) if s]
            local = x.larray.roll([shifts[a] for a in axes], axes) if axes else x.larray.clone()
        return DNDarray(local, x.layout, x.comm)
    pieces = tuple(Piece(0, source, target) for source, target, _ in _boxes(x.shape, shifts, axis is None))
    out = torch.empty(x.lshape, dtype=x.larray.dtype, device=x.larray.device)
    assemble([x.larray], plan_pieces((x.layout,), x.layout, pieces, x.comm.size), out, x.comm)
    return DNDarray(out, x.layout, x.comm)


def _shifts(x: DNDarray, shift: int | Sequence[int], axis: int | Sequence[int] | None) -> tuple[int, ...]:
    """Return the shift of every axis, in [0, extent); without `axis` the digits of the shift in C order."""
    try:
        given = [s.__index__() for s in ([shift] if hasattr(shift, "__index__") else shift)]
    except (AttributeError, TypeError):
        raise LayoutError(f"roll: shift must be an integer or a sequence of them, got {shift!r}") from None
    if axis is None:
        rest, digits = sum(given) % max(x.size, 1), []
        for n in reversed(x.shape):
            rest, digit = divmod(rest, max(n, 1))
            digits.append(digit)
        return tuple(reversed(digits))
    axes = [axis] if hasattr(axis, "__index__") else list(axis)
    if len(axes) != len(given):
        if 1 not in (len(axes), len(given)):
            raise LayoutError(
                f"roll: shift must have one number for each axis, got {len(given)} for {len(axes)} axes"
            )
        axes, given = (
            axes * (len(given) if len(axes) == 1 else 1),
            given * (len(axes) if len(given) == 1 else 1),
        )
    total = [0] * x.ndim
    for a, s in zip(axes, given):
        total[normalize_axis(a, x.ndim, "roll")] += s
    return tuple(s % n if n else 0 for s, n in zip(total, x.shape))


def _boxes(shape: Sequence[int], shifts: Sequence[int], carries: bool) -> Iterator[tuple[tuple, tuple, int]]:
    """Yield (box of the source, box of the result, carry) of a roll.

    Rolling in C order adds the digits of the shift to an element's indices, last axis first: where an index runs over
    its end, the next one gets a carry. Each axis therefore has at most two intervals for each carry it gets.
    """
    if not shape:
        yield (), (), 0
        return
    n = shape[0]
    for source, target, carry in _boxes(shape[1:], shifts[1:], carries):
        s = shifts[0] + carry if carries else shifts[0]
        if s < n:
            yield ((0, n - s), *source), ((s, n), *target), 0
        if s:
            yield ((n - s, n), *source), ((0, s), *target), 1


register(
    roll, kind="manipulation", numpy="roll", cost="None off the split axis; else one exchange of what moves."
)
