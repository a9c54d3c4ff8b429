"""How the plugin merges what ranks report: pure, no ranks."""

from types import SimpleNamespace

import pytest
from _pytest.reports import TestReport
from ht_comm.pytest_group import Attempt, launcher_flags
from ht_comm.pytest_verdict import cut_stack, merge, name_ranks

ITEM = SimpleNamespace(
    nodeid="test_x.py::test[np2]", location=("test_x.py", 3, "test[np2]"), keywords={"mpi": 1}
)


def report(when, outcome="passed", longrepr=None, **extra):
    made = TestReport(ITEM.nodeid, ITEM.location, {}, outcome, longrepr, when, duration=0.5)
    for name, value in extra.items():
        setattr(made, name, value)
    return made


def merged(*ranks, problems=None):
    """Merge lists of reports, one for each rank; return {phase: report}."""
    attempts = {rank: Attempt(done=True) for rank in range(len(ranks))}
    for rank, problem in (problems or {}).items():
        attempts[rank] = Attempt(problem=problem)
    reports = merge(ITEM, len(ranks), attempts, dict(enumerate(ranks)))
    assert len({each.when for each in reports}) == len(reports)
    assert all(each.nodeid == ITEM.nodeid for each in reports)
    return {each.when: each for each in reports}


SKIP = ("test_x.py", 3, "Skipped: not here")
GOOD = (report("setup"), report("call"), report("teardown"))


def test_all_pass():
    result = merged(list(GOOD), list(GOOD))
    assert {when: each.outcome for when, each in result.items()} == dict.fromkeys(
        ("setup", "call", "teardown"), "passed"
    )


def test_longest_rank_gives_the_duration():
    slow = report("call")
    slow.duration = 7.0
    assert merged(list(GOOD), [GOOD[0], slow, GOOD[2]])["call"].duration == 7.0


def test_one_failure_is_a_failure_and_names_its_rank():
    failed = [GOOD[0], report("call", "failed", "boom"), GOOD[2]]
    call = merged(list(GOOD), failed)["call"]
    assert call.failed
    assert "rank 1 of 2" in call.longreprtext
    assert "boom" in call.longreprtext
    assert "rank 0: passed" in call.longreprtext
    assert call.longrepr.reprcrash.message == "[rank 1] boom"


def test_equal_failures_are_shown_once():
    failed = [GOOD[0], report("call", "failed", "at 0x7f0011223344 of rank=0"), GOOD[2]]
    alike = [GOOD[0], report("call", "failed", "at 0x7f9988776655 of rank=1"), GOOD[2]]
    text = merged(failed, alike)["call"].longreprtext
    assert text.count("at 0x") == 1
    assert "all ranks of 2" in text


def test_different_failures_are_shown_both():
    text = merged(
        [GOOD[0], report("call", "failed", "this"), GOOD[2]],
        [GOOD[0], report("call", "failed", "that"), GOOD[2]],
    )["call"].longreprtext
    assert text.index("rank 0 of 2") < text.index("this") < text.index("rank 1 of 2") < text.index("that")


@pytest.mark.parametrize("when", ["setup", "call"])
def test_disagreement_about_a_skip_is_a_failure_of_the_call(when):
    skipped = {
        "setup": [report("setup", "skipped", SKIP), GOOD[2]],
        "call": [GOOD[0], report("call", "skipped", SKIP), GOOD[2]],
    }[when]
    result = merged(list(GOOD), skipped)
    assert result["setup"].passed
    assert result["call"].failed
    assert "ranks disagree" in result["call"].longreprtext
    assert "rank 1: skipped: not here" in result["call"].longreprtext


def test_agreed_skip_and_expected_failure_stay_what_they_are():
    skipped = [report("setup", "skipped", SKIP), GOOD[2]]
    assert merged(skipped, skipped)["setup"].skipped
    expected = [GOOD[0], report("call", "skipped", "x", wasxfail="reason"), GOOD[2]]
    assert merged(expected, expected)["call"].wasxfail == "reason"
    assert merged(expected, list(GOOD))["call"].failed


def test_a_rank_that_hangs_after_another_failed_setup_is_part_of_the_same_error():
    result = merged(
        [report("setup", "failed", "no fixture"), GOOD[2]], [GOOD[0]], problems={1: "did not end"}
    )
    assert result["setup"].failed
    assert "no fixture" in result["setup"].longreprtext
    assert "did not end" in result["setup"].longreprtext
    assert "call" not in result


@pytest.mark.parametrize(("sent", "when"), [(0, "setup"), (1, "call"), (2, "teardown")])
def test_a_rank_that_hangs_fails_the_phase_it_is_in(sent, when):
    result = merged(list(GOOD), list(GOOD[:sent]), problems={1: "did not end within 1 s"})
    assert result[when].failed
    assert "rank 1 of 2" in result[when].longreprtext


def test_names():
    assert name_ranks([0], 1) == "rank 0"
    assert name_ranks([2, 0], 4) == "ranks 0, 2"
    assert name_ranks([0, 1], 2) == "all ranks"


def test_stacks_end_where_pytest_begins():
    text = """\
Fatal Python error: Segmentation fault

Thread 0x00007f1 (most recent call first):
  File "/site/ht_comm/pytest_worker.py", line 70 in receive
  File "/site/ht_comm/pytest_worker.py", line 110 in listen
  File "/lib/python3.11/threading.py", line 982 in run

Thread 0x00007f2 (most recent call first):
  File "/home/me/work.py", line 5 in own_thread
  File "/lib/python3.11/threading.py", line 982 in run

Current thread 0x00007f3 (most recent call first):
  File "/home/me/test_x.py", line 9 in inner
  File "/home/me/test_x.py", line 12 in test_x
  File "/site/_pytest/python.py", line 159 in pytest_pyfunc_call
  File "/site/pluggy/_callers.py", line 121 in _multicall

Extension modules: mpi4py.MPI, numpy.core (total: 2)
"""
    cut = cut_stack(text)
    assert "line 12 in test_x" in cut
    assert "own_thread" in cut
    assert cut.startswith("Fatal Python error")
    assert not {"_pytest", "pluggy", "pytest_worker.py"} & set(cut.replace("/", " ").split())
    assert cut_stack("") == ""


@pytest.mark.parametrize(
    ("version", "flags"),
    [
        ("mpiexec (Open MPI) 5.0.11\n", ("--allow-run-as-root", "--oversubscribe")),
        ("mpirun (Open MPI) 4.1.4", ("--allow-run-as-root", "--oversubscribe")),
        ("HYDRA build details:\n    Version: 5.0.2", ("-disable-auto-cleanup",)),
        ("Intel(R) MPI Library for Linux* OS, Version 2021.11", ()),
    ],
)
def test_flags_of_launchers(version, flags):
    assert launcher_flags(version) == flags
