"""An exception on one rank ends the job, with one traceback that names the rank.

Without this the failing rank waits in ``MPI_Finalize`` for the others, and they in their next collective for
it: the job hangs and says nothing.
"""

import os
import socket
import sys
import threading
import time
import traceback
from types import TracebackType
from typing import Any

from .guard import last_calls
from .launcher import launched_as

_installed = False
# Seconds before a rank reports. If all ranks fail alike, one of them has reported and ended the job by then,
# and the error is seen once: rank 0, or the rank on which an agreed error arose, whose traceback tells most.
_FIRST_DELAY, _SPREAD = 0.25, 0.75
# Hydra drops what it has not read yet when a rank aborts (1 of 36 reports).
_FLUSH_SECONDS = 0.15
# A rank that failed before MPI was initialised waits this long for the others to come to MPI_Init.
_JOIN_SECONDS = 120.0
INTERRUPTED = 130
"""Exit status of a job ended by Ctrl-C, as shells have it."""


def install_excepthook() -> bool:
    """Let an uncaught exception on any rank (in any of its threads) end the job.

    Called when this package is imported in a process that a launcher started as one of several ranks, and when
    the world of more than one MPI rank is made. ``HT_COMM_HOOK=0`` keeps the hooks as they are.

    Returns
    -------
    bool
        Whether the hooks are in place.
    """
    global _installed
    if not _installed and os.environ.get("HT_COMM_HOOK", "1") != "0":
        sys.excepthook = _on_exception
        threading.excepthook = _on_thread_exception
        _installed = True
    return _installed


def _on_thread_exception(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is not SystemExit and args.exc_value is not None:
        _on_exception(args.exc_type, args.exc_value, args.exc_traceback)


def _on_exception(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    mpi = sys.modules.get("mpi4py.MPI")
    is_ready = mpi is not None and mpi.Is_initialized()
    if is_ready and mpi.Is_finalized():
        sys.__excepthook__(kind, error, trace)
        return
    rank, size = (mpi.COMM_WORLD.Get_rank(), mpi.COMM_WORLD.Get_size()) if is_ready else launched_as()
    if rank != getattr(error, "__ht_origin__", 0):
        time.sleep(_FIRST_DELAY + _SPREAD * rank / size)
    if kind is not KeyboardInterrupt:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except (OSError, ValueError, AttributeError):
                # A closed or absent stream must not keep the traceback from being seen.
                continue
        write(report(kind, error, trace, rank, size))
    else:
        write(f"[rank {rank}] interrupted on rank {rank} of {size}; ending the job\n")
    if is_ready:
        end_job(mpi.COMM_WORLD, INTERRUPTED if kind is KeyboardInterrupt else 1)
    else:
        _join_and_abort()


def end_job(handle: Any, status: int) -> None:
    """Abort, after the launcher has had the time to pass on what was written."""
    time.sleep(_FLUSH_SECONDS)
    handle.Abort(status)


def _join_and_abort() -> None:
    """End a job whose other ranks wait, or will wait, in ``MPI_Init`` for this one: join them there, then abort."""

    def abort() -> None:
        try:
            from mpi4py import MPI
        except (ImportError, RuntimeError, OSError):
            return  # no MPI, nobody waits
        end_job(MPI.COMM_WORLD, 1)

    thread = threading.Thread(target=abort, daemon=True)
    thread.start()
    thread.join(_JOIN_SECONDS)
    if thread.is_alive():
        os._exit(1)


def report(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None, rank: int, size: int
) -> str:
    """Return the traceback as text, each line tagged with the rank, and the last calls where these are kept."""
    lines = [f"uncaught {kind.__name__} on rank {rank} of {size} ({socket.gethostname()}); ending the job"]
    for entry in traceback.format_exception(kind, error, trace):
        lines += entry.splitlines()
    calls = last_calls()
    if calls:
        lines += ["last calls of this rank, the newest one last:", *(f"  {call}" for call in calls)]
    return "".join(f"[rank {rank}] {line}\n" for line in lines)


def write(text: str) -> None:
    """Write at once: lines of several ranks must not be mixed."""
    data = text.encode(errors="backslashreplace")
    while data:
        data = data[os.write(2, data) :]
