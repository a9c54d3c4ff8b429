"""One namespace over all wheels, and the pins that hold them together."""

import importlib
import subprocess
import sys
from importlib.metadata import requires, version

import ht_comm
import ht_core
import ht_meta as ht
import pytest
from ht_core.upper_layers import LAZY
from packaging.requirements import Requirement


def test_everything_of_the_core_is_there():
    missing = [name for name in dir(ht_core) if not name.startswith("_") and not hasattr(ht, name)]
    assert missing == []
    assert ht.float32 is ht_core.float32
    assert ht.zeros is ht_core.zeros


@pytest.mark.parametrize("name", sorted(ht._LAZY))
def test_names_of_the_upper_wheels(name):
    module, attribute = ht._LAZY[name]
    found = importlib.import_module(module)
    assert getattr(ht, name) is (found if attribute is None else getattr(found, attribute))
    assert name in dir(ht)


def test_names_of_the_communicators():
    assert ht.get_comm is ht_comm.get_comm
    assert ht.spmd is ht_comm.spmd
    assert ht.world is ht_comm.world


def test_unknown_name():
    with pytest.raises(AttributeError, match="module 'ht_meta' has no attribute 'nothing'"):
        _ = ht.nothing


@pytest.mark.parametrize("name", sorted(LAZY))
def test_every_method_of_an_upper_wheel_resolves(name):
    module, attribute, wheel = LAZY[name]
    assert callable(getattr(importlib.import_module(module), attribute))
    assert module.partition(".")[0] == wheel.replace("-", "_")
    assert callable(getattr(ht.ones(3), name))
    version(wheel)


def test_methods_do_what_the_functions_do(tmp_path):
    x = ht.ones((4, 4), split=0)
    x.save_hdf5(tmp_path / "x.h5", "x")
    x.save(tmp_path / "y.h5", "x")
    assert float(ht.load(tmp_path / "x.h5", "x").sum()) == 16
    assert float((x @ x).sum()) == 64


def test_pins_are_exact_and_met():
    siblings = [
        r for r in map(Requirement, requires("ht-meta")) if r.name.startswith("ht-") and r.marker is None
    ]
    assert {r.name for r in siblings} == {"ht-comm", "ht-core", "ht-linalg", "ht-io", "ht-ml"}
    for requirement in siblings:
        assert {s.operator for s in requirement.specifier} == {"=="}
        assert requirement.specifier.contains(version(requirement.name))


def test_import_is_quiet_and_starts_neither_mpi_nor_files():
    program = (
        "import sys, ht_meta; print([m for m in ('mpi4py.MPI', 'h5py', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert done.stderr == ""
