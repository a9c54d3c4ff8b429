"""Round trips through HDF5 files on p ranks, and files that h5py wrote."""

import time

import h5py
import numpy as np
import pytest
import torch
from ht_comm import get_comm, spmd
from ht_core import DNDarray, Layout
from ht_io import load, load_hdf5, raw, save, save_hdf5
from io_arrays import DTYPES, distribute, make_counts, make_global, same

SHAPES = [(), (0,), (1,), (7,), (5, 3), (3, 0), (4, 3, 5)]
RANKS = [1, 2, 3, 4]


def save_and_load(comm, path, values, split, counts=None, strided=False, read=None, **options):
    """Save `values`, load them back with split `read`, and check this rank's part."""
    save_hdf5(distribute(values, comm, split, counts, strided), path, "x", **options)
    back = load_hdf5(path, "x", split=read)
    assert back.layout is Layout.even(tuple(values.shape), read, comm.size)
    assert same(back.larray, values[back.layout.slices(comm.rank)])


@pytest.mark.parametrize("p", RANKS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_round_trip_of_shapes_and_splits(tmp_path, p, shape):
    values = make_global(shape)
    for split in [None, *range(len(shape))]:
        for read in [None, *range(len(shape))]:
            counts = None if split is None else make_counts(shape[split], p, seed=7)
            spmd(p, save_and_load, tmp_path / "x.h5", values, split, counts, read=read)
    assert [f.name for f in tmp_path.iterdir()] == ["x.h5"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [1, 3])
@pytest.mark.parametrize("chunks", [None, (2, 2)])
def test_round_trip_of_dtypes(tmp_path, dtype, p, chunks):
    values = make_global((7, 4), dtype)
    spmd(p, save_and_load, tmp_path / "x.h5", values, 0, read=0, chunks=chunks)
    spmd(p, save_and_load, tmp_path / "x.h5", values, 1, read=None, chunks=chunks)
    with h5py.File(tmp_path / "x.h5") as file:
        found = file["x"][...]
    expected = values.float().numpy() if dtype == "bfloat16" else values.numpy()
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("p", [2, 3])
@pytest.mark.parametrize("split", [0, 1, 2, None])
def test_strided_conjugate_and_sliced_tensors(tmp_path, p, split):
    values = make_global((6, 5, 4), "complex64")
    spmd(p, save_and_load, tmp_path / "x.h5", values, split, strided=True, read=0)

    def conjugate(comm):
        x = distribute(values, comm, split)
        x = type(x)(x.larray.conj(), x.layout, comm)
        save_hdf5(x, tmp_path / "y.h5", "x")
        assert same(load_hdf5(tmp_path / "y.h5", "x").larray, values.conj().resolve_conj())

    spmd(p, conjugate)


@pytest.mark.parametrize(("write_on", "read_on"), [(1, 4), (4, 1), (2, 3), (3, 2)])
def test_written_on_some_ranks_read_on_others(tmp_path, write_on, read_on):
    values = make_global((11, 3), "float64")

    def write(comm):
        save(distribute(values, comm, 0, make_counts(11, comm.size)), tmp_path / "x.h5", "a/b/x")

    def read(comm):
        x = load(tmp_path / "x.h5", "a/b/x", split=0)
        assert same(x.larray, values[x.layout.slices(comm.rank)])

    spmd(write_on, write)
    spmd(read_on, read)


@pytest.mark.parametrize("p", [1, 2, 4])
@pytest.mark.parametrize(
    "options",
    [
        {"chunks": True},
        {"chunks": (3, 2)},
        {"chunks": (16, 6), "compression": "gzip"},
        {"chunks": (4, 6), "compression": 0},
        {"compression": 9},
        {"chunks": (5, 4), "compression": "lzf"},
    ],
    ids=str,
)
def test_chunks_and_filters(tmp_path, p, options):
    values = make_global((17, 6), "float32")
    for split in (0, 1, None):
        counts = None if split is None else make_counts(values.shape[split], p, seed=3)
        spmd(p, save_and_load, tmp_path / "x.h5", values, split, counts, read=0, **options)
        with h5py.File(tmp_path / "x.h5") as file:
            np.testing.assert_array_equal(file["x"][...], values.numpy())
            compression = options.get("compression")
            assert file["x"].compression == ("gzip" if isinstance(compression, int) else compression)


def test_chunks_that_compression_does_not_shorten(tmp_path):
    """HDF5 stores them as they are and says so for each chunk."""
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 500), dtype=np.uint8))
    noise[2:4] = 7
    options = {"chunks": (1, 500), "compression": 9}
    spmd(2, save_and_load, tmp_path / "x.h5", noise, 0, read=0, **options)
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["x"][...], noise.numpy())


def test_large_replicated_arrays_are_written_by_all_and_columns_by_passes(tmp_path, monkeypatch):
    monkeypatch.setattr(raw, "_PASS_BYTES", 5000)
    values = torch.arange(700 * 601, dtype=torch.float32).reshape(700, 601)
    for split in (None, 1):
        spmd(3, save_and_load, tmp_path / "x.h5", values, split, read=1)


def test_long_ranges_of_columns_are_written_in_place(tmp_path):
    values = torch.arange(2 * 40000, dtype=torch.float64).reshape(2, 40000)

    def write(comm):
        x = distribute(values, comm, 1)
        with comm.trace() as trace:
            save_hdf5(x, tmp_path / "x.h5", "x")
        assert "redistribute" not in trace.by_op

    spmd(2, write)
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["x"][...], values.numpy())


@pytest.mark.parametrize("stored", ["float64", "int16", "bool", "bfloat16", "uint32"])
@pytest.mark.parametrize("wanted", ["float32", "int64", "complex128", "bfloat16", "bool"])
def test_casts_on_reading_and_on_writing(tmp_path, stored, wanted):
    values = make_global((6, 3), "int32").to(getattr(torch, stored))
    expected = values.to(getattr(torch, wanted))

    def check(comm):
        x = distribute(values, comm, 0)
        save_hdf5(x, tmp_path / "x.h5", "x")
        assert same(load_hdf5(tmp_path / "x.h5", "x", dtype=wanted).larray, expected)
        save_hdf5(x, tmp_path / "y.h5", "x", dtype=wanted)
        assert same(load_hdf5(tmp_path / "y.h5", "x").larray, expected)

    spmd(2, check)


@pytest.mark.parametrize("userblock", [0, 512])
def test_files_that_h5py_wrote(tmp_path, userblock):
    path = tmp_path / "x.h5"
    values = np.random.default_rng(0).normal(size=(23, 6))
    forms = {
        "contiguous": {"data": values},
        "chunked": {"data": values, "chunks": (4, 5)},
        "run/deep/gzip": {"data": values, "chunks": (7, 3), "compression": "gzip", "shuffle": True},
        "lzf": {"data": values, "compression": "lzf"},
        "big": {"data": values.astype(">f8")},
        "half": {"data": values.astype(">f2")},
        "growing": {"data": values, "maxshape": (None, 6)},
        "checked": {"data": values, "fletcher32": True},
        "unwritten": {"shape": (23, 6), "dtype": "f4", "fillvalue": 2.5},
    }
    with h5py.File(path, "w", userblock_size=userblock) as file:
        for name, form in forms.items():
            file.create_dataset(name, **form)
        file["link"] = h5py.SoftLink("/run/deep/gzip")
        expected = {name: file[name][...] for name in [*forms, "link"]}

    def read(comm):
        for name, whole in expected.items():
            for split in (None, 0, 1):
                x = load_hdf5(path, name, split=split)
                part = whole[x.layout.slices(comm.rank)]
                np.testing.assert_array_equal(x.larray.numpy(), part)
            x = load_hdf5(path, name, split=1, slices=(slice(1, None, 3), slice(4)), dtype="float32")
            part = whole[1::3, :4].astype("f4")[x.layout.slices(comm.rank)]
            np.testing.assert_array_equal(x.larray.numpy(), part)

    for p in (1, 3):
        spmd(p, read)


def test_enumerations_are_their_integers(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        kind = h5py.enum_dtype({"red": 1, "green": 2}, basetype="i2")
        file.create_dataset("x", data=np.array([1, 2, 1]), dtype=kind)
    assert load_hdf5(tmp_path / "x.h5", "x").larray.tolist() == [1, 2, 1]


def test_selected_rows_are_dealt_evenly(tmp_path):
    values = torch.arange(40).reshape(20, 2)

    def check(comm):
        save_hdf5(distribute(values, comm, 0), tmp_path / "x.h5", "x")
        x = load_hdf5(tmp_path / "x.h5", "x", split=0, slices=(slice(4, 18, 2), 1))
        assert x.shape == (7,)
        assert x.layout.counts == (3, 2, 2)
        assert same(x.larray, values[4:18:2, 1][x.layout.slices(comm.rank)])

    spmd(3, check)


@pytest.mark.parametrize("p", [1, 3])
def test_several_data_sets_attributes_and_modes(tmp_path, p):
    path = tmp_path / "x.h5"
    a, b = make_global((6, 2)), make_global((5,), "int64")

    def check(comm):
        x, y = distribute(a, comm, 0), distribute(b, comm, None)
        attrs = {"x": {"unit": "GeV", "scale": np.arange(3)}, "n": {"note": "ü"}}
        save_hdf5({"x": x, "group/y": y, "n": 5, "t": b}, path, attrs=attrs)
        save_hdf5(y, path, "z", mode="a", attrs={"k": 1.5})
        save_hdf5(x, path, "t", mode="r+", chunks=(2, 2), compression=1)
        assert same(load_hdf5(path, "x").larray, a)
        assert same(load_hdf5(path, "/group/y").larray, b)
        assert same(load_hdf5(path, "n").larray, torch.tensor(5))
        assert same(load_hdf5(path, "z").larray, b)
        assert same(load_hdf5(path, "t").larray, a)

    spmd(p, check)
    with h5py.File(path) as file:
        assert file["x"].attrs["unit"] == "GeV"
        assert file["x"].attrs["scale"].tolist() == [0, 1, 2]
        assert file["n"].attrs["note"] == "ü"
        assert file["n"].shape == ()
        assert file["z"].attrs["k"] == 1.5


def test_same_bytes_for_any_number_of_ranks(tmp_path):
    values = make_global((13, 4))

    def write(comm, name, options):
        save_hdf5(distribute(values, comm, 0), tmp_path / name, "group/x", attrs={"a": 1}, **options)

    for options in ({}, {"compression": "gzip", "chunks": (3, 4)}):
        spmd(1, write, "1.h5", options)
        time.sleep(1.1)  # the time stamps of HDF5 are in seconds
        spmd(3, write, "3.h5", options)
        assert (tmp_path / "1.h5").read_bytes() == (tmp_path / "3.h5").read_bytes()


def test_symbolic_links_are_followed(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "x.h5").symlink_to(tmp_path / "store" / "real.h5")
    save_hdf5(make_global((3,)), tmp_path / "x.h5", "x")
    assert (tmp_path / "x.h5").is_symlink()
    assert (tmp_path / "store" / "real.h5").exists()


@pytest.mark.parametrize("p", [1, 2, 3])
def test_messages(tmp_path, p):
    values = make_global((10, 3))

    def count(comm):
        x = distribute(values, comm, 0)
        with comm.trace() as trace:
            save_hdf5({"x": x, "y": x}, tmp_path / "x.h5")
        assert {op: calls for op, (calls, _, _) in trace.by_op.items()} == {"bcast": 1, "agree": 3}
        with comm.trace() as trace:
            load_hdf5(tmp_path / "x.h5", "x", split=0)
        assert {op: calls for op, (calls, _, _) in trace.by_op.items()} == {"allreduce": 1}
        assert trace.bytes <= 64

    spmd(p, count)


def test_communicator_of_the_caller(tmp_path):
    values = make_global((6,))

    def check(comm):
        half = comm.split(comm.rank % 2)
        path = tmp_path / f"{comm.rank % 2}.h5"
        save_hdf5(distribute(values, half, 0), path, "x")
        x = load_hdf5(path, "x", split=0, comm=half)
        assert x.comm is half
        assert same(x.larray, values[x.layout.slices(half.rank)])

    spmd(4, check)


@pytest.mark.parametrize("p", [1, 2])
def test_many_data_sets_in_one_call(tmp_path, p):
    def check(comm):
        arrays = {f"x{i}": distribute(make_global((5,), seed=i), comm, 0) for i in range(100)}
        save_hdf5(arrays, tmp_path / "x.h5", mode="x")
        for i in (0, 7, 8, 99):
            assert same(load_hdf5(tmp_path / "x.h5", f"x{i}").larray, make_global((5,), seed=i))

    spmd(p, check)


def test_tensors_that_record_gradients(tmp_path):
    x = torch.arange(6.0).reshape(3, 2).requires_grad_()
    for options in ({}, {"dtype": "float64"}, {"chunks": (2, 2)}, {"compression": "lzf"}):
        save_hdf5(DNDarray(x, Layout.replicated((3, 2)), get_comm()), tmp_path / "x.h5", "x", **options)
        assert load_hdf5(tmp_path / "x.h5", "x").numpy().tolist() == [[0, 1], [2, 3], [4, 5]]
