"""Lasso: scikit-learn's coefficients, one message, both solvers, hard tables."""

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import whole
from ht_ml import regression
from ht_ml.base import ConvergenceWarning
from ht_ml.linear_model import Lasso
from ht_ml.linear_model.coordinate_descent import GramLasso
from ml_tables import KINDS, diabetes, table
from sklearn.linear_model import Lasso as Reference


def fitted(x, y, p, kind="even", *, weights=None, y_kind=None, **parameters):
    def run(comm):
        target = table(y[:, None], comm, y_kind or ("none" if kind == "none" else "even"))
        rows = table(x, comm, kind)
        with comm.trace() as sent:
            model = Lasso(**parameters).fit(rows, target, sample_weight=weights)
        predicted = model.predict(rows)
        assert predicted.split == (None if kind == "none" else 0)
        calls = sum(event.op == "allreduce" for event in sent.events)
        return (
            whole(model.coef_),
            model.intercept_,
            model.n_iter_,
            calls,
            model.dual_gap_,
            whole(predicted),
            model.score(rows, target),
        )

    results = spmd(p, run)
    for other in results[1:]:
        np.testing.assert_array_equal(other[0], results[0][0])
    return results[0]


@pytest.mark.parametrize("precompute", [True, False])
@pytest.mark.parametrize("options", [{}, {"positive": True}, {"fit_intercept": False}])
@pytest.mark.parametrize("alpha", [0.01, 0.3, 1e4])
def test_agrees_with_scikit_learn(alpha, options, precompute):
    x, y = diabetes()
    reference = Reference(alpha, tol=1e-12, max_iter=100000, **options).fit(x, y)
    for p in (1, 3):
        coef, intercept, _, _, gap, predicted, score = fitted(
            x, y, p, alpha=alpha, tol=1e-11, precompute=precompute, **options
        )
        np.testing.assert_allclose(coef, reference.coef_, atol=1e-6 * max(1.0, np.abs(reference.coef_).max()))
        assert intercept == pytest.approx(reference.intercept_, rel=1e-9, abs=1e-9)
        np.testing.assert_allclose(predicted, reference.predict(x), atol=1e-4)
        assert score == pytest.approx(reference.score(x, y), abs=1e-8)
        assert 0 <= gap <= 1e-11 * (y**2).sum()


@pytest.mark.parametrize("kind", KINDS)
def test_float32_in_any_layout(kind):
    x, y = diabetes("float32")
    reference = Reference(0.1, tol=1e-10, max_iter=100000).fit(x.astype("float64"), y.astype("float64"))
    for p in (2, 4):
        coef, intercept, *_ = fitted(x, y, p, kind, alpha=0.1, y_kind="last")
        assert coef.dtype == np.float32
        np.testing.assert_allclose(coef, reference.coef_, rtol=1e-4, atol=1e-2)
        assert intercept == pytest.approx(reference.intercept_, rel=1e-5)


def test_messages():
    x, y = diabetes()
    for p in (1, 3):
        assert fitted(x, y, p, alpha=0.1)[3] == 1
        _, _, n_iter, calls, *_ = fitted(x, y, p, alpha=0.1, precompute=False)
        assert calls <= 1 + 8 + n_iter + 1
    assert fitted(x, y, 3, "none", alpha=0.1)[3] == 0

    def run(comm):
        rows, target = table(x, comm), table(y, comm)
        with comm.trace() as sent:
            model = Lasso(0.1).fit(rows, target)
        with comm.trace() as none:
            model.predict(rows)
        return [event.op for event in sent.events], none.calls

    assert spmd(3, run) == [(["allreduce"], 0)] * 3


def test_offsets_do_not_cancel():
    x, y = diabetes()
    moved = x * 10 + np.linspace(-1e6, 1e6, x.shape[1])
    plain = fitted(x * 10, y, 3, alpha=0.1, tol=1e-10)
    other = fitted(moved, y + 1e6, 3, alpha=0.1, tol=1e-10)
    np.testing.assert_allclose(other[0], plain[0], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precompute", [True, False])
def test_weights_mean_repetition(precompute):
    x, y = diabetes()
    weights = np.random.default_rng(0).integers(0, 3, len(y))
    options = {"alpha": 0.2, "tol": 1e-10, "precompute": precompute}
    weighted = fitted(x, y, 3, weights=weights.astype(float), **options)
    repeated = fitted(np.repeat(x, weights, 0), np.repeat(y, weights), 3, **options)
    np.testing.assert_allclose(weighted[0], repeated[0], atol=1e-3)
    reference = Reference(0.2, tol=1e-12, max_iter=100000).fit(x, y, sample_weight=weights)
    np.testing.assert_allclose(weighted[0], reference.coef_, atol=1e-3)
    assert np.abs(fitted(x, y, 3, **options)[0] - weighted[0]).max() > 1.0


@pytest.mark.parametrize("precompute", [True, False])
def test_more_features_than_rows_and_more_ranks_than_rows(precompute):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, 8)), rng.normal(size=3)
    coef, *_ = fitted(x, y, 4, alpha=0.1, tol=1e-10, max_iter=20000, precompute=precompute)
    reference = Reference(0.1, tol=1e-12, max_iter=100000).fit(x, y)
    np.testing.assert_allclose(coef, reference.coef_, atol=1e-5)


def test_equal_and_constant_columns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 5))
    x[:, 3], x[:, 4] = x[:, 0], 7.0
    y = 3 * x[:, 0] - x[:, 1]
    coef, _intercept, *_ = fitted(x, y, 2, alpha=0.1, tol=1e-9)
    reference = Reference(0.1, tol=1e-12, max_iter=100000).fit(x, y)
    assert coef[0] + coef[3] == pytest.approx(reference.coef_[0] + reference.coef_[3], abs=1e-5)
    assert coef[4] == 0.0
    constant = fitted(np.ones((5, 2)), np.arange(5.0), 2, alpha=0.1)
    np.testing.assert_array_equal(constant[0], 0.0)
    assert constant[1] == 2.0


def test_alpha_zero_is_least_squares():
    x, y = diabetes()
    coef, *_ = fitted(x, y, 2, alpha=0.0, tol=1e-12)
    expected = np.linalg.lstsq(np.column_stack([x, np.ones(len(y))]), y, rcond=None)[0][:-1]
    np.testing.assert_allclose(coef, expected, rtol=1e-6)


def test_warm_start_and_limits():
    x, y = diabetes()

    def run(comm):
        rows, target = table(x, comm), table(y, comm)
        model = Lasso(0.1, warm_start=True, tol=1e-8).fit(rows, target)
        first = whole(model.coef_)
        again = model.fit(rows, target)
        assert again.n_iter_ == 1
        np.testing.assert_allclose(whole(again.coef_), first, rtol=1e-9)

    spmd(2, run)
    with pytest.warns(ConvergenceWarning, match=r"Lasso.fit: the duality gap is .* after 2 iterations"):
        Lasso(0.1, max_iter=2, tol=1e-12, precompute=False).fit(x, y)


def test_solver_alone_on_random_problems():
    rng = np.random.default_rng(0)
    for trial in range(20):
        n, d = 30, int(rng.integers(1, 25))
        x = rng.normal(size=(n, d)) + rng.normal(size=(n, 1)) * (trial % 3)
        y = x @ (rng.normal(size=d) * (rng.uniform(size=d) < 0.4)) + rng.normal(size=n)
        penalty = float(np.abs(x.T @ y).max() * rng.uniform(0.01, 0.5))
        found = GramLasso(x.T @ x, x.T @ y, float(y @ y), penalty, False).solve(np.zeros(d), 1000, 1e-12)
        correlation = x.T @ (y - x @ found.coefficients)
        assert found.has_converged
        active = found.coefficients != 0
        np.testing.assert_allclose(
            correlation[active], penalty * np.sign(found.coefficients[active]), rtol=1e-6
        )
        assert (np.abs(correlation) <= penalty * (1 + 1e-6)).all()


def test_names_of_heat():
    assert regression.Lasso is Lasso
    x, y = diabetes()
    model = Lasso(lam=0.1).fit(ht.array(x), ht.array(y.reshape(-1, 1)))
    np.testing.assert_array_equal(whole(model.coef_), whole(Lasso(0.1).fit(x, y).coef_))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"alpha": -1.0}, r"alpha must be a number in \[0, inf\), got -1.0"),
        ({"lam": "x"}, r"lam must be a number in \[0, inf\), got 'x'"),
        ({"max_iter": 0}, "max_iter must be an int >= 1, got 0"),
        ({"tol": float("nan")}, "tol must be a number, got nan"),
        ({"precompute": "gram"}, "precompute must be 'auto', True or False, got 'gram'"),
    ],
)
def test_wrong_parameters_are_refused_before_any_message(parameters, message):
    x, y = diabetes()

    def run(comm):
        with comm.trace() as sent:
            with pytest.raises(ValueError, match="Lasso.fit: " + message):
                Lasso(**parameters).fit(table(x, comm), table(y, comm))
            with pytest.raises(ValueError, match=r"Lasso.fit: y must have one value per row, shape \(442,\)"):
                Lasso().fit(table(x, comm), table(y[:-1], comm))
        return sent.calls

    assert spmd(2, run) == [0, 0]
