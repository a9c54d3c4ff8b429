"""The demo's data: every pixel of a deep-field photograph with its surroundings, as rows of features.

Pure NumPy on one rank's rows; knows no communicator and no file.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

SIDE = 7  #: side of a patch, odd
HALF = SIDE // 2
CHANNELS = 3
PATCH = SIDE * SIDE * CHANNELS
#: Columns of pixels, patches and coordinates side by side.
FEATURES = CHANNELS + PATCH + 2
#: Height and width of the photograph.
PHOTOGRAPH = (872, 1000)
_STRETCH = 8.0  # contrast of faint against bright; the sky is at 5 % of the range


class MissingExtraError(ImportError):
    """A package that only the demo needs is not installed."""


def load_photograph() -> np.ndarray:
    """Return the Hubble deep field that comes with scikit-image: (872, 1000, 3) float32 in [0, 1],
    asinh-stretched.

    The stretch is the usual one of astronomical pictures: linear for faint pixels, logarithmic for bright
    ones.

    Raises
    ------
    MissingExtraError
        If scikit-image is not installed.
    """
    try:
        from skimage.data import hubble_deep_field
    except ImportError as error:
        raise MissingExtraError(
            f"demo: scikit-image must be installed, got {error}; run: pip install 'ht-meta[demo]'"
        ) from None
    values = hubble_deep_field().astype(np.float32) / np.float32(255)
    return np.arcsinh(_STRETCH * values) / np.float32(math.asinh(_STRETCH))


@dataclass(frozen=True, slots=True)
class Window:
    """The part of the photograph that is used: `height` x `width` patch centres, the first at (`top`,
    `left`).

    Rows of the data sets run over it line by line.
    """

    top: int
    left: int
    height: int
    width: int

    @property
    def rows(self) -> int:
        """Number of rows of the data sets."""
        return self.height * self.width


def largest_window(photograph: tuple[int, int] = PHOTOGRAPH) -> Window:
    """Return the window of all pixels that have a whole patch around them and a pixel to the right of it."""
    height, width = photograph
    return Window(HALF, HALF, height - 2 * HALF, width - 2 * HALF - 1)


def plan_window(rows: int | None, photograph: tuple[int, int] = PHOTOGRAPH) -> Window:
    """Return a window of at most `rows` pixels, in the middle, of about the photograph's shape; None: the
    largest.

    Raises
    ------
    ValueError
        If there are not so many pixels, or fewer than one.
    """
    whole = largest_window(photograph)
    if rows is None:
        return whole
    if not 1 <= rows <= whole.rows:
        raise ValueError(f"demo: rows must be in [1, {whole.rows}], got {rows}")
    height = max(min(math.isqrt(rows * whole.height // whole.width), whole.height), 1)
    width = min(rows // height, whole.width)
    top = whole.top + (whole.height - height) // 2
    left = whole.left + (whole.width - width) // 2
    return Window(top, left, height, width)


def build_rows(photograph: np.ndarray, window: Window, start: int, stop: int) -> dict[str, np.ndarray]:
    """Return rows [start, stop) of the data sets.

    Parameters
    ----------
    photograph : (height, width, 3) float32
    window : Window
    start, stop : int

    Returns
    -------
    dict of arrays of stop - start rows
        ``pixels`` (., 3): the colour of the pixel; ``patches`` (., 147): the 7 x 7 pixels around it, line by
        line; ``coordinates`` (., 2): line and column in [0, 1]; ``target`` (.,): the brightness of the pixel
        just to the right of the patch, which is not in the patch. All float32.
    """
    first, last = start // window.width, -(-stop // window.width)
    keep = slice(start - first * window.width, stop - first * window.width)
    lines = slice(window.top + first, window.top + last)
    columns = slice(window.left, window.left + window.width)
    # patches[line, column] is centred at (line + HALF, column + HALF)
    patches = np.lib.stride_tricks.sliding_window_view(photograph, (SIDE, SIDE), axis=(0, 1))
    around = patches[lines.start - HALF : lines.stop - HALF, columns.start - HALF : columns.stop - HALF]
    next_columns = slice(columns.start + HALF + 1, columns.stop + HALF + 1)
    y, x = np.mgrid[lines, columns]
    place = np.stack([y / photograph.shape[0], x / photograph.shape[1]], axis=-1).astype(np.float32)
    return {
        "pixels": photograph[lines, columns].reshape(-1, CHANNELS)[keep],
        "patches": np.moveaxis(around, 2, -1).reshape(-1, PATCH)[keep],
        "coordinates": place.reshape(-1, 2)[keep],
        "target": photograph[lines, next_columns].mean(axis=-1).reshape(-1)[keep],
    }
