"""Values packed as they are saved: what xarray and netCDF4 read is what we read, and it is near the values."""

import netCDF4
import numpy as np
import pytest
import torch
import xarray
from ht_comm import spmd
from ht_io import load_netcdf, save_netcdf
from ht_io.cf_pack import Packer
from io_arrays import distribute, make_counts

VALUES = torch.from_numpy(np.random.default_rng(3).uniform(-30, 40, (9, 5)))
MISSING = VALUES.clone()
MISSING[2, 3], MISSING[8, 0] = float("nan"), float("nan")
SHORT = {"dtype": "int16", "scale_factor": 0.01, "add_offset": 5.0, "_FillValue": -32768}
OTHERS = {"compression": 1, "chunks": (4, 2)}

#: Encoding, values, other options.
CASES = [
    (SHORT, MISSING, {}),
    (SHORT, MISSING, OTHERS),
    (SHORT, MISSING.float(), {}),
    (SHORT, MISSING, {"format": "NETCDF3_CLASSIC"}),
    (SHORT, MISSING, {"format": "NETCDF3_64BIT_DATA", "is_unlimited": True}),
    ({"dtype": "int8", "scale_factor": np.float32(0.5)}, VALUES, {}),
    ({"dtype": "uint8", "scale_factor": np.float32(0.5), "add_offset": np.float32(-40)}, VALUES, OTHERS),
    ({"dtype": "int32", "add_offset": 100, "_FillValue": 0}, MISSING, {}),
    ({"dtype": "uint16", "add_offset": -50.0, "_FillValue": 65535}, MISSING, {}),
    ({"dtype": "int64", "scale_factor": 1e-9}, VALUES, {}),
    ({"dtype": "float32", "scale_factor": 0.5, "_FillValue": -999.0}, MISSING, {}),
    ({"_FillValue": 1e20}, MISSING, {}),
    ({"dtype": "int16", "_FillValue": -1}, MISSING.round().abs(), {}),
    ({"dtype": "float32"}, MISSING, {}),
    ({"dtype": "int16", "scale_factor": 2}, torch.arange(0, 90, 2).reshape(9, 5), {}),
]


@pytest.mark.parametrize(("encoding", "values", "options"), CASES, ids=lambda found: str(found)[:60])
def test_others_read_what_we_read(tmp_path, encoding, values, options):
    path, p = tmp_path / "x.nc", 3

    def write(comm, split):
        counts = None if split is None else make_counts(values.shape[split], p, seed=2)
        x = distribute(values, comm, split, counts)
        names = ("t", "y")
        save_netcdf(x, path, "x", dimension_names=names, encoding=encoding, attrs={"units": "K"}, **options)
        assert torch.equal(x.larray.nan_to_num(), distribute(values, comm, split, counts).larray.nan_to_num())
        back = load_netcdf(path, "x", split=1)
        return back.larray.numpy(), back.layout.slices(comm.rank)[1]

    scale, offset = encoding.get("scale_factor", 1), encoding.get("add_offset", 0)
    stored = (values.double().numpy() - np.float64(offset)) / np.float64(scale)
    is_whole = np.dtype(encoding.get("dtype", "f8")).kind in "iu"
    stored = np.rint(stored) if is_whole else stored.astype(encoding.get("dtype", "f8"))
    stored = np.where(np.isnan(values.numpy()), encoding.get("_FillValue", np.nan), stored)
    for split in (None, 0, 1):
        parts = spmd(p, write, split)
        with netCDF4.Dataset(path) as file:
            file.set_auto_maskandscale(False)
            assert file["x"].dtype == encoding.get("dtype", "f8")
            np.testing.assert_array_equal(file["x"][...], stored.astype(file["x"].dtype))
            file.set_auto_maskandscale(True)
            by_netcdf4 = np.ma.filled(file["x"][...].astype("f8"), np.nan)
        with xarray.open_dataset(path) as file:
            by_xarray = file["x"].values
            assert file["x"].units == "K"
        for part, where in parts:
            np.testing.assert_array_equal(part, by_xarray[:, where])
    np.testing.assert_allclose(by_netcdf4, by_xarray, rtol=1e-6)  # it computes in other types
    tolerance = abs(scale) / 2 if is_whole else 0
    np.testing.assert_allclose(by_xarray, values, atol=float(tolerance) * (1 + 1e-6), rtol=1e-6)


@pytest.mark.parametrize(
    ("encoding", "values", "text"),
    [
        ({"dtype": "int8"}, VALUES * 10, "must fit int8"),
        ({"dtype": "uint8", "scale_factor": 1.0}, VALUES, "must fit uint8"),
        ({"dtype": "int16", "scale_factor": 1.0}, MISSING, "give a _FillValue"),
        (
            {"dtype": "int16", "scale_factor": 1.0, "_FillValue": int(VALUES[8, 4].round())},
            VALUES,
            "means missing",
        ),
        ({"scale_factor": 0.0}, VALUES, "must not be zero"),
        ({"scale_factor": "2"}, VALUES, "must be a number"),
        ({"dtype": "int16", "_FillValue": 99999}, VALUES, "a number of type int16"),
        ({"zlib": True}, VALUES, "keys among dtype, scale_factor"),
        ({"scale_factor": 1.0}, VALUES > 0, "real numbers"),
        ({"scale_factor": 1.0}, VALUES + 0j, "real numbers"),
        ({"dtype": "float32"}, VALUES + 0j, "complex"),
        ({"units": "K"}, VALUES, "keys among"),
        ([], VALUES, "must be a mapping"),
    ],
    ids=lambda found: str(found)[:40],
)
@pytest.mark.parametrize("options", [{}, {"chunks": (2, 2)}], ids=str)
def test_what_does_not_fit_is_refused_on_all_ranks(tmp_path, encoding, values, text, options):
    save_netcdf(torch.ones(3), tmp_path / "x.nc", "x")
    before = (tmp_path / "x.nc").read_bytes()

    def write(comm):
        x = distribute(values, comm, 0)
        with pytest.raises((ValueError, TypeError), match=text) as caught:
            save_netcdf(x, tmp_path / "x.nc", "x", encoding=encoding, **options)
        return str(caught.value)

    if encoding == {"dtype": "int8"}:
        encoding = {**encoding, "add_offset": 0.0}  # a type alone is a cast
    assert len(set(spmd(3, write))) == 1
    assert [found.name for found in tmp_path.iterdir()] == ["x.nc"]
    assert (tmp_path / "x.nc").read_bytes() == before


def test_several_variables_and_conflicts(tmp_path):
    x, time = VALUES.float(), torch.arange(9.0)
    names = {"x": ("time", "y")}
    save_netcdf({"x": x, "time": time}, tmp_path / "x.nc", dimension_names=names, encoding={"x": SHORT})
    assert load_netcdf(tmp_path / "x.nc", "time").dtype.name == "float32"
    assert load_netcdf(tmp_path / "x.nc", "x", mask_and_scale=False).dtype.name == "int16"
    with pytest.raises(KeyError, match="names of x, got 'z'"):
        save_netcdf({"x": x}, tmp_path / "x.nc", encoding={"z": SHORT})
    with pytest.raises(ValueError, match="must not repeat"):
        save_netcdf(x, tmp_path / "x.nc", "x", encoding=SHORT, attrs={"_FillValue": 3})


def test_packing_takes_blocks(tmp_path, monkeypatch):
    sizes = []
    real = Packer._block
    monkeypatch.setattr(Packer, "_block", lambda self, part: sizes.append(part.numel()) or real(self, part))
    save_netcdf(torch.ones(1500, 1000), tmp_path / "x.nc", "x", encoding=SHORT)
    assert sum(sizes) == 1_500_000
    assert max(sizes) * 8 <= 8 << 20
    assert load_netcdf(tmp_path / "x.nc", "x").larray.sub(1).abs().max() < 0.005
