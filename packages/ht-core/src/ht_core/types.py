"""Data types: names, their torch and NumPy twins, and promotion.

Promotion is NumPy's (NEP 50), which contains the Array API's; bfloat16, which NumPy lacks, promotes as float16 does
except that the two of them meet in float32. Nothing here touches an array.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from .errors import DTypeError


class dtype:
    """A data type. Instances are singletons (``ht.float32``, ...); calling one casts: ``ht.float32(x)``.

    Attributes
    ----------
    name : str
    kind : str
        ``"b"`` bool, ``"i"`` signed, ``"u"`` unsigned, ``"f"`` floating, ``"c"`` complex, as in NumPy.
    itemsize : int
        Bytes per element.
    torch : torch.dtype
    numpy : numpy.dtype or None
        None for bfloat16.
    """

    __slots__ = ("itemsize", "kind", "name", "numpy", "torch")

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind
        self.torch = getattr(torch, name)
        self.itemsize = self.torch.itemsize
        self.numpy = None if name == "bfloat16" else np.dtype(name)

    def __repr__(self) -> str:
        return f"ht.{self.name}"

    def __str__(self) -> str:
        return self.name

    def __eq__(self, other: object) -> bool:
        if isinstance(other, dtype):
            return self is other
        try:
            return self is canonical(other)
        except DTypeError:
            return NotImplemented

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self):
        return canonical, (self.name,)


_KINDS = {
    "b": ["bool"],
    "i": ["int8", "int16", "int32", "int64"],
    "u": ["uint8", "uint16", "uint32", "uint64"],
    "f": ["float16", "bfloat16", "float32", "float64"],
    "c": ["complex64", "complex128"],
}
DTYPES: dict[str, dtype] = {name: dtype(name, kind) for kind, names in _KINDS.items() for name in names}

bool_ = DTYPES["bool"]
int8, int16, int32, int64 = (DTYPES[n] for n in _KINDS["i"])
uint8, uint16, uint32, uint64 = (DTYPES[n] for n in _KINDS["u"])
float16, bfloat16, float32, float64 = (DTYPES[n] for n in _KINDS["f"])
complex64, complex128 = (DTYPES[n] for n in _KINDS["c"])

# Kinds an operation may accept, as one string each.
NUMERIC = "iufc"
REAL = "iuf"
FLOATING = "fc"
INTEGRAL = "biu"
ALL = "biufc"

#: Unsigned types wider than a byte: torch stores them but has next to no kernels for them.
WIDE_UNSIGNED = frozenset({torch.uint16, torch.uint32, torch.uint64})

_FROM: dict[object, dtype] = {
    **{d.torch: d for d in DTYPES.values()},
    **DTYPES,
    bool: bool_,
    int: int64,
    float: float64,
    complex: complex128,
    "half": float16,
    "float": float64,
    "double": float64,
    "int": int64,
    "long": int64,
    "cfloat": complex64,
    "cdouble": complex128,
}


def canonical(value: object) -> dtype:
    """Return the :class:`dtype` meant by a dtype of ours, torch or NumPy, a Python type or a name.

    Raises
    ------
    DTypeError
        If there is none.
    """
    if isinstance(value, dtype):
        return value
    try:
        found = _FROM.get(value)
    except TypeError:  # unhashable
        found = None
    if found is None and value is not None:
        try:
            found = DTYPES.get(np.dtype(value).name)
        except TypeError:
            found = None
    if found is None:
        raise DTypeError(
            f"dtype: must be one of {', '.join(DTYPES)} (or a torch, NumPy or Python type), got {value!r}"
        )
    return found


def of(tensor: torch.Tensor) -> dtype:
    """Return the dtype of a torch tensor."""
    return _FROM[tensor.dtype]


@cache
def promote_types(a: object, b: object) -> dtype:
    """Return the smallest dtype to which both can be cast safely.

    >>> promote_types("int32", "float32")
    ht.float64
    """
    a, b = canonical(a), canonical(b)
    if a is b:
        return a
    if bfloat16 not in (a, b):
        return canonical(np.promote_types(a.numpy, b.numpy))
    other = b if a is bfloat16 else a
    if other is float16:
        return float32
    wide = canonical(np.promote_types(np.float16, other.numpy))
    return bfloat16 if wide is float16 else wide


def result_type(*operands: object) -> dtype:
    """Return the dtype of an operation on `operands`: arrays and dtypes are strong, Python scalars are weak."""
    strong: dtype | None = None
    weak: list[object] = []
    for item in operands:
        if type(item) in (bool, int, float, complex):
            weak.append(item)
        else:
            here = canonical(getattr(item, "dtype", item))
            strong = here if strong is None else promote_types(strong, here)
    if strong is None:
        return canonical(np.result_type(*weak))
    for scalar in weak:
        strong = with_scalar(strong, type(scalar))
    return strong


@cache
def with_scalar(array: dtype, scalar: type) -> dtype:
    """Return the dtype of an array of dtype `array` combined with a Python scalar of type `scalar` (NEP 50)."""
    if array is bfloat16:
        return complex64 if scalar is complex else bfloat16
    return canonical(np.result_type(array.numpy, scalar(0)))


@cache
def to_floating(a: dtype) -> dtype:
    """Return the floating dtype in which NumPy computes e.g. ``sqrt`` of dtype `a`."""
    return a if a.kind in FLOATING else promote_types(a, float16)


def floating_type(*operands: object) -> dtype:
    """Return the dtype in which NumPy computes e.g. ``hypot``: each operand becomes floating, then they promote."""
    strong = [
        canonical(getattr(x, "dtype", x)) for x in operands if type(x) not in (bool, int, float, complex)
    ]
    if not strong:
        return to_floating(result_type(*operands))
    common = result_type(*strong)
    wide = [to_floating(with_scalar(common, type(x))) for x in operands if type(x) in (float, complex)]
    return result_type(*map(to_floating, strong), *wide)


def quotient_type(*operands: object) -> dtype:
    """Return the dtype in which NumPy divides: float64 for integers and bool."""
    common = result_type(*operands)
    return common if common.kind in FLOATING else float64


def number_type(*operands: object) -> dtype:
    """Return the dtype in which NumPy computes e.g. ``remainder``: the common one, int8 for bool."""
    common = result_type(*operands)
    return int8 if common is bool_ else common


def double_type(*operands: object) -> dtype:
    """Return the dtype of ``float_power``: float64, or complex128 where an operand is complex."""
    return complex128 if result_type(*operands).kind == "c" else float64


def tolerance_type(*operands: object) -> dtype:
    """Return the dtype in which ``isclose`` compares: the common one, floating."""
    return result_type(*operands, 1.0)


@cache
def to_real(a: dtype) -> dtype:
    """Return the dtype of the real part of `a`."""
    return {complex64: float32, complex128: float64}.get(a, a)


_KIND_ORDER = "buifc"  # a cast to a later kind is a cast of the "same kind"
_CASTINGS = ("no", "equiv", "safe", "same_kind", "unsafe", "intuitive")


def can_cast(from_: object, to: object, /, casting: str = "safe") -> bool:
    """Tell whether a cast is allowed.

    Parameters
    ----------
    from_ : dtype or DNDarray
        What is cast.
    to : dtype
        The target.
    casting : str
        NumPy's rules "no", "equiv", "safe", "same_kind" and "unsafe"; or "intuitive": "safe", and integers of up to 64
        bits to any floating dtype of at least 32 bits.

    Raises
    ------
    DTypeError
        If `casting` or a dtype is unknown.

    Examples
    --------
    >>> ht.can_cast(ht.int32, ht.float64), ht.can_cast(ht.int64, ht.int32)
    (True, False)
    """
    source, target = canonical(getattr(from_, "dtype", from_)), canonical(to)
    if casting not in _CASTINGS:
        raise DTypeError(f"can_cast: casting must be one of {', '.join(_CASTINGS)}, got {casting!r}")
    if source is target or casting == "unsafe":
        return True
    if casting in ("no", "equiv"):
        return False
    if promote_types(source, target) is target:
        return True
    if casting == "intuitive":
        return source.kind in "iu" and target.kind in FLOATING and target.itemsize >= 4
    return casting == "same_kind" and _KIND_ORDER.index(target.kind) >= _KIND_ORDER.index(source.kind)


def isdtype(dtype: object, kind: object) -> bool:
    """Tell whether a dtype is of a kind, as the Array API defines the kinds.

    Parameters
    ----------
    dtype : dtype
        What is tested.
    kind : str, dtype or tuple of these
        "bool", "signed integer", "unsigned integer", "integral", "real floating", "complex floating", "numeric", or a
        dtype; any one of a tuple.

    Raises
    ------
    ValueError
        If the kind is unknown.

    Examples
    --------
    >>> ht.isdtype(ht.float32, ("integral", "real floating"))
    True
    """
    value = canonical(dtype)
    if isinstance(kind, tuple):
        return any(isdtype(value, k) for k in kind)
    if isinstance(kind, str):
        if kind not in KIND_GROUPS:
            raise ValueError(f"isdtype: kind must be one of {', '.join(KIND_GROUPS)}, got {kind!r}")
        return value.kind in KIND_GROUPS[kind]
    return value is canonical(kind)


#: The Array API's kinds of dtypes, as letters.
KIND_GROUPS = {
    "bool": "b",
    "signed integer": "i",
    "unsigned integer": "u",
    "integral": "iu",
    "real floating": "f",
    "complex floating": "c",
    "numeric": NUMERIC,
}


@dataclass(frozen=True, slots=True)
class FloatLimits:
    """Machine limits of a floating dtype, of its real part where it is complex, as Python numbers.

    Attributes
    ----------
    bits : int
        Bits of a real number.
    eps : float
        Distance from 1 to the next larger number.
    epsneg : float
        Distance from 1 to the next smaller number.
    max, min : float
        Largest and least finite number.
    smallest_normal, tiny : float
        Smallest positive number of full precision.
    smallest_subnormal : float
        Smallest positive number.
    resolution : float
        ``10**-precision``.
    precision : int
        Number of decimal digits that are safe.
    dtype : dtype
        The real dtype.
    """

    bits: int
    eps: float
    epsneg: float
    max: float
    min: float
    smallest_normal: float
    smallest_subnormal: float
    resolution: float
    precision: int
    dtype: dtype

    @property
    def tiny(self) -> float:
        """NumPy's name of :attr:`smallest_normal`."""
        return self.smallest_normal


@dataclass(frozen=True, slots=True)
class IntegerLimits:
    """Machine limits of an integer dtype: ``bits``, ``max``, ``min`` and ``dtype``."""

    bits: int
    max: int
    min: int
    dtype: dtype


def _dtype_of(value: object) -> dtype:
    return canonical(getattr(value, "dtype", value))


def finfo(type: object, /) -> FloatLimits:
    """Return the machine limits of a floating dtype, or of an array's.

    Raises
    ------
    DTypeError
        If the dtype is not floating.

    Examples
    --------
    >>> ht.finfo(ht.float32).eps == 2.0**-23
    True
    """
    value = _dtype_of(type)
    if value.kind not in FLOATING:
        raise DTypeError(f"finfo: type must be a floating dtype, got {value}; use iinfo")
    return _float_limits(to_real(value))


@cache
def _float_limits(value: dtype) -> FloatLimits:
    found = torch.finfo(value.torch)
    precision = int(-math.log10(found.eps))
    return FloatLimits(
        bits=found.bits,
        eps=found.eps,
        epsneg=found.eps / 2,
        max=found.max,
        min=found.min,
        smallest_normal=found.tiny,
        smallest_subnormal=found.tiny * found.eps,
        resolution=10.0**-precision,
        precision=precision,
        dtype=value,
    )


def iinfo(type: object, /) -> IntegerLimits:
    """Return the machine limits of an integer dtype, or of an array's.

    Raises
    ------
    DTypeError
        If the dtype is not an integer.

    Examples
    --------
    >>> ht.iinfo(ht.int8).max
    127
    """
    value = _dtype_of(type)
    if value.kind not in "iu":
        raise DTypeError(f"iinfo: type must be an integer dtype, got {value}; use finfo")
    return _integer_limits(value)


@cache
def _integer_limits(value: dtype) -> IntegerLimits:
    found = torch.iinfo(value.torch)
    return IntegerLimits(found.bits, found.max, found.min, value)
