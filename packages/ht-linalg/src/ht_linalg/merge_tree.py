"""Truncated SVD of a matrix both of whose sides are large: a tree of local decompositions.

Each leaf is a block of rows X_b, compressed to W_b (orthonormal) and B_b = W_b' X_b with few rows; a merge
stacks the B of its children and compresses the stack again. What a node discards is orthogonal to what every
other node discards, so squared errors add up, and a budget of squared error is dealt to the nodes. Left
vectors are never gathered: the small W stay where they were made and are multiplied on the way down.

References
----------
C. Himpe, T. Leibner, S. Rave, Hierarchical approximate proper orthogonal decomposition, 2018,
doi:10.1137/16M1085413.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from ht_core import DNDarray
from ht_core.engines.redistribution import redistribute
from ht_core.layout import Layout

from .gram import WIDE, gram, tiles
from .truncation import Truncation, signs, tails

if TYPE_CHECKING:
    from ht_comm import Communicator

#: Rows of a leaf: its eigenproblem costs (rows)^3, and where the data do not compress the merges above do that work.
LEAF_ROWS = 512
#: Share of the error budget (of squares) that is kept for the root, where it buys the lowest final rank. Where singular
#: values fall as k^-3/4 the rank goes as the budget to the power -2: what the nodes below spend must be a few percent.
ROOT_SHARE = 0.98


@dataclass(frozen=True, slots=True)
class Budget:
    """What a node may discard, and how many rows it may pass on.

    Attributes
    ----------
    energy : float
        Bound of the discarded squared Frobenius norm; 0 where only the rank is prescribed.
    rows : int or None
    exact : bool
        Whether an SVD is used instead of a Gram matrix, which could not resolve the tolerance.
    """

    energy: float
    rows: int | None
    exact: bool


@dataclass(slots=True)
class Node:
    """A compressed block: X is about ``W B`` with orthonormal columns in W, which acts on the children's B.

    `lost` is the squared Frobenius norm of what was discarded here and below.
    """

    w: torch.Tensor
    b: torch.Tensor = field(repr=False)
    lost: float
    children: list[Node | int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def apply(self, z: torch.Tensor, comm: Communicator) -> torch.Tensor | None:
        """Return this rank's rows of Q z; other ranks' shares are sent to them."""
        z, mine = self.w @ z, []
        if not self.children:
            return z
        for child, part in zip(self.children, z.split(self.sizes)):
            if isinstance(child, Node):
                mine.append(child.apply(part, comm))
            else:
                comm.send(part.contiguous(), child)
        return torch.cat(mine)


def svd_tree(
    A: DNDarray, dtype: torch.dtype, want: Truncation, maxmergedim: int | None, safetyshift: int, arity: int
) -> tuple[DNDarray, DNDarray, DNDarray, float]:
    """Return U, S, V and the relative error of a large matrix; see :func:`ht_linalg.hsvd_rtol`.

    *Distribution*: collective. One allreduce of one number; every rank but 0 sends its B (at most maxmergedim
    / arity rows, each as long as the side of `A` that is not split) to its parent and receives a block of r
    columns; one broadcast of r + 2 numbers and one scatter of the other factor.
    """
    comm, rows = A.comm, A.split or 0
    spread = A.layout if A.split is not None else Layout.even(A.shape, rows, comm.size)
    x = redistribute(A.larray, A.layout, spread, comm).to(dtype)
    x = x.mH.resolve_conj() if rows else x
    total = _energy(x, comm, want.op)
    leaf, root = _budgets(want, total, spread.counts, maxmergedim, safetyshift, arity, dtype)
    node, parent = _upwards(x, spread.counts, comm, leaf, arity)
    s, v, left, kept = _top(node, root, parent, total, comm)
    z = left if parent is None else comm.recv(x.new_empty((node.w.shape[1], s.shape[0])), parent)
    u = node.apply(z, comm)
    target = Layout.even((x.shape[1], s.shape[0]), 0, comm.size)
    v = comm.scatterv(v, target.counts, root=0, like=x.new_empty((0, s.shape[0])))
    long = DNDarray(u, Layout((A.shape[rows], s.shape[0]), 0, spread.counts), comm)
    short = DNDarray(v, target, comm)
    U, V = (short, long) if rows else (long, short)
    if A.split is None:
        U, V = (_replicated(f) for f in (U, V))
    S = DNDarray(s.to(x.real.dtype), Layout.replicated(tuple(s.shape)), comm)
    return U, S, V, kept


def _replicated(x: DNDarray) -> DNDarray:
    whole = Layout.replicated(x.shape)
    return DNDarray(redistribute(x.larray, x.layout, whole, x.comm), whole, x.comm)


def _energy(x: torch.Tensor, comm: Communicator, op: str) -> float:
    """Return the squared Frobenius norm of the whole matrix.

    Raises
    ------
    ValueError
        On every rank alike, if it is not finite.
    """
    here = sum((x[rows].abs().double().square().sum().item() for rows in tiles(x.shape[0], x.device)), 0.0)
    total = comm.allreduce(torch.tensor([here], dtype=torch.float64, device=x.device), "sum").item()
    if not total < float("inf"):
        raise ValueError(
            f"{op}: A must hold finite numbers only, got NaN or infinity (or a norm that overflows)"
        )
    return total


def _budgets(want, total, counts, maxmergedim, safetyshift, arity, dtype) -> tuple[Budget, Budget]:
    """Return the budgets of every node but the root, and of the root. Pure."""
    caps = [want.maxrank + safetyshift] if want.maxrank is not None else []
    caps += [max(1, maxmergedim // arity)] if maxmergedim is not None else []
    leaves = sum(max(1, -(-rows // LEAF_ROWS)) for rows in counts)
    merges = leaves + len(counts)  # an upper bound of the nodes above the leaves
    squared = 0.0 if want.rtol is None else want.rtol**2
    share = (1 - ROOT_SHARE) * squared * total / (leaves + merges)
    exact = want.rtol is not None and share < 64 * torch.finfo(WIDE[dtype]).eps * total
    return Budget(share, min(caps, default=None), exact), Budget(squared * total, want.maxrank, True)


def _compress(stack: torch.Tensor, budget: Budget) -> Node:
    """Return W (rows x r, orthonormal) and ``B = W' stack`` with as few rows as the budget allows."""
    if budget.exact:
        w, s, right = torch.linalg.svd(stack, full_matrices=False)
        energies = s.double().square()
        rank = _rank(energies, budget)
        w, b = w[:, :rank], s[:rank, None] * right[:rank]
    else:
        values, w = torch.linalg.eigh(gram(stack.mH, wide=True))
        energies = values.flip(0).clamp_min(0)
        rank = _rank(energies, budget)
        w = w.flip(1)[:, :rank].to(stack.dtype)
        b = w.mH @ stack
    return Node(w, b, tails(energies)[rank].item())


def _rank(energies: torch.Tensor, budget: Budget) -> int:
    kept = energies.numel() - int((tails(energies)[:-1] <= budget.energy).sum())
    return max(min(1, energies.numel()), min(kept, budget.rows or kept))


def _merged(nodes: list[Node | int], blocks: list[torch.Tensor], lost: float, budget: Budget) -> Node:
    """Compress the stack of the children's blocks; a child is a node of this rank or the rank it lives on."""
    node = _compress(torch.cat(blocks), budget)
    node.lost += lost
    node.children, node.sizes = nodes, [block.shape[0] for block in blocks]
    return node


def _upwards(x, counts, comm: Communicator, budget: Budget, arity: int) -> tuple[Node, int | None]:
    """Build this rank's part of the tree; return its topmost node here and the rank above (None on rank 0)."""
    nodes = [_compress(block, budget) for block in (x.split(LEAF_ROWS) if x.shape[0] else [x])]
    while len(nodes) > 1:
        groups = [nodes[i : i + arity] for i in range(0, len(nodes), arity)]
        nodes = [_merged(g, [n.b for n in g], sum(n.lost for n in g), budget) for g in groups]
    node, rank, stride = nodes[0], comm.rank, 1
    while stride < comm.size:
        if rank % (arity * stride):
            parent = rank - rank % (arity * stride)
            comm.send(torch.tensor([node.b.shape[0], node.lost], dtype=torch.float64), parent)
            comm.send(node.b, parent)
            return node, parent
        children = range(rank + stride, min(rank + arity * stride, comm.size), stride)
        blocks, lost = [node.b], node.lost
        for child in children:
            rows, gone = comm.recv(torch.empty(2, dtype=torch.float64), child).tolist()
            blocks.append(comm.recv(x.new_empty((int(rows), x.shape[1])), child))
            lost += gone
        if blocks[1:]:
            node = _merged([node, *children], blocks, lost, budget)
        stride *= arity
    return node, None


def _top(node: Node, budget: Budget, parent: int | None, total: float, comm: Communicator):
    """Decompose the root's B; return S on every rank, and on rank 0 V and the root's left vectors.

    The root may spend what the others have left of the budget.
    """
    v, left = None, None
    header = torch.zeros(2, dtype=torch.float64, device=node.w.device)
    if parent is None:
        w, s, right = torch.linalg.svd(node.b, full_matrices=False)
        energies = s.double().square()
        rank = _rank(energies, Budget(max(0.0, budget.energy - node.lost), budget.rows, True))
        error = ((node.lost + tails(energies)[rank].item()) / total) ** 0.5 if total else 0.0
        sign = signs(right[:rank].mH)
        v, left = (right[:rank].mH / sign).contiguous(), w[:, :rank] / sign
        header = torch.tensor([rank, error], dtype=torch.float64, device=node.w.device)
    comm.bcast(header, root=0)
    rank, error = int(header[0].item()), header[1].item()
    s = s[:rank].double() if parent is None else header.new_empty(rank)
    return comm.bcast(s, root=0), v, left, error
