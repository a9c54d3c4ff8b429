"""The same on real processes."""

import h5py
import numpy as np
import pytest
from ht_io import load_hdf5, mpio, save_hdf5, save_netcdf
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


def describe(path):
    """Return everything that a reader sees of a file."""
    found = {}

    def visit(name, item):
        attrs = {
            key: np.asarray(value).tolist() for key, value in item.attrs.items() if "REFERENCE" not in key
        }
        if isinstance(item, h5py.Dataset):
            facts = [getattr(item, key) for key in ("shape", "maxshape", "chunks", "compression", "shuffle")]
            scales = [[(dim.label, key, scale.name) for key, scale in dim.items()] for dim in item.dims]
            attrs = attrs | {"": (str(item.dtype), facts, scales, item[...].tobytes())}
        found[name] = {key: value for key, value in attrs.items() if key != "DIMENSION_LIST"}

    with h5py.File(path) as file:
        file.visititems(visit)
    return found


@pytest.mark.mpi(ranks=[1, 2])
@pytest.mark.parametrize("save", [save_hdf5, save_netcdf])
def test_engines_make_the_same_file(comm, shared_tmp_path, save):
    """To readers; also those of plain h5py, where it is HDF5. Without parallel HDF5 there is one engine."""
    values = make_global((29, 7), "float64")
    x, n = distribute(values, comm, 0), distribute(values[:, 0].int(), comm, 0)
    names = {"x": ("n", "columns"), "n": ("n",)}
    axes = {"dims" if save is save_hdf5 else "dimension_names": names}
    engines = ["posix", "auto"] if mpio._obstacle() else ["posix", "auto", "mpio"]
    for options in ({}, {"chunks": (7,), "compression": "gzip"}, {"chunks": (7,), "compression": "lzf"}):
        arrays = {"n": n} if options else {"x": x, "n": n}
        axes_here = {key: {name: named[name] for name in arrays} for key, named in axes.items()}
        found = []
        for engine in engines:
            save(arrays, shared_tmp_path / f"{engine}.h5", engine=engine, **options, **axes_here)
            found.append(describe(shared_tmp_path / f"{engine}.h5"))
        assert all(one == found[0] for one in found)
        if save is save_hdf5 and comm.rank == 0:
            with h5py.File(shared_tmp_path / "plain.h5", "w") as file:
                shuffle = {"shuffle": True} if options.get("compression") == "gzip" else {}
                made = file.create_dataset("n", data=values[:, 0].int().numpy(), **options, **shuffle)
                made.dims[0].label = "n"
                if not options:
                    made.make_scale("n")
                    made = file.create_dataset("x", data=values.numpy())
                    made.dims[0].label, made.dims[1].label = names["x"]
                    made.dims[0].attach_scale(file["n"])
            assert describe(shared_tmp_path / "plain.h5") == found[0]
        comm.barrier()
