"""The contract of point-to-point messages, objects, agreement, derived communicators and the trace."""

import threading
import time

import numpy as np
import pytest

from ..errors import CommError
from .arrays import block, is_untouched


class UnportableError(Exception):
    """Cannot be rebuilt from its pickle."""

    def __init__(self, code, text):
        super().__init__(f"{code}: {text}")


class MessageContract:
    """Messages between two ranks, objects, life cycle."""

    @pytest.mark.parametrize("shape", [(), (0,), (9,), (3, 4)], ids=str)
    def test_ring(self, run, library, limit, shape):
        def body(comm):
            after, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
            for layout in library.layouts:
                x = library.make(block(comm.rank, shape), layout=layout)
                out, base = library.empty(shape, "float64", layout)
                incoming = comm.irecv(out, before, tag=5)
                outgoing = comm.isend(x, after, tag=5)
                assert outgoing.wait() is x
                assert incoming.wait() is out
                np.testing.assert_array_equal(library.read(out), block(before, shape))
                assert comm.sendrecv(x, before, out, after) is out
                np.testing.assert_array_equal(library.read(out), block(after, shape))
                assert is_untouched(library, out, base)

        run(body)

    def test_messages_match_by_tag_and_keep_their_order(self, run, limit):
        def body(comm):
            after, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
            outgoing = [comm.isend(np.full(12, float(k)), after, tag=k % 2) for k in range(6)]
            results = [[np.empty(12) for _ in range(3)] for _ in range(2)]
            for tag in (1, 0):
                requests = [comm.irecv(out, before, tag=tag) for out in results[tag]]
                for request in reversed(requests):
                    request.wait()
                assert [out[0] for out in results[tag]] == [tag, tag + 2, tag + 4]
            for request in outgoing:
                request.wait()

        run(body)

    def test_polling(self, run, library, limit):
        def body(comm):
            after, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
            out, _ = library.empty((40,), "float64", "stepped")
            incoming = comm.irecv(out, before)
            comm.barrier()
            outgoing = comm.isend(library.make(block(comm.rank, (40,))), after)
            while not (outgoing.test() and incoming.test()):
                pass
            assert incoming.test()
            assert incoming.wait() is out
            np.testing.assert_array_equal(library.read(out), block(before, (40,)))

        run(body)

    def test_send_and_recv_in_a_chain(self, run):
        def body(comm):
            token = np.zeros(1)
            if comm.rank:
                comm.recv(token, comm.rank - 1)
            if comm.rank < comm.size - 1:
                comm.send(token + 1, comm.rank + 1)
            assert token[0] == comm.rank

        run(body)

    def test_peers_and_tags_are_checked(self, run):
        def body(comm):
            x = np.zeros(1)
            with pytest.raises(ValueError, match=r"isend: dest must be in \[0, "):
                comm.isend(x, comm.size)
            with pytest.raises(ValueError, match=r"recv: source must be in \[0, "):
                comm.recv(x, -1)
            with pytest.raises(ValueError, match=r"send: tag must be in \[0, "):
                comm.send(x, 0, tag=32_000)

        run(body)

    def test_objects(self, run, limit):
        def body(comm):
            for obj in (None, {"a": [1, 2.5]}, "x" * 1000, b"", np.arange(3)):
                for root in range(comm.size):
                    result = comm.bcast_object(obj if comm.rank == root else "other", root)
                    np.testing.assert_equal(result, obj)
            own = list(range(50 * comm.rank))
            everyone = [list(range(50 * rank)) for rank in range(comm.size)]
            assert comm.allgather_object(own) == everyone
            root = comm.size - 1
            assert comm.gather_object(own, root) == (everyone if comm.rank == root else None)

        run(body)

    def test_objects_are_copies(self, run):
        def body(comm):
            own = [comm.rank]
            received = comm.bcast_object(own)
            received.append("changed")
            comm.barrier()
            assert comm.size == 1 or own == ([0, "changed"] if comm.rank == 0 else [comm.rank])

        run(body)

    def test_agree(self, run):
        def body(comm):
            comm.agree(None)
            for failing in range(comm.size):
                error = ValueError(f"bad value on {comm.rank}") if comm.rank >= failing else None
                with pytest.raises(ValueError, match=f"^bad value on {failing}") as caught:
                    comm.agree(error)
                if comm.size > 1:
                    assert caught.value.__notes__ == [f"raised on rank {failing} of {comm.size}"]
                    assert error is None or comm.rank != failing or caught.value is error
            with comm.trace() as t:
                comm.agree()
            assert t.calls == 1
            assert t.messages == (comm.size > 1)

        run(body)

    def test_agree_keeps_type_and_text(self, run):
        def body(comm):
            for error in (KeyError("k"), FileNotFoundError(2, "No such file", "f.h5"), IndexError()):
                with pytest.raises(type(error)) as caught:
                    comm.agree(error if comm.rank == comm.size - 1 else None)
                assert str(caught.value) == str(error)
            error = UnportableError(3, "lost")
            with pytest.raises((UnportableError, CommError), match="3: lost"):
                comm.agree(error if comm.rank == 0 else None)
            error = ValueError("holds a lock", threading.Lock())
            with pytest.raises((ValueError, CommError), match="holds a lock"):
                comm.agree(error if comm.rank == comm.size - 1 else None)

        run(body)

    def test_split(self, run):
        def body(comm):
            with comm.split(comm.rank % 2, -comm.rank) as part:
                members = [rank for rank in reversed(range(comm.size)) if rank % 2 == comm.rank % 2]
                assert part.size == len(members)
                assert members[part.rank] == comm.rank
                assert part.allgather_object(comm.rank) == members
            none = comm.split(None if comm.rank else 0)
            assert (none is None) == (comm.rank > 0)
            if none is not None:
                assert none.allreduce(np.array([3]))[0] == 3
                none.free()
            with pytest.raises(ValueError, match="split: color must be None or in"):
                comm.split(-1)

        run(body)

    def test_dup_is_isolated(self, run):
        def body(comm):
            with comm.dup() as other:
                after, before = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
                first, second = np.empty(1), np.empty(1)
                requests = [comm.irecv(first, before), other.irecv(second, before)]
                sent = [other.isend(np.array([2.0]), after), comm.isend(np.array([1.0]), after)]
                for request in requests + sent:
                    request.wait()
                assert (first[0], second[0]) == (1.0, 2.0)

        run(body)

    def test_node_and_leaders(self, run):
        def body(comm):
            with comm.dup() as own:
                node = own.node()
                assert own.node() is node
                assert 1 <= node.size <= comm.size
                for _ in range(2):
                    leaders = own.leaders()
                    assert (leaders is None) == (node.rank > 0)
                sizes = [0 if node.rank else node.size]
                assert own.allreduce(np.array(sizes))[0] == comm.size

        run(body)

    def test_freed_communicators_are_refused(self, run):
        def body(comm):
            other = comm.dup()
            other.free()
            other.free()
            with pytest.raises(CommError, match="allreduce: the communicator must not be freed"):
                other.allreduce(np.ones(1))
            comm.barrier()

        run(body)

    def test_trace_covers_derived_communicators_and_nests(self, run):
        def body(comm):
            with comm.trace() as outer, comm.dup() as other:
                other.allreduce(np.ones(2))
                with other.trace() as inner:
                    comm.allgather_object("text")
                comm.allreduce(np.ones(2))
            comm.barrier()
            assert [event.op for event in outer.events] == [
                "dup",
                "allreduce",
                "allgather_object",
                "allreduce",
            ]
            assert [event.op for event in inner.events] == ["allgather_object"]
            assert outer.by_op["allreduce"][:2] == (2, 32 if comm.size > 1 else 0)
            assert outer.seconds >= 0

        run(body)

    def test_barrier_waits_for_all(self, run):
        def body(comm):
            before = comm.allgather_object(time.monotonic())
            time.sleep(0.01 * comm.rank)
            comm.barrier()
            # The clock is the machine's: all ranks of a test are on one.
            assert time.monotonic() - max(before) >= 0.01 * (comm.size - 1) - 0.005

        run(body)

    def test_copies_of_a_communicator_are_itself(self, run):
        def body(comm):
            import copy
            import pickle

            assert copy.deepcopy(comm) is comm
            assert copy.copy(comm) is comm
            with pytest.raises(TypeError, match="pickle: the object must not be a communicator"):
                pickle.dumps(comm)

        run(body)
