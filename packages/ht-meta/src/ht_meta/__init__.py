"""The whole stack in one namespace: ``import ht_meta as ht``.

All names of ht-core are here; modules and functions of the wheels above it are imported when they are first
used.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING

from ht_comm import spmd, world
from ht_core import *  # noqa: F403
from ht_core import __array_api_version__, __array_namespace_info__
from ht_core import upper_layers as _upper_layers

from ._version import __version__

if _TYPE_CHECKING:
    import ht_core.random as random
    import ht_io as io
    import ht_io.checkpoint as checkpoint
    import ht_linalg as linalg
    import ht_linalg.fft as fft
    import ht_linalg.signal as signal
    import ht_linalg.sparse as sparse
    import ht_linalg.spatial as spatial
    import ht_ml.base as base
    import ht_ml.callbacks as callbacks
    import ht_ml.classification as classification
    import ht_ml.cluster as cluster
    import ht_ml.decomposition as decomposition
    import ht_ml.graph as graph
    import ht_ml.linear_model as linear_model
    import ht_ml.metrics as metrics
    import ht_ml.model_selection as model_selection
    import ht_ml.naive_bayes as naive_bayes
    import ht_ml.neighbors as neighbors
    import ht_ml.nn as nn
    import ht_ml.optim as optim
    import ht_ml.preprocessing as preprocessing
    import ht_ml.progress as progress
    import ht_ml.regression as regression
    import ht_ml.utils as utils
    from ht_io import (
        load,
        load_csv,
        load_csv_from_folder,
        load_hdf5,
        load_multiple_hdf5,
        load_netcdf,
        load_npy,
        load_npy_from_path,
        load_npz,
        load_zarr,
        save,
        save_csv,
        save_hdf5,
        save_netcdf,
        save_npy,
        save_npz,
        save_zarr,
        stream,
    )
    from ht_linalg import (
        cross,
        dot,
        einsum,
        einsum_path,
        inner,
        kron,
        matmul,
        matvec,
        outer,
        projection,
        qr,
        tensordot,
        vdot,
        vecdot,
        vecmat,
    )
    from ht_linalg.products import trace_of_first_axes as trace
    from ht_linalg.signal import convolve, convolve2d, correlate

#: Names of the upper wheels: module, and attribute of it or None for the module itself.
_LAZY: dict[str, tuple[str, str | None]] = {
    "random": ("ht_core.random", None),
    "io": ("ht_io", None),
    "checkpoint": ("ht_io.checkpoint", None),
    "base": ("ht_ml.base", None),
    "callbacks": ("ht_ml.callbacks", None),
    "classification": ("ht_ml.classification", None),
    "cluster": ("ht_ml.cluster", None),
    "decomposition": ("ht_ml.decomposition", None),
    "graph": ("ht_ml.graph", None),
    "linear_model": ("ht_ml.linear_model", None),
    "metrics": ("ht_ml.metrics", None),
    "model_selection": ("ht_ml.model_selection", None),
    "naive_bayes": ("ht_ml.naive_bayes", None),
    "neighbors": ("ht_ml.neighbors", None),
    "nn": ("ht_ml.nn", None),
    "optim": ("ht_ml.optim", None),
    "preprocessing": ("ht_ml.preprocessing", None),
    "progress": ("ht_ml.progress", None),
    "regression": ("ht_ml.regression", None),
    "utils": ("ht_ml.utils", None),
    "load": ("ht_io", "load"),
    "load_csv": ("ht_io", "load_csv"),
    "load_csv_from_folder": ("ht_io", "load_csv_from_folder"),
    "load_hdf5": ("ht_io", "load_hdf5"),
    "load_multiple_hdf5": ("ht_io", "load_multiple_hdf5"),
    "load_netcdf": ("ht_io", "load_netcdf"),
    "load_npy": ("ht_io", "load_npy"),
    "load_npy_from_path": ("ht_io", "load_npy_from_path"),
    "load_npz": ("ht_io", "load_npz"),
    "load_zarr": ("ht_io", "load_zarr"),
    "save": ("ht_io", "save"),
    "save_csv": ("ht_io", "save_csv"),
    "save_hdf5": ("ht_io", "save_hdf5"),
    "save_netcdf": ("ht_io", "save_netcdf"),
    "save_npy": ("ht_io", "save_npy"),
    "save_npz": ("ht_io", "save_npz"),
    "save_zarr": ("ht_io", "save_zarr"),
    "stream": ("ht_io", "stream"),
    "signal": ("ht_linalg.signal", None),
    "sparse": ("ht_linalg.sparse", None),
    "spatial": ("ht_linalg.spatial", None),
    "qr": ("ht_linalg", "qr"),
    # What ht-core itself finds in the wheels above it.
    **{name: (module, None) for name, (module, _) in _upper_layers.NAMESPACES.items()},
    **{name: _upper_layers.LAZY[name][:2] for name in _upper_layers.names() if name in _upper_layers.LAZY},
}


def __getattr__(name: str) -> object:
    try:
        module, attribute = _LAZY[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    found = _import_module(module)
    found = found if attribute is None else getattr(found, attribute)
    globals()[name] = found  # next time it is found without this function
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
