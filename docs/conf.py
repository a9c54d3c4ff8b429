"""Sphinx configuration: guide in Markdown, reference from the docstrings."""

import re

from ht_meta import __version__

project = "ht"
copyright = "the ht developers"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary", "sphinx.ext.napoleon"]
napoleon_custom_sections = [("Distribution", "notes_style")]
napoleon_google_docstring = False
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
autodoc_typehints = "none"  # the docstrings say it, with shapes
autodoc_member_order = "bysource"
suppress_warnings = [
    "ref.python"
]  # "shape" and "dtype" in the type of an argument are words, not names of one class
exclude_patterns = ["requirements.txt", "_generated"]
html_theme = "pydata_sphinx_theme"
html_theme_options = {"show_toc_level": 2}


def _write_operations(app):
    """A table of all operations from the registry, for reference/core.md."""
    from pathlib import Path

    import ht_core

    rows = {}
    for name, row in ht_core.OPERATIONS.items():
        rows.setdefault(id(row), (row, []))[1].append(name)
    lines = []
    for kind in sorted({row.kind for row, _ in rows.values()}):
        lines += [f"### {kind}", "", "| names | NumPy | what it sends |", "|---|---|---|"]
        for row, names in sorted(rows.values(), key=lambda entry: entry[0].name):
            if row.kind == kind:
                shown = [f"*{name}*" if hasattr(ht_core.DNDarray, name) else name for name in names]
                lines.append(f"| {', '.join(shown)} | {row.numpy or ''} | {row.cost} |")
        lines.append("")
    folder = Path(app.srcdir) / "_generated"
    folder.mkdir(exist_ok=True)
    (folder / "operations.md").write_text("\n".join(lines))


def _escape_fitted_names(app, what, name, obj, options, lines):
    """`n_iter_` is the name of a result in a docstring and a hyperlink in reStructuredText."""
    for number, line in enumerate(lines):
        if not line.lstrip().startswith((">>>", "...")):
            lines[number] = re.sub(r"(?<![`\w])(\w+)_(?![`\w])", r"\1\\_", line)


def setup(app):
    """Register the generator and the repair of docstrings."""
    app.connect("builder-inited", _write_operations)
    app.connect("autodoc-process-docstring", _escape_fitted_names, priority=900)  # after napoleon
