"""Spectral divide and conquer: a Hermitian matrix is cut at a point between its eigenvalues, again and again.

The sign of ``A - s I`` is its unitary polar factor U; ``(I + U) / 2`` projects on the eigenvectors above s. With
orthonormal bases V1, V2 of its range and its kernel, ``[V1 V2]^H A [V1 V2]`` falls into two blocks, which are treated
likewise, until one rank can decompose each of them: different ranks, at the same time.

References
----------
Y. Nakatsukasa, N. J. Higham, Stable and efficient spectral divide and conquer algorithms for the symmetric eigenvalue
decomposition and the SVD, 2013, doi:10.1137/120876605.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from ht_core import DNDarray
from ht_core.layout import Layout
from ht_core.random import default_rng

from .columns import adjoint, moved
from .consensus import pack, solve_sum
from .errors import LinAlgError
from .gram import WIDE
from .matmul import matmul
from .one_rank import alone
from .qdwh import qdwh
from .qr import qr
from .truncation import signs

if TYPE_CHECKING:
    from ht_comm import Communicator


@dataclass(slots=True)
class _Block:
    """A part of the spectrum: the compressed matrix, and the basis it is compressed to (None: all)."""

    matrix: DNDarray
    basis: DNDarray | None
    is_scalar: bool = False


def divided(
    a: DNDarray, UPLO: str, vectors: bool, leaf: int, op: str
) -> tuple[torch.Tensor, DNDarray | None]:
    """Return the eigenvalues, on every rank, and the eigenvectors, split 0, of a Hermitian matrix that is split.

    Parameters
    ----------
    a : DNDarray, shape (n, n), split 0 or 1
    UPLO : {"L", "U"}
        The triangle that is read.
    vectors : bool
        Whether eigenvectors are wanted.
    leaf : int
        Parts of up to this many rows are decomposed by one rank.
    op : str
        For messages.

    *Distribution*: collective. A division of k rows takes a polar decomposition (:func:`ht_linalg.qdwh.qdwh`, 38 k^3 /
    p flops), two subspace iterations and the compression (20 k^3 / p flops, eight products and four QR decompositions).
    A part of k rows moves to its rank, k^2 words, and its eigenvectors come back; one allreduce of n words tells the
    eigenvalues. Memory: twelve blocks of the size of `a`'s, and four matrices of `leaf` rows.

    Raises
    ------
    LinAlgError
        If the matrix is not finite, or no cut was found in three attempts; on every rank.
    """
    comm, n = a.comm, a.shape[0]
    if n <= leaf:
        whole = [_Block(a, None)]
    else:
        first = _Block(_hermitian(moved(a, _rows(a.shape, comm)), UPLO), None)
        UPLO = "L"
        norm, *_ = _facts(first.matrix)
        if math.isinf(norm):
            raise LinAlgError(f"{op}: a must be finite, got NaN, infinity or overflow")
        whole, waiting = [], [first]
        while waiting:  # depth first, the lower part of the spectrum first
            block = waiting.pop()
            parts = [block] if block.matrix.shape[0] <= leaf else _divide(block, norm, vectors, op)
            if len(parts) == 1:
                whole.append(block)
            else:
                waiting += reversed(parts)
    return _solve(whole, UPLO, vectors, op)


def eigen_here(x: torch.Tensor, UPLO: str, vectors: bool) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return eigenvalues and vectors of local matrices, signs fixed; NaN for those that are not finite."""
    triangle = x.tril() if UPLO == "L" else x.triu()
    bad = ~torch.isfinite(triangle).flatten(-2).all(-1)[..., None]
    if bool(bad.any()):
        x = torch.where(bad[..., None], 0, x)
    try:
        if not vectors:
            return torch.linalg.eigvalsh(x, UPLO=UPLO).masked_fill(bad, math.nan), None
        values, found = torch.linalg.eigh(x, UPLO=UPLO)
    except torch.linalg.LinAlgError:
        values, found = x.new_full(x.shape[:-1], math.nan).real, x.new_full(x.shape, math.nan)
    found = found / signs(found)[..., None, :]
    return values.masked_fill(bad, math.nan), found.masked_fill(bad[..., None], math.nan)


# -- one division --------------------------------------------------------------------------------------------------


def _divide(block: _Block, norm: float, vectors: bool, op: str) -> list[_Block]:
    """Return the parts of the spectrum of a block below and above a point, or the block if it is a multiple of I."""
    a, eps = block.matrix, torch.finfo(block.matrix.larray.dtype).eps
    _, deviation, points = _facts(a)
    if deviation <= 16 * eps * norm:
        block.is_scalar = True
        return [block]
    for point in points:
        bases = _bases(a, point)
        found = None if bases is None else _compressed(a, bases, 100 * eps * norm)
        if found is not None:
            if not vectors:
                return [_Block(x, None) for x in found]
            if block.basis is not None:
                bases = tuple(moved(matmul(block.basis, v), _like(block.basis, v)) for v in bases)
            return [_Block(x, v) for x, v in zip(found, bases)]
    raise LinAlgError(f"{op}: the spectrum must be divided, which failed at {len(points)} points")


def _facts(a: DNDarray) -> tuple[float, float, list[float]]:
    """Return the norm of a Hermitian matrix, its distance from a multiple of I, and points to divide its spectrum at.

    Every diagonal element lies between the extreme eigenvalues, and so do points close to their mean on one of its two
    sides; small offsets keep the point off eigenvalues that are elements of the diagonal.
    """
    n, comm, mine = a.shape[0], a.comm, a.layout.slices(a.comm.rank)[0]
    partial = torch.zeros(n + 1, dtype=torch.float64, device=a.larray.device)
    diagonal = a.larray.diagonal(mine.start).real.double()
    partial[mine] = diagonal
    rest = a.larray.clone()
    rest.diagonal(mine.start).zero_()
    partial[n] = torch.linalg.vector_norm(rest, dtype=WIDE[rest.dtype]) ** 2

    def judge(total: torch.Tensor) -> torch.Tensor:
        d, off = total[:n], total[n]
        mean, middle = d.mean(), d.median()
        spread = (off + (d - mean).square().sum()).sqrt()
        norm = (off + d.square().sum()).sqrt()
        offset = spread / math.sqrt(n) * 1e-3
        facts = pack(norm, spread, middle + 0.618 * offset, mean + offset, mean - offset, like=total)
        return facts.nan_to_num(nan=math.inf, posinf=math.inf)

    norm, spread, *points = solve_sum(partial, comm, judge, 5).tolist()
    return norm, spread, points


def _bases(a: DNDarray, point: float) -> tuple[DNDarray, DNDarray] | None:
    """Return orthonormal bases of the spaces of eigenvalues below and above a point; None where one is empty."""
    comm, n, dtype = a.comm, a.shape[0], a.larray.dtype
    sign = _sign(a, point)
    if sign is None:
        return None
    trace = sign.larray.diagonal(sign.layout.displs[comm.rank]).real.sum()

    def judge(total: torch.Tensor) -> torch.Tensor:
        above = (n + total) / 2
        return pack(above.round().clamp(0, n) if (above - above.round()).abs() < 0.1 else 0, like=total)

    above = int(solve_sum(trace.reshape(1).double(), comm, judge, 1).item())
    if not 0 < above < n:
        return None
    found, rng = [], default_rng(2, comm=comm)
    kind = "float32" if a.larray.real.dtype == torch.float32 else "float64"
    for count, side in ((n - above, -1), (above, 1)):
        start = rng.standard_normal((n, count), kind, split=0, device=a.device, comm=comm)
        basis = DNDarray(start.larray.to(dtype), start.layout, comm)
        for _ in range(
            2
        ):  # once from random vectors, whose projections may be ill-conditioned, once more for accuracy
            image = matmul(sign, basis)
            local = moved(image, basis.layout).larray.mul(side).add_(basis.larray)
            basis = moved(qr(DNDarray(local, basis.layout, comm)).Q, basis.layout)
        found.append(basis)
    return tuple(found)


def _sign(a: DNDarray, point: float) -> DNDarray | None:
    """Return the sign of the Hermitian matrix A - point I: its eigenvectors with eigenvalues 1 and -1."""
    eps = torch.finfo(a.larray.dtype).eps
    shifted = a.larray.clone()
    shifted.diagonal(a.layout.displs[a.comm.rank]).sub_(point)
    x = DNDarray(shifted, a.layout, a.comm)
    norm, *_ = _facts(x)
    shifted /= norm
    u = qdwh(x, eps / 8)
    return None if u is None else _averaged(u)


def _compressed(a: DNDarray, bases: tuple[DNDarray, DNDarray], tol: float) -> list[DNDarray] | None:
    """Return V^H A V for both bases, or None where what is left between them is not negligible."""
    images = [moved(matmul(a, v), _like(a, v)) for v in bases]
    between = matmul(adjoint(bases[1]), images[0])
    square = torch.linalg.vector_norm(between.larray, dtype=WIDE[a.larray.dtype]) ** 2
    square = square / a.comm.size if between.split is None else square
    left = solve_sum(square.reshape(1).double(), a.comm, lambda total: total.sqrt(), 1).item()
    if not left <= tol:
        return None
    found = []
    for v, image in zip(bases, images):
        product = matmul(adjoint(v), image)
        found.append(_averaged(moved(product, _rows(product.shape, a.comm))))
    return found


# -- leaves --------------------------------------------------------------------------------------------------------


def _solve(blocks: list[_Block], UPLO: str, vectors: bool, op: str) -> tuple[torch.Tensor, DNDarray | None]:
    """Decompose the blocks, each on one rank; return all eigenvalues and the eigenvectors of the whole matrix."""
    comm, p = blocks[0].matrix.comm, blocks[0].matrix.comm.size
    sizes = [block.matrix.shape[0] for block in blocks]
    like = blocks[0].matrix.larray
    values = like.new_zeros(sum(sizes), dtype=like.real.dtype)
    held, owners = [], [i % p for i in range(len(blocks))]
    for block, owner in zip(blocks, owners):
        there = None if block.is_scalar else moved(block.matrix, alone(block.matrix.shape, owner, p)).larray
        held.append(there)
    start = 0
    for i, (block, size, owner) in enumerate(zip(blocks, sizes, owners)):
        part = values[start : start + size]
        if block.is_scalar:
            mine = block.matrix.layout.slices(comm.rank)[0]
            part[mine] = block.matrix.larray.diagonal(mine.start).real
        elif comm.rank == owner:
            own, held[i] = eigen_here(held[i], UPLO, vectors)
            part.copy_(own)
        start += size
    values = comm.allreduce(values)
    if bool(torch.isnan(values).any()):
        raise LinAlgError(f"{op}: a must be finite, got NaN or infinity")
    if not vectors:
        return values.sort().values, None
    return _assembled(blocks, owners, held, values)


def _assembled(
    blocks: list[_Block], owners: list[int], held: list[torch.Tensor | None], values: torch.Tensor
) -> tuple[torch.Tensor, DNDarray]:
    """Return the eigenvalues in order and the eigenvectors: those of the blocks times their bases."""
    comm, p = blocks[0].matrix.comm, blocks[0].matrix.comm.size
    columns = []
    for i, (block, owner) in enumerate(zip(blocks, owners)):
        shape = block.matrix.shape
        if block.is_scalar:
            columns.append(block.basis)
            continue
        local = DNDarray(held[i], alone(shape, owner, p), comm)
        if block.basis is None:
            return values, local
        turned = matmul(block.basis, moved(local, _rows(shape, comm)))
        columns.append(moved(turned, _like(block.basis, local)))
        held[i] = None
    if columns[0] is None:  # a multiple of the identity
        layout = blocks[0].matrix.layout
        local = torch.zeros_like(blocks[0].matrix.larray)
        local.diagonal(layout.displs[comm.rank]).fill_(1)
        columns = [DNDarray(local, layout, comm)]
    vectors = torch.cat([x.larray for x in columns], dim=1)
    values, order = values.sort(stable=True)  # the parts are in order up to rounding
    if len(order) > 1 and bool((order[1:] < order[:-1]).any()):
        vectors = vectors[:, order]
    return values, DNDarray(vectors, columns[0].layout.with_axis(1, len(values)), comm)


# -- layouts -------------------------------------------------------------------------------------------------------


def _rows(shape: tuple[int, ...], comm: Communicator) -> Layout:
    return Layout.even(shape, 0, comm.size)


def _like(x: DNDarray, v: DNDarray) -> Layout:
    """Return the layout of a product of `x` and `v` with the rows of `x`."""
    return Layout((x.shape[0], v.shape[1]), 0, x.layout.counts)


def _averaged(x: DNDarray) -> DNDarray:
    """Return the Hermitian part; one redistribution."""
    return DNDarray((x.larray + moved(adjoint(x), x.layout).larray) / 2, x.layout, x.comm)


def _hermitian(a: DNDarray, UPLO: str) -> DNDarray:
    """Return the Hermitian matrix of which `a`, split 0, has one triangle; one redistribution."""
    at = a.layout.displs[a.comm.rank]
    keep = torch.tril if UPLO == "L" else torch.triu
    triangle = keep(a.larray, diagonal=at)
    strict = keep(a.larray, diagonal=at - 1 if UPLO == "L" else at + 1)
    other = moved(adjoint(DNDarray(strict, a.layout, a.comm)), a.layout).larray.resolve_conj()
    if triangle.is_complex():
        triangle.diagonal(at).imag.zero_()
    return DNDarray(triangle + other, a.layout, a.comm)
