"""Layers, activations and losses on distributed arrays: torch's values and gradients, for all splits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from ht_comm import spmd
from ht_core.errors import DTypeError, LayoutError
from ht_core.testing import spread, whole
from ht_ml import nn

f = nn.functional
RNG = np.random.default_rng(0)
X, W, B = RNG.standard_normal((5, 7)), RNG.standard_normal((4, 7)), RNG.standard_normal(4)
TARGET = RNG.integers(0, 4, 5)


def placed(values, split, comm):
    if split is None:
        return spread(values, None, (), comm)
    n, p = values.shape[split], comm.size
    return spread(values, split, (*(n // p,) * (p - 1), n - n // p * (p - 1)), comm)


ACTIVATIONS = [
    ("relu", {}),
    ("sigmoid", {}),
    ("silu", {}),
    ("tanh", {}),
    ("gelu", {}),
    ("gelu", {"approximate": "tanh"}),
    ("leaky_relu", {"negative_slope": 0.2}),
    ("elu", {"alpha": 0.5}),
    ("softplus", {"beta": 2.0}),
    ("softmax", {"dim": 1}),
    ("softmax", {"dim": 0}),
    ("log_softmax", {"dim": 1}),
]


@pytest.mark.parametrize(("name", "options"), ACTIVATIONS)
def test_activations(name, options):
    x = torch.from_numpy(X).requires_grad_()
    y = getattr(F, name)(x, **options)
    (y * torch.from_numpy(X)).sum().backward()

    def run(comm):
        for split in (None, 0, 1):
            a = placed(X, split, comm)
            with comm.trace() as sent:
                found = getattr(f, name)(a, **options)
            assert found.layout is a.layout
            assert sent.calls == (2 if split is not None and options.get("dim") == split else 0)
            np.testing.assert_allclose(whole(found), y.detach().numpy(), rtol=1e-12, atol=1e-14)
            tracked = placed(X, split, comm).requires_grad_()
            (getattr(f, name)(tracked, **options) * a).sum().backward()
            np.testing.assert_allclose(whole(tracked.grad), x.grad.numpy(), rtol=1e-10, atol=1e-12)
        assert torch.equal(getattr(f, name)(torch.from_numpy(X), **options), y)

    spmd(3, run)


@pytest.mark.parametrize("splits", [(a, b) for a in (None, 0, 1) for b in (None, 0, 1)])
def test_forward_of_a_layer(splits):
    tensors = [torch.from_numpy(v).requires_grad_() for v in (X, W, B)]
    expected = F.relu(F.linear(*tensors))
    loss = F.cross_entropy(expected, torch.from_numpy(TARGET))
    loss.backward()

    def run(comm):
        x, w, b = placed(X, splits[0], comm), placed(W, splits[1], comm), placed(B, None, comm)
        with comm.trace() as sent:
            y = f.relu(f.linear(x, w, b))
        if splits in ((0, None), (None, 0), (None, None)):
            assert sent.calls == 0
        np.testing.assert_allclose(whole(y), expected.detach().numpy(), rtol=1e-12, atol=1e-14)
        for split in (None, 0):
            found = f.cross_entropy(y, placed(TARGET, split, comm))
            assert float(found) == pytest.approx(float(loss.detach()))
        w.requires_grad_()
        tracked = placed(W, splits[1], comm).requires_grad_()
        f.cross_entropy(f.relu(f.linear(x, tracked, b)), placed(TARGET, None, comm)).backward()
        np.testing.assert_allclose(whole(tracked.grad), tensors[1].grad.numpy(), rtol=1e-10, atol=1e-12)

    for p in (1, 2, 3):
        spmd(p, run)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_losses(reduction):
    expected = F.mse_loss(torch.from_numpy(X), torch.from_numpy(2 * X), reduction=reduction)
    entropy = F.cross_entropy(torch.from_numpy(W.T @ W), torch.arange(7), reduction=reduction)

    def run(comm):
        for split in (None, 0, 1):
            found = f.mse_loss(placed(X, split, comm), placed(2 * X, 0, comm), reduction=reduction)
            np.testing.assert_allclose(whole(found), expected.numpy())
            found = f.cross_entropy(placed(W.T @ W, split, comm), placed(np.arange(7), 0, comm), reduction)
            np.testing.assert_allclose(whole(found), entropy.numpy(), rtol=1e-10)

    spmd(2, run)


def test_large_scores_do_not_overflow():
    def run(comm):
        x = placed(1000 * X, 1, comm)
        np.testing.assert_allclose(whole(f.softmax(x, 1)), torch.softmax(torch.from_numpy(1000 * X), 1))

    spmd(2, run)


def test_refusals_and_names_of_torch():
    def run(comm):
        x = placed(X, 0, comm)
        with pytest.raises(ValueError, match="reduction must be"):
            f.mse_loss(x, x, "median")
        with pytest.raises(LayoutError, match="target must have the shape"):
            f.mse_loss(x, x[:2])
        with pytest.raises(LayoutError, match="shapes"):
            f.cross_entropy(x, x)
        with pytest.raises(ValueError, match="approximate must be"):
            f.gelu(x, "erf")
        with pytest.raises(DTypeError, match="floating"):
            f.softmax(placed(TARGET, 0, comm))

    spmd(2, run)
    assert f.dropout is F.dropout
    assert nn.Linear is torch.nn.Linear
    with pytest.raises(AttributeError):
        _ = nn.nothing
