"""Ranks as threads of one process: `spmd(p, fn)`.

Made for tests of many rank counts, for notebooks and for debugging: real collectives on real buffers, no MPI.

The last rank to arrive at a collective does the work of all, on everybody's buffers, while the others are
blocked: one hand-over per collective, no race, and reductions are folded in rank order, so results are
deterministic. What is wrong shows at once. Calls that do not match raise the same error on every rank; a
situation in which every living rank is blocked is a dead-lock and is reported with each rank's place; an
exception on one rank wakes all others.
"""

import contextvars
import itertools
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from . import config
from .buffers import Buffer
from .communicator import Communicator
from .current import use_comm
from .errors import CommError
from .mailbox import OUTGOING, Incoming, Mailbox, Outgoing
from .operators import Reduction
from .threads import borrowed_threads
from .trace import Ledger, call_site


class _Aborted(BaseException):
    """Unwinds a rank because another one failed. Not an Exception: user code must not catch it."""


class _World:
    """One `spmd` call: who runs, who waits, and whether it has failed.

    All state is guarded by `lock`. A rank blocks on its own semaphore; whoever lets it go on marks it as
    running before waking it, so "every living rank is blocked" is exact.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.lock = threading.Lock()
        self.wake = [threading.Semaphore(0) for _ in range(size)]
        self.waits: list[str | None] = [None] * size
        self.is_done = [False] * size
        self.is_cut = [False] * size  # woken by a failure, not by what was waited for
        self.idents = [0] * size
        self.running = size
        self.unfinished = size
        self.finished = threading.Event()
        self.is_aborted = False
        self.failure: str | None = None

    def check(self) -> None:
        """Raise if the world has failed. Called with the lock held or not."""
        if self.failure is not None:
            raise CommError(self.failure)
        if self.is_aborted:
            raise _Aborted

    def block(self, rank: int, what: str) -> None:
        """Give up the lock, which must be held, until another rank calls `release`."""
        self.waits[rank] = what
        self.running -= 1
        if self.running == 0:
            self._fail(f"dead-lock: {self.describe()}")
        self.lock.release()
        if not self.wake[rank].acquire(timeout=config.timeout):
            self._time_out(rank, what)
        self.lock.acquire()
        # Whoever was let go on by a peer goes on, even if a third rank has failed since: which ranks fail
        # then does not depend on timing.
        if self.is_cut[rank]:
            self.check()

    def _time_out(self, rank: int, what: str) -> None:
        """Fail because a blocked rank has waited too long, unless it has just been let go on."""
        with self.lock:
            if self.waits[rank] is not None:
                late = [
                    other
                    for other in range(self.size)
                    if self.waits[other] is None and not self.is_done[other]
                ]
                self._fail(
                    f"{what}: all ranks must arrive within {config.timeout:g} s, got no sign of ranks {late}: "
                    f"{self.describe()}"
                )
        self.wake[rank].acquire()

    def release(self, rank: int) -> None:
        """Let a blocked rank go on. Called with the lock held."""
        if self.waits[rank] is not None:
            self.waits[rank] = None
            self.running += 1
            self.wake[rank].release()

    def finish(self, rank: int) -> None:
        """Note that a rank has returned or failed."""
        with self.lock:
            self.is_done[rank] = True
            self.running -= 1
            self.unfinished -= 1
            if self.unfinished == 0:
                self.finished.set()
            elif self.running == 0:
                self._fail(f"dead-lock: {self.describe()}")

    def abort(self, failure: str | None = None) -> None:
        """Wake all blocked ranks with an error; running ones get it at their next call."""
        with self.lock:
            if failure is None:
                self.is_aborted = True
                self._wake_all()
            else:
                self._fail(failure)

    def _fail(self, text: str) -> None:
        if self.failure is None and not self.is_aborted:
            self.failure = text
            self._wake_all()

    def _wake_all(self) -> None:
        for rank in range(self.size):
            self.is_cut[rank] = self.waits[rank] is not None
            self.release(rank)

    def describe(self) -> str:
        """Say where each rank is."""
        frames = sys._current_frames()
        places = []
        for rank in range(self.size):
            frame = frames.get(self.idents[rank])
            if self.is_done[rank]:
                places.append(f"rank {rank} has finished")
            elif self.waits[rank] is None:
                places.append(f"rank {rank} runs at {call_site(frame)}")
            else:
                places.append(f"rank {rank} waits in {self.waits[rank]} at {call_site(frame)}")
        return "; ".join(places)


class _Post:
    """What one rank brings to a collective."""

    __slots__ = ("args", "error", "op", "result", "signature")

    def __init__(self, op: str, signature: tuple, args: tuple) -> None:
        self.op = op
        self.signature = signature
        self.args = args
        self.result: Any = None
        self.error: str | BaseException | None = None

    def check(self) -> None:
        """Raise what went wrong."""
        if self.error is not None:
            raise CommError(self.error) if isinstance(self.error, str) else self.error


class _FromPeer(Incoming):
    """A message from another thread. All but `wait` and `test` is done with the world's lock held."""

    __slots__ = ("_comm", "is_awaited")

    def __init__(self, comm: "ThreadComm", buffer: Buffer, label: str) -> None:
        super().__init__(buffer, label)
        self._comm = comm
        self.is_awaited = False

    def wait(self) -> None:
        """Block until delivered."""
        world = self._comm._world
        with world.lock:
            world.check()
            if not self.is_complete:
                self.is_awaited = True
                world.block(self._comm._me, self.label)
        self.check()

    def test(self) -> bool:
        """Tell whether it was delivered; yields to the other ranks if not."""
        self._comm._world.check()
        self.check()
        if not self.is_complete:
            time.sleep(0)
        return self.is_complete


class _Started:
    """A collective that returned at once: the last rank to start it does the work of all."""

    __slots__ = ("_comm", "is_awaited", "is_complete", "post")

    def __init__(self, comm: "ThreadComm", post: _Post) -> None:
        self._comm = comm
        self.post = post
        self.is_awaited = False
        self.is_complete = False

    def wait(self) -> None:
        """Block until all ranks have started it."""
        world = self._comm._world
        with world.lock:
            world.check()
            if not self.is_complete:
                self.is_awaited = True
                world.block(self._comm._me, f"i{self.post.op}")
        self.post.check()

    def test(self) -> bool:
        """Tell whether it is done; yields to the other ranks if not."""
        self._comm._world.check()
        if not self.is_complete:
            time.sleep(0)
            return False
        self.post.check()
        return True


class _Board:
    """Where the ranks of one communicator meet."""

    def __init__(self, world: _World, members: tuple[int, ...]) -> None:
        self.world = world
        self.members = members
        self.posts: list[_Post | None] = [None] * len(members)
        self.arrived = 0
        self.mailbox = Mailbox()
        self.started: dict[int, dict[int, _Started]] = {}

    def meet(self, rank: int, post: _Post) -> Any:
        """Do a collective: wait for all ranks, let the last one perform it, return this rank's result."""
        world = self.world
        with world.lock:
            world.check()
            self.posts[rank] = post
            self.arrived += 1
            is_last = self.arrived == len(self.members)
            if is_last:
                posts: list[Any] = self.posts
                self.posts = [None] * len(self.members)
                self.arrived = 0
            else:
                world.block(self.members[rank], post.op)
        if is_last:
            _perform(posts)
            with world.lock:
                for other, member in enumerate(self.members):
                    if other != rank:
                        world.release(member)
        post.check()
        return post.result

    def start(self, rank: int, number: int, started: _Started) -> None:
        """Enter the `number`-th collective that returns at once; the last rank to do so does the work."""
        world = self.world
        with world.lock:
            world.check()
            entered = self.started.setdefault(number, {})
            entered[rank] = started
            if len(entered) < len(self.members):
                return
            del self.started[number]
        # Nobody touches these buffers: every rank has yet to be told that they are free.
        _perform([entered[other].post for other in range(len(self.members))])
        with world.lock:
            for other, member in enumerate(self.members):
                entered[other].is_complete = True
                if entered[other].is_awaited:
                    world.release(member)


def _perform(posts: list[_Post]) -> None:
    """Check that the calls match, then do the work of all ranks."""
    first = posts[0]
    error: str | BaseException | None = None
    if any(post.signature != first.signature for post in posts):
        calls = (
            f"rank {rank}: {post.signature[0]}{_text(post.signature)}" for rank, post in enumerate(posts)
        )
        error = f"collectives do not match: {'; '.join(calls)}"
    else:
        try:
            _WORK[first.op](posts)
        except BaseException as caught:
            error = caught
    if error is not None:
        for post in posts:
            post.error = error


def _text(signature: tuple) -> str:
    return f"({', '.join(str(item) for item in signature[1:])})"


def _do_nothing(posts: list[_Post]) -> None:
    """Meeting was all there was to do."""


def _do_bcast(posts: list[_Post]) -> None:
    root = posts[0].args[1]
    data = posts[root].args[0].array
    for rank, post in enumerate(posts):
        if rank != root:
            post.args[0].array[...] = data


def _do_allreduce(posts: list[_Post]) -> None:
    red = posts[0].args[2]
    total = _fold([(recv if send is None else send).array for send, recv, _ in _args(posts)], red)
    for _, recv, _ in _args(posts):
        recv.array[...] = total


def _do_reduce(posts: list[_Post]) -> None:
    _, red, root = posts[0].args
    posts[root].args[0].array[...] = _fold([buffer.array for buffer, _, _ in _args(posts)], red)


def _do_scan(posts: list[_Post]) -> None:
    red = posts[0].args[1]
    for lower, higher in itertools.pairwise(_args(posts)):
        _combine(red, lower[0].array, higher[0].array, higher[0].array)


def _do_exscan(posts: list[_Post]) -> None:
    red = posts[0].args[1]
    total = posts[0].args[0].array.copy()
    for buffer, _ in _args(posts)[1:]:
        own = buffer.array.copy()
        buffer.array[...] = total
        _combine(red, total, own, total)


def _do_allgatherv(posts: list[_Post]) -> None:
    whole = np.concatenate([send.array for send, _, _ in _args(posts)])
    for _, recv, _ in _args(posts):
        recv.array[...] = whole


def _do_reduce_scatterv(posts: list[_Post]) -> None:
    _, _, lengths, red = posts[0].args
    total = _fold([send.array for send, _, _, _ in _args(posts)], red)
    start = 0
    for (_, recv, _, _), length in zip(_args(posts), lengths):
        recv.array[...] = total[start : start + length]
        start += length


def _do_split(posts: list[_Post]) -> None:
    groups: dict[int, list[tuple[int, int]]] = {}
    for rank, (_, color, key) in enumerate(_args(posts)):
        if color is not None:
            groups.setdefault(color, []).append((key, rank))
    board = posts[0].args[0]
    for group in groups.values():
        ranks = [rank for _, rank in sorted(group)]
        made = _Board(board.world, tuple(board.members[rank] for rank in ranks))
        for new_rank, rank in enumerate(ranks):
            posts[rank].result = made, new_rank


def _args(posts: list[_Post]) -> list[tuple]:
    return [post.args for post in posts]


def _fold(arrays: list[np.ndarray], red: Reduction) -> np.ndarray:
    """Combine in rank order."""
    total = arrays[0].copy()
    for array in arrays[1:]:
        _combine(red, total, array, total)
    return total


def _combine(red: Reduction, lower: np.ndarray, higher: np.ndarray, out: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        red.combine(lower, higher, out=out)


_WORK: dict[str, Callable[[list[_Post]], None]] = {
    "barrier": _do_nothing,
    "bcast": _do_bcast,
    "allreduce": _do_allreduce,
    "reduce": _do_reduce,
    "scan": _do_scan,
    "exscan": _do_exscan,
    "allgatherv": _do_allgatherv,
    "reduce_scatterv": _do_reduce_scatterv,
    "split": _do_split,
}


# What must be equal on all ranks.
_SIGNATURES: dict[str, Callable[..., tuple]] = {
    "barrier": lambda: (),
    "bcast": lambda buffer, root: (buffer.dtype.name, buffer.count, f"root={root}"),
    "allreduce": lambda send, recv, red: (recv.dtype.name, recv.count, red.op),
    "reduce": lambda buffer, red, root: (buffer.dtype.name, buffer.count, red.op, f"root={root}"),
    "scan": lambda buffer, red: (buffer.dtype.name, buffer.count, red.op),
    "exscan": lambda buffer, red: (buffer.dtype.name, buffer.count, red.op),
    "allgatherv": lambda send, recv, lengths: (recv.dtype.name, lengths),
    "reduce_scatterv": lambda send, recv, lengths, red: (recv.dtype.name, lengths, red.op),
    "split": lambda board, color, key: (),
}


class ThreadComm(Communicator):
    """The communicator of one thread among the p of an `spmd` call."""

    def __init__(self, board: _Board, rank: int, ledger: Ledger | None = None) -> None:
        super().__init__(rank, len(board.members), None, ledger)
        self._board = board
        self._world = board.world
        self._me = board.members[rank]
        self._started = 0  # collectives that returned at once

    @property
    def job(self) -> Any:
        """As `Communicator.job`: the same object on all ranks of one `spmd` call."""
        return self._world

    def _meet(self, op: str, *args: Any) -> Any:
        return self._board.meet(self.rank, _Post(op, (op, *_SIGNATURES[op](*args)), args))

    def _barrier(self) -> None:
        self._meet("barrier")

    def _bcast(self, buffer: Buffer, root: int) -> None:
        self._meet("bcast", buffer, root)

    def _allreduce(self, send: Buffer | None, recv: Buffer, red: Reduction) -> None:
        self._meet("allreduce", send, recv, red)

    def _reduce(self, buffer: Buffer, red: Reduction, root: int) -> None:
        self._meet("reduce", buffer, red, root)

    def _scan(self, buffer: Buffer, red: Reduction) -> None:
        self._meet("scan", buffer, red)

    def _exscan(self, buffer: Buffer, red: Reduction) -> None:
        self._meet("exscan", buffer, red)

    def _allgatherv(self, send: Buffer, recv: Buffer, lengths: tuple[int, ...]) -> None:
        self._meet("allgatherv", send, recv, lengths)

    def _reduce_scatterv(self, send: Buffer, recv: Buffer, lengths: tuple[int, ...], red: Reduction) -> None:
        self._meet("reduce_scatterv", send, recv, lengths, red)

    def _istart(self, op: str, *args: Any) -> "_Started":
        post = _Post(op, (f"i{op}", *_SIGNATURES[op](*args)), args)
        started = _Started(self, post)
        self._board.start(self.rank, self._started, started)
        self._started += 1
        return started

    def _isend(self, buffer: Buffer, dest: int, tag: int) -> Outgoing:
        with self._world.lock:
            self._world.check()
            message = self._board.mailbox.send((self.rank, dest, tag), buffer)
            if isinstance(message, _FromPeer) and message.is_awaited:
                self._world.release(self._board.members[dest])
        return OUTGOING

    def _irecv(self, buffer: Buffer, source: int, tag: int) -> _FromPeer:
        message = _FromPeer(self, buffer, f"recv(source={source}, tag={tag})")
        with self._world.lock:
            self._world.check()
            self._board.mailbox.expect((source, self.rank, tag), message)
        return message

    def _split(self, color: int | None, key: int) -> "ThreadComm | None":
        made = self._meet("split", self._board, color, key)
        return None if made is None else ThreadComm(*made, self._ledger)

    def _dup(self) -> "ThreadComm":
        made = self._split(0, 0)
        assert made is not None  # every rank gave the color 0
        return made

    _split_node = _dup

    def _free(self) -> None:
        """Nothing is held but memory."""


def spmd(p: int, fn: Callable[..., Any], *args: Any, timeout: float = 60.0, **kwargs: Any) -> list[Any]:
    """Run ``fn(comm, *args, **kwargs)`` on `p` ranks that are threads of this process.

    Parameters
    ----------
    p : int
        Number of ranks.
    fn : callable
        Gets the rank's communicator, which is also what `get_comm` returns inside. The other arguments are
        the same objects on all ranks: treat them as read-only.
    timeout : float
        Seconds after which ranks that have not finished are reported and given up.

    Returns
    -------
    list
        The p results, in rank order.

    Raises
    ------
    BaseException
        That of the lowest failing rank, with a note naming it. All other ranks are ended at their next call.
    CommError
        If all ranks wait for one another, if their calls do not match, or after `timeout`; says where each
        rank is.

    Examples
    --------
    >>> import numpy as np, ht_comm
    >>> ht_comm.spmd(3, lambda comm: int(comm.allreduce(np.array([comm.rank]))[0]))
    [3, 3, 3]
    """
    if p < 1:
        raise ValueError(f"spmd: p must be at least 1, got {p!r}")
    world = _World(p)
    board = _Board(world, tuple(range(p)))
    results: list[Any] = [None] * p
    errors: list[BaseException | None] = [None] * p

    def run(rank: int) -> None:
        world.idents[rank] = threading.get_ident()
        try:
            comm = ThreadComm(board, rank)
            with use_comm(comm):
                results[rank] = fn(comm, *args, **kwargs)
        except _Aborted:
            pass
        except BaseException as error:
            errors[rank] = error
            world.abort()
        finally:
            world.finish(rank)

    if p == 1:
        run(0)
    else:
        _run_threads(world, run, timeout)
    for rank, error in enumerate(errors):
        if error is not None:
            error.add_note(f"rank {rank} of {p}")
            raise error
    return results


def _run_threads(world: _World, run: Callable[[int], None], timeout: float) -> None:
    with borrowed_threads(world.size):
        threads = [
            # Each in a copy of the caller's context, so that numpy.errstate and the like hold in the ranks too.
            threading.Thread(
                target=contextvars.copy_context().run, args=(run, rank), name=f"rank {rank}", daemon=True
            )
            for rank in range(world.size)
        ]
        for thread in threads:
            thread.start()
        try:
            if not world.finished.wait(timeout):
                with world.lock:
                    places = world.describe()
                late = [rank for rank in range(world.size) if not world.is_done[rank]]
                text = f"spmd: ranks {late} have not finished within {timeout} s: {places}"
                world.abort(text)
                # Blocked ranks end now; one that computes or loops for ever is left behind as a daemon
                # thread.
                if not world.finished.wait(1.0):
                    raise CommError(text)
        except KeyboardInterrupt:
            world.abort()
            raise
        for thread in threads:
            thread.join()
