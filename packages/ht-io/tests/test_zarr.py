"""Round trips through Zarr stores on p ranks, stores that zarr wrote, and bad ones."""

import errno
import os
import shutil
import sys
import time

import ht_core
import numpy as np
import pytest
import torch
import xarray
import zarr
from ht_comm import spmd
from ht_core import Layout
from ht_core.errors import DTypeError, LayoutError
from ht_io import load, load_zarr, replace, save, save_zarr, stream, zarr_write
from io_arrays import DTYPES, distribute, make_counts, make_global, same

NUMPY_DTYPES = [name for name in DTYPES if name != "bfloat16"]


def check_load(path, expected, variable=None, p=(1, 3), **options):
    """Load on some numbers of ranks with every split, and compare with a tensor."""

    def read(comm):
        for split in (None, *range(expected.ndim)):
            x = load_zarr(path, variable, split, **options)
            assert x.layout is Layout.even(tuple(expected.shape), split, comm.size)
            assert same(x.larray, expected[x.layout.slices(comm.rank)].contiguous())

    for size in p:
        spmd(size, read)


@pytest.mark.parametrize(
    ("shape", "options"),
    [
        ((), {}),
        ((0, 3), {}),
        ((7,), {"chunks": (2,)}),
        ((11, 4), {}),
        ((11, 4), {"chunks": (3, 3)}),
        ((11, 4), {"chunks": (2, 1), "shards": (4, 2), "compressors": None}),
        ((5, 3, 4), {"chunks": (5, 1, 4)}),
    ],
    ids=str,
)
def test_round_trip_p_to_q(tmp_path, monkeypatch, shape, options):
    monkeypatch.setattr(zarr_write, "_PASS_BYTES", 40)
    values = make_global(shape)

    def write(comm, split):
        counts = None if split is None else make_counts(shape[split], comm.size, seed=4)
        x = distribute(values, comm, split, counts, strided=True)
        save_zarr(x, tmp_path / "x.zarr", **options)
        assert same(x.larray, distribute(values, comm, split, counts).larray)

    for p, q in ((1, 3), (4, 1), (2, 2)):
        for split in (None, *range(len(shape))):
            spmd(p, write, split)
            np.testing.assert_array_equal(zarr.open_array(tmp_path / "x.zarr", mode="r")[...], values.numpy())
        check_load(tmp_path / "x.zarr", values, p=(q,))
    assert os.listdir(tmp_path) == ["x.zarr"]


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_every_dtype(tmp_path, dtype):
    values = make_global((7, 4), dtype)
    if values.dtype.is_floating_point:
        values[:2] = -0.0  # a chunk that must not be taken for the fill value

    def write(comm):
        save(distribute(values, comm, 1), tmp_path / "x.zarr", chunks=(2, 2))

    spmd(2, write)
    found = zarr.open_array(tmp_path / "x.zarr", mode="r")
    np.testing.assert_array_equal(found[...], values.numpy(), strict=True)
    assert found.metadata.zarr_format == 3
    if values.dtype.is_floating_point:
        assert np.signbit(found[:2]).all()
    check_load(tmp_path / "x.zarr", values, p=(2,))


@pytest.mark.parametrize(("zarr_format", "order"), [(2, "C"), (2, "F"), (3, None)])
def test_stores_that_zarr_wrote(tmp_path, zarr_format, order):
    values = make_global((13, 5), "float64")
    group = zarr.open_group(tmp_path / "x.zarr", mode="w", zarr_format=zarr_format)
    options = {"order": order} if order else {}
    made = group.create_array("run/1/a", shape=(13, 5), dtype=">f8", chunks=(4, 2), **options)
    made[...] = values.numpy()
    group.create_array("part", shape=(6,), dtype="i2", chunks=(2,), fill_value=7)[2:4] = [1, 2]
    check_load(tmp_path / "x.zarr", values, "run/1/a")
    check_load(tmp_path / "x.zarr" / "run", values, "/1/a", p=(2,))
    check_load(tmp_path / "x.zarr", torch.tensor([7, 7, 1, 2, 7, 7], dtype=torch.int16), "part")


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_values_that_xarray_packed(tmp_path, zarr_format, kind):
    values = np.linspace(-3, 3, 20).reshape(5, 4)
    values[2, 1] = np.nan
    packing = {"dtype": kind, "scale_factor": 0.25, "add_offset": 1.0, "_FillValue": -99}
    data = xarray.Dataset({"t": (("x", "y"), values)})
    data.to_zarr(tmp_path / "x.zarr", zarr_format=zarr_format, encoding={"t": packing}, consolidated=False)
    with xarray.open_zarr(tmp_path / "x.zarr", consolidated=False, chunks=None) as found:
        expected = torch.tensor(found["t"].values)
    assert torch.isnan(expected).sum() == 1
    check_load(tmp_path / "x.zarr", expected, "t", mask_and_scale=True)
    assert load_zarr(tmp_path / "x.zarr", "t").dtype.name == kind


@pytest.mark.parametrize(
    "slices",
    [slice(1, None, 3), (slice(None), 2), [7, 0, -1, 0], (slice(2, 9, 2), [3, 1]), (4, slice(1, 3))],
    ids=str,
)
def test_slices(tmp_path, slices):
    values = make_global((11, 4))
    zarr.create_array(tmp_path / "x.zarr", data=values.numpy(), chunks=(3, 3), shards=(6, 3))
    expected = torch.from_numpy(values.numpy()[slices].astype("f8"))
    check_load(tmp_path / "x.zarr", expected, slices=slices, dtype="float64")


def test_each_rank_reads_its_chunks_and_writes_its_own(tmp_path, monkeypatch):
    values = make_global((12, 4))
    zarr.create_array(tmp_path / "x.zarr", data=values.numpy(), chunks=(3, 4))
    taken = []
    real = zarr.Array.__getitem__
    monkeypatch.setattr(zarr.Array, "__getitem__", lambda a, key: taken.append(key[0]) or real(a, key))

    def read(comm):
        with comm.trace() as trace:
            load_zarr(tmp_path / "x.zarr", split=0)
        assert trace.calls == 1

    spmd(4, read)
    assert sorted((s.start, s.stop) for s in taken) == [(0, 3), (3, 6), (6, 9), (9, 12)]
    written = []
    put = zarr_write._put

    def note(store, name, where, values):
        written.append(where[0])
        put(store, name, where, values)

    monkeypatch.setattr(zarr_write, "_put", note)
    spmd(
        2,
        lambda comm: save_zarr(
            distribute(values, comm, 0, (5, 7)), tmp_path / "y.zarr", chunks=(2, 4), shards=(4, 4)
        ),
    )
    assert sorted((s.start, s.stop) for s in written) == [(0, 4), (4, 12)]  # whole shards


def test_blocks_of_whole_chunks(tmp_path, monkeypatch):
    monkeypatch.setattr("ht_io.zarr_read.BLOCK_BYTES", 100)
    values = make_global((50, 4))
    zarr.create_array(tmp_path / "x.zarr", data=values.numpy(), chunks=(3, 4))
    check_load(tmp_path / "x.zarr", values)
    check_load(tmp_path / "x.zarr", values[4:49:7], slices=slice(4, 49, 7))


def test_groups_attributes_and_dimensions(tmp_path):
    a, b = make_global((6, 2)), make_global((6,), "int64")

    def write(comm):
        save_zarr(
            {"a": distribute(a, comm, 0), "deep/b": distribute(b, comm, None)},
            tmp_path / "x.zarr",
            attrs={"a": {"unit": "m", "n": np.int64(3), "list": np.arange(2)}},
            dims={"a": ("time", "x"), "deep/b": ("time",)},
        )

    spmd(3, write)
    group = zarr.open_group(tmp_path / "x.zarr", mode="r")
    assert group["a"].attrs.asdict() == {"unit": "m", "n": 3, "list": [0, 1]}
    table = xarray.open_zarr(tmp_path / "x.zarr", consolidated=False, chunks=None)
    assert table["a"].dims == ("time", "x")
    np.testing.assert_array_equal(table["a"].values, a.numpy())
    check_load(tmp_path / "x.zarr", b, "deep/b")


def test_streaming(tmp_path):
    values = make_global((11, 4))
    save_zarr({"x": values}, tmp_path / "x.zarr", chunks=(2, 4))
    blocks = [block.larray for block in stream(tmp_path / "x.zarr", "x", 4, None)]
    assert same(torch.cat(blocks), values)


@pytest.fixture
def folder(tmp_path):
    """A folder with good and bad stores."""
    save_zarr({"x": make_global((12, 3)), "g/y": make_global((3,), "complex64")}, tmp_path / "good.zarr")
    zarr.create_array(tmp_path / "text.zarr", shape=(3,), dtype="str")
    zarr.create_array(tmp_path / "array.zarr", data=np.arange(100.0), chunks=(10,))
    shutil.copytree(tmp_path / "array.zarr", tmp_path / "damaged.zarr")
    (tmp_path / "damaged.zarr" / "c" / "5").write_bytes(b"nothing")
    shutil.copytree(tmp_path / "array.zarr", tmp_path / "meta.zarr")
    (tmp_path / "meta.zarr" / "zarr.json").write_text("{")
    (tmp_path / "empty.zarr").mkdir()
    (tmp_path / "file.zarr").write_text("a file")
    return tmp_path


def snapshot(folder):
    """Return the contents of all files."""
    return {str(p.relative_to(folder)): p.is_file() and p.read_bytes() for p in sorted(folder.rglob("*"))}


@pytest.mark.parametrize(
    ("name", "options", "kind", "text"),
    [
        ("missing.zarr", {}, FileNotFoundError, "existing, readable directory"),
        ("file.zarr", {}, NotADirectoryError, "existing, readable directory"),
        ("empty.zarr", {}, OSError, "path must be a Zarr store"),
        ("meta.zarr", {}, OSError, "path must be a Zarr store"),
        ("damaged.zarr", {"split": 0}, OSError, "undamaged store"),
        ("good.zarr", {}, KeyError, "which is a group in .* which has: g/y, x"),
        ("good.zarr", {"variable": "z"}, KeyError, "not there in .* which has: g/y, x"),
        ("array.zarr", {"variable": "z"}, KeyError, "one array"),
        ("good.zarr", {"variable": 3}, TypeError, "variable must be"),
        ("text.zarr", {}, DTypeError, "elements of type"),
        ("good.zarr", {"variable": "x", "split": 2}, LayoutError, "split must be"),
        ("good.zarr", {"variable": "g/y", "dtype": "float32"}, DTypeError, "dtype must be complex"),
    ],
)
def test_load_refuses(folder, name, options, kind, text):
    def read(comm):
        with pytest.raises(kind, match=text) as caught:
            load_zarr(folder / name, **options)
        return type(caught.value), str(caught.value)

    assert len(set(spmd(3, read))) == 1


@pytest.mark.parametrize(
    ("name", "options", "kind", "text"),
    [
        ("nowhere/x.zarr", {}, FileNotFoundError, "existing directory"),
        ("good.zarr", {"overwrite": False}, FileExistsError, "new file"),
        ("file.zarr", {}, NotADirectoryError, "path must be a directory"),
        ("x.zarr", {"overwrite": "w"}, TypeError, "overwrite must be"),
        ("x.zarr", {"dtype": "bfloat16"}, DTypeError, "give dtype='float32'"),
        ("x.zarr", {"chunks": (0, 1)}, ValueError, "chunks must be"),
        ("x.zarr", {"chunks": 3}, ValueError, "chunks must be"),
        ("x.zarr", {"chunks": (2, 2), "shards": (3, 2)}, ValueError, "shards must be"),
        ("x.zarr", {"attrs": {"a": object()}}, TypeError, "attrs must hold"),
        (
            "x.zarr",
            {"compressors": "rar"},
            ValueError,
            "compressors, chunks and shards must be such as zarr takes",
        ),
    ],
)
def test_save_refuses(folder, name, options, kind, text):
    before = snapshot(folder)

    def write(comm):
        with pytest.raises(kind, match=text) as caught:
            save_zarr(distribute(make_global((6, 2)), comm, 0), folder / name, **options)
        return type(caught.value), str(caught.value)

    assert len(set(spmd(2, write))) == 1
    assert snapshot(folder) == before


@pytest.mark.parametrize("failing", [0, 2])
def test_a_rank_that_fails_in_the_middle(folder, monkeypatch, failing):
    before = snapshot(folder)
    real = zarr_write._write_item

    def fail(store, name, item, unit, comm):
        failure = real(store, name, item, unit, comm)
        return OSError(28, "No space left on device") if comm.rank == failing else failure

    monkeypatch.setattr(zarr_write, "_write_item", fail)

    def write(comm):
        with pytest.raises(OSError, match="No space left") as caught:
            save_zarr(distribute(make_global((6, 2)), comm, 0), folder / "good.zarr")
        return str(caught.value)

    assert len(set(spmd(3, write))) == 1
    assert snapshot(folder) == before


def test_no_chunk_appears_after_a_failure(tmp_path, monkeypatch):
    """zarr's threads go on when one has failed, and the folder is removed then."""
    chunks, put = [], zarr.storage._local._put

    def put_late(path, *args, **options):
        if "c" in path.parts:
            chunks.append(path)
            if len(chunks) == 1:
                raise OSError(errno.ENOSPC, "No space left on device")
            time.sleep(0.1)
        return put(path, *args, **options)

    monkeypatch.setattr(zarr.storage._local, "_put", put_late)
    with pytest.raises(OSError, match="No space left"):
        save_zarr(ht_core.ones((4, 2)), tmp_path / "x.zarr", chunks=(1, 2))
    time.sleep(0.2)
    assert len(chunks) > 1
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("has_exchange", [True, False])
def test_directories_change_names(tmp_path, monkeypatch, has_exchange):
    if not has_exchange:
        monkeypatch.setattr(replace, "_RENAME", None)
    save_zarr(torch.zeros(3), tmp_path / "x.zarr")
    save_zarr(torch.ones(2), tmp_path / "x.zarr")
    assert os.listdir(tmp_path) == ["x.zarr"]
    assert load(tmp_path / "x.zarr").larray.tolist() == [1, 1]


def test_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImportError, match=r"save_zarr: zarr must be installed .* 'ht-io\[zarr\]'"):
        save_zarr(torch.ones(3), tmp_path / "x.zarr")
    with pytest.raises(ImportError, match=r"load_zarr: zarr must be installed .* 'ht-io\[zarr\]'"):
        load_zarr(tmp_path / "x.zarr")


@pytest.mark.mpi
def test_on_ranks(comm, shared_tmp_path):
    values = make_global((13, 3), "float64")
    save_zarr(distribute(values, comm, 1), shared_tmp_path / "x.zarr", chunks=(2, 3), shards=(4, 3))
    x = load_zarr(shared_tmp_path / "x.zarr", split=0)
    assert same(x.larray, values[x.layout.slices(comm.rank)])
