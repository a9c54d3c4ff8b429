"""Where distributed arrays go wrong: each way, and the tests that fail on the naive implementation.

`TRAPS` is the list; what it names must exist. The tests below are those that belong to no other file.
"""

import subprocess
import sys
import warnings
from inspect import Parameter, signature
from pathlib import Path

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import spread, whole

_COMM = "../../ht-comm/tests/"
_CONTRACT = "../../ht-comm/src/ht_comm/contract/"
#: What goes wrong -> tests.
TRAPS = {
    # wrong answers without an error
    "index arrays lose the order of their keys": [
        "test_indexing.py::test_key_order_is_kept",
        "test_indexing.py::test_advanced_get",
    ],
    "assignment with negative starts, to slices of slices, of replicated values hits other elements": [
        "test_indexing.py::test_basic_set",
        "test_indexing.py::test_advanced_set",
        "test_indexing.py::test_overlapping_assignment",
        "test_traps.py::test_assignment_to_a_slice_of_a_slice",
    ],
    "where computes through the branch that is not taken": [
        "test_array.py::test_where_does_not_look_at_the_other_branch"
    ],
    "the even chunking is asked instead of the layout": [
        "test_indexing.py::test_nonzero",
        "test_sorting.py::test_sort_is_numpys_stable_sort",
        "test_distribution.py::test_resplit_and_balance",
        "test_every_row.py::test_row",
    ],
    "indices travel in the dtype of the values": ["test_traps.py::test_indices_are_integers_of_64_bits"],
    "16-bit sums are sums of bits, NaN is lost, integers are rounded": [
        "test_array.py::test_sixteen_bit_sums_are_floating_sums",
        "test_array.py::test_nan_wins_and_integers_are_exact",
        "test_quantiles.py::test_integers_beyond_two_to_the_53",
        "test_reductions.py::test_reduction",
    ],
    "sets along another axis than the split; the inverse by a loop": [
        "test_sets.py::test_unique_slices",
        "test_traps.py::test_no_loop_over_elements",
    ],
    "collectives skip or overwrite the gaps of strided tensors": [
        f"{_CONTRACT}reductions.py::test_allreduce_of_every_layout",
        f"{_CONTRACT}matrix.py::test_every_dtype_layout_and_axis",
        "test_sorting.py::test_conjugate_views_and_strided_parts",
    ],
    "an operation, or looking, changes its input": [
        "test_every_row.py::test_row",
        "test_traps.py::test_looking_changes_nothing",
    ],
    "np.asarray gives the piece of this rank": ["test_array.py::test_conversions_give_the_global_array"],
    "random numbers: tails, bias, streams of neighbouring seeds and ranks": [
        "test_philox.py::test_normal_moments_and_tail",
        "test_philox.py::test_integers_are_equally_likely",
        "test_random.py::test_neighbouring_seeds_share_no_numbers",
        "test_distributions.py::test_ranks_and_seeds_do_not_overlap",
    ],
    "gradients lack the part of the other ranks": [
        "test_autograd.py::test_one_operand",
        "test_autograd.py::test_two_operands",
        "test_autograd_orders.py::test_against_differences",
    ],
    # hangs
    "one rank raises, the others wait": [
        "test_rearranging.py::test_a_function_that_fails_on_some_ranks_fails_on_all",
        "test_distributions.py::test_a_wrong_value_on_one_rank_is_everybodys_error",
        "test_creation.py::test_wrong_arguments_are_refused_alike_on_all_ranks",
    ],
    "one rank prints": [
        "test_printing.py::test_repr_needs_nobody_else",
        "test_array.py::test_metadata_prints_and_copies_send_nothing",
    ],
    "a transposed array is sent as if it were contiguous": ["test_traps.py::test_transposed_then_moved"],
    "looking up metadata communicates": [
        "test_array.py::test_metadata_prints_and_copies_send_nothing",
        "test_interop.py::test_numpy_metadata_needs_no_message",
    ],
    "mismatched collectives": [f"{_COMM}test_checked.py::test_a_mismatch_raises_the_same_error_on_all_ranks"],
    "a routine of some ranks talks to all": [
        "test_traps.py::test_some_of_the_ranks",
        "test_random.py::test_a_generator_of_some_ranks",
    ],
    "a rank does not use a result": [
        "test_autograd.py::test_unused_results_do_no_harm",
        "test_autograd.py::test_ranks_that_recorded_different_operations_are_told",
    ],
    "a decision on a number that differs in its last bit between ranks": [
        f"{_CONTRACT}reductions.py::test_every_rank_gets_the_same_bits"
    ],
    # memory and messages
    "whole arrays are gathered": [
        "test_indexing.py::test_aligned_mask_is_one_exchange_of_counts",
        "test_sets.py::test_unique_sends_each_ranks_own_distinct_elements_once",
        "test_quantiles.py::test_messages_and_bytes_of_long_columns",
        "test_random.py::test_an_array_beyond_2_31_elements",
    ],
    "one collective per column or element": [
        "test_sorting.py::test_the_number_of_messages_does_not_grow_with_the_columns",
        "test_traps.py::test_the_number_of_messages_does_not_grow",
        "test_indexing.py::test_replicated_keys_move_only_what_they_name",
    ],
    "ranks wait for each other in a row": [
        "test_rearranging_costs.py::test_each_element_is_sent_once_to_each_rank_that_needs_it",
        "test_distribution.py::test_redistribute_moves_only_what_changes_its_rank",
    ],
    "local work communicates": [
        "test_indexing.py::test_no_message",
        "test_operations.py::test_binary",
        "test_rearranging_costs.py::test_nothing_is_sent_where_rows_stay",
        "test_manipulation.py::test_reshape_sends_nothing_where_the_split_is_untouched",
        "test_sorting.py::test_nothing_is_sent_where_the_split_axis_is_not_sorted",
    ],
    "requests lose their buffers": [
        f"{_CONTRACT}nonblocking.py::test_memory_stays_while_a_request_is_pending"
    ],
    "importing and the first operation have side effects": ["test_traps.py::test_import_and_first_operation"],
    # interfaces
    "arrays do not pickle or copy": ["test_interop.py::test_pickle_and_copies"],
    "unknown keyword arguments are swallowed": ["test_traps.py::test_unknown_keywords_are_refused"],
    "arrays of different splits do not meet": [
        "test_operations.py::test_binary",
        "test_array.py::test_uneven_operands_meet_in_the_cheaper_layout",
    ],
}


@pytest.mark.parametrize("trap", TRAPS)
def test_what_is_named_exists(trap):
    for place in TRAPS[trap]:
        file, name = place.split("::")
        assert f"def {name}(" in (Path(__file__).parent / file).read_text(), place


@pytest.mark.parametrize("layout", [(0, (5, 0, 7)), (0, (1, 10, 1)), (None, ())], ids=str)
def test_assignment_to_a_slice_of_a_slice(layout):
    values = np.arange(24.0).reshape(12, 2)

    def run(comm):
        x, expected = spread(values, *layout, comm), values.copy()
        for target in (x, expected):
            part = target[2:11:2][1:]
            part[-3:] = -1
            part[-2:, 1] = np.array([7.0, 8.0])
            target[-3:][-1:] = 5
        np.testing.assert_array_equal(whole(x), expected)

    spmd(3, run)


def test_indices_are_integers_of_64_bits():
    """Float16 counts to 2048, float32 to 2**24: indices carried as values stop there."""
    values = np.zeros(70_001, np.float16)
    values[[69_999, 70_000]] = 3, -3

    def run(comm):
        x = spread(values, 0, (1, 0, 70_000), comm)
        found = [
            *(x.argmax(), x.argmin(), ht.argsort(x)[-1], ht.nonzero(x)[0][0], ht.argwhere(x)[1, 0]),
            *(ht.topk(x, 1).indices[0], ht.unique(x, return_index=True)[1][2]),
            *(ht.searchsorted(ht.sort(x), np.float16(1)), ht.nanargmax(x), ht.lexsort((x,))[-1]),
        ]
        assert all(index.dtype is ht.int64 for index in found)
        return [int(index) for index in found]

    expected = [69_999, 70_000, 69_999, 69_999, 70_000, 69_999, 69_999, 70_000, 69_999, 69_999]
    assert spmd(3, run) == [expected] * 3


def test_looking_changes_nothing():
    values = np.arange(12.0).reshape(4, 3)
    values[1, 2] = np.nan

    def run(comm):
        x = spread(values, 0, (0, 3, 1), comm)
        before, memory = x.layout, x.larray.data_ptr()
        for look in (
            *(repr, str, np.asarray, ht.array2string, ht.array_repr, len, list),
            *(lambda x: x.tolist(), lambda x: x.cpu(), lambda x: x.numpy(), lambda x: x._repr_html_()),
            *(lambda x: x[2, 1].item(), lambda x: x.reshape(2, 6), lambda x: x.T, lambda x: x.resplit(1)),
            *(lambda x: x.ravel(), lambda x: ht.sort(x, axis=0), lambda x: bool(x.any()), ht.median),
        ):
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                look(x)
            assert (x.layout, x.larray.data_ptr()) == (before, memory)
            np.testing.assert_array_equal(whole(x), values)

    spmd(3, run)


@pytest.mark.parametrize("counts", [(2, 3, 2), (0, 7, 0), (6, 0, 1)], ids=str)
def test_transposed_then_moved(counts):
    values = np.arange(7 * 4 * 2).reshape(7, 4, 2)

    def run(comm):
        x = spread(values, 0, counts, comm)
        for axes in [(1, 0, 2), (2, 1, 0), (1, 2, 0)]:
            y, expected = x.transpose(axes), values.transpose(axes)
            for split in (0, 1, 2, None):
                np.testing.assert_array_equal(whole(y.resplit(split)), expected)
                np.testing.assert_array_equal(whole(y[::2].resplit(split)), expected[::2])
            z = y.copy()
            z.resplit_(0)
            np.testing.assert_array_equal(whole(z), expected)

    spmd(3, run)


def test_some_of_the_ranks():
    """Ranks 0 and 2 work together while the others do nothing: whatever asks all ranks would never end."""
    values = np.random.default_rng(0).permutation(30).reshape(10, 3) / 7

    def run(comm):
        group = comm.split(0 if comm.rank in (0, 2) else None)
        if group is None:
            return None
        x = ht.array(values, split=0, comm=group)
        made = [
            *(x.sum(axis=0), x.var(), x[::-1], x[[7, 0, 3]], x[x > 1], x.resplit(1), x.reshape(6, 5)),
            *(
                ht.sort(x, axis=0),
                ht.unique(x),
                ht.median(x, axis=0),
                ht.cumsum(x, axis=0),
                ht.diff(x, axis=0),
            ),
            *(
                ht.concatenate([x, x]),
                ht.roll(x, 3, axis=0),
                ht.histogram(x, 5)[0],
                ht.searchsorted(x[:, 0], x),
            ),
            *(ht.topk(x, 2, dim=0).values, ht.argmax(x, axis=0), ht.cov(x.T), ht.isin(x, [1.0]), x.balance()),
            *(
                ht.percentile(x, 30),
                ht.pad(x, 2, mode="wrap"),
                ht.unfold(x, 0, 3),
                ht.flip(x, 0),
                ht.tile(x, (2, 1)),
            ),
        ]
        assert all(y.comm is group for y in made)
        leaf = x.copy().requires_grad_()
        (ht.cumprod(leaf, axis=0).resplit(1) ** 2).mean().backward()
        assert str(ht.array2string(x)).count("\n") == 9
        return [whole(y) for y in (*made, leaf.grad)]

    first, none, second, last = spmd(4, run)
    assert none is last is None
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(first[0], values.sum(0))
    np.testing.assert_array_equal(first[3], values[[7, 0, 3]])


CALLS = {
    "unique with inverse": lambda x: ht.unique(x, return_inverse=True, return_counts=True),
    "sort": ht.sort,
    "mask": lambda x: x[x > 3],
    "assignment": lambda x: x.__setitem__(x[:20], 1),
    "index array": lambda x: x[x],
    "isin": lambda x: ht.isin(x, [1, 2]),
    "bincount": ht.bincount,
    "permutation": lambda x: ht.random.default_rng(1).permutation(x),
    "median": ht.median,
    "repeat": lambda x: ht.repeat(x, 2),
}


@pytest.mark.parametrize("name", CALLS)
def test_no_loop_over_elements(name):
    """A loop calls something for each element; the number of calls must not grow with the data."""

    def calls(n):
        x = ht.array(np.arange(n) * 7919 % n)
        CALLS[name](x)  # imports and plans
        count = 0

        def see(frame, event, argument):
            nonlocal count
            count += event in ("call", "c_call")

        sys.setprofile(see)
        try:
            CALLS[name](ht.array(x.larray + 0))
        finally:
            sys.setprofile(None)
        return count

    assert calls(40_000) < calls(4_000) + 400


@pytest.mark.parametrize("name", [*set(CALLS) - {"assignment", "index array", "bincount"}, "columns", "topk"])
def test_the_number_of_messages_does_not_grow(name):
    many = {
        "columns": lambda x: ht.quantile(x.reshape(-1, 40), [0.2, 0.5], axis=0),
        "topk": lambda x: ht.topk(x.reshape(-1, 40), 2, dim=0),
    }

    def run(comm, n):
        x = ht.array(np.arange(n) * 7919 % n, split=0, comm=comm)
        with comm.trace() as sent:
            {**CALLS, **many}[name](x)
        return sent.calls

    assert spmd(3, run, 40_000)[0] <= spmd(3, run, 4_000)[0] + 12


def test_import_and_first_operation():
    """Nothing printed, no generator seeded, no filter of warnings changed, no package for the first operation."""
    program = """
import sys, warnings, random
import numpy, torch
filters, threads = list(warnings.filters), torch.get_num_threads()
states = [torch.get_rng_state().clone(), str(numpy.random.get_state()), random.getstate(), torch.initial_seed()]
import ht_core as ht
assert warnings.filters == filters
loaded = set(sys.modules)
a = ht.ones(3) + ht.ones(3)
a.sum(); a[1]; a.mean()
new = {name.partition(".")[0] for name in set(sys.modules) - loaded}
assert not new & {"sympy", "scipy", "networkx", "pandas", "h5py"}, new
assert torch.equal(states[0], torch.get_rng_state())
assert states[1:] == [str(numpy.random.get_state()), random.getstate(), torch.initial_seed()]
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_unknown_keywords_are_refused():
    """Python refuses them, unless a function takes any: to hand them to a function of the user, or to look itself."""
    open_ended = {
        name
        for name, row in ht.OPERATIONS.items()
        if any(p.kind is Parameter.VAR_KEYWORD for p in signature(row.function).parameters.values())
    }
    assert open_ended == {"piecewise", "apply_along_axis", "fromfunction", "pad"}
    with pytest.raises(ValueError, match="no_such_argument"):
        ht.pad(ht.ones(2), 1, no_such_argument=1)
