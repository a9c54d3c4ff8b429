"""What there is: versions, MPI, ranks and their threads, devices. For bug reports and for checking an
installation.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
from importlib.metadata import PackageNotFoundError, version

from ht_comm import Communicator, world

_WHEELS = ("ht-comm", "ht-core", "ht-linalg", "ht-io", "ht-ml", "ht-meta")
_BELOW = ("numpy", "torch", "h5py", "mpi4py", "scikit-image", "matplotlib")


def describe(comm: Communicator | None = None) -> str:
    """Return the installation and the ranks of `comm` (the world if not given) as text. Collective.

    Distribution
    ------------
    One gather of a line of text per rank; the text is complete on rank 0 and empty on the others.
    """
    import torch

    comm = world() if comm is None else comm
    line = f"{socket.gethostname()}, process {os.getpid()}, {torch.get_num_threads()} threads, {_device()}"
    ranks = comm.gather_object(line)
    if comm.rank > 0:
        return ""
    lines = [
        f"Python     {platform.python_version()} ({sys.executable})",
        f"System     {platform.platform()}",
    ]
    lines += [f"{name:10} {_version(name)}" for name in (*_WHEELS, *_BELOW)]
    lines += [f"MPI        {_mpi(comm)}", f"Ranks      {comm.size}"]
    lines += [f"  rank {rank}   {text}" for rank, text in enumerate(ranks or [])]
    return "\n".join(lines)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _device() -> str:
    import torch

    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    return "GPU (MPS)" if torch.backends.mps.is_available() else "no GPU"


def _mpi(comm: Communicator) -> str:
    if comm.handle is None:
        return "not in use (one rank)"
    from mpi4py import MPI

    return MPI.Get_library_version().strip("\0 \n").splitlines()[0]
