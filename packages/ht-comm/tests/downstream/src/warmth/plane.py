"""A plane whose temperature evolves by the explicit five-point scheme."""

from typing import Any

import ht_comm
import numpy as np


class Plane:
    """Temperatures on a grid, rows divided over ranks, edges held at their first value.

    Parameters
    ----------
    start : numpy.ndarray, shape (rows, columns)
        The temperatures at time 0, the same on all ranks.
    diffusivity : float
        Times the time step, over the squared grid width; stable up to 1/4.
    counts : tuple of int, optional
        Rows of each rank; as even as possible by default. Zeros are allowed.
    periodic : bool
        The last row is followed by the first; otherwise rows and columns at the edge stay as they are.
    comm : ht_comm.Communicator, optional
        By default the current one.
    """

    def __init__(
        self,
        start: np.ndarray,
        diffusivity: float = 0.25,
        *,
        counts: tuple[int, ...] | None = None,
        periodic: bool = False,
        comm: Any = None,
    ) -> None:
        self.comm = ht_comm.get_comm() if comm is None else comm
        rows, p = start.shape[0], self.comm.size
        if not 0.0 <= diffusivity <= 0.25:
            raise ValueError(f"Plane: diffusivity must be in [0, 1/4], got {diffusivity!r}")
        if counts is None:
            counts = tuple(rows // p + (rank < rows % p) for rank in range(p))
        if len(counts) != p or sum(counts) != rows:
            raise ValueError(f"Plane: counts must be {p} numbers that sum to {rows}, got {counts}")
        self.diffusivity = diffusivity
        self.counts = counts
        self.periodic = periodic
        self.first = sum(counts[: self.comm.rank])
        own = np.asarray(start, float)[self.first : self.first + counts[self.comm.rank]]
        # The array with its halos lives on between steps: only the halos are ever copied into it.
        self._wide = self.comm.halo(own, 1, 1, counts, periodic=periodic)
        self._before = 1 if periodic else min(1, self.first)
        self._next = self._wide.copy()

    @property
    def block(self) -> np.ndarray:
        """This rank's rows, a view."""
        return self._rows(self._wide)

    def _rows(self, wide: np.ndarray) -> np.ndarray:
        return wide[self._before : self._before + self.counts[self.comm.rank]]

    def step(self, number: int = 1) -> None:
        """Advance. Collective: two messages of one row for each rank and step."""
        for _ in range(number):
            u, v = self._wide, self._next
            self.comm.halo(self.block, 1, 1, self.counts, periodic=self.periodic, out=u)
            v[1:-1, 1:-1] = u[1:-1, 1:-1] + self.diffusivity * (
                u[2:, 1:-1] + u[:-2, 1:-1] + u[1:-1, 2:] + u[1:-1, :-2] - 4.0 * u[1:-1, 1:-1]
            )
            self._wide, self._next = v, u

    def gather(self) -> np.ndarray:
        """Return all rows on every rank."""
        return self.comm.allgatherv(self.block, self.counts)

    def mean(self) -> float:
        """Return the mean temperature, the same bits for any number of ranks."""
        sums = self.comm.allgatherv(self.block.sum(axis=1), self.counts)
        return float(sums.sum()) / (len(sums) * self._wide.shape[1])

    def hottest(self) -> tuple[float, int, int]:
        """Return the greatest temperature and its row and column: the first of several. One message."""
        value, index = np.array([-np.inf]), np.array([-1])
        if self.block.size:
            at = int(self.block.argmax())
            value[0], index[0] = self.block.flat[at], at + self.first * self.block.shape[1]
        value, index = self.comm.allreduce_pairs(value, index, "argmax")
        row, column = divmod(int(index[0]), self._wide.shape[1])
        return float(value[0]), row, column
