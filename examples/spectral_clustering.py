"""Spectral clustering of image patches: python spectral_clustering.py, or mpiexec -n 4 python spectral_clustering.py.

Patches of 8 x 8 pixels, handwritten digits -> graph of the 10 nearest patches -> smallest eigenvalues of its
Laplacian -> clusters, judged by the adjusted Rand index and the V-measure beside plain k-means. The eigenvalues,
whose gap tells the number of clusters, and the clusters are drawn in spectral_clustering.png.
"""

import ht_meta as ht
import matplotlib
import numpy as np
from sklearn.datasets import load_digits

CLASSES, EIGENVALUES = 10, 14


def draw(eigenvalues, points, labels, path):
    """Write the eigenvalues, and the patches in the plane of their principal components, as a picture."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
    axes[0].plot(np.arange(1, len(eigenvalues) + 1), eigenvalues, "o")
    axes[0].axvline(CLASSES + 0.5, linestyle="--")
    axes[0].set(title="eigenvalues of the Laplacian", xlabel="number")
    axes[1].scatter(*points.T, c=labels, s=6, cmap="tab10")
    axes[1].set(title="clusters", xticks=[], yticks=[])
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


patches, digit = load_digits(return_X_y=True)
X, y = ht.array(patches.astype(np.float32), split=0), ht.array(digit, split=0)
ht.print0(f"{X.shape[0]} patches of 8 x 8 pixels on {X.comm.size} rank(s)")

graph = {"laplacian": "kNN", "n_neighbors": 10, "random_state": 0}
more = ht.cluster.Spectral(CLASSES, n_components=EIGENVALUES, **graph).fit(X)  # to see the gap
model = ht.cluster.Spectral(CLASSES, n_init=5, **graph).fit(X)
plain = ht.cluster.KMeans(CLASSES, n_init=5, random_state=0).fit(X)
scores = {}
for name, labels in (("spectral", model.labels_), ("k-means", plain.labels_)):
    rand = float(ht.metrics.adjusted_rand_score(y, labels))
    v = float(ht.metrics.v_measure_score(y, labels))
    scores[name] = rand, v
    ht.print0(f"{name}: adjusted Rand index {rand:.3f}, V-measure {v:.3f}")
eigenvalues = more.eigenvalues_.numpy()
ht.print0("eigenvalues: " + ", ".join(f"{value:.4f}" for value in eigenvalues))

points = ht.decomposition.PCA(2).fit_transform(X).numpy()  # small: every rank may have them
labels = model.labels_.numpy()
if X.comm.rank == 0:
    draw(eigenvalues, points, labels, "spectral_clustering.png")
