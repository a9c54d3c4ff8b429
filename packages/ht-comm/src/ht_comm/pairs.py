"""(value, index) pairs as records of 64-bit words, and the operators that choose between them.

Values travel as float64, int64 or uint64, which hold those of every narrower type exactly, and indices as int64, so
neither is ever rounded to the other's type. ``k`` pairs are ``2 k`` words: k values, then k indices. A negative index
stands for a pair that is not there.
"""

import functools

import numpy as np

from .buffers import Array, Kind, NumpyKind, check_like, inspect
from .dtypes import DTYPES, DType, torch_dtype
from .operators import Op

PAIR_OPERATORS = ("argmin", "argmax", "topk", "bottomk")
_INT64 = DTYPES["int64"]


def pack_pairs(where: str, values: Array, indices: Array, op: str) -> tuple[Array, Op]:
    """Return pairs as words, and the operator that combines them; these go to any reduction.

    Parameters
    ----------
    where : str
        Name of the calling operation, for error texts.
    values, indices, op
        As for `Communicator.allreduce_pairs`.

    Returns
    -------
    words : array, int64
        Of the shape of `values` with one more axis of length 2; for ``topk`` and ``bottomk`` with a last axis
        twice as long.
    operator : Op

    Raises
    ------
    TypeError
        If values have no order or indices are not int64.
    ValueError
        If the operator is unknown or shapes do not match.
    """
    kind, dtype = inspect(where, "values", values)
    if op not in PAIR_OPERATORS:
        raise ValueError(f"{where}: op must be one of {', '.join(PAIR_OPERATORS)}, got {op!r}")
    if dtype.kind == "c":
        raise TypeError(f"{where}: values must have an order, got {dtype.name}")
    check_like(where, "indices", indices, kind, _INT64, values.shape)
    is_list = op.endswith("k")
    if is_list and (values.ndim == 0 or values.shape[-1] == 0):
        raise ValueError(
            f"{where}: values must have candidates along a last axis for op {op!r}, got shape {tuple(values.shape)}"
        )
    if not is_list:
        values, indices = values[..., None], indices[..., None]
    k = int(values.shape[-1])
    word = _word(dtype)
    words = kind.scratch((*values.shape[:-1], 2 * k), _INT64)
    kind.copy(kind.narrow(_view(words, kind, word), values.ndim - 1, 0, k), kind.prepare(values))
    kind.copy(kind.narrow(words, values.ndim - 1, k, k), indices)
    return words, _operator(op, word)


def unpack_pairs(words: Array, values: Array, indices: Array) -> tuple[Array, Array]:
    """Return the values and indices in `words`, as arrays like those they were packed from."""
    kind, dtype = inspect("unpack_pairs", "values", values)
    lists = values.ndim == words.ndim
    axis, k = words.ndim - 1, int(words.shape[-1]) // 2
    found = kind.empty_like(values), kind.empty_like(indices)
    typed = _view(words, kind, _word(dtype))
    for out, source, start in ((found[0], typed, 0), (found[1], words, k)):
        part = kind.narrow(source, axis, start, k)
        kind.copy(out, part if lists else part[..., 0])
    return found


def _word(dtype: DType) -> DType:
    if dtype.kind == "f":
        return DTYPES["float64"]
    return dtype if dtype.name == "uint64" else _INT64


def _view(words: Array, kind: Kind, word: DType) -> Array:
    return words.view(word.storage if kind is NumpyKind else torch_dtype(word))


@functools.cache
def _operator(op: str, word: DType) -> Op:
    if op in ("argmin", "argmax"):
        function = functools.partial(_best, word=word.storage, is_least=op == "argmin")
    else:
        function = functools.partial(_merge, word=word.storage, is_least=op == "bottomk")
    # Choosing rounds nothing, so the order of ranks does not show.
    return Op(function, commute=True, records=True, name=f"{op}[{word.name}]")


def _best(lower: np.ndarray, higher: np.ndarray, *, word: np.dtype, is_least: bool) -> np.ndarray:
    """Choose between pairs; arrays of shape (n, 2)."""
    a, b = lower.view(word)[:, 0], higher.view(word)[:, 0]
    at, other = lower[:, 1], higher[:, 1]
    is_better = b < a if is_least else b > a
    is_tie = a == b
    if word.kind == "f":
        is_better |= np.isnan(b) & ~np.isnan(a)
        is_tie |= np.isnan(b) & np.isnan(a)
    chosen = ((is_better | (is_tie & (other < at))) & (other >= 0)) | (at < 0)
    return np.where(chosen[:, None], higher, lower)


def _merge(lower: np.ndarray, higher: np.ndarray, *, word: np.dtype, is_least: bool) -> np.ndarray:
    """Keep the best half of the pairs of two lists; arrays of shape (n, 2 k)."""
    k = lower.shape[1] // 2
    bits = np.concatenate([lower[:, :k], higher[:, :k]], axis=1)
    indices = np.concatenate([lower[:, k:], higher[:, k:]], axis=1)
    values = bits.view(word)
    keys = [indices]
    if word.kind == "f":
        is_nan = np.isnan(values)
        known = np.where(is_nan, 0.0, values)
        keys += [known, is_nan] if is_least else [-known, ~is_nan]
    else:
        keys += [values if is_least else ~values]  # ~ turns the order of integers round without overflow
    order = np.lexsort((*keys, indices < 0), axis=-1)[:, :k]
    return np.concatenate(
        [np.take_along_axis(bits, order, axis=1), np.take_along_axis(indices, order, axis=1)], axis=1
    )
