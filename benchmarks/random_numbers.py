"""Time of random arrays against torch's generator on one core, into memory in use and into a fresh result.

Run: ``python benchmarks/random_numbers.py [--elements 4194304] [--repeat 15]``. The contenders take turns, so that a
slow moment of the machine hits all of them. Prints nanoseconds of processor time per element (median, best) and torch's
time divided by ours (of the medians; of the bests): above 1 means faster than torch.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("OMP_NUM_THREADS", "1")

import ht_core as ht
import torch


def cases(n):
    """Return {name: (ours, torch's)}."""
    pairs = {}
    for dtype in (torch.float32, torch.float64):
        name = str(dtype).removeprefix("torch.")
        mine, theirs = ht.zeros(n, dtype), torch.zeros(n, dtype=dtype)
        pairs[f"uniform {name}, out="] = (
            lambda mine=mine: ht.random.random(out=mine),
            lambda theirs=theirs: torch.rand(n, dtype=theirs.dtype, out=theirs),
        )
        pairs[f"uniform {name}"] = (
            lambda dtype=dtype: ht.random.rand(n, dtype=dtype),
            lambda dtype=dtype: torch.rand(n, dtype=dtype),
        )
        pairs[f"normal {name}, out="] = (
            lambda mine=mine: ht.random.standard_normal(out=mine),
            lambda theirs=theirs: torch.randn(n, dtype=theirs.dtype, out=theirs),
        )
        pairs[f"normal {name}"] = (
            lambda dtype=dtype: ht.random.randn(n, dtype=dtype),
            lambda dtype=dtype: torch.randn(n, dtype=dtype),
        )
    pairs["integers [0, 100)"] = (
        lambda: ht.random.randint(0, 100, n),
        lambda: torch.randint(0, 100, (n,)),
    )
    pairs["permutation"] = (lambda: ht.random.randperm(n), lambda: torch.randperm(n))
    return pairs


def seconds(call):
    """Return the processor time of one call: all contenders run on this thread alone."""
    start = time.thread_time()
    call()
    return time.thread_time() - start


def main():
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--elements", type=int, default=1 << 22, help="elements per array (2**22)")
    parser.add_argument("--repeat", type=int, default=15, help="turns (15)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    pairs = cases(options.elements)
    times = {name: ([], []) for name in pairs}
    for turn in range(options.repeat + 1):
        for name, calls in pairs.items():
            for kept, call in zip(times[name], calls):
                spent = seconds(call) / options.elements * 1e9
                if turn:  # the first turn touches the memory
                    kept.append(spent)
    print(f"{'ns per element':24s} {'ours (best)':>16s} {'torch (best)':>16s}   torch / ours (best)")
    for name, (mine, theirs) in times.items():
        a, b = statistics.median(mine), statistics.median(theirs)
        print(
            f"{name:24s} {a:8.2f} ({min(mine):5.2f}) {b:8.2f} ({min(theirs):5.2f})   "
            f"{b / a:.2f} ({min(theirs) / min(mine):.2f})"
        )


if __name__ == "__main__":
    main()
