"""Gram-Schmidt on split vectors, twice: two reductions, however many vectors there are.

References
----------
L. Giraud, J. Langou, M. Rozloznik, J. van den Eshof, Rounding error analysis of the classical Gram-Schmidt
orthogonalization process, 2005, doi:10.1007/s00211-005-0615-4 (twice is enough for orthogonality at rounding level).
"""

from __future__ import annotations

import torch

from .gram import times
from .operators import Operator


def orthogonalise(
    space: Operator, basis: torch.Tensor, w: torch.Tensor
) -> tuple[list[complex], float, float]:
    """Subtract from `w`, in place, its part in the span of orthonormal vectors.

    Parameters
    ----------
    space : Operator
    basis : torch.Tensor, shape (j, n_i)
        This rank's parts of the vectors, as rows.
    w : torch.Tensor, shape (n_i,)

    Returns
    -------
    coefficients : list of j numbers
        ``w_before = basis.T @ coefficients + w_after``.
    norm : float
        Of w after; 0 where nothing but rounding is left of it.
    before : float
        The norm of w before.

    *Distribution*: two allreduces, of j + 1 numbers each.
    """
    first, before = _project(space, basis, w)
    second, middle = _project(space, basis, w)
    # Pythagoras: the second correction is tiny, and nothing cancels where it is
    squared = middle**2 - torch.linalg.vector_norm(second).item() ** 2
    coefficients = (first + second).tolist()
    if not squared > (10 * space.eps * before) ** 2:
        return coefficients, 0.0 if squared == squared else squared, before
    return coefficients, squared**0.5, before


def _project(space: Operator, basis: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, float]:
    """One pass; returns the coefficients and the norm of `w` before it."""
    own = torch.vdot(w, w).reshape(1)
    total = space.total(torch.cat((times(basis.conj(), w), own)))
    w.sub_(times(basis.mT, total[:-1].to(w.dtype)))
    return total[:-1], total[-1].real.item() ** 0.5
