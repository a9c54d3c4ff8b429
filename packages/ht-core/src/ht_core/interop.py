"""Arrays in other libraries: DLPack, ``__partitioned__``, functions of torch, DTensor; Python's container protocol.

What an importing library would take for the whole array is given where this rank has the whole array; otherwise it is
refused with the remedy. Nothing is gathered here, and nothing is sent but where a docstring says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from ht_comm import get_comm

from .creation import asarray
from .dndarray import DNDarray
from .engines.recording import to_layout
from .engines.tracking import raw
from .errors import LayoutError
from .layout import Layout
from .registry import OPERATIONS
from .upper_layers import LAZY, resolve

if TYPE_CHECKING:
    from ht_comm import Communicator
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

# -- DLPack, __partitioned__ ---------------------------------------------------------------------------------------


def _dlpack(
    self: DNDarray,
    /,
    *,
    stream: object = None,
    max_version: tuple[int, int] | None = None,
    dl_device: tuple[int, int] | None = None,
    copy: bool | None = None,
) -> object:
    """Export the array without a copy, unless one is asked for, where this rank has all of it. No message.

    Raises
    ------
    BufferError
        If the array is split over several ranks.
    """
    if self.is_distributed():
        raise BufferError(
            f"__dlpack__: the array must be whole on every rank, got split={self.split} over {self.comm.size} ranks; "
            "use x.resplit(None) for all of it, or x.larray for this rank's part"
        )
    given = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
    return self.larray.__dlpack__(**{name: value for name, value in given.items() if value is not None})


def _dlpack_device(self: DNDarray) -> tuple[int, int]:
    """Return DLPack's type and number of the device of this rank's part. No message."""
    return raw(self).__dlpack_device__()


def _partitioned(self: DNDarray) -> dict:
    """The array as described by the ``__partitioned__`` protocol: one partition per rank, in rank order. No message.

    The data of this rank's partition is its tensor, in the same memory; that of the others is None. A replicated
    array is one partition, which every rank holds.
    """
    layout, comm = self.layout, self.comm
    ranks = range(comm.size) if layout.split is not None else (0,)

    def position(rank: int) -> tuple[int, ...]:
        return tuple(rank if axis == layout.split else 0 for axis in range(layout.ndim))

    mine = comm.rank if layout.split is not None else 0
    partitions = {
        position(rank): {
            "start": tuple(start for start, _ in layout.box(rank)),
            "shape": layout.lshape(rank),
            "data": self.larray if rank == mine else None,
            "location": [rank] if layout.split is not None else list(range(comm.size)),
            "dtype": self.dtype.torch,
        }
        for rank in ranks
    }
    return {
        "shape": layout.shape,
        "partition_tiling": tuple(len(ranks) if axis == layout.split else 1 for axis in range(layout.ndim)),
        "partitions": partitions,
        "locals": [position(mine)],
        "get": lambda data: data,
    }


# -- torch functions -----------------------------------------------------------------------------------------------


def _renamed(function: Callable, **fixed: object) -> Callable:
    """Return one of our functions under torch's names of arguments."""

    def call(*args: object, **kwargs: object) -> object:
        named = {_ARGUMENTS.get(name, name): value for name, value in kwargs.items()}
        for name in ("input", "other"):
            if name in named:
                args = (*args, named.pop(name))
        return function(*args, **{**fixed, **named})

    return call


_ARGUMENTS = {"dim": "axis", "keepdim": "keepdims"}
#: torch's name -> ours, where both mean the same up to the names of arguments.
_SAME = (
    "sum prod mean amax amin all any argmax argmin cumsum cumprod count_nonzero where stack concatenate hstack vstack "
    "column_stack broadcast_to flip roll matmul moveaxis swapaxes squeeze ravel outer kron tril triu diagonal"
)
_NAMES = {
    **{name: name for name in re.split(" ", _SAME)},
    "cat": "concatenate",
    "concat": "concatenate",
    "unsqueeze": "expand_dims",
    "movedim": "moveaxis",
    "permute": "permute_dims",
    "transpose": "swapaxes",
    "swapdims": "swapaxes",
    "clamp": "clip",
    "sgn": "sign",
}
_OPERATORS = {
    "add": "add",
    "sub": "subtract",
    "mul": "multiply",
    "truediv": "divide",
    "floordiv": "floor_divide",
    "mod": "remainder",
    "pow": "pow",
    "matmul": "matmul",
    "and": "bitwise_and",
    "or": "bitwise_or",
    "xor": "bitwise_xor",
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}


def _find(name: str) -> Callable | None:
    row = OPERATIONS.get(name)
    return row.function if row is not None else resolve(name) if name in LAZY else None


@cache
def _by_torch_name(name: str) -> Callable | None:
    """Return our function for a function or an operator of torch, None where there is none of the same meaning."""
    plain = name.strip("_")
    if name.startswith("__") and plain not in _OPERATORS and plain[:1] == "r" and plain[1:] in _OPERATORS:
        function = _find(_OPERATORS[plain[1:]])
        return lambda a, b: function(b, a)
    if name.startswith("__") and plain in _OPERATORS:
        return _find(_OPERATORS[plain])
    if name in ("std", "var"):  # torch divides by n - 1 where nothing else is said
        return _renamed(
            lambda x, axis=None, *, correction=1, keepdims=False, unbiased=None: _find(name)(
                x, axis=axis, ddof=correction if unbiased is None else int(unbiased), keepdims=keepdims
            )
        )
    if name in ("max", "min"):  # with an axis torch returns positions, too
        return lambda input: _find(name)(input)
    if name == "reshape":
        return lambda input, shape: _find("reshape")(input, tuple(shape))
    if name in _NAMES:
        function = _find(_NAMES[name])
    else:
        row = OPERATIONS.get(name)
        function = row.function if row is not None and row.kind == "elementwise" else None
    return None if function is None else _renamed(function)


def _torch_function(
    cls: type, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None
) -> Any:
    """Run our operation for a function of torch that is called with distributed arrays.

    Tensors among its arguments are taken as replicated.

    Raises
    ------
    TypeError
        If there is no operation of the same meaning.
    """
    name = getattr(func, "__name__", str(func))
    function = _by_torch_name(name)
    if function is None:
        raise TypeError(
            f"torch.{name}: there is no operation of this meaning on distributed arrays; use one of ht, "
            "ht.vmap to run torch on every sample, or x.larray for this rank's part"
        )
    try:
        return function(*args, **(kwargs or {}))
    except TypeError as error:
        if "argument" not in str(error):
            raise
        raise TypeError(f"torch.{name}: an argument is not known on distributed arrays ({error})") from error


# -- torch DTensor -------------------------------------------------------------------------------------------------


def to_dtensor(x: DNDarray, mesh: DeviceMesh | None = None) -> DTensor:
    """Return the array as a torch DTensor on a one-dimensional device mesh.

    *Distribution*: split axis -> ``Shard``, replicated -> ``Replicate``. The memory is shared and nothing is sent where
    the rows lie as torch cuts them (n / p rounded up on each rank until none are left); otherwise one redistribution.

    Parameters
    ----------
    x : DNDarray
    mesh : DeviceMesh, optional
        Of the ranks that hold the array, in their order; the default is one over all ranks of torch.distributed.

    Raises
    ------
    LayoutError
        If the mesh has other ranks or more than one dimension.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import DTensor, Replicate, Shard

    if mesh is None:
        mesh = init_device_mesh(raw(x).device.type, (x.comm.size,))
    _check_mesh("to_dtensor", mesh, x.comm)
    if x.split is None:
        return DTensor.from_local(x.larray, mesh, [Replicate()], run_check=False)
    y = to_layout(x, _chunked(x.shape, x.split, x.comm.size))
    local = y.larray.contiguous()
    strides = torch.empty(x.shape, device="meta").stride()
    return DTensor.from_local(
        local, mesh, [Shard(x.split)], run_check=False, shape=torch.Size(x.shape), stride=strides
    )


def from_dtensor(dtensor: DTensor, comm: Communicator | None = None) -> DNDarray:
    """Make an array from a torch DTensor on a one-dimensional device mesh.

    *Distribution*: ``Shard(axis)`` -> split, ``Replicate`` -> replicated, in the same memory and without a message; the
    counts are torch's, which may be uneven. Partial sums are reduced by torch first.

    Parameters
    ----------
    dtensor : DTensor
    comm : Communicator, optional
        The ranks of the mesh, in its order; the default is ``ht.get_comm()``.

    Raises
    ------
    LayoutError
        If the mesh has other ranks or more than one dimension.
    """
    from torch.distributed.tensor import Replicate, Shard

    comm = get_comm() if comm is None else comm
    _check_mesh("from_dtensor", dtensor.device_mesh, comm)
    (placement,) = dtensor.placements
    if not isinstance(placement, (Replicate, Shard)):
        dtensor = dtensor.redistribute(placements=[Replicate()])
    local, shape = dtensor.to_local().detach(), tuple(dtensor.shape)
    if not isinstance(placement, Shard):
        return DNDarray(local, Layout(shape, None), comm)
    layout = _chunked(shape, placement.dim, comm.size)
    return DNDarray(local.reshape(layout.lshape(comm.rank)), layout, comm)


def _chunked(shape: tuple[int, ...], axis: int, p: int) -> Layout:
    """Return the layout in which torch cuts an array: equal chunks, rounded up, then a shorter one, then none."""
    n = shape[axis]
    chunk = -(-n // p)
    return Layout(shape, axis, [max(0, min(chunk, n - rank * chunk)) for rank in range(p)])


def _check_mesh(op: str, mesh: DeviceMesh, comm: Communicator) -> None:
    if mesh.ndim != 1 or mesh.size() != comm.size or mesh.get_local_rank() != comm.rank:
        raise LayoutError(
            f"{op}: mesh must have one dimension and the {comm.size} ranks of the communicator in their order, "
            f"got {mesh}"
        )


# -- Python's container protocol -----------------------------------------------------------------------------------


def _contains(self: DNDarray, value: object) -> bool:
    """Tell whether an element equals `value`. Collective where the array is split: one allreduce."""
    return bool((self == asarray(value, comm=self.comm)).any())


def _reversed(self: DNDarray) -> Iterator[DNDarray]:
    """Iterate from the last row to the first; at most one message for the whole loop."""
    return reversed(list(self))


def _format(self: DNDarray, spec: str) -> str:
    """Format the only element by `spec`; without one, as ``str``."""
    return format(self.item(), spec) if spec else str(self)


DNDarray.__dlpack__, DNDarray.__dlpack_device__ = _dlpack, _dlpack_device
DNDarray.__partitioned__ = property(_partitioned)
DNDarray.__torch_function__ = classmethod(_torch_function)
DNDarray.__contains__, DNDarray.__reversed__, DNDarray.__format__ = _contains, _reversed, _format
