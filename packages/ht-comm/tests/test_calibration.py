"""The file of measured sizes: where it is, what is in it, who takes what from it, and how it is made."""

import json
import os
from pathlib import Path

import pytest
from ht_comm import __main__, calibration, config, self_, spmd

SIZES = {"chunk_bytes": 4096, "read_bytes": 12345, "read_run_bytes": 77}


@pytest.fixture
def file(tmp_path, monkeypatch):
    """Name a file that is not there yet, and put the settings back afterwards."""
    monkeypatch.setenv("HT_COMM_CALIBRATION", str(tmp_path / "deep" / "sizes.json"))
    for name in config.MEASURED:
        monkeypatch.delenv(f"HT_COMM_{name.upper()}", raising=False)
        monkeypatch.setattr(config, name, config._defaults[name])
    return tmp_path / "deep" / "sizes.json"


@pytest.fixture
def quick(monkeypatch):
    """Measure little."""
    monkeypatch.setattr(calibration, "CHUNKS", (2**12, 2**13))
    monkeypatch.setattr(calibration, "LENGTHS", (2**12, 2**13))
    monkeypatch.setattr(calibration, "RUNS", (2**10, 2**11))
    monkeypatch.setattr(calibration, "_LONG", 2**14)


def test_place_of_the_file(monkeypatch):
    monkeypatch.setenv("HT_COMM_CALIBRATION", "/here.json")
    monkeypatch.setenv("XDG_CONFIG_HOME", "/settings")
    assert calibration.path() == Path("/here.json")
    monkeypatch.delenv("HT_COMM_CALIBRATION")
    assert calibration.path() == Path("/settings/ht_comm/calibration.json")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert calibration.path() == Path("/home/somebody/.config/ht_comm/calibration.json")


def test_entries_are_kept_by_library(file):
    assert calibration.read_file() == {}
    assert calibration.write_file("A 1", SIZES) == file
    calibration.write_file("B 2", {"chunk_bytes": 1})
    calibration.write_file("B 2", {"chunk_bytes": 2})
    assert calibration.read_file() == {"A 1": SIZES, "B 2": {"chunk_bytes": 2}}
    assert os.listdir(file.parent) == [file.name]


def test_a_write_that_fails_leaves_the_file_as_it_was(file, monkeypatch):
    calibration.write_file("A 1", SIZES)
    before = file.read_text()

    def fail(*args):
        raise OSError(28, "no space left")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="no space"):
        calibration.write_file("A 1", {})
    assert file.read_text() == before
    assert os.listdir(file.parent) == [file.name]


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[]",
        "{}",
        '{"libraries": 3}',
        '{"libraries": {"A 1": 3}}',
        '{"libraries": {"A 1": {"chunk_bytes": 0}}}',
        '{"libraries": {"A 1": {"read_bytes": "1"}}}',
    ],
)
def test_a_damaged_file_is_a_warning_and_can_be_replaced(file, text):
    file.parent.mkdir()
    file.write_text(text)
    with pytest.warns(UserWarning, match=r"calibration: .* must be a file of"):
        assert calibration.read_file() == {}
    calibration.write_file("A 1", SIZES)
    assert calibration.read_file() == {"A 1": SIZES}


def test_what_the_environment_and_the_program_set_comes_first(file, monkeypatch):
    monkeypatch.setenv("HT_COMM_READ_BYTES", str(config.read_bytes))
    kept, config.read_run_bytes = config.read_bytes, 5
    config.adopt({**SIZES, "latency_us": 3.0})
    assert (config.chunk_bytes, config.read_bytes, config.read_run_bytes) == (4096, kept, 5)


def test_rank_0_reads_for_all(file, monkeypatch):
    reads = []
    monkeypatch.setattr(calibration, "read_file", lambda: reads.append(1) or {"ThreadComm": SIZES, "A 1": {}})
    spmd(3, calibration.adopt)
    assert {name: getattr(config, name) for name in SIZES} == SIZES
    assert reads == [1]


def test_measuring_leaves_the_settings_alone(file, quick):
    before = {name: getattr(config, name) for name in (*config.MEASURED, "cma")}
    lines = []

    def body(comm):
        return calibration.measure(comm, lines.append if comm.rank == 0 else lambda line: None)

    # Threads share their settings, so two ranks would change them under each other: here they change alike.
    found = spmd(2, body)
    assert found[0] == found[1]
    assert found[0]["chunk_bytes"] in calibration.CHUNKS
    assert found[0]["latency_us"] > 0
    assert {line.split()[0] for line in lines} == set(found[0])
    assert {name: getattr(config, name) for name in before} == before


@pytest.mark.parametrize(("reading", "expected"), [(0.5, 2), (1.04, 2), (1.5, 2**62)])
def test_the_crossing_is_where_reading_wins_from_there_on(monkeypatch, reading, expected):
    monkeypatch.setattr(config, "cma", "auto")
    monkeypatch.setattr(
        calibration, "_seconds", lambda comm, action, repeat: reading if config.cma == "auto" else 1.0
    )
    assert calibration._find_crossing(None, (2, 4, 8), lambda size: None) == expected
    assert config.cma == "auto"
    costs = {2: 0.1, 4: 9.0, 8: 0.5}  # an outlier at 2 is not believed: at 4 messages win
    monkeypatch.setattr(
        calibration, "_seconds", lambda comm, action, repeat: costs[action] if config.cma == "auto" else 1.0
    )
    assert calibration._find_crossing(None, (2, 4, 8), lambda size: size) == 8


def test_one_rank_has_nothing_to_measure(capsys, monkeypatch):
    monkeypatch.setattr(__main__, "world", self_)
    with pytest.raises(SystemExit) as ended:
        __main__.main(["calibrate"])
    assert ended.value.code == 2
    assert "at least two ranks, got 1; run mpiexec -n 2" in capsys.readouterr().err


@pytest.mark.mpi(ranks=(2, 3))
def test_the_command_writes_what_the_next_job_takes(comm, file, quick, capsys):
    name = comm.bcast_object(str(file))
    os.environ["HT_COMM_CALIBRATION"] = name
    assert __main__.main(["calibrate"]) == 0
    shown = capsys.readouterr().out
    library = calibration.library_of(comm)
    entry = comm.bcast_object(json.loads(file.read_text())["libraries"][library] if comm.rank == 0 else None)
    assert (f"written to {name}, for {library}" in shown) == (comm.rank == 0)
    assert entry["bandwidth_gbs"] > 0
    if comm.rank:
        os.environ["HT_COMM_CALIBRATION"] = os.devnull  # another node, without a file
    calibration.adopt(comm)
    assert config.chunk_bytes == entry["chunk_bytes"]
