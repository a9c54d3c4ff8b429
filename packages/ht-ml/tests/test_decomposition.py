"""The Gaussian model of PCA, randomized PCA, IncrementalPCA and TruncatedSVD against scikit-learn."""

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import whole
from ht_ml.decomposition import PCA, IncrementalPCA, TruncatedSVD
from ml_tables import KINDS, cancer, digits, table
from sklearn import decomposition as reference

LEARNED = ("components_", "explained_variance_", "explained_variance_ratio_", "singular_values_")


def close(found, expected, rtol=1e-7):
    expected = np.asarray(expected)
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=rtol * max(np.abs(expected).max(), 1e-300))


def same(model, expected, names=LEARNED, rtol=1e-7):
    for name in names:
        close(whole(getattr(model, name)), getattr(expected, name), rtol)


@pytest.mark.parametrize("n_components", [4, None])
def test_gaussian_model(n_components):
    values = cancer()[:, :8] / cancer()[:, :8].std(0)
    expected = reference.PCA(n_components, svd_solver="full").fit(values)

    def run(comm, kind):
        rows = table(values, comm, kind)
        model = PCA(n_components).fit(rows)
        close(model.get_covariance().numpy(), expected.get_covariance())
        close(model.get_precision().numpy(), expected.get_precision())
        with comm.trace() as sent:
            densities = model.score_samples(rows)
        assert sent.calls == 0 or kind == "features"
        assert densities.split == (None if kind == "none" else 0)
        close(whole(densities), expected.score_samples(values))
        with comm.trace() as sent:
            score = model.score(rows)
        assert sent.calls == (0 if kind == "none" else 1) or kind == "features"
        assert score == pytest.approx(expected.score(values), rel=1e-9)

    spmd(1, run, "even")
    for kind in KINDS:
        spmd(3, run, kind)


def test_a_singular_model_is_refused():
    def run(comm):
        model = PCA().fit(table(np.ones((5, 3)), comm))
        with pytest.raises(ValueError, match=r"PCA\.score: the covariance must be positive definite"):
            model.score(table(np.ones((5, 3)), comm))
        with pytest.raises(ValueError, match=r"PCA\.get_precision: the covariance must be"):
            model.get_precision()

    spmd(2, run)


@pytest.mark.parametrize("solver", ["covariance_eigh", "full"])
def test_likeliest_number_of_components(solver):
    rng = np.random.default_rng(1)
    planted = rng.normal(size=(300, 4)) @ rng.normal(size=(4, 12)) * 3 + rng.normal(size=(300, 12))
    cases = [planted, cancer(), digits("float64")[:, 20:30]]
    counts = [reference.PCA("mle", svd_solver="full").fit(values).n_components_ for values in cases]
    assert counts[0] == 4

    def run(comm):
        return [PCA("mle", svd_solver=solver).fit(table(values, comm)).n_components_ for values in cases]

    assert spmd(1, run) == [counts]
    assert spmd(3, run) == [counts] * 3
    with pytest.raises(ValueError, match="n_components='mle' must have n >= d"):
        PCA("mle").fit(np.ones((3, 4)))


@pytest.mark.parametrize("kind", KINDS)
def test_randomized(kind):
    values = digits("float64")
    expected = reference.PCA(8, svd_solver="full").fit(values)
    dropped = reference.TruncatedSVD(8, algorithm="arpack").fit(values)

    def run(comm):
        rows = table(values, comm, kind)
        with comm.trace() as sent:
            model = PCA(8, svd_solver="randomized", iterated_power=20, random_state=3).fit(rows)
            other = TruncatedSVD(8, n_iter=20, random_state=3).fit(rows)
        assert (sent.calls == 0) == (kind == "none")
        same(model, expected, rtol=1e-6)
        same(other, dropped, rtol=1e-6)
        quick = PCA(8, svd_solver="randomized", random_state=3).fit(rows)
        same(quick, expected, LEARNED[1:], 1e-4)
        assert model.noise_variance_ == pytest.approx(expected.noise_variance_)
        np.testing.assert_array_equal(whole(rows), values)
        return whole(model.components_)

    one = spmd(1, run)[0]
    for other in spmd(3, run):
        close(other, one, 1e-9)


@pytest.mark.parametrize("algorithm", ["exact", "arpack"])
def test_truncated_svd(algorithm):
    for values in (cancer(), np.random.default_rng(0).normal(size=(15, 40)) + 3):
        expected = reference.TruncatedSVD(5, algorithm="arpack").fit(values)

        def run(comm, kind, values=values, expected=expected):
            rows = table(values, comm, kind)
            with comm.trace() as sent:
                model = TruncatedSVD(5, algorithm=algorithm).fit(rows)
            if kind == "even":
                moments = [event for event in sent.events if event.op == "allreduce"]
                assert len(moments) >= 2
            same(model, expected)
            with comm.trace() as sent:
                z = model.transform(rows)
                back = model.inverse_transform(z)
            assert sent.calls == 0 or kind == "features"
            close(whole(z), expected.transform(values))
            close(whole(back), expected.inverse_transform(expected.transform(values)))

        for kind in KINDS:
            spmd(3, run, kind)


@pytest.mark.parametrize("whiten", [False, True])
@pytest.mark.parametrize(("n_components", "batch_size"), [(5, 100), (5, None), (None, 190), (3, 569)])
def test_incremental(n_components, batch_size, whiten):
    values = cancer() / cancer().std(0) + 2.0
    expected = reference.IncrementalPCA(n_components, batch_size=batch_size, whiten=whiten).fit(values)

    def run(comm, kind):
        rows = table(values, comm, kind)
        model = IncrementalPCA(n_components, batch_size=batch_size, whiten=whiten).fit(rows)
        same(model, expected, (*LEARNED, "mean_", "var_"))
        assert model.n_samples_seen_ == 569
        assert model.batch_size_ == expected.batch_size_
        z = model.transform(rows)
        close(whole(z), expected.transform(values), 1e-6)
        close(
            whole(model.inverse_transform(z)),
            values if n_components is None else expected.inverse_transform(expected.transform(values)),
            1e-6,
        )

    spmd(1, run, "even")
    for kind in KINDS:
        spmd(4, run, kind)


def test_blocks_send_one_message_each():
    values = digits("float64")[:600]
    expected = reference.IncrementalPCA(6)
    for start in range(0, 600, 200):
        expected.partial_fit(values[start : start + 200])

    def run(comm):
        model = IncrementalPCA(6)
        for start in range(0, 600, 200):
            block = table(values[start : start + 200], comm, "uneven")
            with comm.trace() as sent:
                assert model.partial_fit(block) is model
            assert [event.op for event in sent.events] == ["allreduce"]
        same(model, expected)
        streamed = IncrementalPCA(6).fit(table(values[i : i + 200], comm) for i in range(0, 600, 200))
        close(whole(streamed.components_), whole(model.components_), 1e-9)
        with pytest.raises(ValueError, match="X must have the 64 features it was fitted with, got 3"):
            model.partial_fit(table(np.ones((4, 3)), comm))
        with pytest.raises(ValueError, match="must be finite"):
            model.partial_fit(table(np.full((4, 64), np.nan), comm))
        same(model, expected)  # what was learned stays

    spmd(3, run)


def test_incremental_with_many_features():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(60, 4)) * [9, 7, 5, 3] @ rng.normal(size=(4, 2100)) + rng.normal(size=2100)
    expected = reference.IncrementalPCA(4, batch_size=20).fit(values)

    def run(comm):
        same(IncrementalPCA(4, batch_size=20).fit(table(values, comm)), expected, (*LEARNED, "mean_", "var_"))

    spmd(3, run)


def test_incremental_streams_a_file(tmp_path):
    import h5py
    from ht_io import stream

    values = digits()
    with h5py.File(tmp_path / "digits.h5", "w") as file:
        file["images"] = values
    expected = reference.IncrementalPCA(10, batch_size=500)
    for start in range(0, 1797, 500):
        expected.partial_fit(values[start : start + 500].astype("float64"))

    def run(comm):
        blocks = stream(tmp_path / "digits.h5", "images", block_rows=500, comm=comm)
        model = IncrementalPCA(10).fit(blocks)
        assert model.components_.dtype == ht.float32
        same(model, expected, rtol=1e-5)

    spmd(2, run)


@pytest.mark.parametrize(
    ("estimator", "message"),
    [
        (IncrementalPCA(5), r"n_components must be in \[1, 4\] for a first block of shape \(20, 4\), got 5"),
        (IncrementalPCA(0.5), "n_components must be an int of at least 1 or None, got 0.5"),
        (IncrementalPCA(3, batch_size=2), r"batch_size must be an int of at least n_components \(3\)"),
        (TruncatedSVD(5), r"n_components must be an int in \[1, 4\] for shape \(20, 4\), got 5"),
        (TruncatedSVD(1, algorithm="best"), "algorithm must be one of randomized, arpack, exact, got 'best'"),
        (TruncatedSVD(1, n_iter=-1), "n_iter must be an int of at least 0"),
        (PCA(0.5, svd_solver="randomized"), "n_components must be an int or None with 'randomized'"),
        (PCA(1, n_oversamples=-1), "n_oversamples must be an int of at least 0, got -1"),
        (PCA(1, iterated_power=0.5), "iterated_power must be an int of at least 0 or 'auto', got 0.5"),
    ],
)
def test_wrong_parameters_are_refused_before_any_message(estimator, message):
    values = np.random.default_rng(0).normal(size=(20, 4))

    def run(comm):
        with (
            comm.trace() as sent,
            pytest.raises(ValueError, match=f"{type(estimator).__name__}.fit: {message}"),
        ):
            estimator.fit(table(values, comm))
        return sent.calls

    assert spmd(2, run) == [0, 0]
