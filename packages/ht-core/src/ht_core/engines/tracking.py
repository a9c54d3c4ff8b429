"""Arrays that require a gradient: `TrackedArray`, and where in the graph a value comes from.

A tracked array is a `DNDarray` of another class. Therefore code that asks ``type(x) is DNDarray`` never takes its
fast path for one, and code for arrays that need no gradient pays nothing. Whether an array is tracked is a global
fact: every rank has the same class, also ranks without rows.

`TrackedArray.larray` refuses to be read while gradients are recorded: an operation without a rule of
differentiation raises an error that names the remedy, instead of silently losing the gradient. Metadata may be read
always.

This module knows nothing of how operations are recorded (``recording``) or differentiated (``backward``).
"""

from __future__ import annotations

import itertools
import weakref
from typing import TYPE_CHECKING, NamedTuple

import torch

from ..dndarray import DNDarray
from ..errors import DTypeError, GradientError
from ..layout import Layout

if TYPE_CHECKING:
    from ht_comm import Communicator

#: The local tensor of any array, tracked or not, without a question asked.
raw = DNDarray.__dict__["larray"].__get__
_set_raw = DNDarray.__dict__["larray"].__set__
_numbers = itertools.count()


class _Watch:
    """Whether any array has ever been tracked: until then nothing has to be looked for."""

    is_on = False


watch = _Watch()


class Leaf:
    """Where gradients end up: an array whose gradient the user asked for."""

    __slots__ = ("array", "order")
    edges = ()
    name = "leaf"

    def __init__(self, array: TrackedArray) -> None:
        self.array, self.order = weakref.ref(array), next(_numbers)


class Edge(NamedTuple):
    """A value in the graph: output `index` of `node`, which is a `Leaf` or a node of ``recording``."""

    node: object
    index: int


def _uncut(name: str) -> property:
    fget = getattr(DNDarray, name).fget
    return property(lambda self: fget(untracked(self)), doc=getattr(DNDarray, name).__doc__)


class TrackedArray(DNDarray):
    """A distributed array that requires a gradient; made by ``x.requires_grad_()`` and by operations on such arrays."""

    __slots__ = ()
    __module__ = "ht_core"

    @property
    def larray(self) -> torch.Tensor:
        """This rank's part. Not to be read while gradients are recorded: what is made of it would have none."""
        if torch.is_grad_enabled():
            raise GradientError(
                "larray: the array must not require a gradient here, got one that does: the operation has no "
                "derivative; use x.detach() or ht.no_grad()"
            )
        return raw(self)

    @larray.setter
    def larray(self, local: torch.Tensor) -> None:
        _set_raw(self, local)

    # -- metadata and leaving the distributed world: as without a gradient

    lshape, lnumel, dtype, itemsize, nbytes, gnbytes, lnbytes, device = map(
        _uncut, ("lshape", "lnumel", "dtype", "itemsize", "nbytes", "gnbytes", "lnbytes", "device")
    )

    def numpy(self):
        """Return the values of the global array as a NumPy array on every rank; see ``DNDarray.numpy``."""
        return untracked(self).numpy()

    def item(self, *args: int):
        """Return an element as a Python scalar; see ``DNDarray.item``."""
        return untracked(self).item(*args)

    def tolist(self) -> list:
        """Return the values of the global array as nested lists; see ``DNDarray.tolist``."""
        return untracked(self).tolist()

    def __array__(self, dtype: object = None, copy: bool | None = None):
        return untracked(self).__array__(dtype, copy)

    def __iter__(self):
        if not self.shape:
            raise TypeError("iter: a 0-D array cannot be iterated over")
        # One message for the whole loop instead of one per element.
        rows = self.resplit(None) if self.split == 0 else self
        return (rows[i] for i in range(self.shape[0]))

    def __copy__(self) -> DNDarray:
        return snapshot(self)

    def __deepcopy__(self, memo: dict) -> DNDarray:
        _require_leaf(self, "deepcopy")
        made = track(untracked(self).copy())
        if self.grad is not None:
            made.grad = self.grad.copy()
        return made

    def __reduce__(self):
        _require_leaf(self, "pickle")
        return _unpickle_leaf, (untracked(self),)


def _unpickle_leaf(x: DNDarray) -> DNDarray:
    return track(x)


def _require_leaf(x: TrackedArray, op: str) -> None:
    if not is_leaf(x):
        raise GradientError(f"{op}: the array must not be the result of recorded operations; use x.detach()")


def is_tracked(*values: object) -> bool:
    """Tell whether a value is an array that requires a gradient and gradients are recorded; looks into sequences."""
    return watch.is_on and torch.is_grad_enabled() and any(map(_holds_tracked, values))


def _holds_tracked(value: object) -> bool:
    if isinstance(value, DNDarray):
        return type(value) is TrackedArray
    if isinstance(value, (tuple, list)):
        return any(map(_holds_tracked, value))
    return isinstance(value, dict) and any(map(_holds_tracked, value.values()))


def untracked(x: DNDarray) -> DNDarray:
    """Return the same values, in the same memory, as an array without a gradient."""
    return x if type(x) is DNDarray else DNDarray(raw(x), x.layout, x.comm)


def made_by(local: torch.Tensor, layout: Layout, comm: Communicator, edge: Edge) -> TrackedArray:
    """Return a tracked array that is the value of `edge`."""
    made = TrackedArray(local, layout, comm)
    made._edge = edge
    return made


def snapshot(x: DNDarray) -> DNDarray:
    """Return another object for the same value; what becomes of `x` later does not concern it."""
    if type(x) is DNDarray:
        return DNDarray(raw(x), x.layout, x.comm)
    return made_by(raw(x), x.layout, x.comm, x._edge)


def track(x: DNDarray, op: str = "requires_grad_") -> DNDarray:
    """Make an array a leaf that collects its gradient; return it.

    Raises
    ------
    DTypeError
        If it is neither real floating nor complex.
    """
    if type(x) is TrackedArray:
        return x
    if x.dtype.kind not in "fc":
        raise DTypeError(
            f"{op}: the array must be floating or complex, got {x.dtype}; cast with astype first"
        )
    watch.is_on = True
    x.__class__ = TrackedArray
    x._edge = Edge(Leaf(x), 0)
    return x


def is_leaf(x: DNDarray) -> bool:
    """Tell whether no recorded operation made the array."""
    return type(x) is DNDarray or type(x._edge.node) is Leaf


def become(x: DNDarray, value: DNDarray, op: str) -> DNDarray:
    """Make `x` the array `value`: what an operation in place does to an array while gradients are recorded.

    Raises
    ------
    GradientError
        If `x` is a leaf: its gradient would be that of a value it does not have any more.
    """
    if type(x) is TrackedArray and is_leaf(x):
        raise GradientError(
            f"{op}: an array that requires a gradient must not be changed in place while gradients are recorded; "
            "use ht.no_grad()"
        )
    if value is x:
        return x
    x.__class__ = type(value)
    _set_raw(x, raw(value))
    x.layout = value.layout
    if type(value) is TrackedArray:
        x._edge = value._edge
    return x
