"""Arrays that the ranks of a node share."""

import errno
import gc
import importlib.util
import os

import numpy as np
import pytest
from ht_comm import self_, shared, spmd

KINDS = [np.dtype("float32"), np.dtype("int8")]
if importlib.util.find_spec("torch"):
    import torch

    KINDS += [torch.float64, torch.bfloat16]


def fill_and_read(comm, shape, dtype):
    """Each rank writes what the next one reads."""
    table = comm.shared((comm.node().size, *shape), dtype)
    assert tuple(table.shape) == (comm.node().size, *shape)
    assert table.dtype == dtype
    assert not table.any()
    node = comm.node()
    node.barrier()
    table[node.rank] = node.rank + 1
    node.barrier()
    after = (node.rank + 1) % node.size
    assert (table[after] == after + 1).all()
    node.barrier()
    return table


@pytest.mark.parametrize("dtype", KINDS, ids=str)
@pytest.mark.parametrize("p", [1, 3])
def test_what_one_writes_all_see(p, dtype):
    tables = spmd(p, fill_and_read, (4, 2), dtype)
    assert isinstance(tables[0], np.ndarray) == isinstance(dtype, np.dtype)


@pytest.mark.mpi
def test_processes(comm):
    table = fill_and_read(comm, (1000,), np.dtype("float64"))
    with comm.dup() as other:  # the array outlives what made it
        again = fill_and_read(other, (3,), np.dtype("int64"))
    assert table[comm.node().rank, -1] == again[comm.node().rank, -1]


@pytest.mark.parametrize("shape", [(), 0, (0, 3), 5])
def test_shapes(shape):
    table = self_().shared(shape)
    assert table.shape == (shape if isinstance(shape, tuple) else (shape,))
    table[...] = 1
    assert table.sum() == table.size


def test_nothing_is_left_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(shared, "_IN_MEMORY", str(tmp_path))
    tables = spmd(2, lambda comm: comm.shared(10))
    assert os.listdir(tmp_path) == []
    tables[0][3] = 7  # still the same memory
    assert tables[1][3] == 7
    part = tables[1][2:5]
    del tables
    gc.collect()
    assert part[1] == 7


@pytest.mark.parametrize("call", ["posix_fallocate", "open"])
def test_no_room_is_the_same_error_on_all_ranks(monkeypatch, tmp_path, call):
    monkeypatch.setattr(shared, "_IN_MEMORY", str(tmp_path))

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    def body(comm):
        comm.node().barrier()
        if comm.rank == 0:
            monkeypatch.setattr(
                os if call == "posix_fallocate" else shared, call.replace("open", "_map"), fail
            )
        comm.node().barrier()
        with pytest.raises(OSError, match=r"shared: there must be 80 bytes .* No space left") as caught:
            comm.shared(10)
        return caught.value.errno

    assert spmd(3, body) == [errno.ENOSPC] * 3
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("shape", "dtype", "error", "text"),
    [
        ((2, -1), "float64", ValueError, r"shared: shape must have extents >= 0, got \(2, -1\)"),
        (2, "object", TypeError, "shared: dtype must be one of bool, int8"),
        (2, "nonsense", TypeError, "got 'nonsense'"),
    ],
)
def test_refused(shape, dtype, error, text):
    with pytest.raises(error, match=text):
        self_().shared(shape, dtype)


def test_the_job_is_what_the_ranks_of_a_call_have_in_common():
    assert self_().job is None
    first, second = (spmd(3, lambda comm: (comm.job, comm.split(comm.rank % 2).job)) for _ in range(2))
    assert len({id(job) for pair in first for job in pair}) == 1
    assert first[0][0] is not second[0][0]
