"""The transport of one rank, below its methods."""

import numpy as np
import pytest
from ht_comm import SerialComm
from ht_comm.buffers import NumpyKind
from ht_comm.dtypes import DTYPES
from ht_comm.operators import find_reduction


def test_one_rank_carries_out_every_primitive():
    """Methods of one rank answer before they come to these; engines that build on them need not."""
    comm, red = SerialComm(), find_reduction("test", "sum", DTYPES["float64"], (3,))
    x = NumpyKind.buffer(np.arange(3.0), DTYPES["float64"])
    for call in (
        lambda out: comm._allreduce(x, out, red),
        lambda out: comm._allgatherv(x, out, (3,)),
        lambda out: comm._reduce_scatterv(x, out, (3,), red),
        lambda out: comm._istart("allgatherv", x, out, (3,)).wait(),
    ):
        out = NumpyKind.buffer(np.zeros(3), DTYPES["float64"])
        call(out)
        np.testing.assert_array_equal(out.array, [0, 1, 2])
    comm._allreduce(None, x, red)
    comm._bcast(x, 0)
    assert comm._split_node().size == 1
    np.testing.assert_array_equal(x.array, [0, 1, 2])


@pytest.mark.parametrize("name", ["scatter", "iscatter"])
def test_what_is_scattered_must_be_as_announced(name):
    scatter = getattr(SerialComm(), name)
    with pytest.raises(TypeError, match=rf"{name}: x must be a NumPy array of dtype float32, got .* float64"):
        scatter(np.zeros(3), like=np.zeros(3, np.float32))
    with pytest.raises(ValueError, match=rf"{name}: x must have shape \(2,\), got \(3,\)"):
        scatter(np.zeros(3), like=np.zeros(2))


@pytest.mark.parametrize("name", ["gather", "igather", "allgather", "alltoall", "reduce_scatter"])
def test_results_must_have_the_form_announced(name):
    method = getattr(SerialComm(), name)
    with pytest.raises(ValueError, match=rf"{name}\w*: out must have shape \(3,\), got \(2,\)"):
        method(np.zeros(3), out=np.zeros(2))
    with pytest.raises(TypeError, match=rf"{name}\w*: out must be a NumPy array of dtype float64"):
        method(np.zeros(3), out=np.zeros(3, np.float32))


@pytest.mark.parametrize("peer", [-1, 1])
def test_pieces_are_for_ranks_that_exist(peer):
    with pytest.raises(ValueError, match=r"exchange: .*\[0, 1\)"):
        SerialComm().exchange([(peer, np.ones(2))], [])
