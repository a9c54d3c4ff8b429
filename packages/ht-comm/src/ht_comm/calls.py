"""What a call is, in words, and the comparison of the calls of all ranks: the work of checked mode."""

import os
import zlib
from collections.abc import Callable
from hashlib import blake2b
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np

from .buffers import NumpyKind
from .dtypes import DTYPES
from .errors import CommError

_INT64 = DTYPES["int64"]
# Made from different lines by right programs: in the branches of `if comm.rank == root`, of `try` and `except`.
_FROM_ANY_LINE = frozenset(
    {"bcast", "reduce", "gather", "gatherv", "scatter", "scatterv", "bcast_object", "gather_object", "agree"}
)


class Call(NamedTuple):
    """A call in words.

    Attributes
    ----------
    key : str
        What must agree between the ranks.
    text : str
        What is shown.
    balance : int
        A number whose sum over the ranks must vanish modulo 2**64.
    """

    key: str
    text: str
    balance: int = 0


def compare(comm: Any, call: Call, pending: list[str]) -> None:
    """Raise on all ranks unless all make the same call. Collective."""
    text = "; ".join((*pending, call.key)) if pending else call.key
    digest = int.from_bytes(
        blake2b(text.encode(errors="replace"), digest_size=8).digest(), "little", signed=True
    )
    own = np.array([digest, call.balance], np.int64)
    everyone = np.empty(2 * comm.size, np.int64)
    comm._allgatherv(NumpyKind.buffer(own, _INT64), NumpyKind.buffer(everyone, _INT64), (2,) * comm.size)
    numbers = everyone.tolist()
    is_same = numbers[::2].count(digest) == comm.size
    if is_same and sum(numbers[1::2]) % 2**64 == 0:
        return
    shown = f"{call.text} (after {', '.join(pending)})" if pending else call.text
    calls = [text.decode(errors="replace") for text in comm._allgather_bytes(shown.encode(errors="replace"))]
    needed = "match" if not is_same else "match, each rank's send_counts the others' recv_counts"
    raise CommError(
        f"checked: the calls of all ranks must {needed}, got {_by_rank(calls)}; "
        "let every rank make the same calls in the same order"
    )


def _by_rank(calls: list[str]) -> str:
    """List the calls, equal ones of neighbouring ranks together."""
    parts, first = [], 0
    for call, group in groupby(calls):
        last = first + len(list(group)) - 1
        parts.append(f"rank {first}: {call}" if first == last else f"ranks {first}-{last}: {call}")
        first = last + 1
    return "; ".join(parts)


def describe(name: str, args: tuple, kwargs: dict, site: str, sites: bool) -> Call:
    """Put a call into words.

    Parameters
    ----------
    name : str
        The method.
    args, kwargs
        What it is called with, the communicator first.
    site : str
        ``file:line`` of the caller.
    sites : bool
        Whether the line must agree.
    """
    blocking = name[1:] if name[0] == "i" else name
    try:
        words = _WORDS[blocking](*args, **kwargs)
    except (KeyError, TypeError, AttributeError, ValueError, IndexError):
        # Unknown here, or called wrongly: then the method says so, if all ranks do the same.
        words = ("",)
    text, balance, shown = words if len(words) == 3 else (words[0], 0, "")
    key = name + text
    if sites and blocking not in _FROM_ANY_LINE:
        # Nodes may have the program in different places.
        key = f"{key} at {os.path.basename(site)}"
    return Call(key, f"{name}{text}{shown} at {site}", balance)


# ----- what must agree, for each method: functions of the method's signature that return (text,) or
# (text, balance, more text to show)


def _array(x: Any, free: int | None = None) -> str:
    """Return dtype and shape; the extent along a free axis may differ between ranks."""
    extents = list(map(str, x.shape))
    if free is not None:
        extents[free] = "*"
    inside = ", ".join(extents) + ("," if len(extents) == 1 else "")
    return f"{str(x.dtype).rpartition('.')[2]} ({inside})"


def _reduction(comm: Any, x: Any, op: Any = "sum", *, out: Any = None) -> tuple:
    return (f"({_name(op)}) of {_array(x)}",)


def _reduce(comm: Any, x: Any, op: Any = "sum", *, root: int = 0, out: Any = None) -> tuple:
    return (f"({_name(op)}, root={root}) of {_array(x)}",)


def _reduce_scatter(comm: Any, x: Any, op: Any = "sum", *, axis: int = 0, out: Any = None) -> tuple:
    return (f"({_name(op)}, axis={axis}) of {_array(x)}",)


def _reduce_scatterv(
    comm: Any, x: Any, counts: Any, op: Any = "sum", *, axis: int = 0, out: Any = None
) -> tuple:
    return (f"({_name(op)}, counts={_counts(counts)}, axis={axis}) of {_array(x)}",)


def _pairs(comm: Any, values: Any, indices: Any, op: Any = "argmin") -> tuple:
    return (f"({_name(op)}) of {_array(values)} and {_array(indices)}",)


def _bcast(comm: Any, x: Any, root: int = 0) -> tuple:
    return (f"(root={root}) of {_array(x)}",)


def _allgather(comm: Any, x: Any, *, axis: int = 0, out: Any = None) -> tuple:
    return (f"(axis={axis}) of {_array(x)}",)


def _allgatherv(comm: Any, x: Any, counts: Any, *, axis: int = 0, out: Any = None) -> tuple:
    return (f"(counts={_counts(counts)}, axis={axis}) of {_array(x, axis)}",)


def _gather(comm: Any, x: Any, *, axis: int = 0, root: int = 0, out: Any = None) -> tuple:
    return (f"(axis={axis}, root={root}) of {_array(x)}",)


def _gatherv(comm: Any, x: Any, counts: Any, *, axis: int = 0, root: int = 0, out: Any = None) -> tuple:
    return (f"(counts={_counts(counts)}, axis={axis}, root={root}) of {_array(x, axis)}",)


def _scatter(comm: Any, x: Any, *, axis: int = 0, root: int = 0, like: Any = None) -> tuple:
    given = "none" if like is None else _array(like)
    return (f"(axis={axis}, root={root}, like={given})",)


def _scatterv(comm: Any, x: Any, counts: Any, *, axis: int = 0, root: int = 0, like: Any = None) -> tuple:
    given = "none" if like is None else _array(like, axis)
    return (f"(counts={_counts(counts)}, axis={axis}, root={root}, like={given})",)


def _alltoallv(
    comm: Any, x: Any, send_counts: Any, recv_counts: Any, *, axis: int = 0, out: Any = None
) -> tuple:
    # What rank a sends to b must be what b receives from a. Each pair has a large odd factor of its own, sent
    # counts are added and received ones subtracted: if they fit, the sum over the ranks is 0.
    balance = 0
    for other, (sent, received) in enumerate(zip(_counts(send_counts), _counts(recv_counts), strict=True)):
        balance += sent * _factor(comm.rank, other) - received * _factor(other, comm.rank)
    balance = (balance + 2**63) % 2**64 - 2**63
    shown = f", send_counts={_counts(send_counts)}, recv_counts={_counts(recv_counts)}"
    return f"(axis={axis}) of {_array(x, axis)}", balance, shown


def _factor(source: int, dest: int) -> int:
    pair = f"{source},{dest}".encode()
    return int.from_bytes(blake2b(pair, digest_size=8).digest(), "little") | 1


def _name(op: Any) -> str:
    """Return the name of an operator: a word, or one of the user's."""
    return str(getattr(op, "name", op))


def _counts(counts: Any) -> tuple[int, ...]:
    return tuple(map(int, counts))


def _halo(comm: Any, x: Any, before: int, after: int, counts: Any, *, axis: int = 0, **others: Any) -> tuple:
    periodic = bool(others.get("periodic", False))
    shown = f"before={before}, after={after}, counts={_counts(counts)}, axis={axis}, periodic={periodic}"
    return (f"({shown}) of {_array(x, axis)}",)


def _ring(comm: Any, x: Any, counts: Any, *, axis: int = 0) -> tuple:
    return (f"(counts={_counts(counts)}, axis={axis}) of {_array(x, axis)}",)


def _redistribute(comm: Any, x: Any, plan: Any, *, out: Any = None) -> tuple:
    # A plan holds the boxes of all ranks: a sum of them is enough to tell plans apart.
    number = zlib.crc32(repr((plan.src, plan.dst)).encode())
    return (f"(plan {number:08x}) of {_array(x).partition(' ')[0]}",)


def _nothing(comm: Any, *args: Any, **kwargs: Any) -> tuple:
    return ("",)


def _shared(comm: Any, shape: Any, dtype: Any = "float64") -> tuple:
    return (f" of {str(dtype).rpartition('.')[2]}",)  # nodes may have arrays of different shapes


def _rooted_object(comm: Any, obj: Any, root: int = 0) -> tuple:
    return (f"(root={root})",)


_WORDS: dict[str, Callable[..., tuple]] = {
    "agree": _nothing,
    "allgather": _allgather,
    "allgather_object": _nothing,
    "allgatherv": _allgatherv,
    "allreduce": _reduction,
    "allreduce_pairs": _pairs,
    "alltoall": _allgather,
    "alltoallv": _alltoallv,
    "barrier": _nothing,
    "bcast": _bcast,
    "bcast_object": _rooted_object,
    "dup": _nothing,
    "exscan": _reduction,
    "gather": _gather,
    "gather_object": _rooted_object,
    "gatherv": _gatherv,
    "halo": _halo,
    "redistribute": _redistribute,
    "reduce": _reduce,
    "reduce_scatter": _reduce_scatter,
    "reduce_scatterv": _reduce_scatterv,
    "ring": _ring,
    "scan": _reduction,
    "scatter": _scatter,
    "scatterv": _scatterv,
    "shared": _shared,
    "split": _nothing,
}
