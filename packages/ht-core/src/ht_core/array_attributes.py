"""Attributes of arrays as functions, and what can be told of their memory. No message, ever."""

from __future__ import annotations

import numpy as np
import torch

from .dndarray import DNDarray


def _shape(x: object) -> tuple[int, ...]:
    return x.shape if isinstance(x, DNDarray) else np.shape(x)


def shape(x: object, /) -> tuple[int, ...]:
    """Return the global shape.

    Examples
    --------
    >>> ht.shape(ht.ones((2, 3), split=0))
    (2, 3)
    """
    return tuple(_shape(x))


def ndim(x: object, /) -> int:
    """Return the number of axes.

    Examples
    --------
    >>> ht.ndim(ht.ones((2, 3), split=0))
    2
    """
    return len(_shape(x))


def size(x: object, /, axis: int | tuple[int, ...] | None = None) -> int:
    """Return the number of elements of the global array, or its extent along an axis or several.

    Examples
    --------
    >>> ht.size(ht.ones((2, 3), split=0)), ht.size(ht.ones((2, 3), split=0), axis=1)
    (6, 3)
    """
    extents = _shape(x)
    axes = range(len(extents)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    product = 1
    for a in axes:
        product *= extents[a]
    return product


def iterable(x: object, /) -> bool:
    """Tell whether an object can be iterated over; a 0-D array cannot.

    Examples
    --------
    >>> ht.iterable(ht.ones(2)), ht.iterable(ht.ones(()))
    (True, False)
    """
    return x.ndim > 0 if isinstance(x, DNDarray) else np.iterable(x)


def isfortran(x: DNDarray, /) -> bool:
    """Tell whether this rank's part lies in memory in Fortran order and not in C order.

    Examples
    --------
    >>> ht.isfortran(ht.asfortranarray(ht.ones((2, 3))))
    True
    """
    local = x.larray
    return local.T.is_contiguous() and not local.is_contiguous() if local.ndim == 2 else _is_reversed(local)


def _is_reversed(local: torch.Tensor) -> bool:
    return local.permute(tuple(range(local.ndim))[::-1]).is_contiguous() and not local.is_contiguous()


def may_share_memory(x: object, y: object, /) -> bool:
    """Tell whether parts of two arrays on this rank may overlap: whether they lie in one allocation.

    Examples
    --------
    >>> x = ht.ones(4)
    >>> ht.may_share_memory(x, x[1:]), ht.may_share_memory(x, ht.ones(4))
    (True, False)
    """
    both = [v.larray if isinstance(v, DNDarray) else v for v in (x, y)]
    if not all(isinstance(v, torch.Tensor) for v in both):
        return bool(np.may_share_memory(*(v.numpy() if isinstance(v, torch.Tensor) else v for v in both)))
    first, second = (v.untyped_storage() for v in both)
    return first.data_ptr() == second.data_ptr() and first.nbytes() > 0


def shares_memory(x: object, y: object, /) -> bool:
    """Tell whether parts of two arrays on this rank have an element in common.

    Examples
    --------
    >>> x = ht.ones(4)
    >>> ht.shares_memory(x[:2], x[2:]), ht.shares_memory(x, x[1:])
    (False, True)
    """
    if not may_share_memory(x, y):
        return False
    local = [v.larray if isinstance(v, DNDarray) else v for v in (x, y)]
    if any(isinstance(v, torch.Tensor) and v.device.type != "cpu" for v in local):
        return True  # on a device only the allocation is known
    return bool(np.shares_memory(*(_as_numpy(v) for v in local)))


def _as_numpy(value: object) -> np.ndarray:
    if not isinstance(value, torch.Tensor):
        return np.asarray(value)
    value = value.detach()
    return (value.view(torch.int16) if value.dtype is torch.bfloat16 else value).numpy()
