"""Start a Python program on several ranks: find the launcher, share the cores, pass on the exit code."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_NAMES = ("mpiexec", "mpirun", "srun")


class LauncherError(RuntimeError):
    """There is no MPI launcher, or the one asked for is not there."""


def find_launcher(environ: Mapping[str, str], executable: str) -> list[str]:
    """Return the command of the MPI launcher to be used with this interpreter.

    In this order: the command line in ``HT_MPIEXEC``; beside the interpreter, where the wheels of MPICH and Open MPI
    put theirs (a launcher of another MPI would start unconnected processes); ``srun`` within a Slurm allocation;
    the path.

    Raises
    ------
    LauncherError
        If there is none.
    """
    named = shlex.split(environ.get("HT_MPIEXEC", ""))
    if named:
        found = shutil.which(named[0], path=environ.get("PATH"))
        if found is None:
            raise LauncherError(f"run: HT_MPIEXEC must name an executable file, got {named[0]!r}")
        return [found, *named[1:]]
    # Not resolved: in a virtual environment the interpreter is a link to one without an mpiexec beside it.
    beside = str(Path(executable).absolute().parent)
    on_path = ("srun", "mpiexec", "mpirun") if "SLURM_JOB_ID" in environ else _NAMES
    for names, where in ((_NAMES, beside), (on_path, environ.get("PATH", os.defpath))):
        for name in names:
            found = shutil.which(name, path=where)
            if found:
                return [found]
    raise LauncherError(
        "run: an MPI launcher (mpiexec, mpirun or srun) must be beside the interpreter or on the path, got none; "
        "run: pip install 'ht-meta[mpich]'"
    )


def plan_command(
    launcher: Sequence[str], ranks: int | None, program: Sequence[str], *, is_open_mpi: bool, is_root: bool
) -> list[str]:
    """Return the command line that runs `program`, arguments of the Python interpreter, on `ranks` ranks."""
    command = list(launcher)
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


def plan_launch(ranks: int | None, program: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the command line and the environment that run `program` on `ranks` ranks on this machine.

    Parameters
    ----------
    ranks : int or None
        None leaves the number to the launcher, as Slurm knows it.
    program : sequence of str
        Arguments of the Python interpreter: a script, or ``-m`` and a module, and theirs.

    Raises
    ------
    LauncherError
        If there is no launcher.
    """
    launcher = find_launcher(os.environ, sys.executable)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    command = plan_command(launcher, ranks, program, is_open_mpi=is_open_mpi(launcher[0]), is_root=is_root)
    return command, plan_environment(os.environ, ranks, cores)


def launch(ranks: int | None, program: Sequence[str]) -> None:
    """Run `program` on `ranks` ranks in place of this process, so that signals and the exit code are its own.

    Takes what :func:`plan_launch` takes; does not return.
    """
    command, environment = plan_launch(ranks, program)
    sys.stdout.flush()
    os.execve(command[0], command, environment)


def is_open_mpi(launcher: str) -> bool:
    """Tell whether `launcher` is Open MPI's, from what it says of itself."""
    if os.path.basename(launcher) == "srun":
        return False
    done = subprocess.run([launcher, "--version"], capture_output=True, text=True, check=False)
    said = (done.stdout + done.stderr).lower()
    return any(word in said for word in ("open mpi", "openrte", "open-mpi", "prrte"))
