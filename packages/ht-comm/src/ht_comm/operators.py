"""Reduction operators: what each means for each element type, and how it travels.

A `Reduction` is looked up from (operator name, element type) alone, so every rank decides alike.

- bool: ``sum`` and ``max`` mean "or", ``prod`` and ``min`` mean "and". A count of true values is another
  question: cast to an integer type first.
- float16 and bfloat16 are carried and accumulated as float32 and rounded once, at the end.
- min and max let NaN win, as NumPy does. ``MPI_MIN``/``MPI_MAX`` leave NaN undefined, so floating point
  extrema use an operator of our own.
- complex numbers have no order: ``min`` and ``max`` are refused.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .dtypes import DTYPES, DType


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Reduction:
    """An operator applied to an element type.

    Attributes
    ----------
    op : str
        Name of the operator.
    transport : DType
        Type in which the elements travel and are combined.
    combine : callable
        ``combine(lower, higher, out=array)`` on flat NumPy arrays; ``lower`` comes from the lower rank.
    mpi : str or None
        Name of the predefined MPI operator; None where MPI has none with this meaning.
    identity : scalar, array of shape (record,), or None
        Neutral element, in `transport`; None where a user's operator has none.
    record : int
        Number of consecutive elements that belong together and must never be cut apart.
    is_normalised : bool
        Operands are replaced by 0 or 1 first: logical operators on integers, whose result must not depend on
        whether MPI touched the value (it does not on the first rank of a scan, or with a single rank).
    is_typed : bool
        Records travel as an MPI datatype of their own: so MPI never cuts one, and our callback can tell operators
        apart.
    commute : bool
        The order of ranks does not matter.
    """

    op: str
    transport: DType
    combine: Callable[..., Any]
    mpi: str | None
    identity: Any
    record: int = 1
    is_normalised: bool = False
    is_typed: bool = False
    commute: bool = False


class Op:
    """A reduction operator of your own.

    Parameters
    ----------
    function : callable
        ``function(lower, higher)`` returns the combination of two NumPy arrays of equal shape and dtype, element
        by element; `lower` comes from the lower ranks. Associative. It gets as many elements as MPI sees fit, must not
        change its arguments and must not raise: under MPI that ends the job.
    identity : scalar or array, optional
        Neutral element (of a record with `records`); `exscan` gives it to rank 0 and cannot do without.
    commute : bool
        Declare that the order of the operands does not matter, which lets MPI choose faster ways. Then ranks may
        get different bits where `function` rounds.
    records : bool
        The last axis of the operand holds records that belong together: `function` gets arrays of shape
        ``(n, operand.shape[-1])``.
    name : str, optional
        For error texts; by default that of the function.

    Notes
    -----
    float16 and bfloat16 arrive as float32 and are rounded once, at the end. Where all ranks make the call they
    must give the same operator; keep it rather than making one for each call.

    Examples
    --------
    >>> import numpy as np, ht_comm
    >>> comm = ht_comm.get_comm()
    >>> hypot = ht_comm.Op(np.hypot, identity=0.0)
    >>> result = comm.allreduce(np.full(2, 3.0), hypot)
    >>> bool(np.allclose(result, 3.0 * comm.size**0.5))
    True
    """

    __slots__ = ("_found", "commute", "function", "identity", "name", "records")

    def __init__(
        self,
        function: Callable[[np.ndarray, np.ndarray], np.ndarray],
        *,
        identity: Any = None,
        commute: bool = False,
        records: bool = False,
        name: str | None = None,
    ) -> None:
        if not callable(function):
            raise TypeError(f"Op: function must be callable, got {function!r}")
        self.function = function
        self.identity = identity
        self.commute = bool(commute)
        self.records = bool(records)
        self.name = name or getattr(function, "__name__", type(function).__name__)
        self._found: dict[tuple[DType, int], Reduction] = {}

    def __repr__(self) -> str:
        return f"Op({self.name})"

    def reduction(self, where: str, dtype: DType, shape: tuple[int, ...]) -> Reduction:
        """Return what this operator means for an operand."""
        if self.records and (not shape or shape[-1] == 0):
            raise ValueError(
                f"{where}: x must have records of at least one element along its last axis for op "
                f"{self.name!r}, got shape {tuple(shape)}"
            )
        record = int(shape[-1]) if self.records else 1
        found = self._found.get((dtype, record))
        if found is None:
            found = self._found[dtype, record] = self._build(dtype, record)
        return found

    def _build(self, dtype: DType, record: int) -> Reduction:
        function, rows = self.function, (-1, record) if self.records else (-1,)

        def combine(lower: np.ndarray, higher: np.ndarray, out: np.ndarray) -> None:
            out.reshape(rows)[...] = function(lower.reshape(rows), higher.reshape(rows))

        return Reduction(
            op=self.name,
            transport=_transport(dtype),
            combine=combine,
            mpi=None,
            identity=self.identity,
            record=record,
            is_typed=True,
            commute=self.commute,
        )


Operator = str | Op
"""What the reducing methods take as `op`."""


def merge_moments(lower: np.ndarray, higher: np.ndarray, out: np.ndarray, *, record: int) -> None:
    """Merge two sets of (n, mean, M2) records.

    Parameters
    ----------
    lower, higher, out : numpy.ndarray, float64, shape (k * record,)
        ``k`` records ``[n, mean_1..mean_d, M2_1..M2_d]``, ``record = 2 d + 1``. `out` may be either input.
    record : int
        Length of one record.

    Notes
    -----
    The pairwise update of T. F. Chan, G. H. Golub and R. J. LeVeque, "Algorithms for computing the sample
    variance: analysis and recommendations", The American Statistician 37 (1983),
    doi:10.1080/00031305.1983.10483115. An empty side (n = 0) hands the other side through unchanged, so its
    means may hold anything, NaN included.
    """
    a, b, result = lower.reshape(-1, record), higher.reshape(-1, record), out.reshape(-1, record)
    d = record // 2
    with np.errstate(all="ignore"):
        n_a, n_b = a[:, :1].copy(), b[:, :1].copy()
        n = n_a + n_b
        weight = np.where(n > 0, n_b / np.where(n > 0, n, 1.0), 0.0)
        delta = b[:, 1 : d + 1] - a[:, 1 : d + 1]
        mean = a[:, 1 : d + 1] + delta * weight
        squares = a[:, d + 1 :] + b[:, d + 1 :] + delta * delta * (n_a * weight)
    only_b, only_a = n_a == 0, n_b == 0
    mean = np.where(only_b, b[:, 1 : d + 1], np.where(only_a, a[:, 1 : d + 1], mean))
    squares = np.where(only_b, b[:, d + 1 :], np.where(only_a, a[:, d + 1 :], squares))
    result[:, :1], result[:, 1 : d + 1], result[:, d + 1 :] = n, mean, squares


# operator: (NumPy ufunc, MPI name, kinds of element it is defined for)
_OPERATORS: dict[str, tuple[np.ufunc, str, str]] = {
    "sum": (np.add, "SUM", "biufc"),
    "prod": (np.multiply, "PROD", "biufc"),
    "min": (np.minimum, "MIN", "biuf"),
    "max": (np.maximum, "MAX", "biuf"),
    "land": (np.logical_and, "LAND", "biu"),
    "lor": (np.logical_or, "LOR", "biu"),
    "lxor": (np.logical_xor, "LXOR", "biu"),
    "band": (np.bitwise_and, "BAND", "biu"),
    "bor": (np.bitwise_or, "BOR", "biu"),
    "bxor": (np.bitwise_xor, "BXOR", "biu"),
}
OPERATOR_NAMES = (*_OPERATORS, "moments")
_ON_BOOL = {
    "sum": "lor",
    "max": "lor",
    "prod": "land",
    "min": "land",
    "band": "land",
    "bor": "lor",
    "bxor": "lxor",
}


def _transport(dtype: DType) -> DType:
    return DTYPES["float32"] if dtype.kind == "f" and dtype.itemsize == 2 else dtype


def _identity(op: str, dtype: DType) -> Any:
    if op in ("sum", "lor", "lxor", "bor", "bxor"):
        return dtype.storage.type(0)
    if op in ("prod", "land"):
        return dtype.storage.type(1)
    if op == "band":
        return np.invert(dtype.storage.type(0))
    if dtype.kind == "f":
        return dtype.storage.type(np.inf if op == "min" else -np.inf)
    limits = np.iinfo(dtype.storage)
    return dtype.storage.type(limits.max if op == "min" else limits.min)


def _build(op: str, dtype: DType) -> Reduction:
    if dtype.kind == "b":
        op = _ON_BOOL.get(op, op)
    transport = _transport(dtype)
    ufunc, mpi, _ = _OPERATORS[op]
    return Reduction(
        op=op,
        transport=transport,
        combine=ufunc,
        mpi=None if op in ("min", "max") and dtype.kind == "f" else mpi,
        identity=_identity(op, transport),
        is_normalised=op in ("land", "lor", "lxor") and dtype.kind != "b",
    )


def _build_moments(record: int) -> Reduction:
    def combine(lower: np.ndarray, higher: np.ndarray, out: np.ndarray) -> None:
        merge_moments(lower, higher, out, record=record)

    template = Reduction("moments", DTYPES["float64"], combine, None, np.float64(0), is_typed=True)
    return replace(template, record=record)


_CACHE: dict[Any, Reduction] = {}


def find_reduction(where: str, op: Operator, dtype: DType, shape: tuple[int, ...]) -> Reduction:
    """Return the `Reduction` for an operator and an element type.

    Parameters
    ----------
    where : str
        Name of the calling operation, for the error text.
    op : str or Op
        One of `OPERATOR_NAMES`, or the user's.
    dtype : DType
        Element type of the operand.
    shape : tuple of int
        Shape of the operand; only operators on records look at it.

    Raises
    ------
    ValueError
        If the operator is unknown, or the shape does not hold moments.
    TypeError
        If the operator is not defined for the element type.
    """
    if isinstance(op, str) and op == "moments":
        return _find_moments(where, dtype, shape)
    found = _CACHE.get((op, dtype))
    if found is not None:
        return found
    if isinstance(op, Op):
        return op.reduction(where, dtype, shape)
    if not isinstance(op, str) or op not in _OPERATORS:
        raise ValueError(
            f"{where}: op must be one of {', '.join(OPERATOR_NAMES)} or an ht_comm.Op, got {op!r}"
        )
    if dtype.kind not in _OPERATORS[op][2]:
        raise TypeError(f"{where}: op must be defined for {dtype.name}, got {op!r}; cast the array first")
    found = _CACHE[op, dtype] = _build(op, dtype)
    return found


def _find_moments(where: str, dtype: DType, shape: tuple[int, ...]) -> Reduction:
    if dtype.name != "float64":
        raise TypeError(f"{where}: x must be float64 for op 'moments', got {dtype.name}; cast it first")
    if not shape or shape[-1] % 2 == 0:
        raise ValueError(
            f"{where}: x must have a last axis of length 2 d + 1 ([n, means, M2]) for op 'moments', "
            f"got shape {tuple(shape)}"
        )
    record = int(shape[-1])
    found = _CACHE.get(record)
    if found is None:
        found = _CACHE[record] = _build_moments(record)
    return found
