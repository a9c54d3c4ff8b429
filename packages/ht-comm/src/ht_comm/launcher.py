"""What mpiexec, srun and torchrun tell a process through its environment, before MPI is initialised."""

import os

# (rank, number of ranks): Open MPI and PRRTE; MPICH, Intel MPI and others by PMI; MVAPICH.
_VARIABLES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("MV2_COMM_WORLD_RANK", "MV2_COMM_WORLD_SIZE"),
)
_MARK = "HT_COMM_RANK_PID"


def launched_as() -> tuple[int, int]:
    """Return the rank and the number of ranks a launcher started; (0, 1) for an ordinary process."""
    for rank_name, size_name in _VARIABLES:
        rank, size = os.environ.get(rank_name, ""), os.environ.get(size_name, "")
        if size.isdigit() and int(size) > 1:
            return int(rank) if rank.isdigit() else 0, int(size)
    return 0, 1


def is_under_torchrun() -> bool:
    """Tell whether torchrun, and no MPI launcher, started this process as one of several ranks."""
    size = os.environ.get("WORLD_SIZE", "")
    is_complete = all(name in os.environ for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"))
    return is_complete and size.isdigit() and int(size) > 1 and launched_as()[1] == 1


def is_rank() -> bool:
    """Tell whether a launcher started this very process as one of several ranks.

    A program that a rank starts inherits the launcher's variables but is no rank. The first call in a rank leaves
    a mark in the environment by which its children know.
    """
    if launched_as()[1] == 1:
        return False
    own = str(os.getpid())
    return os.environ.setdefault(_MARK, own) == own
