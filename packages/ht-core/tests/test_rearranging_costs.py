"""What rearranging sends: nothing where the split axis is untouched, else each element once to each rank that needs it.

Both are checked against the function itself: applied to the numbers of the elements, it tells which element ends where.
"""

import gc
from pathlib import Path

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.testing import layouts, spread, whole
from hypothesis import given, settings
from hypothesis import strategies as st

# Called with arrays of NumPy or ours: x and y are alike but for the numbers of their elements.
MOVES = {
    "flip": lambda m, x, y: m.flip(x, axis=0),
    "flip all": lambda m, x, y: m.flip(x),
    "rot90": lambda m, x, y: m.rot90(x),
    "roll": lambda m, x, y: m.roll(x, 2, axis=0),
    "roll axes": lambda m, x, y: m.roll(x, (1, -1), axis=(0, 1)),
    "roll flat": lambda m, x, y: m.roll(x, 3),
    "tile": lambda m, x, y: m.tile(x, (2, 3)),
    "concatenate": lambda m, x, y: m.concatenate([x, y], axis=0),
    "concatenate 1": lambda m, x, y: m.concatenate([x, y, x[:, :1]], axis=1),
    "append": lambda m, x, y: m.append(x, y, axis=1),
    "block": lambda m, x, y: m.block([[x, y], [y, x]]),
    "stack": lambda m, x, y: m.stack([x, y], axis=1),
    "pad edge": lambda m, x, y: m.pad(x, ((2, 1), (1, 2)), "edge"),
    "pad wrap": lambda m, x, y: m.pad(x, 1, "wrap"),
    "pad reflect": lambda m, x, y: m.pad(x, 1, "reflect"),
    "pad constant": lambda m, x, y: m.pad(x, ((5, 0), (0, 9))),
    "reshape": lambda m, x, y: m.reshape(x, (2, -1)),
    "ravel": lambda m, x, y: m.ravel(x),
    "resize": lambda m, x, y: m.resize(x, (3, 4)) if m is np or x.split == 0 else None,
    "diag": lambda m, x, y: m.diag(x[:, 0], 3),
}


@pytest.mark.parametrize("name", MOVES)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_each_element_is_sent_once_to_each_rank_that_needs_it(name, data):
    shape = (2 * data.draw(st.integers(1, 3)), data.draw(st.integers(2, 5)))
    p = data.draw(st.integers(1, 5))
    first, second = data.draw(layouts(shape, p)), data.draw(layouts(shape, p))
    numbers = np.arange(1, 1 + np.prod(shape)).reshape(shape)
    others = numbers + numbers.size
    expected = MOVES[name](np, numbers, others)

    def run(comm):
        x, y = spread(numbers, *first, comm), spread(others, *second, comm)
        with comm.trace() as sent:
            z = MOVES[name](ht, x, y)
        if z is None:
            return None
        np.testing.assert_array_equal(whole(z), expected)
        held = {*(x.larray.flatten().tolist()), *(y.larray.flatten().tolist()), 0}
        needed = {*z.larray.flatten().tolist()} - held
        # A row that two pieces of a rank contain may come twice; only columns beside split columns repeat rows here.
        repeats = name == "concatenate 1" or name.startswith(("block", "pad"))
        return sent.calls, sent.bytes, 8 * len(needed), repeats

    results = spmd(p, run)
    if results[0] is None:
        return
    assert all(calls <= (2 if name == "diag" else 1) for calls, *_ in results)
    sent, needed = sum(r[1] for r in results), sum(r[2] for r in results)
    if name == "diag":  # whose column may be broadcast, which counts once
        assert sent <= needed
    else:
        assert sent == needed or (results[0][3] and needed <= sent <= 2 * needed)


STAY = [
    lambda x: ht.flip(x, axis=1),
    lambda x: ht.fliplr(x),
    lambda x: ht.roll(x, 3, axis=1),
    lambda x: ht.roll(x, (2, 7), axis=(1, 0)),  # 7 rows: a whole turn
    lambda x: ht.tile(x, (1, 3)),
    lambda x: ht.repeat(x, 3, axis=1),
    lambda x: ht.repeat(x, 3, axis=0),
    lambda x: ht.repeat(x, [1, 0, 2, 1, 1, 1, 4], axis=0),
    lambda x: ht.pad(x, 2),
    lambda x: ht.pad(x, (1, 2), "empty"),
    lambda x: ht.pad(x, ((0, 0), (3, 3)), "mean"),
    lambda x: ht.pad(x, ((0, 0), (3, 3)), "reflect"),
    lambda x: ht.pad(x, ((1, 1), (0, 0)), "edge"),
    lambda x: ht.pad(x, ((1, 1), (0, 0)), "symmetric"),
    lambda x: ht.pad(x, ((1, 1), (0, 0)), "reflect"),
    lambda x: ht.pad(x, ((0, 0), (3, 3)), "linear_ramp"),
    lambda x: ht.concatenate([x, x, x], axis=1),
    lambda x: ht.concatenate([x, np.zeros((7, 2))], axis=1),
    lambda x: ht.hstack([x, x]),
    lambda x: ht.stack([x, x], axis=0),
    lambda x: ht.stack([x, x], axis=1),
    lambda x: ht.dstack([x, x]),
    lambda x: ht.column_stack([x[:, 0], x]),
    lambda x: ht.block([[x, x, x]]),
    lambda x: ht.array_split(x, 3),
    lambda x: ht.split(x, 2, axis=1),
    lambda x: ht.unstack(x, axis=1),
    lambda x: ht.insert(x, [1, 5], 0, axis=0),
    lambda x: ht.insert(x, 1, x[:, 0], axis=1),
    lambda x: ht.delete(x, [1, 5], axis=0),
    lambda x: ht.delete(x, slice(None, None, 2), axis=1),
    lambda x: ht.diagonal(x, 1),
    lambda x: ht.diag(x[:, 0]),
    lambda x: ht.diag(x[:, 0], 2),
    lambda x: ht.tril(x),
    lambda x: ht.triu(x, k=1),
    lambda x: x.copy().fill_diagonal(3),
    lambda x: ht.reshape(x, (7, 2, 2)),
    lambda x: ht.reshape(x, (28,)),
    lambda x: ht.ravel(x),
    lambda x: ht.flatten(x),
    lambda x: ht.expand_dims(x, 0),
    lambda x: x.T,
    lambda x: x.mT,
    lambda x: ht.atleast_3d(x),
    lambda x: ht.unfold(x, 1, 2),
    lambda x: ht.copyto(x.copy(), x, where=x > 0),
    lambda x: x.lloc[:],
    lambda x: x.strides,
    lambda x: x.create_lshape_map(),
    lambda x: ht.broadcast_to(x, (2, 7, 4)),
]


@pytest.mark.parametrize("number", range(len(STAY)))
def test_nothing_is_sent_where_rows_stay(number):
    def run(comm):
        x = ht.arange(28.0, split=0).reshape(7, 4)
        with comm.trace() as sent:
            STAY[number](x)
        assert sent.calls == 0

    spmd(3, run)


@pytest.mark.parametrize(
    ("call", "calls", "nbytes"),
    [
        (lambda x: ht.delete(x, ht.array([True] * 6 + [False], split=0), axis=0), 1, 8),
        (lambda x: ht.repeat(x, ht.arange(7, split=0), axis=0), 1, 8),
        (lambda x: ht.trim_zeros(x), 1, 32),
        (lambda x: ht.unstack(x), 1, None),
        (lambda x: ht.insert(x, [0, 1], ht.array(np.ones((2, 4)), split=0), axis=0), 1, 32),
        (lambda x: ht.unfold(x, 0, 2), 1, 32),
        (lambda x: ht.unfold(x, 0, 2, 2), 1, 32),
        (lambda x: ht.unfold(x, 0, 2, 3), 0, 0),
        (lambda x: x.get_halo(2), 1, 128),
        (lambda x: x.get_halo(1, prev=False), 1, 32),
        (lambda x: ht.pad(x, ((1, 0), (0, 0)), "linear_ramp"), 1, 32),
        (lambda x: ht.pad(x, ((2, 2), (0, 0)), "reflect", reflect_type="odd"), 3, 96),
        (lambda x: ht.roll(x, 1, axis=0), 1, 32),
        (lambda x: ht.reshape(x, (4, 7), new_split=1), 1, None),
        (lambda x: ht.reshape(x.T, (2, 14)), 1, None),
        (lambda x: ht.reshape(x.T, (2, 14), new_split=1), 2, None),
    ],
)
def test_messages(call, calls, nbytes):
    """Calls, and the most bytes that a rank sends."""

    def run(comm):
        x = ht.arange(28, split=0).reshape(7, 4)
        with comm.trace() as sent:
            call(x)
        return sent.calls, sent.bytes

    results = spmd(3, run)
    assert {r[0] for r in results} == {calls}
    if nbytes is not None:
        assert max(r[1] for r in results) <= nbytes


def peak_mib(reset=False):
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


LARGE = {
    "concatenate": lambda x: ht.concatenate([x, x], axis=0),
    "concatenate dtypes": lambda x: ht.concatenate([x, x], axis=0, dtype="float64"),
    "concatenate 1": lambda x: ht.concatenate([x, x], axis=1),
    "reshape": lambda x: ht.reshape(x.T, (-1,)),
    "reshape in rounds": lambda x: ht.reshape(x.T, (2, -1, 8), new_split=1),
    "resplit": lambda x: ht.resplit(x, 1),
    "pad": lambda x: ht.pad(x, 1, "reflect"),
    "pad wide": lambda x: ht.pad(x, ((2**16, 0), (0, 0))),
    "roll": lambda x: ht.roll(x, 1, axis=0),
    "roll flat": lambda x: ht.roll(x, 12345),
    "flip": lambda x: ht.flip(x),
    "tile": lambda x: ht.tile(x, (2, 1)),
    "repeat": lambda x: ht.repeat(x, 2, axis=0),
}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux's memory counters")
@pytest.mark.parametrize("name", LARGE)
def test_peak_memory_is_inputs_and_outputs(name):
    """At most 64 MiB per rank beside them; the input has 160 MiB in all, so that a copy of it would show."""
    rows = 160 * 2**20 // (1024 * 4)
    made = {}

    def prepare(comm):
        return ht.full((rows, 1024), 1, dtype="float32", split=0, comm=comm)

    def run(comm):
        x = prepare(comm)
        comm.barrier()
        if comm.rank == 0:
            gc.collect()
            made["before"] = peak_mib(reset=True)
            made["before"] = int(Path("/proc/self/statm").read_text().split()[1]) * 4 / 1024
        comm.barrier()
        y = LARGE[name](x)
        comm.barrier()
        return y.larray.untyped_storage().nbytes() / 2**20

    outputs = sum(spmd(2, run))
    assert peak_mib() - made["before"] <= outputs + 2 * 64


def test_results_do_not_share_memory_by_chance():
    """Whether a result is a view depends on the function, never on the number of ranks."""

    def run(comm):
        x = ht.arange(12, split=0)
        views = [x.reshape(3, 4), x.ravel(), x[None].squeeze(0), ht.split(x, 2)[0], ht.expand_dims(x, 0)]
        owns = [
            ht.flip(x),
            ht.roll(x, 0),
            ht.roll(x, 1),
            ht.tile(x, 1),
            ht.repeat(x, 1),
            ht.pad(x, 0),
            x.flatten(),
        ]
        owns += [ht.concatenate([x]), ht.delete(x, []), ht.insert(x, [], []), ht.block([x]), ht.resize(x, 12)]
        owns += [
            ht.flip(x, axis=()),
            ht.roll(x, 0, axis=0),
            ht.resplit(x, 0),
            ht.diag(x),
            x.reshape(3, 4, copy=True),
        ]
        if not x.larray.numel():
            return
        base = x.larray.untyped_storage().data_ptr()
        if comm.size == 1 or comm.size == 3:
            assert all(y.larray.untyped_storage().data_ptr() == base for y in views if y.larray.numel())
        assert all(y.larray.untyped_storage().data_ptr() != base for y in owns)

    for p in (1, 2, 3):
        spmd(p, run)


@pytest.mark.parametrize("split", [None, 0, 1])
def test_gradients(split):
    """The way back of every copy is the sum over its copies."""
    cases = [
        *MOVES.values(),
        lambda m, x, y: m.repeat(x, 3, axis=0),
        lambda m, x, y: m.delete(x, [1], axis=0),
        lambda m, x, y: m.tril(x),
        lambda m, x, y: m.diagonal(x, 1),
        lambda m, x, y: m.transpose(m.stack([x, y])),
    ]
    shape = (4, 3)
    numbers = np.arange(1, 13).reshape(shape)
    for case in cases:
        expected = case(np, numbers, numbers + 12)
        weights = np.cos(np.arange(expected.size)).reshape(expected.shape)
        slopes = np.bincount(expected.ravel(), weights.ravel(), minlength=25)[1:]

        def run(comm, case=case, weights=weights, slopes=slopes):
            x = ht.array(numbers * 1.0, split=split).requires_grad_()
            y = ht.array(numbers * 2.0, split=0 if split is None else split).requires_grad_()
            z = case(ht, x, y)
            if z is None:
                return
            (z * ht.array(weights)).sum().backward()
            np.testing.assert_allclose(x.grad.numpy().ravel(), slopes[:12], atol=1e-12)
            if y.grad is not None:
                np.testing.assert_allclose(y.grad.numpy().ravel(), slopes[12:], atol=1e-12)

        for p in (1, 3):
            spmd(p, run)


@pytest.mark.mpi
def test_on_processes(comm):
    values = np.arange(7.0 * 6 * 5).reshape(7, 6, 5)
    for split in (None, 0, 1, 2):
        x = ht.array(values, split=split)
        for call in (
            lambda m, x: m.flip(x),
            lambda m, x: m.roll(x, (3, 1), axis=(0, 2)),
            lambda m, x: m.roll(x, 17),
            lambda m, x: m.concatenate([x, x[:2]], axis=0),
            lambda m, x: m.reshape(x, (2, 3, 35)),
            lambda m, x: m.tile(x, (2, 1, 2)),
            lambda m, x: m.pad(x, (2, 3), "symmetric"),
            lambda m, x: m.rot90(x, 1, axes=(0, 2)),
            lambda m, x: m.repeat(x, 2, axis=1),
        ):
            np.testing.assert_array_equal(call(ht, x).numpy(), call(np, values))
        np.testing.assert_array_equal(
            ht.unfold(x, 0, 3, 2).numpy(), torch.from_numpy(values).unfold(0, 3, 2).numpy()
        )
