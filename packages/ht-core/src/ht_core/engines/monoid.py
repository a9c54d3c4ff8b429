"""How partial results merge: those of two tiles of one rank, and those of all ranks in one allreduce.

A carry is a tuple of tensors with the reduced axes kept at extent 1. Each monoid states its algebra; this module knows
nothing of layouts or operations.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from ht_comm import Communicator, Op

Carry = tuple[torch.Tensor, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Monoid:
    """An associative way to merge carries.

    Attributes
    ----------
    merge : callable
        ``merge(first, second)`` of two carries of this rank; `first` has the lower indices.
    allreduce : callable
        ``allreduce(comm, carry, masked)`` over all ranks, in one message; `masked` tells whether the numbers of
        elements may differ from column to column.
    """

    merge: Callable[[Carry, Carry], Carry]
    allreduce: Callable[[Communicator, Carry, bool], Carry]


_FMIN = Op(np.fmin, identity=np.nan, commute=True, name="fmin")
_FMAX = Op(np.fmax, identity=np.nan, commute=True, name="fmax")
_MERGE = {
    "sum": (torch.add, "sum"),
    "prod": (torch.mul, "prod"),
    "max": (torch.maximum, "max"),
    "min": (torch.minimum, "min"),
    "fmax": (torch.fmax, _FMAX),
    "fmin": (torch.fmin, _FMIN),
    "land": (torch.logical_and, "land"),
    "lor": (torch.logical_or, "lor"),
}


def by(op: str) -> Monoid:
    """Merge each tensor of the carry, all of one dtype, by `op`: a key of ``_MERGE``."""
    kernel, operator = _MERGE[op]

    def merge(first: Carry, second: Carry) -> Carry:
        return tuple(map(kernel, first, second))

    def allreduce(comm: Communicator, carry: Carry, masked: bool) -> Carry:
        if len(carry) == 1:
            c = carry[0]
            return (comm.allreduce(c, operator, out=c if c.is_contiguous() else None),)
        packed = comm.allreduce(torch.cat([c.reshape(-1) for c in carry]), operator)
        pieces = packed.split([c.numel() for c in carry])
        return tuple(piece.reshape(c.shape) for piece, c in zip(pieces, carry))

    return Monoid(merge, allreduce)


def by_index(op: str) -> Monoid:
    """Merge (value, index): the extreme value and the lowest index that has it.

    NaN is the extreme of all; a negative index stands for no candidate. `op` is "argmax" or "argmin".
    """
    beats = torch.gt if op == "argmax" else torch.lt

    def merge(first: Carry, second: Carry) -> Carry:
        (v, i), (w, j) = first, second
        better = beats(w, v) | ((w != w) & (v == v))
        same = (w == v) | ((w != w) & (v != v))
        take = (j >= 0) & ((i < 0) | better | (same & (j < i)))
        return torch.where(take, w, v), torch.where(take, j, i)

    def allreduce(comm: Communicator, carry: Carry, masked: bool) -> Carry:
        return comm.allreduce_pairs(*carry, op)

    return Monoid(merge, allreduce)


def merge_central(first: tuple, second: tuple) -> tuple:
    """Merge (n, mean, M2[, M3, M4]) of two disjoint sets of numbers; arrays of NumPy or torch, element by element.

    M_k is the sum of the k-th powers of the deviations from the mean. n = 0 stands for no number.

    References
    ----------
    P. Pébay, Formulas for robust, one-pass parallel computation of covariances and arbitrary-order statistical moments,
    Sandia report SAND2008-6212, 2008, doi:10.2172/1028931.
    """
    n_a, mean_a, m2_a = first[:3]
    n_b, mean_b, m2_b = second[:3]
    n = n_a + n_b
    safe = n + (n == 0)
    delta = mean_b - mean_a
    share = n_b / safe
    m2 = m2_a + m2_b + delta * delta * n_a * share
    merged = [n, mean_a + delta * share, m2]
    if len(first) > 3:
        merged.append(_merged_m3(first, second, delta, safe))
    if len(first) > 4:
        merged.append(_merged_m4(first, second, delta, safe))
    return tuple(merged)


def _merged_m3(first: tuple, second: tuple, delta, n):
    (n_a, _, m2_a, m3_a), (n_b, _, m2_b, m3_b) = first[:4], second[:4]
    shift = delta**3 * n_a * n_b * (n_a - n_b) / n**2
    return m3_a + m3_b + shift + 3 * delta * (n_a * m2_b - n_b * m2_a) / n


def _merged_m4(first: tuple, second: tuple, delta, n):
    (n_a, _, m2_a, m3_a, m4_a), (n_b, _, m2_b, m3_b, m4_b) = first[:5], second[:5]
    shift = delta**4 * n_a * n_b * (n_a**2 - n_a * n_b + n_b**2) / n**3
    quadratic = 6 * delta**2 * (n_a**2 * m2_b + n_b**2 * m2_a) / n**2
    return m4_a + m4_b + shift + quadratic + 4 * delta * (n_a * m3_b - n_b * m3_a) / n


def _merge_records(lower: np.ndarray, higher: np.ndarray) -> np.ndarray:
    with np.errstate(all="ignore"):  # infinite data give NaN, without a warning on whichever rank merges
        return np.stack(merge_central(tuple(lower.T), tuple(higher.T)), axis=-1)


def by_moments(order: int = 2) -> Monoid:
    """Merge (n, mean, M2, .., M_order), float64 tensors of one shape."""
    operator = Op(_merge_records, identity=np.zeros(order + 1), records=True, name=f"moments{order}")

    def allreduce(comm: Communicator, carry: Carry, masked: bool) -> Carry:
        shape = carry[1].shape
        if masked or order > 2:
            records = torch.stack([c.reshape(-1) for c in carry], dim=-1)
            merged = comm.allreduce(records, "moments" if order == 2 else operator)
            return tuple(c.reshape(shape) for c in merged.unbind(-1))
        # All columns have the same number of elements, which then travels once.
        n = carry[0].reshape(-1)[:1] if carry[0].numel() else carry[0].new_zeros(1)
        packed = torch.cat([n, carry[1].reshape(-1), carry[2].reshape(-1)])
        merged = comm.allreduce(packed, "moments")
        d = carry[1].numel()
        mean, m2 = merged[1 : d + 1], merged[d + 1 :]
        return merged[:1].expand(d).reshape(shape), mean.reshape(shape), m2.reshape(shape)

    return Monoid(merge_central, allreduce)
