"""Versions: each wheel has its own; the ranges between siblings admit the versions that stand here."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
WHEELS = ["ht-comm", "ht-core", "ht-linalg", "ht-io", "ht-ml", "ht-meta"]


@pytest.mark.parametrize("wheel", WHEELS)
def test_installed_version_is_that_of_the_source(wheel):
    name = wheel.replace("-", "_")
    source = (ROOT / "packages" / wheel / "src" / name / "_version.py").read_text()
    assert version(wheel) == re.search(r'__version__ = "(.+?)"', source).group(1)
    assert version(wheel) in (ROOT / "packages" / wheel / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("wheel", WHEELS)
def test_ranges_admit_the_siblings_of_this_tree(wheel):
    for requirement in map(Requirement, requires(wheel)):
        if requirement.name in WHEELS:
            assert requirement.specifier.contains(version(requirement.name)), requirement


def test_only_ht_meta_pins():
    for wheel in WHEELS:
        siblings = [r for r in map(Requirement, requires(wheel)) if r.name in WHEELS and r.marker is None]
        pinned = {r.name for r in siblings if any(s.operator == "==" for s in r.specifier)}
        assert pinned == (set(WHEELS) - {"ht-meta"} if wheel == "ht-meta" else set())


@pytest.mark.parametrize("wheel", WHEELS)
def test_metadata_is_complete(wheel):
    project = tomllib.loads((ROOT / "packages" / wheel / "pyproject.toml").read_text())["project"]
    assert project["license"] == "BSD-3-Clause"
    assert (ROOT / "packages" / wheel / project["readme"]).stat().st_size > 200
    assert (ROOT / "packages" / wheel / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
    assert (ROOT / "packages" / wheel / "src" / wheel.replace("-", "_") / "py.typed").exists()
