"""Functions of dtypes: casting arrays, kinds of dtypes, and the names that NumPy and Heat have for them."""

from __future__ import annotations

import numpy as np
import torch

from . import types
from .dndarray import DNDarray
from .errors import DTypeError


class abstract:
    """A kind of dtypes, such as ``ht.floating``; never the dtype of an array.

    Attributes
    ----------
    name : str
    kinds : str
        Letters of the kinds it contains.
    """

    __slots__ = ("kinds", "name")

    def __init__(self, name: str, kinds: str) -> None:
        self.name, self.kinds = name, kinds

    def __repr__(self) -> str:
        return f"ht.{self.name}"

    def __contains__(self, dtype: object) -> bool:
        return types.canonical(dtype).kind in self.kinds


datatype = generic = abstract("datatype", types.ALL)
number = abstract("number", types.NUMERIC)
integer = abstract("integer", "iu")
signedinteger = abstract("signedinteger", "i")
unsignedinteger = abstract("unsignedinteger", "u")
inexact = abstract("inexact", types.FLOATING)
floating = abstract("floating", "f")
complexfloating = abstract("complexfloating", "c")
flexible = abstract("flexible", "")

_NUMPY_KINDS = {
    np.generic: generic,
    np.number: number,
    np.integer: integer,
    np.signedinteger: signedinteger,
    np.unsignedinteger: unsignedinteger,
    np.inexact: inexact,
    np.floating: floating,
    np.complexfloating: complexfloating,
    np.flexible: flexible,
}


def issubdtype(arg1: object, arg2: object, /) -> bool:
    """Tell whether a dtype, or a kind of dtypes, is contained in another.

    Parameters
    ----------
    arg1, arg2 : dtype or kind
        Such as ``ht.float32`` and ``ht.floating``, ``ht.number``, NumPy's ``np.integer``.

    Examples
    --------
    >>> ht.issubdtype(ht.int32, ht.integer), ht.issubdtype(ht.int32, ht.int64)
    (True, False)
    """
    inner, outer = (_kind_or_dtype(a) for a in (arg1, arg2))
    if isinstance(outer, abstract):
        kinds = inner.kinds if isinstance(inner, abstract) else inner.kind
        return set(kinds) <= set(outer.kinds)
    return inner is outer


def _kind_or_dtype(value: object) -> abstract | types.dtype:
    if isinstance(value, abstract):
        return value
    if isinstance(value, type) and value in _NUMPY_KINDS:
        return _NUMPY_KINDS[value]
    return types.canonical(value)


def astype(x: DNDarray, dtype: object, /, *, copy: bool = True, device: object = None) -> DNDarray:
    """Return the array with another dtype.

    *Distribution*: elementwise, keeps the layout. No message.

    Parameters
    ----------
    x : DNDarray
        Input.
    dtype : dtype
        The new dtype. Numbers that it cannot hold are rounded or wrap around; complex ones lose the imaginary part.
    copy : bool
        False returns `x` itself where nothing changes.
    device : Device or str, optional
        The device of the result; that of `x` by default.

    Examples
    --------
    >>> ht.astype(ht.array([1.5, -2.5], split=0), ht.int32).numpy().tolist()
    [1, -2]
    """
    moved = x if device is None else x.to_device(device)
    if not copy and moved.dtype is types.canonical(dtype):
        return moved
    return moved.astype(dtype, copy=moved is x)


def heat_type_of(x: object, /) -> types.dtype:
    """Return the dtype of an array, number or sequence of numbers.

    Examples
    --------
    >>> ht.heat_type_of(ht.ones(2))
    ht.float64
    """
    if hasattr(x, "dtype"):
        return types.canonical(x.dtype)
    return types.of(torch.as_tensor(np.asarray(x)))


def canonical_heat_type(dtype: object, /) -> types.dtype:
    """Return the dtype meant by a dtype of torch or NumPy, a Python type or a name.

    Raises
    ------
    DTypeError
        If there is none.

    Examples
    --------
    >>> ht.canonical_heat_type("float32")
    ht.float32
    """
    return types.canonical(dtype)


def heat_type_is_exact(dtype: object, /) -> bool:
    """Tell whether a dtype is an integer.

    Examples
    --------
    >>> ht.heat_type_is_exact(ht.int8)
    True
    """
    return types.canonical(dtype).kind in "iu"


def heat_type_is_inexact(dtype: object, /) -> bool:
    """Tell whether a dtype is floating, real or complex.

    Examples
    --------
    >>> ht.heat_type_is_inexact(ht.complex64)
    True
    """
    return types.canonical(dtype).kind in types.FLOATING


def heat_type_is_realfloating(dtype: object, /) -> bool:
    """Tell whether a dtype is floating and real.

    Examples
    --------
    >>> ht.heat_type_is_realfloating(ht.complex64)
    False
    """
    return types.canonical(dtype).kind == "f"


def heat_type_is_complexfloating(dtype: object, /) -> bool:
    """Tell whether a dtype is complex.

    Examples
    --------
    >>> ht.heat_type_is_complexfloating(ht.complex64)
    True
    """
    return types.canonical(dtype).kind == "c"


def common_type(*arrays: object) -> types.dtype:
    """Return the floating dtype that holds all arrays; float64 for integers.

    Raises
    ------
    DTypeError
        If an array is of dtype bool.

    Examples
    --------
    >>> ht.common_type(ht.ones(2, dtype=ht.float32), ht.arange(3))
    ht.float64
    """
    kinds = [heat_type_of(x) for x in arrays]
    if types.bool_ in kinds:
        raise DTypeError("common_type: arrays must be of numbers, got bool; cast with astype first")
    wide = [types.float64 if k.kind in "iu" else k for k in kinds]
    return types.result_type(*wide) if wide else types.float16


def min_scalar_type(x: object, /) -> types.dtype:
    """Return the smallest dtype that holds a number; of an array with axes, its dtype.

    Examples
    --------
    >>> ht.min_scalar_type(300)
    ht.uint16
    """
    if isinstance(x, DNDarray) and x.ndim:
        return x.dtype
    return types.canonical(np.min_scalar_type(x.item() if isinstance(x, DNDarray) else x))


def isscalar(x: object, /) -> bool:
    """Tell whether `x` is a number or a string and no array.

    Examples
    --------
    >>> ht.isscalar(3.0), ht.isscalar(ht.ones(()))
    (True, False)
    """
    return not isinstance(x, DNDarray) and bool(np.isscalar(x))
