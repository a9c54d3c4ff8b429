"""The Python code in the READMEs and the documentation runs as it stands, on one rank and on three.

The blocks of a page share their names, as they do for a reader. Before a block or at the top of a page:

``<!-- skip: reason -->``   the block is not run (it needs a GPU, or shows an error)
``<!-- ranks: 1, 3 -->``    first line of a page: its blocks also run on three ranks
"""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted(ROOT.glob("packages/*/README.md")), *sorted(ROOT.glob("docs/**/*.md"))]
BLOCK = re.compile(
    r"^(?P<mark><!-- skip: [^\n]* -->\n)?```python\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
SEVERAL = "<!-- ranks: 1, 3 -->\n"
FLAGS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _blocks(page: Path) -> list[tuple[int, str]]:
    """(line number, code) of every block that runs."""
    text = page.read_text()
    return [
        (text.count("\n", 0, match.start("code")), match["code"])
        for match in BLOCK.finditer(text)
        if match["mark"] is None
    ]


def _run(page: Path) -> None:
    names: dict = {"__name__": "__main__"}
    for line, code in _blocks(page):
        if ">>>" not in code:
            exec(compile("\n" * line + code, str(page), "exec"), names)
            continue
        test = doctest.DocTestParser().get_doctest(code, names, page.name, str(page), line)
        report: list[str] = []
        outcome = doctest.DocTestRunner(optionflags=FLAGS).run(test, out=report.append, clear_globs=False)
        names = test.globs
        assert outcome.failed == 0, "".join(report)


def _parameters(pages: list[Path]) -> list:
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages if _blocks(page)]


@pytest.mark.parametrize("page", _parameters(PAGES))
def test_page_on_one_rank(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _run(page)


@pytest.mark.mpi(ranks=[3])
@pytest.mark.parametrize("page", _parameters([page for page in PAGES if SEVERAL in page.read_text()]))
def test_page_on_three_ranks(page, comm, shared_tmp_path, monkeypatch):
    monkeypatch.chdir(shared_tmp_path)
    _run(page)


def test_links_between_files_lead_somewhere():
    broken = []
    pages = [*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks/README.md"]
    for page in pages:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not (page.parent / target).exists():
                broken.append(f"{page.relative_to(ROOT)} -> {target}")
    assert broken == []
