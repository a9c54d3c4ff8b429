"""The same on real processes."""

import numpy as np
import pytest
from ht_io import load_hdf5, save_hdf5
from io_arrays import distribute, make_counts, make_global, same


@pytest.mark.mpi
@pytest.mark.parametrize("split", [None, 0, 1])
@pytest.mark.parametrize(
    "options", [{}, {"chunks": (4, 3), "compression": "gzip"}, {"compression": "lzf"}], ids=str
)
def test_round_trip(comm, shared_tmp_path, split, options):
    values = make_global((29, 7), "float64")
    counts = None if split is None else make_counts(values.shape[split], comm.size)
    save_hdf5(distribute(values, comm, split, counts), shared_tmp_path / "x.h5", "x", **options)
    for read in (None, 0, 1):
        x = load_hdf5(shared_tmp_path / "x.h5", "x", split=read)
        assert same(x.larray, values[x.layout.slices(comm.rank)])


@pytest.mark.mpi
def test_error_of_one_rank_is_raised_on_all(comm, shared_tmp_path):
    values = make_global((8,))
    save_hdf5(distribute(values, comm, 0), shared_tmp_path / "x.h5", "x")
    name = "nowhere.h5" if comm.rank == comm.size - 1 else "x.h5"
    with pytest.raises(FileNotFoundError, match="existing, readable file"):
        load_hdf5(shared_tmp_path / name, "x", split=0)


@pytest.mark.mpi
def test_messages(comm, shared_tmp_path):
    x = distribute(make_global((50, 4)), comm, 0)
    with comm.trace() as trace:
        save_hdf5(x, shared_tmp_path / "x.h5", "x", engine="posix")
    assert trace.calls == 4
    with comm.trace() as trace:
        load_hdf5(shared_tmp_path / "x.h5", "x", split=0)
    assert trace.calls == 1
    assert np.isfinite(trace.seconds)
