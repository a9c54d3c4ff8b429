"""The contract of the names of mpi4py."""

import numpy as np
import pytest

from ..capital import _TABLE
from ..operators import Op
from .arrays import block, cycle, is_untouched


def joined(blocks: list[np.ndarray]) -> np.ndarray:
    """Return the elements of blocks one after the other."""
    return np.concatenate([values.reshape(-1) for values in blocks])


class CapitalContract:
    """Allreduce, Bcast and the rest."""

    @pytest.mark.parametrize("prefix", ["", "I"], ids=["blocking", "started"])
    def test_capital_names(self, run, library, limit, prefix):
        def body(comm):
            p, rank, root = comm.size, comm.rank, comm.size - 1
            blocks = [block(r, (2, 3)) for r in range(p)]
            wide = [block(r, (p, 2, 3)) for r in range(p)]

            def call(name, *args):
                name = prefix + (name.lower() if prefix else name)
                request = getattr(comm, name)(*args)
                assert (request is None) == (not prefix)
                if request is not None:
                    request.Wait()
                    assert request.Test()

            for layout in library.layouts:
                x, w = library.make(blocks[rank], layout=layout), library.make(wide[rank], layout=layout)

                def into(shape, name, *args, want, layout=layout, pick=None):
                    out, base = library.empty(shape, "float64", layout)
                    args = [out if each is into else each for each in args]
                    call(name, *args)
                    if pick is None or pick:
                        np.testing.assert_array_equal(
                            library.read(out).reshape(-1), want.reshape(-1), err_msg=name
                        )
                    assert is_untouched(library, out, base)

                into((2, 3), "Allreduce", x, into, want=sum(blocks))
                into((6,), "Allreduce", x, into, "max", want=np.maximum.reduce(blocks))
                into((2, 3), "Scan", x, into, "SUM", want=sum(blocks[: rank + 1]))
                into(
                    (2, 3),
                    "Exscan",
                    x,
                    into,
                    Op(np.add, identity=0.0),
                    want=sum(blocks[:rank], np.zeros((2, 3))),
                )
                into((2, 3), "Reduce", x, into, "sum", root, want=sum(blocks), pick=rank == root)
                into((p, 2, 3), "Allgather", x, into, want=joined(blocks))
                into((p * 6,), "Gather", x, into, root, want=joined(blocks), pick=rank == root)
                into((3, 2), "Scatter", w if rank == root else None, into, root, want=wide[root][rank])
                into((p, 6), "Alltoall", w, into, want=joined([each[rank] for each in wide]))
                y, base = library.empty((2, 3), "float64", layout)
                if rank == root:
                    y[...] = x
                call("Bcast", y, root)
                np.testing.assert_array_equal(library.read(y), blocks[root])
                assert is_untouched(library, y, base)

        run(body)

    @pytest.mark.parametrize("prefix", ["", "I"], ids=["blocking", "started"])
    def test_capital_names_with_counts(self, run, library, prefix):
        def body(comm):
            p, rank = comm.size, comm.rank
            counts = cycle((3, 0, 1, 2), p)
            displs = tuple(sum(counts[:r]) for r in range(p))
            blocks = [np.arange(float(n)) + 10 * r for r, n in enumerate(counts)]
            n = sum(counts)

            def call(name, *args):
                request = getattr(comm, prefix + (name.lower() if prefix else name))(*args)
                if request is not None:
                    request.Wait()

            x = library.make(blocks[rank])
            for spec in ((counts,), (counts, displs), ((counts, displs), None)):
                out = library.make(np.full(n + 2, -1.0), layout="stepped")
                call("Allgatherv", x, [out, *spec])
                np.testing.assert_array_equal(library.read(out), [*np.concatenate(blocks), -1, -1])
                out = library.make(np.zeros(n))
                call("Gatherv", x, (out, *spec) if rank == 0 else None)
                if rank == 0:
                    np.testing.assert_array_equal(library.read(out), np.concatenate(blocks))
                back = library.make(np.zeros(counts[rank]), layout="stepped")
                call("Scatterv", (out, *spec) if rank == 0 else None, back)
                np.testing.assert_array_equal(library.read(back), blocks[rank])
            own = library.make(np.zeros(counts[rank]))
            call("Reduce_scatter", library.make(np.arange(float(n))), own, counts)
            np.testing.assert_array_equal(library.read(own), p * np.arange(n)[displs[rank] :][: counts[rank]])
            sent, got = tuple((rank + j) % 3 for j in range(p)), tuple((i + rank) % 3 for i in range(p))
            pieces = [[np.full((i + j) % 3, 10.0 * i + j) for j in range(p)] for i in range(p)]
            out = library.make(np.zeros(sum(got)))
            call("Alltoallv", (library.make(np.concatenate(pieces[rank])), sent), (out, got))
            np.testing.assert_array_equal(
                library.read(out), np.concatenate([pieces[i][rank] for i in range(p)])
            )

        run(body)

    def test_capital_names_in_place(self, run, library):
        def body(comm):
            p, rank = comm.size, comm.rank
            for layout in library.layouts:
                blocks = [block(r, (p, 3)) for r in range(p)]
                for name, want in (
                    ("Allreduce", sum(blocks)),
                    ("Scan", sum(blocks[: rank + 1])),
                    ("Allgather", np.stack([blocks[r][r] for r in range(p)])),
                    ("Alltoall", np.stack([blocks[r][rank] for r in range(p)])),
                ):
                    x = library.make(blocks[rank], layout=layout)
                    getattr(comm, name)(None, x)
                    np.testing.assert_array_equal(library.read(x), want, err_msg=f"{name} {layout}")
                x = library.make(blocks[rank], layout=layout)
                comm.Reduce(None if rank == 0 else x, x if rank == 0 else None)
                if rank == 0:
                    np.testing.assert_array_equal(library.read(x), sum(blocks))
                x = library.make(blocks[rank], layout=layout)
                comm.Gather(None if rank == 0 else x[rank], x if rank == 0 else None)
                if rank == 0:
                    np.testing.assert_array_equal(library.read(x), [blocks[r][r] for r in range(p)])
                own = library.make(np.zeros(3))
                comm.Scatter(x if rank == 0 else None, None if rank == 0 else own)
                if rank:
                    np.testing.assert_array_equal(library.read(own), blocks[rank][rank])

        run(body)

    def test_capital_messages(self, run, library):
        def body(comm):
            after, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
            assert (comm.Get_rank(), comm.Get_size()) == (comm.rank, comm.size)
            x, out = library.make(block(comm.rank, (2, 3)), layout="F"), library.make(np.zeros((2, 3)))
            requests = [comm.Irecv(out, before, tag=1), comm.Isend(x, after, tag=1)]
            for request in requests:
                request.Wait()
            np.testing.assert_array_equal(library.read(out), block(before, (2, 3)))
            comm.Sendrecv(x, before, recvbuf=out, source=after)
            np.testing.assert_array_equal(library.read(out), block(after, (2, 3)))
            comm.Barrier()
            comm.Ibarrier().Wait()
            with comm.trace() as t:
                comm.Allreduce(None, out)
                comm.Iallgather(x, library.make(np.zeros((comm.size, 6)))).Wait()
            assert [event.op for event in t.events] == ["Allreduce", "Iallgather"]
            assert all(getattr(type(comm), name).__name__ == name for name in _TABLE)

        run(body)

    def test_capital_names_are_checked(self, run, library):
        def body(comm):
            p = comm.size
            x, out = library.make(np.zeros(2 * p)), library.make(np.zeros(2 * p))
            for text, name, args in (
                ("recvbuf must have .* counts >= 0", "Allgatherv", (x, (out, (1,) * (p + 1)))),
                ("recvbuf must have .* counts >= 0", "Allgatherv", (x, (out, (3,) * p))),
                ("recvbuf must have blocks that follow", "Allgatherv", (x[:1], (out, (1,) * p, (1,) * p))),
                ("root must be in", "Gather", (x, out, p)),
                ("root must be in", "Iscatter", (x, out, -1)),
            ):
                with pytest.raises(ValueError, match=f"{name}: {text}"):
                    getattr(comm, name)(*args)
            with pytest.raises(TypeError, match="Allreduce: recvbuf must be a torch tensor or a NumPy array"):
                comm.Allreduce(x, [1.0])
            if p > 1:
                with pytest.raises(ValueError, match="Allgather: recvbuf must have a multiple of"):
                    comm.Allgather(x, out[1:])

        run(body)
