"""The contract of bcast, allgather(v), gather(v), scatter(v) and alltoall(v)."""

import numpy as np
import pytest

from .arrays import block, cycle, is_untouched, split_blocks

COUNTS = [(2, 2, 2, 2), (3, 0, 1, 2), (0, 0, 0, 0), (0, 5, 0, 0)]


class MovementContract:
    """Moving data."""

    @pytest.mark.parametrize("shape", [(), (0,), (9,), (3, 4), (2, 3, 5)], ids=str)
    def test_bcast(self, run, library, limit, shape):
        def body(comm):
            for root in range(comm.size):
                want = block(root, shape)
                for layout in library.layouts:
                    x, base = library.empty(shape, "float64", layout)
                    if comm.rank == root:
                        x[...] = library.make(want)
                    assert comm.bcast(x, root) is x
                    np.testing.assert_array_equal(library.read(x), want)
                    assert is_untouched(library, x, base)

        run(body)

    def test_every_dtype_travels(self, run, library):
        def body(comm):
            for dtype in library.dtypes:
                blocks = [block(rank, (3,), dtype) for rank in range(comm.size)]
                x = library.make(blocks[comm.rank], dtype)
                result = comm.allgather(x)
                assert library.is_same_type(result, x)
                np.testing.assert_array_equal(library.read(result), np.concatenate(blocks))
                np.testing.assert_array_equal(library.read(comm.bcast(x)), blocks[0])
                result = comm.sendrecv(
                    x, (comm.rank + 1) % comm.size, result[:3], (comm.rank - 1) % comm.size
                )
                np.testing.assert_array_equal(library.read(result), blocks[0])
                result = comm.alltoallv(
                    library.make(np.repeat(blocks[0], comm.size), dtype), *[(3,) * comm.size] * 2
                )
                assert library.is_same_type(result, x)

        run(body)

    def test_nan_and_signed_zero_keep_their_bits(self, run, library):
        def body(comm):
            values = np.array([np.nan, -0.0, np.inf, 5e-324])
            result = library.read(comm.allgather(library.make(values)))
            assert result.tobytes() == np.tile(values, comm.size).tobytes()

        run(body)

    @pytest.mark.parametrize("axis", [0, 1, 2, -1])
    def test_allgather(self, run, library, limit, axis):
        def body(comm):
            blocks = [block(rank, (2, 3, 2)) for rank in range(comm.size)]
            want = np.concatenate(blocks, axis)
            for layout in library.layouts:
                x = library.make(blocks[comm.rank], layout=layout)
                np.testing.assert_array_equal(library.read(comm.allgather(x, axis=axis)), want)
                out, base = library.empty(want.shape, "float64", layout)
                assert comm.allgather(x, axis=axis, out=out) is out
                np.testing.assert_array_equal(library.read(out), want)
                assert is_untouched(library, out, base)

        run(body)

    @pytest.mark.parametrize("counts", COUNTS, ids=str)
    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_allgatherv_and_gatherv(self, run, library, limit, axis, counts):
        def body(comm):
            own = cycle(counts, comm.size)
            blocks = split_blocks(own, (2, 3, 4), axis % 3)
            want = np.concatenate(blocks, axis)
            for layout in library.layouts:
                x = library.make(blocks[comm.rank], layout=layout)
                result = comm.allgatherv(x, own, axis=axis)
                np.testing.assert_array_equal(library.read(result), want)
                out, base = library.empty(want.shape, "float64", layout)
                assert comm.allgatherv(x, own, axis=axis, out=out) is out
                np.testing.assert_array_equal(library.read(out), want)
                assert is_untouched(library, out, base)
                root = comm.size - 1
                result = comm.gatherv(x, own, axis=axis, root=root)
                assert (result is None) == (comm.rank != root)
                if result is not None:
                    np.testing.assert_array_equal(library.read(result), want)
                    assert comm.size == 1 or library.is_same_type(result, x)
                np.testing.assert_array_equal(library.read(x), blocks[comm.rank], err_msg="x changed")

        run(body)

    @pytest.mark.parametrize("counts", COUNTS, ids=str)
    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_scatterv(self, run, library, limit, axis, counts):
        def body(comm):
            own = cycle(counts, comm.size)
            blocks = split_blocks(own, (2, 3, 4), axis % 3)
            for root in {0, comm.size - 1}:
                for layout in library.layouts:
                    whole = np.concatenate(blocks, axis)
                    x = library.make(whole, layout=layout) if comm.rank == root else None
                    like = library.make(np.zeros((2, 3, 4)))
                    for result in (
                        comm.scatterv(x, own, axis=axis, root=root),
                        comm.scatterv(x, own, axis=axis, root=root, like=like),
                    ):
                        assert library.is_same_type(result, like)
                        np.testing.assert_array_equal(library.read(result), blocks[comm.rank])

        run(body)

    def test_scatterv_refuses_alike_on_all_ranks(self, run, library):
        def body(comm):
            x = library.make(np.zeros(2 * comm.size + 1)) if comm.rank == 0 else None
            with pytest.raises(ValueError, match="scatterv: counts must sum to the extent"):
                comm.scatterv(x, (2,) * comm.size)
            with pytest.raises(
                TypeError, match="scatterv: x must be a torch tensor or a NumPy array, got str"
            ):
                comm.scatterv("text", (2,) * comm.size)

        run(body)

    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_alltoallv(self, run, library, limit, axis):
        def body(comm):
            # Rank i sends (i + 2 j) % 4 to rank j: uneven, with zeros, not symmetric.
            extents = [[(i + 2 * j) % 4 for j in range(comm.size)] for i in range(comm.size)]
            sent = [
                split_blocks(tuple(extents[i][j] for j in range(comm.size)), (2, 3, 4), axis % 3)
                for i in range(comm.size)
            ]
            sent = [[piece + 10 * i for piece in pieces] for i, pieces in enumerate(sent)]
            want = np.concatenate([sent[i][comm.rank] for i in range(comm.size)], axis)
            send_counts = tuple(extents[comm.rank])
            recv_counts = tuple(extents[i][comm.rank] for i in range(comm.size))
            for layout in library.layouts:
                x = library.make(np.concatenate(sent[comm.rank], axis), layout=layout)
                result = comm.alltoallv(x, send_counts, recv_counts, axis=axis)
                np.testing.assert_array_equal(library.read(result), want)
                out, base = library.empty(want.shape, "float64", layout)
                assert comm.alltoallv(x, send_counts, recv_counts, axis=axis, out=out) is out
                np.testing.assert_array_equal(library.read(out), want)
                assert is_untouched(library, out, base)

        run(body)

    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_equal_blocks(self, run, library, limit, axis):
        def body(comm):
            p, root, layouts = comm.size, comm.size - 1, library.layouts
            blocks = [block(rank, (2, 3, 4)) for rank in range(p)]
            joined = np.concatenate(blocks, axis)
            # What rank i sends: its block p times, plus 10 for each destination.
            sent = [np.concatenate([b + 10 * dest for dest in range(p)], axis) for b in blocks]
            for layout in layouts:
                x = library.make(blocks[comm.rank], layout=layout)
                result = comm.gather(x, axis=axis, root=root)
                assert (result is None) == (comm.rank != root)
                if result is not None:
                    np.testing.assert_array_equal(library.read(result), joined)
                whole = library.make(joined, layout=layout) if comm.rank == root else None
                for like in (None, x):
                    result = comm.scatter(whole, axis=axis, root=root, like=like)
                    np.testing.assert_array_equal(library.read(result), blocks[comm.rank])
                x = library.make(sent[comm.rank], layout=layout)
                want = np.concatenate([b + 10 * comm.rank for b in blocks], axis)
                out, base = library.empty(want.shape, "float64", layout)
                np.testing.assert_array_equal(library.read(comm.alltoall(x, axis=axis)), want)
                assert comm.alltoall(x, axis=axis, out=out) is out
                np.testing.assert_array_equal(library.read(out), want)
                assert is_untouched(library, out, base)
                want = sum(blocks) + 10 * p * comm.rank
                np.testing.assert_array_equal(library.read(comm.reduce_scatter(x, axis=axis)), want)

        run(body)

    def test_equal_blocks_need_a_divisible_extent(self, run, library):
        def body(comm):
            x = library.make(np.zeros((comm.size + 1, 2)))
            for name in ("alltoall", "reduce_scatter", "scatter"):
                if comm.size > 1:
                    with pytest.raises(ValueError, match=f"{name}: x must have an extent .* use {name}v"):
                        getattr(comm, name)(x)
            with pytest.raises(ValueError, match=r"gather: root must be in"):
                comm.gather(x, root=comm.size)
            with pytest.raises(ValueError, match=r"alltoall: axis must be in"):
                comm.alltoall(x, axis=2)

        run(body)

    def test_ranks_may_differ_in_layout(self, run, library, limit):
        def body(comm):
            layout = library.layouts[comm.rank % len(library.layouts)]
            blocks = [block(rank, (3, 4)) for rank in range(comm.size)]
            x = library.make(blocks[comm.rank], layout=layout)
            np.testing.assert_array_equal(library.read(comm.allreduce(x)), sum(blocks))
            np.testing.assert_array_equal(library.read(comm.allgather(x, axis=1)), np.concatenate(blocks, 1))
            np.testing.assert_array_equal(library.read(comm.bcast(x)), blocks[0])

        run(body)

    def test_bytes_and_messages_are_counted(self, run):
        def body(comm):
            p, many = comm.size, comm.size > 1
            x = np.ones((2, 4))
            with comm.trace() as t:
                comm.bcast(x)
                comm.allgather(x)
                comm.allgatherv(x, (2,) * p, axis=0)
                comm.gatherv(x, (2,) * p)
                comm.alltoallv(np.ones(3 * p), (3,) * p, (3,) * p)
                comm.reduce_scatterv(np.ones(3 * p), (3,) * p)
                comm.barrier()
            assert [event.op for event in t.events] == [
                *("bcast", "allgather", "allgatherv", "gatherv", "alltoallv", "reduce_scatterv", "barrier")
            ]
            others = 24 * (p - 1)
            root, leaf = 64 * (many and comm.rank == 0), 64 * (comm.rank != 0)
            want = [root, 64 * many, 64 * many, leaf, others, others, 0]
            assert [event.bytes for event in t.events] == want
            assert t.bytes == sum(want)
            assert t.by_op["alltoallv"][:2] == (1, others)
            assert t.messages == sum(event.messages for event in t.events)
            assert t.events[4].messages == p - 1

        run(body)

    def test_wrong_arguments_raise_the_same_everywhere(self, run, library):
        def body(comm):
            p = comm.size
            x = library.make(np.ones((2, 3)))
            wrong = [
                (ValueError, r"bcast: root must be in \[0, ", lambda: comm.bcast(x, -1)),
                (
                    ValueError,
                    "allgather: x must have at least one axis",
                    lambda: comm.allgather(x[0, 0:1].sum()),
                ),
                (ValueError, r"allgather: axis must be in \[-2, 2\)", lambda: comm.allgather(x, axis=2)),
                (ValueError, "allgatherv: counts must be", lambda: comm.allgatherv(x, (2,) * (p + 1))),
                (ValueError, "allgatherv: counts must be", lambda: comm.allgatherv(x, (-1,) * p)),
                (
                    ValueError,
                    r"allgatherv: x must have extent counts\[",
                    lambda: comm.allgatherv(x, (1,) * p),
                ),
                (
                    ValueError,
                    "alltoallv: send_counts must sum",
                    lambda: comm.alltoallv(x, (3,) * p, (3,) * p),
                ),
                (ValueError, "gatherv: root must be", lambda: comm.gatherv(x, (2,) * p, root=p)),
                (TypeError, "must have a dtype of", lambda: comm.bcast(np.array(["text"]))),
            ]
            with comm.trace() as t:
                for kind, text, call in wrong:
                    with pytest.raises((kind, TypeError), match=text if library.name == "torch" else None):
                        call()
            assert t.messages == 0

        run(body)
