"""Arrays meeting NumPy, torch, DTensor, DLPack, pickle and Python's own protocols."""

import copy
import pickle

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.testing import spread, whole

VALUES = np.arange(20, dtype=np.float64).reshape(5, 4) / 3
LAYOUTS = [(None, ()), (0, (4, 0, 1)), (1, (1, 2, 1))]


def on_all_layouts(function, p=3):
    """Call ``function(x)`` for every layout on every rank; return the results."""
    return [
        r
        for each in spmd(p, lambda comm: [function(spread(VALUES, *la, comm)) for la in LAYOUTS])
        for r in each
    ]


NUMPY_CALLS = {
    "sin": lambda x: np.sin(x),
    "add": lambda x: np.add(x, 1.0),
    "array first": lambda x: np.ones((5, 4)) + x,
    "reduce": lambda x: np.add.reduce(x),
    "reduce all": lambda x: np.maximum.reduce(x, axis=None, keepdims=True),
    "outer": lambda x: np.multiply.outer(x[:, 0], x[0]),
    "outer with array": lambda x: np.subtract.outer(np.arange(2.0), x[0]),
    "divmod": lambda x: np.divmod(x, 2.0)[1],
    "concatenate": lambda x: np.concatenate([x, x], axis=1),
    "mean": lambda x: np.mean(x, axis=0),
    "clip": lambda x: np.clip(x, 1.0, 3.0),
    "where": lambda x: np.where(x > 2, x, 0.0),
    "reshape": lambda x: np.reshape(x, (4, 5)),
    "transpose": lambda x: np.transpose(x),
    "asarray": lambda x: np.asarray(x),
    "array of a dtype": lambda x: np.array(x, dtype=np.float32),
}


@pytest.mark.parametrize("name", NUMPY_CALLS)
def test_numpy_calls(name):
    call = NUMPY_CALLS[name]
    expected = call(VALUES)
    for found in on_all_layouts(lambda x: (lambda y: whole(y) if isinstance(y, ht.DNDarray) else y)(call(x))):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert found.dtype == expected.dtype


def test_every_row_with_a_numpy_name_is_what_numpy_runs():
    from ht_core.protocols import _by_numpy_name, _find_function

    checked = 0
    for name, row in ht.OPERATIONS.items():
        function = getattr(np, row.numpy, None) if row.numpy else None
        if name != row.name or row.kind == "creation" or function is None:
            continue
        find = (
            _by_numpy_name(function.__name__)
            if isinstance(function, np.ufunc)
            else _find_function("numpy", row.numpy)
        )
        assert find is row.function, name
        checked += 1
    assert checked > 150


def test_numpy_metadata_needs_no_message():
    def run(comm):
        x = spread(VALUES, 0, (4, 1), comm)
        with comm.trace() as sent:
            facts = np.shape(x), np.ndim(x), np.size(x), np.size(x, 1), np.iscomplexobj(x)
        return facts, sent.calls

    assert spmd(2, run) == [(((5, 4), 2, 20, 4, False), 0)] * 2


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: np.add.at(x, 0, 1.0), r"np.add.at: there is no distributed version"),
        (lambda x: np.add.reduceat(x, [0, 2]), r"np.add.reduceat: there is no"),
        (lambda x: np.hypot.reduce(x), r"np.hypot.reduce: there is no"),
        (lambda x: np.busday_count(x, x), "busday_count"),
        (lambda x: np.add(x, x, casting="unsafe"), "casting must be 'same_kind'"),
        (lambda x: torch.sort(x), "torch.sort: there is no operation"),
        (lambda x: torch.add(x, x, alpha=2), "torch.add: an argument"),
        (lambda x: torch.max(x, 0), "argument"),
    ],
)
def test_calls_that_are_refused(call, text):
    def run(comm):
        with comm.trace() as sent, pytest.raises(TypeError, match=text):
            call(spread(VALUES, 0, (4, 1), comm))
        return sent.calls

    assert spmd(2, run) == [0, 0]


TORCH_CALLS = {
    "sin": lambda x: torch.sin(x),
    "sum": lambda x: torch.sum(x, dim=0, keepdim=True),
    "std": lambda x: torch.std(x, dim=0),
    "var of all": lambda x: torch.var(x, correction=0),
    "max": lambda x: torch.max(x),
    "clamp": lambda x: torch.clamp(x, 1.0, 3.0),
    "cat": lambda x: torch.cat([x, x], dim=1),
    "where": lambda x: torch.where(x > 2, x, x * 0),
    "transpose": lambda x: torch.transpose(x, 0, 1),
    "unsqueeze": lambda x: torch.unsqueeze(x, 1),
    "reshape": lambda x: torch.reshape(x, (4, 5)),
    "add": lambda x: torch.add(x, 1.5),
    "tensor first": lambda x: torch.ones(4, dtype=torch.float64) - x,
    "tensor compared": lambda x: torch.full((4,), 2.0, dtype=torch.float64) < x,
}


@pytest.mark.parametrize("name", TORCH_CALLS)
def test_torch_calls(name):
    call = TORCH_CALLS[name]
    expected = call(torch.tensor(VALUES)).numpy()
    for found in on_all_layouts(lambda x: whole(call(x))):
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert found.dtype == expected.dtype


def test_dlpack():
    def run(comm):
        x = spread(VALUES, None, (), comm)
        shared = torch.from_dlpack(x)
        same = shared.data_ptr() == x.larray.data_ptr() and np.from_dlpack(x).shape == (5, 4)
        y = spread(VALUES, 0, (4, 1), comm)
        with pytest.raises(BufferError, match="whole on every rank"):
            torch.from_dlpack(y)
        return same, y.__dlpack_device__() == torch.empty(0).__dlpack_device__()

    assert spmd(2, run) == [(True, True)] * 2
    assert spmd(1, lambda comm: torch.from_dlpack(spread(VALUES, 0, (5,), comm)).shape) == [(5, 4)]


def test_partitioned_round_trip():
    def run(comm):
        kept = []
        for layout in LAYOUTS:
            x = spread(VALUES, *layout, comm)
            with comm.trace() as sent:
                parted = x.__partitioned__
            assert sent.calls == 0
            y = ht.from_partitioned(x, comm)
            kept.append(y.layout is x.layout and y.larray.data_ptr() == x.larray.data_ptr())
            parts = parted["partitions"]
            assert [parts[k]["data"] is not None for k in parted["locals"]] == [True]
            if layout[0] is not None:
                assert [parts[k]["shape"][layout[0]] for k in sorted(parts)] == list(layout[1])
                assert sum(part["data"] is not None for part in parts.values()) == 1
        return kept

    assert spmd(3, run) == [[True, True, True]] * 3


def test_pickle_and_copies():
    def run(comm):
        for layout in LAYOUTS:
            x = spread(VALUES, *layout, comm)
            view = x[1:, ::2]
            for source in (x, view, x > 1, x.astype(ht.bfloat16)):
                loaded = pickle.loads(pickle.dumps(source))
                deep, shallow = copy.deepcopy(source), copy.copy(source)
                assert loaded.layout is deep.layout is shallow.layout is source.layout
                assert loaded.dtype is deep.dtype is source.dtype
                np.testing.assert_array_equal(loaded.numpy(), source.numpy())
                np.testing.assert_array_equal(deep.numpy(), source.numpy())
                assert not source.lnumel or deep.larray.data_ptr() != source.larray.data_ptr()
                assert shallow.larray.data_ptr() == source.larray.data_ptr()
            deep = copy.deepcopy(view)
            deep[:] = 0.0
            np.testing.assert_array_equal(whole(x), VALUES)
        return True

    assert spmd(3, run) == [True] * 3


def test_items_and_containers():
    def run(comm):
        found = []
        for layout in LAYOUTS:
            x = spread(VALUES, *layout, comm)
            with comm.trace() as sent:
                items = x.item(7), x.item(-1), x.item(2, 3), x.item((0, 1))
            assert all(event.bytes <= 4 * 8 for event in sent.events)  # a row at most, never the array
            rows = [row.numpy().tolist() for row in reversed(x)]
            found.append((items, 2 / 3 in x, 0.1 in x, np.float64(1.0) in x, rows, f"{x[1, 1]:.2f}"))
            with pytest.raises(IndexError, match="position must be"):
                x.item(20)
            with pytest.raises(ht.LayoutError, match="2 entries"):
                x.item((1,))
        return found

    expected = (
        (VALUES[1, 3], VALUES[4, 3], VALUES[2, 3], VALUES[0, 1]),
        True,
        False,
        True,
        VALUES[::-1].tolist(),
        "1.67",
    )
    for each in spmd(3, run):
        assert each == [expected] * 3


@pytest.mark.mpi
def test_dtensor_round_trips(comm):
    """Even and uneven arrays, through gloo, on the ranks of this job."""
    import os

    dist = torch.distributed
    from torch.distributed.tensor import DTensor, Replicate, Shard

    if comm.size not in (1, 2, 3):
        return
    if not dist.is_initialized():
        store = (
            dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False) if comm.rank == 0 else None
        )
        port = comm.bcast_object(None if store is None else store.port)
        if store is None:
            store = dist.TCPStore("127.0.0.1", port, is_master=False)
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        dist.init_process_group("gloo", store=store, rank=comm.rank, world_size=comm.size)
    try:
        for shape in ((6, 4), (5, 3), (1, 4)):
            values = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
            for split in (None, 0, 1):
                x = ht.array(values, split=split, comm=comm)
                d = ht.to_dtensor(x)
                assert isinstance(d, DTensor)
                assert d.placements == (Replicate() if split is None else Shard(split),)
                np.testing.assert_array_equal(d.full_tensor().numpy(), values)
                y = ht.from_dtensor(d, comm)
                assert y.split == split
                np.testing.assert_array_equal(y.numpy(), values)
                total = ht.from_dtensor(d.sum(), comm) if split is not None else y.sum()
                assert float(total) == values.sum()
    finally:
        dist.destroy_process_group()
