"""Write ``docs/numpy_coverage.md``: which of NumPy's public names exist here, distributed and tested.

Run ``python packages/ht-core/tools/generate_numpy_coverage.py`` with all wheels installed; a test compares the
committed file. A name counts as working if it is a name of ours and a test runs it: the property tests run every row
of their kind (`PROPERTY_TESTS`); for all other functions a test file that works on several ranks must call them.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import ht_core as ht
import ht_linalg
import numpy as np

ROOT = Path(__file__).resolve().parents[3]
TARGET = ROOT / "docs" / "numpy_coverage.md"

#: Kinds of rows of which one property test runs every row, at 1 to 5 ranks and in every layout.
PROPERTY_TESTS = {
    "elementwise": "ht-core/tests/test_operations.py",
    "reduction": "ht-core/tests/test_reductions.py",
    "scan": "ht-core/tests/test_scans.py",
}

#: Functions of dtypes and Python objects, which have no distribution.
METADATA_TESTS = dict.fromkeys(
    ["common_type", "isscalar", "issubdtype", "min_scalar_type"], "ht-core/tests/array_api/test_data_types.py"
)

#: Why names do not apply to distributed arrays, by class.
NOT_APPLICABLE = {
    "strings, dates, records and Python objects: no arithmetic, no torch dtype": """
        bytes_ char character busday_count busday_offset busdaycalendar datetime64 datetime_as_string datetime_data
        is_busday isnat object_ rec recarray record str_ strings timedelta64 void""",
    "reading and writing files: ht-io does this in parallel (`ht.load`, `ht.save`, `load_npy`, `load_csv`, ...)": """
        fromfile fromregex fromstring genfromtxt load loadtxt memmap save savetxt savez savez_compressed""",
    "the matrix class, which NumPy itself advises against": "asmatrix bmat matrix",
    "coefficients of polynomials: short vectors, to which `numpy.polynomial` applies": """
        poly poly1d polyadd polyder polydiv polyfit polyint polymul polynomial polysub roots""",
    "text of single numbers": "base_repr binary_repr format_float_positional format_float_scientific",
    "iterating over single elements: one message for each": """
        broadcast flatiter ndenumerate ndindex nditer nested_iters""",
    "floating-point error state: torch has none": """
        errstate getbufsize geterr geterrcall setbufsize seterr seterrcall""",
    "extended precision: torch has none": "clongdouble complex256 float128 longdouble",
    "NumPy's machinery of dtypes and ufuncs": """
        ScalarType dtypes frompyfunc mintypecode sctypeDict typecodes typename ufunc""",
    "sub-packages of NumPy with another purpose": """
        core ctypeslib emath exceptions f2py lib ma testing typing""",
    "facts of the NumPy installation": "get_include little_endian show_config show_runtime test",
    "NumPy's generators of bits and their seeding: there is one generator here, indexed by position": """
        BitGenerator MT19937 PCG64 PCG64DXSM Philox RandomState SFC64 SeedSequence bit_generator get_bit_generator
        mtrand set_bit_generator""",
}
REASONS = {name: reason for reason, names in NOT_APPLICABLE.items() for name in names.split()}

#: NumPy's namespace, ours, and the wheel whose tests count.
NAMESPACES = [
    ("numpy", np, ht),
    ("numpy.linalg", np.linalg, ht_linalg),
    ("numpy.fft", np.fft, ht.fft),
    ("numpy.random", np.random, ht.random),
]


def public_names(module: object) -> list[str]:
    """Return the public names of a module, without what it imported from the standard library."""
    return sorted(n for n in dir(module) if not n.startswith("_"))


@cache
def distributed_tests() -> dict[str, str]:
    """Return the text of each test file that works on several ranks, by its path below ``packages``."""
    found = {}
    for path in sorted((ROOT / "packages").glob("*/tests/**/*.py")):
        text = path.read_text()
        if re.search(r"\bspmd\(|\bmark\.mpi\b|\bin_every_mode\(", text):
            found[path.relative_to(ROOT / "packages").as_posix()] = text
    return found


@cache
def evidence(name: str) -> str | None:
    """Return the test file that runs the function `name` distributed, or None."""
    row = ht.OPERATIONS.get(name)
    if row is not None and row.kind in PROPERTY_TESTS and row.numpy:
        return PROPERTY_TESTS[row.kind]
    if name in METADATA_TESTS:
        return METADATA_TESTS[name]
    names = [name] if row is None else sorted({name, row.name})
    either = "|".join(map(re.escape, names))
    # ht.name, linalg.name, array.name(...) or "name" in a table of cases; np.name is the expected value, not the call
    modules = "ht|la|linalg|signal|fft|random"
    calls = (
        rf"\b(?:{modules})(?:\.\w+)?\.(?:{either})\b",
        rf"(?<!\bnp)\.(?:{either})\(",
        rf"[\"'](?:{either})[\"']",
    )
    call = re.compile("|".join(calls))
    return next((path for path, text in distributed_tests().items() if call.search(text)), None)


def state(name: str, ours: object) -> tuple[str, str]:
    """Return ("working", test), ("not applicable", reason) or ("missing", remark) of one of NumPy's names."""
    if hasattr(ours, name):
        found = getattr(ours, name)
        if not callable(found) or isinstance(found, (type, ht.types.dtype)):
            return "working", "a constant, dtype, class or namespace"
        test = evidence(name)
        return ("working", test) if test else ("missing", "present, but no test runs it distributed")
    if name in REASONS:
        return "not applicable", REASONS[name]
    return "missing", ""


def table(title: str, theirs: object, ours: object) -> tuple[list[str], str]:
    """Return the lines of one namespace's section, and its line of the summary."""
    states = {name: state(name, ours) for name in public_names(theirs)}
    groups = {
        kind: [n for n, s in states.items() if s[0] == kind]
        for kind in ("working", "not applicable", "missing")
    }
    applicable = len(groups["working"]) + len(groups["missing"])
    share = 100 * len(groups["working"]) / applicable if applicable else 100.0
    counts = [len(groups[k]) for k in ("working", "not applicable", "missing")]
    summary = f"| `{title}` | {len(states)} | {' | '.join(map(str, counts))} | {share:.1f} % |"
    lines = [f"## {title}", "", f"### Working: {counts[0]}", "", "| name | run distributed by |", "|---|---|"]
    lines += [f"| `{n}` | {states[n][1]} |" for n in groups["working"]]
    lines += ["", f"### Not applicable: {counts[1]}", ""]
    for reason in NOT_APPLICABLE:
        names = [f"`{n}`" for n in groups["not applicable"] if states[n][1] == reason]
        lines += [f"- {reason}: {', '.join(names)}"] if names else []
    lines += ["", f"### Missing: {counts[2]}", ""]
    lines += [f"- `{n}`" + (f": {states[n][1]}" if states[n][1] else "") for n in groups["missing"]]
    return [*lines, ""], summary


def text() -> str:
    """Return the page."""
    sections = [table(*namespace) for namespace in NAMESPACES]
    head = [
        "# NumPy's names",
        "",
        "Generated by `packages/ht-core/tools/generate_numpy_coverage.py`; do not edit. "
        f"NumPy {'.'.join(np.__version__.split('.')[:2])}.",
        "",
        "*Working* means that the name exists, with NumPy's meaning, for arrays split along any axis, and that the "
        "test named runs it on several ranks. The share is that of the names that apply to distributed arrays.",
        "",
        "| namespace | names | working | not applicable | missing | share of applicable |",
        "|---|---|---|---|---|---|",
        *(summary for _, summary in sections),
        "",
    ]
    return "\n".join([*head, *(line for lines, _ in sections for line in lines)]).rstrip("\n") + "\n"


if __name__ == "__main__":
    TARGET.write_text(text())
