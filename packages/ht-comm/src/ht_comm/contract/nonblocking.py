"""The contract of collectives that return at once: each equals its blocking form, whatever happens in between."""

import gc

import numpy as np
import pytest

from ..errors import CommError
from .arrays import block, cycle, is_untouched, split_blocks


class NonBlockingContract:
    """iallreduce, ibcast and the rest."""

    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_they_equal_the_blocking_forms(self, run, library, limit, axis):
        def body(comm):
            p, root = comm.size, comm.size - 1
            counts = cycle((3, 0, 1, 2), p)
            own = split_blocks(counts, (2, 3, 4), axis % 3)[comm.rank]
            wide = np.concatenate([block(comm.rank, (2, 3, 4))] * p, axis)
            divided = list(wide.shape)
            divided[axis] = sum(counts)
            contribution = block(comm.rank, tuple(divided))
            for layout in library.layouts:
                x, w, c = (library.make(values, layout=layout) for values in (own, wide, contribution))
                like = library.make(np.zeros((2, 3, 4)))
                whole = comm.gatherv(x, counts, axis=axis, root=root)
                calls = [
                    ("allreduce", (w,), {}),
                    ("reduce", (w, "max"), {"root": root}),
                    ("scan", (w,), {}),
                    ("exscan", (w, "prod"), {}),
                    ("allgather", (w,), {"axis": axis}),
                    ("allgatherv", (x, counts), {"axis": axis}),
                    ("gather", (w,), {"axis": axis, "root": root}),
                    ("gatherv", (x, counts), {"axis": axis, "root": root}),
                    ("scatterv", (whole, counts), {"axis": axis, "root": root, "like": like}),
                    ("alltoall", (w,), {"axis": axis}),
                    ("reduce_scatter", (w,), {"axis": axis}),
                    ("reduce_scatterv", (c, counts), {"axis": axis}),
                ]
                # All under way at once, completed last first, with a blocking collective in between.
                requests = [getattr(comm, f"i{name}")(*args, **more) for name, args, more in calls]
                comm.barrier()
                results = [request.wait() for request in reversed(requests)][::-1]
                for (name, args, more), result in zip(calls, results):
                    want = getattr(comm, name)(*args, **more)
                    assert (result is None) == (want is None)
                    if want is not None:
                        assert library.is_same_type(result, want)
                        np.testing.assert_array_equal(library.read(result), library.read(want), err_msg=name)

        run(body)

    def test_results_go_where_they_should(self, run, library, limit):
        def body(comm):
            p = comm.size
            want = sum(block(rank, (3, 4)) for rank in range(p))
            for layout in library.layouts:
                x = library.make(block(comm.rank, (3, 4)), layout=layout)
                out, base = library.empty((3, 4), "float64", layout)
                request = comm.iallreduce(x, out=out)
                assert request.wait() is out
                assert request.wait() is out
                np.testing.assert_array_equal(library.read(out), want)
                assert is_untouched(library, out, base)
                assert comm.iallreduce(x, out=x).wait() is x
                np.testing.assert_array_equal(library.read(x), want)
                x, base = library.empty((3, 4), "float64", layout)
                if comm.rank == p - 1:
                    x[...] = library.make(want)
                assert comm.ibcast(x, p - 1).wait() is x
                np.testing.assert_array_equal(library.read(x), want)
                assert is_untouched(library, x, base)

        run(body)

    def test_half_types_and_logic(self, run, library):
        def body(comm):
            for dtype in filter(library.dtypes.__contains__, ("bool", "float16", "bfloat16", "complex64")):
                x = library.make(block(comm.rank, (2, 3), dtype), dtype)
                for name in ("allreduce", "reduce", "scan", "exscan"):
                    result, want = getattr(comm, f"i{name}")(x).wait(), getattr(comm, name)(x)
                    if want is not None:
                        np.testing.assert_array_equal(library.read(result), library.read(want))
            x = library.make(np.arange(6) * comm.rank)
            np.testing.assert_array_equal(
                library.read(comm.iallreduce(x, "lor").wait()), library.read(comm.allreduce(x, "lor"))
            )

        run(body)

    def test_polling_collectives(self, run, library, limit):
        def body(comm):
            x = library.make(block(comm.rank, (30,)), layout="stepped")
            requests = [comm.iallreduce(x), comm.iallgather(x), comm.ibarrier()]
            while not all([request.test() for request in requests]):
                pass
            np.testing.assert_array_equal(library.read(requests[0].wait()), library.read(comm.allreduce(x)))
            assert requests[2].wait() is None

        run(body)

    def test_a_barrier_that_returns_at_once(self, run):
        def body(comm):
            request = comm.ibarrier()
            if comm.size > 1 and comm.rank == 0:
                assert not request.test()  # rank 1 starts its own only after this message
                comm.send(np.zeros(1), 1)
            request.wait()

        def ordered(comm):
            if comm.rank == 1:
                comm.recv(np.zeros(1), 0)
            body(comm)

        run(ordered)

    def test_points_of_order(self, run):
        def body(comm):
            # The root goes on before the others have come: with a blocking broadcast this could dead-lock.
            x = np.full(40_000, float(comm.rank))
            if comm.rank == 0:
                request = comm.ibcast(x)
                for dest in range(1, comm.size):
                    comm.send(np.ones(1), dest)
            else:
                comm.recv(np.empty(1), 0)
                request = comm.ibcast(x)
            assert (request.wait() == 0).all()

        run(body)

    def test_memory_stays_while_a_request_is_pending(self, run):
        def body(comm):
            n = 50_000
            out = np.empty(n)
            request = comm.iallreduce(np.full((n, 2), 1.0)[:, 0], out=out)
            gc.collect()
            noise = [np.full(n, -1.0) for _ in range(4)]
            request.wait()
            assert (out == comm.size).all()
            del noise

        run(body)

    def test_events_are_those_of_the_call(self, run):
        def body(comm):
            p, many = comm.size, comm.size > 1
            x = np.ones(3 * p)
            with comm.trace() as t:
                requests = [
                    comm.iallreduce(x),
                    comm.iallgather(x),
                    comm.ialltoall(x),
                    comm.ireduce_scatter(x),
                    comm.ibarrier(),
                ]
                for request in requests:
                    request.wait()
            assert [event.op for event in t.events] == [
                *("iallreduce", "iallgather", "ialltoall", "ireduce_scatter", "ibarrier")
            ]
            want = [24 * p * many, 24 * p * many, 24 * (p - 1), 24 * (p - 1), 0]
            assert [event.bytes for event in t.events] == want

        run(body)

    def test_wrong_arguments_raise_before_anything_starts(self, run, library):
        def body(comm):
            x = library.make(np.ones((2, 3)))
            wrong = [
                ("iallreduce: op must be one of", lambda: comm.iallreduce(x, "mean")),
                (r"ibcast: root must be in \[0, ", lambda: comm.ibcast(x, comm.size)),
                (r"iallgatherv: counts must be", lambda: comm.iallgatherv(x, (2,) * (comm.size + 1))),
                (r"ireduce_scatterv: counts must", lambda: comm.ireduce_scatterv(x, (1,) * (comm.size + 4))),
                (r"igather: axis must be in", lambda: comm.igather(x, axis=2)),
            ]
            with comm.trace() as t:
                for text, call in wrong:
                    with pytest.raises(ValueError, match=text):
                        call()
                with pytest.raises(TypeError, match="iscatter: like must be a torch tensor or a NumPy"):
                    comm.iscatter(x, like=None)
            assert t.messages == 0
            other = comm.dup()
            other.free()
            with pytest.raises(CommError, match="iallreduce: the communicator must not be freed"):
                other.iallreduce(x)

        run(body)
