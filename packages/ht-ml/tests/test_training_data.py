"""Data for training: every sample once, in an order that does not depend on the ranks; one message round per epoch."""

from __future__ import annotations

import itertools

import h5py
import numpy as np
import pytest
import torch
from ht_comm import get_comm, spmd
from ht_comm.testing import assert_same_error_on_all_ranks
from ht_core.errors import LayoutError
from ht_core.testing import spread, whole
from ht_ml.data import DataLoader, Dataset, DistributedSampler, PartialH5Dataset, create_train_val_split

N = 23
X = np.arange(3.0 * N).reshape(N, 3)


def placed(comm, kind, values=X):
    n, p = len(values), comm.size
    if kind == "replicated":
        return spread(values, None, (), comm)
    if kind == "last":
        counts = (0,) * (p - 1) + (n,)
    elif kind == "uneven":
        cuts = [0, *sorted((7 * r) % n for r in range(1, p)), n]
        counts = tuple(np.diff(cuts).tolist())
    else:
        counts = tuple(n // p + (r < n % p) for r in range(p))
    return spread(values, 0, counts, comm)


def batches(comm, loader):
    """The global batches of an epoch: this rank's parts put together."""
    parts = [np.asarray(part[0] if isinstance(part, tuple) else part) for part in loader]
    return [np.concatenate(pieces) for pieces in zip(*comm.allgather_object(parts))]


def epoch_on(p, make, epochs=2):
    """Batches of some epochs, the same on all ranks."""

    def run(comm):
        loader = make(comm)
        found = [batches(comm, loader) for _ in range(epochs)]
        assert [len(loader)] * epochs == list(map(len, found))
        return found

    return spmd(p, run)[0]


@pytest.mark.parametrize("p", [2, 3, 5])
@pytest.mark.parametrize("kind", ["even", "uneven", "last", "replicated"])
@pytest.mark.parametrize("options", [{}, {"drop_last": True}, {"shuffle": False}])
def test_batches_do_not_depend_on_ranks_and_have_all_samples_once(p, kind, options):
    def make(comm):
        return DataLoader(Dataset(placed(comm, kind), placed(comm, kind, X[:, 0])), 5, seed=3, **options)

    expected = epoch_on(1, make)
    for one, other in zip(expected, epoch_on(p, make)):
        for a, b in zip(one, other):
            np.testing.assert_array_equal(a, b)
    rows = [np.concatenate(epoch)[:, 0] for epoch in expected]
    if options.get("drop_last"):
        assert [len(batch) for batch in expected[0]] == [5] * 4
        assert len(set(rows[0])) == 20
    else:
        assert all(sorted(order) == X[:, 0].tolist() for order in rows)
    assert (rows[0].tolist() == rows[1].tolist()) == ("shuffle" in options)


def test_one_exchange_per_epoch_and_no_index_is_sent():
    def run(comm):
        x = placed(comm, "uneven")
        loader = DataLoader(Dataset(x, placed(comm, "even", X[:, 0])), 6)
        with comm.trace() as sent:
            parts = list(loader)
        assert {op: calls for op, (calls, _, _) in sent.by_op.items()} == {"alltoallv": 2}
        assert sent.bytes <= x.lshape[0] * 24 + N * 8
        for rows, first in parts:
            torch.testing.assert_close(rows[:, 0], first)
        with comm.trace() as sent:
            list(DataLoader(placed(comm, "replicated"), 6))
        assert sent.calls == 0

    spmd(3, run)


def test_transforms_and_epochs():
    def run(comm):
        data = Dataset(placed(comm, "even"), placed(comm, "even", X[:, 1]), transforms=(lambda x: -x, None))
        loader = DataLoader(data, 4, seed=1)
        first, second = batches(comm, loader), batches(comm, loader)
        loader.set_epoch(1)
        again = batches(comm, loader)
        np.testing.assert_array_equal(np.concatenate(second), np.concatenate(again))
        assert np.concatenate(first).max() <= 0
        for rows, column in loader:
            torch.testing.assert_close(-rows[:, 1], column)

    spmd(2, run)


def test_sampler_parts_are_even_and_small_batches_leave_ranks_empty():
    def run(comm):
        sampler = DistributedSampler(7, 3, shuffle=False, comm=comm)
        places = torch.arange(7).numpy()
        owners = sampler.owners(places)
        for batch in range(len(sampler)):
            edges = sampler.edges(batch)
            for rank in range(comm.size):
                assert (owners[edges[rank] : edges[rank + 1]] == rank).all()
            assert np.diff(edges).max() - np.diff(edges).min() <= 1
        return list(sampler), [len(part) for part in DataLoader(placed(comm, "even"), 3)]

    found = spmd(4, run)
    assert sorted(i for parts, _ in found for part in parts for i in part) == list(range(7))
    assert {len(counts) for _, counts in found} == {8}
    assert sum(sum(counts) for _, counts in found) == N


def test_sampler_with_the_loader_of_torch():
    values = torch.arange(10)
    data = torch.utils.data.TensorDataset(values)

    def run(comm):
        loader = torch.utils.data.DataLoader(data, batch_sampler=DistributedSampler(data, 4, comm=comm))
        return torch.cat([part for (part,) in loader]).tolist()

    assert sorted(itertools.chain(*spmd(2, run))) == values.tolist()


@pytest.mark.parametrize("p", [1, 2, 3])
@pytest.mark.parametrize("kind", ["uneven", "replicated"])
def test_train_and_validation(p, kind):
    def run(comm):
        train, val = create_train_val_split(placed(comm, kind), placed(comm, kind, X[:, 0]), p=0.3, seed=5)
        assert (len(train), len(val)) == (16, 7)
        a, b = whole(train.arrays[0]), whole(val.arrays[0])
        np.testing.assert_array_equal(a[:, 0], whole(train.arrays[1]))
        assert sorted([*a[:, 0], *b[:, 0]]) == X[:, 0].tolist()
        return a, b

    expected = spmd(1, run)[0]
    for found in spmd(p, run):
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])


@pytest.fixture
def h5_file(tmp_path):
    path = tmp_path / "train.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", data=X.astype(np.float32), chunks=(4, 3), compression="gzip")
        file.create_dataset("y", data=np.arange(N))
        file.create_dataset("short", data=np.arange(N - 1))
        file.create_dataset("scalar", data=1.0)
    return path


@pytest.mark.parametrize("p", [1, 2, 4])
@pytest.mark.parametrize("load", [0, 10, 100])
def test_file_larger_than_memory(h5_file, p, load):
    def run(comm):
        data = PartialH5Dataset(h5_file, ["x", "y"], 5, load_length=load, seed=3, comm=comm)
        with comm.trace() as sent:
            for x, y in data:
                np.testing.assert_array_equal(x[:, 0], 3 * y)
        assert sent.calls == 0
        data.set_epoch(0)
        return [batches(comm, data) for _ in range(2)]

    found = spmd(p, run)[0]
    expected = epoch_on(1, lambda comm: DataLoader(placed(comm, "even"), 5, seed=3))
    for one, other in zip(found, expected):
        np.testing.assert_array_equal(np.concatenate(one), np.concatenate(other))


@pytest.mark.mpi(ranks=[2, 3])
def test_on_mpi(comm, shared_tmp_path):
    loader = DataLoader(Dataset(placed(comm, "uneven")), 5, seed=3)
    found = batches(comm, loader)
    expected = epoch_on(1, lambda comm: DataLoader(placed(comm, "even"), 5, seed=3))
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected[0]))
    path = shared_tmp_path / "x.h5"
    if comm.rank == 0:
        with h5py.File(path, "w") as file:
            file["x"] = X
    comm.barrier()
    data = PartialH5Dataset(path, "x", 5, seed=3)
    np.testing.assert_array_equal(np.concatenate(batches(comm, data)), np.concatenate(found))


def test_refusals(h5_file):
    def run(comm):
        def refuse(error, text, make, *args, **kwargs):
            assert text in assert_same_error_on_all_ranks(comm, error, lambda: make(*args, **kwargs))

        x = placed(comm, "even")
        refuse(LayoutError, "resplit(0)", Dataset, x.resplit(1))
        refuse(LayoutError, "number of rows", Dataset, x, np.ones(3))
        refuse(LayoutError, "number of rows", Dataset, np.array(1.0))
        refuse(TypeError, "at least one", Dataset)
        refuse(ValueError, "transforms", Dataset, x, transforms=[None, None])
        refuse(ValueError, "batch_size", DataLoader, x, 0)
        refuse(ValueError, "seed", DataLoader, x, 2, seed=-1)
        refuse(ValueError, "p must be", create_train_val_split, x, p=2)
        refuse(KeyError, "z", PartialH5Dataset, h5_file, "z", 2)
        refuse(LayoutError, "number of rows", PartialH5Dataset, h5_file, ["x", "short"], 2)
        refuse(LayoutError, "number of rows", PartialH5Dataset, h5_file, "scalar", 2)
        refuse(ValueError, "at least one name", PartialH5Dataset, h5_file, (), 2)
        refuse(FileNotFoundError, "nothing", PartialH5Dataset, h5_file.parent / "nothing.h5", "x", 2)
        assert get_comm() is comm

    spmd(2, run)


def test_empty_data():
    def run(comm):
        return len(list(DataLoader(Dataset(placed(comm, "even", X[:0])), 4)))

    assert spmd(2, run) == [0, 0]
