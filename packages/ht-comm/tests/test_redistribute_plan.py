"""The planner of redistribution against brute force: pure, no communicator."""

import math

import numpy as np
import pytest
from ht_comm import config, plan_redistribution, redistribute
from ht_comm.redistribute import cut_box, intersect, subtract, volume
from ht_comm.testing import boxes, cut, placements, replicated_placement, shapes, split_placement
from hypothesis import given, settings
from hypothesis import strategies as st

RANKS = st.integers(1, 5)


def scatter_by_plan(plan, shape):
    """Carry out a plan on arrays of element numbers; return results and how often each element was written."""
    whole = np.arange(math.prod(shape)).reshape(shape)
    results, writes = [], []
    for rank in range(plan.size):
        sides = [stop - start for start, stop in plan.dst[rank]]
        result, written = np.full(sides, -1), np.zeros(sides, int)
        own = plan.own(rank)
        pieces = [] if own is None else [(rank, own)]
        for source, box in pieces + plan.receives(rank):
            assert intersect(box, plan.src[source]) == box  # the source holds what it sends
            place = tuple((a - o, b - o) for (a, b), (o, _) in zip(box, plan.dst[rank]))
            cut(result, place)[...] = cut(whole, box)
            cut(written, place)[...] += 1
        results.append(result)
        writes.append(written)
    return results, writes


def check_plan(plan, shape):
    whole = np.arange(math.prod(shape)).reshape(shape)
    results, writes = scatter_by_plan(plan, shape)
    for rank in range(plan.size):
        np.testing.assert_array_equal(results[rank], cut(whole, plan.dst[rank]))
        assert (writes[rank] == 1).all()
        assert all(source != rank for source, _ in plan.receives(rank))
    sent = {(a, b, box) for a in range(plan.size) for b, box in plan.sends(a)}
    received = {(a, b, box) for b in range(plan.size) for a, box in plan.receives(b)}
    assert sent == received


@given(st.data(), shapes(), RANKS)
def test_between_splits(data, shape, p):
    plan = plan_redistribution(data.draw(placements(shape, p)), data.draw(placements(shape, p)))
    check_plan(plan, shape)


@given(st.data(), shapes(max_dims=2), RANKS)
def test_to_any_boxes(data, shape, p):
    """Halos, gathers to one rank, overlapping blocks: any destination within a covering source."""
    src = data.draw(placements(shape, p))
    dst = tuple(data.draw(boxes(shape)) for _ in range(p))
    check_plan(plan_redistribution(src, dst), shape)


@given(st.data(), shapes(max_dims=2, max_side=4), st.integers(2, 4))
def test_from_overlapping_boxes(data, shape, p):
    """A source in which elements are held more than once, or not at all, is used or refused as a whole."""
    src = tuple(data.draw(boxes(shape)) for _ in range(p))
    dst = tuple(data.draw(boxes(shape)) for _ in range(p))
    held = np.zeros(shape, bool)
    for box in src:
        cut(held, box)[...] = True
    if all(cut(held, box).all() for box in dst):
        check_plan(plan_redistribution(src, dst), shape)
    else:
        with pytest.raises(ValueError, match="dst must lie within what src covers"):
            plan_redistribution(src, dst)


@given(st.data(), shapes(min_dims=1), st.integers(1, 60))
def test_chunks_tile_the_box(data, shape, limit):
    box = data.draw(boxes(shape))
    pieces = list(cut_box(box, limit))
    assert sum(map(volume, pieces)) == volume(box)
    assert all(0 < volume(piece) <= limit for piece in pieces)
    assert all(intersect(a, b) is None for i, a in enumerate(pieces) for b in pieces[:i])
    # C order: the concatenation of the pieces is the box read row by row, so both ends agree on the sequence
    numbers = np.arange(math.prod(shape)).reshape(shape)
    sequence = [cut(numbers, piece).ravel()[0] for piece in pieces]
    assert sequence == sorted(sequence)


@given(st.data(), shapes(min_dims=1))
def test_subtract_leaves_the_rest(data, shape):
    box, hole = data.draw(boxes(shape)), data.draw(boxes(shape))
    hole = intersect(box, hole)
    count = np.zeros(shape, int)
    for rest in subtract(box, hole) + ([] if hole is None else [hole]):
        cut(count, rest)[...] += 1
    expected = np.zeros(shape, int)
    cut(expected, box)[...] = 1
    np.testing.assert_array_equal(count, expected)


def test_nothing_moves_where_nothing_has_to():
    shape = (7, 4)
    rows = split_placement(shape, 0, (3, 0, 4))
    everywhere = replicated_placement(shape, 3)
    for src, dst in ((rows, rows), (everywhere, everywhere), (everywhere, rows)):
        plan = plan_redistribution(src, dst)
        assert [plan.messages(rank) for rank in range(3)] == [0, 0, 0]
        assert [plan.bytes(rank, 8) for rank in range(3)] == [0, 0, 0]


def test_costs_of_a_resplit():
    """Rank 0 of two keeps half of its half: a quarter of the array leaves it, in one message."""
    shape = (1000, 1000)
    plan = plan_redistribution(split_placement(shape, 0, (500, 500)), split_placement(shape, 1, (500, 500)))
    assert plan.bytes(0, 8) == 250_000 * 8
    assert plan.messages(0) == 1
    assert plan.messages(0, 8) == 1


def test_long_messages_are_counted_in_chunks(monkeypatch):
    monkeypatch.setattr(config, "chunk_bytes", 2 * 8000)
    shape = (1000, 1000)
    plan = plan_redistribution(split_placement(shape, 0, (500, 500)), split_placement(shape, 1, (500, 500)))
    assert plan.messages(0, 8) == 250
    assert plan.bytes(0, 8) == 250_000 * 8


def test_replicas_share_the_load():
    """Ranks 0 and 1 hold everything, 2 to 5 nothing: each of the two serves two."""
    whole, nothing = ((0, 10),), ((0, 0),)
    plan = plan_redistribution((whole, whole, *[nothing] * 4), (whole,) * 6)
    assert [plan.messages(rank) for rank in range(6)] == [2, 2, 0, 0, 0, 0]


def test_the_owner_of_most_comes_first():
    nothing = ((0, 0),)
    plan = plan_redistribution((nothing, ((0, 9),), ((6, 10),)), (((0, 10),), nothing, nothing))
    assert sorted(plan.receives(0)) == [(1, ((0, 9),)), (2, ((9, 10),))]


@pytest.mark.parametrize(("holders", "rank", "owner"), [((0, 1, 2), 4, 2), ((0, 3), 1, 0), ((2, 4), 0, 4)])
def test_of_equal_owners_the_next_in_the_ring_sends(holders, rank, owner):
    whole, nothing = ((0, 10),), ((0, 0),)
    src = tuple(whole if each in holders else nothing for each in range(5))
    plan = plan_redistribution(src, tuple(whole if each == rank else nothing for each in range(5)))
    assert plan.receives(rank) == [(owner, whole)]


def test_pieces_come_in_ring_order():
    p, shape = 5, (10, 10)
    rows, columns = (split_placement(shape, axis, (2,) * p) for axis in (0, 1))
    wider = tuple(((max(a - 1, 0), b), span) for (a, b), span in rows)  # overlaps: owners are chosen
    for src in (rows, wider):
        plan = plan_redistribution(src, columns)
        for rank in range(p):
            assert [peer for peer, _ in plan.receives(rank)] == [(rank - step) % p for step in range(1, p)]
            assert [peer for peer, _ in plan.sends(rank)] == [(rank + step) % p for step in range(1, p)]
            assert plan.receives(rank) is plan.receives(rank)  # found once
            assert plan.sends(rank) is plan.sends(rank)


def test_blocks_on_a_diagonal_do_not_divide_a_box():
    src = (((0, 2), (0, 2)), ((2, 4), (2, 4)))
    check_plan(plan_redistribution(src, src[::-1]), (4, 4))
    with pytest.raises(ValueError, match="dst must lie within what src covers"):
        plan_redistribution(src, replicated_placement((4, 4), 2))


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (1, 0, 2)])
@pytest.mark.parametrize("parts", [(3, 1, 4), (0, 8, 0)])
def test_blocks_of_ranks_in_any_order_need_no_table_of_pairs(order, parts):
    src = split_placement((8, 2), 0, parts)
    plan = plan_redistribution(tuple(src[rank] for rank in order), replicated_placement((8, 2), 3))
    assert plan._assigned is None
    check_plan(plan, (8, 2))


@pytest.mark.parametrize(
    ("axis", "parts", "src_ranks", "chunk", "gathers"),
    [
        (0, (3, 0, 4), None, 2**20, True),
        (0, (3, 0, 4), None, 16, True),  # blocks of rows lie where they belong
        (1, (3, 0, 4), None, 2**20, True),
        (1, (3, 0, 4), None, 16, False),  # blocks of columns would need scratch of full length
        (0, (3, 0, 4), (2, 1, 0), 2**20, False),  # not in the order of ranks
    ],
)
def test_one_collective_gives_all_to_all(monkeypatch, axis, parts, src_ranks, chunk, gathers):
    monkeypatch.setattr(config, "chunk_bytes", chunk)
    shape = (7, 7)
    src = split_placement(shape, axis, parts)
    src = src if src_ranks is None else tuple(src[rank] for rank in src_ranks)
    plan = plan_redistribution(src, replicated_placement(shape, 3))
    assert plan.gathers(8) == gathers
    expected = [volume(box) * 8 if gathers else 2 * volume(box) * 8 for box in src]
    assert [plan.bytes(rank, 8) for rank in range(3)] == expected
    if gathers:
        assert [plan.messages(rank, 8) for rank in range(3)] == [1, 1, 1]


@pytest.mark.parametrize(("p", "gathers"), [(1, False), (2, True), (5, True)])
def test_one_rank_gathers_nothing(p, gathers):
    plan = plan_redistribution(split_placement((10, 2), 0, (10 // p,) * p), replicated_placement((10, 2), p))
    assert plan.gathers(8) == gathers
    assert [plan.messages(rank, 8) for rank in range(p)] == [int(gathers)] * p


@pytest.mark.parametrize("setting", ["chunk_bytes", "slice_bytes"])
def test_gathers_within_the_limits(monkeypatch, setting):
    plan = plan_redistribution(split_placement((7, 7), 1, (3, 4)), replicated_placement((7, 7), 2))
    for limit, gathers in ((392, True), (391, False)):
        monkeypatch.setattr(config, setting, limit)
        assert plan.gathers(8) == gathers


@pytest.mark.parametrize("p", [1, 2, 3, 5])
def test_what_moves_is_what_is_sent(p):
    rows, columns = (split_placement((30, 30), axis, (30 // p,) * p) for axis in (0, 1))
    plan = plan_redistribution(rows, columns)
    assert plan.moved() == sum(plan.bytes(rank, 1) for rank in range(p)) == 900 - 900 // p
    assert repr(plan) == f"Plan(src={rows}, dst={columns})"


def test_ranks_on_threads_read_the_same_plan(monkeypatch):
    """The ranks of a ThreadComm share a plan: one that asks while another computes must get the same answer."""
    plan = plan_redistribution(split_placement((9, 7), 0, (4, 5)), replicated_placement((9, 7), 2))
    plan._gather_axis = redistribute._UNKNOWN
    meanwhile = []

    def measure(box):
        if not meanwhile:
            meanwhile.append(None)
            meanwhile.append(plan.gather_axis)
        return volume(box)

    monkeypatch.setattr(redistribute, "volume", measure)
    assert plan.gather_axis == 0
    assert meanwhile[1] == 0


def test_blocks_of_another_form_are_not_gathered():
    """Rank 1 holds nothing, in another form: along no axis does it follow the block of rank 0."""
    src = (((0, 4), (0, 5)), ((4, 4), (0, 0)))
    assert not plan_redistribution(src, replicated_placement((4, 5), 2)).gathers(8)


def test_blocks_of_part_of_the_rows_are_not_gathered():
    """Rank 1 holds nothing, but of three rows: what it holds does not fit into a row of blocks."""
    src = (((0, 4), (0, 5)), ((0, 3), (0, 0)))
    assert not plan_redistribution(src, replicated_placement((4, 5), 2)).gathers(8)


def test_equal_arguments_give_the_same_plan():
    rows = split_placement((6, 2), 0, (3, 3))
    again = split_placement((6, 2), 0, (3, 3))
    assert plan_redistribution(rows, rows) is plan_redistribution(again, again)
    assert plan_redistribution([list(map(list, box)) for box in rows], rows) is plan_redistribution(
        rows, rows
    )


@settings(deadline=None, derandomize=True)
@given(st.integers(500, 1000))
def test_plans_of_many_ranks_are_cheap(p):
    """Each rank looks at its own row of the table of pairs only."""
    src, dst = split_placement((p, p), 0, (1,) * p), split_placement((p, p), 1, (1,) * p)
    plan = plan_redistribution(src, dst)
    assert plan.messages(0) == p - 1
    assert len(plan.receives(p - 1)) == p - 1


@pytest.mark.parametrize(
    ("src", "dst", "error", "text"),
    [
        ((((0, 2),),), (((0, 1),), ((1, 2),)), ValueError, "one box for each rank, got 1 and 2"),
        ((), (), ValueError, "one box for each rank"),
        ((((0, 2),),), (((0, 2), (0, 1)),), ValueError, "dst must have 1 intervals"),
        ((((2, 0),),), (((0, 0),),), ValueError, "src must have 1 intervals"),
        ((((-1, 2),),), (((0, 1),),), ValueError, "0 <= start <= stop"),
        ((((0, 2),), ((3, 5),)), (((0, 5),), ((0, 0),)), ValueError, "within what src covers"),
        ((((0, 2),), ((2, 5),)), (((0, 6),), ((0, 0),)), ValueError, r"got \(\(0, 6\),\) for rank 0"),
        ([3], [4], TypeError, "src must be a tuple over ranks"),
    ],
)
def test_refused(src, dst, error, text):
    with pytest.raises(error, match=text):
        plan_redistribution(src, dst)
