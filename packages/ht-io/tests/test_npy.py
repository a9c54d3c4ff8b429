"""Round trips through .npy and .npz on p ranks, files that NumPy wrote, and bad ones."""

import itertools
import os
import zipfile

import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.errors import DTypeError, LayoutError
from ht_io import hdf5_items, load, load_npy, load_npy_from_path, load_npz, npz, save, save_npy, save_npz
from io_arrays import DTYPES, distribute, make_counts, make_global, same

NUMPY_DTYPES = [name for name in DTYPES if name != "bfloat16"]
SHAPES = [(), (0,), (7,), (5, 3), (3, 0), (4, 3, 5)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_round_trip_p_to_q(tmp_path, shape, order):
    values = make_global(shape)
    splits = [None, *range(len(shape))]

    def write(comm, split):
        counts = None if split is None else make_counts(shape[split], comm.size, seed=7)
        x = distribute(values, comm, split, counts, strided=True)
        save_npy(x, tmp_path / "x.npy", order=order)
        assert same(x.larray, distribute(values, comm, split, counts).larray)

    def read(comm):
        for split in splits:
            x = load(tmp_path / "x.npy", split=split)
            assert same(x.larray, values[x.layout.slices(comm.rank)])

    for p, q in [(1, 3), (3, 1), (4, 2)]:
        for split in splits:
            spmd(p, write, split)
            found = np.load(tmp_path / "x.npy")
            np.testing.assert_array_equal(found, values.numpy(), strict=True)
            spmd(q, read)
    assert os.listdir(tmp_path) == ["x.npy"]


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_every_dtype_in_both_byte_orders(tmp_path, dtype):
    values = make_global((7, 4), dtype)
    for order in "<>":
        for layout in "CF":
            stored = np.asarray(values.numpy().astype(np.dtype(dtype).newbyteorder(order)), order=layout)
            np.save(tmp_path / "x.npy", stored)
            np.savez_compressed(tmp_path / "x.npz", x=stored)

            def read(comm):
                for split in (None, 0, 1):
                    x = load_npy(tmp_path / "x.npy", split=split)
                    assert same(x.larray, values[x.layout.slices(comm.rank)])
                    x = load_npz(tmp_path / "x.npz", "x", split=split)
                    assert same(x.larray, values[x.layout.slices(comm.rank)])

            spmd(3, read)

    def write(comm):
        save_npy(distribute(values, comm, 1), tmp_path / "y.npy")
        save_npz({"y": distribute(values, comm, 0)}, tmp_path / "y.npz")

    spmd(2, write)
    for found in (np.load(tmp_path / "y.npy"), np.load(tmp_path / "y.npz")["y"]):
        np.testing.assert_array_equal(found, values.numpy(), strict=True)


@pytest.mark.parametrize(
    "slices",
    [slice(1, None, 3), (slice(None), 2), (Ellipsis, slice(1, 3)), [7, 0, -1, 0], (slice(2, 9), [3, 1]), 4],
    ids=str,
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_slices_cost_the_slice(tmp_path, slices, order):
    values = make_global((11, 4))
    stored = np.asarray(values.numpy(), order=order)
    np.save(tmp_path / "x.npy", stored)
    np.savez(tmp_path / "x.npz", x=stored)
    np.savez_compressed(tmp_path / "z.npz", x=stored)
    expected = torch.from_numpy(values.numpy()[slices].astype("f8"))

    def read(comm):
        for split in (None, *range(expected.ndim)):
            for x in (
                load_npy(tmp_path / "x.npy", slices=slices, split=split, dtype="float64"),
                load_npz(tmp_path / "x.npz", "x", slices=slices, split=split, dtype="float64"),
                load_npz(tmp_path / "z.npz", "x", slices=slices, split=split, dtype="float64"),
            ):
                assert same(x.larray, expected[x.layout.slices(comm.rank)])

    spmd(3, read)


def test_compressed_members_pass_in_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(npz, "_PIECE", 100)
    values = make_global((40, 6))
    for order in "CF":
        np.savez_compressed(tmp_path / "z.npz", x=np.asarray(values.numpy(), order=order))

        def read(comm):
            x = load_npz(tmp_path / "z.npz", "x", slices=(slice(3, 30, 2), [5, 0]), split=0)
            assert same(x.larray, values[3:30:2, [5, 0]][x.layout.slices(comm.rank)])

        spmd(3, read)


@pytest.mark.parametrize("p", [1, 2, 4])
def test_archives_are_those_of_numpy(tmp_path, p):
    values = {"a": make_global((9, 3)), "group/b": make_global((5,), "int64"), "c": torch.tensor(2.5)}
    values["empty"], values["ünï"] = make_global((0, 3)), make_global((3,), "complex128")

    def write(comm):
        splits = {"a": 1, "group/b": 0}
        x = {n: distribute(v, comm, splits.get(n), None) for n, v in values.items()}
        save(x, tmp_path / "x.npz")
        back = load(tmp_path / "x.npz")
        assert list(back) == list(values)
        assert all(same(back[n].larray, v) for n, v in values.items())

    spmd(p, write)
    with zipfile.ZipFile(tmp_path / "x.npz") as archive:
        assert archive.testzip() is None  # checksums
    with np.load(tmp_path / "x.npz") as found:
        assert found.files == list(values)
        for name, value in values.items():
            np.testing.assert_array_equal(found[name], value.numpy(), strict=True)
    save_npz(values["a"], tmp_path / "y.npz")
    assert np.load(tmp_path / "y.npz").files == ["arr_0"]


def test_equal_arrays_make_equal_archives(tmp_path):
    def write(comm):
        save_npz({"a": distribute(make_global((9, 3)), comm, 0)}, tmp_path / f"{comm.size}.npz")

    for p in (1, 3):
        spmd(p, write)
    assert (tmp_path / "1.npz").read_bytes() == (tmp_path / "3.npz").read_bytes()


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("split", [None, 0, 1])
def test_files_of_a_folder_are_joined(tmp_path, axis, split):
    values = make_global((9, 8), "int32")
    edges = [0, 2, 2, 7, values.shape[axis]]
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        np.save(tmp_path / f"{number}.npy", values.narrow(axis, low, high - low).numpy())
    (tmp_path / "notes.txt").write_text("not an array")

    def read(comm):
        x = load_npy_from_path(tmp_path, "float32", split, axis=axis)
        assert same(x.larray, values.float()[x.layout.slices(comm.rank)])
        x = load_npy_from_path(tmp_path, split=split, axis=axis, slices=(slice(1, 8, 3), [6, 0]))
        assert same(x.larray, values[1:8:3, [6, 0]][x.layout.slices(comm.rank)])
        x = load_npy_from_path(tmp_path, split=split, axis=axis, slices=([6, 0, -1], slice(2, 8, 2)))
        assert same(x.larray, values[[6, 0, -1], 2:8:2][x.layout.slices(comm.rank)])

    spmd(3, read)


def test_messages(tmp_path):
    def check(comm):
        x = distribute(make_global((12, 3)), comm, 0)
        with comm.trace() as trace:
            save_npy(x, tmp_path / "x.npy")
        assert trace.calls == 4
        with comm.trace() as trace:
            load_npy(tmp_path / "x.npy", split=1)
        assert trace.calls == 1

    spmd(3, check)


@pytest.fixture
def folder(tmp_path):
    """A folder with good and bad files."""
    np.save(tmp_path / "good.npy", np.ones((6, 2)))
    np.save(tmp_path / "complex.npy", np.ones(3) * 1j)
    np.save(tmp_path / "object.npy", np.array([{}, 1], dtype=object), allow_pickle=True)
    np.save(tmp_path / "text.npy", np.array(["a"]))
    np.save(tmp_path / "record.npy", np.zeros(2, dtype=[("a", "f4")]))
    np.save(tmp_path / "long.npy", np.ones(2, dtype=np.longdouble))
    data = (tmp_path / "good.npy").read_bytes()
    (tmp_path / "short.npy").write_bytes(data[:-1])
    (tmp_path / "header.npy").write_bytes(data[:40])
    (tmp_path / "empty.npy").write_bytes(b"")
    np.savez(tmp_path / "good.npz", x=np.ones((6, 2)))
    np.savez(tmp_path / "object.npz", x=np.array([{}], dtype=object))
    (tmp_path / "short.npz").write_bytes((tmp_path / "good.npz").read_bytes()[:-60])
    np.savez_compressed(tmp_path / "damaged.npz", x=np.random.default_rng(0).normal(size=500))
    data = bytearray((tmp_path / "damaged.npz").read_bytes())
    data[2000:2020] = bytes(20)
    (tmp_path / "damaged.npz").write_bytes(data)
    return tmp_path


@pytest.mark.parametrize(
    ("function", "name", "options", "kind", "text"),
    [
        (load_npy, "missing.npy", {}, FileNotFoundError, "existing, readable file"),
        (load_npy, ".", {}, IsADirectoryError, "must be a file"),
        (load_npy, "object.npy", {}, DTypeError, "pickled"),
        (load_npy, "text.npy", {}, DTypeError, "type <U1"),
        (load_npy, "record.npy", {}, DTypeError, "type"),
        (load_npy, "long.npy", {}, DTypeError, "type"),
        (load_npy, "short.npy", {}, OSError, "complete file"),
        (load_npy, "header.npy", {}, OSError, "complete .npy file"),
        (load_npy, "empty.npy", {}, OSError, "complete .npy file"),
        (load_npy, "good.npz", {}, OSError, "complete .npy file"),
        (load_npy, "good.npy", {"split": 2}, LayoutError, "split must be"),
        (load_npy, "good.npy", {"slices": 6}, LayoutError, "slices must be"),
        (load_npy, "complex.npy", {"dtype": "float32"}, DTypeError, "dtype must be complex"),
        (load_npz, "good.npy", {}, OSError, "complete .npz file"),
        (load_npz, "short.npz", {}, OSError, "complete .npz file"),
        (load_npz, "object.npz", {}, DTypeError, "pickled"),
        (load_npz, "good.npz", {"name": "y"}, KeyError, "which has: x"),
        (load_npz, "good.npz", {"name": 3}, TypeError, "name must be a string"),
        (load_npz, "damaged.npz", {"split": 0}, OSError, "undamaged"),
        (load_npy_from_path, "nowhere", {}, FileNotFoundError, "existing directory"),
        (load_npy_from_path, "good.npy", {}, NotADirectoryError, "existing directory"),
        (load_npy_from_path, ".", {"axis": 0}, (OSError, DTypeError, LayoutError), "load_npy_from_path: "),
    ],
)
def test_load_refuses(folder, function, name, options, kind, text):
    def read(comm):
        with pytest.raises(kind, match=text) as caught:
            function(folder / name, **options)
        return type(caught.value), str(caught.value)

    assert len(set(spmd(3, read))) == 1


@pytest.mark.parametrize(
    ("function", "name", "options", "kind", "text"),
    [
        (save_npy, "nowhere/x.npy", {}, FileNotFoundError, "existing directory"),
        (save_npy, "good.npy", {"mode": "x"}, FileExistsError, "new file"),
        (save_npy, "x.npy", {"mode": "a"}, ValueError, "for this format"),
        (save_npy, "x.npy", {"mode": "rw"}, ValueError, "mode must be one of"),
        (save_npy, "x.npy", {"order": "K"}, ValueError, "order must be"),
        (save_npy, "x.npy", {"dtype": "bfloat16"}, DTypeError, "give dtype='float32'"),
        (save_npz, "x.npz", {"dtype": "bfloat16"}, DTypeError, "give dtype='float32'"),
        (save_npz, "x.npz", {"mode": "r+"}, ValueError, "for this format"),
        (save_npz, "x.npz", {"name": "../x"}, ValueError, "dataset must be a name"),
    ],
)
def test_save_refuses(folder, function, name, options, kind, text):
    before = {f.name: f.read_bytes() for f in folder.iterdir()}

    def write(comm):
        with pytest.raises(kind, match=text) as caught:
            function(distribute(make_global((6, 2)), comm, 0), folder / name, **options)
        return type(caught.value), str(caught.value)

    assert len(set(spmd(2, write))) == 1
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["good.npy", "good.npz"])
def test_a_rank_that_fails_in_the_middle(folder, monkeypatch, name):
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    real = hdf5_items.write_raw

    def fail(handle, offset, item, comm):
        failure = real(handle, offset, item, comm)
        return OSError(28, "No space left on device") if comm.rank == 1 else failure

    monkeypatch.setattr(hdf5_items, "write_raw", fail)

    def write(comm):
        with pytest.raises(OSError, match="No space left"):
            save(distribute(make_global((6, 2)), comm, 0), folder / name)

    spmd(3, write)
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before


@pytest.mark.mpi
def test_on_ranks(comm, shared_tmp_path):
    values = make_global((10, 3), "float64")
    save_npy(distribute(values, comm, 1), shared_tmp_path / "x.npy")
    save_npz({"x": distribute(values, comm, 0)}, shared_tmp_path / "x.npz")
    for x in (
        load_npy(shared_tmp_path / "x.npy", split=0),
        load_npz(shared_tmp_path / "x.npz", "x", split=1),
    ):
        assert same(x.larray, values[x.layout.slices(comm.rank)])
