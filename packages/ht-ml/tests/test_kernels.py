"""The local kernels: nearest centres, exact sums, moments, products, each against plain NumPy."""

import numpy as np
import pytest
import torch
from ht_comm import SerialComm, spmd
from ht_ml.cluster.assignment import Assigner
from ht_ml.cluster.bounds import BoundedAssigner
from ht_ml.covariance import covariance
from ht_ml.exact_sums import RowSums
from ht_ml.moments import local_moments, merge_moments, survey
from ht_ml.rows import as_rows, take
from hypothesis import given, settings
from hypothesis import strategies as st
from ml_tables import KINDS, table

RNG = np.random.default_rng


def nearest(values, centres):
    return ((values[:, None].astype("float64") - centres) ** 2).sum(2).argmin(1)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 1), (7, 1, 3), (500, 3, 8), (3000, 64, 25), (900, 20, 300)])
def test_assignment(n, d, k, dtype):
    values = RNG(0).normal(size=(n, d)).astype(dtype)
    centres = RNG(1).normal(size=(k, d)).astype(dtype).astype("float64")
    assigner = Assigner(torch.from_numpy(values), k)
    found = assigner.assign(torch.from_numpy(centres))
    np.testing.assert_array_equal(found.numpy(), nearest(values, centres))
    assert assigner.is_finite


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_assignment_does_not_depend_on_where_a_row_lies(dtype):
    k = 25
    values = torch.from_numpy(RNG(0).normal(size=(11200, 10)).astype(dtype))
    centres = values[:k].to(torch.float64)
    labels = Assigner(values, k).assign(centres).clone()
    for start in (1, 3, 64, 777):
        part = Assigner(values[start:], k).assign(centres)
        assert torch.equal(part, labels[start:])


def test_assignment_near_ties_are_decided_in_float64():
    """Rows between two centres, off the middle by less than float32 products resolve."""
    d = 40
    base = RNG(0).normal(size=d)
    step = RNG(1).normal(size=d)
    centres = np.stack([base + step, base - step]).astype("float32").astype("float64")
    offset = RNG(2).choice([-1.0, 1.0], size=3000) * 2.0 ** -RNG(3).integers(16, 30, size=3000)
    rows = (centres.mean(0) + offset[:, None] * (centres[0] - centres[1])).astype("float32")
    found = Assigner(torch.from_numpy(rows), 2).assign(torch.from_numpy(centres))
    np.testing.assert_array_equal(found.numpy(), nearest(rows, centres))


def test_exact_ties_and_large_offsets():
    centres = torch.tensor([[1.0], [1.0], [3.0]], dtype=torch.float64)
    rows = torch.tensor([[1.0], [2.0], [3.0]])
    assert Assigner(rows, 3).assign(centres).tolist() == [0, 0, 2]
    shift = 2.0**20
    moved = RNG(0).normal(size=(500, 4)).astype("float32") + np.float32(shift)
    centres = moved[:6].astype("float64")
    found = Assigner(torch.from_numpy(moved), 6).assign(torch.from_numpy(centres))
    np.testing.assert_array_equal(found.numpy(), nearest(moved, centres))


def test_assignment_of_huge_values_and_of_nan():
    rows = torch.tensor([[1e30], [-1e30], [3e38]])
    centres = torch.tensor([[1e30], [-1e30]], dtype=torch.float64)
    assigner = Assigner(rows, 2)
    assert assigner.assign(centres).tolist() == [0, 1, 0]
    assert assigner.is_finite
    broken = Assigner(torch.tensor([[0.0], [float("nan")]]), 2)
    broken.assign(centres)
    assert not broken.is_finite


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("n", "d", "k"), [(1, 1, 2), (400, 2, 2), (3000, 5, 9), (12000, 16, 25)])
def test_bounded_assignment_is_the_full_one(n, d, k, dtype):
    """Centres that move less and less, one of them far, one doubled: always the labels of a full pass."""
    rng = RNG(0)
    values = torch.from_numpy((rng.normal(size=(n, d)) + 3 * rng.integers(3, size=(n, 1))).astype(dtype))
    bounded, full = BoundedAssigner(values, k, survey(values)), Assigner(values, k)
    centres, least = values[rng.integers(n, size=k)].to(torch.float64), n
    bounded.restart()
    for step in range(25):
        found = bounded.assign(centres)
        assert torch.equal(found, full.assign(centres))
        bounded.settle(0.0 if step else 1.0)
        least = min(least, bounded.visited)
        centres = centres + torch.from_numpy(rng.normal(size=(k, d))) * 2.0 ** (-step)
        if step == 10:
            centres[0] = centres[-1]
        if step == 12:
            centres[0] = centres[0] + 100.0
        centres = centres.to(values.dtype).to(torch.float64)
    assert least < n or n == 1
    bounded.restart()
    assert torch.equal(bounded.assign(centres), full.assign(centres))


def test_bounded_assignment_of_huge_values():
    values = torch.tensor([[1e30], [-1e30], [3e38], [2.0]])
    bounded = BoundedAssigner(values, 2, survey(values))
    bounded.settle(0.0)
    for step in range(4):
        centres = torch.tensor([[1e30 * (step + 1)], [-1e30]], dtype=torch.float32).to(torch.float64)
        assert torch.equal(bounded.assign(centres), Assigner(values, 2).assign(centres))


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.integers(1, 200), st.integers(1, 5), st.booleans(), st.floats(1e-3, 1e6))
def test_sums_are_exact_in_any_order(seed, n, d, weighted, scale):
    rng = RNG(seed)
    values = torch.from_numpy(rng.normal(size=(n, d)) * scale * 10.0 ** rng.integers(-6, 7, size=d))
    weights = torch.from_numpy(rng.uniform(size=n)) if weighted else None
    moments, k = local_moments(values, weights), 4
    labels = torch.from_numpy(rng.integers(k, size=(3, n)))
    sums = RowSums(values, weights, moments, k)
    for row in labels:  # incremental updates leave what a fresh sum gives
        sums.update(row)
    order = torch.from_numpy(rng.permutation(n))
    other = RowSums(values[order], None if weights is None else weights[order], moments, k)
    other.update(labels[2][order])
    assert torch.equal(sums.packed[:-1], other.packed[:-1])
    cut = int(rng.integers(n + 1))
    parts = []
    for span in (slice(None, cut), slice(cut, None)):
        part = RowSums(values[span], None if weights is None else weights[span], moments, k)
        part.update(labels[2][span])
        parts.append(part.packed[:-1])
    assert torch.equal(parts[0] + parts[1], sums.packed[:-1])
    w = np.ones(n) if weights is None else weights.numpy()
    expected = np.array([(values.numpy() * w[:, None])[labels[2].numpy() == j].sum(0) for j in range(k)])
    bound = n * (np.abs(values.numpy()).max(0) + 1e-300)
    assert (np.abs(sums.sums.numpy() - expected) <= 1e-13 * n * bound).all()


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
@pytest.mark.parametrize(("n", "d"), [(1, 1), (5, 3), (9000, 2), (3000, 70)])
def test_moments(n, d, dtype):
    values = (RNG(0).normal(size=(n, d)) * 3 + 1000).astype(dtype)
    packed = local_moments(torch.from_numpy(values)).numpy()
    wide = values.astype("float64")
    assert packed[0] == n
    np.testing.assert_allclose(packed[1 : d + 1], wide.mean(0), rtol=1e-13)
    np.testing.assert_allclose(packed[d + 1 :], wide.var(0) * n, rtol=1e-11, atol=1e-18)
    weights = RNG(1).integers(0, 3, n).astype("float64")
    weighted = local_moments(torch.from_numpy(values), torch.from_numpy(weights)).numpy()
    repeated = np.repeat(wide, weights.astype(int), axis=0)
    if len(repeated):
        np.testing.assert_allclose(weighted[1 : d + 1], repeated.mean(0), rtol=1e-13)
        np.testing.assert_allclose(weighted[d + 1 :], repeated.var(0) * len(repeated), rtol=1e-10, atol=1e-15)
    halves = [local_moments(torch.from_numpy(part)) for part in (values[: n // 2], values[n // 2 :])]
    np.testing.assert_allclose(merge_moments(*halves).numpy(), packed, rtol=1e-11, atol=1e-15)


def test_moments_of_an_offset_do_not_cancel():
    values = RNG(0).normal(size=(5000, 3)) + 1e9
    packed = local_moments(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(packed[4:] / 5000, values.var(0), rtol=1e-6)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_covariance(kind, weighted):
    values = RNG(0).normal(size=(70, 4)) + 1e4
    target = RNG(1).normal(size=70)
    weights = RNG(2).uniform(0.5, 2, 70) if weighted else None

    def run(comm):
        rows = as_rows("test", table(values, comm, kind))
        span = slice(rows.start, rows.start + rows.local.shape[0])
        own = None if weights is None else torch.from_numpy(weights[span])
        with comm.trace() as sent:
            merged = covariance(rows, torch.from_numpy(target[span]), own)
        assert sent.calls == (0 if kind == "none" else 1)
        return merged

    both = np.column_stack([values, target])
    for merged in spmd(3, run):
        w = np.ones(70) if weights is None else weights
        mean = (w @ both) / w.sum()
        assert merged.n == pytest.approx(w.sum())
        np.testing.assert_allclose(merged.mean, mean, rtol=1e-13)
        np.testing.assert_allclose(
            merged.products, ((both - mean) * w[:, None]).T @ (both - mean), rtol=1e-9, atol=1e-9
        )


def test_take():
    values = np.arange(20.0).reshape(10, 2)

    def run(comm):
        rows = as_rows("test", table(values, comm, "uneven"))
        return take(rows.local, rows, [9, 0, 4, 4]).numpy()

    for found in spmd(3, run):
        np.testing.assert_array_equal(found, values[[9, 0, 4, 4]])


def test_rows_use_the_memory_of_the_input():
    comm = SerialComm()
    x = table(np.ones((4, 2), "float32"), comm)
    assert as_rows("test", x).local.data_ptr() == x.larray.data_ptr()
