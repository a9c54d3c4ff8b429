"""What only the MPI transport can get wrong: isolation, leaks, segmentation, lost requests."""

import gc

import ht_comm
import numpy as np
import pytest
from ht_comm import CommError, MPIComm

pytestmark = pytest.mark.mpi


@pytest.fixture
def mpi(comm):
    """A communicator over all ranks of which nothing else knows."""
    from mpi4py import MPI

    own = MPIComm(MPI.COMM_WORLD)
    yield own
    own.free()


def test_the_users_messages_do_not_meet_ours(mpi):
    after, before = (mpi.rank + 1) % mpi.size, (mpi.rank - 1) % mpi.size
    theirs, ours = np.empty(1), np.empty(1)
    receive = [mpi.handle.Irecv(theirs, before, 0), mpi.irecv(ours, before, 0)]
    send = [mpi.isend(np.array([2.0]), after, 0), mpi.handle.Isend(np.array([1.0]), after, 0)]
    for request in (*send,):
        request.wait()
    receive[0].Wait()
    receive[1].wait()
    assert (theirs[0], ours[0]) == (1.0, 2.0)


def test_communicators_are_given_back(mpi):
    from mpi4py import MPI

    with mpi.split(0) as part, part.dup() as other:
        made = [part, other, part.node(), *filter(None, [part.leaders()])]
        assert all(own._mpi != MPI.COMM_NULL for own in made)
    for own in made:
        assert own._mpi == MPI.COMM_NULL
        assert own.handle == MPI.COMM_NULL


def test_the_users_handle_is_not_freed(comm):
    from mpi4py import MPI

    mine = MPI.COMM_WORLD.Dup()
    own = MPIComm(mine)
    own.free()
    assert mine.Get_size() == comm.size
    mine.Free()
    with pytest.raises(TypeError, match=r"MPIComm: handle must be an mpi4py\.MPI\.Intracomm"):
        MPIComm(MPI.COMM_NULL)
    with pytest.raises(CommError, match="must not be freed"):
        own.barrier()


@pytest.mark.parametrize("n", [1, 1000, 100_000])
@pytest.mark.parametrize("op", ["min", "max"])
def test_own_operators_on_long_messages(mpi, op, n):
    # Long enough for every algorithm MPI may choose, with a NaN from a different rank in each part.
    x = np.arange(n) + 10.0 * mpi.rank
    x[mpi.rank :: 7] = np.nan
    result = mpi.allreduce(x, op)
    blocks = []
    for rank in range(mpi.size):
        other = np.arange(n) + 10.0 * rank
        other[rank::7] = np.nan
        blocks.append(other)
    want = (np.minimum if op == "min" else np.maximum).reduce(blocks)
    np.testing.assert_array_equal(result, want)


@pytest.mark.parametrize("records", [1, 7, 5000])
def test_records_of_moments_are_never_cut(mpi, records):
    d = 6
    rows = np.random.default_rng(1).normal(5.0, 2.0, (mpi.size, 4, d))
    mean = rows[mpi.rank].mean(axis=0)
    own = np.concatenate([[4.0], mean, ((rows[mpi.rank] - mean) ** 2).sum(axis=0)])
    result = mpi.allreduce(np.tile(own, (records, 1)), "moments")
    everything = rows.reshape(-1, d)
    np.testing.assert_allclose(result[:, 0], 4.0 * mpi.size)
    np.testing.assert_allclose(result[:, 1 : d + 1], np.tile(everything.mean(axis=0), (records, 1)))
    np.testing.assert_allclose(
        result[:, d + 1 :], np.tile(everything.var(axis=0) * len(everything), (records, 1))
    )


def test_datatypes_of_operators_are_given_back(mpi):
    from ht_comm import mpi as transport

    before = len(transport._reductions)
    op = ht_comm.Op(np.add, records=True)
    for record in (1, 2, 3):
        assert (mpi.allreduce(np.ones((4, record)), op) == mpi.size).all()
    assert len(transport._reductions) == before + 3 * (mpi.size > 1)  # alone, nothing is sent
    request = mpi.iallreduce(np.ones((4, 3)), op)
    del op
    assert (request.wait() == mpi.size).all()
    del request
    gc.collect()
    assert len(transport._reductions) == before


def test_dropped_requests_keep_their_memory(mpi):
    after, before = (mpi.rank + 1) % mpi.size, (mpi.rank - 1) % mpi.size
    n = 200_000  # too long to be sent eagerly
    mpi.isend(np.full((2, n), float(mpi.rank))[:, ::2], after, 3)
    gc.collect()
    noise = [np.full(n, -1.0) for _ in range(4)]
    out = np.empty((2, n // 2))
    mpi.recv(out, before, 3)
    assert (out == before).all()
    del noise


def test_strided_data_is_safe_while_it_travels(mpi):
    # gatherv sends from a packed copy that nobody else holds
    x = np.full((400, 600), float(mpi.rank))[:, ::2]
    for _ in range(3):
        whole = mpi.gatherv(x, (300,) * mpi.size, axis=1)
        if whole is not None:
            assert [whole[0, 300 * rank] for rank in range(mpi.size)] == list(range(mpi.size))


def test_a_node_holds_all_ranks_of_one_machine(comm):
    assert comm.node().size == comm.size
    assert (comm.leaders() is None) == (comm.rank != 0)


def test_thread_budget_divides_the_cores(comm):
    import os

    budgets = comm.allgather_object(ht_comm.threads.thread_budget(comm))
    assert all(1 <= budget <= max(1, (os.cpu_count() or 1)) for budget in budgets)
    assert sum(budgets) <= max(comm.size, os.cpu_count() or 1)


def test_one_process_can_use_mpi(comm):
    from mpi4py import MPI

    own = MPIComm(MPI.COMM_SELF)
    x = np.arange(6.0).reshape(2, 3)
    assert (own.rank, own.size, own.node().size) == (0, 1, 1)
    np.testing.assert_array_equal(own.allreduce(x.T), x.T)
    np.testing.assert_array_equal(own.allgather(x, axis=1), x)
    np.testing.assert_array_equal(own.alltoallv(x, (2,), (2,)), x)
    np.testing.assert_array_equal(own.sendrecv(x[:, ::2], 0, np.empty((2, 2)), 0), x[:, ::2])
    assert own.allgather_object("text") == ["text"]
    with pytest.raises(KeyError):
        own.agree(KeyError("k"))
    own.free()


def test_what_mpi4py_calls_by_its_own_names(mpi):
    from mpi4py import MPI

    x, out = np.arange(6.0).reshape(2, 3).T, np.empty((3, 2))
    mpi.Allreduce(x, out, MPI.SUM)
    assert (out == mpi.size * x).all()
    mpi.Allreduce(MPI.IN_PLACE, out, op=MPI.MAX)
    assert (out == mpi.size * x).all()
    whole = np.empty((mpi.size, 6))
    mpi.Allgatherv(x, [whole, (6,) * mpi.size, None, MPI.DOUBLE])
    assert (whole == x.reshape(-1)).all()


@pytest.mark.parametrize("flip", [(), (0,)], ids=str)
def test_pieces_are_converted_once_they_have_arrived(mpi, flip):
    # Straight into the memory of the result they would come as bytes of another type.
    after, before = (mpi.rank + 1) % mpi.size, (mpi.rank - 1) % mpi.size
    out = np.zeros(300, "complex64")
    sent = np.arange(300, dtype="int16") + mpi.rank
    mpi.exchange([(after, sent)], [(before, out, flip, sent.dtype)])
    np.testing.assert_array_equal(out, np.flip(np.arange(300) + before, flip))
