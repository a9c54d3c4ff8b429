"""What the parts of the pytest plugin agree on: how an item carries its number of ranks, and a worker its place."""

import pytest

RANKS = "_mpi_ranks"  # name of the parameter that carries the number of ranks of one test item
TOPOLOGY = pytest.StashKey[dict]()  # set in workers: {"rank", "size", "shared": this test's common directory}


def item_ranks(item):
    """Return the number of ranks a test item runs on, `None` when it runs in the driver."""
    callspec = getattr(item, "callspec", None)
    return None if callspec is None else callspec.params.get(RANKS)


def function_id(collector, name):
    """Return the name of a test function, without parameters, that is the same in the driver and in the workers."""
    return f"{collector.nodeid}::{name}"
