"""All rows within a distance: SciPy's distances, the same pairs for any ranks, splits and offsets, and what is sent."""

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.testing import spread, whole
from ht_linalg import spatial
from scipy.spatial import distance

SPLITS = [(None, None), (0, None), (None, 0), (0, 0), (1, 0), (None, 1)]


def cut(values, split, comm):
    """Uneven parts, none on the first of several ranks."""
    n, p = values.shape[split or 0], comm.size
    counts = (n,) if p == 1 else (0, *(n // (2 * p),) * (p - 2), n - n // (2 * p) * (p - 2))
    return spread(values, split, counts, comm)


@pytest.mark.parametrize("p", [1, 2, 4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("splits", SPLITS)
def test_a_grid(splits, dtype, p):
    """Integers, so that many rows are exactly at the distance, wherever the grid lies."""
    rng = np.random.default_rng(3)
    x, y = (rng.integers(0, 6, size=(n, 3)).astype(dtype) + 1000 for n in (41, 150))
    every = distance.cdist(x, y)
    near = every <= 3.0

    def run(comm):
        graph = spatial.cdist_within(cut(x, splits[0], comm), cut(y, splits[1], comm), 3.0)
        assert graph.split == (None if splits[0] is None else 0)
        assert graph.ldata.dtype == torch.from_numpy(x).dtype
        return (
            whole(graph.to_dense()),
            whole(graph.with_values(torch.ones_like(graph.ldata)).to_dense()),
            graph.nnz,
        )

    for dense, ones, nnz in spmd(p, run):
        np.testing.assert_array_equal(ones, near)
        np.testing.assert_allclose(dense, np.where(near, every, 0), rtol=1e-6)
        assert nnz == near.sum()


@pytest.mark.parametrize(
    ("metric", "radius"), [("sqeuclidean", 4.0), ("cosine", 0.02), ("manhattan", 3.0), ("far", 1.0)]
)
def test_metrics_and_ranks(metric, radius):
    rng = np.random.default_rng(5)
    x = (rng.normal(size=(700, 4)) + 5).astype("float32")
    x[300:600] = x[:300]
    name = {"manhattan": "cityblock", "far": "chebyshev"}.get(metric, metric)
    every = distance.squareform(distance.pdist(x.astype("float64"), name))

    def run(comm):
        given = (lambda a, b: (a.unsqueeze(1) - b).abs().amax(dim=2)) if metric == "far" else metric
        graph = spatial.cdist_within(cut(x, 0, comm), radius=radius, metric=given, exclude_self=True)
        return whole(graph.to_dense()), graph.nnz

    alone, nnz = spmd(1, run)[0]
    inside = (every < radius * (1 - 1e-5)) & ~np.eye(700, dtype=bool)
    assert inside.sum() <= nnz <= (every < radius * (1 + 1e-5)).sum() - 700
    np.testing.assert_allclose(alone[inside], every[inside], rtol=1e-4, atol=1e-6)
    for dense, found in spmd(3, run):
        np.testing.assert_array_equal(dense, alone)
        assert found == nnz


def test_messages():
    def run(comm):
        x = ht.random.rand(600, 4, split=0, dtype=ht.float32)
        with comm.trace() as sent:
            spatial.cdist_within(x, radius=0.1)
        return sent.bytes, [event.op for event in sent.events]

    for sent, ops in spmd(3, run):
        assert sent <= 2 * 200 * 4 * 4 + 8 * 3
        assert ops.count("allgather") == 1
        assert not {"allreduce", "allgatherv", "alltoallv"} & set(ops)


def test_refusals_send_nothing():
    def run(comm):
        x = ht.ones((4, 2), split=0)
        with comm.trace() as sent:
            for options, text in (
                ({"radius": -1}, r"cdist_within: radius must be a number in \[0, inf\), got -1"),
                ({"radius": float("nan")}, "radius must be a number"),
                ({"metric": "rbf"}, "cdist_within: metric must be euclidean, .* got 'rbf'"),
                ({"Y": x + 1, "exclude_self": True}, "exclude_self must be False unless Y is X"),
            ):
                with pytest.raises(ValueError, match=text):
                    spatial.cdist_within(x, **options)
        assert sent.calls == 0

    spmd(2, run)
    with pytest.raises(ht.GradientError, match="has no derivative"):
        spatial.cdist_within(ht.ones((4, 2)).requires_grad_())
    for shape in ((0, 3), (1, 3), (2, 0)):
        assert spatial.cdist_within(ht.ones(shape)).shape == (shape[0], shape[0])
