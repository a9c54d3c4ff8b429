"""Which communicator is meant when none is named: `get_comm`, `use_comm`, `world`, `self_`."""

import os
import threading
from typing import TYPE_CHECKING

from .errors import CommError
from .launcher import is_under_torchrun, launched_as

if TYPE_CHECKING:
    from .communicator import Communicator

_current = threading.local()
_making = threading.Lock()
_world: "Communicator | None" = None
_self: "Communicator | None" = None


def get_comm() -> "Communicator":
    """Return this thread's communicator: set by `use_comm`, the rank's own in `spmd`, else the world."""
    return getattr(_current, "comm", None) or _world or world()


class use_comm:
    """Make a communicator the current one of this thread.

    As a statement it stays until the next one; as a context manager until the end of the block.

    Parameters
    ----------
    comm : Communicator or None
        None returns to the world.

    Examples
    --------
    >>> import ht_comm
    >>> with ht_comm.use_comm(ht_comm.self_()):
    ...     ht_comm.get_comm().size
    1
    """

    def __init__(self, comm: "Communicator | None") -> None:
        self._previous: Communicator | None = getattr(_current, "comm", None)
        _set(comm)

    def __enter__(self) -> "Communicator":
        return get_comm()

    def __exit__(self, *exc_info: object) -> None:
        _set(self._previous)


def _set(comm: "Communicator | None") -> None:
    if comm is not None:
        _current.comm = comm
    elif hasattr(_current, "comm"):
        del _current.comm


def self_() -> "Communicator":
    """Return the communicator of this process alone."""
    global _self
    if _self is None:
        from .serial import SerialComm

        _self = SerialComm()
    return _self


def world() -> "Communicator":
    """Return the communicator of all ranks of the job.

    An `MPIComm` where the process was started as one of several MPI ranks, a `TorchComm` where torchrun started it,
    else a `SerialComm`. MPI is initialised by the first call, not by the import. Collective on the first call.

    Raises
    ------
    CommError
        If a launcher started several ranks but they cannot reach each other (no mpi4py, no MPI library, or
        one of another vendor than the launcher's). ``HT_COMM_WORLD=serial`` says that separate processes are
        meant.
    """
    global _world
    if _world is None:
        with _making:
            if _world is None:
                _world = _make_world()
    return _world


def _make_world() -> "Communicator":
    wanted = os.environ.get("HT_COMM_WORLD", "auto")
    if wanted not in ("auto", "serial", "mpi", "torch"):
        raise ValueError(f"world: HT_COMM_WORLD must be auto, serial, mpi or torch, got {wanted!r}")
    if wanted == "serial":
        return self_()
    if wanted == "torch" or (wanted == "auto" and is_under_torchrun()):
        return _make_torch_world()
    problem = "this process is alone in its MPI world; the MPI library must be the launcher's own"
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError, OSError) as error:
        # Without a usable library mpi4py raises one or the other, depending on its version.
        problem = f"mpi4py cannot be used ({type(error).__name__}: {error})"
    else:
        if MPI.COMM_WORLD.Get_size() > 1 or wanted == "mpi":
            return _make_mpi_world(MPI.COMM_WORLD)
    launched = launched_as()[1]
    if launched > 1 or wanted == "mpi":
        raise CommError(
            f"world: MPI must be usable in a process started as one of {launched} ranks, got: {problem}; "
            "install an MPI library that fits the launcher, or set HT_COMM_WORLD=serial"
        )
    return self_()


def _make_torch_world() -> "Communicator":
    from .calibration import adopt
    from .threads import set_default_budget
    from .torchpg import TorchComm

    comm = TorchComm.world(backend=os.environ.get("HT_COMM_BACKEND", "gloo"))
    adopt(comm)
    set_default_budget(comm)
    return comm


def _make_mpi_world(handle: object) -> "Communicator":
    from .calibration import adopt
    from .exits import install_exit
    from .failure import install_excepthook
    from .mpi import MPIComm
    from .stacks import introduce
    from .threads import set_default_budget

    comm = MPIComm(handle)
    if comm.size > 1:
        if install_excepthook():
            install_exit(comm)
        introduce(comm)
        adopt(comm)
        set_default_budget(comm)
    return comm
