"""The scripts in examples/ run, on one rank and on three."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).resolve().parents[1] / "examples").glob("*.py"))


def earth_observation(found, folder):
    """Nearly all that is planted is found, little else is, and the maps are drawn."""
    assert found["recall"] >= 0.98
    assert found["precision"] >= 0.95
    assert found["per_time"].shape == (24,)
    assert found["per_place"].shape == (50, 77)
    assert (folder / "earth_observation.png").read_bytes()[:4] == b"\x89PNG"


CHECKS = {"earth_observation": earth_observation}


@pytest.mark.mpi(ranks=[1, 3])
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(script, comm, shared_tmp_path, monkeypatch):
    monkeypatch.chdir(shared_tmp_path)
    monkeypatch.setattr("sys.argv", [str(script)])
    found = runpy.run_path(str(script), run_name="__main__")
    comm.barrier()  # whatever rank wrote files
    if script.stem in CHECKS:
        CHECKS[script.stem](found, shared_tmp_path)
