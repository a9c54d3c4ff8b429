"""NetCDF, version 4 and classic: files that netCDF4, h5netcdf and xarray read, and that they wrote."""

import contextlib

import h5netcdf
import netCDF4
import numpy as np
import pytest
import torch
import xarray
from ht_comm import spmd
from ht_core import Layout, types
from ht_io import load, load_netcdf, save, save_netcdf
from ht_io.cf import plan_packing
from ht_io.classic import HeaderError, parse_header
from io_arrays import distribute, make_counts, make_global, same

CLASSIC = ["NETCDF3_CLASSIC", "NETCDF3_64BIT_OFFSET", "NETCDF3_64BIT_DATA"]
ALL = ["NETCDF4", *CLASSIC]
SMALL = ["int8", "int16", "int32", "float32", "float64", "bool"]
LARGE = [*SMALL, "uint8", "uint16", "uint32", "int64", "uint64"]


def read_with_netcdf4(path, name):
    with netCDF4.Dataset(path) as file:
        file.set_auto_mask(False)
        file.set_auto_scale(False)
        return file[name][...], file[name].dimensions, file.data_model


@pytest.mark.parametrize("format", ALL)
@pytest.mark.parametrize("p", [1, 3])
def test_round_trip_of_dtypes(tmp_path, format, p):
    for dtype in LARGE if format in ("NETCDF4", "NETCDF3_64BIT_DATA") else SMALL:
        values = make_global((7, 3), dtype)

        def check(comm, split, values=values):
            counts = None if split is None else make_counts(values.shape[split], comm.size)
            x = distribute(values, comm, split, counts)
            save_netcdf(x, tmp_path / "x.nc", "x", dimension_names=("t", "y"), format=format)
            for read in (None, 0, 1):
                back = load_netcdf(tmp_path / "x.nc", "x", split=read)
                assert back.layout is Layout.even((7, 3), read, comm.size)
                assert same(back.larray, values[back.layout.slices(comm.rank)])

        for split in (None, 0, 1):
            spmd(p, check, split)
        found, names, model = read_with_netcdf4(tmp_path / "x.nc", "x")
        np.testing.assert_array_equal(found, values.to(torch.int8) if dtype == "bool" else values.numpy())
        assert (names, model) == (("t", "y"), format)


@pytest.mark.parametrize("format", ALL)
@pytest.mark.parametrize("shape", [(), (1,), (5,), (0,), (2, 3, 4), (0, 3)], ids=str)
def test_round_trip_of_shapes(tmp_path, format, shape):
    values = make_global(shape)

    def check(comm):
        for split in [None, *range(len(shape))]:
            save(distribute(values, comm, split), tmp_path / "x.nc", "x", format=format)
            back = load(tmp_path / "x.nc", "x", split=split)
            assert same(back.larray, values[back.layout.slices(comm.rank)])

    spmd(3, check)
    assert read_with_netcdf4(tmp_path / "x.nc", "x")[0].shape == shape


@pytest.mark.parametrize("format", ALL)
@pytest.mark.parametrize("p", [1, 2, 4])
def test_records_and_coordinates(tmp_path, format, p):
    """Three variables along an unlimited dimension, two of them interleaved with odd sizes, and coordinates."""
    path = tmp_path / "x.nc"
    a, b, t = make_global((9, 3), "int16"), make_global((9, 5), "float64"), make_global((9,), "float64", 1)
    y = make_global((3,), "float32", 2)

    def check(comm, split):
        arrays = {
            "a": distribute(a, comm, split),
            "b": distribute(b, comm, split),
            "time": distribute(t, comm, 0),
            "y": y,
        }
        save_netcdf(
            arrays,
            path,
            dimension_names={"a": ("time", "y"), "b": ("time", "z")},
            is_unlimited="time",
            format=format,
            attrs={"a": {"units": "K", "valid": np.array([1, 2], "i4")}, "time": {"units": "days"}},
            file_attrs={"title": "rêve", "version": 3.5},
        )
        for name, values in (("a", a), ("b", b), ("time", t), ("y", y)):
            for read in range(values.ndim):
                back = load_netcdf(path, name, split=read)
                assert same(back.larray, values[back.layout.slices(comm.rank)])
        back = load_netcdf(path, "b", split=0, slices=(slice(1, None, 3), [4, 0, 4]))
        assert same(back.larray, b[1::3][:, [4, 0, 4]][back.layout.slices(comm.rank)])
        back = load_netcdf(path, "a", split=0, slices=[8, 0, 3, 3])
        assert same(back.larray, a[[8, 0, 3, 3]][back.layout.slices(comm.rank)])

    for split in (0, 1):
        spmd(p, check, split)
    with netCDF4.Dataset(path) as file:
        assert {name: len(d) for name, d in file.dimensions.items()} == {"time": 9, "y": 3, "z": 5}
        assert [name for name, d in file.dimensions.items() if d.isunlimited()] == ["time"]
        assert file["a"].units == "K"
        assert file["a"].valid.tolist() == [1, 2]
        assert (file.title, file.version) == ("rêve", 3.5)
        np.testing.assert_array_equal(file["a"][...], a.numpy())
        np.testing.assert_array_equal(file["b"][...].filled(), b.numpy())
    for engine in ["netcdf4", *(["h5netcdf"] if format == "NETCDF4" else [])]:
        with xarray.open_dataset(path, engine=engine, decode_times=False) as found:
            assert found["a"].dims == ("time", "y")
            np.testing.assert_array_equal(found["time"], t)
            np.testing.assert_array_equal(found["y"], y)
            np.testing.assert_array_equal(found["b"], b)
    with netCDF4.Dataset(path, "a") as file:  # others can go on with it
        file["time"][9] = 5.0
        file["a"].comment = "longer"
        file.set_auto_mask(False)
        assert file["a"].shape == (10, 3)
        np.testing.assert_array_equal(file["a"][:9], a.numpy())


@pytest.mark.parametrize("format", ["NETCDF4", "NETCDF4_CLASSIC", "NETCDF3_CLASSIC", CLASSIC[1], CLASSIC[2]])
def test_files_that_netcdf4_wrote(tmp_path, format):
    path = tmp_path / "x.nc"
    rng = np.random.default_rng(0)
    with netCDF4.Dataset(path, "w", format=format) as file:
        file.createDimension("time", None)
        file.createDimension("y", 5)
        file.createDimension("text", 4)
        expected = {}
        for name, kind, dims in (
            ("fixed", "f4", ("y",)),
            ("scalar", "f8", ()),
            ("one", "i2", ("time",)),
            ("two", "i1", ("time", "y")),
            ("three", "f8", ("time", "y")),
        ):
            made = file.createVariable(name, kind, dims)
            shape = tuple({"time": 6, "y": 5}[d] for d in dims)
            expected[name] = rng.integers(0, 100, shape).astype(kind)
            made[...] = expected[name]
        file.createVariable("word", "S1", ("text",))[:] = list("rain")
        if format == "NETCDF4":
            group = file.createGroup("deep").createGroup("er")
            made = group.createVariable(
                "zipped", "f4", ("time", "y"), zlib=True, endian="little", chunksizes=(4, 2), fletcher32=True
            )
            made[...] = expected["deep/er/zipped"] = rng.normal(size=(6, 5)).astype("f4")
            file.createVariable("y", "f4", ("time",))[...] = expected["y"] = np.arange(6, dtype="f4")
            file.createVariable("unwritten", "i4", ("y",))
            expected["unwritten"] = np.full(5, netCDF4.default_fillvals["i4"], "i4")

    def check(comm):
        for name, whole in expected.items():
            for split in [None, *range(whole.ndim)]:
                x = load_netcdf(path, name, split=split)
                np.testing.assert_array_equal(x.larray.numpy(), whole[x.layout.slices(comm.rank)])
                assert x.dtype.numpy == whole.dtype
            x = load_netcdf(path, name, split=0 if whole.ndim else None, dtype="float64", slices=Ellipsis)
            np.testing.assert_array_equal(x.larray.numpy(), whole[x.layout.slices(comm.rank)])
        with pytest.raises(TypeError, match=r"load_netcdf: .*word"):
            load_netcdf(path, "word")
        with pytest.raises(KeyError, match=r"load_netcdf: .*nothing"):
            load_netcdf(path, "nothing")
        with pytest.raises(KeyError, match=r"load_netcdf: variable must be"):
            load_netcdf(path, "time")

    for p in (1, 3):
        spmd(p, check)


PACKINGS = [
    {"scale_factor": np.float32(0.5)},
    {"scale_factor": np.float64(0.1), "add_offset": np.float64(3)},
    {"scale_factor": np.float32(0.5), "add_offset": np.float32(3)},
    {"scale_factor": np.float32(0.5), "add_offset": np.float64(3)},
    {"add_offset": np.float32(1.5)},
    {"_FillValue": 7},
    {"missing_value": 7},
    {"_FillValue": 7, "scale_factor": np.float64(0.25)},
    {"_Unsigned": "true"},
    {"_Unsigned": "true", "_FillValue": -1, "scale_factor": np.float32(2)},
    {"units": "m"},
]


@pytest.mark.parametrize("attrs", PACKINGS, ids=str)
@pytest.mark.parametrize("kind", ["i1", "i2", "i4", "f4", "f8"])
def test_packed_values_are_those_of_xarray(tmp_path, kind, attrs):
    raw = np.array([[7, -1, 3], [100, 7, -128]]).astype(kind)
    if attrs.get("_Unsigned") and (kind[0] == "f" or kind == "i4"):
        attrs = {"_FillValue": -1}  # xarray compares uint32 with its fill value in float32: neighbours go too
    path = tmp_path / "x.nc"
    attrs = {k: np.array(v, kind) if k in ("_FillValue", "missing_value") else v for k, v in attrs.items()}
    with netCDF4.Dataset(path, "w") as file:
        file.createDimension("t", 2)
        file.createDimension("y", 3)
        fill = attrs.get("_FillValue")
        made = file.createVariable("x", kind, ("t", "y"), fill_value=fill)
        made.set_auto_maskandscale(False)
        made[...] = raw
        made.setncatts({k: v for k, v in attrs.items() if k != "_FillValue"})
    with xarray.open_dataset(path) as found:
        expected = found["x"].values

    def check(comm):
        for split in (None, 0, 1):
            x = load_netcdf(path, "x", split=split)
            part = x.layout.slices(comm.rank)
            assert x.dtype.numpy == expected.dtype
            np.testing.assert_array_equal(x.larray.numpy(), expected[part])
            stored = load_netcdf(path, "x", split=split, mask_and_scale=False)
            np.testing.assert_array_equal(stored.larray.numpy(), raw[part])
        x = load_netcdf(path, "x", slices=(1, 2))
        np.testing.assert_array_equal(x.larray.numpy(), expected[1, 2])

    spmd(2, check)


def test_fill_values_are_stored_in_the_type_of_the_variable(tmp_path):
    for format in ALL:
        values = torch.tensor([1, -9, 3], dtype=torch.int16)
        save_netcdf(values, tmp_path / "x.nc", "x", attrs={"_FillValue": -9}, format=format)
        with netCDF4.Dataset(tmp_path / "x.nc") as file:
            assert file["x"]._FillValue.dtype == np.int16
            assert file["x"][...].mask.tolist() == [False, True, False]
        assert torch.isnan(load_netcdf(tmp_path / "x.nc", "x").larray).tolist() == [False, True, False]


@pytest.mark.parametrize(
    "options", [{"compression": "gzip"}, {"chunks": (2, 3)}, {"compression": "lzf"}], ids=str
)
def test_chunks_groups_and_modes(tmp_path, options):
    path, values = tmp_path / "x.nc", make_global((5, 4), "float64")

    def check(comm):
        x = distribute(values, comm, 0)
        save_netcdf(x, path, "g/x", dimension_names=("t", "y"), **options)
        save_netcdf(x, path, "g/h/z", "a", ("t", "new"))
        save_netcdf(x, path, "g/x", "r+", ("t", "y"))
        for name in ("g/x", "/g/h/z"):
            assert same(load_netcdf(path, name).larray, values)
        with pytest.raises(ValueError, match="must fit the file, where 't' has 5"):
            save_netcdf(values[:2], path, "g/w", "a", ("t", "u"))
        with pytest.raises(ValueError, match="a data set already"):
            save_netcdf(x, path, "g/x", "a", ("t", "y"))

    spmd(2, check)
    with netCDF4.Dataset(path) as file:
        assert file["g"].dimensions.keys() == {"t", "y"}
        assert file["g/h"].dimensions.keys() == {"new"}
        np.testing.assert_array_equal(file["g/h/z"][...], values.numpy())
    with h5netcdf.File(path) as file:
        assert file["g/h/z"].dimensions == ("t", "new")


@pytest.mark.parametrize("format", CLASSIC)
def test_same_bytes_for_any_number_of_ranks(tmp_path, format):
    values = make_global((13, 4))

    def write(comm):
        save_netcdf(distribute(values, comm, 0), tmp_path / f"{comm.size}", "x", format=format)

    for p in (1, 3):
        spmd(p, write)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "3").read_bytes()


@pytest.mark.parametrize(
    ("x", "options", "text"),
    [
        ((3,), {"format": "NETCDF5"}, "format must be one of"),
        ((3,), {"dtype": "complex64"}, "type that the format has"),
        ((3,), {"dtype": "float16"}, "type that the format has"),
        ((3,), {"dtype": "int64", "format": CLASSIC[0]}, "type that the format has"),
        ((3,), {"dimension_names": ("a", "b")}, "1 different names"),
        ((3, 3), {"dimension_names": ("a", "a")}, "2 different names"),
        ((3,), {"is_unlimited": "t"}, "names of dimensions"),
        ((3, 2), {"is_unlimited": ["x_dim_0", "x_dim_1"], "format": CLASSIC[0]}, "one dimension for classic"),
        ((3, 2), {"is_unlimited": "x_dim_1", "format": CLASSIC[0]}, "first dimension"),
        ((3,), {"mode": "a", "format": CLASSIC[1]}, "mode must be 'w'"),
        ((3,), {"chunks": True, "format": CLASSIC[1]}, "must be None for classic"),
        ((3,), {"variable": "g/x", "format": CLASSIC[1]}, "group"),
        ((3,), {"attrs": {"a": object()}, "format": CLASSIC[1]}, "attrs must hold"),
        ((3,), {"attrs": {"_FillValue": "much"}}, "_FillValue"),
        ((3,), {"file_attrs": 3}, "file_attrs must be"),
    ],
)
def test_save_refuses(tmp_path, x, options, text):
    def check(comm):
        with pytest.raises((ValueError, TypeError), match=text) as caught:
            save_netcdf(
                distribute(make_global(x), comm, 0), tmp_path / "x.nc", **{"variable": "x", **options}
            )
        return str(caught.value)

    assert len(set(spmd(2, check))) == 1
    assert not list(tmp_path.iterdir())


def test_extents_of_one_name_must_agree(tmp_path):
    with pytest.raises(ValueError, match="one extent alike, got 't' for 3 and 4"):
        save_netcdf(
            {"a": torch.ones(3), "b": torch.ones(4)}, tmp_path / "x.nc", dimension_names={"a": "t", "b": "t"}
        )


@pytest.mark.parametrize("format", CLASSIC)
def test_damaged_classic_files(tmp_path, format):
    path = tmp_path / "x.nc"
    save_netcdf(make_global((40, 3)), path, "x", format=format, attrs={"a": "b" * 50})
    data = path.read_bytes()

    def check(comm, kind, text):
        with pytest.raises(kind, match=text):
            load_netcdf(path, "x", split=0)

    for end, text in (
        (-4, "complete file"),
        (-100, "complete file"),
        (150, "complete NetCDF"),
        (3, "complete NetCDF"),
    ):
        path.write_bytes(data[:end])
        spmd(2, check, OSError, text)
    for end in range(4, 200):
        with contextlib.suppress(HeaderError):  # and nothing else is raised
            parse_header(data[:end], len(data))
    path.write_bytes(b"not a file of this kind")
    spmd(2, check, OSError, "complete HDF5 file")


def test_headers_longer_than_the_first_read(tmp_path):
    attrs = {"history": "x" * 200_000}
    save_netcdf(torch.arange(5.0), tmp_path / "x.nc", "x", format=CLASSIC[1], file_attrs=attrs)
    assert load_netcdf(tmp_path / "x.nc", "x").larray.tolist() == [0, 1, 2, 3, 4]


def test_number_of_records_of_a_file_that_was_not_closed(tmp_path):
    path = tmp_path / "x.nc"
    save_netcdf(torch.arange(5.0), path, "x", is_unlimited=True, format=CLASSIC[1])
    data = bytearray(path.read_bytes())
    data[4:8] = b"\xff" * 4
    path.write_bytes(data)
    assert load_netcdf(path, "x").larray.tolist() == [0, 1, 2, 3, 4]


def test_integer_scales_give_floats_and_large_unsigned_numbers_stay():
    packing = plan_packing(np.dtype("i2"), {"scale_factor": np.int32(2), "_FillValue": 3}, "load")
    np.testing.assert_array_equal(packing.decode(np.array([1, 3], "i2")), np.array([2.0, np.nan]))
    attrs = {"_Unsigned": "true", "_FillValue": -1, "scale_factor": np.float32(2)}
    packing = plan_packing(np.dtype("i4"), attrs, "load")
    np.testing.assert_array_equal(
        packing.decode(np.array([-1, -128], "i4")), np.array([np.nan, 2.0**33], "f4")
    )


def test_packing_that_is_no_number():
    with pytest.raises(ValueError, match="mask_and_scale=False"):
        plan_packing(np.dtype("i2"), {"scale_factor": "two"}, "load")
    assert plan_packing(np.dtype("i2"), {"_FillValue": 1e9}, "load").missing == ()
    assert types.canonical(plan_packing(np.dtype("i1"), {"_Unsigned": b"true"}, "load").dtype) is types.uint8


@pytest.mark.mpi
@pytest.mark.parametrize("format", ALL)
def test_round_trip_on_processes(comm, shared_tmp_path, format):
    values = make_global((11, 5), "float32")
    x = distribute(values, comm, 0, make_counts(11, comm.size))
    save_netcdf(x, shared_tmp_path / "x.nc", "x", is_unlimited=True, format=format)
    for split in (None, 0, 1):
        back = load_netcdf(shared_tmp_path / "x.nc", "x", split=split)
        assert same(back.larray, values[back.layout.slices(comm.rank)])
