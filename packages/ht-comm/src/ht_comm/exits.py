"""The ways out of a job that are no exceptions: `sys.exit`, the end of the program, Ctrl-C.

A rank that ends waits in ``MPI_Finalize`` for the others. That is right at the end of a program and wrong after
``sys.exit(3)`` on one rank only, as the others may wait for it in a collective. So the ranks meet once more at
their exit, in a barrier that does not block.
"""

import atexit
import os
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any

from . import config
from .failure import INTERRUPTED, end_job, write
from .stacks import is_on_this_node, stack_of
from .timeout import poll

# A rank that ends with an error gives the others this long to do so, too, before it ends the job.
_GRACE_SECONDS = 1.0
# An interrupt that the program has not seen by then, because it is blocked in MPI, ends the job.
_INTERRUPT_SECONDS = 1.0

_TRANSPORT = os.path.join(os.path.dirname(__file__), "mpi.py")

_exit_call: tuple[int, int] | None = None  # exit status, place in the main program


def install_exit(comm: Any) -> None:
    """Let `sys.exit` with an error on one rank, and Ctrl-C, end the job of a world of several MPI ranks. Collective."""
    meeting = comm.handle.Dup()
    sys.exit = _noting(sys.exit)
    # Runs before the communicators are freed, which is collective.
    atexit.register(_leave, meeting, comm.handle, os.getpid())
    if threading.current_thread() is threading.main_thread():
        _watch_interrupts(comm.handle)


def _noting(original: Any) -> Any:
    def exit(status: Any = None, /) -> Any:
        """Leave the program; see the Python documentation. ht_comm notes the status."""
        global _exit_call
        if threading.current_thread() is threading.main_thread():
            number = 0 if status is None else status if isinstance(status, int) else 1
            _exit_call = int(number) & 0xFF, _place()
        original(status)

    return exit


def _main_frame() -> FrameType | None:
    """Return the outermost frame of the program."""
    frame, found = sys._getframe(1), None
    while frame is not None:
        if frame.f_globals.get("__name__") == "__main__":
            found = frame
        frame = frame.f_back  # type: ignore[assignment]
    return found


_program: FrameType | None = None


def _place() -> int:
    global _program
    _program = _main_frame()
    return -1 if _program is None else _program.f_lasti


def _status() -> int:
    """Return the status given to `sys.exit`; 0 if it was not called or the program has caught it and gone on."""
    if _exit_call is None:
        return 0
    status, place = _exit_call
    return status if _program is None or _program.f_lasti == place else 0


def _leave(meeting: Any, handle: Any, process: int) -> None:
    """Meet the other ranks at the exit."""
    from mpi4py import MPI

    if MPI.Is_finalized() or os.getpid() != process:
        return  # a fork of the rank is no rank
    rank, size, status = meeting.Get_rank(), meeting.Get_size(), _status()
    request = meeting.Ibarrier()
    if not poll(request.Test, _GRACE_SECONDS):
        if status:
            write(
                f"[rank {rank}] sys.exit({status}) on rank {rank} of {size} while others go on; ending the job\n"
            )
            end_job(handle, status)
        _wait_for_others(request, handle, rank, size)
    meeting.Free()


def _wait_for_others(request: Any, handle: Any, rank: int, size: int) -> None:
    """Wait until the other ranks have finished as well, or end the job if all of them wait for this one."""
    step = config.exit_seconds / 6
    seen, since = None, 0.0
    while not poll(request.Test, step):
        stacks = _blocked(rank, size)
        if not stacks or stacks != seen:
            seen, since = stacks, time.monotonic()
        elif time.monotonic() - since > config.exit_seconds - step:
            lines = [f"rank {rank} of {size} has finished while others wait for it; ending the job"]
            for other, stack in stacks.items():
                lines += [f"rank {other} is here:", *stack.splitlines()]
            write("".join(f"[rank {rank}] {line}\n" for line in lines))
            end_job(handle, 1)


def _blocked(rank: int, size: int) -> dict[int, str] | None:
    """Return the stacks of the ranks that have not finished, if every one of them is inside a call of MPI.

    None if one is not, if it is not known, or if a lower rank of those that have finished looks after it.
    """
    found = {}
    for other in range(size):
        if other == rank:
            continue
        stack = stack_of(other) if is_on_this_node(other) else ""
        if f'"{__file__}"' in stack:
            if other < rank:
                return None
        elif f'"{_TRANSPORT}"' in stack.partition("File ")[2].partition("\n")[0]:
            found[other] = stack
        else:
            return None
    return found


def _watch_interrupts(handle: Any) -> None:
    """Let an interrupt end a rank that is blocked in MPI, where Python cannot raise KeyboardInterrupt.

    Python's own handler still runs where it can. A thread reads what the interpreter's low-level handler writes
    at once, wherever the program is.
    """
    if signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    previous = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    if previous != -1:
        # Somebody else (an event loop) needs it.
        signal.set_wakeup_fd(previous)
        os.close(reader)
        os.close(writer)
        return
    seen = threading.Event()

    def on_interrupt(number: int, frame: FrameType | None) -> None:
        seen.set()
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, on_interrupt)
    threading.Thread(
        target=_end_when_blocked, args=(reader, seen, handle), name="ht-comm-interrupt", daemon=True
    ).start()


def _end_when_blocked(reader: int, seen: threading.Event, handle: Any) -> None:
    rank, size = handle.Get_rank(), handle.Get_size()
    while True:
        if signal.SIGINT in os.read(reader, 64) and not seen.wait(_INTERRUPT_SECONDS + 0.5 * rank / size):
            write(f"[rank {rank}] interrupted on rank {rank} of {size}; ending the job\n")
            end_job(handle, INTERRUPTED)
        seen.clear()
