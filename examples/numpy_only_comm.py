"""ht-comm alone, under a library of one's own: a parallel histogram on NumPy arrays, no torch in sight.

python numpy_only_comm.py, or mpiexec -n 4 python numpy_only_comm.py.
"""

import numpy as np
from ht_comm import get_comm


def histogram(values, bins, comm=None):
    """Counts of the union of all ranks' `values` in equal bins over their common range; two messages."""
    comm = comm or get_comm()
    # One message for both ends: the minimum is the negative of the maximum of the negatives.
    # A rank without values must not decide the range.
    ends = np.array([-values.min(), values.max()]) if values.size else np.array([-np.inf, -np.inf])
    low, high = comm.allreduce(ends, "max") * [-1, 1]
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    return comm.allreduce(counts), edges


comm = get_comm()
rows = np.array_split(np.arange(1000.0), comm.size)[comm.rank]  # this rank's part
with comm.trace() as trace:
    counts, edges = histogram(np.sqrt(rows), bins=5)

assert counts.sum() == 1000
assert trace.calls == 2
if comm.rank == 0:
    for count, low, high in zip(counts, edges, edges[1:]):
        print(f"{low:6.2f} to {high:6.2f}: {'#' * (count // 10)}")
    print(f"{comm.size} rank(s), {trace.calls} messages, {trace.bytes} bytes from this one")
