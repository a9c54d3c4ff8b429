"""What is collected: without torch nothing that needs it, and messages beyond 2**31 elements only with --large."""

import importlib.util

OF_TORCH = [f"test_{name}.py" for name in ("autograd", "device", "exchange", "tape", "threads", "torchpg")]
collect_ignore = [] if importlib.util.find_spec("torch") else OF_TORCH


def pytest_addoption(parser):
    parser.addoption(
        "--large",
        action="store_true",
        help="ht-comm: messages of more than 2**31 elements, too (9 GiB of memory)",
    )


def pytest_configure(config):
    config.addinivalue_line("markers", "large: run with --large only")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("large"):
        left_out = [item for item in items if item.get_closest_marker("large")]
        if left_out:
            config.hook.pytest_deselected(items=left_out)
            items[:] = [item for item in items if not item.get_closest_marker("large")]
