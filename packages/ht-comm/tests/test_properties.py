"""Properties of collectives for random shapes, counts, layouts and numbers of ranks."""

import numpy as np
from ht_comm import spmd
from ht_comm.contract import LIBRARIES
from ht_comm.contract.arrays import split_blocks
from hypothesis import given, settings
from hypothesis import strategies as st


@st.composite
def cases(draw):
    """A number of ranks, a library, a shape with at least one axis, an axis, extents for each rank, a slice length."""
    p = draw(st.integers(1, 5))
    library = draw(st.sampled_from(LIBRARIES))
    shape = tuple(draw(st.lists(st.integers(0, 4), min_size=1, max_size=3)))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    counts = tuple(draw(st.lists(st.integers(0, 4), min_size=p, max_size=p)))
    layouts = draw(st.lists(st.sampled_from(library.layouts), min_size=p, max_size=p))
    limit = draw(st.sampled_from([8, 24, 64, 2**30]))
    return p, library, shape, axis, counts, layouts, limit


def run(case, body):
    """Run a body with the case's slice length."""
    from ht_comm import config

    before, config.slice_bytes = config.slice_bytes, case[-1]
    try:
        spmd(case[0], body)
    finally:
        config.slice_bytes = before


@settings(max_examples=120, deadline=None, derandomize=True)
@given(cases())
def test_gather_then_scatter_is_the_identity(case):
    _, library, shape, axis, counts, layouts, _ = case
    blocks = split_blocks(counts, shape, axis % len(shape))
    whole = np.concatenate(blocks, axis)

    def body(comm):
        x = library.make(blocks[comm.rank], layout=layouts[comm.rank])
        gathered = comm.allgatherv(x, counts, axis=axis)
        np.testing.assert_array_equal(library.read(gathered), whole)
        root = comm.size // 2
        gathered = comm.gatherv(x, counts, axis=axis, root=root)
        back = comm.scatterv(gathered, counts, axis=axis, root=root)
        np.testing.assert_array_equal(library.read(back), blocks[comm.rank])

    run(case, body)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(cases(), st.randoms(use_true_random=False))
def test_alltoallv_transposes_blocks_and_back(case, random):
    p, library, shape, axis, _, layouts, _ = case
    extents = [[random.randint(0, 3) for _ in range(p)] for _ in range(p)]
    sent = [split_blocks(tuple(row), shape, axis % len(shape)) for row in extents]

    def body(comm):
        own = np.concatenate(sent[comm.rank], axis)
        there = tuple(extents[comm.rank])
        back = tuple(extents[rank][comm.rank] for rank in range(p))
        x = library.make(own, layout=layouts[comm.rank])
        moved = comm.alltoallv(x, there, back, axis=axis)
        want = np.concatenate([sent[rank][comm.rank] for rank in range(p)], axis)
        np.testing.assert_array_equal(library.read(moved), want)
        np.testing.assert_array_equal(library.read(comm.alltoallv(moved, back, there, axis=axis)), own)

    run(case, body)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(cases())
def test_reduce_scatterv_is_a_block_of_allreduce(case):
    p, library, shape, axis, counts, layouts, _ = case
    at = axis % len(shape)
    blocks = split_blocks((sum(counts),) * p, shape, at)

    def body(comm):
        x = library.make(blocks[comm.rank], layout=layouts[comm.rank])
        own = library.read(comm.reduce_scatterv(x, counts, axis=axis))
        start = sum(counts[: comm.rank])
        whole = library.read(comm.allreduce(x))
        np.testing.assert_array_equal(own, np.take(whole, range(start, start + counts[comm.rank]), at))

    run(case, body)
