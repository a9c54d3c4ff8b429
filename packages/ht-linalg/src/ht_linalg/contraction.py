"""Contraction of two arrays over named axes: permute, merge, multiply as matrices, undo.

Every axis of a contraction C = A B is in one of four groups: in A and C only, in B and C only, contracted (A and B),
or in all three. Axes of a group become one axis of a matrix product; the split axis goes first in its group, so that
merging is a local reshape and :func:`ht_linalg.matmul` decides what moves. This file knows labels, not subscripts.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence

import torch
from ht_core import DNDarray, expand_dims, multiply, permute_dims, squeeze
from ht_core.engines.recording import differentiable
from ht_core.engines.redistribution import redistribute
from ht_core.errors import LayoutError
from ht_core.layout import Layout, even_counts

from .matmul import matmul

Labels = tuple[Hashable, ...]


def contract(
    op: str, a: DNDarray, a_labels: Sequence[Hashable], b: DNDarray, b_labels: Sequence[Hashable], out: Labels
) -> DNDarray:
    """Return the sum over all labels that are not in `out` of the product of `a` and `b`.

    Parameters
    ----------
    op : str
        Name of the calling operation, for errors.
    a_labels, b_labels : sequence
        One label per axis; none twice in one operand. Extents of equal labels are equal, or one of them is 1.
    out : tuple
        Labels of the result, in its order; each in `a_labels` or `b_labels`.

    *Distribution*: as the matrix product of the merged operands (:func:`ht_linalg.matmul`); an axis that one operand
    lacks is summed before anything moves. Without a contracted axis it is an elementwise product. Where both operands
    are split along different contracted axes, the smaller one is resplit; where the result's parts end inside a row
    of merged axes, one redistribution of it follows.

    Raises
    ------
    LayoutError
        If extents of one label differ.
    """
    a_labels, b_labels = tuple(a_labels), tuple(b_labels)
    check_extents(op, (a, b), (a_labels, b_labels))
    a, a_labels = _without_ones(a, a_labels, dict(zip(b_labels, b.shape)))
    b, b_labels = _without_ones(b, b_labels, dict(zip(a_labels, a.shape)))
    a, a_labels = sum_out(a, a_labels, {*b_labels, *out})
    b, b_labels = sum_out(b, b_labels, {*a_labels, *out})
    contracted = [label for label in a_labels if label in b_labels and label not in out]
    if not contracted:
        return multiply(_spread(a, a_labels, out), _spread(b, b_labels, out))
    a, b = _same_split(a, a_labels, b, b_labels, contracted)
    split_labels = [
        x_labels[x.split] for x, x_labels in ((a, a_labels), (b, b_labels)) if x.split is not None
    ]
    extent = dict(zip((*a_labels, *b_labels), (*a.shape, *b.shape)))

    def ordered(labels: list) -> list:
        """Put the split axis first, or else the longest, along which the result may be cut."""
        return sorted(labels, key=lambda label: (label not in split_labels, -extent[label]))

    shared = [label for label in out if label in a_labels and label in b_labels]
    rows = ordered([label for label in out if label in a_labels and label not in b_labels])
    columns = ordered([label for label in out if label in b_labels and label not in a_labels])
    contracted = ordered(contracted)
    c = matmul(
        _merge(a, a_labels, shared, (rows, contracted)), _merge(b, b_labels, shared, (contracted, columns))
    )
    c = _unmerge(c, len(shared), [[extent[label] for label in group] for group in (rows, columns)])
    return permute_labels(c, (*shared, *rows, *columns), out)


def check_extents(op: str, arrays: Sequence[DNDarray], labels: Sequence[Labels]) -> dict[Hashable, int]:
    """Return the extent of each label.

    Raises
    ------
    LayoutError
        If a label names axes of different extents, other than 1.
    """
    extents: dict[Hashable, int] = {}
    for x, x_labels in zip(arrays, labels):
        for label, n in zip(x_labels, x.shape):
            known = extents.setdefault(label, n)
            if n != known and 1 not in (n, known):
                shapes = ", ".join(str(x.shape) for x in arrays)
                raise LayoutError(f"{op}: axes that are paired must have equal extents, got shapes {shapes}")
            extents[label] = n if known == 1 else known
    return extents


def permute_labels(x: DNDarray, labels: Sequence[Hashable], out: Sequence[Hashable]) -> DNDarray:
    """Return `x` with its axes in the order `out`. No message."""
    labels, out = tuple(labels), tuple(out)
    return x if labels == out else permute_dims(x, tuple(labels.index(label) for label in out))


def sum_out(x: DNDarray, labels: Labels, kept: set[Hashable]) -> tuple[DNDarray, Labels]:
    """Sum over the axes whose labels are not in `kept`, in the dtype of `x`; one allreduce if one is split."""
    axes = tuple(axis for axis, label in enumerate(labels) if label not in kept)
    if not axes:
        return x, labels
    summed = x.any(axis=axes) if x.dtype.kind == "b" else x.sum(axis=axes, dtype=x.dtype)
    return summed, tuple(label for label in labels if label in kept)


def diagonal(x: DNDarray, labels: Sequence[Hashable]) -> tuple[DNDarray, Labels]:
    """Return `x` restricted to equal indices along axes of equal labels, and the labels that remain. No message.

    Along the split axis every rank holds the part of the diagonal that belongs to its rows.
    """
    labels = list(labels)
    while len(set(labels)) < len(labels):
        i = next(axis for axis, label in enumerate(labels) if label in labels[:axis])
        first, second = labels.index(labels[i]), i
        if x.split == second:
            first, second = second, first
        local, counts = x.larray, x.layout.counts
        if x.split == first:
            local = local.narrow(second, x.layout.displs[x.comm.rank], counts[x.comm.rank])
        local = local.diagonal(dim1=first, dim2=second)
        layout = x.layout.drop((first, second))
        extent = x.shape[first]
        if x.split == first:
            layout = Layout((*layout.shape, extent), layout.ndim, counts)
        else:
            layout = layout.insert(layout.ndim, extent)
        x = DNDarray(local, layout, x.comm)
        label = labels[first]
        labels = [*(other for axis, other in enumerate(labels) if axis not in (first, second)), label]
    return x, tuple(labels)


# -- parts of a contraction ----------------------------------------------------------------------------------


def _without_ones(x: DNDarray, labels: Labels, other: dict[Hashable, int]) -> tuple[DNDarray, Labels]:
    """Drop axes of extent 1 that meet a longer one: they are constant along it."""
    axes = tuple(axis for axis, label in enumerate(labels) if x.shape[axis] == 1 and other.get(label, 1) != 1)
    if not axes:
        return x, labels
    return squeeze(x, axes), tuple(label for axis, label in enumerate(labels) if axis not in axes)


def _spread(x: DNDarray, labels: Labels, out: Labels) -> DNDarray:
    """Return `x` with its axes in the order `out` and axes of extent 1 for the labels it lacks."""
    x = permute_labels(x, labels, tuple(label for label in out if label in labels))
    missing = tuple(axis for axis, label in enumerate(out) if label not in labels)
    return expand_dims(x, missing) if missing else x


def _same_split(a, a_labels, b, b_labels, contracted) -> tuple[DNDarray, DNDarray]:
    """Bring two operands that are cut along different contracted axes to one cut: the smaller one moves."""
    of_a = None if a.split is None else a_labels[a.split]
    of_b = None if b.split is None else b_labels[b.split]
    if of_a == of_b or of_a not in contracted or of_b not in contracted:
        return a, b
    if a.nbytes < b.nbytes:
        b, a = _same_split(b, b_labels, a, a_labels, contracted)
        return a, b
    target = Layout(b.shape, b_labels.index(of_a), a.layout.counts)
    return a, DNDarray(redistribute(b.larray, b.layout, target, b.comm), target, b.comm)


def _merge(x: DNDarray, labels: Labels, batch: list, groups: tuple[list, list]) -> DNDarray:
    """Return `x` as a stack of matrices: the axes of each group merged, its split axis first. No message."""
    x = permute_labels(x, labels, (*batch, *groups[0], *groups[1]))
    starts = (len(batch), len(batch) + len(groups[0]))
    shape, split, counts = list(x.shape[: len(batch)]), x.split, x.layout.counts
    for axis, (start, group) in enumerate(zip(starts, groups), start=len(batch)):
        extents = x.shape[start : start + len(group)]
        shape.append(math.prod(extents))
        if x.split is not None and start <= x.split < start + len(group):
            split, counts = axis, tuple(n * math.prod(extents[1:]) for n in counts)
    layout = Layout(shape, split, counts)
    return DNDarray(x.larray.reshape(layout.lshape(x.comm.rank)), layout, x.comm)


def _unmerge(c: DNDarray, batch: int, groups: list[list[int]]) -> DNDarray:
    """Return `c` with its last two axes cut into the extents of `groups`; the cut of a split one moves to a row."""
    layout, local = c.layout, c.larray
    split = layout.split
    inner = math.prod(groups[split - batch][1:]) if split is not None and split >= batch else 1
    if (
        split is not None and split >= batch and not groups[split - batch]
    ):  # an axis of extent 1 that vanishes
        target = Layout(layout.shape, None)
        local, layout, split = redistribute(local, layout, target, c.comm), target, None
    elif inner and any(n % inner for n in layout.counts):
        rows = even_counts(groups[split - batch][0], c.comm.size)
        target = layout.with_counts([n * inner for n in rows])
        local, layout = redistribute(local, layout, target, c.comm), target
    counts = layout.counts
    if split is not None and split >= batch:
        # With an inner extent of zero there is nothing to cut: deal the empty rows evenly.
        first = groups[split - batch][0]
        counts = tuple(n // inner for n in counts) if inner else even_counts(first, c.comm.size)
        split += (len(groups[0]) - 1) * (split > batch)
    target = Layout((*layout.shape[:batch], *groups[0], *groups[1]), split, counts)
    return DNDarray(_reshaped(local, target.lshape(c.comm.rank)), target, c.comm)


def _reshaped(local: torch.Tensor, lshape: tuple[int, ...]) -> torch.Tensor:
    return local if tuple(local.shape) == lshape else local.reshape(lshape)


# These four move and reshape local tensors; all else here is made of operations that record themselves.
diagonal, _same_split, _merge, _unmerge = (
    differentiable(function, is_logical=True) for function in (diagonal, _same_split, _merge, _unmerge)
)
