"""Rounding and bounding, one row each. Integers stay what they are."""

from __future__ import annotations

import torch

from . import types
from .dndarray import DNDarray
from .engines.elementwise import Row, execute
from .engines.elementwise_rows import unary
from .errors import DTypeError
from .registry import register

_REAL = "biuf"


def _integers_stay(kernel):
    def rounded(x, out=None):
        if x.is_floating_point():
            return kernel(x, out=out)
        return x.clone() if out is None else out.copy_(x)

    return rounded


def _round_half_even(x, out=None):
    if not x.is_complex():
        return torch.round(x, out=out)
    value = torch.complex(torch.round(x.real), torch.round(x.imag))
    return value if out is None else out.copy_(value)


floor = unary(
    "floor", _integers_stay(torch.floor), "Round toward minus infinity.", accepts=_REAL, wide="bits"
)
ceil = unary("ceil", _integers_stay(torch.ceil), "Round toward plus infinity.", accepts=_REAL, wide="bits")
trunc = unary(
    "trunc",
    _integers_stay(torch.trunc),
    "Round toward 0.",
    accepts=_REAL,
    wide="bits",
    aliases=("fix",),
)
rint = unary(
    "rint", _round_half_even, "Round to the nearest integer, halves to even; floating.", compute="floating"
)


# -- round ----------------------------------------------------------------------------------------------------


def _round_to(decimals: int):
    """Return the kernel that rounds to a multiple of 10**-decimals: scales, rounds and scales back, as NumPy does."""
    scale = 10.0 ** abs(decimals)

    def scaled(x):
        wide = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
        value = torch.round(wide * scale) / scale if decimals > 0 else torch.round(wide / scale) * scale
        return torch.where(torch.isfinite(wide), value, wide).to(x.dtype)

    def rounded(x, out=None):
        if not (x.is_floating_point() or x.is_complex()):
            value = x.clone() if decimals >= 0 else _round_integers(x, int(scale))
        elif x.is_complex():
            value = torch.complex(scaled(x.real), scaled(x.imag))
        else:
            value = scaled(x)
        return value if out is None else out.copy_(value)

    return _round_half_even_or_stay if decimals == 0 else rounded


def _round_half_even_or_stay(x, out=None):
    if x.is_floating_point() or x.is_complex():
        return _round_half_even(x, out=out)
    return x.clone() if out is None else out.copy_(x)


def _round_integers(x: torch.Tensor, unit: int) -> torch.Tensor:
    if unit > torch.iinfo(x.dtype).max:
        return torch.zeros_like(x)
    quotient = torch.div(x, unit, rounding_mode="floor")
    twice = (x - quotient * unit) * 2
    up = (twice > unit) | ((twice == unit) & (quotient % 2 == 1))
    return (quotient + up) * unit


def round(x: object, /, decimals: int = 0, out: DNDarray | None = None, *, where: object = True) -> DNDarray:
    """Round to `decimals` places, halves to even.

    *Distribution*: elementwise, keeps the layout. No message.

    Parameters
    ----------
    x : array_like
        Input. Integers stay as they are where `decimals` is not negative; the parts of complex numbers are rounded.
    decimals : int
        Number of places; a negative one rounds to tens, hundreds, ...
    out : DNDarray, optional
        Where the result is written; it keeps its layout and dtype.
    where : array of bool, optional
        Compute only where True.

    Returns
    -------
    DNDarray
        Of the dtype of `x`; float16 for bool.

    Examples
    --------
    >>> ht.round(ht.array([0.5, 1.5, 2.35], split=0), 1).numpy().tolist()
    [0.5, 1.5, 2.4]
    """
    if (
        decimals == 0
        and out is None
        and where is True
        and type(x) is DNDarray
        and x.larray.is_floating_point()
    ):
        return DNDarray(torch.round(x.larray), x.layout, x.comm)
    compute = "floating" if types.result_type(_as_typed(x)) is types.bool_ else "common"
    row = Row("round", _round_to(int(decimals)), types.ALL, compute, "common", "round", wide="bits")
    return execute(row, (x,), out, where)


def _as_typed(x: object) -> object:
    return x if isinstance(x, DNDarray) else torch.as_tensor(x).dtype


# -- clip -----------------------------------------------------------------------------------------------------


def _clip(has_min: bool, has_max: bool):
    def clipped(x, *limits, out=None):
        low = limits[0] if has_min else None
        high = limits[-1] if has_max else None
        if any(v is not None and v.dtype in (torch.float16, torch.bfloat16) for v in (low, high)):
            # torch has no kernel for bounds of 16 bits in one pass
            value = x if low is None else torch.maximum(x, low)
            value = value if high is None else torch.minimum(value, high)
            return value.clone() if out is None else out.copy_(value)
        return torch.clamp(x, min=low, max=high, out=out)

    return clipped


def clip(
    x: object,
    /,
    min: object = None,
    max: object = None,
    out: DNDarray | None = None,
    *,
    a_min: object = None,
    a_max: object = None,
    where: object = True,
    dtype: object = None,
) -> DNDarray:
    """Replace what is below `min` by `min`, and what is above `max` by `max`.

    Where `min` is above `max` the result is `max`. NaN stays, and a bound that is NaN gives NaN.

    *Distribution*: elementwise. No message where the bounds are numbers, replicated, or of the layout of `x`.

    Parameters
    ----------
    x : array_like
        Input.
    min, max : array_like, optional
        Bounds that broadcast with `x`; None means none. Also under NumPy's names `a_min` and `a_max`.
    out : DNDarray, optional
        Where the result is written; it keeps its layout and dtype.
    where : array of bool, optional
        Compute only where True.
    dtype : dtype, optional
        Dtype of the computation.

    Returns
    -------
    DNDarray
        Of the promoted dtype of `x` and the bounds.

    Raises
    ------
    DTypeError
        If a bound is given twice or the dtype is complex.

    Examples
    --------
    >>> ht.clip(ht.arange(5, split=0), 1, 3).numpy().tolist()
    [1, 1, 2, 3, 3]
    """
    if out is None and where is True and dtype is None and type(x) is DNDarray and a_min is a_max is None:
        value = _clip_by_numbers(x.larray, min, max)
        if value is not None:
            return DNDarray(value, x.layout, x.comm)
    if (min is not None and a_min is not None) or (max is not None and a_max is not None):
        raise DTypeError("clip: each bound must be given once, got min and a_min, or max and a_max")
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    bounds = [_within(v, x) for v in (low, high)]
    given = tuple(v for v in bounds if v is not None)
    if not given:
        return positive_or_copy(x, out, where, dtype)
    row = Row("clip", _clip(bounds[0] is not None, bounds[1] is not None), _REAL, "common", "common", "clip")
    if types.result_type(*(_strong(v) for v in (x, *given))).torch in types.WIDE_UNSIGNED:
        return _clip_wide(x, *bounds, out, where, dtype)
    return execute(row, (x, *given), out, where, dtype)


def _clip_by_numbers(x: torch.Tensor, low: object, high: object) -> torch.Tensor | None:
    """Clip by Python numbers of the kind of `x`, the usual case, in one pass; None for all other cases."""
    kinds = (
        {float, int} if x.dtype in (torch.float32, torch.float64) else {int} if x.dtype is torch.int64 else ()
    )
    given = [v for v in (low, high) if v is not None]
    if not given or any(type(v) not in kinds or v != v for v in given):
        return None
    if x.dtype is torch.int64 and any(not -(2**63) <= v < 2**63 for v in given):
        return None
    return torch.clamp(x, low, high)


def _within(bound: object, x: object) -> object:
    """Return a Python integer bound brought into the range of the dtype of `x`, which bounds nothing else."""
    kind = x.dtype if isinstance(x, DNDarray) else None
    if type(bound) is not int or kind is None or kind.kind not in "iu":
        return bound
    limits = types.iinfo(kind)
    return limits.min if bound < limits.min else limits.max if bound > limits.max else bound


def _strong(v: object) -> object:
    return v if isinstance(v, (DNDarray, bool, int, float, complex)) else _as_typed(v)


def _clip_wide(x, low, high, out, where, dtype) -> DNDarray:
    from .arithmetic import maximum, minimum

    if low is None:
        return minimum(x, high, out, where=where, dtype=dtype)
    if high is None:
        return maximum(x, low, out, where=where, dtype=dtype)
    return minimum(maximum(x, low, dtype=dtype), high, out, where=where, dtype=dtype)


_COPY = Row(
    "clip",
    lambda x, out=None: x.clone() if out is None else out.copy_(x),
    _REAL,
    "common",
    "common",
    None,
    wide="bits",
)


def positive_or_copy(x: object, out, where, dtype) -> DNDarray:
    """Return a copy of `x`, which nothing bounds."""
    return execute(_COPY, (x,), out, where, dtype)


# -- nan_to_num -----------------------------------------------------------------------------------------------


def _replace_specials(nan: float, posinf: float | None, neginf: float | None):
    def real(x):
        return torch.nan_to_num(x, nan=nan, posinf=posinf, neginf=neginf)

    def replaced(x, out=None):
        if x.is_complex():
            value = torch.view_as_complex(real(torch.view_as_real(x.resolve_conj())))
        else:
            value = real(x) if x.is_floating_point() else x.clone()
        return value if out is None else out.copy_(value)

    return replaced


def nan_to_num(
    x: object,
    /,
    copy: bool = True,
    nan: float = 0.0,
    posinf: float | None = None,
    neginf: float | None = None,
    *,
    out: DNDarray | None = None,
) -> DNDarray:
    """Replace NaN and infinities by numbers.

    *Distribution*: elementwise, keeps the layout. No message.

    Parameters
    ----------
    x : array_like
        Input; integers stay as they are.
    copy : bool
        False writes to `x` itself.
    nan : number
        What replaces NaN.
    posinf, neginf : number, optional
        What replaces the infinities; the largest and the least finite number by default.
    out : DNDarray, optional
        Where the result is written.

    Returns
    -------
    DNDarray
        Of the dtype of `x`.

    Examples
    --------
    >>> ht.nan_to_num(ht.array([1.0, ht.nan, -ht.inf], split=0), neginf=-5).numpy().tolist()
    [1.0, 0.0, -5.0]
    """
    kernel = _replace_specials(float(nan), *(v if v is None else float(v) for v in (posinf, neginf)))
    row = Row("nan_to_num", kernel, types.ALL, "common", "common", "nan_to_num", wide="bits")
    if not copy and out is None and isinstance(x, DNDarray):
        out = x
    return execute(row, (x,), out)


register(round, kind="elementwise", numpy="round", aliases=("around",))
register(clip, kind="elementwise", numpy="clip", accepts="iuf")
register(nan_to_num, kind="elementwise", numpy="nan_to_num")


def _round_in_place(self: DNDarray, decimals: int = 0) -> DNDarray:
    """Round in place; see :func:`round`."""
    return round(self, decimals, self)


def _clip_in_place(self: DNDarray, min: object = None, max: object = None) -> DNDarray:
    """Bound in place; see :func:`clip`."""
    return clip(self, min, max, self)


def _nan_to_num_in_place(self: DNDarray, nan: float = 0.0, posinf=None, neginf=None) -> DNDarray:
    """Replace NaN and infinities in place; see :func:`nan_to_num`."""
    return nan_to_num(self, False, nan, posinf, neginf)


def _round_operator(self: DNDarray, ndigits: int | None = None) -> DNDarray:
    """Round, as the built-in ``round`` asks for."""
    return round(self, 0 if ndigits is None else ndigits)


DNDarray.round_, DNDarray.clip_, DNDarray.nan_to_num_ = _round_in_place, _clip_in_place, _nan_to_num_in_place
DNDarray.__round__ = _round_operator
