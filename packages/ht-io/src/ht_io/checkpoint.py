"""Checkpoints: a tree of arrays, estimators, random states and plain values, saved on some ranks and restored on
any number of ranks.

One HDF5 file holds every array as a data set and the tree around them as text. No pickle: restoring runs no code
from the file and imports no module that it names, only classes of a table.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from ht_comm import Communicator, get_comm
from ht_core import types
from ht_core.errors import LayoutError

from .checkpoint_like import match_arrays
from .checkpoint_tree import REGISTERED, Decoder, Encoder, find_class
from .hdf5_read import open_dataset, open_to_read
from .hdf5_write import save_items
from .loading import Source, agree_same, load_source
from .plan_write import plan_items
from .saving import check_mode

__all__ = ["load", "register", "save"]

_VERSION = 1
_TREE = "tree"


def save(path: str | os.PathLike, tree: Any, *, mode: str = "w", comm: Communicator | None = None) -> None:
    """Save a tree of values. Collective.

    Parameters
    ----------
    path : path
        File on a file system that all ranks share. It is replaced in one step when the new one is complete.
    tree : object
        Dicts (of any such keys), lists and tuples of DNDarrays of any split, NumPy arrays, torch tensors, numbers,
        strings, bytes, None, element types, generators of `ht.random`, estimators of ht-ml with all they have
        learned, and objects of registered classes. States of torch modules and optimizers (``state_dict()``) and
        of random generators (``get_state()``) are such trees. What is not a split array must be equal on all
        ranks; of tensors and NumPy arrays the first row, up to 4096 elements, is compared, which finds states of
        training that ranks do not share. What each rank has of its own goes into an array that is split. An array that
        occurs twice is stored once.
    mode : {"w", "x", "w-"}
        "w" replaces an existing file; "x" and "w-" refuse.
    comm : Communicator, optional
        The ranks that save, if the tree holds no DNDarray; the current one if not given.

    Distribution
    ------------
    As :func:`ht_io.save_hdf5`: every rank writes its own parts; a few small messages in all, however many arrays
    there are.

    Raises
    ------
    TypeError, ValueError
        The tree holds something else, or itself, or differs between ranks.
    OSError
        The file cannot be made, or the disk is full.

    All ranks raise the same error, nothing is left behind, and the previous checkpoint is unchanged.

    Examples
    --------
    >>> import ht_core, ht_io
    >>> x = ht_core.arange(6, split=0)
    >>> ht_io.checkpoint.save("state.h5", {"x": x, "step": 3, "rng": ht_core.random.get_state()})
    >>> back = ht_io.checkpoint.load("state.h5")
    >>> back["step"], back["x"].split, back["x"].sum().item()
    (3, 0, 15)
    """
    op = "checkpoint.save"
    check_mode(mode, op)
    if mode in ("a", "r+"):
        raise ValueError(f"{op}: mode must be 'w', 'x' or 'w-', got {mode!r}")
    encoder = Encoder(op)
    found = encoder.encode(tree)
    text = json.dumps({"version": _VERSION, "tree": found}, separators=(",", ":"))
    arrays = {f"arrays/{number}": value for number, value in enumerate(encoder.arrays)}
    arrays[_TREE] = np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).copy()
    items, common = plan_items(arrays, None, None, None, None, None, op)
    comm = common if comm is None else comm
    if comm is not common and any(hasattr(value, "comm") for value in encoder.arrays):
        raise ValueError(f"{op}: comm must be that of the arrays, got {comm!r} and {common!r}")
    save_items(items, path, mode, comm, op, facts=f"{text} {encoder.marks}")


def load(
    path: str | os.PathLike,
    *,
    split: object = True,
    like: Any = None,
    device: object = None,
    comm: Communicator | None = None,
) -> Any:
    """Restore the tree that :func:`save` wrote, on any number of ranks. Collective.

    Parameters
    ----------
    path : path
        File that every rank can read.
    split : True, None or int
        True: every DNDarray is split as it was. Otherwise the split that all of them get.
    like : object, optional
        A tree of the same structure, which is checked: every DNDarray gets the layout, element type and device of the
        one in its place, every tensor the type and device, every NumPy array the type. None stands for whatever is in
        its place. Numbers, text and what objects hold are restored as they were saved.
    device : optional
        Where DNDarrays and tensors live, but for those with a place in `like`; the current default device if not
        given.
    comm : Communicator, optional
        Whose ranks share the arrays; the current one if not given.

    Returns
    -------
    object
        The tree: new dicts, lists, tuples, arrays, estimators.

    Distribution
    ------------
    On as many ranks as saved, every array has the counts that it had; on others it is even. Each rank reads its
    parts. One allreduce of three integers per array, and one more.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError, OSError
        The file is absent, not readable, no checkpoint, truncated or damaged.
    ValueError
        It holds an object of a class that is not known here, or is of a later version; `like` is another tree, or
        an array of it has another shape.

    All ranks raise the same error.

    Examples
    --------
    >>> import ht_core, ht_io
    >>> ht_io.checkpoint.save("pair.h5", (ht_core.ones((4, 2), split=1), None))
    >>> x, nothing = ht_io.checkpoint.load("pair.h5", split=0)
    >>> x.shape, x.split
    ((4, 2), 0)
    >>> x, nothing = ht_io.checkpoint.load("pair.h5", like=(ht_core.zeros((4, 2), dtype="float64", split=0), None))
    >>> x.dtype, x.split
    (ht.float64, 0)
    """
    op = "checkpoint.load"
    comm = get_comm() if comm is None else comm
    text, tree, error, given = "", None, None, {}
    try:
        text = _read_text(path, op)
        tree = json.loads(text)["tree"]
        _check_classes(tree, op)
        if like is not None:
            if split is not True:
                raise ValueError(f"{op}: split must be True with like, which tells it, got {split!r}")
            given = match_arrays(tree, like, Decoder(lambda facts: None, op).decode, op)
    except Exception as failure:
        error = failure
    agree_same(comm, text, error, op)

    def restore(facts: dict) -> object:
        kind, axis = facts["kind"], facts.get("split")
        target = given.get(facts["array"])
        if target is not None:
            return _restore_like(path, facts, target, comm, op)
        counts = None
        if kind == "ht" and split is True and axis is not None and len(facts["counts"]) == comm.size:
            counts = tuple(facts["counts"])
        if kind == "ht" and split is not True:
            axis = split
        x = load_source(
            lambda: open_dataset(path, f"arrays/{facts['array']}", op),
            op=op,
            split=axis,
            counts=counts,
            device="cpu" if kind == "numpy" else device,
            comm=comm,
        )
        if kind == "ht":
            return x
        if kind == "torch":
            return x.larray.requires_grad_(facts["grad"])
        return x.larray.numpy().astype(facts["dtype"], copy=False)

    return Decoder(restore, op).decode(tree)


def _restore_like(path: object, facts: dict, target: Any, comm: Communicator, op: str) -> object:
    """Return an array of the checkpoint in the layout, type and place of another one."""
    kind, shape = facts["kind"], tuple(target.shape)

    @contextmanager
    def opened() -> Iterator[Source]:
        with open_dataset(path, f"arrays/{facts['array']}", op) as source:
            if source.shape != shape:
                text = f"{op}: like must have arrays of the shapes in the checkpoint"
                raise LayoutError(f"{text}, {source.shape} for array {facts['array']}, got {shape}")
            yield source

    layout = target.layout if kind == "ht" else None
    dtype = target.dtype if kind != "torch" else types.canonical(target.dtype)
    x = load_source(
        opened,
        op=op,
        dtype=types.canonical(dtype.newbyteorder("=")) if kind == "numpy" else dtype,
        split=layout.split if layout else None,
        counts=layout.counts or None if layout else None,
        device="cpu" if kind == "numpy" else target.device,
        comm=comm,
    )
    if kind == "ht":
        return x
    if kind == "torch":
        return x.larray.requires_grad_(facts["grad"])
    return x.larray.numpy().astype(dtype, copy=False)


def register(kind: type) -> type:
    """Allow objects of a class of yours in checkpoints; usable as a decorator.

    What is stored is the object's ``__dict__``, under the class's module and name; restoring makes an object
    without calling ``__init__`` and gives it the attributes. Register it before loading, too.

    Examples
    --------
    >>> import ht_io
    >>> @ht_io.checkpoint.register
    ... class Progress:
    ...     def __init__(self, epoch):
    ...         self.epoch = epoch
    >>> ht_io.checkpoint.save("progress.h5", Progress(7))
    >>> ht_io.checkpoint.load("progress.h5").epoch
    7
    """
    if not isinstance(kind, type) or hasattr(kind, "__slots__"):
        raise TypeError(f"checkpoint.register: kind must be a class without __slots__, got {kind!r}")
    REGISTERED[f"{kind.__module__}.{kind.__qualname__}"] = kind
    return kind


def _read_text(path: object, op: str) -> str:
    """Return the text of the tree."""
    with open_to_read(path, op) as file:
        found = file.get(_TREE)
        try:
            text = found[...].tobytes().decode("utf-8", "surrogatepass")
            version = json.loads(text)["version"]
        except (TypeError, AttributeError, KeyError, ValueError, OSError) as error:
            name = os.fsdecode(path)
            raise OSError(errno.EIO, f"{op}: path must be a checkpoint, got {name!r} ({error})") from None
    if version != _VERSION:
        raise ValueError(f"{op}: path must be a checkpoint of version {_VERSION}, got version {version}")
    return text


def _check_classes(value: object, op: str) -> None:
    """Refuse unknown classes before any array is read."""
    if isinstance(value, dict):
        if "object" in value and find_class(value["object"]) is None:
            Decoder(lambda facts: None, op).decode({"object": value["object"], "state": []})
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            _check_classes(item, op)
