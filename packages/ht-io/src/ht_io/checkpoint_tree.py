"""A tree of Python values as text, with the arrays in it set aside. Nothing of it is ever executed: text, numbers
and names from tables.

Plain values stand for themselves in the JSON; everything else is an object with one key that tells what it is.
"""

from __future__ import annotations

import base64
import importlib
import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from ht_core import DNDarray, types
from ht_core.random import Generator, default_rng

from .plan_write import as_array
from .storage import host_view

#: Modules whose public classes with `get_params` may be restored: they are imported when one is met.
MODULES = (
    "ht_ml.cluster",
    "ht_ml.decomposition",
    "ht_ml.linear_model",
    "ht_ml.naive_bayes",
    "ht_ml.neighbors",
    "ht_ml.preprocessing",
)
#: Further classes, by the name under which they are stored.
REGISTERED: dict[str, type] = {}
#: Elements of a row that are compared between ranks.
_MARKED = 4096
_TORCH_DTYPES = {f"{dtype.torch}".removeprefix("torch."): dtype.torch for dtype in types.DTYPES.values()}


def find_class(name: str) -> type | None:
    """Return the class that `name` stands for in the tables, or None."""
    if name in REGISTERED:
        return REGISTERED[name]
    module, _, attribute = name.rpartition(".")
    if module not in MODULES:
        return None
    try:
        found = importlib.import_module(module)
    except ImportError:
        return None
    found = getattr(found, attribute, None) if attribute in getattr(found, "__all__", ()) else None
    return found if isinstance(found, type) and hasattr(found, "get_params") else None


def class_name(value: object) -> str | None:
    """Return the name in the tables of the class of `value`, or None."""
    kind = type(value)
    for name, known in REGISTERED.items():
        if known is kind:
            return name
    for module in MODULES:
        if kind.__module__ == module or kind.__module__.startswith(f"{module}."):
            name = f"{module}.{kind.__name__}"
            return name if find_class(name) is kind else None
    return None


class Encoder:
    """Turns a tree into plain values; `arrays` collects what it found, each array once, and `marks` checksums of
    the beginnings of those that must be equal on all ranks.
    """

    def __init__(self, op: str) -> None:
        self.arrays: list[object] = []
        self.marks: list[int] = []
        self._op, self._seen, self._open = op, {}, []
        self._kept: list[object] = []  # so that no id is used twice

    def encode(self, value: Any, where: str = "tree") -> object:
        """Return `value` as plain values.

        Raises
        ------
        TypeError, ValueError
            It is, or holds, something that has no place in a checkpoint, or itself.
        """
        if value is None or type(value) in (bool, int, float, str):
            return value
        if isinstance(value, (DNDarray, torch.Tensor, np.ndarray)):
            return self._array(value, where)
        leaf = _encode_leaf(value)
        if leaf is not None:
            return leaf
        if id(value) in self._open:
            raise ValueError(f"{self._op}: tree must not hold itself, got a loop at {where}")
        self._open.append(id(value))
        try:
            return self._container(value, where)
        finally:
            self._open.pop()

    def _container(self, value: Any, where: str) -> object:
        if isinstance(value, Mapping):
            pairs = [
                [self.encode(k, f"a key of {where}"), self.encode(v, f"{where}[{k!r}]")]
                for k, v in value.items()
            ]
            return {"counter" if isinstance(value, Counter) else "dict": pairs}
        if type(value) is list or isinstance(value, tuple):
            items = [self.encode(item, f"{where}[{i}]") for i, item in enumerate(value)]
            return items if isinstance(value, list) else {"tuple": items}
        name = class_name(value)
        if name is not None:
            state = [[key, self.encode(item, f"{where}.{key}")] for key, item in vars(value).items()]
            return {"object": name, "state": state}
        raise TypeError(
            f"{self._op}: tree must hold dicts, lists, tuples, arrays, numbers, strings, None, generators and "
            f"estimators (other classes: ht_io.checkpoint.register), got {type(value).__name__} at {where}"
        )

    def _array(self, value: Any, where: str) -> object:
        if id(value) in self._seen:
            return {"array": self._seen[id(value)]}
        facts: dict[str, object] = {"array": len(self.arrays)}
        if isinstance(value, DNDarray):
            facts |= {"kind": "ht", "split": value.split, "counts": list(value.layout.counts)}
        elif isinstance(value, torch.Tensor):
            if value.layout is not torch.strided or value.is_quantized:
                raise TypeError(f"{self._op}: tree must hold dense tensors, got {value.layout} at {where}")
            facts |= {"kind": "torch", "grad": value.requires_grad}
            value_saved = value.detach()
        else:
            if value.dtype.kind not in "biufc":
                raise TypeError(f"{self._op}: tree must hold arrays of numbers, got {value.dtype} at {where}")
            facts |= {"kind": "numpy", "dtype": value.dtype.str}
            value_saved = value.astype(value.dtype.newbyteorder("="))
        self._seen[id(value)] = len(self.arrays)
        self._kept.append(value)
        if not isinstance(value, DNDarray):
            self.marks.append(_mark(value_saved))
        self.arrays.append(
            value if isinstance(value, DNDarray) else as_array(value_saved, self._op, name=where)
        )
        return facts


def _mark(value: torch.Tensor | np.ndarray) -> int:
    """Return a checksum of the first row, by which ranks find out that they have different arrays."""
    first = value[(0,) * (value.ndim - 1)] if value.ndim and 0 not in value.shape else value
    first = first[:_MARKED] if first.ndim else first
    if isinstance(first, torch.Tensor):
        first = host_view(first.cpu().resolve_conj().resolve_neg().contiguous())
    return zlib.crc32(np.ascontiguousarray(first).tobytes())


def _encode_leaf(value: Any) -> dict | None:
    if isinstance(value, complex) and not isinstance(value, np.generic):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, bytes):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, np.generic) and value.dtype.kind in "biufc":
        return {"scalar": value.dtype.str, "value": base64.b64encode(value.tobytes()).decode()}
    if isinstance(value, Generator):
        return {"generator": [[key, item] for key, item in value.get_state().items()]}
    if isinstance(value, torch.dtype):
        return {"torch.dtype": f"{value}".removeprefix("torch.")}
    if isinstance(value, types.dtype):
        return {"dtype": value.name}
    return None


class Decoder:
    """Makes the tree again; `restore` gives the array of a number, whose facts it is told."""

    def __init__(self, restore: Callable[[dict], object], op: str) -> None:
        self._restore, self._op = restore, op
        self._arrays: dict[int, object] = {}

    def decode(self, value: Any) -> Any:
        """Return what :meth:`Encoder.encode` was given.

        Raises
        ------
        ValueError
            These are no values that it makes.
        """
        if not isinstance(value, (list, dict)):
            return value
        if isinstance(value, list):
            return [self.decode(item) for item in value]
        kind = next(iter(value), None)
        if kind == "dict":
            return {self.decode(key): self.decode(item) for key, item in value["dict"]}
        if kind == "counter":
            return Counter({self.decode(key): self.decode(item) for key, item in value["counter"]})
        if kind == "tuple":
            return tuple(self.decode(item) for item in value["tuple"])
        if kind == "array":
            if value["array"] not in self._arrays:
                self._arrays[value["array"]] = self._restore(value)
            return self._arrays[value["array"]]
        if kind == "object":
            return self._object(value)
        return self._leaf(kind, value)

    def _object(self, value: dict) -> object:
        found = find_class(value["object"])
        if found is None:
            raise ValueError(
                f"{self._op}: path must hold objects of known classes, got {value['object']!r}; install the wheel "
                "that has it, or ht_io.checkpoint.register the class"
            )
        made = found.__new__(found)
        vars(made).update({str(key): self.decode(item) for key, item in value["state"]})
        return made

    def _leaf(self, kind: object, value: dict) -> object:
        if kind == "complex":
            return complex(*value["complex"])
        if kind == "bytes":
            return base64.b64decode(value["bytes"])
        if kind == "scalar":
            dtype = np.dtype(value["scalar"])
            if dtype.kind in "biufc":
                return np.frombuffer(base64.b64decode(value["value"]), dtype)[0]
        if kind == "generator":
            made = default_rng(0)
            made.set_state({key: item for key, item in value["generator"]})
            return made
        if kind == "torch.dtype" and value[kind] in _TORCH_DTYPES:
            return _TORCH_DTYPES[value[kind]]
        if kind == "dtype":
            return types.canonical(value["dtype"])
        raise ValueError(
            f"{self._op}: path must be a checkpoint of this version, got a value of kind {kind!r}"
        )
