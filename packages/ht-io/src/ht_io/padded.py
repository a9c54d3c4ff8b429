"""Arrays of which less is stored than they are long: the rest is fill value. Knows no format."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from .loading import Source
from .selection import Selection, plan_blocks
from .storage import put_along


class PaddedSource:
    """A source of a larger shape, whose further elements are `fill` (see `ht_io.loading`)."""

    def __init__(self, source: Source, shape: tuple[int, ...], fill: object) -> None:
        self._source = source
        self._fill = torch.from_numpy(np.array(fill).reshape(-1)[:1].astype(source.dtype.numpy))
        self.shape, self.dtype, self.name = shape, source.dtype, source.name

    def read_into(self, part: Selection, out: torch.Tensor) -> None:
        """Fill `out` with `part`, the stored elements in blocks of 8 MiB."""
        out = out.view(part.counts)
        out.copy_(self._fill)
        listed, places = part.listed, None
        for axis, extent in enumerate(self._source.shape):
            if axis == listed:
                places = np.flatnonzero(part.indices < extent)
                counts = (*part.counts[:axis], len(places), *part.counts[axis + 1 :])
                part = replace(part, counts=counts, indices=part.indices[places])
                continue
            stored = max(-(-(extent - part.starts[axis]) // part.steps[axis]), 0)
            part = part.along(axis, 0, min(stored, part.counts[axis]))
            out = out.narrow(axis, 0, part.counts[axis])
        if part.size == 0:
            return
        row_bytes = part.size // part.counts[0] * self.dtype.itemsize
        for low, high in plan_blocks(part.counts[0], row_bytes):
            block = part.rows(low, high)
            scratch = torch.empty(block.counts, dtype=out.dtype, device=out.device)
            self._source.read_into(block, scratch)
            if places is None:
                out[low:high].copy_(scratch)
            elif listed == 0:
                put_along(out, 0, places[low:high], scratch)
            else:
                put_along(out[low:high], listed, places, scratch)
