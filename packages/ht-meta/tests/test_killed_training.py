"""A rank that is killed in training ends the job, and training goes on from the last checkpoint on other ranks."""

import json
import re
import subprocess
import sys
import time

import pytest
from ht_comm.pytest_group import find_launcher, worker_environment

PROGRAM = """\
import json, os, signal, sys
import ht_meta as ht, torch

path, epochs, killed, when = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
comm = ht.world()
die = lambda: os.kill(os.getpid(), signal.SIGKILL) if comm.rank == killed else None
torch.manual_seed(comm.rank)
x = torch.linspace(-1, 1, 60, dtype=torch.float64).reshape(30, 2)
net = torch.nn.Sequential(torch.nn.Linear(2, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
if not os.path.exists(path):  # rank 0's weights, whatever the number of ranks
    torch.manual_seed(0)
    for p in net.parameters():
        torch.nn.init.normal_(p)
model = ht.nn.DataParallel(net)
optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
data = ht.utils.data.Dataset(ht.array(x, split=0), ht.array(x.prod(1, keepdim=True), split=0))
loader = ht.utils.data.DataLoader(data, batch_size=8, seed=3)
first, losses = 0, []
if os.path.exists(path):
    saved = ht.checkpoint.load(path)
    model.load_state_dict(saved["model"])
    optimizer.load_state_dict(saved["optimizer"])
    first, losses = saved["epoch"], saved["losses"]
loader.set_epoch(first)
for epoch in range(first, epochs):
    total = torch.zeros(1, dtype=torch.float64)
    for batch, (features, target) in enumerate(loader):
        if (epoch, batch, when) == (3, 2, "training"):
            die()
        optimizer.zero_grad()
        loss = torch.nn.functional.mse_loss(model(features), target)
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(target)
    losses.append(float(comm.allreduce(total)) / 30)
    if (epoch, when) == (3, "saving"):
        die()
    if (epoch, when) == (3, "end of saving"):
        os.replace = lambda *names: die()
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
    ht.checkpoint.save(path, {**state, "epoch": epoch + 1, "losses": losses})
if comm.rank == 0:
    print(json.dumps([first, losses]))
"""

pytestmark = pytest.mark.skipif(find_launcher() is None, reason="no mpiexec on this machine")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Return a function that trains on some ranks, as a user starts it."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "train.py").write_text(PROGRAM)

    def start(name, ranks, epochs=5, killed=-1, when="never"):
        launcher = find_launcher()
        own = [flag for flag in launcher.flags if flag != "-disable-auto-cleanup"]
        begin = time.perf_counter()
        done = subprocess.run(
            [*launcher.command, *own, "-n", str(ranks), sys.executable, str(folder / "train.py")]
            + [str(folder / name), str(epochs), str(killed), when],
            env=worker_environment("unused"),
            capture_output=True,
            text=True,
            timeout=60,
            stdin=subprocess.DEVNULL,
        )
        return done, time.perf_counter() - begin

    return start


@pytest.fixture(scope="module")
def curve(run):
    """The losses of a training that nobody interrupts."""
    done, _ = run("whole.h5", 1)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)[1]


@pytest.mark.parametrize(
    ("killed", "when", "resumed_on"), [(1, "training", 2), (0, "end of saving", 1), (2, "saving", 2)]
)
def test_a_killed_rank_ends_the_job_and_the_last_checkpoint_is_whole(run, curve, killed, when, resumed_on):
    name = f"{when}.h5"
    done, seconds = run(name, 3, killed=killed, when=when)
    assert done.returncode != 0
    assert seconds < 30
    assert re.search(r"signal:? 9|EXIT CODE: 9|\(signal 9\)", done.stdout + done.stderr, re.I), done.stderr
    again, _ = run(name, resumed_on)
    assert again.returncode == 0, again.stderr
    first, losses = json.loads(again.stdout)
    assert first == 3
    assert losses == pytest.approx(curve, rel=1e-8)
