"""Parts and angles of complex numbers."""

from __future__ import annotations

import torch

from . import types
from .dndarray import DNDarray
from .engines.elementwise import Row, common_comm, execute
from .engines.elementwise_rows import unary
from .registry import register


def _real(x, out=None):
    value = x.real if x.is_complex() else x
    return value.clone() if out is None else out.copy_(value)


def _imag(x, out=None):
    value = x.imag.clone() if x.is_complex() else torch.zeros_like(x)
    return value if out is None else out.copy_(value)


def _isreal(x, out=None):
    value = x.imag == 0 if x.is_complex() else torch.ones_like(x, dtype=torch.bool)
    return value if out is None else out.copy_(value)


def _iscomplex(x, out=None):
    value = x.imag != 0 if x.is_complex() else torch.zeros_like(x, dtype=torch.bool)
    return value if out is None else out.copy_(value)


def _conj(x, out=None):
    if x.is_complex():
        return torch.conj_physical(x, out=out)
    return x.clone() if out is None else out.copy_(x)


conj = unary(
    "conj",
    _conj,
    "Return the complex conjugate.",
    compute="integer",
    wide="bits",
    aliases=("conjugate",),
)
isreal = unary("isreal", _isreal, "Tell where the imaginary part is 0.", result="bool", wide="bits")
iscomplex = unary(
    "iscomplex", _iscomplex, "Tell where the imaginary part is not 0.", result="bool", wide="bits"
)

_REAL = Row("real", _real, types.ALL, "common", "real", "real", wide="bits")
_IMAG = Row("imag", _imag, types.ALL, "common", "real", "imag", wide="bits")


def real(x: object, /) -> DNDarray:
    """Return the real part; of a real array, the array itself.

    *Distribution*: elementwise, keeps the layout. No message. The result may share memory with `x`, as in NumPy.

    Examples
    --------
    >>> ht.real(ht.array([1 + 2j, 3], split=0)).numpy().tolist()
    [1.0, 3.0]
    """
    if not isinstance(x, DNDarray):
        return execute(_REAL, (x,))
    return DNDarray(x.larray.real, x.layout, x.comm) if x.larray.is_complex() else x


def imag(x: object, /) -> DNDarray:
    """Return the imaginary part; zeros for a real array.

    *Distribution*: elementwise, keeps the layout. No message. The result may share memory with `x`, as in NumPy.

    Examples
    --------
    >>> ht.imag(ht.array([1 + 2j, 3], split=0)).numpy().tolist()
    [2.0, 0.0]
    """
    if isinstance(x, DNDarray) and x.larray.is_complex():
        local = x.larray.resolve_conj().imag
        return DNDarray(local, x.layout, x.comm)
    return execute(_IMAG, (x,))


def _angle(deg: bool):
    def angle(x, out=None):
        value = torch.atan2(x.imag, x.real) if x.is_complex() else torch.atan2(torch.zeros_like(x), x)
        value = torch.rad2deg(value) if deg else value
        return value if out is None else out.copy_(value)

    return angle


def angle(x: object, /, deg: bool = False, out: DNDarray | None = None) -> DNDarray:
    """Return the angle of complex numbers with the positive real axis, in (-pi, pi].

    *Distribution*: elementwise, keeps the layout. No message.

    Parameters
    ----------
    x : array_like
        Input; real numbers have the angle 0 or pi.
    deg : bool
        Return degrees.
    out : DNDarray, optional
        Where the result is written.

    Returns
    -------
    DNDarray
        Real and floating.

    Examples
    --------
    >>> ht.angle(ht.array([1.0, 1j, -1.0], split=0), deg=True).numpy().tolist()
    [0.0, 90.0, 180.0]
    """
    kind = x.dtype if isinstance(x, DNDarray) else None
    compute = "quotient" if kind is types.bool_ else "floating"
    return execute(Row("angle", _angle(bool(deg)), types.ALL, compute, "real", "angle"), (x,), out)


def real_if_close(x: object, /, tol: float = 100) -> DNDarray:
    """Return the real part where all imaginary parts are small, and `x` otherwise.

    *Distribution*: keeps the layout. One allreduce of a number where `x` is complex and split.

    Parameters
    ----------
    x : array_like
        Input.
    tol : float
        What is small: in units of the machine precision above 1, an absolute bound otherwise.

    Examples
    --------
    >>> ht.real_if_close(ht.array([1 + 1e-15j, 2], split=0)).dtype
    ht.float64
    """
    x = x if isinstance(x, DNDarray) else execute(_COPY, (x,))
    if not x.larray.is_complex():
        return x
    bound = tol * types.finfo(x.dtype).eps if tol > 1 else tol
    large = torch.count_nonzero(~(x.larray.imag.abs() < bound))
    comm = common_comm([x], "real_if_close")
    if x.is_distributed():
        large = comm.allreduce(large, "sum")
    return x if int(large) else real(x)


_COPY = Row("real_if_close", lambda x, out=None: x.clone(), types.ALL, "common", "common", None, wide="bits")


def iscomplexobj(x: object, /) -> bool:
    """Tell whether the dtype is complex. No message.

    Examples
    --------
    >>> ht.iscomplexobj(ht.ones(2))
    False
    """
    return types.result_type(x).kind == "c"


def isrealobj(x: object, /) -> bool:
    """Tell whether the dtype is not complex. No message.

    Examples
    --------
    >>> ht.isrealobj(ht.ones(2))
    True
    """
    return not iscomplexobj(x)


register(real, kind="elementwise", numpy="real", method=False)
register(imag, kind="elementwise", numpy="imag", method=False)
register(angle, kind="elementwise", numpy="angle")
register(
    real_if_close,
    kind="comparison",
    numpy="real_if_close",
    method=False,
    cost="One allreduce of a number where the array is complex and split.",
)
DNDarray.real, DNDarray.imag = property(real), property(imag)
