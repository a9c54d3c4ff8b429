"""Estimators side by side: python benchmarks/ml.py --heat-python PYTHON_WITH_HEAT --dask-python PYTHON_WITH_DASK_ML.

The sizes of `foundations.py`; `ml_large.py` runs the same at the size of the demo. All data are float32 and the
same for every contender.
"""

from __future__ import annotations

import warnings
from functools import cache, partial

import numpy as np
from harness import Case, Difference, Env, Run, main

SMALL = (40_000, 64, 25)
LASSO = (40_000, 100)
SWEEPS = 20
NEIGHBORS = (20_000, 32, 5)
SPECTRAL = (2000, 18, 5)
GAMMA = 0.05


@cache
def points(shape: tuple[int, int, int]) -> np.ndarray:
    """Overlapping clusters: Lloyd's method does not end early."""
    n, d, k = shape
    rng = np.random.default_rng(1)
    centres = rng.standard_normal((k, d), dtype=np.float32)
    x = rng.standard_normal((n, d), dtype=np.float32)
    x *= 1.5
    x += centres[rng.integers(k, size=n)]
    return x


@cache
def planted(shape: tuple[int, int, int] = SPECTRAL, start: int = 0, stop: int | None = None):
    """Rows `start` to `stop` of a table of clusters that touch, and the cluster of each."""
    n, d, k = shape
    stop = n if stop is None else stop
    rng = np.random.default_rng(0)
    centres, labels = 1.2 * rng.standard_normal((k, d)), rng.integers(k, size=n)[start:stop]
    x = np.empty((stop - start, d), np.float32)
    for first in range(
        0, n, 10_000
    ):  # in blocks with seeds of their own: no rank draws more than a block too many
        low, high = max(first, start), min(first + 10_000, stop, n)
        if low < high:
            block = np.random.default_rng([1, first]).standard_normal((10_000, d), dtype=np.float32)
            x[low - start : high - start] = block[low - first : high - first]
    x += centres[labels].astype(np.float32)
    return x, labels


@cache
def regression(shape: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Correlated columns and a sparse signal."""
    n, d = shape
    rng = np.random.default_rng(2)
    x = rng.standard_normal((n, d), dtype=np.float32)
    x += 0.5 * rng.standard_normal((n, 1), dtype=np.float32)
    weights = np.where(np.arange(d) % 5 == 0, rng.normal(size=d), 0.0).astype(np.float32)
    return x, x @ weights + 0.1 * rng.standard_normal(n, dtype=np.float32)


def _reference(module: str, name: str):
    """An estimator of scikit-learn that does not complain about too few iterations."""
    import importlib

    from sklearn.exceptions import ConvergenceWarning

    warnings.simplefilter("ignore", ConvergenceWarning)
    return getattr(importlib.import_module(f"sklearn.{module}"), name)


# ------------------------------------------------------------------------------------------------ dask-ml


def _dask_estimator(module: str, name: str, **parameters):
    """An estimator of dask-ml."""
    import importlib

    return getattr(importlib.import_module(f"dask_ml.{module}"), name)(**parameters)


def _dask_rows(env: Env, values: np.ndarray):
    """One block of rows for each of the two workers, which hold them already."""
    from distributed import wait

    chunks = (-(-len(values) // 2), *values.shape[1:])
    rows = env.lib.from_array(values, chunks=chunks).persist()
    wait(rows)
    return rows


def dask_fit(module: str, name: str, values, target=None, then: str | None = None, **parameters):
    """`fit` in dask-ml; or a method of the fitted estimator, `then`, to the end of its computation.

    `values` and `target` are functions that return the arrays; parameters may be functions, too.
    """

    def setup(env: Env) -> Run:
        arrays = [_dask_rows(env, made()) for made in (values, target) if made is not None]
        options = {key: value() if callable(value) else value for key, value in parameters.items()}

        def make():
            return _dask_estimator(module, name, **options)

        if then is None:
            return lambda: make().fit(*arrays)
        if then == "fit_transform":
            return lambda: make().fit_transform(arrays[0]).compute_chunk_sizes().persist()
        model = make().fit(*arrays)
        return lambda: getattr(model, then)(arrays[0]).compute()

    return setup


def dask_kmeans(shape, iterations: int, then: str | None = None):
    """k-means of a fixed number of iterations from given centres."""
    return dask_fit(
        "cluster",
        "KMeans",
        lambda: points(shape),
        then=then,
        n_clusters=shape[2],
        init=lambda: points(shape)[: shape[2]].copy(),
        max_iter=iterations,
        tol=-1.0,
    )


# ------------------------------------------------------------------------------------------------ k-means


def kmeans_fit(shape, iterations: int):
    """`fit` of a fixed number of iterations from given centres, per iteration."""

    def setup(env: Env) -> Run:
        x, k = env.lib.array(points(shape), split=0), shape[2]
        centres = env.lib.array(points(shape)[:k].copy())
        return lambda: env.lib.cluster.KMeans(n_clusters=k, init=centres, max_iter=iterations, tol=-1.0).fit(
            x
        )

    return setup


def kmeans_fit_sklearn(shape, iterations: int):
    def setup(env: Env) -> Run:
        kmeans, x, k = _reference("cluster", "KMeans"), points(shape), shape[2]
        return lambda: kmeans(k, init=x[:k].copy(), n_init=1, max_iter=iterations, tol=0.0).fit(x)

    return setup


def kmeans_iteration(fit, shape, long: int):
    def setup(env: Env) -> Difference:
        return Difference(fit(shape, long)(env), fit(shape, 1)(env), long - 1)

    return setup


def plus_plus(env: Env) -> Run:
    x = env.lib.array(points(SMALL), split=0)
    name = "kmeans++" if env.lib.__name__ == "heat" else "k-means++"
    return lambda: env.lib.cluster.KMeans(n_clusters=25, init=name, max_iter=1, random_state=0).fit(x)


def plus_plus_sklearn(env: Env) -> Run:
    kmeans, x = _reference("cluster", "KMeans"), points(SMALL)
    return lambda: kmeans(25, n_init=1, max_iter=1, random_state=0).fit(x)


def predict(shape):
    def setup(env: Env) -> Run:
        x, k = env.lib.array(points(shape), split=0), shape[2]
        model = env.lib.cluster.KMeans(n_clusters=k, init=env.lib.array(points(shape)[:k].copy()), max_iter=2)
        model.fit(x)
        return lambda: model.predict(x)

    return setup


def predict_sklearn(shape):
    def setup(env: Env) -> Run:
        x, k = points(shape), shape[2]
        model = _reference("cluster", "KMeans")(k, init=x[:k].copy(), n_init=1, max_iter=2).fit(x)
        return lambda: model.predict(x)

    return setup


# ---------------------------------------------------------------------------------------- Lasso, scaler, PCA


def lasso(shape, sweeps: int = SWEEPS, tol: float = -1.0):
    def setup(env: Env) -> Run:
        x, y = regression(shape)
        if env.lib.__name__ == "heat":  # which asks its users for the column of ones
            x = np.hstack([np.ones((len(x), 1), np.float32), x])
        x, y = env.lib.array(x, split=0), env.lib.array(y.reshape(-1, 1), split=0)
        return lambda: env.lib.regression.Lasso(lam=0.1, max_iter=sweeps, tol=tol).fit(x, y)

    return setup


def lasso_sklearn(shape, precompute: bool, sweeps: int = 1000, tol: float = 1e-4):
    def setup(env: Env) -> Run:
        model, (x, y) = _reference("linear_model", "Lasso"), regression(shape)
        return lambda: model(0.1, precompute=precompute, max_iter=sweeps, tol=tol).fit(x, y)

    return setup


def dask_lasso(shape, sweeps: int = SWEEPS):
    """The L1 model of dask-ml, which takes proximal gradient steps, as many as the others' sweeps."""
    return dask_fit(
        "linear_model",
        "LinearRegression",
        lambda: regression(shape)[0],
        lambda: regression(shape)[1],
        penalty="l1",
        solver="proximal_grad",
        C=0.1,
        max_iter=sweeps,
    )


def scaler_fit(env: Env) -> Run:
    x = env.lib.array(points(SMALL), split=0)
    return lambda: env.lib.preprocessing.StandardScaler(copy=False).fit(x)


def scaler_fit_sklearn(env: Env) -> Run:
    x = points(SMALL)
    return lambda: _reference("preprocessing", "StandardScaler")(copy=False).fit(x)


def scaler(shape):
    def setup(env: Env) -> Run:
        x = env.lib.array(points(shape), split=0)
        return lambda: env.lib.preprocessing.StandardScaler(copy=False).fit_transform(x)

    return setup


def scaler_sklearn(shape):
    def setup(env: Env) -> Run:
        x = points(shape).copy()
        return lambda: _reference("preprocessing", "StandardScaler")(copy=False).fit_transform(x)

    return setup


def scaler_torch(shape):
    def setup(env: Env) -> Run:
        import torch

        x = torch.from_numpy(points(shape).copy())

        def run() -> torch.Tensor:
            var, mean = torch.var_mean(x, dim=0, correction=0)
            return x.sub_(mean).div_(var.sqrt_())

        return run

    return setup


def pca(shape):
    def setup(env: Env) -> Run:
        x = env.lib.array(regression(shape)[0], split=0)
        return lambda: env.lib.decomposition.PCA(n_components=20).fit(x)

    return setup


def pca_sklearn(shape):
    def setup(env: Env) -> Run:
        x = regression(shape)[0]
        return lambda: _reference("decomposition", "PCA")(20).fit(x)

    return setup


# ----------------------------------------------------------------------------------------------- neighbours


@cache
def labelled(shape: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Overlapping clusters with labels that differ within a cluster."""
    x = points((*shape[:2], 25))
    return x, np.clip(np.round(x[:, 0]), -4, 4).astype(np.int64) + 4


def neighbors(shape):
    """`predict` of as many rows as are learned, near to them."""

    def setup(env: Env) -> Run:
        x, y = labelled(shape)
        rows, labels = env.lib.array(x, split=0), env.lib.array(y, split=0)
        model = env.lib.classification.kneighborsclassifier.KNeighborsClassifier(n_neighbors=shape[2])
        model.fit(rows, labels)
        asked = env.lib.array(x + np.float32(0.1), split=0)
        return lambda: model.predict(asked)

    return setup


def neighbors_sklearn(shape):
    def setup(env: Env) -> Run:
        x, y = labelled(shape)
        model = _reference("neighbors", "KNeighborsClassifier")(shape[2], n_jobs=2).fit(x, y)
        asked = x + np.float32(0.1)
        return lambda: model.predict(asked)

    return setup


def outlier_factors(env: Env) -> Run:
    x = env.lib.array(points(SMALL)[:20_000], split=0)
    return lambda: env.lib.neighbors.LocalOutlierFactor(n_neighbors=20).fit(x)


def outlier_factors_sklearn(env: Env) -> Run:
    x = points(SMALL)[:20_000]
    return lambda: _reference("neighbors", "LocalOutlierFactor")(n_neighbors=20, n_jobs=2).fit(x)


# ------------------------------------------------------------------------------ scalers, models, decomposition


@cache
def targets(kind: str) -> np.ndarray:
    """Five classes by the clusters of `points`, two by its first feature, or a number per row of `regression`."""
    if kind == "number":
        return regression(LASSO)[1]
    x = points(SMALL)
    if kind == "two":
        noise = np.random.default_rng(4).standard_normal(len(x))
        return (x[:, 0] - x[:, 1] + noise > 0).astype(np.int64)
    return np.digitize(x[:, 0], [-1.5, -0.5, 0.5, 1.5])


def fitted(module: str, name: str, y: str | None = None, **parameters):
    """`fit` of an estimator that every library has under the same name, to `points` or (numbers) to `regression`."""

    def setup(env: Env) -> Run:
        x = regression(LASSO)[0] if y == "number" else points(SMALL)
        arrays = [x] if y is None else [x, targets(y)]
        arrays = [env.lib.array(values, split=0) for values in arrays]
        model = getattr(getattr(env.lib, module), name)
        return lambda: model(**parameters).fit(*arrays)

    return setup


def fitted_sklearn(module: str, name: str, y: str | None = None, **parameters):
    def setup(env: Env) -> Run:
        x = regression(LASSO)[0] if y == "number" else points(SMALL)
        arrays = [x] if y is None else [x, targets(y)]
        return lambda: _reference(module, name)(**parameters).fit(*arrays)

    return setup


def fit_case(
    module: str, name: str, y: str | None = None, heat: bool = False, dask: bool = False, **parameters
) -> Case:
    """Return a case for `fit` with the same parameters everywhere."""
    setup = fitted(module, name, y, **parameters)
    target = None if y is None else partial(targets, y)
    return Case(
        f"{name}.fit",
        _text(LASSO if y == "number" else SMALL[:2]),
        peers={"scikit-learn": fitted_sklearn(module, name, y, **parameters)},
        heat_target=1 if heat else None,
        peer_target=1,
        dask=dask_fit(module, name, partial(points, SMALL), target, **parameters) if dask else None,
        **({"spmd": setup} if heat else {"ours": setup}),
    )


def bayes_predict(env: Env) -> Run:
    x, y = (env.lib.array(values, split=0) for values in (points(SMALL), targets("five")))
    model = env.lib.naive_bayes.GaussianNB().fit(x, y)
    return lambda: model.predict(x)


def bayes_predict_sklearn(env: Env) -> Run:
    model = _reference("naive_bayes", "GaussianNB")().fit(points(SMALL), targets("five"))
    return lambda: model.predict(points(SMALL))


def spectral(env: Env) -> Run:
    x, k = env.lib.array(planted()[0], split=0), SPECTRAL[2]
    options = {"random_state": 0} if env.lib.__name__ != "heat" else {"n_lanczos": 50}
    return lambda: env.lib.cluster.Spectral(n_clusters=k, gamma=GAMMA, **options).fit(x)


def spectral_sklearn(env: Env) -> Run:
    x, k = planted()[0], SPECTRAL[2]
    return lambda: _reference("cluster", "SpectralClustering")(k, gamma=GAMMA, random_state=0).fit(x)


def incremental(env: Env) -> Run:
    x = env.lib.array(regression(LASSO)[0], split=0)
    return lambda: env.lib.decomposition.IncrementalPCA(20, batch_size=5000).fit(x)


def incremental_sklearn(env: Env) -> Run:
    x = regression(LASSO)[0]
    return lambda: _reference("decomposition", "IncrementalPCA")(20, batch_size=5000).fit(x)


def _text(shape) -> str:
    return f"{shape[0]:,} x {shape[1]}" + (f", k = {shape[2]}" if len(shape) == 3 else "")


def cases(shape, tabular, heat: bool = True) -> list[Case]:
    """Return the cases at one size; without Heat where its minutes would tell nothing new."""

    def spmd(setup):
        return {"spmd": setup} if heat else {"ours": setup}

    kmeans = {"ours": kmeans_iteration(kmeans_fit, shape, 21 if heat else 6)}
    if heat:
        kmeans["heat"] = kmeans_iteration(kmeans_fit, shape, 4)
    reference = {"scikit-learn": kmeans_iteration(kmeans_fit_sklearn, shape, 21 if heat else 6)}
    return [
        Case(
            "k-means iteration",
            _text(shape),
            peers=reference,
            heat_target=40,
            peer_target=1,
            **kmeans,
        ),
        Case(
            "k-means fit, 10 iterations",
            _text(shape),
            peers={"scikit-learn": kmeans_fit_sklearn(shape, 10)},
            peer_target=1,
            dask=dask_kmeans(shape, 10) if heat else None,
            **spmd(kmeans_fit(shape, 10)),
        ),
        Case(
            "k-means predict",
            _text(shape),
            peers={"scikit-learn": predict_sklearn(shape)},
            heat_target=2.5,
            peer_target=1,
            dask=dask_kmeans(shape, 2, "predict") if heat else None,
            **spmd(predict(shape)),
        ),
        Case(
            "Lasso fit, 20 sweeps",
            _text(tabular),
            peers={
                "scikit-learn": lasso_sklearn(tabular, False, SWEEPS, 0.0),
                "scikit-learn, Gram": lasso_sklearn(tabular, True, SWEEPS, 0.0),
            },
            heat_target=300,
            peer_target=1,
            dask=dask_lasso(tabular) if heat else None,
            **spmd(lasso(tabular)),
        ),
        Case(
            "Lasso fit to tol 1e-4",
            _text(tabular),
            ours=lasso(tabular, 1000, 1e-4),
            peers={
                "scikit-learn": lasso_sklearn(tabular, False),
                "scikit-learn, Gram": lasso_sklearn(tabular, True),
            },
            peer_target=1,
        ),
        Case(
            "StandardScaler in place",
            _text(shape[:2]),
            peers={"scikit-learn": scaler_sklearn(shape), "torch": scaler_torch(shape)},
            heat_target=1.4,
            peer_target=1,
            dask=dask_fit("preprocessing", "StandardScaler", lambda: points(shape), then="fit_transform")
            if heat
            else None,
            **spmd(scaler(shape)),
        ),
        Case(
            "PCA fit, 20 components",
            _text(tabular),
            peers={"scikit-learn": pca_sklearn(tabular)},
            peer_target=1,
            dask=dask_fit(
                "decomposition", "PCA", lambda: regression(tabular)[0], n_components=20, svd_solver="full"
            )
            if heat
            else None,
            **spmd(pca(tabular)),
        ),
    ]


CASES = [
    *cases(SMALL, LASSO),
    Case(
        "k-means++ and one iteration",
        _text(SMALL),
        spmd=plus_plus,
        peers={"scikit-learn": plus_plus_sklearn},
        peer_target=1,
    ),
    Case(
        "KNeighborsClassifier predict",
        _text(NEIGHBORS),
        spmd=neighbors(NEIGHBORS),
        peers={"scikit-learn": neighbors_sklearn(NEIGHBORS)},
        heat_target=1,
        peer_target=1,
    ),
    Case(
        "LocalOutlierFactor fit, k = 20",
        _text((20_000, SMALL[1])),
        ours=outlier_factors,
        peers={"scikit-learn": outlier_factors_sklearn},
        peer_target=1,
    ),
    Case(
        "StandardScaler.fit",
        _text(SMALL[:2]),
        spmd=scaler_fit,
        dask=dask_fit("preprocessing", "StandardScaler", partial(points, SMALL)),
        peers={"scikit-learn": scaler_fit_sklearn},
        peer_target=1,
    ),
    fit_case("preprocessing", "MinMaxScaler", heat=True, dask=True),
    fit_case("preprocessing", "RobustScaler", heat=True, dask=True),
    fit_case("naive_bayes", "GaussianNB", "five", heat=True, dask=True),
    fit_case("linear_model", "Ridge", "number"),
    fit_case("linear_model", "LogisticRegression", "two", max_iter=30, tol=1e-4),
    fit_case("decomposition", "TruncatedSVD", n_components=10, random_state=0),
    Case(
        "IncrementalPCA.fit, 20 components, blocks of 5000",
        _text(LASSO),
        ours=incremental,
        peers={"scikit-learn": incremental_sklearn},
        peer_target=1,
    ),
    Case(
        "GaussianNB.predict",
        _text(SMALL[:2]),
        spmd=bayes_predict,
        peers={"scikit-learn": bayes_predict_sklearn},
        heat_target=1,
        peer_target=1,
        dask=dask_fit(
            "naive_bayes", "GaussianNB", partial(points, SMALL), partial(targets, "five"), then="predict"
        ),
    ),
    Case(
        "Spectral fit, all pairs",
        _text(SPECTRAL),
        spmd=spectral,
        peers={"scikit-learn": spectral_sklearn},
        heat_target=1,
        peer_target=1,
    ),
]

if __name__ == "__main__":
    main(CASES, __file__)
