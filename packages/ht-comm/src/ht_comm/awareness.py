"""Whether the MPI library takes pointers to device memory: asked of everyone who may know, then tried.

A wrong guess ends the process with a segmentation fault. So what a library, or the environment, says is not
believed before one element has gone from and to device memory in a process of its own. Only the user's own word,
``HT_COMM_GPU_AWARE=0|1``, stands without that.
"""

import ctypes
import functools
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

_SECONDS = 60
_DEVICE_KINDS = ("cuda", "rocm", "level_zero")
# No library has all of these. What they tell is what was compiled in, not what is switched on.
_QUERIES = (
    "MPIX_Query_cuda_support",
    "MPIX_Query_rocm_support",
    "MPIX_Query_hip_support",
    "MPIX_Query_ze_support",
)
_GPU_TYPES = {"cuda": 0, "ze": 1, "hip": 2}  # of MPICH's MPIX_GPU_query_support
_VARIABLES = {
    "MPICH_GPU_SUPPORT_ENABLED": ("1",),  # Cray
    "PSM2_CUDA": ("1",),
    "MV2_USE_CUDA": ("1",),
    "I_MPI_OFFLOAD": ("1", "2"),
    "UCX_TLS": ("cuda", "cuda_copy", "cuda_ipc", "rocm", "rocm_copy", "rocm_ipc"),
}
# Of a launcher: with these the trial would take itself for a rank of the job.
_OF_LAUNCHERS = (
    "PMI",
    "PMIX",
    "OMPI_",
    "PRTE_",
    "MPI_LOCAL",
    "MPIR_",
    "HYDRA",
    "HYDI",
    "SLURM_",
    "PALS_",
    "FLUX_",
)
_TRIAL = """
import sys, torch
from mpi4py import MPI
sent = torch.full((1,), 7.0, device=sys.argv[1])
received = torch.zeros_like(sent)
assert sent.item() == 7.0
sides = [[MPI.buffer.fromaddress(x.data_ptr(), 4), 1, MPI.FLOAT] for x in (sent, received)]
MPI.COMM_SELF.Sendrecv(sides[0], 0, 0, sides[1], 0, 0)
sys.exit(0 if received.item() == 7.0 else 3)
"""


@dataclass(frozen=True)
class Awareness:
    """Whether MPI takes device memory, and how that was found.

    Attributes
    ----------
    is_aware : bool
        Whether device pointers may be given to MPI.
    source : str
        Who said so.
    """

    is_aware: bool
    source: str

    def __str__(self) -> str:
        return f"{'yes' if self.is_aware else 'no'} ({self.source})"


@functools.cache
def gpu_awareness() -> Awareness:
    """Return whether the MPI library in use takes pointers to device memory. Not collective; asked once.

    In this order: ``HT_COMM_GPU_AWARE``; the memory kinds that MPI 4.1 lists; the queries of MPICH and Open MPI; the
    variables by which vendors switch it on. The first that says yes is put to a trial in another process, which
    takes about a second, and a minute at most.
    """
    told = os.environ.get("HT_COMM_GPU_AWARE")
    if told not in (None, "", "0", "1"):
        raise ValueError(f"gpu_awareness: HT_COMM_GPU_AWARE must be 0 or 1, got {told!r}")
    if told:
        return Awareness(told == "1", f"HT_COMM_GPU_AWARE={told}")
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is None or not mpi.Is_initialized() or mpi.Is_finalized():
        return Awareness(False, "MPI is not in use")
    source = from_memory_kinds(mpi) or from_queries(_library()) or from_environment(os.environ)
    if source is None:
        return Awareness(False, "neither the library nor the environment speaks of devices")
    return confirmed(source)


def from_memory_kinds(mpi: Any) -> str | None:
    """Return the device kinds among ``mpi_memory_alloc_kinds``, which MPI 4.1 tells."""
    info = mpi.COMM_WORLD.Get_info()
    try:
        kinds = info.get("mpi_memory_alloc_kinds") or ""
    finally:
        info.Free()
    found = [kind for kind in kinds.split(",") if kind.partition(":")[0] in _DEVICE_KINDS]
    return f"mpi_memory_alloc_kinds={','.join(found)}" if found else None


def from_queries(library: Any) -> str | None:
    """Return the name of a query of the library that says yes. Each name may be absent."""
    for name in _QUERIES:
        query = getattr(library, name, None)
        if query is not None and query() == 1:
            return f"{name}() = 1"
    query = getattr(library, "MPIX_GPU_query_support", None)
    if query is not None:
        for kind, number in _GPU_TYPES.items():
            answer = ctypes.c_int(0)
            if query(ctypes.c_int(number), ctypes.byref(answer)) == 0 and answer.value:
                return f"MPIX_GPU_query_support({kind}) = 1"
    return None


def from_environment(environment: Mapping[str, str]) -> str | None:
    """Return the variable of a vendor that switches it on."""
    for name, values in _VARIABLES.items():
        words = environment.get(name, "").split(",")
        if any(word.strip() in values for word in words):
            return f"{name}={environment[name]}"
    return None


def _library() -> Any:
    """Return the MPI library that mpi4py has loaded: its names are not visible by themselves."""
    try:
        lines = Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    paths = {line.split(maxsplit=5)[5] for line in lines if line.count(" ") >= 5 and "/" in line}
    for path in sorted(paths):
        name = Path(path).name
        if name.startswith(("libmpi.so", "libmpi_", "libmpich", "libmpi.")) and ".so" in name:
            try:
                return ctypes.CDLL(path)
            except OSError:
                continue
    return None


def confirmed(source: str, device: str | None = None) -> Awareness:
    """Try device memory in a process of its own; believe `source` if that works."""
    if device is None:
        torch = sys.modules.get("torch")
        if torch is None or not torch.cuda.is_available():
            return Awareness(False, f"{source}, not tried: torch sees no device")
        device = "cuda"
    clean = {name: text for name, text in os.environ.items() if not name.startswith(_OF_LAUNCHERS)}
    claim = Awareness(False, source)
    try:
        trial = subprocess.run(
            [sys.executable, "-c", _TRIAL, device],
            env=clean,
            capture_output=True,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return replace(claim, source=f"{source}, but the trial failed: {type(error).__name__}")
    if trial.returncode:
        return replace(claim, source=f"{source}, but the trial ended with status {trial.returncode}")
    return Awareness(True, f"{source}, confirmed by a trial")
