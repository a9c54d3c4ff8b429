"""Whether runs of the demo on different numbers of ranks agree, with each other and with scikit-learn.

Used by the tests on a few rows and by ``benchmarks/demo_agreement.py`` on all. Needs scikit-learn and an MPI launcher.
"""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

from ..launch import plan_launch
from .data import CHANNELS
from .pipeline import FEATURES_FILE, MAX_ITER, RESULTS_FILE, SUMMARY_FILE, TABLES


@dataclass(frozen=True, slots=True)
class Agreement:
    """How far two results are apart.

    Attributes
    ----------
    rand_index : float
        Adjusted Rand index of the labels; 1 means equal up to the clusters' names.
    coefficients : float
        Largest absolute difference of the Lasso's coefficients.
    singular_values : float
        Largest difference of singular values, relative to the value.
    inertia : float
        Relative difference of the sums of squared distances.
    """

    rand_index: float
    coefficients: float
    singular_values: float
    inertia: float


def run_on_ranks(p: int, output: Path, *options: str, timeout: float = 1200.0) -> float:
    """Run the demo on `p` processes, results in `output`; return the wall time in seconds.

    Raises
    ------
    RuntimeError
        If it fails; the text is what it printed.
    """
    command, environment = plan_launch(p, ["-m", "ht_meta", "demo", "--output", str(output), *options])
    start = time.perf_counter()
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=timeout, check=False
    )
    if done.returncode:
        raise RuntimeError(f"the demo on {p} ranks ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return time.perf_counter() - start


def read_results(folder: Path) -> dict[str, np.ndarray]:
    """Return all arrays of a run's results, and its inertia."""
    with h5py.File(folder / RESULTS_FILE) as file:
        found = {name: file[name][...] for name in file}
    found["inertia"] = np.array(json.loads((folder / SUMMARY_FILE).read_text())["inertia"])
    return found


def compare(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> Agreement:
    """Compare two sets of results."""
    from sklearn.metrics import adjusted_rand_score

    return Agreement(
        rand_index=float(adjusted_rand_score(a["labels"], b["labels"])),
        coefficients=float(np.abs(a["coefficients"] - b["coefficients"]).max()),
        singular_values=float(np.abs(a["singular_values"] / b["singular_values"] - 1).max())
        if a["singular_values"].shape == b["singular_values"].shape
        else np.inf,
        inertia=float(abs(a["inertia"] / b["inertia"] - 1)),
    )


def compute_with_sklearn(folder: Path) -> dict[str, np.ndarray]:
    """Return scikit-learn's results on the data of a run, its k-means from the same starting centres."""
    from sklearn.cluster import KMeans
    from sklearn.linear_model import Lasso

    options = json.loads((folder / SUMMARY_FILE).read_text())["options"]
    with h5py.File(folder / FEATURES_FILE) as file:
        features = np.hstack([file[name][...] for name in TABLES]).astype(np.float64)
        target = file["target"][...].astype(np.float64)
    features -= features.mean(axis=0)
    scale = features.std(axis=0)
    features /= np.where(scale > 0, scale, 1)
    found = read_results(folder)
    small = features.astype(np.float32)
    means = KMeans(options["clusters"], init=found["start"], n_init=1, max_iter=MAX_ITER, tol=1e-4).fit(small)
    lasso = Lasso(options["alpha"], precompute=True, max_iter=20000, tol=1e-9).fit(
        features[:, CHANNELS:], target
    )
    squares = np.linalg.eigvalsh(features.T @ features)[::-1][: len(found["singular_values"])]
    return {
        "labels": means.labels_,
        "inertia": np.array(means.inertia_),
        "coefficients": lasso.coef_,
        "singular_values": np.sqrt(squares),
    }
