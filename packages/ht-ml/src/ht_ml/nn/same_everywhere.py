"""The same tensors on every rank: check that modules agree, broadcast what they hold."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from ht_comm import Communicator


def check_same_module(op: str, module: torch.nn.Module, comm: Communicator) -> None:
    """Raise the same ValueError on all ranks unless all have parameters of the same names, shapes and dtypes.

    *Distribution*: collective; one allgather of 8 bytes.
    """
    described = [(n, tuple(x.shape), str(x.dtype), x.requires_grad) for n, x in module.named_parameters()]
    described += [(n, tuple(x.shape), str(x.dtype)) for n, x in module.named_buffers()]
    digest = hashlib.sha256(repr(described).encode()).digest()[:8]
    found = comm.allgather(torch.frombuffer(bytearray(digest), dtype=torch.uint8).view(1, 8))
    odd = [rank for rank in range(comm.size) if not torch.equal(found[rank], found[0])]
    if odd:
        raise ValueError(
            f"{op}: module must have the same parameters and buffers on every rank, got others on ranks {odd} than on "
            "rank 0; build it from the same arguments and freeze the same parameters"
        )


@torch.no_grad()
def for_each_kind(tensors: Sequence[torch.Tensor], act: Callable[[torch.Tensor], torch.Tensor]) -> None:
    """Replace tensors by what `act` makes of them, once for each dtype and device, as one vector."""
    kinds: dict[tuple, list[torch.Tensor]] = {}
    for x in {id(x): x for x in tensors}.values():
        kinds.setdefault((x.dtype, x.device), []).append(x)
    for some in kinds.values():
        flat = act(torch.cat([x.detach().reshape(-1) for x in some]))
        for x, part in zip(some, flat.split([x.numel() for x in some])):
            x.detach().copy_(part.view(x.shape))


def broadcast_tensors(tensors: Sequence[torch.Tensor], comm: Communicator, root: int = 0) -> None:
    """Give every rank the tensors of `root`, in place. Collective: one broadcast per dtype and device."""
    if comm.size > 1:
        for_each_kind(tensors, lambda flat: comm.bcast(flat, root))
