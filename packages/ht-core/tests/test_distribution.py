"""Moving data between ranks: values stay, layouts become what was asked for."""

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.engines.redistribution import move_boxes
from ht_core.testing import layouts, make_values, spread, whole
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_resplit_and_balance(data):
    shape = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=3).map(tuple))
    p = data.draw(st.integers(1, 5))
    values = make_values("float32", shape, 1)
    layout = data.draw(layouts(shape, p))
    axis = data.draw(st.sampled_from([None, *range(len(shape))]))

    def run(comm):
        x = spread(values, *layout, comm)
        y = ht.resplit(x, axis)
        assert y.layout is ht.Layout.even(shape, axis, p)
        np.testing.assert_array_equal(whole(y), values)
        assert y.larray.data_ptr() != x.larray.data_ptr() or not y.larray.numel()
        np.testing.assert_array_equal(whole(x), values)
        assert x.balance().balanced
        np.testing.assert_array_equal(whole(x.balance()), values)
        if axis is not None:
            z = ht.collect(x, p - 1)
            assert z.layout.counts[p - 1] == z.shape[z.split]
            np.testing.assert_array_equal(whole(z), values)
        same = x.resplit_(axis)
        assert same is x
        assert x.layout is y.layout
        np.testing.assert_array_equal(whole(x), values)

    spmd(p, run)


def test_redistribute_moves_only_what_changes_its_rank():
    values = np.arange(12.0)

    def run(comm):
        x = ht.array(values, split=0)
        with comm.trace() as sent:
            y = ht.redistribute(x, target_map=[4, 3, 5])
        np.testing.assert_array_equal(whole(y), values)
        assert y.layout.counts == (4, 3, 5)
        return sent.bytes

    assert spmd(3, run) == [0, 8, 0]


@pytest.mark.parametrize("counts", [(), (2, 0, 5)], ids=str)
def test_ranges_of_rows_may_overlap_and_leave_rows_out(counts):
    values = np.arange(14.0).reshape(7, 2)
    ranges = [(1, 4), (3, 3), (2, 6)]

    def run(comm):
        x = spread(values, 0 if counts else None, counts, comm)
        start, stop = ranges[comm.rank]
        out = x.larray.new_empty(stop - start, 2)
        with comm.trace() as sent:
            move_boxes(x.larray, x.layout, ranges, 0, comm, out)
        assert sent.calls == bool(counts)
        np.testing.assert_array_equal(out.numpy(), values[start:stop])

    spmd(3, run)


@pytest.mark.parametrize("split", [None, 0, 1])
def test_nothing_is_sent_where_the_layout_stays(split):
    def run(comm):
        x = ht.zeros((6, 4), split=split)
        with comm.trace() as sent:
            ht.resplit(x, split)
            x.balance()
            x.balance_()
            if split is None:
                ht.resplit(x, 0)
                ht.resplit(x, 1)
        assert sent.calls == 0

    spmd(3, run)


@pytest.mark.mpi
def test_resplit_on_processes(comm):
    values = np.arange(7 * 5 * 3, dtype=np.float64).reshape(7, 5, 3)
    x = ht.array(values, split=0)
    for axis in (1, 2, None, 0, 2, 0):
        x = ht.resplit(x, axis)
        assert x.layout is ht.Layout.even(values.shape, axis, comm.size)
        np.testing.assert_array_equal(x.numpy(), values)
