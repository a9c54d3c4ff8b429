"""ElasticNet, Ridge, LinearRegression, LogisticRegression and paths: scikit-learn's coefficients, few messages."""

import numpy as np
import pytest
import sklearn.linear_model as reference
from ht_comm import spmd
from ht_core.testing import whole
from ht_ml import linear_model
from ht_ml.linear_model import ElasticNet, LinearRegression, LogisticRegression, Ridge, enet_path, lasso_path
from ml_tables import KINDS, cancer, diabetes, digits, table
from sklearn import datasets


def lies(kind):
    return "even" if kind == "features" else kind


TIGHT = {"tol": 1e-10, "max_iter": 100_000}
REGRESSORS = [
    ("LinearRegression", {}, {}),
    ("LinearRegression", {"fit_intercept": False}, {}),
    ("LinearRegression", {"positive": True}, {}),
    ("Ridge", {"alpha": 0.3}, {}),
    ("Ridge", {"alpha": 0.3, "fit_intercept": False}, {}),
    ("Ridge", {"alpha": 2.0, "positive": True}, {"tol": 1e-14}),
    ("ElasticNet", {"alpha": 0.05, "l1_ratio": 0.3, "tol": 1e-8}, TIGHT),
    ("ElasticNet", {"alpha": 0.5, "l1_ratio": 0.9, "tol": 1e-8, "fit_intercept": False}, TIGHT),
    (
        "ElasticNet",
        {"alpha": 0.05, "l1_ratio": 0.3, "tol": 1e-8, "precompute": False, "max_iter": 5000},
        TIGHT,
    ),
    ("ElasticNet", {"alpha": 0.2, "l1_ratio": 0.0, "tol": 1e-8}, None),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "options", "theirs"), REGRESSORS, ids=str)
def test_agrees_with_scikit_learn(name, options, theirs, kind):
    x, y = diabetes()
    if theirs is None:  # scikit-learn does not solve this one by its ElasticNet; it is a Ridge
        expected = reference.Ridge(alpha=len(x) * options["alpha"]).fit(x, y)
    else:
        common = {k: v for k, v in options.items() if k not in ("precompute", "tol", "max_iter")}
        expected = getattr(reference, name)(**common, **theirs).fit(x, y)

    def run(comm):
        rows, target = table(x, comm, kind), table(y, comm, lies(kind))
        model = getattr(linear_model, name)(**options)
        assert model.fit(rows, target) is model
        return whole(model.coef_), model.intercept_, whole(model.predict(rows)), model.score(rows, target)

    for p in (1, 3):
        for coefficients, intercept, predicted, score in spmd(p, run):
            np.testing.assert_allclose(
                coefficients, expected.coef_, rtol=1e-6, atol=1e-6 * np.abs(expected.coef_).max()
            )
            assert intercept == pytest.approx(expected.intercept_, rel=1e-8)
            np.testing.assert_allclose(predicted, expected.predict(x), rtol=1e-6)
            assert score == pytest.approx(expected.score(x, y), rel=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("model", [LinearRegression(), Ridge(alpha=[0.1, 3.0])], ids=repr)
def test_several_targets(model, kind):
    x, y = diabetes()
    y = np.column_stack([y, y**2])
    alpha = {"alpha": np.array(model.alpha)} if isinstance(model, Ridge) else {}
    expected = getattr(reference, type(model).__name__)(**alpha).fit(x, y)

    def run(comm):
        fitted = type(model)(**model.get_params()).fit(table(x, comm, kind), table(y, comm, lies(kind)))
        return whole(fitted.coef_), whole(fitted.intercept_), whole(fitted.predict(table(x, comm, kind)))

    coefficients, intercept, predicted = spmd(3, run)[0]
    np.testing.assert_allclose(coefficients, expected.coef_, rtol=1e-8)
    np.testing.assert_allclose(intercept, expected.intercept_, rtol=1e-10)
    np.testing.assert_allclose(predicted, expected.predict(x), rtol=1e-8)


@pytest.mark.parametrize("exponent", [2, 5, 9])
def test_nearly_dependent_features(exponent):
    """Plain normal equations lose the square of the condition number; the corrected ones keep the solution."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 4))
    x[:, 3] = x[:, 0] + 10.0**-exponent * x[:, 3]
    truth = np.array([1.0, -2.0, 3.0, 0.5])

    def run(comm):
        return whole(LinearRegression().fit(table(x, comm), table(x @ truth + 7.0, comm)).coef_)

    np.testing.assert_allclose(spmd(3, run)[0], truth, rtol=10.0 ** (exponent - 13))


@pytest.mark.parametrize("shape", [(20, 50), (60, 5)])
def test_dependent_features_have_the_solution_of_least_norm(shape):
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=shape), rng.normal(size=shape[0])
    x[:, -1] = x[:, 0]
    expected = reference.LinearRegression().fit(x, y)

    def run(comm):
        fitted = LinearRegression().fit(table(x, comm), table(y, comm))
        ridge = Ridge(alpha=0.7).fit(table(x, comm), table(y, comm))
        return whole(fitted.coef_), fitted.intercept_, whole(ridge.coef_)

    coefficients, intercept, ridge = spmd(3, run)[0]
    np.testing.assert_allclose(coefficients, expected.coef_, rtol=1e-8, atol=1e-10)
    assert intercept == pytest.approx(expected.intercept_, rel=1e-8)
    np.testing.assert_allclose(ridge, reference.Ridge(alpha=0.7).fit(x, y).coef_, rtol=1e-8, atol=1e-10)


def test_many_features_by_conjugate_gradients(monkeypatch):
    """Beyond the limit no d x d products are formed: one allreduce of d numbers per step."""
    monkeypatch.setattr("ht_ml.linear_model.normal_equations.GRAM_FEATURES", 8)
    x, y = diabetes()
    y = np.column_stack([y, -y])
    expected = reference.Ridge(alpha=0.1).fit(x, y)

    def run(comm):
        with comm.trace() as sent:
            model = Ridge(alpha=0.1).fit(table(x, comm), table(y, comm))
        longest = max(event.bytes for event in sent.events if event.op == "allreduce")
        least = whole(LinearRegression().fit(table(x, comm), table(y, comm)).coef_)
        return whole(model.coef_), least, longest

    coefficients, least, longest = spmd(2, run)[0]
    np.testing.assert_allclose(coefficients, expected.coef_, rtol=1e-6)
    np.testing.assert_allclose(least, reference.LinearRegression().fit(x, y).coef_, rtol=1e-8)
    assert longest <= 8 * (2 * 12 + 1)


@pytest.mark.parametrize(
    "model",
    [
        LinearRegression(),
        Ridge(),
        ElasticNet(alpha=0.1, tol=1e-10),
        LogisticRegression(tol=1e-8, max_iter=500),
    ],
    ids=repr,
)
def test_weights_equal_repetition(model):
    x, y = diabetes()
    y = y > 140 if isinstance(model, LogisticRegression) else y
    weights = np.random.default_rng(2).integers(0, 3, len(y))

    def run(comm):
        make = type(model)
        weighted = make(**model.get_params()).fit(
            table(x, comm), table(y, comm), sample_weight=table(weights.astype(float), comm)
        )
        repeated = make(**model.get_params()).fit(np.repeat(x, weights, 0), np.repeat(y, weights))
        return whole(weighted.coef_), whole(repeated.coef_)

    weighted, repeated = spmd(3, run)[0]
    np.testing.assert_allclose(weighted, repeated, rtol=1e-5, atol=1e-6 * np.abs(repeated).max())


MESSAGES = [(LinearRegression(), 1), (Ridge(), 1), (ElasticNet(alpha=0.1), 1)]


@pytest.mark.parametrize(("model", "count"), MESSAGES, ids=repr)
def test_one_pass_one_message(model, count):
    x = np.random.default_rng(0).normal(size=(300, 6))

    def run(comm):
        rows, target = table(x, comm), table(x @ np.arange(6.0), comm)
        with comm.trace() as sent:
            fitted = type(model)(**model.get_params()).fit(rows, target)
        with comm.trace() as used:
            fitted.predict(rows)
        return [event.op for event in sent.events], sent.bytes, used.calls

    for ops, sent, used in spmd(3, run):
        assert ops == ["allreduce"] * count
        assert sent <= 8 * (7 * 8 // 2 + 3 * 8)
        assert used == 0


def test_path():
    x, y = diabetes()
    alphas, expected, _ = reference.lasso_path(x - x.mean(0), y - y.mean(), tol=1e-12, max_iter=100_000)

    def run(comm):
        with comm.trace() as sent:
            found = lasso_path(table(x, comm), table(y, comm), tol=1e-8)
        net = enet_path(table(x, comm), table(y, comm), alphas=[0.01, 1.0, 0.1], l1_ratio=0.4, tol=1e-8)
        each = [
            ElasticNet(alpha=a, l1_ratio=0.4, tol=1e-8).fit(table(x, comm), table(y, comm)) for a in net[0]
        ]
        np.testing.assert_array_equal(net[0], [1.0, 0.1, 0.01])
        for j, model in enumerate(each):
            np.testing.assert_allclose(whole(net[1])[:, j], whole(model.coef_), rtol=1e-6, atol=1e-6)
        return found[0], whole(found[1]), [event.op for event in sent.events]

    found, coefficients, ops = spmd(3, run)[0]
    np.testing.assert_allclose(found, alphas, rtol=1e-12)
    np.testing.assert_allclose(coefficients, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())
    assert ops == ["allreduce"]


def classification():
    x = cancer()
    return {
        "two": ((x - x.mean(0)) / x.std(0), datasets.load_breast_cancer().target),
        "ten": (digits("float64") / 16, datasets.load_digits().target),
    }


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("name", "options"), [("two", {}), ("two", {"C": 0.05, "fit_intercept": False}), ("ten", {"C": 0.1})]
)
def test_logistic_regression(name, options, kind):
    x, y = classification()[name]
    theirs = reference.LogisticRegression(tol=1e-8, max_iter=5000, **options).fit(x, y)

    def run(comm):
        rows, labels = table(x, comm, kind), table(y, comm, lies(kind))
        model = LogisticRegression(tol=1e-7, max_iter=1000, **options)
        with comm.trace() as sent:
            assert model.fit(rows, labels) is model
        evaluations = sum(event.op == "allreduce" for event in sent.events)
        assert evaluations <= (0 if kind == "none" else 2 * model.n_iter_ + 5)
        with comm.trace() as used:
            outputs = [getattr(model, m)(rows) for m in ("predict", "predict_proba", "decision_function")]
        assert used.calls == 0 or kind == "features"
        return (
            whole(model.coef_),
            whole(model.intercept_),
            [whole(o) for o in outputs],
            model.score(rows, labels),
        )

    for p in (1, 3):
        coefficients, intercept, (labels, probabilities, scores), score = spmd(p, run)[0]
        scale = np.abs(theirs.coef_).max()
        np.testing.assert_allclose(coefficients, theirs.coef_, atol=2e-5 * scale)
        np.testing.assert_allclose(intercept, theirs.intercept_, atol=1e-4 * scale)  # not penalised: flatter
        np.testing.assert_array_equal(labels, theirs.predict(x))
        np.testing.assert_allclose(probabilities, theirs.predict_proba(x), atol=2e-5)
        np.testing.assert_allclose(scores, theirs.decision_function(x), atol=1e-3)
        assert score == pytest.approx(theirs.score(x, y))


def test_logistic_regression_starts_where_it_ended():
    x, y = classification()["two"]

    def run(comm):
        model = LogisticRegression(tol=1e-6, warm_start=True).fit(table(x, comm), table(y, comm))
        first = model.n_iter_
        return first, model.fit(table(x, comm), table(y, comm)).n_iter_

    first, second = spmd(2, run)[0]
    assert first > 5
    assert second <= 2


def test_unreached_tolerance_warns_once():
    x, y = classification()["two"]

    def run(comm):
        LogisticRegression(max_iter=2, tol=1e-9).fit(table(x, comm), table(y, comm))

    with pytest.warns(UserWarning, match="the gradient is .* after 2 iterations"):
        spmd(2, run)


REFUSED = [
    (Ridge(alpha=-1.0), None, "Ridge.fit: alpha must be a number in"),
    (Ridge(alpha=[1.0, 2.0, 3.0]), None, "Ridge.fit: alpha must be one number or 1, one per target"),
    (ElasticNet(l1_ratio=1.5), None, "ElasticNet.fit: l1_ratio must be a number in"),
    (LogisticRegression(C=0.0), None, "LogisticRegression.fit: C must be a number > 0"),
    (LogisticRegression(), np.zeros(442), "y must hold at least two classes"),
    (LinearRegression(), np.zeros((4, 2)), r"LinearRegression.fit: y must have shape \(442,\) or \(442, t\)"),
]


@pytest.mark.parametrize(("model", "target", "message"), REFUSED, ids=str)
def test_refusals_are_the_same_on_every_rank(model, target, message):
    x, y = diabetes()
    target = y if target is None else target

    def run(comm):
        with pytest.raises(ValueError, match=message) as caught:
            type(model)(**model.get_params()).fit(table(x, comm), target)
        return str(caught.value)

    assert len(set(spmd(3, run))) == 1
