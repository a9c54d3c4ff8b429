"""Run the same operations in this stack, in Heat and in one-process libraries, side by side.

A benchmark script lists `Case` objects and calls `main(CASES, __file__)`. The driver (one plain process)
starts the script again as a *worker*, once per contender and round, in turn, so that a slow minute of the
machine hits all of them:

=========  =========================================================  =======================
contender  started as                                                 threads
=========  =========================================================  =======================
ours       ``mpiexec -n 2`` with this Python                          1 per rank
ours-1     one process, this Python                                   1
heat       ``mpiexec -n 2`` with ``--heat-python`` (if given)         1 per rank
dask       one process, ``--dask-python`` (if given), two workers     1 per worker
peers      one process, this Python: scikit-learn, NumPy, torch       2
=========  =========================================================  =======================

The time of a case is the median over rounds of the medians over repetitions; a ratio of two contenders is the median
over rounds of the ratios of one round. This module must import with NumPy alone: the Heat environment holds nothing of
ours.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RANKS = 2
PEER_THREADS = 2
#: Name under which the speed of the machine stands among the results.
MACHINE = "machine"
TIMEOUT = 900.0

Run = Callable[[], Any]
#: One round: {case: {contender: seconds}}.
Round = dict[str, dict[str, float]]


@dataclass(frozen=True)
class Difference:
    """Time of one step: (time of `long` - time of `short`) / `steps`, for steps that cannot run alone."""

    long: Run
    short: Run
    steps: int


@dataclass(frozen=True)
class Env:
    """What a set-up function gets: the library under test and a folder with the prepared files."""

    lib: Any
    data: Path


Setup = Callable[[Env], "Run | Difference"]


@dataclass(frozen=True)
class Case:
    """One operation and how each contender does it.

    Parameters
    ----------
    name, size : text for the table.
    spmd : set-up for ours and Heat where both understand the same code; `ours`, `heat` override it.
    dask : set-up for Dask and dask-ml; its `lib` is ``dask.array``.
    single : set-up for ours on one rank.
    peers : library name -> set-up, in one process.
    heat_target : ours must be at least this many times faster than Heat.
    peer_target : the same for the fastest peer.
    over_us : instead of the two: microseconds that `single` may cost more than the fastest peer.
    prepare : called once with the data folder before anything runs.
    reps : repetitions per round (fewer where they would take longer than a second and a half).
    flops, traffic : float32 operations, and bytes read and written, that nobody can do without. With the speed of a
        float32 matrix product and of a copy, measured in the same run, they give a floor of the time.
    group : rows of one group enter the geometric mean over all groups as one figure.
    """

    name: str
    size: str
    spmd: Setup | None = None
    ours: Setup | None = None
    heat: Setup | None = None
    dask: Setup | None = None
    single: Setup | None = None
    peers: dict[str, Setup] = field(default_factory=dict)
    heat_target: float | None = None
    peer_target: float | None = None
    over_us: float | None = None
    prepare: Callable[[Path], None] | None = None
    reps: int = 15
    flops: float | None = None
    traffic: float | None = None
    group: str = ""

    def setup(self, contender: str) -> dict[str, Setup]:
        """Name in the results -> set-up function, for one contender."""
        if contender == "peers":
            return dict(self.peers)
        chosen = {
            "ours": self.ours or self.spmd,
            "heat": self.heat or self.spmd,
            "ours-1": self.single,
            "dask": self.dask,
        }[contender]
        return {contender: chosen} if chosen is not None else {}


# ---------------------------------------------------------------------------------------------- measuring


def _world() -> Any:
    """COMM_WORLD if this process was started by mpiexec, else None."""
    launched = any(name in os.environ for name in ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK"))
    return importlib.import_module("mpi4py.MPI").COMM_WORLD if launched else None


def _time_once(run: Run, world: Any) -> float:
    """Seconds from a common start until the last rank is done."""
    if world is not None:
        world.Barrier()
    start = time.perf_counter()
    run()
    if world is not None:
        world.Barrier()
    return time.perf_counter() - start


def time_run(run: Run | Difference, world: Any = None, reps: int = 15, budget: float = 1.5) -> float:
    """Median seconds of `run` after a first, uncounted call; the same number of repetitions on every rank."""
    if isinstance(run, Difference):
        _time_once(run.short, world)
        long, short = [], []
        for _ in range(max(3, min(reps, 5))):
            long.append(_time_once(run.long, world))
            short.append(_time_once(run.short, world))
        return max(statistics.median(long) - statistics.median(short), 0.0) / run.steps
    first = _time_once(run, world)
    if world is not None:
        first = world.bcast(first)  # clocks differ: all ranks must choose by the same one
    if first < 1e-3:  # short calls: many per sample, so that the clock and the barrier do not count
        return _time_many(run, 1000 if first < 1e-4 else 100, world)
    count = 1 if first > 2 * budget else max(3, min(reps, int(budget / first)))
    return statistics.median(_time_once(run, world) for _ in range(count))


def _time_many(run: Run, number: int, world: Any) -> float:
    """Median over 7 samples of the mean seconds of `number` calls."""

    def many() -> None:
        for _ in range(number):
            run()

    return statistics.median(_time_once(many, world) for _ in range(7)) / number


def _work(cases: list[Case], contender: str, data: Path, out: Path) -> None:
    """Measure every case for one contender; rank 0 writes {case: {name: seconds}} to `out`."""
    world = _world()
    names = {"heat": "heat", "peers": "numpy", "dask": "dask.array"}
    lib = importlib.import_module(names.get(contender, "ht_meta"))
    if contender == "peers":
        importlib.import_module("torch").set_num_threads(PEER_THREADS)
    if contender == "dask":
        options = {"n_workers": RANKS, "threads_per_worker": 1, "dashboard_address": None}
        importlib.import_module("distributed").Client(**options)
    results: dict[str, dict[str, float]] = {}
    for case in cases:
        for name, setup in case.setup(contender).items():
            try:
                seconds = time_run(setup(Env(lib, data)), world, case.reps)
            except Exception as error:  # one missing operation must not hide the other figures
                print(f"{case.name}: {name}: {error!r}", file=sys.stderr)
                continue
            results.setdefault(case.name, {})[name] = seconds
    if contender == "peers" and any(case.flops or case.traffic for case in cases):
        results[MACHINE] = measure_machine()
    if world is None or world.rank == 0:
        out.write_text(json.dumps(results))


def measure_machine() -> dict[str, float]:
    """Operations and bytes per second of a float32 product and of a copy at their best, with the peers' threads."""
    torch = importlib.import_module("torch")
    x, y, line = torch.ones(1024, 1024), torch.empty(1024, 1024), torch.ones(2**25)
    copied = torch.empty_like(line)
    return {
        "flops": 2 * 1024**3 / min(_time_once(lambda: torch.mm(x, x, out=y), None) for _ in range(30)),
        "traffic": 2 * line.nbytes / min(_time_once(lambda: copied.copy_(line), None) for _ in range(10)),
    }


# ---------------------------------------------------------------------------------------------- driving


def _torchvision_stand_in(folder: Path) -> None:
    """The two names that Heat needs to import where torchvision has no build for this torch."""
    package = folder / "torchvision"
    (package / "transforms").mkdir(parents=True)
    (package / "__init__.py").write_text("from . import datasets, transforms\n")
    (package / "datasets.py").write_text("class MNIST:\n    pass\n")
    (package / "transforms" / "__init__.py").write_text("class Compose:\n    pass\n")


def _command(contender: str, script: str, args: argparse.Namespace) -> list[str]:
    """The command line that starts a worker, without the worker's own options."""
    python = {"heat": args.heat_python, "dask": args.dask_python}.get(contender, sys.executable)
    launch = []
    if contender in ("ours", "heat"):
        beside = Path(python).parent / "mpiexec"
        mpiexec = str(beside) if beside.exists() else shutil.which("mpiexec")
        if mpiexec is None:
            raise SystemExit(f"benchmarks: no mpiexec beside {python} or on PATH; run: pip install mpich")
        launch = [mpiexec, "-n", str(RANKS)]
    return [*launch, python, script, "--worker", contender]


def _start(contender: str, script: str, args: argparse.Namespace, work: Path) -> dict[str, dict[str, float]]:
    """Run one worker to its end and return what it measured; empty (with a message) where it failed."""
    threads = str(PEER_THREADS if contender == "peers" else 1)
    env = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    env["OPENBLAS_NUM_THREADS"] = threads
    if contender == "heat":
        env["PYTHONPATH"] = str(work / "stand-in")
    out = work / f"{contender}.json"
    out.unlink(missing_ok=True)
    command = [
        *_command(contender, script, args),
        "--data",
        str(work / "data"),
        "--out",
        str(out),
    ]
    if args.only:
        command += ["--only", *args.only]
    done = subprocess.run(command, env=env, timeout=TIMEOUT, text=True, capture_output=True)
    if done.returncode or not out.exists():
        print(f"{contender}: failed ({done.returncode})\n{done.stderr[-3000:]}", file=sys.stderr)
        return {}
    if done.stderr.strip():
        print(done.stderr.strip(), file=sys.stderr)
    return json.loads(out.read_text())


def _drive(cases: list[Case], script: str, args: argparse.Namespace) -> list[Round]:
    """All rounds of all contenders."""
    known = ("ours", "heat", "dask", "peers", "ours-1")
    without = {name for name in ("heat", "dask") if not getattr(args, f"{name}_python")}
    contenders = [name for name in known if name not in without and any(c.setup(name) for c in cases)]
    rounds: list[Round] = []
    with tempfile.TemporaryDirectory(prefix="ht-bench-") as folder:
        work = Path(folder)
        (work / "data").mkdir()
        _torchvision_stand_in(work / "stand-in")
        for case in cases:
            if case.prepare is not None:
                case.prepare(work / "data")
        for number in range(args.rounds):
            rounds.append({})
            for contender in contenders:
                print(f"round {number + 1} of {args.rounds}: {contender}", file=sys.stderr)
                for case, figures in _start(contender, script, args, work).items():
                    rounds[-1].setdefault(case, {}).update(figures)
    return rounds


# ---------------------------------------------------------------------------------------------- reporting


def _seconds(value: float | None) -> str:
    """A time with three digits and a unit."""
    if value is None:
        return "–"
    for unit, factor in (("s", 1.0), ("ms", 1e3), ("µs", 1e6)):
        if value * factor >= 1 or unit == "µs":
            return f"{value * factor:.3g} {unit}"
    raise AssertionError("unreachable: every time has a unit")


def times(rounds: list[Round], case: str) -> dict[str, float]:
    """{contender: median of its seconds over rounds} of one case."""
    figures: dict[str, list[float]] = {}
    for one in rounds:
        for name, seconds in one.get(case, {}).items():
            figures.setdefault(name, []).append(seconds)
    return {name: statistics.median(seconds) for name, seconds in figures.items()}


def ratio(rounds: list[Round], case: Case, others: list[str]) -> float | None:
    """Median over rounds of the time of the fastest of `others` over ours in that round; None where there is none."""
    found = []
    for one in rounds:
        figures = one.get(case.name, {})
        ours = figures.get("ours", figures.get("ours-1"))
        best = min((figures[name] for name in others if name in figures), default=None)
        if ours and best is not None:
            found.append(best / ours)
    return statistics.median(found) if found else None


def _verdict(factor: float | None, target: float | None) -> str:
    """'52x (40x: yes)': how many times faster ours is, and whether that reaches the target."""
    if factor is None:
        return "–" if target is None else f"– (target {target:g}x)"
    if target is None:
        return f"{factor:.3g}x"
    return f"{factor:.3g}x (target {target:g}x: {'yes' if factor >= target else '**no**'})"


def floor(case: Case, machine: dict[str, float]) -> float:
    """Seconds below which the machine cannot do a case; 0 where that is not known."""
    return max((getattr(case, name) or 0.0) / speed for name, speed in machine.items()) if machine else 0.0


def means_over_heat(cases: list[Case], rounds: list[Round]) -> str:
    """Lines with the geometric means of Heat's times over ours: of all rows, of each group, of the groups' means."""
    found = [(case.group, factor) for case in cases if (factor := ratio(rounds, case, ["heat"]))]
    if not found:
        return ""
    mean = statistics.geometric_mean
    lines = [f"\nGeometric mean of Heat / ours over {len(found)} rows: {mean(f for _, f in found):.3g}"]
    groups: dict[str, list[float]] = {}
    for group, factor in found:
        groups.setdefault(group, []).append(factor)
    if groups.keys() != {""}:
        of_each = {group: mean(factors) for group, factors in groups.items()}
        text = ", ".join(f"{group or 'others'} {of_each[group]:.3g}" for group in groups)
        lines += [f"\nof {len(groups)} groups: {mean(of_each.values()):.3g} ({text})"]
    return "\n".join(lines)


def means_over_others(cases: list[Case], rounds: list[Round]) -> str:
    """Lines with the geometric mean of the times of Dask and of each peer over ours, and the least."""
    lines = []
    for name in dict.fromkeys(["dask", *(name for case in cases for name in case.peers)]):
        found = [factor for case in cases if (factor := ratio(rounds, case, [name]))]
        if found:
            mean = statistics.geometric_mean(found)
            lines.append(
                f"\nGeometric mean of {name} / ours over {len(found)} rows: {mean:.3g}, least {min(found):.3g}"
            )
    return "\n".join(lines)


def table(cases: list[Case], rounds: list[Round]) -> str:
    """Markdown table of the results: times, ratios, targets."""
    machine = times(rounds, MACHINE)
    has_dask = any("dask" in times(rounds, case.name) for case in cases)
    lines = [
        f"| operation | ours, {RANKS} ranks x 1 thread | Heat, the same | best of one process x "
        f"{PEER_THREADS} threads | Heat / ours | best / ours |{' ours / floor |' if machine else ''}"
        f"{' Dask, 2 workers | Dask / ours |' if has_dask else ''}",
        f"|---|---|---|---|---|---|{'---|' * bool(machine)}{'---|---|' * has_dask}",
    ]
    for case in cases:
        figures = times(rounds, case.name)
        ours, heat = figures.get("ours", figures.get("ours-1")), figures.get("heat")
        peers = {name: figures[name] for name in case.peers if name in figures}
        best = min(peers, key=peers.get, default=None)
        best_time = peers.get(best)
        against = _verdict(ratio(rounds, case, list(peers)), case.peer_target)
        if case.over_us is not None and ours is not None and best_time is not None:
            over = (ours - best_time) * 1e6
            verdict = "yes" if over <= case.over_us else "**no**"
            against = f"+{over:.3g} µs (target +{case.over_us:g} µs: {verdict})"
        title = f"{case.name} ({case.size}){'' if case.single is None else ' on one rank'}"
        lines.append(
            f"| {title} | {_seconds(ours)} "
            f"| {_seconds(heat)} | {_seconds(best_time)}{f' {best}' if best else ''} "
            f"| {_verdict(ratio(rounds, case, ['heat']), case.heat_target)} | {against} |"
        )
        if machine:
            least = floor(case, machine)
            lines[-1] += f" {ours / least:.3g} |" if ours and least else " – |"
        if has_dask:
            lines[-1] += (
                f" {_seconds(figures.get('dask'))} | {_verdict(ratio(rounds, case, ['dask']), None)} |"
            )
    return "\n".join(lines)


def _arguments(script: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog=Path(script).name, description=__doc__.split("\n")[0])
    parser.add_argument("--heat-python", help="Python of an environment that holds Heat and an MPI")
    parser.add_argument("--dask-python", help="Python of an environment that holds dask-ml and distributed")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of all contenders (3)")
    parser.add_argument(
        "--only", nargs="+", metavar="NAME", help="only cases whose name contains one of these"
    )
    parser.add_argument(
        "--json", type=Path, help="write the seconds to this file, after the rounds that it holds already"
    )
    parser.add_argument(
        "--worker", choices=["ours", "ours-1", "heat", "dask", "peers"], help=argparse.SUPPRESS
    )
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main(cases: list[Case], script: str) -> None:
    """Entry point of a benchmark script, as driver and as worker."""
    args = _arguments(script)
    if args.only:
        cases = [case for case in cases if any(word in case.name for word in args.only)]
    if args.worker:
        _work(cases, args.worker, args.data, args.out)
        return
    rounds = json.loads(args.json.read_text()) if args.json and args.json.exists() else []
    rounds += _drive(cases, script, args)
    if args.json:
        args.json.write_text(json.dumps(rounds, indent=1))
    print(table(cases, rounds))
    print(means_over_heat(cases, rounds) + means_over_others(cases, rounds))
