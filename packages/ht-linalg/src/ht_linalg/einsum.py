"""Einstein summation: subscripts to labels, a path of pairs, one contraction per step."""

from __future__ import annotations

import string

import numpy as np
from ht_core import DNDarray
from ht_core.errors import LayoutError

from .arguments import as_dndarray, deliver
from .contraction import check_extents, contract, diagonal, permute_labels, sum_out


def einsum(
    *operands: object, out: DNDarray | None = None, optimize: bool | str | list = "greedy"
) -> DNDarray:
    """Evaluate Einstein's summation convention on the operands.

    Parameters
    ----------
    operands : str, DNDarray, ...
        Subscripts as NumPy's (``"ij,jk->ik"``, ellipses, repeated and implicit subscripts) followed by the arrays,
        or arrays and lists of integers in turn.
    out : DNDarray, optional
        Where the result is written; it keeps its layout and dtype.
    optimize : {"greedy", "optimal", True, False} or list
        How the order of pairs is found (:func:`numpy.einsum_path`, on shapes alone), or the path itself.

    Returns
    -------
    DNDarray
        Of the promoted dtype; bool sums with "or".

    *Distribution*: each pair is one matrix product, with the result's split, messages and bytes of
    :func:`ht_linalg.matmul`; a pair without a contracted axis is an elementwise product. A diagonal (``"ii->i"``) and
    a permutation send nothing, a sum over a split axis sends one allreduce of the result. No operand is gathered
    unless the plan of the product finds that cheaper.

    Raises
    ------
    LayoutError
        If the subscripts do not fit the operands.

    References
    ----------
    D. G. A. Smith, J. Gray, opt_einsum - A Python package for optimizing contraction order for einsum-like
    expressions, 2018, doi:10.21105/joss.00753.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> x = ht.arange(6, split=0).reshape((3, 2))
    >>> ht_linalg.einsum("ij,ij->j", x, x).numpy()
    array([20, 35])
    """
    subscripts, arrays = _subscripts_first(operands)
    comm = next((x.comm for x in arrays if isinstance(x, DNDarray)), None)
    arrays = [as_dndarray("einsum", f"operand {i}", x, comm) for i, x in enumerate(arrays)]
    labels, target = parse(subscripts, [x.shape for x in arrays])
    check_extents("einsum", arrays, labels)
    terms = [diagonal(x, x_labels) for x, x_labels in zip(arrays, labels)]
    for pair in _path(labels, target, arrays, optimize):
        chosen = [terms.pop(i) for i in sorted(pair, reverse=True)]
        while len(chosen) > 1:
            (b, b_labels), (a, a_labels) = chosen.pop(), chosen.pop()
            needed = {*target, *(label for _, others in (*terms, *chosen) for label in others)}
            kept = tuple(dict.fromkeys(label for label in (*a_labels, *b_labels) if label in needed))
            if not terms and not chosen:
                kept = tuple(target)
            chosen.append((contract("einsum", a, a_labels, b, b_labels, kept), kept))
        terms.extend(chosen)
    ((x, x_labels),) = terms
    x, x_labels = sum_out(x, x_labels, set(target))
    return deliver("einsum", permute_labels(x, x_labels, target), out)


def einsum_path(*operands: object, optimize: bool | str | list = "greedy") -> tuple[list, str]:
    """Return the order in which :func:`einsum` takes pairs and a printable report, from shapes alone. No message.

    Examples
    --------
    >>> import ht_core as ht
    >>> import ht_linalg
    >>> x = ht.ones((4, 2), split=0)
    >>> ht_linalg.einsum_path("ij,ik,k->j", x, x, ht.ones(2))[0]
    ['einsum_path', (0, 1), (0, 1)]
    """
    subscripts, arrays = _subscripts_first(operands)
    arrays = [as_dndarray("einsum_path", f"operand {i}", x) for i, x in enumerate(arrays)]
    return np.einsum_path(subscripts, *(_shape_only(x.shape) for x in arrays), optimize=optimize)


def parse(subscripts: str, shapes: list[tuple[int, ...]]) -> tuple[list[str], str]:
    """Return one string of labels per operand, and the result's, with ellipses written out.

    Raises
    ------
    LayoutError
        If the subscripts are not well formed or do not fit the shapes.
    """
    text = subscripts.replace(" ", "")
    inputs, arrow, target = text.partition("->")
    terms = inputs.split(",")
    letters = set(text) - set(",.->")
    if not letters <= set(string.ascii_letters):
        raise LayoutError(f"einsum: subscripts must consist of letters, got {subscripts!r}")
    if len(terms) != len(shapes):
        raise LayoutError(
            f"einsum: subscripts must name {len(shapes)} operands, got {len(terms)} in {subscripts!r}"
        )
    free = [letter for letter in string.ascii_letters if letter not in letters]
    widths = [
        len(shape) - len(term.replace("...", "")) if "..." in term else 0
        for term, shape in zip(terms, shapes)
    ]
    batch = "".join(free[: max([0, *widths])])
    labels = []
    for term, shape, width in zip(terms, shapes, widths):
        full = term.replace("...", batch[len(batch) - width :], 1) if width >= 0 else term
        if "." in full or len(full) != len(shape):
            raise LayoutError(
                f"einsum: subscripts {term!r} must name the {len(shape)} axes of the operand, "
                f"got shape {shape}"
            )
        labels.append(full)
    if arrow:
        target = target.replace("...", batch, 1)
    else:
        seen = "".join(labels)
        target = batch + "".join(sorted(x for x in letters if seen.count(x) == 1))
    if "." in target or len(set(target)) < len(target) or not set(target) <= set("".join(labels)):
        raise LayoutError(
            f"einsum: subscripts of the result must be subscripts of operands, each once, got {subscripts!r}"
        )
    return labels, target


def _subscripts_first(operands: tuple) -> tuple[str, list]:
    """Return subscripts and arrays, also of calls in which arrays and lists of integers alternate."""
    if operands and isinstance(operands[0], str):
        return operands[0], list(operands[1:])
    arrays, lists = list(operands[: len(operands) // 2 * 2 : 2]), list(operands[1::2])
    target = operands[-1] if len(operands) % 2 else None
    if not arrays:
        raise LayoutError("einsum: subscripts must be given, got no argument")
    numbers = sorted({n for x in (*lists, target or ()) for n in x if n is not Ellipsis})
    letter = {n: string.ascii_letters[i] for i, n in enumerate(numbers[: len(string.ascii_letters)])}
    letter[Ellipsis] = "..."
    terms = ("".join(letter[n] for n in x) for x in lists)
    return ",".join(terms) + ("" if target is None else "->" + "".join(letter[n] for n in target)), arrays


def _path(labels: list[str], target: str, arrays: list[DNDarray], optimize) -> list[tuple[int, ...]]:
    """Return which terms are contracted at each step."""
    if len(arrays) < 3:
        return [tuple(range(len(arrays)))]
    subscripts = ",".join("".join(dict.fromkeys(x)) for x in labels) + "->" + target
    shapes = (tuple(dict(zip(x_labels, x.shape)).values()) for x, x_labels in zip(arrays, labels))
    return np.einsum_path(subscripts, *map(_shape_only, shapes), optimize=optimize)[0][1:]


def _shape_only(shape: tuple[int, ...]) -> np.ndarray:
    """Return an array of `shape` that takes no memory."""
    return np.broadcast_to(np.zeros(()), shape)
