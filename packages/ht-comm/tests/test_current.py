"""Importing, the world, and the current communicator; each case that concerns imports in a fresh interpreter."""

import os
import subprocess
import sys

import ht_comm
import numpy as np
import pytest
from ht_comm import SerialComm, get_comm, self_, use_comm, world

NO_MPI4PY = "import sys; sys.modules['mpi4py'] = None; import ht_comm; "


def python(text, **environment):
    """Run code in a fresh interpreter that no launcher started."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PMI", "OMPI", "MPI", "HT_COMM", "PYTEST"))
    }
    return subprocess.run(
        [sys.executable, "-c", text], env={**kept, **environment}, capture_output=True, text=True, timeout=60
    )


def test_importing_brings_neither_mpi_nor_torch():
    done = python(
        "import sys, ht_comm; print([m for m in ('torch', 'mpi4py', 'mpi4py.MPI', 'pytest') if m in sys.modules])"
    )
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_without_mpi4py_the_world_is_serial_and_silent():
    done = python(NO_MPI4PY + "print(ht_comm.world())")
    assert (done.stdout, done.stderr) == ("SerialComm(rank=0, size=1)\n", "")


def test_without_an_mpi_library_the_world_is_serial_and_silent():
    # What mpi4py raises if it finds no library: a module whose import fails.
    hidden = (
        "import sys, types; m = types.ModuleType('mpi4py'); m.__path__ = []; sys.modules['mpi4py'] = m; "
        "import ht_comm; print(ht_comm.world())"
    )
    done = python(hidden)
    assert (done.stdout, done.stderr) == ("SerialComm(rank=0, size=1)\n", "")


def test_ranks_that_cannot_meet_are_an_error():
    for code in (NO_MPI4PY, "import ht_comm; "):
        done = python(code + "ht_comm.world()", OMPI_COMM_WORLD_SIZE="3")
        assert "CommError: world: MPI must be usable in a process started as one of 3 ranks" in done.stderr
    done = python(NO_MPI4PY + "print(ht_comm.world())", OMPI_COMM_WORLD_SIZE="3", HT_COMM_WORLD="serial")
    assert done.stdout == "SerialComm(rank=0, size=1)\n"


def test_settings_are_checked():
    assert (
        "HT_COMM_WORLD must be auto, serial, mpi or torch"
        in python("import ht_comm; ht_comm.world()", HT_COMM_WORLD="gloo").stderr
    )
    for value in ("0", "-1", "many"):
        done = python("import ht_comm", HT_COMM_SLICE_BYTES=value)
        assert "config: HT_COMM_SLICE_BYTES must be a positive number of bytes" in done.stderr


def test_the_world_of_one_process_can_be_mpi():
    done = python(
        "import ht_comm, numpy; w = ht_comm.world(); print(w, w.allreduce(numpy.ones(1)))",
        HT_COMM_WORLD="mpi",
    )
    assert (done.stdout, done.stderr) == ("MPIComm(rank=0, size=1) [1.]\n", "")


def test_info_command():
    done = python(
        "import runpy, sys; sys.argv = ['ht_comm', 'info']; runpy.run_module('ht_comm', run_name='__main__')"
    )
    assert done.returncode == 0
    assert f"ht-comm        {ht_comm.__version__}" in done.stdout
    assert "ranks          1" in done.stdout
    assert python("import ht_comm.__main__ as m; m.main([])").returncode == 2


def test_use_comm_as_statement_and_as_context():
    before = get_comm()
    own = SerialComm()
    with use_comm(own) as current:
        assert current is own
        assert get_comm() is own
        use_comm(None)
        assert get_comm() is world()
    assert get_comm() is before


def test_use_comm_belongs_to_the_thread():
    def body(comm):
        with use_comm(self_()):
            comm.barrier()
            assert get_comm() is self_()
        assert get_comm() is comm

    ht_comm.spmd(3, body)


@pytest.mark.mpi
def test_the_world_is_cached_and_whole(comm):
    assert world() is comm
    assert self_().size == 1
    assert sorted(comm.allgather_object(comm.rank)) == list(range(comm.size))
    assert comm.allreduce(np.array([1]))[0] == comm.size


def test_unknown_names_are_attribute_errors():
    with pytest.raises(AttributeError, match="module 'ht_comm' has no attribute 'wrld'"):
        _ = ht_comm.wrld
    for name in ht_comm.__all__:
        getattr(ht_comm, name)
