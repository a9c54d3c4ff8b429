"""Engine of looking up values in a sorted vector that may be cut over ranks: where each would have to stand.

The vector is never moved. Replicated queries are counted on every rank and added up; split ones go to the rank that
knows the answer and come back, which takes as many bytes as there are queries. This file knows no operation by name.
"""

from __future__ import annotations

import numpy as np
import torch
from ht_comm import Communicator

from ..layout import Layout
from .gather import by_owner
from .sort import is_on_host, lexicographic_order
from .sort_keys import encode_words


def look_up(
    a: torch.Tensor, layout: Layout, queries: torch.Tensor, right: bool, is_split: bool, comm: Communicator
) -> torch.Tensor:
    """Return the int64 places of `queries` in a sorted vector, of the shape of `queries`.

    Parameters
    ----------
    a : torch.Tensor, shape (n,)
        This rank's part of the vector, sorted in the order of ``sort_keys``, the parts one after the other.
    layout : Layout
        Of the vector.
    queries : torch.Tensor
        Of any shape and the dtype of `a`.
    right : bool
        Behind the elements that are equal to the query, not in front of them.
    is_split : bool
        The ranks have different queries; all have the same otherwise.

    *Distribution*: collective where the vector is split. Replicated queries: one allreduce of 8 bytes each. Split ones:
    one allgather of one element per rank, one alltoall of p integers, and two alltoallv, of the queries and of 8 bytes
    each.
    """
    if layout.split is None or comm.size == 1 or layout.size == 0:
        return sorted_places(a, queries, right)
    if not is_split:
        return comm.allreduce(sorted_places(a, queries, right))
    flat = queries.reshape(-1)
    order, send_counts = by_owner(_owners(a, layout, flat, right, comm), comm.size)
    sent = torch.tensor(send_counts, dtype=torch.int64, device=flat.device)
    recv_counts = tuple(comm.alltoall(sent).tolist())
    asked = comm.alltoallv(flat[order], send_counts, recv_counts)
    told = sorted_places(a, asked, right).add_(layout.displs[comm.rank])
    answers = torch.empty(flat.shape, dtype=torch.int64, device=flat.device)
    answers[order] = comm.alltoallv(told, recv_counts, send_counts)
    return answers.view(queries.shape)


def _owners(
    a: torch.Tensor, layout: Layout, queries: torch.Tensor, right: bool, comm: Communicator
) -> torch.Tensor:
    """Return for each query the rank in front of which all parts end before its place."""
    mine = a[-1:] if len(a) else a.new_zeros(1)
    lasts = comm.allgather(mine)
    filled = [rank for rank, count in enumerate(layout.counts) if count]
    ranks = torch.tensor(filled, device=a.device)
    # The last part answers also for what is greater than all.
    return ranks[sorted_places(lasts[ranks[:-1]], queries, right)]


def sorted_places(a: torch.Tensor, queries: torch.Tensor, right: bool) -> torch.Tensor:
    """Return where queries stand in a sorted vector of the same dtype on this rank; int64."""
    side = "right" if right else "left"
    if is_on_host(a) and a.dtype is not torch.bfloat16:
        found = np.searchsorted(a.resolve_conj().numpy(), queries.resolve_conj().numpy(), side=side)
        return torch.from_numpy(np.asarray(found, dtype=np.int64)).reshape(queries.shape)
    words, asked = encode_words(a), [word.reshape(-1) for word in encode_words(queries)]
    if len(words) == 1:
        return torch.searchsorted(words[0], asked[0], right=right).view(queries.shape)
    n = len(a)
    pairs = zip(words, asked) if right else zip(asked, words)
    order = lexicographic_order(
        [torch.cat(pair) for pair in pairs]
    )  # stable: which of equal ones comes first
    is_query = order >= n if right else order < len(asked[0])
    below = (~is_query).cumsum(0)[is_query]
    found = torch.empty_like(below)
    found[order[is_query] - (n if right else 0)] = below
    return found.view(queries.shape)
