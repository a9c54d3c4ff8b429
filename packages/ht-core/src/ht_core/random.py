"""``ht.random``: the functions of one default generator, under NumPy's names.

The default generator starts from seed 0 and counts its calls; ``seed(None)`` makes it unpredictable. It is one per
process. Inside ``ht_comm.spmd``, where ranks are threads, each rank counts for itself: it starts from the state the
process has at that time and does not change it, so that ``ht.random.seed(1)`` before ``spmd`` holds for all ranks,
and the ranks draw alike for any number of them.
"""

from __future__ import annotations

import functools
import inspect
import threading
import weakref

from ht_comm import Communicator, get_comm

from .dndarray import DNDarray
from .generator import Generator, _checked_seed

_PROCESS = Generator(0)
_ranks = threading.local()


def default_rng(seed: int | Generator | None = None, *, comm: Communicator | None = None) -> Generator:
    """Return a generator with the given seed, or the given generator.

    Parameters
    ----------
    seed : int, Generator or None
        None draws a seed from the operating system: one broadcast of 8 bytes.
    comm : Communicator, optional
        The ranks that hold its arrays unless a call says otherwise.
    """
    return seed if isinstance(seed, Generator) else Generator(seed, comm=comm)


def get_generator() -> Generator:
    """Return the default generator of this process, or of this rank inside ``spmd``. No message."""
    # The lifetime of an spmd call is that of the generators of its ranks.
    world = get_comm().job
    if world is None:
        return _PROCESS
    try:
        own = _ranks.generators
    except AttributeError:
        own = _ranks.generators = weakref.WeakKeyDictionary()
    if world not in own:
        own[world] = Generator(0)
        own[world].set_state(_PROCESS.get_state())
    return own[world]


def seed(seed: int | None = None) -> None:
    """Seed the default generator. Every rank must call it, with the same seed.

    Parameters
    ----------
    seed : int or None
        In [0, 2**64); None draws one from the operating system: one broadcast of 8 bytes.

    Raises
    ------
    ValueError, TypeError
        If `seed` is not such an integer.

    Examples
    --------
    >>> ht.random.seed(3)
    >>> first = ht.random.rand(4, split=0)
    >>> ht.random.seed(3)
    >>> bool((ht.random.rand(4) == first).all())
    True
    """
    generator = get_generator()
    state = generator.get_state()
    generator.set_state({**state, "seed": _checked_seed("seed", seed, None), "calls": 0})


def _of_default(method, name: str | None = None):
    """Return `method` of the default generator as a function with the same signature and docstring."""
    name = name or method.__name__

    @functools.wraps(method)
    def function(*args, **kwargs):
        return method(get_generator(), *args, **kwargs)

    signature = inspect.signature(method)
    function.__signature__ = signature.replace(parameters=list(signature.parameters.values())[1:])
    function.__module__, function.__name__, function.__qualname__ = __name__, name, name
    return function


get_state = _of_default(Generator.get_state)
set_state = _of_default(Generator.set_state)
# Every method that draws is a function, too.
_NOT_DRAWING = ("get_state", "set_state", "spawn", "jumped")
globals().update(
    {
        name: _of_default(method)
        for name, method in inspect.getmembers(Generator, inspect.isfunction)
        if not name.startswith("_") and name not in _NOT_DRAWING
    }
)
random = globals()["random"]
random_sample = ranf = sample = random


def rand(*d: int, dtype=None, split=None, device=None, comm=None) -> DNDarray:
    """Draw uniform variates from [0, 1) in the shape `d`; see :func:`random`. No message."""
    return get_generator().random(d, dtype, split=split, device=device, comm=comm)


def randn(*d: int, dtype=None, split=None, device=None, comm=None) -> DNDarray:
    """Draw standard normal variates in the shape `d`; see :func:`standard_normal`. No message."""
    return get_generator().standard_normal(d, dtype, split=split, device=device, comm=comm)


def randint(low, high=None, size=None, dtype="int64", *, split=None, device=None, comm=None) -> DNDarray:
    """Draw integers from [low, high); see :func:`integers`. No message."""
    return get_generator().integers(low, high, size, dtype, split=split, device=device, comm=comm)


random_integer = randint  # Heat's name
