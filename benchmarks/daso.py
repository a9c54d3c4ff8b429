"""DASO beside synchronous training, on real data: loss and bytes over seeds, time on a link of limited rate.

    mpiexec -n 4 python benchmarks/daso.py --seeds 10 11 12 13 14
    python benchmarks/daso.py --rate 1000

The first trains on scikit-learn's handwritten digits from several seeds, with nodes of one and of two ranks. The
second makes two hosts of network namespaces (as root), limits what each may send to so many Mbit/s, and times both
kinds of training, in turn, on the slowest rank; without a rate it uses the ranks that it was started with.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import subprocess
import sys
import time

import ht_meta as ht
import torch
from ht_comm.hosts import Hosts
from ht_comm.launcher import launched_as
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

SAMPLES, BATCH = 1440, 120


def network(seed: int, hidden: tuple[int, ...]) -> torch.nn.Module:
    """Return a perceptron, the same on every rank."""
    torch.manual_seed(seed)
    widths = (64, *hidden, 10)
    layers: list[torch.nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def train(make, options, seed: int) -> tuple[float, float]:
    """Train on the first rows; return their final loss, and the seconds on the slowest rank."""
    comm = ht.get_comm()
    images, labels = load_digits(return_X_y=True)
    x, y = torch.from_numpy(images / 16).float()[:SAMPLES], torch.from_numpy(labels)[:SAMPLES]
    module = network(seed, tuple(options.hidden))
    sgd = torch.optim.SGD(module.parameters(), lr=0.2, momentum=0.9, weight_decay=0.01)
    decay = torch.optim.lr_scheduler.ExponentialLR(sgd, 0.85)
    model, optimizer, end_epoch = make(module, sgd, decay)
    comm.barrier()
    begin = time.perf_counter()
    for epoch in range(options.epochs):
        order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(1000 * seed + epoch))
        total = 0.0
        for first in range(0, SAMPLES, BATCH):
            rows = order[first : first + BATCH][comm.rank :: comm.size]
            optimizer.zero_grad()
            loss = cross_entropy(model(x[rows]), y[rows])
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * BATCH / SAMPLES
        end_epoch(total)
    seconds = torch.tensor([time.perf_counter() - begin], dtype=torch.float64)
    with torch.no_grad():
        return float(cross_entropy(model(x), y)), float(comm.allreduce(seconds, "max"))


def synchronous(options, seed: int) -> tuple[float, float, int]:
    """Return final loss, seconds, and bytes that this rank sent."""
    with ht.get_comm().trace() as sent:
        loss, seconds = train(
            lambda net, sgd, decay: (ht.nn.DataParallel(net), sgd, lambda loss: decay.step()), options, seed
        )
    return loss, seconds, sent.bytes


def selective(options, seed: int, ranks_per_node: int | None, **choices) -> tuple[float, float, int]:
    """Return final loss, seconds, and bytes between nodes, per node."""
    comm, made = ht.get_comm(), []

    def make(net, sgd, decay):
        daso = ht.optim.DASO(
            sgd,
            options.epochs,
            comm,
            *options.blocking,
            decay,
            max_global_skips=options.skips,
            ranks_per_node=ranks_per_node,
            **choices,
        )
        made.append(daso)
        return daso.set_model(net), daso, daso.epoch_loss_logic

    loss, seconds = train(make, options, seed)
    between = int(comm.allreduce(torch.tensor([made[0].global_bytes])))
    made[0].free()
    nodes = len(set(comm.allgather_object(comm.rank // (ranks_per_node or comm.node().size))))
    return loss, seconds, between // nodes


def compare_losses(options) -> None:
    """Print a row per seed and size of the nodes."""
    comm = ht.get_comm()
    ht.print0(
        f"{'seed':>5}{'node':>6}{'synchronous':>13}{'DASO':>9}{'bytes':>9}{'in float32':>12}{'bytes':>9}"
    )
    for seed in options.seeds:
        expected, _, nbytes = synchronous(options, seed)
        for node in (1, 2):
            row = f"{seed:5}{node:6}{expected:13.5f}"
            for dtype, width in ((torch.bfloat16, 9), (None, 12)):
                loss, _, between = selective(options, seed, node, downcast_type=dtype)
                row += f"{loss / expected - 1:+{width}.2%}{nbytes / between:8.2f}x"
            ht.print0(row)
        comm.barrier()


def compare_times(options) -> None:
    """Print the median time of each kind of training, and how much DASO saves."""
    times: dict[str, list[float]] = {"synchronous": [], "DASO": []}
    losses = {}
    for round_number in range(options.rounds):
        losses["synchronous"], seconds, _ = synchronous(options, round_number)
        times["synchronous"].append(seconds)
        losses["DASO"], seconds, _ = selective(options, round_number, None)
        times["DASO"].append(seconds)
    both, one = (statistics.median(times[name]) for name in ("synchronous", "DASO"))
    count = sum(p.numel() for p in network(0, tuple(options.hidden)).parameters())
    ht.print0(
        f"{count} parameters, {ht.get_comm().size} ranks: synchronous {both:.2f} s, loss "
        f"{losses['synchronous']:.4f}; DASO {one:.2f} s, loss {losses['DASO']:.4f}: {1 - one / both:.0%} less"
    )


def on_slow_hosts(options) -> int:
    """Run this file on two hosts whose links are limited; return its exit status."""
    with Hosts(2) as hosts:
        for number in range(2):
            inside = [
                "ip",
                "netns",
                "exec",
                f"{hosts.name}-{number}",
                "tc",
                "qdisc",
                "add",
                "dev",
                hosts.name,
            ]
            # A burst is what passes between two ticks of a slow clock.
            limit = ["root", "tbf", "rate", f"{options.rate}mbit", "burst", f"{max(64, options.rate)}kb"]
            subprocess.run([*inside, *limit, "latency", "400ms"], check=True)
        command = [*hosts.launcher(options.ranks), "-n", str(2 * options.ranks), sys.executable, __file__]
        given = ["--rounds", options.rounds, "--epochs", options.epochs, "--hidden", *options.hidden]
        given += ["--blocking", *options.blocking, "--skips", options.skips]
        return subprocess.run([*command, *map(str, given)], stdin=subprocess.DEVNULL).returncode


def main() -> int:
    """Choose what to measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seeds", type=int, nargs="+", help="compare loss and bytes")
    parser.add_argument("--rate", type=int, help="Mbit/s of each of two emulated hosts")
    parser.add_argument("--ranks", type=int, default=1, help="on each host")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument(
        "--blocking", type=int, nargs=2, default=(2, 4), help="epochs of warm-up and cool-down"
    )
    parser.add_argument("--skips", type=int, default=8, help="batches between exchanges, at most")
    parser.add_argument("--hidden", type=int, nargs="+", default=[24], help="widths of the hidden layers")
    options = parser.parse_args()
    if options.rate and launched_as()[1] == 1:
        return on_slow_hosts(options)
    torch.set_num_threads(1)
    (compare_losses if options.seeds else compare_times)(options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
