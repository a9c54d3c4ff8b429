"""Start a Python program on several ranks: find the launcher, share the cores, pass on the exit code."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_NAMES = ("mpiexec", "mpirun", "srun")


class LauncherError(RuntimeError):
    """There is no MPI launcher, or the one asked for is not there."""


def find_launcher(environ: Mapping[str, str], executable: str) -> str:
    """Return the path of the MPI launcher to be used with this interpreter.

    In this order: the one named by ``HT_MPIEXEC``; beside the interpreter, where the wheels of MPICH and
    Open MPI put theirs (a launcher of another MPI would start unconnected processes); ``srun`` within a
    Slurm allocation; the path.

    Raises
    ------
    LauncherError
        If there is none.
    """
    named = environ.get("HT_MPIEXEC")
    if named:
        found = shutil.which(named, path=environ.get("PATH"))
        if found is None:
            raise LauncherError(f"run: HT_MPIEXEC must be an executable file, got {named!r}")
        return found
    # Not resolved: in a virtual environment the interpreter is a link to one without an mpiexec beside it.
    beside = str(Path(executable).absolute().parent)
    in_slurm = "SLURM_JOB_ID" in environ
    names = ("srun", "mpiexec", "mpirun") if in_slurm else _NAMES
    for names_here, where in ((_NAMES, beside), (names, environ.get("PATH", os.defpath))):
        for name in names_here:
            found = shutil.which(name, path=where)
            if found:
                return found
    raise LauncherError(
        "run: an MPI launcher (mpiexec, mpirun or srun) must be beside the interpreter or on the path, got none; "
        "run: pip install 'ht-meta[mpich]'"
    )


def plan_command(
    launcher: str, ranks: int | None, program: Sequence[str], *, is_open_mpi: bool, is_root: bool
) -> list[str]:
    """Return the command line that runs `program`, arguments of the Python interpreter, on `ranks` ranks."""
    command = [launcher]
    if is_open_mpi:
        # More ranks than cores is normal on a laptop; Open MPI refuses it, and the superuser, unless told.
        command += ["--oversubscribe"] + (["--allow-run-as-root"] if is_root else [])
    if ranks is not None:
        command += ["-n", str(ranks)]
    return [*command, sys.executable, *program]


def plan_environment(environ: Mapping[str, str], ranks: int | None, cores: int) -> dict[str, str]:
    """Return the environment of the ranks: the cores of this machine shared between them, unless that is
    set.
    """
    out = dict(environ)
    if ranks is not None and "OMP_NUM_THREADS" not in out and "SLURM_JOB_ID" not in out:
        out["OMP_NUM_THREADS"] = str(max(cores // ranks, 1))
    return out


def launch(ranks: int | None, program: Sequence[str]) -> int:
    """Run `program` on `ranks` ranks in place of this process, so that signals and the exit code are its own.

    Parameters
    ----------
    ranks : int or None
        None leaves the number to the launcher, as Slurm knows it.
    program : sequence of str
        Arguments of the Python interpreter: a script, or ``-m`` and a module, and theirs.

    Returns
    -------
    int
        2 if nothing could be started; otherwise it does not return.

    Raises
    ------
    LauncherError
        If there is no launcher.
    """
    launcher = find_launcher(os.environ, sys.executable)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    command = plan_command(launcher, ranks, program, is_open_mpi=_is_open_mpi(launcher), is_root=is_root)
    sys.stdout.flush()
    os.execve(launcher, command, plan_environment(os.environ, ranks, cores))
    return 2


def _is_open_mpi(launcher: str) -> bool:
    if os.path.basename(launcher) == "srun":
        return False
    said = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False).stdout
    return "Open MPI" in said or "OpenRTE" in said or "prte" in said.lower()
