"""Reading and writing HDF5 beside plain h5py, a token ring, a gather on the root, parallel HDF5 and Heat.

    python benchmarks/io.py --folder DIR [--ranks 2] [--mib 2048] [--only read] [--heat-python PYTHON]

Groups: read, cold, rows, npy, stream, write, fsync, zip. All contenders but Heat run in the same processes, in turn,
for three rounds; Heat runs in its own environment right after. Times are the best round, each from a barrier until the
last rank is done. "h5py" reads on every rank what ours reads there, into fresh memory. Warm: the file is in the page
cache. Cold: the cache is told to drop it before every round (``posix_fadvise``). Only the group fsync forces data to
the disk, for every contender; in the group write no contender does (ours is told not to), in zip likewise. Stream: a
cold file in blocks of 32 MiB, each multiplied by a matrix; beside it reading alone, computing alone, and one after the
other.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
from mpi4py import MPI

COLUMNS = 128
ROUNDS = 3
GROUPS = ["read", "cold", "rows", "npy", "stream", "write", "fsync", "zip"]
WORLD = MPI.COMM_WORLD


def bounds(extent: int) -> tuple[int, int]:
    """This rank's range of an axis dealt evenly."""
    return extent * WORLD.rank // WORLD.size, extent * (WORLD.rank + 1) // WORLD.size


def measure(
    cases: dict[str, Callable[[], object]], before: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Best time of each case over the rounds, cases in turn."""
    best = dict.fromkeys(cases, float("inf"))
    for _ in range(ROUNDS):
        for name, run in cases.items():
            WORLD.Barrier()
            if WORLD.rank == 0:
                before()
            WORLD.Barrier()
            start = time.perf_counter()
            kept = run()
            WORLD.Barrier()
            best[name] = min(best[name], time.perf_counter() - start)
            del kept
    return best


# ---------------------------------------------------------------------------------------------- by hand with h5py


def read_plain(path: str, key: tuple) -> np.ndarray:
    """Read one rank's part with h5py."""
    with h5py.File(path) as file:
        data = file["x"]
        out = np.empty(tuple(len(range(*s.indices(n))) for s, n in zip(key, data.shape)), data.dtype)
        data.read_direct(out, key)
        return out


def read_fancy(path: str, rows: np.ndarray) -> np.ndarray:
    """Read listed rows with h5py."""
    with h5py.File(path) as file:
        return file["x"][rows]


def sync(path: str, wanted: bool) -> None:
    """Force a file to the disk."""
    if wanted:
        with open(path, "rb+") as file:
            os.fsync(file.fileno())


def write_ring(path: str, local: np.ndarray, shape: tuple, key: tuple, options: dict, force: bool) -> None:
    """Ranks write in turn, each opening the file."""
    for rank in range(WORLD.size):
        if WORLD.rank == rank:
            with h5py.File(path, "a" if rank else "w") as file:
                data = file["x"] if rank else file.create_dataset("x", shape, "f4", **options)
                data.write_direct(local, dest_sel=key)
            sync(path, force)
        WORLD.Barrier()


def write_gather(path: str, local: np.ndarray, shape: tuple, options: dict, force: bool) -> None:
    """The root gathers everything (rows only) and writes it."""
    whole = np.empty(shape, "f4") if WORLD.rank == 0 else None
    counts = WORLD.gather(local.size)
    WORLD.Gatherv([local, local.size, MPI.FLOAT], [whole, counts, MPI.FLOAT] if WORLD.rank == 0 else None)
    if WORLD.rank == 0:
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=whole, **options)
        sync(path, force)
    WORLD.Barrier()


def write_mpio(path: str, local: np.ndarray, shape: tuple, key: tuple, options: dict, force: bool) -> None:
    """Parallel HDF5, collective."""
    with h5py.File(path, "w", driver="mpio", comm=WORLD) as file:
        data = file.create_dataset("x", shape, "f4", **options)
        with data.collective:
            data[key] = local
    if WORLD.rank == 0:
        sync(path, force)
    WORLD.Barrier()


# ---------------------------------------------------------------------------------------------- groups


def make_file(path: str, shape: tuple) -> None:
    """Let the root write the file to be read."""
    if WORLD.rank == 0 and not os.path.exists(path):
        rng = np.random.default_rng(0)
        block = rng.standard_normal((8192, COLUMNS), dtype="f4")
        with h5py.File(path, "w") as file:
            data = file.create_dataset("x", shape, "f4")
            for row in range(0, shape[0], 8192):
                data[row : row + 8192] = block[: shape[0] - row]
        sync(path, True)
    WORLD.Barrier()


def read_cases(lib: object, path: str, shape: tuple, is_ours: bool) -> dict[str, Callable[[], object]]:
    """Whole file by rows and by columns; a slice of an eighth of the rows."""
    (a, b), (c, d) = bounds(shape[0]), bounds(shape[1])
    low, eighth = shape[0] // 2, shape[0] // 8
    e, f = bounds(eighth)
    name = "ours" if is_ours else "Heat"
    part = (
        {"slices": slice(low, low + eighth)}
        if is_ours
        else {"slices": (slice(low, low + eighth), slice(None))}
    )
    cases = {
        f"split 0: {name}": lambda: lib.load_hdf5(path, "x", dtype=lib.float32, split=0),
        f"split 1: {name}": lambda: lib.load_hdf5(path, "x", dtype=lib.float32, split=1),
        f"an eighth: {name}": lambda: lib.load_hdf5(path, "x", dtype=lib.float32, split=0, **part),
    }
    if is_ours:
        cases |= {
            "split 0: h5py": lambda: read_plain(path, (slice(a, b), slice(None))),
            "split 1: h5py": lambda: read_plain(path, (slice(None), slice(c, d))),
            "an eighth: h5py": lambda: read_plain(path, (slice(low + e, low + f), slice(None))),
        }
    return dict(sorted(cases.items()))


def row_cases(lib: object, path: str, shape: tuple, folder: str) -> dict[str, Callable[[], object]]:
    """One row in a hundred."""
    rows = np.sort(np.random.default_rng(1).choice(shape[0], shape[0] // 100, replace=False))
    a, b = bounds(len(rows))
    return {
        "1 % of rows: ours": lambda: lib.load_hdf5(path, "x", split=0, slices=rows),
        "1 % of rows: h5py": lambda: read_fancy(path, rows[a:b]),
    }


def npy_cases(lib: object, folder: str, shape: tuple) -> dict[str, Callable[[], object]]:
    """A whole .npy file, or this rank's rows of it, beside NumPy's own reading into fresh memory."""
    path = str(Path(folder, "in.npy"))
    if WORLD.rank == 0 and not os.path.exists(path):
        np.save(path, np.random.default_rng(0).standard_normal(shape, dtype="f4"))
    WORLD.Barrier()
    a, b = bounds(shape[0])

    def read_part() -> np.ndarray:
        with open(path, "rb") as file:
            file.seek(128 + a * shape[1] * 4)
            return np.fromfile(file, "f4", (b - a) * shape[1])

    return {
        "npy whole: numpy.load": lambda: np.load(path),
        "npy whole: ours": lambda: lib.load_npy(path),
        "npy split 0: numpy.fromfile": read_part,
        "npy split 0: ours": lambda: lib.load_npy(path, split=0),
    }


def stream_cases(lib: object, path: str, shape: tuple) -> dict[str, Callable[[], object]]:
    """A pass over the file in blocks, and what it is made of."""
    rows = 65536
    weights = lib.ones((shape[1], 512), dtype=lib.float32).larray
    kept = lib.load_hdf5(path, "x", split=0, slices=slice(rows))

    def compute(block: object) -> float:
        return (block.larray @ weights).sum()

    def one_after_the_other() -> None:
        for low in range(0, shape[0], rows):
            compute(lib.load_hdf5(path, "x", split=0, slices=slice(low, min(low + rows, shape[0]))))

    return {
        "stream: ours": lambda: sum(map(compute, lib.stream(path, "x", rows))),
        "stream: reading alone": lambda: sum(block.shape[0] for block in lib.stream(path, "x", rows)),
        "stream: computing alone": lambda: sum(compute(kept) for _ in range(0, shape[0], rows)),
        "stream: one after the other": one_after_the_other,
    }


def write_cases(
    lib: object, folder: str, shape: tuple, is_ours: bool, options: dict, force: bool
) -> dict[str, Callable[[], object]]:
    """Save by rows and by columns."""
    out = str(Path(folder, "out.h5"))
    x = {
        split: lib.ones(shape, dtype=lib.float32, split=split) for split in ((0, 1) if not options else (0,))
    }
    if options:  # something that compresses like measured data
        rng = np.random.default_rng(WORLD.rank)
        x[0].larray[:] = lib.array(np.round(rng.normal(size=x[0].lshape), 2), dtype=lib.float32).larray
    cases = {}
    for split, array in x.items():
        where = [slice(None), slice(None)]
        where[split] = slice(*bounds(shape[split]))
        key, local = tuple(where), array.larray.numpy()
        mine = {"compression": options["compression_opts"], "chunks": options["chunks"]} if options else {}
        if not is_ours:
            cases[f"split {split}: Heat"] = lambda a=array: lib.save_hdf5(a, out, "x", **options)
            continue
        cases[f"split {split}: ours"] = lambda a=array, m=mine: lib.save_hdf5(
            a, out, "x", engine="posix", **m
        )
        cases[f"split {split}: token ring"] = lambda v=local, k=key: write_ring(
            out, v, shape, k, options, force
        )
        if split == 0:
            cases["split 0: gather"] = lambda v=local: write_gather(out, v, shape, options, force)
        if h5py.get_config().mpi:
            cases[f"split {split}: parallel HDF5"] = lambda v=local, k=key: write_mpio(
                out, v, shape, k, options, force
            )
    return cases


def work(args: argparse.Namespace) -> None:
    """Measure one group; the root prints the times as JSON."""
    is_ours = args.worker == "ours"
    lib = __import__("ht_meta" if is_ours else "heat")
    shape = (args.mib * (1 << 20) // (4 * COLUMNS), COLUMNS)
    path = str(Path(args.folder, f"in{args.mib}.h5"))
    if args.group in ("read", "cold", "rows", "stream"):
        make_file(path, shape)
    if args.group == "rows":
        cases = row_cases(lib, path, shape, args.folder)
    elif args.group == "npy":
        cases = npy_cases(lib, args.folder, shape)
    elif args.group == "stream":
        cases = stream_cases(lib, path, shape)
    elif args.group in ("read", "cold"):
        cases = read_cases(lib, path, shape, is_ours)
    else:
        force = args.group == "fsync"
        if not force:
            os.fsync = lambda handle: None
        zipped = {"chunks": (2048, COLUMNS), "compression": "gzip", "compression_opts": 1, "shuffle": True}
        cases = write_cases(lib, args.folder, shape, is_ours, zipped if args.group == "zip" else {}, force)

    def before() -> None:
        if args.group in ("cold", "stream"):
            with open(path, "rb") as file:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(Path(args.folder, "out.h5"))

    found = measure(cases, before)
    if WORLD.rank == 0:
        print(json.dumps(found), flush=True)


# ---------------------------------------------------------------------------------------------- driver


def start(worker: str, python: str, group: str, ranks: int, args: argparse.Namespace) -> dict[str, float]:
    """Run one worker and return its times."""
    command = [
        str(Path(python).parent / "mpiexec"),
        "-n",
        str(ranks),
        python,
        __file__,
        "--folder",
        args.folder,
    ]
    command += ["--worker", worker, "--group", group, "--mib", str(args.mib)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    if worker == "heat":
        from harness import _torchvision_stand_in

        stand_in = Path(args.folder, "stand-in")
        if not stand_in.exists():
            stand_in.mkdir()
            _torchvision_stand_in(stand_in)
        environment["PYTHONPATH"] = str(stand_in)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    """Run the groups and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", required=True)
    parser.add_argument("--ranks", type=int, nargs="+", default=[2])
    parser.add_argument("--mib", type=int, default=2048)
    parser.add_argument("--only", nargs="+", default=GROUPS)
    parser.add_argument("--heat-python")
    parser.add_argument("--worker")
    parser.add_argument("--group")
    args = parser.parse_args()
    if args.worker:
        work(args)
        return
    print(
        f"{args.mib} MiB of float32, {COLUMNS} columns, in {args.folder}\n\n| group, ranks | case | s | / ours |"
    )
    print("|---|---|---|---|")
    for group in args.only:
        for ranks in args.ranks:
            found = start("ours", sys.executable, group, ranks, args)
            if args.heat_python and group not in ("rows", "npy", "stream"):
                found |= start("heat", args.heat_python, group, ranks, args)
            for name, seconds in sorted(found.items()):
                ratio = seconds / found[f"{name.split(':')[0]}: ours"]
                print(f"| {group}, {ranks} | {name} | {seconds:.3f} | {ratio:.2f} |", flush=True)


if __name__ == "__main__":
    main()
