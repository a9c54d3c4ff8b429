"""Passing over files in blocks: what comes, when it is read, what it takes."""

import subprocess
import sys
import textwrap
import threading

import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core import Layout
from ht_core.errors import LayoutError
from ht_io import save_csv, save_hdf5, save_netcdf, save_npy, save_npz, stream
from ht_io.streaming import Stream
from io_arrays import distribute, make_global, same

VALUES = make_global((23, 4))


@pytest.fixture
def folder(tmp_path):
    """The same array in every format that is read in parts."""
    save_hdf5(VALUES, tmp_path / "x.h5", "x")
    save_hdf5(VALUES, tmp_path / "gzip.h5", "x", chunks=(5, 4), compression=1)
    save_netcdf(VALUES, tmp_path / "x.nc", "x")
    save_npy(VALUES, tmp_path / "x.npy")
    save_npy(VALUES, tmp_path / "f.npy", order="F")
    save_npz({"x": VALUES}, tmp_path / "x.npz")
    np.savez_compressed(tmp_path / "z.npz", x=VALUES.numpy())
    return tmp_path


FILES = ["x.h5", "gzip.h5", "x.nc", "x.npy", "f.npy", "x.npz", "z.npz"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("rows", [1, 5, 23, 100])
def test_blocks_in_order(folder, name, rows):
    key = None if name.endswith(".npy") else "x"

    def check(comm):
        for split in (None, 0, 1):
            blocks = stream(folder / name, key, rows, split)
            assert (blocks.shape, len(blocks)) == ((23, 4), -(-23 // rows))
            for _ in range(2):  # each loop begins anew
                low = 0
                for block in blocks:
                    expected = VALUES[low : low + rows]
                    assert block.layout is Layout.even(tuple(expected.shape), split, comm.size)
                    assert same(block.larray, expected[block.layout.slices(comm.rank)].contiguous())
                    low += rows
                assert low >= 23

    for p in (1, 3):
        spmd(p, check)


def test_selections_casts_and_kept_blocks(folder):
    def check(comm):
        options = {"slices": (slice(2, 20, 3), [3, 0]), "dtype": "float64"}
        kept = list(stream(folder / "x.h5", "x", 2, None, **options))
        assert same(torch.cat([block.larray for block in kept]), VALUES[2:20:3, [3, 0]].double())
        listed = list(stream(folder / "x.npy", None, 2, None, slices=([22, 0, 5], 1)))
        assert same(torch.cat([block.larray for block in listed]), VALUES[[22, 0, 5], 1])

    spmd(2, check)


def test_an_empty_array(tmp_path):
    save_npy(torch.empty(0, 3), tmp_path / "x.npy")
    assert list(stream(tmp_path / "x.npy", block_rows=4)) == []


@pytest.mark.parametrize("p", [1, 2])
def test_the_next_block_is_read_while_the_caller_computes(folder, monkeypatch, p):
    """Reading block n + 1 begins, and ends, while the caller holds block n."""
    started = [[threading.Event() for _ in range(6)] for _ in range(p)]
    computing = [[threading.Event() for _ in range(6)] for _ in range(p)]
    real = Stream._read

    def read(self, source, number):
        started[self._comm.rank][number].set()
        if number:
            assert computing[self._comm.rank][number - 1].wait(20)
        return real(self, source, number)

    monkeypatch.setattr(Stream, "_read", read)

    def check(comm):
        for number, _ in enumerate(stream(folder / "x.h5", "x", 4)):
            if number < 5:
                assert started[comm.rank][number + 1].wait(20)
                computing[comm.rank][number].set()
                assert not started[comm.rank][number + 2].is_set() if number < 4 else True

    spmd(p, check)


def test_a_loop_that_is_left_early_closes_the_file(folder):
    before = threading.active_count()
    for block in stream(folder / "x.h5", "x", 4):
        assert block.shape == (4, 4)
        break
    del block
    assert threading.active_count() == before


def test_memory_is_that_of_two_blocks(tmp_path):
    """A file of 200 MiB passes in blocks of 8 MiB where the system gives 128 MiB more, too little for a load."""
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", "f4", (50, 1 << 20)).flush()
    program = textwrap.dedent(
        """
        import resource, sys
        from ht_io import load_npy, stream
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        blocks = stream(sys.argv[1], block_rows=2)
        next(iter(blocks)).larray.sum()
        before, total = peak(), 0
        if sys.platform == "linux":
            used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + (128 << 20), resource.RLIM_INFINITY))
        for block in blocks:
            total += block.larray.numel()
        assert total == 50 << 20
        print(peak() - before)
        if sys.platform == "linux":
            try:
                load_npy(sys.argv[1])
            except (MemoryError, RuntimeError):
                sys.exit()
            sys.exit("the limit must be one that a load does not keep")
        """
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "x.npy"], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 40 << 20


def test_one_message_per_block(folder):
    def check(comm):
        blocks = stream(folder / "x.npy", block_rows=4)
        with comm.trace() as trace:
            assert sum(1 for _ in blocks) == 6
        assert trace.calls == 6

    spmd(3, check)


@pytest.mark.parametrize(
    ("name", "options", "kind", "text"),
    [
        ("missing.h5", {"name": "x"}, FileNotFoundError, "existing, readable file"),
        ("x.h5", {"name": "y"}, KeyError, "which is not there"),
        ("x.h5", {}, TypeError, "name must be"),
        ("x.npy", {"name": "x"}, TypeError, "name must be None"),
        ("x.npz", {"name": "y"}, KeyError, "which has: x"),
        ("x.npy", {"block_rows": 0}, ValueError, "block_rows must be"),
        ("x.npy", {"block_rows": 2.0}, ValueError, "block_rows must be"),
        ("x.npy", {"split": 2}, LayoutError, "split must be"),
        ("x.npy", {"slices": (3, 2)}, LayoutError, "leave an axis"),
        ("x.csv", {}, ValueError, "read in parts"),
        ("x.docx", {}, ValueError, "path must end in"),
    ],
)
def test_refusals(folder, name, options, kind, text):
    save_csv(VALUES, folder / "x.csv")

    def check(comm):
        with pytest.raises(kind, match=text) as caught:
            stream(folder / name, **options)
        return str(caught.value)

    assert len(set(spmd(2, check))) == 1


def test_a_rank_that_fails_at_a_block(folder, monkeypatch):
    real = Stream._read

    def read(self, source, number):
        if (number, self._comm.rank) == (3, 1):
            raise OSError(5, "Input/output error")
        return real(self, source, number)

    monkeypatch.setattr(Stream, "_read", read)

    def count(comm, seen):
        for block in stream(folder / "x.h5", "x", 4):
            seen.append(block.shape)

    def check(comm):
        seen = []
        with pytest.raises(OSError, match="Input/output error"):
            count(comm, seen)
        return len(seen)

    assert spmd(3, check) == [3, 3, 3]


@pytest.mark.mpi
def test_on_ranks(comm, shared_tmp_path):
    save_npy(distribute(VALUES, comm, 0), shared_tmp_path / "x.npy")
    blocks = [block.larray for block in stream(shared_tmp_path / "x.npy", None, 5, None)]
    assert same(torch.cat(blocks), VALUES)
