"""Reading the memory of other ranks: on threads, which are one process, and on real ones."""

import os
import subprocess
import sys

import numpy as np
import pytest
from ht_comm import ThreadComm, cma, config, plan_redistribution, spmd
from ht_comm.testing import boxes, cut, placements, replicated_placement, shapes, split_placement
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="process_vm_readv is a call of Linux")


@pytest.fixture
def reading(monkeypatch):
    """Let threads be taken for processes, and read however little changes place."""
    monkeypatch.setattr(ThreadComm, "_has_processes", True)
    monkeypatch.setattr(config, "read_bytes", 1)
    monkeypatch.setattr(config, "cma", "auto")


def numbers(shape):
    return np.arange(1.0, 1 + int(np.prod(shape))).reshape(shape)


def restride(x, how):
    if how == "fortran":
        return np.array(x, order="F")
    if how == "stepped":
        wide = np.zeros([2 * n for n in x.shape], x.dtype)
        view = wide[(..., *(slice(None, None, 2) for _ in x.shape))]
        view[...] = x
        return view
    if how == "reversed":
        back = (..., *(slice(None, None, -1),) * x.ndim)
        return np.array(x[back])[back]
    return x


def check(comm, whole, src, dst, how="c", target="c", is_read=True):
    """Redistribute; nothing but what moves is written, and the traced cost equals the plan's."""
    plan = plan_redistribution(src, dst)
    x = restride(cut(whole, src[comm.rank]), how)
    out = restride(np.zeros_like(cut(whole, dst[comm.rank])), target)
    sent = []
    start = comm._isend
    comm._isend = lambda *args: sent.append(args) or start(*args)
    with comm.trace() as trace:
        assert comm.redistribute(x, plan, out=out) is out
    np.testing.assert_array_equal(out, cut(whole, dst[comm.rank]))
    np.testing.assert_array_equal(x, cut(whole, src[comm.rank]))
    assert trace.bytes == plan.bytes(comm.rank, whole.itemsize)
    assert trace.messages == plan.messages(comm.rank, whole.itemsize)
    if is_read:
        assert not sent


LAYOUTS = st.sampled_from(["c", "fortran", "stepped", "reversed"])


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.data(), shapes(), st.integers(2, 5), LAYOUTS, LAYOUTS)
def test_any_placements_and_strides(data, shape, p, how, target):
    src = data.draw(placements(shape, p))
    dst = tuple(data.draw(boxes(shape)) for _ in range(p))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ThreadComm, "_has_processes", True)
        patch.setattr(config, "read_bytes", 1)
        patch.setattr(cma, "FEW_RUNS", data.draw(st.sampled_from([0, 2, 10**6])))
        patch.setattr(config, "read_run_bytes", data.draw(st.sampled_from([1, 16, 64])))
        patch.setattr(cma, "_MAX_VECTORS", data.draw(st.sampled_from([1, 3, 1024])))
        patch.setattr(cma, "_MAX_BYTES", data.draw(st.sampled_from([8, 40, 2**26])))
        patch.setattr(config, "chunk_bytes", data.draw(st.sampled_from([128, 2**20])))
        spmd(p, lambda comm: check(comm, numbers(shape), src, dst, how, target, is_read=False))


@pytest.mark.parametrize("run_bytes", [1, 16])
def test_replicating_counts_once_by_either_way(monkeypatch, run_bytes):
    """Elements that are too few to be worth reading travel as messages; the plan's bytes count all the same."""
    monkeypatch.setattr(ThreadComm, "_has_processes", True)
    monkeypatch.setattr(config, "read_bytes", 1)
    monkeypatch.setattr(config, "read_run_bytes", run_bytes)
    src, dst = (((0, 0),), ((0, 1),)), (((0, 1),), ((0, 1),))
    spmd(2, lambda comm: check(comm, numbers((1,)), src, dst, is_read=False))


@pytest.mark.parametrize("few", [0, 10**6], ids=["by way of scratch", "into place"])
@pytest.mark.parametrize(("before", "after"), [(0, 1), (1, 0), (0, 2)])
def test_no_message_is_sent(reading, monkeypatch, before, after, few):
    monkeypatch.setattr(config, "chunk_bytes", 256)
    shape = (7, 6, 5)

    def body(comm):
        check(comm, numbers(shape), *[fit(shape, s, comm.size) for s in (before, after)], target="stepped")

    def fit(shape, split, p):
        return split_placement(
            shape, split, tuple(shape[split] * (r + 1) // p - shape[split] * r // p for r in range(p))
        )

    # The source is always worth reading here; the target decides between iovecs and scratch.
    monkeypatch.setattr(cma, "is_worth_reading", lambda runs: True)
    monkeypatch.setattr("ht_comm.redistribute.is_worth_reading", lambda runs: True)
    monkeypatch.setattr("ht_comm.pieces.is_worth_reading", lambda runs: runs.count <= few)
    spmd(3, body)


def test_replicating_reads_from_each_owner(reading):
    shape = (9, 4)
    spmd(
        4,
        lambda comm: check(
            comm, numbers(shape), split_placement(shape, 0, (4, 0, 3, 2)), replicated_placement(shape, 4)
        ),
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "complex64", "bool"])
def test_torch(reading, dtype):
    torch = pytest.importorskip("torch")
    whole = (torch.arange(60).reshape(10, 6) % 7).to(getattr(torch, dtype))
    src, dst = split_placement((10, 6), 0, (5, 2, 3)), split_placement((10, 6), 1, (1, 5, 0))

    def body(comm):
        x, expected = cut(whole, src[comm.rank]), whole.clone()
        if dtype == "complex64":  # the memory of a conjugate is not its values: rank 1 alone sends messages
            x = x.conj() if comm.rank == 1 else x
            expected[5:7] = expected[5:7].conj()
        expected = cut(expected, dst[comm.rank])
        assert torch.equal(comm.redistribute(x, plan_redistribution(src, dst)), expected)

    spmd(3, body)


def test_what_cannot_be_read_is_sent_and_is_not_tried_again(reading, monkeypatch):
    tries = []

    def refuse(pid, source, target):
        tries.append(pid)
        raise OSError(1, "not permitted")

    def body(comm):
        shape = (8, 6)
        src, dst = split_placement(shape, 0, (3, 5)), split_placement(shape, 1, (6, 0))
        assert comm._find_peers() is not None
        comm.barrier()
        if comm.rank == 0:
            monkeypatch.setattr("ht_comm.pieces.read", refuse)
        comm.barrier()
        for _ in range(2):
            check(comm, numbers(shape), src, dst, is_read=False)
        assert comm._peers == (None,)

    spmd(2, body)
    assert len(tries) == 1


@pytest.mark.parametrize(
    "reason", ["refused on one rank", "another place", "switched off on one rank's system"]
)
def test_one_rank_that_cannot_read_decides_for_all(reading, monkeypatch, reason):
    def body(comm):
        comm.barrier()
        assert comm._find_peers() is None
        check(
            comm,
            numbers((6, 4)),
            split_placement((6, 4), 0, (2, 2, 2)),
            split_placement((6, 4), 1, (1, 1, 2)),
            is_read=False,
        )

    count = iter(range(100))
    if reason == "refused on one rank":
        real = cma._is_secret
        monkeypatch.setattr(cma, "_is_secret", lambda *words: real(*words) and next(count) != 4)
    elif reason == "another place":
        monkeypatch.setattr(cma, "_place", lambda: 1 + next(count) // 2)
    else:
        monkeypatch.setattr(cma, "_place", lambda: next(count) % 2)
    spmd(3, body)


def test_a_wrong_secret_is_no_peer():
    told = np.array([7])
    assert cma._is_secret(os.getpid(), told.ctypes.data, 7)
    assert not cma._is_secret(os.getpid(), told.ctypes.data, 8)


def test_a_process_that_is_gone_is_an_error():
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    words = np.zeros(2, np.int64)
    runs = cma.Runs(words.ctypes.data, (), (), 8)
    with pytest.raises(OSError, match="process_vm_readv"):
        cma.read(gone.pid, runs, runs)


def test_memory_that_is_not_there_is_an_error():
    words = np.zeros(2, np.int64)
    with pytest.raises(OSError, match="process_vm_readv"):
        cma.read(os.getpid(), cma.Runs(8, (), (), 8), cma.Runs(words.ctypes.data, (), (), 8))


def test_switched_off_nobody_asks(reading, monkeypatch):
    monkeypatch.setattr(config, "cma", "0")
    monkeypatch.setattr("ht_comm.communicator.probe", lambda comm: pytest.fail("asked"))
    spmd(
        2,
        lambda comm: check(
            comm,
            numbers((6, 4)),
            split_placement((6, 4), 0, (3, 3)),
            split_placement((6, 4), 1, (2, 2)),
            is_read=False,
        ),
    )


def test_short_exchanges_do_not_ask(reading, monkeypatch):
    monkeypatch.setattr(config, "read_bytes", 6 * 4 * 8 // 4 + 1)  # half of all elements move, on two ranks
    monkeypatch.setattr("ht_comm.communicator.probe", lambda comm: pytest.fail("asked"))
    spmd(
        2,
        lambda comm: check(
            comm,
            numbers((6, 4)),
            split_placement((6, 4), 0, (3, 3)),
            split_placement((6, 4), 1, (2, 2)),
            is_read=False,
        ),
    )


def test_the_setting_is_checked():
    done = subprocess.run(
        [sys.executable, "-c", "import ht_comm"],
        env={**os.environ, "HT_COMM_CMA": "yes"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "HT_COMM_CMA must be auto, 0 or 1, got 'yes'" in done.stderr


@pytest.mark.mpi
@pytest.mark.parametrize("setting", ["auto", "0", "1"])
def test_processes(comm, monkeypatch, setting):
    monkeypatch.setattr(config, "cma", setting)
    monkeypatch.setattr(config, "read_bytes", 1)
    p, shape = comm.size, (70, 50, 30)
    counts = [tuple(n * (r + 1) // p - n * r // p for r in range(p)) for n in shape]
    with comm.dup() as own:
        for before, after in ((0, 1), (1, 0), (2, 0)):
            src, dst = (
                split_placement(shape, before, counts[before]),
                split_placement(shape, after, counts[after]),
            )
            check(own, numbers(shape), src, dst, target="fortran", is_read=False)
        is_read = own._peers not in (None, (None,))
        assert own.allgather_object(is_read) == [is_read] * p
        assert not (is_read and setting == "0")


@pytest.mark.mpi
def test_the_source_may_be_changed_afterwards(comm, monkeypatch):
    """No rank returns before all have read its memory."""
    monkeypatch.setattr(config, "read_bytes", 1)
    p = comm.size
    shape = (p, 2**16)
    plan = plan_redistribution(split_placement(shape, 0, (1,) * p), replicated_placement(shape, p))
    x = np.empty((1, 2**16))
    for turn in range(20):
        x[...] = turn * p + comm.rank
        whole = comm.redistribute(x, plan)
        x[...] = -1
        np.testing.assert_array_equal(whole, np.broadcast_to(turn * p + np.arange(p)[:, None], shape))
