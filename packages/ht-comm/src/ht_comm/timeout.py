"""Time-out mode: a rank that waits too long for others says for whom, and where those are.

The ranks meet in a barrier that does not block before each collective. Whoever has waited long enough sends a
token to all others; those that wait as well answer in kind, so the list of missing ranks is exact. One token
makes all that wait give up, however late they came.
"""

import time
from collections.abc import Callable
from typing import Any

from . import stacks
from .errors import CommError
from .point_to_point import Request
from .stacks import is_on_this_node, stack_of, world_ranks

# All tags below are taken; 32767 is the largest that MPI promises.
_TAG = 32_767
_COLLECT_SECONDS = 1.0
_LONGEST_NAP = 0.01


def poll(
    is_done: Callable[[], bool], seconds: float, is_called_off: Callable[[], bool] | None = None
) -> bool:
    """Return whether something came true in time; sleep ever longer while it does not."""
    if is_done():
        return True
    start = time.monotonic()
    nap = 0.0
    while not is_done():
        waited = time.monotonic() - start
        if waited > seconds or (nap == _LONGEST_NAP and is_called_off is not None and is_called_off()):
            return is_done()
        # The first half millisecond only yields: ranks that are all but here must not be kept.
        nap = 0.0 if waited < 5e-4 else min(max(2 * nap, 5e-5), _LONGEST_NAP)
        time.sleep(nap)
    return True


def await_all(comm: Any, state: Any, label: str, site: str, seconds: float) -> None:
    """Wait until all ranks have come to a call. Collective.

    Parameters
    ----------
    comm : MPIComm
        The ranks that should come.
    state : CommState
        What is known of `comm`.
    label, site : str
        The call and its line.
    seconds : float
        How long to wait.

    Raises
    ------
    CommError
        On all ranks that came, with the ranks that did not, and the stacks of those on the same node.
    """
    from mpi4py import MPI

    mpi = comm._mpi
    request = mpi.Ibarrier()
    start = time.monotonic()
    if poll(request.Test, seconds, lambda: mpi.Iprobe(MPI.ANY_SOURCE, _TAG)):
        if not state.is_known:
            state.is_known = True
            stacks.introduce(comm)
        return
    waited = time.monotonic() - start
    arrived = _collect(mpi, comm.rank, comm.size)
    missing = [rank for rank in range(comm.size) if rank not in arrived]
    in_world = world_ranks(comm)
    where = "" if in_world[-1] == comm.size - 1 else f" (world ranks {[in_world[rank] for rank in missing]})"
    error = CommError(
        f"{label}: all ranks must arrive within {seconds:g} s, got no sign of {_ranks(missing)}{where} "
        f"after {waited:.1f} s at {site}; {_ranks(sorted(arrived))} waited"
    )
    error.__ht_origin__ = in_world[min(arrived)]  # type: ignore[attr-defined]
    for rank in missing:
        # One rank of each node asks, the lowest that is there.
        if is_on_this_node(in_world[rank]) and comm.rank == _lowest_here(arrived, in_world):
            error.add_note(_tell(in_world[rank]))
    raise error


def _ranks(ranks: list[int]) -> str:
    return f"rank{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


def _lowest_here(arrived: set[int], in_world: list[int]) -> int:
    return min(rank for rank in arrived if is_on_this_node(in_world[rank]))


def _tell(world_rank: int) -> str:
    return f"rank {world_rank} is here:\n{stack_of(world_rank).rstrip()}"


def _collect(mpi: Any, rank: int, size: int) -> set[int]:
    """Exchange tokens with the ranks that wait, too; return them."""
    from mpi4py import MPI

    token = bytearray(1)
    sent = [mpi.Isend([token, MPI.BYTE], other, _TAG) for other in range(size) if other != rank]
    arrived, status = {rank}, MPI.Status()
    deadline = time.monotonic() + _COLLECT_SECONDS
    while len(arrived) < size and time.monotonic() < deadline:
        if mpi.Iprobe(MPI.ANY_SOURCE, _TAG, status):
            mpi.Recv([bytearray(1), MPI.BYTE], status.Get_source(), _TAG)
            arrived.add(status.Get_source())
        else:
            time.sleep(0.005)
    _tokens.append((sent, token))
    return arrived


# Kept for ever: MPI may still read them. The job is about to end.
_tokens: list[Any] = []


class _Limited:
    """A message or a collective under way that must complete in time."""

    __slots__ = ("_deed", "_handle", "_label", "_peer", "_seconds")

    def __init__(self, handle: Any, label: str, deed: str, peer: int | None, seconds: float) -> None:
        self._handle = handle
        self._label = label
        self._deed = deed
        self._peer = peer
        self._seconds = seconds

    def wait(self) -> None:
        """Block until complete, or raise."""
        if poll(self._handle.test, self._seconds):
            return
        from mpi4py import MPI

        who = "all ranks" if self._peer is None else f"rank {self._peer}"
        error = CommError(
            f"{self._label}: {who} must {self._deed} within {self._seconds:g} s, got no sign of that"
        )
        error.__ht_origin__ = MPI.COMM_WORLD.Get_rank()  # type: ignore[attr-defined]
        if self._peer is not None and is_on_this_node(self._peer):
            error.add_note(_tell(self._peer))
        raise error

    def test(self) -> bool:
        """Tell whether it is complete."""
        return self._handle.test()


def limit(comm: Any, op: str, args: tuple, kwargs: dict, result: Any, site: str, seconds: float) -> None:
    """Put a time limit on the waiting for a `Request`, if the result of a call is one.

    Parameters
    ----------
    comm, op, args, kwargs, result
        The call and what it returned.
    site : str
        Where it was made.
    seconds : float
        How long `Request.wait` may take.
    """
    if not isinstance(result, Request) or comm.size == 1:
        return
    peer, label, deed = None, op, "arrive"
    if op in ("isend", "irecv"):
        name, deed = ("dest", "receive") if op == "isend" else ("source", "send")
        rank = kwargs[name] if name in kwargs else args[2]
        tag = kwargs.get("tag", args[3] if len(args) > 3 else 0)
        peer, label = world_ranks(comm)[rank], f"{op[1:]}({name}={rank}, tag={tag})"
    label = f"{label} at {site}"
    result._handles = [_Limited(handle, label, deed, peer, seconds) for handle in result._handles]
