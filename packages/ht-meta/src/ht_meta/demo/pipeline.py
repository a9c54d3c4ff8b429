"""The steps of the demo, as a user would write them, each measured.

photograph -> HDF5 -> parallel load -> hstack -> standardise -> hierarchical SVD, PCA -> k-means -> Lasso ->
HDF5, picture
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import ht_core as ht
import numpy as np
import torch
from ht_comm import Communicator, world
from ht_core import DNDarray, Layout
from ht_io import load_hdf5, save_hdf5
from ht_linalg import hsvd_rtol
from ht_ml.cluster import KMeans
from ht_ml.decomposition import PCA
from ht_ml.linear_model import Lasso
from ht_ml.preprocessing import StandardScaler

from .data import CHANNELS, FEATURES, MissingExtraError, Window, build_rows, load_photograph, plan_window
from .meter import Meter, format_bytes, format_table

FEATURES_FILE, RESULTS_FILE, PICTURE_FILE, SUMMARY_FILE = (
    "features.h5",
    "results.h5",
    "demo.png",
    "summary.json",
)
TABLES = ("pixels", "patches", "coordinates")
_STEPS = 12
MAX_ITER = 100  #: iterations of k-means: the last few hundred would move the centres little


class DemoError(ValueError):
    """The demo cannot be run like this; the same on every rank."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the user chose; see ``python -m ht_meta demo --help``."""

    rows: int | None = None
    clusters: int = 25
    rtol: float = 2.5e-2
    alpha: float = 1e-3
    init: str = "k-means++"
    seed: int = 0
    output: Path = Path("demo-output")
    device: str = "cpu"


def run_demo(options: Options, comm: Communicator | None = None) -> dict[str, object]:
    """Run all steps on the ranks of `comm`, the world if not given; return the summary that is also written.
    Collective.

    Raises
    ------
    DemoError
        If an option does not fit, a package is missing or the results cannot be written.
    """
    comm = world() if comm is None else comm
    photograph, window = _prepare(options, comm)
    meter = Meter(comm, _STEPS, lambda text: _say(comm, text))
    _announce(options, window, comm)
    data = _write_and_load(options, photograph, window, comm, meter)
    found = _analyse(data, options, meter)
    folder = options.output
    with meter.step(f"save results to {RESULTS_FILE}") as step:
        save_hdf5(
            {name: value for name, value in found.items() if isinstance(value, DNDarray)},
            folder / RESULTS_FILE,
        )
        step.note = format_bytes((folder / RESULTS_FILE).stat().st_size)
    with meter.step(f"draw {PICTURE_FILE}"):
        labels = comm.gatherv(found["labels"].larray.cpu(), found["labels"].layout.counts)
        if comm.rank == 0:
            from .picture import draw

            draw(folder / PICTURE_FILE, photograph, window, labels.numpy(), _on_host(found))
    summary = _summarise(options, window, comm, meter, found)
    if comm.rank == 0:
        (folder / SUMMARY_FILE).write_text(json.dumps(summary, indent=1) + "\n")
    _say(comm, "\n" + format_table(meter.steps, meter.memory_source))
    _say(
        comm, f"\npicture: {folder / PICTURE_FILE}\nresults: {folder / RESULTS_FILE}, {folder / SUMMARY_FILE}"
    )
    comm.barrier()
    return summary


def _prepare(options: Options, comm: Communicator) -> tuple[np.ndarray, Window]:
    """Return the photograph and the window, with everything checked that can be before any work."""
    error = None
    photograph, window = None, None
    try:
        window = plan_window(options.rows)
        if options.clusters > window.rows:
            raise DemoError(
                f"demo: clusters must be in [1, {window.rows}] for so many rows, got {options.clusters}"
            )
        photograph = load_photograph()
        ht.sanitize_device(options.device)
        if comm.rank == 0:
            _check_matplotlib()
            options.output.mkdir(parents=True, exist_ok=True)
            if not os.access(options.output, os.W_OK):
                raise DemoError(
                    f"demo: output must be a directory this user can write to, got {options.output}"
                )
    except OSError as failure:
        error = DemoError(
            f"demo: output must be a directory this user can make, got {options.output} ({failure})"
        )
    except (ValueError, MissingExtraError) as failure:
        error = DemoError(str(failure))
    comm.agree(error)
    return photograph, window


def _check_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"demo: matplotlib must be installed, got {error}; run: pip install 'ht-meta[demo]'"
        ) from None


def _announce(options: Options, window: Window, comm: Communicator) -> None:
    size = format_bytes(window.rows * FEATURES * 4)
    threads = torch.get_num_threads()
    _say(
        comm,
        f"Hubble deep field, {window.height} x {window.width} pixels, each with its 7 x 7 surroundings:\n"
        f"  {window.rows} rows x {FEATURES} features, float32, {size}\n"
        f"on {comm.size} rank(s) x {threads} thread(s), device {options.device}; results: {options.output.resolve()}\n"
        f"photograph -> HDF5 -> load -> hstack -> standardise -> SVD (relative error {options.rtol:g}) and PCA\n"
        f"-> k-means ({options.clusters} clusters, {options.init}) -> Lasso (alpha {options.alpha:g}) -> picture\n",
    )


def _write_and_load(
    options: Options, photograph: np.ndarray, window: Window, comm: Communicator, meter: Meter
) -> tuple[DNDarray, DNDarray]:
    """Return the features, (n, 152), and the target, (n,), both split along rows, by way of an HDF5 file."""
    path = options.output / FEATURES_FILE
    layout = Layout.even((window.rows,), 0, comm.size)
    with meter.step(f"cut patches, save {FEATURES_FILE}") as step:
        start = layout.offset(comm.rank)
        rows = build_rows(photograph, window, start, start + layout.counts[comm.rank])
        save_hdf5({name: ht.array(values, is_split=0, comm=comm) for name, values in rows.items()}, path)
        step.note = f"{', '.join(rows)}; {format_bytes(path.stat().st_size)}"
        del rows
    with meter.step("load, split=0") as step:
        parts = [
            load_hdf5(path, name, split=0, device=options.device, comm=comm) for name in (*TABLES, "target")
        ]
        step.note = ", ".join(f"{name} {part.shape}" for name, part in zip((*TABLES, "target"), parts))
    *tables, target = parts
    del parts
    with meter.step("hstack") as step:
        features = ht.hstack(tables)
        step.note = f"{features.shape}, split={features.split}"
    return features, target


def _analyse(data: tuple[DNDarray, DNDarray], options: Options, meter: Meter) -> dict[str, object]:
    """Return all results by name; the features are standardised in place."""
    features, target = data
    found: dict[str, object] = {}
    with meter.step("standardise in place"):
        scaler = StandardScaler(copy=False)
        features = scaler.fit_transform(features)
        found.update(mean=scaler.mean_, scale=scaler.scale_)
    with meter.step("hierarchical SVD") as step:
        _, values, _, error = hsvd_rtol(features, options.rtol, compute_sv=True)
        found.update(singular_values=values, svd_error=float(error))
        step.note = f"{values.shape[0]} of {FEATURES} directions, relative error {float(error):.3g}"
    with meter.step("PCA") as step:
        pca = PCA(n_components=min(options.clusters, FEATURES)).fit(features)
        found.update(explained_variance_ratio=pca.explained_variance_ratio_, components=pca.components_)
        share = float(pca.explained_variance_ratio_.sum())
        step.note = f"{pca.components_.shape[0]} components hold {100 * share:.1f} % of the variance"
    _cluster(features, options, meter, found)
    with meter.step("Lasso") as step:
        surroundings = features[:, CHANNELS:]  # a view: the pixel itself is the middle of its patch
        lasso = Lasso(alpha=options.alpha, max_iter=5000, tol=1e-8).fit(surroundings, target)
        found.update(coefficients=lasso.coef_, intercept=lasso.intercept_)
        found["score"] = float(lasso.score(surroundings, target))
        used = int((lasso.coef_ != 0).sum())
        step.note = f"{used} of {surroundings.shape[1]} coefficients, R2 = {found['score']:.3f}"
    return found


def _cluster(features: DNDarray, options: Options, meter: Meter, found: dict[str, object]) -> None:
    k = options.clusters
    with meter.step(f"k-means start, {options.init}"):
        # One iteration from the chosen start: centres that can be kept, and given to any other k-means.
        start = KMeans(k, init=options.init, n_init=1, max_iter=1, random_state=options.seed).fit(features)
    with meter.step("k-means fit") as step:
        model = KMeans(k, init=start.cluster_centers_, max_iter=MAX_ITER, verbose=1).fit(features)
        step.note = f"{model.n_iter_} iterations, inertia {model.inertia_:.6g}"
    with meter.step("k-means predict"):
        labels = model.predict(features)
    found.update(start=start.cluster_centers_, centres=model.cluster_centers_, labels=labels)
    found.update(inertia=model.inertia_, n_iter=model.n_iter_)


def _on_host(found: dict[str, object]) -> dict[str, np.ndarray]:
    """Return the small results, which every rank holds, as NumPy arrays."""
    return {
        name: value.larray.cpu().numpy()
        for name, value in found.items()
        if isinstance(value, DNDarray) and value.split is None
    }


def _summarise(
    options: Options, window: Window, comm: Communicator, meter: Meter, found: dict[str, object]
) -> dict[str, object]:
    numbers = {name: value for name, value in found.items() if isinstance(value, (int, float))}
    return {
        "options": {
            key: str(value) if isinstance(value, Path) else value for key, value in asdict(options).items()
        },
        "rows": window.rows,
        "features": FEATURES,
        "ranks": comm.size,
        "threads": torch.get_num_threads(),
        "seconds": sum(step.seconds for step in meter.steps),
        "peak_bytes": max(step.peak_bytes for step in meter.steps),
        "memory": meter.memory_source,
        **numbers,
        "steps": [step.as_dict() for step in meter.steps],
    }


def _say(comm: Communicator, text: str) -> None:
    if comm.rank == 0:
        print(text, flush=True)
        sys.stdout.flush()
