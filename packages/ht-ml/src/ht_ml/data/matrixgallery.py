"""Matrices whose properties are known, for tests and timings; under the names that Heat gave them."""

from __future__ import annotations

from collections.abc import Callable
from numbers import Integral
from typing import Any, NamedTuple

import ht_core as ht
from ht_comm import Communicator
from ht_core import DNDarray
from ht_core.errors import LayoutError
from ht_core.random import Generator, default_rng
from ht_linalg import matmul, qr

from ..draws import resolve_seed


class Factors(NamedTuple):
    """``U``, ``S`` and ``V`` of ``A = U @ diag(S) @ V.T``."""

    U: DNDarray
    S: DNDarray
    V: DNDarray


class KnownMatrix(NamedTuple):
    """A matrix and the singular value decomposition that it was made from."""

    A: DNDarray
    factors: Factors


def extent(op: str, name: str, value: Any) -> int:
    """Return `value` as an int of at least 1, or raise ValueError."""
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise ValueError(f"{op}: {name} must be an integer of at least 1, got {value!r}")
    return int(value)


def _generator(op: str, random_state: Any, comm: Communicator | None) -> Generator:
    return default_rng(resolve_seed(op, random_state), comm=comm)


def hermitian(
    n: int,
    dtype: object = ht.complex64,
    split: int | None = None,
    device: object = None,
    comm: Communicator | None = None,
    positive_definite: bool = False,
    *,
    random_state: Any = None,
) -> DNDarray:
    """Return a random matrix that is its own adjoint; a symmetric one, if `dtype` is real.

    Parameters
    ----------
    n : int
        Rows and columns.
    dtype : dtype
        float32, float64, complex64 or complex128.
    split : int, optional
        Axis along which the result is cut.
    device, comm
        Where it is made; the defaults are those of all arrays.
    positive_definite : bool
        ``B^H B`` for a normal ``B`` instead of ``(B + B^H) / 2``.
    random_state : int, None or Generator
        The same matrix for the same number, on any number of ranks.

    Returns
    -------
    DNDarray, shape (n, n)

    Notes
    -----
    *Distribution*, where `split` is not None: one exchange of n^2 elements, or one product.

    Raises
    ------
    TypeError, ValueError
        If `dtype` or `n` is not as above.

    Examples
    --------
    >>> a = ht.utils.data.matrixgallery.hermitian(5, dtype=ht.float64, split=0)
    >>> bool((a == a.T).all())
    True
    """
    n = extent("hermitian", "n", n)
    kind = ht.result_type(dtype)
    if kind not in (ht.float32, ht.float64, ht.complex64, ht.complex128):
        raise TypeError(f"hermitian: dtype must be float32, float64, complex64 or complex128, got {kind}")
    rng = _generator("hermitian", random_state, comm)
    is_complex = kind in (ht.complex64, ht.complex128)
    real = {ht.complex64: ht.float32, ht.complex128: ht.float64}.get(kind, kind)

    def normals() -> DNDarray:
        return rng.standard_normal((n, n), dtype=real, split=split, device=device, comm=comm)

    b = normals() + 1j * normals() if is_complex else normals()
    adjoint = ht.conj(b.T) if is_complex else b.T
    if not positive_definite:
        return (b + adjoint.resplit(split)) / 2
    product = matmul(adjoint, b).resplit(split)
    turned = product.T.resplit(split)
    return (product + (ht.conj(turned) if is_complex else turned)) / 2  # equal to the last bit


def parter(
    n: int,
    split: int | None = None,
    device: object = None,
    comm: Communicator | None = None,
    dtype: object = ht.float32,
) -> DNDarray:
    """Return the Parter matrix, ``1 / (i - j + 0.5)``: most of its singular values are close to pi.

    Parameters
    ----------
    n : int
        Rows and columns.
    split : int, optional
        Axis along which the result is cut.
    device, comm
        Where it is made.
    dtype : dtype
        Of the result.

    Returns
    -------
    DNDarray, shape (n, n)

    Notes
    -----
    *Distribution*: no message. S. V. Parter, "On the distribution of the singular values of Toeplitz matrices", Linear
    Algebra Appl. 80 (1986), doi 10.1016/0024-3795(86)90280-6.

    Examples
    --------
    >>> ht.utils.data.matrixgallery.parter(2).numpy().tolist()
    [[2.0, -2.0], [0.6666666865348816, 2.0]]
    """
    n = extent("parter", "n", n)
    values = ht.fromfunction(lambda i, j: 1 / (i - j + 0.5), (n, n), split=split, device=device, comm=comm)
    return values.astype(dtype)


def random_known_singularvalues(
    m: int,
    n: int,
    singular_values: Any,
    split: int | None = None,
    device: object = None,
    comm: Communicator | None = None,
    dtype: object = ht.float32,
    *,
    random_state: Any = None,
) -> KnownMatrix:
    """Return a random matrix with given singular values, and its decomposition.

    Parameters
    ----------
    m, n : int
        Rows and columns.
    singular_values : array_like, shape (r,)
        Not negative, at most ``min(m, n)`` of them, the same on every rank; the others are zero.
    split : int, optional
        Axis along which the matrix is cut.
    device, comm
        Where it is made.
    dtype : dtype
        float32 or float64.
    random_state : int, None or Generator
        The same matrix for the same number, on any number of ranks, up to rounding.

    Returns
    -------
    KnownMatrix
        ``A`` of shape (m, n), and ``factors``: ``U`` (m, r), ``S`` (r,) and ``V`` (n, r) with orthonormal columns.
        ``U`` is cut like the rows of ``A`` and ``V`` like its columns, where these are cut.

    Notes
    -----
    *Distribution*: that of two `ht_linalg.qr` of normal matrices, (m, r) and (n, r), and of one product. The columns of
    ``U`` and ``V`` are uniformly distributed: F. Mezzadri, "How to generate random matrices from the classical compact
    groups", Notices of the AMS 54 (2007), arXiv math-ph/0609050.

    Raises
    ------
    LayoutError, TypeError, ValueError
        If an argument is not as above.

    Examples
    --------
    >>> A, (U, S, V) = ht.utils.data.matrixgallery.random_known_singularvalues(6, 4, [3.0, 1.0], split=0)
    >>> A.shape, U.shape, V.shape
    ((6, 4), (6, 2), (4, 2))
    """
    op = "random_known_singularvalues"
    m, n = extent(op, "m", m), extent(op, "n", n)
    kind = ht.result_type(dtype)
    if kind not in (ht.float32, ht.float64):
        raise TypeError(f"{op}: dtype must be float32 or float64, got {kind}")
    s = ht.array(singular_values, dtype=kind, device=device, comm=comm)
    if s.split is not None:
        s = s.resplit(None)
    if s.ndim != 1 or not 0 < s.shape[0] <= min(m, n):
        raise LayoutError(f"{op}: singular_values must have shape (r,), 1 <= r <= {min(m, n)}, got {s.shape}")
    if not bool((s >= 0).all()):
        raise ValueError(f"{op}: singular_values must not be negative or NaN")
    rng = _generator(op, random_state, comm)

    def orthonormal(rows: int, cut: bool) -> DNDarray:
        shape, axis = (rows, s.shape[0]), 0 if cut else None
        drawn = rng.standard_normal(shape, dtype=kind, split=axis, device=device, comm=comm)
        return qr(drawn).Q.resplit(axis)

    u, v = orthonormal(m, split in (0, -2)), orthonormal(n, split in (1, -1))
    return KnownMatrix(matmul(u * s, v.T).resplit(split), Factors(u, s, v))


def _minus_logarithm(x: DNDarray) -> DNDarray:
    return -ht.log(x)


def random_known_rank(
    m: int,
    n: int,
    r: int,
    quantile_function: Callable[[DNDarray], DNDarray] = _minus_logarithm,
    split: int | None = None,
    device: object = None,
    comm: Communicator | None = None,
    dtype: object = ht.float32,
    *,
    random_state: Any = None,
) -> KnownMatrix:
    """Return a random matrix of given rank, and its decomposition.

    Parameters
    ----------
    m, n : int
        Rows and columns.
    r : int
        The rank, at most ``min(m, n)``.
    quantile_function : callable
        Of the distribution of the singular values: uniform numbers in (0, 1) -> positive numbers. By default they are
        exponentially distributed.
    split, device, comm, dtype, random_state
        As in `random_known_singularvalues`.

    Returns
    -------
    KnownMatrix
        As from `random_known_singularvalues`; the singular values decrease.

    Notes
    -----
    *Distribution*: as for `random_known_singularvalues`.

    Raises
    ------
    LayoutError, TypeError, ValueError
        As there, and if `r` is out of range.

    Examples
    --------
    >>> A, (U, S, V) = ht.utils.data.matrixgallery.random_known_rank(8, 5, 3, split=0, random_state=1)
    >>> int(ht.linalg.matrix_rank(A))
    3
    """
    op = "random_known_rank"
    m, n = extent(op, "m", m), extent(op, "n", n)
    if extent(op, "r", r) > min(m, n):
        raise ValueError(f"{op}: r must be at most min(m, n) = {min(m, n)}, got {r}")
    seed = resolve_seed(op, random_state)
    uniform = default_rng(seed, comm=comm).uniform(size=r, device=device, comm=comm)
    values = ht.flip(ht.sort(quantile_function(1 - uniform)))  # in (0, 1]: no infinite value
    arguments = {"split": split, "device": device, "comm": comm, "dtype": dtype}
    return random_known_singularvalues(m, n, values, random_state=seed, **arguments)


__all__ = [
    "Factors",
    "KnownMatrix",
    "hermitian",
    "parter",
    "random_known_rank",
    "random_known_singularvalues",
]
