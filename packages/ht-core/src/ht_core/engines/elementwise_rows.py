"""Definition of elementwise operations: from one row to the function, its method, operators and in-place twins."""

from __future__ import annotations

from collections.abc import Callable

import torch

from .. import types
from ..dndarray import DNDarray
from ..registry import register
from .elementwise import COMPUTE, Row, execute, execute_several, kinds_text, overlap

_DOC = """{summary}

{body}
*Distribution*: elementwise. Operands broadcast; operands of equal layout, replicated ones and scalars need no message.
Where layouts differ, the cheaper operand is moved to the other's layout by one redistribution.

Parameters
----------
{parameters}
out : DNDarray{several}, optional
    Where the result is written; it keeps its layout and dtype.
where : array of bool, optional
    Compute only where True; elsewhere `out` keeps its values, and without `out` the result is 0.
dtype : dtype, optional
    Dtype of the computation; the operands must cast to it without changing from a higher to a lower kind.

Returns
-------
DNDarray{several}
    {returns}

Raises
------
LayoutError
    If the shapes do not broadcast.
DTypeError
    If the promoted dtype is not {kinds}.
"""

_RETURNS = {
    "common": "Of the promoted dtype.",
    "bool": "Of dtype bool.",
    "real": "Of the promoted dtype, real where that is complex.",
}


def _document(function, row: Row, summary: str, body: str, names: tuple[str, ...]) -> None:
    function.__name__ = function.__qualname__ = row.name
    function.__module__ = "ht_core"
    several = type(row.result) is tuple
    results = row.result if several else (row.result,)
    function.__doc__ = _DOC.format(
        summary=summary,
        body=body + "\n" if body else "",
        parameters=", ".join(names) + " : array_like\n    Operands.",
        several=f", {len(results)} of them" if several else "",
        returns=" ".join(_RETURNS.get(r, f"Of dtype {r}.") for r in results),
        kinds=kinds_text(row.accepts),
    )


def direct_dtypes(row: Row) -> frozenset[torch.dtype]:
    """Return the dtypes with which torch's kernel gives the declared result as it is."""
    fine = (d for d in types.DTYPES.values() if d.kind in row.accepts and COMPUTE[row.compute](d) is d)
    return frozenset(d.torch for d in fine if d.torch not in types.WIDE_UNSIGNED)


def _add_inplace(row: Row, names: tuple[str, ...], inplace: Callable[..., DNDarray]) -> None:
    """Attach the in-place twins, such as ``add_`` and ``sqrt_``: methods only, as the array is what they change."""
    inplace.__name__ = inplace.__qualname__ = f"{row.name}_"
    inplace.__module__ = "ht_core"
    inplace.__doc__ = (
        f"Do :func:`{row.name}` in place: the result is written to this array, which is returned."
    )
    for name in names:
        setattr(DNDarray, f"{name}_", inplace)


def unary(
    name: str,
    kernel: Callable[..., torch.Tensor],
    summary: str,
    *,
    accepts: str = types.ALL,
    compute: str = "common",
    result: str = "common",
    numpy: str | None = "",
    wide: str = "host",
    body: str = "",
    operators: tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
) -> Callable[..., DNDarray]:
    """Define an elementwise operation of one operand: the public function, its method, operators and twin."""
    row = Row(name, kernel, accepts, compute, result, name if numpy == "" else numpy, wide=wide)
    direct = direct_dtypes(row)

    def function(
        x: object, /, out: DNDarray | None = None, *, where: object = True, dtype: object = None
    ) -> DNDarray:
        if (
            out is None
            and where is True
            and dtype is None
            and type(x) is DNDarray
            and x.larray.dtype in direct
        ):
            return DNDarray(kernel(x.larray), x.layout, x.comm)
        return execute(row, (x,), out, where, dtype)

    def inplace(self: DNDarray) -> DNDarray:
        return execute(row, (self,), self)

    _document(function, row, summary, body, ("x",))
    register(
        function, kind="elementwise", numpy=row.numpy, accepts=accepts, operators=operators, aliases=aliases
    )
    if result != "bool":
        _add_inplace(row, (name, *aliases), inplace)
    return function


def number_beside(direct: frozenset[torch.dtype], scalars: bool) -> Callable[[object, torch.Tensor], object]:
    """Return the function that gives a Python number as a kernel takes it; None where the general path must see it."""
    # Numbers that the dtype of the array holds: in 16 bits torch would not round them to it first.
    floating = direct & {torch.float32, torch.float64}
    limits = {d: torch.iinfo(d) for d in direct & {torch.int32, torch.int64}}

    def number(value: object, a: torch.Tensor) -> object:
        kind = a.dtype
        if kind not in floating:
            if (
                type(value) is not int
                or kind not in limits
                or not limits[kind].min <= value <= limits[kind].max
            ):
                return None
        elif type(value) is not float and type(value) is not int:
            return None
        return value if scalars else torch.full((), value, dtype=kind, device=a.device)

    return number


def binary(
    name: str,
    kernel: Callable[..., torch.Tensor],
    summary: str,
    *,
    accepts: str = types.ALL,
    compute: str = "common",
    result: str = "common",
    numpy: str | None = "",
    wide: str = "host",
    scalars: bool = False,
    exponents: int = 0,
    body: str = "",
    operator: str | None = None,
    aliases: tuple[str, ...] = (),
) -> Callable[..., DNDarray]:
    """Define an elementwise operation of two operands.

    With `operator`, e.g. ``"add"``, also ``__add__``, ``__radd__`` and ``__iadd__``; in-place twins (``add_``) follow.
    `scalars` says that the kernel takes a Python number as its second operand, which saves making a tensor of it.
    """
    row = Row(
        name, kernel, accepts, compute, result, name if numpy == "" else numpy, exponents=exponents, wide=wide
    )
    direct = frozenset() if exponents else direct_dtypes(row)  # exponents have a dtype of their own
    number = number_beside(direct, scalars)

    def function(
        x1: object, x2: object, /, out: DNDarray | None = None, *, where: object = True, dtype: object = None
    ) -> DNDarray:
        if out is None and where is True and dtype is None and type(x1) is DNDarray:
            a = x1.larray
            if type(x2) is DNDarray:
                b = x2.larray
                if x1.layout is x2.layout and x1.comm is x2.comm and a.dtype is b.dtype and a.dtype in direct:
                    return DNDarray(kernel(a, b), x1.layout, x1.comm)
            elif (b := number(x2, a)) is not None:
                return DNDarray(kernel(a, b), x1.layout, x1.comm)
        return execute(row, (x1, x2), out, where, dtype)

    def reflected(self: DNDarray, other: object) -> DNDarray:
        if type(self) is DNDarray and (b := number(other, self.larray)) is not None:
            a = self.larray
            first = torch.full((), b, dtype=a.dtype, device=a.device) if scalars else b
            return DNDarray(kernel(first, a), self.layout, self.comm)
        return execute(row, (other, self))

    def inplace(self: DNDarray, other: object) -> DNDarray:
        if type(self) is DNDarray and result == "common":
            a = self.larray
            if type(other) is DNDarray:
                b = other.larray
                if (
                    self.layout is other.layout
                    and self.comm is other.comm
                    and a.dtype is b.dtype
                    and a.dtype in direct
                    and not overlap([b], a)
                ):
                    kernel(a, b, out=a)
                    return self
            elif (b := number(other, a)) is not None:
                kernel(a, b, out=a)
                return self
        return execute(row, (self, other), self)

    _document(function, row, summary, body, ("x1", "x2"))
    register(
        function,
        kind="elementwise",
        numpy=row.numpy,
        accepts=accepts,
        arity=2,
        operators=() if operator is None else (f"__{operator}__",),
        aliases=aliases,
    )
    if result != "bool":
        _add_inplace(row, (name, *aliases), inplace)
        if operator is not None:
            setattr(DNDarray, f"__r{operator}__", reflected)
            setattr(DNDarray, f"__i{operator}__", inplace)
    return function


def pair(
    name: str,
    kernel: Callable[..., tuple[torch.Tensor, ...]],
    summary: str,
    *,
    results: tuple[str, str],
    arity: int = 1,
    accepts: str = types.REAL,
    compute: str = "common",
    numpy: str | None = "",
    body: str = "",
) -> Callable[..., tuple[DNDarray, ...]]:
    """Define an elementwise operation with two results."""
    row = Row(name, kernel, accepts, compute, results, name if numpy == "" else numpy)

    def run(operands, out1, out2, out, where, dtype) -> tuple[DNDarray, ...]:
        outs = (out1, out2) if out is None else tuple(out)
        if len(outs) != len(results) or (out is not None and (out1 is not None or out2 is not None)):
            raise types.DTypeError(
                f"{name}: out must be a pair, given once, got {len(outs)} and {out1!r}, {out2!r}"
            )
        return execute_several(row, operands, outs, where, dtype)

    def one(x, out1=None, out2=None, /, *, out=None, where=True, dtype=None) -> tuple[DNDarray, DNDarray]:
        return run((x,), out1, out2, out, where, dtype)

    def two(
        x1, x2, out1=None, out2=None, /, *, out=None, where=True, dtype=None
    ) -> tuple[DNDarray, DNDarray]:
        return run((x1, x2), out1, out2, out, where, dtype)

    function = one if arity == 1 else two
    _document(function, row, summary, body, ("x",) if arity == 1 else ("x1", "x2"))
    return register(function, kind="elementwise", numpy=row.numpy, accepts=accepts, arity=arity)
