"""What every communicator must do, as tests: written once, run on each transport.

A transport is tested by a subclass of `Contract` with a fixture ``run``, which calls a function with a communicator on
every rank of a group::

    class TestThreads(Contract):
        @pytest.fixture(params=[1, 2, 3, 4])
        def run(self, request):
            return lambda body: spmd(request.param, body)

Needs pytest, and is imported by tests only.
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"ht_comm.contract.{part}"
        for part in (
            "capital",
            "matrix",
            "messages",
            "movement",
            "neighbours",
            "nonblocking",
            "operators",
            "reductions",
        )
    )
)

from .arrays import LIBRARIES  # noqa: E402 - the modules below must be registered first
from .capital import CapitalContract  # noqa: E402
from .matrix import MatrixContract  # noqa: E402
from .messages import MessageContract  # noqa: E402
from .movement import MovementContract  # noqa: E402
from .neighbours import NeighbourContract  # noqa: E402
from .nonblocking import NonBlockingContract  # noqa: E402
from .operators import OperatorContract  # noqa: E402
from .reductions import ReductionContract  # noqa: E402

SHORT = 40  # bytes of a slice: every path that slices is taken


class Contract(
    ReductionContract,
    OperatorContract,
    MatrixContract,
    MovementContract,
    NonBlockingContract,
    NeighbourContract,
    MessageContract,
    CapitalContract,
):
    """The whole suite."""

    @pytest.fixture(params=LIBRARIES, ids=lambda library: library.name)
    def library(self, request):
        """NumPy, and torch where it is installed."""
        return request.param

    @pytest.fixture(params=[None, SHORT], ids=["whole", "sliced"])
    def limit(self, request, monkeypatch):
        """Run with the default slice length, and with one so short that every path that slices is taken."""
        if request.param is not None:
            monkeypatch.setattr("ht_comm.config.slice_bytes", request.param)
        return request.param


class PairedContract(Contract):
    """The suite with every library and both slice lengths, but not with each pair of the two.

    For the second and later numbers of ranks of a transport: on 1, 4, 5 ranks NumPy arrays travel whole and tensors in
    slices, on 2, 3, 6, 7 ranks the other way round. Needs a fixture ``ranks`` beside ``run``.
    """

    @pytest.fixture
    def limit(self, ranks, library, monkeypatch):
        """The default slice length or a short one, as the number of ranks and the library say."""
        if (ranks // 2 + (library.name == "torch")) % 2 == 0:
            return None
        monkeypatch.setattr("ht_comm.config.slice_bytes", SHORT)
        return SHORT


__all__ = ["LIBRARIES", "Contract", "PairedContract"]
