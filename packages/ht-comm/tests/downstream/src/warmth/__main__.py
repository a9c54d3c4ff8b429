"""Let a hot square cool: ``mpiexec -n 4 python -m warmth``."""

import ht_comm
import numpy as np

from .plane import Plane


def main() -> None:
    """Run 200 steps and print the greatest temperature at the end of each fifty."""
    comm = ht_comm.get_comm()
    start = np.zeros((96, 64))
    start[40:56, 24:40] = 100.0
    plane = Plane(start, diffusivity=0.2, comm=comm)
    for _ in range(4):
        plane.step(50)
        greatest, row, column = plane.hottest()
        if comm.rank == 0:
            print(f"{greatest:8.3f} at ({row}, {column})")


if __name__ == "__main__":
    main()
