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

from . import types
from .devices import sanitize_device
from .dndarray import DNDarray
from .draws import Draw, exponential, fill, integers, normal, raw, uniform
from .engines.creation import normalize_shape, normalize_split
from .errors import DTypeError, LayoutError
from .layout import Layout, normalize_axis
from .permutation import LARGEST, Permutation, move_rows
from .philox import Key
from .random_arguments import (
    as_array,
    check_scale,
    in_range,
    integer_range,
    is_scalar,
    joint_shape,
    probabilities,
)

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
_FLOATS = "float64 (the default), float32, float16 or bfloat16."
_INTEGERS = "Any integer type or bool; int64 by default."


def _documented(dtypes: str = _FLOATS, out: str = ""):
    """Complete the docstring of a method that makes an array."""

    def complete(method):
        common = _COMMON.replace("{dtypes}", dtypes).replace("{out}", out)
        text = inspect.cleandoc(method.__doc__)
        method.__doc__ = text.replace("{common}", common).replace("{distribution}", _DISTRIBUTION)
        return method

    return complete


class Generator:
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
        size, split = joint_shape("uniform", size, split, low, high)
        u = self.random(size, dtype, split=split, device=device, comm=comm)
        return u * (high - low) + low

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
        size, split = joint_shape("normal", size, split, loc, scale)
        z = self.standard_normal(size, dtype, split=split, device=device, comm=comm)
        return z * scale + loc

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
        size, split = joint_shape("exponential", size, split, scale)
        return self.standard_exponential(size, dtype, split=split, device=device, comm=comm) * scale

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

    # -- permutations -----------------------------------------------------------------------------------------------

    def permutation(self, x, axis=0, *, split=None, device=None, comm=None) -> DNDarray:
        """Return the numbers 0..x-1 or the rows of an array in random order.

        Parameters
        ----------
        x : int or array_like
            The number of integers, or the array whose entries along `axis` are reordered. Not changed.
        axis : int
            For an array, the axis.
        split, device, comm
            For an integer, as in :meth:`random`; an array keeps its own.

        Returns
        -------
        DNDarray
            int64 of shape (x,), or of the shape, dtype and layout of `x`.

        Raises
        ------
        ValueError
            If the number is not in [0, 2**48), the array is 0-D or `axis` out of range.

        Notes
        -----
        *Distribution*: the split stays. No message, except along the split axis of an array: one exchange, in which
        each row that changes its rank is sent once. ``permutation(x)`` moves the rows as ``permutation(len(x))``
        orders the numbers. See :mod:`ht_core.permutation` for the method and its quality.

        Examples
        --------
        >>> ht.random.default_rng(1).permutation(6, split=0).numpy().tolist()
        [3, 4, 2, 0, 5, 1]
        """
        if hasattr(x, "__index__") and not isinstance(x, DNDarray):
            return self._order("permutation", x, x, types.int64, split, device, comm)
        x = as_array("permutation", x, split, device, comm)
        axis = normalize_axis(axis, x.ndim, "permutation")
        order = Permutation(x.shape[axis], self._next_key())
        return DNDarray(move_rows(x.larray, x.layout, x.comm, order, axis), x.layout, x.comm)

    def randperm(self, n, dtype=types.int64, *, split=None, device=None, comm=None) -> DNDarray:
        """Return the numbers 0..n-1 in random order, of integer type `dtype`; see :meth:`permutation`. No message."""
        return self._order("randperm", n, n, dtype, split, device, comm)

    def shuffle(self, x, axis=0) -> None:
        """Reorder the rows of an array in place; as :meth:`permutation`, with the same cost.

        Parameters
        ----------
        x : DNDarray
            Changed in place.
        axis : int
            The axis whose entries are reordered.

        Raises
        ------
        TypeError
            If `x` is not a DNDarray.
        LayoutError
            If `axis` is out of range.
        """
        if not isinstance(x, DNDarray):
            raise TypeError(f"shuffle: x must be a DNDarray, got {type(x).__name__}; use permutation(x)")
        x.larray.copy_(self.permutation(x, axis).larray)

    def choice(
        self, a, size=None, replace=True, p=None, axis=0, shuffle=True, *, split=None, device=None, comm=None
    ) -> DNDarray:
        """Draw from the numbers 0..a-1 or from the entries of an array.

        Parameters
        ----------
        a : int or array_like
            The number of integers, or the array.
        size : int or tuple of int, optional
            Number of draws; a tuple gives the shape.
        replace : bool
            Draw with replacement.
        p : array_like of float, optional
            Probabilities of the entries, shape (n,); they must add up to 1. Held by every rank (a split array is
            gathered: 8 n bytes).
        axis : int
            The axis of `a` from which entries are drawn.
        shuffle : bool
            Accepted as in NumPy; draws without replacement are in random order anyhow.
        split : int, optional
            The axis along which the drawn numbers are cut.
        device, comm
            As in :meth:`random`.

        Returns
        -------
        DNDarray
            int64 of shape `size`, or the entries: `a` with `axis` replaced by `size`.

        Raises
        ------
        LayoutError
            If `size` is larger than the number of entries without replacement, or the shapes do not fit.
        ValueError
            If `a` is empty or `p` is not a probability distribution.

        Notes
        -----
        *Distribution*: no message for numbers with a replicated or absent `p`. For an array, that of
        ``a[numbers]``. Without replacement and without `p`, the draws are the first places of a random
        permutation: no work or memory of the size of `a`. Without replacement and with `p`, they are the winners of
        an exponential race with the rates `p`, which is the same as drawing one after the other.
        """
        array = None if hasattr(a, "__index__") and not isinstance(a, DNDarray) else a
        if array is not None:
            array = as_array("choice", array, None, device, comm)
            axis = normalize_axis(axis, array.ndim, "choice")
            comm, device = array.comm, array.device
        n = in_range("choice", "a", a, 1 << 62) if array is None else array.shape[axis]
        shape = () if size is None else normalize_shape(size, "choice")
        count = math.prod(shape)
        if n == 0 and count:
            raise ValueError("choice: a must not be empty")
        weights = None if p is None else probabilities(p, n)
        if not replace and count > (n if weights is None else int((weights > 0).sum())):
            raise LayoutError(
                f"choice: size must be at most the number of entries that can be drawn without replacement, got {size}"
            )
        if replace:
            numbers = self._chosen(n, shape, weights, split, device, comm)
        elif weights is None:
            numbers = self._order("choice", n, shape, types.int64, split, device, comm)
        else:
            numbers = self._raced(weights, shape, split, device, comm)
        return numbers if array is None else array[(*(slice(None),) * axis, numbers)]

    # -- how ----------------------------------------------------------------------------------------------------------

    def _floats(
        self, op, draw: Callable[[torch.dtype], Draw], size, dtype, out, split, device, comm
    ) -> DNDarray:
        if out is not None and not isinstance(out, DNDarray):
            raise TypeError(f"{op}: out must be a DNDarray, got {type(out).__name__}")
        given = types.float64 if out is None else out.dtype
        kind = given if dtype is None else types.canonical(dtype)
        if kind.kind != "f" or (kind is not given and out is not None):
            wanted = "a real floating type" if out is None or given.kind != "f" else f"that of out ({given})"
            raise DTypeError(f"{op}: dtype must be {wanted}, got {kind}")
        return self._filled(op, draw(kind.torch), size, kind.torch, out, split, device, comm)

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

    def _order(self, op, n, size, dtype, split, device, comm) -> DNDarray:
        """Return the first places of a permutation of `n`, in the shape `size`."""
        n = in_range(op, "n" if op == "randperm" else "a" if op == "choice" else "x", n, LARGEST)
        kind = types.canonical(dtype)
        if kind.kind not in "iu" or n > types.iinfo(kind).max + 1:
            raise DTypeError(f"{op}: dtype must be an integer type that holds {n - 1}, got {kind}")
        out = self._empty(op, size, kind.torch, split, device, comm)
        order = Permutation(n, self._next_key())
        start, runs, length, stride = _runs(out.layout, out.comm.rank)
        places = start + stride * np.arange(runs)[:, None] + np.arange(length)
        out.larray.copy_(order.image(torch.from_numpy(places)).view(out.lshape))
        return out

    def _chosen(self, n: int, shape, weights: np.ndarray | None, split, device, comm) -> DNDarray:
        """Draw numbers below `n` with replacement."""
        if weights is None:
            return self.integers(0, max(n, 1), shape, split=split, device=device, comm=comm)
        u = self.random(shape, split=split, device=device, comm=comm)
        edges = torch.from_numpy(np.cumsum(weights)).to(u.larray.device)
        # The last edge may fall short of 1 by rounding; entries without probability have no interval.
        numbers = torch.searchsorted(edges, u.larray * edges[-1], right=True)
        return DNDarray(numbers.clamp_(max=int(np.flatnonzero(weights)[-1])), u.layout, u.comm)

    def _raced(self, weights: np.ndarray, shape, split, device, comm) -> DNDarray:
        """Draw without replacement: the first arrivals of independent exponential clocks."""
        out = self._empty("choice", shape, torch.int64, split, device, comm)
        arrivals = torch.empty(len(weights), dtype=torch.float64, device="cpu")
        fill(arrivals, exponential(torch.float64), self._next_key())
        with np.errstate(divide="ignore", invalid="ignore"):
            times = np.where(weights > 0, arrivals.numpy() / weights, np.inf)
        first = np.argsort(times, kind="stable")[: math.prod(shape)].reshape(shape)
        out.larray.copy_(torch.as_tensor(first[out.layout.slices(out.comm.rank)]))
        return out


def fill_array(out: DNDarray, draw: Draw, key: Key) -> None:
    """Write into `out`, of any layout, the variates of its elements' places in the flattened array. No message."""
    local = out.larray.detach()
    if local.numel() == 0:
        return
    start, runs, length, stride = _runs(out.layout, out.comm.rank)
    target = (
        local if local.is_contiguous() else torch.empty(out.lshape, dtype=local.dtype, device=local.device)
    )
    fill(target.view(runs, length), draw, key, start, stride)
    if target is not local:
        local.copy_(target)


def _runs(layout: Layout, rank: int) -> tuple[int, int, int, int]:
    """Return (start, runs, length, stride) of the part of `rank` in the flattened global array (C order)."""
    if layout.split is None:
        return 0, 1, layout.size, max(layout.size, 1)
    inner = math.prod(layout.shape[layout.split + 1 :])
    stride = layout.shape[layout.split] * inner
    runs = math.prod(layout.shape[: layout.split])
    return layout.displs[rank] * inner, runs, layout.counts[rank] * inner, max(stride, 1)


def _restore(state: dict, comm: Communicator | None = None) -> Generator:
    made = Generator(0, comm=comm)
    made.set_state(state)
    return made


def _checked_seed(op: str, seed: object, comm: Communicator | None) -> int:
    if seed is None:
        entropy = np.array([secrets.randbits(64)], dtype=np.uint64)
        return int((get_comm() if comm is None else comm).bcast(entropy, root=0)[0])
    return in_range(op, "seed", seed, 1 << 64)
