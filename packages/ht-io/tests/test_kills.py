"""Processes killed at random moments of a save: the file is always one of the versions that were saved whole.

Three jobs by default; ``HT_IO_KILLS=200`` runs the long form: all forms in turn, on two and on three ranks.
"""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time

import h5py
import netCDF4
import numpy as np
import pytest
import zarr
from ht_comm.pytest_group import find_launcher
from ht_io import checkpoint, load

KILLS = int(os.environ.get("HT_IO_KILLS", "3"))
ROWS, COLUMNS = 3000, 64

# Saves version after version under one name; every element of a version is its number.
PROGRAM = """
    import os, sys, itertools
    import ht_core as ht
    import ht_io
    path, name, options = sys.argv[1], eval(sys.argv[2]), eval(sys.argv[3])
    rank = ht.ones(1, split=0).comm.rank
    for version in itertools.count(1):
        x = ht.full((3000, 64), float(version), dtype="float32", split=options.pop("split", 0))
        if name is None:
            ht_io.checkpoint.save(path, {"x": x})
        else:
            ht_io.save(x, path, *name, **options)
        options["split"] = version % 2
        if version == 1:
            with open(f"{path}.{rank}.pid", "w") as file:
                file.write(str(os.getpid()))
"""

#: File, arguments of the array's name (None: a checkpoint), options.
FORMS = [
    ("x.h5", ("x",), {}),
    ("x.h5", ("x",), {"compression": 1, "chunks": (100, 64)}),
    ("x.h5", ("x",), {"compression": "lzf", "chunks": (500, 64)}),
    ("x.h5", ("x",), {"mode": "r+"}),
    ("x.nc", ("x",), {}),
    ("x.nc", ("x",), {"format": "NETCDF3_64BIT_OFFSET", "is_unlimited": True}),
    ("x.npy", (), {}),
    ("x.npz", ("x",), {}),
    ("x.csv", (), {}),
    ("x.zarr", (), {"chunks": (500, 64)}),
    ("x.zarr", (), {"chunks": (100, 64), "shards": (1000, 64)}),
    ("checkpoint.h5", None, {}),
]


def wait_for(folder, name, ranks, job):
    """Return the process numbers of the ranks, once each has saved a version."""
    paths = [folder / f"{name}.{rank}.pid" for rank in range(ranks)]
    deadline = time.monotonic() + 60
    while not all(path.exists() and path.read_text() for path in paths):
        assert job.poll() is None, job.stderr.read().decode()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return [int(path.read_text()) for path in paths]


def read_with_others(path):
    if path.suffix == ".nc":
        with netCDF4.Dataset(path) as file:
            return np.asarray(file["x"][...])
    if path.suffix == ".zarr":
        return zarr.open_array(path, mode="r")[...]
    if path.suffix == ".csv":
        return np.loadtxt(path, delimiter=",")
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".npz":
        return np.load(path)["x"]
    with h5py.File(path) as file:
        return file["x" if path.name == "x.h5" else "arrays/0"][...]


def read_with_ours(path, name):
    return (checkpoint.load(path)["x"] if name is None else load(path, *name)).larray


@pytest.mark.parametrize("number", range(KILLS))
def test_killed_at_a_random_moment(tmp_path, number):
    choice = random.Random(number)
    file, name, options = FORMS[number % len(FORMS)] if len(FORMS) <= KILLS else choice.choice(FORMS)
    ranks, path = 2 + number // len(FORMS) % 2, tmp_path / file
    if options.get("mode") == "r+":
        with h5py.File(path, "w") as made:
            made["x"] = np.zeros((ROWS, COLUMNS), "f4")
    launcher = find_launcher()
    flags = [flag for flag in launcher.flags if flag != "-disable-auto-cleanup"]  # a job as users start it
    program = textwrap.dedent(PROGRAM)
    command = [
        *launcher.command,
        *flags,
        "-n",
        str(ranks),
        sys.executable,
        "-c",
        program,
        path,
        repr(name),
        repr(options),
    ]
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        processes = wait_for(tmp_path, file, ranks, job)
        time.sleep(choice.random() * 0.1)
        os.kill(choice.choice(processes), signal.SIGKILL)
        job.wait(timeout=60)  # the others end too
    finally:
        job.kill()
        job.communicate()
    found = read_with_others(path)
    assert found.shape == (ROWS, COLUMNS)
    assert found[0, 0] >= 1
    assert (found == found[0, 0]).all()
    left = [f for f in os.listdir(tmp_path) if f.endswith(".tmp")]
    assert len(left) <= 1
    assert all(f.startswith(f".{file}.") for f in left)
    assert (read_with_ours(path, name) == float(found[0, 0])).all()
