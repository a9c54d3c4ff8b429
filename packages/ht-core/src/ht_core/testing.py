"""For tests: spread NumPy arrays over ranks in any layout, even or not, and bring results back for comparison.

Needs Hypothesis.
"""

from itertools import pairwise

import numpy as np
import torch
from ht_comm import dist_gradcheck, spmd
from hypothesis import strategies as st

from .dndarray import DNDarray
from .engines.redistribution import redistribute
from .layout import Layout


def spread(values: np.ndarray, split, counts, comm) -> DNDarray:
    """Return `values`, known to every rank, as an array with `counts` rows per rank along `split`."""
    layout = Layout(values.shape, split, counts if split is not None else ())
    part = np.ascontiguousarray(values[layout.slices(comm.rank)])
    return DNDarray(torch.from_numpy(part.copy()).reshape(layout.lshape(comm.rank)), layout, comm)


def whole(x: DNDarray) -> np.ndarray:
    """Return the global array; check that the local part is what its layout says."""
    if tuple(x.larray.shape) != x.layout.lshape(x.comm.rank):
        raise AssertionError(f"rank {x.comm.rank} holds {tuple(x.larray.shape)} of {x.layout}")
    return redistribute(x.larray, x.layout, Layout.replicated(x.shape), x.comm).resolve_conj().numpy()


@st.composite
def layouts(draw, shape, p):
    """Draw (split, counts) for `shape` on `p` ranks: replicated, even, uneven, with empty ranks."""
    split = draw(st.sampled_from([None, *range(len(shape))]))
    if split is None:
        return None, ()
    cuts = sorted(draw(st.lists(st.integers(0, shape[split]), min_size=p - 1, max_size=p - 1)))
    edges = [0, *cuts, shape[split]]
    return split, tuple(b - a for a, b in pairwise(edges))


def make_values(dtype: str, shape, seed: int) -> np.ndarray:
    """Return reproducible values with zeros, repeats and both signs where the dtype has them."""
    rng = np.random.default_rng(seed)
    values = rng.integers(-4, 5, size=shape)
    kind = np.dtype(dtype).kind
    if kind == "b":
        return np.asarray(values > 0)
    if kind == "u":
        return np.asarray(np.abs(values)).astype(dtype)
    if kind == "i":
        return np.asarray(values).astype(dtype)
    spread_values = values + rng.integers(0, 4, size=shape) / 4
    if kind == "c":
        spread_values = spread_values + 1j * rng.integers(-3, 4, size=shape)
    return np.asarray(spread_values).astype(dtype)


def gradcheck(function, *arrays: DNDarray, atol: float = 1e-6) -> float:
    """Compare the gradients of ``function(*arrays)``, one real number as an array, with difference quotients.

    Collective, by ``ht_comm.dist_gradcheck``: one element of one rank after the other is changed. Returns the largest
    deviation; raises AssertionError where one is larger than `atol`.
    """
    comm = arrays[0].comm

    def run(tape, *locals_):
        given = [
            DNDarray(v.detach().clone(), x.layout, comm).requires_grad_() for v, x in zip(locals_, arrays)
        ]
        value = function(*given)
        value.backward()
        # This rank's part of the loss: its value counts once, its slope is the gradient.
        part = torch.tensor(value.item() if comm.rank == 0 else 0.0, dtype=torch.float64)
        for v, x in zip(locals_, given):
            part = part + ((v - v.detach()) * x.grad.larray).sum()
        return part

    replicated = [number for number, x in enumerate(arrays) if x.split is None]
    leaves = [x.larray.detach().clone().requires_grad_() for x in arrays]
    return dist_gradcheck(run, comm, leaves, atol=atol, replicated=replicated)


#: Ranks and split under which conformance is checked: alone, replicated, cut along the first and the last axis.
MODES = ((1, None), (3, None), (2, 0), (3, 0), (2, -1), (3, -1))


def in_every_mode(function, *arrays: np.ndarray):
    """Yield, for each of :data:`MODES` and each rank, (mode, the result of `function` on `arrays` made in that mode).

    Arrays of no axis are replicated. DNDarrays in the result, and in tuples and lists in it, become NumPy arrays.
    """

    def run(comm, split):
        given = [DNDarray(*_cut(a, split, comm), comm) for a in arrays]
        return _wholes(function(*given))

    for p, split in MODES:
        for result in spmd(p, run, split):
            yield (p, split), result


def _cut(values: np.ndarray, split: int | None, comm) -> tuple[torch.Tensor, Layout]:
    layout = Layout.even(values.shape, split if values.ndim else None, comm.size)
    part = torch.from_numpy(np.array(values[layout.slices(comm.rank)], order="C"))
    return part.reshape(layout.lshape(comm.rank)), layout


def _wholes(result):
    if isinstance(result, DNDarray):
        return whole(result)
    return [_wholes(r) for r in result] if isinstance(result, (tuple, list)) else result
