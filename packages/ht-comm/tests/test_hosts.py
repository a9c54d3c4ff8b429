"""Ranks on two hosts, emulated on one machine by network namespaces: who is where, and messages between them.

The whole contract across hosts: ``nox -s hosts``.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from ht_comm.hosts import Hosts, HostsError, main
from ht_comm.pytest_group import find_launcher, worker_environment

pytestmark = pytest.mark.skipif(find_launcher() is None, reason="no mpiexec on this machine")

PLACES = """\
import json, socket
import numpy as np
import ht_comm
from ht_comm import stacks

comm = ht_comm.world()
node, leaders = comm.node(), comm.leaders()
own = np.full(3, 10.0 ** comm.rank)
told = {
    "host": socket.gethostname(),
    "node": [node.rank, node.size],
    "members": node.allgather_object(comm.rank),
    "sum of node": float(node.allreduce(own)[0]),
    "leaders": None if leaders is None else [leaders.rank, leaders.size],
    "sum of leaders": None if leaders is None else float(leaders.allreduce(own)[0]),
    "sum": float(comm.allreduce(own)[0]),
    "same node": [other for other in range(comm.size) if stacks.is_on_this_node(other)],
}
with comm.split(comm.rank // 2) as shared, comm.split(comm.rank % 2) as across:
    told["shared"] = [shared.node().size, shared.leaders() is not None]
    told["across"] = [across.node().size, across.leaders() is not None]
# The columns of a matrix in place of its rows: between all ranks, of one host and of both.
plan = ht_comm.plan_redistribution(
    tuple(((2 * r, 2 * r + 2), (0, 8)) for r in range(4)), tuple(((0, 8), (2 * r, 2 * r + 2)) for r in range(4))
)
whole = np.arange(64.0).reshape(8, 8)
mine = slice(2 * comm.rank, 2 * comm.rank + 2)
told["redistributed"] = bool((comm.redistribute(whole[mine], plan) == whole[:, mine]).all())
everything = comm.gather_object(told)
if comm.rank == 0:
    print(json.dumps(everything))
"""


@pytest.fixture(scope="module")
def hosts():
    """Two hosts."""
    try:
        with Hosts(2) as made:
            yield made
    except HostsError as error:
        pytest.skip(f"two emulated hosts cannot be made here (they need root and namespaces): {error}")


def run(hosts, tmp_path, text, **settings):
    """Run a program on two ranks of each host; return what it has done."""
    program = tmp_path / "program.py"
    program.write_text(text)
    env = {**worker_environment("unused"), **settings}
    command = [*hosts.launcher(2), "-n", "4", sys.executable, str(program)]
    return subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL
    )


def test_every_rank_knows_where_it_is(hosts, tmp_path):
    # Time-out mode, as the ranks then tell each other where they are.
    done = run(hosts, tmp_path, PLACES, HT_COMM_TIMEOUT="30")
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert [each["host"] for each in told] == [name for name in hosts.names for _ in range(2)]
    assert [each["node"] for each in told] == [[0, 2], [1, 2], [0, 2], [1, 2]]
    assert [each["members"] for each in told] == [[0, 1], [0, 1], [2, 3], [2, 3]]
    assert [each["sum of node"] for each in told] == [11, 11, 1100, 1100]
    assert [each["leaders"] for each in told] == [[0, 2], None, [1, 2], None]
    assert [each["sum of leaders"] for each in told] == [101, None, 101, None]
    assert [each["sum"] for each in told] == [1111] * 4
    assert [each["same node"] for each in told] == [[0, 1], [0, 1], [2, 3], [2, 3]]
    assert [each["shared"] for each in told] == [[2, True], [2, False], [2, True], [2, False]]
    assert [each["across"] for each in told] == [[1, True]] * 4
    assert all(each["redistributed"] for each in told)


def test_an_exception_on_the_other_host_ends_the_job(hosts, tmp_path):
    text = (
        "import ht_comm\ncomm = ht_comm.world()\nif comm.rank == 3: raise ValueError('ill')\ncomm.barrier()\n"
    )
    done = run(hosts, tmp_path, text)
    assert done.returncode != 0
    assert f"[rank 3] uncaught ValueError on rank 3 of 4 ({hosts.names[1]}); ending the job" in done.stderr
    assert done.stderr.count("Traceback") == 1


def test_marked_tests_run_across_hosts(hosts, tmp_path):
    tests = Path(__file__).with_name("test_contract.py")
    env = {**os.environ, **hosts.environment(2)}
    chosen = "TestMoreMPI and (test_split or test_agree or test_node or test_ring and numpy or test_bcast and numpy)"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--np", "4", "-m", "mpi"]
    done = subprocess.run(
        [*command, "-k", chosen, f"--basetemp={tmp_path / 'inner'}", str(tests)],
        env=env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout
    assert hosts.addresses[1] in done.stdout  # pytest has said what it starts ranks with
    assert " passed" in done.stdout


def said_by(*arguments):
    """Return the output of ip."""
    return subprocess.run(["ip", *arguments], capture_output=True, text=True).stdout


def test_nothing_is_left_behind(hosts):
    with Hosts(1) as other:
        assert other.name != hosts.name
        space = f"{other.name}-0"
        inside = subprocess.Popen(
            ["ip", "netns", "exec", space, "sh", "-c", "echo here; sleep 60"], stdout=subprocess.PIPE
        )
        assert inside.stdout.readline() == b"here\n"
        assert space in said_by("netns", "list")
    assert inside.wait(10) != 0
    inside.stdout.close()
    assert space not in said_by("netns", "list")
    assert not Path(f"/sys/class/net/{other.name}").exists()
    with Hosts(1) as again:  # the name is free again
        assert again.name == other.name


def test_commands_run_on_hosts(hosts, capfd):
    text = "import os; print(os.environ['HT_MPI_ADDRESS'], os.environ['HT_MPIEXEC']); raise SystemExit(5)"
    assert main(["--ranks", "3", "--", sys.executable, "-c", text]) == 5
    shown = capfd.readouterr().out
    assert ".254 " in shown
    assert shown.count(":3") == 2


def test_what_is_missing_is_said(monkeypatch, capfd):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(HostsError, match=r"commands ip .* and unshare .* must be on PATH"):
        Hosts(2).__enter__()
    assert main(["--", "true"]) == 77
    assert "must be on PATH" in capfd.readouterr().err
