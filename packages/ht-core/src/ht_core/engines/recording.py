"""Engine of recording: runs an operation on arrays that require gradients so that it can be differentiated.

The rule for authors of operations: *write for torch and the communicator, and differentiation follows*. A recorded
operation is its own code, run once on local tensors that torch records and on a communicator that records
collectives (``taped``); what it returns becomes the output of one `Node`. So there is no table of derivatives, and
second derivatives are those of the same code. What an operation must avoid to stay differentiable: writing in place
to its operands or to what kernels keep (``out=``), taking values out of torch (``.numpy()``, ``.item()``), messages
between two ranks. Operations with integer or bool results are run and not recorded.

Where it hooks in: the elementwise and the reduction engine, indexing, and ``registry.register`` for plain functions.
What would lose the gradient is refused, not returned without one. The graph is one of global values: every rank has
the same nodes, edges and layouts, whatever its rows. Nothing of this file runs before the first ``requires_grad_()``.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import torch
from ht_comm import use_comm
from torch.overrides import TorchFunctionMode

from ..dndarray import DNDarray
from ..errors import GradientError
from ..layout import Layout
from .redistribution import redistribute
from .taped import TapedComm
from .tracking import (
    Edge,
    TrackedArray,
    _numbers,
    become,
    is_tracked,
    made_by,
    raw,
    snapshot,
    untracked,
    watch,
)

if TYPE_CHECKING:
    from ht_comm import Communicator

Tensor = torch.Tensor


class Node:
    """One recorded operation.

    Attributes
    ----------
    name : str
        Of the operation, for messages.
    order : int
        Nodes are differentiated last made first.
    edges : tuple of Edge
        Where the operands come from.
    outputs : tuple of (Layout, torch.dtype)
        What it made.
    comm : Communicator
    """

    __slots__ = ("comm", "edges", "name", "order", "outputs", "rule")

    def __init__(
        self, name: str, operands: Sequence[DNDarray], outputs: tuple, comm: Communicator, rule: Any
    ):
        self.name, self.order, self.comm = name, next(_numbers), comm
        self.edges = tuple(x._edge for x in operands)
        self.outputs, self.rule = outputs, rule

    def pull(self, cotangents: list[DNDarray | None], keep: bool, create: bool) -> Sequence[DNDarray | None]:
        """Return the gradients of the operands from those of the outputs (None: zero).

        Raises
        ------
        GradientError
            If the node has been differentiated before and was not kept.
        """
        if self.rule is None:
            raise GradientError(
                f"backward: the graph through {self.name} must be kept for a second pass, got one that is freed; "
                "give the first one retain_graph=True"
            )
        try:
            return self.rule.pull(cotangents, keep, create)
        except RuntimeError as error:
            if "derivative for" not in str(error):
                raise
            raise GradientError(
                f"{self.name}: the operation has no derivative; use x.detach() or ht.no_grad() ({error})"
            ) from error

    def free(self) -> None:
        """Let go of what was kept for the backward pass."""
        self.rule = None


class _Segment:
    """How a recorded operation is differentiated: torch's graph of this rank's part, and the tape."""

    def __init__(self, call: _Call, entered: _Entered, outputs: list[DNDarray]) -> None:
        self.call, self.entered = call, entered
        self.layouts = [y.layout for y in outputs]
        self.locals = [y.larray for y in outputs]
        self.versions = [raw(x)._version for x in call.operands]

    def pull(self, cotangents: list[DNDarray | None], keep: bool, create: bool) -> list[DNDarray | None]:
        call = self.call
        if create:
            return self._pull_recorded(cotangents)
        seeds = [None if g is None else raw(g) for g in cotangents]
        found = _pull_local(self.entered, self.locals, self.layouts, seeds, keep)
        comm = call.comm
        return [DNDarray(g, x.layout, comm) for g, x in zip(found, call.operands)]

    def _pull_recorded(self, cotangents: list[DNDarray | None]) -> list[DNDarray]:
        """Return gradients that can be differentiated: the operation is run again as part of a new one."""
        call = self.call
        if any(raw(x)._version != v for x, v in zip(call.operands, self.versions)):
            raise GradientError(
                f"backward: operands of {call.name} must not be changed in place before their second derivative"
            )
        given = [i for i, g in enumerate(cotangents) if g is not None]

        def gradients(operands: list[DNDarray], seeds: list[DNDarray]) -> list[DNDarray]:
            inner = call.enter_as(operands)
            outputs = inner.outputs(inner.run())
            locals_ = [y.larray for y in outputs]
            by_place = dict(zip(given, seeds))
            wanted = [by_place[i].larray if i in by_place else None for i in range(len(outputs))]
            found = _pull_local(inner, locals_, self.layouts, wanted, True, True)
            return [DNDarray(g, layout, inner.comm) for g, layout in zip(found, inner.layouts)]

        seeds = [cotangents[i] for i in given]
        name = f"derivative of {call.name}"
        return record(
            gradients,
            (call.operands, seeds),
            {},
            is_logical=call.is_logical,
            name=name,
            may_be_constant=True,  # the derivative of a linear operation is
        )


def _pull_local(
    entered: _Entered,
    locals_: list[Tensor],
    layouts: list[Layout],
    seeds: list[Tensor | None],
    keep: bool,
    create: bool = False,
) -> list[Tensor]:
    """Return the local parts of the gradients of the operands."""
    comm, is_local = entered.comm, entered.is_split_up
    roots, starts = [], []
    for y, layout, seed in zip(locals_, layouts, seeds):
        if seed is not None and y.requires_grad:
            # In the local reading a replicated result is p values, of which each has its share of the gradient.
            starts.append(seed / comm.size if is_local and layout.split is None else seed)
            roots.append(y)
    leaves = entered.leaves
    if comm.is_used:
        found = comm.tape.grad(roots, leaves, starts, retain_graph=keep, create_graph=create)
    elif roots:
        found = torch.autograd.grad(
            roots, leaves, starts, retain_graph=keep, create_graph=create, allow_unused=True
        )
    else:
        found = [None] * len(leaves)
    # torch's zeros without memory, as the derivative of a sign is, are no tensors that can be sent.
    found = [torch.zeros_like(x) if g is None or g._is_zerotensor() else g for g, x in zip(found, leaves)]
    if is_local:
        found = [
            _sum_over_ranks(g.contiguous(), comm, create) if layout.split is None else g
            for g, layout in zip(found, entered.layouts)
        ]
    return found


def _sum_over_ranks(g: Tensor, comm: TapedComm, create: bool) -> Tensor:
    return comm.allreduce(g) if create else comm.origin.allreduce(g)


class _Entered:
    """An operation's arguments with every array replaced by one whose local tensor torch records."""

    def __init__(self, call: _Call, comm: TapedComm, arrays: list[DNDarray], tracked: list[DNDarray]) -> None:
        self.call, self.comm, self.arrays = call, comm, arrays
        # As they are now: an operation in place gives its operand other data and another layout.
        self.locals = [x.larray for x in arrays]
        self.leaves = [x.larray for x in tracked]
        self.layouts = [x.layout for x in tracked]
        self.is_cut = any(x.layout.split is not None for x in arrays)
        self.made: list[DNDarray] = []

    def is_changed(self, at: int) -> bool:
        """Tell whether an argument has been given other data: an operation in place, as ``resplit_`` is."""
        return self.arrays[at].larray is not self.locals[at]

    def run(self) -> Any:
        """Run the operation; return its result as it is."""
        arrays = iter(self.arrays)
        args, kwargs = _replace((self.call.args, self.call.kwargs), lambda _: next(arrays))
        return self.call.function(*args, **kwargs)

    def outputs(self, result: Any) -> list[DNDarray]:
        """Return the arrays in a result that can have a gradient and are not just operands handed back."""
        places = {id(x): at for at, x in enumerate(self.arrays)}
        made = {id(y): y for y in _arrays_in(result) if id(y) not in places or self.is_changed(places[id(y)])}
        self.made = [y for y in made.values() if _is_smooth(y.larray)]
        return self.made

    @property
    def is_split_up(self) -> bool:
        """Whether ranks do different things with replicated values, so that their gradients must be added up."""
        if self.comm.is_logical or self.comm.size == 1:
            return False
        return self.comm.is_used or self.is_cut or any(y.layout.split is not None for y in self.made)


class _Call:
    """An operation and its arguments, kept so that it can be run again."""

    def __init__(self, function: Callable, args: tuple, kwargs: dict, is_logical: bool, name: str) -> None:
        self.function, self.is_logical, self.name = function, is_logical, name
        self.args, self.kwargs = _replace((args, kwargs), snapshot)
        self.arrays = _arrays_in((self.args, self.kwargs))
        self.operands = [x for x in self.arrays if type(x) is TrackedArray]
        self.comm = self.operands[0].comm

    def enter(self) -> _Entered:
        """Return arguments to record on: fresh leaves of torch's graph."""
        comms: dict[int, TapedComm] = {}
        arrays, tracked = [], []
        for x in self.arrays:
            comm = comms.setdefault(id(x.comm), TapedComm(x.comm, self.is_logical))
            local = raw(x)
            if type(x) is TrackedArray:
                local = local.detach().requires_grad_()
            arrays.append(DNDarray(local, x.layout, comm))
            if type(x) is TrackedArray:
                tracked.append(arrays[-1])
        return _Entered(self, comms[id(self.comm)], arrays, tracked)

    def enter_as(self, operands: list[DNDarray]) -> _Entered:
        """Return arguments with given tracked operands, within another recorded operation."""
        comm = operands[0].comm
        given = iter(operands)
        arrays = [
            next(given) if type(x) is TrackedArray else DNDarray(raw(x), x.layout, comm) for x in self.arrays
        ]
        return _Entered(self, comm, arrays, operands)


def record(
    function: Callable,
    args: tuple,
    kwargs: dict,
    *,
    is_logical: bool = False,
    name: str | None = None,
    may_be_constant: bool = False,
) -> Any:
    """Run an operation on arrays of which some are tracked; return what it returns, tracked.

    Parameters
    ----------
    function : callable
        Makes new arrays of arrays; looked for in its arguments, also within sequences and dicts.
    name : str, optional
        For messages; the function's own by default.
    is_logical : bool
        It communicates in a way that the logical reading of ``taped`` is right for.
    may_be_constant : bool
        The result need not depend on the values of the operands.

    Raises
    ------
    GradientError
        If the operation changes its operands in place or communicates in a way that has no adjoint.
    """
    call = _Call(function, args, kwargs, is_logical, name or function.__name__)
    entered = call.enter()
    watched = nullcontext() if is_logical else _Watched()
    with torch.enable_grad(), use_comm(entered.comm), watched:
        try:
            result = entered.run()
        except GradientError:
            raise
        except RuntimeError as error:
            raise _explained(error, call.name) from error
    originals = _arrays_in((args, kwargs))
    places = {id(x): at for at, x in enumerate(entered.arrays)}
    outputs = entered.outputs(result)
    edges: dict[int, Edge] = {}
    if outputs:
        if not may_be_constant:
            _check_connected(entered, outputs, call.name, getattr(watched, "lost", False))
        facts = tuple((y.layout, y.larray.dtype) for y in outputs)
        node = Node(call.name, call.operands, facts, call.comm, _Segment(call, entered, outputs))
        edges = {id(y): Edge(node, i) for i, y in enumerate(outputs)}

    def leave(y: DNDarray) -> DNDarray:
        comm = y.comm.origin if type(y.comm) is TapedComm else y.comm
        at = places.get(id(y))
        if at is not None and not entered.is_changed(at):
            return originals[at]
        local = y.larray.detach()
        edge = edges.get(id(y))
        value = DNDarray(local, y.layout, comm) if edge is None else made_by(local, y.layout, comm, edge)
        return value if at is None else become(originals[at], value, call.name)

    return _replace(result, leave)


class _Watched(TorchFunctionMode):
    """Sees to it that an operation that was not written for gradients does not lose them on its way.

    Attributes
    ----------
    lost : bool
        Values have been used in ways that torch cannot see. That is fine where the results are integers.
    """

    lost = False

    def __torch_function__(
        self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if function is Tensor.view and len(args) == 2 and isinstance(args[1], torch.dtype):
            if args[1] is args[0].dtype:
                return args[0]  # torch cuts the graph at a view of another dtype, even if it is the same one
            self.lost = self.lost or args[0].requires_grad
        if function in _LEAVING and args[0].requires_grad and torch.is_grad_enabled():
            self.lost = True
            with torch.no_grad():
                args = (Tensor.detach(args[0]), *args[1:])
        return function(*args, **kwargs)


_LEAVING = frozenset(
    [
        *(Tensor.item, Tensor.tolist, Tensor.numpy, Tensor.detach, Tensor.__array__),
        *(Tensor.__float__, Tensor.__int__, Tensor.__complex__),
    ]
)


def _check_connected(entered: _Entered, outputs: list[DNDarray], name: str, is_lost: bool) -> None:
    """Raise if values went ways torch cannot see, or nothing leads from a rank's rows to its part of the result."""
    fed = any(x.numel() for x in entered.leaves)
    made = [y.larray for y in outputs if y.larray.numel()]
    if is_lost or (fed and made and not any(y.requires_grad for y in made)):
        raise GradientError(f"{name}: the operation has no derivative; use x.detach() or ht.no_grad()")


def _explained(error: RuntimeError, name: str) -> RuntimeError:
    text = str(error)
    if "in-place" in text or "inplace" in text or "out=" in text:
        return GradientError(
            f"{name}: arrays that require a gradient must not be written to while gradients are recorded; "
            "use ht.no_grad(), or the form that returns a new array"
        )
    if "requires grad" in text or "requires_grad" in text:
        return GradientError(
            f"{name}: the operation has no derivative; use x.detach() or ht.no_grad() ({text.splitlines()[0]})"
        )
    return error


def record_into(
    name: str, run: Callable, operands: tuple, out: Any, where: Any, *, masks_out: bool = True
) -> Any:
    """Record an operation of an engine, in the logical reading, also one that writes to `out`.

    Parameters
    ----------
    run : callable
        ``run(operands, where)`` -> a new array, or a tuple of them where `out` is a tuple.
    masks_out : bool
        Where the mask is false `out` keeps its values.
    """
    if out is None or (type(out) is tuple and not out):
        return record(run, (operands, where), {}, is_logical=True, name=name)
    values = record(run, (operands, where), {}, is_logical=True, name=name)
    outs = out if type(out) is tuple else (out,)
    values = values if type(values) is tuple else (values,)
    if masks_out and where is not True:
        choose = sys.modules[__package__.rpartition(".")[0]].where
        values = tuple(v if o is None else choose(where, v, o) for v, o in zip(values, outs))
    results = tuple(v if o is None else assign(o, v, name) for v, o in zip(values, outs))
    return results if type(out) is tuple else results[0]


def record_rule(
    name: str, function: Callable, operands: tuple[DNDarray, ...], derivative: Callable
) -> DNDarray:
    """Run an operation of one result; differentiate it by a given rule.

    Parameters
    ----------
    function : callable
        ``function(*operands)`` -> array.
    derivative : callable
        ``derivative(g, *operands)`` -> one gradient per operand, each in the layout of the operand. Written with
        operations on arrays, so that it can be differentiated itself.
    """
    with torch.no_grad():
        value = function(*map(untracked, operands))
    if not _is_smooth(raw(value)):
        return value
    tracked = [x for x in operands if type(x) is TrackedArray]
    rule = _Rule(derivative, [snapshot(x) for x in operands])
    node = Node(name, tracked, ((value.layout, raw(value).dtype),), value.comm, rule)
    return made_by(raw(value), value.layout, value.comm, Edge(node, 0))


class _Rule:
    """How an operation with a rule of its own is differentiated."""

    def __init__(self, derivative: Callable, operands: list[DNDarray]) -> None:
        self.derivative, self.operands = derivative, operands
        self.versions = [raw(x)._version for x in operands]

    def pull(self, cotangents: list[DNDarray | None], keep: bool, create: bool) -> list[DNDarray]:
        if any(raw(x)._version != v for x, v in zip(self.operands, self.versions)):
            raise GradientError("backward: an operand must not be changed in place before the backward pass")
        if create:
            found = self.derivative(cotangents[0], *self.operands)
        else:
            with torch.no_grad():
                found = self.derivative(untracked(cotangents[0]), *map(untracked, self.operands))
        return [g for g, x in zip(found, self.operands) if type(x) is TrackedArray]


# -- for engines and the registry ----------------------------------------------------------------------------------


def differentiable(function: Callable, *, is_logical: bool = False) -> Callable:
    """Return an operation that is recorded where an operand is tracked; otherwise the same."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if watch.is_on and is_tracked(args, kwargs):
            return record(function, args, kwargs, is_logical=is_logical)
        return function(*args, **kwargs)

    return call


def replaced(function: Callable, recorded: Callable) -> Callable:
    """Return an operation that is another one, a composition of recorded operations, where an operand is tracked."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if watch.is_on and is_tracked(args, kwargs):
            return recorded(*args, **kwargs)
        return function(*args, **kwargs)

    return call


def constant(function: Callable) -> Callable:
    """Return an operation whose result never depends on the values of its operands, as ``zeros_like``."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if watch.is_on and is_tracked(args, kwargs):
            with torch.no_grad():
                return function(*args, **kwargs)
        return function(*args, **kwargs)

    return call


def assign(out: DNDarray, value: DNDarray, op: str) -> DNDarray:
    """Let `out` be `value`, brought to the layout and dtype of `out`: an operation with ``out=`` that is recorded."""
    return become(out, to_layout(value, out.layout).astype(out.dtype, copy=False), op)


def to_layout(x: DNDarray, target: Layout) -> DNDarray:
    """Return an array in another layout of the same shape; recorded where it is tracked."""
    return x if x.layout is target else _moved(x, target)


def _move(x: DNDarray, target: Layout) -> DNDarray:
    return DNDarray(redistribute(x.larray, x.layout, target, x.comm), target, x.comm)


_moved = differentiable(_move, is_logical=True)


# -- arrays within arguments and results ---------------------------------------------------------------------------


def _is_smooth(local: Tensor) -> bool:
    return local.dtype.is_floating_point or local.dtype.is_complex


def _arrays_in(value: Any) -> list[DNDarray]:
    """Return the arrays in nested sequences and dicts, in order."""
    if isinstance(value, DNDarray):
        return [value]
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, (tuple, list)):
        return []
    return [x for item in value for x in _arrays_in(item)]


def _replace(value: Any, by: Callable[[DNDarray], Any]) -> Any:
    """Return nested sequences and dicts with every array replaced, in the order of `_arrays_in`."""
    if isinstance(value, DNDarray):
        return by(value)
    if isinstance(value, dict):
        return {key: _replace(item, by) for key, item in value.items()}
    if isinstance(value, (tuple, list)) and _arrays_in(value):
        items = [_replace(item, by) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value
