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

    @pytest.fixture(params=[1, 2, 3, 4], ids="p={}".format)
    def run(self, request):
        return lambda body: spmd(request.param, body)


@pytest.mark.mpi
class TestMPI(Contract):
    """Ranks as MPI processes; with one process the MPI communicator is made on purpose."""

    @pytest.fixture
    def run(self, comm):
        from ht_comm import MPIComm
        from mpi4py import MPI

        own = comm if comm.size > 1 else MPIComm(MPI.COMM_WORLD)
        yield lambda body: body(own) and None
        if own is not comm:
            own.free()
