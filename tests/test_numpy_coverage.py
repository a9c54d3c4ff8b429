"""The table of NumPy's names in the documentation is what the packages and their tests say."""

from __future__ import annotations

import functools
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "packages" / "ht-core" / "tools" / "generate_numpy_coverage.py"


def _tool():
    spec = importlib.util.spec_from_file_location("generate_numpy_coverage", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@functools.cache
def _page() -> str:
    """Return the page as a process of its own writes it: names that other tests look up would show in this one."""
    code = f"import runpy; print(runpy.run_path({str(SCRIPT)!r})['text'](), end='')"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_committed_table_is_current():
    tool = _tool()
    committed, current = tool.TARGET.read_text(), _page()
    version = ".".join(np.__version__.split(".")[:2])
    if f"NumPy {version}." in committed:
        assert committed == current, "run python packages/ht-core/tools/generate_numpy_coverage.py"
    else:  # another NumPy has other names; what worked must still do
        rows = re.findall(r"^\| `(\w+)` \| \S+/tests/", committed, re.MULTILINE)
        assert [n for n in rows if tool.evidence(n) is None] == []


def test_shares_are_what_was_promised():
    current = _page()
    shares = dict(re.findall(r"^\| `([\w.]+)` \|.*\| ([\d.]+) % \|$", current, re.MULTILINE))
    assert float(shares["numpy"]) >= 95
    assert float(shares["numpy.random"]) >= 95


def test_untested_names_do_not_count():
    tool = _tool()
    assert tool.evidence("add").endswith("test_operations.py")
    assert tool.evidence("no_such_function") is None
    assert tool.state("ndenumerate", tool.ht)[0] == "not applicable"
