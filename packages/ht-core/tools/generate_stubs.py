"""Write ``ht_core/__init__.pyi`` from the registry: signatures of all functions, methods and operators.

Run ``python tools/generate_stubs.py`` after a change of a row; a test compares the committed file with the result.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import ht_core as ht
import numpy as np
import torch

TARGET = Path(ht.__file__).with_suffix(".pyi")

HEADER = '''"""Generated from the registry by tools/generate_stubs.py; do not edit."""

import builtins
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from ht_comm import CommError as CommError
from ht_comm import Communicator
from ht_comm import get_comm as get_comm
from ht_comm import use_comm as use_comm

from . import devices as devices
from . import random as random
from . import types as types
from .devices import Device as Device
from .devices import cpu as cpu
from .devices import get_device as get_device
from .devices import sanitize_device as sanitize_device
from .devices import use_device as use_device
from .errors import DTypeError as DTypeError
from .errors import LayoutError as LayoutError
from .errors import MissingLayerError as MissingLayerError
from .layout import Layout as Layout
from .printing import print0 as print0
from .registry import Operation
from .types import can_cast as can_cast
from .types import finfo as finfo
from .types import iinfo as iinfo
from .types import isdtype as isdtype
from .types import promote_types as promote_types
from .types import result_type as result_type

__version__: str
OPERATIONS: dict[str, Operation]
DTYPES: dict[str, types.dtype]
e: builtins.float
inf: builtins.float
nan: builtins.float
pi: builtins.float
newaxis: None
'''


def signature(function, *, method: bool) -> str:
    """Return the parameters and the result as source text."""
    parameters = list(inspect.signature(function).parameters.values())
    if method:
        parameters[0] = parameters[0].replace(name="self", annotation=inspect.Parameter.empty)
    parameters = [
        p if p.default is inspect.Parameter.empty else p.replace(default=_ELLIPSIS) for p in parameters
    ]
    text = str(inspect.Signature(parameters)).replace("'", "")
    result = inspect.signature(function).return_annotation
    if result is inspect.Signature.empty:
        result = "Any" if function.__name__ in _UNTYPED or not _is_operation(function) else "DNDarray"
    result = re.sub(r"'", "", result if isinstance(result, str) else result.__name__)
    return _python_types(f"{text} -> {result}")


def _python_types(text: str) -> str:
    """Qualify Python's types, for the module has dtypes of the same names."""
    return re.sub(r"\b(bool|int|float)\b", r"builtins.\1", text)


class _Ellipsis:
    def __repr__(self) -> str:
        return "..."


_ELLIPSIS = _Ellipsis()
_UNTYPED = {"where", "nonzero", "linspace"}


def _is_operation(function) -> bool:
    return any(row.function is function for row in ht.OPERATIONS.values())


def class_stub() -> list[str]:
    """Return the lines of the class: properties, then methods and operators by name."""
    lines = ["class DNDarray:", "    larray: torch.Tensor", "    layout: Layout", "    comm: Communicator"]
    lines.append(
        "    def __init__(self, larray: torch.Tensor, layout: Layout, comm: Communicator) -> None: ..."
    )
    skip = {
        "__init__",
        "__module__",
        "__getattr__",
        "__slots__",
        "__doc__",
        "__weakref__",
        "__hash__",
        "__dict__",
    }
    for name, value in sorted(vars(ht.DNDarray).items()):
        if isinstance(value, property):
            result = inspect.signature(value.fget).return_annotation
            result = "DNDarray" if result is inspect.Signature.empty else result
            lines += ["    @property", f"    def {name}(self) -> {_python_types(result)}: ..."]
        elif inspect.isfunction(value) and name not in skip and (name[0] != "_" or name[:2] == "__"):
            comparison = "  # type: ignore[override]" if name in ("__eq__", "__ne__") else ""
            lines.append(f"    def {name}{signature(value, method=True)}: ...{comparison}")
    for name in sorted(ht.dndarray.LAZY):
        lines.append(f"    def {name}(self, *args: Any, **options: Any) -> Any: ...")
    return lines


def plain_names() -> tuple[list[str], list[str]]:
    """Return import lines and variable lines of the public names that are neither rows nor dtypes nor in HEADER."""
    imports, variables = [], []
    known = set(re.findall(r"(?:^| as )(\w+)(?::|$)", HEADER, re.MULTILINE)) | set(ht.OPERATIONS)
    for name, value in sorted(vars(ht).items()):
        if (
            name in known
            or (name[0] == "_" and name != "__array_namespace_info__")
            or inspect.ismodule(value)
        ):
            continue
        library = next((m for m in (torch, np) if getattr(m, name, None) is value), None)
        if library is not None and not isinstance(value, (bool, float)):
            imports.append(f"from {library.__name__} import {name} as {name}")
        elif isinstance(value, (bool, float)):
            variables.append(f"{name}: builtins.{type(value).__name__}")
        elif name == "ndarray":
            variables.append("ndarray = DNDarray")
        elif isinstance(value, type) or inspect.isfunction(value):
            home, own = value.__module__, value.__name__
            if home.startswith("ht_core."):
                imports.append(f"from .{home.removeprefix('ht_core.')} import {own} as {name}")
        elif type(value).__module__.startswith("ht_core.") and not isinstance(value, ht.types.dtype):
            home, own = type(value).__module__.removeprefix("ht_core."), type(value).__name__
            if f"from .{home} import {own} as {own}" not in imports:
                imports.append(f"from .{home} import {own} as {own}")
            variables.append(f"{name}: {own}")
    return sorted(set(imports)), variables


def stubs() -> str:
    """Return the text of the stub file."""
    imports, variables = plain_names()
    header = HEADER.replace("\n__version__: str", "\n".join(["", *imports, "", "__version__: str"]), 1)
    lines = [header, *variables, "", *class_stub(), ""]
    rows = sorted(ht.OPERATIONS.items())
    lines += [f"def {n}{signature(row.function, method=False)}: ..." for n, row in rows if row.name == n]
    lines += [f"{n} = {row.name}" for n, row in rows if row.name != n]
    lines.append("")
    names = {n: d for n, d in vars(ht).items() if isinstance(d, ht.types.dtype)}
    lines += [f"{name}: types.dtype" for name in sorted(names)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(stubs())
