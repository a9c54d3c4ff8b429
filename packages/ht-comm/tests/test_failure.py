"""An exception on one rank of several ends the job: run as real jobs under mpiexec."""

import re
import subprocess
import sys
import time

import pytest
from ht_comm.failure import report
from ht_comm.pytest_group import find_launcher, worker_environment

HEAD = "import numpy as np, sys, threading, ht_comm\ncomm = ht_comm.world()\n"


RANK = "from ht_comm.launcher import launched_as\nrank = launched_as()[0]\n"


def run_job(tmp_path, text, ranks=3, head=HEAD, **environment):
    """Run a script on some ranks; return exit status, standard error and seconds."""
    program = tmp_path / "program.py"
    program.write_text(head + text)
    env = {**worker_environment("unused"), "PYTHONUNBUFFERED": "1", **environment}
    start = time.perf_counter()
    done = subprocess.run(
        [*find_launcher().arguments(ranks), sys.executable, str(program)],
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode, done.stderr, time.perf_counter() - start


needs_launcher = pytest.mark.skipif(find_launcher() is None, reason="no mpiexec on this machine")


@needs_launcher
@pytest.mark.parametrize("failing", [0, 1])
def test_one_failing_rank_ends_the_job(tmp_path, failing):
    status, errors, seconds = run_job(
        tmp_path, f"if comm.rank == {failing}: raise ValueError('rank is ill')\ncomm.barrier()\n"
    )
    assert status != 0
    assert errors.count("Traceback") == 1
    assert f"[rank {failing}] ValueError: rank is ill" in errors
    assert f"uncaught ValueError on rank {failing} of 3" in errors
    assert seconds < 5


@needs_launcher
def test_the_same_error_on_all_ranks_is_seen_once(tmp_path):
    status, errors, seconds = run_job(tmp_path, "comm.allreduce(np.ones(3), 'mean')\n")
    assert status != 0
    assert errors.count("Traceback") == 1
    assert "[rank 0] ValueError: allreduce: op must be one of" in errors
    assert seconds < 5


@needs_launcher
def test_an_agreed_error_is_reported_by_the_rank_it_arose_on(tmp_path):
    status, errors, _ = run_job(
        tmp_path,
        "error = None\n"
        "try:\n"
        "    if comm.rank == 2: open('/no/such/file')\n"
        "except OSError as caught: error = caught\n"
        "comm.agree(error)\n",
    )
    assert status != 0
    assert errors.count("Traceback") == 1
    assert "[rank 2] FileNotFoundError: [Errno 2] No such file or directory: '/no/such/file'" in errors
    assert "[rank 2]     if comm.rank == 2: open('/no/such/file')" in errors


@needs_launcher
def test_an_exception_in_a_thread_ends_the_job(tmp_path):
    status, errors, _ = run_job(
        tmp_path,
        "if comm.rank == 1:\n"
        "    thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()\n"
        "comm.barrier()\n",
    )
    assert status != 0
    assert errors.count("Traceback") == 1
    assert "[rank 1] ZeroDivisionError" in errors


@needs_launcher
@pytest.mark.parametrize(
    "early",
    [
        "if rank == 1: raise ValueError('early')",
        "from mpi4py import MPI\nif rank == 1: raise ValueError('early')",
    ],
    ids=["before MPI is initialised", "by the program itself"],
)
def test_a_rank_that_fails_before_the_world_is_made_ends_the_job(tmp_path, early):
    status, errors, seconds = run_job(
        tmp_path, f"{early}\nht_comm.world().barrier()\n", head="import ht_comm\n" + RANK
    )
    assert status != 0
    assert errors.count("Traceback") == 1
    assert "[rank 1] ValueError: early" in errors
    assert seconds < 5


@needs_launcher
def test_a_failing_child_of_a_rank_does_not_end_the_job(tmp_path):
    status, _, _ = run_job(
        tmp_path,
        "import subprocess\n"
        "if comm.rank == 1:\n"
        "    child = subprocess.run([sys.executable, '-c', 'import ht_comm; 1 / 0'], capture_output=True, text=True)\n"
        "    assert child.returncode == 1\n"
        "    assert child.stderr.startswith('Traceback'), child.stderr\n"
        "comm.barrier()\n",
    )
    assert status == 0


@needs_launcher
def test_a_good_job_ends_well_and_says_nothing(tmp_path):
    status, errors, _ = run_job(
        tmp_path,
        "part = comm.split(comm.rank % 2)\n"  # left to the exit
        "comm.allreduce(np.array([1.0]), 'max')\n"
        "comm.allreduce(np.zeros(3), 'moments')\n"
        "comm.node(), comm.leaders()\n"
        "assert 'torch' not in sys.modules\n",
    )
    assert (status, errors) == (0, "")


def test_every_line_of_a_report_names_the_rank():
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        text = report(ValueError, error, error.__traceback__, 3, 8)
    lines = text.splitlines()
    assert all(line.startswith("[rank 3] ") for line in lines)
    assert re.match(r"\[rank 3\] uncaught ValueError on rank 3 of 8 \(.+\); ending the job", lines[0])
    assert lines[-1] == "[rank 3] lines"
