"""One verdict out of what the ranks report: a test passes when it passes on every rank.

Pure: reports in, reports out. Equal failures are shown once with the ranks that had them; ranks that disagree
(one skipped, one passed) have failed.
"""

import re
from dataclasses import dataclass, field

from _pytest.reports import TestReport

PHASES = ("setup", "call", "teardown")
_OWN = re.compile(r"0x[0-9a-f]{4,}|\brank[ =]\d+")  # what differs between ranks whose failures are the same


@dataclass
class Crash:
    """Where a failure happened, as pytest's short summary and --tb=line read it."""

    path: str
    lineno: int
    message: str

    def __str__(self):
        return f"{self.path}:{self.lineno}: {self.message}"


@dataclass
class Part:
    """One failure: the ranks that had it, and its text or pytest's own coloured form of it."""

    ranks: list
    shown: object
    key: object
    message: str
    path: str = ""
    lineno: int = 0


@dataclass
class MergedFailure:
    """The `longrepr` of a merged report."""

    size: int
    parts: list = field(default_factory=list)
    notes: list = field(default_factory=list)

    @property
    def reprcrash(self):
        """Return the first failure's place, with its ranks in front of the message."""
        part = self.parts[0]
        return Crash(part.path, part.lineno, f"[{name_ranks(part.ranks, self.size)}] {part.message}")

    def toterminal(self, tw):
        """Write all parts to pytest's terminal writer."""
        for part in self.parts:
            tw.sep("-", f"{name_ranks(part.ranks, self.size)} of {self.size}", bold=True)
            if hasattr(part.shown, "toterminal"):
                part.shown.toterminal(tw)
            else:
                for line in str(part.shown).splitlines():
                    tw.line(line)
        for note in self.notes:
            tw.line(note)

    def __str__(self):
        lines = []
        for part in self.parts:
            lines += [f"---- {name_ranks(part.ranks, self.size)} of {self.size} ----", str(part.shown)]
        return "\n".join(lines + self.notes)


def name_ranks(ranks, size):
    """Return "rank 1", "ranks 0, 2" or "all ranks"."""
    if len(ranks) == size and size > 1:
        return "all ranks"
    return ("rank " if len(ranks) == 1 else "ranks ") + ", ".join(str(rank) for rank in sorted(ranks))


def kind_of(report):
    """Return passed, failed, skipped, xfailed or xpassed."""
    if hasattr(report, "wasxfail"):
        return {"skipped": "xfailed", "passed": "xpassed"}.get(report.outcome, report.outcome)
    return report.outcome


def describe(report):
    """Return a report's kind, with the reason of a skip."""
    reason = report.longrepr[2] if report.skipped and isinstance(report.longrepr, tuple) else ""
    return f"{kind_of(report)}{': ' if reason else ''}{reason.removeprefix('Skipped: ')}"


def failure_part(rank, report):
    """Return the `Part` of one rank's failed report."""
    longrepr = report.longrepr
    crash = getattr(longrepr, "reprcrash", None)
    text = report.longreprtext
    entries = getattr(getattr(longrepr, "reprtraceback", None), "reprentries", None)
    if entries is None:
        key = text
    else:  # without the arguments' reprs, which name the rank in comm = MPIComm(rank=1, ...)
        key = "\n".join(line for e in entries for line in [*e.lines, str(getattr(e, "reprfileloc", ""))])
    message = crash.message if crash else (text.strip().splitlines() or ["failed"])[-1]
    path, lineno = (crash.path, crash.lineno) if crash else report.location[:2]
    return Part([rank], longrepr if longrepr else text, _OWN.sub("", key), message, str(path), lineno or 0)


def merge_parts(parts):
    """Join parts of equal text; keep the order of first ranks."""
    merged = {}
    for part in parts:
        if part.key in merged:
            merged[part.key].ranks += part.ranks
        else:
            merged[part.key] = part
    return list(merged.values())


def cut_stack(text):
    """Cut faulthandler's text to the test: no frames of pytest below it, no thread of the machinery."""
    head, blocks = [], []
    for line in text.splitlines():
        if line.startswith(("Thread 0x", "Current thread 0x")):
            blocks.append([line])
        elif not line.startswith("  File ") and line.strip():
            head += [line] if not blocks and "(most recent call first)" not in line else []
        elif blocks:
            blocks[-1].append(line)
    kept = []
    for header, *frames in blocks:
        ours = []
        for frame in frames:
            if "/_pytest/" in frame or "/pluggy/" in frame:
                break
            ours.append(frame)
        is_listener = any("pytest_worker.py" in frame and frame.endswith(" in listen") for frame in ours)
        if any(frame.strip() for frame in ours) and not is_listener:
            kept += [header, *ours]
    return "\n".join(head + kept) if kept else text.strip()


def synthetic_part(rank, attempt, location):
    """Return the `Part` of a rank that did not end: what happened to it and where it was."""
    stack = cut_stack(attempt.stack)
    stack = stack.removeprefix(attempt.problem.removeprefix("died: ")).strip()
    text = f"{attempt.problem}\n{stack}".strip()
    message = attempt.problem.splitlines()[0]
    key = (message, re.sub(r"[Tt]hread 0x\w+", "thread", stack))
    return Part([rank], text, key, message, location[0], (location[1] or 0) + 1)


def merge(item, size, attempts, reports, output=""):
    """Merge the ranks' reports of one test into the reports of one ordinary pytest test.

    Parameters
    ----------
    item : pytest.Item
        The driver's item: gives name, location and keywords.
    size : int
        Number of ranks.
    attempts : dict of int to Attempt
        What became of each rank.
    reports : dict of int to list of TestReport
        The reports each rank has sent.
    output : str
        mpiexec's output during the test; shown with failures.

    Returns
    -------
    list of TestReport
        setup, call and teardown as far as they were reached.
    """
    phases = {when: {} for when in PHASES}
    for rank, sent in reports.items():
        for report in sent:
            phases[report.when][rank] = report
    stuck = {when: {} for when in PHASES}
    for rank, attempt in attempts.items():
        if attempt.problem is not None:
            stuck[_reached(reports[rank])][rank] = synthetic_part(rank, attempt, item.location)
    # Causes first, then the ranks that only waited for them.
    order = sorted(attempts, key=lambda rank: (not attempts[rank].culprit, not attempts[rank].done, rank))

    result = []
    setup_parts = _failures("setup", phases, stuck, order)
    if setup_parts:
        call_parts = _failures("call", phases, stuck, order)
        result.append(_failed(item, "setup", setup_parts + call_parts, size, phases, output))
    else:
        _merge_good(item, size, phases, stuck, order, output, result)
    teardown_parts = _failures("teardown", phases, stuck, order)
    if teardown_parts:
        result.append(_failed(item, "teardown", teardown_parts, size, phases, output))
    elif phases["teardown"]:
        result.append(_unanimous(item, phases["teardown"]))
    return result


def _merge_good(item, size, phases, stuck, order, output, result):
    """Merge setup and call when no rank failed in setup; disagreement is a failure of the call."""
    setup, call = phases["setup"], phases["call"]
    call_parts = _failures("call", phases, stuck, order)
    last = {rank: call.get(rank) or setup.get(rank) for rank in order}
    kinds = {kind_of(report) for report in last.values() if report is not None}
    if not call_parts and len(kinds) == 1 and len({rank in call for rank in order}) == 1:
        result.append(_unanimous(item, setup))
        if call:
            result.append(_unanimous(item, call))
        return
    passed = TestReport(item.nodeid, item.location, _keywords(item), "passed", None, "setup", duration=0)
    result.append(passed)
    notes = [
        f"{name_ranks([rank], size)}: {describe(report)}"
        for rank, report in last.items()
        if report is not None and not any(rank in part.ranks for part in call_parts)
    ]
    if not call_parts:
        text = "the ranks disagree:\n" + "\n".join(notes)
        path, line, _ = item.location
        message = "the ranks disagree: " + ", ".join(notes)
        call_parts, notes = [Part(list(order), text, text, message, path, (line or 0) + 1)], []
    report = _failed(item, "call", call_parts, size, phases, output)
    if isinstance(report.longrepr, MergedFailure):
        report.longrepr.notes = notes
    result.append(report)


def _reached(reports):
    """Return the phase in which a rank is that has sent these reports."""
    done = [report.when for report in reports]
    if not done:
        return "setup"
    return "call" if done[-1] == "setup" and reports[-1].passed else "teardown"


def _failures(when, phases, stuck, order):
    parts = []
    for rank in order:
        report = phases[when].get(rank)
        if report is not None and report.failed:
            parts.append(failure_part(rank, report))
        if rank in stuck[when]:
            parts.append(stuck[when][rank])
    return merge_parts(parts)


def _unanimous(item, reports):
    """Return the common report of a phase: the lowest rank's, the longest rank's time."""
    report = reports[min(reports)]
    report.nodeid, report.location, report.keywords = item.nodeid, item.location, _keywords(item)
    report.duration = max(each.duration for each in reports.values())
    return report


def _failed(item, when, parts, size, phases, output):
    reports = phases[when]
    duration = max((each.duration for each in reports.values()), default=0.0)
    longrepr = MergedFailure(size, parts) if size > 1 or len(parts) > 1 else parts[0].shown
    sections = []
    for rank, report in sorted(reports.items()):
        for title, text in report.sections:
            sections.append((f"{title} [rank {rank}]" if size > 1 else title, text))
    if output:
        sections.append(("Output of mpiexec", output))
    return TestReport(
        item.nodeid,
        item.location,
        _keywords(item),
        "failed",
        longrepr,
        when,
        sections=sections,
        duration=duration,
    )


def _keywords(item):
    return {name: 1 for name in item.keywords}
