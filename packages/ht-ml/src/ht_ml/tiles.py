"""How many rows are worked on at once: few enough for the cache of a core, many enough to fill a device."""

from __future__ import annotations

from collections.abc import Iterator

import torch

_ELEMENTS = {"cpu": 1 << 18}  # 1 MiB of float32; smaller tiles pay for more calls, larger ones for memory
_DEVICE_ELEMENTS = 1 << 25
_LEAST, _MOST = 16, 16384
_NARROW = 32


def tile_rows(width: int, device: torch.device) -> int:
    """Return the rows per tile for rows of `width` numbers."""
    rows = _ELEMENTS.get(device.type, _DEVICE_ELEMENTS) // max(width, 1)
    return max(_LEAST, min(_MOST if device.type == "cpu" else rows, rows))


def spans(n: int, step: int) -> Iterator[slice]:
    """Yield slices of at most `step` that cover n rows."""
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def wide_row(row: torch.Tensor | None, step: int) -> torch.Tensor | None:
    """Return a row of a few features repeated `step` times; a longer row, or None, as it is.

    An operand of full width runs one long loop, a broadcast row of a few features one short loop per row.
    """
    if row is None or row.shape[0] >= _NARROW:
        return row
    return row.expand(step, row.shape[0]).contiguous()
