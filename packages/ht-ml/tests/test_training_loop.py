"""Whole trainings: the loss curve does not depend on the ranks, a checkpoint goes on with another number of them."""

from __future__ import annotations

import functools
import threading

import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_comm.testing import assert_same_on_all_ranks
from ht_core.testing import spread
from ht_ml.data import DataLoader, Dataset
from ht_ml.nn import DataParallel
from ht_ml.optim import DASO

SEEDING = threading.Lock()
N, D = 50, 6
RNG = np.random.default_rng(0)
X = RNG.standard_normal((N, D))
Y = np.tanh(X @ RNG.standard_normal((D, 1)))


class Gauged(torch.nn.Module):
    """A parameter and a buffer of its own beside two layers."""

    def __init__(self, value=1.0):
        super().__init__()
        self.inner = torch.nn.Sequential(torch.nn.Linear(D, 5), torch.nn.Tanh(), torch.nn.Linear(5, 1))
        self.gain = torch.nn.Parameter(torch.tensor(value))
        self.register_buffer("level", torch.tensor([value]))
        self.register_buffer("calls", torch.tensor(int(value)))

    def forward(self, x):
        self.calls += 1
        return self.inner(x) * self.gain + self.level


def network(seed, value=1.0):
    with SEEDING, torch.random.fork_rng():
        torch.manual_seed(seed)
        return Gauged(value).double()


def placed(values, comm):
    counts = tuple(N // comm.size + (r < N % comm.size) for r in range(comm.size))
    return spread(values, 0, counts, comm)


class Training:
    """Model, optimizer, scheduler and data, with a state that torch.load reads without executing code."""

    def __init__(self, comm):
        self.comm = comm
        self.model = DataParallel(network(comm.rank), comm)
        groups = [
            {"params": [self.model.module.gain], "lr": 0.01},
            {"params": self.model.module.inner.parameters()},
        ]
        self.optimizer = torch.optim.Adam(groups, lr=0.05)
        self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 1, 0.7)
        self.loader = DataLoader(Dataset(placed(X, comm), placed(Y, comm)), 12, seed=4)

    def epochs(self, first, last):
        losses = []
        self.loader.set_epoch(first)
        for _ in range(first, last):
            total = torch.zeros(1, dtype=torch.float64)
            for x, y in self.loader:
                self.optimizer.zero_grad()
                loss = torch.nn.functional.mse_loss(self.model(x), y)
                loss.backward()
                torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
                self.optimizer.step()
                total += loss.detach().nan_to_num() * len(y)
            self.scheduler.step()
            losses.append(float(self.comm.allreduce(total)) / N)
        return losses

    def parts(self):
        return {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}


def from_start(comm, epochs, path=None):
    training = Training(comm)
    losses = training.epochs(0, epochs)
    if path is not None and comm.rank == 0:
        torch.save({name: part.state_dict() for name, part in training.parts().items()}, path)
    comm.barrier()
    return losses


def resumed(comm, first, last, path):
    training = Training(comm)
    saved = torch.load(path, weights_only=True)
    for name, part in training.parts().items():
        part.load_state_dict(saved[name])
    losses = training.epochs(first, last)
    assert_same_on_all_ranks(comm, training.model.module.calls)
    return losses


@functools.cache
def curve():
    """On one rank, without the wrapper's messages."""
    return spmd(1, from_start, 6)[0]


@pytest.mark.parametrize("p", [2, 3, 5])
def test_loss_curve_does_not_depend_on_ranks(p):
    assert curve()[-1] < 0.5 * curve()[0]
    for losses in spmd(p, from_start, 6):
        assert losses == pytest.approx(curve(), rel=1e-8)


@pytest.mark.parametrize(("p", "q"), [(3, 2), (1, 4), (2, 1)])
def test_checkpoint_goes_on_with_another_number_of_ranks(p, q, tmp_path):
    path = tmp_path / "checkpoint.pt"
    begun = spmd(p, from_start, 2, path)[0]
    ended = spmd(q, resumed, 2, 6, path)[0]
    assert begun + ended == pytest.approx(curve(), rel=1e-8)


@pytest.mark.mpi(ranks=[2])
def test_on_mpi(comm, shared_tmp_path):
    path = shared_tmp_path / "checkpoint.pt"
    losses = from_start(comm, 2, path) + resumed(comm, 2, 6, path)
    assert losses == pytest.approx(curve(), rel=1e-8)


def test_wrapping_takes_everything_from_rank_0():
    def run(comm):
        module = network(comm.rank, comm.rank + 2.0)
        kept = [x.data_ptr() for x in (*module.parameters(), *module.buffers())]
        model = DataParallel(module, comm)
        assert [x.data_ptr() for x in (*module.parameters(), *module.buffers())] == kept
        expected = network(0, 2.0).state_dict()
        assert model.state_dict().keys() == expected.keys()
        for name, value in model.state_dict().items():
            assert torch.equal(value, expected[name]), name

    spmd(3, run)


def test_on_the_device_of_this_run(device):
    """CPU-only works; with ``--device gpu`` everything stays there."""

    def run(comm):
        module = network(0).to(device)
        daso = DASO(
            torch.optim.Adam(module.parameters()), 3, comm, 1, 1, max_global_skips=1, ranks_per_node=1
        )
        model = daso.set_model(module)
        x, y = torch.from_numpy(X).to(device), torch.from_numpy(Y).to(device)
        for _ in range(3):
            for _ in range(3):
                daso.zero_grad()
                torch.nn.functional.mse_loss(model(x), y).backward()
                daso.step()
            daso.epoch_loss_logic(1.0, loss_globally_averaged=True)
        assert {p.device.type for p in module.parameters()} == {device}
        assert_same_on_all_ranks(comm, module.gain.detach())

    spmd(2, run)
