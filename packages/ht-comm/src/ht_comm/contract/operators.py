"""The contract of operators on records: pairs of value and index, sorted lists of them, operators of the user's."""

import functools

import numpy as np
import pytest

from ..operators import Op
from .arrays import block

REAL = ("bool", "int8", "int64", "uint8", "uint64", "float16", "bfloat16", "float32", "float64")


def affine(lower: np.ndarray, higher: np.ndarray) -> np.ndarray:
    """Compose the maps t -> a t + b of two sets of records [a, b]: associative, and the order matters."""
    return np.stack([lower[:, 0] * higher[:, 0], lower[:, 1] * higher[:, 0] + higher[:, 1]], axis=1)


class OperatorContract:
    """Pairs, lists and operators of the user's."""

    @pytest.mark.parametrize("op", ["argmin", "argmax"])
    def test_arg_pairs_of_every_dtype(self, run, library, limit, op):
        def body(comm):
            for dtype in filter(library.dtypes.__contains__, REAL):
                blocks = [block(rank, (4, 30), dtype) for rank in range(comm.size)]
                # Interleaved: the lowest index among equal values is not always on the lowest rank.
                indices = [
                    np.arange(120).reshape(4, 30) * comm.size + (7 * r + 3) % comm.size
                    for r in range(comm.size)
                ]
                values = library.make(blocks[comm.rank], dtype, "stepped")
                found, where = comm.allreduce_pairs(values, library.make(indices[comm.rank]), op)
                assert library.is_same_type(found, values)
                stacked, at = np.stack(blocks).astype("float64"), np.stack(indices)
                best = stacked.min(0) if op == "argmin" else stacked.max(0)
                want = np.where(stacked == best, at, 10**6).min(0)
                np.testing.assert_array_equal(library.read(found).astype("float64"), best)
                np.testing.assert_array_equal(library.read(where), want)

        run(body)

    def test_extremes_of_integers_and_nan(self, run, library):
        def body(comm):
            p, rank = comm.size, comm.rank
            big = np.array([2**53 + 1 + rank, -(2**63) + rank, 2**63 - 1 - rank])
            own = library.make(np.full(3, rank))
            for op, want in (("argmin", [0, 0, p - 1]), ("argmax", [p - 1, p - 1, 0])):
                value, index = comm.allreduce_pairs(library.make(big), own, op)
                np.testing.assert_array_equal(library.read(index), want)
                np.testing.assert_array_equal(
                    library.read(value) - big, np.array([1, 1, -1]) * (np.array(want) - rank)
                )
                # NaN on all ranks but the first; nothing on the first; nothing anywhere.
                x = library.make(np.array([np.nan if rank else 1.0, 5.0 + rank, 1.0]))
                at = library.make(np.array([rank, rank or -1, -1]))
                value, index = (library.read(a) for a in comm.allreduce_pairs(x, at, op))
                assert np.isnan(value[0]) == (p > 1)
                assert index[0] == (p > 1)
                assert index[1] == (-1 if p == 1 else 1 if op == "argmin" else p - 1)
                assert index[2] == -1

        run(body)

    @pytest.mark.parametrize("op", ["topk", "bottomk"])
    def test_lists_are_merged(self, run, library, limit, op):
        def body(comm):
            k = 4
            for dtype in filter(library.dtypes.__contains__, ("int64", "uint64", "float32", "bfloat16")):
                everything = [block(rank, (3, 5), dtype) for rank in range(comm.size)]
                sign = 1.0 if op == "bottomk" else -1.0
                rows = np.concatenate(everything, axis=1).astype("float64")
                order = np.lexsort(
                    (np.broadcast_to(np.arange(rows.shape[1]), rows.shape), sign * rows), axis=-1
                )
                own = everything[comm.rank].astype("float64")
                mine = np.argsort(sign * own, axis=1, kind="stable")[:, :k]
                values = np.take_along_axis(everything[comm.rank], mine, axis=1)
                found, where = comm.allreduce_pairs(
                    library.make(values, dtype), library.make(mine + 5 * comm.rank), op
                )
                np.testing.assert_array_equal(library.read(where), order[:, :k])
                np.testing.assert_array_equal(
                    library.read(found).astype("float64"), np.take_along_axis(rows, order[:, :k], axis=1)
                )

        run(body)

    def test_short_lists_and_nan(self, run, library):
        def body(comm):
            # Rank 0 has one candidate, the last one a NaN; k = 3.
            values, indices = np.zeros(3), np.full(3, -1)
            if comm.rank == 0:
                values[0], indices[0] = 7.0, 70
            if comm.rank == comm.size - 1 and comm.size > 1:
                values[0], indices[0] = np.nan, 90
            for op in ("topk", "bottomk"):
                x, at = comm.allreduce_pairs(library.make(values), library.make(indices), op)
                want = [70, -1, -1] if comm.size == 1 else [90, 70, -1] if op == "topk" else [70, 90, -1]
                np.testing.assert_array_equal(library.read(at), want)
                assert library.read(x)[want.index(70)] == 7.0

        run(body)

    def test_pairs_are_checked(self, run, library):
        def body(comm):
            x, at = library.make(np.zeros(2)), library.make(np.zeros(2, "int64"))
            for kind, text, values, indices, op in (
                (ValueError, "op must be one of argmin", x, at, "min"),
                (TypeError, "indices must be a", x, x, "argmin"),
                (ValueError, "indices must have shape", x, at[:1], "argmin"),
                (
                    TypeError,
                    "values must have an order",
                    library.make(np.zeros(2, "complex64")),
                    at,
                    "argmin",
                ),
                (ValueError, "values must have candidates", x[:0], at[:0], "topk"),
            ):
                with pytest.raises(kind, match=f"allreduce_pairs: {text}"):
                    comm.allreduce_pairs(values, indices, op)

        run(body)

    def test_operators_of_the_users_keep_the_order_of_ranks(self, run, library, limit):
        def body(comm):
            compose = Op(affine, identity=[1.0, 0.0], records=True)
            maps = [
                np.stack([block(r, (50,)) % 2 + 1, block(r + 9, (50,))], axis=1) for r in range(comm.size)
            ]
            want = functools.reduce(affine, maps)
            for layout in library.layouts:
                x = library.make(maps[comm.rank], layout=layout)
                for result in (comm.allreduce(x, compose), comm.iallreduce(x, compose).wait()):
                    np.testing.assert_array_equal(library.read(result), want)
                result = comm.reduce(x, compose, root=comm.size - 1)
                assert (result is None) == (comm.rank != comm.size - 1)
                if result is not None:
                    np.testing.assert_array_equal(library.read(result), want)
                np.testing.assert_array_equal(
                    library.read(comm.scan(x, compose)), functools.reduce(affine, maps[: comm.rank + 1])
                )
                before = functools.reduce(affine, maps[: comm.rank], np.tile([1.0, 0.0], (50, 1)))
                np.testing.assert_array_equal(library.read(comm.exscan(x, compose)), before)
                np.testing.assert_array_equal(library.read(comm.iexscan(x, compose).wait()), before)
                counts = (0,) * (comm.size - 1) + (50,)
                result = comm.reduce_scatterv(x, counts, compose)
                if comm.rank == comm.size - 1:
                    np.testing.assert_array_equal(library.read(result), want)
            with pytest.raises(
                ValueError, match="reduce_scatterv: axis must not be the last one for op 'affine'"
            ):
                comm.reduce_scatterv(x, (2,) + (0,) * (comm.size - 1), compose, axis=1)

        run(body)

    def test_operators_of_the_users_take_every_dtype(self, run, library):
        def body(comm):
            later = Op(lambda lower, higher: higher, name="last")
            many = [Op(functools.partial(np.add), commute=True, name=f"add{i}") for i in range(40)]
            for dtype in library.dtypes:
                x = library.make(block(comm.rank, (2, 3), dtype), dtype)
                result = comm.allreduce(x, later)
                assert library.is_same_type(result, x)
                np.testing.assert_array_equal(library.read(result), block(comm.size - 1, (2, 3), dtype))
            for op in many:  # more than MPI can register
                assert comm.allreduce(np.ones(1), op)[0] == comm.size
            # Two at once: the callback must tell them apart.
            x = library.make(np.full(9, comm.rank + 2.0))
            requests = [comm.iallreduce(x, Op(f, name=f.__name__)) for f in (np.multiply, np.add)]
            product, total = (request.wait() for request in requests)
            np.testing.assert_array_equal(
                library.read(product), np.full(9, np.prod(np.arange(2.0, comm.size + 2)))
            )
            np.testing.assert_array_equal(library.read(total), np.full(9, sum(range(2, comm.size + 2))))
            with pytest.raises(ValueError, match="exscan: op must have an identity, got 'last'"):
                comm.exscan(x, later)
            with pytest.raises(TypeError, match="Op: function must be callable"):
                Op("sum")
            with pytest.raises(ValueError, match="x must have records of at least one element"):
                comm.allreduce(x[:0], Op(affine, records=True))

        run(body)
