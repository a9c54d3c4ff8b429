"""Execution of redistribution plans on threads and on MPI ranks, with chunks so small that all loops turn."""

import threading

import numpy as np
import pytest
from ht_comm import CommError, config, plan_redistribution, spmd
from ht_comm.dtypes import DTYPES
from ht_comm.pieces import Lane
from ht_comm.pool import POOL, Pool, Scratch
from ht_comm.testing import boxes, cut, placements, replicated_placement, shapes, split_placement
from hypothesis import given, settings
from hypothesis import strategies as st

NUMPY_DTYPES = [name for name in DTYPES if name != "bfloat16"]


@pytest.fixture(autouse=True, scope="module")
def _small_chunks():
    """Cut everything into chunks of 64 bytes."""
    before, config.chunk_bytes = config.chunk_bytes, 128
    yield
    config.chunk_bytes = before


def numbers(shape, dtype="float64"):
    """Return an array whose elements differ as far as the dtype allows."""
    values = np.arange(1, int(np.prod(shape)) + 1).reshape(shape)
    return (values % 2 == 1) if dtype == "bool" else (values % 120).astype(dtype)


def restride(x, how):
    """Return an array equal to `x` with other strides."""
    if how == "fortran":
        return np.array(x, order="F")
    if how == "stepped":
        wide = np.zeros([2 * n for n in x.shape], x.dtype)
        view = wide[(..., *(slice(None, None, 2) for _ in x.shape))]
        view[...] = x
        return view
    if how == "reversed":
        back = (..., *(slice(None, None, -1),) * x.ndim)
        return np.array(x[back])[back]
    return x


def check(comm, whole, src, dst, how="c", torch=None):
    """Redistribute and compare with the global array; the traced cost equals the plan's."""
    plan = plan_redistribution(src, dst)
    x = restride(cut(whole, src[comm.rank]), how)
    before = x.copy()
    if torch is not None:
        x = torch.from_numpy(np.ascontiguousarray(x)) if how == "reversed" else torch.from_numpy(x)
    with comm.trace() as trace:
        y = comm.redistribute(x, plan)
    assert type(y) is type(x)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(np.asarray(y), cut(whole, dst[comm.rank]))
    np.testing.assert_array_equal(np.asarray(x), before)
    assert trace.calls == 1
    assert trace.bytes == plan.bytes(comm.rank, whole.itemsize)
    assert trace.messages == plan.messages(comm.rank, whole.itemsize)
    return y


@settings(deadline=None, max_examples=60, derandomize=True)
@given(st.data(), shapes(), st.integers(1, 5), st.sampled_from(["c", "fortran", "stepped", "reversed"]))
def test_between_splits(data, shape, p, how):
    src, dst = data.draw(placements(shape, p)), data.draw(placements(shape, p))
    whole = numbers(shape, data.draw(st.sampled_from(NUMPY_DTYPES)))
    spmd(p, lambda comm: check(comm, whole, src, dst, how))


@settings(deadline=None, max_examples=40, derandomize=True)
@given(st.data(), shapes(max_dims=2, max_side=8), st.integers(2, 5))
def test_to_any_boxes(data, shape, p):
    src = data.draw(placements(shape, p))
    dst = tuple(data.draw(boxes(shape)) for _ in range(p))
    spmd(p, lambda comm: check(comm, numbers(shape), src, dst))


def test_the_window_is_counted_in_bytes():
    """Of 128 bytes: two chunks of 64 fit at a time, one of 65 or more travels alone."""
    started = []

    def start(part, box):
        started.append(part)
        return [], None

    lengths = (64, 64, 64, 65, 64, 64, 1000, 1)
    lane = Lane((((number,), number, None, nbytes) for number, nbytes in enumerate(lengths)), start)
    seen = []
    lane.fill()
    while lane.flying:
        seen.append(len(lane.flying))
        assert lane.key == (len(seen) - 1,)
        lane.finish_first()
        lane.fill()
    assert seen == [2, 2, 1, 1, 2, 1, 1, 1]
    assert started == list(range(len(lengths)))
    assert lane.key > (10**9,)


def test_many_chunks_between_uneven_neighbours():
    """Ranks have very different numbers of chunks for each peer: the order of waiting must not matter."""
    shape = (41, 29)
    src = split_placement(shape, 0, (1, 33, 0, 7))
    for parts in ((29, 0, 0, 0), (0, 0, 1, 28), (7, 8, 7, 7)):
        spmd(4, lambda comm, parts=parts: check(comm, numbers(shape), src, split_placement(shape, 1, parts)))


@pytest.mark.parametrize("dtype", NUMPY_DTYPES)
def test_dtypes(dtype):
    shape = (9, 7)
    src, dst = split_placement(shape, 0, (4, 5, 0)), split_placement(shape, 1, (0, 3, 4))
    spmd(3, lambda comm: check(comm, numbers(shape, dtype), src, dst))


def test_single_element_longer_than_a_chunk(monkeypatch):
    monkeypatch.setattr(config, "chunk_bytes", 4)
    shape = (3, 4)
    src, dst = split_placement(shape, 0, (1, 2)), split_placement(shape, 1, (3, 1))
    spmd(2, lambda comm: check(comm, numbers(shape, "complex128"), src, dst))


@pytest.mark.parametrize("how", ["c", "fortran", "stepped"])
def test_out_of_any_strides(how):
    shape = (6, 5)
    src, dst = split_placement(shape, 0, (4, 2)), split_placement(shape, 1, (2, 3))
    whole = numbers(shape)

    def rank(comm):
        out = restride(np.zeros([b - a for a, b in dst[comm.rank]]), how)
        plan = plan_redistribution(src, dst)
        assert comm.redistribute(cut(whole, src[comm.rank]), plan, out=out) is out
        np.testing.assert_array_equal(out, cut(whole, dst[comm.rank]))

    spmd(2, rank)


def test_gaps_of_out_are_left_alone():
    src = dst = split_placement((4,), 0, (2, 2))

    def rank(comm):
        wide = np.full(4, -1.0)
        comm.redistribute(np.ones(2), plan_redistribution(src, dst), out=wide[::2])
        assert wide.tolist() == [1, -1, 1, -1]

    spmd(2, rank)


def test_result_is_no_view_of_the_input():
    everywhere = replicated_placement((4,), 2)
    plan = plan_redistribution(everywhere, split_placement((4,), 0, (2, 2)))

    def rank(comm):
        x = np.arange(4.0)
        y = comm.redistribute(x, plan)
        y[...] = -1
        assert x.tolist() == [0, 1, 2, 3]

    spmd(2, rank)


def test_refused_before_any_message():
    src, dst = split_placement((4, 2), 0, (2, 2)), split_placement((4, 2), 1, (1, 1))
    plan = plan_redistribution(src, dst)

    def rank(comm):
        with pytest.raises(ValueError, match=r"x must have shape \(2, 2\) on rank"):
            comm.redistribute(np.zeros((3, 2)), plan)
        with pytest.raises(ValueError, match=r"out must have shape \(4, 1\)"):
            comm.redistribute(np.zeros((2, 2)), plan, out=np.zeros((2, 2)))
        with pytest.raises(TypeError, match="out must be"):
            comm.redistribute(np.zeros((2, 2)), plan, out=np.zeros((4, 1), "float32"))
        with pytest.raises(TypeError, match="x must be"):
            comm.redistribute([[1.0, 2.0]], plan)
        with pytest.raises(TypeError, match="x must have"):
            comm.redistribute(np.zeros((2, 2), "U3"), plan)
        # and the communicator still works
        check(comm, numbers((4, 2)), src, dst)

    spmd(2, rank)


def test_plan_of_other_size_is_refused():
    plan = plan_redistribution(*[split_placement((4,), 0, (2, 2))] * 2)

    def rank(comm):
        with pytest.raises(ValueError, match="plan must be for 3 ranks, got one for 2"):
            comm.redistribute(np.zeros(2), plan)

    spmd(3, rank)


def test_an_absent_rank_is_an_error_not_a_hang():
    plan = plan_redistribution(split_placement((64,), 0, (64, 0)), split_placement((64,), 0, (0, 64)))

    def rank(comm):
        if comm.rank == 0:
            raise KeyError("lost")
        comm.redistribute(np.zeros(0), plan)

    with pytest.raises((KeyError, CommError)):
        spmd(2, rank, timeout=10)


# ----- torch


def torch_or_skip():
    """Return torch; this package is also tested without it, then the tensors' tests have nothing to test."""
    return pytest.importorskip("torch")


@pytest.mark.parametrize("how", ["c", "fortran", "stepped"])
def test_tensors(how):
    torch = torch_or_skip()
    shape = (7, 6)
    src, dst = split_placement(shape, 0, (3, 1, 3)), split_placement(shape, 1, (0, 4, 2))
    for dtype in ("bool", "uint8", "float16", "float32", "int64", "complex128"):
        spmd(3, lambda comm, dtype=dtype: check(comm, numbers(shape, dtype), src, dst, how, torch))


def test_bfloat16_conjugate_and_graph():
    torch = torch_or_skip()
    shape = (6, 4)
    src, dst = split_placement(shape, 0, (2, 4)), split_placement(shape, 1, (3, 1))
    plan = plan_redistribution(src, dst)
    real = torch.from_numpy(numbers(shape)).to(torch.bfloat16)
    complex_ = (torch.from_numpy(numbers(shape)) * (1 + 2j)).conj()
    graph = torch.from_numpy(numbers(shape)).requires_grad_()

    def rank(comm):
        for whole in (real, complex_, graph):
            y = comm.redistribute(cut(whole, src[comm.rank]), plan)
            assert y.dtype == whole.dtype
            assert not y.requires_grad
            assert torch.equal(y, cut(whole.detach(), dst[comm.rank]).resolve_conj())

    spmd(2, rank)


# ----- scratch


def test_pool_keeps_up_to_its_limit():
    pool = Pool(limit=3 * 2**16)
    blocks = [pool.take(2**16) for _ in range(5)]
    for block in blocks:
        pool.give(block)
    assert pool.kept_bytes == 3 * 2**16
    again = pool.take(2**16)
    assert any(again is block for block in blocks)
    pool.clear()
    assert pool.kept_bytes == 0


def test_pool_gives_the_best_fit():
    pool = Pool(limit=2**20)
    small, large = pool.take(2**17), pool.take(2**18)
    pool.give(large)
    pool.give(small)
    assert pool.take(2**17) is small
    assert pool.take(2**17) is large


def test_scratch_is_used_again(monkeypatch):
    monkeypatch.setattr(config, "chunk_bytes", 2**18)
    POOL.clear()
    shape = (256, 1024)
    src, dst = split_placement(shape, 0, (128, 128)), split_placement(shape, 1, (512, 512))
    for _ in range(3):
        spmd(2, lambda comm: check(comm, numbers(shape), src, dst))
    assert 0 < POOL.kept_bytes <= 2 * 2**18
    POOL.clear()


def test_borrowed_memory_stays_within_two_windows(monkeypatch):
    """Each direction borrows one `chunk_bytes` at most, however much travels."""
    monkeypatch.setattr(config, "chunk_bytes", 2**17)
    borrowed, peak = {}, {}
    take, release = Scratch.__init__, Scratch.release

    def counting_take(self, shape, kind, dtype):
        take(self, shape, kind, dtype)
        name = threading.current_thread().name
        borrowed[name] = borrowed.get(name, 0) + self._block.size
        peak[name] = max(peak.get(name, 0), borrowed[name])

    def counting_release(self):
        borrowed[threading.current_thread().name] -= self._block.size
        release(self)

    monkeypatch.setattr(Scratch, "__init__", counting_take)
    monkeypatch.setattr(Scratch, "release", counting_release)
    shape = (512, 512)
    src, dst = split_placement(shape, 0, (256, 256)), split_placement(shape, 1, (256, 256))
    spmd(2, lambda comm: check(comm, numbers(shape), src, dst, "fortran"))
    assert peak
    assert max(peak.values()) <= 2 * 2**17
    assert set(borrowed.values()) == {0}


# ----- MPI


@pytest.mark.mpi
@pytest.mark.parametrize("dtype", ["float64", "bool", "complex64", "float16"])
def test_resplits_on_mpi(comm, dtype):
    shape = (13, 11)
    p = comm.size
    parts = [tuple(n * (r + 1) // p - n * r // p for r in range(p)) for n in shape]
    lumps = [(*(0,) * (p - 1), n) for n in shape]
    whole = numbers(shape, dtype)
    splits = [replicated_placement(shape, p)]
    splits += [split_placement(shape, axis, some[axis]) for axis in (0, 1) for some in (parts, lumps)]
    for src in splits:
        for dst in splits:
            for how in ("c", "fortran"):
                check(comm, whole, src, dst, how)


@pytest.mark.mpi(ranks=[2, 3])
def test_large_chunks_on_mpi(comm, monkeypatch):
    """Past the eager limit of MPI libraries, with windows that fill."""
    monkeypatch.setattr(config, "chunk_bytes", 2**19)
    shape = (700, 900)
    p = comm.size
    src = split_placement(shape, 0, (1,) * (p - 1) + (700 - p + 1,))
    dst = split_placement(shape, 1, (900 - p + 1,) + (1,) * (p - 1))
    check(comm, numbers(shape), src, dst)
    check(comm, numbers(shape), dst, src)


@pytest.mark.parametrize("axis", [0, 1])
def test_sixteen_ranks_replicate_in_one_message_each(axis):
    """Not in fifteen copies of each block, one after the other."""
    p, shape = 16, (20, 24)
    parts = tuple(shape[axis] // p + (rank < shape[axis] % p) for rank in range(p))
    before, config.chunk_bytes = config.chunk_bytes, 2**20
    try:

        def body(comm):
            src, dst = split_placement(shape, axis, parts), replicated_placement(shape, p)
            with comm.trace() as trace:
                y = comm.redistribute(cut(numbers(shape), src[comm.rank]), plan_redistribution(src, dst))
            np.testing.assert_array_equal(y, numbers(shape))
            return trace.messages, trace.bytes

        assert spmd(p, body) == [(1, shape[1 - axis] * n * 8) for n in parts]
    finally:
        config.chunk_bytes = before
