"""Eight truth values in a byte, and back."""

from __future__ import annotations

import torch

from . import types
from .dndarray import DNDarray
from .engines.elementwise import as_operand, common_comm
from .errors import DTypeError, LayoutError
from .layout import normalize_axis
from .registry import OPERATIONS, register


def _call(name: str, *args: object, **options: object) -> DNDarray:
    return OPERATIONS[name].function(*args, **options)


def _last(op: str, x: object, axis: int | None, bitorder: str) -> tuple[DNDarray, int]:
    """Return an array with the axis at hand as the last one, and where that belongs."""
    if bitorder not in ("big", "little"):
        raise LayoutError(f"{op}: bitorder must be 'big' or 'little', got {bitorder!r}")
    arrays = [x] if isinstance(x, DNDarray) else []
    x = as_operand(x, common_comm(arrays, op), torch.device("cpu"), op)
    if x.dtype.kind not in types.INTEGRAL:
        raise DTypeError(f"{op}: x must be of bool or integers, got {x.dtype}")
    if axis is None:
        return _call("ravel", x), 0
    axis = normalize_axis(axis, x.ndim, op)
    return _call("moveaxis", x, axis, -1), axis


def _shifts(bitorder: str, device: torch.device) -> torch.Tensor:
    order = torch.arange(8, dtype=torch.uint8, device=device)
    return order if bitorder == "little" else order.flip(0)


def packbits(x: object, /, axis: int | None = None, bitorder: str = "big") -> DNDarray:
    """Pack the truth values of eight elements each into the bits of a byte.

    *Distribution*: no message where `axis` is not the split axis; otherwise that of :func:`pad` and :func:`reshape`:
    elements move so that groups of eight lie on one rank.

    Parameters
    ----------
    x : array_like
        Of bool or integers; nonzero is true.
    axis : int, optional
        The axis that is packed; the flattened array by default. Missing elements of the last byte are zeros.
    bitorder : str
        "big" puts the first element into the highest bit, "little" into the lowest.

    Returns
    -------
    DNDarray
        Of dtype uint8; the extent n along `axis` becomes ceil(n / 8).

    Raises
    ------
    DTypeError
        If `x` is not of bool or integers.
    LayoutError
        If `bitorder` or `axis` is unknown.

    Examples
    --------
    >>> ht.packbits(ht.array([1, 0, 0, 0, 0, 0, 1, 1, 1], split=0)).numpy().tolist()
    [131, 128]
    """
    x, back = _last("packbits", x, axis, bitorder)
    n = x.shape[-1]
    size = -(-n // 8)
    bits = (x != 0).astype(types.uint8)
    if size * 8 > n:
        bits = _call("pad", bits, [(0, 0)] * (x.ndim - 1) + [(0, size * 8 - n)])
    bytes_ = _call("reshape", bits, (*x.shape[:-1], size, 8))
    packed = _call("sum", bytes_ << _shifts(bitorder, x.larray.device), axis=-1, dtype=types.uint8)
    return _call("moveaxis", packed, -1, back)


def unpackbits(
    x: object, /, axis: int | None = None, count: int | None = None, bitorder: str = "big"
) -> DNDarray:
    """Return the bits of bytes as elements 0 and 1.

    *Distribution*: no message where `axis` is not the split axis; otherwise that of :func:`reshape`.

    Parameters
    ----------
    x : array_like
        Of dtype uint8.
    axis : int, optional
        The axis that is unpacked; the flattened array by default.
    count : int, optional
        Number of bits to return along `axis`: all by default, without the last ones where negative, and with zeros
        appended where larger.
    bitorder : str
        "big" returns the highest bit first, "little" the lowest.

    Returns
    -------
    DNDarray
        Of dtype uint8; the extent n along `axis` becomes 8 n, or `count`.

    Raises
    ------
    DTypeError
        If `x` is not of dtype uint8.
    LayoutError
        If `bitorder` or `axis` is unknown.

    Examples
    --------
    >>> ht.unpackbits(ht.array([131], dtype=ht.uint8, split=0)).numpy().tolist()
    [1, 0, 0, 0, 0, 0, 1, 1]
    """
    x, back = _last("unpackbits", x, axis, bitorder)
    if x.dtype is not types.uint8:
        raise DTypeError(f"unpackbits: x must be of dtype uint8, got {x.dtype}")
    total = 8 * x.shape[-1]
    bits = (_call("expand_dims", x, -1) >> _shifts(bitorder, x.larray.device)) & 1
    bits = _call("reshape", bits, (*x.shape[:-1], total))
    wanted = total if count is None else total + count if count < 0 else count
    if wanted > total:
        bits = _call("pad", bits, [(0, 0)] * (x.ndim - 1) + [(0, wanted - total)])
    return _call("moveaxis", bits[..., : max(wanted, 0)], -1, back)


for _function in (packbits, unpackbits):
    register(
        _function,
        kind="redistribution",
        numpy=_function.__name__,
        accepts=types.INTEGRAL,
        method=False,
        cost="No message along an axis that is not split; otherwise that of reshape.",
    )
