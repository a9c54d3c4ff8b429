"""The table of faults in docs/faults.md: every cell is tried, on three ranks, in every format.

A cell holds the error that all ranks raise, with the same text. After a save that fails, the folder is as it was.
"""

import errno
import os
import resource
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import h5py
import netCDF4
import numpy as np
import pytest
import torch
import zarr
from ht_comm import spmd
from ht_io import checkpoint, load, save, saving
from io_arrays import distribute, same

P = 3
SMALL = torch.arange(60.0).view(20, 3)
#: 4 MiB that do not compress.
LARGE = torch.rand(1 << 17, 8, generator=torch.Generator().manual_seed(0))

#: Name: (file, arguments of the array's name, options of saving).
FORMATS = {
    "HDF5": ("x.h5", ("x",), {}),
    "HDF5, gzip": ("x.h5", ("x",), {"compression": 1, "chunks": (5, 3)}),
    "HDF5, lzf": ("x.h5", ("x",), {"compression": "lzf", "chunks": (5, 3)}),
    "NetCDF-4": ("x.nc", ("x",), {}),
    "classic NetCDF": ("x.nc", ("x",), {"format": "NETCDF3_64BIT_OFFSET"}),
    "npy": ("x.npy", (), {}),
    "npz": ("x.npz", ("x",), {}),
    "CSV": ("x.csv", (), {}),
    "Zarr": ("x.zarr", (), {"chunks": (5, 3)}),
    "checkpoint": ("x.ckpt", (), {}),
}
TABLE = Path(__file__).parent.parent / "docs" / "faults.md"


def cells():
    """Return (format, fault, expected) for each cell of the tables that is no dash."""
    found, head = [], None
    for line in TABLE.read_text().splitlines():
        row = [cell.strip(" `") for cell in line.strip().strip("|").split("|")]
        if not line.startswith("|") or set(line) <= set("|-"):
            head = head if line.startswith("|") else None
        elif head is None:
            head = row
        else:
            found += [(row[0], fault, cell) for fault, cell in zip(head[1:], row[1:]) if cell != "-"]
    return found


def put(form, folder, values, comm=None):
    """Save `values`, split along axis 0 where there are ranks."""
    file, name, options = FORMATS[form]
    if "chunks" in options:
        options = options | {"chunks": (min(5000, len(values)), values.shape[1])}
    x = values if comm is None else distribute(values, comm, 0)
    if form == "checkpoint":
        checkpoint.save(folder / file, {"x": x})
    else:
        save(x, folder / file, *name, **options)


def get(form, folder, name=None):
    """Load what is there, split along axis 0."""
    file, given, _ = FORMATS[form]
    if form == "checkpoint":
        return checkpoint.load(folder / file, split=0)["x"]
    return load(folder / file, *(given if name is None else name), split=0)


def raised(fn):
    """Return the error of `fn(comm)`, which must be the same on all ranks."""

    def catch(comm):
        with pytest.raises(Exception) as caught:
            fn(comm)
        return type(caught.value).__name__, str(caught.value), getattr(caught.value, "errno", None)

    errors = spmd(P, catch)
    assert len(set(errors)) == 1, errors
    return errors[0]


@contextmanager
def as_ordinary_user():
    """Give up the rights of root for a while: nobody's threads may not do everything."""
    if os.geteuid() != 0:
        yield
        return
    os.setresuid(65534, 65534, 0)
    try:
        yield
    finally:
        os.setresuid(0, 0, 0)


@contextmanager
def small_disk(folder):
    """Make `folder` a file system of 1 MiB; where this user may not mount one, let no file become longer."""
    command = ["mount", "-t", "tmpfs", "-o", "size=1m,mode=755", "tmpfs", str(folder)]
    if shutil.which("mount") and subprocess.run(command, capture_output=True, check=False).returncode == 0:
        try:
            yield errno.ENOSPC
        finally:
            subprocess.run(["umount", folder], check=True)
        return
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, old[1]))
    try:
        yield errno.EFBIG
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)


@contextmanager
def read_only(folder):
    """Make the file system of `folder` read-only; where this user may not, the directory."""
    command = ["mount", "--bind", "-o", "ro", str(folder), str(folder)]
    if shutil.which("mount") and subprocess.run(command, capture_output=True, check=False).returncode == 0:
        try:
            yield errno.EROFS
        finally:
            subprocess.run(["umount", folder], check=True)
        return
    folder.chmod(0o555)
    try:
        with as_ordinary_user():
            yield errno.EACCES
    finally:
        folder.chmod(0o755)


@pytest.fixture
def folder():
    """A directory that every user of the machine reaches, unlike pytest's."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield Path(name)


def contents(folder):
    """All files below `folder` and what is in them."""
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def put_text(form, folder):
    """Write a file of words where numbers are wanted, by the format's own library."""
    path, words = folder / FORMATS[form][0], np.array(["some", "words"])
    if form == "NetCDF-4":
        with netCDF4.Dataset(path, "w") as file:
            file.createDimension("n", 2)
            file.createVariable("x", str, ("n",))[:] = words.astype(object)
    elif form == "classic NetCDF":
        with netCDF4.Dataset(path, "w", format="NETCDF3_CLASSIC") as file:
            file.createDimension("n", 4)
            file.createVariable("x", "S1", ("n",))[:] = np.array(list("word"), dtype="S1")
    elif form == "npy":
        np.save(path, words.astype(object), allow_pickle=True)
    elif form == "npz":
        np.savez(path, x=words)
    elif form == "CSV":
        path.write_text("1,2\n3,words\n")
    elif form == "Zarr":
        zarr.create_array(path, shape=(2,), dtype="U5", chunks=(1,))[...] = words
    else:
        with h5py.File(path, "w") as file:
            file["tree" if form == "checkpoint" else "x"] = ["some", "words"]


def cut(path):
    """Take away the end of a file: half of it, or of a store half of every chunk."""
    for one in [p for p in path.rglob("*") if p.is_file() and "c" in p.parts] if path.is_dir() else [path]:
        data = one.read_bytes()
        end = len(data) // 2
        while path.suffix == ".csv" and data[end - 1 : end + 1].isdigit():
            end -= 1
        one.write_bytes(data[:end])


def damage(fault, form, folder):
    """Let `fault` happen to a file that is to be read."""
    path = folder / FORMATS[form][0]
    if fault == "missing file":
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    elif fault == "directory or file instead":
        damage("missing file", form, folder)
        path.write_text("words") if form == "Zarr" else path.mkdir()
    elif fault == "no numbers":
        damage("missing file", form, folder)
        put_text(form, folder)
    elif fault == "truncated":
        cut(path)
    elif fault == "no permission to read":
        path.chmod(0)


@pytest.mark.parametrize(("form", "fault", "expected"), cells())
def test_fault(folder, monkeypatch, form, fault, expected):
    path = folder / FORMATS[form][0]
    put(form, folder, SMALL)
    loads = ("missing file", "directory or file instead", "no permission to read", "missing data set")
    if fault in (*loads, "no numbers", "truncated"):
        get(form, folder)  # what is imported on first use is imported with all rights
        "words".encode("cp437")  # which zipfile asks for
        damage(fault, form, folder)
        with as_ordinary_user():
            name = ("y",) if fault == "missing data set" else None
            kind, text, _ = raised(lambda comm: get(form, folder, name))
        assert kind == expected, text
        assert "load" in text, text
        assert str(path) in text, text
        return
    stack = {"full disk": small_disk, "read-only file system": read_only}.get(fault)
    monkeypatch.setattr(saving, "check_space", lambda *args: None)  # the disk becomes full in mid-save
    if stack is None:
        before = contents(folder)
        (folder if fault == "closed directory" else path).chmod(0o555)
        with as_ordinary_user():
            kind, text, _ = raised(lambda comm: put(form, folder, SMALL, comm))
        folder.chmod(0o755)
    elif fault == "full disk":
        with small_disk(folder) as number:
            put(form, folder, SMALL)
            before = contents(folder)
            kind, text, found = raised(lambda comm: put(form, folder, LARGE, comm))
            assert found == number, text
            check_intact(form, folder, before)
    else:
        before = contents(folder)
        with read_only(folder) as number:
            kind, text, found = raised(lambda comm: put(form, folder, SMALL, comm))
        assert found == number, text
        expected = "PermissionError" if number == errno.EACCES else expected
    assert kind == expected, text
    assert "path must be" in text
    if fault != "full disk":
        check_intact(form, folder, before)


def check_intact(form, folder, before):
    """The previous version is there, nothing else is, and the next save succeeds."""
    assert contents(folder) == before
    assert os.listdir(folder) == [FORMATS[form][0]]
    (folder / FORMATS[form][0]).chmod(0o755)
    back = spmd(1, lambda comm: get(form, folder))[0]
    assert same(getattr(back, "larray", back).float(), SMALL)
    put(form, folder, SMALL)
    assert os.listdir(folder) == [FORMATS[form][0]]


def test_every_format_and_fault_has_a_cell():
    lines = [line for line in TABLE.read_text().splitlines() if line.startswith("|")]
    assert [
        line.split("|")[1].strip(" `") for line in lines if line.split("|")[1].strip(" `") in FORMATS
    ] == [
        *FORMATS,
        *FORMATS,
    ]
