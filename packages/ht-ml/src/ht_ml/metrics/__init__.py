"""How good predictions, labels and clusters are, with scikit-learn's names and values."""

from .agreement import (
    adjusted_rand_score,
    completeness_score,
    homogeneity_completeness_v_measure,
    homogeneity_score,
    v_measure_score,
)
from .classification import accuracy_score, confusion_matrix
from .dispersion import calinski_harabasz_score, davies_bouldin_score
from .errors import mean_squared_error, r2_score
from .silhouette import silhouette_samples, silhouette_score

__all__ = [
    "accuracy_score",
    "adjusted_rand_score",
    "calinski_harabasz_score",
    "completeness_score",
    "confusion_matrix",
    "davies_bouldin_score",
    "homogeneity_completeness_v_measure",
    "homogeneity_score",
    "mean_squared_error",
    "r2_score",
    "silhouette_samples",
    "silhouette_score",
    "v_measure_score",
]
