"""The generator of random arrays: a seed, a count of the calls so far, and methods named as NumPy's.

Call number k of a generator uses the stream (seed, k), and element i of its result, counted in C order over the
global array, is variate i of that stream. So the numbers do not depend on the number of ranks, the split or the
device, no rank needs to hear from another, and all ranks count alike because all make the same calls.
"""

from __future__ import annotations

import inspect
import math
import secrets
import threading
from collections.abc import Callable

import numpy as np
import torch
from ht_comm import Communicator, get_comm

from . import continuous, discrete, types
from .devices import sanitize_device
from .dndarray import DNDarray
from .draws import Draw, exponential, fill, integers, normal, raw, uniform
from .engines.creation import normalize_shape, normalize_split
from .errors import LayoutError
from .layout import Layout
from .multivariate import Multivariate
from .ordering import Orderings
from .philox import Key
from .random_arguments import (
    aligned,
    check_scale,
    in_range,
    integer_range,
    is_scalar,
    non_negative,
    number,
)
from .sampling import FLOATS, Distribution, fill_array, result_type

ALGORITHM = "philox4x64-10"
_DISTRIBUTION = "*Distribution*: any split; no message. All ranks make the call, with the same arguments."
_COMMON = """dtype : dtype, optional
    {dtypes}
{out}split : int, optional
    The axis along which the result is cut; None (the default) makes every rank hold all of it.
device : Device or str, optional
    "cpu", "gpu" or a torch device; the default is ``ht.get_device()``.
comm : Communicator, optional
    The ranks that hold the result; the default is that of the generator, or ``ht.get_comm()``.

Returns
-------
DNDarray
    Of shape `size`; 0-D where `size` is None."""
_OUT = """out : DNDarray, optional
    Filled in place, whatever its layout, and returned; its shape and dtype are those of the result.
"""
_INTEGERS = "Any integer type or bool; int64 by default."
#: Calls that a jump passes over: no stream of a program comes near it.
JUMP = 1 << 48

_UNIFORM = Distribution(
    "uniform", (number("low", ""), number("high", "")), lambda low, high: (high - low, low), 1
)
_NORMAL = Distribution(
    "normal", (number("loc", ""), non_negative("scale", "")), lambda loc, scale: (scale, loc), 1
)
_EXPONENTIAL = Distribution("exponential", (non_negative("scale", ""),), lambda scale: (scale, 0.0), 1)


def _documented(dtypes: str = FLOATS, out: str = ""):
    """Complete the docstring of a method that makes an array."""

    def complete(method):
        common = _COMMON.replace("{dtypes}", dtypes).replace("{out}", out)
        text = inspect.cleandoc(method.__doc__)
        method.__doc__ = text.replace("{common}", common).replace("{distribution}", _DISTRIBUTION)
        return method

    return complete


class Generator(Orderings, Multivariate):
    """Random arrays that are the same for any number of ranks, split and device.

    Parameters
    ----------
    seed : int or None
        In [0, 2**64). None draws one from the operating system on rank 0: one broadcast of 8 bytes.
    comm : Communicator, optional
        The ranks that hold the results unless a call says otherwise; the default is the current one at each call.

    Raises
    ------
    ValueError
        If `seed` is out of range.
    TypeError
        If `seed` is not an integer.

    Notes
    -----
    Philox4x64-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011,
    doi 10.1145/2063384.2063405) with key (seed, call). Uniform variates and integers are the same bits everywhere;
    variates that need a logarithm or a sine may differ in the last digits between kinds of devices.

    A generator belongs to the ranks that call it together. Where only some of the ranks draw, give them a generator of
    their own (:meth:`spawn`), or their counts of calls go apart.

    Examples
    --------
    >>> rng = ht.random.default_rng(7)
    >>> rng.integers(100, size=5, split=0).numpy().tolist()
    [69, 90, 12, 77, 75]
    """

    __slots__ = ("_calls", "_lock", "_seed", "comm")

    def __init__(self, seed: int | None = None, *, comm: Communicator | None = None) -> None:
        self.comm = comm
        self._lock = threading.Lock()
        self._seed, self._calls = _checked_seed("Generator", seed, comm), 0

    def __repr__(self) -> str:
        return f"Generator({ALGORITHM}, seed={self._seed}, calls={self._calls})"

    def __reduce__(self):  # a communicator does not leave its process
        return _restore, (self.get_state(),)

    def __copy__(self) -> Generator:
        return _restore(self.get_state(), self.comm)

    def __deepcopy__(self, memo: dict) -> Generator:
        return self.__copy__()

    # -- state ----------------------------------------------------------------------------------------------------

    def get_state(self) -> dict:
        """Return the state: a dict of plain values ``{"algorithm", "seed", "calls"}``. No message."""
        return {"algorithm": ALGORITHM, "seed": self._seed, "calls": self._calls}

    def set_state(self, state: dict) -> None:
        """Return to a state from :meth:`get_state`; every rank must pass the same one. No message.

        Raises
        ------
        ValueError
            If it is not such a state.
        TypeError
            If its numbers are not integers.
        """
        fits = isinstance(state, dict) and state.get("algorithm") == ALGORITHM
        values = [state.get("seed"), state.get("calls")] if fits else []
        if not fits or any(not isinstance(v, int) or not 0 <= v < 1 << 64 for v in values):
            raise ValueError(
                f"set_state: state must be a dict made by get_state of {ALGORITHM}, got {state!r}"
            )
        with self._lock:
            self._seed, self._calls = values

    def spawn(self, n_children: int) -> list[Generator]:
        """Return `n_children` generators with unrelated seeds, drawn from this one. No message."""
        words = torch.empty(
            in_range("spawn", "n_children", n_children, 1 << 20), dtype=torch.int64, device="cpu"
        )
        fill(words, raw(), self._next_key())
        return [Generator(word % (1 << 64), comm=self.comm) for word in words.tolist()]

    def jumped(self, jumps: int = 1) -> Generator:
        """Return a generator `jumps` times 2**48 calls ahead of this one: their streams never meet. No message.

        Parameters
        ----------
        jumps : int
            In [0, 2**16).

        Raises
        ------
        ValueError, TypeError
            If `jumps` is not such an integer.

        Examples
        --------
        >>> ht.random.default_rng(7).jumped().get_state()["calls"] == 2**48
        True
        """
        ahead = in_range("jumped", "jumps", jumps, 1 << 16) * JUMP
        state = self.get_state()
        return _restore({**state, "calls": (state["calls"] + ahead) % (1 << 64)}, self.comm)

    def _comm(self, comm: Communicator | None) -> Communicator:
        comm = self.comm if comm is None else comm
        return get_comm() if comm is None else comm

    def _next_key(self) -> Key:
        with self._lock:
            key = (self._seed, self._calls)
            self._calls = (self._calls + 1) % (1 << 64)
        return key

    # -- floating variates ------------------------------------------------------------------------------------------

    @_documented(out=_OUT)
    def random(self, size=None, dtype=None, out=None, *, split=None, device=None, comm=None) -> DNDarray:
        """Draw uniform variates from [0, 1).

        Each multiple of the type's resolution (2**-53, 2**-24, 2**-11 and 2**-8 from float64 to bfloat16) in [0, 1) is
        equally likely; 1 never occurs.

        {distribution}

        Parameters
        ----------
        size : int or tuple of int, optional
            Global shape.
        {common}
        """
        return self._floats("random", uniform, size, dtype, out, split, device, comm)

    @_documented()
    def uniform(
        self, low=0.0, high=1.0, size=None, dtype=None, *, split=None, device=None, comm=None
    ) -> DNDarray:
        """Draw uniform variates from [low, high).

        Rounding may yield `high` where ``high - low`` is small against `high`, as in NumPy.

        {distribution}

        Parameters
        ----------
        low, high : float or array_like
            Ends of the interval; arrays broadcast with `size`.
        size : int or tuple of int, optional
            Global shape.
        {common}

        Raises
        ------
        ValueError
            If an end is not finite.
        """
        if is_scalar(low) and is_scalar(high):
            if not math.isfinite(high - low):
                raise ValueError(f"uniform: low and high must be finite, got {low} and {high}")
            low, high = float(low), float(high)
            return self._floats(
                "uniform", lambda kind: uniform(kind, low, high), size, dtype, None, split, device, comm
            )
        return self._affine(_UNIFORM, (low, high), uniform, size, dtype, split, device, comm)

    @_documented(out=_OUT)
    def standard_normal(
        self, size=None, dtype=None, out=None, *, split=None, device=None, comm=None
    ) -> DNDarray:
        """Draw normal variates of mean 0 and variance 1.

        {distribution}

        Parameters
        ----------
        size : int or tuple of int, optional
            Global shape.
        {common}

        Notes
        -----
        G. E. P. Box and M. E. Muller, "A note on the generation of random normal deviates", Ann. Math. Statist.
        29 (1958), doi 10.1214/aoms/1177706645. The largest magnitudes are 8.6 in float64 and 6.7 in the others.
        """
        return self._floats("standard_normal", normal, size, dtype, out, split, device, comm)

    @_documented()
    def normal(
        self, loc=0.0, scale=1.0, size=None, dtype=None, *, split=None, device=None, comm=None
    ) -> DNDarray:
        """Draw normal variates of mean `loc` and standard deviation `scale`.

        {distribution}

        Parameters
        ----------
        loc, scale : float or array_like
            Mean and standard deviation (non-negative); arrays broadcast with `size`.
        size : int or tuple of int, optional
            Global shape.
        {common}

        Raises
        ------
        ValueError
            If `scale` is a negative number or NaN.
        """
        if is_scalar(scale):
            check_scale("normal", scale)
        if is_scalar(loc) and is_scalar(scale):
            loc, scale = float(loc), float(scale)
            return self._floats(
                "normal", lambda kind: normal(kind, loc, scale), size, dtype, None, split, device, comm
            )
        return self._affine(_NORMAL, (loc, scale), normal, size, dtype, split, device, comm)

    @_documented(out=_OUT)
    def standard_exponential(
        self, size=None, dtype=None, out=None, *, split=None, device=None, comm=None
    ) -> DNDarray:
        """Draw exponential variates of mean 1.

        {distribution}

        Parameters
        ----------
        size : int or tuple of int, optional
            Global shape.
        {common}
        """
        return self._floats("standard_exponential", exponential, size, dtype, out, split, device, comm)

    @_documented()
    def exponential(
        self, scale=1.0, size=None, dtype=None, *, split=None, device=None, comm=None
    ) -> DNDarray:
        """Draw exponential variates of mean `scale`.

        {distribution}

        Parameters
        ----------
        scale : float or array_like
            Mean, non-negative; an array broadcasts with `size`.
        size : int or tuple of int, optional
            Global shape.
        {common}

        Raises
        ------
        ValueError
            If `scale` is a negative number or NaN.
        """
        if is_scalar(scale):
            scale = float(scale)
            check_scale("exponential", scale)
            return self._floats(
                "exponential", lambda kind: exponential(kind, scale), size, dtype, None, split, device, comm
            )
        return self._affine(_EXPONENTIAL, (scale,), exponential, size, dtype, split, device, comm)

    # -- integers ---------------------------------------------------------------------------------------------------

    @_documented(_INTEGERS)
    def integers(
        self,
        low,
        high=None,
        size=None,
        dtype=types.int64,
        endpoint=False,
        *,
        split=None,
        device=None,
        comm=None,
    ) -> DNDarray:
        """Draw integers from [low, high), or [low, high] with `endpoint`; each is exactly equally likely.

        {distribution}

        Parameters
        ----------
        low, high : int
            Ends of the range; a single one is `high`, with `low` 0. The full range of any type is fine.
        size : int or tuple of int, optional
            Global shape.
        endpoint : bool
            Include `high`.
        {common}

        Raises
        ------
        ValueError
            If the range is empty or does not fit the type.
        TypeError
            If an end is not an integer.

        Notes
        -----
        D. Lemire, "Fast random integer generation in an interval", ACM TOMACS 29 (2019), doi 10.1145/3230636.
        """
        kind = types.canonical(dtype)
        low, span = integer_range("integers", low, high, kind, endpoint)
        return self._filled("integers", integers(low, span), size, kind.torch, None, split, device, comm)

    def random_integers(
        self, low, high=None, size=None, dtype=types.int64, *, split=None, device=None, comm=None
    ) -> DNDarray:
        """Draw integers from [low, high], or from [1, low]; as :meth:`integers` with ``endpoint=True``. No message."""
        low, high = (1, low) if high is None else (low, high)
        return self.integers(low, high, size, dtype, True, split=split, device=device, comm=comm)

    def bytes(self, length: int) -> bytes:
        """Return `length` random bytes, the same on every rank. No message.

        Raises
        ------
        ValueError, TypeError
            If `length` is not an integer in [0, 2**40).
        """
        length = in_range("bytes", "length", length, 1 << 40)
        words = torch.empty(-(-length // 8), dtype=torch.int64, device="cpu")
        fill(words, raw(), self._next_key())
        return words.numpy().astype("<i8", copy=False).tobytes()[:length]

    # -- how ----------------------------------------------------------------------------------------------------------

    def _floats(
        self, op, draw: Callable[[torch.dtype], Draw], size, dtype, out, split, device, comm
    ) -> DNDarray:
        kind = result_type(op, dtype, out, False)
        return self._filled(op, draw(kind.torch), size, kind.torch, out, split, device, comm)

    def _affine(
        self, row: Distribution, values, draw: Callable[[torch.dtype], Draw], size, dtype, split, device, comm
    ) -> DNDarray:
        """Scale and shift standard variates by array parameters; the kernel of `row` gives factor and shift."""
        kind = result_type(row.name, dtype, None, False)
        out, parameters = aligned(self, row, values, kind, size, None, split, device, comm)
        fill_array(out, draw(kind.torch), self._next_key())
        factor, shift = row.kernel(*parameters)
        out.larray.mul_(factor).add_(shift)
        return out

    def _filled(self, op, draw: Draw, size, kind: torch.dtype, out, split, device, comm) -> DNDarray:
        """Fill `out` or a new array; everything is checked before the call is counted."""
        if out is None:
            out = self._empty(op, size, kind, split, device, comm)
        elif size is not None and normalize_shape(size, op) != out.shape:
            raise LayoutError(f"{op}: size must be the shape of out, {out.shape}, got {size}")
        fill_array(out, draw, self._next_key())
        return out

    def _empty(self, op, size, kind: torch.dtype, split, device, comm) -> DNDarray:
        shape = () if size is None else normalize_shape(size, op)
        split = normalize_split(split, len(shape), op)
        place = sanitize_device(device).torch_device
        comm = self._comm(comm)
        layout = Layout.even(shape, split, comm.size)
        return DNDarray(torch.empty(layout.lshape(comm.rank), dtype=kind, device=place), layout, comm)


def _restore(state: dict, comm: Communicator | None = None) -> Generator:
    made = Generator(0, comm=comm)
    made.set_state(state)
    return made


def _checked_seed(op: str, seed: object, comm: Communicator | None) -> int:
    if seed is None:
        entropy = np.array([secrets.randbits(64)], dtype=np.uint64)
        return int((get_comm() if comm is None else comm).bcast(entropy, root=0)[0])
    return in_range(op, "seed", seed, 1 << 64)


# Rows of the categories are methods like those written out above.
for _name, _method in {**continuous.METHODS, **discrete.METHODS}.items():
    setattr(Generator, _name, _method)
