"""How many threads torch gets on each rank."""

import os
import subprocess
import sys
import types

import pytest
import torch
from ht_comm import SerialComm, spmd
from ht_comm.threads import borrowed_threads, set_thread_budget, thread_budget


@pytest.fixture(autouse=True)
def _threads_are_given_back():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_number_is_set():
    assert set_thread_budget(SerialComm(), 3) == 3
    assert torch.get_num_threads() == 3
    with pytest.raises(ValueError, match="set_thread_budget: n must be at least 1, got 0"):
        set_thread_budget(SerialComm(), 0)
    assert torch.get_num_threads() == 3


def test_the_share_of_the_cores_is_set():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert set_thread_budget(SerialComm()) == cores
    assert torch.get_num_threads() == cores
    assert spmd(3, thread_budget) == [max(1, cores // 3)] * 3


def test_threads_divide_what_torch_has():
    torch.set_num_threads(4)
    with borrowed_threads(2):
        assert torch.get_num_threads() == 2
        with borrowed_threads(5):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 4


@pytest.mark.parametrize(("set_by_user", "threads"), [(None, 1), ("2", 2)])
def test_a_new_world_leaves_what_the_user_has_set(set_by_user, threads):
    text = (
        "import os\n"
        "if hasattr(os, 'sched_setaffinity'): os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "import torch, ht_comm.threads\n"
        "torch.set_num_threads(2)\n"
        "ht_comm.threads.set_default_budget(ht_comm.SerialComm())\n"
        "print(torch.get_num_threads())\n"
    )
    env = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    env |= {} if set_by_user is None else {"OMP_NUM_THREADS": set_by_user}
    done = subprocess.run([sys.executable, "-c", text], env=env, capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == [str(threads)], done.stderr


def test_blas_gets_the_budget(monkeypatch):
    calls = []
    fake = types.SimpleNamespace(threadpool_limits=lambda n, user_api: calls.append((n, user_api)))
    monkeypatch.setitem(sys.modules, "threadpoolctl", fake)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert set_thread_budget(SerialComm(), 3) == 3
    assert calls == [(3, "blas")]
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        set_thread_budget(SerialComm(), 0)
    assert len(calls) == 1


def test_without_threadpoolctl_blas_is_left_alone(monkeypatch):
    monkeypatch.setitem(sys.modules, "threadpoolctl", None)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert set_thread_budget(SerialComm(), 2) == 2
