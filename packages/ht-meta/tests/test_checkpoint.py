"""Estimators in checkpoints: restored on other ranks, they go on with the same bits."""

from importlib import import_module

import ht_meta as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_io.checkpoint_tree import MODULES, find_class


def data(comm=None):
    """A hundred points around four centres, whose coordinates are integers: sums of them are exact."""
    rng = np.random.default_rng(0)
    points = rng.integers(-40, 40, size=(100, 3)) + 200 * rng.integers(0, 4, size=(100, 1))
    return ht.array(points.astype("float64"), split=0)


@pytest.mark.parametrize(("p", "q"), [(1, 3), (3, 2)])
def test_kmeans_goes_on_with_the_same_bits(tmp_path, p, q):
    def whole(comm):
        x = data()
        model = ht.cluster.KMeans(4, init=x.resplit(None)[:4], n_init=1, max_iter=6, tol=0.0).fit(x)
        return model.cluster_centers_.numpy(), model.labels_.numpy(), model.inertia_

    def first(comm):
        x = data()
        model = ht.cluster.KMeans(4, init=x.resplit(None)[:4], n_init=1, max_iter=3, tol=0.0).fit(x)
        ht.checkpoint.save(tmp_path / "fit.h5", {"model": model, "x": x})

    def rest(comm):
        state = ht.checkpoint.load(tmp_path / "fit.h5")
        model, x = state["model"], state["x"]
        assert model.labels_.split == 0
        model.set_params(init=model.cluster_centers_).fit(x)
        return model.cluster_centers_.numpy(), model.labels_.numpy(), model.inertia_

    expected = spmd(q, whole)[0]
    spmd(p, first)
    for found in spmd(q, rest):
        for a, b in zip(expected, found):
            np.testing.assert_array_equal(a, b)


def same(a, b):
    """Tell whether two attributes are of one type and equal, arrays with equal splits."""
    if type(a) is not type(b):
        return False
    if isinstance(a, ht.DNDarray):
        return a.split == b.split and np.array_equal(a.numpy(), b.numpy(), equal_nan=a.dtype.kind in "fc")
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    if hasattr(a, "get_params"):
        return all(same(value, vars(b)[key]) for key, value in vars(a).items())
    return np.array_equal(np.asarray(a), np.asarray(b))


ESTIMATORS = [
    f"{name}.{attribute}"
    for name in MODULES
    for attribute in import_module(name).__all__
    if find_class(f"{name}.{attribute}") is not None
]


#: Estimators of snapshots in columns: how they are fitted and used.
BY_COLUMNS = {
    "DMD": (lambda model, x: model.fit(x.T), lambda model, x: model.predict_next(x.T)),
    "DMDc": (
        lambda model, x: model.fit(x.T, x.T[:2].resplit(None)),
        lambda model, x: model.predict(x[0], x.T[:2, :4].resplit(None)),
    ),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_is_restored(tmp_path, name):
    def check(comm):
        x = data()
        y = x[:, 0] > 100 if "Logistic" in name or "NB" in name else x[:, 0]
        kind = find_class(name)
        model = kind(n_clusters=4, random_state=0) if "n_clusters" in kind._parameters() else kind()
        fit, _ = BY_COLUMNS.get(kind.__name__, (None, None))
        if fit:
            model = fit(model, x)
        else:
            model = model.fit(x) if "cluster" in name or hasattr(model, "fit_transform") else model.fit(x, y)
        ht.checkpoint.save(tmp_path / "x.h5", model)
        back = ht.checkpoint.load(tmp_path / "x.h5")
        assert type(back) is kind
        assert list(vars(back)) == list(vars(model))
        assert repr(back) == repr(model)
        for key, value in vars(model).items():
            assert same(value, vars(back)[key]), key

    spmd(2, check)
