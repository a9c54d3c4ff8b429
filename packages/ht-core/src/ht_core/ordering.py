"""Random orders and choices: permutations of numbers, rows and slices, and draws from a set, as methods.

Everything is a function of (seed, call, index): no rank needs to hear from another to know where its elements go.
See :mod:`ht_core.permutation` for the permutations themselves.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from . import types
from .dndarray import DNDarray
from .draws import exponential, fill, raw
from .engines.creation import normalize_shape
from .engines.indexing import bits
from .engines.redistribution import redistribute
from .errors import DTypeError, LayoutError
from .layout import Layout, normalize_axis
from .permutation import LARGEST, Permutation, move_rows
from .philox import Key
from .random_arguments import as_array, in_range, probabilities
from .sampling import fill_range, runs_of

#: Elements of slices that are ordered at once.
SLICES = 1 << 20


class Orderings:
    """The methods of ``Generator`` that reorder and choose."""

    __slots__ = ()

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

    def permuted(self, x, axis=None, *, out=None) -> DNDarray:
        """Return an array whose slices along an axis are each in a random order of their own.

        Parameters
        ----------
        x : array_like
            Not changed (unless it is `out`).
        axis : int, optional
            The slices run along it; without it, all elements are in one random order.
        out : DNDarray, optional
            Where the result is written; of the shape, dtype and layout of `x`.

        Returns
        -------
        DNDarray
            Of the shape, dtype and layout of `x`.

        Raises
        ------
        LayoutError
            If `axis` is out of range, `x` is 0-D or `out` does not fit.
        TypeError
            If `out` is not a DNDarray.

        Notes
        -----
        *Distribution*: the layout stays. No message along another axis than the split one; along the split one, and
        without `axis`, up to two redistributions and at most one exchange, in each of which an element is sent once at
        most. Slices are ordered by random 64-bit words, one per element; vectors, and all elements without `axis`, as
        by :meth:`permutation`.

        Examples
        --------
        >>> x = ht.arange(6, split=0).reshape(2, 3)
        >>> ht.sort(ht.random.default_rng(2).permuted(x, axis=1), axis=1).numpy().tolist()
        [[0, 1, 2], [3, 4, 5]]
        """
        x = as_array("permuted", x, None, None, self.comm)
        axis = None if axis is None else normalize_axis(axis, x.ndim, "permuted")
        if out is not None and not isinstance(out, DNDarray):
            raise TypeError(f"permuted: out must be a DNDarray, got {type(out).__name__}")
        if out is not None and (out.layout is not x.layout or out.larray.dtype is not x.larray.dtype):
            raise LayoutError(f"permuted: out must have the layout {x.layout} and dtype {x.dtype} of x")
        key, comm, whole = self._next_key(), x.comm, axis is None or x.ndim == 1
        ways = [a for a in range(x.ndim) if (a == 0 if whole else a != axis)]
        if x.split in (None, *ways):
            layout = x.layout
        else:  # bring each slice to one rank, along the longest of the other axes
            layout = Layout.even(x.shape, max(ways, key=x.shape.__getitem__), comm.size)
        local = redistribute(x.larray, x.layout, layout, comm)
        if whole:
            inner = math.prod(x.shape[1:])
            counts = tuple(n * inner for n in layout.counts)
            flat = Layout((x.size,), None if layout.split is None else 0, counts)
            order = Permutation(x.size, key)
            local = move_rows(local.reshape(-1), flat, comm, order, 0).view(layout.lshape(comm.rank))
        else:
            local = _ordered_slices(local, layout, comm.rank, axis, key)
        local = redistribute(local, layout, x.layout, comm)
        if out is None:
            return DNDarray(local, x.layout, comm)
        out.larray.copy_(local)
        return out

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

    def _order(self, op, n, size, dtype, split, device, comm) -> DNDarray:
        """Return the first places of a permutation of `n`, in the shape `size`."""
        n = in_range(op, "n" if op == "randperm" else "a" if op == "choice" else "x", n, LARGEST)
        kind = types.canonical(dtype)
        if kind.kind not in "iu" or n > types.iinfo(kind).max + 1:
            raise DTypeError(f"{op}: dtype must be an integer type that holds {n - 1}, got {kind}")
        out = self._empty(op, size, kind.torch, split, device, comm)
        order = Permutation(n, self._next_key())
        start, runs, length, stride = runs_of(out.layout, out.comm.rank)
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


def _ordered_slices(local: torch.Tensor, layout: Layout, rank: int, axis: int, key: Key) -> torch.Tensor:
    """Return `local` with each slice along `axis`, which is not split, in the order of its random words."""
    others = [a for a in range(layout.ndim) if a != axis]
    rows = layout.permute([*others, axis]).drop((layout.ndim - 1,))
    start, _, length, stride = runs_of(rows, rank)
    n = layout.shape[axis]
    runs = (start * n, max(length, 1) * n, stride * n)
    result = torch.empty_like(local, memory_format=torch.contiguous_format)
    source, target = bits(local).movedim(axis, -1), bits(result).movedim(axis, -1)
    first = 0
    for piece in _pieces(source.shape[:-1], max(1, SLICES // max(n, 1))):
        some = source[piece]
        words = torch.empty(some.numel(), dtype=torch.int64, device=local.device)
        fill_range(words, raw(), key, runs, first, 1)
        order = words.view(some.shape).argsort(dim=-1, stable=True)
        target[piece] = some.gather(-1, order)
        first += words.numel()
    return result


def _pieces(shape: tuple[int, ...], most: int):
    """Yield index tuples that cut `shape`, in C order, into runs of at most `most` elements."""
    inner = math.prod(shape[1:])
    if inner > most:
        for i in range(shape[0]):
            yield from ((i, *rest) for rest in _pieces(shape[1:], most))
        return
    step = max(1, most // max(inner, 1))
    for i in range(0, shape[0], step):
        yield (slice(i, i + step),)
