"""Pieces of arrays between any ranks: order, strides, reversal, conversion, and what is sent."""

import ht_comm
import numpy as np
import pytest
import torch
from ht_comm import pieces as pieces_module
from ht_comm import spmd


def pieces(comm, make):
    """Return what rank r sends to rank s: a strided (3, s + 1) array that tells both."""
    return [
        (s, make(np.arange(2.0 * 3 * (s + 1)).reshape(3, -1)[:, ::2] + 100 * comm.rank))
        for s in range(comm.size)
    ]


def expected(source, rank):
    return np.arange(2.0 * 3 * (rank + 1)).reshape(3, -1)[:, ::2] + 100 * source


@pytest.mark.parametrize("make", [np.asarray, torch.from_numpy], ids=["numpy", "torch"])
@pytest.mark.parametrize("flip", [(), (0,), (1,), (0, 1)])
@pytest.mark.parametrize("chunk", [16, 48, 2**20])
def test_pieces_arrive(make, flip, chunk, monkeypatch):
    monkeypatch.setattr(ht_comm.config, "chunk_bytes", chunk)
    monkeypatch.setattr(pieces_module, "TILE_BYTES", chunk)

    def run(comm):
        outs = [make(np.full((comm.rank + 1, 3), -1.0)).T for _ in range(comm.size)]
        sends = pieces(comm, make)
        # Pieces of one pair keep their order; pairs may be named in any.
        comm.exchange(sends[::-1], [(s, outs[s], flip) for s in range(comm.size)])
        for s in range(comm.size):
            np.testing.assert_array_equal(np.asarray(outs[s]), np.flip(expected(s, comm.rank), flip))

    for p in (1, 2, 3, 4):
        spmd(p, run)


def test_several_pieces_of_a_pair_and_conversion():
    def run(comm):
        right, left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
        a, b = (
            torch.tensor([comm.rank, 7], dtype=torch.int16),
            torch.tensor([[1 + comm.rank]], dtype=torch.int16),
        )
        x, y = torch.zeros(2, dtype=torch.float64), torch.zeros((1, 1), dtype=torch.complex64)
        with comm.trace() as sent:
            comm.exchange(
                [(right, a), (right, b)], [(left, x, (0,), torch.int16), (left, y, (), torch.int16)]
            )
        assert x.tolist() == [7, left]
        assert y.tolist() == [[1 + left]]
        return sent.messages, sent.bytes

    assert spmd(1, run) == [(0, 0)]
    assert spmd(3, run) == [(2, 6)] * 3


def test_ranks_without_pieces():
    def run(comm):
        out = np.zeros(2)
        first, last = comm.rank == 0, comm.rank == comm.size - 1
        comm.exchange([(comm.size - 1, np.ones(2))] * first, [(0, out)] * last)
        assert out.tolist() == ([1, 1] if last else [0, 0])
        comm.exchange([], [])

    spmd(3, run)


@pytest.mark.parametrize(
    ("sends", "receives", "error"),
    [
        ([(3, np.ones(2))], [], ValueError),
        ([], [(-1, np.ones(2))], ValueError),
        ([(0, [1, 2])], [], TypeError),
        ([], [(0, np.ones(2), (), "U3")], TypeError),
        ([(0, np.ones(2))], [], ValueError),
        ([(0, np.ones(2))], [(0, np.ones(3))], ValueError),
        ([(0, np.ones(2))], [(0, np.broadcast_to(0.0, 2))], ValueError),
    ],
)
def test_bad_pieces_are_refused(sends, receives, error):
    with pytest.raises(error, match="exchange:"):
        ht_comm.SerialComm().exchange(sends, receives)


@pytest.mark.parametrize("shape", [(5, 70), (70, 5)])
@pytest.mark.parametrize("dtype", ["uint16", "uint64", "bool", "complex64", "float32"])
def test_long_rows_and_wide_unsigned_integers_are_reversed(shape, dtype):
    values = (np.arange(350).reshape(shape) % 251).astype(dtype)

    def run(comm):
        for axis in (0, 1):
            out = torch.zeros(shape, dtype=getattr(torch, dtype))
            peer = comm.size - 1 - comm.rank
            comm.exchange([(peer, torch.from_numpy(values))], [(peer, out, (axis,))])
            np.testing.assert_array_equal(out.numpy(), np.flip(values, axis))

    spmd(2, run)
    spmd(1, run)
