"""The papers' pipeline on a small real data set: python pipeline.py, or mpiexec -n 4 python pipeline.py.

Handwritten digits -> HDF5 -> parallel load -> standardise -> hierarchical SVD -> k-means -> Lasso.
"""

import ht_meta as ht
from sklearn.datasets import load_digits

digits = load_digits()
ht.save_hdf5(ht.array(digits.data, split=0), "digits.h5", "images")
ht.save_hdf5(ht.array(digits.target, split=0), "digits.h5", "digit", mode="a")

X = ht.load_hdf5("digits.h5", "images", dtype=ht.float32, split=0)
y = ht.load_hdf5("digits.h5", "digit", dtype=ht.float32, split=0)
ht.print0(f"loaded {X.shape[0]} images of {X.shape[1]} pixels on {X.comm.size} rank(s)")

X = ht.preprocessing.StandardScaler(copy=False).fit_transform(X)
U, s, V, error = ht.linalg.hsvd_rtol(X, 0.3, compute_sv=True)
ht.print0(f"{s.shape[0]} of {X.shape[1]} directions keep the relative error below 0.3")

model = ht.cluster.KMeans(n_clusters=10, init="k-means++", random_state=0)
labels = model.fit_predict(X)
ht.print0(f"k-means: {model.n_iter_} iterations, inertia {model.inertia_:.5g}")

lasso = ht.linear_model.Lasso(alpha=0.1).fit(X, y)
used = int((abs(lasso.coef_) > 0).sum())
ht.print0(f"Lasso: {used} pixels predict the digit")

ht.save_hdf5(labels, "labels.h5", "labels")
