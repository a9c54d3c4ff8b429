"""Threads per rank: the ranks of a node share its cores, so torch must not use them all in each.

Without a budget every rank starts as many threads as the node has cores, and all of them fight.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .communicator import Communicator


def thread_budget(comm: "Communicator") -> int:
    """Return the number of threads that is this rank's share of its node's cores. Collective.

    A launcher may bind ranks to cores of their own; ranks bound to the same cores share those.

    Parameters
    ----------
    comm : Communicator
        All ranks of the job.

    Distribution
    ------------
    Collective. One small gathering of objects within each node.
    """
    own = frozenset(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    if own is None:
        own = frozenset(range(os.cpu_count() or 1))
    sharing = comm.node().allgather_object(own).count(own)
    return max(1, len(own) // sharing)


def set_thread_budget(comm: "Communicator", n: int | None = None) -> int:
    """Set torch's number of threads to this rank's share of the node's cores; return that number. Collective.

    Where threadpoolctl is installed the BLAS behind NumPy gets the same number. Done once when the world communicator
    is made, if ``OMP_NUM_THREADS`` is not set.

    Parameters
    ----------
    comm : Communicator
        All ranks of the job.
    n : int, optional
        Set this number instead; then nothing is communicated.
    """
    if n is None:
        n = thread_budget(comm)
    if n < 1:
        raise ValueError(f"set_thread_budget: n must be at least 1, got {n!r}")
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(n)
    _limit_blas(n)
    return n


def _limit_blas(n: int) -> None:
    try:
        from threadpoolctl import threadpool_limits
    except ImportError:  # optional: NumPy itself has no such setting
        return
    threadpool_limits(n, user_api="blas")


def set_default_budget(comm: "Communicator") -> None:
    """Set the budget of a new world. Collective, whether this rank has imported torch or not."""
    n = thread_budget(comm)
    if "OMP_NUM_THREADS" not in os.environ:
        set_thread_budget(comm, n)


@contextmanager
def borrowed_threads(p: int) -> Iterator[None]:
    """Divide torch's threads among p ranks that are threads of this process, for a while."""
    torch = sys.modules.get("torch")
    before = torch.get_num_threads() if torch is not None else 1
    if before == 1:
        yield
        return
    torch.set_num_threads(max(1, before // p))
    try:
        yield
    finally:
        torch.set_num_threads(before)
