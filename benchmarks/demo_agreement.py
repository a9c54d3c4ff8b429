"""The demo at full size on 1, 2, 3 and 4 ranks: do they agree, with each other and with scikit-learn?

    python benchmarks/demo_agreement.py [--rows N] [--ranks 1 2 3 4] [--output DIR]

Prints a Markdown table; ends with 1 if a figure is beyond its bound.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from ht_meta.demo.agreement import Agreement, compare, compute_with_sklearn, read_results, run_on_ranks

BETWEEN_RANKS = Agreement(rand_index=1.0, coefficients=1e-4, singular_values=1e-4, inertia=1e-4)
WITH_SKLEARN = Agreement(rand_index=0.0, coefficients=1e-3, singular_values=1e-3, inertia=1e-3)


def is_within(found: Agreement, bound: Agreement) -> bool:
    """Tell whether all figures keep their bounds (the Rand index from below)."""
    return (
        round(found.rand_index, 6) >= bound.rand_index
        and found.coefficients <= bound.coefficients
        and found.singular_values <= bound.singular_values
        and found.inertia <= bound.inertia
    )


def print_row(name: str, seconds: float | None, found: Agreement, bound: Agreement) -> bool:
    """Print a line of the table; return whether it is within bounds."""
    is_good = is_within(found, bound)
    wall = "" if seconds is None else f"{seconds:.1f}"
    print(
        f"| {name} | {wall} | {found.rand_index:.9f} | {found.coefficients:.2e} | {found.singular_values:.2e} "
        f"| {found.inertia:.2e} | {'yes' if is_good else 'NO'} |",
        flush=True,
    )
    return is_good


def main() -> int:
    """Run the demo on each number of ranks and compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=None, help="default: all")
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--output", type=Path, default=None, help="keep the results here")
    options = parser.parse_args()
    extra = [] if options.rows is None else ["--rows", str(options.rows)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.output or Path(scratch)
        print(
            "| run | wall, s | adjusted Rand index | Lasso, abs | singular values, rel | inertia, rel | within bounds |"
        )
        print("|---|---|---|---|---|---|---|")
        is_good = True
        first = None
        for p in options.ranks:
            seconds = run_on_ranks(p, folder / str(p), *extra)
            found = read_results(folder / str(p))
            first = found if first is None else first
            is_good &= print_row(f"{p} rank(s)", seconds, compare(first, found), BETWEEN_RANKS)
        other = compute_with_sklearn(folder / str(options.ranks[0]))
        is_good &= print_row("scikit-learn", None, compare(first, other), WITH_SKLEARN)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
