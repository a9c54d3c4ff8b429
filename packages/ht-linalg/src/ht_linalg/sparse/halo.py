"""Which entries of a split vector a rank needs besides its own, and who sends them: found once, then used often."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from ht_comm import Communicator


class Halo:
    """The places of a vector that this rank uses: its own, then those of other ranks in ascending order.

    Parameters
    ----------
    indices : torch.Tensor, int64
        The places that are used, in any order, repeated or not.
    counts : tuple of int
        Extents of the vector on each rank.
    comm : Communicator

    Attributes
    ----------
    indices : torch.Tensor
        The same places counted in this order.
    n_own, n : int
        Extent of this rank's part, and with the others' entries.

    *Distribution*: made by one exchange of p integers and one of 8 bytes per entry of another rank.
    """

    def __init__(self, indices: torch.Tensor, counts: tuple[int, ...], comm: Communicator) -> None:
        self._comm, rank = comm, comm.rank
        ends = torch.tensor(counts, device=indices.device).cumsum(0)
        stop = int(ends[rank])
        self.n_own = counts[rank]
        start = stop - self.n_own
        is_own = (indices >= start) & (indices < stop)
        foreign, place = torch.unique(indices[~is_own], return_inverse=True)
        self.n = self.n_own + foreign.shape[0]
        self.indices = indices - start
        self.indices[~is_own] = place + self.n_own
        owners = torch.searchsorted(ends, foreign, right=True)
        wanted = torch.bincount(owners, minlength=comm.size)
        self._recv = tuple(wanted.tolist())
        self._send = tuple(comm.alltoall(wanted).tolist())
        self._sent = comm.alltoallv(foreign, self._recv, self._send) - start

    def gather(self, x: torch.Tensor) -> torch.Tensor:
        """Return this rank's part of a vector (or rows of a matrix) and the others' entries, shape (n, ...).

        *Distribution*: one alltoallv; each entry goes once to each rank that uses it.
        """
        return torch.cat((x, self._comm.alltoallv(x[self._sent], self._send, self._recv)))

    def add_back(self, sums: torch.Tensor) -> torch.Tensor:
        """Return this rank's part of a vector from what all ranks have to add to it, shape (n, ...) on each.

        *Distribution*: as :meth:`gather`, the other way round.
        """
        arrived = self._comm.alltoallv(sums[self.n_own :], self._recv, self._send)
        return sums[: self.n_own].index_add(0, self._sent, arrived)

    def gather_runs(self, values: torch.Tensor, indptr: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Return the runs of values of the places of the halo, one after the other.

        Parameters
        ----------
        values : torch.Tensor
            Of this rank's places, those of place i in ``indptr[i] .. indptr[i + 1]``.
        lengths : torch.Tensor, shape (n,)
            Of the runs of all places of the halo.

        *Distribution*: one alltoallv of the runs that other ranks use.
        """
        own = indptr.diff()
        counts = own[self._sent]
        total = int(counts.sum())
        run = torch.arange(counts.shape[0], device=counts.device).repeat_interleave(counts, output_size=total)
        first = indptr[self._sent] - (counts.cumsum(0) - counts)
        at = first[run] + torch.arange(total, device=counts.device)
        send = _sums(counts, self._send)
        recv = _sums(lengths[self.n_own :], self._recv)
        return torch.cat((values, self._comm.alltoallv(values[at], send, recv)))


def _sums(counts: torch.Tensor, parts: tuple[int, ...]) -> tuple[int, ...]:
    """Return the sums of consecutive parts."""
    return tuple(int(part.sum()) for part in counts.split(list(parts)))
