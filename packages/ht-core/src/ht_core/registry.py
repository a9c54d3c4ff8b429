"""The table of operations: one row each.

A row is written once, in the category file of its operation (``arithmetic.py``, ``statistics.py``, ...), by calling
the engine of its kind. The engine returns the public function; :func:`register` makes the same object the method and
the operator of :class:`DNDarray`, and keeps the facts that tests and documentation are generated from.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from .dndarray import DNDarray
from .engines.recording import constant, differentiable, replaced


@dataclass(frozen=True, slots=True)
class Operation:
    """What tests and documentation need to know of one operation.

    Attributes
    ----------
    name : str
    kind : str
        The engine: "elementwise", "reduction", "scan", "creation", "indexing", "redistribution", ...
    function : callable
        The public function; also the method.
    numpy : str or None
        Name of the NumPy function it must agree with.
    accepts : str
        Kinds of dtypes accepted (letters of ``ht_core.types``).
    arity : int
        Number of array operands.
    cost : str
        What it communicates, in one sentence.
    """

    name: str
    kind: str
    function: Callable
    numpy: str | None
    accepts: str
    arity: int
    cost: str


OPERATIONS: dict[str, Operation] = {}

#: Kinds whose functions change their operands: they refuse arrays that require a gradient.
_CHANGING = frozenset({"assignment"})


def register(
    function: Callable,
    *,
    kind: str,
    numpy: str | None = None,
    accepts: str = "biufc",
    arity: int = 1,
    cost: str = "No message.",
    method: bool = True,
    operators: tuple[str, ...] = (),
    aliases: tuple[str, ...] = (),
    recorded: Callable | None = None,
) -> Callable:
    """Enter `function` as the operation of its name; return it.

    Parameters
    ----------
    method : bool
        Make it a method of :class:`DNDarray`, under its name and its aliases.
    operators : tuple of str
        Special methods that are this operation with its operands in order, such as ``"__add__"``.
    aliases : tuple of str
        Further public names of the same function.
    recorded : callable
        What runs instead where an operand requires a gradient: a composition of operations that are recorded.
    """
    function = _with_gradients(function, kind, recorded)
    row = Operation(function.__name__, kind, function, numpy, accepts, arity, cost)
    for name in (row.name, *aliases):
        if name in OPERATIONS:
            raise ValueError(f"operation {name!r} is defined twice")
        OPERATIONS[name] = row
        if method:
            setattr(DNDarray, name, function)
    for name in operators:
        setattr(DNDarray, name, function)
    return function


def _with_gradients(function: Callable, kind: str, recorded: Callable | None) -> Callable:
    """Return the function that records itself on arrays that require a gradient; it takes the place of the other."""
    home = function.__module__
    if home == "ht_core":  # made by an engine, which records its operations itself
        return function
    if kind in _CHANGING:
        return function
    if recorded is not None:
        made = replaced(function, recorded)
    elif kind == "creation" and function.__name__.endswith(("_like", "_from")):
        made = constant(function)
    else:
        made = differentiable(function, is_logical=kind == "redistribution")
    names = vars(sys.modules[home])
    if names.get(function.__name__) is function:
        names[function.__name__] = made
    return made
