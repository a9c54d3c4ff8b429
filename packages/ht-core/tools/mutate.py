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
from pathlib import Path

from mutations import ENGINES, Mutation

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "ht_core"


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
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=300)
        except subprocess.TimeoutExpired:  # a hang is noticed, too
            return True
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
