"""Every way of reading listed rows gives them, whatever their order and distance."""

import os

import numpy as np
import pytest
from ht_io import listed_rows, load_npy
from ht_io.listed_rows import RowReader

WAYS = ("_by_calls", "_announced", "_from_map")
VALUES = np.arange(3000 * 6, dtype="f4").reshape(3000, 6)
RNG = np.random.default_rng(0)
SORTED = np.sort(RNG.choice(3000, 1000, replace=False))
MIXED = RNG.choice(3000, 1000)  # with repetitions


@pytest.fixture
def path(tmp_path):
    """An array of known numbers."""
    path = tmp_path / "x.npy"
    with open(path, "wb") as file:
        np.lib.format.write_array_header_1_0(
            file, {"descr": "<f4", "fortran_order": False, "shape": VALUES.shape}
        )
        file.write(VALUES.tobytes())
    return path


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    "rows", [SORTED, MIXED, SORTED[:5], SORTED[::40]], ids=["sorted", "mixed", "few", "far"]
)
@pytest.mark.parametrize("window", [1 << 20, 2000])
def test_ways(path, monkeypatch, way, rows, window):
    monkeypatch.setattr(RowReader, "_choose", lambda self, now, cost: getattr(self, way))
    monkeypatch.setattr(listed_rows, "_TRIAL", 16)
    monkeypatch.setattr(listed_rows, "_BATCH", 20)
    monkeypatch.setattr(listed_rows, "_CROWD", 3)
    monkeypatch.setattr(listed_rows, "_WINDOW", window)
    assert np.array_equal(load_npy(path, slices=rows).numpy(), VALUES[rows])
    strided = load_npy(path, slices=(rows, slice(1, 4)))
    assert np.array_equal(strided.numpy(), VALUES[rows, 1:4])
    assert np.array_equal(load_npy(path, slices=rows, dtype="float64").numpy(), VALUES[rows])


def test_the_cheapest_way_is_taken():
    reader = RowReader(0, np.zeros(1), 8, np.zeros(1, "V8"), None)
    calls, announced, mapped = (getattr(reader, way) for way in WAYS)
    assert reader._choose(calls, {calls: 1e-6}) == mapped  # the cache has them: is the map better?
    assert reader._choose(mapped, {calls: 1e-6, mapped: 2e-7}) == mapped
    assert reader._choose(mapped, {calls: 1e-6, mapped: 4e-6}) == calls
    assert reader._choose(calls, {calls: 1e-6, mapped: 4e-6}) == calls
    assert reader._choose(calls, {calls: 3e-5}) == announced
    assert reader._choose(announced, {calls: 3e-5, announced: 9e-6}) == announced
    assert reader._choose(announced, {calls: 1e-6, announced: 2e-6}) == mapped
    long = RowReader(0, np.zeros(1), 8, np.zeros(1, "V4096"), None)
    assert long._choose(long._by_calls, {long._by_calls: 1e-6}) == long._by_calls


@pytest.mark.parametrize("way", WAYS)
def test_a_file_that_becomes_shorter_is_an_error(path, monkeypatch, way):
    """Touching mapped bytes beyond the end would kill the process."""

    def cut(self, now, cost):
        os.truncate(path, 40_000)
        return getattr(self, way)

    monkeypatch.setattr(RowReader, "_choose", cut)
    monkeypatch.setattr(listed_rows, "_BATCH", 200)
    with pytest.raises(OSError, match="complete file, got one without byte 40"):
        load_npy(path, slices=SORTED)
