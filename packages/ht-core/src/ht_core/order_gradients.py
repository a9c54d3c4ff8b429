"""What sorting does to arrays that require a gradient: it finds the places, and takes the elements from there.

Where the elements of a result come from is an array of integers, which has no derivative; taking them is an indexing
operation, whose derivative is known, also the second one. So nothing here differentiates a sort.
"""

from __future__ import annotations

import torch

from .dndarray import DNDarray
from .engines.elementwise import as_operand
from .engines.recording import assign, to_layout
from .errors import LayoutError
from .picking import take_along_axis
from .registry import OPERATIONS


def sort_recorded(x, /, axis=-1, kind=None, order=None, *, out=None, return_sort_indices=False, **options):
    """Do what :func:`ht_core.sort` does, recorded.

    *Distribution*: as :func:`ht_core.argsort` and :func:`ht_core.take_along_axis`; back as the latter.
    """
    with torch.no_grad():
        places = OPERATIONS["argsort"].function(x, axis, kind, order, **options)
    values = _written(_taken(x, places, axis, "sort"), out, "sort")
    return (values, places) if return_sort_indices else values


def partition_recorded(x, /, kth, axis=-1, kind="introselect", order=None):
    """Do what :func:`ht_core.partition` does, recorded; the result is sorted."""
    with torch.no_grad():
        places = OPERATIONS["argpartition"].function(x, kth, axis, kind, order)
    return _taken(x, places, axis, "partition")


def topk_recorded(a, k, dim=-1, largest=True, sorted=True, out=None):
    """Do what :func:`ht_core.topk` does, recorded."""
    with torch.no_grad():
        found = OPERATIONS["topk"].function(a, k, dim, largest, sorted)
    values = to_layout(_taken(a, found.indices, dim, "topk"), found.values.layout)
    parts = zip((values, found.indices), out or (None, None))
    return type(found)(*(_written(part, target, "topk") for part, target in parts))


def _taken(x: object, places: DNDarray, axis: int | None, op: str) -> DNDarray:
    x = as_operand(x, places.comm, places.larray.device, op)
    return take_along_axis(*((x.ravel(), places, 0) if axis is None else (x, places, axis)))


def _written(value: DNDarray, out: object, op: str) -> DNDarray:
    if out is None:
        return value
    if not isinstance(out, DNDarray) or out.shape != value.shape:
        got = out.shape if isinstance(out, DNDarray) else type(out).__name__
        raise LayoutError(f"{op}: out must be a DNDarray of shape {value.shape}, got {got}")
    return assign(out, value, op)
