"""No package imports a higher one, and what a wheel declares is what its code imports."""

from __future__ import annotations

import ast
import shutil
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
#: Layer -> siblings that its code may name. linalg and io stand side by side.
BELOW = {
    "ht_comm": set(),
    "ht_core": {"ht_comm"},
    "ht_linalg": {"ht_comm", "ht_core"},
    "ht_io": {"ht_comm", "ht_core"},
    "ht_ml": {"ht_comm", "ht_core", "ht_linalg", "ht_io"},
    "ht_meta": {"ht_comm", "ht_core", "ht_linalg", "ht_io", "ht_ml"},
}


def _imported(path: Path) -> set[str]:
    """Top-level names of all absolute imports in a file, wherever they stand."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


def find_violations(packages: Path) -> list[str]:
    """'ht_core/x.py imports ht_ml' for each import that points upwards."""
    found = []
    for layer, allowed in BELOW.items():
        source = packages / layer.replace("_", "-") / "src"
        for path in sorted((source / layer).rglob("*.py")):
            upwards = (_imported(path) & set(BELOW)) - allowed - {layer}
            found += [f"{path.relative_to(source)} imports {name}" for name in sorted(upwards)]
    return found


def _pyproject(layer: str) -> dict:
    path = ROOT / "packages" / layer.replace("_", "-") / "pyproject.toml"
    return tomllib.loads(path.read_text())["project"]


def test_no_package_imports_a_higher_one():
    assert find_violations(ROOT / "packages") == []


@pytest.mark.parametrize(
    ("layer", "statement", "named"),
    [
        ("ht_core", "import ht_ml", "ht_ml"),
        ("ht_io", "from ht_linalg import qr", "ht_linalg"),
        ("ht_comm", "def f():\n    import ht_core.layout", "ht_core"),
    ],
)
def test_a_planted_upward_import_is_found(tmp_path, layer, statement, named):
    shutil.copytree(ROOT / "packages", tmp_path / "packages", ignore=shutil.ignore_patterns("*.pyc"))
    source = tmp_path / "packages" / layer.replace("_", "-") / "src" / layer
    (source / "planted.py").write_text(statement + "\n")
    assert find_violations(tmp_path / "packages") == [f"{layer}/planted.py imports {named}"]


@pytest.mark.parametrize("layer", BELOW)
def test_siblings_that_the_code_imports_are_declared(layer):
    """Directly or through a declared sibling: ht-linalg may rely on ht-core's ht-comm."""
    declared, queue = set(), [layer]
    while queue:
        for text in _pyproject(queue.pop())["dependencies"]:
            name = text.split("[")[0].split(">")[0].split("=")[0].strip().replace("-", "_")
            if name in BELOW and name not in declared:
                declared.add(name)
                queue.append(name)
    source = ROOT / "packages" / layer.replace("_", "-") / "src" / layer
    imported = set().union(*(_imported(path) for path in source.rglob("*.py"))) & set(BELOW) - {layer}
    assert imported <= declared
    assert declared <= BELOW[layer]


def test_the_sessions_know_the_same_layers():
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    lower = next(
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and node.targets[0].id == "LOWER"
    )
    assert {f"ht_{name}": {f"ht_{other}" for other in others} for name, others in lower.items()} == BELOW
