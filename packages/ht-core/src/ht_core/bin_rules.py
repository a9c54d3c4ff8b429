"""Rules that choose the number of bins of a histogram from statistics of the data.

Each returns the width of a bin, 0 where it does not know, from numbers that all ranks have.

References
----------
D. Freedman, P. Diaconis, On the histogram as a density estimator, Probability Theory and Related Fields 57, 1981,
doi:10.1007/BF01025868. D. W. Scott, On optimal and data-based histograms, Biometrika 66, 1979,
doi:10.1093/biomet/66.3.605. D. P. Doane, Aesthetic frequency classifications, The American Statistician 30, 1976,
doi:10.1080/00031305.1976.10479172. H. A. Sturges, The choice of a class interval, Journal of the American Statistical
Association 21, 1926, doi:10.1080/01621459.1926.10502161.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from .dndarray import DNDarray
from .moments import skew, std
from .quantiles import percentile

Rule = Callable[[DNDarray, float], float]


def _sqrt(x: DNDarray, span: float) -> float:
    return span / math.sqrt(x.size)


def _sturges(x: DNDarray, span: float) -> float:
    return span / (math.log2(x.size) + 1.0)


def _rice(x: DNDarray, span: float) -> float:
    return span / (2.0 * x.size ** (1.0 / 3))


def _scott(x: DNDarray, span: float) -> float:
    return (24.0 * math.pi**0.5 / x.size) ** (1.0 / 3.0) * std(x).item()


def _doane(x: DNDarray, span: float) -> float:
    if x.size <= 2 or std(x).item() <= 0.0:
        return 0.0
    sigma = math.sqrt(6.0 * (x.size - 2) / ((x.size + 1.0) * (x.size + 3)))
    skewness = skew(x, unbiased=False).item()
    return span / (1.0 + math.log2(x.size) + math.log2(1.0 + abs(skewness) / sigma))


def _fd(x: DNDarray, span: float) -> float:
    upper, lower = percentile(x, [75, 25]).tolist()
    return 2.0 * (upper - lower) * x.size ** (-1.0 / 3.0)


def _auto(x: DNDarray, span: float) -> float:
    width = _fd(x, span)
    # Many equal elements have no spread between the quartiles; where the width is tiny, so is what it says.
    return min(width, _sturges(x, span)) if width else _sturges(x, span)


RULES: dict[str, Rule] = {
    "auto": _auto,
    "doane": _doane,
    "fd": _fd,
    "rice": _rice,
    "scott": _scott,
    "sqrt": _sqrt,
    "sturges": _sturges,
}
