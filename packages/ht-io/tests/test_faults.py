"""Bad input and failing systems: one clear error, the same on all ranks, nothing left behind, the old file
intact.
"""

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from types import SimpleNamespace

import h5py
import numpy as np
import pytest
import torch
from ht_comm import get_comm, spmd
from ht_comm.pytest_group import find_launcher
from ht_core.errors import AxisError, DTypeError, LayoutError
from ht_io import chunked, load, load_hdf5, raw, save, save_hdf5, saving, turns
from ht_io.hdf5_read import check_complete
from io_arrays import distribute, make_global, same

VALUES = make_global((12, 3))


@pytest.fixture
def path(tmp_path):
    """A file with some data sets."""
    path = tmp_path / "good.h5"
    with h5py.File(path, "w") as file:
        file["x"] = VALUES.numpy()
        file["group/z"] = np.array([1j])
        file["text"] = "words"
        file["record"] = np.zeros(3, dtype=[("a", "f4"), ("b", "i4")])
        file["nothing"] = h5py.Empty("f4")
    return path


def raised(p, fn, *args, **kwargs):
    """Return the error that `fn` raises on every rank, which must be the same."""

    def catch(comm):
        with pytest.raises(Exception) as caught:
            fn(*args, **kwargs)
        return type(caught.value), str(caught.value), getattr(caught.value, "errno", None)

    errors = spmd(p, catch)
    assert len(set(errors)) == 1
    return errors[0]


@pytest.mark.parametrize("p", [1, 3])
@pytest.mark.parametrize(
    ("args", "kind", "text"),
    [
        (("missing.h5", "x"), FileNotFoundError, "path must be an existing, readable file"),
        ((".", "x"), IsADirectoryError, "path must be a file"),
        (("good.h5", "y"), KeyError, "got 'y', which is not there"),
        (("good.h5", "group"), KeyError, "which is a group"),
        (("good.h5", ""), KeyError, "has: group/z, nothing, record, text, x"),
        (("good.h5", 3), TypeError, "dataset must be a string"),
        (("good.h5", "text"), DTypeError, "'/text' of '.*good.h5' has elements of type"),
        (("good.h5", "record"), DTypeError, "'/record' of '.*good.h5' has elements of type"),
        (("good.h5", "nothing"), DTypeError, "empty data space"),
        (("good.h5", "x", {"split": 2}), AxisError, "split must be in \\[-2, 2\\)"),
        (("good.h5", "x", {"split": "rows"}), LayoutError, "split must be an integer"),
        (("good.h5", "x", {"slices": 12}), LayoutError, "slices must be in"),
        (("good.h5", "x", {"dtype": "float31"}), DTypeError, "dtype: must be one of"),
        (("good.h5", "x", {"device": "toaster"}), LayoutError, "device: must be"),
        (("good.h5", "group/z", {"dtype": "float64"}), DTypeError, "dtype must be complex"),
    ],
)
def test_load_refuses(path, p, args, kind, text):
    name, dataset, *options = args
    found, message, _ = raised(p, load_hdf5, path.parent / name, dataset, **(options[0] if options else {}))
    assert found is kind
    assert re.search(text, message)


def test_no_permission(path, monkeypatch):
    """The system's answer, also where these tests run as a user who may do everything."""
    monkeypatch.setattr(os, "access", lambda name, mode: False)
    kind, text, number = raised(3, load_hdf5, path, "x", split=0)
    assert (kind, number) == (PermissionError, errno.EACCES)
    assert "path must be readable by this user" in text
    kind, text, number = raised(3, save_hdf5, VALUES, path, "x")
    assert (kind, number) == (PermissionError, errno.EACCES)
    assert "path must be writable by this user" in text


def test_load_names_a_file_that_is_no_file():
    assert raised(2, load_hdf5, 17, "x")[0] is TypeError


@pytest.mark.parametrize("where", [0, 100, -50])
def test_truncated_file(path, where):
    data = path.read_bytes()
    path.write_bytes(data[:where])
    kind, text, _ = raised(3, load_hdf5, path, "x", split=0)
    assert kind is OSError
    assert "path must be a complete HDF5 file" in text


def test_data_beyond_the_end_is_not_zeros(tmp_path):
    """A file whose header HDF5 believes, but whose data is not all there."""
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["x"] = np.ones(1000, dtype="f4")
        end = file["x"].id.get_offset() + 4000
    data = bytearray(path.read_bytes())
    assert end == len(data)
    data[40:48] = (end - 100).to_bytes(8, "little")  # where the superblock tells the length
    path.write_bytes(data[:-100])
    kind, text, _ = raised(2, load_hdf5, path, "x", split=0)
    assert kind is OSError
    assert "undamaged" in text or "ends within" in text  # the first from HDF5 2, the second from us


def test_length_of_the_file_is_checked(tmp_path):
    (tmp_path / "x.h5").write_bytes(b"0" * 1000)
    data = SimpleNamespace(get_offset=lambda: 600, get_storage_size=lambda: 400)
    check_complete(
        SimpleNamespace(id=data, name="/x", is_virtual=False, external=None), str(tmp_path / "x.h5"), "load"
    )
    data.get_storage_size = lambda: 401
    with pytest.raises(OSError, match="ends within '/x'"):
        check_complete(
            SimpleNamespace(id=data, name="/x", is_virtual=False, external=None),
            str(tmp_path / "x.h5"),
            "load",
        )


def test_damaged_chunk_on_one_rank(tmp_path):
    path = tmp_path / "x.h5"
    save_hdf5(torch.arange(4000.0), path, "x", chunks=(1000,), compression=1)
    with h5py.File(path) as file:
        chunk = file["x"].id.get_chunk_info(3)
    data = bytearray(path.read_bytes())
    data[chunk.byte_offset : chunk.byte_offset + 10] = b"\0" * 10
    path.write_bytes(data)
    kind, text, _ = raised(4, load_hdf5, path, "x", split=0)
    assert kind is OSError
    assert "undamaged" in text


def test_ranks_that_see_different_files(tmp_path):
    for rank in range(2):
        save_hdf5(make_global((4 + rank,)), tmp_path / f"{rank}.h5", "x")

    def read(comm):
        with pytest.raises(OSError, match="the same on every rank"):
            load_hdf5(tmp_path / f"{comm.rank}.h5", "x")

    spmd(2, read)


@pytest.mark.parametrize("p", [1, 3])
@pytest.mark.parametrize(
    ("target", "options", "kind", "text"),
    [
        ("nowhere/x.h5", {}, FileNotFoundError, "existing directory"),
        (".", {}, IsADirectoryError, "path must be a file"),
        ("good.h5", {"mode": "x"}, FileExistsError, "new file"),
        ("new.h5", {"mode": "r+"}, FileNotFoundError, "existing file in mode"),
        ("new.h5", {"mode": "rw"}, ValueError, "mode must be one of"),
        ("good.h5", {"mode": "a"}, ValueError, "'x', which is a data set already"),
        ("good.h5", {"mode": "r+", "dataset": "group"}, ValueError, "which is a group already"),
        ("good.h5", {"mode": "a", "dataset": "x/y"}, ValueError, "'x', which is a data set already"),
        ("broken.h5", {"mode": "a"}, OSError, "complete HDF5 file"),
        ("new.h5", {"dataset": None}, TypeError, "dataset must be a name"),
        ("new.h5", {"dataset": 3}, TypeError, "dataset must be a string"),
        ("new.h5", {"dataset": "/"}, ValueError, "dataset must be a name such as"),
        ("new.h5", {"dtype": "text"}, DTypeError, "dtype"),
        ("new.h5", {"chunks": (100, 1)}, ValueError, "chunks must be"),
        ("new.h5", {"chunks": (1,)}, ValueError, "chunks must be"),
        ("new.h5", {"compression": "zip"}, ValueError, "compression must be"),
        ("new.h5", {"compression": 10}, ValueError, "compression must be"),
        ("new.h5", {"attrs": 3}, TypeError, "attrs must be a mapping"),
        ("new.h5", {"attrs": {"a": object()}}, TypeError, "attrs must hold numbers"),
    ],
)
def test_save_refuses(path, p, target, options, kind, text):
    (path.parent / "broken.h5").write_bytes(path.read_bytes()[:200])
    before = {f.name: f.read_bytes() for f in path.parent.iterdir()}
    options = {"dataset": "x", **options}

    def write(comm):
        with pytest.raises(kind, match=text) as caught:
            save_hdf5(distribute(VALUES, comm, 0), path.parent / target, **options)
        return type(caught.value), str(caught.value)

    assert len(set(spmd(p, write))) == 1
    assert {f.name: f.read_bytes() for f in path.parent.iterdir()} == before


def test_save_refuses_mappings_that_do_not_fit(tmp_path):
    path = tmp_path / "x.h5"
    with pytest.raises(ValueError, match="different name"):
        save_hdf5({"a": VALUES, "/a": VALUES}, path)
    with pytest.raises(ValueError, match="different name"):
        save_hdf5({"a": VALUES, "a/b": VALUES}, path)
    with pytest.raises(TypeError, match="dataset must not be given"):
        save_hdf5({"a": VALUES}, path, "b")
    with pytest.raises(KeyError, match="attrs must be"):
        save_hdf5({"a": VALUES}, path, attrs={"b": {}})
    with pytest.raises(TypeError, match="x must be an array"):
        save_hdf5({"a": object()}, path)
    with pytest.raises(DTypeError, match="dtype must be complex"):
        save_hdf5(make_global((3,), "complex64"), path, "a", dtype="float32")
    assert not path.exists()


def test_arguments_that_differ_between_ranks(tmp_path):
    def write(comm):
        with pytest.raises(ValueError, match="the same on every rank"):
            save_hdf5(distribute(VALUES, comm, 0), tmp_path / "x.h5", f"x{comm.rank}")

    def write_different_numbers(comm):
        with pytest.raises(ValueError, match="the same on every rank"):
            save_hdf5({f"x{i}": VALUES for i in range(1 + comm.rank)}, tmp_path / "x.h5")

    spmd(3, write)
    spmd(2, write_different_numbers)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "options", [{}, {"chunks": (2, 1), "compression": 1}, {"compression": "lzf"}], ids=str
)
@pytest.mark.parametrize("split", [0, 1])
@pytest.mark.parametrize("failing", [0, 2])
def test_full_disk_on_one_rank(path, monkeypatch, options, split, failing):
    """Writers that fail on one rank in the middle of a save, as on a disk that has become full."""
    before = path.read_bytes()
    broken = OSError(errno.ENOSPC, "No space left on device")
    threads = set()

    def write(comm):
        if comm.rank == failing:
            threads.add(threading.get_ident())
        comm.barrier()
        with pytest.raises(OSError, match="No space left") as caught:
            save_hdf5(distribute(VALUES, comm, split), path, "x", **options)
        return str(caught.value), caught.value.errno

    def fail_on_rank(real):
        def wrapped(*args, **kwargs):
            if threading.get_ident() in threads:
                raise broken
            return real(*args, **kwargs)

        return wrapped

    monkeypatch.setattr(raw, "write_all", fail_on_rank(raw.write_all))
    monkeypatch.setattr(chunked, "_encode", fail_on_rank(chunked._encode))
    monkeypatch.setattr(turns, "_write_own", fail_on_rank(turns._write_own))
    assert len(set(spmd(3, write))) == 1
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


def test_full_disk_when_the_root_stores_chunks(path, monkeypatch):
    before = path.read_bytes()
    monkeypatch.setattr(chunked, "_WAVE_BYTES", 10)

    def fail(*args):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(chunked, "_store", fail)

    def write(comm):
        with pytest.raises(OSError, match="No space left"):
            save_hdf5(distribute(VALUES, comm, 0), path, "x", chunks=(2, 3))

    spmd(3, write)
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == [path.name]


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A file system of 1 MiB; where this user may not mount one, a directory for which the system calls say so."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    is_mounted = (
        shutil.which("mount") and subprocess.run(command, capture_output=True, check=False).returncode == 0
    )
    if not is_mounted:
        pretend_small(monkeypatch, 1 << 20)
    yield folder
    if is_mounted:
        subprocess.run(["umount", folder], check=True)


def pretend_small(monkeypatch, size):
    """Let the calls by which files are written behave as on a disk of `size` bytes."""
    pwrite = os.pwrite

    def limited_pwrite(handle, data, offset):
        if offset >= size:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return pwrite(handle, data[: size - offset], offset)  # the last write before the end is a short one

    monkeypatch.setattr(os, "pwrite", limited_pwrite)
    monkeypatch.setattr(
        os, "statvfs", lambda folder: SimpleNamespace(f_bavail=size // 4096, f_frsize=4096, f_flag=0)
    )


def test_full_disk_as_pretended(tmp_path, monkeypatch):
    pretend_small(monkeypatch, 1 << 20)
    check_full_disk(tmp_path)
    monkeypatch.setattr(saving, "check_space", lambda *args: None)
    check_full_disk(tmp_path)


@pytest.mark.parametrize("is_checked", [True, False], ids=["checked first", "met while writing"])
def test_full_disk(small_disk, monkeypatch, is_checked):
    if not is_checked:
        monkeypatch.setattr(saving, "check_space", lambda *args: None)
    check_full_disk(small_disk)


def check_full_disk(folder):
    """Save more than 1 MiB into `folder`, which has room for less, on two ranks."""
    old = make_global((1000,))
    save_hdf5(old, folder / "x.h5", "x")

    def write(comm):
        with pytest.raises(OSError, match="file system") as caught:
            save_hdf5(distribute(torch.zeros(1 << 19), comm, 0), folder / "x.h5", "x")
        return str(caught.value), caught.value.errno

    errors = set(spmd(2, write))
    assert len(errors) == 1
    assert errors.pop()[1] == errno.ENOSPC
    assert os.listdir(folder) == ["x.h5"]
    assert same(load_hdf5(folder / "x.h5", "x").larray, old)


def test_killed_in_the_middle_of_a_save(path):
    """The old file stays; what is left over goes with the next save."""
    before = path.read_bytes()
    program = textwrap.dedent(
        """
        import os, signal, sys, torch
        from ht_io import raw, save_hdf5
        raw.write_all = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
        save_hdf5(torch.ones(1000), sys.argv[1], "x", engine="posix")
        """
    )
    done = subprocess.run([sys.executable, "-c", program, path], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_bytes() == before
    left = [f for f in os.listdir(path.parent) if f != path.name]
    assert len(left) == 1
    assert left[0].startswith(".good.h5.")
    assert left[0].endswith(".tmp")
    save_hdf5(VALUES, path, "x")
    assert os.listdir(path.parent) == [path.name]


def test_unknown_suffix(tmp_path):
    with pytest.raises(
        ValueError, match=r"load: path must end in one of .*\.h5, \.hdf, \.hdf5, \.he5.*, got"
    ):
        load(tmp_path / "x.docx", "x")
    with pytest.raises(ValueError, match=r"ht_io.formats"):
        save(VALUES, tmp_path / "x", "x")


def test_one_process_of_a_job_killed_in_the_middle_of_a_save(path):
    """The job ends, the old file stays."""
    before = path.read_bytes()
    program = textwrap.dedent(
        """
        import os, signal, sys, torch
        import ht_core as ht
        from ht_io import raw, save_hdf5
        x = ht.ones(100_000, split=0)
        if x.comm.size != 2:
            sys.exit("must be started on two ranks")
        if x.comm.rank == 1:
            raw.write_all = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
        save_hdf5(x, sys.argv[1], "x", engine="posix")
        """
    )
    launcher = find_launcher()
    flags = [flag for flag in launcher.flags if flag != "-disable-auto-cleanup"]  # a job as users start it
    command = [*launcher.command, *flags, "-n", "2", sys.executable, "-c", program, path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode != 0
    assert "must be started" not in done.stderr
    assert path.read_bytes() == before
    save_hdf5(VALUES, path, "x")
    assert os.listdir(path.parent) == [path.name]


def test_a_filter_is_that_of_the_data_set_whoever_writes_it(tmp_path):
    """Also where nobody does, as others may add rows later."""
    save_hdf5(
        distribute(torch.zeros(0, 3), get_comm(), 0),
        tmp_path / "x.h5",
        "x",
        compression="lzf",
        maxshape=(None, 3),
    )
    with h5py.File(tmp_path / "x.h5") as file:
        assert file["x"].compression == "lzf"
