"""The same file for everybody: what others read of ours, what we read of theirs; and no file runs code."""

import contextlib
import json
import os
import pickle

import h5netcdf
import h5py
import netCDF4
import numpy as np
import pandas
import pytest
import torch
import xarray
import zarr
from ht_comm import spmd
from ht_io import attributes, checkpoint, inspect, load, load_netcdf, save
from io_arrays import DTYPES, distribute, make_counts, make_global

ATTRS = {"units": "K", "number": 3, "factor": 0.5, "levels": np.array([1.5, 2.5])}
DIMS = ("time", "y")


def by_h5py(path):
    with h5py.File(path) as file:
        x = file["g/x"]
        return x[...], dict(x.attrs), tuple(axis.label for axis in x.dims)


def by_netcdf4(path):
    with netCDF4.Dataset(path) as file:
        x = file["x"]
        file.set_auto_maskandscale(False)
        return x[...], {name: x.getncattr(name) for name in x.ncattrs()}, x.dimensions


def by_h5netcdf(path):
    with h5netcdf.File(path) as file:
        x = file["x"]
        return x[...], dict(x.attrs), x.dimensions


def by_xarray(path):
    with xarray.open_dataset(path, decode_times=False) as file:
        x = file["x"]
        return x.values, x.attrs, x.dims


def by_zarr(path):
    x = zarr.open_group(path, mode="r")["g/x"]
    return x[...], dict(x.attrs), x.metadata.dimension_names


def by_xarray_from_zarr(path):
    with xarray.open_zarr(path, group="g", consolidated=False, chunks=None) as file:
        return file["x"].values, file["x"].attrs, file["x"].dims


HDF5 = {"attrs": {"g/x": ATTRS}, "dims": {"g/x": DIMS}}
NETCDF = {"attrs": {"x": ATTRS}, "dimension_names": {"x": DIMS}}
ODD = ("complex64", "complex128", "float16", "bfloat16")
SMALL = (*ODD, "int64", "uint8", "uint16", "uint32", "uint64")

#: File, name, options of saving, reader, types that the format has not.
OURS = [
    ("x.h5", "g/x", HDF5, by_h5py, ()),
    ("x.h5", "g/x", {**HDF5, "chunks": (3, 2), "compression": 1}, by_h5py, ()),
    ("x.nc", "x", NETCDF, by_netcdf4, ODD),
    ("x.nc", "x", {**NETCDF, "is_unlimited": "time", "compression": 1}, by_netcdf4, ODD),
    ("x.nc", "x", NETCDF, by_h5netcdf, ODD),
    ("x.nc", "x", NETCDF, by_xarray, ODD),
    ("x.nc", "x", {**NETCDF, "format": "NETCDF3_CLASSIC", "is_unlimited": True}, by_netcdf4, SMALL),
    ("x.nc", "x", {**NETCDF, "format": "NETCDF3_64BIT_OFFSET"}, by_xarray, SMALL),
    ("x.nc", "x", {**NETCDF, "format": "NETCDF3_64BIT_DATA"}, by_netcdf4, ODD),
    ("x.zarr", "g/x", {**HDF5, "chunks": (3, 2)}, by_zarr, ("bfloat16",)),
    ("x.zarr", "g/x", {**HDF5, "chunks": (3, 2), "shards": (6, 2)}, by_zarr, ("bfloat16",)),
    ("x.zarr", "g/x", HDF5, by_xarray_from_zarr, ("bfloat16",)),
    ("x.npy", None, {}, lambda path: (np.load(path), None, None), ("bfloat16",)),
    ("x.npy", None, {"order": "F"}, lambda path: (np.load(path), None, None), ("bfloat16",)),
    ("x.npz", "x", {}, lambda path: (np.load(path)["x"], None, None), ("bfloat16",)),
]


@pytest.mark.parametrize("case", range(len(OURS)), ids=lambda i: f"{OURS[i][0]}-{OURS[i][3].__name__}-{i}")
def test_others_read_the_same(tmp_path, case):
    """Values, types, attributes and names of axes, of every type, uneven and empty parts along either axis."""
    file, name, options, read, missing = OURS[case]
    for number, dtype in enumerate(d for d in DTYPES if d not in missing):
        values = make_global((7, 5), dtype)
        split = number % 2

        counts = make_counts(values.shape[split], 3, seed=number)

        def write(comm, values=values, split=split, counts=counts):
            x = distribute(values, comm, split, counts)
            save({name: x} if name else x, tmp_path / file, **options)

        spmd(3, write)
        found, attrs, dims = read(tmp_path / file)
        expected = values.float() if dtype == "bfloat16" else values
        is_byte = dtype == "bool" and file.endswith(".nc") and read is not by_xarray
        expected = (expected.to(torch.int8) if is_byte else expected).numpy()
        np.testing.assert_array_equal(found, expected)
        assert found.dtype.newbyteorder("=") == expected.dtype
        if attrs is not None:
            assert {**attrs, "levels": list(attrs["levels"])}.items() >= {
                **ATTRS,
                "levels": [1.5, 2.5],
            }.items()
            assert tuple(dims) == DIMS


@pytest.mark.parametrize("dtype", [d for d in DTYPES if not d.startswith("complex") and d != "bfloat16"])
def test_pandas_reads_the_same(tmp_path, dtype):
    values = make_global((7, 2), dtype)
    spmd(3, lambda comm: save(distribute(values, comm, 0), tmp_path / "x.csv", header_lines="a,b"))
    found = pandas.read_csv(tmp_path / "x.csv")
    assert list(found.columns) == ["a", "b"]
    np.testing.assert_array_equal(found.to_numpy().astype(values.numpy().dtype), values.numpy())


VALUES = np.random.default_rng(0).normal(size=(8, 3))


def from_h5netcdf(path):
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"t": None, "y": 3}
        file.resize_dimension("t", 8)
        made = file.create_variable(
            "g/x", ("t", "y"), ">f8", chunks=(3, 2), compression="gzip", fillvalue=-1.0
        )
        made[...] = VALUES
        file.create_variable("words", ("y",), h5py.string_dtype())[...] = np.array(["a", "b", "c"], object)


def from_netcdf4(path):
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("t", None)
        file.createDimension("y", 3)
        group = file.createGroup("g")
        made = group.createVariable("x", ">f8", ("t", "y"), endian="big", zlib=True, chunksizes=(5, 3))
        made[:] = VALUES
        file.createVariable("words", str, ("y",))[:] = np.array(["a", "b", "c"], object)


def from_xarray(path):
    packing = {
        "dtype": "int32",
        "scale_factor": 1e-8,
        "add_offset": 1.0,
        "_FillValue": -(2**31),
        "zlib": True,
    }
    data = xarray.Dataset({"x": (("t", "y"), VALUES), "words": ("y", ["a", "b", "c"])})
    data.to_netcdf(path, group="g", encoding={"x": packing}, unlimited_dims=["t"])
    xarray.Dataset({"words": ("y", ["a", "b", "c"])}).to_netcdf(path, mode="a")


def from_pandas(path):
    pandas.DataFrame(VALUES, columns=["a", "b", "c"]).to_csv(path, index=False)


def from_zarr(path):
    group = zarr.open_group(path, mode="w", zarr_format=3)
    codec = zarr.codecs.BloscCodec(cname="lz4")
    made = group.create_array(
        "g/x", shape=(8, 3), dtype="f8", chunks=(2, 3), shards=(4, 3), compressors=codec
    )
    made[...] = VALUES
    group.create_array("words", data=np.array(["a", "b", "c"]))


def from_h5py(path):
    with h5py.File(path, "w", userblock_size=1024) as file:
        options = {"chunks": (3, 2), "compression": "lzf", "maxshape": (None, 3), "fillvalue": -1}
        file.create_dataset("g/x", data=VALUES.astype(">f8"), scaleoffset=None, **options)
        file["words"] = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("file", "write", "options"),
    [
        ("x.h5", from_h5py, {}),
        ("x.nc", from_h5netcdf, {}),
        ("x.nc", from_netcdf4, {}),
        ("x.nc", from_xarray, {"atol": 1e-8}),
        ("x.zarr", from_zarr, {}),
        ("x.csv", from_pandas, {}),
    ],
)
def test_we_read_the_same(tmp_path, file, write, options):
    path = tmp_path / file
    write(path)

    def read(comm):
        name = () if file == "x.csv" else ("g/x",)
        header = {"header_lines": 1} if file == "x.csv" else {}
        for split in (None, 0, 1):
            x = load(path, *name, split=split, **header)
            part = VALUES[x.layout.slices(comm.rank)]
            np.testing.assert_allclose(x.larray, part, rtol=0, atol=options.get("atol", 0))
            assert x.dtype.name == "float64"
        if file == "x.csv":
            with pytest.raises(ValueError, match="path must be a file of"):
                load(path)
        else:
            with pytest.raises(TypeError, match=r"load_\w+: .*(elements of|type)"):
                load(path, "words", split=0)
        return x

    for p in (1, 3):
        spmd(p, read)


class Bomb:
    """Unpickling it makes a directory."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def numpy_bomb(path, bomb):
    np.save(path, np.array([bomb, 1], dtype=object), allow_pickle=True)


def hdf5_bomb(path, bomb):
    with h5py.File(path, "w") as file:
        file["x"] = np.void(pickle.dumps(bomb))
        file.attrs["x"] = np.void(pickle.dumps(bomb))


def zarr_bomb(path, bomb, place):
    """A store of numbers whose chunks are to be unpickled."""
    zarr.create_array(path, shape=(2,), chunks=(2,), dtype="f8", zarr_format=2, compressors=None)[...] = 1.0
    facts = json.loads((path / ".zarray").read_text())
    facts[place] = (
        {"id": "pickle", "protocol": 5} if place == "compressor" else [{"id": "pickle", "protocol": 5}]
    )
    (path / ".zarray").write_text(json.dumps(facts))
    (path / "0").write_bytes(pickle.dumps(bomb))


def csv_bomb(path, bomb):
    path.write_text("__import__('os').mkdir('owned'),1\n")


BOMBS = [
    ("x.npy", (), numpy_bomb),
    ("x.npz", ("x",), lambda path, bomb: np.savez(path, x=np.array([bomb], dtype=object))),
    ("x.h5", ("x",), hdf5_bomb),
    ("x.nc", ("x",), hdf5_bomb),
    ("x.zarr", (), lambda path, bomb: zarr_bomb(path, bomb, "compressor")),
    ("x.zarr", (), lambda path, bomb: zarr_bomb(path, bomb, "filters")),
    ("x.csv", (), csv_bomb),
]


@pytest.mark.parametrize(
    ("file", "name", "write"), BOMBS, ids=lambda found: found if isinstance(found, str) else ""
)
def test_no_file_runs_code(tmp_path, monkeypatch, file, name, write):
    monkeypatch.chdir(tmp_path)
    bomb = Bomb(tmp_path / "owned")
    write(tmp_path / file, bomb)
    with pytest.raises((TypeError, ValueError, OSError), match="load_"):
        load(tmp_path / file, *name)
    for look in (inspect, attributes):
        with contextlib.suppress(OSError):
            look(tmp_path / file)
    if file == "x.h5":
        with pytest.raises(OSError, match="must be a checkpoint"):
            checkpoint.load(tmp_path / file)
    assert not (tmp_path / "owned").exists()
    with pytest.raises(TypeError):
        checkpoint.save(tmp_path / "y.h5", {"x": bomb})
    pickle.loads(pickle.dumps(bomb))  # it would have worked
    assert (tmp_path / "owned").exists()


def test_netcdf_strings_are_refused_and_listed(tmp_path):
    from_netcdf4(tmp_path / "x.nc")
    with pytest.raises(TypeError, match="load_netcdf"):
        load_netcdf(tmp_path / "x.nc", "words")
    assert inspect(tmp_path / "x.nc").arrays["words"].dtype == "str"
