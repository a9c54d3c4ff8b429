"""The demo's picture: photograph, clusters, singular values and what the Lasso looks at. Needs matplotlib,
draws to a file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from .data import CHANNELS, HALF, PATCH, SIDE, Window

_INK, _FAINT, _PAPER = "#1f2430", "#8a93a6", "#ffffff"
_BLUE, _RED = "#2f6fb2", "#c1443c"


def order_by_brightness(labels: np.ndarray, brightness: np.ndarray, k: int) -> np.ndarray:
    """Return the rank of each cluster by the mean brightness of its pixels, shape (k,): 0 is the darkest."""
    total = np.bincount(labels, weights=brightness, minlength=k)
    mean = total / np.maximum(np.bincount(labels, minlength=k), 1)
    place = np.empty(k, dtype=np.int64)
    place[np.argsort(mean, kind="stable")] = np.arange(k)
    return place


def pixel_weights(coefficients: np.ndarray) -> np.ndarray:
    """Return the weight of each pixel of the patch, (7, 7): its colours added up."""
    return coefficients[:PATCH].reshape(SIDE, SIDE, CHANNELS).sum(axis=-1)


def draw(
    path: Path, photograph: np.ndarray, window: Window, labels: np.ndarray, found: Mapping[str, np.ndarray]
) -> None:
    """Write the picture as PNG; under its name only when it is complete."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    lines = slice(window.top, window.top + window.height)
    columns = slice(window.left, window.left + window.width)
    image = photograph[lines, columns]
    figure = Figure(figsize=(13, 9.3), dpi=110, facecolor=_PAPER, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.1, h_pad=0.1)
    FigureCanvasAgg(figure)
    upper, lower = figure.subfigures(2, 1, height_ratios=[5.8, 3.5])
    left, right = upper.subplots(1, 2)
    _show_image(left, image, "Hubble deep field")
    k = len(found["centres"])
    place = order_by_brightness(labels, image.mean(axis=-1).reshape(-1), k)
    _show_clusters(upper, right, place[labels].reshape(window.height, window.width), k)
    axes = lower.subplots(1, 3, width_ratios=[1.15, 1.15, 1])
    _show_singular_values(axes[0], found["singular_values"])
    _show_sizes(axes[1], np.bincount(place[labels], minlength=k))
    _show_weights(lower, axes[2], pixel_weights(found["coefficients"].astype(np.float64)))
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(temporary, format="png")
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _palette(k: int) -> object:
    """Colours from dark to bright, in small steps for any number of clusters."""
    from matplotlib import colormaps

    return colormaps["turbo"].resampled(max(k, 2))


def _title(axis: object, text: str) -> None:
    axis.set_title(text, loc="left", fontsize=11, color=_INK, fontweight="bold")


def _frame(axis: object) -> None:
    for name in ("top", "right"):
        axis.spines[name].set_visible(False)
    for name in ("left", "bottom"):
        axis.spines[name].set_color(_FAINT)
    axis.tick_params(colors=_INK, labelsize=9)
    axis.grid(color="#e6e9ef", linewidth=0.8)
    axis.set_axisbelow(True)


def _show_image(axis: object, image: np.ndarray, title: str) -> None:
    axis.imshow(image, interpolation="nearest")
    axis.set_axis_off()
    _title(axis, title)


def _show_clusters(figure: object, axis: object, clusters: np.ndarray, k: int) -> None:
    shown = axis.imshow(clusters, cmap=_palette(k), vmin=-0.5, vmax=k - 0.5, interpolation="nearest")
    axis.set_axis_off()
    _title(axis, f"{k} clusters of 7 x 7 surroundings, from dark to bright")
    bar = figure.colorbar(shown, ax=axis, fraction=0.035, pad=0.015, ticks=[0, k - 1])
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=_INK, labelsize=9, length=0)


def _show_singular_values(axis: object, values: np.ndarray) -> None:
    number = np.arange(1, len(values) + 1)
    axis.semilogy(number, values / values[0], color=_BLUE, marker="o", markersize=2.5, linewidth=1.2)
    axis.set_xlabel("number", fontsize=9, color=_INK)
    axis.set_ylabel("relative to the largest", fontsize=9, color=_INK)
    _title(axis, "Singular values")
    _frame(axis)


def _show_sizes(axis: object, sizes: np.ndarray) -> None:
    k = len(sizes)
    axis.bar(np.arange(k), sizes, color=_palette(k)(np.arange(k)), width=0.9)
    axis.set_yscale("log")
    axis.set_xlabel("cluster, from dark to bright", fontsize=9, color=_INK)
    axis.set_ylabel("pixels", fontsize=9, color=_INK)
    _title(axis, "Size of the clusters")
    _frame(axis)


def _show_weights(figure: object, axis: object, weights: np.ndarray) -> None:
    limit = float(np.abs(weights).max()) or 1.0
    shown = axis.imshow(weights, cmap="RdBu_r", vmin=-limit, vmax=limit)
    axis.plot(
        [SIDE], [HALF], marker="s", markersize=13, markerfacecolor="none", markeredgecolor=_RED, clip_on=False
    )
    axis.set_xlim(-0.5, SIDE + 0.5)
    axis.set_ylim(SIDE - 0.5, -0.5)
    axis.set_axis_off()
    _title(axis, "Lasso weights for the framed pixel")
    bar = figure.colorbar(shown, ax=axis, fraction=0.045, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(colors=_INK, labelsize=9)
