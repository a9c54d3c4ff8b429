"""GaussianNB: scikit-learn's numbers on real data, parts and weights, hard labels."""

import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import whole
from ht_ml.naive_bayes import GaussianNB
from ml_tables import KINDS, cancer, digits, table
from sklearn import datasets
from sklearn.naive_bayes import GaussianNB as Reference

DATA = {
    "digits": lambda: (digits("float64"), datasets.load_digits().target),
    "cancer": lambda: (cancer(), datasets.load_breast_cancer().target),
    "iris": lambda: datasets.load_iris(return_X_y=True),
}


def lies(kind):
    return "even" if kind == "features" else kind


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DATA)
def test_agrees_with_scikit_learn(name, kind):
    x, y = DATA[name]()
    theirs = Reference().fit(x, y)

    def run(comm):
        rows, labels = table(x, comm, kind), table(y, comm, lies(kind))
        model = GaussianNB()
        assert model.fit(rows, labels) is model
        learned = {
            n: whole(getattr(model, n))
            for n in ("theta_", "var_", "class_count_", "class_prior_", "classes_")
        }
        outputs = {n: getattr(model, n)(rows) for n in ("predict", "predict_proba", "predict_log_proba")}
        assert outputs["predict"].split == (None if kind == "none" else 0)
        return learned, {n: whole(v) for n, v in outputs.items()}, model.score(rows, labels), model.epsilon_

    for p in (1, 3):
        for learned, outputs, score, epsilon in spmd(p, run):
            for attribute, value in learned.items():
                np.testing.assert_allclose(value, getattr(theirs, attribute), rtol=1e-9, err_msg=attribute)
            assert epsilon == pytest.approx(theirs.epsilon_, rel=1e-12)
            np.testing.assert_array_equal(outputs["predict"], theirs.predict(x))
            np.testing.assert_allclose(outputs["predict_proba"], theirs.predict_proba(x), atol=1e-9)
            # Logarithms of tiny probabilities are large numbers, sums over many features.
            np.testing.assert_allclose(
                outputs["predict_log_proba"], theirs.predict_log_proba(x), rtol=1e-7, atol=1e-7
            )
            assert score == theirs.score(x, y)


def test_single_precision_far_from_zero():
    """Variances of float32 data with a large offset, sorted by class, as exact as in float64."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1, 2], 300)
    x = (rng.normal(size=(900, 3)) + 3 * y[:, None] + 10_000).astype("float32")

    def run(comm):
        return whole(GaussianNB(var_smoothing=0).fit(table(x, comm), table(y, comm)).var_)

    expected = Reference(var_smoothing=0).fit(x.astype("float64"), y).var_
    np.testing.assert_allclose(spmd(3, run)[0], expected, rtol=1e-10)


@pytest.mark.parametrize("kind", ["even", "last"])
def test_parts_equal_the_whole_and_weights_equal_repetition(kind):
    x, y = DATA["iris"]()
    weights = np.random.default_rng(1).integers(0, 3, len(x)).astype(float)

    def run(comm):
        whole_fit = GaussianNB().fit(table(x, comm, kind), table(y, comm, kind))
        parts = GaussianNB()
        for part in (slice(0, 40), slice(40, 41), slice(41, None)):  # the first two hold one class only
            parts.partial_fit(table(x[part], comm, kind), table(y[part], comm, kind), classes=[0, 1, 2])
        weighted = GaussianNB().fit(table(x, comm, kind), table(y, comm, kind), sample_weight=weights)
        repeated = GaussianNB().fit(np.repeat(x, weights.astype(int), 0), np.repeat(y, weights.astype(int)))
        for first, second in ((whole_fit, parts), (weighted, repeated)):
            for name in ("theta_", "var_", "class_count_"):
                np.testing.assert_allclose(
                    whole(getattr(first, name)), whole(getattr(second, name)), rtol=1e-10, err_msg=name
                )
        share = whole_fit.score(table(x, comm, kind), table(y, comm, kind), sample_weight=weights)
        assert share == pytest.approx(Reference().fit(x, y).score(x, y, weights), rel=1e-12)

    spmd(3, run)


@pytest.mark.parametrize("dtype", ["int8", "float64", "bool", "uint8"])
def test_labels_of_any_dtype(dtype):
    x, _ = DATA["iris"]()
    y = (x[:, 2] > 2).astype(dtype) if dtype == "bool" else (np.arange(150) // 50 * 3).astype(dtype)

    def run(comm):
        model = GaussianNB().fit(table(x, comm), table(y, comm))
        parts = GaussianNB().partial_fit(table(x, comm), table(y, comm), classes=np.unique(y))
        np.testing.assert_array_equal(
            whole(parts.predict(table(x, comm))), whole(model.predict(table(x, comm)))
        )
        return whole(model.classes_), whole(model.predict(table(x, comm)))

    classes, labels = spmd(3, run)[0]
    assert classes.dtype == labels.dtype == y.dtype
    np.testing.assert_array_equal(classes, np.unique(y))
    np.testing.assert_array_equal(labels, Reference().fit(x, y).predict(x))


def test_priors():
    x, y = DATA["iris"]()
    priors = [0.8, 0.1, 0.1]

    def run(comm):
        return whole(
            GaussianNB(priors=priors).fit(table(x, comm), table(y, comm)).predict_proba(table(x, comm))
        )

    np.testing.assert_allclose(
        spmd(2, run)[0], Reference(priors=priors).fit(x, y).predict_proba(x), atol=1e-10
    )


def test_messages():
    x, y = DATA["digits"]()
    k, d = 10, x.shape[1]

    def run(comm):
        rows, labels = table(x, comm), table(y, comm)
        with comm.trace() as fitting:
            model = GaussianNB().fit(rows, labels)
        with comm.trace() as using:
            model.predict(rows)
            model.predict_proba(rows)
        assert using.calls == 0
        return [e.op for e in fitting.events].count("allreduce"), fitting.bytes

    for count, sent in spmd(3, run):
        assert count == 1
        assert sent <= 8 * (k * (2 * d + 1) + 20 * k)


def fit_with(**options):
    return lambda model, rows, y: model.set_params(**options).fit(rows, y)


REFUSED = {
    "priors must be 3 numbers": fit_with(priors=[0.5, 0.5]),
    "priors must be probabilities with sum 1": fit_with(priors=[0.5, 0.2, 0.2]),
    "var_smoothing must be at least 0": fit_with(var_smoothing=-1.0),
    r"y must have one label per row, shape \(150,\), got shape \(3,\)": lambda m, rows, y: m.fit(
        rows, [0, 1, 2]
    ),
    "y must hold a label for every row, got NaN": lambda m, rows, y: m.fit(rows, np.full(150, np.nan)),
    "classes must be given at the first call": lambda m, rows, y: m.partial_fit(rows, y),
    r"y must hold labels among \[0, 1\], got \[2\]": lambda m, rows, y: m.partial_fit(
        rows, y, classes=[0, 1]
    ),
    r"classes must stay \[0, 1, 2\], got \[0, 1\]": lambda m, rows, y: m.fit(rows, y).partial_fit(
        rows, y, classes=[0, 1]
    ),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refusals_are_the_same_on_every_rank(message):
    x, y = DATA["iris"]()

    def run(comm):
        with pytest.raises(ValueError, match=message) as caught:
            REFUSED[message](GaussianNB(), table(x, comm), table(y, comm))
        return str(caught.value)

    assert len(set(spmd(3, run))) == 1
