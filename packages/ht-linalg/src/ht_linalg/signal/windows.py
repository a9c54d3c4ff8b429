"""Window functions under SciPy's names: each rank computes its own part from global indices, without a message.

A window of M points is a function of k = 2 i - (M - 1), which is exact and symmetric about the middle. ``sym=False``
gives the first M of M + 1 points: a period for spectral analysis.

References
----------
F. J. Harris, On the use of windows for harmonic analysis with the discrete Fourier transform, 1978,
doi:10.1109/PROC.1978.10837.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real

import torch
from ht_core import DNDarray, types
from ht_core.engines.creation import create
from ht_core.errors import LayoutError

_COMMON = """sym : bool
    True: symmetric, for the design of filters. False: periodic, for spectral analysis.
split : int, optional
    0 cuts the window over the ranks; None (the default) makes every rank hold all of it.
device : Device or str, optional
comm : Communicator, optional

Returns
-------
DNDarray, shape (M,), float64

*Distribution*: split as told; no message.

Raises
------
LayoutError
    If `M` is not an integer of at least 0."""

_PLAIN = """Make {line}. No message.

    Parameters
    ----------
    M : int
        Number of points.
    {common}

    Examples
    --------
    >>> from ht_linalg.signal import windows
    >>> windows.{name}(3, split=0).numpy().round(9).tolist()
    {result}
    """

#: The windows that :func:`get_window` knows by name.
_BY_NAME: dict[str, Callable[..., DNDarray]] = {}


def _window(function: Callable) -> Callable:
    """Complete the docstring of a window and enter it in the table of names."""
    function.__doc__ = function.__doc__.replace("{common}", _COMMON.replace("\n", "\n    "))
    _BY_NAME[function.__name__] = function
    return function


def _made(op: str, M: int, shape: Callable, sym: bool, split, device, comm) -> DNDarray:
    """Make ``shape(k, n)`` of n points, k = 1 - n, 3 - n, ... n - 1 in float64."""
    if not isinstance(M, Integral) or M < 0:
        raise LayoutError(f"{op}: M must be an integer of at least 0, got {M!r}")
    n = int(M) if sym or M <= 1 else int(M) + 1

    def fill(lshape, offset, kind, device):
        if n <= 1:
            return torch.ones(lshape, dtype=kind, device=device)
        index = torch.arange(offset, offset + lshape[0], dtype=torch.float64, device=device)
        return shape(index.mul_(2).sub_(n - 1), n).to(kind)

    return create(op, (int(M),), types.float64, split, device, comm, fill)


def _number(op: str, name: str, value: object) -> float:
    if not isinstance(value, Real):
        raise TypeError(f"{op}: {name} must be a number, got {value!r}")
    return float(value)


def _cosines(weights: Sequence[float]) -> Callable:
    """Return the sum of cosines with these weights."""

    def shape(k, n):
        angle = k * (math.pi / (n - 1))
        return sum(a * torch.cos(j * angle) for j, a in enumerate(weights))

    return shape


def _plain(name: str, shape: Callable, line: str, result: str) -> Callable[..., DNDarray]:
    """Return the window without parameters of that shape; `line` says what it is, `result` gives three points."""

    def window(M, sym=True, *, split=None, device=None, comm=None) -> DNDarray:
        return _made(name, M, shape, sym, split, device, comm)

    window.__name__ = window.__qualname__ = name
    window.__doc__ = _PLAIN.replace("{name}", name).replace("{line}", line).replace("{result}", result)
    return _window(window)


def _parzen(k: torch.Tensor, n: int) -> torch.Tensor:
    u = k.abs() / n
    return torch.where(k.abs() <= (n - 1) / 2, 1 - 6 * u**2 + 6 * u**3, 2 * (1 - u) ** 3)


def _bohman(k: torch.Tensor, n: int) -> torch.Tensor:
    t = k.abs() / (n - 1)
    inner = (1 - t) * torch.cos(math.pi * t) + torch.sin(math.pi * t) / math.pi
    return torch.where(t == 1, torch.zeros_like(t), inner)


boxcar = _plain(
    "boxcar",
    lambda k, n: torch.ones_like(k),
    "the rectangular window: ones",
    "[1.0, 1.0, 1.0]",
)
triang = _plain(
    "triang",
    lambda k, n: 1 - k.abs() / (n + n % 2),
    "the triangular window, which is not 0 at its ends",
    "[0.5, 1.0, 0.5]",
)
bartlett = _plain(
    "bartlett",
    lambda k, n: 1 - k.abs() / (n - 1),
    "the Bartlett window: a triangle that is 0 at both ends",
    "[0.0, 1.0, 0.0]",
)
parzen = _plain(
    "parzen",
    _parzen,
    "the Parzen window: a piecewise cubic",
    "[0.074074074, 1.0, 0.074074074]",
)
bohman = _plain(
    "bohman",
    _bohman,
    "the Bohman window: two half cosines convolved",
    "[0.0, 1.0, 0.0]",
)
cosine = _plain(
    "cosine",
    lambda k, n: torch.cos(k * (math.pi / (2 * n))),
    "the cosine window",
    "[0.5, 1.0, 0.5]",
)
lanczos = _plain(
    "lanczos",
    lambda k, n: torch.sinc(k / (n - 1)),
    "the Lanczos window: the main lobe of sinc",
    "[0.0, 1.0, 0.0]",
)
barthann = _plain(
    "barthann",
    lambda k, n: 0.62 - 0.24 * (k / (n - 1)).abs() + 0.38 * torch.cos(k * (math.pi / (n - 1))),
    "the modified Bartlett-Hann window",
    "[0.0, 1.0, 0.0]",
)
hann = _plain(
    "hann",
    _cosines((0.5, 0.5)),
    "the Hann window: a raised cosine that is 0 at both ends",
    "[0.0, 1.0, 0.0]",
)
hamming = _plain(
    "hamming",
    _cosines((0.54, 0.46)),
    "the Hamming window: a raised cosine that is 0.08 at both ends",
    "[0.08, 1.0, 0.08]",
)
blackman = _plain(
    "blackman",
    _cosines((0.42, 0.50, 0.08)),
    "the Blackman window of three cosine terms",
    "[-0.0, 1.0, -0.0]",
)
nuttall = _plain(
    "nuttall",
    _cosines((0.3635819, 0.4891775, 0.1365995, 0.0106411)),
    "Nuttall's minimum four-term window",
    "[0.0003628, 1.0, 0.0003628]",
)
blackmanharris = _plain(
    "blackmanharris",
    _cosines((0.35875, 0.48829, 0.14128, 0.01168)),
    "the minimum four-term Blackman-Harris window",
    "[6e-05, 1.0, 6e-05]",
)
flattop = _plain(
    "flattop",
    _cosines((0.21557895, 0.41663158, 0.277263158, 0.083578947, 0.006947368)),
    "the flat top window, for amplitudes",
    "[-0.000421051, 1.000000003, -0.000421051]",
)


@_window
def general_cosine(M, a, sym=True, *, split=None, device=None, comm=None) -> DNDarray:
    """Make a weighted sum of cosines. No message.

    Parameters
    ----------
    M : int
        Number of points.
    a : sequence of float
        Weights of cos(j pi t), t from -1 to 1 between the ends.
    {common}

    Examples
    --------
    >>> from ht_linalg.signal import windows
    >>> windows.general_cosine(3, [0.5, 0.5], split=0).numpy().round(9).tolist()
    [0.0, 1.0, 0.0]
    """
    weights = [_number("general_cosine", "a", x) for x in a]
    return _made("general_cosine", M, _cosines(weights), sym, split, device, comm)


@_window
def general_hamming(M, alpha, sym=True, *, split=None, device=None, comm=None) -> DNDarray:
    """Make a raised cosine. No message.

    Parameters
    ----------
    M : int
        Number of points.
    alpha : float
        0.5 is Hann's window, 0.54 Hamming's.
    {common}

    Examples
    --------
    >>> from ht_linalg.signal import windows
    >>> windows.general_hamming(3, 0.75, split=0).numpy().round(9).tolist()
    [0.5, 1.0, 0.5]
    """
    alpha = _number("general_hamming", "alpha", alpha)
    return _made("general_hamming", M, _cosines((alpha, 1 - alpha)), sym, split, device, comm)


@_window
def kaiser(M, beta, sym=True, *, split=None, device=None, comm=None) -> DNDarray:
    """Make the Kaiser window, a ratio of Bessel functions. No message.

    Parameters
    ----------
    M : int
        Number of points.
    beta : float
        Shape: 0 is a rectangle; the larger, the narrower.
    {common}

    Examples
    --------
    >>> from ht_linalg.signal import windows
    >>> windows.kaiser(3, 0.0, split=0).numpy().round(9).tolist()
    [1.0, 1.0, 1.0]
    """
    beta = _number("kaiser", "beta", beta)

    def shape(k, n):
        whole = torch.full((), beta, dtype=torch.float64, device=k.device)
        return torch.i0(beta * torch.sqrt(1 - (k / (n - 1)) ** 2)) / torch.i0(whole)

    return _made("kaiser", M, shape, sym, split, device, comm)


@_window
def gaussian(M, std, sym=True, *, split=None, device=None, comm=None) -> DNDarray:
    """Make a Gaussian. No message.

    Parameters
    ----------
    M : int
        Number of points.
    std : float
        Standard deviation, in points.
    {common}

    Examples
    --------
    >>> from ht_linalg.signal import windows
    >>> windows.gaussian(3, 1.0, split=0).numpy().round(9).tolist()
    [0.60653066, 1.0, 0.60653066]
    """
    std = _number("gaussian", "std", std)
    return _made("gaussian", M, lambda k, n: torch.exp(-((k / (2 * std)) ** 2) / 2), sym, split, device, comm)


@_window
def general_gaussian(M, p, sig, sym=True, *, split=None, device=None, comm=None) -> DNDarray:
    """Make a Gaussian of any power. No message.

    Parameters
    ----------
    M : int
        Number of points.
    p : float
        1 is a Gaussian, 0.5 has the shape of a Laplace distribution.
    sig : float
        Standard deviation, in points.
    {common}

    Examples
    --------
    >>> from ht_linalg.signal import windows
    >>> windows.general_gaussian(3, 1.0, 1.0, split=0).numpy().round(9).tolist()
    [0.60653066, 1.0, 0.60653066]
    """
    p, sig = _number("general_gaussian", "p", p), _number("general_gaussian", "sig", sig)
    return _made(
        "general_gaussian",
        M,
        lambda k, n: torch.exp(-0.5 * (k / (2 * sig)).abs() ** (2 * p)),
        sym,
        split,
        device,
        comm,
    )


@_window
def exponential(M, center=None, tau=1.0, sym=True, *, split=None, device=None, comm=None) -> DNDarray:
    """Make the exponential window. No message.

    Parameters
    ----------
    M : int
        Number of points.
    center : float, optional
        Place of the peak, only with ``sym=False``; the middle by default.
    tau : float
        Points over which it falls by a factor e.
    {common}
    ValueError
        If `center` is given for a symmetric window.

    Examples
    --------
    >>> from ht_linalg.signal import windows
    >>> windows.exponential(3, split=0).numpy().round(6).tolist()
    [0.367879, 1.0, 0.367879]
    """
    if sym and center is not None:
        raise ValueError(f"exponential: center must be None for a symmetric window, got {center!r}")
    tau = _number("exponential", "tau", tau)
    place = None if center is None else _number("exponential", "center", center)

    def shape(k, n):
        offset = 0.0 if place is None else 2 * place - (n - 1)
        return torch.exp((k - offset).abs() / (-2 * tau))

    return _made("exponential", M, shape, sym, split, device, comm)


@_window
def tukey(M, alpha=0.5, sym=True, *, split=None, device=None, comm=None) -> DNDarray:
    """Make the Tukey window: flat, with ends that fall as cosines. No message.

    Parameters
    ----------
    M : int
        Number of points.
    alpha : float
        Share of the window that falls: 0 is a rectangle, 1 is Hann's window.
    {common}

    Examples
    --------
    >>> from ht_linalg.signal import windows
    >>> windows.tukey(5, split=0).numpy().round(9).tolist()
    [0.0, 1.0, 1.0, 1.0, 0.0]
    """
    alpha = _number("tukey", "alpha", alpha)
    if alpha <= 0:
        return _made("tukey", M, lambda k, n: torch.ones_like(k), sym, split, device, comm)
    if alpha >= 1:
        return _made("tukey", M, _cosines((0.5, 0.5)), sym, split, device, comm)

    def shape(k, n):
        edge = (n - 1 - k.abs()) / 2  # points to the nearer end
        falling = 0.5 * (1 + torch.cos(math.pi * (2 * edge / (alpha * (n - 1)) - 1)))
        return torch.where(edge <= math.floor(alpha * (n - 1) / 2), falling, torch.ones_like(k))

    return _made("tukey", M, shape, sym, split, device, comm)


@_window
def taylor(M, nbar=4, sll=30, norm=True, sym=True, *, split=None, device=None, comm=None) -> DNDarray:
    """Make the Taylor window: side lobes of nearly constant level. No message.

    Parameters
    ----------
    M : int
        Number of points.
    nbar : int
        Number of side lobes of that level.
    sll : float
        Their level in decibels below the main lobe.
    norm : bool
        Divide by the value in the middle.
    {common}

    References
    ----------
    T. T. Taylor, Design of line-source antennas for narrow beamwidth and low side lobes, 1955,
    doi:10.1109/TPGAP.1955.5720407.

    Examples
    --------
    >>> from ht_linalg.signal import windows
    >>> windows.taylor(3, split=0).numpy()[1].item()
    1.0
    """
    level = math.acosh(10 ** (_number("taylor", "sll", sll) / 20)) / math.pi
    zeros = [level**2 + (m - 0.5) ** 2 for m in range(1, nbar)]
    stretch = nbar**2 / (level**2 + (nbar - 0.5) ** 2)
    weights = []
    for m in range(1, nbar):
        above = math.prod(1 - m * m / (stretch * z) for z in zeros)
        below = math.prod(1 - (m / j) ** 2 for j in range(1, nbar) if j != m)
        weights.append((-1) ** (m + 1) * above / (2 * below))

    def shape(k, n):
        waves = torch.zeros_like(k)
        for m, w in enumerate(weights, 1):
            waves += w * torch.cos(k * (math.pi * m / n))
        return (1 + 2 * waves) / (1 + 2 * sum(weights) if norm else 1)

    return _made("taylor", M, shape, sym, split, device, comm)


def get_window(window, Nx, fftbins=True, *, split=None, device=None, comm=None) -> DNDarray:
    """Make a window by its name. No message.

    Parameters
    ----------
    window : str, float or tuple
        A name, a name and parameters, or the beta of a Kaiser window.
    Nx : int
        Number of points.
    fftbins : bool
        Periodic instead of symmetric.
    split, device, comm
        As for the windows.

    *Distribution*: split as told; no message.

    Raises
    ------
    ValueError
        If there is no window of that name, or it lacks parameters.

    Examples
    --------
    >>> from ht_linalg.signal import windows
    >>> windows.get_window(("gaussian", 1.0), 4, split=0).numpy().round(6).tolist()
    [0.135335, 0.606531, 1.0, 0.606531]
    """
    if isinstance(window, Real) and not isinstance(window, bool):
        window = ("kaiser", window)
    name, *parameters = (window,) if isinstance(window, str) else tuple(window)
    function = _BY_NAME.get(_ALIASES.get(name, name))
    if function is None:
        raise ValueError(f"get_window: window must be one of {', '.join(sorted(_BY_NAME))}, got {name!r}")
    options = {"sym": not fftbins, "split": split, "device": device, "comm": comm}
    try:
        inspect.signature(function).bind(Nx, *parameters, **options)
    except TypeError as error:
        raise ValueError(
            f"get_window: window must name the parameters of {name}, got {window!r} ({error})"
        ) from None
    return function(Nx, *parameters, **options)


#: Other names under which SciPy knows them.
_ALIASES = {
    "box": "boxcar",
    "ones": "boxcar",
    "rect": "boxcar",
    "rectangular": "boxcar",
    "triangle": "triang",
    "tri": "triang",
    "bart": "bartlett",
    "brt": "bartlett",
    "parz": "parzen",
    "par": "parzen",
    "bman": "bohman",
    "bmn": "bohman",
    "halfcosine": "cosine",
    "sinc": "lanczos",
    "brthan": "barthann",
    "bth": "barthann",
    "hanning": "hann",
    "han": "hann",
    "hamm": "hamming",
    "ham": "hamming",
    "black": "blackman",
    "blk": "blackman",
    "nutt": "nuttall",
    "nut": "nuttall",
    "blackharr": "blackmanharris",
    "bkh": "blackmanharris",
    "flat": "flattop",
    "flt": "flattop",
    "ksr": "kaiser",
    "gauss": "gaussian",
    "gss": "gaussian",
    "general gaussian": "general_gaussian",
    "general cosine": "general_cosine",
    "general hamming": "general_hamming",
    "poisson": "exponential",
    "tuk": "tukey",
    "taylorwin": "taylor",
}
