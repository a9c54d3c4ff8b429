"""Dense problems that one rank solves: the matrix moves there, the answer comes back. Layouts and messages only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from ht_core.layout import Layout

if TYPE_CHECKING:
    from ht_comm import Communicator

#: Up to this many rows a square matrix may lie whole on one rank: 128 MiB in double precision.
WHOLE_ON_ONE_RANK = 4096


def alone(shape: tuple[int, ...], root: int, p: int) -> Layout:
    """Return the layout in which rank `root` holds all rows. Pure."""
    return Layout(shape, 0, tuple(shape[0] if rank == root else 0 for rank in range(p)))


def told(x: torch.Tensor, root: int, comm: Communicator) -> torch.Tensor:
    """Return rank `root`'s tensor on every rank; the others give one of the same shape and dtype. One broadcast."""
    x = x.contiguous()
    comm.bcast(x, root=root)
    return x
