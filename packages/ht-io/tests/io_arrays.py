"""Arrays for tests: a known global array, and any rank's part of it."""

import numpy as np
import torch
from ht_core import DNDarray, Layout, types

DTYPES = list(types.DTYPES)


def make_global(shape, dtype="float32", seed=0):
    """Return a torch tensor of `shape` with values that differ, NaN and infinities among the floats."""
    target = types.canonical(dtype)
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 100, size=shape).astype(np.float64)
    if target.kind == "b":
        return torch.tensor(values > 50)
    out = torch.tensor(values).to(target.torch)
    if target.kind in "fc" and out.numel() > 2:
        flat = out.view(-1)
        flat[0], flat[1] = float("nan"), -float("inf")
        flat[2] = 1 / 3
    if target.kind == "c":
        out = out + 1j * torch.tensor(rng.normal(size=shape)).to(target.torch)
    return out


def make_counts(extent, p, seed=0):
    """Return p extents that add up to `extent`, uneven, with empty ones among them."""
    cuts = np.sort(np.random.default_rng(seed).integers(0, extent + 1, size=p - 1))
    return tuple(int(n) for n in np.diff([0, *cuts, extent]))


def distribute(values, comm, split, counts=None, strided=False):
    """Return `values` as a DNDarray; `strided` makes the local tensor non-contiguous."""
    layout = Layout.even(tuple(values.shape), split, comm.size)
    if counts is not None and split is not None:
        layout = Layout(tuple(values.shape), split, counts)
    local = values[layout.slices(comm.rank)].clone()
    if strided and local.ndim > 1:
        local = local.permute(*reversed(range(local.ndim))).contiguous().permute(*reversed(range(local.ndim)))
    return DNDarray(local, layout, comm)


def same(a, b):
    """Tell whether two tensors have the same type, shape and bits' meaning (NaN equals NaN)."""
    if a.dtype is not b.dtype or a.shape != b.shape:
        return False
    if a.dtype in (torch.uint16, torch.uint32, torch.uint64):
        return bool(np.array_equal(a.numpy(), b.numpy()))
    return bool(torch.equal(a, b) or torch.allclose(a, b, rtol=0, atol=0, equal_nan=True))
