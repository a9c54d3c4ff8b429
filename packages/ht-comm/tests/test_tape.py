"""Tapes: graphs that differ between ranks, checkpoints, what is kept for how long, what is refused."""

import gc
import weakref

import numpy as np
import pytest
from ht_comm import CommError, plan_redistribution, spmd
from ht_comm.testing import assert_same_error_on_all_ranks, split_placement

torch = pytest.importorskip("torch")
from ht_comm.autograd import Tape  # noqa: E402
from ht_comm.gradcheck import dist_gradcheck  # noqa: E402


def numbers(comm, *shape, dtype=torch.float64, seed=0):
    """Return this rank's operand, different on every rank."""
    generator = torch.Generator().manual_seed(1000 * seed + comm.rank)
    return torch.randn(shape, dtype=dtype, generator=generator).requires_grad_()


def around(comm):
    """Return the next and the previous rank of the ring."""
    return (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size


# ----- graphs that differ between ranks


@pytest.mark.parametrize("p", [2, 3])
def test_unused_results(p):
    def body(comm):
        counts = tuple(range(comm.size))
        block = numbers(comm, counts[comm.rank])

        def fn(tape, x):
            gathered = tape.allgatherv(x, counts)
            total = tape.allreduce(gathered)
            return (gathered**2).sum() if comm.rank == 0 else None if comm.rank == 1 else total.sin().sum()

        return dist_gradcheck(fn, comm, [block])

    spmd(p, body)


@pytest.mark.parametrize("p", [2, 3])
def test_detached_ranks(p):
    def fn(tape, x):
        y = tape.allreduce(x**2)
        loss = (y * x).sum()
        return loss.detach() if tape.comm.rank == 0 else loss

    spmd(p, lambda comm: dist_gradcheck(fn, comm, [numbers(comm, 3)]))


@pytest.mark.parametrize("p", [2, 3])
def test_operands_without_gradient_on_some_ranks(p):
    def body(comm):
        x = numbers(comm, 3)
        if comm.rank == 0:
            x = x.detach()
        return dist_gradcheck(lambda t, x: (t.scan(x) * t.allreduce(x)).sum(), comm, [x])

    spmd(p, body)


@pytest.mark.parametrize("p", [2, 3])
def test_results_used_in_another_order(p):
    def fn(tape, x):
        a, b = tape.allreduce(x), tape.scan(x.sin())
        steps = [lambda z: z * a, lambda z: z + b, lambda z: (z * b).sin()]
        z = x
        for step in steps if tape.comm.rank else reversed(steps):
            z = step(z)
        return z.sum()

    spmd(p, lambda comm: dist_gradcheck(fn, comm, [numbers(comm, 3)]))


def test_no_rank_has_a_loss():
    def body(comm):
        x = numbers(comm, 2)
        with Tape(comm) as tape:
            tape.backward(None)
            tape.allreduce(x)
            tape.backward(None)
            tape.allreduce(x)
            (gradient,) = tape.grad(torch.tensor(1.0), [x])
        return x.grad.tolist(), gradient.tolist()

    assert spmd(2, body) == [([0, 0], [0, 0])] * 2


@pytest.mark.mpi(ranks=[2, 3])
def test_graphs_that_differ_on_mpi_ranks(comm):
    def fn(tape, x, w):
        total = tape.allreduce(x * w)
        scanned = tape.scan(w)
        moved = tape.sendrecv(w, around(comm)[0], w, around(comm)[1])
        if comm.rank == 0:
            return (moved * total * total).sum()
        return (scanned * total).sin().sum().detach() if comm.rank == 1 else None

    x = numbers(comm, 3)
    dist_gradcheck(fn, comm, [x.detach() if comm.rank == 1 else x, numbers(comm, 3, seed=1)])


def test_several_communicators_on_one_chain():
    def body(comm):
        with comm.split(comm.rank % 2) as part:

            def fn(tape, x):
                inner = tape.on(part)
                y = inner.allreduce(x * x) if comm.rank % 2 else inner.scan(x)
                z = tape.allreduce(y)
                y = inner.allreduce(z.sin() * x)
                return y.sum() if comm.rank == 1 else None

            return dist_gradcheck(fn, comm, [numbers(comm, 2)])

    spmd(3, body)


# ----- ties, zeros, NaN, types


@pytest.mark.parametrize("op", ["max", "min"])
def test_ties_share_the_gradient(op):
    def body(comm):
        x = torch.tensor([1.0, float(comm.rank == 2), torch.nan if comm.rank else 1.0]).requires_grad_()
        with Tape(comm) as tape:
            y = tape.allreduce(x, op, replicated=True)
            tape.backward(y.sum())
        return x.grad.tolist()

    gradients = np.array(spmd(3, body))
    np.testing.assert_allclose(gradients.sum(0), 1, rtol=1e-6)
    np.testing.assert_allclose(gradients[:, 0], 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(gradients[:, 1], [0, 0, 1] if op == "max" else [0.5, 0.5, 0])
    np.testing.assert_allclose(gradients[:, 2], [0, 0.5, 0.5])


def test_products_with_zeros():
    def body(comm):
        x = (
            torch.tensor([0.0, 2.0, 3.0, 0.0] if comm.rank else [5.0, 0.0, 4.0, 0.0])
            .double()
            .requires_grad_()
        )
        with Tape(comm) as tape:
            tape.backward(tape.allreduce(x, "prod", replicated=True).sum())
        return x.grad.tolist()

    assert spmd(2, body) == [[0, 2, 3, 0], [5, 0, 4, 0]]


def test_moments_of_empty_ranks():
    def body(comm):
        record = [0.0, torch.nan, torch.nan] if comm.rank == 1 else [2.0, 1.0 + comm.rank, 0.5]
        x = torch.tensor(record).double().requires_grad_()
        with Tape(comm) as tape:
            y = tape.allreduce(x, "moments", replicated=True)
            tape.backward(y[2])
        np.testing.assert_allclose(y.detach(), comm.allreduce(x.detach(), "moments"), rtol=1e-14)
        return x.grad.tolist()

    _, empty, last = spmd(3, body)
    assert empty[1:] == [0, 0]
    # M2 = .. + n_2 (mean_2 - mean)^2 with mean = 2: 2 * 2 * 1
    np.testing.assert_allclose(last, [1.0, 4.0, 1.0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.complex64])
def test_other_types(dtype):
    def body(comm):
        x = torch.ones(3, dtype=dtype, requires_grad=True)
        with Tape(comm) as tape:
            y = tape.scan(tape.allreduce(x)[::2])
            tape.backward(y.real.sum())
        assert y.dtype == dtype
        assert x.grad.dtype == dtype
        return x.grad.real.tolist()

    assert spmd(2, body) == [[3, 0, 3]] * 2


@pytest.mark.parametrize("op", ["sum", "max", "band"])
@pytest.mark.parametrize("dtype", [torch.int64, torch.bool])
def test_integers_pass_through(dtype, op):
    def body(comm):
        x = torch.tensor([1, comm.rank]).to(dtype)
        with Tape(comm) as tape:
            results = [tape.allreduce(x, op), tape.reduce(x, op), tape.scan(x, op)]
            assert torch.equal(results[0], comm.allreduce(x, op))
            assert torch.equal(tape.allgather(x), comm.allgather(x))
            assert tape._chain.last is tape._chain.first
        return any(y.requires_grad for y in results if y is not None)

    assert spmd(2, body) == [False, False]


def test_strided_operands():
    def body(comm):
        x = numbers(comm, 3, 4, dtype=torch.complex128)
        return dist_gradcheck(
            lambda t, x: (
                t.allreduce(x.mT.conj()[::2]).imag ** 2 * t.scan(x[:1].expand(2, 4))[:, 1:].real
            ).sum(),
            comm,
            [x],
        )

    spmd(2, body)


# ----- checkpoints


@pytest.mark.parametrize("loses", [None, 0, 1])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_checkpointed_functions(p, loses):
    spmd(p, lambda comm: compare_checkpoint(comm, loses))


def compare_checkpoint(comm, loses):
    from torch.utils.checkpoint import checkpoint

    def inner(tape, y):
        return (tape.scan(y.sin()) * y).cos()

    def layer(tape, wrap, x):
        n = tape.allreduce(torch.tensor(1))  # an integer, in the log like all others
        y = tape.allreduce((x * x).cos()) * x / n
        z = wrap(tape, inner, y)
        return tape.allreduce(z, "max") * z + tape.scan(z)

    def fn(wrap):
        def loss(tape, x):
            y = wrap(tape, lambda tape, x: layer(tape, wrap, x), x)
            value = (tape.allreduce(y) * y.sin()).sum()
            return value.detach() if comm.rank == loses else value

        return loss

    def plainly(tape, f, x):
        return f(tape, x)

    def sparingly(tape, f, x):
        return checkpoint(f, tape, x, use_reentrant=False, context_fn=tape.replay)

    gradients, calls = [], []
    for wrap in (plainly, sparingly):
        x = numbers(comm, 3)
        with Tape(comm) as tape:
            loss = fn(wrap)(tape, x)
            with comm.trace() as trace:
                tape.backward(loss)
        gradients.append(x.grad)
        calls.append([event.op for event in trace.events])
    assert calls[0] == calls[1]
    torch.testing.assert_close(*gradients)
    if loses is None or comm.size > 1:  # else nothing is left to check
        dist_gradcheck(fn(sparingly), comm, [numbers(comm, 3)])


@pytest.mark.mpi(ranks=[2, 3])
def test_checkpointed_functions_on_mpi_ranks(comm):
    compare_checkpoint(comm, 1)


@pytest.mark.parametrize("is_reentrant", [False, True])
def test_checkpoints_without_replay_are_refused(is_reentrant):
    from torch.utils.checkpoint import checkpoint

    def body(comm):
        x = numbers(comm, 3)
        with Tape(comm) as tape:
            f = lambda x: tape.allreduce(x.sin()).sin()  # noqa: E731
            y = checkpoint(f, x, use_reentrant=is_reentrant)
            assert_same_error_on_all_ranks(comm, RuntimeError, tape.backward, y.sum())

    spmd(2, body)


def test_checkpointed_results_changed_in_place_are_refused():
    from torch.utils.checkpoint import checkpoint

    def body(comm):
        with Tape(comm) as tape:
            f = lambda x: tape.allreduce(x.sin()).mul_(2).sin()  # noqa: E731
            y = checkpoint(f, numbers(comm, 3), use_reentrant=False, context_fn=tape.replay)
            with pytest.raises(RuntimeError, match="must not be changed in place"):
                tape.backward(y.sum())

    spmd(2, body)


# ----- life of a tape


def test_nothing_is_kept_after_the_backward_pass():
    def record(tape):
        """Record a collective between local operations; return its loss and references to all tensors."""
        x = numbers(tape.comm, 3)
        hidden = (x * 2).sin()
        y = tape.allreduce(hidden)
        return y.sum(), [weakref.ref(t) for t in (x, hidden, y)]

    def body(comm):
        tape = Tape(comm)
        loss, references = record(tape)
        tape.backward(loss)
        del loss
        gone = [ref() is None for ref in references]
        references = record(tape)[1]
        tape.clear()
        gone += [ref() is None for ref in references]
        references = record(tape)[1]
        del tape
        return gone + [ref() is None for ref in references]

    gc.disable()  # nothing is left to the collector
    try:
        assert all(map(all, spmd(2, body)))
    finally:
        gc.enable()


def test_an_exception_in_the_backward_pass_ends_all_ranks():
    class Bang(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, g):
            raise ZeroDivisionError("bang")

    def body(comm):
        x = numbers(comm, 2)
        with Tape(comm) as tape:
            y = tape.allreduce(x)
            z = tape.allreduce(Bang.apply(y) if comm.rank == 1 else y)
            tape.backward(z.sum())

    with pytest.raises(ZeroDivisionError, match="bang") as caught:
        spmd(3, body)
    assert caught.value.__notes__ == ["rank 1 of 3"]


def test_retained_graphs():
    def body(comm):
        x = numbers(comm, 2)
        with Tape(comm) as tape:
            loss = tape.allreduce(x).sum()
            tape.backward(loss, retain_graph=True)
            tape.backward(loss)
            assert x.grad.tolist() == [4, 4]
            assert_same_error_on_all_ranks(comm, RuntimeError, tape.backward, loss)

    spmd(2, body)


def test_losses_that_are_no_scalars_are_refused_on_all_ranks():
    def body(comm):
        with Tape(comm) as tape:
            y = tape.scan(numbers(comm, 2))
            loss = y if comm.rank else y.detach()
            return assert_same_error_on_all_ranks(comm, ValueError, tape.backward, loss)

    assert spmd(2, body)[0].endswith("got torch.float64 of shape (2,)")


def test_losses_with_given_gradients():
    def body(comm):
        x = numbers(comm, 2)
        with Tape(comm) as tape:
            y, z = tape.scan(x), tape.allreduce(x)
            tape.backward((y, None, z), (torch.tensor([1.0, 2.0]).double(), None, torch.ones(2).double()))
        return x.grad.tolist()

    assert spmd(2, body) == [[4, 6], [3, 4]]


# ----- refusals


def test_torchs_own_backward_is_refused():
    def body(comm):
        with Tape(comm) as tape:
            loss = tape.allreduce(numbers(comm, 2)).sum()
            return assert_same_error_on_all_ranks(comm, RuntimeError, loss.backward)

    assert "call tape.backward(loss)" in spmd(2, body)[0]


def shrinking(p):
    """Return a plan that drops the second of the two elements of each rank."""
    return plan_redistribution(
        split_placement((2 * p,), 0, (2,) * p), tuple(((2 * r, 2 * r + 1),) for r in range(p))
    )


REFUSED = {
    "x must be a torch tensor": (TypeError, lambda t: t.allreduce(np.ones(2))),
    "op must be 'sum' to be differentiated": (ValueError, lambda t: t.scan(torch.ones(2), "max")),
    "op must be sum, max, min, prod or moments": (ValueError, lambda t: t.allreduce(torch.ones(2), "median")),
    "x must be float64 for op 'moments'": (TypeError, lambda t: t.allreduce(torch.ones(3), "moments")),
    "divide evenly": (ValueError, lambda t: t.alltoall(torch.ones(5))),
    "op must be defined for complex128": (
        TypeError,
        lambda t: t.allreduce(torch.ones(2, dtype=torch.complex128), "max"),
    ),
    "axis must be in": (ValueError, lambda t: t.allgather(torch.ones(2), axis=1)),
    "root must be in": (ValueError, lambda t: t.reduce(torch.ones(2), root=9)),
    "counts must": (ValueError, lambda t: t.block(torch.ones(2), (1,) * 5)),
    "plan must keep every element": (
        ValueError,
        lambda t: t.redistribute(torch.ones(2), shrinking(t.comm.size), replicated=True),
    ),
    "the tape must be open": (RuntimeError, lambda t: (t.close(), t.allreduce(torch.ones(2)))),
}


@pytest.mark.parametrize("text", REFUSED)
def test_refusals_are_the_same_on_all_ranks(text):
    def body(comm):
        error, call = REFUSED[text]
        tape = Tape(comm)
        told = assert_same_error_on_all_ranks(comm, error, call, tape)
        assert tape._chain.last is tape._chain.first
        return told

    assert text in spmd(2, body)[0]


def test_gradcheck_finds_wrong_gradients():
    def fn(tape, x):
        return (tape.allreduce(x).detach() * x).sum()  # forgets the other ranks' part

    def body(comm):
        return assert_same_error_on_all_ranks(
            comm, AssertionError, dist_gradcheck, fn, comm, [numbers(comm, 2)]
        )

    assert "the gradient must be right to 1e-06, got rank" in spmd(2, body)[0]
    with pytest.raises(AssertionError, match="nan"):
        spmd(2, lambda comm: dist_gradcheck(lambda t, x: (x * torch.nan).sum(), comm, [numbers(comm, 2)]))


@pytest.mark.parametrize(
    ("text", "fn", "inputs", "options"),
    [
        ("fn must return a loss", lambda t, x: x.detach().sum(), lambda c: [numbers(c, 2)], {}),
        ("equally many", lambda t, *x: x[0].sum(), lambda c: [numbers(c, 2)] * (c.rank + 1), {}),
        ("alike on all ranks", lambda t, x: x.sum(), lambda c: [numbers(c, c.rank)], {"replicated": [0]}),
    ],
)
def test_gradcheck_refuses_what_it_cannot_check(text, fn, inputs, options):
    def body(comm):
        return assert_same_error_on_all_ranks(
            comm, ValueError, dist_gradcheck, fn, comm, inputs(comm), **options
        )

    assert text in spmd(2, body)[0]


def test_mismatched_calls_are_reported():
    def body(comm):
        with Tape(comm) as tape:
            x = numbers(comm, 2)
            tape.allreduce(x) if comm.rank else tape.scan(x)

    with pytest.raises(CommError, match="collectives do not match"):
        spmd(2, body)
