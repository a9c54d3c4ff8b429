"""DataParallel: the gradients of one large batch on one process, one message per bucket, no dead-lock."""

from __future__ import annotations

import copy
import itertools
import threading

import pytest
import torch
from ht_comm import spmd
from ht_comm.testing import assert_same_error_on_all_ranks, assert_same_on_all_ranks
from ht_ml.nn import DataParallel
from torch.nn.functional import cross_entropy

ROWS, FEATURES, CLASSES = 22, 5, 3
SEEDING = threading.Lock()  # torch's generator belongs to all threads


class Scaled(torch.nn.Module):
    """A parameter of its own, a branch that is not always used, one that never is, one that is frozen."""

    def __init__(self, dtype=torch.complex128):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((FEATURES,), 0.5))
        self.hidden = torch.nn.Linear(FEATURES, 7)
        self.branch = torch.nn.Linear(7, 7)
        self.never = torch.nn.Linear(2, 2)
        self.out = torch.nn.Linear(7, CLASSES)
        self.frozen = torch.nn.Parameter(torch.ones(7), requires_grad=False)
        self.counts = torch.nn.Parameter(torch.tensor(0.1, dtype=dtype) + 0.2)

    def forward(self, x, branch=True):
        y = torch.tanh(self.hidden(x * self.scale)) * self.frozen * self.counts.abs()
        return self.out(y + self.branch(y) if branch else y)


def model_of(seed, kind=Scaled, dtype=torch.float64):
    with SEEDING, torch.random.fork_rng():
        torch.manual_seed(seed)
        return kind().to(dtype) if dtype is not torch.float64 else _double(kind())


def _double(module):
    for p in module.parameters():
        p.data = p.data.to(torch.complex128 if p.is_complex() else torch.float64)
    for b in module.buffers():
        b.data = b.data.double() if b.is_floating_point() else b.data
    return module


def data(n=ROWS):
    draw = torch.Generator().manual_seed(1)
    x = torch.randn(n, FEATURES, generator=draw, dtype=torch.float64)
    return x, torch.randint(0, CLASSES, (n,), generator=draw)


def cuts(p, n=ROWS):
    """Uneven parts; the last rank gets one row only."""
    edges = [0, *sorted((n - 1) * (r + 1) // p for r in range(p - 1)), n]
    edges[-2] = n - 1 if p > 1 else edges[-2]
    return [slice(a, b) for a, b in itertools.pairwise(edges)]


def grads(module):
    return {name: None if p.grad is None else p.grad.clone() for name, p in module.named_parameters()}


def assert_equal(found, expected, tol=1e-12):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert (found[name] is None) == (value is None), name
        if value is not None:
            torch.testing.assert_close(found[name], value, rtol=tol, atol=tol, msg=name)


def whole_batch():
    x, y = data()
    alone = model_of(0)
    cross_entropy(alone(x), y).backward()
    return alone


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("options", [{}, {"bucket_mb": 1e-4}, {"blocking_parameter_updates": True}])
def test_gradients_are_those_of_one_large_batch(p, options):
    expected = grads(whole_batch())
    assert expected["never.weight"] is None

    def run(comm):
        x, y = data()
        part = cuts(comm.size)[comm.rank]
        inner = model_of(comm.rank)  # other weights on each rank: rank 0's count
        own = copy.deepcopy(inner.state_dict())
        model = DataParallel(inner, comm, **options)
        if comm.rank == 0:  # nothing is initialised anew
            assert all(torch.equal(own[name], value) for name, value in model.state_dict().items())
        with comm.trace() as sent:
            cross_entropy(model(x[part]), y[part]).backward()
        assert sent.calls == len(model.buckets) == sent.by_op["iallreduce"][0]
        assert (len(model.buckets) > 3) == ("bucket_mb" in options)
        assert_equal(grads(inner), expected)

    spmd(p, run)


@pytest.mark.mpi(ranks=[1, 2, 3])
def test_gradients_on_mpi(comm):
    x, y = data()
    part = cuts(comm.size)[comm.rank]
    model = DataParallel(model_of(comm.rank), comm, bucket_mb=1e-4)
    with comm.trace() as sent:
        cross_entropy(model(x[part]), y[part]).backward()
    assert sent.calls == len(model.buckets) > 3
    assert_equal(grads(model.module), grads(whole_batch()))
    steps = 3 if comm.rank == 0 else 1
    sgd = torch.optim.SGD(model.parameters(), lr=0.1)
    with model.join(sgd):
        for _ in range(steps):
            sgd.zero_grad()
            cross_entropy(model(x[part]), y[part]).backward()
            sgd.step()
    assert_same_on_all_ranks(comm, model.module.out.weight.detach())


def test_overlap_starts_messages_within_backward():
    def run(comm):
        model = DataParallel(model_of(0, Normed), comm, bucket_mb=1e-5)
        begun = []
        model.module[0].bias.register_hook(lambda grad: begun.append(model._launched))
        x, y = data()
        cross_entropy(model(x), y).backward()
        return begun[0], len(model.buckets)

    assert spmd(2, run) == [(4, 6)] * 2


def test_a_rank_that_does_not_use_a_parameter():
    def run(comm):
        x, y = data()
        model = DataParallel(model_of(0), comm, bucket_mb=1e-4)
        part = cuts(comm.size)[comm.rank]
        cross_entropy(model(x[part], branch=comm.rank == 0), y[part]).backward()
        return grads(model.module)

    found = spmd(2, run)
    x, y = data()
    alone = model_of(0)
    first, second = cuts(2)
    outputs = torch.cat([alone(x[first]), alone(x[second], branch=False)])
    cross_entropy(outputs, y).backward()
    for each in found:
        assert_equal(each, grads(alone))


def test_a_rank_without_samples_adds_nothing():
    expected = grads(whole_batch())

    def run(comm):
        x, y = data()
        part = slice(0, ROWS if comm.rank == 0 else 0)
        model = DataParallel(model_of(0), comm)
        loss = cross_entropy(model(x[part]), y[part])
        assert loss.isnan() == (comm.rank > 0)
        loss.backward()
        assert_equal(grads(model.module), expected)

    spmd(3, run)


def test_accumulation_sends_once():
    expected = grads(whole_batch())

    def run(comm):
        x, y = data()
        half = slice(comm.rank, ROWS, 2)
        x, y = x[half], y[half]
        model = DataParallel(model_of(0), comm, reduction="sum")
        with comm.trace() as sent:
            with model.no_sync():
                (cross_entropy(model(x[:4]), y[:4], reduction="sum") / ROWS).backward()
            assert sent.calls == 0
            (cross_entropy(model(x[4:]), y[4:], reduction="sum") / ROWS).backward()
        assert sent.calls == len(model.buckets)
        assert_equal(grads(model.module), expected)
        model.zero_grad()
        mean = DataParallel(model_of(0), comm)  # equal parts: means of means are right
        with mean.no_sync():
            (cross_entropy(mean(x[::2][:5]), y[::2][:5]) / 2).backward()
        (cross_entropy(mean(x[1::2]), y[1::2]) / 2).backward()
        assert_same_on_all_ranks(comm, mean.module.out.weight.grad)
        # A second pass without zero_grad adds to what is there, as on one process.
        again = DataParallel(model_of(0), comm)
        for _ in range(2):
            cross_entropy(again(x), y).backward()
        for name, value in grads(again.module).items():
            assert value is None or torch.allclose(value, 2 * expected[name])

    spmd(2, run)


class RealScaled(Scaled):
    """Without the complex parameter, which scalers do not take."""

    def __init__(self):
        super().__init__(torch.float64)


OPTIMIZERS = {
    "sgd": lambda ps: torch.optim.SGD(ps, lr=0.1, momentum=0.9, weight_decay=0.1),
    "groups": lambda ps: torch.optim.AdamW([{"params": ps[:2], "lr": 0.1}, {"params": ps[2:]}], lr=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_with_scheduler_clipping_and_scaler_is_that_of_one_process(name):
    def train(module, wrapped, part):
        x, y = data()
        optimizer = OPTIMIZERS[name]([p for p in module.parameters() if p.requires_grad])
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
        norms = []
        for _ in range(4):
            optimizer.zero_grad()
            scaler.scale(cross_entropy(wrapped(x[part]), y[part])).backward()
            scaler.unscale_(optimizer)
            used = [p for p in module.parameters() if p.grad is not None and not p.is_complex()]
            norms.append(torch.nn.utils.clip_grad_norm_(used, 0.1))
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
        return norms, module.state_dict()

    alone = model_of(0, RealScaled)
    norms, state = train(alone, alone, slice(None))
    assert norms[0] > 0.1  # the clipping does something

    def run(comm):
        module = model_of(0, RealScaled)
        found, weights = train(module, DataParallel(module, comm), cuts(comm.size)[comm.rank])
        torch.testing.assert_close(found, norms, rtol=1e-10, atol=1e-10)
        assert_equal(weights, state, 1e-10)

    spmd(3, run)


def test_an_overflow_on_one_rank_is_seen_by_all():
    def run(comm):
        x, y = data()
        model = DataParallel(model_of(0, RealScaled), comm)
        before = copy.deepcopy(model.state_dict())
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
        factor = float("inf") if comm.rank == 1 else 1.0
        scaler.scale(cross_entropy(model(x), y) * factor).backward()
        scaler.step(optimizer)
        scaler.update()
        assert scaler.get_scale() == 4.0
        assert_equal(model.state_dict(), before)

    spmd(2, run)


class Normed(torch.nn.Sequential):
    def __init__(self):
        super().__init__(torch.nn.Linear(FEATURES, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, CLASSES))


def test_buffers_are_averaged_by_samples_in_the_same_messages():
    x, y = data()

    def run(comm):
        model = DataParallel(model_of(comm.rank, Normed), comm)
        part = [slice(0, 4), slice(4, ROWS)][comm.rank]
        with comm.trace() as sent:
            cross_entropy(model(x[part]), y[part]).backward()
        assert sent.calls == len(model.buckets) == 1
        for value in model.state_dict().values():
            assert_same_on_all_ranks(comm, value)
        return model.state_dict()

    state = spmd(2, run)[0]
    alone = model_of(0, Normed)
    means = 0
    for part in (slice(0, 4), slice(4, ROWS)):
        trial = copy.deepcopy(alone)
        trial(x[part])
        means = means + trial[1].running_mean * len(x[part]) / ROWS
    torch.testing.assert_close(state["1.running_mean"], means.to(state["1.running_mean"].dtype))
    assert state["1.num_batches_tracked"] == 1


def test_ranks_that_run_out_of_data():
    x, y = data()
    batches = [[slice(0, 4), slice(4, 8), slice(8, 9)], [slice(10, 14)]]

    def run(comm):
        model = DataParallel(model_of(0, Normed), comm)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        model.module[1].eval()
        with comm.trace() as sent, model.join(optimizer):
            for part in batches[comm.rank]:
                optimizer.zero_grad()
                cross_entropy(model(x[part]), y[part]).backward()
                optimizer.step()
        assert sent.calls == (3 + 1) * len(model.buckets)
        assert_same_on_all_ranks(comm, optimizer.state_dict()["state"][0]["momentum_buffer"])
        return model.state_dict()

    states = spmd(2, run)
    alone = model_of(0, Normed)
    alone[1].eval()
    optimizer = torch.optim.SGD(alone.parameters(), lr=0.1, momentum=0.9)
    for rows in ([*range(4), *range(10, 14)], range(4, 8), range(8, 9)):
        optimizer.zero_grad()
        cross_entropy(alone(x[list(rows)]), y[list(rows)]).backward()
        optimizer.step()
    for state in states:
        assert_equal(state, alone.state_dict())


def test_half_precision_parameters():
    x, y = data()

    def run(comm):
        model = DataParallel(model_of(0, Normed, torch.bfloat16), comm)
        part = cuts(comm.size)[comm.rank]
        model.module[1].eval()
        cross_entropy(model(x[part].bfloat16()).float(), y[part]).backward()
        assert model.buckets[0].flat.dtype == torch.float32
        return grads(model.module)

    alone = model_of(0, Normed, torch.bfloat16)
    alone[1].eval()
    cross_entropy(alone(x.bfloat16()).float(), y).backward()
    for found in spmd(2, run):
        assert_equal(found, grads(alone), 2e-2)


def test_state_loads_without_the_wrapper_and_on_other_ranks(tmp_path):
    path = tmp_path / "state.pt"

    def write(comm):
        model = DataParallel(model_of(5, Normed), comm)
        if comm.rank == 0:
            torch.save(model.state_dict(), path)

    spmd(3, write)
    state = torch.load(path, weights_only=True)
    Normed().double().load_state_dict(state)

    def read(comm):
        model = DataParallel(model_of(comm.rank, Normed), comm)
        model.load_state_dict(state)
        assert_equal(model.state_dict(), state)

    spmd(2, read)


def test_an_unwrapped_module_sends_nothing():
    def run(comm):
        x, y = data()
        part = cuts(comm.size)[comm.rank]
        model = DataParallel(model_of(0), comm)
        with comm.trace() as sent:
            cross_entropy(model.unwrap()(x[part]), y[part]).backward()
        assert sent.calls == 0
        again = DataParallel(model.module, comm)
        again.zero_grad()
        with comm.trace() as sent:
            cross_entropy(again(x[part]), y[part]).backward()
        assert sent.calls == len(again.buckets)
        assert_equal(grads(again.module), grads(whole_batch()))

    spmd(2, run)


def test_a_module_called_without_the_wrapper_counts_as_one():
    def run(comm):
        x, y = data()
        model = DataParallel(model_of(0), comm)
        cross_entropy(model.module(x), y).backward()
        return grads(model.module)

    for found in spmd(2, run):
        assert_equal(found, grads(whole_batch()))


def test_refusals():
    def run(comm):
        module = model_of(0, Normed)
        for p in module[0].parameters():
            p.requires_grad_(comm.rank != 1)
        text = assert_same_error_on_all_ranks(comm, ValueError, DataParallel, module, comm)
        assert "ranks [1]" in text
        other = torch.optim.SGD(model_of(0).parameters(), lr=0.1)
        for options in ({"bucket_mb": 0}, {"reduction": "max"}, {"optimizer": other}):
            assert_same_error_on_all_ranks(comm, ValueError, DataParallel, model_of(0), comm, **options)
        assert_same_error_on_all_ranks(comm, TypeError, DataParallel, "module", comm)

    spmd(3, run)
