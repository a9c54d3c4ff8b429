"""Messages of more than 2**31 elements. Run when asked for: ``pytest packages/ht-comm/tests/test_large.py --large``.

Needs 9 GiB of memory for two ranks. (That long messages are cut is tested in every run, with a limit of a few bytes:
the fixture `limit` of the contract.)
"""

import numpy as np
import pytest
from ht_comm import plan_redistribution

pytestmark = [pytest.mark.large, pytest.mark.mpi(ranks=[2], timeout=600)]

LONG = 2**31 + 8
PERIOD = 59  # sums of two ranks stay below 2**7; no divisor in common with a slice
_STEP = PERIOD * 2**18
_PATTERN = np.tile(np.arange(PERIOD, dtype=np.int8), 2**18 + 1)


def filled(n, shift=0):
    """Return n elements, of which number i is (i + shift) % PERIOD."""
    x = np.empty(n, np.int8)
    for start in range(0, n, _STEP):
        part = x[start : start + _STEP]
        part[...] = _PATTERN[shift:][: len(part)]
    return x


def is_filled(x, *shifts):
    """Tell whether every element is the sum of what `filled` gives for these shifts."""
    for start in range(0, len(x), _STEP):
        part = x[start : start + _STEP]
        if not (part == sum(_PATTERN[shift:][: len(part)] for shift in shifts)).all():
            return False
    return True


def test_the_check_sees_one_wrong_element():
    x = filled(2 * _STEP + 5, 3)
    assert is_filled(x, 3)
    x[-2] += 1
    assert not is_filled(x, 3)


@pytest.mark.parametrize("start", ["", "i"], ids=["blocking", "started"])
def test_allreduce(comm, start):
    x = filled(LONG, comm.rank)
    result = getattr(comm, f"{start}allreduce")(x, out=x)
    assert (result.wait() if start else result) is x
    assert is_filled(x, 0, 1)


def test_reduce_and_bcast(comm):
    x = filled(LONG, comm.rank)
    with comm.trace() as t:
        comm.bcast(x, 1)
    assert is_filled(x, 1)
    assert t.bytes == (LONG if comm.rank == 1 else 0)
    comm.reduce(x, root=0, out=x)
    assert is_filled(x, *([1, 1] if comm.rank == 0 else [1]))


def test_scan(comm):
    x = filled(LONG, comm.rank)
    comm.scan(x, out=x)
    assert is_filled(x, *range(comm.rank + 1))


def test_send_and_recv(comm):
    if comm.rank == 0:
        comm.send(filled(LONG, 7), 1)
    else:
        assert is_filled(comm.recv(np.empty(LONG, np.int8), 0), 7)
    comm.barrier()


def test_allgatherv(comm):
    counts = (LONG, 8)
    whole = comm.allgatherv(filled(counts[comm.rank], comm.rank), counts)
    assert is_filled(whole[:LONG], 0)
    assert is_filled(whole[LONG:], 1)


def test_gatherv_and_scatterv(comm):
    counts = (8, LONG)
    whole = comm.gatherv(filled(counts[comm.rank], comm.rank), counts)
    if comm.rank == 0:
        assert is_filled(whole[:8], 0)
        assert is_filled(whole[8:], 1)
    own = comm.scatterv(whole, counts)
    assert is_filled(own, comm.rank)


def test_alltoallv(comm):
    send, receive = ((5, LONG), (5, 8)) if comm.rank == 0 else ((8, 3), (LONG, 3))
    result = comm.alltoallv(filled(sum(send), comm.rank), send, receive)
    own, first = (5, 0) if comm.rank == 0 else (LONG, 5)
    assert is_filled(result[:own], first)
    assert is_filled(result[own:], 1 if comm.rank == 0 else 1 + 8)


def test_reduce_scatterv(comm):
    counts = (LONG, 8)
    x = filled(sum(counts), comm.rank)
    own = comm.reduce_scatterv(x, counts)
    first = 0 if comm.rank == 0 else LONG % PERIOD
    assert is_filled(own, first, first + 1)


def test_redistribute(comm):
    all_on = [((0, LONG),), ((0, 0),)]
    plan = plan_redistribution(tuple(all_on), tuple(reversed(all_on)))
    own = comm.redistribute(filled(LONG if comm.rank == 0 else 0, 5), plan)
    assert len(own) == (LONG if comm.rank == 1 else 0)
    assert is_filled(own, 5)
