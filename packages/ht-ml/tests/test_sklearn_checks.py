"""scikit-learn's own checks of estimators, on one rank with NumPy arrays and on several with the rows cut unevenly."""

import pickle
import warnings
from unittest import SkipTest

import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import whole
from ht_ml.base import NotFittedError, check_is_fitted, clone
from ht_ml.cluster import (
    BatchParallelKMeans,
    BatchParallelKMedians,
    KMeans,
    KMedians,
    KMedoids,
    MiniBatchKMeans,
    Spectral,
)
from ht_ml.decomposition import PCA, IncrementalPCA, TruncatedSVD
from ht_ml.linear_model import ElasticNet, Lasso, LinearRegression, LogisticRegression, Ridge
from ht_ml.naive_bayes import GaussianNB
from ht_ml.neighbors import KNeighborsClassifier, KNeighborsRegressor, LocalOutlierFactor, NearestNeighbors
from ht_ml.preprocessing import MaxAbsScaler, MinMaxScaler, Normalizer, RobustScaler, StandardScaler
from ml_tables import public_estimators, table
from scipy.sparse import csr_array
from sklearn.utils.estimator_checks import estimator_checks_generator
from sklearn_adapter import adapted

ESTIMATORS = [
    BatchParallelKMeans(),
    BatchParallelKMedians(),
    ElasticNet(),
    GaussianNB(),
    IncrementalPCA(),
    KMeans(),
    KMedians(),
    KMedoids(),
    KNeighborsClassifier(),
    KNeighborsRegressor(),
    Lasso(),
    LinearRegression(),
    LocalOutlierFactor(),
    LocalOutlierFactor(novelty=True),
    LogisticRegression(tol=1e-3),
    MaxAbsScaler(),
    MinMaxScaler(),
    MiniBatchKMeans(max_iter=10),
    NearestNeighbors(),
    Normalizer(),
    PCA(),
    Ridge(),
    RobustScaler(),
    Spectral(n_clusters=3, n_init=1),
    StandardScaler(),
    TruncatedSVD(),
]
#: These take no table of samples: their snapshots are columns, and they predict several steps of each.
OTHERS = {"DMD", "DMDc"}
CLASSIFIERS = ("GaussianNB", "KNeighborsClassifier", "LogisticRegression")
REGRESSORS = ("ElasticNet", "KNeighborsRegressor", "Lasso", "LinearRegression", "Ridge")
#: What does not hold, for whom, and why: check -> (estimators, reason). Whatever is here must fail.
EXCEPTIONS = {
    "check_estimators_nan_inf": (
        (
            *("KMeans", "KMedians", "KMedoids", "MiniBatchKMeans", "PCA", "IncrementalPCA", "TruncatedSVD"),
            *("MaxAbsScaler", "MinMaxScaler", "RobustScaler", "StandardScaler"),
            *("ElasticNet", "Lasso", "LinearRegression", "Ridge"),
        ),
        "transform and predict of numbers send nothing, so the ranks could not refuse alike: NaN stays in its row",
    ),
    "check_classifiers_classes": (CLASSIFIERS, "labels are numbers: distributed arrays hold no strings"),
    "check_supervised_y_2d": (
        (*CLASSIFIERS, "ElasticNet", "Lasso"),
        "a column of a distributed table is an ordinary y: no warning",
    ),
    "check_sample_weight_equivalence_on_dense_data": (
        ("KMeans", "MiniBatchKMeans"),
        "random numbers belong to rows, and repeated rows are other rows; from the same start it holds",
    ),
}
#: These ask for one eigenvector, which is the constant one: clusters of rounding errors, whatever they are.
MEANINGLESS = {"Spectral": ("check_methods_sample_order_invariance", "check_methods_subset_invariance")}
#: On several ranks: the checks that look at values. The others look at parameters, names and texts.
SPLIT = (
    *("check_estimators_dtypes", "check_fit2d_1sample", "check_fit2d_1feature", "check_dict_unchanged"),
    *("check_methods_sample_order_invariance", "check_methods_subset_invariance", "check_fit_idempotent"),
    *("check_n_features_in_after_fitting", "check_estimators_nan_inf", "check_supervised_y_no_nan"),
    *("check_sample_weight_equivalence_on_dense_data", "check_all_zero_sample_weights_error"),
    *(
        "check_classifiers_train",
        "check_classifiers_one_label_sample_weights",
        "check_classifiers_regression_target",
    ),
    *(
        "check_regressors_train",
        "check_transformer_general",
        "check_clustering",
        "check_outliers_fit_predict",
    ),
    *("check_outliers_train", "check_estimators_partial_fit_n_features"),
)


def failures(estimator, ranks, wanted=None):
    """Run the checks; return what failed and why, and all that ran."""
    found, ran = {}, set()
    skipped = MEANINGLESS.get(type(estimator).__name__, ())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for made, check in estimator_checks_generator(adapted(estimator, ranks)):
            name = getattr(check, "func", check).__name__
            is_repeated = getattr(check, "keywords", {}).get("readonly_memmap")
            if name in skipped or (wanted is not None and (name not in wanted or is_repeated)):
                continue
            ran.add(name)
            try:
                check(made)
            except SkipTest:
                ran.discard(name)
            except Exception as error:
                found[name] = f"{type(error).__name__}: {error}"
    return found, ran


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=repr)
@pytest.mark.parametrize("ranks", [1, 3])
def test_checks_of_scikit_learn(estimator, ranks):
    found, ran = failures(estimator, ranks, None if ranks == 1 else SPLIT)
    name = type(estimator).__name__
    excepted = {check for check, (names, _) in EXCEPTIONS.items() if name in names}
    assert {check: text for check, text in found.items() if check not in excepted} == {}
    assert excepted & ran == excepted & found.keys()
    assert len(ran) > (25 if ranks == 1 else 5)


def test_every_estimator_is_checked():
    assert {type(e).__name__ for e in ESTIMATORS} | OTHERS == public_estimators().keys()


@pytest.mark.parametrize("name", EXCEPTIONS["check_estimators_nan_inf"][0])
def test_nan_stays_in_its_row(name):
    estimator = next(e for e in ESTIMATORS if type(e).__name__ == name)
    method = "predict" if name in REGRESSORS else "transform"
    x = np.random.default_rng(0).normal(size=(40, 3))
    bad = x.copy()
    bad[7, 1], bad[20, 0] = np.nan, np.inf

    def run(comm):
        model = clone(estimator).fit(table(x, comm, "uneven"), table(x[:, 0], comm))
        return [whole(getattr(model, method)(table(values, comm, "uneven"))) for values in (x, bad)]

    for good, spoilt in spmd(3, run):
        is_bad = ~np.isfinite(spoilt.reshape(40, -1)).all(1)
        np.testing.assert_array_equal(np.flatnonzero(is_bad), [7, 20])
        np.testing.assert_allclose(spoilt[~is_bad], good[~is_bad], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", EXCEPTIONS["check_supervised_y_2d"][0])
def test_a_column_is_a_target(name):
    estimator = next(e for e in ESTIMATORS if type(e).__name__ == name)
    x = np.random.default_rng(0).normal(size=(40, 3))
    y = (x[:, 0] > 0).astype(int)

    def run(comm):
        rows = table(x, comm)
        return [
            whole(clone(estimator).fit(rows, table(v, comm, "uneven")).predict(rows)) for v in (y, y[:, None])
        ]

    for flat, column in spmd(2, run):
        np.testing.assert_array_equal(column, flat)


@pytest.mark.parametrize(
    ("X", "y", "kind", "message"),
    [
        (csr_array(np.eye(4)), [0, 1, 0, 1], TypeError, "X must be a dense array, got a sparse csr_array"),
        (np.eye(4), ["a", "b", "a", "b"], TypeError, "y must hold numbers, got <U1; number the labels"),
        ([[1.0, {}]] * 4, [0, 1, 0, 1], TypeError, "X must hold numbers, got an object: float"),
        (np.eye(4), None, ValueError, "y must be given, got None"),
        (np.eye(4), [0.0, 0.5, 1.0, 2.0], ValueError, "y must hold labels, whole numbers, got 0.5"),
        (np.eye(4), [0.0, np.inf, 1.0, 2.0], ValueError, "y must hold labels, whole numbers, got inf"),
    ],
)
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_what_is_no_table_of_numbers_is_refused(name, X, y, kind, message):
    estimator = next(e for e in ESTIMATORS if type(e).__name__ == name)
    with pytest.raises(kind, match=message):
        clone(estimator).fit(X, y)


def test_objects_that_are_numbers_are_numbers():
    x = np.random.default_rng(0).normal(size=(20, 3))
    expected = StandardScaler().fit_transform(x).numpy()
    np.testing.assert_array_equal(StandardScaler().fit_transform(x.astype(object)).numpy(), expected)


@pytest.mark.parametrize("name", ["GaussianNB", "LogisticRegression"])
def test_labels_cannot_show_nan(name):
    estimator = next(e for e in ESTIMATORS if type(e).__name__ == name)
    x = np.random.default_rng(0).normal(size=(40, 3))
    bad = x.copy()
    bad[-1, 2] = np.nan

    def run(comm):
        model = clone(estimator).fit(table(x, comm), table((x[:, 0] > 0).astype(int), comm))
        model.predict(table(1e100 * x, comm))  # far from all classes is no error
        try:
            model.predict(table(bad, comm))
        except ValueError as error:
            return str(error)
        return None

    first, last = spmd(2, run)
    assert first is None
    assert f"{name}.predict: X must be finite" in last


def test_scikit_learn_catches_our_error():
    from sklearn.exceptions import NotFittedError as Theirs

    for kind in (Theirs, NotFittedError):
        with pytest.raises(kind, match="PCA: the estimator must be fitted first") as caught:
            check_is_fitted(PCA())
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is NotFittedError
    assert str(again) == str(caught.value)


def test_pipelines_and_searches_of_scikit_learn():
    from sklearn import decomposition, linear_model, preprocessing
    from sklearn.datasets import load_breast_cancer
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline

    x, y = load_breast_cancer(return_X_y=True)
    ours = make_pipeline(StandardScaler(), PCA(5), LogisticRegression(tol=1e-6))
    theirs = make_pipeline(
        preprocessing.StandardScaler(), decomposition.PCA(5), linear_model.LogisticRegression(tol=1e-6)
    )
    assert ours.fit(x, y).score(x, y) == theirs.fit(x, y).score(x, y)
    np.testing.assert_array_equal(np.asarray(ours.predict(x)), theirs.predict(x))
    grid = {"logisticregression__C": [1e-3, 1.0], "pca__n_components": [2, 5]}
    found, expected = (GridSearchCV(pipe, grid, cv=3).fit(x, y) for pipe in (ours, theirs))
    assert found.best_params_ == expected.best_params_
    np.testing.assert_allclose(
        found.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"], atol=1e-12
    )
    mixed = make_pipeline(StandardScaler(), linear_model.LogisticRegression())
    same = make_pipeline(preprocessing.StandardScaler(), linear_model.LogisticRegression())
    np.testing.assert_allclose(
        cross_val_score(mixed, x, y, cv=3), cross_val_score(same, x, y, cv=3), atol=1e-12
    )
    scored = GridSearchCV(Ridge(), {"alpha": [0.1, 10.0]}, scoring="neg_mean_squared_error", cv=3).fit(x, y)
    other = GridSearchCV(linear_model.Ridge(), {"alpha": [0.1, 10.0]}, scoring="neg_mean_squared_error", cv=3)
    np.testing.assert_allclose(
        scored.cv_results_["mean_test_score"], other.fit(x, y).cv_results_["mean_test_score"], rtol=1e-6
    )
