"""`vmap`: a function of one sample applied to every sample of distributed arrays.

Samples lie along one axis of each argument. Where that is the split axis every rank maps over its own samples with
``torch.vmap`` and nothing is sent.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Sequence

import torch

from .dndarray import DNDarray
from .engines.elementwise import common_comm
from .engines.recording import differentiable
from .engines.redistribution import redistribute
from .errors import LayoutError
from .layout import Layout, normalize_axis
from .random import randint

_RANDOMNESS = ("error", "same", "different")
# Ranks that are threads share torch's generator.
_one_at_a_time = threading.Lock()


def vmap(
    func: Callable,
    in_dims: object = "split",
    out_dims: int | Sequence[int | None] | None = 0,
    randomness: str = "error",
    *,
    chunk_size: int | None = None,
) -> Callable:
    """Return a function that maps `func`, a function of one sample, over the samples of distributed arrays.

    *Distribution*: every rank maps over its own samples; no message where the mapped axis is the split axis or the
    array is replicated (then the rank takes its part of it). An array that is split along another axis is brought to
    the mapped one by one redistribution; samples whose counts differ between arrays move to those of the first one.
    The results are split along `out_dims`, with the counts of the samples; replicated if all arrays are.

    Parameters
    ----------
    func : callable
        Takes torch tensors, one sample of each array; returns a tensor or a tuple of them. Must be one that
        ``torch.vmap`` can map: no data-dependent branches. Numbers and torch tensors among the arguments are the
        same for all samples.
    in_dims : int, None or sequence of these
        The mapped axis of each positional argument; None: the same for all samples, for which an array must be
        replicated. The default maps arrays over their split axis and replicated arrays not at all (over axis 0 if
        no array is split).
    out_dims : int, None or sequence of these
        Where the samples lie in each result; None: the result does not depend on the sample.
    randomness : {"error", "same", "different"}
        What random functions of torch do within `func`: raise; draw the same for all samples, which is the same for
        any number of ranks; draw anew for each sample, reproducibly for given layouts, but depending on the number
        of ranks and on `chunk_size`. The draws follow from ``ht.random.seed``.
    chunk_size : int, optional
        Map at most so many samples at a time, which bounds the memory of intermediate results.

    Returns
    -------
    callable
        With the arguments of `func`; keyword arguments are the same for all samples. Gradients pass through it.

    Raises
    ------
    LayoutError
        From `vmap`, if `randomness` or `chunk_size` is none of these; from the function, if nothing is mapped, the
        numbers of samples differ, an axis is out of range or an array that is not mapped is split.

    Examples
    --------
    >>> x = ht.arange(6, dtype=ht.float64, split=0).reshape(3, 2)
    >>> ht.vmap(lambda row: row.sum() * row)(x).numpy().tolist()
    [[0.0, 1.0], [10.0, 15.0], [36.0, 45.0]]
    >>> ht.vmap(lambda row, w: (row @ w, row.max()), in_dims=(0, None))(x, ht.ones(2, dtype=ht.float64))[0].numpy()
    array([1., 5., 9.])
    """
    if randomness not in _RANDOMNESS:
        raise LayoutError(f"vmap: randomness must be one of {', '.join(_RANDOMNESS)}, got {randomness!r}")
    if chunk_size is not None and (not hasattr(chunk_size, "__index__") or chunk_size < 1):
        raise LayoutError(f"vmap: chunk_size must be a positive integer or None, got {chunk_size!r}")

    def call(*args: object, **kwargs: object) -> object:
        for name, value in kwargs.items():
            if isinstance(value, DNDarray):
                raise LayoutError(f"vmap: arrays must be positional arguments, got {name}")
        axes = _mapped_axes(in_dims, args)
        samples, comm, parts = _align(args, axes)
        mapped = functools.partial(func, **kwargs)
        stream = comm.rank if randomness == "different" else 0
        run = functools.partial(_run, mapped, axes, out_dims, randomness, stream)
        results = (
            run(parts, chunk_size) if samples.lshape(comm.rank)[0] else _shapes(run, parts, axes, out_dims)
        )
        return _wrap(results, out_dims, samples, comm)

    return functools.wraps(func)(differentiable(call))


def _mapped_axes(in_dims: object, args: tuple) -> tuple[int | None, ...]:
    """Return the mapped axis of each argument, None where there is none."""
    if isinstance(in_dims, str) and in_dims == "split":
        found = tuple(x.split if isinstance(x, DNDarray) else None for x in args)
        if all(axis is None for axis in found):
            found = tuple(0 if isinstance(x, DNDarray) else None for x in args)
    elif isinstance(in_dims, (tuple, list)):
        found = tuple(in_dims)
    else:
        found = tuple(in_dims if isinstance(x, (DNDarray, torch.Tensor)) else None for x in args)
    if len(found) != len(args):
        raise LayoutError(f"vmap: in_dims must have {len(args)} entries, one for each argument, got {found}")
    axes = []
    for number, (x, axis) in enumerate(zip(args, found)):
        if axis is not None and not isinstance(x, (DNDarray, torch.Tensor)):
            raise LayoutError(f"vmap: in_dims[{number}] must be None for a {type(x).__name__}, got {axis}")
        axes.append(None if axis is None else normalize_axis(axis, x.ndim, "vmap", f"in_dims[{number}]"))
    if all(axis is None for axis in axes):
        raise LayoutError("vmap: at least one argument must be mapped, got in_dims without an axis")
    return tuple(axes)


def _align(args: tuple, axes: tuple[int | None, ...]) -> tuple[Layout, object, list]:
    """Return the layout of the samples, the communicator, and what this rank maps over."""
    arrays = [x for x in args if isinstance(x, DNDarray)]
    comm = common_comm(arrays, "vmap")
    extents = {x.shape[axis] for x, axis in zip(args, axes) if axis is not None}
    if len(extents) != 1:
        raise LayoutError(f"vmap: mapped axes must have equal extents, got {sorted(extents)}")
    (extent,) = extents
    samples = Layout((extent,), None)
    for number, (x, axis) in enumerate(zip(args, axes)):
        if not isinstance(x, DNDarray) or x.split is None:
            continue
        if axis is None:
            raise LayoutError(
                f"vmap: args[{number}] must be mapped or replicated, got an array split along axis {x.split}; "
                "use resplit(x, None)"
            )
        if x.split == axis and samples.split is None:
            samples = Layout((extent,), 0, x.layout.counts)
    if samples.split is None and any(x.split is not None for x in arrays):
        samples = Layout.even((extent,), 0, comm.size)
    parts = []
    for x, axis in zip(args, axes):
        if axis is None:
            parts.append(x.larray if isinstance(x, DNDarray) else x)
            continue
        if not isinstance(x, DNDarray):
            x = DNDarray(x, Layout(tuple(x.shape), None), comm)
        target = Layout(x.shape, None if samples.split is None else axis, samples.counts)
        parts.append(redistribute(x.larray, x.layout, target, comm))
    return samples, comm, parts


def _shapes(run: Callable, parts: list, axes: tuple, out_dims: object) -> object:
    """Return the results of a rank without samples: found by one made-up sample, of which nothing is kept."""
    one = [
        x if axis is None else torch.ones([1 if a == axis else m for a, m in enumerate(x.shape)]).to(x)
        for x, axis in zip(parts, axes)
    ]
    made = run(one, None)
    dims = out_dims if isinstance(out_dims, (tuple, list)) else (out_dims,) * len(_listed(made))
    kept = [y if d is None else y.narrow(d, 0, 0) for y, d in zip(_listed(made), dims)]
    # Joined to the operands: on all ranks the result depends on them.
    empty = [x.reshape(-1)[:0].sum() for x in parts if isinstance(x, torch.Tensor) and x.requires_grad]
    kept = [y.detach() + sum(empty) if empty and y.is_floating_point() else y for y in kept]
    return tuple(kept) if isinstance(made, (tuple, list)) else kept[0]


def _run(
    func: Callable,
    axes: tuple,
    out_dims: object,
    randomness: str,
    stream: int,
    parts: list,
    chunk_size: int | None,
) -> object:
    dims = out_dims if out_dims is None or hasattr(out_dims, "__index__") else tuple(out_dims)
    mapped = torch.vmap(func, tuple(axes), dims, randomness, chunk_size=chunk_size)
    if randomness == "error":
        return mapped(*parts)
    # Drawn on all ranks alike; ranks that are to have numbers of their own add their number.
    seed = int(randint(0, 2**62)) + stream
    devices = sorted({x.device.index or 0 for x in parts if isinstance(x, torch.Tensor) and x.is_cuda})
    with _one_at_a_time, torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        return mapped(*parts)


def _listed(results: object) -> list:
    return list(results) if isinstance(results, (tuple, list)) else [results]


def _wrap(results: object, out_dims: object, samples: Layout, comm) -> object:
    listed = _listed(results)
    dims = out_dims if isinstance(out_dims, (tuple, list)) else (out_dims,) * len(listed)
    made = []
    for local, axis in zip(listed, dims):
        shape = list(local.shape)
        if axis is None or samples.split is None:
            made.append(DNDarray(local, Layout(shape, None), comm))
            continue
        axis = normalize_axis(axis, local.ndim, "vmap", "out_dims")
        shape[axis] = samples.shape[0]
        made.append(DNDarray(local, Layout(shape, axis, samples.counts), comm))
    return tuple(made) if isinstance(results, (tuple, list)) else made[0]
