"""Spectral clustering of many rows without a matrix: mpiexec -n 2 python benchmarks/spectral_large.py [rows] [graph].

Prints the time of `fit`, the peak of the resident sets of all ranks together, the eigenvalues and the adjusted Rand
index against the planted clusters. 200,000 rows of a "fully_connected" graph take some 4 x 10^10 values of the kernel
per product with a block of vectors, five to seven products: minutes on two quiet cores.
"""

from __future__ import annotations

import resource
import sys
import time

import ht_meta as ht
import torch
from ml import GAMMA, SPECTRAL, planted


def main() -> None:
    """Cluster and report."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    graph = sys.argv[2] if len(sys.argv) > 2 else "fully_connected"
    shape = (n, *SPECTRAL[1:])
    comm = ht.get_comm()
    local, labels = planted(shape, n * comm.rank // comm.size, n * (comm.rank + 1) // comm.size)
    x, truth = (ht.array(torch.from_numpy(part), is_split=0) for part in (local, labels))
    comm.barrier()
    start = time.perf_counter()
    model = ht.cluster.Spectral(shape[2], gamma=GAMMA, laplacian=graph, random_state=0).fit(x)
    seconds = time.perf_counter() - start
    peak = torch.tensor(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    score = ht.metrics.adjusted_rand_score(truth, model.labels_)
    total = int(comm.allreduce(peak.reshape(1)))
    if comm.rank == 0:
        print(
            f"{n:,} x {shape[1]}, {graph}, {comm.size} ranks: {seconds:.1f} s, {total / 2**20:.2f} GiB in all"
        )
        print(f"eigenvalues {model.eigenvalues_.numpy().round(4)}, adjusted Rand index {float(score):.4f}")


if __name__ == "__main__":
    main()
