"""The contract, crossed: every collective with every element type, memory layout, axis and shape, against NumPy.

A collective is one `Row`: how to call it, what each rank holds, and what each rank gets. The other modules of the
contract test what is particular to one of them.
"""

import copy
import functools
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from ..redistribute import plan_redistribution
from .arrays import block, cycle, is_untouched
from .neighbours import with_halo
from .reductions import expected, is_defined

UNEVEN = (3, 0, 1, 2)
SHAPES = [(), (0,), (5,), (1, 2, 4), (2, 0, 3), (2, 3, 4)]


@dataclass
class Call:
    """One call on one rank."""

    comm: Any
    x: Any
    out: Any
    axis: int
    is_started: bool
    like: Any = None

    def __call__(self, name: str, *args: Any, **options: Any) -> Any:
        """Call a method of the communicator; start it and wait for it where it is to be started."""
        if not self.is_started:
            return getattr(self.comm, name)(*args, **options)
        return getattr(self.comm, f"i{name}")(*args, **options).wait()


@dataclass(frozen=True)
class Row:
    """A collective.

    Attributes
    ----------
    call : callable
        From a `Call` to this rank's result.
    want : callable
        From the operands of all ranks, a rank and an axis to the result there; None: that rank gets none.
    extents : callable
        From the number of ranks to the extent along the axis of each rank's operand.
    op : str
        Its operator, if it has one.
    has_axis, has_out, has_like, is_started : bool
        Whether it has an axis, the argument `out`, the argument `like`, a form that returns at once.
    """

    call: Callable[[Call], Any]
    want: Callable[[list[np.ndarray], int, int], Any]
    extents: Callable[[int], tuple[int, ...]] = field(default=lambda p: (2,) * p)
    op: str = "sum"
    has_axis: bool = True
    has_out: bool = True
    has_like: bool = False
    is_started: bool = True


def part(whole: np.ndarray, counts: tuple[int, ...], rank: int, axis: int) -> np.ndarray:
    """Return a rank's block of an array."""
    start = sum(counts[:rank])
    return np.take(whole, range(start, start + counts[rank]), axis)


def on_root(value: Any, rank: int, blocks: list[np.ndarray]) -> Any:
    """Return a value on the last rank only."""
    return value if rank == len(blocks) - 1 else None


def only(call: Call) -> Any:
    """Return the operand on the last rank, None on the others."""
    return call.x if call.comm.rank == call.comm.size - 1 else None


def sent_counts(rank: int, p: int) -> tuple[int, ...]:
    """Return what a rank sends to each: uneven, with zeros, not symmetric."""
    return tuple((rank + 2 * dest) % 4 for dest in range(p))


def received_counts(rank: int, p: int) -> tuple[int, ...]:
    """Return what a rank gets from each."""
    return tuple(sent_counts(source, p)[rank] for source in range(p))


def exchanged(blocks: list[np.ndarray], rank: int, axis: int) -> np.ndarray:
    """Return what alltoallv gives a rank."""
    p = len(blocks)
    pieces = [part(values, sent_counts(source, p), rank, axis) for source, values in enumerate(blocks)]
    return np.concatenate(pieces, axis)


def halved(blocks: list[np.ndarray], rank: int, axis: int) -> np.ndarray:
    """Return what alltoall gives a rank: two rows of each."""
    p = len(blocks)
    return np.concatenate([part(values, (2,) * p, rank, axis) for values in blocks], axis)


def bcast(call: Call) -> Any:
    """Broadcast from the last rank into `out` elsewhere."""
    root = call.comm.size - 1
    return call("bcast", call.x if call.comm.rank == root else call.out, root)


def message(call: Call) -> Any:
    """Send to the next rank, receive from the one before."""
    comm = call.comm
    after, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    if not call.is_started:
        return comm.sendrecv(call.x, after, call.out, before, tag=3)
    outgoing, incoming = comm.isend(call.x, after, tag=3), comm.irecv(call.out, before, tag=3)
    outgoing.wait()
    return incoming.wait()


def around(call: Call) -> Any:
    """Let all blocks pass by; return them in the order of their owners."""
    # Copies: a block that passes by is good until the next one.
    seen = {
        owner: copy.deepcopy(passing)
        for owner, passing in call.comm.ring(call.x, uneven(call.comm.size), axis=call.axis)
    }
    return [seen[owner] for owner in range(call.comm.size)]


def boxes(shape: tuple[int, ...], counts: tuple[int, ...], axis: int) -> tuple:
    """Return the placement that divides an array along an axis."""
    whole = [(0, extent) for extent in shape]
    starts = [sum(counts[:rank]) for rank in range(len(counts))]
    return tuple(
        tuple((start, start + n) if at == axis else span for at, span in enumerate(whole))
        for start, n in zip(starts, counts)
    )


def redistributed_counts(extent: int, p: int) -> tuple[int, ...]:
    """Return an uneven division of an extent."""
    own = [0] * p
    for i in range(extent):
        own[(i * i) % p] += 1
    return tuple(own)


def redistribute(call: Call) -> Any:
    """Change the axis along which the array is divided to the next one."""
    p, ndim = call.comm.size, len(call.x.shape)
    axis, target = call.axis % ndim, (call.axis + 1) % ndim
    counts = cycle(UNEVEN, p)
    shape = tuple(sum(counts) if at == axis else int(n) for at, n in enumerate(call.x.shape))
    src = boxes(shape, counts, axis)
    dst = boxes(shape, redistributed_counts(shape[target], p), target)
    return call.comm.redistribute(call.x, plan_redistribution(src, dst), out=call.out)


def redistributed(blocks: list[np.ndarray], rank: int, axis: int) -> np.ndarray:
    """Return what `redistribute` gives a rank."""
    whole = np.concatenate(blocks, axis)
    target = (axis + 1) % whole.ndim
    return part(whole, redistributed_counts(whole.shape[target], len(blocks)), rank, target)


def haloed(blocks: list[np.ndarray], rank: int, axis: int) -> np.ndarray:
    """Return a rank's block with up to two rows before and one after it."""
    whole = np.moveaxis(np.concatenate(blocks, axis), axis, 0)
    counts = cycle(UNEVEN, len(blocks))
    rows = with_halo(whole, sum(counts[:rank]), counts[rank], 2, 1, False)
    return np.moveaxis(rows, 0, axis)


def uneven(p: int) -> tuple[int, ...]:
    """Extents of blocks, zeros among them."""
    return cycle(UNEVEN, p)


def in_all(p: int) -> tuple[int, ...]:
    """Extents of operands that hold an uneven block for each rank."""
    return (sum(uneven(p)),) * p


def twice(p: int) -> tuple[int, ...]:
    """Extents of operands that hold two rows for each rank."""
    return (2 * p,) * p


ROWS = {
    "allreduce": Row(
        lambda c: c("allreduce", c.x, out=c.out), lambda b, r, a: expected("sum", b), has_axis=False
    ),
    "allreduce max": Row(
        lambda c: c("allreduce", c.x, "max", out=c.out),
        lambda b, r, a: expected("max", b),
        op="max",
        has_axis=False,
    ),
    "allreduce lor": Row(
        lambda c: c("allreduce", c.x, "lor", out=c.out),
        lambda b, r, a: expected("lor", b),
        op="lor",
        has_axis=False,
    ),
    "reduce": Row(
        lambda c: c("reduce", c.x, root=c.comm.size - 1, out=c.out),
        lambda b, r, a: on_root(expected("sum", b), r, b),
        has_axis=False,
    ),
    "scan": Row(
        lambda c: c("scan", c.x, out=c.out), lambda b, r, a: expected("sum", b[: r + 1]), has_axis=False
    ),
    "exscan": Row(
        lambda c: c("exscan", c.x, out=c.out),
        lambda b, r, a: expected("sum", b[:r]) if r else np.zeros_like(b[0]),
        has_axis=False,
    ),
    "bcast": Row(bcast, lambda b, r, a: b[-1], has_axis=False),
    "message": Row(message, lambda b, r, a: b[r - 1], has_axis=False),
    "allgather": Row(
        lambda c: c("allgather", c.x, axis=c.axis, out=c.out), lambda b, r, a: np.concatenate(b, a)
    ),
    "allgatherv": Row(
        lambda c: c("allgatherv", c.x, uneven(c.comm.size), axis=c.axis, out=c.out),
        lambda b, r, a: np.concatenate(b, a),
        uneven,
    ),
    "gather": Row(
        lambda c: c("gather", c.x, axis=c.axis, root=c.comm.size - 1, out=c.out),
        lambda b, r, a: on_root(np.concatenate(b, a), r, b),
    ),
    "gatherv": Row(
        lambda c: c("gatherv", c.x, uneven(c.comm.size), axis=c.axis, root=c.comm.size - 1, out=c.out),
        lambda b, r, a: on_root(np.concatenate(b, a), r, b),
        uneven,
    ),
    "scatter": Row(
        lambda c: c("scatter", only(c), axis=c.axis, root=c.comm.size - 1, like=c.like),
        lambda b, r, a: part(b[-1], (2,) * len(b), r, a),
        twice,
        has_out=False,
        has_like=True,
    ),
    "scatterv": Row(
        lambda c: c("scatterv", only(c), uneven(c.comm.size), axis=c.axis, root=c.comm.size - 1, like=c.like),
        lambda b, r, a: part(b[-1], uneven(len(b)), r, a),
        in_all,
        has_out=False,
        has_like=True,
    ),
    "alltoall": Row(lambda c: c("alltoall", c.x, axis=c.axis, out=c.out), halved, twice),
    "alltoallv": Row(
        lambda c: c(
            "alltoallv",
            c.x,
            sent_counts(c.comm.rank, c.comm.size),
            received_counts(c.comm.rank, c.comm.size),
            axis=c.axis,
            out=c.out,
        ),
        exchanged,
        lambda p: tuple(sum(sent_counts(rank, p)) for rank in range(p)),
    ),
    "reduce_scatter": Row(
        lambda c: c("reduce_scatter", c.x, axis=c.axis, out=c.out),
        lambda b, r, a: part(expected("sum", b), (2,) * len(b), r, a),
        twice,
    ),
    "reduce_scatterv": Row(
        lambda c: c("reduce_scatterv", c.x, uneven(c.comm.size), axis=c.axis, out=c.out),
        lambda b, r, a: part(expected("sum", b), uneven(len(b)), r, a),
        in_all,
    ),
    "halo": Row(
        lambda c: c.comm.halo(c.x, 2, 1, uneven(c.comm.size), axis=c.axis, out=c.out),
        haloed,
        uneven,
        is_started=False,
    ),
    "ring": Row(around, lambda b, r, a: b, uneven, has_out=False, is_started=False),
    "redistribute": Row(redistribute, redistributed, uneven, is_started=False),
}
NEEDS_OUT = ("bcast", "message")


def operands(
    row: Row, p: int, shape: tuple[int, ...], axis: int, dtype: str, layout: str
) -> list[np.ndarray]:
    """Return what every rank holds."""
    found = []
    for rank, extent in enumerate(row.extents(p)):
        own = list(shape)
        if row.has_axis:
            own[axis] = extent
        if layout != "expanded":
            found.append(block(rank, tuple(own), dtype))
            continue
        narrow = list(own)
        if own:
            narrow[(axis + 1) % len(own)] = min(1, narrow[(axis + 1) % len(own)])
        found.append(np.broadcast_to(block(rank, tuple(narrow), dtype), own))
    return found


def check(comm, library, name, shape, axis, dtype, layout, choice):
    """Make one call and compare with NumPy; `choice` draws what is not crossed, alike on all ranks."""
    row = ROWS[name]
    rank = comm.rank
    blocks = operands(row, comm.size, shape, axis, dtype, layout)
    want = row.want(blocks, rank, axis)
    out_layout = choice.choice(library.layouts)
    is_started = row.is_started and choice.random() < 0.5
    has_out = name in NEEDS_OUT or (row.has_out and choice.random() < 0.6)
    has_like = row.has_like and (is_started or choice.random() < 0.5)
    told = f"{name} {shape} axis {axis} {dtype} {layout} to {out_layout if has_out else None} started={is_started}"
    x = library.view(blocks[rank], dtype, layout)
    out, base = (
        library.empty(np.shape(want), dtype, out_layout) if has_out and want is not None else (None, None)
    )
    like = library.make(want, dtype) if has_like else None
    result = row.call(Call(comm, x, out, axis, is_started, like))
    if name == "ring":
        for mine, passing in zip(want, result, strict=True):
            np.testing.assert_array_equal(library.read(passing), mine, err_msg=told)
    elif want is None:
        assert result is None, told
    else:
        np.testing.assert_array_equal(library.read(result), want, err_msg=told)
        assert library.is_same_type(result, x), told
    np.testing.assert_array_equal(library.read(x), blocks[rank], err_msg=f"{told}: x changed")
    if out is not None and result is not x:
        assert result is out, told
        assert is_untouched(library, out, base), told


class MatrixContract:
    """Collective x element type x layout, and shape x layout; blocking or not, and where to, are drawn by lot.

    Axes go round, as in a Latin square: every axis meets every element type and every layout on any number of ranks,
    and all triples occur on groups of 1, 2 and 3 ranks together.

    Attributes
    ----------
    slices_tensors : bool
        False for a transport that hands tensors to something that takes them at any length.
    """

    slices_tensors = True

    @pytest.mark.parametrize("name", ROWS)
    def test_every_dtype_layout_and_axis(self, run, library, name, monkeypatch):
        row = ROWS[name]

        def body(comm):
            choice = random.Random(name)
            for i, dtype in enumerate(filter(functools.partial(is_defined, row.op), library.dtypes)):
                for j, layout in enumerate(library.views_of(dtype)):
                    axis = (i + j + comm.size) % 3 if row.has_axis else 0
                    check(comm, library, name, (2, 3, 4), axis, dtype, layout, choice)

        monkeypatch.setattr(
            "ht_comm.config.slice_bytes", 160
        )  # short types travel whole, long ones in slices
        run(body)

    @pytest.mark.parametrize("name", ROWS)
    def test_every_shape_and_layout(self, run, library, limit, name):
        row = ROWS[name]
        dtype = "float64" if is_defined(row.op, "float64") else "int64"

        def body(comm):
            choice = random.Random(name)
            for i, shape in enumerate(SHAPES[1:] if row.has_axis else SHAPES):
                axes = (*range(len(shape)), -1) if row.has_axis else (0,)
                for j, layout in enumerate(library.views_of(dtype)):
                    axis = axes[(i + j + comm.size + 2 * (limit is None)) % len(axes)]
                    check(comm, library, name, shape, axis, dtype, layout, choice)

        run(body)

    @pytest.mark.parametrize("name", ROWS)
    def test_no_message_is_longer_than_a_slice(self, run, library, name, monkeypatch):
        row, limit = ROWS[name], 96

        def body(comm):
            shape, axis = (6, 5, 4), 1
            for is_started in (False, True)[: 1 + row.is_started]:
                dtype = "float64" if is_defined(row.op, "float64") else "int64"
                blocks = operands(row, comm.size, shape, axis, dtype, "C")
                want = row.want(blocks, comm.rank, axis)
                out = library.make(np.zeros_like(want)) if name in NEEDS_OUT else None
                like = library.make(want, dtype) if row.has_like else None
                with comm.trace() as t:
                    row.call(Call(comm, library.make(blocks[comm.rank], dtype), out, axis, is_started, like))
                assert t.bytes <= limit * t.messages, f"{t.messages} messages of {t.bytes} bytes"
                sent = sum(comm.allgather_object(t.bytes))
                assert comm.size == 1 or sent > limit  # else it would prove nothing

        monkeypatch.setattr("ht_comm.config.slice_bytes", limit)
        if self.slices_tensors or library.name == "numpy":
            run(body)

    @pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.has_axis])
    def test_arrays_without_axes_are_refused(self, run, library, name):
        def body(comm):
            x = library.make(np.array(1.0))
            for is_started in (False, True)[: 1 + ROWS[name].is_started]:
                with comm.trace() as t, pytest.raises(ValueError, match="x must have at least one axis"):
                    ROWS[name].call(Call(comm, x, None, 0, is_started, x))
                assert t.messages == 0

        if name != "redistribute":
            run(body)
