import pickle
from itertools import pairwise

import ht_core as ht
import numpy as np
import pytest
from ht_core.layout import even_counts
from hypothesis import given
from hypothesis import strategies as st

SHAPES = st.lists(st.integers(0, 6), min_size=1, max_size=4).map(tuple)


@st.composite
def a_layout(draw):
    shape, p = draw(SHAPES), draw(st.integers(1, 5))
    split = draw(st.sampled_from([None, *range(len(shape))]))
    if split is None:
        return ht.Layout(shape, None), p
    cuts = sorted(draw(st.lists(st.integers(0, shape[split]), min_size=p - 1, max_size=p - 1)))
    edges = [0, *cuts, shape[split]]
    return ht.Layout(shape, split, [b - a for a, b in pairwise(edges)]), p


@given(a_layout())
def test_parts_tile_the_array(case):
    layout, p = case
    seen = np.zeros(layout.shape, dtype=int)
    for rank in range(p):
        assert seen[layout.slices(rank)].shape == layout.lshape(rank)
        seen[layout.slices(rank)] += 1
    assert (seen == (p if layout.split is None else 1)).all()


@given(a_layout())
def test_owner_is_the_rank_whose_part_holds_the_row(case):
    layout, p = case
    if layout.split is None:
        with pytest.raises(ht.LayoutError):
            layout.owner(0)
        return
    expected = [rank for rank in range(p) for _ in range(layout.counts[rank])]
    assert [layout.owner(i) for i in range(layout.shape[layout.split])] == expected


@given(a_layout(), st.data())
def test_algebra_follows_numpy(case, data):
    layout, p = case
    array = np.empty(layout.shape)
    axis = data.draw(st.integers(0, layout.ndim - 1))
    axes = data.draw(st.permutations(range(layout.ndim)))
    assert layout.drop((axis,)).shape == array.max(axis=axis, initial=0).shape
    assert layout.keep((axis,)).shape == array.max(axis=axis, initial=0, keepdims=True).shape
    assert layout.permute(axes).shape == array.transpose(axes).shape
    assert layout.insert(axis).shape == np.expand_dims(array, axis).shape
    for rank in range(p):
        part = array[layout.slices(rank)]
        assert layout.permute(axes).lshape(rank) == part.transpose(axes).shape
        assert layout.insert(axis).lshape(rank) == np.expand_dims(part, axis).shape
        if layout.split != axis:
            assert layout.drop((axis,)).lshape(rank) == part.max(axis=axis, initial=0).shape


@given(a_layout())
def test_equal_layouts_are_one_object(case):
    layout, _ = case
    assert ht.Layout(list(layout.shape), layout.split, list(layout.counts)) is layout
    assert pickle.loads(pickle.dumps(layout)) is layout
    with pytest.raises(AttributeError):
        layout.shape = ()


@given(st.integers(0, 50), st.integers(1, 9))
def test_even_counts(extent, p):
    counts = even_counts(extent, p)
    assert sum(counts) == extent
    assert max(counts) - min(counts) <= 1
    assert list(counts) == sorted(counts, reverse=True)


@pytest.mark.parametrize(
    ("shape", "split", "counts", "word"),
    [
        ((3,), 1, (3,), "split"),
        ((3,), -1, (3,), "split"),
        ((3,), 0, (1, 1), "add up to 3"),
        ((3,), 0, (4, -1), "non-negative"),
        ((3,), 0, (), "one non-negative integer per rank"),
        ((3,), None, (3,), "replicated"),
        ((-3,), None, (), "shape"),
        ((2.5,), None, (), "shape"),
    ],
)
def test_bad_layouts_are_refused(shape, split, counts, word):
    with pytest.raises(ht.LayoutError, match=word):
        ht.Layout(shape, split, counts)


def test_size_is_exact_beyond_64_bits():
    assert ht.Layout((2**40, 2**40), 0, (2**39, 2**39)).size == 2**80
