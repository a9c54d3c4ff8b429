"""Adding to data sets that are there: HDF5 with limits of None, NetCDF along unlimited dimensions."""

import os

import h5netcdf
import h5py
import netCDF4
import numpy as np
import pytest
import torch
import xarray
from ht_comm import spmd
from ht_io import chunked, classic_append, hdf5_items, load_hdf5, load_netcdf, save_hdf5, save_netcdf
from io_arrays import distribute, make_counts, make_global, same

#: Filters and types of data sets that h5py makes.
FORMS = [
    {"chunks": (4, 3)},
    {"chunks": (3, 4), "compression": "gzip", "shuffle": True},
    {"chunks": (5, 2), "compression": "lzf", "fletcher32": True},
    {"chunks": (2, 4), "dtype": ">f8"},
    {"chunks": (4, 4), "dtype": "f4", "fillvalue": -7.0},
]


@pytest.mark.parametrize("form", FORMS, ids=str)
@pytest.mark.parametrize("seed", range(3))
def test_any_part_of_what_h5py_made(tmp_path, monkeypatch, form, seed):
    """Parts at random places, of any split, some beyond the end: as in h5py, which we compare with."""
    monkeypatch.setattr(chunked, "_WAVE_BYTES", 100)
    rng = np.random.default_rng(seed)
    path = tmp_path / "x.h5"
    whole = rng.integers(1, 9, (7, 5)).astype(form.get("dtype", "f8"))
    with h5py.File(path, "w") as file:
        made = file.create_dataset("g/x", data=whole, maxshape=(None, None), **form)
        made.attrs["unit"], made.attrs["n"] = "K", 3
    for _ in range(4):
        low = [int(rng.integers(0, n + 2)) for n in whole.shape]
        size = [int(rng.integers(1, 7)) for _ in low]
        values = torch.from_numpy(rng.normal(size=size).astype("f4"))
        key = tuple(slice(a, a + n) for a, n in zip(low, size))
        split, p = [(None, 2), (0, 1), (0, 3), (1, 3)][rng.integers(4)]
        counts = None if split is None else make_counts(size[split], p, int(rng.integers(99)))

        def write(comm, values=values, key=key, split=split, counts=counts):
            x = distribute(values, comm, split, counts)
            save_hdf5(x, path, "g/x", "r+", file_slices=key)

        spmd(p, write)
        shape = [max(n, k.stop) for n, k in zip(whole.shape, key)]
        grown = np.full(shape, form.get("fillvalue", 0), whole.dtype)
        grown[: whole.shape[0], : whole.shape[1]] = whole
        grown[key] = values.numpy()
        whole = grown
        with h5py.File(path) as file:
            np.testing.assert_array_equal(file["g/x"][...], whole)
            assert file["g/x"].dtype == whole.dtype
            assert dict(file["g/x"].attrs) == {"unit": "K", "n": 3}
            assert file["g/x"].chunks == form["chunks"]
    assert os.listdir(tmp_path) == ["x.h5"]


@pytest.mark.parametrize("p", [1, 3])
@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize(
    "options", [{}, {"compression": 1, "chunks": (2, 2, 2)}, {"compression": "lzf"}], ids=str
)
def test_steps_follow_each_other(tmp_path, p, axis, options):
    values, path = make_global((3, 4, 5), "int32"), tmp_path / "x.h5"
    parts = torch.split(values, [2, 1, 1] if axis == 1 else 2, axis)

    def write(comm):
        for number, part in enumerate(parts):
            x = distribute(part, comm, [None, 0, 1][number])
            save_hdf5({"a/x": x, "y": x}, path, mode="a", append=axis, dims={"a/x": list("tuv")}, **options)
            nothing = x[(slice(None),) * (axis % 3) + (slice(0),)]
            save_hdf5(nothing, path, "y", "r+", append=axis)
        for name in ("a/x", "y"):
            back = load_hdf5(path, name, split=1)
            assert same(back.larray, values[back.layout.slices(comm.rank)].contiguous())

    spmd(p, write)
    with h5py.File(path) as file:
        assert [n is None for n in file["y"].maxshape] == [i == axis % 3 for i in range(3)]
        assert [d.label for d in file["a/x"].dims] == ["t", "u", "v"]


@pytest.mark.parametrize("writer", ["ht", "netcdf4", "h5netcdf", "xarray"])
@pytest.mark.parametrize("p", [1, 3])
def test_time_steps(tmp_path, writer, p):
    """Coordinates and a packed variable go on; a variable that is not given has missing values there."""
    path = tmp_path / "x.nc"
    values, times = make_global((9, 4), "float32").nan_to_num(3, 3, -3), torch.arange(9.0).double()
    packing = {"dtype": "int16", "scale_factor": 0.5, "_FillValue": -99}
    first = xarray.Dataset(
        {n: (("time", "y"), values[:5].numpy()) for n in ("t", "packed", "rest")},
        {"time": times[:5].numpy(), "y": np.arange(4.0)},
    )
    if writer == "ht":
        arrays = {n: torch.tensor(first[n].values) for n in (*first, *first.coords)}
        names = dict.fromkeys(first, ("time", "y"))
        save_netcdf(arrays, path, None, "w", names, "time", encoding={"packed": packing}, chunks=True)
    else:
        engine = "netcdf4" if writer == "netcdf4" else "h5netcdf"
        first.to_netcdf(path, unlimited_dims=["time"], engine=engine, encoding={"packed": packing})

    def write(comm, split):
        for low, high in ((5, 6), (6, 9)):
            x = distribute(values[low:high], comm, split)
            arrays = {"t": x, "time": times[low:high], "packed": x}
            save_netcdf(arrays, path, mode="a", append="time")
        back = load_netcdf(path, "t", split=0)
        assert same(back.larray, values[back.layout.slices(comm.rank)])
        return load_netcdf(path, "rest", split=1).larray[5:]

    rest = spmd(p, write, 0 if p == 1 else 1)[0]
    halves = (values * 2).round() / 2
    for engine in ("netcdf4", "h5netcdf"):
        with xarray.open_dataset(path, engine=engine, decode_times=False) as found:
            assert dict(found.sizes) == {"time": 9, "y": 4}
            np.testing.assert_array_equal(found["t"], values)
            np.testing.assert_array_equal(found["time"], times)
            np.testing.assert_array_equal(found["packed"], halves)
            np.testing.assert_array_equal(found["rest"][:5], values[:5])
            np.testing.assert_array_equal(found["rest"][5:, :1], rest[:, :1])
            expected = 9.969209968386869e36 if writer == "ht" else np.nan  # xarray gives floats a fill value
            np.testing.assert_array_equal(found["rest"][5:], np.full((4, 4), expected, "f4"))
    with netCDF4.Dataset(path, "a") as file:
        assert file.dimensions["time"].isunlimited()
        file["t"][9] = 1.0
        assert file["rest"].shape == (10, 4)


def test_a_loop_that_makes_the_file_and_goes_on(tmp_path):
    def write(comm):
        for step in range(3):
            x = distribute(torch.full((1, 3), float(step)), comm, 1)
            save_netcdf(x, tmp_path / "x.nc", "x", "a", ("time", "y"), append="time")
            save_netcdf(
                x, tmp_path / "y.nc", "g/x", "a", ("time", "y"), True, append="time", attrs={"units": "m"}
            )
        save_netcdf(x * 0, tmp_path / "x.nc", "x", "r+", file_slices=slice(4, 5))

    spmd(2, write)
    with netCDF4.Dataset(tmp_path / "x.nc") as file, netCDF4.Dataset(tmp_path / "y.nc") as other:
        assert file["x"][:, 0].filled(-1).tolist() == [0, 1, 2, -1, 0]
        assert other["g/x"][:, 2].tolist() == [0, 1, 2]
        assert other["g/x"].units == "m"
        assert file["x"].dimensions == ("time", "y")


def test_variables_of_which_less_is_written_than_their_dimensions_are_long(tmp_path):
    path = tmp_path / "x.nc"
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("time", None)
        file.createDimension("rec", None)
        file.createDimension("y", 2)
        file.createVariable("a", "f4", ("time", "y"))[:5] = 1
        file.createVariable("b", "i2", ("time", "y"))[:3] = np.arange(6).reshape(3, 2)
        file.createVariable("c", "u8", ("y", "rec"))[:, :4] = 3
        file.createVariable("d", "u8", ("y", "rec"))[:, :2] = np.arange(4).reshape(2, 2)
        file.createVariable("e", "f8", ("rec",), fill_value=-1.0)
    with h5netcdf.File(path) as file:  # the netCDF library itself mixes up rows of "d"
        expected = {name: file[name][...] for name in "abcd"}
    with h5py.File(path) as file:
        assert file["b"].shape == (3, 2)

    def read(comm):
        for name, whole in expected.items():
            for key in (
                (),
                (slice(1, None, 2),),
                (slice(None), slice(0, 2)),
                ([1, 0, 1],),
                (slice(None), [1, 0]),
            ):
                want = whole[key]
                for split in (None, 0, 1):
                    x = load_netcdf(path, name, split=split, slices=key)
                    np.testing.assert_array_equal(x.larray.numpy(), want[x.layout.slices(comm.rank)])
        rows = load_netcdf(path, "b", slices=[4, 0, 3], dtype="float64", split=0)
        np.testing.assert_array_equal(rows.larray, expected["b"][[4, 0, 3]][rows.layout.slices(comm.rank)])
        columns = load_netcdf(path, "d", slices=(slice(None), [3, 0, 2, 1]))
        np.testing.assert_array_equal(columns.larray.numpy(), expected["d"][:, [3, 0, 2, 1]])
        assert torch.isnan(load_netcdf(path, "e").larray).tolist() == [True] * 4

    for p in (1, 2):
        spmd(p, read)


@pytest.mark.parametrize(
    ("name", "made", "added"),
    [
        ("write_chunks", {"maxshape": (None, 2), "chunks": (3, 2)}, {"append": 0}),
        ("write_in_turns", {}, {"file_slices": slice(1, 5)}),
    ],
)
def test_a_failure_leaves_the_file_as_it_was(tmp_path, monkeypatch, name, made, added):
    path = tmp_path / "x.h5"
    save_hdf5(torch.ones(5, 2), path, "x", **made)
    before = path.read_bytes()
    real = getattr(hdf5_items, name)

    def fail(*args):
        found = real(*args)
        comm = next(arg for arg in args if hasattr(arg, "rank"))
        return OSError(28, "No space left on device") if comm.rank == 1 else found

    monkeypatch.setattr(hdf5_items, name, fail)

    def write(comm):
        with pytest.raises(OSError, match="No space left"):
            save_hdf5(distribute(torch.ones(4, 2), comm, 0), path, "x", "a", **added)

    spmd(2, write)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.h5"]


def test_messages(tmp_path):
    save_hdf5(torch.ones(5, 2), tmp_path / "x.h5", "x", maxshape=(None, 2), chunks=(4, 2))

    def count(comm):
        x = distribute(torch.ones(6, 2), comm, 0)
        with comm.trace() as trace:
            save_hdf5(x, tmp_path / "x.h5", "x", "a", append=0)
        return {op: calls for op, (calls, _, _) in trace.by_op.items()}

    found = spmd(2, count)[0]
    assert found["allreduce"] == 1
    assert sum(found.values()) <= 10


WRONG = [
    ({"mode": "w", "append": 0}, "mode must be 'a' or 'r\\+' with append"),
    ({"append": 0, "file_slices": 1}, "append must be None with file_slices"),
    ({"append": 2}, "append must be in"),
    ({"append": 1}, "must have the shape of 'x', \\(5, 3\\), but for axis 1"),
    ({"dataset": "fixed", "append": 0}, "may have 5 indices along axis 0"),
    ({"dataset": "new", "file_slices": slice(2)}, "one of the file with file_slices"),
    ({"file_slices": slice(0, 3)}, "as long as x"),
    ({"file_slices": slice(0, 4, 2)}, "without steps"),
    ({"file_slices": (slice(0, 2), 1, 1)}, "an entry for each of 2 axes"),
    ({"file_slices": slice(-9, None)}, "file_slices must be"),
    ({"file_slices": "all"}, "file_slices must have an entry"),
    ({"dataset": "fixed", "file_slices": slice(4, 6)}, "may have 5 indices"),
    ({"dataset": "text", "append": 0}, "must hold elements of"),
]


@pytest.mark.parametrize(("options", "text"), WRONG, ids=lambda found: str(found)[:40])
def test_refusals(tmp_path, options, text):
    path = tmp_path / "x.h5"
    save_hdf5({"x": torch.ones(5, 3)}, path, maxshape=(None, 3))
    save_hdf5({"fixed": torch.ones(5, 3)}, path, mode="a")
    with h5py.File(path, "a") as file:
        file["text"] = "words"
    before = path.read_bytes()
    options = {"dataset": "x", "mode": "a", **options}

    def write(comm):
        x = distribute(torch.ones(2, 2 if options.get("append") == 1 else 3), comm, 0)
        with pytest.raises((ValueError, KeyError, TypeError), match=text) as caught:
            save_hdf5(x, path, **options)
        return str(caught.value)

    assert len(set(spmd(2, write))) == 1
    assert path.read_bytes() == before


def test_refusals_of_netcdf(tmp_path):
    path = tmp_path / "x.nc"
    x = torch.ones(2, 3)
    names = {"x": ("time", "y"), "y": ("y",)}
    save_netcdf({"x": x, "y": torch.ones(3)}, path, None, "w", names, "time")

    def write(comm):
        for arrays, options, text in (
            ({"y": torch.ones(3)}, {}, "append must be a dimension of every variable, got 'time' for 'y'"),
            ({"x": x, "z": x}, {}, "all, or none, got 'z'"),
            ({"x": x}, {"dimension_names": {"x": ("t", "y")}}, "dimension_names must be those of the file"),
            ({"x": x}, {"append": "x"}, "append must be a dimension"),
            ({"n": x}, {}, "is_unlimited must be"),
            ({"x": x[:, :2]}, {}, "must have the shape"),
        ):
            with pytest.raises((ValueError, KeyError), match=text):
                save_netcdf(arrays, path, mode="a", **{"append": "time", **options})

    spmd(2, write)
    with h5netcdf.File(path) as file:
        assert file["x"].shape == (2, 3)


CLASSIC = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]


@pytest.mark.parametrize("format", CLASSIC)
@pytest.mark.parametrize("writer", ["ht", "netcdf4", "alone"])
def test_records_of_classic_files(tmp_path, monkeypatch, format, writer):
    """Interleaved with others, packed, of odd sizes; written where the file is."""
    path = tmp_path / "x.nc"
    values, times = make_global((9, 3), "int16").float(), torch.arange(9.0).double()
    names = {"b": ("time", "y"), "packed": ("time", "y"), "rest": ("time", "y")}
    packing = {"dtype": "int16", "scale_factor": 0.5, "_FillValue": -99}
    if writer == "alone":
        save_netcdf(values[:5].short(), path, "b", "w", ("time", "y"), "time", format=format)
    elif writer == "ht":
        arrays = {name: values[:5] for name in names}
        arrays = {**arrays, "b": values[:5].to(torch.int8), "time": times[:5]}
        save_netcdf(arrays, path, None, "w", names, "time", format=format, encoding={"packed": packing})
    else:
        with netCDF4.Dataset(path, "w", format=format) as file:
            file.createDimension("y", 3)
            file.createDimension("time", None)
            for name, kind, fill in (("b", "i1", None), ("packed", "i2", -99), ("rest", "f4", None)):
                file.createVariable(name, kind, ("time", "y"), fill_value=fill)
            file["packed"].scale_factor = 0.5
            for name in names:
                file[name][:5] = values[:5].numpy()
            file.createVariable("time", "f8", ("time",))[:5] = times[:5].numpy()
    inode = path.stat().st_ino

    def write(comm, split):
        for low, high in ((5, 6), (6, 9)):
            x = distribute(values[low:high], comm, split)
            arrays = {"b": x} if writer == "alone" else {"b": x, "time": times[low:high], "packed": x}
            save_netcdf(arrays, path, mode="a", append="time")
            save_netcdf({"b": x[:0]}, path, mode="r+", append="time")

    spmd(3, write, 0 if writer == "ht" else 1)
    assert path.stat().st_ino == inode
    with netCDF4.Dataset(path) as file:
        assert file.data_model == format
        assert file.dimensions["time"].isunlimited()
        file.set_auto_mask(False)
        np.testing.assert_array_equal(file["b"][...], values)
        if writer != "alone":
            np.testing.assert_array_equal(file["packed"][...], values)
            np.testing.assert_array_equal(file["time"][...], times)
            np.testing.assert_array_equal(file["rest"][:5], values[:5])
            assert (file["rest"][5:] == np.float32(netCDF4.default_fillvals["f4"])).all()
    before = path.read_bytes()
    assert (load_netcdf(path, "b", split=0).larray == values).all()

    def fail(comm):
        monkeypatch.setattr(classic_append, "_fill_rest", lambda *args: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            save_netcdf({"b": values[:4]}, path, mode="a", append="time")

    spmd(1, fail)
    assert path.read_bytes() == before


def test_a_loop_that_makes_a_classic_file(tmp_path):
    def write(comm):
        for step in range(3):
            x = distribute(torch.full((1, 5), float(step)), comm, 1)
            save_netcdf(x, tmp_path / "x.nc", "x", "a", ("t", "y"), append="t", format="NETCDF3_CLASSIC")
        for arrays, options, text in (
            ({"y": x}, {"append": "t"}, "must be one of the file"),
            ({"x": x}, {"append": "y"}, "append must be the unlimited dimension of the file, 't'"),
            ({"x": x[:, :2]}, {"append": "t"}, "must have the shape"),
            ({"x": x}, {"file_slices": 1}, "file_slices must be None for classic"),
        ):
            with pytest.raises((ValueError, KeyError), match=text):
                save_netcdf(arrays, tmp_path / "x.nc", mode="a", **options)

    spmd(2, write)
    with netCDF4.Dataset(tmp_path / "x.nc") as file:
        assert file["x"][:, 4].tolist() == [0, 1, 2]


def test_a_number_of_records_that_was_never_written(tmp_path):
    path = tmp_path / "x.nc"
    save_netcdf(torch.arange(5.0), path, "x", is_unlimited=True, format=CLASSIC[0])
    data = bytearray(path.read_bytes())
    data[4:8] = b"\xff" * 4
    path.write_bytes(data)
    save_netcdf(torch.arange(2.0), path, "x", "a", append="x_dim_0")
    assert load_netcdf(path, "x").larray.tolist() == [0, 1, 2, 3, 4, 0, 1]


@pytest.mark.mpi
def test_on_processes(comm, shared_tmp_path):
    values = make_global((11, 3), "float64")
    for low, high in ((0, 4), (4, 6), (6, 11)):
        x = distribute(values[low:high], comm, 0, make_counts(high - low, comm.size))
        save_hdf5(x, shared_tmp_path / "x.h5", "x", "a", append=0, compression=1, chunks=(4, 2))
        save_netcdf(x, shared_tmp_path / "x.nc", "x", "a", ("t", "y"), append="t")
    for back in (load_hdf5(shared_tmp_path / "x.h5", "x"), load_netcdf(shared_tmp_path / "x.nc", "x")):
        assert same(back.larray, values)
