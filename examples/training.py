"""Train a torch network on all ranks, synchronously and with DASO; stop, and go on from the checkpoint.

    mpiexec -n 4 python examples/training.py --epochs 20

The batches and their order do not depend on the number of ranks, so neither does the loss (but for rounding): a
checkpoint written by four ranks goes on with three. Needs scikit-learn for its handwritten digits.
"""

import argparse
import os

import ht_meta as ht
import torch
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy


def network() -> torch.nn.Module:
    """Return a small network; only rank 0's weights count."""
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))


def make_optimizer(model: torch.nn.Module) -> torch.optim.Optimizer:
    """Return the same optimizer for both kinds of training."""
    return torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=0.01)


def train_epoch(model, optimizer, loader) -> float:
    """Go through the data once; return the mean loss per sample of all ranks."""
    total, count = 0.0, 0
    for images, labels in loader:
        optimizer.zero_grad()
        loss = cross_entropy(model(images), labels)
        loss.backward()  # the gradients are those of the global batch now
        optimizer.step()
        total, count = total + float(loss.detach()) * len(labels), count + len(labels)
    total, count = ht.get_comm().allreduce(torch.tensor([total, count], dtype=torch.float64)).tolist()
    return total / count


def synchronous(train, epochs: int, path: str, report) -> list[float]:
    """Train, writing a checkpoint after each epoch; go on from it if there is one."""
    model = ht.nn.DataParallel(network())
    optimizer = make_optimizer(model)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    loader = ht.utils.data.DataLoader(train, batch_size=64, seed=1)
    parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
    first, losses = 0, []
    if os.path.exists(path):
        saved = torch.load(path, weights_only=True)
        for name, part in parts.items():
            part.load_state_dict(saved[name])
        first, losses = saved["epoch"], saved["losses"]
    loader.set_epoch(first)
    for epoch in range(first, epochs):
        losses.append(train_epoch(model, optimizer, loader))
        scheduler.step()
        report(epoch, losses[-1])
        if ht.get_comm().rank == 0:
            states = {name: part.state_dict() for name, part in parts.items()}
            torch.save({**states, "epoch": epoch + 1, "losses": losses}, path + ".new")
            os.replace(path + ".new", path)  # a run that is killed leaves the last one whole
    ht.get_comm().barrier()
    return losses


def selective(train, epochs: int, report) -> tuple[torch.nn.Module, int]:
    """Train with DASO on nodes of two ranks; return the network and the bytes this rank sent between nodes."""
    module = network()
    optimizer = make_optimizer(module)
    scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    daso = ht.optim.DASO(
        optimizer, epochs, warmup_epochs=1, cooldown_epochs=2, scheduler=scheduler, ranks_per_node=2
    )
    model = daso.set_model(module)
    loader = ht.utils.data.DataLoader(train, batch_size=64, seed=1)
    for epoch in range(epochs):
        report(epoch, daso.epoch_loss_logic(train_epoch(model, daso, loader)))
    daso.free()
    return module, daso.global_bytes


def accuracy(model: torch.nn.Module, data) -> float:
    """Return the share of right answers over all ranks."""
    hits = torch.zeros(2, dtype=torch.float64)
    with torch.no_grad():
        for images, labels in ht.utils.data.DataLoader(data, batch_size=256, shuffle=False):
            found = model(images).argmax(1)
            hits += torch.tensor([float((found == labels).sum()), len(labels)], dtype=torch.float64)
    right, count = ht.get_comm().allreduce(hits).tolist()
    return right / count


def main() -> None:
    """Train twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--checkpoint", default="training.pt")
    options = parser.parse_args()

    def report(epoch: int, loss: float) -> None:
        """Tell a person, or an experiment tracker: once, from rank 0."""
        ht.print0(f"epoch {epoch + 1}: loss {loss:.4f}")

    images, labels = load_digits(return_X_y=True)
    images = ht.array((images / 16).astype("float32"), split=0)
    train, test = ht.utils.data.create_train_val_split(images, ht.array(labels, split=0), p=0.2, seed=0)

    # As if stopped half-way: the second call goes on where the first ended.
    synchronous(train, options.epochs // 2, options.checkpoint, report)
    synchronous(train, options.epochs, options.checkpoint, report)
    model = network()
    model.load_state_dict(torch.load(options.checkpoint, weights_only=True)["model"])
    share = accuracy(model, test)
    daso_model, nbytes = selective(train, options.epochs, report)
    daso_share = accuracy(daso_model, test)
    ht.print0(f"right answers: {share:.1%}; with DASO: {daso_share:.1%}, {nbytes} bytes between nodes")
    if min(share, daso_share) < 0.85:
        raise SystemExit("the networks have not learned")


if __name__ == "__main__":
    main()
