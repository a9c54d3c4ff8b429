"""Checked mode: calls that match go through, others raise one error on all ranks."""

import ht_comm
import numpy as np
import pytest
from ht_comm import CommError, SerialComm, config, spmd
from ht_comm.calls import describe
from ht_comm.contract import LIBRARIES, Contract
from ht_comm.testing import assert_same_error_on_all_ranks


@pytest.fixture(autouse=True)
def unchecked(monkeypatch):
    """Start without checks, whatever the environment says."""
    for name in ("check", "timeout", "log"):
        monkeypatch.setattr(config, name, None if name == "timeout" else False)


class TestCheckedThreads(Contract):
    """What is right is right in checked mode, too. (NumPy alone, unsliced: a quarter of the suite finds as much.)"""

    @pytest.fixture(params=LIBRARIES[:1], ids=lambda library: library.name)
    def library(self, request):
        return request.param

    @pytest.fixture(params=[None], ids=["whole"])
    def limit(self, request):
        return request.param

    @pytest.fixture
    def run(self):
        def checked(comm, body):
            with ht_comm.checked():
                return body(comm)

        return lambda body: spmd(3, checked, body)


def same_text(body, p=3):
    """Run a body that fails under checks on p ranks; return the text, which all ranks must have."""

    def checked(comm):
        with ht_comm.checked(), pytest.raises(CommError) as caught:
            body(comm)
        comm.barrier()  # the ranks are still in step
        return str(caught.value)

    texts = spmd(p, checked)
    assert len(set(texts)) == 1
    return texts[0]


def other(comm, *choices):
    """Return what this rank passes: the first ranks the first choices, all others the last one."""
    return choices[min(comm.rank, len(choices) - 1)]


MISMATCHES = {
    "operation": lambda comm, x: other(comm, comm.allreduce, comm.scan)(x),
    "dtype": lambda comm, x: comm.allreduce(x.astype(other(comm, "f8", "f4"))),
    "shape": lambda comm, x: comm.allreduce(other(comm, x, x[1:])),
    "operator": lambda comm, x: comm.allreduce(x, other(comm, "sum", "max")),
    "own operator": lambda comm, x: comm.allreduce(x, other(comm, "sum", ht_comm.Op(np.hypot))),
    "root": lambda comm, x: comm.bcast(x, root=other(comm, 0, 1)),
    "counts": lambda comm, x: comm.reduce_scatterv(x, other(comm, (1, 1, 2), (2, 1, 1))),
    "axis": lambda comm, x: comm.allgather(np.ones((2, 2)), axis=other(comm, 0, 1)),
    "other extents": lambda comm, x: comm.allgatherv(np.ones((1, other(comm, 2, 3))), (1, 1, 1)),
    "alltoallv": lambda comm, x: comm.alltoallv(
        x, *other(comm, ((1, 2, 1), (1, 1, 1)), ((1, 1, 2), (2, 1, 1)))
    ),
    "like": lambda comm, x: comm.scatterv(x, (1, 2, 1), like=other(comm, None, x)),
    "plan": lambda comm, x: comm.redistribute(x[:1], other(comm, PLAN, BACK)),
    "root of objects": lambda comm, x: comm.bcast_object(1, root=other(comm, 0, 0, 2)),
    "capital name": lambda comm, x: comm.Allreduce(x, x.copy(), other(comm, "sum", "max")),
    "earlier call that returned at once": lambda comm, x: (
        comm.iallreduce(x, other(comm, "sum", "max")),
        comm.barrier(),
    ),
}
HERE = (((0, 1),), ((1, 2),), ((2, 3),))
PLAN = ht_comm.plan_redistribution(HERE, HERE[::-1])
BACK = ht_comm.plan_redistribution(HERE, HERE[1:] + HERE[:1])


@pytest.mark.parametrize("name", MISMATCHES)
def test_a_mismatch_raises_the_same_error_on_all_ranks(name):
    text = same_text(lambda comm: MISMATCHES[name](comm, np.ones(4)))
    assert text.startswith("checked: the calls of all ranks must match")
    assert "got rank 0: " in text or "got ranks 0-1: " in text
    assert f" at {__file__}:" in text


def test_the_error_lists_each_rank_once_and_equal_ones_together():
    text = same_text(lambda comm: comm.allreduce(np.ones(4 if comm.rank < 2 else 5, np.float32)), p=4)
    site = text.partition(" at ")[2].partition(";")[0]
    assert text == (
        "checked: the calls of all ranks must match, "
        f"got ranks 0-1: allreduce(sum) of float32 (4,) at {site}; "
        f"ranks 2-3: allreduce(sum) of float32 (5,) at {site}; "
        "let every rank make the same calls in the same order"
    )


def from_two_lines(comm):
    x = np.ones(2)
    if comm.rank == 0:
        return comm.allreduce(x)
    return comm.allreduce(x)


def test_one_operation_from_two_lines_is_a_mismatch_unless_lines_do_not_count():
    assert "match" in same_text(from_two_lines)

    def body(comm):
        with ht_comm.checked(sites=False):
            return from_two_lines(comm)[0]

    assert spmd(3, body) == [3.0] * 3


def test_a_root_may_call_from_a_line_of_its_own():
    def body(comm):
        with ht_comm.checked():
            if comm.rank == 1:
                return comm.bcast_object("x", root=1)
            return comm.bcast_object(None, root=1)

    assert spmd(3, body) == ["x"] * 3


def test_checks_reach_communicators_split_off_and_end_with_the_block():
    def body(comm):
        with ht_comm.checked():
            part = comm.split(comm.rank % 2)
            if comm.rank % 2 == 0:
                with pytest.raises(CommError, match="checked: "):
                    part.allreduce(np.ones(2 + comm.rank))
        return from_two_lines(comm)[0]

    assert spmd(3, body) == [3.0] * 3


def test_the_configuration_turns_checks_on_for_what_exists_and_what_comes(monkeypatch):
    comm = SerialComm()
    monkeypatch.setattr(config, "check", True)
    assert comm._ledger.guard.check is True
    with pytest.raises(CommError, match="match"):
        spmd(3, from_two_lines)
    monkeypatch.setattr(config, "check", "calls")
    assert spmd(3, from_two_lines)[0][0] == 3.0
    monkeypatch.setattr(config, "check", False)
    assert comm._ledger.guard is None
    assert comm._ledger.traces == []


@pytest.mark.parametrize(
    ("name", "value"), [("check", "sometimes"), ("timeout", 0), ("timeout", -1.0), ("log", 2)]
)
def test_a_wrong_setting_is_refused(name, value):
    with pytest.raises(ValueError, match=f"config: {name} must be"):
        setattr(config, name, value)


def test_a_call_with_wrong_arguments_is_described_by_its_name():
    call = describe("allreduce", (SerialComm(), 3), {}, "a/b.py:1", True)
    assert call == ("allreduce at b.py:1", "allreduce at a/b.py:1", 0)


@pytest.mark.mpi(ranks=[2, 3])
def test_ranks_of_mpi_stay_in_step_after_a_mismatch(comm):
    with ht_comm.checked():
        text = assert_same_error_on_all_ranks(comm, CommError, lambda: comm.allreduce(np.ones(3 + comm.rank)))
        assert "rank 1: allreduce(sum) of float64 (4,)" in text
        assert comm.allreduce(np.ones(1))[0] == comm.size
        request = comm.iallreduce(np.ones(1))
        comm.barrier()
        assert request.wait()[0] == comm.size
    assert from_two_lines(comm)[0] == comm.size
