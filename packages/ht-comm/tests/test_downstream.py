"""The example library on top of ht-comm: it depends on nothing else, and no result depends on the number of ranks."""

import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from ht_comm import SerialComm, spmd

HERE = Path(__file__).parent / "downstream"


def divided(rows, p):
    """Return uneven extents of p blocks, one of them empty."""
    head = (5, 0, 1, 2, 3, 1)[: p - 1]
    return (*head, rows - sum(head))


@pytest.fixture(autouse=True)
def _path(monkeypatch):
    """Find the library where it lies: it need not be installed."""
    monkeypatch.syspath_prepend(str(HERE / "src"))


def start(rows):
    """Return random temperatures."""
    return np.random.default_rng(3).normal(20.0, 5.0, (rows, 12))


def reference(u, steps, diffusivity, periodic):
    """Solve with NumPy alone."""
    u = u.copy()
    for _ in range(steps):
        below, above = np.roll(u, -1, axis=0), np.roll(u, 1, axis=0)
        inner = slice(None) if periodic else slice(1, -1)
        new = u + 0.0
        new[:, 1:-1] = u[:, 1:-1] + diffusivity * (
            below[:, 1:-1] + above[:, 1:-1] + u[:, 2:] + u[:, :-2] - 4.0 * u[:, 1:-1]
        )
        u[inner] = new[inner]
    return u


def check(comm, periodic):
    """Solve with the library and compare, to the last bit."""
    from warmth import Plane

    u = start(20)
    for counts in (None, divided(20, comm.size)):
        plane = Plane(u, 0.2, counts=counts, periodic=periodic, comm=comm)
        plane.step(25)
        want = reference(u, 25, 0.2, periodic)
        whole = plane.gather()
        np.testing.assert_array_equal(whole, want)
        assert plane.mean() == want.sum(axis=1).sum() / want.size
        value, row, column = plane.hottest()
        assert (row, column) == np.unravel_index(want.argmax(), want.shape)
        assert value == want.max()
        before = whole.copy()
        with comm.trace() as t:
            plane.step(2)
        assert t.calls == 2
        assert counts is not None or t.messages <= 4  # an empty block wants the rows around its place, too
        np.testing.assert_array_equal(whole, before)  # what was handed out does not change


@pytest.mark.parametrize("periodic", [False, True], ids=["edges", "periodic"])
@pytest.mark.parametrize("p", [1, 2, 3, 4], ids="p={}".format)
def test_threads_solve_as_one(p, periodic):
    spmd(p, check, periodic)


@pytest.mark.mpi
@pytest.mark.parametrize("periodic", [False, True], ids=["edges", "periodic"])
def test_processes_solve_as_one(comm, periodic):
    check(comm, periodic)


def test_wrong_arguments_raise():
    from warmth import Plane

    with pytest.raises(ValueError, match="Plane: diffusivity must be in"):
        Plane(start(4), 0.5, comm=SerialComm())
    with pytest.raises(ValueError, match="Plane: counts must be 1 numbers"):
        Plane(start(4), counts=(2, 2), comm=SerialComm())


def test_it_needs_numpy_and_us_alone():
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    assert [text.partition(">")[0] for text in project["dependencies"]] == ["numpy", "ht-comm"]
    code = (
        f"import sys; sys.path.insert(0, {str(HERE / 'src')!r}); import warmth.__main__ as m; m.main(); "
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
