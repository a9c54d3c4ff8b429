"""Sum over ranks, decide on one of them, tell all.

Small dense problems (a Cholesky factor, an eigenproblem) are solved by rank 0 alone and its answer is
broadcast. If every rank solved its own copy, ranks on different processors could round differently, and a
near-degenerate eigenspace or a threshold would then come out differently on each: inconsistent factors, or a
hang. A reduction followed by a broadcast moves what an allreduce moves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch

from .errors import LinAlgError

if TYPE_CHECKING:
    from ht_comm import Communicator


def solve_sum(
    partial: torch.Tensor, comm: Communicator, solve: Callable[[torch.Tensor], torch.Tensor], numel: int
) -> torch.Tensor:
    """Return ``solve(sum of partial over ranks)``, computed by rank 0, on every rank.

    Parameters
    ----------
    partial : torch.Tensor, float64 or complex128
        This rank's term, of equal shape on all ranks.
    solve : callable
        Maps the sum to a vector of `numel` numbers of the same dtype, the first of which is a status, not NaN.
    numel : int
        Length of the answer.

    *Distribution*: collective. One reduction of ``partial.nbytes`` and one broadcast of the answer.

    Raises
    ------
    LinAlgError
        On every rank, if `solve` raises it on rank 0.
    """
    total = comm.reduce(partial, "sum", root=0)
    return tell(comm, lambda: solve(total), partial.new_empty(numel))


def tell(comm: Communicator, solve: Callable[[], torch.Tensor], answer: torch.Tensor) -> torch.Tensor:
    """Return ``solve()``, computed by rank 0, on every rank; `answer` is memory for it. See :func:`solve_sum`."""
    failure = None
    if comm.rank == 0:
        try:
            answer = solve()
        except torch.linalg.LinAlgError as error:
            answer, failure = answer.fill_(float("nan")), error
    comm.bcast(answer, root=0)
    status = answer[0].real.item()
    if status != status:
        raise LinAlgError("the small dense problem on rank 0 could not be solved") from failure
    return answer


def pack(*parts: torch.Tensor | complex, like: torch.Tensor) -> torch.Tensor:
    """Return numbers and tensors as one vector of the dtype and device of `like`."""
    pieces = [torch.as_tensor(x, dtype=like.dtype, device=like.device).reshape(-1) for x in parts]
    return torch.cat(pieces)


def unpack(vector: torch.Tensor, *shapes: tuple[int, ...]) -> list[torch.Tensor]:
    """Return the pieces of a vector made by :func:`pack`, as views of the given shapes."""
    sizes = [torch.Size(shape).numel() for shape in shapes]
    return [part.view(shape) for part, shape in zip(vector.split(sizes), shapes)]
