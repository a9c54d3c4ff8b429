"""What iterative solvers of ``A @ x = b`` share: their arguments, when they stop, how they answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from numbers import Integral, Real

import torch
from ht_core import DNDarray
from ht_core.errors import LayoutError

from .arguments import as_dndarray, deliver
from .columns import moved
from .operators import Operator, as_operator, tied, vector_dtype


@dataclass(slots=True)
class System:
    """A linear system, ready for iteration.

    Attributes
    ----------
    op : str
    space : Operator
        The matrix and the space of its vectors.
    b, x : torch.Tensor, shape (n_i,)
        This rank's parts of the right-hand side and of the start.
    is_zero : bool
        The start is zero, so that the first residual is b.
    precondition : callable
        The preconditioner on this rank's part of a vector; the identity returns its argument itself.
    rtol, atol : float
    maxiter : int
    callback : callable or None
    """

    op: str
    space: Operator
    b: torch.Tensor
    x: torch.Tensor
    is_zero: bool
    precondition: Callable[[torch.Tensor], torch.Tensor]
    rtol: float
    atol: float
    maxiter: int
    callback: Callable[[DNDarray], object] | None
    given: DNDarray
    out: DNDarray | None

    def residual(self) -> torch.Tensor:
        """Return ``b - A @ x``, in memory of its own."""
        if self.is_zero:
            return self.b.clone()
        return self.b - self.space.apply(self.x)

    def limit(self, squared: complex) -> float:
        """Return the norm of the residual at which to stop, for the squared norm of b."""
        return max(self.rtol * abs(squared) ** 0.5, self.atol)

    def stepped(self) -> None:
        """Tell the caller that an iteration is complete."""
        self.is_zero = False
        if self.callback is not None:
            self.callback(self.space.array(self.x.clone()))

    def answer(self, info: int) -> tuple[DNDarray, int]:
        """Return the solution in the layout and shape of b, or in `out`, and `info`."""
        x = self.space.array(self.x)
        if self.given.ndim == 2:
            x = DNDarray(x.larray[:, None], self.space.of_block(1), x.comm)
        return deliver(self.op, moved(x, self.given.layout), self.out), info


def linear_system(
    op: str,
    A: object,
    b: object,
    x0: object = None,
    M: object = None,
    *,
    rtol: float = 1e-5,
    atol: float = 0.0,
    maxiter: int | None = None,
    callback: Callable[[DNDarray], object] | None = None,
    out: DNDarray | None = None,
    steps_per_row: int = 10,
) -> System:
    """Return the arguments of a solver, checked, and brought to the layout in which it works.

    *Distribution*: b and x0 are redistributed where they are not spread as vectors of `A` are.

    Raises
    ------
    LayoutError
        If the shapes do not fit.
    ValueError
        If a tolerance or number of iterations is out of range.
    """
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not isinstance(value, Real) or not value >= 0:
            raise ValueError(f"{op}: {name} must be a number of at least 0, got {value!r}")
    if maxiter is not None and (not isinstance(maxiter, Integral) or maxiter < 0):
        raise ValueError(f"{op}: maxiter must be an integer of at least 0, got {maxiter!r}")
    if callback is not None and not callable(callback):
        raise TypeError(f"{op}: callback must be a function of the iterate, got {type(callback).__name__}")
    comm = next((y.comm for y in (b, A, x0) if isinstance(y, DNDarray)), getattr(A, "comm", None))
    b = as_dndarray(op, "b", b, comm)
    if b.ndim not in (1, 2) or (b.ndim == 2 and b.shape[1] != 1):
        raise LayoutError(f"{op}: b must have shape (n,) or (n, 1), got {b.shape}")
    if x0 is not None:
        x0 = as_dndarray(op, "x0", x0, b.comm)
        if x0.shape not in (b.shape, b.shape[:1], (b.shape[0], 1)):
            raise LayoutError(f"{op}: x0 must have the shape of b, {b.shape}, got {x0.shape}")
    dtype = vector_dtype(op, b, *(y for y in (A, x0, M) if y is not None))
    space = tied(as_operator(op, "A", A, dtype, b), M)
    right = _flat(space.local(b))
    x = torch.zeros_like(right) if x0 is None else _flat(space.local(x0))
    if out is not None and (not isinstance(out, DNDarray) or out.shape != b.shape):
        got = out.shape if isinstance(out, DNDarray) else type(out).__name__
        raise LayoutError(f"{op}: out must be a DNDarray of shape {b.shape}, got {got}")
    precondition = preconditioner(op, M, space)
    most = steps_per_row * b.shape[0] if maxiter is None else int(maxiter)
    return System(
        op, space, right, x, x0 is None, precondition, float(rtol), float(atol), most, callback, b, out
    )


def _flat(x: torch.Tensor) -> torch.Tensor:
    return x[:, 0].contiguous() if x.dim() == 2 else x


def preconditioner(
    op: str, M: object, space: Operator, name: str = "M"
) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the function that applies `M` to this rank's part of vectors of `space`."""
    if M is None:
        return lambda r: r
    inner = as_operator(op, name, M, space.dtype, space.array(space.empty()))
    if inner.layout is space.layout:
        return inner.apply

    def apply(r: torch.Tensor) -> torch.Tensor:
        # the matrices are cut differently: vectors travel there and back
        moved = inner.local(space.array(r))
        return space.local(inner.array(inner.apply(moved)))

    return apply
