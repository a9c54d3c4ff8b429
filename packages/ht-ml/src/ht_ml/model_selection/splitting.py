"""Which rows train and which test: folds, and the shuffled split of arrays.

A fold is a function of the row's index (and of its order within its class), evaluated where the row lies: nothing of
the size of the table is exchanged but the rows that are selected.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from ht_core import DNDarray, flatnonzero, take
from ht_core.errors import LayoutError
from ht_core.layout import Layout
from ht_core.permutation import Permutation

from ..base import BaseEstimator
from ..draws import resolve_seed
from ..labels import as_labels
from ..rows import Rows, given


class _Folds(BaseEstimator):
    """What `KFold` and `StratifiedKFold` share."""

    def __init__(self, n_splits: int = 5, *, shuffle: bool = False, random_state: Any = None) -> None:
        self.n_splits = n_splits
        self.shuffle = shuffle
        self.random_state = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""
        return self.n_splits

    def _check(self, op: str, n: int) -> None:
        k = self.n_splits
        if not isinstance(k, Integral) or isinstance(k, bool) or not 2 <= k <= n:
            raise ValueError(f"{op}: n_splits must be an int in [2, {n}] for {n} rows, got {k!r}")
        if not isinstance(self.shuffle, (bool, np.bool_)):
            raise ValueError(f"{op}: shuffle must be a bool, got {self.shuffle!r}")
        if self.random_state is not None and not self.shuffle:
            raise ValueError(f"{op}: random_state must be None without shuffle, got {self.random_state!r}")

    def _pairs(self, rows: Rows, folds: torch.Tensor) -> Iterator[tuple[DNDarray, DNDarray]]:
        for fold in range(int(self.n_splits)):
            test = rows.column(folds == fold)
            yield flatnonzero(rows.column(folds != fold)), flatnonzero(test)


class KFold(_Folds):
    """Folds of consecutive (or shuffled) rows, as ``sklearn.model_selection.KFold``.

    Parameters
    ----------
    n_splits : int
        Number of folds, at least 2.
    shuffle : bool
        Assign rows to folds in random order, the same for any number of ranks.
    random_state : int, Generator or None
        Seed of the order.

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.arange(4, split=0)
    >>> [(train.numpy().tolist(), test.numpy().tolist()) for train, test in KFold(2).split(X)]
    [([2, 3], [0, 1]), ([0, 1], [2, 3])]
    """

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[tuple[DNDarray, DNDarray]]:
        """Yield the indices of the rows that train and of those that test, for each fold.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, ...)
        y, groups : ignored

        Yields
        ------
        train, test : DNDarray, int64, ascending
            Split 0, each where its rows lie, where `X` is split along its rows; replicated otherwise.

        *Distribution*: two allgathers of one number per fold (``flatnonzero``). Collective.

        Raises
        ------
        ValueError
            If a parameter is out of range; the same on every rank.
        """
        op = "KFold.split"
        rows = _one_per_row(op, X)
        self._check(op, rows.n)
        places = torch.arange(rows.start, rows.start + rows.local.shape[0])
        if self.shuffle:
            places = Permutation(rows.n, (resolve_seed(op, self.random_state), 0)).place(places)
        folds = _fold_of(places, _even_sizes(rows.n, int(self.n_splits)))
        yield from self._pairs(rows, folds.to(rows.local.device))


class StratifiedKFold(_Folds):
    """Folds that hold the classes in the proportions of all rows, as ``sklearn.model_selection.StratifiedKFold``.

    Parameters
    ----------
    n_splits, shuffle, random_state
        As in `KFold`; the rows of each class are shuffled.

    Examples
    --------
    >>> import ht_core as ht
    >>> y = ht.array([0, 0, 1, 1], split=0)
    >>> [test.numpy().tolist() for _, test in StratifiedKFold(2).split(y, y)]
    [[0, 2], [1, 3]]
    """

    def split(self, X: Any, y: Any, groups: Any = None) -> Iterator[tuple[DNDarray, DNDarray]]:
        """Yield the indices of the rows that train and of those that test, for each fold; see `KFold.split`.

        Parameters
        ----------
        X : DNDarray or array_like, shape (n, ...)
        y : DNDarray or array_like, shape (n,) or (n, 1)
            The classes; each has at least `n_splits` rows.

        *Distribution*: the messages of ``ht_core.unique``, two of k numbers for k classes, and those of `KFold.split`.

        Raises
        ------
        ValueError
            If a parameter is out of range, a label is NaN or a class has too few rows; the same on every rank.
        """
        op = "StratifiedKFold.split"
        rows = _one_per_row(op, X)
        self._check(op, rows.n)
        strata = _Strata(op, y, rows)
        k = int(self.n_splits)
        if int(strata.counts.min()) < k:
            raise ValueError(
                f"{op}: y must hold at least n_splits ({k}) rows of each class, got {int(strata.counts.min())}"
            )
        places = strata.places(resolve_seed(op, self.random_state) if self.shuffle else None)
        # Sorted by class, every k-th row goes to the same fold: sizes differ by one at most, in each class and in all.
        order = strata.order()
        starts = np.concatenate([[0], np.cumsum(strata.counts[order])])
        folds = torch.empty_like(places)
        for position, label in enumerate(order):
            begin, end = int(starts[position]), int(starts[position + 1])
            sizes = np.array([len(range(begin + (fold - begin) % k, end, k)) for fold in range(k)])
            mine = strata.codes == int(label)
            folds[mine] = _fold_of(places[mine], sizes)
        yield from self._pairs(rows, folds.to(rows.local.device))


class _Strata:
    """The classes of the rows: codes, counts, and the order of each row within its class."""

    def __init__(self, op: str, y: Any, rows: Rows) -> None:
        labels = as_labels(op, y, rows)
        k = labels.classes.numel()
        self.rows, self.codes = rows, labels.codes.cpu()
        own = torch.bincount(self.codes, minlength=k)
        before = rows.comm.exscan(own)
        self._before = before if rows.comm.rank > 0 else torch.zeros_like(own)
        first = torch.full((k,), rows.n, dtype=torch.int64)
        indices = torch.arange(rows.start, rows.start + len(self.codes))
        first.scatter_reduce_(0, self.codes, indices, "amin")
        # One message for both: a sum of counts, and first rows in slots that the other ranks leave zero.
        message = torch.zeros(k * (1 + rows.comm.size), dtype=torch.int64)
        message[:k] = own
        message[k * (1 + rows.comm.rank) :][:k] = first
        message = rows.comm.allreduce(message)
        self.counts = message[:k].numpy()
        self._first = message[k:].view(-1, k).amin(0).numpy()

    def order(self) -> np.ndarray:
        """Return the classes by their first row."""
        return np.argsort(self._first, kind="stable")

    def places(self, seed: int | None) -> torch.Tensor:
        """Return the position of each local row within its class, shuffled by a seed."""
        places = torch.empty_like(self.codes)
        for label, count in enumerate(self.counts.tolist()):
            mine = (self.codes == label).nonzero().squeeze(1)
            place = torch.arange(len(mine)) + self._before[label]
            places[mine] = place if seed is None else Permutation(count, (seed, label)).place(place)
        return places


def train_test_split(
    *arrays: Any,
    test_size: Any = None,
    train_size: Any = None,
    random_state: Any = None,
    shuffle: bool = True,
    stratify: Any = None,
) -> list[DNDarray]:
    """Return the rows of each array in two parts, to train and to test.

    Parameters
    ----------
    *arrays : DNDarray or array_like, shape (n, ...)
        All of n rows; anything but a DNDarray is taken as replicated.
    test_size, train_size : float in (0, 1), int or None
        Shares or numbers of rows; None is what the other leaves, and 0.25 for the test where both are None.
    random_state : int, Generator or None
        Seed of the order.
    shuffle : bool
        Take the rows in random order, the same for any number of ranks; else the test rows are the last ones.
    stratify : DNDarray or array_like, shape (n,), optional
        Classes that both parts hold in the proportions of all rows.

    Returns
    -------
    list of DNDarray
        ``[train, test]`` of the first array, of the second, ...; each keeps its split.

    *Distribution*: rows that lie on another rank than the one they go to are sent once, with one exchange of indices
    for an array split along its rows; nothing for the other splits. With `stratify`: the messages of
    ``ht_core.unique`` and two of k numbers, besides. Collective.

    Raises
    ------
    LayoutError
        If the arrays have not the same number of rows, at least 2.
    ValueError
        If a size is out of range, or a class of `stratify` has fewer than 2 rows; the same on every rank.

    Examples
    --------
    >>> import ht_core as ht
    >>> X = ht.arange(8, split=0)
    >>> train, test = train_test_split(X, test_size=2, random_state=0)
    >>> train.shape, test.shape, sorted([*train.numpy(), *test.numpy()]) == list(range(8))
    ((6,), (2,), True)
    """
    op = "train_test_split"
    if not arrays:
        raise ValueError(f"{op}: arrays must hold at least one array, got none")
    tables = [given(op, "arrays", a) for a in arrays]
    n = tables[0].shape[0] if tables[0].ndim else 0
    for a in tables:
        if a.ndim == 0 or a.shape[0] != n or n < 2:
            raise LayoutError(
                f"{op}: arrays must all have the same number of rows, at least 2, got shape {a.shape}"
            )
    n_train, n_test = _part_sizes(op, n, train_size, test_size)
    if stratify is not None and not shuffle:
        raise ValueError(f"{op}: stratify must be None without shuffle, got classes")
    if not shuffle:
        parts = [(a[:n_train], a[n_train : n_train + n_test]) for a in tables]
        return [part for pair in parts for part in pair]
    seed = resolve_seed(op, random_state)
    chosen: dict[bool, tuple[DNDarray, DNDarray]] = {}
    if stratify is not None:
        y = given(op, "stratify", stratify, tables[0].comm)
        chosen[y.split == 0] = _stratified(op, y, n_train, n_test, seed)
    order = Permutation(n, (seed, 0))
    found = []
    for a in tables:
        spread = a.split == 0
        if spread not in chosen and stratify is None:
            chosen[spread] = (
                _places(order, n_test, n_train, a, spread),
                _places(order, 0, n_test, a, spread),
            )
        elif spread not in chosen:
            other = chosen[not spread]
            chosen[spread] = tuple(part.resplit(0 if spread else None) for part in other)
        found += [take(a, indices, axis=0) for indices in chosen[spread]]
    return found


def _places(order: Permutation, start: int, count: int, like: DNDarray, spread: bool) -> DNDarray:
    """Return what stands at `count` places of a permutation, split evenly or replicated; no message."""
    layout = Layout.even((count,), 0 if spread else None, like.comm.size)
    begin = start + (layout.displs[like.comm.rank] if spread else 0)
    own = order.image(torch.arange(begin, begin + layout.lshape(like.comm.rank)[0]))
    return DNDarray(own.to(like.larray.device), layout, like.comm)


def _stratified(op: str, y: DNDarray, n_train: int, n_test: int, seed: int) -> tuple[DNDarray, DNDarray]:
    """Return the indices of the train and test rows, ascending, cut as `y` is."""
    rows = _one_per_row(op, y)
    strata = _Strata(op, y, rows)
    counts = strata.counts
    if counts.min() < 2 or min(n_train, n_test) < len(counts):
        raise ValueError(
            f"{op}: stratify must hold at least 2 rows of each class, and both parts a row of each, got "
            f"{int(counts.min())} of the rarest of {len(counts)} classes for {n_train} and {n_test} rows"
        )
    tests = _shares(counts, n_test)
    trains = _shares(counts - tests, n_train)
    places = strata.places(seed)
    tests, trains = torch.from_numpy(tests)[strata.codes], torch.from_numpy(trains)[strata.codes]
    is_test = places < tests
    is_train = (places >= tests) & (places < tests + trains)
    device = rows.local.device
    return flatnonzero(rows.column(is_train.to(device))), flatnonzero(rows.column(is_test.to(device)))


def _shares(counts: np.ndarray, total: int) -> np.ndarray:
    """Return integers of the given sum in proportion to the counts, the largest remainders rounded up."""
    exact = counts * (total / counts.sum())
    shares = np.floor(exact).astype(np.int64)
    largest = np.argsort(-(exact - shares).round(9), kind="stable")
    shares[largest[: total - shares.sum()]] += 1
    return shares


def _part_sizes(op: str, n: int, train: Any, test: Any) -> tuple[int, int]:
    """Return the numbers of rows to train and to test: a share is rounded up for the test, down to train."""
    sizes = []
    for name, size, rounded in (("train_size", train, math.floor), ("test_size", test, math.ceil)):
        if size is None:
            sizes.append(None)
        elif isinstance(size, Integral) and not isinstance(size, bool) and 0 < size < n:
            sizes.append(int(size))
        elif isinstance(size, Real) and not isinstance(size, (bool, Integral)) and 0.0 < size < 1.0:
            sizes.append(rounded(float(size) * n))
        else:
            raise ValueError(f"{op}: {name} must be a share in (0, 1) or an int in [1, {n}), got {size!r}")
    n_train, n_test = sizes
    if n_test is None:
        n_test = math.ceil(0.25 * n) if n_train is None else n - n_train
    n_train = n - n_test if n_train is None else n_train
    if n_train < 1 or n_test < 1 or n_train + n_test > n:
        raise ValueError(
            f"{op}: train_size and test_size must leave rows for both, {n} in all, got {n_train} and {n_test}"
        )
    return n_train, n_test


def _even_sizes(n: int, k: int) -> np.ndarray:
    return n // k + (np.arange(k) < n % k)


def _fold_of(places: torch.Tensor, sizes: np.ndarray) -> torch.Tensor:
    """Return the fold of each place, where the folds take consecutive places of the given sizes."""
    return torch.bucketize(places, torch.from_numpy(np.cumsum(sizes)), right=True)


def _one_per_row(op: str, X: Any) -> Rows:
    """Return where the rows of `X` lie, for arrays of any number of dimensions; no message."""
    from ht_comm import SerialComm

    X = given(op, "X", X)
    if X.ndim == 0:
        raise LayoutError(f"{op}: X must have rows, got shape {X.shape}")
    n = X.shape[0]
    if X.split == 0:
        local = torch.empty((X.larray.shape[0], 0), device=X.larray.device)
        layout = Layout((n,), 0, X.layout.counts)
        return Rows(local, X.comm, X.layout.displs[X.comm.rank], n, X.comm, layout)
    local = torch.empty((n, 0), device=X.larray.device)
    return Rows(local, SerialComm(), 0, n, X.comm, Layout.replicated((n,)))
