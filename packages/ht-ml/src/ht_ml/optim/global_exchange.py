"""Messages between nodes: one rank of each node speaks for it, a different one each time, in low precision.

Knows vectors and groups of ranks, nothing of schedules or optimizers.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import compress

import torch
from ht_comm import Communicator, Request

from ..nn.same_everywhere import for_each_kind


class NodeGroups:
    """The ranks of a node, and the ranks with one number in all nodes.

    Parameters
    ----------
    comm : Communicator
        All ranks.
    ranks_per_node : int or None
        None takes nodes as they are (ranks that share memory); a number makes nodes of so many consecutive ranks.

    Notes
    -----
    *Distribution*: collective, with two splits and one allgather of 8 bytes.
    """

    def __init__(self, comm: Communicator, ranks_per_node: int | None) -> None:
        self.comm, self._is_own = comm, ranks_per_node is not None
        self.node = comm.node() if ranks_per_node is None else comm.split(comm.rank // ranks_per_node)
        where = comm.allgather(torch.tensor([[self.node.rank, self.node.size]], dtype=torch.int64))
        self.nodes = int((where[:, 0] == 0).sum())
        self.speakers = int(where[:, 1].min())  # as many numbers exist in every node
        self.group = comm.split(self.node.rank if self.node.rank < self.speakers else None)

    def free(self) -> None:
        """Free the groups. Collective."""
        if self.group is not None:
            self.group.free()
        if self._is_own:
            self.node.free()


class GlobalExchange:
    """Sums over the nodes, in `dtype` on the way.

    Parameters
    ----------
    groups : NodeGroups
    dtype : torch.dtype or None
        Of what is sent between nodes; None sends the vectors as they are.

    Notes
    -----
    *Distribution*: for n numbers and P nodes, n numbers are sent from each node. Without `dtype` that is one
    allreduce. With it, each speaker gets all nodes' parts of n / P numbers, adds them in float32, rounds once, and
    sends its sum to the others: one alltoall, one allgather. (An allreduce would carry half precision as float32.)
    """

    def __init__(self, groups: NodeGroups, dtype: torch.dtype | None) -> None:
        self.groups, self.dtype = groups, dtype
        self.bytes = 0
        self._turn = -1
        self._request: Request | None = None
        self._parts_come = False  # whether the request is the first of two
        self._vector: torch.Tensor | None = None

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what this rank sends within as sent between nodes."""
        with self.groups.comm.trace() as sent:
            yield
        self.bytes += sent.bytes

    @property
    def is_pending(self) -> bool:
        """Whether a message is under way."""
        return self._vector is not None

    def start(self, vector: torch.Tensor) -> None:
        """Start the sum of the vectors of the nodes, spoken for by the next rank of each node."""
        self._turn = (self._turn + 1) % self.groups.speakers
        self._vector = vector.to(self.dtype) if self.dtype is not None else vector.clone()
        if self.groups.node.rank != self._turn:
            return
        group = self.groups.group
        with self.counted():
            if self.dtype is None or group.size == 1:
                self._request = group.iallreduce(self._vector, out=self._vector)
            else:
                length = -(-len(self._vector) // group.size)
                padded = self._vector.new_zeros(group.size * length)
                padded[: len(self._vector)] = self._vector
                self._request, self._parts_come = group.ialltoall(padded), True

    def poll(self) -> None:
        """Let the messages of a speaker make progress; sends nothing that `finish` would not."""
        # When the second message starts may differ between nodes: within the group its place in the order does not.
        if self._request is not None and self._request.test() and self._parts_come:
            self._send_sum()

    def finish(self) -> torch.Tensor:
        """Return the sum on every rank, once it is there: one broadcast within the node."""
        if self._parts_come:
            self._send_sum()
        if self._request is not None:
            total = self._request.wait()
            self._vector.copy_(total[: len(self._vector)])
        vector, self._vector, self._request = self._vector, None, None
        return self.groups.node.bcast(vector, self._turn)

    def average(self, tensors: Sequence[torch.Tensor]) -> None:
        """Replace floating tensors by their mean over all ranks, in full precision, others by rank 0's; in place.

        *Distribution*: collective; per dtype an allreduce and a broadcast within nodes, and of one rank of each.
        """
        node, group, size = self.groups.node, self.groups.group, self.groups.comm.size

        def across(flat: torch.Tensor, *, is_sum: bool) -> torch.Tensor:
            flat = node.allreduce(flat) if is_sum else flat
            if node.rank == 0:
                with self.counted():  # the broadcast makes sure that all have the same bits
                    flat = group.bcast(group.allreduce(flat) if is_sum else flat, 0)
            return node.bcast(flat, 0)

        is_inexact = [x.is_floating_point() or x.is_complex() for x in tensors]
        for_each_kind(list(compress(tensors, is_inexact)), lambda flat: across(flat, is_sum=True).div_(size))
        for_each_kind([x for x, skip in zip(tensors, is_inexact) if not skip], partial(across, is_sum=False))

    def _send_sum(self) -> None:
        """Add the nodes' parts of this speaker's block, and send the sum to the other speakers."""
        group = self.groups.group
        parts = self._request.wait().view(group.size, -1)
        own = parts.to(torch.float32).sum(0).to(parts.dtype)
        with self.counted():
            self._request, self._parts_come = group.iallgather(own), False
