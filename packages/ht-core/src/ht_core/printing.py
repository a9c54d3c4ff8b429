"""Printing: what `repr` and `str` show comes from metadata and local memory; it never sends a message."""

from __future__ import annotations

import sys

import numpy as np

from .dndarray import DNDarray


def _describe(x: DNDarray) -> str:
    facts = f"dtype={x.dtype!r}, split={x.split}, device={str(x.device)!r}"
    if not x.is_distributed():
        values = x.larray.detach().cpu()
        values = values.float() if values.dtype.itemsize == 2 and x.dtype.numpy is None else values
        text = np.array2string(
            values.resolve_conj().numpy(), separator=", ", prefix="DNDarray(", threshold=1000
        )
        return f"DNDarray({text}, {facts})"
    low, high = min(x.layout.counts), max(x.layout.counts)
    rows = str(low) if low == high else f"{low} to {high}"
    return f"DNDarray(shape={x.shape}, {facts}, ranks={x.comm.size}, {rows} rows of axis {x.split} on each)"


def _html(x: DNDarray) -> str:
    """Return a table of the metadata and a bar that shows which part of the split axis each rank holds."""
    rows = {"shape": x.shape, "dtype": x.dtype, "split": x.split, "device": x.device, "ranks": x.comm.size}
    if x.split is not None and x.shape[x.split]:
        extent = x.shape[x.split]
        bar = "".join(
            f'<span title="rank {rank}: {count} rows" style="display:inline-block;height:1em;'
            f'width:{300 * count / extent:.1f}px;background:hsl({360 * rank / x.comm.size:.0f},60%,70%)"></span>'
            for rank, count in enumerate(x.layout.counts)
        )
        rows[f"axis {x.split}"] = bar
    cells = "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in rows.items())
    return f"<table>{cells}</table>"


def print0(*values: object, comm: object = None, **options: object) -> None:
    """Print on rank 0 only. No message: what is printed must be known to rank 0.

    Parameters
    ----------
    values, options
        As for ``print``.
    comm : Communicator, optional
        Whose rank 0 prints; the default is ``ht.get_comm()``.
    """
    from ht_comm import get_comm

    if (comm or get_comm()).rank == 0:
        print(*values, **{"file": sys.stdout, **options})


DNDarray.__repr__ = DNDarray.__str__ = _describe
DNDarray._repr_html_ = _html
