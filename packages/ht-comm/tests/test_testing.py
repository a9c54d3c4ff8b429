"""The helpers that other tests lean on."""

import numpy as np
import pytest
from ht_comm import spmd
from ht_comm.redistribute import intersect, volume
from ht_comm.testing import (
    assert_same_error_on_all_ranks,
    assert_same_on_all_ranks,
    boxes,
    counts,
    cut,
    placements,
    replicated_placement,
    shapes,
    split_placement,
)
from hypothesis import given
from hypothesis import strategies as st


@given(st.integers(0, 9), st.integers(1, 6), st.data())
def test_counts_sum_to_the_extent(extent, p, data):
    drawn = data.draw(counts(extent, p))
    assert len(drawn) == p
    assert sum(drawn) == extent
    assert min(drawn) >= 0


@given(shapes(), st.integers(1, 4), st.data())
def test_placements_hold_every_element(shape, p, data):
    placement = data.draw(placements(shape, p))
    held = np.zeros(shape, int)
    for box in placement:
        cut(held, box)[...] += 1
    assert held.size == 0 or set(held.ravel().tolist()) in ({1}, {p})
    box = data.draw(boxes(shape))
    assert volume(box) == cut(held, box).size


def test_blocks_by_hand():
    assert split_placement((5, 2), 0, (3, 0, 2)) == (((0, 3), (0, 2)), ((3, 3), (0, 2)), ((3, 5), (0, 2)))
    assert replicated_placement((2,), 2) == (((0, 2),), ((0, 2),))
    assert intersect(*replicated_placement((), 2)) == ()


@pytest.mark.parametrize("value", [3, "text", np.array([1.0, np.nan]), np.zeros((2, 0), "int8")])
def test_same_values_pass(value):
    spmd(3, lambda comm: assert_same_on_all_ranks(comm, value))


@pytest.mark.parametrize(
    "of_rank",
    [lambda r: r == 2, lambda r: np.array([0.0, -0.0][r == 2]), lambda r: np.zeros(2 + (r == 2))],
)
def test_a_rank_that_differs_is_named_on_all_ranks(of_rank):
    def rank(comm):
        with pytest.raises(AssertionError, match=r"differing: \[2\]"):
            assert_same_on_all_ranks(comm, of_rank(comm.rank))

    spmd(3, rank)


def test_tensors_are_compared_by_bits():
    torch = pytest.importorskip("torch")

    def rank(comm):
        same = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3).T
        assert_same_on_all_ranks(comm, same)
        with pytest.raises(AssertionError, match="bfloat16"):
            assert_same_on_all_ranks(comm, same + comm.rank)

    spmd(2, rank)


def test_errors_must_come_on_every_rank():
    def fail(rank, wanted, text="same"):
        if rank in wanted:
            raise ValueError(text)

    def rank(comm):
        assert assert_same_error_on_all_ranks(comm, ValueError, fail, comm.rank, {0, 1}) == "same"
        with pytest.raises(AssertionError, match=r"not raised on ranks \[0\]"):
            assert_same_error_on_all_ranks(comm, ValueError, fail, comm.rank, {1})
        with pytest.raises(AssertionError, match="differing"):
            assert_same_error_on_all_ranks(comm, ValueError, fail, comm.rank, {0, 1}, f"on {comm.rank}")

    spmd(2, rank)


@pytest.mark.mpi(ranks=[3])
def test_on_mpi(comm, shared_tmp_path):
    assert_same_on_all_ranks(comm, str(shared_tmp_path))
    with pytest.raises(AssertionError):
        assert_same_on_all_ranks(comm, comm.rank)
