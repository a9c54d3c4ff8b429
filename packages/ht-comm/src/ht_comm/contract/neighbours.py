"""The contract of halos and rings."""

import numpy as np
import pytest

from ..neighbours import plan_halo
from .arrays import cycle, is_untouched

COUNTS = [(3, 2, 4, 3), (4, 0, 1, 2), (0, 0, 5, 0), (1, 1, 1, 1), (0, 0, 0, 0), (0, 2, 0, 7)]


def with_halo(
    whole: np.ndarray, start: int, count: int, before: int, after: int, periodic: bool
) -> np.ndarray:
    """Return rows ``start - before .. start + count + after`` of a whole array."""
    n = len(whole)
    rows = np.arange(start - before, start + count + after)
    if n == 0:
        return whole
    return whole[rows % n] if periodic else whole[rows[(rows >= 0) & (rows < n)]]


class NeighbourContract:
    """halo and ring."""

    @pytest.mark.parametrize("counts", COUNTS, ids=str)
    @pytest.mark.parametrize("periodic", [False, True], ids=["open", "periodic"])
    def test_halo(self, run, library, limit, counts, periodic):
        def body(comm):
            own = cycle(counts, comm.size)
            n, start = sum(own), sum(own[: comm.rank])
            whole = np.arange(n * 6.0).reshape(n, 2, 3)
            for axis in (0, 1, -1):
                for before, after in ((0, 0), (1, 1), (2, 0), (0, 3), (5, 4), (2 * n + 1, n)):
                    want = np.moveaxis(
                        with_halo(whole, start, own[comm.rank], before, after, periodic), 0, axis
                    )
                    layout = library.layouts[(before + axis + comm.rank) % len(library.layouts)]
                    x = library.make(
                        np.moveaxis(whole[start : start + own[comm.rank]], 0, axis), layout=layout
                    )
                    result = comm.halo(x, before, after, own, axis=axis, periodic=periodic)
                    assert library.is_same_type(result, x)
                    np.testing.assert_array_equal(library.read(result), want)
                    out, base = library.empty(want.shape, "float64", layout)
                    if n:  # this time from the interior of the result
                        margin = before if periodic else min(before, start)
                        index = [slice(None)] * 3
                        index[axis] = slice(margin, margin + own[comm.rank])
                        interior = out[tuple(index)]
                        interior[...] = x
                        x = interior
                    assert comm.halo(x, before, after, own, axis=axis, periodic=periodic, out=out) is out
                    np.testing.assert_array_equal(library.read(out), want)
                    assert is_untouched(library, out, base)

        run(body)

    def test_halo_sends_to_neighbours_only(self, run):
        def body(comm):
            p, rank = comm.size, comm.rank
            x = np.ones((4, 5))
            with comm.trace() as t:
                comm.halo(x, 2, 1, (4,) * p)
                comm.halo(x, 2, 1, (4,) * p, periodic=True)
            open_rows = 2 * (rank < p - 1) + 1 * (rank > 0)
            assert [event.bytes for event in t.events] == [40 * open_rows, 40 * 3 * (p > 1)]
            assert [event.messages for event in t.events] == [(rank < p - 1) + (rank > 0), 2 * (p > 1)]

        run(body)

    def test_halo_is_checked(self, run, library):
        def body(comm):
            x, counts = library.make(np.ones((2, 3))), (2,) * comm.size
            for text, call in (
                ("before must be at least 0", lambda: comm.halo(x, -1, 0, counts)),
                ("counts must be", lambda: comm.halo(x, 1, 1, (*counts, 2))),
                (r"x must have extent counts\[", lambda: comm.halo(x, 1, 1, (1,) * comm.size)),
                ("axis must be in", lambda: comm.halo(x, 1, 1, counts, axis=2)),
                ("out must have shape", lambda: comm.halo(x, 1, 1, counts, periodic=True, out=x)),
            ):
                with pytest.raises(ValueError, match=f"halo: {text}"):
                    call()

        run(body)

    def test_plans_are_shared(self):
        plans = plan_halo((3, 0, 2), 2, 1, True)
        assert plan_halo((3, 0, 2), 2, 1, True) is plans
        assert [(plan.before, plan.after) for plan in plans] == [(2, 1)] * 3
        assert [piece.source for piece in plans[1].receives] == [0, 2]

    @pytest.mark.parametrize("counts", COUNTS, ids=str)
    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_ring_of_blocks(self, run, library, limit, counts, axis):
        def body(comm):
            own = cycle(counts, comm.size)
            blocks = [
                np.moveaxis(np.arange(6.0 * n).reshape(n, 2, 3) + 100 * r, 0, axis) for r, n in enumerate(own)
            ]
            for layout in library.layouts:
                x = library.make(blocks[comm.rank], layout=layout)
                owners = []
                for owner, passing in comm.ring(x, own, axis=axis):
                    owners.append(owner)
                    assert library.is_same_type(passing, x)
                    np.testing.assert_array_equal(library.read(passing), blocks[owner])
                    if owner == comm.rank:
                        assert passing is x
                        comm.allreduce(np.ones(1))  # other collectives do not meet it
                assert owners == [(comm.rank + step) % comm.size for step in range(comm.size)]

        run(body)

    def test_rings_within_rings(self, run):
        def body(comm):
            p, counts = comm.size, (2,) * comm.size
            x = np.array([comm.rank, comm.rank + 0.5])
            total = 0.0
            for _, a in comm.ring(x, counts):
                for _, b in comm.ring(-x, counts):
                    total += a[1] * b[0]
            assert total == -sum(range(p)) * (sum(range(p)) + 0.5 * p)

        run(body)

    def test_ring_is_one_event(self, run):
        def body(comm):
            counts = cycle((3, 0, 2, 1), comm.size)
            with comm.trace() as t:
                for _ in comm.ring(np.ones(counts[comm.rank]), counts):
                    pass
            sent = [counts[(comm.rank + step) % comm.size] for step in range(comm.size - 1)]
            assert [event.op for event in t.events] == ["ring"]
            assert t.bytes == 8 * sum(sent)
            assert t.messages == sum(count > 0 for count in sent)
            with pytest.raises(ValueError, match="ring: counts must be"):
                comm.ring(np.ones(1), (1,) * (comm.size + 1))

        run(body)
