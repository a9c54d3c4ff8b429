"""Ranks as threads: failures, dead-locks, mismatches, nesting, speed of starting."""

import sys
import threading
import time

import numpy as np
import pytest
from ht_comm import CommError, get_comm, spmd


def test_results_come_in_rank_order():
    def body(comm, factor, *, offset):
        time.sleep(0.01 * (comm.size - comm.rank))
        return factor * comm.rank + offset

    assert spmd(3, body, 10, offset=1) == [1, 11, 21]


@pytest.mark.parametrize("p", [0, -1])
def test_p_must_be_positive(p):
    with pytest.raises(ValueError, match="spmd: p must be at least 1"):
        spmd(p, lambda comm: None)


@pytest.mark.parametrize("p", [1, 3])
def test_the_rank_is_the_current_communicator(p):
    outside = get_comm()

    def body(comm):
        assert get_comm() is comm
        return comm.rank

    assert spmd(p, body) == list(range(p))
    assert get_comm() is outside


def test_the_lowest_failing_rank_is_heard():
    def body(comm):
        comm.barrier()
        if comm.rank >= 1:
            raise ValueError(f"ill on {comm.rank}")
        comm.barrier()

    with pytest.raises(ValueError, match="ill on 1") as caught:
        spmd(3, body)
    assert caught.value.__notes__ == ["rank 1 of 3"]


@pytest.mark.parametrize("wait", ["barrier", "recv", "running"])
def test_a_failure_wakes_the_others_promptly(wait):
    ended = []

    def body(comm):
        try:
            if comm.rank == 1:
                time.sleep(0.05)
                raise KeyError("k")
            if wait == "barrier":
                comm.barrier()
            elif wait == "recv":
                comm.recv(np.empty(1), 1)
            else:
                while True:
                    comm.irecv(np.empty(1), 1).test()
        finally:
            ended.append(comm.rank)

    start = time.perf_counter()
    with pytest.raises(KeyError):
        spmd(3, body)
    assert time.perf_counter() - start < 2
    assert sorted(ended) == [0, 1, 2]


def test_a_failing_rank_cannot_be_swallowed_by_the_others():
    def body(comm):
        if comm.rank == 0:
            raise ValueError("ill")
        try:
            comm.barrier()
        except Exception:
            return "swallowed"

    with pytest.raises(ValueError, match="ill"):
        spmd(2, body)


def test_a_dead_lock_is_found_at_once_and_named():
    def body(comm):
        if comm.rank == 0:
            comm.recv(np.empty(1), 1, tag=7)
        elif comm.rank == 1:
            comm.barrier()

    start = time.perf_counter()
    with pytest.raises(CommError) as caught:
        spmd(3, body)
    assert time.perf_counter() - start < 2
    text = str(caught.value)
    assert text.startswith("dead-lock: ")
    assert f"rank 0 waits in recv(source=1, tag=7) at {__file__}:" in text
    assert f"rank 1 waits in barrier at {__file__}:" in text
    assert "rank 2 has finished" in text


def test_a_dead_lock_of_one_rank():
    with pytest.raises(CommError, match=r"dead-lock: rank 0 waits in recv\(source=0, tag=0\)"):
        spmd(1, lambda comm: comm.recv(np.empty(1), 0))


def test_no_false_alarm_while_one_rank_computes():
    def body(comm):
        if comm.rank == 0:
            time.sleep(0.2)
            comm.send(np.ones(1), 1)
        elif comm.rank == 1:
            comm.recv(np.empty(1), 0)
        comm.barrier()

    spmd(3, body)


def test_a_late_rank_is_named_after_the_timeout():
    release = threading.Event()

    def body(comm):
        if comm.rank == 1:
            release.wait(5)
        comm.barrier()

    start = time.perf_counter()
    with pytest.raises(CommError) as caught:
        spmd(2, body, timeout=0.2)
    release.set()
    assert time.perf_counter() - start < 4
    assert "have not finished within 0.2 s" in str(caught.value)
    assert f"rank 0 waits in barrier at {__file__}:" in str(caught.value)
    assert f"rank 1 runs at {__file__}:" in str(caught.value)


@pytest.mark.parametrize(
    ("other", "text"),
    [
        (lambda comm: comm.bcast(np.ones(4)), "rank 1: bcast(float64, 4, root=0)"),
        (lambda comm: comm.allreduce(np.ones(3)), "rank 1: allreduce(float64, 3, sum)"),
        (lambda comm: comm.allreduce(np.ones(4, "f4")), "rank 1: allreduce(float32, 4, sum)"),
        (lambda comm: comm.allreduce(np.ones(4), "max"), "rank 1: allreduce(float64, 4, max)"),
    ],
)
def test_calls_that_do_not_match_raise_on_all_ranks(other, text):
    heard = []

    def body(comm):
        try:
            (other if comm.rank == 1 else lambda comm: comm.allreduce(np.ones(4)))(comm)
        except CommError as error:
            heard.append(str(error))

    spmd(3, body)
    assert len(heard) == 3
    assert len(set(heard)) == 1
    assert heard[0].startswith("collectives do not match: rank 0: allreduce(float64, 4, sum); ")
    assert text in heard[0]


def test_a_message_that_does_not_fit_is_refused():
    def body(comm):
        if comm.rank == 0:
            comm.send(np.ones(3), 1)
        else:
            comm.recv(np.empty(4), 0)

    with pytest.raises(CommError, match="out must hold the message of 3 x float64, got 4 x float64"):
        spmd(2, body)


def test_worlds_nest():
    def inner(comm, base):
        return base + int(comm.allreduce(np.array([1]))[0])

    def outer(comm):
        inside = sum(spmd(2, inner, comm.rank))
        return int(comm.allreduce(np.array([inside]))[0])

    assert spmd(3, outer) == [18, 18, 18]


def test_sums_are_folded_in_rank_order():
    values = np.random.default_rng(0).normal(size=(4, 100)) * 10.0 ** np.arange(4)[:, None]
    want = ((values[0] + values[1]) + values[2]) + values[3]
    for result in spmd(4, lambda comm: comm.allreduce(values[comm.rank])):
        assert result.tobytes() == want.tobytes()


def test_starting_three_ranks_is_cheap():
    times = []
    for _ in range(20):
        start = time.perf_counter()
        spmd(3, lambda comm: None)
        times.append(time.perf_counter() - start)
    assert min(times) < 1e-3


def test_sub_communicators_work_side_by_side():
    def body(comm):
        part = comm.split(comm.rank % 2)
        total = 0
        for _ in range(50):
            total += int(part.allreduce(np.array([comm.rank]))[0])
        return total

    assert spmd(4, body) == [100, 200, 100, 200]


class FakeTorch:
    """What is used of torch to share out its threads."""

    def __init__(self, n):
        self.n = n
        self.seen = []

    def get_num_threads(self):
        return self.n

    def set_num_threads(self, n):
        self.n = n
        self.seen.append(n)


@pytest.mark.parametrize(("before", "seen"), [(8, [2, 8]), (2, [1, 2]), (1, [])])
def test_threads_of_torch_are_shared_out_and_given_back(monkeypatch, before, seen):
    torch = FakeTorch(before)
    monkeypatch.setitem(sys.modules, "torch", torch)
    assert spmd(3, lambda comm: comm.rank) == [0, 1, 2]
    assert torch.seen == seen
    assert torch.n == before


def test_started_collectives_that_do_not_match_raise_on_every_rank():
    def body(comm):
        request = comm.iallreduce(np.ones(2 + comm.rank))
        with pytest.raises(
            CommError, match=r"rank 0: iallreduce\(float64, 2, sum\); rank 1: iallreduce\(float64, 3"
        ):
            request.wait()
        return True

    assert spmd(2, body) == [True, True]


def test_a_started_collective_nobody_joins_is_a_dead_lock():
    def body(comm):
        if comm.rank == 0:
            comm.ibcast(np.ones(2)).wait()

    with pytest.raises(CommError, match=r"dead-lock: rank 0 waits in ibcast at .*; rank 1 has finished"):
        spmd(2, body)
