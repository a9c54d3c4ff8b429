"""The mutation check of the engines is kept alive: what it replaces is still there. `tools/mutate.py` runs it."""

import runpy
from pathlib import Path

import ht_core
import pytest

ENGINES = runpy.run_path(str(Path(__file__).parents[1] / "tools" / "mutations.py"))["ENGINES"]


@pytest.mark.parametrize("engine", ENGINES)
def test_mutations_can_be_made(engine):
    tests, mutations = ENGINES[engine]
    assert mutations
    assert len({m.name for m in mutations}) == len(mutations)
    for test in tests:
        assert (Path(__file__).parent / test).exists()
    for m in mutations:
        assert m.old in (Path(ht_core.__file__).parent / m.file).read_text(), m.name
        assert m.old != m.new
