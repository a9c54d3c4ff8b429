"""Plans of matrix products: which operand moves, where the result lies, what it costs. Pure.

Every axis of a product C = A B is of one of five kinds, named by the arrays that carry it:

====  ==================  =====================================================================
kind  carried by          meaning
====  ==================  =====================================================================
A     A and C             rows of A (or a batch axis that B lacks)
B     B and C             columns of B (or a batch axis that A lacks)
K     A and B             the contracted axis
G     A, B and C          a batch axis that both have
U     one, with extent 1  a batch axis that broadcasts; its operand is used whole
====  ==================  =====================================================================

An operand is described by the kind of its split axis (None when replicated). `DECLARED` says where the result
lies; `RULES` holds one row per way of computing it; :func:`plan_matmul` prices every row that ends in the
declared layout, or in another one from which the product is redistributed, and takes the cheapest. The plan
depends on shapes, splits, counts and item sizes only: all ranks choose alike.

This module knows nothing of tensors and communicators.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from ht_core.engines.redistribution import plan as plan_move
from ht_core.errors import LayoutError
from ht_core.layout import Layout

#: A contraction over a split axis is returned replicated up to this many elements, split above.
SMALL_RESULT = 2**18
#: A split operand may be replicated for the time of the product up to this many elements.
SMALL_OPERAND = 2**18
#: One message costs as much time as sending this many bytes (about 5 us at 7 GB/s).
MESSAGE_BYTES = 2**15

#: (kind of A's split, kind of B's split) -> whose split the result takes: "a", "b", that of the "larger"
#: operand (the smaller one moves), "none" (replicated) or "contracted" (replicated when small, else split
#: along its longer side).
DECLARED: dict[tuple[str | None, str | None], str] = {
    (None, None): "none",
    ("A", None): "a",
    ("A", "K"): "a",
    ("A", "B"): "larger",
    ("A", "G"): "larger",
    ("G", None): "a",
    ("G", "K"): "a",
    ("G", "G"): "a",
    ("G", "B"): "larger",
    (None, "B"): "b",
    ("K", "B"): "b",
    (None, "G"): "b",
    ("K", "G"): "b",
    ("K", None): "contracted",
    (None, "K"): "contracted",
    ("K", "K"): "contracted",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One way to compute a product: kernel, kinds along which A and B must be split, and what it yields."""

    kernel: str
    a: str | None
    b: str | None
    out: str | None


RULES: tuple[Rule, ...] = (
    Rule("local", None, None, None),
    Rule("local", "A", None, "A"),
    Rule("local", None, "B", "B"),
    Rule("local", "G", "G", "G"),
    Rule("ring_b", "A", "K", "A"),
    Rule("ring_b", "A", "B", "A"),
    Rule("ring_b", "A", "G", "A"),
    Rule("ring_a", "K", "B", "B"),
    Rule("ring_a", "A", "B", "B"),
    Rule("ring_a", "G", "B", "B"),
    Rule("allreduce", "K", "K", None),
    Rule("ring_sum", "K", "K", "A"),
    Rule("ring_sum", "K", "K", "B"),
)


@dataclass(frozen=True, slots=True)
class MatmulPlan:
    """How a product is computed on p ranks.

    Attributes
    ----------
    rule : Rule
    a_from, b_from : Layout
        Layouts of the operands, brought to a common number of axes (at least two).
    a, b : Layout
        Layouts the kernel reads; they differ from `a_from`, `b_from` where an operand is moved or sliced
        first.
    made : Layout
        Layout in which the kernel leaves the product: another one than `out` where computing there and
        redistributing the product moves less than sending an operand round.
    out : Layout
        Layout of the product with all axes, before the axes of 1-D operands are dropped.
    result : Layout
        Layout of what the user receives.
    itemsizes : tuple of int
        Bytes per element of A, B and the sums.
    p : int
    """

    rule: Rule
    a_from: Layout
    b_from: Layout
    a: Layout
    b: Layout
    made: Layout
    out: Layout
    result: Layout
    itemsizes: tuple[int, int, int]
    p: int

    @property
    def is_direct(self) -> bool:
        """True where every rank multiplies what it holds, and nothing is moved or cut."""
        here = self.a is self.a_from and self.b is self.b_from and self.made is self.out
        return self.p == 1 or (here and self.rule.kernel == "local")

    def bytes(self, rank: int) -> int:
        """Return the bytes that `rank` contributes to messages."""
        if self.p == 1:
            return 0
        moved = sum(
            plan_move(source, target, self.p).bytes(rank, size) for source, target, size in self._moves()
        )
        if self.rule.kernel == "allreduce":
            return moved + self.out.size * self.itemsizes[2]
        layout, size = self._travelling()
        return moved + sum(math.prod(layout.lshape(r)) for r in self._sends(rank)) * size if layout else moved

    def steps(self, rank: int) -> int:
        """Return the number of collectives plus blocks that `rank` sends; empty blocks are not sent."""
        if self.p == 1:
            return 0
        layout, _ = self._travelling()
        steps = int(self.rule.kernel == "allreduce") + len(self._moves())
        return steps + sum(0 not in layout.lshape(r) for r in self._sends(rank)) if layout else steps

    def cost(self) -> float:
        """Return the price plans are compared by: mean bytes per rank plus latency expressed in bytes."""
        p, moved, steps = self.p, 0, 0
        if p == 1:
            return 0
        for source, target, size in self._moves():
            moved += sum(moved_elements(source, target, rank, p) for rank in range(p)) / p * size
            steps += 1
        if self.rule.kernel == "allreduce":
            return moved + self.out.size * self.itemsizes[2] + MESSAGE_BYTES * (steps + 1)
        layout, size = self._travelling()
        if layout is not None:
            moved, steps = moved + layout.size * size * (p - 1) / p, steps + p - 1
        return moved + MESSAGE_BYTES * steps

    def _moves(self) -> list[tuple[Layout, Layout, int]]:
        """Return the redistributions before and after the kernel: from, to, bytes per element."""
        pairs = ((self.a_from, self.a), (self.b_from, self.b), (self.made, self.out))
        return [
            (source, target, size)
            for (source, target), size in zip(pairs, self.itemsizes)
            if source.split is not None and source is not target
        ]

    def _travelling(self) -> tuple[Layout | None, int]:
        """Return the layout whose blocks go round and the bytes per element."""
        size_a, size_b, size_sum = self.itemsizes
        ring = {"ring_a": (self.a, size_a), "ring_b": (self.b, size_b), "ring_sum": (self.made, size_sum)}
        return ring.get(self.rule.kernel, (None, 0))

    def _sends(self, rank: int) -> list[int]:
        """Return whose blocks `rank` passes on: all except the one that ends its journey there."""
        last = rank if self.rule.kernel == "ring_sum" else (rank - 1) % self.p
        return [other for other in range(self.p) if other != last]


def moved_elements(source: Layout, target: Layout, rank: int, p: int) -> int:
    """Return how many elements `rank` sends to other ranks when `source` becomes `target`."""
    if p == 1 or source is target or source.split is None:
        return 0
    mine = math.prod(source.lshape(rank))
    if target.split is None:
        return mine * (p - 1)
    box = zip(source.box(rank), target.box(rank))
    return mine - math.prod(max(0, min(a1, b1) - max(a0, b0)) for (a0, a1), (b0, b1) in box)


# -- shapes --------------------------------------------------------------------------------------------------


def check_shapes(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    """Check that ``a @ b`` is defined for operands of these shapes.

    Raises
    ------
    LayoutError
        If an operand is 0-D, the contracted extents differ or the batch axes do not broadcast.
    """
    for name, shape in (("a", a), ("b", b)):
        if not shape:
            raise LayoutError(f"matmul: {name} must have at least one axis, got a 0-D array; use a * b")
    axis = -2 if len(b) > 1 else -1
    if a[-1] != b[axis]:
        raise LayoutError(
            f"matmul: b must have extent {a[-1]} along axis {axis}, as the last axis of a of shape {a}, "
            f"got shape {b}"
        )
    if any(x != y and 1 not in (x, y) for x, y in zip(a[-3::-1], b[-3::-1])):
        raise LayoutError(f"matmul: the batch axes of a and b must broadcast, got shapes {a} and {b}")


def as_matrix(layout: Layout, ndim: int, column: bool) -> Layout:
    """Return `layout` with axes of extent 1 added: a vector becomes a row (or a column), then batch axes in
    front.
    """
    if layout.ndim == 1:
        layout = layout.insert(1 if column else 0)
    for _ in range(ndim - layout.ndim):
        layout = layout.insert(0)
    return layout


# -- the choice ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=1024)
def plan_matmul(a: Layout, b: Layout, p: int, itemsizes: tuple[int, int, int] = (8, 8, 8)) -> MatmulPlan:
    """Return the cheapest plan of ``a @ b`` on `p` ranks. Pure.

    Parameters
    ----------
    a, b : Layout
        Layouts of the operands, of any number of axes >= 1.
    p : int
        Number of ranks.
    itemsizes : tuple of int
        Bytes per element of a, of b and of the partial sums.

    Raises
    ------
    LayoutError
        If the shapes do not fit.
    """
    check_shapes(a.shape, b.shape)
    ndim = max(a.ndim, b.ndim, 2)
    a2, b2 = as_matrix(a, ndim, column=False), as_matrix(b, ndim, column=True)
    batch = tuple(y if x == 1 else x for x, y in zip(a2.shape[:-2], b2.shape[:-2]))
    axes = _Axes((*batch, a2.shape[-2], b2.shape[-1]), a2, b2)
    out = _declared(axes, p, itemsizes)
    result = out.drop([ndim - 2] * (a.ndim == 1) + [ndim - 1] * (b.ndim == 1))
    plans = [
        MatmulPlan(rule, a2, b2, to_a, to_b, made, out, result, itemsizes, p)
        for made in _products(out, p)
        for rule in RULES
        for to_a, to_b in _ways(rule, axes, made, p)
    ]
    return min(plans, key=MatmulPlan.cost)


@dataclass(frozen=True, slots=True)
class _Axes:
    """The kinds of the axes of one product."""

    shape: tuple[int, ...]
    a: Layout
    b: Layout

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def kind_a(self, axis: int) -> str:
        if axis >= self.ndim - 2:
            return "AK"[axis - self.ndim + 2]
        return self._batch(axis, self.a, self.b, "A")

    def kind_b(self, axis: int) -> str:
        if axis >= self.ndim - 2:
            return "KB"[axis - self.ndim + 2]
        return self._batch(axis, self.b, self.a, "B")

    def _batch(self, axis: int, mine: Layout, other: Layout, free: str) -> str:
        if mine.shape[axis] != self.shape[axis]:
            return "U"
        return "G" if other.shape[axis] == self.shape[axis] else free

    def kind_out(self, axis: int) -> str:
        if axis >= self.ndim - 2:
            return "AB"[axis - self.ndim + 2]
        kind = self.kind_a(axis)
        return "B" if kind == "U" else kind

    def of_a(self) -> str | None:
        return None if self.a.split is None else self.kind_a(self.a.split)

    def of_b(self) -> str | None:
        return None if self.b.split is None else self.kind_b(self.b.split)


def _declared(axes: _Axes, p: int, itemsizes: tuple[int, int, int]) -> Layout:
    """Return the layout of the result; a function of the operands' layouts only."""
    a, b = axes.a, axes.b
    kinds = tuple(None if kind == "U" else kind for kind in (axes.of_a(), axes.of_b()))
    whose = DECLARED[kinds]
    if whose == "larger":
        whose = "b" if a.size * itemsizes[0] < b.size * itemsizes[1] else "a"
    if whose == "contracted":
        small = math.prod(axes.shape) <= SMALL_RESULT
        rows, columns = axes.shape[-2:]
        return Layout.even(axes.shape, None if small else -2 if rows >= columns else -1, p)
    if whose == "none":
        return Layout.replicated(axes.shape)
    source = a if whose == "a" else b
    return Layout(axes.shape, source.split, source.counts)


def _products(out: Layout, p: int) -> list[Layout]:
    """Return the layouts in which a product that is declared as `out` may be computed: that one first."""
    if out.split is None or p == 1:
        return [out]
    axes = {out.ndim - 2, out.ndim - 1}
    if out.ndim > 2:  # whole matrices dealt to the ranks, along the longest batch axis
        axes.add(max(range(out.ndim - 2), key=lambda axis: out.shape[axis]))
    axes.discard(out.split)
    return [out, *(Layout.even(out.shape, axis, p) for axis in sorted(axes))]


def _ways(rule: Rule, axes: _Axes, out: Layout, p: int) -> Iterator[tuple[Layout, Layout]]:
    """Yield the layouts of A and B under which `rule` gives the product in the layout `out`."""
    a, b = axes.a, axes.b
    if rule.out != (None if out.split is None else axes.kind_out(out.split)):
        return
    if rule.a == rule.b == "K":
        yield from _contracted_ways(axes, p)
    elif rule.out is None:  # every rank computes everything: only where both are whole already
        if axes.of_a() in (None, "U") and axes.of_b() in (None, "U"):
            yield Layout.replicated(a.shape), Layout.replicated(b.shape)
    else:
        to_a = _target(a, rule.a, rule.out in "AG", axes.of_a(), out)
        to_b = _target(b, rule.b, rule.out in "BG", axes.of_b(), out)
        if to_a is not None and to_b is not None:
            yield to_a, to_b


def _target(operand: Layout, wanted: str | None, stays: bool, kind: str | None, out: Layout) -> Layout | None:
    """Return the layout to which `operand` is brought: that of the result, whole, or the one it has (it
    travels).
    """
    if stays:
        return Layout(operand.shape, out.split, out.counts)
    if wanted is None:
        whole = kind in (None, "U") or operand.size <= SMALL_OPERAND
        return Layout.replicated(operand.shape) if whole else None
    return operand if kind == wanted else None


def _contracted_ways(axes: _Axes, p: int) -> Iterator[tuple[Layout, Layout]]:
    """Yield equal cuts of the contracted axis: A's, B's, and the even one."""
    a, b = axes.a, axes.b
    extent = a.shape[-1]
    cuts = [x.counts for x, kind in ((a, axes.of_a()), (b, axes.of_b())) if kind == "K"]
    cuts.append(Layout.even((extent,), 0, p).counts)
    for counts in dict.fromkeys(cuts):
        yield Layout(a.shape, axes.ndim - 1, counts), Layout(b.shape, axes.ndim - 2, counts)
