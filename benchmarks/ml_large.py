"""The estimators at the size of the demo, beside scikit-learn: python benchmarks/ml_large.py. Takes minutes.

Needs about 4 GB of memory.
"""

from __future__ import annotations

from harness import main
from ml import cases

LARGE = (860_000, 150, 25)

if __name__ == "__main__":
    main(cases(LARGE, LARGE[:2], heat=False), __file__)
