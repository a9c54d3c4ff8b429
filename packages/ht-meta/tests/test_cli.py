"""The command line: options, launcher, exit codes."""

import subprocess
import sys

import pytest
from ht_meta import cli, launch
from ht_meta.launch import LauncherError, find_launcher, plan_command, plan_environment


def run(*args, **options):
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "ht_meta", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, **options)


@pytest.mark.parametrize(
    ("args", "text"),
    [
        ([], "required"),
        (["dance"], "invalid choice"),
        (["demo", "--rows", "0"], "must be at least 1, got 0"),
        (["demo", "--rows", "many"], "invalid"),
        (["demo", "--clusters", "-1"], "must be at least 1"),
        (["demo", "--rtol", "2"], "must be in (0, 1), got 2"),
        (["demo", "--alpha", "0"], "must be a positive number"),
        (["demo", "--init", "guess"], "invalid choice"),
        (["demo", "--colour", "red"], "unrecognized arguments"),
        (["run"], "a script must be given"),
        (["run", "-n", "2", "-m"], "a script must be given"),
        (["run", "-n", "2", "nowhere.py"], "script must be an existing file, got 'nowhere.py'"),
        (["run", "-n", "0", "x.py"], "must be at least 1"),
    ],
)
def test_bad_options_end_with_usage(args, text, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(args)
    assert caught.value.code == 2
    assert text in capsys.readouterr().err


def test_errors_are_told_once(monkeypatch, capsys):
    monkeypatch.setenv("PMI_RANK", "1")
    with pytest.raises(SystemExit):
        cli.main(["demo", "--rows", "0"])
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("name", ["PMI_RANK", "OMPI_COMM_WORLD_RANK", "SLURM_PROCID"])
def test_rank_as_the_launcher_tells_it(name):
    assert cli.launcher_rank({name: "3"}) == 3
    assert cli.launcher_rank({name: "none"}) == 0
    assert cli.launcher_rank({}) == 0


def test_info():
    done = run("info")
    assert done.returncode == 0
    for word in ("ht-comm", "ht-meta", "torch", "Ranks      1", "rank 0"):
        assert word in done.stdout


def make_executable(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return str(path)


def test_launcher_beside_the_interpreter_comes_first(tmp_path):
    beside = make_executable(tmp_path / "env" / "mpirun")
    elsewhere = make_executable(tmp_path / "usr" / "mpiexec")
    slurm = make_executable(tmp_path / "usr" / "srun")
    path = {"PATH": str(tmp_path / "usr")}
    python = str(tmp_path / "env" / "python")
    assert find_launcher(path, python) == [beside]
    assert find_launcher({**path, "HT_MPIEXEC": f"{elsewhere} -v"}, python) == [elsewhere, "-v"]
    assert find_launcher(path, "/nowhere/python") == [elsewhere]
    assert find_launcher({**path, "SLURM_JOB_ID": "1"}, "/nowhere/python") == [slurm]
    with pytest.raises(LauncherError, match=r"pip install 'ht-meta\[mpich\]'"):
        find_launcher({"PATH": str(tmp_path)}, "/nowhere/python")
    with pytest.raises(LauncherError, match="HT_MPIEXEC must name an executable"):
        find_launcher({**path, "HT_MPIEXEC": "nothing"}, python)


def test_command_and_environment():
    command = plan_command(["/bin/mpiexec"], 4, ["x.py", "-n"], is_open_mpi=False, is_root=True)
    assert command == ["/bin/mpiexec", "-n", "4", sys.executable, "x.py", "-n"]
    command = plan_command(["/bin/srun"], None, ["-m", "x"], is_open_mpi=False, is_root=False)
    assert command == ["/bin/srun", sys.executable, "-m", "x"]
    assert "--allow-run-as-root" in plan_command(["mpiexec"], 4, ["x"], is_open_mpi=True, is_root=True)
    assert "--allow-run-as-root" not in plan_command(["mpiexec"], 4, ["x"], is_open_mpi=True, is_root=False)
    assert plan_environment({}, 4, 8)["OMP_NUM_THREADS"] == "2"
    assert plan_environment({}, 4, 2)["OMP_NUM_THREADS"] == "1"
    assert plan_environment({"OMP_NUM_THREADS": "7"}, 4, 8)["OMP_NUM_THREADS"] == "7"
    assert "OMP_NUM_THREADS" not in plan_environment({"SLURM_JOB_ID": "1"}, 4, 8)
    assert "OMP_NUM_THREADS" not in plan_environment({}, None, 8)


def test_run_a_script_on_ranks_and_pass_its_exit_code(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, ht_meta as ht\n"
        "x = ht.ones(6, split=0)\n"
        "ht.print0(x.comm.size, float(x.sum()), sys.argv[1:])\n"
        "sys.exit(3 if 'fail' in sys.argv else 0)\n"
    )
    done = run("run", "-n", "2", str(script), "-n", "a b")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "2 6.0 ['-n', 'a b']"
    assert run("run", "-n", "2", str(script), "fail").returncode == 3
    done = run("run", "-n", "2", "-m", "script", "-m", "x", cwd=tmp_path)
    assert done.stdout.strip() == "2 6.0 ['-m', 'x']"


def test_open_mpi_is_recognised(tmp_path):
    path = tmp_path / "mpiexec"
    path.write_text("#!/bin/sh\necho 'mpiexec (Open MPI) 5.0.8'\n")
    path.chmod(0o755)
    assert launch.is_open_mpi(str(path))
    path.write_text("#!/bin/sh\necho 'HYDRA build details:'\n")
    assert not launch.is_open_mpi(str(path))
