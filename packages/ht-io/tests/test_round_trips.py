"""One table over formats, all types, splits, uneven and empty shards, p ranks writing and q reading."""

import pytest
from ht_comm import spmd
from ht_core import Layout
from ht_io import checkpoint, load, save
from io_arrays import DTYPES, distribute, make_counts, make_global, same

ODD = ("complex64", "complex128", "bfloat16", "float16")
#: Name: (file, arguments of the array's name, options of saving, types it refuses).
FORMATS = {
    "HDF5": ("x.h5", ("x",), {}, ()),
    "HDF5, gzip": ("x.h5", ("x",), {"compression": 1, "chunks": (2, 2)}, ()),
    "NetCDF-4": ("x.nc", ("x",), {}, ODD),
    "classic NetCDF": (
        "x.nc",
        ("x",),
        {"format": "NETCDF3_64BIT_DATA"},
        ODD,
    ),
    "npy": ("x.npy", (), {}, ("bfloat16",)),
    "npy, Fortran": ("x.npy", (), {"order": "F"}, ("bfloat16",)),
    "npz": ("x.npz", ("x",), {}, ("bfloat16",)),
    "CSV": ("x.csv", (), {}, ()),
    "Zarr": ("x.zarr", (), {"chunks": (2, 3)}, ("bfloat16",)),
    "Zarr, sharded": ("x.zarr", (), {"chunks": (1, 3), "shards": (2, 3)}, ("bfloat16",)),
    "checkpoint": ("x.h5", (), {}, ()),
}


def write(comm, folder, form, values, split):
    """Save uneven parts, some of them empty."""
    file, name, options, _ = FORMATS[form]
    counts = None if split is None else make_counts(values.shape[split], comm.size, seed=9)
    x = distribute(values, comm, split, counts)
    if form == "checkpoint":
        checkpoint.save(folder / file, x)
    else:
        save(x, folder / file, *name, **options)


def read(comm, folder, form, values):
    """Load with every split and compare this rank's part."""
    file, name, _, _ = FORMATS[form]
    dtype = str(values.dtype).removeprefix("torch.")
    for split in (None, 0, 1):
        if form == "checkpoint":
            x = checkpoint.load(folder / file, split=split)
        else:
            x = load(folder / file, *name, split=split, **({"dtype": dtype} if form == "CSV" else {}))
        assert x.layout is Layout.even(tuple(values.shape), split, comm.size)
        assert same(x.larray, values[x.layout.slices(comm.rank)].contiguous())


@pytest.mark.parametrize("form", FORMATS)
def test_round_trip(tmp_path, form):
    """Each type in a file of its own, in two of the four cases; every case has all kinds of types."""
    refused = FORMATS[form][3]
    values = {dtype: make_global((5, 3), dtype) for dtype in DTYPES}

    def write_all(comm, split, chosen):
        for dtype in chosen:
            each = values[dtype]
            folder = tmp_path / dtype
            if comm.rank == 0:
                folder.mkdir(exist_ok=True)
            comm.barrier()
            if dtype in refused:
                with pytest.raises((TypeError, ValueError), match=r"dtype|type that the format has"):
                    write(comm, folder, form, each, split)
            else:
                write(comm, folder, form, each, split)

    def read_all(comm, chosen):
        for dtype in chosen:
            if dtype not in refused:
                read(comm, tmp_path / dtype, form, values[dtype])

    for case, (p, q, split) in enumerate(((1, 3, None), (2, 1, 0), (4, 2, 1), (3, 7, 0))):
        chosen = [dtype for number, dtype in enumerate(DTYPES) if (number + case) % 4 < 2]
        spmd(p, write_all, split, chosen)
        spmd(q, read_all, chosen)
