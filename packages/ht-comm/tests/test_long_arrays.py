"""Arrays longer than a chunk that are not contiguous: sent piece by piece, whatever the strides at the other end."""

import importlib.util

import numpy as np
import pytest
from ht_comm import config, pool, spmd

LIBRARIES = ["numpy", "torch"] if importlib.util.find_spec("torch") else ["numpy"]
SHAPE = (5, 4, 6)
SHORT = 128


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch):
    monkeypatch.setattr(config, "chunk_bytes", SHORT)
    monkeypatch.setattr(config, "cma", "0")


@pytest.fixture
def scratches(monkeypatch):
    """Collect the lengths of the scratch that is borrowed."""
    lengths, take = [], pool.Pool.take
    monkeypatch.setattr(pool.Pool, "take", lambda self, nbytes: lengths.append(nbytes) or take(self, nbytes))
    return lengths


def values(rank=0):
    return np.arange(float(np.prod(SHAPE))).reshape(SHAPE) + 1000 * rank


def array(library, how, rank=0, shape=SHAPE):
    """Return an array of a layout, and its values."""
    wide = np.full([2 * n for n in shape], -1.0)
    x = {
        "c": lambda: np.full(shape, -1.0),
        "fortran": lambda: np.full(shape, -1.0, order="F"),
        "stepped": lambda: wide[tuple(slice(None, None, 2) for _ in shape)],
        "halved": lambda: wide[tuple(slice(0, n) for n in shape)],
    }[how]()
    if shape == SHAPE:
        x[...] = values(rank)
    if library == "torch":
        import torch

        return torch.from_numpy(x)
    return x


HOW = ["c", "fortran", "stepped", "halved"]


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("there", HOW)
@pytest.mark.parametrize("here", HOW)
@pytest.mark.parametrize("way", ["blocking", "isend", "irecv"])
def test_messages(library, here, there, way, scratches):
    def body(comm):
        if comm.rank == 0:
            x = array(library, here, rank=7)
            comm.isend(x, 1, tag=3).wait() if way == "isend" else comm.send(x, 1, tag=3)
            np.testing.assert_array_equal(np.asarray(x), values(7))
        else:
            out = array(library, there)
            got = comm.irecv(out, 0, tag=3).wait() if way == "irecv" else comm.recv(out, 0, tag=3)
            assert got is out
            np.testing.assert_array_equal(np.asarray(out), values(7))

    spmd(2, body)
    assert all(nbytes <= SHORT // 2 for nbytes in scratches)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("there", HOW)
@pytest.mark.parametrize("here", HOW)
def test_bcast(library, here, there, scratches):
    def body(comm):
        x = array(library, here if comm.rank == 1 else there, comm.rank)
        with comm.trace() as trace:
            assert comm.bcast(x, 1) is x
        np.testing.assert_array_equal(np.asarray(x), values(1))
        return trace.bytes

    assert spmd(3, body) == [0, values().nbytes, 0]
    assert all(nbytes <= SHORT // 2 for nbytes in scratches)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("how", HOW)
def test_allgather(library, how, axis, scratches):
    expected = np.concatenate([values(rank) for rank in range(3)], axis)

    def body(comm):
        x = array(library, how, comm.rank)
        out = array(library, how, shape=expected.shape)
        for got in (comm.allgather(x, axis=axis), comm.allgather(x, axis=axis, out=out)):
            np.testing.assert_array_equal(np.asarray(got), expected)
        assert got is out

    spmd(3, body)
    assert all(nbytes <= SHORT // 2 for nbytes in scratches)


def test_what_is_around_the_elements_stays():
    def body(comm):
        wide = np.full((5, 9, 6), -1.0)
        x = wide[:, 2:6]
        x[...] = values(comm.rank)
        comm.bcast(x, 0)
        if comm.rank:
            comm.recv(x, 0)
        else:
            comm.send(x, 1)
        assert (wide[:, :2] == -1).all()
        assert (wide[:, 6:] == -1).all()

    spmd(2, body)


def test_an_expanded_array_is_no_target():
    def body(comm):
        x = np.broadcast_to(np.zeros(6), SHAPE)
        if comm.rank:
            with pytest.raises(ValueError, match="bcast: x must be writable"):
                comm.bcast(x, 0)

    spmd(2, body)


@pytest.mark.mpi(ranks=[2, 3])
@pytest.mark.parametrize("library", LIBRARIES)
def test_processes(comm, library):
    after, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    for here in HOW:
        for there in HOW:
            x, out = array(library, here, comm.rank), array(library, there)
            request = comm.irecv(out, before)
            comm.send(x, after)
            request.wait()
            np.testing.assert_array_equal(np.asarray(out), values(before))
            outgoing = comm.isend(x, before)
            comm.recv(out, after)
            outgoing.wait()
            np.testing.assert_array_equal(np.asarray(out), values(after))
            x = array(library, here if comm.rank else there, comm.rank)
            comm.bcast(x)
            np.testing.assert_array_equal(np.asarray(x), values(0))
            whole = comm.allgather(array(library, here, comm.rank), axis=1)
            expected = np.concatenate([values(rank) for rank in range(comm.size)], 1)
            np.testing.assert_array_equal(np.asarray(whole), expected)
