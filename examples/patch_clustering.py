"""Clusters of image patches and the elbow plot: python patch_clustering.py, or mpiexec -n 4 python patch_clustering.py.

Patches of 8 x 8 pixels of a photograph -> standardise -> BatchParallelKMeans for several numbers of clusters -> their
functional values, whose bend ("elbow") suggests a number -> map of the clusters, in patch_clustering.png.
"""

import ht_meta as ht
import matplotlib
import numpy as np
from sklearn.datasets import load_sample_image

SIZE, NUMBERS, CHOSEN = 8, (1, 2, 3, 4, 6, 8, 12, 16), 6


def patches_of(photograph):
    """All patches side by side, one per row, and how many there are down and across."""
    down, across = photograph.shape[0] // SIZE, photograph.shape[1] // SIZE
    cut = photograph[: down * SIZE, : across * SIZE].reshape(down, SIZE, across, SIZE, 3)
    return cut.transpose(0, 2, 1, 3, 4).reshape(down * across, -1), (down, across)


def draw(photograph, values, clusters, path):
    """Write the photograph, the elbow plot and the map of the clusters as a picture."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(15, 3.6), layout="constrained")
    axes[0].imshow(photograph)
    axes[1].plot(NUMBERS, values, "o-")
    axes[1].axvline(CHOSEN, linestyle="--")
    axes[1].set(xlabel="number of clusters", ylabel="functional value")
    axes[2].imshow(clusters, cmap="tab10", interpolation="nearest")
    for axis in axes[::2]:
        axis.set(xticks=[], yticks=[])
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


photograph = load_sample_image("china.jpg")
rows, shape = patches_of(photograph.astype(np.float32))
X = ht.preprocessing.StandardScaler(copy=False).fit_transform(ht.array(rows, split=0))
ht.print0(f"{X.shape[0]} patches of {SIZE} x {SIZE} pixels on {X.comm.size} rank(s)")

models = {k: ht.cluster.BatchParallelKMeans(n_clusters=k, random_state=0).fit(X) for k in NUMBERS}
values = [float(model.functional_value_) for model in models.values()]
for k, value in zip(NUMBERS, values):
    ht.print0(f"{k:2d} clusters: functional value {value / values[0]:.3f} of that of one")

clusters = models[CHOSEN].predict(X).numpy().reshape(shape)  # small: every rank may have them
if X.comm.rank == 0:
    draw(photograph, values, clusters, "patch_clustering.png")
