"""Axes and shapes that change without moving anything. The rest is in test_rearranging."""

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import layouts, make_values, spread, whole
from hypothesis import given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=40, deadline=None, derandomize=True)
RANKS = st.integers(1, 5)
SHAPES = st.lists(st.integers(0, 5), min_size=1, max_size=3).map(tuple)


def check(p, values, layout, expected, operation):
    """Run `operation` on `values` spread in `layout`; compare the joined result; the input must stay as it is."""

    def run(comm):
        x = spread(values, *layout, comm)
        result = whole(operation(x))
        np.testing.assert_array_equal(whole(x), values)
        return result

    for result in spmd(p, run):
        assert result.shape == expected.shape
        np.testing.assert_array_equal(result, expected)


@FEW
@given(st.data())
def test_axes(data):
    shape, p = data.draw(SHAPES), data.draw(RANKS)
    values = make_values("int32", shape, 1)
    layout = data.draw(layouts(shape, p))
    axes = data.draw(st.permutations(range(len(shape))))
    a, b = (
        data.draw(st.integers(-len(shape), len(shape) - 1)),
        data.draw(st.integers(-len(shape), len(shape) - 1)),
    )
    check(p, values, layout, values.transpose(axes), lambda x: ht.permute_dims(x, axes))
    check(p, values, layout, values.T, lambda x: x.T)
    check(p, values, layout, np.swapaxes(values, a, b), lambda x: ht.swapaxes(x, a, b))
    check(p, values, layout, np.moveaxis(values, a, b), lambda x: ht.moveaxis(x, a, b))
    check(p, values, layout, np.expand_dims(values, (0, -1)), lambda x: ht.expand_dims(x, (0, -1)))
    check(p, values, layout, np.squeeze(values), lambda x: ht.squeeze(x))
    check(p, values, layout, values.ravel(), lambda x: ht.ravel(x))
    check(p, values, layout, values.flatten(), lambda x: x.flatten())
    check(p, values, layout, np.broadcast_to(values, (2, *shape)), lambda x: ht.broadcast_to(x, (2, *shape)))


@pytest.mark.parametrize("name", ["hstack", "vstack", "column_stack", "stack"])
@pytest.mark.parametrize("shape", [(6,), (5, 3)])
@pytest.mark.parametrize("split", [None, 0])
def test_stacking(name, shape, split):
    a, b = make_values("float64", shape, 1), make_values("float64", shape, 2)
    expected = getattr(np, name)([a, b])

    def run(comm):
        x, y = ht.array(a, split=split), ht.array(b, split=split)
        with comm.trace() as sent:
            z = getattr(ht, name)([x, y])
        joins_rows = (
            split == 0
            and (len(shape) == 1) == (name == "hstack")
            and name != "column_stack"
            and name != "stack"
        )
        if not joins_rows:
            assert sent.calls == 0
        return whole(z)

    for result in spmd(3, run):
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize(
    ("shape", "split", "target"),
    [
        ((6, 4, 5), 0, (6, 20)),
        ((6, 4, 5), 2, (24, 5)),
        ((6, 4, 5), 1, (2, 3, 4, 5)),
        ((6, 4, 5), 0, (120,)),
        ((6, 4, 5), 0, (12, 10)),
        ((6, 4), None, (24,)),
    ],
)
def test_reshape_sends_nothing_where_the_split_is_untouched(shape, split, target):
    values = np.arange(np.prod(shape)).reshape(shape)

    def run(comm):
        x = ht.array(values, split=split)
        with comm.trace() as sent:
            y = x.reshape(target)
        assert sent.calls == 0
        return whole(y)

    for result in spmd(2, run):
        np.testing.assert_array_equal(result, values.reshape(target))
