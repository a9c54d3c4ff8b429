"""Dynamic mode decomposition: the linear map that advances snapshots by one step, without and with a control."""

from __future__ import annotations

from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from ht_core import DNDarray
from ht_core.errors import DTypeError, LayoutError
from ht_core.layout import Layout
from ht_linalg import hsvd_rank, hsvd_rtol, matmul, rsvd, svd

from ..base import BaseEstimator, check_is_fitted
from ..moments import refuse_nonfinite
from ..rows import floating, given, replicated

_SOLVERS = ("full", "hierarchical", "randomized")


class _ReducedModel(BaseEstimator):
    """What `DMD` and `DMDc` share: parameters and checks, the truncated SVD, eigenvalues of the reduced map."""

    def __init__(self, svd_solver: str = "full", svd_rank: Any = None, svd_tol: Any = None) -> None:
        self.svd_solver = svd_solver
        self.svd_rank = svd_rank
        self.svd_tol = svd_tol

    def _check_parameters(self, op: str) -> None:
        rank, tol = self.svd_rank, self.svd_tol
        if self.svd_solver not in _SOLVERS:
            raise ValueError(
                f"{op}: svd_solver must be one of {', '.join(_SOLVERS)}, got {self.svd_solver!r}"
            )
        if rank is not None and (not isinstance(rank, Integral) or isinstance(rank, bool) or rank < 1):
            raise ValueError(f"{op}: svd_rank must be an int of at least 1 or None, got {rank!r}")
        if tol is not None and not (isinstance(tol, Real) and 0.0 < tol < 1.0):
            raise ValueError(f"{op}: svd_tol must be in (0, 1) or None, got {tol!r}")
        if self.svd_solver == "hierarchical" and rank is None and tol is None:
            raise ValueError(
                f"{op}: svd_rank or svd_tol must be given with svd_solver='hierarchical', got None"
            )
        if self.svd_solver == "randomized" and rank is None:
            raise ValueError(f"{op}: svd_rank must be given with svd_solver='randomized', got None")

    def _svd(self, X: DNDarray) -> tuple[DNDarray, torch.Tensor, DNDarray]:
        """Return U (m, r), s (r,) in float64 on the CPU, equal on every rank, and V (n, r) of a matrix."""
        if self.svd_solver == "randomized":
            U, S, V = rsvd(X, int(self.svd_rank), 10, 2, random_state=0)
        elif self.svd_solver == "hierarchical" and self.svd_tol is None:
            U, S, V, _ = hsvd_rank(X, int(self.svd_rank), compute_sv=True)
        elif self.svd_solver == "hierarchical":
            rank = None if self.svd_rank is None else int(self.svd_rank)
            U, S, V, _ = hsvd_rtol(X, float(self.svd_tol), compute_sv=True, maxrank=rank)
        else:
            U, S, Vh = svd(X, full_matrices=False)
            V = Vh.T
        values = _small(S).to(torch.float64)
        count = self._count(values, X)
        return U[:, :count], values[:count], V[:, :count]

    def _count(self, values: torch.Tensor, X: DNDarray) -> int:
        """Return how many singular values are used: those that are not rounding error, within rank and tolerance."""
        eps = torch.finfo(X.larray.dtype).eps
        count = int((values > values[0] * eps * max(X.shape)).sum())
        if self.svd_tol is not None:
            squares = (
                values.square().flip(0).cumsum(0).flip(0)
            )  # what is lost by dropping this one and all below
            count = min(count, int((squares > float(self.svd_tol) ** 2 * squares[0]).sum()))
        if self.svd_rank is not None:
            count = min(count, int(self.svd_rank))
        return max(count, 1)

    def _learn(self, X: DNDarray, basis: DNDarray, transfer: torch.Tensor) -> None:
        eigenvalues, modes = torch.linalg.eig(transfer)
        # By magnitude, then by argument: LAPACK's order would depend on the last bits.
        order = np.lexsort((eigenvalues.angle().numpy().round(6), -eigenvalues.abs().numpy().round(6)))
        eigenvalues, modes = eigenvalues[order.copy()], modes[:, order.copy()]
        self.rom_basis_ = basis
        self.rom_transfer_matrix_ = _like(X, transfer)
        self.rom_eigenvalues_ = _like(X, eigenvalues)
        self.rom_eigenmodes_ = _like(X, modes)
        wide = basis.larray.to(self.rom_eigenmodes_.larray.dtype)
        self.dmdmodes_ = DNDarray(wide @ self.rom_eigenmodes_.larray, basis.layout, basis.comm)
        self.n_modes_ = transfer.shape[0]
        self.n_features_in_ = X.shape[0]

    def _project(self, X: DNDarray) -> torch.Tensor:
        """Return the reduced states of the columns of `X`, shape (r, m), float64 on every rank."""
        return _small(matmul(self.rom_basis_.T, X)).to(torch.float64)

    def _lift(self, states: torch.Tensor) -> torch.Tensor:
        """Return the local features of reduced states, shape (local features, ...), for states (r, ...)."""
        basis = self.rom_basis_.larray
        return torch.tensordot(basis, states.to(device=basis.device, dtype=basis.dtype), 1)

    def _wrap(self, local: torch.Tensor, axis: int) -> DNDarray:
        """Wrap lifted states whose features lie along `axis`, cut as the basis is."""
        layout, shape = self.rom_basis_.layout, list(local.shape)
        shape[axis] = layout.shape[0]
        target = Layout.replicated(tuple(shape))
        if layout.split == 0:
            target = Layout(tuple(shape), axis, layout.counts)
        return DNDarray(local, target, self.rom_basis_.comm)


class DMD(_ReducedModel):
    """Dynamic mode decomposition: eigenvalues and modes of the linear map between successive snapshots.

    With the truncated SVD ``X[:, :-1] = U S V^T`` the map in the basis U is ``U^T X[:, 1:] V S^-1``.

    Parameters
    ----------
    svd_solver : {"full", "hierarchical", "randomized"}
        ``ht_linalg.svd``, ``hsvd_rank`` / ``hsvd_rtol``, or ``rsvd`` with two passes.
    svd_rank : int or None
        Number of modes at most; required by "randomized".
    svd_tol : float or None
        Relative error, in the Frobenius norm, of the snapshots in the basis; "hierarchical" requires this or
        `svd_rank`. Singular values that are rounding error are never used.

    Attributes
    ----------
    rom_basis_ : DNDarray, shape (n_features, n_modes_)
        Orthonormal basis of the reduced model; split 0 where the snapshots were split along space, else split 0 or
        replicated, as the decomposition leaves it.
    rom_transfer_matrix_, rom_eigenmodes_ : DNDarray, shape (n_modes_, n_modes_), replicated
        The map in this basis, and its eigenvectors (complex).
    rom_eigenvalues_ : DNDarray, shape (n_modes_,), complex, replicated
        Largest magnitude first.
    dmdmodes_ : DNDarray, shape (n_features, n_modes_), complex
        ``rom_basis_ @ rom_eigenmodes_``, cut as the basis.
    n_modes_, n_features_in_ : int

    Notes
    -----
    P. J. Schmid, Dynamic mode decomposition of numerical and experimental data, 2010, doi:10.1017/S0022112010001217.

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.array([[1.0, 2.0, 4.0, 8.0], [3.0, 1.5, 0.75, 0.375]], split=1)
    >>> model = DMD().fit(X)
    >>> model.rom_eigenvalues_.real.numpy().round(6).tolist()
    [2.0, 0.5]
    >>> model.predict_next(X[:, -1]).numpy().round(6).tolist()
    [16.0, 0.1875]
    """

    def fit(self, X: Any, y: Any = None) -> DMD:
        """Find the map between successive columns.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n_features, n_snapshots)
            One snapshot per column, at least two, in order of time.
        y : ignored

        Returns
        -------
        DMD
            The estimator itself.

        *Distribution*: split 0 (space), 1 (time) or None. The messages of the decomposition, one allreduce of
        n_modes_ n_snapshots numbers (split 0), or small products along time (split 1). Collective.

        Raises
        ------
        ValueError
            If a parameter is out of range, or `X` holds NaN or infinity; the same on every rank.
        """
        op = "DMD.fit"
        X = _snapshots(op, X)
        self._check_parameters(op)
        X = _as_finite(op, X)
        before, after = _steps(X)
        U, values, V = self._svd(before)
        transfer = _small(matmul(matmul(U.T, after), V)).to(torch.float64) / values
        self._learn(X, _along_space(U), transfer)
        return self

    def predict_next(self, X: Any, n_steps: int = 1) -> DNDarray:
        """Return the states some steps later.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n_features,) or (n_features, m)
            Current states, one per column.
        n_steps : int
            How many steps later, at least 0.

        Returns
        -------
        DNDarray
            Of the shape of `X`, cut along space as the basis is.

        *Distribution*: a product with the basis: one allreduce of n_modes_ m numbers where it is split.
        """
        op = "DMD.predict_next"
        check_is_fitted(self)
        if not isinstance(n_steps, Integral) or n_steps < 0:
            raise ValueError(f"{op}: n_steps must be an int of at least 0, got {n_steps!r}")
        X, is_one = _states(op, X, self.n_features_in_)
        power = torch.linalg.matrix_power(_small(self.rom_transfer_matrix_).to(torch.float64), int(n_steps))
        local = self._lift(power @ self._project(X))
        return self._wrap(local[:, 0] if is_one else local, 0)

    def predict(self, X: Any, steps: Any) -> DNDarray:
        """Return the states at several later steps.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n_features,) or (n_features, m)
            Current states, one per column.
        steps : int or list of int
            The steps 0, ..., steps - 1, or those in the list.

        Returns
        -------
        DNDarray, shape (n_features, n_steps) or (m, n_features, n_steps)
            Cut along space as the basis is. (The current states in the basis stand at step 0.)

        *Distribution*: a product with the basis: one allreduce of n_modes_ m numbers where it is split.
        """
        op = "DMD.predict"
        check_is_fitted(self)
        steps = list(range(steps)) if isinstance(steps, Integral) else list(steps)
        if not steps or not all(isinstance(step, Integral) and step >= 0 for step in steps):
            raise ValueError(
                f"{op}: steps must be a positive int or a list of ints of at least 0, got {steps!r}"
            )
        X, is_one = _states(op, X, self.n_features_in_)
        transfer = _small(self.rom_transfer_matrix_).to(torch.float64)
        state, found = self._project(X), {}
        wanted = set(steps)
        for step in range(max(steps) + 1):
            if step in wanted:
                found[step] = state
            state = transfer @ state
        local = self._lift(torch.stack([found[step] for step in steps], dim=-1))  # (features, m, steps)
        return self._wrap(local[:, 0], 0) if is_one else self._wrap(local.movedim(1, 0).contiguous(), 1)


class DMDc(_ReducedModel):
    """Dynamic mode decomposition with control: ``x[k + 1] = A x[k] + B c[k]`` in a reduced basis.

    With the truncated SVD ``[X[:, :-1]; C[:, :-1]] = U S V^T``, U in two parts U1 and U2, and the left singular vectors
    W of ``X[:, 1:]``, the maps are ``W^T X[:, 1:] V S^-1 U1^T W`` and ``W^T X[:, 1:] V S^-1 U2^T``.

    Parameters
    ----------
    svd_solver, svd_rank, svd_tol
        As in `DMD`; the rank bounds the number of modes, that of the states and controls together is larger by the
        number of controls.

    Attributes
    ----------
    rom_basis_, rom_transfer_matrix_, rom_eigenvalues_, rom_eigenmodes_, dmdmodes_, n_modes_, n_features_in_
        As in `DMD`.
    rom_control_matrix_ : DNDarray, shape (n_modes_, n_controls), replicated
    n_modes_system_ : int
        Rank used of states and controls together.

    Notes
    -----
    J. L. Proctor, S. L. Brunton, J. N. Kutz, Dynamic mode decomposition with control, 2016, doi:10.1137/15M1013857.

    Examples
    --------
    >>> import ht_core as ht
    >>> X, C = ht.array([[1.0, 1.5, 2.75, 1.375]], split=1), ht.array([[1.0, 2.0, 0.0, 0.0]])
    >>> model = DMDc().fit(X, C)
    >>> model.predict(X[:, 0], C).numpy().round(6).tolist()
    [[[1.0, 1.5, 2.75, 1.375]]]
    """

    def fit(self, X: Any, C: Any) -> DMDc:
        """Find the maps of states and controls.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n_features, n_snapshots)
            One snapshot per column, at least two, in order of time.
        C : DNDarray or array_like, shape (n_controls, n_snapshots) or (n_controls, n_snapshots - 1)
            The control that acts after each snapshot; that of the last one is not used.

        Returns
        -------
        DMDc
            The estimator itself.

        *Distribution*: split 0 (space), 1 (time) or None; `C` is brought to the split of the time axis of `X`. The
        messages of two decompositions and of products with n_modes_ columns. Collective.

        Raises
        ------
        ValueError
            If a parameter is out of range, or the data hold NaN or infinity; the same on every rank.
        """
        op = "DMDc.fit"
        X = _snapshots(op, X)
        C = given(op, "C", C, X.comm)
        if C.ndim != 2 or C.shape[0] < 1 or C.shape[1] not in (X.shape[1] - 1, X.shape[1]):
            raise LayoutError(
                f"{op}: C must have shape (n_controls, {X.shape[1]}) or (n_controls, {X.shape[1] - 1}), got {C.shape}"
            )
        if C.larray.is_complex():
            raise DTypeError(f"{op}: C must be real, got {C.dtype}")
        self._check_parameters(op)
        X, C = _as_finite(op, X), _as_finite(op, C, "C")
        before, after = _steps(X)
        controls = _small(C).to(device=X.larray.device, dtype=X.larray.dtype)[:, : X.shape[1] - 1]
        W, _, _ = self._svd(after)
        W = _along_space(W)
        stacked = _stacked(before, controls)
        system = type(self)(self.svd_solver, self.svd_rank, self.svd_tol)
        if self.svd_rank is not None:
            system.svd_rank = int(self.svd_rank) + C.shape[0]
        U, values, V = system._svd(stacked)
        U = _along_space(U)
        upper, lower = U[: X.shape[0]], _small(U[X.shape[0] :]).to(torch.float64)
        gain = _small(matmul(matmul(W.T, after), V)).to(torch.float64) / values
        transfer = gain @ _small(matmul(upper.T, W)).to(torch.float64)
        self._learn(X, W, transfer)
        self.rom_control_matrix_ = _like(X, gain @ lower.T)
        self.n_modes_system_ = values.numel()
        return self

    def predict(self, X: Any, C: Any) -> DNDarray:
        """Return the states under a sequence of controls.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n_features,) or (m, n_features)
            Initial states, one per row.
        C : DNDarray or array_like, shape (n_controls, n_steps)
            The controls that act after step 0, 1, ...; that of the last step is not used.

        Returns
        -------
        DNDarray, shape (m, n_features, n_steps)
            The initial states (in the basis) and those after 1, ..., n_steps - 1 steps; m = 1 for one state. Cut along
            space as the basis is.

        *Distribution*: a product with the basis: one allreduce of n_modes_ m numbers where it is split.
        """
        op = "DMDc.predict"
        check_is_fitted(self)
        comm = self.rom_basis_.comm
        X = given(op, "X", X, comm)
        X, _ = _states(op, X.T if X.ndim == 2 else X, self.n_features_in_)
        C = given(op, "C", C, comm)
        wanted = self.rom_control_matrix_.shape[1]
        if C.ndim != 2 or C.shape[0] != wanted or C.shape[1] < 1:
            raise LayoutError(f"{op}: C must have shape ({wanted}, n_steps), got shape {C.shape}")
        controls = _small(C).to(torch.float64)
        transfer = _small(self.rom_transfer_matrix_).to(torch.float64)
        driven = _small(self.rom_control_matrix_).to(torch.float64) @ controls
        states = [self._project(X)]
        for step in range(C.shape[1] - 1):
            states.append(transfer @ states[-1] + driven[:, step : step + 1])
        local = self._lift(torch.stack(states, dim=-1))
        return self._wrap(local.movedim(1, 0).contiguous(), 1)


def _snapshots(op: str, X: Any) -> DNDarray:
    """Return snapshots as a real matrix with at least one feature and two columns; no message."""
    X = given(op, "X", X)
    if X.ndim != 2 or X.shape[0] < 1 or X.shape[1] < 2:
        raise LayoutError(
            f"{op}: X must be two-dimensional (features, snapshots) with at least 2 snapshots, got shape {X.shape}"
        )
    if X.larray.is_complex():
        raise DTypeError(f"{op}: X must be real, got {X.dtype}")
    return X


def _states(op: str, X: Any, n_features: int) -> tuple[DNDarray, bool]:
    """Return states as columns of a floating-point matrix, and whether there is one, given as a vector."""
    X = given(op, "X", X)
    if X.ndim not in (1, 2) or X.shape[0] != n_features or 0 in X.shape:
        raise LayoutError(
            f"{op}: X must have the {n_features} features it was fitted with, got shape {X.shape}"
        )
    if X.larray.is_complex():
        raise DTypeError(f"{op}: X must be real, got {X.dtype}")
    is_one = X.ndim == 1
    layout = X.layout.insert(1, 1) if is_one else X.layout
    local = floating(X.larray)
    return DNDarray(local.unsqueeze(1) if is_one else local, layout, X.comm), is_one


def _as_finite(op: str, X: DNDarray, name: str = "X") -> DNDarray:
    """Return the matrix as floating-point numbers; one allreduce of a flag where it is split."""
    local = floating(X.larray)
    bad = torch.tensor([0.0 if bool(torch.isfinite(local).all()) else 1.0])
    if X.split is not None:
        bad = X.comm.allreduce(bad)
    if float(bad[0]) > 0.0:
        refuse_nonfinite(op, name)
    return DNDarray(local, X.layout, X.comm)


def _steps(X: DNDarray) -> tuple[DNDarray, DNDarray]:
    """Return all columns but the last and all but the first, cut alike: along time, each rank sends one column."""
    before, after = X[:, :-1], X[:, 1:]
    if X.split == 1 and after.layout != before.layout:
        after = after.redistribute(target_map=before.layout.counts)
    return before, after


def _stacked(states: DNDarray, controls: torch.Tensor) -> DNDarray:
    """Return states above controls that every rank holds; no message: the last rank takes the rows of the controls."""
    rows, layout, comm = controls.shape[0], states.layout, states.comm
    shape = (states.shape[0] + rows, states.shape[1])
    if states.split == 0:
        counts = (*layout.counts[:-1], layout.counts[-1] + rows)
        own = controls if comm.rank == comm.size - 1 else controls[:0]
        return DNDarray(torch.cat([states.larray, own]), Layout(shape, 0, counts), comm)
    if states.split == 1:
        own = controls[:, layout.slices(comm.rank)[1]]
        return DNDarray(torch.cat([states.larray, own]), Layout(shape, 1, layout.counts), comm)
    return DNDarray(torch.cat([states.larray, controls]), Layout.replicated(shape), comm)


def _along_space(basis: DNDarray) -> DNDarray:
    """Return a basis that is split along space or whole."""
    return basis.resplit(None) if basis.split == 1 else basis


def _small(values: DNDarray) -> torch.Tensor:
    """Return a small array whole on every rank, on the CPU."""
    return values.resplit(None).larray.cpu()


def _like(X: DNDarray, values: torch.Tensor) -> DNDarray:
    """Wrap small float64 or complex128 values that every rank holds, in the precision and on the device of `X`."""
    if X.larray.dtype == torch.float32:
        values = values.to(torch.complex64 if values.is_complex() else torch.float32)
    return replicated(values.to(X.larray.device), X)
