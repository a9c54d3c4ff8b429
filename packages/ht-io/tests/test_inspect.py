"""What files hold, told without reading their data: files of ours and of other libraries."""

import h5py
import netCDF4
import numpy as np
import pandas
import pytest
import torch
import xarray
import zarr
from ht_comm import spmd
from ht_io import attributes, inspect, save_csv, save_hdf5, save_netcdf, save_npy, save_npz, save_zarr
from ht_io.contents import ArrayInfo


def on_all(path, p=2, **options):
    """Return what all ranks are told, which rank 0 found alone, with one message."""

    def look(comm):
        with comm.trace() as trace:
            found = inspect(path, **options)
        assert trace.calls == 1
        return found

    found = spmd(p, look)
    assert all(repr(each) == repr(found[0]) for each in found)
    return found[0]


def test_hdf5(tmp_path):
    path = tmp_path / "x.h5"
    x = torch.ones(6, 2)
    save_hdf5(
        {"t": x, "g/y": x[0]}, path, attrs={"t": {"unit": "K", "n": np.arange(2)}}, dims={"t": ("a", None)}
    )
    save_hdf5(x.bfloat16(), path, "b", "a", maxshape=(None, 2), chunks=(2, 2))
    with h5py.File(path, "a") as file:
        file.attrs.update(title="run", levels=["low", "high"], empty=h5py.Empty("f4"), by=np.bytes_("me"))
        file["words"] = ["a", "b"]
        file["big"] = np.ones(3, ">i2")
        file["pairs"] = np.zeros(2, [("a", "i4"), ("b", "f4")])
        file["t"].attrs["see"] = file["big"].ref
    found = on_all(path)
    assert list(found.arrays) == ["b", "big", "g/y", "pairs", "t", "words"]
    assert found.arrays["b"] == ArrayInfo((6, 2), "bfloat16", (2, 2), (None, 2), (None, None))
    assert (found.arrays["big"].dtype, found.arrays["words"].dtype) == ("int16", "str")
    assert found.arrays["pairs"].dtype.startswith("[('a'")
    assert found.arrays["t"].dims == ("a", None)
    assert found.arrays["t"].attrs["unit"] == "K"
    assert found.arrays["t"].attrs["n"].tolist() == [0, 1]
    assert set(found.arrays["t"].attrs) == {"unit", "n"}
    assert found.attrs == {"title": "run", "levels": ["low", "high"], "empty": None, "by": "me"}
    assert "t: float32 (a = 6, 2)\n    n: array([0, 1])\n    unit: 'K'" in str(found)


@pytest.mark.parametrize("format", ["NETCDF4", "NETCDF3_CLASSIC", "NETCDF3_64BIT_DATA"])
@pytest.mark.parametrize("writer", ["ht", "netcdf4", "xarray"])
def test_netcdf(tmp_path, format, writer):
    path = tmp_path / "x.nc"
    values, times = np.ones((3, 2), "f4"), np.arange(3.0)
    if writer == "ht":
        names = {"t": ("time", "y")}
        options = {"attrs": {"t": {"units": "K"}}, "file_attrs": {"title": "run"}, "format": format}
        arrays = {"t": torch.tensor(values), "time": torch.tensor(times)}
        save_netcdf(arrays, path, None, "w", names, "time", **options)
    elif writer == "netcdf4":
        with netCDF4.Dataset(path, "w", format=format) as file:
            file.createDimension("time", None)
            file.createDimension("y", 2)
            file.title = "run"
            file.createVariable("t", "f4", ("time", "y"))[:] = values
            file.createVariable("time", "f8", ("time",))[:2] = times[:2]  # one less than there are
            file["t"].units = "K"
    elif format == "NETCDF3_64BIT_DATA":
        return  # xarray does not write it
    else:
        data = xarray.Dataset(
            {"t": (("time", "y"), values, {"units": "K"})}, {"time": times}, {"title": "run"}
        )
        data.to_netcdf(path, format=format, engine="netcdf4", unlimited_dims=["time"])
    found = on_all(path)
    assert found.format == "NetCDF"
    assert (found.dims, found.unlimited) == ({"time": 3, "y": 2}, ("time",))
    assert found.attrs == {"title": "run"}
    assert list(sorted(found.arrays)) == ["t", "time"]
    t = found.arrays["t"]
    assert (t.shape, t.dtype, t.dims, t.maxshape) == ((3, 2), "float32", ("time", "y"), (None, 2))
    assert t.attrs["units"] == "K"
    assert found.arrays["time"].shape == (3,)
    assert "  time = 3, unlimited" in str(found)
    with xarray.open_dataset(path, decode_times=False, engine="netcdf4") as other:
        assert dict(other.sizes) == found.dims


def test_groups_of_netcdf(tmp_path):
    with netCDF4.Dataset(tmp_path / "x.nc", "w") as file:
        group = file.createGroup("g")
        group.createDimension("y", 4)
        group.createDimension("z", 2)
        group.createVariable("y", "i2", ("y", "z"))[:] = 1  # coordinates of two axes
        group.createVariable("z", "f4", ("y",))[:] = 1  # has the name of a dimension, is not its coordinate
    found = on_all(tmp_path / "x.nc")
    assert found.dims == {"g/y": 4, "g/z": 2}
    assert {name: x.dims for name, x in found.arrays.items()} == {"g/y": ("y", "z"), "g/z": ("y",)}


def test_numpy_files(tmp_path):
    save_npy(torch.ones(3, 2, dtype=torch.int16), tmp_path / "x.npy", order="F")
    assert on_all(tmp_path / "x.npy").arrays == {"": ArrayInfo((3, 2), "int16", dims=(None, None))}
    save_npz({"a": torch.ones(4), "g/b": torch.tensor(True)}, tmp_path / "x.npz")
    expected = {"a": ArrayInfo((4,), "float32", dims=(None,)), "g/b": ArrayInfo((), "bool")}
    assert on_all(tmp_path / "x.npz").arrays == expected
    np.savez_compressed(
        tmp_path / "y.npz", a=np.ones(3, ">f8"), text=np.array(["a"]), any=np.array([None, 1])
    )
    found = on_all(tmp_path / "y.npz").arrays
    assert [x.dtype for x in found.values()] == ["float64", "<U1", "object"]


def test_tables(tmp_path):
    save_csv(torch.ones(5, 2), tmp_path / "x.csv", "a comment\nfirst,second")
    assert on_all(tmp_path / "x.csv").arrays[""].shape == (None, 2)
    assert attributes(tmp_path / "x.csv") == {"header_lines": 2, "columns": ["first", "second"]}
    pandas.DataFrame({"a;b": [1.5, np.nan], "c": [2, 3]}).to_csv(
        tmp_path / "y.csv", index=False, sep=";", na_rep="nan"
    )
    found = on_all(tmp_path / "y.csv", sep=";")
    assert found.attrs == {"header_lines": 1, "columns": ["a;b", "c"]}
    (tmp_path / "z.csv").write_text("1,2,3\n" * 30000)
    assert on_all(tmp_path / "z.csv").arrays[""] == ArrayInfo(
        (None, 3), "float64", dims=(None, None), attrs={"header_lines": 0}
    )


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_zarr(tmp_path, zarr_format):
    path = tmp_path / "x.zarr"
    data = xarray.Dataset(
        {"t": (("time", "y"), np.ones((3, 2), "f4"), {"units": "K"})}, attrs={"title": "run"}
    )
    data.to_zarr(path, zarr_format=zarr_format, consolidated=False)
    found = on_all(path)
    assert found.attrs == {"title": "run"}
    t = found.arrays["t"]
    assert (t.shape, t.dtype, t.dims, t.chunks) == ((3, 2), "float32", ("time", "y"), (3, 2))
    assert t.attrs["units"] == "K"
    save_zarr(torch.ones(4), path, attrs={"a": 1}, dims=("x",))
    assert on_all(path).arrays == {"": ArrayInfo((4,), "float32", (4,), None, ("x",), {"a": 1})}
    assert attributes(path) == {"a": 1}
    zarr.open_group(path, mode="w")
    assert on_all(path).arrays == {}


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("missing.h5", FileNotFoundError, "inspect: path must be an existing"),
        ("missing.zarr", FileNotFoundError, "inspect: path must be an existing"),
        ("bad.h5", OSError, "inspect: path must be a complete HDF5"),
        ("bad.nc", OSError, "path must be a complete"),
        ("bad.npy", OSError, "inspect: path must be a complete .npy"),
        ("bad.npz", OSError, "inspect: path must be a complete .npz"),
        ("x.txt", ValueError, "inspect: path must end in one of"),
    ],
)
def test_errors_are_the_same_everywhere(tmp_path, name, kind, text):
    if name.startswith("bad"):
        (tmp_path / name).write_bytes(b"CDF\1 bad")

    def look(comm):
        with pytest.raises(kind, match=text) as caught:
            inspect(tmp_path / name)
        return str(caught.value)

    assert len(set(spmd(3, look))) == 1


def test_attributes(tmp_path):
    save_hdf5({"g/x": torch.ones(2)}, tmp_path / "x.h5", attrs={"g/x": {"a": 1.5}})

    def look(comm):
        with pytest.raises(KeyError, match=r"got 'y', which is not in .*, which has: g/x"):
            attributes(tmp_path / "x.h5", "y")
        return attributes(tmp_path / "x.h5", "/g/x")

    assert spmd(2, look) == [{"a": 1.5}] * 2


@pytest.mark.mpi
def test_on_processes(comm, shared_tmp_path):
    save_hdf5(torch.ones(2), shared_tmp_path / "x.h5", "x")
    assert list(inspect(shared_tmp_path / "x.h5").arrays) == ["x"]
    with pytest.raises(FileNotFoundError, match="inspect"):
        inspect(shared_tmp_path / "y.h5")
