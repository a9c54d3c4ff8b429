"""Callbacks of a training: rank 0 reports, once, what it is told; nobody else does, and nothing is sent unasked."""

from __future__ import annotations

import io
import sys
import threading
import types

import pytest
import torch
from ht_comm import spmd
from ht_ml.callbacks import Callback, Callbacks, Progress, Tracker


class Client:
    """Stands for a tracker's run: remembers who has called it."""

    def __init__(self):
        self.calls = []

    def log(self, metrics, step):
        self.calls.append((threading.get_ident(), step, metrics))


class Metric:
    """Another name of the same method."""

    def __init__(self, client):
        self.log_metrics = client.log


class Rounds(Callback):
    """Is called on every rank, and may send."""

    everywhere = True

    def __init__(self, comm):
        self.comm, self.seen = comm, []

    def on_epoch(self, epoch, metrics):
        self.seen.append(int(self.comm.allreduce(torch.tensor([epoch + 1]))))


def train(comm, client, every=1):
    """Two epochs of three steps; the losses differ between the ranks."""
    rounds = Rounds(comm)
    with comm.trace() as sent, Callbacks([Tracker(client, "mean "), rounds], every=every, comm=comm) as watch:
        for epoch in range(2):
            for step in range(3):
                watch.step(loss=torch.tensor(10.0 * comm.rank + step, requires_grad=True))
            watch.epoch(epoch, loss=float(comm.rank + epoch), average=True)
    assert rounds.seen == [comm.size, 2 * comm.size]
    return threading.get_ident(), sent.bytes


@pytest.mark.parametrize("kind", [lambda c: c, Metric, lambda c: c.log])
@pytest.mark.parametrize("p", [1, 3])
def test_a_tracker_is_told_by_rank_0_only(p, kind):
    client = Client()
    told = spmd(p, lambda comm: train(comm, kind(client)))
    assert {who for who, _, _ in client.calls} == {told[0][0]}
    steps = [(step, {"loss": value}) for step, value in zip(range(1, 4), (0.0, 1.0, 2.0))]
    ends = [(3 * (e + 1), {"mean loss": (p - 1) / 2 + e, "epoch": e}) for e in range(2)]
    later = [(step + 3, metrics) for step, metrics in steps]
    assert [call[1:] for call in client.calls] == [*steps, ends[0], *later, ends[1]]
    # Two means of one metric, and what the callback that runs everywhere has sent.
    assert all(nbytes == (0 if p == 1 else 4 * 8) for _, nbytes in told)


def test_a_client_is_needed_on_rank_0_only():
    def run(comm):
        client = Client() if comm.rank == 0 else None
        train(comm, client, every=2)
        return [call[1] for call in client.calls] if client else None

    assert spmd(2, run) == [[2, 2, 4, 6, 6], None]
    with pytest.raises(TypeError, match="on rank 0, got None"):
        Tracker(None).on_step(1, {})


def test_steps_go_on_and_only_those_due_are_read():
    class Unread:
        def __float__(self):
            raise AssertionError("was read")

    client = Client()
    watch = Callbacks([Tracker(client)], every=4, step=6)
    watch.step(loss=Unread())
    watch.step(loss=1)
    assert [call[1:] for call in client.calls] == [(8, {"loss": 1.0})]


def test_the_bar_is_ours_or_that_of_tqdm(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)  # as if it were not installed
    shown = io.StringIO()
    with Callbacks([Progress(3, "fit", enabled=True, file=shown)]) as watch:
        for _ in range(3):
            watch.step(loss=0.25)
    assert "fit" in shown.getvalue()
    assert "3/3" in shown.getvalue()

    made = []

    class Bar:
        def __init__(self, **options):
            self.options, self.done, self.is_closed = options, 0, False
            made.append(self)

        def update(self, steps):
            self.done += steps

        def set_postfix_str(self, note, refresh):
            self.note = note

        def close(self):
            self.is_closed = True

    monkeypatch.setitem(sys.modules, "tqdm", types.ModuleType("tqdm"))
    monkeypatch.setitem(sys.modules, "tqdm.auto", types.SimpleNamespace(tqdm=Bar))

    def run(comm):
        with Callbacks([Progress(5, "fit")], every=2, comm=comm) as watch:
            for _ in range(5):
                watch.step(loss=0.25)

    spmd(2, run)
    (bar,) = made  # on rank 0
    assert (bar.options["total"], bar.options["desc"], bar.done) == (5, "fit", 4)
    assert (bar.note, bar.is_closed) == ("loss 0.25", True)


def test_they_end_with_an_exception():
    class Ended(Callback):
        is_ended = False

        def on_end(self):
            self.is_ended = True

    ended = Ended()
    watch = Callbacks([ended, Callback(), Progress()])
    with pytest.raises(ZeroDivisionError), watch:
        watch.step(loss=1 / 0)
    assert ended.is_ended


def test_refusals():
    with pytest.raises(ValueError, match="every must be at least 1, got 0"):
        Callbacks([], every=0)
    with pytest.raises(TypeError, match=r"got Client; for an experiment tracker use Tracker\(client\)"):
        Callbacks([Client()])
    with pytest.raises(TypeError, match=r"client must have log\(metrics, step\).* got int"):
        Tracker(3)
