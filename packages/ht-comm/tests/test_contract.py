"""The contract suite on the three transports."""

import pytest
from ht_comm import SerialComm, spmd
from ht_comm.contract import Contract


class TestSerial(Contract):
    """One rank without a transport."""

    @pytest.fixture
    def run(self):
        return lambda body: body(SerialComm())


class TestThreads(Contract):
    """Ranks as threads."""

    @pytest.fixture(params=[1, 2, 3, 4, 7], ids="p={}".format)
    def run(self, request):
        return lambda body: spmd(request.param, body)


@pytest.mark.mpi(ranks=[1, 2, 3, 4, 7])
class TestMPI(Contract):
    """Ranks as MPI processes. (What depends on MPI at other numbers of ranks is in test_mpi.py.)"""

    @pytest.fixture
    def run(self, comm):
        return lambda body: body(comm) and None
