"""Local outlier factors: scikit-learn's on real data and planted outliers, for any layout; the declared messages."""

import warnings

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.testing import whole
from ht_ml.neighbors import LocalOutlierFactor, local_outlier_factor
from ml_tables import KINDS, blobs, cancer, digits, table
from sklearn.neighbors import LocalOutlierFactor as Reference

PLANTED = 12


def with_outliers():
    """Six dense groups, and rows far from all of them at the end."""
    x, _ = blobs(400, 3)
    far = np.random.default_rng(1).uniform(-25, 25, size=(PLANTED, 3))
    far[np.abs(far).max(1) < 15] *= 4
    return np.concatenate([x, far])


# Noise far below a grey level: scikit-learn takes any of the rows at the same distance.
DATA = {
    "digits": lambda: digits("float64")[:900] + np.random.default_rng(0).normal(size=(900, 64)) * 1e-3,
    "cancer": cancer,
    "blobs": with_outliers,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", DATA)
@pytest.mark.parametrize("contamination", ["auto", 0.05])
def test_agrees_with_scikit_learn(kind, name, contamination):
    x = DATA[name]()
    theirs = Reference(15, contamination=contamination)
    expected = theirs.fit_predict(x)

    def run(comm):
        model = LocalOutlierFactor(15, contamination=contamination)
        labels = model.fit_predict(table(x, comm, kind))
        assert labels.split == model.negative_outlier_factor_.split == (None if kind == "none" else 0)
        return whole(labels), whole(model.negative_outlier_factor_), model.offset_, model.n_neighbors_

    for p in (1, 2, 4):
        for labels, factors, offset, k in spmd(p, run):
            np.testing.assert_allclose(factors, theirs.negative_outlier_factor_, rtol=1e-9)
            assert offset == pytest.approx(theirs.offset_, rel=1e-9)
            np.testing.assert_array_equal(labels, expected)
            assert labels.dtype == expected.dtype
            assert k == 15


def test_planted_outliers_are_found():
    x = with_outliers()
    share = PLANTED / len(x)
    labels = spmd(3, lambda comm: whole(LocalOutlierFactor(contamination=share).fit_predict(table(x, comm))))[
        0
    ]
    assert set(np.flatnonzero(labels < 0)) >= set(range(len(x) - PLANTED, len(x)))


@pytest.mark.parametrize(("learned", "asked"), [("even", "last"), ("none", "even"), ("uneven", "none")])
@pytest.mark.parametrize(("dtype", "rtol"), [("float64", 1e-9), ("float32", 1e-4)])
def test_new_rows(learned, asked, dtype, rtol):
    x = cancer(dtype)
    fit, new = x[:400], x[380:]
    theirs = Reference(10, novelty=True).fit(fit)

    def run(comm):
        model = LocalOutlierFactor(10, novelty=True).fit(table(fit, comm, learned))
        rows = table(new, comm, asked)
        return [
            whole(getattr(model, name)(rows)) for name in ("score_samples", "decision_function", "predict")
        ]

    for p in (1, 3):
        for scores, decisions, labels in spmd(p, run):
            np.testing.assert_allclose(scores, theirs.score_samples(new), rtol=rtol)
            np.testing.assert_allclose(decisions, theirs.decision_function(new), rtol=rtol, atol=rtol)
            np.testing.assert_array_equal(labels, theirs.predict(new))


def test_rows_that_are_there_many_times():
    """Densities stay finite; the user is told, on every rank."""
    x = np.concatenate([np.zeros((6, 2)), np.random.default_rng(0).normal(size=(30, 2))])

    def run(comm, k):
        return whole(LocalOutlierFactor(k).fit(table(x, comm, "uneven")).negative_outlier_factor_)

    for k, told in ((3, 2), (10, 0)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            expected = Reference(k).fit(x).negative_outlier_factor_
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            factors = spmd(2, run, k)
        np.testing.assert_allclose(factors[1], expected, rtol=1e-6)
        assert sum("are there more than n_neighbors times" in str(w.message) for w in found) == told


def test_too_few_rows_for_the_neighbours():
    x = cancer()[:7]
    model = LocalOutlierFactor()
    with pytest.warns(UserWarning, match=r"n_neighbors \(20\) is greater than the number of rows \(7\)"):
        model.fit(x)
    assert model.n_neighbors_ == 6


def test_messages():
    x = digits()
    n, d, k, p = len(x), 64, 5, 3

    def run(comm):
        rows = table(x, comm)
        with comm.trace() as fitting:
            model = LocalOutlierFactor(k, novelty=True).fit(rows)
        ring = (p - 1) * (n // p + 1) * d * 4
        exchanges = 8 * p + 3 * 8 * rows.lshape[0] * k * 2
        assert fitting.bytes <= ring + exchanges
        with comm.trace() as using:
            model.predict(rows)
        return [[e.op for e in trace.events] for trace in (fitting, using)]

    for fitting, using in spmd(p, run):
        ends = ["alltoall", "alltoallv", "alltoallv", "alltoallv"]
        assert fitting[-4:] == ends
        assert using[-3:] == ends[:3]
        for kinds in (fitting, using):
            assert kinds[0] == "allreduce"
            assert kinds.count("allreduce") == 1
            assert "allgather" not in "".join(kinds)


@pytest.mark.parametrize("split", [0, 1, None])
def test_mapped_over_places(split):
    """The factors of samples at each of many places equal scikit-learn's at each place."""
    x = np.random.default_rng(2).normal(size=(7, 25, 4))
    expected = np.stack([-Reference(6).fit(place).negative_outlier_factor_ for place in x])

    def run(comm):
        places = ht.array(x, split=split)
        mapped = ht.vmap(local_outlier_factor, in_dims=0, chunk_size=2)
        with comm.trace() as sent:
            factors = mapped(places, n_neighbors=6)
        return whole(factors), sent.calls

    for p in (1, 3):
        for factors, calls in spmd(p, run):
            np.testing.assert_allclose(factors, expected, rtol=1e-9)
            assert calls == 0 or split == 1


def test_one_table_keeps_its_dtype_and_its_digits():
    x = torch.randn(30, 3, generator=torch.Generator().manual_seed(0)).round(decimals=2) + 1000.0
    assert local_outlier_factor(x, 5).dtype == torch.float32
    expected = -Reference(5).fit(x.double().numpy()).negative_outlier_factor_
    np.testing.assert_allclose(local_outlier_factor(x, 5), expected, rtol=1e-4)
    assert local_outlier_factor(x, 500).shape == (30,)


BAD = {
    "LocalOutlierFactor.fit: contamination must be auto or in (0, 0.5], got 0.7": lambda x: (
        LocalOutlierFactor(contamination=0.7).fit(x)
    ),
    "LocalOutlierFactor.fit: n_neighbors must be an integer of at least 1, got 1.5": lambda x: (
        LocalOutlierFactor(1.5).fit(x)
    ),
    "LocalOutlierFactor.fit: X must be a table of at least 2 row(s)": lambda x: LocalOutlierFactor().fit(
        x[:1]
    ),
    "LocalOutlierFactor.predict: novelty must be True, got False; use fit_predict": lambda x: (
        LocalOutlierFactor().fit(x).predict(x)
    ),
    "LocalOutlierFactor.fit_predict: novelty must be False, got True": lambda x: LocalOutlierFactor(
        novelty=True
    ).fit_predict(x),
    "local_outlier_factor: samples must be a table of at least 2 rows, got shape (3,)": lambda x: (
        local_outlier_factor(torch.ones(3))
    ),
    "local_outlier_factor: n_neighbors must be an integer of at least 1, got 0": lambda x: (
        local_outlier_factor(torch.ones(3, 2), 0)
    ),
}


@pytest.mark.parametrize("message", BAD)
def test_refusals(message):
    def run(comm):
        with pytest.raises((ValueError, AttributeError)) as caught:
            BAD[message](table(cancer(), comm))
        return str(caught.value)

    for text in spmd(2, run):
        assert text.startswith(message)
