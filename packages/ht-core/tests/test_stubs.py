import importlib.util
from pathlib import Path

TOOL = Path(__file__).parents[1] / "tools" / "generate_stubs.py"


def test_committed_stubs_are_what_the_registry_gives():
    spec = importlib.util.spec_from_file_location("generate_stubs", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.TARGET.read_text() == tool.stubs(), "run python tools/generate_stubs.py"
