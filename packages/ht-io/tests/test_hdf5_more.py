"""Lists of rows, other storage of HDF5, dimension scales, limits, folders, and memory."""

import subprocess
import sys
import textwrap

import h5py
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core import types
from ht_core.errors import LayoutError
from ht_io import load_hdf5, load_multiple_hdf5, mpio, save_hdf5, slabs
from ht_io.selection import plan_selection
from ht_io.slabs import Slab, read_slab
from io_arrays import DTYPES, distribute, make_global, same

LISTS = [
    [3, 0, 3, -1],
    [],
    list(range(23)),
    [22],
    np.arange(0, 23, 2),
    torch.tensor([5, 6, 7, 1]),
    [i % 3 == 0 for i in range(23)],
]


@pytest.mark.parametrize("options", [{}, {"chunks": (4, 2, 2)}, {"compression": "gzip"}], ids=str)
@pytest.mark.parametrize("listed", LISTS, ids=lambda found: f"{len(found)} indices")
def test_listed_indices(tmp_path, options, listed):
    values = make_global((23, 6, 2), "float64")
    turned = values.permute(1, 0, 2).contiguous()
    save_hdf5({"x": values, "turned": turned}, tmp_path / "x.h5", **options)
    key = np.asarray(listed) if len(listed) else np.zeros(0, int)

    def check(comm):
        for name, slices, whole in (
            ("x", listed, values.numpy()[key]),
            ("x", (listed, slice(1, 4)), values.numpy()[key][:, 1:4]),
            ("x", (listed, slice(None, None, 2), 1), values.numpy()[key][:, ::2, 1]),
            ("turned", (slice(1, 5), listed), turned.numpy()[1:5][:, key]),
            ("turned", (2, listed), turned.numpy()[2][key]),
        ):
            for split in [None, *range(whole.ndim)]:
                for dtype in (None, "float32"):
                    x = load_hdf5(tmp_path / "x.h5", name, split=split, slices=slices, dtype=dtype)
                    part = whole[x.layout.slices(comm.rank)]
                    np.testing.assert_array_equal(x.larray.numpy(), part.astype(dtype or "float64"))

    for p in (1, 3):
        spmd(p, check)


@pytest.mark.parametrize("dtype", DTYPES)
def test_listed_rows_of_every_type(tmp_path, dtype):
    values = make_global((9, 3), dtype)
    save_hdf5(values, tmp_path / "x.h5", "x")
    rows = [8, 1, 1, 4]
    expected = torch.stack([values[i] for i in rows])
    assert same(load_hdf5(tmp_path / "x.h5", "x", slices=rows).larray, expected)


@pytest.mark.parametrize("kind", ["<f4", ">f4", ">i2", "|u1", ">c8", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_slabs(tmp_path, monkeypatch, kind, order):
    """Every selection of a plain array in a file, against NumPy; blocks as small as a row."""
    monkeypatch.setattr(slabs, "BLOCK_BYTES", 16)
    monkeypatch.setattr(
        slabs, "plan_blocks", lambda extent, size: ((i, min(i + 2, extent)) for i in range(0, extent, 2))
    )
    values = np.arange(5 * 4 * 3).reshape(5, 4, 3).astype(kind)
    (tmp_path / "x").write_bytes(b"?" * 13 + values.tobytes(order=order))
    slab = Slab.dense(13, values.shape, values.dtype, order)
    assert slab.end == 13 + values.nbytes
    with open(tmp_path / "x", "rb", buffering=0) as file:
        for key in (
            (),
            (slice(1, 4),),
            (slice(0, 5, 3), slice(1, 3), 2),
            (2, slice(None), slice(0, 3, 2)),
            (3, 2, 1),
            ([4, 0, 0],),
            ([1, 2, 3], slice(1, 3)),
            (slice(1, 5, 2), [3, 0]),
            (slice(None), 1, [2, 2]),
        ):
            part = plan_selection(values.shape, key)
            for dtype in {types.canonical(values.dtype.newbyteorder("=")).torch, torch.complex128}:
                out = torch.empty(part.shape, dtype=dtype)
                read_slab(file.fileno(), slab, part, out)
                expected = values[key].astype(values.dtype.newbyteorder("="))
                np.testing.assert_array_equal(out.numpy(), expected)


def test_calls_that_are_cut_short(tmp_path, monkeypatch):
    values = np.arange(40, dtype="f8").reshape(10, 4)
    (tmp_path / "x").write_bytes(values.tobytes())
    real = slabs.os.preadv
    monkeypatch.setattr(slabs.os, "preadv", lambda fd, b, at: real(fd, [memoryview(b[0]).cast("B")[:12]], at))
    out = torch.empty(3, 4, dtype=torch.float64)
    with open(tmp_path / "x", "rb") as file:
        part = plan_selection((10, 4), [7, 2, 3])
        read_slab(file.fileno(), Slab.dense(0, (10, 4), values.dtype), part, out)
    np.testing.assert_array_equal(out.numpy(), values[[7, 2, 3]])


def test_other_storage(tmp_path, monkeypatch):
    """Compact, external and virtual data sets; the latter two only while their files are there."""
    monkeypatch.chdir(tmp_path)  # where HDF5 looks for external files
    path, values = tmp_path / "x.h5", np.arange(24.0).reshape(6, 4)
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["p"] = values[:3]
    with h5py.File(path, "w") as file:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_layout(h5py.h5d.COMPACT)
        space = h5py.h5s.create_simple(values.shape)
        h5py.Dataset(h5py.h5d.create(file.id, b"compact", h5py.h5t.IEEE_F64BE, space, plist))[...] = values
        file.create_dataset("external", data=values, external=[("x.bin", 0, values.nbytes)])
        file["own"] = values[3:]
        layout = h5py.VirtualLayout(values.shape, "f8")
        layout[:3] = h5py.VirtualSource("part.h5", "p", (3, 4))
        layout[3:] = h5py.VirtualSource(".", "own", (3, 4))
        file.create_virtual_dataset("virtual", layout)

    def check(comm):
        for name in ("compact", "external", "virtual"):
            for split in (None, 0, 1):
                x = load_hdf5(path, name, split=split)
                np.testing.assert_array_equal(x.larray.numpy(), values[x.layout.slices(comm.rank)])
            x = load_hdf5(path, name, split=0, slices=[5, 0, 2])
            np.testing.assert_array_equal(x.larray.numpy(), values[[5, 0, 2]][x.layout.slices(comm.rank)])

    def refuse(comm, name, text):
        with pytest.raises(OSError, match=text):
            load_hdf5(path, name, split=0)

    spmd(2, check)
    (tmp_path / "x.bin").write_bytes(b"0" * 50)
    spmd(2, refuse, "external", "'x.bin'.* is too short")
    (tmp_path / "part.h5").unlink()
    spmd(2, refuse, "virtual", "'part.h5'.* is missing")


@pytest.mark.parametrize("p", [1, 3])
def test_scales_limits_and_fill_values(tmp_path, p):
    path, values, times = tmp_path / "x.h5", make_global((5, 3)), make_global((5,), "float64", 1)

    def check(comm):
        arrays = {"g/x": distribute(values, comm, 0), "g/t": distribute(times, comm, 0)}
        save_hdf5(arrays, path, dims={"g/x": ("t", None)}, attrs={"g/t": {"units": "s"}})
        x = distribute(values, comm, 1)
        save_hdf5(x, path, "grows", "a", maxshape=(None, 4), fillvalue=-2.5, dims=("rows", "columns"))
        save_hdf5(x, path, "g/x", mode="r+", dims=("t", None))
        save_hdf5(x[:0], path, "empty", mode="a", maxshape=(None, 3))
        for name, whole in (("g/x", values), ("g/t", times), ("grows", values), ("empty", values[:0])):
            assert same(load_hdf5(path, name).larray, whole)
        with pytest.raises(ValueError, match="must not be a dimension scale"):
            save_hdf5(times, path, "g/t", mode="r+")
        for options, text in (
            ({"maxshape": (4, 3)}, "maxshape must be"),
            ({"maxshape": (None,)}, "maxshape must be"),
            ({"dims": ("a",)}, "dims must be"),
            ({"dims": (1, 2)}, "dims must be"),
            ({"engine": "magic"}, "engine must be one of"),
        ):
            with pytest.raises(ValueError, match=text):
                save_hdf5(x, path, "new", mode="a", **options)
        with pytest.raises(TypeError, match="fillvalue must be"):
            save_hdf5(x, path, "new", mode="a", fillvalue="none")

    spmd(p, check)
    with h5py.File(path, "r+") as file:
        assert file["g/x"].dims[0].label == "t"
        assert file["g/x"].dims[0][0] == file["g/t"]
        assert file["grows"].maxshape == (None, 4)
        file["grows"].resize(7, 0)
        assert (file["grows"][5:] == -2.5).all()
        assert [axis.label for axis in file["grows"].dims] == ["rows", "columns"]
        file["empty"].resize(2, 0)


@pytest.mark.parametrize("p", [1, 2, 4])
def test_folders(tmp_path, p):
    pieces = [make_global((rows, 3), "float64", seed) for seed, rows in enumerate((4, 0, 7, 1))]
    for number, piece in zip((10, 2, 3, 1), pieces):
        save_hdf5(piece, tmp_path / f"run{number}.h5", "x")
    (tmp_path / "notes.txt").write_text("no data")
    by_name, by_number = (torch.cat([pieces[i] for i in order]) for order in ((3, 0, 1, 2), (3, 1, 2, 0)))

    def check(comm):
        x = load_multiple_hdf5(tmp_path, "x")
        assert x.split == 0
        assert same(x.larray, by_name[x.layout.slices(comm.rank)])
        x = load_multiple_hdf5(tmp_path, "x", "float32", lambda name: int(name[3:-3]), split=1)
        assert same(x.larray, by_number.float()[x.layout.slices(comm.rank)])
        for slices in (slice(1, None, 3), [11, 0, 4, 4], (slice(2, 9), 1)):
            x = load_multiple_hdf5(tmp_path, "x", slices=slices)
            assert same(x.larray, by_name[slices][x.layout.slices(comm.rank)])
        with pytest.raises(KeyError, match="load_multiple_hdf5: dataset must be"):
            load_multiple_hdf5(tmp_path, "y")
        with pytest.raises(FileNotFoundError, match="folder must be an existing"):
            load_multiple_hdf5(tmp_path / "nowhere", "x")

    spmd(p, check)
    save_hdf5(torch.ones(2, 4), tmp_path / "other.h5", "x")
    with pytest.raises(LayoutError, match="fit together"):
        load_multiple_hdf5(tmp_path, "x")


def test_memory_of_loading(tmp_path):
    """A load holds the result and at most 64 MiB, whatever the storage, the cast and the selection."""
    program = textwrap.dedent(
        """
        import itertools, sys, h5py, torch
        from ht_io import load_hdf5, load_netcdf, save_netcdf

        def peak():
            with open("/proc/self/status") as status:
                return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))

        forms = {"plain": {}, "chunked": {"chunks": (1000, 64)}, "zipped": {"compression": 1}}
        path, block = sys.argv[1], torch.ones(10_000, 64)
        with h5py.File(path, "w") as file:
            for name, form in forms.items():
                x = file.create_dataset(name, (400_000, 64), "f4", **form)
                for row in range(0, 400_000, 10_000):
                    x[row : row + 10_000] = block.numpy()
        save_netcdf(block.repeat(40, 1), path + ".nc", "plain", format="NETCDF3_CLASSIC")
        save_netcdf(block.repeat(40, 1), path + ".4.nc", "plain", attrs={"_FillValue": 3.0})
        cases = [(load_hdf5, path, name) for name in forms]
        cases += [(load_netcdf, path + ".nc", "plain"), (load_netcdf, path + ".4.nc", "plain")]
        parts = [{}, {"dtype": "float64"}, {"slices": (slice(None), slice(0, 32))}]
        parts += [{"slices": torch.arange(0, 400_000, 4)}]
        for load, where, name in cases:
            load(where, name, dtype="float64", slices=[1, 2])  # libraries are loaded
        for (load, where, name), part in itertools.product(cases, parts):
            with open("/proc/self/clear_refs", "w") as file:
                file.write("5")  # the peak begins anew
            before = peak()
            x = load(where, name, **part)
            used = peak() - before - x.nbytes
            if used > 64 << 20:
                sys.exit(f"{where} {name} {part}: {used >> 20} MiB beside the result")
            del x
        """
    )
    command = [sys.executable, "-c", program, tmp_path / "x.h5"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_parallel_hdf5_is_used_only_with_the_mpi_of_the_job(monkeypatch):
    class Build:
        mpi = True

    monkeypatch.setattr(mpio.h5py, "get_config", lambda: Build)
    monkeypatch.setattr(mpio, "_linked_version", lambda: "Some MPI 1.0\nmore")
    assert "built with 'Some MPI 1.0'" in mpio._obstacle()
    Build.mpi = False
    assert mpio._obstacle() == "h5py is not built with parallel HDF5"


@pytest.mark.mpi
@pytest.mark.parametrize("engine", mpio.ENGINES)
def test_engines(comm, shared_tmp_path, engine):
    """Where h5py has no parallel HDF5, asking for it is refused on all ranks alike."""
    values = make_global((17, 4), "float64")
    x = distribute(values, comm, 0)
    path = shared_tmp_path / "x.h5"
    if engine == "mpio" and mpio._obstacle() is not None and comm.handle is not None:
        with pytest.raises(ValueError, match="engine must be"):
            save_hdf5(x, path, "x", engine=engine)
        return
    for options in ({}, {"chunks": (3, 3)}, {"compression": "gzip"}, {"compression": "lzf"}):
        save_hdf5({"x": x, "n": 3, "r": values, "e": x[:0]}, path, engine=engine, **options)
        for name, whole in (("x", values), ("r", values), ("e", values[:0]), ("n", torch.tensor(3))):
            back = load_hdf5(path, name, split=0 if whole.ndim else None)
            assert same(back.larray, whole[back.layout.slices(comm.rank)])
