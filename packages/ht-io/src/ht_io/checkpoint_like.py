"""Comparing the tree of a checkpoint with one of given values, whose arrays tell how those of the checkpoint are to
be restored. Pure: knows no file and no communicator.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from ht_core import DNDarray

from .checkpoint_tree import class_name

_KINDS = {"ht": DNDarray, "torch": torch.Tensor, "numpy": np.ndarray}


def match_arrays(value: Any, like: Any, decode: Callable[[Any], Any], op: str) -> dict[int, object]:
    """Return the array of `like` for each array of an encoded tree that has one, by its number.

    Parameters
    ----------
    value : object
        What :meth:`ht_io.checkpoint_tree.Encoder.encode` made.
    like : object
        A tree of the same structure; None stands for anything. Numbers, text and objects are not compared.
    decode : callable
        Makes keys of dicts again.

    Raises
    ------
    ValueError
        The structures differ; the text names the place.
    """
    found: dict[int, object] = {}
    kinds: dict[int, str] = {}

    def fail(where: str, wanted: str, got: Any) -> None:
        kind = type(got).__name__
        size = f" of {len(got)}" if isinstance(got, (Mapping, list, tuple)) else ""
        raise ValueError(
            f"{op}: like must be a tree as in the checkpoint, with {wanted} at {where}, got {kind}{size}"
        )

    def visit(value: Any, like: Any, where: str) -> None:
        kind = (
            next(iter(value), "dict")
            if isinstance(value, dict)
            else "list"
            if isinstance(value, list)
            else None
        )
        if kind == "array":
            kinds.setdefault(value["array"], value.get("kind"))
        if like is None:
            return
        if kind == "dict" or kind == "counter":
            pairs = {decode(key): item for key, item in value[kind]}
            if not isinstance(like, Mapping) or list(map(repr, pairs)) != list(map(repr, like)):
                fail(where, f"a dict with the keys {', '.join(map(repr, pairs))}", like)
            for key, item in pairs.items():
                visit(item, like[key], f"{where}[{key!r}]")
        elif kind in ("list", "tuple"):
            items, wanted = (value, list) if kind == "list" else (value["tuple"], tuple)
            if not isinstance(like, wanted) or len(like) != len(items):
                fail(where, f"a {kind} of {len(items)}", like)
            for number, (item, other) in enumerate(zip(items, like)):
                visit(item, other, f"{where}[{number}]")
        elif kind == "array":
            wanted = _KINDS.get(kinds[value["array"]])
            if wanted is None or not isinstance(like, wanted):
                fail(where, f"an array of class {wanted.__name__ if wanted else '?'}", like)
            found.setdefault(value["array"], like)
        elif kind == "object":
            if class_name(like) != value["object"]:
                fail(where, f"an object of class {value['object']}", like)
        elif isinstance(like, (Mapping, list, tuple, DNDarray, torch.Tensor, np.ndarray)):
            fail(where, "a plain value", like)

    visit(value, like, "tree")
    return found
