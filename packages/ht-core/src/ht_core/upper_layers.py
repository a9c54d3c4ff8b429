"""Names that live in the wheels above: name -> (module, attribute, wheel).

ht-core never imports a higher wheel. A name is resolved on first use; where its wheel is absent the error says which
one to install. ht-meta's tests resolve every row.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from types import ModuleType

from .errors import MissingLayerError

LAZY: dict[str, tuple[str, str, str]] = {
    **{
        name: ("ht_linalg", name, "ht-linalg")
        for name in (
            "cross",
            "dot",
            "einsum",
            "einsum_path",
            "inner",
            "kron",
            "matmul",
            "matvec",
            "outer",
            "projection",
            "tensordot",
            "vdot",
            "vecdot",
            "vecmat",
        )
    },
    "trace": (
        "ht_linalg.products",
        "trace_of_first_axes",
        "ht-linalg",
    ),  # NumPy's; ht_linalg.trace is the standard's
    **{name: ("ht_linalg.signal", name, "ht-linalg") for name in ("convolve", "convolve2d", "correlate")},
    **{
        name: ("ht_io", name, "ht-io")
        for name in ("save", "save_csv", "save_hdf5", "save_netcdf", "save_npy", "save_npz", "save_zarr")
    },
}

#: Rows that are methods of arrays and no functions of this package.
_METHODS_ONLY = frozenset(name for name in LAZY if name.startswith("save"))

#: Sub-namespaces of this package that the Array API calls extensions: name -> (module, wheel).
NAMESPACES: dict[str, tuple[str, str]] = {
    "fft": ("ht_linalg.fft", "ht-linalg"),
    "linalg": ("ht_linalg", "ht-linalg"),
}


def names() -> frozenset[str]:
    """Return the names that the package resolves in the wheels above, besides its own."""
    return (frozenset(LAZY) - _METHODS_ONLY) | frozenset(NAMESPACES)


def resolve(name: str) -> Callable | ModuleType:
    """Return what a higher wheel provides for `name`: a function, or a module for a sub-namespace.

    Raises
    ------
    MissingLayerError
        If that wheel is not installed.
    """
    if name in NAMESPACES:
        module, wheel = NAMESPACES[name]
        attribute = None
    else:
        module, attribute, wheel = LAZY[name]
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name not in (module, module.split(".")[0]):  # a real failure inside the wheel
            raise
        raise MissingLayerError(
            f"{name} is provided by {wheel}, which is not installed; run: pip install {wheel}"
        ) from None
    return found if attribute is None else getattr(found, attribute)
