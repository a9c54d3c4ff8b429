"""Processes killed at random moments of a save: the file is always one of the versions that were saved whole.

Three jobs by default; ``HT_IO_KILLS=200`` runs the long form.
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
from ht_comm.pytest_group import find_launcher
from ht_io import load

KILLS = int(os.environ.get("HT_IO_KILLS", "3"))
ROWS, COLUMNS = 3000, 64

# Saves version after version under one name; every element of a version is its number.
PROGRAM = """
    import os, sys, itertools
    import ht_core as ht
    import ht_io
    path, options = sys.argv[1], eval(sys.argv[2])
    rank = ht.ones(1, split=0).comm.rank
    for version in itertools.count(1):
        x = ht.full((3000, 64), float(version), dtype="float32", split=options.pop("split", 0))
        ht_io.save(x, path, "x", **options)
        options["split"] = version % 2
        if version == 1:
            with open(f"{path}.{rank}.pid", "w") as file:
                file.write(str(os.getpid()))
"""

FORMS = [
    ("x.h5", {}),
    ("x.h5", {"compression": 1, "chunks": (100, 64)}),
    ("x.h5", {"compression": "lzf", "chunks": (500, 64)}),
    ("x.h5", {"mode": "r+"}),
    ("x.nc", {}),
    ("x.nc", {"format": "NETCDF3_64BIT_OFFSET", "is_unlimited": True}),
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
    with h5py.File(path) as file:
        return file["x"][...]


@pytest.mark.parametrize("number", range(KILLS))
def test_killed_at_a_random_moment(tmp_path, number):
    choice = random.Random(number)
    name, options = FORMS[number % len(FORMS)] if len(FORMS) <= KILLS else choice.choice(FORMS)
    ranks, path = 2, tmp_path / name
    if options.get("mode") == "r+":
        with h5py.File(path, "w") as file:
            file["x"] = np.zeros((ROWS, COLUMNS), "f4")
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
        repr(options),
    ]
    job = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        processes = wait_for(tmp_path, name, ranks, job)
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
    assert all(f.startswith(f".{name}.") for f in left)
    assert (load(path, "x").larray == float(found[0, 0])).all()
