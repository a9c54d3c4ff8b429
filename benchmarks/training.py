"""Training steps beside torch's DistributedDataParallel (gloo), same model, same ranks, in turn.

    mpiexec -n 2 python benchmarks/training.py

Each figure is the median time of a step (forward, backward with all messages, optimizer) on the slowest rank, one
thread per rank, over rounds in which the contenders take turns; "alone" sends nothing.
"""

from __future__ import annotations

import argparse
import itertools
import socket
import statistics
import time

import ht_meta as ht
import torch
import torch.distributed as dist
from torch.nn.functional import cross_entropy

# name: widths of the layers, samples per rank
MODELS = {
    "small": ((64, 128, 128, 10), 64),
    "wide": ((1024, 2048, 2048, 10), 64),
    "deep": ((256,) * 40 + (10,), 128),
}


def network(widths: tuple[int, ...]) -> torch.nn.Module:
    """Return a perceptron, the same on every rank."""
    torch.manual_seed(0)
    layers: list[torch.nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        layers += [torch.nn.Linear(n_in, n_out), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def start_gloo(comm) -> None:
    """Let torch's processes meet; rank 0 chooses a port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = comm.bcast_object(probe.getsockname()[1])
    dist.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=comm.rank, world_size=comm.size)


def step_time(model: torch.nn.Module, x: torch.Tensor, y: torch.Tensor, comm, steps: int) -> float:
    """Return the median seconds of a training step on the slowest rank."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    times = []
    comm.barrier()
    for _ in range(steps):
        begin = time.perf_counter()
        optimizer.zero_grad()
        cross_entropy(model(x), y).backward()
        optimizer.step()
        times.append(time.perf_counter() - begin)
    median = torch.tensor([statistics.median(times)], dtype=torch.float64)
    return float(comm.allreduce(median, "max"))


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=15)
    options = parser.parse_args()
    comm = ht.get_comm()
    torch.set_num_threads(1)
    start_gloo(comm)
    ht.print0(f"{'model':8}{'alone ms':>10}{'ours ms':>10}{'DDP ms':>10}{'ours is faster by':>20}")
    for name, (widths, batch) in MODELS.items():
        x, y = torch.randn(batch, widths[0]), torch.randint(widths[-1], (batch,))
        contenders = {
            "alone": network(widths),
            "ours": ht.nn.DataParallel(network(widths)),
            "ddp": dist_model(network(widths)),
        }
        times: dict[str, list[float]] = {key: [] for key in contenders}
        for round_number in range(options.rounds + 1):
            for key, model in contenders.items():
                seconds = step_time(model, x, y, comm, options.steps)
                if round_number:  # the first one warms up
                    times[key].append(seconds)
        alone, ours, ddp = (1e3 * statistics.median(times[key]) for key in ("alone", "ours", "ddp"))
        ht.print0(f"{name:8}{alone:10.2f}{ours:10.2f}{ddp:10.2f}{ddp / ours:19.2f}x")
    dist.destroy_process_group()


def dist_model(module: torch.nn.Module) -> torch.nn.Module:
    """Wrap a module as torch does."""
    return torch.nn.parallel.DistributedDataParallel(module)


if __name__ == "__main__":
    main()
