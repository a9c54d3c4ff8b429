"""Names of the array class that live in the wheels above: name -> (module, attribute, wheel).

ht-core never imports a higher wheel. A name is resolved on first use; where its wheel is absent the error says which
one to install. ht-meta's tests resolve every row.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from .errors import MissingLayerError

LAZY: dict[str, tuple[str, str, str]] = {
    "matmul": ("ht_linalg", "matmul", "ht-linalg"),
    "save": ("ht_io", "save", "ht-io"),
    "save_hdf5": ("ht_io", "save_hdf5", "ht-io"),
}


def resolve(name: str) -> Callable:
    """Return the function that a higher wheel provides for `name`.

    Raises
    ------
    MissingLayerError
        If that wheel is not installed.
    """
    module, attribute, wheel = LAZY[name]
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:  # a real failure inside the wheel
            raise
        raise MissingLayerError(
            f"DNDarray.{name} is provided by {wheel}, which is not installed; run: pip install {wheel}"
        ) from None
    return getattr(found, attribute)
