"""Plans of selections and byte ranges against NumPy; no file, no communicator."""

import itertools

import numpy as np
import pytest
from ht_core.errors import LayoutError
from ht_core.layout import Layout
from ht_io.chunked import align_layout
from ht_io.selection import plan_blocks, plan_chunks, plan_ranges, plan_selection
from hypothesis import given
from hypothesis import strategies as st

ENTRY = st.one_of(
    st.none(),
    st.builds(
        slice,
        st.none() | st.integers(-7, 7),
        st.none() | st.integers(-7, 7),
        st.none() | st.integers(1, 4),
    ),
)


def indices(selection):
    ranges = zip(selection.starts, selection.counts, selection.steps)
    return [np.arange(count) * step + start for start, count, step in ranges]


@given(st.lists(st.integers(0, 5), min_size=1, max_size=3), st.data())
def test_selection_is_basic_indexing(shape, data):
    entries = tuple(
        data.draw(ENTRY | (st.integers(-n, n - 1) if n else st.none()))
        for n in shape[: data.draw(st.integers(0, len(shape)))]
    )
    values = np.arange(int(np.prod(shape))).reshape(shape)
    selection = plan_selection(tuple(shape), entries)
    expected = values[tuple(slice(None) if e is None else e for e in entries)]
    assert selection.shape == expected.shape
    np.testing.assert_array_equal(values[np.ix_(*indices(selection))].reshape(expected.shape), expected)


@given(st.tuples(st.integers(1, 9), st.integers(1, 5)), st.integers(1, 4), st.integers(0, 1), st.data())
def test_parts_of_ranks_make_up_the_selection(shape, p, split, data):
    entries = (data.draw(ENTRY), data.draw(ENTRY))
    selection = plan_selection(shape, entries)
    values = np.arange(int(np.prod(shape))).reshape(shape)
    layout = Layout.even(selection.shape, split, p)
    parts = [values[np.ix_(*indices(selection.part(layout.box(rank))))] for rank in range(p)]
    np.testing.assert_array_equal(np.concatenate(parts, axis=split), values[np.ix_(*indices(selection))])


@pytest.mark.parametrize(
    ("slices", "text"),
    [
        (slice(None, None, -1), "positive steps"),
        (slice(None, None, 0), "positive steps"),
        (slice("a", None), "integer bounds"),
        (7, "in \\[-5, 5\\)"),
        (True, "integers, slices"),
        ("all", "integers, slices"),
        ((None, None, None), "at most 2 entries"),
        ([0, 1.5], "lists of integers"),
        ([[0, 1]], "1-D lists"),
        ([0, -6], "must be in"),
        ([True, False], "5 bools"),
        (([0], [1]), "at most one list"),
    ],
)
def test_bad_slices(slices, text):
    with pytest.raises(LayoutError, match=text):
        plan_selection((5, 4), slices)


def test_ellipsis_fills_up():
    assert plan_selection((5, 4, 3), (1, ..., slice(2))).shape == (4, 2)
    assert plan_selection((5, 4), (..., slice(2), 1)).shape == (2,)


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4), st.integers(1, 4), st.data())
def test_byte_ranges_of_ranks_tile_the_file(shape, p, data):
    axis = data.draw(st.integers(0, len(shape) - 1))
    layout = Layout.even(shape, axis, p)
    values = np.arange(layout.size).reshape(shape)
    out = np.full(layout.size, -1)
    for rank in range(p):
        local = values[layout.slices(rank)]
        start, stop = layout.box(rank)[axis]
        for low, high in plan_blocks(local.shape[0], 8, budget=data.draw(st.integers(1, 40))):
            ranges = plan_ranges(tuple(shape), axis, start, stop, (low, high))
            flat = local[low:high].reshape(-1)
            for i in range(ranges.number):
                at = ranges.first + i * ranges.stride
                assert (out[at : at + ranges.length] == -1).all()
                out[at : at + ranges.length] = flat[i * ranges.length : (i + 1) * ranges.length]
    np.testing.assert_array_equal(out, values.reshape(-1))


def test_ranges_of_one_rank_are_one_range():
    assert plan_ranges((6, 4, 2), 0, 1, 3).number == 1


@given(st.lists(st.integers(0, 9), min_size=1, max_size=5), st.integers(1, 6))
def test_aligned_layout_begins_at_chunks_and_keeps_the_owner(counts, chunk):
    layout = Layout((sum(counts),), 0, tuple(counts))
    aligned = align_layout(layout, chunk)
    assert sum(aligned.counts) == sum(counts)
    for rank, (start, count) in enumerate(zip(aligned.displs, aligned.counts)):
        for origin in range(start, start + count, chunk):
            assert origin % chunk == 0
            assert layout.owner(origin) == rank


def test_blocks_start_at_multiples():
    assert list(plan_blocks(10, 100, multiple=4, budget=1)) == [(0, 4), (4, 8), (8, 10)]
    assert list(plan_blocks(0, 100)) == []


@pytest.mark.parametrize("shape", [(5,), (1000, 3), (3, 2000, 1000), (1, 1, 7), (10**6, 10**6)])
def test_chosen_chunks_fit(shape):
    chunks = plan_chunks(shape, 8)
    assert len(chunks) == len(shape)
    assert all(1 <= c <= n for c, n in itertools.zip_longest(chunks, shape))
    assert np.prod(chunks) * 8 <= 1 << 20
