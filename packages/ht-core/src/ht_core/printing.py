"""Printing: what `repr`, `str` and the HTML show comes from metadata and local memory; they never send a message.

The values of an array that is spread over ranks are shown where they are asked for: `array2string` and `print0`, which
all ranks call, bring together the elements that are printed and no others.
"""

from __future__ import annotations

import html
import itertools
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from . import types
from .dndarray import DNDarray
from .engines.redistribution import redistribute
from .engines.tracking import untracked
from .errors import LayoutError
from .layout import Layout

_OPTIONS = (
    "precision",
    "threshold",
    "edgeitems",
    "linewidth",
    "suppress",
    "nanstr",
    "infstr",
    "sign",
    "floatmode",
    "formatter",
)
_changed = threading.local()


# -- options -------------------------------------------------------------------------------------------------------


def get_printoptions() -> dict:
    """Return the options of printing, NumPy's: what was set here, and NumPy's own where nothing was. No message."""
    current = {name: value for name, value in np.get_printoptions().items() if name in _OPTIONS}
    return {**current, **getattr(_changed, "options", {})}


def set_printoptions(
    precision: int | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    suppress: bool | None = None,
    nanstr: str | None = None,
    infstr: str | None = None,
    formatter: dict | None = None,
    sign: str | None = None,
    floatmode: str | None = None,
    *,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how arrays are printed, on this rank; see :func:`numpy.set_printoptions`. No message.

    Parameters
    ----------
    precision, threshold, edgeitems, linewidth, suppress, nanstr, infstr, formatter, sign, floatmode
        As for NumPy; None leaves an option as it is.
    profile : {"default", "short", "full"}, optional
        torch's sets of options: precision 4, threshold 1000, edgeitems 3; 2, 1000, 2; 4, no limit, 3.
    sci_mode : bool, optional
        torch's name for the opposite of `suppress`.

    Raises
    ------
    LayoutError
        If `profile` is unknown.
    ValueError, TypeError
        If NumPy refuses an option.
    """
    given = {name: value for name, value in locals().items() if name in _OPTIONS and value is not None}
    if profile is not None:
        if profile not in _PROFILES:
            raise LayoutError(
                f"set_printoptions: profile must be one of {', '.join(_PROFILES)}, got {profile!r}"
            )
        given = {**_PROFILES[profile], **given}
    if sci_mode is not None:
        given["suppress"] = not sci_mode
    with np.printoptions(**given):  # or raises
        pass
    _changed.options = {**getattr(_changed, "options", {}), **given}


_PROFILES = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": sys.maxsize, "edgeitems": 3, "linewidth": 80},
}


@contextmanager
def printoptions(*args: object, **kwargs: object) -> Iterator[dict]:
    """Set options of printing until the end of the block; see :func:`set_printoptions`. No message.

    Examples
    --------
    >>> with ht.printoptions(precision=2):
    ...     print(ht.array2string(ht.array([1 / 3, 2 / 3], split=0)))
    [0.33 0.67]
    """
    before = getattr(_changed, "options", {})
    set_printoptions(*args, **kwargs)
    try:
        yield get_printoptions()
    finally:
        _changed.options = before


# -- values --------------------------------------------------------------------------------------------------------


def _to_numpy(local: torch.Tensor) -> np.ndarray:
    local = local.detach().cpu()
    if local.dtype is torch.bfloat16:
        local = local.float()
    return local.resolve_conj().numpy()


def _edges(extent: int, edge: int) -> list[int]:
    """Return the positions along an axis that are printed, and one in the middle that stands for the others."""
    if extent <= 2 * edge + 1:
        return list(range(extent))
    return [*range(edge + 1), *range(extent - edge, extent)]


def _summary(x: DNDarray, edge: int) -> np.ndarray:
    """Return the corners of an array, along every axis the first and last `edge` positions and one between.

    *Distribution*: one redistribution of these elements where the array is split; nothing else is touched.
    """
    local, layout, rank = x.larray, x.layout, x.comm.rank
    shape, counts = [], layout.counts
    for axis, extent in enumerate(layout.shape):
        wanted = _edges(extent, edge)
        shape.append(len(wanted))
        if axis == layout.split:
            ends = [start + n for start, n in zip(layout.displs, layout.counts)]
            counts = [sum(start <= k < end for k in wanted) for start, end in zip(layout.displs, ends)]
            start = layout.displs[rank]
            wanted = [k - start for k in wanted if start <= k < ends[rank]]
        if len(wanted) < local.shape[axis]:
            local = local[(slice(None),) * axis + (wanted,)]
    source = Layout(shape, layout.split, counts)
    return _to_numpy(redistribute(local, source, Layout(shape, None), x.comm))


def array2string(
    a: DNDarray,
    max_line_width: int | None = None,
    precision: int | None = None,
    suppress_small: bool | None = None,
    separator: str = " ",
    prefix: str = "",
    *,
    formatter: dict | None = None,
    threshold: int | None = None,
    edgeitems: int | None = None,
    sign: str | None = None,
    floatmode: str | None = None,
    suffix: str = "",
) -> str:
    """Return the values of an array as text, as NumPy writes them: long arrays by their corners.

    *Distribution*: collective where the array is split. The elements that are printed are brought together, at most
    ``(2 edgeitems + 1) ** ndim`` of them, in one redistribution; all elements up to `threshold` of them.

    Parameters
    ----------
    a : DNDarray
    max_line_width, precision, suppress_small, separator, prefix
    formatter, threshold, edgeitems, sign, floatmode, suffix
        As for :func:`numpy.array2string`; what is left out follows :func:`get_printoptions`.

    Examples
    --------
    >>> print(ht.array2string(ht.arange(10**6, split=0)))
    [     0      1      2 ... 999997 999998 999999]
    """
    options = get_printoptions()
    given = {
        "linewidth": max_line_width,
        "precision": precision,
        "suppress": suppress_small,
        "formatter": formatter,
        "threshold": threshold,
        "edgeitems": edgeitems,
        "sign": sign,
        "floatmode": floatmode,
    }
    options.update({name: value for name, value in given.items() if value is not None})
    x = untracked(a)
    if x.size > options["threshold"]:
        values, options["threshold"] = _summary(x, options["edgeitems"]), 0
    else:
        values = _to_numpy(redistribute(x.larray, x.layout, Layout(x.shape, None), x.comm))
    with np.printoptions(**options):
        return np.array2string(values, separator=separator, prefix=prefix, suffix=suffix)


def array_str(
    a: DNDarray,
    max_line_width: int | None = None,
    precision: int | None = None,
    suppress_small: bool | None = None,
) -> str:
    """Return the values of an array as NumPy's ``str`` writes them; our own ``str`` sends nothing and may show fewer.

    *Distribution*: as :func:`array2string`.

    Examples
    --------
    >>> ht.array_str(ht.arange(4, split=0))
    '[0 1 2 3]'
    """
    return array2string(a, max_line_width, precision, suppress_small) if a.ndim else str(a.item())


def array_repr(
    arr: DNDarray,
    max_line_width: int | None = None,
    precision: int | None = None,
    suppress_small: bool | None = None,
) -> str:
    """Return the values of an array as NumPy's ``repr`` writes them: as an expression that makes the array.

    *Distribution*: as :func:`array2string`.

    Examples
    --------
    >>> ht.array_repr(ht.arange(4, dtype=ht.int16, split=0))
    'array([0, 1, 2, 3], dtype=int16)'
    """
    start = "array("
    text = "[]"
    if arr.size or not arr.ndim:
        options = {"prefix": start, "suffix": ")", "separator": ", "}
        text = array2string(arr, max_line_width, precision, suppress_small, **options)
    options, more = get_printoptions(), []
    if arr.size > options["threshold"] or (arr.size == 0 and arr.shape != (0,)):
        more.append(f"shape={arr.shape}")
    if arr.dtype not in _IMPLIED or not arr.size:
        more.append(f"dtype={arr.dtype.name}")
    text, facts = start + text, ", ".join(more) + ")"
    if not more:
        return text + ")"
    used = len(text.rpartition("\n")[2])
    fits = used + len(facts) + 1 < (max_line_width or options["linewidth"])
    return f"{text}, {facts}" if fits else f"{text},\n{' ' * len(start)}{facts}"


#: Dtypes that NumPy gives numbers written without one.
_IMPLIED = (types.bool_, types.int64, types.float64, types.complex128)


def print0(*values: object, comm: object = None, **options: object) -> None:
    """Print on rank 0 only; arrays show their values, long ones their corners.

    *Distribution*: collective where a value is an array that is split over several ranks; see :func:`array2string`.
    Otherwise no message.

    Parameters
    ----------
    values, options
        As for ``print``.
    comm : Communicator, optional
        Whose rank 0 prints; the default is ``ht.get_comm()``.
    """
    from ht_comm import get_comm

    texts = [array2string(v) if isinstance(v, DNDarray) and v.is_distributed() else v for v in values]
    if (comm or get_comm()).rank == 0:
        print(*texts, **{"file": sys.stdout, **options})


# -- repr and str: no message --------------------------------------------------------------------------------------


def _describe(x: DNDarray) -> str:
    facts = f"dtype={x.dtype!r}, split={x.split}, device={str(x.device)!r}"
    facts += ", requires_grad=True" if x.requires_grad else ""
    if not x.is_distributed():
        return f"DNDarray({array2string(x, separator=', ', prefix='DNDarray(')}, {facts})"
    low, high = min(x.layout.counts), max(x.layout.counts)
    rows = str(low) if low == high else f"{low} to {high}"
    return f"DNDarray(shape={x.shape}, {facts}, ranks={x.comm.size}, {rows} rows of axis {x.split} on each)"


# -- HTML ----------------------------------------------------------------------------------------------------------

_WIDTH, _HEIGHT = 320.0, 200.0
_LISTED = 16  # ranks; of more of them only the extremes are listed
_LABELLED = 32  # parts; more of them are drawn without numbers


def _html(x: DNDarray) -> str:
    """Return a table of the metadata and a picture of the parts of the array on the ranks. No message."""
    facts = {"shape": x.shape, "dtype": x.dtype, "split": x.split, "device": x.device, "ranks": x.comm.size}
    if x.split is not None:
        facts[f"rows of axis {x.split}"] = _spread(x.layout.counts)
    facts["bytes"] = f"{x.nbytes} in all, {_largest_part(x)} at most on a rank"
    if x.requires_grad:
        facts["requires_grad"] = True
    cells = "".join(
        f'<tr><th style="text-align:left">{name}</th><td style="text-align:left">{html.escape(str(value))}</td></tr>'
        for name, value in facts.items()
    )
    return (
        '<div style="display:flex;gap:1.5em;align-items:center">'
        f"<table>{cells}</table>{_picture(x.layout, x.comm.size)}</div>"
    )


def _spread(counts: tuple[int, ...]) -> str:
    """Return the rows of every rank, in order; of many ranks the least, the most and how many have none."""
    if len(counts) <= _LISTED:
        return ", ".join(map(str, counts))
    empty = counts.count(0)
    return f"{min(counts)} to {max(counts)} on a rank" + (f", none on {empty} of them" if empty else "")


def _largest_part(x: DNDarray) -> int:
    if x.split is None:
        return x.nbytes
    rank = max(range(x.comm.size), key=x.layout.counts.__getitem__)
    return int(np.prod(x.layout.lshape(rank), dtype=object)) * x.itemsize


def _picture(layout: Layout, p: int) -> str:
    """Return an SVG of an array as a box of two axes, the split axis among them, cut into the parts of the ranks.

    A replicated array is a stack of p equal sheets.
    """
    down, across = _shown_axes(layout)
    width, height = _extents(layout.shape, down, across)
    sheets = min(p, 4) if layout.split is None else 1
    offset = 8.0 * (sheets - 1)
    margin = 36.0
    body = []
    if layout.split is None:
        for sheet in reversed(range(sheets)):
            body.append(
                _rectangle(8.0 * sheet, offset - 8.0 * sheet, width, height, sheet, p, f"all {p} ranks")
            )
        text = "every rank" if p > 1 else "rank 0"
        body.append(_text(width / 2, offset + height / 2, text))
    else:
        body += _parts(layout, p, width, height, vertical=layout.split == across)
    label = _axis_label(layout, across)
    overhang = max(3.5 * len(label) - width / 2, 0.0)  # of a label that is wider than the box
    body.append(_text(width / 2, offset + height + 16, label, 12))
    if down is not None:
        middle = offset + height / 2
        turn = f' transform="rotate(-90 -14 {middle:.1f})"'
        body.append(_text(-14, middle, _axis_label(layout, down), 12, turn))
    left = max(margin - 4, overhang)
    size = (left + width + max(offset, overhang) + 8, height + offset + margin)
    view = f"{-left:.1f} -6 {size[0]:.1f} {size[1]:.1f}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]:.0f}" height="{size[1]:.0f}" viewBox="{view}" '
        f'font-family="sans-serif" role="img">{"".join(body)}</svg>'
    )


def _shown_axes(layout: Layout) -> tuple[int | None, int | None]:
    """Return the axis that runs down and the one that runs across: the split axis and the longest other one."""
    if layout.ndim < 2:
        return None, 0 if layout.ndim else None
    first = layout.split if layout.split is not None else 0
    others = [a for a in range(layout.ndim) if a != first]
    second = max(others, key=lambda a: layout.shape[a])
    return min(first, second), max(first, second)


def _extents(shape: tuple[int, ...], down: int | None, across: int | None) -> tuple[float, float]:
    """Return the size of the box: the axes in proportion, but no side below a quarter of the other."""
    if across is None:
        return 72.0, 40.0
    if down is None:
        return _WIDTH, 40.0
    ratio = min(max((shape[across] or 1) / (shape[down] or 1), 0.25), 4.0)
    height = min(_HEIGHT, _WIDTH / ratio)
    return height * ratio, height


def _parts(layout: Layout, p: int, width: float, height: float, vertical: bool) -> Iterator[str]:
    extent = max(layout.shape[layout.split], 1)
    length = width if vertical else height
    for rank, start, count in zip(itertools.count(), layout.displs, layout.counts):
        a, n = length * start / extent, length * count / extent
        title = f"rank {rank}: rows {start} to {start + count} of axis {layout.split}, shape {layout.lshape(rank)}"
        box = (a, 0.0, n, height) if vertical else (0.0, a, width, n)
        if count:
            yield _rectangle(*box, rank, p, title)
            if p <= _LABELLED and n >= 11:
                yield _text(box[0] + box[2] / 2, box[1] + box[3] / 2, str(rank))
    yield _outline(width, height)


def _rectangle(x: float, y: float, width: float, height: float, rank: int, p: int, title: str) -> str:
    hue = 360.0 * rank / max(p, 1)
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="hsl({hue:.0f},55%,75%)" '
        f'stroke="#555" stroke-width="0.7"><title>{html.escape(title)}</title></rect>'
    )


def _outline(width: float, height: float) -> str:
    return f'<rect x="0" y="0" width="{width:.1f}" height="{height:.1f}" fill="none" stroke="#333" stroke-width="1.2"/>'


def _text(x: float, y: float, text: str, size: int = 11, more: str = "") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="middle" dominant-baseline="middle" '
        f'fill="#222"{more}>{html.escape(text)}</text>'
    )


def _axis_label(layout: Layout, axis: int | None) -> str:
    if axis is None:
        return "0-D"
    return f"axis {axis}: {layout.shape[axis]}" + (" (split)" if axis == layout.split else "")


DNDarray.__repr__ = DNDarray.__str__ = _describe
DNDarray._repr_html_ = _html
