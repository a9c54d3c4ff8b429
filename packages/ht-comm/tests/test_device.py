"""Tensors on a device: staging through pinned blocks, and the contract on such tensors.

Without a device the same code runs on tensors in host memory that are treated as if they were on one.
"""

import math

import numpy as np
import pytest
import torch
from ht_comm import SerialComm, device, spmd
from ht_comm.awareness import Awareness, confirmed
from ht_comm.contract import Contract, PairedContract
from ht_comm.contract.arrays import TorchArrays
from ht_comm.device import HostLane, Staging, chunk_indices, device_of_rank, use_device_of_rank


class LazyLane(HostLane):
    """A device on which nothing happens before someone waits for it."""

    def __init__(self):
        self.queue = []
        self.peak = 0

    def submit(self, copy):
        self.queue.append(copy)
        self.peak = max(self.peak, len(self.queue))
        mine = len(self.queue)
        done = self.queue

        def wait():
            while len(done) and mine > self.count:
                done.pop(0)()
                self.count += 1

        mine += self.count
        return wait

    count = 0

    def flush(self):
        while self.queue:
            self.queue.pop(0)()
            self.count += 1


class DeviceArrays(TorchArrays):
    """Makes and reads tensors on a device."""

    def __init__(self, where):
        self.where = torch.device(where)

    def spread(self, values, layout, dtype=None):
        view, base = super().spread(values, layout, dtype)
        there = base.to(self.where)
        return torch.as_strided(there, view.shape, view.stride(), view.storage_offset()), there

    def read(self, x):
        assert x.device.type == self.where.type
        return super().read(x.cpu())


@pytest.fixture
def staged(monkeypatch, device):
    """Run with short chunks; treat host memory as a device where this run has none."""
    monkeypatch.setattr("ht_comm.device.stage_all", device == "cpu")
    monkeypatch.setattr("ht_comm.device.SMALL", 0)
    monkeypatch.setattr("ht_comm.config.chunk_bytes", 64)
    return device


class OnDevice:
    """Makes the contract one on tensors that are not in host memory."""

    @pytest.fixture
    def library(self, staged):
        return DeviceArrays(staged)


class TestThreads(OnDevice, Contract):
    @pytest.fixture
    def run(self, staged):
        return lambda body: spmd(3, body)


class TestSerial(OnDevice, PairedContract):
    ranks = pytest.fixture(lambda self: 1)

    @pytest.fixture
    def run(self, staged):
        return lambda body: body(SerialComm())


@pytest.mark.mpi(ranks=[2])
class TestMPI(OnDevice, PairedContract):
    ranks = pytest.fixture(lambda self: 2)

    @pytest.fixture
    def run(self, comm, staged):
        return lambda body: body(comm) and None


@pytest.mark.parametrize("shape", [(), (0,), (1,), (17,), (3, 5), (2, 0, 3), (4, 3, 2), (2, 40), (1, 1, 33)])
@pytest.mark.parametrize("limit", [1, 4, 7, 100])
def test_chunks_cover_an_array_once(shape, limit):
    seen = np.zeros(shape, int)
    for index in chunk_indices(shape, limit):
        assert 0 < seen[index].size <= limit
        seen[index] += 1
    assert (seen == 1).all()


LAYOUTS = {
    "contiguous": lambda x: x.contiguous(),
    "transposed": lambda x: x.mT.contiguous().mT,
    "stepped": lambda x: torch.stack([x, x], -1).flatten(-2)[..., ::2],
}


@pytest.mark.parametrize("source", LAYOUTS)
@pytest.mark.parametrize("target", LAYOUTS)
@pytest.mark.parametrize(
    "types", [("float64", "float64"), ("bfloat16", "float32"), ("bool", "uint8")], ids=str
)
def test_copies_complete_when_they_say_so(source, target, types):
    values = torch.arange(7 * 6 * 4).reshape(7, 6, 4) % 5
    x = LAYOUTS[source](values.to(getattr(torch, types[0])))
    expected = x.to(getattr(torch, types[1]))
    lane = LazyLane()
    staging = Staging(lane, 64)
    out = LAYOUTS[target](torch.zeros(values.shape, dtype=expected.dtype))
    staging.to_host(out, x)
    assert torch.equal(out, expected)
    assert not lane.queue
    for _ in range(2):  # the second time the blocks are still in use
        out = LAYOUTS[target](torch.zeros(values.shape, dtype=expected.dtype))
        changing = x.clone(memory_format=torch.preserve_format)
        staging.to_device(out, changing)
        changing.zero_()
        assert 0 < len(lane.queue) <= 2  # two chunks at most are on their way
    lane.flush()
    assert torch.equal(out, expected)


def test_chunks_overlap():
    lane = LazyLane()
    x = torch.arange(1000.0)
    staging = Staging(lane, 400)
    staging.to_host(torch.empty(1000), x)
    assert lane.peak == 2
    assert lane.count == math.ceil(1000 / 100)


def test_pinned_blocks_on_a_device(device):
    """The pipeline itself; on the device where there is one."""
    from ht_comm.device import transfer

    n = 3 * 2**20 + 5
    x = torch.arange(n, dtype=torch.float64, device=device)
    host = torch.empty(n, dtype=torch.float64)
    transfer(host, x)
    assert torch.equal(host, torch.arange(n, dtype=torch.float64))
    back = torch.zeros(2, n, dtype=torch.float32, device=device)[1]
    transfer(back, host)
    assert torch.equal(back.cpu(), host.float())


def test_devices_take_turns():
    def body(comm):
        numbers = [device_of_rank(comm, count) for count in (0, 1, 2, 8)]
        with pytest.raises(ValueError, match="count must be at least 0"):
            device_of_rank(comm, -1)
        return numbers

    assert spmd(3, body) == [[None, 0, 0, 0], [None, 0, 1, 1], [None, 0, 0, 2]]


def test_device_of_rank_is_made_current(device):
    found = use_device_of_rank(SerialComm())
    assert found.type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device == "cpu" or torch.ones(1, device="cuda").device == found


@pytest.mark.mpi(ranks=[2])
def test_trial_of_device_pointers_in_a_process_of_its_own(comm):
    if comm.rank == 0:
        assert confirmed("told so", "cpu") == Awareness(True, "told so, confirmed by a trial")
        refused = confirmed("told so", "cuda:99")
        assert not refused.is_aware
        assert refused.source == "told so, but the trial ended with status 1"
    comm.barrier()


def test_staging_is_off_unless_asked_for():
    assert not device.stage_all
