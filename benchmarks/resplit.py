"""Time of a resplit 0 -> 1 and 1 -> 0 against a local copy of the same bytes, and the scratch it takes.

Run: ``python benchmarks/resplit.py [--heat-python PYTHON_WITH_HEAT] [--mpiexec "mpiexec -n 2"]``. Each rank holds
`--mib` MiB of float32. Prints the best and the median times, also as multiples of the copy, which is timed in turn
with them: by reading memory and by messages, into an array that exists (`out=`) and into a new one, for NumPy and
torch; and, with `--heat-python`, Heat's. The copy is into memory that has been used before; "copy, new" is not.
Scratch is the peak memory beyond input and output.
"""

import argparse
import importlib
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

import numpy as np

COLUMNS = 16384
HEADER = f"{'':46}{'best':>9}{'median':>9}{'best':>10}{'median':>9}{'scratch':>10}"


def split_boxes(shape, split, p):
    """Return the placement that divides `shape` evenly along `split`."""
    marks = [shape[split] * rank // p for rank in range(p + 1)]
    whole = tuple((0, extent) for extent in shape)
    return tuple((*whole[:split], (a, b), *whole[split + 1 :]) for a, b in pairwise(marks))


def peak_mib(reset=False):
    """Return the largest resident size of this process in MiB; `reset` starts a new maximum (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure(world, actions, repeat):
    """Return {name: (seconds of the slowest rank for each repetition, peak MiB)}; the actions are taken in turn."""
    times = {name: [] for name in actions}
    peaks = dict.fromkeys(actions, 0.0)
    for _ in range(repeat + 1):
        for name, action in actions.items():
            base = peak_mib(reset=True)
            world.Barrier()
            start = time.perf_counter()
            result = action()
            seconds = time.perf_counter() - start
            peaks[name] = max(peaks[name], peak_mib() - base)
            times[name].append(max(world.allgather(seconds)))
            del result
    return {name: (values[1:], peaks[name]) for name, values in times.items()}


def report(world, title, found, result_mib):
    """Print a line for each way on rank 0."""
    copy = found["copy"][0]
    for name, (seconds, peak) in found.items():
        best, middle = min(seconds), statistics.median(seconds)
        scratch = max(world.allgather(peak - (result_mib if "new" in name else 0)))
        if world.rank == 0:
            print(
                f"{title:15} {name:30}{best * 1e3:6.1f} ms{middle * 1e3:6.1f} ms"
                f"{best / min(copy):8.2f} x{middle / statistics.median(copy):7.2f} x{scratch:6.1f} MiB",
                flush=True,
            )


def ways(comm, config, plan, lib):
    """Return {name: action} for a plan and a library."""
    x = lib.ones([stop - start for start, stop in plan.src[comm.rank]], dtype=lib.float32)
    out = lib.ones([stop - start for start, stop in plan.dst[comm.rank]], dtype=lib.float32)
    same = lib.ones_like(x)

    def resplit(way, out):
        config.cma = way
        return comm.redistribute(x, plan, out=out)

    def copy():
        same[...] = x

    return {
        "copy": copy,
        "copy, new": x.copy if lib is np else x.clone,
        "reading, out=": lambda: resplit("auto", out),
        "messages, out=": lambda: resplit("0", out),
        "reading, new": lambda: resplit("auto", None),
        "messages, new": lambda: resplit("0", None),
    }


def work(options):
    """Measure ht-comm, under mpiexec."""
    import ht_comm
    from ht_comm import config, plan_redistribution
    from mpi4py import MPI

    world, comm = MPI.COMM_WORLD, ht_comm.get_comm()
    rows = options.mib * 2**20 * comm.size // (4 * COLUMNS)
    for library in options.libraries:
        lib = importlib.import_module(library)
        for before, after in ((0, 1), (1, 0)):
            plan = plan_redistribution(
                split_boxes((rows, COLUMNS), before, comm.size),
                split_boxes((rows, COLUMNS), after, comm.size),
            )
            found = measure(world, ways(comm, config, plan, lib), options.repeat)
            report(world, f"{library} {before} -> {after}", found, options.mib)
    config.cma = "auto"
    if comm._find_peers() is None and comm.rank == 0:
        print("the system does not let the ranks read each other's memory: all of it went by messages")


def work_heat(options):
    """Measure Heat, under the mpiexec of its environment."""
    import heat
    import torch

    world = heat.MPI_WORLD.handle
    rows = options.mib * 2**20 * world.size // (4 * COLUMNS)
    for before, after in ((0, 1), (1, 0)):
        x = heat.ones((rows, COLUMNS), dtype=heat.float32, split=before)
        same = torch.ones_like(x.larray)
        actions = {
            "copy": lambda same=same, x=x: same.copy_(x.larray),
            "Heat's resplit, new": lambda x=x, after=after: heat.resplit(x, after),
        }
        report(world, f"heat {before} -> {after}", measure(world, actions, options.repeat), options.mib)


def drive(options, arguments):
    """Start the workers one after the other."""
    env = {**os.environ, "OMP_NUM_THREADS": "1", "THP_MEM_ALLOC_ENABLE": "1"}
    print(HEADER, flush=True)
    command = [*shlex.split(options.mpiexec), sys.executable, __file__, "--worker", "ours", *arguments]
    subprocess.run(command, env=env, check=True)
    if not options.heat_python:
        return
    sys.path.insert(0, str(Path(__file__).parent))
    from harness import _torchvision_stand_in

    with tempfile.TemporaryDirectory() as folder:
        _torchvision_stand_in(Path(folder))
        env["PYTHONPATH"] = folder
        mpiexec = str(Path(options.heat_python).parent / "mpiexec")
        command = [mpiexec, "-n", "2", options.heat_python, __file__, "--worker", "heat", *arguments]
        subprocess.run(command, env=env, check=True)


def main():
    """Entry point, as driver and as worker."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mib", type=int, default=256, help="MiB per rank (256)")
    parser.add_argument("--repeat", type=int, default=7, help="repetitions (7)")
    parser.add_argument("--libraries", nargs="+", default=["numpy", "torch"], choices=["numpy", "torch"])
    parser.add_argument("--mpiexec", default="mpiexec -n 2", help="how ranks are started (mpiexec -n 2)")
    parser.add_argument("--heat-python", help="Python of an environment that holds Heat and an MPI")
    parser.add_argument("--worker", choices=["ours", "heat"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker == "ours":
        work(options)
    elif options.worker == "heat":
        work_heat(options)
    else:
        chosen = [
            "--mib",
            str(options.mib),
            "--repeat",
            str(options.repeat),
            "--libraries",
            *options.libraries,
        ]
        drive(options, chosen)


if __name__ == "__main__":
    main()
