"""Estimators and trainings in checkpoints: restored on other ranks, they go on as if they had not stopped."""

import threading
from importlib import import_module

import ht_meta as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_comm.testing import assert_same_on_all_ranks
from ht_io.checkpoint_tree import MODULES, find_class


def data(comm=None):
    """A hundred points around four centres, whose coordinates are integers: sums of them are exact."""
    rng = np.random.default_rng(0)
    points = rng.integers(-40, 40, size=(100, 3)) + 200 * rng.integers(0, 4, size=(100, 1))
    return ht.array(points.astype("float64"), split=0)


@pytest.mark.parametrize(("p", "q"), [(1, 3), (3, 2)])
def test_kmeans_goes_on_with_the_same_bits(tmp_path, p, q):
    def whole(comm):
        x = data()
        model = ht.cluster.KMeans(4, init=x.resplit(None)[:4], n_init=1, max_iter=6, tol=0.0).fit(x)
        return model.cluster_centers_.numpy(), model.labels_.numpy(), model.inertia_

    def first(comm):
        x = data()
        model = ht.cluster.KMeans(4, init=x.resplit(None)[:4], n_init=1, max_iter=3, tol=0.0).fit(x)
        ht.checkpoint.save(tmp_path / "fit.h5", {"model": model, "x": x})

    def rest(comm):
        state = ht.checkpoint.load(tmp_path / "fit.h5")
        model, x = state["model"], state["x"]
        assert model.labels_.split == 0
        model.set_params(init=model.cluster_centers_).fit(x)
        return model.cluster_centers_.numpy(), model.labels_.numpy(), model.inertia_

    expected = spmd(q, whole)[0]
    spmd(p, first)
    for found in spmd(q, rest):
        for a, b in zip(expected, found):
            np.testing.assert_array_equal(a, b)


def same(a, b):
    """Tell whether two attributes are of one type and equal, arrays with equal splits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, ht.DNDarray):
        return a.split == b.split and np.array_equal(a.numpy(), b.numpy(), equal_nan=a.dtype.kind in "fc")
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "get_params"):
        return all(same(value, vars(b)[key]) for key, value in vars(a).items())
    return np.array_equal(np.asarray(a), np.asarray(b))


ESTIMATORS = [
    f"{name}.{attribute}"
    for name in MODULES
    for attribute in import_module(name).__all__
    if find_class(f"{name}.{attribute}") is not None
]


#: Estimators of snapshots in columns: how they are fitted and used.
BY_COLUMNS = {
    "DMD": (lambda model, x: model.fit(x.T), lambda model, x: model.predict_next(x.T)),
    "DMDc": (
        lambda model, x: model.fit(x.T, x.T[:2].resplit(None)),
        lambda model, x: model.predict(x[0], x.T[:2, :4].resplit(None)),
    ),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_is_restored(tmp_path, name):
    def check(comm):
        x = data()
        y = x[:, 0] > 100 if "Logistic" in name or "NB" in name else x[:, 0]
        kind = find_class(name)
        model = kind(n_clusters=4, random_state=0) if "n_clusters" in kind._parameters() else kind()
        fit, _ = BY_COLUMNS.get(kind.__name__, (None, None))
        if fit:
            model = fit(model, x)
        else:
            model = model.fit(x) if "cluster" in name or hasattr(model, "fit_transform") else model.fit(x, y)
        ht.checkpoint.save(tmp_path / "x.h5", model)
        back = ht.checkpoint.load(tmp_path / "x.h5")
        assert type(back) is kind
        assert list(vars(back)) == list(vars(model))
        assert repr(back) == repr(model)
        for key, value in vars(model).items():
            assert same(value, vars(back)[key]), key

    spmd(2, check)


N, D = 36, 5
X = np.random.default_rng(1).standard_normal((N, D))
Y = np.tanh(X @ np.random.default_rng(2).standard_normal((D, 1)))
SEEDING = threading.Lock()


class Training:
    """A model of either kind, its optimizer, schedule, data and random numbers, global ones and one of each rank."""

    def __init__(self, comm, kind):
        self.comm, self.kind = comm, kind
        with SEEDING, torch.random.fork_rng():
            torch.manual_seed(3)
            net = torch.nn.Sequential(
                torch.nn.Linear(D, 8), torch.nn.BatchNorm1d(8), torch.nn.Linear(8, 1)
            ).double()
            if kind == "dp":
                del net[1]
        self.optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        self.scheduler = torch.optim.lr_scheduler.MultiStepLR(self.optimizer, [1, 3], 0.5)
        if kind == "dp":
            self.model = ht.nn.DataParallel(net, comm)
        else:
            self.daso = ht.optim.DASO(
                self.optimizer, 6, comm, 1, 1, max_global_skips=2, ranks_per_node=1, downcast_type=None
            )
            self.model = self.daso.set_model(net)
        dataset = ht.utils.data.Dataset(ht.array(X, split=0, comm=comm), ht.array(Y, split=0, comm=comm))
        self.loader = ht.utils.data.DataLoader(dataset, 12, seed=4)
        self.rng = ht.random.default_rng(8)
        self.own = torch.Generator().manual_seed(comm.rank)
        self.epoch = 0

    def run(self, last):
        """Train up to an epoch, and return the losses."""
        losses = []
        self.loader.set_epoch(self.epoch)
        while self.epoch < last:
            total = torch.zeros(1, dtype=torch.float64)
            for x, y in self.loader:
                x = x + 0.1 * self.rng.standard_normal((D,), comm=self.comm).larray
                if self.kind == "daso":
                    x = x + 0.1 * torch.randn(x.shape, generator=self.own)
                self.optimizer.zero_grad()
                loss = torch.nn.functional.mse_loss(self.model(x), y)
                loss.backward()
                (self.optimizer if self.kind == "dp" else self.daso).step()
                total += loss.detach() * len(y)
            if self.kind == "daso":
                self.daso.epoch_loss_logic(float(total) / N)
                self.daso.finalise()
            self.scheduler.step()
            self.epoch += 1
            losses.append(float(self.comm.allreduce(total)) / N)
        return losses

    def state(self):
        """Return everything that the next epochs depend on."""
        parts = {"model": self.model, "optimizer": self.optimizer, "scheduler": self.scheduler}
        if self.kind == "daso":
            parts["daso"] = self.daso
        state = {name: part.state_dict() for name, part in parts.items()}
        own = ht.array(self.own.get_state()[None], is_split=0, comm=self.comm)
        return {**state, "epoch": self.epoch, "rng": self.rng, "own": own}

    def go_on(self, state):
        """Take up a state that was saved on any number of ranks."""
        for name, part in {
            "model": self.model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
        }.items():
            part.load_state_dict(state[name])
        if self.kind == "daso":
            self.daso.load_state_dict(state["daso"])
            self.own.set_state(state["own"].larray[0])
        self.epoch, self.rng = state["epoch"], state["rng"]


@pytest.mark.parametrize(
    ("kind", "p", "q"), [("dp", 1, 3), ("dp", 3, 2), ("dp", 3, 3), ("daso", 2, 2), ("daso", 3, 3)]
)
def test_training_goes_on_as_if_it_had_not_stopped(tmp_path, kind, p, q):
    """With the same bits on as many ranks; on others sums over a batch are added up in another order."""

    def first(comm):
        training = Training(comm, kind)
        losses = training.run(2)
        ht.checkpoint.save(tmp_path / "x.h5", training.state(), comm=comm)
        return losses, training.run(5), [x.detach().clone() for x in training.model.parameters()]

    def rest(comm):
        training = Training(comm, kind)
        training.go_on(ht.checkpoint.load(tmp_path / "x.h5", comm=comm))
        losses = training.run(5)
        for x in training.model.state_dict().values():
            assert_same_on_all_ranks(comm, x)
        return losses, [x.detach().clone() for x in training.model.parameters()]

    before, expected, weights = spmd(p, first)[0]
    losses, found = spmd(q, rest)[0]
    assert losses[-1] < 0.7 * before[0]
    if p == q:
        assert losses == expected
        assert all(map(torch.equal, weights, found))
    else:
        assert losses == pytest.approx(expected, rel=1e-8)
