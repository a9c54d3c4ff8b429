"""What a strided array costs to send: packed by hand, as an MPI derived datatype, and as ht-comm does it.

Run: ``mpiexec -n 2 python benchmarks/strided.py [--repeat 300]``. Half of a 3-D float32 array, sliced along
axis 1 (long runs of memory) or 2 (short runs), is sent to the other rank and back, broadcast and gathered. Prints,
for each case, the medians in microseconds of the slower rank over interleaved repetitions. Packing by hand is given
prebuilt scratch memory; datatypes are made anew for each message, as for an array never seen before.
"""

import argparse
import statistics
import time

import ht_comm
import numpy as np
import torch
from mpi4py import MPI

SIDES = {"1 KB": (8, 8, 8), "64 KB": (32, 32, 32), "1 MB": (64, 64, 128), "256 MB": (256, 512, 1024)}
WORLD = MPI.COMM_WORLD


def half(shape, axis, library):
    """Return a view of the first half along `axis`, with zeros around it."""
    base = library.zeros(shape, dtype=library.float32)
    return base[(slice(None),) * axis + (slice(0, shape[axis] // 2),)]


def memory(x):
    """Return what mpi4py takes for the memory from the first element on."""
    pointer = x.data_ptr() if isinstance(x, torch.Tensor) else x.__array_interface__["data"][0]
    return MPI.buffer.fromaddress(pointer, 0)


def datatype(x):
    """Return a committed datatype of the elements of `x`, as runs in memory order."""
    strides = x.stride() if isinstance(x, torch.Tensor) else [step // 4 for step in x.strides]
    made, length = MPI.FLOAT, 1
    axes = [(n, step) for n, step in zip(x.shape, strides) if n > 1]
    while axes and axes[-1][1] == length:
        length *= axes.pop()[0]
    made = made.Create_contiguous(length)
    for n, step in reversed(axes):
        made = made.Create_hvector(n, 1, 4 * step)
    return made.Commit()


def ways(comm, x, whole):
    """Return {operation: {way: action}} for a view `x` and a result `whole` of `size` views."""
    is_torch = isinstance(x, torch.Tensor)
    scratch = torch.empty(x.shape) if is_torch else np.empty(x.shape, np.float32)
    flat = scratch.numpy() if is_torch else scratch
    everyone = np.empty((comm.size, *x.shape), np.float32)
    parts = whole.chunk(comm.size, 1) if is_torch else np.split(whole, comm.size, 1)
    other, first = 1 - comm.rank, comm.rank == 0

    def copy(to, source):
        if is_torch:
            to.copy_(source)
        else:
            to[...] = source

    def packed_ping():
        for sending in (first, not first):
            if sending:
                copy(scratch, x)
                WORLD.Send(flat, other)
            else:
                WORLD.Recv(flat, other)
                copy(x, scratch)

    def typed_ping():
        for sending in (first, not first):
            made = datatype(x)
            spec = [memory(x), 1, made]
            WORLD.Send(spec, other) if sending else WORLD.Recv(spec, other)
            made.Free()

    def our_ping():
        for sending in (first, not first):
            comm.send(x, other) if sending else comm.recv(x, other)

    def packed_bcast():
        if first:
            copy(scratch, x)
        WORLD.Bcast(flat)
        if not first:
            copy(x, scratch)

    def typed_bcast():
        made = datatype(x)
        WORLD.Bcast([memory(x), 1, made])
        made.Free()

    def packed_gather():
        copy(scratch, x)
        WORLD.Allgather(flat, everyone)
        for part, block in zip(parts, everyone):
            copy(part, torch.from_numpy(block) if is_torch else block)

    return {
        "ping-pong": {"pack": packed_ping, "datatype": typed_ping, "ht-comm": our_ping},
        "bcast": {"pack": packed_bcast, "datatype": typed_bcast, "ht-comm": lambda: comm.bcast(x)},
        "allgather": {"pack": packed_gather, "ht-comm": lambda: comm.allgather(x, axis=1, out=whole)},
    }


def measure(comm, actions, repeat):
    """Return the median microseconds that the slower rank needs for each action; they are taken in turn."""
    times = {way: [] for way in actions}
    for _ in range(repeat):
        for way, action in actions.items():
            WORLD.Barrier()
            start = time.perf_counter()
            action()
            times[way].append(1e6 * (time.perf_counter() - start))
    slower = {way: comm.allreduce(np.array(values), "max") for way, values in times.items()}
    return {way: statistics.median(values[repeat // 10 :]) for way, values in slower.items()}


def main():
    """Measure and print on rank 0."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeat", type=int, default=300, help="repetitions (300; fewer for long messages)")
    options = parser.parse_args()
    comm = ht_comm.MPIComm(WORLD)
    if comm.size != 2:
        raise SystemExit("strided: run on 2 ranks")
    torch.set_num_threads(1)
    if comm.rank == 0:
        print(f"{'':38}{'pack':>10}{'datatype':>10}{'ht-comm':>10}   ht-comm / best, over by us")
    for library in (np, torch):
        for size, shape in SIDES.items():
            for axis in (1, 2):
                x = half(shape, axis, library)
                whole = library.zeros((shape[0], 2 * x.shape[1], x.shape[2]), dtype=library.float32)
                repeat = min(
                    options.repeat, max(5, int(options.repeat * 2**20 / (4 * x[:].shape[0] * 2**14)))
                )
                for name, actions in ways(comm, x, whole).items():
                    found = measure(comm, actions, repeat)
                    if comm.rank == 0:
                        ours, best = found["ht-comm"], min(v for k, v in found.items() if k != "ht-comm")
                        cells = "".join(
                            f"{found.get(way, float('nan')):10.1f}" for way in ("pack", "datatype", "ht-comm")
                        )
                        print(
                            f"{library.__name__:6} {size:>6} axis {axis}  {name:15}{cells}",
                            f"  {ours / best:.2f}  {ours - best:+.1f}",
                            flush=True,
                        )


if __name__ == "__main__":
    main()
