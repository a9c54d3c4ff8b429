"""pytest plugin: run tests marked `mpi` on groups of 1, 2, 3, 4 ranks from one ordinary pytest run.

A serial pytest collects, sorts and reports; the ranks live in one `mpiexec -n N` group that is kept while
tests need N ranks. This module holds what pytest must see at start-up: options, marker, parametrisation,
fixtures. It imports neither MPI nor torch, and loads `pytest_driver` only when a marked test was collected.
"""

import os

import pytest

from .pytest_items import RANKS, TOPOLOGY, item_ranks

DEFAULT_RANKS = (1, 2, 3, 4)


def parse_ranks(text):
    """Return the numbers of ranks named by `--np`, sorted and unique: `"3,1"` -> `(1, 3)`."""
    try:
        ranks = sorted({int(word) for word in text.split(",") if word.strip()})
    except ValueError:
        ranks = []
    if not ranks or ranks[0] < 1:
        raise pytest.UsageError(
            f"--np: value must be positive numbers with commas, got {text!r}: use --np 1,2,3"
        )
    return tuple(ranks)


def pytest_addoption(parser):
    """Declare the options; `None` for --np means that a marker's own list is taken as it is."""
    group = parser.getgroup("mpi", "tests on several ranks (ht-comm)")
    group.addoption(
        "--np", dest="mpi_np", metavar="N,N", default=None, help="ranks per test, default 1,2,3,4"
    )
    group.addoption(
        "--mpi-timeout",
        type=float,
        default=60.0,
        metavar="S",
        help="seconds a test may take (60), stacks follow",
    )
    group.addoption(
        "--mpi-grace",
        type=float,
        default=3.0,
        metavar="S",
        help="seconds the others get after a rank's failure (3)",
    )


def pytest_configure(config):
    """Declare the marker; a wrong --np is an error before anything is collected."""
    config.addinivalue_line(
        "markers", "mpi(ranks=[1, 2, 3, 4], timeout=60): run the test on each of these numbers of ranks"
    )
    if config.getoption("mpi_np") is not None:
        parse_ranks(config.getoption("mpi_np"))


@pytest.hookimpl(trylast=True)  # last: the id ends with np, as in test_sum[float32-np2]
def pytest_generate_tests(metafunc):
    """Add the parameter np1, np2, ... to functions marked `mpi`."""
    marker = metafunc.definition.get_closest_marker("mpi")
    if marker is None:
        return
    ranks = _marked_ranks(marker, metafunc.definition.nodeid)
    if ranks is None:
        text = metafunc.config.getoption("mpi_np")
        ranks = DEFAULT_RANKS if text is None else parse_ranks(text)
    topology = metafunc.config.stash.get(TOPOLOGY, None)
    if topology is not None:  # a worker makes the items of its own group only
        ranks = [n for n in ranks if n == topology["size"]]
    metafunc.fixturenames.append(RANKS)
    metafunc.parametrize(RANKS, ranks, ids=[f"np{n}" for n in ranks], indirect=True)


def _marked_ranks(marker, nodeid):
    if marker.args or set(marker.kwargs) - {"ranks", "timeout"}:
        raise pytest.UsageError(
            f"{nodeid}: mpi takes ranks= and timeout= only: use @pytest.mark.mpi(ranks=[2, 3])"
        )
    ranks = marker.kwargs.get("ranks")
    if ranks is None:
        return None
    ranks = (ranks,) if isinstance(ranks, int) else tuple(sorted(set(ranks)))
    if not ranks or not all(isinstance(n, int) and n >= 1 for n in ranks):
        raise pytest.UsageError(f"{nodeid}: ranks must be positive integers, got {marker.kwargs['ranks']!r}")
    return ranks


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(session, config, items):
    """Drop numbers of ranks that --np leaves out, sort by ranks (stable), and start the driver if needed."""
    if config.stash.get(TOPOLOGY, None) is not None:
        return
    text = config.getoption("mpi_np")
    if text is not None:
        wanted = {None, *parse_ranks(text)}
        dropped = [item for item in items if item_ranks(item) not in wanted]
        if dropped:
            config.hook.pytest_deselected(items=dropped)
            items[:] = [item for item in items if item_ranks(item) in wanted]
    items.sort(key=lambda item: item_ranks(item) or 0)
    marked = [item for item in items if item.get_closest_marker("mpi") is not None]
    if marked and not config.getoption("collectonly"):
        from .pytest_driver import Driver

        config.pluginmanager.register(Driver(config, marked), "ht_comm_mpi_driver")


@pytest.fixture
def _mpi_ranks(request):
    return request.param


@pytest.fixture
def comm(request):
    """Return `ht_comm.world()`; under the marker its size is checked against the number of ranks started."""
    from . import world

    communicator = world()
    topology = request.config.stash.get(TOPOLOGY, None)
    started = 1 if topology is None else topology["size"]
    if communicator.size != started:
        pytest.fail(
            f"comm: ht_comm.world() must have the {started} rank(s) started, got {communicator.size}: "
            "mpiexec and the MPI library that mpi4py loads differ; set HT_MPIEXEC to the library's own "
            f"(now {os.environ.get('HT_MPIEXEC') or 'found by search'})",
            pytrace=False,
        )
    return communicator


@pytest.fixture
def shared_tmp_path(request):
    """Return a fresh directory, the same path on all ranks of a test; no message is sent to agree on it."""
    topology = request.config.stash.get(TOPOLOGY, None)
    if topology is None:
        return request.getfixturevalue("tmp_path")
    return topology["shared"]
