"""NumPy calls on distributed arrays: ``np.sin(x)``, ``np.add(x, y)``, ``np.concatenate([x, y])`` run our rows."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from .dndarray import DNDarray
from .info import API_VERSIONS
from .registry import OPERATIONS
from .upper_layers import LAZY, resolve

# ufunc.reduce is one of our reductions.
_REDUCE = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "logical_and": "all",
    "logical_or": "any",
}


@cache
def _by_numpy_name(name: str) -> Callable | None:
    """Return our function for a NumPy name, from this wheel or a higher one."""
    row = OPERATIONS.get(name)
    if row is None or row.numpy != name:
        row = next((r for r in OPERATIONS.values() if r.numpy == name), None)
    if row is not None:
        return row.function
    return resolve(name) if name in LAZY else None


def _array_ufunc(self: DNDarray, ufunc: np.ufunc, method: str, *inputs: object, **options: object):
    """Run the row of a NumPy ufunc; methods of ufuncs other than ``reduce`` are not applicable to distributed data."""
    if method == "__call__":
        function = _by_numpy_name(ufunc.__name__)
    elif method == "reduce" and ufunc.__name__ in _REDUCE:
        function = OPERATIONS[_REDUCE[ufunc.__name__]].function
        options.setdefault("axis", 0)
    else:
        function = None
    if function is None:
        return NotImplemented
    out = options.pop("out", None)
    if out is not None:
        options["out"] = out[0]
    return function(*inputs, **options)


def _array_function(self: DNDarray, func, types: tuple, args: tuple, kwargs: dict):
    """Run the row of a NumPy function; functions without a row are refused rather than run on gathered data."""
    function = _by_numpy_name(func.__name__)
    if function is None or func.__module__.split(".")[0] != "numpy":
        return NotImplemented
    return function(*args, **kwargs)


def _array_namespace(self: DNDarray, *, api_version: str | None = None):
    """Return this package as the namespace of the Array API.

    Raises
    ------
    ValueError
        If another version of the standard is asked for.
    """
    if api_version is not None and api_version not in API_VERSIONS:
        raise ValueError(
            f"__array_namespace__: api_version must be one of {', '.join(API_VERSIONS)}, got {api_version!r}"
        )
    import ht_core

    return ht_core


DNDarray.__array_ufunc__ = _array_ufunc
DNDarray.__array_function__ = _array_function
DNDarray.__array_namespace__ = _array_namespace
