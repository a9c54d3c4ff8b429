"""Gradients of every collective: against difference quotients and exactly, to second order, and what they cost."""

import numpy as np
import pytest
from ht_comm import plan_redistribution, spmd
from ht_comm.adjoints import TABLE
from ht_comm.testing import (
    boxes,
    cut,
    placements,
    replicated_placement,
    shapes,
    split_placement,
)
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
from ht_comm.autograd import Tape  # noqa: E402
from ht_comm.gradcheck import dist_gradcheck  # noqa: E402


def uneven(p):
    """Extents of p <= 4 blocks that sum to 2 p; one is empty where there are several."""
    return {1: (2,), 2: (4, 0), 3: (0, 5, 1), 4: (3, 0, 4, 1)}[p]


def numbers(comm, *shape, dtype=torch.float64, seed=0):
    """Return this rank's operand, different on every rank."""
    generator = torch.Generator().manual_seed(1000 * seed + comm.rank)
    return torch.randn(shape, dtype=dtype, generator=generator).requires_grad_()


def same(comm, *shape, dtype=torch.float64, seed=0):
    """Return an operand that is equal on all ranks."""
    generator = torch.Generator().manual_seed(1000 * seed + 999)
    return torch.randn(shape, dtype=dtype, generator=generator).requires_grad_()


def weigh(comm, y, is_same=False):
    """Return a scalar that is not linear in any element of `y` and treats each differently."""
    if y is None:
        return None
    weights = torch.arange(1.0, y.numel() + 1, dtype=torch.float64).reshape(y.shape)
    weights = torch.cos(weights + (0 if is_same else 7 * comm.rank))
    if y.is_complex():
        return (weights * (y.real**2 * 0.3 + torch.sin(y.imag) * y.real)).sum()
    return (weights * torch.sin(y.double())).sum()


def chunk(comm, n, axis, *rest):
    """Return the shape of this rank's block."""
    shape = list(rest)
    shape.insert(axis, n)
    return tuple(shape)


def halo(shape, parts):
    """Return the boxes of blocks of rows, each widened by a row on either side."""
    return tuple(
        ((max(start - 1, 0), min(stop + 1, shape[0])), *rest)
        for (start, stop), *rest in split_placement(shape, 0, parts)
    )


def counts_of(comm):
    return uneven(comm.size)


def block_of(comm, axis=0, rest=(2,), **options):
    return numbers(comm, *chunk(comm, counts_of(comm)[comm.rank], axis, *rest), **options)


def whole_of(comm, axis=0, rest=(2,), **options):
    return numbers(comm, *chunk(comm, sum(counts_of(comm)), axis, *rest), **options)


def plan_of(comm, src, dst):
    shape = (2 * comm.size, 3)
    parts = {0: counts_of(comm), 1: (3, *(0,) * (comm.size - 1))}

    def place(what):
        if what is None:
            return replicated_placement(shape, comm.size)
        if what == "halo":
            return halo(shape, (2,) * comm.size)
        if what == "part":
            return split_placement(shape, 1, (1, *(0,) * (comm.size - 1)))
        return split_placement(shape, what, parts[what])

    return plan_redistribution(place(src), place(dst))


def placed(comm, plan, **options):
    return numbers(comm, *(stop - start for start, stop in plan.src[comm.rank]), **options)


def transfers(comm):
    """Counts of an alltoallv in which rank i sends (i + 2 j) % 3 to rank j."""
    p, r = comm.size, comm.rank
    return [(r + 2 * j) % 3 for j in range(p)], [(i + 2 * r) % 3 for i in range(p)]


def around(comm):
    return (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size


def open_ends(comm):
    return (comm.rank + 1 if comm.rank + 1 < comm.size else None), (comm.rank - 1 if comm.rank else None)


def send_on(tape, x):
    """Pass a tensor from rank to rank, each adding its own."""
    comm = tape.comm
    if comm.rank:
        x = x * tape.recv(x.detach(), comm.rank - 1, tag=3)
    if comm.rank + 1 < comm.size:
        tape.send(x, comm.rank + 1, tag=3)
    return x * 1


# Collectives on rank-local values: name -> (operand of a rank, call).
LOCAL = {
    "allreduce": (lambda c, **o: numbers(c, 2, 2, **o), lambda t, x: t.allreduce(x)),
    "reduce": (lambda c, **o: numbers(c, 3, **o), lambda t, x: t.reduce(x, root=t.comm.size - 1)),
    "bcast": (lambda c, **o: numbers(c, 2, 2, **o), lambda t, x: t.bcast(x, t.comm.size - 1)),
    "allgather": (lambda c, **o: numbers(c, 2, 2, **o), lambda t, x: t.allgather(x, axis=-1)),
    "allgatherv": (block_of, lambda t, x: t.allgatherv(x, counts_of(t.comm))),
    "allgatherv axis 1": (
        lambda c, **o: block_of(c, 1, (3,), **o),
        lambda t, x: t.allgatherv(x, counts_of(t.comm), axis=1),
    ),
    "reduce_scatterv": (whole_of, lambda t, x: t.reduce_scatterv(x, counts_of(t.comm))),
    "reduce_scatterv axis 1": (
        lambda c, **o: whole_of(c, 1, (3,), **o),
        lambda t, x: t.reduce_scatterv(x, counts_of(t.comm), axis=-1),
    ),
    "gatherv": (block_of, lambda t, x: t.gatherv(x, counts_of(t.comm), root=t.comm.size - 1)),
    "scatterv": (
        whole_of,
        lambda t, x: t.scatterv(
            x if t.comm.rank == t.comm.size - 1 else None, counts_of(t.comm), root=t.comm.size - 1
        ),
    ),
    "scatterv like": (
        lambda c, **o: whole_of(c, 1, (2,), **o),
        lambda t, x: t.scatterv(x, counts_of(t.comm), axis=1, like=x.detach()),
    ),
    "gather": (
        lambda c, **o: numbers(c, 2, 2, **o),
        lambda t, x: t.gather(x, axis=1, root=t.comm.size - 1),
    ),
    "scatter": (
        lambda c, **o: numbers(c, 2, 2 * c.size, **o),
        lambda t, x: t.scatter(x if t.comm.rank == 0 else None, axis=1),
    ),
    "scatter like": (
        lambda c, **o: numbers(c, 2, 2 * c.size, **o),
        lambda t, x: t.scatter(x, axis=-1, root=t.comm.size - 1, like=x.detach()[:, :2]),
    ),
    "alltoall": (lambda c, **o: numbers(c, c.size, 2, **o), lambda t, x: t.alltoall(x)),
    "reduce_scatter": (
        lambda c, **o: numbers(c, 1, 2 * c.size, **o),
        lambda t, x: t.reduce_scatter(x, axis=-1),
    ),
    "alltoallv": (
        lambda c, **o: numbers(c, 2, sum(transfers(c)[0]), **o),
        lambda t, x: t.alltoallv(x, *transfers(t.comm), axis=1),
    ),
    "sendrecv": (
        lambda c, **o: numbers(c, 3, **o),
        lambda t, x: t.sendrecv(x, around(t.comm)[0], x, around(t.comm)[1]),
    ),
    "sendrecv open": (
        lambda c, **o: numbers(c, 3, **o),
        lambda t, x: t.sendrecv(x, open_ends(t.comm)[0], x, open_ends(t.comm)[1]),
    ),
    "send, recv": (lambda c, **o: numbers(c, 2, **o), send_on),
    "scan": (lambda c, **o: numbers(c, 2, 2, **o), lambda t, x: t.scan(x)),
    "exscan": (lambda c, **o: numbers(c, 3, **o), lambda t, x: t.exscan(x)),
    "redistribute": (
        lambda c, **o: placed(c, plan_of(c, 0, 1), **o),
        lambda t, x: t.redistribute(x, plan_of(t.comm, 0, 1)),
    ),
    "redistribute to replicated": (
        lambda c, **o: placed(c, plan_of(c, 0, None), **o),
        lambda t, x: t.redistribute(x, plan_of(t.comm, 0, None)),
    ),
    "redistribute from replicated": (
        lambda c, **o: placed(c, plan_of(c, None, 1), **o),
        lambda t, x: t.redistribute(x, plan_of(t.comm, None, 1)),
    ),
    "halo": (
        lambda c, **o: placed(c, plan_of(c, 0, "halo"), **o),
        lambda t, x: t.redistribute(x, plan_of(t.comm, 0, "halo")),
    ),
    "redistribute a part": (
        lambda c, **o: placed(c, plan_of(c, 0, "part"), **o),
        lambda t, x: t.redistribute(x, plan_of(t.comm, 0, "part")),
    ),
    "0-d": (lambda c, **o: numbers(c, **o), lambda t, x: t.allreduce(x)),
}
REAL = {
    "max": (lambda c, **o: numbers(c, 3, 2, **o), lambda t, x: t.allreduce(x, "max")),
    "min": (lambda c, **o: numbers(c, 4, **o), lambda t, x: t.allreduce(x, "min")),
    "moments": (
        lambda c, **o: numbers(c, 2, 5, **o).detach().abs().requires_grad_(),
        lambda t, x: t.allreduce(x, "moments"),
    ),
}
PRODUCT = {"prod": (lambda c, **o: numbers(c, 3, **o), lambda t, x: t.allreduce(x, "prod"))}
CASES = LOCAL | REAL | PRODUCT


# Replicated values: name -> (operand, is it replicated, call, is the result replicated).
REPLICATED = {
    "allreduce": (
        lambda c, **o: numbers(c, 3, **o),
        False,
        lambda t, x: t.allreduce(x, replicated=True),
        True,
    ),
    "max": (
        lambda c, **o: numbers(c, 3, **o),
        False,
        lambda t, x: t.allreduce(x, "max", replicated=True),
        True,
    ),
    "prod": (
        lambda c, **o: numbers(c, 3, **o),
        False,
        lambda t, x: t.allreduce(x, "prod", replicated=True),
        True,
    ),
    "moments": (REAL["moments"][0], False, lambda t, x: t.allreduce(x, "moments", replicated=True), True),
    "bcast": (lambda c, **o: numbers(c, 3, **o), False, lambda t, x: t.bcast(x, replicated=True), True),
    "allgatherv": (block_of, False, lambda t, x: t.allgatherv(x, counts_of(t.comm), replicated=True), True),
    "to_local": (lambda c, **o: same(c, 3, **o), True, lambda t, x: t.to_local(x) * (t.comm.rank + 1), False),
    "block": (
        lambda c, **o: same(c, 2, sum(counts_of(c)), **o),
        True,
        lambda t, x: t.block(x, counts_of(t.comm), axis=1),
        False,
    ),
    "redistribute": (
        lambda c, **o: placed(c, plan_of(c, 0, 1), **o),
        False,
        lambda t, x: t.redistribute(x, plan_of(t.comm, 0, 1), replicated=True),
        False,
    ),
    "redistribute to replicated": (
        lambda c, **o: placed(c, plan_of(c, 0, None), **o),
        False,
        lambda t, x: t.redistribute(x, plan_of(t.comm, 0, None), replicated=True),
        True,
    ),
    "redistribute from replicated": (
        lambda c, **o: same(c, 2 * c.size, 3, **o),
        True,
        lambda t, x: t.redistribute(x, plan_of(t.comm, None, 1), replicated=True),
        False,
    ),
}


def check_case(comm, name, dtype=torch.float64):
    make, call = CASES[name]
    return dist_gradcheck(lambda t, x: weigh(comm, call(t, x * 1.5)), comm, [make(comm, dtype=dtype)])


def check_replicated(comm, name, dtype=torch.float64):
    make, is_input_one, call, is_result_one = REPLICATED[name]
    return dist_gradcheck(
        lambda t, x: weigh(comm, call(t, x * 1.5), is_result_one),
        comm,
        [make(comm, dtype=dtype)],
        replicated=[0] if is_input_one else [],
        is_loss_replicated=is_result_one,
    )


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("name", CASES)
def test_gradients(name, p):
    spmd(p, check_case, name)


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("name", REPLICATED)
def test_gradients_of_replicated_values(name, p):
    spmd(p, check_replicated, name)


@pytest.mark.parametrize("name", [*LOCAL, "prod"])
def test_complex_gradients(name):
    spmd(2, check_case, name, torch.complex128)


@pytest.mark.mpi(ranks=[2, 3])
def test_gradients_on_mpi_ranks(comm):
    for name in CASES:
        check_case(comm, name)
    for name in REPLICATED:
        check_replicated(comm, name)


# ----- the table


@pytest.mark.parametrize("name", [n for n in LOCAL if n not in ("send, recv",)])
def test_rows_are_adjoint(name):
    """Sum over ranks of <A x, y> equals that of <x, A* y>, exactly: all numbers are small integers."""

    def body(comm):
        make, call = LOCAL[name]
        x = make(comm).detach().mul(4).round().requires_grad_()
        with Tape(comm) as tape:
            result = call(tape, x)
            y = (
                None
                if result is None
                else torch.arange(1.0, result.numel() + 1).reshape(result.shape).double()
            )
            left = 0.0 if result is None else float((result * y).sum().detach())
            (back,) = tape.grad(result, [x], y)
        return left, float((x * back).sum().detach())

    left, right = zip(*spmd(3, body))
    assert sum(left) == sum(right)


def test_the_table_is_closed():
    assert all(TABLE[row.adjoint].adjoint == name for name, row in TABLE.items())


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.data(), shapes(), st.integers(1, 4))
def test_any_redistribution_has_its_adjoint(data, shape, p):
    src = data.draw(placements(shape, p))
    plan = plan_redistribution(src, tuple(data.draw(boxes(shape)) for _ in range(p)))

    def body(comm):
        x = placed(comm, plan).detach().mul(4).round().requires_grad_()
        with Tape(comm) as tape:
            result = tape.redistribute(x, plan)
            y = torch.arange(1.0, result.numel() + 1).reshape(result.shape).double()
            left = float((result * y).sum().detach())
            (back,) = tape.grad(result, [x], y)
        return left, float((x * back).sum().detach())

    left, right = zip(*spmd(p, body))
    assert sum(left) == sum(right)


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.data(), shapes(min_dims=1), st.integers(1, 4))
def test_gradients_of_one_logical_value_are_one(data, shape, p):
    """The gradient of the inner product with an array is this array, wherever its parts lie."""
    src, dst = data.draw(placements(shape, p)), data.draw(placements(shape, p))
    plan = plan_redistribution(src, dst)
    whole = torch.arange(1.0, np.prod(shape, dtype=int) + 1).reshape(shape)

    def body(comm):
        x = torch.zeros_like(cut(whole, src[comm.rank])).requires_grad_()
        with Tape(comm) as tape:
            y = tape.redistribute(x, plan, replicated=True)
            tape.backward((y * cut(whole, dst[comm.rank])).sum())
        assert torch.equal(x.grad, cut(whole, src[comm.rank]))

    spmd(p, body)


# ----- higher derivatives


def second_order(comm, call, make, **options):
    """Check the gradient of a fixed combination of the gradient's elements."""

    def fn(tape, x):
        loss = weigh(comm, call(tape, x * 1.5))
        (gradient,) = tape.grad(loss, [x], create_graph=True)
        return weigh(comm, gradient)

    return dist_gradcheck(fn, comm, [make(comm)], **options)


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives(name):
    make, call = CASES[name]
    spmd(2, second_order, call, make)


def test_second_derivatives_of_replicated_values():
    def fn(tape, w, x):
        y = tape.allreduce((tape.to_local(w) * x).sin(), replicated=True)
        (gradient,) = tape.grad((y**3).sum(), [w], create_graph=True)
        return (gradient**2 * w).sum()

    def body(comm):
        return dist_gradcheck(
            fn, comm, [same(comm, 2), numbers(comm, 2)], replicated=[0], is_loss_replicated=True
        )

    spmd(3, body)


@pytest.mark.filterwarnings("ignore:Using backward.* with create_graph=True")
def test_backward_through_backward():
    def body(comm):
        x = numbers(comm, 2)
        with Tape(comm) as tape:
            loss = (tape.allreduce(x) ** 3).sum()
            tape.backward(loss, create_graph=True)
            first = x.grad
            x.grad = None
            tape.backward((first**2).sum() if comm.rank == 0 else None)
        return x.detach(), x.grad

    results = spmd(2, body)
    s = sum(x for x, _ in results)
    # loss counts on both ranks: first = 6 s^2; its square counts on rank 0 only: d(36 s^4) = 144 s^3
    for _, gradient in results:
        torch.testing.assert_close(gradient, 144 * s**3)


# ----- same values and messages as without a tape


@pytest.mark.parametrize("name", CASES)
def test_without_gradients_a_tape_is_a_communicator(name):
    def body(comm):
        make, call = CASES[name]
        x = make(comm)
        with Tape(comm) as tape:
            recorded = call(tape, x)
            tape.clear()
            with torch.no_grad(), comm.trace() as trace:
                plain = call(tape, x)
            if plain is not None:
                assert not plain.requires_grad
                assert recorded.requires_grad
                torch.testing.assert_close(recorded.detach(), plain, rtol=1e-14, atol=0)
            assert tape._chain.last is tape._chain.first
        return [event.op for event in trace.events]

    calls = spmd(2, body)
    assert all(len(ops) == 1 for ops in calls) or name in ("send, recv", "sendrecv open", "sendrecv")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("allreduce", ["allreduce"]),
        ("reduce", ["bcast"]),
        ("bcast", ["reduce"]),
        ("allgatherv", ["reduce_scatterv"]),
        ("reduce_scatterv", ["allgatherv"]),
        ("gatherv", ["scatterv"]),
        ("scatterv", ["gatherv"]),
        ("alltoallv", ["alltoallv"]),
        ("scan", ["alltoallv", "scan", "alltoallv"]),
        ("redistribute", ["redistribute"]),
        ("halo", ["alltoallv"]),
        ("max", ["allreduce"]),
        ("prod", ["reduce_scatterv"]),
    ],
)
def test_messages_of_the_backward_pass(name, expected):
    def body(comm):
        make, call = CASES[name]
        with Tape(comm) as tape:
            loss = weigh(comm, call(tape, make(comm)))
            with comm.trace() as trace:
                tape.backward(loss)
        return [event.op for event in trace.events]

    assert spmd(2, body) == [expected] * 2


def test_replicated_results_need_no_message_backward():
    def body(comm, name):
        make, _, call, _ = REPLICATED[name]
        with Tape(comm) as tape:
            loss = weigh(comm, call(tape, make(comm)), True)
            with comm.trace() as trace:
                tape.backward(loss)
        return trace.calls

    for name in ("allreduce", "max", "prod", "bcast", "allgatherv"):
        assert spmd(2, body, name) == [0, 0]
