"""Copying values into an existing array."""

from __future__ import annotations

import torch

from . import types
from .dndarray import DNDarray
from .engines.elementwise import Row, execute
from .engines.operands import as_arrays
from .errors import DTypeError
from .indexing import setitem
from .manipulation import broadcast_to
from .registry import register


def _copy(x: torch.Tensor, out: torch.Tensor | None = None) -> torch.Tensor:
    return x if out is None else out.copy_(x)


_COPY = Row("copyto", _copy, types.ALL, compute="common", result="common", numpy=None, wide="bits")


def copyto(dst: DNDarray, src: object, casting: str = "same_kind", where: object = True) -> None:
    """Copy values into an array, which keeps its layout and dtype.

    *Distribution*: no message for replicated values and for those that lie as the array does; others are brought
    to it by one redistribution.

    Parameters
    ----------
    dst : DNDarray
        Is changed.
    src : array_like
        Broadcasts to the shape of `dst`.
    casting : {"no", "equiv", "safe", "same_kind", "unsafe"}
        Which conversions are allowed.
    where : array_like of bool
        Copy only where True; broadcasts to the shape of `dst`.

    Raises
    ------
    DTypeError
        If `casting` forbids the conversion, or `dst` is no DNDarray.
    LayoutError
        If the shapes do not broadcast.

    Examples
    --------
    >>> x = ht.zeros(3, split=0)
    >>> ht.copyto(x, [1, 2, 3], where=[True, False, True])
    >>> x.numpy().tolist()
    [1.0, 0.0, 3.0]
    """
    if not isinstance(dst, DNDarray):
        raise DTypeError(f"copyto: dst must be a DNDarray, got {type(dst).__name__}")
    _, source = as_arrays((dst, src), "copyto")
    is_weak = type(src) in (bool, int, float, complex)
    kind = types.result_type(dst.dtype, src) if is_weak else source.dtype
    if not types.can_cast(kind, dst.dtype, casting):
        raise DTypeError(
            f"copyto: casting must allow {kind} to become {dst.dtype}, got {casting!r}; use casting='unsafe'"
        )
    if where is True:
        setitem(dst, Ellipsis, source)
        return
    (_, mask) = as_arrays((dst, where), "copyto")
    source = broadcast_to(source.astype(dst.dtype, copy=False), dst.shape)
    execute(_COPY, (source,), dst, broadcast_to(mask, dst.shape))


register(copyto, kind="assignment", numpy="copyto", method=False, cost="None where the layouts agree.")
