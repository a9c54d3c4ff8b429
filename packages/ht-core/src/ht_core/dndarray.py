"""The distributed array: a local torch tensor, the layout that says which part it is, and a communicator.

The class holds metadata and Python's protocols only; every operation is attached from its row by ``registry``.
Nothing here communicates except where a docstring says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from ht_comm import get_comm

from . import devices, types
from .errors import LayoutError
from .layout import Layout
from .upper_layers import LAZY, resolve

if TYPE_CHECKING:
    from ht_comm import Communicator


class DNDarray:
    """An n-dimensional array whose elements are spread over the ranks of a communicator along one axis.

    Arrays are made by the functions of this package (``ht.array``, ``ht.zeros``, ...); the constructor trusts its
    arguments.

    Parameters
    ----------
    larray : torch.Tensor
        This rank's part, of shape ``layout.lshape(comm.rank)``.
    layout : Layout
        Global shape and distribution, equal on every rank.
    comm : Communicator
        The ranks that hold the array.
    """

    __slots__ = ("__weakref__", "_edge", "_grad", "_halos", "comm", "larray", "layout")  # see autograd, halos
    __module__ = "ht_core"  # pickles survive a move of this file
    __array_priority__ = 1000

    def __init__(self, larray: torch.Tensor, layout: Layout, comm: Communicator) -> None:
        self.larray, self.layout, self.comm = larray, layout, comm

    # -- metadata: no message, ever ---------------------------------------------------------------------------

    @property
    def shape(self) -> tuple[int, ...]:
        """Global shape."""
        return self.layout.shape

    gshape = shape

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.layout.shape)

    @property
    def size(self) -> int:
        """Number of elements of the global array."""
        return self.layout.size

    gnumel = size

    @property
    def lshape(self) -> tuple[int, ...]:
        """Shape of this rank's part."""
        return tuple(self.larray.shape)

    @property
    def lnumel(self) -> int:
        """Number of elements of this rank's part."""
        return self.larray.numel()

    @property
    def lshape_map(self) -> np.ndarray:
        """Shapes of all ranks' parts, int64 of shape (p, ndim). No message."""
        return np.array([self.layout.lshape(r) for r in range(self.comm.size)], dtype=np.int64).reshape(
            -1, self.ndim
        )

    @property
    def split(self) -> int | None:
        """The axis along which the array is cut; None when every rank holds all of it."""
        return self.layout.split

    @property
    def dtype(self) -> types.dtype:
        """Data type of the elements."""
        return types.of(self.larray)

    @property
    def itemsize(self) -> int:
        """Bytes per element."""
        return self.larray.element_size()

    @property
    def nbytes(self) -> int:
        """Bytes of the global array."""
        return self.layout.size * self.larray.element_size()

    gnbytes = nbytes

    @property
    def lnbytes(self) -> int:
        """Bytes of this rank's part."""
        return self.larray.numel() * self.larray.element_size()

    @property
    def device(self) -> devices.Device:
        """The device of this rank's part."""
        return devices.of(self.larray)

    @property
    def balanced(self) -> bool:
        """True when replicated or spread as evenly as possible. No message."""
        return self.layout.is_even

    def is_balanced(self, force_check: bool = False) -> bool:
        """Tell whether the array is replicated or spread as evenly as possible. No message."""
        return self.layout.is_even

    def is_distributed(self) -> bool:
        """Tell whether the array is cut over more than one rank."""
        return self.layout.split is not None and self.comm.size > 1

    def counts_displs(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Return each rank's extent along the split axis and where it starts. No message.

        Raises
        ------
        LayoutError
            If the array is not split.
        """
        if self.split is None:
            raise LayoutError("counts_displs: the array must be split, got split=None; use resplit(x, axis)")
        return self.layout.counts, self.layout.displs

    # -- leaving the distributed world -----------------------------------------------------------------------

    def numpy(self) -> np.ndarray:
        """Return the global array as a NumPy array on every rank.

        *Distribution*: collective where the array is split; each rank receives the whole array.
        """
        tensor = self._gathered().detach().cpu()
        if tensor.dtype is torch.bfloat16:
            tensor = tensor.float()
        return tensor.resolve_conj().numpy().copy() if self.split is None else tensor.resolve_conj().numpy()

    def item(self, *args: int) -> bool | int | float | complex:
        """Return an element as a Python scalar. Collective where the array is split: only that element is sent.

        Parameters
        ----------
        args : int, or one int per axis
            Position in C order, or along each axis. Without it the array must have exactly one element.

        Raises
        ------
        LayoutError
            If no position is given and the array has another size, or the position has another number of axes.
        IndexError
            If the position is out of bounds.
        """
        if args:
            return self._at(args[0] if len(args) == 1 else args).item()
        if self.size != 1:
            raise LayoutError(f"item: the array must have exactly one element, got shape {self.shape}")
        return self._gathered().item()

    def _at(self, position: int | tuple[int, ...]) -> DNDarray:
        if hasattr(position, "__index__"):
            number = position.__index__()
            if not -self.size <= number < self.size:
                raise IndexError(f"item: position must be in [{-self.size}, {self.size}), got {number}")
            number, places = number % self.size, []
            for extent in reversed(self.shape):
                number, place = divmod(number, extent)
                places.append(place)
            position = tuple(reversed(places))
        if len(position) != self.ndim:
            raise LayoutError(
                f"item: position must have {self.ndim} entries, one for each axis, got {position}"
            )
        return self[tuple(n.__index__() for n in position)]

    def tolist(self) -> list:
        """Return the global array as nested lists on every rank. Collective where the array is split."""
        return self._gathered().tolist()

    def _gathered(self) -> torch.Tensor:
        from .engines.redistribution import redistribute

        return redistribute(self.larray, self.layout, Layout.replicated(self.shape), self.comm)

    def __array__(self, dtype: object = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError(
                "asarray: copy must not be False for a distributed array; its pieces have to be joined"
            )
        whole = self.numpy()
        return whole if dtype is None else whole.astype(dtype, copy=False)

    def __bool__(self) -> bool:
        self._require_scalar("bool")
        return bool(self.item())

    def __int__(self) -> int:
        self._require_scalar("int")
        return int(self.item())

    def __float__(self) -> float:
        self._require_scalar("float")
        return float(self.item())

    def __complex__(self) -> complex:
        self._require_scalar("complex")
        return complex(self.item())

    def __index__(self) -> int:
        if self.ndim != 0 or self.dtype.kind not in "iu":
            raise TypeError(
                f"index: only a 0-D integer array is an index, got shape {self.shape}, dtype {self.dtype}"
            )
        return int(self.item())

    def _require_scalar(self, what: str) -> None:
        if self.size != 1:
            raise LayoutError(
                f"{what}: the truth or value of an array is defined for one element only, got shape {self.shape}; "
                "use any(), all() or item()"
            )

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: a 0-D array has no length")
        return self.shape[0]

    def __iter__(self):
        if not self.shape:
            raise TypeError("iter: a 0-D array cannot be iterated over")
        if self.split == 0:  # one message for the whole loop instead of one per element
            rows, layout = self._gathered(), Layout.replicated(self.shape[1:])
        else:
            rows, layout = self.larray, self.layout.drop((0,))
        return (DNDarray(row, layout, self.comm) for row in rows)

    # -- copies and devices -----------------------------------------------------------------------------------

    def astype(self, dtype: object, copy: bool = True) -> DNDarray:
        """Return the array with another dtype; itself where nothing changes and `copy` is False. No message."""
        target = types.canonical(dtype).torch
        return DNDarray(_cast(self.larray, target, copy), self.layout, self.comm)

    def copy(self) -> DNDarray:
        """Return a copy. No message."""
        return DNDarray(self.larray.clone(), self.layout, self.comm)

    def to_device(self, device: object, /, *, stream: object = None) -> DNDarray:
        """Return the array on another device ("cpu", "gpu", a Device or torch device). No message."""
        target = devices.sanitize_device(device).torch_device
        return (
            self if self.larray.device == target else DNDarray(self.larray.to(target), self.layout, self.comm)
        )

    def cpu(self) -> DNDarray:
        """Return the array on the CPU. No message."""
        return self.to_device("cpu")

    def gpu(self) -> DNDarray:
        """Return the array on this rank's GPU. No message."""
        return self.to_device("gpu")

    def __copy__(self) -> DNDarray:
        return DNDarray(self.larray, self.layout, self.comm)

    def __deepcopy__(self, memo: dict) -> DNDarray:
        return self.copy()

    def __reduce__(self):
        # The communicator is a live object: the loading process supplies its current one, which must have as many
        # ranks as the pickling one had. Checkpoints (ht-io) move between numbers of ranks.
        return _unpickle, (self.larray.cpu(), self.layout, self.comm.size, self.comm.rank)

    # -- names of the wheels above ---------------------------------------------------------------------------

    def __matmul__(self, other: object):
        return resolve("matmul")(self, other)

    def __rmatmul__(self, other: object):
        return resolve("matmul")(other, self)

    def __imatmul__(self, other: object):
        product = resolve("matmul")(self, other)
        if product.shape != self.shape or not types.can_cast(product.dtype, self.dtype, "same_kind"):
            raise LayoutError(
                f"matmul: the product must fit into an array of shape {self.shape} and {self.dtype}, "
                f"got {product.shape} and {product.dtype}; use a @ b"
            )
        from .engines.redistribution import redistribute

        self.larray.copy_(redistribute(product.larray, product.layout, self.layout, self.comm))
        return self

    def __getattr__(self, name: str):  # reached only where the normal look-up has failed
        if name in LAZY:
            setattr(type(self), name, resolve(name))
            return getattr(self, name)
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    __hash__ = None


def _cast(tensor: torch.Tensor, target: torch.dtype, copy: bool = False) -> torch.Tensor:
    if tensor.is_complex() and not target.is_complex and target is not torch.bool:
        tensor = tensor.real  # as NumPy, which drops the imaginary part
    return tensor.to(target, copy=copy)


def _unpickle(larray: torch.Tensor, layout: Layout, size: int, rank: int) -> DNDarray:
    comm = get_comm()
    if layout.split is not None and (comm.size, comm.rank) != (size, rank):
        raise LayoutError(
            f"unpickle: a split array must be loaded by the rank that pickled it ({rank} of {size}), "
            f"got {comm.rank} of {comm.size}; use a checkpoint to move between numbers of ranks"
        )
    return DNDarray(larray, layout, comm)
