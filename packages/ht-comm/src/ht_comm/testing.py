"""What tests on any number of ranks share: strategies for uneven and empty blocks, agreement between ranks.

For the tests of this package and of those above it. The strategies need Hypothesis, which is imported on use.
"""

import sys
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import numpy as np

from .buffers import Array
from .communicator import Communicator
from .redistribute import Box, Placement


def shapes(max_dims: int = 3, max_side: int = 5, min_dims: int = 0) -> Any:
    """Return a strategy for shapes, sides of 0 and 1 included; it shrinks towards ()."""
    from hypothesis import strategies as st

    return st.lists(st.integers(0, max_side), min_size=min_dims, max_size=max_dims).map(tuple)


def counts(extent: int, p: int) -> Any:
    """Return a strategy for the extents of `p` blocks that sum to `extent`: uneven, some empty."""
    from hypothesis import strategies as st

    cuts = st.lists(st.integers(0, extent), min_size=p - 1, max_size=p - 1).map(sorted)
    return cuts.map(lambda marks: tuple(b - a for a, b in pairwise((0, *marks, extent))))


def placements(shape: tuple[int, ...], p: int) -> Any:
    """Return a strategy for placements of an array: replicated, or split along any axis with any counts."""
    from hypothesis import strategies as st

    split = [
        counts(extent, p).map(lambda parts, axis=axis: split_placement(shape, axis, parts))
        for axis, extent in enumerate(shape)
    ]
    return st.one_of(st.just(replicated_placement(shape, p)), *split)


def boxes(shape: tuple[int, ...]) -> Any:
    """Return a strategy for boxes within an array, empty ones included."""
    from hypothesis import strategies as st

    return st.tuples(
        *(st.lists(st.integers(0, n), min_size=2, max_size=2).map(sorted).map(tuple) for n in shape)
    )


def split_placement(shape: tuple[int, ...], axis: int, parts: tuple[int, ...]) -> Placement:
    """Return the boxes of an array split along `axis` into blocks of the given extents."""
    marks = accumulate(parts, initial=0)
    whole = tuple((0, extent) for extent in shape)
    return tuple((*whole[:axis], mark, *whole[axis + 1 :]) for mark in pairwise(marks))


def replicated_placement(shape: tuple[int, ...], p: int) -> Placement:
    """Return the boxes of an array that every one of `p` ranks holds in full."""
    return (tuple((0, extent) for extent in shape),) * p


def cut(x: Array, box: Box) -> Array:
    """Return the part of a global array in a box, a view."""
    return x[(..., *(slice(start, stop) for start, stop in box))]


def assert_same_on_all_ranks(comm: Communicator, value: Any) -> None:
    """Raise the same AssertionError on all ranks unless all hold the same value. Collective.

    Parameters
    ----------
    comm : Communicator
        The ranks that are compared.
    value : array or picklable
        Arrays must agree in type, dtype, shape and every bit (NaN equals NaN); other objects by ``==``.
    """
    values = comm.allgather_object(_fingerprint(value))
    odd = [rank for rank, other in enumerate(values) if other != values[0]]
    if odd:
        raise AssertionError(
            f"rank 0 has {values[0]!r}, rank {odd[0]} has {values[odd[0]]!r} (differing: {odd})"
        )


def _fingerprint(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return "numpy", str(value.dtype), value.shape, value.tobytes()
    if type(value).__module__.partition(".")[0] == "torch" and hasattr(value, "untyped_storage"):
        host = value.detach().resolve_conj().resolve_neg().cpu().contiguous()
        raw = host.reshape(-1).view(sys.modules["torch"].uint8).numpy().tobytes()
        return "torch", str(value.dtype), tuple(value.shape), raw
    return value


def assert_same_error_on_all_ranks(
    comm: Communicator, error: type[BaseException], function: Callable[..., Any], *args: Any, **kwargs: Any
) -> str:
    """Call a function that must raise `error` with one text on all ranks; return the text. Collective.

    A rank on which it raises nothing makes this fail on all ranks, as long as no rank is left waiting in it.
    """
    told = None
    try:
        function(*args, **kwargs)
    except error as raised:
        told = f"{type(raised).__name__}: {raised}"
    everywhere = comm.allgather_object(told)
    missing = [rank for rank, text in enumerate(everywhere) if text is None]
    if missing:
        raise AssertionError(
            f"{error.__name__} was not raised on ranks {missing} of {comm.size}: {everywhere}"
        )
    assert_same_on_all_ranks(comm, told)
    return everywhere[0].partition(": ")[2]
