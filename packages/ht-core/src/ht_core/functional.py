"""Python functions over arrays: `apply_along_axis`, `apply_over_axes`, `vectorize`.

They call Python for every line or element, in parallel on all ranks; ``vmap`` and the operations of this package are
faster where they apply.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from . import types
from .devices import sanitize_device
from .dndarray import DNDarray
from .engines.elementwise import as_operand, common_comm, plan_elementwise
from .engines.redistribution import redistribute
from .errors import LayoutError
from .layout import Layout, normalize_axis
from .registry import register


def apply_along_axis(func1d: Callable, axis: int, arr: object, *args: object, **kwargs: object) -> DNDarray:
    """Apply a function of a NumPy vector to every line of an array along one axis.

    *Distribution*: no message where `axis` is not the split axis; the split stays. Otherwise the array is first split
    along its longest other axis, by one redistribution; a vector, which is one line, is brought to every rank. Where
    some ranks have no lines, one small broadcast tells them the shape and dtype of the results.

    Parameters
    ----------
    func1d : callable
        ``func1d(line, *args, **kwargs)`` -> scalar or NumPy array, of the same shape for all lines.
    axis : int
        The axis along which the lines run.
    arr : array_like
        Of shape (A..., n, B...).

    Returns
    -------
    DNDarray
        Of shape (A..., *S, B...), S being the shape of what `func1d` returns.

    Raises
    ------
    LayoutError
        If `axis` is out of range or there are no lines.

    Examples
    --------
    >>> ht.apply_along_axis(np.ptp, 1, ht.arange(6, split=0).reshape(3, 2)).numpy().tolist()
    [1, 1, 1]
    """
    op = "apply_along_axis"
    x = _as_array(arr, op)
    axis = normalize_axis(axis, x.ndim, op)
    rest = [a for a in range(x.ndim) if a != axis]
    if any(x.shape[a] == 0 for a in rest):
        raise LayoutError(f"{op}: there must be at least one line, got shape {x.shape}")
    layout = x.layout
    if layout.split == axis:
        longest = max(rest, key=lambda a: x.shape[a], default=None)
        layout = Layout.even(x.shape, longest, x.comm.size)
    local = _as_numpy(redistribute(x.larray, x.layout, layout, x.comm))
    mine = 0 if layout.split is not None and layout.counts[x.comm.rank] == 0 else 1
    made = np.apply_along_axis(func1d, axis, local, *args, **kwargs) if mine else None
    if layout.split is None:
        return _from_numpy(made, Layout(made.shape, None), x)
    made = _agreed(
        [made], layout.counts, x.comm, layout.split if layout.split < axis else layout.split - x.ndim
    )[0]
    split = layout.split if layout.split < axis else made.ndim + layout.split - x.ndim
    shape = (*made.shape[:split], x.shape[layout.split], *made.shape[split + 1 :])
    return _from_numpy(made, Layout(shape, split, layout.counts), x)


def _agreed(made: list, counts: Sequence[int], comm, split: int) -> list[np.ndarray]:
    """Return results also on ranks that have none: empty arrays of the shape and dtype that the first other rank has.

    *Distribution*: one broadcast of a small object where a rank has none.
    """
    if all(counts):
        return made
    root = next(rank for rank, n in enumerate(counts) if n)
    facts = comm.bcast_object([(y.shape, y.dtype.str) for y in made] if comm.rank == root else None, root)
    if counts[comm.rank]:
        return made
    empty = []
    for shape, dtype in facts:
        shape = list(shape)
        shape[split] = 0
        empty.append(np.empty(shape, dtype))
    return empty


def apply_over_axes(func: Callable, a: object, axes: int | Sequence[int]) -> DNDarray:
    """Apply a reduction over several axes, one after the other, keeping them with extent 1.

    *Distribution*: as ``func(a, axis)`` for each of the axes.

    Parameters
    ----------
    func : callable
        ``func(array, axis)`` -> an array with or without that axis.
    a : array_like
    axes : int or sequence of int

    Raises
    ------
    LayoutError
        If an axis is out of range or `func` returns an array of another number of axes.

    Examples
    --------
    >>> ht.apply_over_axes(ht.sum, ht.ones((2, 3, 4), split=1), [0, 2]).shape
    (1, 3, 1)
    """
    from .manipulation import expand_dims

    x = _as_array(a, "apply_over_axes")
    for axis in (axes,) if hasattr(axes, "__index__") else axes:
        axis = normalize_axis(axis, x.ndim, "apply_over_axes")
        y = func(x, axis)
        if y.ndim == x.ndim - 1:
            y = expand_dims(y, axis)
        if y.ndim != x.ndim:
            raise LayoutError(
                f"apply_over_axes: func must keep or drop the axis, got shape {y.shape} from {x.shape}"
            )
        x = y
    return x


class vectorize:
    """A Python function of numbers as a function of arrays; see :class:`numpy.vectorize`.

    *Distribution*: as an elementwise operation: no message where the layouts are equal or operands are replicated.
    Without `otypes` the dtype of a result follows from the first element, which the other ranks are told: one broadcast
    of a small object (none where all operands are replicated).

    Parameters
    ----------
    pyfunc : callable
        Takes and returns Python or NumPy scalars; may return a tuple.
    otypes : str or sequence of dtypes, optional
        Dtypes of the results.
    doc : str, optional
        Docstring; by default that of `pyfunc`.
    excluded : set of int or str, optional
        Arguments, by position or name, that are passed as they are.

    Examples
    --------
    >>> step = ht.vectorize(lambda a, b: a if a > b else 2 * b)
    >>> step(ht.arange(4, split=0), 1).numpy().tolist()
    [2, 2, 2, 3]
    """

    def __init__(
        self,
        pyfunc: Callable,
        otypes: object = None,
        doc: str | None = None,
        excluded: set | None = None,
    ) -> None:
        self.pyfunc, self.excluded = pyfunc, set() if excluded is None else set(excluded)
        names = None if otypes is None else list(otypes)
        self.otypes = (
            None
            if names is None
            else [types.canonical(np.dtype(t) if isinstance(t, str) else t) for t in names]
        )
        self.__doc__ = pyfunc.__doc__ if doc is None else doc
        self.__name__ = getattr(pyfunc, "__name__", "vectorize")

    def __call__(self, *args: object, **kwargs: object):
        """Apply the function to the elements of the arguments, which broadcast."""
        op = "vectorize"
        keys = [i for i in range(len(args)) if i not in self.excluded]
        keys += [name for name in kwargs if name not in self.excluded]
        values = [args[k] if isinstance(k, int) else kwargs[k] for k in keys]
        comm = common_comm([x for x in values if isinstance(x, DNDarray)], op)
        device = next(
            (x.larray.device for x in values if isinstance(x, DNDarray)), sanitize_device(None).torch_device
        )
        arrays = [as_operand(x, comm, device, op) for x in values]
        plan = plan_elementwise(tuple(x.layout for x in arrays), comm.size, None, op)
        locals_ = [
            _as_numpy(redistribute(x.larray, x.layout, target, comm))
            for x, target in zip(arrays, plan.targets)
        ]

        def scalar(*elements: object) -> object:
            given, named = list(args), dict(kwargs)
            for key, element in zip(keys, elements):
                (given if isinstance(key, int) else named)[key] = element
            return self.pyfunc(*given, **named)

        layout = plan.layout
        if layout.size == 0 and self.otypes is None:
            raise LayoutError("vectorize: otypes must be given for arrays without elements, got None")
        made = self._local(scalar, locals_, layout.lshape(comm.rank))
        if self.otypes is None and layout.split is not None:
            made = self._with_dtypes_of_first(made, layout, comm)
        like = DNDarray(torch.empty(0, device=device), Layout((0,), None), comm)
        results = tuple(_from_numpy(y, layout, like) for y in made)
        return (
            results if len(results) > 1 or (self.otypes is not None and len(self.otypes) > 1) else results[0]
        )

    def _local(
        self, scalar: Callable, locals_: list[np.ndarray], lshape: tuple[int, ...]
    ) -> list[np.ndarray] | None:
        if 0 in lshape:
            return None if self.otypes is None else [np.empty(lshape, t.numpy) for t in self.otypes]
        otypes = None if self.otypes is None else [t.numpy for t in self.otypes]
        if not locals_:
            raise LayoutError("vectorize: at least one argument must be an array, got none")
        made = np.vectorize(scalar, otypes=otypes)(*np.broadcast_arrays(*locals_))
        return [y.reshape(lshape) for y in (made if isinstance(made, tuple) else (made,))]

    @staticmethod
    def _with_dtypes_of_first(made: list[np.ndarray] | None, layout: Layout, comm) -> list[np.ndarray]:
        root = next(rank for rank, n in enumerate(layout.counts) if n)
        dtypes = comm.bcast_object([y.dtype.str for y in made] if comm.rank == root else None, root)
        if made is None:
            return [np.empty(layout.lshape(comm.rank), t) for t in dtypes]
        return [y.astype(t, copy=False) for y, t in zip(made, dtypes)]


def _as_array(x: object, op: str) -> DNDarray:
    if isinstance(x, DNDarray):
        return x
    return as_operand(x, common_comm([], op), sanitize_device(None).torch_device, op)


def _as_numpy(local: torch.Tensor) -> np.ndarray:
    local = local.detach().cpu().resolve_conj()
    return (local.float() if local.dtype is torch.bfloat16 else local).numpy()


def _from_numpy(made: np.ndarray, layout: Layout, like: DNDarray) -> DNDarray:
    made = np.asarray(made)
    if made.dtype.kind not in types.ALL:
        raise types.DTypeError(f"apply: the function must return numbers, got {made.dtype}")
    local = torch.from_numpy(np.ascontiguousarray(made)).reshape(made.shape)
    return DNDarray(local.to(like.larray.device), layout, like.comm)


register(apply_along_axis, kind="functional", numpy="apply_along_axis", method=False)
register(apply_over_axes, kind="functional", numpy="apply_over_axes", method=False)
