"""PCA: scikit-learn's components from every solver, one message, no copy, hard tables."""

import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import whole
from ht_ml.decomposition import PCA
from ml_tables import KINDS, cancer, digits, table
from sklearn.decomposition import PCA as Reference

SOLVERS = ("covariance_eigh", "full", "hierarchical")


def fitted(values, p, kind="even", **parameters):
    def run(comm):
        x = table(values, comm, kind)
        with comm.trace() as sent:
            model = PCA(**parameters).fit(x)
        with comm.trace() as none:
            z = model.transform(x)
            back = model.inverse_transform(z)
        assert none.calls == (0 if kind != "features" else none.calls)
        np.testing.assert_array_equal(whole(x), values)
        assert z.split == (None if kind == "none" else 0)
        learned = {
            name: whole(getattr(model, name))
            for name in (
                "components_",
                "explained_variance_",
                "explained_variance_ratio_",
                "singular_values_",
                "mean_",
            )
        }
        learned["noise_variance_"] = model.noise_variance_
        return learned, whole(z), whole(back), [event.op for event in sent.events]

    results = spmd(p, run)
    for other in results[1:]:
        np.testing.assert_array_equal(other[0]["components_"], results[0][0]["components_"])
    return results[0]


def check(values, found, reference, rtol, atol, leading):
    learned, z, back, _ = found
    for name in ("explained_variance_", "explained_variance_ratio_", "singular_values_", "mean_"):
        expected = getattr(reference, name)
        np.testing.assert_allclose(learned[name], expected, rtol=rtol, atol=rtol * np.abs(expected).max())
    assert learned["components_"].shape == reference.components_.shape
    assert learned["noise_variance_"] == pytest.approx(reference.noise_variance_, rel=1e-3, abs=1e-9)
    np.testing.assert_allclose(learned["components_"][:leading], reference.components_[:leading], atol=atol)
    wide = values.astype("float64")
    scale = np.abs(wide).max()
    expected = reference.transform(wide)[:, :leading]
    np.testing.assert_allclose(z[:, :leading], expected, atol=atol * max(np.abs(expected).max(), scale))
    np.testing.assert_allclose(
        back, reference.inverse_transform(reference.transform(wide)), atol=atol * scale
    )


@pytest.mark.parametrize("n_components", [None, 5, 0.9])
@pytest.mark.parametrize("solver", SOLVERS)
def test_agrees_with_scikit_learn(solver, n_components):
    for values in (cancer(), digits("float64"), np.random.default_rng(0).normal(size=(15, 40)) + 3):
        for whiten in (False, True):
            if whiten and n_components is None:
                continue  # components of rounding error are scaled up to anything
            reference = Reference(n_components, whiten=whiten, svd_solver="full").fit(values)
            for p in (1, 3):
                found = fitted(values, p, n_components=n_components, whiten=whiten, svd_solver=solver)
                check(values, found, reference, 1e-7, 1e-8, 5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("solver", SOLVERS)
def test_float32_in_any_layout(solver, kind):
    values = digits()
    reference = Reference(6, svd_solver="full").fit(values.astype("float64"))
    found = fitted(values, 3, kind, n_components=6, svd_solver=solver)
    assert found[0]["components_"].dtype == np.float32
    assert found[1].dtype == np.float32
    check(values, found, reference, 1e-5, 1e-5, 6)


def test_messages():
    for p in (1, 3):
        assert fitted(digits("float64"), p, n_components=3)[3] == ["allreduce"]
        assert (
            fitted(digits(), p, n_components=3)[3] == ["allreduce"] * 2
        )  # the last: are float32 products enough?
        assert fitted(digits(), p, n_components=64)[3] == ["allreduce"] * 3
    assert fitted(digits(), 3, "none", n_components=3)[3] == []


def test_full_resolves_small_singular_values():
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.normal(size=(200, 6)) - rng.normal(size=(200, 6)).mean(0))[0]
    q -= q.mean(0)
    q = np.linalg.qr(q)[0]
    v = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    values = q * 10.0 ** -np.arange(0, 12, 2) @ v + 5.0
    for p in (1, 3):
        found = fitted(values, p, svd_solver="full")[0]["singular_values_"]
        np.testing.assert_allclose(found, 10.0 ** -np.arange(0, 12, 2), rtol=2e-4)


def test_offsets_do_not_cancel():
    values = cancer()[:, :6]
    plain = fitted(values, 3, n_components=4)
    moved = fitted(values + 1e6, 3, n_components=4)
    np.testing.assert_allclose(moved[0]["components_"], plain[0]["components_"], atol=1e-6)
    np.testing.assert_allclose(moved[1], plain[1], atol=1e-4)


HARD = {
    "ill-conditioned": lambda x: x * 10.0 ** -np.linspace(0, 1.4, x.shape[1]),
    "far from zero": lambda x: (
        x * 10.0 ** -np.linspace(0, 1, x.shape[1]) + np.linspace(-1e4, 1e4, x.shape[1])
    ),
    "first rows elsewhere": lambda x: x + 300.0 * (np.arange(len(x)) > 2500)[:, None],
    "drifting": lambda x: x + np.linspace(0, 300, len(x))[:, None],
    "tiny": lambda x: x * 1e-30,
    "huge": lambda x: x * 1e25,
    "low rank": lambda x: x[:, :3] @ x[:3] + 1e-3 * x,
}


@pytest.mark.parametrize("kind", HARD)
def test_float32_products_are_accurate_or_not_used(kind):
    values = HARD[kind](np.random.default_rng(0).standard_normal((6000, 12))).astype(np.float32)
    wide = values.astype(np.float64)
    expected = np.linalg.svd(wide - wide.mean(0), compute_uv=False)
    for p in (1, 3):
        for count in (1, 12):
            with np.errstate(over="ignore"):  # variances of huge numbers are not in float32
                found = fitted(values, p, n_components=count)[0]["singular_values_"]
            np.testing.assert_allclose(found, expected[:count], rtol=3e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_one_row_and_constant_table(solver):
    for values in (np.ones((1, 3)), np.full((10, 3), 4.0)):
        learned, z, back, _ = fitted(values, 3, svd_solver=solver)
        np.testing.assert_array_equal(learned["explained_variance_"], 0.0)
        np.testing.assert_allclose(
            learned["components_"] @ learned["components_"].T, np.eye(len(learned["components_"])), atol=1e-12
        )
        np.testing.assert_array_equal(z, 0.0)
        np.testing.assert_array_equal(back, values)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_components": 0}, r"n_components must be in \[1, 4\] for shape \(20, 4\), got 0"),
        ({"n_components": 5}, r"n_components must be in \[1, 4\]"),
        ({"n_components": 1.5}, r"n_components must be an int, a share in \(0, 1\) or None, got 1.5"),
        ({"svd_solver": "best"}, "svd_solver must be one of"),
    ],
)
def test_wrong_parameters_are_refused_before_any_message(parameters, message):
    values = np.random.default_rng(0).normal(size=(20, 4))

    def run(comm):
        with comm.trace() as sent, pytest.raises(ValueError, match="PCA.fit: " + message):
            PCA(**parameters).fit(table(values, comm))
        return sent.calls

    assert spmd(2, run) == [0, 0]
