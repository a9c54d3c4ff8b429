"""Data sets over distributed arrays: samples are rows, which stay where they are until a loader asks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from ht_core import DNDarray, array
from ht_core.errors import LayoutError
from ht_core.random import default_rng


class Dataset:
    """Samples whose features, targets and so on are the rows of distributed arrays.

    Parameters
    ----------
    *arrays : DNDarray, shape (n, ...)
        With equal numbers of rows, split along the rows or replicated; anything else is taken as replicated.
    transforms : callable or sequence of callable or None, optional
        Applied to the batches: one for each array, tensor in, tensor out; a single one is for the first array.

    Raises
    ------
    LayoutError
        If an array is split along another axis, has no axis, or another number of rows.

    Notes
    -----
    *Distribution*: no message; nothing is copied.

    Examples
    --------
    >>> data = ht.utils.data.Dataset(ht.ones((6, 2), split=0), ht.arange(6, split=0))
    >>> len(data)
    6
    """

    def __init__(self, *arrays: Any, transforms: Callable | Sequence[Callable | None] | None = None) -> None:
        if not arrays:
            raise TypeError("Dataset: arrays must be at least one array, got none")
        self.arrays = tuple(x if isinstance(x, DNDarray) else array(x) for x in arrays)
        rows = {x.shape[0] if x.ndim else None for x in self.arrays}
        if len(rows) != 1 or None in rows:
            shapes = [x.shape for x in self.arrays]
            raise LayoutError(f"Dataset: arrays must have the same number of rows, got shapes {shapes}")
        for x in self.arrays:
            if x.split not in (None, 0):
                raise LayoutError(
                    f"Dataset: arrays must be split along axis 0 or replicated, got split {x.split}; use resplit(0)"
                )
        self.comm = self.arrays[0].comm
        self.transforms = check_transforms("Dataset", transforms, len(self.arrays))

    def __len__(self) -> int:
        return self.arrays[0].shape[0]

    def __repr__(self) -> str:
        return f"Dataset({', '.join(str(x.shape) for x in self.arrays)})"


def check_transforms(op: str, transforms: Any, n: int) -> tuple[Callable | None, ...]:
    """Return one transform or None for each of `n` arrays."""
    if transforms is None or callable(transforms):
        return (transforms,) + (None,) * (n - 1)
    if len(transforms) != n:
        raise ValueError(f"{op}: transforms must be one for each of the {n} arrays, got {len(transforms)}")
    return tuple(transforms)


def transformed(
    parts: Sequence[torch.Tensor], transforms: Sequence[Callable | None]
) -> torch.Tensor | tuple[torch.Tensor, ...]:
    """Return this rank's part of a batch: a tensor, or one for each array."""
    done = tuple(x if change is None else change(x) for x, change in zip(parts, transforms))
    return done[0] if len(done) == 1 else done


def create_train_val_split(*arrays: Any, p: float = 0.2, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Divide samples at random into a training and a validation set.

    Parameters
    ----------
    *arrays : DNDarray, shape (n, ...)
        As for `Dataset`.
    p : float
        Share of the validation set, in [0, 1]: ``round(p * n)`` samples.
    seed : int
        Which samples are in which is a function of (n, seed): the same for any number of ranks.

    Returns
    -------
    train, validation : Dataset

    Notes
    -----
    *Distribution*: collective; each row is sent at most once, to lie evenly in one of the two sets (the cost of
    ``x[numbers]`` twice for each array).

    Examples
    --------
    >>> train, test = ht.utils.data.create_train_val_split(ht.arange(10, split=0), p=0.3)
    >>> len(train), len(test)
    (7, 3)
    """
    if not 0 <= p <= 1:
        raise ValueError(f"create_train_val_split: p must be in [0, 1], got {p!r}")
    data = Dataset(*arrays)
    n = len(data)
    cut = n - round(p * n)
    order = default_rng(seed, comm=data.comm).permutation(n, split=0)
    parts = []
    for rows in (order[:cut], order[cut:]):
        chosen = rows.resplit(0)
        chosen.balance_()
        whole = chosen.resplit(None)
        parts.append(Dataset(*(x[whole if x.split is None else chosen] for x in data.arrays)))
    return parts[0], parts[1]
