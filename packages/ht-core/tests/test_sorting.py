"""Sorting, partitions, the k best: against NumPy over dtypes, layouts and ranks; exactly stable; what it costs."""

import warnings

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core import sorting
from ht_core.engines import sort as engine
from ht_core.engines import sort_by_parts
from ht_core.engines.sort_keys import decode_words, encode, encode_words
from ht_core.testing import layouts, spread, whole
from hypothesis import given, settings
from hypothesis import strategies as st

SOME = settings(max_examples=60, deadline=None, derandomize=True)
DTYPES = [d.name for d in ht.DTYPES.values() if d.numpy is not None]
SPECIAL = np.array([0.0, -0.0, 1, -1, np.inf, -np.inf, np.nan, -np.nan, 3.5, -3.5])
KINDS = ["special", "spread", "repeated", "equal", "reversed"]


def tricky(dtype: str, shape, kind: str, seed: int = 0) -> np.ndarray:
    """Return values that are hard to sort: NaN and zeros of both signs, extremes, repeats, all equal, reversed."""
    rng, dtype = np.random.default_rng(seed), np.dtype(dtype)

    def real():
        size = int(np.prod(shape))
        flat = {
            "special": lambda: SPECIAL[rng.integers(0, len(SPECIAL), size)],
            "spread": lambda: rng.standard_normal(size) * 100,
            "repeated": lambda: rng.integers(0, 3, size) * 1.0,
            "equal": lambda: np.ones(size),
            "reversed": lambda: np.arange(size, 0, -1.0),
        }[kind]()
        return flat.reshape(shape)

    if dtype.kind == "c":
        values = np.empty(shape, dtype)
        values.real, values.imag = real(), real()
        return values
    if kind == "special" and dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.array([info.min, info.max, 0, 1], dtype)[rng.integers(0, 4, shape)]
    if kind == "spread" and dtype.kind in "iu":
        info = np.iinfo(dtype)
        return np.asarray(rng.integers(info.min, info.max, shape, dtype=dtype, endpoint=True))
    values = np.abs(np.nan_to_num(real(), posinf=7.0, neginf=9.0)) % 100 if dtype.kind in "biu" else real()
    return np.asarray(values).astype(dtype)


def same(result, expected):
    """Compare exactly, the signs of zeros included."""
    assert result.dtype == expected.dtype
    np.testing.assert_array_equal(result, expected)
    if expected.dtype.kind == "c":
        same(result.real.copy(), expected.real.copy())
        same(result.imag.copy(), expected.imag.copy())
    elif expected.dtype.kind == "f":
        known = ~np.isnan(expected)
        np.testing.assert_array_equal(np.signbit(result)[known], np.signbit(expected)[known])


def numpy_order(values, axis, descending):
    if not descending:
        return np.argsort(values, axis=axis, kind="stable")
    turned = np.argsort(np.flip(values, axis), axis=axis, kind="stable")
    return values.shape[axis] - 1 - np.flip(turned, axis)


# -- keys -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_keys_are_in_the_order_of_the_elements(dtype, kind):
    values = tricky(dtype, (400,), kind)
    x = torch.from_numpy(values.copy())
    words = encode_words(x)
    order = np.lexsort([word.numpy() for word in reversed(words)])
    np.testing.assert_array_equal(order, np.argsort(values, kind="stable"))
    np.testing.assert_array_equal(decode_words([word.clone() for word in words], x.dtype).numpy(), values)
    same(x.numpy(), values)


def test_keys_of_every_bfloat16():
    x = torch.arange(-(2**15), 2**15, dtype=torch.int64).to(torch.int16).view(torch.bfloat16)
    order = torch.from_numpy(np.argsort(x.float().numpy(), kind="stable"))
    keys = encode(x)[order]
    assert bool((keys[1:] >= keys[:-1]).all())
    known = x[order].float()
    np.testing.assert_array_equal((keys[1:] == keys[:-1])[:65000], (known[1:] == known[:-1])[:65000])


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64"])
def test_local_order_is_stable_also_where_keys_and_indices_fit_no_word(dtype):
    rng = np.random.default_rng(1)
    limits = np.iinfo(dtype)
    values = np.array([limits.min, limits.max, 0, 5], dtype)[rng.integers(0, 4, (3, 500))]
    expected = np.argsort(values, axis=-1, kind="stable")
    assert (engine.with_index(torch.from_numpy(values)) is None) == (dtype == "int64")
    np.testing.assert_array_equal(engine.argsort_rows(torch.from_numpy(values)), expected)
    np.testing.assert_array_equal(engine.merge_order(torch.from_numpy(values)), expected)


@pytest.mark.parametrize("n", [0, 1, 2, 300])
def test_lexicographic_order(n):
    rng = np.random.default_rng(n)
    words = [rng.integers(0, 3, n) for _ in range(4)]
    order = engine.lexicographic_order([torch.from_numpy(word) for word in words])
    np.testing.assert_array_equal(order, np.lexsort(words[::-1]))


@pytest.mark.parametrize("lengths", [[5000, 0, 4000], [3, 0, 2, 7, 1]])
def test_copying_segments(lengths):
    rng = np.random.default_rng(0)
    source = rng.integers(0, 100, 6000)
    starts = [int(rng.integers(0, 6001 - n)) for n in lengths]
    expected = np.concatenate([source[a : a + n] for a, n in zip(starts, lengths)])
    result = engine.copy_segments(torch.from_numpy(source), torch.tensor(starts), torch.tensor(lengths))
    np.testing.assert_array_equal(result, expected)


# -- sort, argsort --------------------------------------------------------------------------------------------------


def check_sort(values, layout, p, axis, descending):
    order = numpy_order(values, axis, descending)
    expected = np.take_along_axis(values, order, axis)

    def run(comm):
        x = spread(values, *layout, comm)
        y, z = ht.sort(x, axis=axis, descending=descending), ht.argsort(x, axis=axis, descending=descending)
        assert y.layout is z.layout is x.layout
        same(whole(x), values)
        return whole(y), whole(z)

    for result, indices in spmd(p, run):
        same(result, expected)
        np.testing.assert_array_equal(indices, order)
        assert indices.dtype == np.int64


@pytest.mark.parametrize("dtype", DTYPES)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(data=st.data())
def test_sort_is_numpys_stable_sort(dtype, data):
    shape = data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=3).map(tuple))
    p, kind = data.draw(st.integers(1, 5)), data.draw(st.sampled_from(KINDS))
    values = tricky(dtype, shape, kind, data.draw(st.integers(0, 99)))
    layout = data.draw(layouts(shape, p))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    check_sort(values, layout, p, axis, data.draw(st.booleans()))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["int8", "int64", "uint64", "float16", "float32", "float64", "complex128"])
@pytest.mark.parametrize(
    ("shape", "counts"),
    [((900,), (0, 500, 399, 0, 1)), ((900,), (180,) * 5), ((700, 3), (1, 0, 600, 99)), ((900,), (0, 0, 900))],
)
def test_long_columns(dtype, kind, shape, counts):
    check_sort(tricky(dtype, shape, kind), (0, counts), len(counts), 0, kind == "special")


@pytest.mark.parametrize("kind", [*KINDS, "one rank has it all"])
@pytest.mark.parametrize("dtype", ["int32", "int64", "float32", "float64"])
@pytest.mark.parametrize("counts", [(700, 800), (0, 500, 999, 0, 1), (300,) * 5])
def test_long_vectors_are_divided_before_they_move(dtype, kind, counts, monkeypatch):
    monkeypatch.setattr(sort_by_parts, "LONG", 16)
    if counts[0] != 700:  # several rounds of the exchange, in place
        monkeypatch.setattr(sort_by_parts, "ROUND", 500)
    values = tricky(dtype, (1500,), kind if kind in KINDS else "spread")
    if kind not in KINDS:  # the parts of the ranks do not overlap
        values = np.sort(values)[::-1].copy()
    check_sort(values, (0, counts), len(counts), 0, kind == "special")


@pytest.mark.parametrize("few", [1, 300, 1000, "pairs", "one pair", "pairs in order"])
@pytest.mark.parametrize("counts", [(700, 800), (0, 500, 999, 0, 1), (1500,)])
def test_keys_that_fit_into_no_word_are_told_apart_by_their_last_bits(few, counts, monkeypatch):
    monkeypatch.setattr(sort_by_parts, "LONG", 16)
    monkeypatch.setattr(engine, "_TILE", 16)
    if few == 300:  # although they tell apart few
        for module in (engine, sort_by_parts):
            monkeypatch.setattr(module, "do_leading_bits", lambda *_: True)
    rng = np.random.default_rng(3)
    if isinstance(few, int):
        values = rng.integers(-3, 4, 1500) << 61 | rng.integers(0, few, 1500)
        values[::7] = rng.integers(-(2**63), 2**63 - 1, len(values[::7]))
    else:  # in order but for their last bits; a pair lies on two ranks
        at = np.arange(1500)
        wrong = at == (699 if counts[0] == 700 else 499) if few == "one pair" else at % 2
        values = (at + 1) // 2 << 50 | wrong
        values = values[::-1].copy() if few == "pairs in order" else values
    expected = np.argsort(values, kind="stable")

    def run(comm):
        layout = ht.Layout(values.shape, 0, counts)
        x = ht.DNDarray(torch.from_numpy(values[layout.slices(comm.rank)].copy()), layout, comm)
        return whole(ht.argsort(x))

    for order in spmd(len(counts), run):
        np.testing.assert_array_equal(order, expected)


@pytest.mark.parametrize("intervals", [[(5, 9)], [(-90, -80), (40, 40)], [(200, 300)]])
def test_a_sample_that_misses_costs_no_exactness(intervals, monkeypatch):
    monkeypatch.setattr(sort_by_parts, "LONG", 16)
    monkeypatch.setattr(sort_by_parts, "_intervals", lambda *_: intervals)
    values = np.random.default_rng(0).integers(-100, 100, 900)
    for counts in ((450, 450), (100, 0, 600, 200)):
        check_sort(values, (0, counts), len(counts), 0, False)


def test_a_long_vector_is_exchanged_once(monkeypatch):
    """And is not sorted before: what is sorted then is a small part of it."""
    monkeypatch.setattr(sort_by_parts, "LONG", 1000)
    values = tricky("int64", (60000,), "spread")
    for p in (2, 3):
        for by_op, nbytes, calls in traced(p, ht.sort, (values, 0)):
            assert by_op["alltoallv"][0] == by_op["alltoall"][0] == by_op["allgather"][0] == 1
            assert by_op["alltoallv"][1] <= -(-values.nbytes // p)
            assert calls <= 15
            assert nbytes - by_op["alltoallv"][1] <= 10 * 255 * 8 * (p - 1) + (2 << 16)

    def run(comm):
        local = torch.from_numpy(values)[comm.rank :: comm.size].clone()
        cuts = sort_by_parts.divide_over_ranks(local, (20000,) * 3, comm).tolist()
        return [piece.numpy() for piece in local.tensor_split(cuts[1:-1])]

    pieces = spmd(3, run)
    expected = np.sort(values).reshape(3, -1)
    for rank in range(3):
        np.testing.assert_array_equal(
            np.sort(np.concatenate([mine[rank] for mine in pieces])), expected[rank]
        )


@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16(kind):
    values = torch.from_numpy(tricky("float32", (700,), kind)).bfloat16()
    order = torch.from_numpy(np.argsort(values.float().numpy(), kind="stable"))

    def run(comm):
        layout = ht.Layout.even(values.shape, 0, comm.size)
        x = ht.DNDarray(values[layout.slices(comm.rank)].clone(), layout, comm)
        y, z = ht.sort(x), ht.argsort(x)
        assert y.dtype == ht.bfloat16
        return ht.resplit(y).larray, ht.resplit(z).larray

    for result, indices in spmd(3, run):
        same(result.float().numpy(), values[order].float().numpy())
        np.testing.assert_array_equal(indices, order)


def test_more_rounds_than_bits_are_never_needed_and_digits_of_all_widths_agree(monkeypatch):
    values = tricky("int64", (600, 2), "spread")
    for counts in (1 << 16, 40, 1):  # eight bits per round, a few, one
        monkeypatch.setattr(engine, "_COUNTS", counts)
        check_sort(values, (0, (200, 100, 300)), 3, 0, False)


@pytest.mark.parametrize("shape", [(7, 5), (40,), ()])
def test_axis_none_and_scalars(shape):
    values = tricky("float64", shape, "spread")

    def run(comm):
        x = ht.array(values, split=0 if shape else None, comm=comm)
        return whole(ht.sort(x, axis=None)), whole(ht.argsort(x, axis=None))

    for result, indices in spmd(3, run):
        np.testing.assert_array_equal(result, np.sort(values, axis=None))
        np.testing.assert_array_equal(indices, np.argsort(values, axis=None, kind="stable"))


def test_sort_writes_to_out_and_in_place():
    values = tricky("float32", (60,), "special")

    def run(comm):
        x, out = ht.array(values, split=0, comm=comm), ht.zeros(60, dtype="float32", comm=comm)
        assert ht.sort(x, out=out) is out
        y, z = ht.sort(x, return_sort_indices=True)
        same(whole(y), whole(out))
        np.testing.assert_array_equal(whole(z), whole(ht.argsort(x)))
        x.sort()
        same(whole(x), whole(out))
        same(whole(np.sort(ht.array(values, split=0, comm=comm), kind="stable")), whole(out))
        return whole(out)

    for result in spmd(2, run):
        same(result, np.sort(values, kind="stable"))


def test_conjugate_views_and_strided_parts():
    values = tricky("complex64", (50, 4), "spread")

    def run(comm):
        x = ht.array(values, split=0, comm=comm)
        y = ht.DNDarray(x.larray.conj(), x.layout, comm)
        t = ht.array(values.real.copy(), split=0, comm=comm).T
        return whole(ht.sort(y, axis=0)), whole(ht.sort(t, axis=1)), whole(ht.sort(y.larray.imag, axis=0))

    for result, turned, imag in spmd(2, run):
        same(result, np.sort(values.conj(), axis=0, kind="stable"))
        same(turned, np.sort(values.real.T, axis=1, kind="stable"))
        assert imag.shape[1] == 4


def test_sort_complex():
    for dtype in ("int8", "uint16", "int64", "float32", "complex64"):
        values = tricky(dtype, (30,), "spread")
        result = spmd(2, lambda c, v=values: whole(ht.sort_complex(ht.array(v, split=0, comm=c))))[0]
        same(result, np.sort_complex(values))


@pytest.mark.parametrize("dtype", ["bool", "uint64", "float16", "float32", "complex64", "complex128"])
def test_kernels_of_devices_give_the_same(monkeypatch, dtype):
    for module in (engine, sorting):
        monkeypatch.setattr(module, "is_on_host", lambda tensor: False)
    for shape, counts in (((500,), (0, 300, 200)), ((400, 3), (100, 1, 299))):
        values = tricky(dtype, shape, "special")
        check_sort(values, (0, counts), 3, 0, False)
        check_sort(values, (None, ()), 1, -1, True)
        best = spmd(3, lambda c, v=values, n=counts: whole(ht.topk(spread(v, 0, n, c), 5, 0).values))[0]
        np.testing.assert_array_equal(best, np.take_along_axis(values, numpy_order(values, 0, True), 0)[:5])


# -- lexsort, partition, topk ---------------------------------------------------------------------------------------


@SOME
@given(st.data())
def test_lexsort(data):
    shape = data.draw(st.lists(st.integers(0, 9), min_size=1, max_size=2).map(tuple))
    p = data.draw(st.integers(1, 4))
    names = data.draw(
        st.lists(st.sampled_from(["int8", "float64", "bool", "complex128"]), min_size=1, max_size=3)
    )
    keys = [tricky(name, shape, "repeated", seed) for seed, name in enumerate(names)]
    spread_as = [data.draw(layouts(shape, p)) for _ in keys]
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    expected = np.lexsort(keys, axis=axis)
    results = spmd(
        p, lambda c: whole(ht.lexsort([spread(k, *at, c) for k, at in zip(keys, spread_as)], axis=axis))
    )
    for result in results:
        np.testing.assert_array_equal(result, expected)


@pytest.mark.parametrize("split", [None, 0, 1])
def test_lexsort_of_the_rows_of_an_array(split):
    keys = np.random.default_rng(0).integers(0, 3, (4, 200))
    for result in spmd(3, lambda c: whole(ht.lexsort(ht.array(keys, split=split, comm=c)))):
        np.testing.assert_array_equal(result, np.lexsort(keys))


@SOME
@given(st.data())
def test_partition(data):
    shape = data.draw(st.lists(st.integers(1, 9), min_size=1, max_size=2).map(tuple))
    p, dtype = data.draw(st.integers(1, 4)), data.draw(st.sampled_from(DTYPES))
    values = tricky(dtype, shape, data.draw(st.sampled_from(KINDS)), 3)
    layout = data.draw(layouts(shape, p))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[axis]
    kth = data.draw(st.lists(st.integers(-n, n - 1), min_size=1, max_size=3))
    ranked = np.sort(values, axis=axis)

    def run(comm):
        x = spread(values, *layout, comm)
        return whole(ht.partition(x, kth, axis=axis)), whole(ht.argpartition(x, kth, axis=axis))

    for result, indices in spmd(p, run):
        for found in (result, np.take_along_axis(values, indices, axis)):
            np.testing.assert_array_equal(np.sort(found, axis=axis), ranked)
            for k in kth:
                at = k % n
                np.testing.assert_array_equal(found.take(at, axis), ranked.take(at, axis))
                front = np.sort(found.take(range(at + 1), axis), axis=axis)
                np.testing.assert_array_equal(front, ranked.take(range(at + 1), axis))


@SOME
@given(st.data())
def test_topk(data):
    shape = data.draw(st.lists(st.integers(0, 12), min_size=1, max_size=2).map(tuple))
    p, dtype = data.draw(st.integers(1, 5)), data.draw(st.sampled_from(DTYPES))
    values = tricky(dtype, shape, data.draw(st.sampled_from(KINDS)), 3)
    layout = data.draw(layouts(shape, p))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    k, largest = data.draw(st.integers(0, shape[axis])), data.draw(st.booleans())
    order = numpy_order(values, axis, largest).take(range(k), axis)

    def run(comm):
        x = spread(values, *layout, comm)
        found = ht.topk(x, k, axis, largest)
        assert found.values.split == x.split
        return whole(found.values), whole(found.indices)

    for best, indices in spmd(p, run):
        np.testing.assert_array_equal(best, np.take_along_axis(values, order, axis))
        same(np.take_along_axis(values, indices, axis), best)
        if values.dtype.kind != "f":  # of floats the zeros are ordered by their signs
            np.testing.assert_array_equal(indices, order)


def test_topk_writes_to_out():
    def run(comm):
        x = ht.array(np.array([4.0, 9.0, 7.0]), split=0, comm=comm)
        out = ht.zeros(2, comm=comm), ht.zeros(2, dtype="int64", split=0, comm=comm)
        found = ht.topk(x, 2, out=out)
        assert found.values is out[0]
        assert found.indices is out[1]
        return whole(out[0]).tolist(), whole(out[1]).tolist()

    assert spmd(2, run) == [([9, 7], [1, 2])] * 2


def test_topk_takes_the_lowest_index_of_equal_elements_on_any_rank():
    values = np.array([1, 5, 5, 2, 5, 0, 5, 1])
    for p in (1, 2, 4):
        for result in spmd(p, lambda c: whole(ht.topk(ht.array(values, split=0, comm=c), 3).indices)):
            assert result.tolist() == [1, 2, 4]


def test_topk_where_a_rank_has_less_than_k():
    """What such a rank lacks must not win: here its stand-ins would be less than all elements."""
    values = np.array([7, 5, 3, 9, 4, 8, 6, 5, 9, 7])

    def run(comm):
        found = ht.topk(spread(values, 0, (1, 0, 9), comm), 2, largest=False)
        return whole(found.values).tolist(), whole(found.indices).tolist()

    assert spmd(3, run) == [([3, 4], [2, 4])] * 3


# -- cost -----------------------------------------------------------------------------------------------------------


def traced(p, call, *arguments):
    """Return, per rank, the calls and bytes by operation of ``call(*arguments as arrays)``."""

    def run(comm):
        arrays = [ht.array(values, split=split, comm=comm) for values, split in arguments]
        with comm.trace() as sent:
            call(*arrays)
        return {op: (calls, nbytes) for op, (calls, nbytes, _) in sent.by_op.items()}, sent.bytes, sent.calls

    return spmd(p, run)


@pytest.mark.parametrize("call", [ht.sort, ht.argsort, lambda x, axis: ht.topk(x, 2, axis), ht.unique])
@pytest.mark.parametrize("axis", [0, 2])
def test_nothing_is_sent_where_the_split_axis_is_not_sorted(call, axis):
    values = tricky("float64", (5, 8, 6), "special")
    if call is ht.unique:
        assert all(calls == 0 for _, _, calls in traced(3, call, (values, None)))
    else:
        assert all(calls == 0 for _, _, calls in traced(3, lambda x: call(x, axis=axis), (values, 1)))


@pytest.mark.parametrize("shape", [(30000,), (3000, 10)])
@pytest.mark.parametrize("dtype", ["int64", "float32", "float64"])
@pytest.mark.parametrize("call", [ht.sort, ht.argsort])
def test_sort_exchanges_the_data_once(call, dtype, shape):
    values = tricky(dtype, shape, "spread")
    for p in (2, 3):
        for by_op, nbytes, calls in traced(p, lambda x: call(x, axis=0), (values, 0)):
            arrays = (
                2 if call is ht.argsort and values.itemsize == 8 else 1
            )  # keys, and indices that fit in no word
            assert by_op["alltoallv"][0] == arrays
            assert by_op["alltoall"][0] == 1
            assert (
                by_op["allreduce"][0] <= 8
            )  # not one for each byte of the keys: a cut between two keys will do
            assert calls <= 15
            word = 8 if call is ht.argsort else values.itemsize
            local = -(-shape[0] // p) * values[0].size
            assert by_op["alltoallv"][1] <= arrays * word * local
            counts = 2**16 * 8
            assert nbytes - by_op["alltoallv"][1] <= 10 * counts
            if len(shape) == 1:
                assert nbytes - by_op["alltoallv"][1] <= 10 * 255 * 8 * (p - 1) + 200


@pytest.mark.parametrize(("nbytes", "rounds"), [(3000, 1), (2999, 2), (1000, 3)])
def test_long_vectors_move_in_rounds(nbytes, rounds, monkeypatch):
    monkeypatch.setattr(sort_by_parts, "LONG", 16)
    monkeypatch.setattr(sort_by_parts, "ROUND", nbytes)
    values = tricky("float32", (1500,), "spread")
    for by_op, _, _ in traced(2, lambda x: ht.sort(x, axis=0), (values, 0)):
        assert by_op["alltoallv"][0] == rounds
        assert by_op["alltoall"][0] == 1
        assert by_op["alltoallv"][1] <= values.nbytes // 2


def test_the_number_of_messages_does_not_grow_with_the_columns():
    narrow, wide = (tricky("int32", (2000, d), "spread") for d in (1, 200))
    calls = [max(c for _, _, c in traced(2, lambda x: ht.sort(x, axis=0), (v, 0))) for v in (narrow, wide)]
    assert calls[1] <= calls[0] + 4  # fewer bits per round


def test_short_columns_are_sorted_by_two_redistributions():
    values = tricky("float32", (6, 50), "special")
    check_sort(values, (0, (1, 0, 5)), 3, 0, False)
    for by_op, nbytes, calls in traced(2, lambda x: ht.sort(x, axis=0), (values, 0)):
        assert calls == by_op["redistribute"][0] == 2
        assert nbytes <= 2 * values.nbytes


def test_topk_is_one_merge():
    values = tricky("float32", (5000, 3), "spread")
    for by_op, nbytes, _ in traced(3, lambda x: ht.topk(x, 4, 0), (values, 0)):
        assert by_op.keys() == {"allreduce_pairs"}
        assert by_op["allreduce_pairs"][0] == 1
        assert nbytes == 16 * 4 * 3


# -- refusals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda x: ht.sort(x, axis=2), ht.LayoutError),
        (lambda x: ht.sort(x, kind="bogo"), ht.DTypeError),
        (lambda x: ht.sort(x, order="name"), ht.DTypeError),
        (lambda x: ht.sort(x, out=ht.zeros(3, comm=x.comm)), ht.LayoutError),
        (lambda x: ht.argsort(x, axis="0"), ht.LayoutError),
        (lambda x: ht.sort(ht.zeros((), comm=x.comm)), ht.LayoutError),
        (lambda x: ht.partition(x, 6, axis=0), ht.LayoutError),
        (lambda x: ht.partition(x, 1, kind="quick"), ht.DTypeError),
        (lambda x: ht.topk(x, 5, 1), ht.LayoutError),
        (lambda x: ht.topk(x, -1, 1), ht.LayoutError),
        (lambda x: ht.lexsort([]), ht.LayoutError),
        (lambda x: ht.lexsort([x, x[:2]]), ht.LayoutError),
    ],
)
def test_refusals_are_the_same_on_all_ranks_and_send_nothing(call, error):
    def run(comm):
        x = ht.zeros((6, 4), split=0, comm=comm)
        with comm.trace() as sent, pytest.raises(error) as caught:
            call(x)
        assert sent.calls == 0
        return str(caught.value)

    assert len(set(spmd(3, run))) == 1


@pytest.mark.mpi
def test_on_processes(comm):
    for dtype in ("float32", "int64", "complex64"):
        for shape in ((203,), (150, 3), (4, 60)):
            values = tricky(dtype, shape, "special")
            x = ht.array(values, split=0, comm=comm)
            same(whole(ht.sort(x, axis=0)), np.sort(values, axis=0, kind="stable"))
            np.testing.assert_array_equal(
                whole(ht.argsort(x, axis=0)), np.argsort(values, axis=0, kind="stable")
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)
                best = whole(ht.topk(x, 3, 0, largest=False).values)
            np.testing.assert_array_equal(best, np.sort(values, axis=0)[:3])
