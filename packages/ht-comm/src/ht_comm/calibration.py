"""Sizes measured on this machine: `python -m ht_comm calibrate` writes them, the world communicator takes them.

The file is JSON, with an entry for each MPI library, since their thresholds differ. Rank 0 reads it and tells the
others, so that ranks on nodes with other files, or none, agree. What the environment or the program sets comes first.
"""

import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from . import config
from .communicator import Communicator
from .redistribute import Plan, plan_redistribution

CHUNKS = tuple(2**n for n in range(20, 26))
LENGTHS = tuple(2**n for n in range(18, 25))
RUNS = tuple(2**n for n in range(9, 15))
_LONG = 2**25  # bytes per rank of the exchanges that are timed: out of the caches
_NEVER = 2**62


def path() -> Path:
    """Return where the file is: ``HT_COMM_CALIBRATION``, else ``ht_comm/calibration.json`` in the user's settings."""
    named = os.environ.get("HT_COMM_CALIBRATION")
    if named:
        return Path(named)
    settings = os.environ.get("XDG_CONFIG_HOME")
    return (Path(settings) if settings else Path.home() / ".config") / "ht_comm" / "calibration.json"


def library_of(comm: Communicator) -> str:
    """Return the name of the transport as it stands in the file, such as ``MPICH 5.0.2``."""
    if comm.handle is None:
        return type(comm).__name__
    from mpi4py import MPI

    name, version = MPI.get_vendor()
    return f"{name} {'.'.join(map(str, version))}"


def read_file() -> dict[str, dict[str, Any]]:
    """Return the entries of the file, by library; none where there is no file. One that is damaged is a warning."""
    try:
        found = json.loads(path().read_text())
        entries = found["libraries"]
        for entry in entries.values():
            for name in config.MEASURED:
                if not (isinstance(entry.get(name, 1), int) and entry.get(name, 1) > 0):
                    raise ValueError(f"{name} must be a positive number of bytes, got {entry[name]!r}")
    except (FileNotFoundError, NotADirectoryError, RuntimeError):  # RuntimeError: no home directory
        return {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        warnings.warn(
            f"calibration: {path()} must be a file of `python -m ht_comm calibrate`, got "
            f"{type(error).__name__}: {error}; make it anew or remove it",
            stacklevel=2,
        )
        return {}
    return entries


def write_file(library: str, entry: dict[str, Any]) -> Path:
    """Add or replace one entry; a reader sees the old file or the new one, never a part."""
    target = path()
    target.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a damaged file is replaced
        entries = {**read_file(), library: entry}
    text = json.dumps({"version": 1, "libraries": entries}, indent=1, sort_keys=True)
    with tempfile.NamedTemporaryFile("w", dir=target.parent, prefix=target.name, delete=False) as draft:
        draft.write(f"{text}\n")
    try:
        os.replace(draft.name, target)
    except OSError:
        os.unlink(draft.name)
        raise
    return target


def adopt(comm: Communicator) -> None:
    """Take the sizes of rank 0's file on all ranks. Collective: one small broadcast."""
    sizes = read_file().get(library_of(comm), {}) if comm.rank == 0 else None
    config.adopt(comm._bcast_pickled(sizes, 0))  # not a call of the program: neither logged nor counted


# ----- measuring


def measure(comm: Communicator, tell: Callable[[str], Any] = lambda line: None) -> dict[str, Any]:
    """Measure the links between the ranks and the sizes that suit them. Collective; takes some seconds.

    Parameters
    ----------
    comm : Communicator
        At least two ranks; those of one node say nothing about a network.
    tell : callable
        Is given a line of text for each figure.

    Returns
    -------
    dict
        ``latency_us`` and ``bandwidth_gbs`` of a message between ranks 0 and ``size - 1``, ``allreduce_us`` of 8
        bytes, and the sizes in `config.MEASURED`; the same on all ranks.
    """
    if comm.size < 2:
        raise ValueError(
            "calibrate: there must be at least two ranks, got 1; run mpiexec -n 2 python -m ht_comm calibrate"
        )
    before = {name: getattr(config, name) for name in (*config.MEASURED, "cma")}
    try:
        found = {**_measure_messages(comm), **_measure_sizes(comm)}
    finally:
        for name, value in before.items():
            setattr(config, name, value)
    for name, value in found.items():
        tell(f"{name:<15} {value}")
    return found


def _measure_messages(comm: Communicator) -> dict[str, Any]:
    other = comm.size - 1

    def ping_pong(x: np.ndarray) -> None:
        if comm.rank == 0:
            comm.send(x, other)
            comm.recv(x, other)
        elif comm.rank == other:
            comm.recv(x, 0)
            comm.send(x, 0)

    short, long, one = np.zeros(1), np.zeros(2**20), np.zeros(1)
    return {
        "latency_us": round(_seconds(comm, lambda: ping_pong(short), 200) / 2 * 1e6, 2),
        "bandwidth_gbs": round(2 * long.nbytes / _seconds(comm, lambda: ping_pong(long), 20) / 1e9, 2),
        "allreduce_us": round(_seconds(comm, lambda: comm.allreduce(one, out=one), 200) * 1e6, 2),
    }


def _measure_sizes(comm: Communicator) -> dict[str, int]:
    config.cma = "0"
    times = {}
    for chunk in CHUNKS:
        config.chunk_bytes = chunk
        times[chunk] = _seconds(comm, _resplit(comm, _LONG, 2**15), 5)
    # Of those about as fast as the fastest the smallest: it takes the least scratch.
    chunk = min(size for size in times if times[size] <= 1.05 * min(times.values()))
    config.chunk_bytes, config.read_bytes, config.cma = chunk, 1, "auto"
    if comm._find_peers() is None:
        return {"chunk_bytes": chunk}
    config.read_run_bytes = 1
    run = _find_crossing(comm, RUNS, lambda length: _resplit(comm, _LONG, length))
    config.read_run_bytes = 1
    length = _find_crossing(comm, LENGTHS, lambda nbytes: _resplit(comm, nbytes, 2**15))
    return {"chunk_bytes": chunk, "read_bytes": length, "read_run_bytes": run}


def _find_crossing(comm: Communicator, sizes: tuple[int, ...], make: Callable[[int], Callable]) -> int:
    """Return the size from which on reading is faster than messages; one beyond all others if it never is."""
    crossing = _NEVER
    for size in reversed(sizes):
        action = make(size)
        seconds: dict[str, list[float]] = {"auto": [], "0": []}
        for way in ("auto", "0") * 3:
            config.cma = way
            seconds[way].append(_seconds(comm, action, 3))
        # A tie goes to reading, which takes no scratch.
        if min(seconds["auto"]) > 1.05 * min(seconds["0"]):
            break
        crossing = size
    config.cma = "auto"
    return crossing


def _resplit(comm: Communicator, nbytes: int, run: int) -> Callable[[], Any]:
    """Return an action that moves `nbytes` per rank to other ranks, from runs of memory of a length."""
    p = comm.size
    rows = max(nbytes * p // (p - 1) // (p * run), 1)
    plan = _plan_columns(rows * p, run // 8, p)
    x, out = np.ones((rows, p * run // 8)), np.ones((rows * p, run // 8))
    return lambda: comm.redistribute(x, plan, out=out)


def _plan_columns(rows: int, columns: int, p: int) -> Plan:
    """Plan the way from blocks of rows to blocks of `columns` columns."""
    marks = range(0, rows + 1, rows // p)
    src = tuple(((a, b), (0, columns * p)) for a, b in pairwise(marks))
    dst = tuple(((0, rows), (r * columns, (r + 1) * columns)) for r in range(p))
    return plan_redistribution(src, dst)


def _seconds(comm: Communicator, action: Callable[[], Any], repeat: int) -> float:
    """Return the median of the times of the slowest rank, the same on all ranks."""
    times = []
    for _ in range(repeat + 2):
        comm.barrier()
        start = time.perf_counter()
        action()
        times.append(time.perf_counter() - start)
    return statistics.median(comm.allreduce(np.array(times[2:]), "max").tolist())
