"""Writing Zarr stores, version 3: every chunk, or shard, is encoded and written by one rank."""

from __future__ import annotations

import asyncio
import itertools
import json
import math
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from ht_comm import Communicator, plan_redistribution

from .npy import check_type
from .plan_write import Item, plan_items
from .replace import TemporaryFolder, sync_path
from .saving import save_file
from .selection import plan_chunks
from .storage import host_view
from .zarr_read import find_zarr

_OP = "save_zarr"
#: Bytes per rank that move, and are encoded, at once.
_PASS_BYTES = 32 << 20
_CHUNK_BYTES = 4 << 20


def save_zarr(
    x: object,
    path: str | os.PathLike,
    overwrite: bool = True,
    *,
    variable: str | None = None,
    dtype: object = None,
    chunks: object = None,
    shards: object = None,
    compressors: object = "auto",
    attrs: object = None,
    dims: object = None,
) -> None:
    """Save an array, or several at once, to a Zarr store of format 3. Collective.

    Parameters
    ----------
    x : DNDarray, or mapping from names to DNDarrays
        Any split, any counts. Tensors, NumPy arrays and numbers are taken too; they must be equal on all
        ranks. The names of a mapping are paths in a group: groups are made as needed.
    path : path
        Directory on a file system that all ranks share; its parent must exist.
    overwrite : bool
        Whether an existing store of that name is replaced, as a whole, or refused.
    variable : str, optional
        Name of a single array in a group; without it the store is the array.
    dtype : dtype, optional
        Element type in the store; by default that of `x`. The format has no bfloat16: give "float32".
    chunks : tuple of int, optional
        Chunk shape; by default of about 4 MiB.
    shards : tuple of int, optional
        Shape of the files that hold several chunks each: multiples of `chunks`. By default each chunk is a file.
    compressors : optional
        As zarr.create_array takes them: "auto" (Zstandard), None, or codecs of the zarr library.
    attrs : mapping, optional
        Attributes of the array, values that JSON holds; with a mapping `x`, a mapping from names to such mappings.
    dims : sequence of str or None, optional
        Names of the axes; with a mapping `x`, a mapping from names to such sequences.

    Distribution
    ------------
    Any split, which stays what it is. Ranks write whole chunks (or shards), so elements move where the parts of
    ranks do not end at their edges: one redistribution for every 32 MiB per rank, along the axis that gives most
    ranks something to write. A broadcast of a few integers and four agreements besides.

    Raises
    ------
    ImportError
        The zarr library is not installed: ``pip install 'ht-io[zarr]'``.
    OSError
        The store cannot be made, or the disk is full.
    ValueError, TypeError, DTypeError
        An argument does not fit.

    All ranks raise the same error, nothing is left behind, and a store that was there before is unchanged.

    Examples
    --------
    >>> import ht_core, ht_io
    >>> x = ht_core.arange(10, split=0)
    >>> ht_io.save_zarr({"x": x, "group/y": x * 2}, "two.zarr", attrs={"x": {"unit": "m"}})
    >>> ht_io.load_zarr("two.zarr", "group/y", split=0).sum().item()
    90
    """
    zarr = find_zarr(_OP)
    if not isinstance(overwrite, bool):
        raise TypeError(f"{_OP}: overwrite must be True or False, got {overwrite!r}")
    is_root = not isinstance(x, Mapping) and variable is None
    items, comm = plan_items(x, "x" if is_root else variable, dtype, None, None, attrs, _OP, dims=dims)
    cuts = [_plan_cut(check_type(item, _OP), chunks, shards) for item in items]
    facts = " ".join(f"{item.signature()} {cut}" for item, cut in zip(items, cuts)) + f" {compressors}"
    encoded = [_check_attrs(item.attrs) for item in items]

    def create(temporary: str, keep: bool) -> list[int]:
        if not is_root:
            zarr.open_group(temporary, mode="w", zarr_format=3)
        try:
            for item, (chunk, shard), attributes in zip(items, cuts, encoded):
                zarr.create_array(
                    temporary,
                    name=None if is_root else item.name,
                    shape=() if item.is_scalar else item.layout.shape,
                    dtype=np.dtype(item.dtype.numpy),
                    chunks=() if item.is_scalar else chunk,
                    shards=None if item.is_scalar else shard,
                    compressors=compressors,
                    attributes=attributes,
                    dimension_names=item.dims,
                )
        except (TypeError, ValueError) as error:
            text = f"{_OP}: compressors, chunks and shards must be such as zarr takes, got {compressors!r}, {cuts}"
            raise ValueError(f"{text} ({error})") from None
        return []

    def write(temporary: str, places: list[int]) -> Exception | None:
        error = None
        for item, (chunk, shard) in zip(items, cuts):
            name = "" if is_root else item.name
            failure = _write_item(None if error else temporary, name, item, shard or chunk, comm)
            error = error or failure
        comm.barrier()  # all files are there
        return error or _sync(temporary, comm)

    save_file(
        path,
        "w" if overwrite else "x",
        create,
        write,
        facts=f"{facts} {encoded}",
        needed=0,
        comm=comm,
        op=_OP,
        kind=TemporaryFolder,
    )


def _plan_cut(item: Item, chunks: object, shards: object) -> tuple[tuple[int, ...], tuple[int, ...] | None]:
    """Return the shapes of chunks and of shards."""
    shape = item.layout.shape
    if chunks is None:
        chunks = plan_chunks(tuple(max(n, 1) for n in shape), item.dtype.itemsize, _CHUNK_BYTES)
        if shards is not None:
            chunks = tuple(math.gcd(c, s) if isinstance(s, int) else c for c, s in zip(chunks, shards))
    for name, given, unit in (("chunks", chunks, (1,) * len(shape)), ("shards", shards, chunks)):
        if given is None:
            continue
        good = isinstance(given, (tuple, list)) and len(given) == len(shape)
        if not good or any(not hasattr(n, "__index__") or n < 1 or n % u for n, u in zip(given, unit)):
            raise ValueError(
                f"{_OP}: {name} must be one positive extent per axis of {shape}, multiples of {tuple(unit)}, "
                f"got {given!r}"
            )
    return tuple(map(int, chunks)), None if shards is None else tuple(map(int, shards))


def _check_attrs(attrs: Mapping[str, object]) -> dict[str, object]:
    found = {name: v.tolist() if isinstance(v, (np.generic, np.ndarray)) else v for name, v in attrs.items()}
    try:
        return json.loads(json.dumps(found))
    except (TypeError, ValueError) as error:
        raise TypeError(f"{_OP}: attrs must hold what JSON holds, got {attrs!r} ({error})") from None


def plan_edges(item: Item, unit: tuple[int, ...], size: int) -> tuple[int, list[list[int]]]:
    """Return the axis along which ranks write, and for each pass the p + 1 edges of their parts, at whole units.

    The axis is one along which most ranks have something to write, that of the split if it is one of them.
    """
    shape = item.layout.shape
    units = [-(-n // u) for n, u in zip(shape, unit)]
    axis = max(range(len(shape)), key=lambda a: (min(units[a], size), a == item.layout.split, -a))
    slab = max(item.nbytes // max(units[axis], 1), 1)  # bytes of one unit of the axis
    step = max(_PASS_BYTES // slab, 1) * size
    passes = []
    for low in range(0, units[axis], step):
        number = min(step, units[axis] - low)
        cuts = [low + number * rank // size for rank in range(size + 1)]
        passes.append([min(cut * unit[axis], shape[axis]) for cut in cuts])
    return axis, passes


def _write_item(
    store: str | None, name: str, item: Item, unit: tuple[int, ...], comm: Communicator
) -> Exception | None:
    """Write this rank's chunks; return what went wrong. All ranks take part in all messages."""
    if item.layout.size == 0:
        return None
    error = None
    axis, passes = plan_edges(item, unit, comm.size)
    for edges in passes:
        block = _move(item, axis, edges, comm)
        if error is not None or store is None or block.numel() == 0:
            continue
        try:
            values = host_view(block.to("cpu", item.dtype.torch).resolve_conj().resolve_neg().contiguous())
            if item.is_scalar:
                _put(store, name, (), values[0])
            else:
                where = (*(slice(None),) * axis, slice(edges[comm.rank], edges[comm.rank + 1]))
                _put(store, name, where, values)
        except OSError as failure:
            text = f"{_OP}: path must be on a file system that takes the data: {failure.strerror or failure}"
            error = OSError(failure.errno, text)
        except Exception as failure:
            error = failure
    return error


def _put(store: str, name: str, where: tuple[slice, ...], values: np.ndarray) -> None:
    """Set a part of the array; return, also after a failure, only when no thread writes chunks any more.

    zarr raises the first error while its threads go on, and their files would appear in a folder that is being removed.
    A loop of our own ends with all it has started; a thread of its own, as the caller's may run another loop.
    """
    from zarr.api import asynchronous

    async def put() -> None:
        array = await asynchronous.open_array(store=store, path=name, mode="r+")
        await array.setitem(where, values)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, put()).result()


def _move(item: Item, axis: int, edges: list[int], comm: Communicator) -> torch.Tensor:
    """Return the elements between this rank's edges along `axis`. One redistribution."""
    low, high = edges[0], edges[-1]
    source, target = [], []
    for box, (first, last) in zip(item.layout.boxes(comm.size), itertools.pairwise(edges)):
        start = min(max(box[axis][0], low), high)
        stop = max(min(box[axis][1], high), start)
        source.append((*box[:axis], (start, stop), *box[axis + 1 :]))
        whole = tuple((0, extent) for extent in item.layout.shape)
        target.append((*whole[:axis], (first, last), *whole[axis + 1 :]))
    begin = item.layout.box(comm.rank)[axis][0]
    start, stop = source[comm.rank][axis]
    start, stop = max(start - begin, 0), max(stop - begin, 0)
    local = item.local.narrow(axis, min(start, item.local.shape[axis]), stop - start)
    return comm.redistribute(local, plan_redistribution(tuple(source), tuple(target)))


def _sync(folder: str, comm: Communicator) -> Exception | None:
    """Force the files to the storage: each rank its share, whoever wrote them."""
    try:
        for number, path in enumerate(_walk(folder)):
            if number % comm.size == comm.rank:
                sync_path(path)
    except OSError as error:
        return error
    return None


def _walk(folder: str) -> Iterator[str]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        yield place
        yield from (os.path.join(place, name) for name in sorted(files))
