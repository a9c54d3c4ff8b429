"""Time of a resplit 0 -> 1 and 1 -> 0 against a local copy of the same bytes, and the scratch it takes.

Run: ``mpiexec -n 2 python benchmarks/resplit.py [--mib 256] [--repeat 5]``. Each rank holds `--mib` MiB of
float32. Prints a line for each case: median and best time, ratio to the copy; then the peak memory beyond
input and output.
"""

import argparse
import statistics
import time
from itertools import pairwise
from pathlib import Path

import ht_comm
import numpy as np
from ht_comm import plan_redistribution


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


def measure(comm, repeat, action):
    """Return the seconds of the slowest rank for each repetition."""
    times = []
    for _ in range(repeat):
        comm.barrier()
        start = time.perf_counter()
        action()
        times.append(float(comm.allreduce(np.array(time.perf_counter() - start), "max")))
    return times


def main():
    """Measure and print on rank 0."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--mib", type=int, default=256, help="MiB per rank (256)")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions (5)")
    options = parser.parse_args()
    comm = ht_comm.get_comm()
    columns = 16384
    rows = options.mib * 2**20 * comm.size // (4 * columns)
    for before, after in ((0, 1), (1, 0)):
        plan = plan_redistribution(
            split_boxes((rows, columns), before, comm.size), split_boxes((rows, columns), after, comm.size)
        )
        x = np.ones([stop - start for start, stop in plan.src[comm.rank]], np.float32)
        out = np.ones([stop - start for start, stop in plan.dst[comm.rank]], np.float32)
        same = np.ones_like(x)
        copy = measure(comm, options.repeat, lambda same=same, x=x: np.copyto(same, x))
        base = peak_mib(reset=True)
        reused = measure(
            comm, options.repeat, lambda x=x, plan=plan, out=out: comm.redistribute(x, plan, out=out)
        )
        scratch = peak_mib() - base
        fresh = measure(comm, options.repeat, lambda x=x, plan=plan: comm.redistribute(x, plan))
        if comm.rank == 0:
            print(f"split {before} -> {after}, {options.mib} MiB per rank, {comm.size} ranks")
            for name, times in (
                ("copy", copy),
                ("resplit, out= reused", reused),
                ("resplit, new result", fresh),
            ):
                middle, best = statistics.median(times), min(times)
                ratios = f"{middle / statistics.median(copy):5.2f} x copy (best {best / min(copy):.2f})"
                print(f"  {name:22s} {middle * 1e3:8.1f} ms  best {best * 1e3:8.1f} ms  {ratios}")
            print(f"  peak memory beyond input and output: {scratch:.1f} MiB")


if __name__ == "__main__":
    main()
