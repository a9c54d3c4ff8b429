"""Splits and folds: scikit-learn's where nothing is drawn, partitions that do not depend on the ranks elsewhere."""

import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import whole
from ht_ml.linear_model import LinearRegression, LogisticRegression
from ht_ml.model_selection import KFold, StratifiedKFold, cross_val_score, train_test_split
from ht_ml.preprocessing import StandardScaler
from ml_tables import KINDS, cancer, diabetes, table
from sklearn import model_selection as reference

LABELS = np.random.default_rng(0).choice([7, 3, 5], 67, p=[0.5, 0.3, 0.2])
X = np.arange(67 * 3).reshape(67, 3) * 1.0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_splits", [2, 5, 7])
def test_folds_are_those_of_scikit_learn(n_splits, kind):
    plain = [test.tolist() for _, test in reference.KFold(n_splits).split(X)]
    strata = [test.tolist() for _, test in reference.StratifiedKFold(n_splits).split(X, LABELS)]

    def run(comm):
        rows, y = table(X, comm, kind), table(LABELS, comm, "even" if kind == "features" else kind)
        for splitter, expected in ((KFold(n_splits), plain), (StratifiedKFold(n_splits), strata)):
            assert splitter.get_n_splits() == n_splits
            for (train, test), wanted in zip(splitter.split(rows, y), expected, strict=True):
                assert train.split == test.split == (None if kind in ("none", "features") else 0)
                assert whole(test).tolist() == wanted
                assert whole(train).tolist() == sorted(set(range(67)) - set(wanted))

    spmd(1, run)
    spmd(4, run)


@pytest.mark.parametrize(
    "splitter", [KFold(5, shuffle=True, random_state=1), StratifiedKFold(5, shuffle=True, random_state=1)]
)
def test_shuffled_folds_do_not_depend_on_ranks(splitter):
    def run(comm, kind):
        pairs = splitter.split(table(X, comm, kind), table(LABELS, comm, kind))
        return [(whole(train).tolist(), whole(test).tolist()) for train, test in pairs]

    expected = spmd(1, run, "none")[0]
    assert sorted(row for _, test in expected for row in test) == list(range(67))
    assert any(test != list(range(test[0], test[0] + len(test))) for _, test in expected)
    for train, test in expected:
        assert sorted(train + test) == list(range(67))
        assert len(test) in (13, 14)
        if isinstance(splitter, StratifiedKFold):
            for label in (7, 3, 5):
                assert abs((LABELS[test] == label).sum() - (label == LABELS).mean() * 13.4) < 1.5
    for kind in ("none", "even", "uneven", "last"):
        for found in spmd(3, run, kind):
            assert found == expected


def test_folds_send_counts_only():
    def run(comm):
        rows = table(X, comm, "uneven")
        with comm.trace() as sent:
            list(KFold(3, shuffle=True, random_state=0).split(rows))
        return sent.calls, sent.bytes

    calls, sent = spmd(3, run)[0]
    assert calls == 6
    assert sent < 6 * 3 * 8 * 3


@pytest.mark.parametrize(
    "parameters",
    [{}, {"test_size": 0.3}, {"test_size": 10, "train_size": 20}, {"train_size": 0.5}, {"shuffle": False}],
)
@pytest.mark.parametrize("stratified", [False, True])
def test_train_test_split(parameters, stratified):
    if stratified and parameters.get("shuffle") is False:
        parameters = {}
    sizes = [len(part) for part in reference.train_test_split(np.arange(67), **parameters)]

    def run(comm, kind):
        rows = table(X, comm, kind)
        y = table(LABELS, comm, "even" if kind == "features" else kind)
        stratify = y if stratified else None
        train, test, y_train, y_test, r_train, r_test = train_test_split(
            rows, y, np.arange(67), random_state=4, stratify=stratify, **parameters
        )
        assert train.split == test.split == rows.split
        assert y_train.split == y_test.split == y.split
        assert r_train.split is None
        assert r_test.split is None
        np.testing.assert_array_equal(whole(train), X[whole(r_train)])
        np.testing.assert_array_equal(whole(test), X[whole(r_test)])
        np.testing.assert_array_equal(whole(y_train), LABELS[whole(r_train)])
        np.testing.assert_array_equal(whole(y_test), LABELS[whole(r_test)])
        np.testing.assert_array_equal(whole(rows), X)
        return whole(r_train).tolist(), whole(r_test).tolist()

    train, test = spmd(1, run, "none")[0]
    assert [len(train), len(test)] == sizes
    assert not set(train) & set(test)
    if parameters.get("shuffle", True):
        assert test != list(range(67 - len(test), 67))
    else:
        assert train + test == list(range(67))
    if stratified:
        for label in (7, 3, 5):
            share = (label == LABELS).mean()
            assert abs((LABELS[test] == label).sum() - share * len(test)) <= 1
            assert abs((LABELS[train] == label).sum() - share * len(train)) <= 1.5
    for kind in KINDS:
        for found in spmd(4, run, kind):
            assert found == (train, test)


def test_split_of_replicated_or_feature_tables_sends_nothing():
    def run(comm, kind):
        rows = table(X, comm, kind)
        with comm.trace() as sent:
            train_test_split(rows, random_state=0)
        return sent.calls

    assert spmd(3, run, "none") == [0, 0, 0]
    assert spmd(3, run, "features") == [0, 0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_cross_validation(kind):
    from sklearn.linear_model import LinearRegression as Regression
    from sklearn.linear_model import LogisticRegression as Logistic

    values, target = diabetes()
    expected = reference.cross_val_score(Regression(), values, target, cv=4)
    x, y = cancer()[:, :4], (cancer()[:, 5] > np.median(cancer()[:, 5])).astype(int)
    x = (x - x.mean(0)) / x.std(0)
    labels = reference.cross_val_score(Logistic(tol=1e-10, max_iter=1000), x, y)

    def run(comm):
        side = "even" if kind == "features" else kind
        found = cross_val_score(
            LinearRegression(), table(values, comm, kind), table(target, comm, side), cv=4
        )
        np.testing.assert_allclose(found, expected, rtol=1e-9)
        found = cross_val_score(LogisticRegression(tol=1e-10), table(x, comm, kind), table(y, comm, side))
        np.testing.assert_allclose(found, labels, rtol=1e-9)

    spmd(3, run)


def test_cross_validation_with_pairs_and_scoring():
    values, target = diabetes()
    pairs = list(reference.KFold(3).split(values))

    def run(comm):
        model = LinearRegression()
        found = cross_val_score(model, values, target, cv=pairs)
        again = cross_val_score(
            model, table(values, comm), table(target, comm), cv=pairs, scoring=lambda m, a, b: m.score(a, b)
        )
        np.testing.assert_allclose(again, found, rtol=1e-10)
        assert vars(model) == vars(LinearRegression())
        with pytest.raises(ValueError, match="cv must be an int, a splitter or pairs of indices, got 'many'"):
            cross_val_score(model, values, target, cv="many")
        with pytest.raises(ValueError, match="estimator must have a method score"):
            cross_val_score(StandardScaler(), values)

    spmd(2, run)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: list(KFold(1).split(x)), r"KFold.split: n_splits must be an int in \[2, 67\]"),
        (lambda x, y: list(KFold(68).split(x)), r"n_splits must be an int in \[2, 67\] for 67 rows, got 68"),
        (
            lambda x, y: list(KFold(2, random_state=1).split(x)),
            "random_state must be None without shuffle, got 1",
        ),
        (lambda x, y: list(KFold(2, shuffle=1).split(x)), "shuffle must be a bool, got 1"),
        (lambda x, y: train_test_split(), "arrays must hold at least one array"),
        (lambda x, y: train_test_split(x, y[:5]), "arrays must all have the same number of rows"),
        (lambda x, y: train_test_split(x, test_size=1.5), r"test_size must be a share in \(0, 1\)"),
        (
            lambda x, y: train_test_split(x, train_size=67),
            r"train_size must be a share in \(0, 1\) or an int",
        ),
        (
            lambda x, y: train_test_split(x, test_size=60, train_size=20),
            "must leave rows for both, 67 in all",
        ),
        (
            lambda x, y: train_test_split(x, stratify=y, shuffle=False),
            "stratify must be None without shuffle",
        ),
    ],
)
def test_refusals_before_any_message(call, message):
    def run(comm):
        x, y = table(X, comm), table(LABELS, comm)
        with comm.trace() as sent, pytest.raises(ValueError, match=message):
            call(x, y)
        return sent.calls

    assert spmd(2, run) == [0, 0]


def test_too_few_rows_of_a_class():
    def run(comm):
        y = np.zeros(67, int)
        y[-1] = 1
        with pytest.raises(
            ValueError, match=r"y must hold at least n_splits \(2\) rows of each class, got 1"
        ):
            list(StratifiedKFold(2).split(table(X, comm), table(y, comm)))
        with pytest.raises(ValueError, match="stratify must hold at least 2 rows of each class"):
            train_test_split(table(X, comm), stratify=table(y, comm))

    spmd(2, run)
