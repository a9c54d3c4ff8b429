"""The pytest plugin, by inner pytest runs: good tests on all ranks, and every way in which ranks can fail."""

import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import pytest

pytest_plugins = ["pytester"]

GOOD = """
    import os
    import pytest

    @pytest.mark.mpi
    def test_size(comm, request):
        assert f"np{comm.size}]" in request.node.name
        # A rank collects what its group runs, and nothing else.
        assert all(item.name.endswith(f"np{comm.size}]") for item in request.session.items)

    @pytest.mark.mpi(ranks=[2, 3])
    @pytest.mark.parametrize("word", ["a", "b"])
    def test_agree(comm, word, tmp_path, shared_tmp_path):
        assert len(set(comm.allgather_object(str(shared_tmp_path)))) == 1
        assert len(set(comm.allgather_object(str(tmp_path)))) == comm.size
        assert not list(shared_tmp_path.iterdir())
        comm.barrier()
        (shared_tmp_path / f"{word}{comm.rank}").touch()

    def test_here(shared_tmp_path):
        assert shared_tmp_path.is_dir()
"""

BAD = """
    import ctypes
    import os
    import pytest
    import ht_comm

    pytestmark = pytest.mark.mpi(ranks=3)

    def test_first_good(comm):
        open({pids!r} + str(os.getpid()), "w").close()
        comm.barrier()

    def test_one_asserts(comm):
        assert comm.rank != 1

    def test_all_assert(comm):
        assert comm.size == 5

    def test_one_raises_before_barrier(comm):
        if comm.rank == 1:
            raise ValueError("only here")
        comm.barrier()

    def test_dead_lock(comm):
        import numpy as np
        open({pids!r} + str(os.getpid()), "w").close()
        comm.recv(np.zeros(1), source=(comm.rank + 1) % 3)  # nobody sends

    def test_crash(comm):
        if comm.rank == 1:
            ctypes.string_at(0)
        comm.barrier()

    def test_exit(comm):
        if comm.rank == 2:
            os._exit(0)
        comm.barrier()

    def test_one_skips(comm):
        if comm.rank == 1:
            pytest.skip("not on this one")

    def test_all_skip(comm):
        pytest.skip("not anywhere")

    @pytest.fixture
    def broken(comm):
        assert comm.rank != 2

    def test_setup_of_one_fails(broken):
        pass

    @pytest.mark.xfail(strict=True)
    def test_expected(comm):
        assert False

    @pytest.mark.parametrize("number", range(3))
    def test_last_good(comm, number):
        import numpy as np
        assert comm.allreduce(np.ones(1)) == 3
"""


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def section(text, name):
    """Return the part of pytest's output about one failed test."""
    part = re.split(rf"_+ (?:ERROR at \w+ of )?{name}\[np3\] _+\n", text)[1]
    return re.split(r"\n(?:_{3,}|={3,}) ", part)[0]


def test_good_tests_run_on_each_number_of_ranks(pytester):
    pytester.makepyfile(GOOD)
    result = pytester.runpytest_subprocess("-v", "--strict-markers", "--junitxml=report.xml", "--durations=3")
    result.assert_outcomes(passed=9)
    assert result.ret == 0
    lines = [line.split(" ")[0].partition("::")[2] for line in result.outlines if " PASSED" in line]
    assert lines[0] == "test_here"
    assert [line[-2] for line in lines[1:]] == list("12223334")
    result.stdout.fnmatch_lines(
        ["mpi tests: 1 on 1 rank, 3 on 2 ranks, 3 on 3 ranks, 1 on 4 ranks (*", "*slowest 3*"]
    )
    suite = ElementTree.parse(pytester.path / "report.xml").getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("9", "0", "0")


def test_every_way_to_fail(pytester):
    """One summary, the right counts, each failure with its ranks, stacks where ranks hung, no process left."""
    pids = pytester.mkdir("pids")
    pytester.makepyfile(BAD.format(pids=f"{pids}/"))
    result = pytester.runpytest_subprocess("--mpi-timeout=4", "--mpi-grace=1", "-ra")
    result.assert_outcomes(passed=4, failed=7, errors=1, skipped=1, xfailed=1)
    assert result.ret == 1
    text = result.stdout.str()
    assert text.count("short test summary info") == 1

    one = section(text, "test_one_asserts")
    assert "rank 1 of 3" in one
    assert "assert 1 != 1" in one
    assert "rank 0: passed\nrank 2: passed" in one

    everyone = section(text, "test_all_assert")
    assert "all ranks of 3" in everyone
    assert everyone.count("assert 3 == 5") == 1

    raised = section(text, "test_one_raises_before_barrier")
    assert raised.index("ValueError: only here") < raised.index("ranks 0, 2 of 3")
    assert "did not end within 1 s after rank 1 failed" in raised
    assert raised.count("in test_one_raises_before_barrier") == 1
    assert "_pytest" not in raised

    locked = section(text, "test_dead_lock")
    assert "all ranks of 3" in locked
    assert "did not end within 4 s" in locked
    assert "in test_dead_lock" in locked

    crashed = section(text, "test_crash")
    assert re.search(r"-+ rank 1 of 3 -+\ndied: Fatal Python error: Segmentation fault", crashed)
    assert "in test_crash" in crashed

    assert re.search(r"-+ rank 2 of 3 -+\ndied: the process ended", section(text, "test_exit"))

    skipped = section(text, "test_one_skips")
    assert "the ranks disagree" in skipped
    assert "rank 1: skipped: not on this one" in skipped

    assert "rank 2 of 3" in section(text, "test_setup_of_one_fails")
    result.stdout.fnmatch_lines(["FAILED *::test_one_asserts?np3? - ?rank 1? assert 1 != 1"])

    left = [int(path.name) for path in pids.iterdir()]
    assert len(left) == 6
    assert not [pid for pid in left if is_alive(pid)]


def test_selection_is_the_drivers(pytester):
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.mpi(ranks=[1, 2])
        def test_a(comm):
            assert comm.size == 1

        @pytest.mark.mpi(ranks=[1, 2])
        def test_b():
            pass
        """
    )
    first = pytester.runpytest_subprocess("-x", "-k", "test_a")
    first.assert_outcomes(passed=1, failed=1, deselected=2)
    last = pytester.runpytest_subprocess("--lf", "-rA")
    last.assert_outcomes(failed=1)
    last.stdout.fnmatch_lines(["FAILED *::test_a?np2?*"])
    one = pytester.runpytest_subprocess("--np", "1")
    one.assert_outcomes(passed=2, deselected=2)
    assert pytester.runpytest_subprocess("--collect-only", "-q").ret == 0


def test_options_reach_the_workers(pytester):
    """Warnings become errors, conftest options and ini values arrive, output and warnings come back."""
    pytester.makeini("[pytest]\nfilterwarnings = error:from the ini\nmarkers = slow")
    pytester.makeconftest(
        """
        def pytest_addoption(parser):
            parser.addoption("--colour")
        """
    )
    pytester.mkdir("sub").joinpath("test_inner.py").write_text(
        """
import warnings
import pytest

pytestmark = pytest.mark.mpi(ranks=[2])

def test_option(pytestconfig):
    assert pytestconfig.getoption("colour") == "red"
    assert pytestconfig.getini("markers")[0] == "slow"

def test_ini():
    with pytest.raises(UserWarning):
        warnings.warn("from the ini")

def test_command_line():
    with pytest.raises(UserWarning):
        warnings.warn("from the command line")

def test_warns():
    warnings.warn("seen once")

def test_prints(comm):
    print("I am", comm.rank)
    assert comm.size == 0
"""
    )
    result = pytester.runpytest_subprocess(
        "-W", "error:from the command line", "--colour=red", "--import-mode=importlib", "sub"
    )
    result.assert_outcomes(passed=4, failed=1, warnings=1)
    result.stdout.fnmatch_lines(["* all ranks of 2 *", "*Captured stdout call ?rank 1?*", "I am 1"])
    result.stdout.fnmatch_lines(["*UserWarning: seen once"])


def test_time_limit_of_one_test(pytester):
    pytester.makepyfile(
        """
        import time
        import pytest

        @pytest.mark.mpi(ranks=1, timeout=0.5)
        def test_slow():
            time.sleep(30)
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*did not end within 0.5 s*", "*in test_slow*"])


def test_hypothesis_draws_the_same_on_all_ranks(pytester):
    pytester.makepyfile(
        """
        import pytest
        from hypothesis import given, settings, strategies as st

        @pytest.mark.mpi(ranks=2)
        def test_same(comm):
            @settings(max_examples=20, deadline=None, database=None)
            @given(st.integers())
            def inner(number):
                assert len(set(comm.allgather_object(number))) == 1

            inner()
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=1)


def test_without_launcher_one_rank_runs_here_and_more_fail(pytester, monkeypatch):
    monkeypatch.setenv("HT_MPIEXEC", "/nowhere/mpiexec")
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.mpi(ranks=[1, 2])
        def test_size(comm, shared_tmp_path):
            assert comm.size == 1
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(passed=1, errors=1)
    result.stdout.fnmatch_lines(["*a test on 2 ranks needs an MPI launcher*HT_MPIEXEC=/nowhere/mpiexec*"])
    assert "pip install 'ht-comm[mpich]'" in result.stdout.str()


def test_a_launcher_that_fails_is_reported_once_per_test_and_tried_once(pytester, monkeypatch):
    launcher = pytester.path / "mpiexec"
    launcher.write_text(
        '#!/bin/sh\nif [ "$1" = --version ]; then echo odd; exit; fi\necho tried >> tries\nexit 3\n'
    )
    launcher.chmod(0o755)
    monkeypatch.setenv("HT_MPIEXEC", str(launcher))
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.mpi(ranks=2)
        @pytest.mark.parametrize("i", range(3))
        def test_any(i):
            pass
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=3)
    result.stdout.fnmatch_lines(["*the group of 2 ranks did not start: mpiexec ended with code 3*"])
    assert (pytester.path / "tries").read_text().split() == ["tried"]


@pytest.mark.parametrize(
    ("arguments", "source", "text"),
    [
        (["--np=two"], "", "--np: value must be positive numbers with commas, got 'two'"),
        (["--np=0,1"], "", "--np: value must be positive numbers"),
        ([], "@pytest.mark.mpi(2)\ndef test_x(): pass", "mpi takes ranks= and timeout= only"),
        ([], "@pytest.mark.mpi(ranks=[0])\ndef test_x(): pass", "ranks must be positive integers, got *0*"),
    ],
)
def test_wrong_use(pytester, arguments, source, text):
    pytester.makepyfile("import pytest\n" + source)
    result = pytester.runpytest_subprocess(*arguments)
    assert result.ret != 0
    pytest.LineMatcher(result.outlines + result.errlines).fnmatch_lines([f"*{text}*"])


def test_methods_without_parameters_are_refused(pytester):
    pytester.makepyfile(
        """
        import unittest
        import pytest

        class TestIt(unittest.TestCase):
            @pytest.mark.mpi
            def test_x(self):
                pass
        """
    )
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*mpi tests must be functions*"])


def test_classes_and_module_fixtures(pytester):
    """A module fixture lives as long as consecutive tests of its module need it, on every rank."""
    pytester.makepyfile(
        """
        import pytest

        log = []

        @pytest.fixture(scope="module")
        def thing(comm_module):
            log.append("made")
            yield log
            comm_module.barrier()

        @pytest.fixture(scope="module")
        def comm_module():
            import ht_comm
            return ht_comm.world()

        @pytest.mark.mpi(ranks=[2])
        class TestBoth:
            def test_a(self, thing):
                assert thing == ["made"]

            def test_b(self, thing):
                assert thing == ["made"]
        """
    )
    pytester.runpytest_subprocess().assert_outcomes(passed=2)


def test_inside_mpiexec_is_refused(pytester, monkeypatch):
    monkeypatch.setenv("PMI_RANK", "0")
    monkeypatch.setenv("PMI_SIZE", "2")
    pytester.makepyfile("import pytest\n@pytest.mark.mpi\ndef test_x(): pass")
    result = pytester.runpytest_subprocess()
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*pytest was started by mpiexec*"])


def test_plugin_is_light():
    code = (
        "import sys, ht_comm.pytest_plugin\n"
        "heavy = {'torch', 'mpi4py', 'mpi4py.MPI', 'hypothesis', 'ht_comm.pytest_driver', 'ht_comm.redistribute'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert told.stdout.strip() == "[]"
