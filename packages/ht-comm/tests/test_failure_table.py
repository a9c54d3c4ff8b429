"""What a user sees when something goes wrong: real jobs under mpiexec, each ends in time and says why.

Runs on the MPI of the environment; ``python tests/test_failure_table.py`` prints the table of the README.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ht_comm.pytest_group import find_launcher, worker_environment

HEAD = """\
import os, signal, sys, time
import numpy as np
import ht_comm
comm = ht_comm.world()
rank = comm.rank
def compute():
    time.sleep(60)
"""


@dataclass(frozen=True)
class Case:
    """One way to fail.

    Attributes
    ----------
    name : str
        What goes wrong.
    program : str
        Run on three ranks, after `HEAD`.
    shows : tuple of str
        Regular expressions that the job's output must match; the first one is what the table shows.
    status : int or None
        Exit status of the job; None: any but 0.
    settings : dict
        Environment.
    interrupted : bool
        Whether to press Ctrl-C once the ranks are there.
    seconds : float
        Limit for the whole job, start of the processes included.
    """

    name: str
    program: str
    shows: tuple[str, ...] = ()
    status: int | None = None
    settings: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    seconds: float = 10.0


IS_HYDRA = find_launcher() is not None and "-disable-auto-cleanup" in find_launcher().flags
CHECKED = {"HT_COMM_CHECK": "1"}
FAILURES = [
    Case(
        "exception on one rank",
        "if rank == 1: raise ValueError('rank is ill')\ncomm.barrier()\n",
        (r"\[rank 1\] ValueError: rank is ill", r"uncaught ValueError on rank 1 of 3"),
    ),
    Case(
        "mismatched operation",
        "x = np.ones(4)\nif rank == 1: comm.bcast(x)\nelse: comm.allreduce(x)\n",
        (
            r"rank 0: allreduce\(sum\) of float64 \(4,\) at \S+program.py:10; "
            r"rank 1: bcast\(root=0\) of float64 \(4,\) at \S+program.py:9; rank 2: allreduce",
        ),
        settings=CHECKED,
    ),
    Case(
        "mismatched shape",
        "comm.allreduce(np.ones(4 + rank // 2, np.float32))\n",
        (
            r"ranks 0-1: allreduce\(sum\) of float32 \(4,\) at \S+program.py:8; "
            r"rank 2: allreduce\(sum\) of float32 \(5,\) at \S+program.py:8",
        ),
        settings=CHECKED,
    ),
    Case(
        "the same operation, from different lines",
        "x = np.ones(4)\nif rank == 1:\n    comm.allreduce(x)\ncomm.allreduce(x)\nif rank != 1: comm.allreduce(x)\n",
        (r"rank 0: allreduce\(sum\).*:11; rank 1: allreduce\(sum\).*:10",),
        settings=CHECKED,
    ),
    Case(
        "rank that never arrives",
        "comm.barrier()\nif rank == 1: compute()\ncomm.allreduce(np.ones(4))\n",
        (
            r"allreduce #2: all ranks must arrive within 1 s, got no sign of rank 1 after 1.\d s at \S+program.py:10",
            r"rank 1 is here:\n(.*\n)*.*program.py\", line 7 in compute",
            r"last calls of this rank, the newest one last:\n(.*\n)*.*barrier, 0 bytes sent, .* s, at \S+program.py:8",
        ),
        settings={"HT_COMM_TIMEOUT": "1"},
    ),
    Case(
        "message that never comes",
        "if rank == 0: comm.recv(np.ones(4), 1, 5)\nelse: compute()\n",
        (
            r"recv\(source=1, tag=5\) at \S+program.py:8: rank 1 must send within 1 s",
            r"rank 1 is here:\n(.*\n)*.*program.py\", line 7 in compute",
        ),
        settings={"HT_COMM_TIMEOUT": "1"},
    ),
    Case(
        "killed rank",
        "if rank == 1: os.kill(os.getpid(), signal.SIGKILL)\ncomm.barrier()\n",
        (r"Killed|signal 9",),
    ),
    Case(
        "Ctrl-C, ranks in a collective",
        "os.write(1, b'process %d\\n' % os.getpid())\nif rank == 1: compute()\ncomm.barrier()\n",
        # Open MPI's launcher ends the ranks at once, before they can say anything.
        (r"interrupted on rank \d of 3",) if IS_HYDRA else (),
        interrupted=True,
    ),
    Case(
        "sys.exit(3) on one rank",
        "if rank == 1: sys.exit(3)\ncomm.barrier()\n",
        (r"\[rank 1\] sys.exit\(3\) on rank 1 of 3 while others go on",),
        status=3,
    ),
    Case(
        "sys.exit with a message on one rank",
        "if rank == 1:\n"
        "    try: sys.exit(7)\n"
        "    except SystemExit as error: sys.exit(f'no such file ({error.code})')\n"
        "comm.barrier()\n",
        (r"no such file \(7\)", r"\[rank 1\] sys.exit\(1\) on rank 1 of 3 while others go on"),
        status=1,
    ),
    Case(
        "end of the program on one rank",
        "if rank != 1: comm.barrier()\n",
        (
            r"\[rank 1\] rank 1 of 3 has finished while others wait for it",
            r"rank 0 is here:\n(.*\n)*.*program.py\", line 8 in <module>",
        ),
        settings={"HT_COMM_EXIT_SECONDS": "1"},
    ),
]
ENDINGS = [
    Case("sys.exit(0) on all ranks", "comm.barrier()\nsys.exit(0)\n", status=0),
    Case("sys.exit(4) on all ranks", "comm.barrier()\nsys.exit(4)\n", status=4),
    Case(
        "sys.exit in a thread and in a child",
        "import threading\n"
        "thread = threading.Thread(target=sys.exit, args=(3,)); thread.start(); thread.join()\n"
        "if (child := os.fork()) == 0: os._exit(0)\n"
        "os.waitpid(child, 0)\n"
        "if rank == 1: time.sleep(1.5)\n",
        status=0,
    ),
    Case(
        "sys.exit caught",
        "try: sys.exit(4)\nexcept SystemExit: pass\nif rank == 1: time.sleep(1.5)\n",
        status=0,
    ),
]


@dataclass
class Outcome:
    """How a job ended."""

    status: int
    text: str
    seconds: float


def run(case, directory):
    """Run a case as a user would: with the launcher's own clean-up, which the plugin's groups do without."""
    program = Path(directory) / "program.py"
    program.write_text(HEAD + case.program)
    arguments = [word for word in find_launcher().arguments(3) if word != "-disable-auto-cleanup"]
    env = {**worker_environment("unused"), **case.settings}
    start = time.monotonic()
    with subprocess.Popen(
        [*arguments, sys.executable, str(program)],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as job:
        try:
            lines = [job.stdout.readline() for _ in range(3)] if case.interrupted else []
            if case.interrupted:
                time.sleep(0.3)
                start = time.monotonic()
                job.send_signal(signal.SIGINT)
            text = "".join(lines) + job.communicate(timeout=30)[0]
        except BaseException:
            job.send_signal(signal.SIGTERM)  # the launcher ends its ranks
            raise
    return Outcome(job.returncode, text, time.monotonic() - start)


needs_launcher = pytest.mark.skipif(find_launcher() is None, reason="no mpiexec on this machine")


@needs_launcher
@pytest.mark.parametrize("case", FAILURES, ids=lambda case: case.name)
def test_a_failure_ends_the_job_and_says_why(case, tmp_path):
    outcome = run(case, tmp_path)
    assert outcome.status != 0
    assert case.status in (None, outcome.status)
    for text in case.shows:
        assert re.search(text, outcome.text), outcome.text
    assert outcome.text.count("Traceback") <= 1, outcome.text
    assert outcome.seconds < case.seconds
    if case.interrupted:
        assert outcome.text.count("interrupted on rank") <= 1, outcome.text
        pids = [int(pid) for pid in re.findall(r"^process (\d+)$", outcome.text, re.MULTILINE)]
        assert len(pids) == 3
        for pid in pids:
            assert not is_running(pid), f"rank with process {pid} was left behind"


def is_running(pid, patience=2.0):
    """Tell whether a process still runs after a moment; one that has ended and waits to be reaped does not."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return False
        if state == "Z":
            return False
        time.sleep(0.05)
    return True


@needs_launcher
@pytest.mark.parametrize("case", ENDINGS, ids=lambda case: case.name)
def test_an_orderly_end_is_left_alone(case, tmp_path):
    outcome = run(case, tmp_path)
    assert outcome.status == case.status
    assert "[rank" not in outcome.text
    assert outcome.seconds < case.seconds


def print_table():
    """Print how long each case takes and what it shows, as Markdown."""
    for case in FAILURES:
        with tempfile.TemporaryDirectory() as directory:
            outcome = run(case, directory)
        found = re.search(case.shows[0], outcome.text) if case.shows else None
        settings = ", ".join(f"{name}={value}" for name, value in case.settings.items())
        shown = re.sub(r"/\S+/", "", found[0]) if found else "(nothing)"
        print(
            f"| {case.name} | {settings} | {outcome.seconds:.1f} | {outcome.status} | `{shown}` |", flush=True
        )


if __name__ == "__main__":
    print_table()
