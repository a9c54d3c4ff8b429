"""The contract of allreduce, reduce, scan, exscan and reduce_scatterv."""

import functools
import operator

import numpy as np
import pytest

from .arrays import block, cycle, is_untouched, slices_of

SHAPES = [(), (1,), (0,), (7,), (3, 4), (2, 0, 3), (2, 3, 5)]
ON_BOOL = {
    "sum": "lor",
    "max": "lor",
    "prod": "land",
    "min": "land",
    "band": "land",
    "bor": "lor",
    "bxor": "lxor",
}
COMBINE = {
    "sum": operator.add,
    "prod": operator.mul,
    "min": np.minimum,
    "max": np.maximum,
    "land": lambda a, b: ((a != 0) & (b != 0)).astype(a.dtype),
    "lor": lambda a, b: ((a != 0) | (b != 0)).astype(a.dtype),
    "lxor": lambda a, b: ((a != 0) ^ (b != 0)).astype(a.dtype),
    "band": operator.and_,
    "bor": operator.or_,
    "bxor": operator.xor,
}
LOGICAL = ("land", "lor", "lxor")


def is_defined(op: str, dtype: str) -> bool:
    """Tell whether an operator is defined for an element type."""
    if dtype.startswith("complex"):
        return op in ("sum", "prod")
    return op in ("sum", "prod", "min", "max") or "float" not in dtype


def expected(op: str, blocks: list[np.ndarray]) -> np.ndarray:
    """Combine blocks with NumPy."""
    if blocks[0].dtype == bool:
        op = ON_BOOL.get(op, op)
    if op in LOGICAL:
        blocks = [(values != 0).astype(values.dtype) for values in blocks]
    return functools.reduce(COMBINE[op], blocks)


def moments(rows: np.ndarray) -> np.ndarray:
    """Return [n, means, M2] of the rows of a matrix; of none, with means that must not matter."""
    n, d = rows.shape
    if n == 0:
        return np.concatenate([[0.0], np.full(d, np.nan), np.zeros(d)])
    mean = rows.mean(axis=0)
    return np.concatenate([[float(n)], mean, ((rows - mean) ** 2).sum(axis=0)])


class ReductionContract:
    """Reductions."""

    @pytest.mark.parametrize("op", COMBINE)
    def test_allreduce_of_every_dtype(self, run, library, op):
        def body(comm):
            for dtype in filter(functools.partial(is_defined, op), library.dtypes):
                x = library.make(block(comm.rank, (5,), dtype), dtype)
                result = comm.allreduce(x, op)
                want = expected(op, [block(rank, (5,), dtype) for rank in range(comm.size)])
                assert library.is_same_type(result, x)
                np.testing.assert_array_equal(library.read(result), want, err_msg=f"{op} {dtype}")
                np.testing.assert_array_equal(
                    library.read(x), block(comm.rank, (5,), dtype), err_msg="x changed"
                )

        run(body)

    @pytest.mark.parametrize("op", COMBINE)
    def test_reduce_scan_exscan_of_every_dtype(self, run, library, op):
        def body(comm):
            for dtype in filter(functools.partial(is_defined, op), library.dtypes):
                blocks = [block(rank, (5,), dtype) for rank in range(comm.size)]
                x = library.make(blocks[comm.rank], dtype)
                for root in range(comm.size):
                    result = comm.reduce(x, op, root=root)
                    assert (result is None) == (comm.rank != root)
                    if result is not None:
                        np.testing.assert_array_equal(library.read(result), expected(op, blocks))
                result = library.read(comm.scan(x, op))
                np.testing.assert_array_equal(result, expected(op, blocks[: comm.rank + 1]), err_msg=dtype)
                result = library.read(comm.exscan(x, op))
                if comm.rank:
                    np.testing.assert_array_equal(result, expected(op, blocks[: comm.rank]), err_msg=dtype)
                else:
                    both = expected(op, [result, blocks[0]])
                    np.testing.assert_array_equal(both, expected(op, blocks[:1]), err_msg=f"identity {dtype}")

        run(body)

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_allreduce_of_every_layout(self, run, library, limit, shape):
        def body(comm):
            want = sum(block(rank, shape) for rank in range(comm.size))
            for layout in library.layouts:
                x = library.make(block(comm.rank, shape), layout=layout)
                np.testing.assert_array_equal(library.read(comm.allreduce(x)), want, err_msg=layout)
                for out_layout in library.layouts:
                    out, base = library.empty(shape, "float64", out_layout)
                    assert comm.allreduce(x, out=out) is out
                    np.testing.assert_array_equal(
                        library.read(out), want, err_msg=f"{layout} to {out_layout}"
                    )
                    assert is_untouched(library, out, base)
                assert comm.allreduce(x, out=x) is x
                np.testing.assert_array_equal(library.read(x), want, err_msg=f"{layout} in place")

        run(body)

    @pytest.mark.parametrize("shape", SHAPES, ids=str)
    def test_reduce_and_scan_of_every_layout(self, run, library, limit, shape):
        def body(comm):
            blocks = [block(rank, shape) for rank in range(comm.size)]
            for layout in library.layouts:
                x = library.make(blocks[comm.rank], layout=layout)
                out, base = library.empty(shape, "float64", layout)
                root = comm.size - 1
                if comm.reduce(x, root=root, out=out) is not None:
                    np.testing.assert_array_equal(library.read(out), sum(blocks))
                assert is_untouched(library, out, base)
                assert comm.scan(x, out=out) is out
                np.testing.assert_array_equal(library.read(out), sum(blocks[: comm.rank + 1]))
                assert comm.exscan(x, out=out) is out
                np.testing.assert_array_equal(library.read(out), sum(blocks[: comm.rank], np.zeros(shape)))
                np.testing.assert_array_equal(library.read(x), blocks[comm.rank], err_msg="x changed")

        run(body)

    def test_expanded_operands_are_read_and_refused_as_results(self, run, library):
        def body(comm):
            x = library.expand(library.make(np.array([[2.0], [3.0]])), (2, 3))
            want = comm.size * np.array([[2.0] * 3, [3.0] * 3])
            np.testing.assert_array_equal(library.read(comm.allreduce(x)), want)
            for operation in (lambda: comm.allreduce(x, out=x), lambda: comm.irecv(x, 0)):
                with pytest.raises(
                    ValueError, match=r"must (be writable|not have elements that share memory)"
                ):
                    operation()

        run(body)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
    @pytest.mark.parametrize("op", ["min", "max"])
    def test_nan_wins_on_every_rank(self, run, library, op, dtype):
        def body(comm):
            values = np.array([1.0, -np.inf, np.inf, 2.0], "float32")
            for holder in range(comm.size):
                own = values + comm.rank
                own[3] = np.nan if comm.rank == holder else own[3]
                for result in (
                    comm.allreduce(library.make(own, dtype), op),
                    comm.scan(library.make(own, dtype), op),
                ):
                    if result is not None and comm.rank >= holder:
                        assert np.isnan(library.read(result)[3])
                result = library.read(comm.allreduce(library.make(own, dtype), op))
                np.testing.assert_array_equal(result[:3], values[:3] + (0 if op == "min" else comm.size - 1))
                assert np.isnan(result[3])
                assert len(set(comm.allgather_object(result.tobytes()))) == 1

        if dtype in library.dtypes:
            run(body)

    @pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
    def test_half_precision_accumulates_in_float32(self, run, library, dtype):
        def body(comm):
            # 2048 + 1 is lost in float16 and bfloat16; in float32 four of them make 2052.
            first = np.float32(2048 if dtype == "float16" else 256)
            own = np.array([first if comm.rank == 0 else 1, 6], "float32")
            exact = library.make(np.array([first + comm.size - 1, 6 * comm.size], "float32"), dtype)
            result = comm.allreduce(library.make(own, dtype))
            np.testing.assert_array_equal(library.read(result), library.read(exact))

        if dtype in library.dtypes:
            run(body)

    def test_lazy_conjugates_and_negatives(self, run, library):
        def body(comm):
            import torch

            z = torch.tensor([1 + 2j, 3 - 1j])
            total = comm.allreduce(torch.conj(z))
            assert torch.equal(total, (comm.size * z.conj()).resolve_conj())
            assert torch.equal(comm.allreduce(torch.conj(z).imag), -comm.size * z.imag)
            assert torch.equal(comm.bcast(torch.conj(z).resolve_conj()), z.conj().resolve_conj())
            view = torch.conj(torch.zeros(2, dtype=torch.complex64))
            assert torch.equal(comm.allreduce(torch.conj(z), out=view), (comm.size * z.conj()).resolve_conj())

        if library.name == "torch":
            run(body)

    def test_gradients_are_left_alone(self, run, library):
        def body(comm):
            import torch

            x = torch.ones(3, requires_grad=True)
            assert not comm.allreduce(x).requires_grad
            assert not comm.allgather(x).requires_grad
            parameter = torch.nn.Parameter(torch.full((3,), float(comm.rank)))
            assert comm.bcast(parameter, comm.size - 1) is parameter
            assert torch.equal(parameter.detach(), torch.full((3,), comm.size - 1.0))
            assert parameter.requires_grad

        if library.name == "torch":
            run(body)

    @pytest.mark.parametrize("rows", [1, 5, 300], ids="d={}".format)
    def test_moments_equal_those_of_all_rows(self, run, library, limit, rows):
        def body(comm):
            d = rows
            counts = cycle((3, 0, 5, 1), comm.size)
            everything = np.random.default_rng(d).normal(1e3, 1.0, (sum(counts), d))
            start = sum(counts[: comm.rank])
            own = np.stack([moments(everything[start : start + counts[comm.rank]])] * 2)
            for result in (
                comm.allreduce(library.make(own), "moments"),
                comm.scan(library.make(own), "moments"),
            ):
                if comm.rank == comm.size - 1:
                    np.testing.assert_allclose(library.read(result)[1], moments(everything), rtol=1e-12)
            result = comm.reduce_scatterv(library.make(own), (2,) + (0,) * (comm.size - 1), "moments")
            if comm.rank == 0:
                np.testing.assert_allclose(library.read(result)[0], moments(everything), rtol=1e-12)
            result = library.read(comm.exscan(library.make(own), "moments"))
            np.testing.assert_array_equal(result[0, 0], start)
            result = comm.allreduce(library.make(own), "moments")
            assert len(set(comm.allgather_object(library.read(result).tobytes()))) == 1

        run(body)

    @pytest.mark.parametrize("n", [1, 33, 5000])
    def test_every_rank_gets_the_same_bits(self, run, library, n):
        def body(comm):
            for dtype in ("float32", "float64", "complex64"):
                values = np.random.default_rng(comm.rank).normal(size=n) * 10.0 ** (5 * comm.rank)
                x = library.make(
                    values.astype(dtype), layout=library.layouts[comm.rank % len(library.layouts)]
                )
                for op in ("sum", "prod"):
                    result = library.read(comm.allreduce(x, op))
                    assert len(set(comm.allgather_object(result.tobytes()))) == 1

        run(body)

    def test_moments_of_nothing(self, run, library):
        def body(comm):
            own = library.make(np.array([0.0, np.nan, 0.0]))
            result = library.read(comm.allreduce(own, "moments"))
            assert result[0] == 0
            assert result[2] == 0

        run(body)

    @pytest.mark.parametrize("axis", [0, 1, -1])
    def test_reduce_scatterv(self, run, library, limit, axis):
        def body(comm):
            p = comm.size
            for counts in ((2,) * p, cycle((0, 3, 1, 2), p), (0,) * (p - 1) + (5,)):
                shape = [2, 3, 4]
                shape[axis] = sum(counts)
                blocks = [block(rank, tuple(shape)) for rank in range(comm.size)]
                start = sum(counts[: comm.rank])
                want = np.take(sum(blocks), range(start, start + counts[comm.rank]), axis)
                for layout in library.layouts:
                    x = library.make(blocks[comm.rank], layout=layout)
                    result = comm.reduce_scatterv(x, counts, axis=axis)
                    np.testing.assert_array_equal(library.read(result), want)
                    out, base = library.empty(want.shape, "float64", layout)
                    assert comm.reduce_scatterv(x, counts, axis=axis, out=out) is out
                    np.testing.assert_array_equal(library.read(out), want)
                    assert is_untouched(library, out, base)
                    np.testing.assert_array_equal(library.read(x), blocks[comm.rank], err_msg="x changed")

        run(body)

    def test_reduce_scatterv_of_every_dtype(self, run, library):
        def body(comm):
            counts = cycle((0, 3, 1, 2), comm.size)
            start, stop = sum(counts[: comm.rank]), sum(counts[: comm.rank + 1])
            for dtype in library.dtypes:
                blocks = [block(rank, (sum(counts),), dtype) for rank in range(comm.size)]
                for op in filter(lambda op: is_defined(op, dtype), COMBINE):
                    result = comm.reduce_scatterv(library.make(blocks[comm.rank], dtype), counts, op)
                    np.testing.assert_array_equal(library.read(result), expected(op, blocks)[start:stop])

        run(body)

    def test_long_messages_are_counted_by_slice(self, run, limit):
        def body(comm):
            x = np.arange(33.0)
            with comm.trace() as t:
                np.testing.assert_array_equal(comm.allreduce(x), comm.size * x)
            assert t.calls == 1
            assert t.bytes == (x.nbytes if comm.size > 1 else 0)
            assert t.messages == (slices_of(x.nbytes, 8, limit) if comm.size > 1 else 0)

        run(body)

    def test_what_fits_into_a_slice_is_one_message(self, run, monkeypatch):
        def body(comm):
            p, many = comm.size, comm.size > 1
            for call in (
                lambda: comm.allreduce(np.ones(420)),
                lambda: comm.allgather(np.ones(420 // p)),
                lambda: comm.reduce_scatter(np.ones(420)),
                lambda: comm.iallgather(np.ones(420 // p)).wait(),
            ):
                with comm.trace() as t:
                    call()
                assert t.messages == many

        monkeypatch.setattr("ht_comm.config.slice_bytes", 420 * 8)  # which up to 7 ranks divide
        run(body)

    def test_elements_longer_than_a_slice_travel_one_by_one(self, run, monkeypatch):
        def body(comm):
            x = np.arange(3) * (1 + 2j)
            with comm.trace() as t:
                np.testing.assert_array_equal(comm.allreduce(x), comm.size * x)
            assert t.messages == (3 if comm.size > 1 else 0)

        monkeypatch.setattr("ht_comm.config.slice_bytes", 8)
        run(body)

    def test_wrong_arguments_raise_the_same_everywhere(self, run, library):
        def body(comm):
            x = library.make(np.ones((2, 3)))
            wrong = [
                (ValueError, "allreduce: op must be one of", lambda: comm.allreduce(x, "mean")),
                (
                    TypeError,
                    "allreduce: x must be a torch tensor or a NumPy array",
                    lambda: comm.allreduce([1]),
                ),
                (TypeError, "allreduce: op must be defined for complex64", lambda: comm.allreduce(z, "max")),
                (TypeError, "reduce: op must be defined for float64", lambda: comm.reduce(x, "band")),
                (
                    ValueError,
                    "allreduce: x must have a last axis",
                    lambda: comm.allreduce(x[:, :2], "moments"),
                ),
                (TypeError, "scan: x must be float64", lambda: comm.scan(z, "moments")),
                (
                    ValueError,
                    r"allreduce: out must have shape \(2, 3\)",
                    lambda: comm.allreduce(x, out=x[:1]),
                ),
                (TypeError, "allreduce: out must be a", lambda: comm.allreduce(x, out=z)),
                (ValueError, r"reduce: root must be in \[0, ", lambda: comm.reduce(x, root=comm.size)),
                (
                    ValueError,
                    "reduce_scatterv: counts must",
                    lambda: comm.reduce_scatterv(x, (1,) * comm.size + (0,)),
                ),
                (
                    ValueError,
                    "reduce_scatterv: axis",
                    lambda: comm.reduce_scatterv(x, (2,) * comm.size, axis=2),
                ),
            ]
            z = library.make(np.ones((2, 3), "complex64"))
            with comm.trace() as t:
                for kind, text, call in wrong:
                    with pytest.raises(kind, match=text):
                        call()
            assert t.messages == 0

        run(body)
