"""Predict weak and strong scaling: python benchmarks/cost_model.py [--constants FILE] [--plot FILE].

The time of an operation on p ranks is a sum of three kinds of terms: work (seconds per unit, and a fixed part, measured
at one rank), messages (alpha seconds each) and bytes (beta seconds each). Counts of messages and bytes are closed forms
in p, which :func:`check_counts` holds against ``comm.trace()`` at 2 to 16 ranks of a `ThreadComm` before anything is
predicted. Without ``--constants`` the constants are measured: alpha and beta by ``ht_comm.calibration``, the work at
one rank, and the times at 1, 2 and 4 ranks the model is checked with.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

COLUMNS, CLUSTERS, FEATURES = 64, 16, 32
#: An interconnect as clusters have it, assumed: seconds per message, bytes per second of one rank.
NETWORK = {"alpha": 2e-6, "beta": 1 / 12e9}
RANKS = [4**i for i in range(7)]
MEASURED = Path(__file__).with_name("cost_model.json")
Messages = list[tuple[str, int]]


@dataclass(frozen=True)
class Operation:
    """An operation of one `size`: what it sends, how much work a rank has, how it is run.

    `messages` are the calls with the bytes of the rank that sends most; `weak` is the size at which p ranks have as
    much work each as one has at `size`; `fit` are two sizes measured at one rank, the larger of which is also the
    check; `strong` and `size` are those of the plot.
    """

    name: str
    messages: Callable[[int, int], Messages]
    work: Callable[[int, int], float]
    weak: Callable[[int, int], int]
    setup: Callable[[Any, int], Callable[[], Any]]
    fit: tuple[int, int]
    size: int
    strong: int


# ----- the operations


def _matrix(ht: Any, rows: int, columns: int) -> Any:
    return ht.random.randn(rows, columns, split=0, dtype=ht.float32)


def _low_rank(ht: Any, rows: int) -> Any:
    """Strong directions in a little noise, so that a few singular vectors are kept."""
    left = _matrix(ht, rows, COLUMNS // 4)
    right = ht.random.randn(COLUMNS // 4, COLUMNS, dtype=ht.float32)
    return left @ right + 0.01 * _matrix(ht, rows, COLUMNS)


def _kmeans(ht: Any, rows: int, iterations: int) -> Callable[[], Any]:
    x = _matrix(ht, rows, FEATURES)
    centres = ht.random.randn(CLUSTERS, FEATURES, dtype=ht.float32)
    return lambda: ht.cluster.KMeans(CLUSTERS, init=centres, max_iter=iterations, tol=0.0).fit(x)


def _resplit(ht: Any, side: int) -> Callable[[], Any]:
    x = _matrix(ht, side, side)
    return x.copy if x.comm.size == 1 else lambda: x.resplit(1)  # at one rank: the result's memory is touched


def _product(ht: Any, side: int) -> Callable[[], Any]:
    a, b = _matrix(ht, side, side), _matrix(ht, side, side)
    return lambda: ht.matmul(a, b)


def _qr(ht: Any, rows: int) -> Callable[[], Any]:
    x = _matrix(ht, rows, COLUMNS)
    return lambda: ht.linalg.qr(x)


def _hsvd(ht: Any, rows: int) -> Callable[[], Any]:
    x = _low_rank(ht, rows)
    return lambda: ht.linalg.hsvd_rtol(x, 0.05, compute_sv=True)


def _per_rank(n: int, p: int) -> int:
    return -(-n // p)


GRAM, SIDE = 8 * COLUMNS**2, 8 * COLUMNS
OPERATIONS = [
    Operation(
        "matmul, splits 0 and 0",
        lambda n, p: [("isend", 4 * n * _per_rank(n, p))] * (p - 1),
        lambda n, p: n**3 / p,
        lambda n, p: round(n * p ** (1 / 3)),
        _product,
        (800, 1600),
        4000,
        40_000,
    ),
    Operation(
        "QR, 64 columns",
        lambda n, p: [("reduce", GRAM), ("bcast", GRAM + 8)] * 2,
        _per_rank,
        lambda n, p: n * p,
        _qr,
        (50_000, 200_000),
        10**6,
        10**8,
    ),
    Operation(
        "hSVD, 64 columns",
        lambda n, p: [("reduce", GRAM), ("bcast", GRAM + SIDE + 24)],
        _per_rank,
        lambda n, p: n * p,
        _hsvd,
        (50_000, 200_000),
        10**6,
        10**8,
    ),
    Operation(
        "resplit 0 to 1",
        lambda n, p: [("redistribute", 4 * _per_rank(n, p) * (n - n // p))],
        lambda n, p: n * n / p,
        lambda n, p: round(n * p**0.5),
        _resplit,
        (1000, 4000),
        8192,
        131_072,
    ),
    Operation(
        "k-means, an iteration",
        lambda n, p: [("allreduce", 8 * (CLUSTERS * (FEATURES + 1) + 1))],
        _per_rank,
        lambda n, p: n * p,
        lambda ht, rows: _kmeans(ht, rows, 20),
        (50_000, 200_000),
        10**6,
        10**8,
    ),
]
#: The iterations of the k-means that is timed, and the allreduces before and after them.
STEPS = {"k-means, an iteration": 20}


# ----- the model


def price(op: str, nbytes: int, p: int, alpha: float, beta: float) -> float:
    """Seconds of one call: trees of log2 p steps, or, for long ones, a scatter and a gather around it."""
    steps = math.ceil(math.log2(p))
    if op == "isend":
        return alpha + nbytes * beta
    if op == "redistribute":
        return (p - 1) * alpha + nbytes * beta
    return min(steps * (alpha + nbytes * beta), 2 * steps * alpha + 2 * nbytes * beta)


def predict(op: Operation, size: int, p: int, constants: dict[str, Any], cores: int | None = None) -> float:
    """Seconds on p ranks; with `cores`, of ranks that share so many (messages within a node are their work, too)."""
    fixed, rate = constants["work"][op.name]
    seconds = fixed + rate * op.work(size, p)
    if p > 1:
        link = constants["alpha"], constants["beta"]
        seconds += sum(price(name, nbytes, p, *link) for name, nbytes in op.messages(size, p))
    return seconds * max(1.0, p / cores) if cores else seconds


def check_counts() -> None:
    """Hold the closed forms against the trace at 2 to 16 ranks.

    Raises
    ------
    ValueError
        If an operation sends anything else.
    """
    import ht_meta as ht
    from ht_comm import spmd

    def sizes(op: Operation) -> int:
        return 840 if "matmul" in op.name else 240 if "resplit" in op.name else 4000

    def run(comm: Any, op: Operation) -> list[tuple[str, int]]:
        call = op.setup(ht, sizes(op))
        with comm.trace() as sent:
            call()
        events = [(event.op, event.bytes) for event in sent.events if event.op != "irecv"]
        return events[2 : 2 + STEPS[op.name]] if op.name in STEPS else events

    for op in OPERATIONS:
        for p in range(2, 17):
            found = spmd(p, run, op)
            most = [(calls[0][0], max(nbytes for _, nbytes in calls)) for calls in zip(*found)]
            expected = op.messages(sizes(op), p) * STEPS.get(op.name, 1)
            names = [name for name, _ in most] == [name for name, _ in expected]
            if not names or any(abs(x - y) > 0.1 * y for (_, x), (_, y) in zip(most, expected)):
                raise ValueError(f"{op.name}, {p} ranks: must send {expected}, got {most}")


# ----- measuring


def _time(ht: Any, op: Operation, size: int) -> float:
    """Median seconds until the last rank is done."""
    call, comm, times = op.setup(ht, size), ht.get_comm(), []
    for _ in range(7):
        comm.barrier()
        start = time.perf_counter()
        call()
        comm.barrier()
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:]) / STEPS.get(op.name, 1)


def _work(out: Path) -> None:
    """Measure on the ranks that run this; rank 0 writes what it found."""
    import ht_meta as ht
    from ht_comm import calibration

    comm = ht.get_comm()
    found: dict[str, Any] = {"times": {op.name: [_time(ht, op, n) for n in op.fit] for op in OPERATIONS}}
    if comm.size == 2:
        link = calibration.measure(comm)
        found |= {"alpha": link["latency_us"] * 1e-6, "beta": 1e-9 / link["bandwidth_gbs"]}
    if comm.rank == 0:
        out.write_text(json.dumps(found))


def measure(target: Path) -> dict[str, Any]:
    """Run at 1, 2 and 4 ranks; write constants and times to `target`."""
    found = {}
    environment = {
        **os.environ,
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    }
    for p in (1, 2, 4):
        part = target.with_suffix(f".{p}.json")
        launch = [shutil.which("mpiexec") or "mpiexec", "-n", str(p)] if p > 1 else []
        subprocess.run(
            [*launch, sys.executable, __file__, "--worker", str(part)], check=True, env=environment
        )
        found[p] = json.loads(part.read_text())
        part.unlink()
    work = {}
    for op in OPERATIONS:
        (short, long), (least, most) = found[1]["times"][op.name], (op.work(n, 1) for n in op.fit)
        rate = (long - short) / (most - least)
        work[op.name] = max(0.0, short - rate * least), rate
    constants = {
        "alpha": found[2]["alpha"],
        "beta": found[2]["beta"],
        "cores": os.cpu_count(),
        "work": work,
        "times": {str(p): found[p]["times"] for p in found},
    }
    target.write_text(json.dumps(constants, indent=1) + "\n")
    return constants


# ----- reporting


def table(constants: dict[str, Any]) -> str:
    """Markdown: predicted and measured milliseconds at 1, 2 and 4 ranks of this machine."""
    lines = ["| operation | size | p = 1 | p = 2 | p = 4 |", "|---|---|---|---|---|"]
    for op in OPERATIONS:
        cells = []
        for p in (1, 2, 4):
            model = predict(op, op.fit[1], p, constants, constants["cores"])
            seen = constants["times"][str(p)][op.name][1]
            cells.append(f"{model * 1e3:.3g} / {seen * 1e3:.3g} ms ({seen / model:.2f})")
        lines.append(f"| {op.name} | {op.fit[1]:,} | {' | '.join(cells)} |")
    return "\n".join(lines)


def efficiencies(op: Operation, constants: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Weak and strong efficiency at `RANKS`."""
    alone = predict(op, op.size, 1, constants)
    weak = [alone / predict(op, op.weak(op.size, p), p, constants) for p in RANKS]
    whole = predict(op, op.strong, 1, constants)
    return weak, [whole / p / predict(op, op.strong, p, constants) for p in RANKS]


def plot(constants: dict[str, Any], target: Path) -> None:
    """Draw efficiencies: solid with the measured link, dashed with the assumed network."""
    import matplotlib

    matplotlib.use("svg")
    import matplotlib.pyplot as plt

    plt.rcParams |= {"svg.hashsalt": "cost model", "svg.fonttype": "none"}
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.8), sharey=True)
    for number, op in enumerate(OPERATIONS):
        for link, style in ((constants, "-"), ({**constants, **NETWORK}, "--")):
            for axis, values in zip(axes, efficiencies(op, link)):
                label = op.name if style == "-" else None
                axis.plot(RANKS, values, style, color=f"C{number}", marker=".", label=label)
    for axis, title in zip(axes, ("weak scaling: equal work per rank", "strong scaling: one large problem")):
        axis.set(xscale="log", title=title, xlabel="ranks", ylim=(0, 1.05))
        axis.set_xticks(RANKS, [str(p) for p in RANKS])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("predicted efficiency")
    axes[0].legend(fontsize=8, loc="lower left")
    figure.tight_layout()
    figure.savefig(target, metadata={"Date": None})


def main() -> None:
    """Check the counts, measure or read the constants, print the table, draw the plot."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--constants", type=Path, help="a file this script has written, instead of measuring")
    parser.add_argument("--plot", type=Path, help="where the plot is written (SVG)")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        _work(args.worker)
        return
    check_counts()
    constants = json.loads(args.constants.read_text()) if args.constants else measure(MEASURED)
    print(
        f"alpha {constants['alpha'] * 1e6:.2f} us, 1 / beta {1e-9 / constants['beta']:.2f} GB/s\n\n{table(constants)}"
    )
    names = ", ".join(str(p) for p in RANKS)
    for title, index in (("weak", 0), ("strong", 1)):
        print(f"\n{title} efficiency at {names} ranks; with the assumed network")
        for op in OPERATIONS:
            for link in (constants, {**constants, **NETWORK}):
                print(f"{op.name:24}", *(f"{x:5.2f}" for x in efficiencies(op, link)[index]))
    if args.plot:
        plot(constants, args.plot)


if __name__ == "__main__":
    main()
