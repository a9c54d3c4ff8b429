"""Clusters of images: python image_clustering.py, or mpiexec -n 4 python image_clustering.py.

Frames -> hierarchical PCA -> k-means -> mean image of each cluster, in image_clustering.png. The frames are
handwritten digits; those of a high-speed camera are treated alike. How well the clusters agree with the
digits is only used to judge them.
"""

import ht_meta as ht
import matplotlib
import numpy as np
from sklearn.datasets import load_digits

CLUSTERS, COMPONENTS = 20, 20


def draw(means, counts, path):
    """Write the mean images as a montage."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(2, len(means) // 2, figsize=(12, 3.2), layout="constrained")
    for axis, mean, count in zip(axes.flat, means, counts):
        axis.imshow(mean.reshape(8, 8), cmap="gray_r")
        axis.set(title=f"{count} frames", xticks=[], yticks=[])
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


digits = load_digits()
frames = ht.array(digits.images.astype(np.float32), split=0)
X = frames.reshape((frames.shape[0], -1))
ht.print0(
    f"{frames.shape[0]} frames of {frames.shape[1]} x {frames.shape[2]} pixels on {X.comm.size} rank(s)"
)

pca = ht.decomposition.PCA(COMPONENTS, svd_solver="hierarchical")
Z = pca.fit_transform(X)
explained = float(pca.explained_variance_ratio_.sum())
ht.print0(f"{COMPONENTS} components explain {explained:.3f} of the variance")

model = ht.cluster.KMeans(n_clusters=CLUSTERS, n_init=3, random_state=0).fit(Z)
counts = ht.bincount(model.labels_, minlength=CLUSTERS).numpy()
order = np.argsort(-counts)
means = pca.inverse_transform(model.cluster_centers_).numpy()
agreement = float(ht.metrics.homogeneity_score(ht.array(digits.target, split=0), model.labels_))
ht.print0(f"k-means: {model.n_iter_} iterations, homogeneity {agreement:.3f} with the digits written")

if X.comm.rank == 0:
    draw(means[order], counts[order], "image_clustering.png")
