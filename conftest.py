"""What the tests of all packages share: the device they run on."""

from __future__ import annotations

import importlib.util

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--device", default="cpu", choices=["cpu", "gpu"], help="where arrays are made (cpu)")


def pytest_configure(config: pytest.Config) -> None:
    """Make it the default of ht_core, where that is installed: ht-comm alone has no device to choose."""
    if config.getoption("device", "cpu") == "gpu" and importlib.util.find_spec("ht_core"):
        import ht_core

        ht_core.use_device("gpu")


@pytest.fixture
def device(request: pytest.FixtureRequest) -> str:
    """Name of the torch device of this run: "cpu" or "cuda"."""
    return {"cpu": "cpu", "gpu": "cuda"}[request.config.getoption("device", "cpu")]
