"""Checked mode: before each collective the ranks compare what they are about to call.

A call that does not match the others' leads MPI to wait for ever, to an error on some ranks or, worse, to a wrong
result on one. Here it raises the same `CommError` on all ranks, which lists each rank's call and its line.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from .current import get_comm
from .guard import Guard, attach


@contextmanager
def checked(*, sites: bool = True) -> Iterator[None]:
    """Compare the calls of the ranks before each collective of the current communicator, within the block.

    Communicators split from it, and the one it was split from, are checked as well. ``HT_COMM_CHECK=1`` or
    ``config.check = True`` check everything.

    Parameters
    ----------
    sites : bool
        Whether a call must be made from the same line of the program on all ranks (but for calls with a root and
        `agree`, which stand in branches by right).

    Raises
    ------
    CommError
        From the collective that does not match; the same on all ranks, with each rank's call and its line.

    Distribution
    ------------
    Collective: all ranks enter and leave at the same point. One more message of 16 bytes for each collective.
    A non-blocking collective is compared together with the next one that blocks.

    Examples
    --------
    >>> import numpy as np, ht_comm
    >>> def body(comm):
    ...     with ht_comm.checked():
    ...         comm.allreduce(np.ones(4 + comm.rank // 2))
    >>> try:
    ...     ht_comm.spmd(3, body)
    ... except ht_comm.CommError as error:
    ...     print(str(error)[:36])
    checked: the calls of all ranks must
    """
    ledger = get_comm()._ledger
    previous = ledger.guard
    guard = Guard(True if sites else "calls", None if previous is None else previous.timeout)
    attach(ledger, guard)
    try:
        yield
    finally:
        attach(ledger, previous)
