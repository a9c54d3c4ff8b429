"""The command line.

``python -m ht_comm info``: which MPI is used, and where the ranks are; under ``mpiexec``, of all ranks.
``mpiexec -n 2 python -m ht_comm calibrate``: measure this machine, and write what suits it to a file.
"""

import argparse
import os
import platform
import socket
import sys
from importlib.metadata import PackageNotFoundError, version

from . import calibration, config
from ._version import __version__
from .awareness import gpu_awareness
from .communicator import Communicator
from .current import world
from .threads import thread_budget


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _mpi_lines(comm: Communicator) -> list[str]:
    if comm.handle is None:
        return ["MPI            not in use (one rank)"]
    from mpi4py import MPI

    levels = {
        MPI.THREAD_SINGLE: "single",
        MPI.THREAD_FUNNELED: "funneled",
        MPI.THREAD_SERIALIZED: "serialized",
        MPI.THREAD_MULTIPLE: "multiple",
    }
    library = MPI.Get_library_version().strip("\0 \n").splitlines()[0]
    standard = ".".join(map(str, MPI.Get_version()))
    return [
        f"MPI            {' '.join(library.split())}",
        f"MPI standard   {standard}, thread level {levels[MPI.Query_thread()]}",
    ]


def _devices() -> str:
    """Return the devices torch sees on this rank's node."""
    try:
        import torch
    except ImportError:
        return "none (torch is not installed)"
    names = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return ", ".join(f"{number}: {name}" for number, name in enumerate(names)) or "none"


def _reading(comm: Communicator) -> str:
    """Return whether the ranks read each other's memory. Collective."""
    if comm.size == 1 or comm._find_peers() is None:
        return "not in use"
    return f"from {config.read_bytes} bytes per rank on, in runs of {config.read_run_bytes}"


def info(comm: Communicator) -> list[str]:
    """Return the report, line by line, on rank 0 and an empty list elsewhere. Collective."""
    budget, reading = thread_budget(comm), _reading(comm)
    ranks = comm.allgather_object((socket.gethostname(), os.getpid(), budget))
    if comm.rank:
        return []
    lines = [
        f"ht-comm        {__version__}",
        f"Python         {platform.python_version()} on {platform.system()} {platform.machine()}",
        *(f"{name:<14} {_installed(name)}" for name in ("numpy", "mpi4py", "torch")),
        *_mpi_lines(comm),
        f"devices        {_devices()}",
        f"GPU-aware MPI  {gpu_awareness()}",
        f"slices, chunks {config.slice_bytes}, {config.chunk_bytes} bytes",
        f"reading        {reading}",
        f"ranks          {comm.size}",
    ]
    for rank, (host, pid, threads) in enumerate(ranks):
        lines.append(f"  rank {rank:<6} {host}, process {pid}, {threads} thread(s)")
    return lines


def calibrate(comm: Communicator) -> list[str]:
    """Measure, write the file, and return the report on rank 0, an empty list elsewhere. Collective."""
    lines: list[str] = []
    found = calibration.measure(comm, lines.append)
    problem = None
    if comm.rank == 0:
        library = calibration.library_of(comm)
        try:
            lines.append(f"written to {calibration.write_file(library, found)}, for {library}")
        except OSError as error:
            problem = error
    comm.agree(problem)
    return lines if comm.rank == 0 else []


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m ht_comm", description="Bytes between ranks.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("info", help="libraries, versions, settings and the place of each rank")
    commands.add_parser("calibrate", help="measure this machine and write the sizes that suit it to a file")
    command = {"info": info, "calibrate": calibrate}[parser.parse_args(arguments).command]
    try:
        lines = command(world())
    except ValueError as error:  # the same on all ranks
        parser.error(str(error))
    sys.stdout.write("".join(f"{line}\n" for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
