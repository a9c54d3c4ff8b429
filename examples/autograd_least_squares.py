"""Least squares by gradients through split arrays: python autograd_least_squares.py, or with mpiexec -n 4.

A curve with unknown frequency and decay is fitted to data that lie on all ranks: automatic differentiation sends one
message per gradient, and Adam moves the replicated parameters. The linear part is checked against
``ht.linalg.lstsq``. The fit is drawn in autograd_least_squares.png.
"""

import ht_meta as ht
import matplotlib
import numpy as np

SAMPLES, TRUTH = 4000, np.array([1.5, -0.7, 2.0, 0.3])  # cosine, sine, frequency, decay


def model(t, p):
    """Return a damped oscillation at the times `t`."""
    return ht.exp(-p[3] * t) * (p[0] * ht.cos(p[2] * t) + p[1] * ht.sin(p[2] * t))


def loss(p, t, y):
    """Return the mean squared error."""
    return ((model(t, p) - y) ** 2).mean()


def draw(t, y, fitted, losses, path):
    """Write data, fit and the course of the loss as a picture."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(12, 4), layout="constrained")
    axes[0].plot(t, y, ".", markersize=2, label="data")
    axes[0].plot(t, fitted, label="fit")
    axes[0].legend()
    axes[1].semilogy(losses)
    axes[1].set(title="mean squared error", xlabel="step")
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


t = ht.linspace(0.0, 8.0, SAMPLES, dtype=ht.float64, split=0)
noise = ht.random.default_rng(0).normal(0.0, 0.05, (SAMPLES,), split=0).astype(ht.float64)
y = model(t, ht.array(TRUTH)) + noise

slope = ht.value_and_grad(loss)
p = ht.array([1.0, 0.0, 1.7, 0.1], dtype=ht.float64)
moved, scale, losses = ht.zeros_like(p), ht.zeros_like(p), []
for step in range(1, 61):  # Adam
    value, gradient = slope(p, t, y)
    moved = 0.8 * moved + 0.2 * gradient
    scale = 0.95 * scale + 0.05 * gradient**2
    p = p - 0.1 * (moved / (1 - 0.8**step)) / (ht.sqrt(scale / (1 - 0.95**step)) + 1e-9)
    losses.append(float(value))
found = p.numpy()
ht.print0(f"loss {losses[0]:.4f} -> {losses[-1]:.6f} on {t.comm.size} rank(s)")
ht.print0("cosine {:.3f}, sine {:.3f}, frequency {:.3f}, decay {:.3f}".format(*found))

damped = ht.exp(-p[3] * t)
design = ht.stack([damped * ht.cos(p[2] * t), damped * ht.sin(p[2] * t)], axis=1)
linear = ht.linalg.lstsq(design, y)[0].numpy()
ht.print0("least squares at this frequency and decay: {:.3f}, {:.3f}".format(*linear))

curves = [part.numpy() for part in (t, y, model(t, p))]
if t.comm.rank == 0:
    draw(*curves, losses, "autograd_least_squares.png")
