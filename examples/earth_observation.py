"""Anomalies in images of one scene over time: python earth_observation.py, or mpiexec -n 4 python earth_observation.py.

Stack of images -> patches of 7 x 7 pixels -> local outlier factors over time at each place -> mean and spread ->
anomalies per time and per place -> maps, in earth_observation.png. The stack is a photograph taken again and again in
another light, with noise and a moving camera; things that are there only once are planted in it.
"""

import ht_meta as ht
import matplotlib
import numpy as np
import torch
from scipy.ndimage import shift
from sklearn.datasets import load_sample_image

TIMES, SIZE, STEP, NEIGHBORS = 24, 7, 2, 8


def images(planted=12, contrast=0.2):
    """The stack, shape (times, height, width), and where something is planted, of the same shape."""
    rng = np.random.default_rng(0)
    photograph = load_sample_image("china.jpg").mean(axis=2)[:424] / 255.0
    scene = photograph.reshape(106, 4, 160, 4).mean(axis=(1, 3))
    stack = np.empty((TIMES, *scene.shape), np.float32)
    for time, image in enumerate(stack):
        light = 1.0 + 0.1 * np.sin(2 * np.pi * time / 12) + 0.02 * rng.normal()
        moved = shift(scene, rng.uniform(-0.2, 0.2, size=2), order=1, mode="nearest")
        image[:] = light * moved + 0.02 * rng.normal(size=scene.shape)
    truth = np.zeros(stack.shape, np.float32)
    for time, row, column in zip(*(rng.integers(n, size=planted) for n in (TIMES, 96, 150))):
        there = time, slice(row, row + 10), slice(column, column + 10)
        stack[there] += contrast * np.sign(0.5 - stack[there].mean())
        truth[there] = 1.0
    return stack, truth


def windows(stack):
    """All patches, shape (times, rows, columns, 7, 7): one exchange of a few rows between neighbours, and a view."""
    return ht.unfold(ht.unfold(stack, 1, SIZE, STEP), 2, SIZE, STEP)


def outlier_factors(patches):
    """Local outlier factors over time at each place, shape (times, rows, columns); no message."""

    def at_place(samples):  # times, 49
        return ht.neighbors.local_outlier_factor(samples, NEIGHBORS)

    def in_row(row):  # times, columns, 7, 7
        return torch.vmap(at_place, in_dims=1, out_dims=1)(row.flatten(2))

    return ht.vmap(in_row, in_dims=1, out_dims=1, chunk_size=8)(patches)


def draw(panels, counts, path):
    """Write maps of places and the anomalies of each time as a picture."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, 3, figsize=(15, 7), layout="constrained")
    for axis, (title, image) in zip(axes.flat, panels.items()):
        figure.colorbar(axis.imshow(image, interpolation="nearest"), ax=axis)
        axis.set(title=title, xticks=[], yticks=[])
    axes[1, 2].bar(range(TIMES), counts)
    axes[1, 2].set(title="anomalies per time", xlabel="time")
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


stack, truth = (ht.array(values, split=1) for values in images())
ht.print0(f"{TIMES} images of {stack.shape[1]} x {stack.shape[2]} pixels on {stack.comm.size} rank(s)")

lof = outlier_factors(windows(stack))
is_anomaly = lof > lof.mean() + 3.0 * lof.std()
per_time = is_anomaly.sum(axis=(1, 2))
per_place = is_anomaly.sum(axis=0)

covered = windows(truth).mean(axis=(3, 4))  # which part of a patch is planted
recall = float((is_anomaly & (covered >= 0.5)).sum() / (covered >= 0.5).sum())
precision = float((is_anomaly & (covered > 0.0)).sum() / is_anomaly.sum())
ht.print0(f"{int(per_time.sum())} of {lof.size} patches are anomalies, at {int((per_time > 0).sum())} times")
ht.print0(f"recall {recall:.3f} of patches that are planted by half, precision {precision:.3f}")

maps = {
    "first image": stack[0],
    "mean factor": lof.mean(axis=0),
    "spread of the factor": lof.std(axis=0),
    "anomalies per place": per_place,
    "planted": (covered >= 0.5).sum(axis=0),
}
panels = {title: image.numpy() for title, image in maps.items()}  # small: every rank may have them
if stack.comm.rank == 0:
    draw(panels, per_time.resplit(None).larray.tolist(), "earth_observation.png")
