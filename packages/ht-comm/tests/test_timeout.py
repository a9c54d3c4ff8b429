"""Time-out mode between threads, and the log of the last calls; between processes: test_failure_table.py."""

import time

import ht_comm
import numpy as np
import pytest
from ht_comm import CommError, SerialComm, config, spmd
from ht_comm.failure import report
from ht_comm.guard import LOG_LENGTH, last_calls


@pytest.fixture(autouse=True)
def plain(monkeypatch):
    """Start with all modes off, whatever the environment says."""
    for name in ("check", "timeout", "log"):
        monkeypatch.setattr(config, name, None if name == "timeout" else False)


def late(comm, seconds, call):
    if comm.rank == 1:
        time.sleep(seconds)
    return call(comm)


@pytest.mark.parametrize(
    ("call", "place"),
    [
        (lambda comm: comm.allreduce(np.ones(1)), "allreduce"),
        (lambda comm: comm.rank != 1 and comm.recv(np.ones(1), 1), r"recv\(source=1, tag=0\)"),
    ],
)
def test_a_thread_that_waits_too_long_says_for_whom(monkeypatch, call, place):
    monkeypatch.setattr(config, "timeout", 0.2)
    start = time.monotonic()
    with pytest.raises(
        CommError, match=rf"{place}: all ranks must arrive within 0.2 s, .* ranks \[1\]: "
    ) as caught:
        spmd(3, late, 1.0, call)
    assert time.monotonic() - start < 5
    assert f"rank 1 runs at {__file__}:" in str(caught.value)


def test_a_thread_that_comes_in_time_is_waited_for(monkeypatch):
    monkeypatch.setattr(config, "timeout", 10.0)
    assert spmd(3, late, 0.1, lambda comm: comm.allreduce(np.ones(1))[0]) == [3.0] * 3


@pytest.mark.mpi(ranks=[2, 3])
def test_ranks_of_mpi_that_come_in_time_are_waited_for(comm, monkeypatch):
    monkeypatch.setattr(config, "timeout", 30.0)
    total = late(comm, 0.1, lambda comm: comm.allreduce(np.ones(1)))
    assert total[0] == comm.size
    part = comm.split(comm.rank % 2)
    assert part.allreduce(np.ones(1))[0] == part.size
    right, left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    assert comm.sendrecv(np.full(1, comm.rank), right, np.empty(1, int), left)[0] == left
    assert comm.iallreduce(np.ones(1)).wait()[0] == comm.size
    total = np.empty(1)
    comm.Allreduce(np.ones(1), total)
    assert total[0] == comm.size
    part.free()


def test_the_last_calls_are_kept_and_reported(monkeypatch):
    monkeypatch.setattr(config, "log", True)
    comm = SerialComm()
    for _ in range(LOG_LENGTH + 8):
        comm.barrier()
    comm.allreduce(np.ones(3))
    calls = last_calls()
    assert len(calls) == LOG_LENGTH
    assert calls[-1].startswith("allreduce, 0 bytes sent, ")
    assert calls[-1].rpartition(" at ")[2].startswith(__file__)
    lines = report(ValueError, ValueError("ill"), None, 1, 3).splitlines()
    assert "[rank 1] last calls of this rank, the newest one last:" in lines
    assert lines[-1] == f"[rank 1]   {calls[-1]}"


def test_a_trace_within_the_log_is_complete(monkeypatch):
    monkeypatch.setattr(config, "log", True)
    comm = SerialComm()
    with comm.trace() as t:
        for _ in range(LOG_LENGTH + 8):
            comm.barrier()
    assert t.calls == LOG_LENGTH + 8


def test_nothing_is_kept_while_all_modes_are_off():
    comm = SerialComm()
    comm.barrier()
    assert comm._ledger.guard is None
    assert ht_comm.config.log is False
    assert "last calls" not in report(ValueError, ValueError("ill"), None, 1, 3)
