"""No rank reads what another one keeps: the bytes that the system has read for each process, in every format."""

import os

import pytest
import torch
from ht_io import checkpoint, load, save, slabs
from io_arrays import distribute

FORMS = [
    ("x.h5", ("x",), {}),
    ("x.h5", ("x",), {"chunks": (250, 64)}),
    ("x.h5", ("x",), {"chunks": (250, 64), "compression": 1}),
    ("x.nc", ("x",), {}),
    ("x.nc", ("x",), {"format": "NETCDF3_64BIT_OFFSET"}),
    ("x.nc", ("x",), {"format": "NETCDF3_64BIT_OFFSET", "is_unlimited": True}),
    ("x.npy", (), {}),
    ("x.npz", ("x",), {}),
    ("x.csv", (), {}),
    ("x.zarr", (), {"chunks": (250, 64)}),
    ("x.zarr", (), {"chunks": (125, 64), "shards": (250, 64)}),
    ("x.ckpt", None, {}),
]
ROWS = 12_000


def bytes_read():
    """What this process has read from files so far; mapped pages are not counted."""
    with open("/proc/self/io") as counts:
        return int(counts.readline().split()[1])


def size_of(path):
    return (
        sum(p.stat().st_size for p in path.rglob("*") if p.is_file())
        if path.is_dir()
        else os.path.getsize(path)
    )


@pytest.mark.mpi(ranks=3)
@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="needs Linux's counters")
@pytest.mark.parametrize(("file", "name", "options"), FORMS, ids=str)
def test_each_rank_reads_its_share(comm, shared_tmp_path, monkeypatch, file, name, options):
    mapped = []

    class Counted(slabs._Mapped):
        def __init__(self, handle, slab):
            super().__init__(handle, slab)
            mapped.append(slab.end - slab.offset)

    values = torch.rand(ROWS, 64, generator=torch.Generator().manual_seed(0))
    path = shared_tmp_path / file
    x = distribute(values, comm, 0)
    if name is None:
        checkpoint.save(path, x)
    else:
        save(x, path, *name, **options)

    def read():
        return checkpoint.load(path) if name is None else load(path, *name, split=0, **cast)

    cast = {"dtype": "float32"} if file == "x.csv" else {}
    read()  # libraries are loaded
    monkeypatch.setattr(slabs, "_Mapped", Counted)  # big-endian numbers come out of the mapped file
    before = bytes_read()
    back = read()
    read_here = bytes_read() - before + sum(mapped)
    assert torch.equal(back.larray, x.larray)
    times = 2 if file == "x.csv" else 1  # lines are counted, then parsed
    share = times * size_of(path) / comm.size
    assert 0.9 * share - (100 << 10) <= read_here <= 1.1 * share + (100 << 10), (read_here, share)
