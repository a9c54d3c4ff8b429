"""The foundations' speed list in one run: python benchmarks/foundations.py --heat-python PYTHON_WITH_HEAT.

Sizes are those at which the targets were set: small enough that interpreter and message costs show.
All data are float32 and the same for every contender, which keeps what it needs of them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from harness import Case, Difference, Env, Run, main

CLUSTERS = 25
ROWS, FEATURES = 40_000, 64
LASSO_FEATURES = 100
TALL = (200_000, 50)
FILE_SHAPE = (262_144, 64)  # 64 MiB of float32
FILE, DATASET = "features.h5", "features"


def _points() -> np.ndarray:
    """Rows around as many centres as there are clusters, overlapping: Lloyd's method runs on."""
    rng = np.random.default_rng(1)
    centres = rng.normal(size=(CLUSTERS, FEATURES))
    noise = rng.normal(scale=1.5, size=(ROWS, FEATURES))
    return (centres[rng.integers(CLUSTERS, size=ROWS)] + noise).astype(np.float32)


def _centres() -> np.ndarray:
    return _points()[:CLUSTERS].copy()


def _regression() -> tuple[np.ndarray, np.ndarray]:
    """Correlated columns and a sparse signal."""
    rng = np.random.default_rng(2)
    x = rng.normal(size=(ROWS, LASSO_FEATURES)) + 0.5 * rng.normal(size=(ROWS, 1))
    weights = np.where(np.arange(LASSO_FEATURES) % 5 == 0, rng.normal(size=LASSO_FEATURES), 0.0)
    y = x @ weights + 0.1 * rng.normal(size=ROWS)
    return x.astype(np.float32), y.astype(np.float32)


def _tall() -> np.ndarray:
    """Singular values that decay: a tolerance keeps some of them."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=TALL) * np.logspace(0, -3, TALL[1])
    return (x @ np.linalg.qr(rng.normal(size=(TALL[1], TALL[1])))[0]).astype(np.float32)


# ------------------------------------------------------------------------------------------------ k-means


def _kmeans(env: Env, iterations: int) -> Run:
    """`fit` with a fixed number of iterations from given centres, in ours and in Heat."""
    tol = -1.0 if env.lib.__name__ == "heat" else 0.0  # neither stops early
    x = env.lib.array(_points(), split=0)
    centres = env.lib.array(_centres())

    def run() -> None:
        env.lib.cluster.KMeans(n_clusters=CLUSTERS, init=centres, max_iter=iterations, tol=tol).fit(x)

    return run


def kmeans_ours(env: Env) -> Difference:
    return Difference(_kmeans(env, 41), _kmeans(env, 1), 40)


def kmeans_heat(env: Env) -> Difference:
    return Difference(_kmeans(env, 4), _kmeans(env, 1), 3)


def kmeans_sklearn(env: Env) -> Difference:
    from sklearn.cluster import KMeans

    x, centres = _points(), _centres()

    def runner(iterations: int) -> Run:
        def run() -> None:
            KMeans(CLUSTERS, init=centres, n_init=1, max_iter=iterations, tol=0.0, algorithm="lloyd").fit(x)

        return run

    import warnings

    from sklearn.exceptions import ConvergenceWarning

    warnings.simplefilter("ignore", ConvergenceWarning)
    return Difference(runner(41), runner(1), 40)


def predict_spmd(env: Env) -> Run:
    x = env.lib.array(_points(), split=0)
    model = env.lib.cluster.KMeans(n_clusters=CLUSTERS, init=env.lib.array(_centres()), max_iter=2)
    model.fit(x)
    return lambda: model.predict(x)


def predict_sklearn(env: Env) -> Run:
    from sklearn.cluster import KMeans

    x = _points()
    model = KMeans(CLUSTERS, init=_centres(), n_init=1, max_iter=2).fit(x)
    return lambda: model.predict(x)


# -------------------------------------------------------------------------------------------------- Lasso


def _lasso(env: Env, sweeps: int) -> Run:
    """`fit` with a fixed number of sweeps; Heat asks its users for the column of ones."""
    x, y = _regression()
    x = np.hstack([np.ones((ROWS, 1), np.float32), x]) if env.lib.__name__ == "heat" else x
    x, y = env.lib.array(x, split=0), env.lib.array(y.reshape(-1, 1), split=0)
    return lambda: env.lib.regression.Lasso(lam=0.1, max_iter=sweeps, tol=-1.0).fit(x, y)


def _lasso_sklearn(sweeps: int, precompute: bool) -> Run:
    import warnings

    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import Lasso

    warnings.simplefilter("ignore", ConvergenceWarning)
    x, y = _regression()
    return lambda: Lasso(alpha=0.1, max_iter=sweeps, tol=0.0, precompute=precompute).fit(x, y)


def _sweep(precompute: bool) -> Difference:
    return Difference(_lasso_sklearn(11, precompute), _lasso_sklearn(1, precompute), 10)


def lasso_fit_spmd(env: Env) -> Run:
    return _lasso(env, 10)


def lasso_sweep_ours(env: Env) -> Difference:
    return Difference(_lasso(env, 201), _lasso(env, 1), 200)


def lasso_sweep_heat(env: Env) -> Difference:
    return Difference(_lasso(env, 3), _lasso(env, 1), 2)


# --------------------------------------------------------------------------------------------------- hSVD


def hsvd_spmd(env: Env) -> Run:
    x = env.lib.array(_tall(), split=0)
    return lambda: env.lib.linalg.hsvd_rtol(x, 1e-2, compute_sv=True)


def hsvd_numpy(env: Env) -> Run:
    """What a careful user writes for a tall matrix: eigenvalues of the Gram matrix, then U."""
    x = _tall()

    def run() -> np.ndarray:
        values, vectors = np.linalg.eigh(x.T @ x)
        keep = np.cumsum(values) > 1e-4 * values.sum()
        return x @ (vectors[:, keep] / np.sqrt(values[keep]))

    return run


def hsvd_torch(env: Env) -> Run:
    import torch

    x = torch.from_numpy(_tall())
    return lambda: torch.linalg.svd(x, full_matrices=False)


# -------------------------------------------------------------------------------- files, stacking, scaling


def write_file(folder: Path) -> None:
    import h5py

    with h5py.File(folder / FILE, "w") as file:
        rng = np.random.default_rng(4)
        file.create_dataset(DATASET, data=rng.standard_normal(FILE_SHAPE, dtype=np.float32))


def load_spmd(env: Env) -> Run:
    path = str(env.data / FILE)
    return lambda: env.lib.load_hdf5(path, DATASET, dtype=env.lib.float32, split=0)


def load_h5py(env: Env) -> Run:
    import h5py
    import torch

    def run() -> torch.Tensor:
        x = torch.empty(FILE_SHAPE)
        with h5py.File(env.data / FILE) as file:
            file[DATASET].read_direct(x.numpy())
        return x

    return run


def hstack_spmd(env: Env) -> Run:
    x = env.lib.array(_points(), split=0)
    y = env.lib.array(_points()[:, :32].copy(), split=0)
    return lambda: env.lib.hstack([x, y])


def hstack_numpy(env: Env) -> Run:
    x, y = _points(), _points()[:, :32].copy()
    return lambda: np.hstack([x, y])


def hstack_torch(env: Env) -> Run:
    import torch

    x, y = torch.from_numpy(_points()), torch.from_numpy(_points()[:, :32].copy())
    return lambda: torch.hstack([x, y])


def _file_points() -> np.ndarray:
    return np.random.default_rng(5).standard_normal(FILE_SHAPE, dtype=np.float32)


def scaler_spmd(env: Env) -> Run:
    x = env.lib.array(_file_points(), split=0)
    return lambda: env.lib.preprocessing.StandardScaler(copy=False).fit_transform(x)


def scaler_sklearn(env: Env) -> Run:
    from sklearn.preprocessing import StandardScaler

    x = _file_points()
    return lambda: StandardScaler(copy=False).fit_transform(x)


def scaler_torch(env: Env) -> Run:
    import torch

    x = torch.from_numpy(_file_points())

    def run() -> torch.Tensor:
        var, mean = torch.var_mean(x, dim=0, correction=0)
        return x.sub_(mean).div_(var.sqrt_())

    return run


# ------------------------------------------------------------------------------------------------- a + b


def add_ours(env: Env) -> Run:
    a, b = (
        env.lib.arange(100, dtype=env.lib.float32, split=0),
        env.lib.ones(100, dtype=env.lib.float32, split=0),
    )
    return lambda: a + b


def add_torch(env: Env) -> Run:
    import torch

    a, b = torch.arange(100, dtype=torch.float32), torch.ones(100)
    return lambda: a + b


CASES = [
    Case(
        "k-means iteration",
        f"{ROWS:,} x {FEATURES}, k = {CLUSTERS}",
        ours=kmeans_ours,
        heat=kmeans_heat,
        peers={"scikit-learn": kmeans_sklearn},
        heat_target=40,
        peer_target=1,
    ),
    Case(
        "k-means predict",
        f"{ROWS:,} x {FEATURES}, k = {CLUSTERS}",
        spmd=predict_spmd,
        peers={"scikit-learn": predict_sklearn},
        heat_target=2.5,
        peer_target=1,
    ),
    Case(
        "Lasso fit, 10 sweeps",
        f"{ROWS:,} x {LASSO_FEATURES}",
        spmd=lasso_fit_spmd,
        peers={
            "scikit-learn": lambda env: _lasso_sklearn(10, False),
            "scikit-learn, Gram": lambda env: _lasso_sklearn(10, True),
        },
        heat_target=300,
        peer_target=1,
    ),
    Case(
        "Lasso, one more sweep",
        f"{ROWS:,} x {LASSO_FEATURES}",
        ours=lasso_sweep_ours,
        heat=lasso_sweep_heat,
        peers={
            "scikit-learn": lambda env: _sweep(False),
            "scikit-learn, Gram": lambda env: _sweep(True),
        },
        heat_target=300,
        peer_target=1,
    ),
    Case(
        "hSVD, rtol 1e-2",
        f"{TALL[0]:,} x {TALL[1]}",
        spmd=hsvd_spmd,
        peers={"NumPy Gram + eigh": hsvd_numpy, "torch": hsvd_torch},
        heat_target=10,
        peer_target=1,
        reps=5,
    ),
    Case(
        "HDF5 load",
        "64 MiB",
        spmd=load_spmd,
        peers={"h5py into torch": load_h5py},
        heat_target=4,
        peer_target=1,
        prepare=write_file,
    ),
    Case(
        "hstack",
        f"{ROWS:,} x {FEATURES} + 32",
        spmd=hstack_spmd,
        peers={"NumPy": hstack_numpy, "torch": hstack_torch},
        heat_target=1.4,
        peer_target=1,
    ),
    Case(
        "StandardScaler in place",
        f"{FILE_SHAPE[0]:,} x {FILE_SHAPE[1]}",
        spmd=scaler_spmd,
        peers={"scikit-learn": scaler_sklearn, "torch": scaler_torch},
        heat_target=1.4,
        peer_target=1,
    ),
    Case("a + b", "100 elements", single=add_ours, peers={"torch": add_torch}, over_us=10),
]

if __name__ == "__main__":
    main(CASES, __file__)
