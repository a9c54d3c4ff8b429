"""Who is asked whether MPI takes device memory, and who is believed."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from ht_comm import awareness
from ht_comm.awareness import (
    Awareness,
    confirmed,
    from_environment,
    from_memory_kinds,
    from_queries,
    gpu_awareness,
)


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.delenv("HT_COMM_GPU_AWARE", raising=False)
    gpu_awareness.cache_clear()
    yield
    gpu_awareness.cache_clear()


def library(**answers):
    return SimpleNamespace(**{name: lambda answer=answer: answer for name, answer in answers.items()})


def mpi_with_kinds(text):
    info = SimpleNamespace(get=lambda name: text, Free=lambda: None)
    return SimpleNamespace(COMM_WORLD=SimpleNamespace(Get_info=lambda: info))


@pytest.mark.parametrize(
    ("kinds", "found"),
    [
        (None, None),
        ("mpi,system", None),
        ("mpi,system,cuda:device,cuda:managed", "mpi_memory_alloc_kinds=cuda:device,cuda:managed"),
        ("system,rocm", "mpi_memory_alloc_kinds=rocm"),
    ],
)
def test_memory_kinds(kinds, found):
    assert from_memory_kinds(mpi_with_kinds(kinds)) == found


def test_queries_may_be_absent():
    assert from_queries(None) is None
    assert from_queries(library()) is None
    assert from_queries(library(MPIX_Query_cuda_support=0)) is None
    found = from_queries(library(MPIX_Query_cuda_support=0, MPIX_Query_rocm_support=1))
    assert found == "MPIX_Query_rocm_support() = 1"


@pytest.mark.parametrize(("kind", "status", "found"), [(2, 0, "(hip)"), (2, 1, None), (9, 0, None)])
def test_query_by_kind(kind, status, found):
    def query(number, answer):
        answer._obj.value = number.value == kind
        return status

    result = from_queries(SimpleNamespace(MPIX_GPU_query_support=query))
    assert result == (None if found is None else f"MPIX_GPU_query_support{found} = 1")


@pytest.mark.parametrize(
    ("variables", "found"),
    [
        ({}, None),
        ({"MPICH_GPU_SUPPORT_ENABLED": "0", "UCX_TLS": "tcp,sm"}, None),
        ({"MPICH_GPU_SUPPORT_ENABLED": "1"}, "MPICH_GPU_SUPPORT_ENABLED=1"),
        ({"UCX_TLS": "rc,cuda_copy"}, "UCX_TLS=rc,cuda_copy"),
    ],
)
def test_variables_of_vendors(variables, found):
    assert from_environment(variables) == found


@pytest.mark.parametrize("told", ["0", "1"])
def test_the_user_decides(monkeypatch, told):
    monkeypatch.setenv("HT_COMM_GPU_AWARE", told)
    assert gpu_awareness() == Awareness(told == "1", f"HT_COMM_GPU_AWARE={told}")


def test_the_user_is_understood(monkeypatch):
    monkeypatch.setenv("HT_COMM_GPU_AWARE", "maybe")
    with pytest.raises(ValueError, match="HT_COMM_GPU_AWARE must be 0 or 1, got 'maybe'"):
        gpu_awareness()


@pytest.mark.mpi(ranks=[1, 2])
def test_the_library_in_use(comm):
    from mpi4py import MPI  # noqa: F401 - as a program does that uses MPI

    assert awareness._library() is not None
    assert isinstance(gpu_awareness().is_aware, bool)
    assert gpu_awareness().source


def test_trial_that_crashes_or_hangs(monkeypatch):
    monkeypatch.setattr(awareness, "_TRIAL", "import os; os.abort()")
    assert confirmed("told so", "cpu").source == "told so, but the trial ended with status -6"
    monkeypatch.setattr(awareness, "_TRIAL", "import time; time.sleep(60)")
    monkeypatch.setattr(awareness, "_SECONDS", 0.2)
    assert confirmed("told so", "cpu").source == "told so, but the trial failed: TimeoutExpired"


def test_claims_are_tried(monkeypatch):
    mpi = SimpleNamespace(
        Is_initialized=lambda: True, Is_finalized=lambda: False, COMM_WORLD=mpi_with_kinds("cuda").COMM_WORLD
    )
    monkeypatch.setitem(sys.modules, "mpi4py.MPI", mpi)
    monkeypatch.setattr(awareness, "confirmed", lambda source: Awareness(True, f"{source}, tried"))
    assert str(gpu_awareness()) == "yes (mpi_memory_alloc_kinds=cuda, tried)"


def test_without_mpi():
    script = "from ht_comm.awareness import gpu_awareness; print(gpu_awareness())"
    shown = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout
    assert shown == "no (MPI is not in use)\n"
