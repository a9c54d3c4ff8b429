"""Products of one rank's compressed rows with dense vectors."""

from __future__ import annotations

import warnings

import torch

from .pattern import SUMS, Compressed, add_up

#: What the library of sparse products takes; other dtypes are summed by index.
_NATIVE = (torch.float32, torch.float64, torch.complex64, torch.complex128)
#: Up to so many columns one product for each beats the library's product of matrices several times.
_COLUMNS = 32

with warnings.catch_warnings():  # torch says once that these tensors are new
    warnings.simplefilter("ignore")
    torch.sparse_csr_tensor(
        torch.zeros(2, dtype=torch.int32),
        torch.zeros(0, dtype=torch.int32),
        torch.zeros(0),
        size=(1, 1),
        check_invariants=False,
    )


def narrow(block: Compressed) -> Compressed:
    """Return the block with indices of 32 bits where they suffice: half the memory to read in a product."""
    if block.values.shape[0] >= 2**31 or block.n_major >= 2**31:
        return block
    return Compressed(block.indptr.to(torch.int32), block.indices.to(torch.int32), block.values)


def product(block: Compressed, n_minor: int, x: torch.Tensor) -> torch.Tensor:
    """Return the product of a block with a vector or matrix.

    Parameters
    ----------
    block : Compressed
        Of shape (n, n_minor); indices of 32 or 64 bits.
    x : torch.Tensor, shape (n_minor,) or (n_minor, r)

    Returns
    -------
    torch.Tensor, shape (n,) or (n, r), of the promoted dtype
    """
    dtype = torch.promote_types(block.values.dtype, x.dtype)
    work = SUMS.get(dtype, dtype)
    if not block.values.shape[0] or not x.numel():
        return x.new_zeros((block.n_major, *x.shape[1:]), dtype=dtype)
    if work not in _NATIVE:
        major, minor, values = Compressed(block.indptr.long(), block.indices.long(), block.values).expand()
        values = values.to(work) if x.dim() == 1 else values.to(work).unsqueeze(1)
        return add_up(major, values * x[minor].to(work), block.n_major).to(dtype)
    matrix = torch.sparse_csr_tensor(
        block.indptr,
        block.indices,
        block.values.to(work),
        size=(block.n_major, n_minor),
        check_invariants=False,
    )
    x = x.to(work)
    if x.dim() == 2 and x.shape[1] <= _COLUMNS and x.device.type == "cpu":
        return torch.stack([matrix @ column for column in x.T.contiguous()], dim=1).to(dtype)
    return (matrix @ x.contiguous()).to(dtype)
