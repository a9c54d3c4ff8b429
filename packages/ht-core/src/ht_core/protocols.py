"""NumPy calls on distributed arrays: ``np.sin(x)``, ``np.add.outer(x, y)``, ``np.concatenate([x, y])`` run our rows.

What has no distributed version is a TypeError that says so: nothing is gathered to let NumPy do it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache

import numpy as np

from .dndarray import DNDarray
from .errors import MissingLayerError
from .info import API_VERSIONS
from .registry import OPERATIONS
from .upper_layers import LAZY, resolve

#: ufunc.reduce and ufunc.accumulate are one of our reductions or scans.
_REDUCE = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "max",
    "minimum": "min",
    "logical_and": "all",
    "logical_or": "any",
}
_ACCUMULATE = {"add": "cumsum", "multiply": "cumprod"}
#: Arguments of ufuncs that do not concern us where they have their defaults.
_DEFAULTS = {"casting": "same_kind", "order": "K", "subok": True, "signature": None}


@cache
def _by_numpy_name(name: str) -> Callable | None:
    """Return our function for a NumPy name, from this wheel or a higher one."""
    row = OPERATIONS.get(name)
    if row is None or row.numpy != name:
        row = next((r for r in OPERATIONS.values() if r.numpy == name), row)
    if row is not None:
        return row.function
    return resolve(name) if name in LAZY else None


def _array_ufunc(self: DNDarray, ufunc: np.ufunc, method: str, *inputs: object, **options: object):
    """Run the row of a NumPy ufunc, or of its ``reduce``, ``accumulate`` and ``outer``.

    Raises
    ------
    TypeError
        If there is no distributed version of the ufunc or of its method, or an option cannot be honoured.
    """
    name = ufunc.__name__
    function = _UFUNC_METHODS.get(method, _refused)(name)
    if function is None:
        what = name if method == "__call__" else f"{name}.{method}"
        raise TypeError(
            f"np.{what}: there is no distributed version; use an operation of ht, or np.{what} on x.numpy(), which "
            "gathers the array on every rank"
        )
    for option, default in _DEFAULTS.items():
        if options.pop(option, default) != default:
            raise TypeError(
                f"np.{name}: {option} must be {default!r} for distributed arrays, got another one"
            )
    out = options.pop("out", None)
    if out is not None:
        options["out"] = out if len(out) > 1 else out[0]
    if options.get("dtype", 0) is None:
        del options["dtype"]
    return function(*inputs, **options)


def _reduction(name: str) -> Callable | None:
    row = OPERATIONS.get(_REDUCE.get(name, ""))
    if row is None:
        return None

    def reduce(x: object, axis: object = 0, dtype: object = None, **options: object) -> DNDarray:
        if dtype is not None:
            options["dtype"] = dtype
        if options.get("initial", 0) is None or options.get("initial", 0) is np._NoValue:
            del options["initial"]
        return row.function(x, axis=axis, **options)

    return reduce


def _accumulation(name: str) -> Callable | None:
    row = OPERATIONS.get(_ACCUMULATE.get(name, ""))
    if row is None:
        return None

    def accumulate(x: object, axis: int = 0, **options: object) -> DNDarray:
        return row.function(x, axis=axis, **options)

    return accumulate


def _outer(name: str) -> Callable | None:
    function = _by_numpy_name(name)
    if function is None:
        return None

    def outer(a: object, b: object, **options: object) -> DNDarray:
        """Apply the ufunc to all pairs: the axes of `a`, then those of `b`."""
        expand_dims = OPERATIONS["expand_dims"].function
        ndim = np.ndim(b) if not isinstance(b, DNDarray) else b.ndim
        if isinstance(a, DNDarray):
            a = expand_dims(a, tuple(range(a.ndim, a.ndim + ndim))) if ndim else a
        else:
            a = np.asarray(a)
            a = a.reshape(a.shape + (1,) * ndim)
        return function(a, b, **options)

    return outer


def _refused(name: str) -> None:
    return None


_UFUNC_METHODS = {
    "__call__": _by_numpy_name,
    "reduce": _reduction,
    "accumulate": _accumulation,
    "outer": _outer,
}


# Questions that are answered from metadata.
_METADATA: dict[str, Callable] = {
    "shape": lambda a: a.shape,
    "ndim": lambda a: a.ndim,
    "size": lambda a, axis=None: a.size if axis is None else a.shape[axis],
    "iscomplexobj": lambda x: x.dtype.kind == "c",
    "isrealobj": lambda x: x.dtype.kind != "c",
    "array_repr": lambda arr, **options: repr(arr),
    "array_str": lambda a, **options: str(a),
}


def _array_function(self: DNDarray, func: Callable, types: tuple, args: tuple, kwargs: dict):
    """Run the operation of a NumPy function; functions without one are refused rather than run on gathered data.

    Raises
    ------
    TypeError
        If there is no distributed version.
    """
    function = _find_function(getattr(func, "__module__", None) or "numpy", func.__name__)
    if function is None:
        if not all(issubclass(t, (DNDarray, np.ndarray)) for t in types):
            return NotImplemented
        raise TypeError(
            f"np.{func.__name__}: there is no distributed version; use an operation of ht, or np.{func.__name__} on "
            "x.numpy(), which gathers the array on every rank"
        )
    return function(*args, **kwargs)


@cache
def _find_function(module: str, name: str) -> Callable | None:
    space = module.split(".")[1] if module.startswith(("numpy.fft", "numpy.linalg")) else ""
    if not module.startswith("numpy"):
        return None
    if not space:
        found = _METADATA.get(name) or _by_numpy_name(name)
        return found or _public(sys.modules[__package__], name)
    try:
        found = _public(resolve(space), name)
    except MissingLayerError:
        return None
    return found or (_by_numpy_name(name) if space == "linalg" else None)


def _public(module: object, name: str) -> Callable | None:
    """Return a function of this name that a package of ours defines."""
    found = vars(module).get(name) if module is not None else None
    ours = callable(found) and (getattr(found, "__module__", None) or "").startswith("ht_")
    return found if ours and not isinstance(found, type) else None


def _array_namespace(self: DNDarray, *, api_version: str | None = None):
    """Return this package as the namespace of the Array API.

    Raises
    ------
    ValueError
        If another version of the standard is asked for.
    """
    if api_version is not None and api_version not in API_VERSIONS:
        raise ValueError(
            f"__array_namespace__: api_version must be one of {', '.join(API_VERSIONS)}, got {api_version}"
        )
    return sys.modules[__package__]


DNDarray.__array_ufunc__ = _array_ufunc
DNDarray.__array_function__ = _array_function
DNDarray.__array_namespace__ = _array_namespace
