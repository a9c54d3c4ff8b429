"""Messages between nodes: one rank of each node speaks for it, a different one each time, in low precision.

Knows vectors and groups of ranks, nothing of schedules or optimizers.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from ht_comm import Communicator, Request


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
    """

    def __init__(self, groups: NodeGroups, dtype: torch.dtype | None) -> None:
        self.groups, self.dtype = groups, dtype
        self.bytes = 0
        self._turn = -1
        self._request: Request | None = None
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
        if self.groups.node.rank == self._turn:
            with self.counted():
                self._request = self.groups.group.iallreduce(self._vector, out=self._vector)

    def finish(self) -> torch.Tensor:
        """Return the sum on every rank, once it is there: one broadcast within the node."""
        if self._request is not None:
            self._request.wait()
        vector, self._vector, self._request = self._vector, None, None
        return self.groups.node.bcast(vector, self._turn)
