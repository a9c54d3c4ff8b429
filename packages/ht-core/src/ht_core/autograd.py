"""Automatic differentiation of operations on distributed arrays.

``x.requires_grad_()`` asks for the gradient by `x`; operations on `x` are recorded; ``loss.backward()`` leaves the
gradient in ``x.grad``, an array of the layout of `x`. ``grad(f)`` and ``value_and_grad(f)`` do the same for a
function. Whether an array requires a gradient is a global fact: the same on all ranks, whatever rows they hold.

A replicated array is one value and a split array is one value in pieces, so a gradient has the layout of what it is
the gradient by: through a sum over the split axis it comes back without a message, a resplit is undone by a resplit,
and a replicated array that met a split one costs one allreduce. Recording is the engines' part
(``engines.recording``); this file runs through the graph.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Sequence
from functools import wraps

import torch
from ht_comm import CommError, Communicator

from .dndarray import DNDarray
from .engines.recording import differentiable, to_layout
from .engines.tracking import Edge, Leaf, TrackedArray, is_leaf, raw, snapshot, track, untracked
from .errors import GradientError, LayoutError
from .layout import Layout
from .registry import OPERATIONS

no_grad = torch.no_grad
enable_grad = torch.enable_grad
is_grad_enabled = torch.is_grad_enabled
set_grad_enabled = torch.set_grad_enabled


# -- running through the graph -------------------------------------------------------------------------------------


def _nodes_below(roots: Sequence[Edge], wanted: set[int] | None) -> list:
    """Return the nodes and leaves that the roots depend on, last made first; with `wanted` those that lead there."""
    found, heap = {}, [(-edge.node.order, id(edge.node), edge.node) for edge in roots]
    heapq.heapify(heap)
    ordered = []
    while heap:
        _, key, node = heapq.heappop(heap)
        if key in found:
            continue
        found[key] = node
        ordered.append(node)
        for edge in node.edges:
            if id(edge.node) not in found:
                heapq.heappush(heap, (-edge.node.order, id(edge.node), edge.node))
    if wanted is None:
        return ordered
    leads: set[int] = set(wanted)
    for node in reversed(ordered):
        if any(id(edge.node) in leads for edge in node.edges):
            leads.add(id(node))
    return [node for node in ordered if id(node) in leads]


def _check_same_graph(nodes: list, comm: Communicator) -> None:
    """Raise on all ranks if the graphs differ, in which case the backward pass would hang.

    *Distribution*: one allreduce of 16 bytes; none on one rank.
    """
    if comm.size == 1:
        return
    text = repr([(node.name, getattr(node, "outputs", ())) for node in nodes if type(node) is not Leaf])
    digest = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=7).digest(), "big") if nodes else 0
    low, high = comm.allreduce(torch.tensor([-digest, digest]), "max").tolist()
    if -low != high:
        raise CommError(
            "backward: the loss must depend on the same operations on every rank, got different ones; "
            "call the same functions on all ranks, also where a rank does not need the result"
        )


def _run(
    roots: list[tuple[Edge, DNDarray]],
    wanted: list[Edge] | None,
    comm: Communicator,
    keep: bool,
    create: bool,
) -> list[DNDarray | None]:
    """Run the backward pass; return the gradients of `wanted`, or add them to the leaves' where that is None."""
    targets = None if wanted is None else {id(edge.node) for edge in wanted}
    nodes = _nodes_below([edge for edge, _ in roots], targets)
    _check_same_graph(nodes, comm)
    gradients: dict[tuple[int, int], DNDarray] = {}
    add = OPERATIONS["add"].function
    asked = {(id(edge.node), edge.index): None for edge in wanted or ()}

    def give(edge: Edge, g: DNDarray) -> None:
        key = (id(edge.node), edge.index)
        gradients[key] = add(gradients[key], g) if key in gradients else g

    with torch.enable_grad() if create else torch.no_grad():
        for edge, seed in roots:
            give(edge, seed)
        needed = {id(node) for node in nodes}
        for node in nodes:
            count = 1 if type(node) is Leaf else len(node.outputs)
            own = [gradients.pop((id(node), i), None) for i in range(count)]
            asked.update({(id(node), i): own[i] for i in range(count) if (id(node), i) in asked})
            if type(node) is Leaf:
                if wanted is None:
                    _collect(node, own[0])
            elif any(g is not None for g in own) and (
                targets is None or any(id(edge.node) in needed for edge in node.edges)
            ):
                for edge, g in zip(node.edges, node.pull(own, keep, create)):
                    if g is not None and id(edge.node) in needed:
                        give(edge, g)
                if not keep:
                    node.free()
    return [asked[(id(edge.node), edge.index)] for edge in wanted or ()]


def _collect(leaf: Leaf, g: DNDarray | None) -> None:
    x = leaf.array()
    if x is None or g is None:
        return
    x._grad = g if x.grad is None else OPERATIONS["add"].function(x.grad, to_layout(g, x.grad.layout))


def _seed(loss: DNDarray, gradient: object, op: str) -> DNDarray:
    """Return what the backward pass starts with, in the layout of the loss."""
    if gradient is None:
        if loss.size != 1 or loss.dtype.kind == "c":
            raise LayoutError(
                f"{op}: the loss must be one real number where no gradient is given, got shape {loss.shape} "
                f"of {loss.dtype}; reduce it, or pass gradient="
            )
        return DNDarray(torch.ones_like(raw(loss)), loss.layout, loss.comm)
    if not isinstance(gradient, DNDarray):
        local = torch.as_tensor(gradient, device=raw(loss).device)
        gradient = DNDarray(local, Layout.replicated(tuple(local.shape)), loss.comm)
    if gradient.shape != loss.shape:
        raise LayoutError(
            f"{op}: gradient must have the shape {loss.shape} of the loss, got {gradient.shape}"
        )
    return to_layout(gradient, loss.layout).astype(loss.dtype, copy=False)


def backward(
    self: DNDarray,
    gradient: object = None,
    *,
    retain_graph: bool | None = None,
    create_graph: bool = False,
) -> None:
    """Add the gradient of this array to the `grad` of every leaf that it depends on.

    *Distribution*: collective where the array lives on several ranks. One allreduce of 16 bytes that makes sure that
    all ranks have recorded the same; then what the recorded operations ask for, last one first: nothing for
    elementwise operations on equal layouts and for reductions, the move back for a move, one allreduce for a
    replicated operand that met a split one. The graph is freed on the way.

    Parameters
    ----------
    self : DNDarray
        The loss: one real number, unless `gradient` is given. A replicated loss counts once.
    gradient : array_like of the shape of the array, optional
        What to start with.
    retain_graph : bool, optional
        Keep the graph for another pass; the default is `create_graph`.
    create_graph : bool
        Record the backward pass itself, for higher derivatives.

    Raises
    ------
    GradientError
        If the array requires no gradient, or its graph has been freed.
    LayoutError
        If it is not one real number and no `gradient` is given, or that has another shape.
    CommError
        On all ranks, if the ranks have recorded different operations.

    Examples
    --------
    >>> x = ht.arange(3, dtype=ht.float64, split=0).requires_grad_()
    >>> (x * x).sum().backward()
    >>> x.grad.numpy().tolist()
    [0.0, 2.0, 4.0]
    """
    keep = create_graph if retain_graph is None else retain_graph
    seed = _seed(self, gradient, "backward")
    if type(self) is not TrackedArray:
        _check_same_graph([], self.comm)  # another rank's may be tracked: nobody is left waiting
        raise GradientError(
            "backward: the array must require a gradient, got one that does not; call requires_grad_() on what it "
            "is computed from, outside ht.no_grad()"
        )
    _run([(self._edge, seed)], None, self.comm, keep, create_graph)


# -- methods -------------------------------------------------------------------------------------------------------


def requires_grad_(self: DNDarray, requires_grad: bool = True) -> DNDarray:
    """Ask for the gradient by this array, or ask no more; return the array. Call it on all ranks. No message.

    Raises
    ------
    DTypeError
        If the array is neither floating nor complex.
    GradientError
        If the array is the result of recorded operations and `requires_grad` is False; detach it.
    """
    if requires_grad:
        return track(self)
    if not is_leaf(self):
        raise GradientError(
            "requires_grad_: the array must be a leaf to be told to require no gradient, got a result; use detach()"
        )
    self.__class__ = DNDarray
    return self


def detach(self: DNDarray) -> DNDarray:
    """Return an array of the same values, in the same memory, that requires no gradient. No message."""
    return DNDarray(raw(self), self.layout, self.comm)


def _get_grad(self: DNDarray) -> DNDarray | None:
    return getattr(self, "_grad", None)


def _set_grad(self: DNDarray, value: DNDarray | None) -> None:
    if value is not None and (not isinstance(value, DNDarray) or value.shape != self.shape):
        got = value.shape if isinstance(value, DNDarray) else type(value).__name__
        raise LayoutError(f"grad: the gradient must be None or an array of shape {self.shape}, got {got}")
    self._grad = value


def zero_grad(*arrays: DNDarray) -> None:
    """Forget the gradients that arrays have collected: ``x.zero_grad()`` or ``zero_grad(*parameters)``. No message."""
    for x in arrays:
        x._grad = None


# -- functions of functions ----------------------------------------------------------------------------------------


def value_and_grad(
    function: Callable, argnums: int | Sequence[int] = 0, *, has_aux: bool = False
) -> Callable[..., tuple]:
    """Return a function that computes the value of `function` and its gradient.

    *Distribution*: as :func:`backward`; a gradient has the layout of its argument.

    Parameters
    ----------
    function : callable
        ``function(*args, **kwargs)`` -> one real number as an array, or with `has_aux` a pair of that and
        anything.
    argnums : int or sequence of int
        The positional arguments, arrays, by which to differentiate.
    has_aux : bool
        The function returns a pair.

    Returns
    -------
    callable
        With the arguments of `function`; returns (value, gradient), the gradient a tuple where `argnums` is a
        sequence. Differentiable itself: ``grad(grad(f))`` is the second derivative.

    Raises
    ------
    GradientError
        If the value does not depend on any of these arguments in a way that is recorded.

    Examples
    --------
    >>> f = ht.value_and_grad(lambda x: (x**2).sum())
    >>> value, slope = f(ht.array([1.0, 2.0], split=0))
    >>> float(value), slope.numpy().tolist()
    (5.0, [2.0, 4.0])
    """
    single = hasattr(argnums, "__index__")
    numbers = (argnums,) if single else tuple(argnums)

    @wraps(function)
    def call(*args: object, **kwargs: object) -> tuple:
        given = list(args)
        for n in numbers:
            if not -len(args) <= n < len(args) or not isinstance(args[n], DNDarray):
                raise LayoutError(f"grad: argnums must name positional arguments that are arrays, got {n}")
        outer = torch.is_grad_enabled() and any(type(x) is TrackedArray for x in args)
        with torch.enable_grad():
            for n in numbers:
                x = args[n]
                given[n] = _alias(x) if type(x) is TrackedArray else track(snapshot(x), "grad")
            value = function(*given, **kwargs)
            value, aux = value if has_aux else (value, None)
            found = _gradients(value, [given[n] for n in numbers], outer)
        value = value if outer else untracked(value)
        slope = found[0] if single else tuple(found)
        return ((value, aux), slope) if has_aux else (value, slope)

    return call


def grad(function: Callable, argnums: int | Sequence[int] = 0, *, has_aux: bool = False) -> Callable:
    """Return a function that computes the gradient of `function`; with `has_aux` a pair of that and the rest.

    See :func:`value_and_grad`.

    Examples
    --------
    >>> cube = lambda x: (x**3).sum()
    >>> ht.grad(cube)(ht.array([1.0, 2.0], split=0)).numpy().tolist()
    [3.0, 12.0]
    >>> second = ht.grad(lambda x: ht.grad(cube)(x).sum())
    >>> second(ht.array([1.0, 2.0], split=0)).numpy().tolist()
    [6.0, 12.0]
    """
    both = value_and_grad(function, argnums, has_aux=has_aux)

    @wraps(function)
    def call(*args: object, **kwargs: object) -> object:
        value, slope = both(*args, **kwargs)
        return (slope, value[1]) if has_aux else slope

    return call


def _identity(x: DNDarray) -> DNDarray:
    return DNDarray(x.larray, x.layout, x.comm)


_alias = differentiable(_identity, is_logical=True)


def _gradients(value: object, arrays: list[DNDarray], create: bool) -> list[DNDarray]:
    if not isinstance(value, DNDarray):
        raise GradientError(f"grad: the function must return an array, got {type(value).__name__}")
    seed = _seed(value, None, "grad")
    if type(value) is not TrackedArray:
        _check_same_graph([], value.comm)
        raise GradientError(
            "grad: the value must depend on an argument by recorded operations, got one that does not"
        )
    edges = [x._edge for x in arrays]
    found = _run([(value._edge, seed)], edges, value.comm, create, create)
    zeros = (DNDarray(torch.zeros_like(raw(x)), x.layout, x.comm) for x in arrays)
    return [z if g is None else g for g, z in zip(found, zeros)]


DNDarray.requires_grad = property(
    lambda self: type(self) is TrackedArray,
    lambda self, value: requires_grad_(self, value),
    doc="Whether operations on the array are recorded for its gradient; the same on every rank. No message.",
)
DNDarray.is_leaf = property(is_leaf, doc="Whether no recorded operation made the array. No message.")
DNDarray.grad = property(
    _get_grad,
    _set_grad,
    doc="The gradient collected by `backward`, in the array's layout, or None. No message.",
)
for _name in ("astype", "copy", "to_device"):
    setattr(TrackedArray, _name, differentiable(getattr(DNDarray, _name), is_logical=True))
for _method in (requires_grad_, detach, backward, zero_grad):
    setattr(DNDarray, _method.__name__, _method)
