"""Bytes between ranks: communicators, collectives and redistribution for NumPy arrays and torch tensors.

Importing this package neither initialises MPI nor imports torch.
"""

from typing import TYPE_CHECKING, Any

from . import config, threads
from ._version import __version__
from .checked import checked
from .communicator import Communicator
from .current import get_comm, self_, use_comm, world
from .errors import CommError
from .failure import install_excepthook
from .launcher import is_rank
from .operators import Op
from .point_to_point import Request
from .profile import Profile
from .serial import SerialComm
from .thread import ThreadComm, spmd
from .trace import Event, Trace

if TYPE_CHECKING:
    from .autograd import Tape as Tape
    from .gradcheck import dist_gradcheck as dist_gradcheck
    from .mpi import MPIComm as MPIComm
    from .redistribute import plan_redistribution as plan_redistribution
    from .torchpg import TorchComm as TorchComm

__all__ = [
    "CommError",
    "Communicator",
    "Event",
    "MPIComm",
    "Op",
    "Profile",
    "Request",
    "SerialComm",
    "ThreadComm",
    "TorchComm",
    "Trace",
    "__version__",
    "checked",
    "config",
    "get_comm",
    "install_excepthook",
    "plan_redistribution",
    "self_",
    "spmd",
    "threads",
    "use_comm",
    "world",
]

if is_rank():
    # Before MPI is initialised, and before anything can fail: a rank that fails early leaves the others waiting, too.
    install_excepthook()

# Only on first use: MPIComm brings mpi4py, which initialises MPI. Tape and dist_gradcheck need torch, so they are not
# in `__all__`, which must work without it.
_LAZY = {
    "MPIComm": "mpi",
    "Tape": "autograd",
    "TorchComm": "torchpg",
    "dist_gradcheck": "gradcheck",
    "plan_redistribution": "redistribute",
}


def __getattr__(name: str) -> Any:
    module = _LAZY.get(name)
    if module is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f".{module}", __name__), name)
    globals()[name] = value
    return value
