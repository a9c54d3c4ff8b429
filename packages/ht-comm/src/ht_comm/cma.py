"""Read the memory of other ranks on this node, without messages: Linux's `process_vm_readv`, "cross memory attach".

One copy, straight from the source's array into the place where it belongs, in place of two or three. Whether the
ranks may do so depends on where they run (one node, one namespace of processes, permission to trace one another,
which containers often lack), so a communicator finds out the first time it matters: each rank reads a secret number of
every other, and all learn whether all could. Nothing here decides what is read; see `ht_comm.redistribute`.

Memory is described by its address and by strides in bytes: a `Block`. A *run* is a stretch of it without gaps.
"""

import ctypes
import functools
import math
import os
import secrets
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from . import config
from .buffers import Array, Kind, NumpyKind
from .dtypes import DTYPES

FEW_RUNS = 16
"""So few runs are read, however short; of many each must have `config.read_run_bytes`."""

_MAX_VECTORS = 1024  # UIO_MAXIOV
_MAX_BYTES = 2**26  # of one call, which nothing can interrupt
_PR_SET_PTRACER, _PR_SET_PTRACER_ANY = 0x59616D61, ctypes.c_ulong(-1)
_INT64 = DTYPES["int64"]


class Block(NamedTuple):
    """An array in the memory of one process."""

    address: int
    strides: tuple[int, ...]  # in bytes


class Runs(NamedTuple):
    """Equally long runs: at ``address + sum(i * stride)`` for all indices within `shape`."""

    address: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    length: int

    @property
    def count(self) -> int:
        """Number of runs."""
        return math.prod(self.shape)


def block_of(x: Array, kind: Kind, itemsize: int) -> Block | None:
    """Describe an array; None if its memory is not its values, or not in reach of a processor."""
    if not kind.is_plain(x):
        return None
    unit = 1 if kind is NumpyKind else itemsize
    return Block(kind.address(x), tuple(step * unit for step in kind.strides(x)))


def find_runs(block: Block, start: tuple[int, ...], shape: tuple[int, ...], itemsize: int) -> Runs:
    """Return the runs of a part of a block, in C order."""
    address = block.address + sum(i * step for i, step in zip(start, block.strides))
    axes = [(n, step) for n, step in zip(shape, block.strides) if n != 1]
    length = itemsize
    while axes and axes[-1][1] == length:
        length *= axes.pop()[0]
    return Runs(address, tuple(n for n, _ in axes), tuple(step for _, step in axes), length)


def is_worth_reading(runs: Runs) -> bool:
    """Tell whether memory is read faster than it is packed, sent and received."""
    return runs.length >= config.read_run_bytes or runs.count <= FEW_RUNS


def read(pid: int, source: Runs, target: Runs) -> None:
    """Copy runs of another process to runs of this one, which have as many bytes.

    Raises
    ------
    OSError
        If the kernel refuses, or part of the memory is not there.
    """
    # Both are parts of one shape, cut after some axis, so the shorter length divides the longer.
    length = min(source.length, target.length)
    if length == 0 or source.count == 0:
        return
    if length > _MAX_BYTES:
        _read_long(pid, source, target, length)
        return
    step = max(1, min(_MAX_VECTORS, _MAX_BYTES // length))
    theirs, ours = _Vectors(source, length, step), _Vectors(target, length, step)
    for first in range(0, theirs.count, step):
        n = min(step, theirs.count - first)
        _call(pid, *ours.fill(first, n), *theirs.fill(first, n), n * length)


class _Vectors:
    """What one side of a call is given: addresses and lengths."""

    def __init__(self, runs: Runs, length: int, step: int) -> None:
        self.addresses = _addresses(runs, length)
        self.count = len(self.addresses)
        self.length = length
        self.is_whole = runs.count == 1
        self.table = np.empty((1 if self.is_whole else step, 2), np.uint64)

    def fill(self, first: int, n: int) -> tuple[np.ndarray, int]:
        """Return the table that holds the pieces ``first .. first + n``, and how many rows of it do."""
        if self.is_whole:
            self.table[0] = self.addresses[first], n * self.length
            return self.table, 1
        self.table[:n, 0], self.table[:n, 1] = self.addresses[first : first + n], self.length
        return self.table, n


def _read_long(pid: int, source: Runs, target: Runs, length: int) -> None:
    remote, local = np.empty((1, 2), np.uint64), np.empty((1, 2), np.uint64)
    for theirs, ours in zip(_addresses(source, length), _addresses(target, length)):
        for offset in range(0, length, _MAX_BYTES):
            n = min(_MAX_BYTES, length - offset)
            remote[0], local[0] = (int(theirs) + offset, n), (int(ours) + offset, n)
            _call(pid, local, 1, remote, 1, n)


def _addresses(runs: Runs, length: int) -> np.ndarray:
    """Return the addresses of runs cut into pieces of one length."""
    found = np.array([runs.address], np.int64)
    axes = [*zip(runs.shape, runs.strides), (runs.length // length, length)]
    for extent, step in axes:
        if extent != 1:
            found = (found[:, None] + np.arange(extent, dtype=np.int64) * step).reshape(-1)
    return found.view(np.uint64)


def _call(pid: int, local: np.ndarray, n_local: int, remote: np.ndarray, n_remote: int, nbytes: int) -> None:
    done = _readv()(pid, local.ctypes.data, n_local, remote.ctypes.data, n_remote, 0)
    if done != nbytes:
        number = ctypes.get_errno() if done < 0 else 14  # EFAULT: a part of it could be read
        raise OSError(number, f"process_vm_readv: {os.strerror(number)}")


@functools.cache
def _readv() -> Any:
    """Return the function of the C library; raise `OSError` where it has none."""
    if sys.platform != "linux":
        raise OSError(38, "process_vm_readv: not on this system")
    function = getattr(ctypes.CDLL(None, use_errno=True), "process_vm_readv", None)
    if function is None:
        raise OSError(38, "process_vm_readv: not in this C library")
    size, pointer = ctypes.c_ulong, ctypes.c_void_p
    function.argtypes = [ctypes.c_int, pointer, size, pointer, size, size]
    function.restype = ctypes.c_ssize_t
    return function


# ----- who can read whom


class Peers:
    """The processes of the ranks of a communicator, all of which can read each other."""

    def __init__(self, comm: Any, pids: tuple[int, ...]) -> None:
        self._comm = comm
        self.pids = pids

    def describe(self, block: Block | None, ndim: int) -> list[Block | None]:
        """Tell all ranks of this rank's block; return those of all. Collective."""
        own = np.zeros(ndim + 2, np.int64)
        if block is not None:
            own[0], own[1], own[2:] = 1, block.address, block.strides
        told = gather_words(self._comm, own).tolist()
        return [Block(address, tuple(strides)) if known else None for known, address, *strides in told]

    def agree(self, is_done: bool) -> bool:
        """Tell whether all ranks are done, and let none go on before that. Collective."""
        return bool(gather_words(self._comm, np.array([is_done], np.int64)).all())


def gather_words(comm: Any, own: np.ndarray) -> np.ndarray:
    """Return the int64 words of all ranks, a row for each. Collective; not counted by traces."""
    everyone = np.empty((comm.size, own.size), np.int64)
    lengths = (own.size,) * comm.size
    comm._allgatherv(NumpyKind.buffer(own, _INT64), NumpyKind.buffer(everyone, _INT64), lengths)
    return everyone


def probe(comm: Any) -> Peers | None:
    """Find out whether every rank can read every other. Collective, and the answer is the same on all ranks.

    Distribution
    ------------
    Collective. Two gatherings of a few words, and one read of 8 bytes for each other rank.
    """
    secret = np.array([secrets.randbits(62)], np.int64)
    place = _place() if config.cma != "0" else 0
    if config.cma == "1":
        _permit()
    own = np.array([place, os.getpid(), secret.ctypes.data, secret[0]], np.int64)
    told = gather_words(comm, own)
    # No rank reads unless all are in one place: the numbers of processes mean nothing elsewhere.
    is_possible = place != 0 and bool((told[:, 0] == place).all())
    is_right = is_possible and all(_is_secret(*map(int, words)) for words in told[:, 1:])
    if not gather_words(comm, np.array([is_right], np.int64)).all():
        return None
    return Peers(comm, tuple(told[:, 1].tolist()))


def _is_secret(pid: int, address: int, secret: int) -> bool:
    found = np.zeros(1, np.int64)
    try:
        read(pid, Runs(address, (), (), 8), Runs(found.ctypes.data, (), (), 8))
    except OSError:
        return False
    return int(found[0]) == secret


def _place() -> int:
    """Return a number of this running system and its namespace of processes; 0 where it is not known."""
    try:
        _readv()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.stat("/proc/self/ns/pid").st_ino
    except OSError:
        return 0
    return (int(boot.replace("-", ""), 16) ^ namespace) % (2**62) or 1


def _permit() -> None:
    """Let any process of this user read this one, where Yama asks for that: ``kernel.yama.ptrace_scope = 1``."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY, 0, 0, 0)
