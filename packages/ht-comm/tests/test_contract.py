"""The contract suite on the three transports."""

import pytest
from ht_comm import SerialComm, spmd
from ht_comm.contract import Contract, PairedContract


class TestSerial(Contract):
    """One rank without a transport."""

    @pytest.fixture
    def run(self):
        return lambda body: body(SerialComm())


class TestThreads(Contract):
    """Ranks as threads."""

    @pytest.fixture
    def run(self):
        return lambda body: spmd(3, body)


class TestMoreThreads(PairedContract):
    """Other numbers of ranks."""

    @pytest.fixture(params=[1, 2, 4, 7], ids="p={}".format)
    def ranks(self, request):
        return request.param

    @pytest.fixture
    def run(self, ranks):
        return lambda body: spmd(ranks, body)


@pytest.mark.mpi(ranks=[3])
class TestMPI(Contract):
    """Ranks as MPI processes. (What depends on MPI at other numbers of ranks is in test_mpi.py.)"""

    @pytest.fixture
    def run(self, comm):
        return lambda body: body(comm) and None


@pytest.mark.mpi(ranks=[1, 2, 4, 7])
class TestMoreMPI(PairedContract):
    """Other numbers of ranks."""

    @pytest.fixture
    def ranks(self, comm):
        return comm.size

    @pytest.fixture
    def run(self, comm):
        return lambda body: body(comm) and None
