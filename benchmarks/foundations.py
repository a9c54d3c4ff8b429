"""The foundations' speed list in one run: python benchmarks/foundations.py --heat-python PYTHON_WITH_HEAT.

Estimators and factorisations are those of `ml.py` and `linalg.py`, at sizes small enough that interpreter and message
costs show. All data are float32 and the same for every contender, which keeps what it needs of them.
"""

from __future__ import annotations

from pathlib import Path

import linalg
import ml
import numpy as np
from harness import Case, Env, Run, main

FILE_SHAPE = (262_144, 64)  # 64 MiB
FILE, DATASET = "features.h5", "features"
LEFT, RIGHT = (40_000, 64), (40_000, 32)


def write_file(folder: Path) -> None:
    import h5py

    with h5py.File(folder / FILE, "w") as file:
        rng = np.random.default_rng(4)
        file.create_dataset(DATASET, data=rng.standard_normal(FILE_SHAPE, dtype=np.float32))


def load_spmd(env: Env) -> Run:
    path = str(env.data / FILE)
    return lambda: env.lib.load_hdf5(path, DATASET, dtype=env.lib.float32, split=0)


def load_h5py(env: Env) -> Run:
    import h5py
    import torch

    def run() -> torch.Tensor:
        x = torch.empty(FILE_SHAPE)
        with h5py.File(env.data / FILE) as file:
            file[DATASET].read_direct(x.numpy())
        return x

    return run


def _pair() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.standard_normal(LEFT, dtype=np.float32), rng.standard_normal(RIGHT, dtype=np.float32)


def hstack_spmd(env: Env) -> Run:
    arrays = [env.lib.array(x, split=0) for x in _pair()]
    return lambda: env.lib.hstack(arrays)


def hstack_numpy(env: Env) -> Run:
    arrays = _pair()
    return lambda: np.hstack(arrays)


def hstack_torch(env: Env) -> Run:
    import torch

    arrays = [torch.from_numpy(x) for x in _pair()]
    return lambda: torch.hstack(arrays)


# ------------------------------------------------------------------------------------------------- a + b


def add_ours(env: Env) -> Run:
    a, b = (
        env.lib.arange(100, dtype=env.lib.float32, split=0),
        env.lib.ones(100, dtype=env.lib.float32, split=0),
    )
    return lambda: a + b


def add_torch(env: Env) -> Run:
    import torch

    a, b = torch.arange(100, dtype=torch.float32), torch.ones(100)
    return lambda: a + b


def _named(cases: list[Case], *starts: str) -> list[Case]:
    """The cases whose names start so, in the order asked for."""
    return [case for start in starts for case in cases if case.name.startswith(start)]


CASES = [
    *_named(
        ml.CASES, "k-means iteration", "k-means fit", "k-means predict", "Lasso", "StandardScaler in place"
    ),
    *_named(linalg.CASES, "hSVD"),
    Case(
        "HDF5 load",
        "64 MiB",
        spmd=load_spmd,
        peers={"h5py into torch": load_h5py},
        heat_target=4,
        peer_target=1,
        prepare=write_file,
    ),
    Case(
        "hstack",
        f"{LEFT[0]:,} x {LEFT[1]} + {RIGHT[1]}",
        spmd=hstack_spmd,
        peers={"NumPy": hstack_numpy, "torch": hstack_torch},
        heat_target=1.4,
        peer_target=1,
    ),
    Case("a + b", "100 elements", single=add_ours, peers={"torch": add_torch}, over_us=10),
]

if __name__ == "__main__":
    main(CASES, __file__)
