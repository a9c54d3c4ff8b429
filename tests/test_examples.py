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


def is_picture(path):
    return path.read_bytes()[:4] == b"\x89PNG"


def dmd_forecast(found, folder):
    """Growth and frequency of each wave are found, and what was not learned is forecast."""
    rates = sorted((rate for rate in found["rates"] if rate.imag > 0), key=abs)
    for rate, (_, frequency, growth, _) in zip(rates, found["WAVES"], strict=True):
        assert abs(rate - (growth + 1j * frequency)) < 2e-3
    assert found["later"] < 0.01
    assert is_picture(folder / "dmd_forecast.png")


def image_clustering(found, folder):
    """Clusters are mostly of one digit each."""
    assert found["agreement"] > 0.75
    assert found["counts"].sum() == 1797
    assert is_picture(folder / "image_clustering.png")


def earth_system(found, folder):
    """The planted warming and pattern are found and saved."""
    assert abs(found["area"] - 0.2) < 0.01
    assert found["likeness"] > 0.99
    assert (folder / "climate.nc").stat().st_size > 0
    assert is_picture(folder / "earth_system.png")


def autograd_least_squares(found, folder):
    """The gradients lead to the parameters, where linear least squares ends, too."""
    assert abs(found["found"] - found["TRUTH"]).max() < 0.02
    assert abs(found["linear"] - found["found"][:2]).max() < 1e-3
    assert is_picture(folder / "autograd_least_squares.png")


def patch_clustering(found, folder):
    """One cluster leaves the whole variance; the values fall, steeply at first."""
    values = found["values"]
    assert abs(values[0] / found["X"].size - 1.0) < 1e-3
    assert values == sorted(values, reverse=True)
    assert values[1] < 0.5 * values[0]
    assert is_picture(folder / "patch_clustering.png")


def spectral_clustering(found, folder):
    """Clusters on the graph are closer to the digits than those of plain k-means; no eigenvalue is negative."""
    (rand, v), (plain_rand, plain_v) = found["scores"]["spectral"], found["scores"]["k-means"]
    assert rand > max(0.7, plain_rand)
    assert v > max(0.8, plain_v)
    assert (found["eigenvalues"] >= 0.0).all()
    assert is_picture(folder / "spectral_clustering.png")


CHECKS = {
    check.__name__: check
    for check in (
        autograd_least_squares,
        dmd_forecast,
        earth_observation,
        earth_system,
        image_clustering,
        patch_clustering,
        spectral_clustering,
    )
}


@pytest.mark.mpi(ranks=[1, 3])
@pytest.mark.parametrize("script", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(script, comm, shared_tmp_path, monkeypatch):
    monkeypatch.chdir(shared_tmp_path)
    monkeypatch.setattr("sys.argv", [str(script)])
    found = runpy.run_path(str(script), run_name="__main__")
    comm.barrier()  # whatever rank wrote files
    if script.stem in CHECKS:
        CHECKS[script.stem](found, shared_tmp_path)
