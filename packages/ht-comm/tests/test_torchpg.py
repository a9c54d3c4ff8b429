"""The contract suite on torch.distributed, and what is particular to it."""

import os
import socket
import subprocess
import sys

import numpy as np
import pytest
import torch
from ht_comm import CommError, TorchComm, spmd, world
from ht_comm.contract import Contract, PairedContract
from ht_comm.contract.arrays import LIBRARIES, block
from ht_comm.launcher import is_under_torchrun
from ht_comm.rendezvous import own_address
from ht_comm.testing import assert_same_error_on_all_ranks


class DirectComm(TorchComm):
    """Takes tensors in host memory for tensors on a device, and gloo for NCCL."""

    @property
    def _device_group(self):
        return self._group

    @_device_group.setter
    def _device_group(self, value):
        pass

    @staticmethod
    def _is_on_device(x):
        return True


_made = {}


def made(cls):
    """Return the one communicator of a class, over all ranks."""
    if cls not in _made:
        _made[cls] = cls.from_mpi(world())
    return _made[cls]


@pytest.mark.mpi(ranks=[2])
class TestGloo(Contract):
    """Everything through host memory."""

    @pytest.fixture
    def run(self):
        return lambda body: body(made(TorchComm)) and None


@pytest.mark.mpi(ranks=[3])
class TestMoreGloo(PairedContract):
    """The same on three ranks."""

    ranks = pytest.fixture(lambda self: 3)

    @pytest.fixture
    def run(self):
        return lambda body: body(made(TorchComm)) and None


@pytest.mark.mpi(ranks=[3])
class TestDirect(Contract):
    """Tensors given to the process group as they are."""

    slices_tensors = False

    @pytest.fixture
    def run(self):
        return lambda body: body(made(DirectComm)) and None

    @pytest.fixture(params=[x for x in LIBRARIES if x.name == "torch"], ids=lambda library: library.name)
    def library(self, request):
        """NumPy arrays are not on a device."""
        return request.param

    @pytest.fixture(params=[None], ids=["whole"])
    def limit(self, request):
        """Messages are not sliced."""
        return request.param


@pytest.mark.mpi(ranks=[2, 3])
@pytest.mark.parametrize(
    ("op", "dtype"), [("max", "float32"), ("prod", "complex64"), ("sum", "int16"), ("moments", "float64")]
)
def test_long_operands_are_combined_in_blocks(comm, monkeypatch, op, dtype):
    monkeypatch.setattr("ht_comm.config.chunk_bytes", 64)
    x = block(comm.rank, (7, 5), dtype)
    np.testing.assert_array_equal(made(TorchComm).allreduce(x, op), comm.allreduce(x, op))


def test_ranks_may_be_threads():
    def body(comm):
        with TorchComm.from_mpi(comm) as other:
            part = other.split(other.rank % 2)
            total = part.allreduce(np.array([other.rank]))[0]
            part.free()
            return total, other.node().size, other.allreduce(torch.ones(3)).tolist()

    assert spmd(3, body) == [(2, 3, [3.0] * 3), (1, 3, [3.0] * 3), (2, 3, [3.0] * 3)]


def test_one_rank():
    def body(comm):
        other = TorchComm.from_mpi(comm)
        assert other.size == 1
        assert other.dup().allreduce(np.ones(2)).tolist() == [1.0, 1.0]
        assert other.node().size == 1
        other.free()

    spmd(1, body)


def test_rank_that_never_comes_is_an_error():
    def body(comm):
        other = TorchComm.from_mpi(comm, timeout=1.0)
        if comm.rank == 0:
            with pytest.raises(CommError, match="allreduce: all ranks must take part in time"):
                other.allreduce(np.ones(2))

    spmd(2, body)


def test_rank_that_leaves_is_an_error():
    def body(comm):
        other = TorchComm.from_mpi(comm, timeout=30)
        if comm.rank:
            other._group = None  # as when its process ends
            return None
        with pytest.raises(
            CommError, match=r"^allreduce: all ranks must take part in time, got .*by peer"
        ) as caught:
            other.allreduce(np.ones(2))
        return str(caught.value)

    assert "Check the logs" not in spmd(2, body)[0]


def test_mismatched_use_is_refused():
    def body(comm):
        for error, call in (
            (TypeError, lambda: TorchComm.from_mpi("world")),
            (ValueError, lambda: TorchComm.from_mpi(comm, backend="tcp")),
            (CommError, lambda: TorchComm()),
        ):
            assert_same_error_on_all_ranks(comm, error, call)

    spmd(2, body)


def test_interface_is_checked(monkeypatch):
    monkeypatch.setenv("HT_COMM_IFACE", "none0")
    with pytest.raises(CommError, match=r"HT_COMM_IFACE must name an interface .* got 'none0'"):
        own_address(is_alone=True)
    monkeypatch.delenv("HT_COMM_IFACE")
    assert own_address(is_alone=True) == "127.0.0.1"


def test_interface_is_used(monkeypatch):
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    monkeypatch.setenv("HT_COMM_IFACE", loopback[0])
    assert own_address(is_alone=False) == "127.0.0.1"


SCRIPT = """
import numpy as np, torch.distributed as dist
from ht_comm import TorchComm
comm = TorchComm.world(timeout=30)
first = comm.allreduce(np.array([comm.rank + 1]))[0]
dist.init_process_group("gloo", rank=comm.rank, world_size=comm.size, store=comm._meeting.store)
other = TorchComm(timeout=30)
second = other.bcast_object(f"from {other.rank}", root=1)
comm.barrier()
print(comm.size, first, second)
comm.free(); other.free(); dist.destroy_process_group()
"""


def torchrun(script, **settings):
    """Run a script as two ranks, with the variables that torchrun sets; return what each prints."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Not as ranks of the launcher this test may run under
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PMI", "OMPI", "PMIX", "MPI", "HYDRA"))}
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "HT_COMM_HOOK": "0"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env={**clean, **place, "RANK": str(rank), "LOCAL_RANK": str(rank), **settings},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    return [rank.communicate(timeout=120)[0] for rank in ranks]


WORLD = """
import numpy as np, ht_comm, sys
comm = ht_comm.get_comm()
total = comm.allreduce(np.array([comm.rank + 1.0]))
print(type(comm).__name__, comm.size, total[0], comm is ht_comm.world(), "mpi4py.MPI" in sys.modules)
comm.barrier()
"""


@pytest.mark.parametrize("wanted", ["auto", "torch"])
def test_the_world_under_torchrun(wanted):
    assert torchrun(WORLD, HT_COMM_WORLD=wanted) == ["TorchComm 2 3.0 True False\n"] * 2


def test_the_world_under_torchrun_can_be_each_process_alone():
    assert torchrun(WORLD, HT_COMM_WORLD="serial") == ["SerialComm 1 1.0 True False\n"] * 2


def test_a_launcher_of_mpi_comes_first(monkeypatch):
    for name in ("PMI_SIZE", "OMPI_COMM_WORLD_SIZE", "MV2_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": "1"}.items():
        assert not is_under_torchrun()
        monkeypatch.setenv(name, value)
    assert is_under_torchrun()
    monkeypatch.setenv("PMI_SIZE", "2")
    assert not is_under_torchrun()
    monkeypatch.delenv("PMI_SIZE")
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert not is_under_torchrun()


def test_torchrun_environment():
    assert torchrun(SCRIPT) == ["2 3 from 1\n"] * 2
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MASTER_ADDR", raising=False)
        with pytest.raises(CommError, match=r"MASTER_ADDR.* must be set"):
            TorchComm.world()
