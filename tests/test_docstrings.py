"""The examples in the docstrings of all packages give what they say, on one rank and on three.

The names `ht` (ht_meta), `np` and `torch` are known to every example.
"""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import ht_meta
import numpy as np
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _modules_with_examples() -> list[str]:
    """Dotted names of the modules whose text holds a prompt; found without importing anything."""
    names = []
    for source in sorted(ROOT.glob("packages/*/src")):
        for path in sorted(source.rglob("*.py")):
            if ">>> " in path.read_text() and path.name != "__main__.py":
                parts = path.relative_to(source).with_suffix("").parts
                names.append(".".join(part for part in parts if part != "__init__"))
    return names


@pytest.mark.mpi(ranks=[1, 3])
@pytest.mark.parametrize("name", _modules_with_examples())
def test_docstring_examples(name, comm, shared_tmp_path, monkeypatch):
    monkeypatch.chdir(shared_tmp_path)
    module = importlib.import_module(name)
    report: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    known = {"ht": ht_meta, "np": np, "torch": torch}
    for test in doctest.DocTestFinder(exclude_empty=True).find(module, extraglobs=known):
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)
