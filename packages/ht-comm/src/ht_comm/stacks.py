"""Where another rank of this node is in its program: its Python stack, asked for by a signal.

Works for a rank that is blocked in MPI or in other compiled code. The stack goes to a file in memory, which the
one that asks finds below ``/proc``: by a random name, so that a signal never reaches a stranger's process.
Elsewhere than on Linux there are no stacks.
"""

import faulthandler
import os
import secrets
import signal
import socket
import time
from typing import Any, NamedTuple

# One that nobody uses: hydra sends SIGUSR1 to the ranks that are left when one has died, schedulers and programs
# have a use for SIGUSR2.
_SIGNAL = signal.SIGRTMIN + 9 if hasattr(signal, "SIGRTMIN") else 0
_LONGEST = 65_536


class Address(NamedTuple):
    """Where a rank's stack can be had.

    Attributes
    ----------
    host : str
        Name of its node.
    pid, fd : int
        Its process, and there the file.
    name : str
        Name of the file; empty where the rank offers none.
    """

    host: str
    pid: int
    fd: int
    name: str


_own: Address | None = None
_addresses: dict[int, Address] = {}


def offer() -> Address:
    """Let other processes of this user ask for this process's stack; return where."""
    global _own
    if _own is None:
        fd, name = -1, ""
        if (
            _SIGNAL is not None
            and hasattr(os, "memfd_create")
            and signal.getsignal(_SIGNAL) == signal.SIG_DFL
        ):
            name = f"ht-comm-{secrets.token_hex(8)}"
            fd = os.memfd_create(name)
            faulthandler.register(_SIGNAL, fd, all_threads=False)
        _own = Address(socket.gethostname(), os.getpid(), fd, name)
    return _own


def introduce(comm: Any) -> None:
    """Tell the ranks of a communicator of processes where each other's stacks can be had. Collective."""
    own = offer()
    for rank, address in zip(world_ranks(comm), comm._mpi.allgather(tuple(own))):
        _addresses[rank] = Address(*address)


def world_ranks(comm: Any) -> list[int]:
    """Return the ranks of a communicator's processes in the world."""
    from mpi4py import MPI

    group = comm.handle.Get_group()
    world = MPI.COMM_WORLD.Get_group()
    return group.Translate_ranks(list(range(comm.size)), world)


def is_on_this_node(world_rank: int) -> bool:
    """Tell whether a rank has said that it is on this node."""
    address = _addresses.get(world_rank)
    return address is not None and address.host == offer().host


def stack_of(world_rank: int, wait: float = 1.0) -> str:
    """Return the Python stack of another rank of this node, innermost frame first, or why there is none."""
    address = _addresses.get(world_rank)
    if address is None or not address.name:
        return "(not known)\n"
    path = f"/proc/{address.pid}/fd/{address.fd}"
    try:
        if address.name not in os.readlink(path):
            return "(the process has ended)\n"
        before = os.stat(path).st_size
        os.kill(address.pid, _SIGNAL)
        deadline, size = time.monotonic() + wait, before
        while time.monotonic() < deadline:
            time.sleep(0.02)
            now = os.stat(path).st_size
            if now == size > before:
                break
            size = now
        with open(path, "rb") as file:
            file.seek(before)
            text = file.read(_LONGEST).decode(errors="replace")
    except OSError as error:
        return f"({error.strerror})\n"
    return text or "(the process did not answer)\n"
