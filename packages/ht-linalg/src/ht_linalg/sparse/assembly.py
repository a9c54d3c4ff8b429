"""From entries that lie anywhere to compressed rows on the ranks that own them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from ht_core import DNDarray
from ht_core.engines.redistribution import redistribute
from ht_core.errors import DTypeError, LayoutError
from ht_core.layout import Layout

from ..arguments import as_dndarray
from .pattern import Compressed, Entries, compress

if TYPE_CHECKING:
    from ht_comm import Communicator


def exchange_counts(n: int, comm: Communicator, device: torch.device) -> tuple[int, ...]:
    """Return every rank's n. One allgather of p integers."""
    if comm.size == 1:
        return (n,)
    return tuple(comm.allgather(torch.tensor([n], dtype=torch.int64, device=device)).tolist())


def route(op: str, entries: Entries, layout: Layout, comm: Communicator) -> Compressed:
    """Return this rank's part of a split matrix from entries that lie on any rank.

    Parameters
    ----------
    entries : Entries
        This rank's, in global places.
    layout : Layout
        Of the matrix; the split axis is the major one.

    Raises
    ------
    IndexError
        On all ranks, if a place lies outside the matrix on any.

    *Distribution*: one alltoall of 16 p bytes, one alltoallv of 16 bytes and a value for each entry of another rank.
    """
    n_major, n_minor = layout.shape[layout.split], layout.shape[1 - layout.split]
    bad = (entries.major < 0) | (entries.major >= n_major) | (entries.minor < 0) | (entries.minor >= n_minor)
    first = int(bad.to(torch.int8).argmax()) if bool(bad.any()) else None
    entries = entries.pick(~bad)
    owners = torch.searchsorted(
        torch.tensor(layout.counts, device=bad.device).cumsum(0), entries.major, right=True
    )
    send = torch.bincount(owners, minlength=comm.size)
    header = torch.stack((send, torch.full_like(send, first is not None)), dim=1)
    header = comm.alltoall(header)
    if bool(header[:, 1].any()):
        raise IndexError(
            f"{op}: rows and columns must lie in a matrix of shape {layout.shape}, got some outside"
        )
    order = owners.argsort(stable=True)
    packed = torch.cat([_bytes(part[order]) for part in entries], dim=1)
    packed = comm.alltoallv(packed, tuple(send.tolist()), tuple(header[:, 0].tolist()))
    major, minor = (packed[:, at : at + 8].reshape(-1).view(torch.int64) for at in (0, 8))
    values = packed[:, 16:].reshape(-1).view(entries.values.dtype)
    major = major - layout.displs[comm.rank]
    return compress(Entries(major, minor, values), layout.counts[comm.rank], n_minor)


def _bytes(x: torch.Tensor) -> torch.Tensor:
    """Return the bytes of each number, shape (n, itemsize)."""
    n, size = x.shape[0], x.itemsize
    x = torch.view_as_real(x.resolve_conj()) if x.is_complex() else x
    return x.contiguous().view(torch.uint8).reshape(n, size)


def entries_of(op: str, obj: object) -> tuple[Entries, tuple[int, ...]]:
    """Return rows, columns and values of a matrix of torch, SciPy or NumPy that this rank holds, and its shape.

    Raises
    ------
    LayoutError, DTypeError
        If it is not 2-D, or no array.
    """
    if isinstance(obj, torch.Tensor) and obj.layout is not torch.strided:
        obj = obj.to_sparse_coo().coalesce()
        rows, columns, values, shape = *obj.indices(), obj.values(), tuple(obj.shape)
    elif hasattr(obj, "tocoo"):
        found = obj.tocoo()
        rows, columns, values = (torch.as_tensor(part) for part in (found.row, found.col, found.data))
        shape = tuple(map(int, found.shape))
    else:
        dense = as_dndarray(op, "obj", obj).larray
        if dense.dim() == 2:
            rows, columns = dense.nonzero(as_tuple=True)
            values = dense[rows, columns]
        shape = tuple(dense.shape)
    if len(shape) != 2:
        raise LayoutError(f"{op}: obj must be 2-D, got shape {shape}")
    return Entries(rows.long(), columns.long(), values), shape


def as_triplets(op: str, obj: tuple, shape: object, comm: Communicator | None):
    """Return rows, columns and values given as ``(values, (rows, columns))``, the shape, and where they lie.

    Returns
    -------
    entries : tuple of DNDarray
        Values, rows, columns; of one layout.
    shape : tuple of int

    Raises
    ------
    LayoutError, DTypeError, ValueError
        If they are no triplets, their lengths differ, or places are no integers.
    """
    try:
        values, (rows, columns) = obj
    except (TypeError, ValueError):
        raise ValueError(
            f"{op}: obj must be a matrix or (values, (rows, columns)), got {type(obj)}"
        ) from None
    if shape is None:
        raise ValueError(f"{op}: shape must be given with (values, (rows, columns)), got None")
    given = {"values": values, "rows": rows, "columns": columns}
    comm = next((x.comm for x in given.values() if isinstance(x, DNDarray)), comm)
    parts = {name: as_dndarray(op, name, x, comm) for name, x in given.items()}
    for name, part in parts.items():
        if part.shape != parts["values"].shape or part.ndim != 1:
            raise LayoutError(f"{op}: {name} must be 1-D and as long as values, got shape {part.shape}")
        if name != "values" and part.dtype.kind not in "iu":
            raise DTypeError(f"{op}: {name} must be integers, got {part.dtype}")
    first = next((x for x in parts.values() if x.split is not None), parts["values"])
    aligned = [x if x.layout is first.layout else _to(x, first.layout) for x in parts.values()]
    return aligned, tuple(int(n) for n in shape)


def _to(x: DNDarray, layout: Layout) -> DNDarray:
    return DNDarray(redistribute(x.larray, x.layout, layout, x.comm), layout, x.comm)
