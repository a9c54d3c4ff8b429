"""Mutation check: break an engine on purpose, one line at a time, and see whether its tests notice.

Run ``python tools/mutate.py`` (all engines) or ``python tools/mutate.py reduction scan``. Each mutation is applied to a
copy of the sources; the tests run against the copy and must fail. The exit status is the number of survivors.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "ht_core"


@dataclass(frozen=True)
class Mutation:
    """Replace `old`, which must occur in `file`, by `new`."""

    name: str
    file: str
    old: str
    new: str


#: Engine -> (its fast tests, mutations). A new engine is a new row.
ENGINES: dict[str, tuple[list[str], list[Mutation]]] = {
    "reduction": (
        ["test_reductions.py"],
        [
            Mutation("identity of sum", "statistics.py", "over(torch.sum, 0),", "over(torch.sum, 1),"),
            Mutation(
                "identity of prod", "engines/reduction_kernels.py", "_kept(x, mask, 1)", "_kept(x, mask, 0)"
            ),
            Mutation(
                "identity of max",
                "engines/reduction_kernels.py",
                "return -math.inf if largest else math.inf",
                "return 0.0",
            ),
            Mutation(
                "keepdims",
                "engines/reduction.py",
                "target = layout.keep(axes) if keepdims else layout.drop(axes)",
                "target = layout.drop(axes) if keepdims else layout.keep(axes)",
            ),
            Mutation(
                "displacement of indices",
                "engines/reduction_kernels.py",
                "index = index + domain.corner[axis]",
                "index = index + 0",
            ),
            Mutation(
                "displacement of flat indices",
                "engines/reduction_kernels.py",
                "(index % lshape[axis] + domain.corner[axis]) * stride",
                "(index % lshape[axis]) * stride",
            ),
            Mutation(
                "stride of flat indices",
                "engines/reduction_kernels.py",
                "stride *= domain.shape[axis]",
                "stride *= lshape[axis]",
            ),
            Mutation(
                "axis shift", "layout.py", "kept.index(self.split), self.counts)", "self.split, self.counts)"
            ),
            Mutation(
                "no combination",
                "engines/reduction.py",
                "combine = layout.split is not None and layout.split in axes",
                "combine = False",
            ),
            Mutation("needless message", "engines/reduction.py", "if plan.combine and", "if"),
            Mutation("ties", "engines/monoid.py", "(same & (j < i))", "(same & (j > i))"),
            Mutation(
                "number of elements",
                "moments.py",
                "carry[1] if len(carry) > 1 else float(domain.n)",
                "float(domain.n)",
            ),
            Mutation("ddof", "moments.py", "max(domain.n - ddof, 0.0)", "max(domain.n, 0.0)"),
            Mutation("shift of means", "engines/monoid.py", "delta * delta * n_a * share", "0 * delta"),
        ],
    ),
    "scan": (
        ["test_scans.py"],
        [
            Mutation(
                "identity", "engines/scan.py", 'operator="sum", identity=0', 'operator="sum", identity=1'
            ),
            Mutation("no carry", "engines/scan.py", "if comm.rank:\n", "if False:\n"),
            Mutation("inclusive carry", "engines/scan.py", "comm.exscan(", "comm.scan("),
            Mutation(
                "first row",
                "engines/scan.py",
                "(layout.counts[0] + 1, *layout.counts[1:])",
                "(*layout.counts[:-1], layout.counts[-1] + 1)",
            ),
            Mutation(
                "needless message",
                "engines/scan.py",
                "if layout.split == axis and comm.size > 1",
                "if comm.size > 1",
            ),
            Mutation(
                "rounded carry",
                "engines/scan.py",
                "if dtype in (torch.float16, torch.bfloat16):",
                "if False:",
            ),
            Mutation(
                "halo of diff",
                "calculus.py",
                "_with_neighbours(x, axis, 0, n)",
                "_with_neighbours(x, axis, n, 0)",
            ),
        ],
    ),
    "selection": (
        ["test_quantiles.py"],
        [
            Mutation("rank below", "engines/selection.py", "(self.k < less)", "(self.k <= less)"),
            Mutation(
                "base",
                "engines/selection.py",
                "return less_ + source.base, within_, nan_ > 0, kept",
                "return less_, within_, nan_ > 0, kept",
            ),
            Mutation("missed bracket", "engines/selection.py", "not bool(missed.any())", "True"),
            Mutation(
                "successor",
                "engines/selection_pass.py",
                "torch.where(tile > edge, tile, top)",
                "torch.where(tile >= edge, tile, top)",
            ),
            Mutation("NaN", "engines/selection_pass.py", "nan |= tile.amax(1).isnan()", "pass"),
        ],
    ),
    "elementwise": (
        ["test_operations.py"],
        [
            Mutation(
                "alignment of axes",
                "engines/elementwise.py",
                "target.split - (target.ndim - x.ndim)",
                "target.split",
            ),
            Mutation(
                "broadcast extent",
                "engines/elementwise.py",
                "result[axis] = n if n != 1 else result[axis]",
                "result[axis] = n",
            ),
        ],
    ),
}


def is_killed(mutation: Mutation, tests: list[str]) -> bool:
    """Apply a mutation to a copy of the sources and tell whether a test fails.

    Raises
    ------
    ValueError
        If the text to replace is not there.
    """
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "ht_core"
        shutil.copytree(SOURCE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        path = copy / mutation.file
        text = path.read_text()
        if mutation.old not in text:
            raise ValueError(
                f"mutate: {mutation.name!r} must replace text of {mutation.file}, got none: {mutation.old}"
            )
        path.write_text(text.replace(mutation.old, mutation.new))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "not mpi"]
        command += [str(ROOT / "tests" / test) for test in tests]
        env = {**os.environ, "PYTHONPATH": folder, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        return done.returncode == 1


def main(names: list[str]) -> int:
    """Check the named engines, print a table, return the number of survivors."""
    survivors = 0
    for engine in names or ENGINES:
        tests, mutations = ENGINES[engine]
        for mutation in mutations:
            killed = is_killed(mutation, tests)
            survivors += not killed
            print(f"{engine:16} {mutation.name:32} {'killed' if killed else 'SURVIVED'}", flush=True)
    return survivors


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
