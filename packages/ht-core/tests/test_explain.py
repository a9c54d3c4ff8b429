"""What `explain` tells against what `comm.trace()` counts; the memory budget."""

import importlib.util
import tracemalloc

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.testing import spread

VALUES = np.random.default_rng(5).normal(size=(9, 4))

EXACT = {
    "elementwise": lambda x, y: ht.exp(x) * 2 + x,
    "two layouts": lambda x, y: x + y,
    "sum": lambda x, y: x.sum(),
    "mean of axis": lambda x, y: x.mean(axis=0),
    "variance": lambda x, y: x.var(axis=1),
    "maximum": lambda x, y: x.max(axis=0),
    "argmax": lambda x, y: x.argmax(),
    "resplit": lambda x, y: x.resplit(1),
    "gather": lambda x, y: x.resplit(None),
    "balance": lambda x, y: ht.balance(x),
    "collect": lambda x, y: ht.collect(x, 1),
    "numpy": lambda x, y: x.numpy(),
    "row": lambda x, y: x[4],
    "slice": lambda x, y: x[2:7:2, 1:],
    "backwards": lambda x, y: x[::-1],
    "replicated index": lambda x, y: x[[8, 0, 4, 0]],
    "replicated index in order": lambda x, y: x[[0, 4, 8]],
    "mask": lambda x, y: x[x[:, 0] > 0],
    "nonzero": lambda x, y: ht.nonzero(x[:, 0]),
    "concatenate": lambda x, y: ht.concatenate([x, x]),
    "reshape": lambda x, y: x.reshape(4, 9),
    "transpose": lambda x, y: x.T.resplit(0),
    "chain": lambda x, y: ((x - x.mean(axis=0)) / x.std(axis=0)).resplit(1).sum(axis=1),
}
if importlib.util.find_spec("ht_linalg") is not None:  # products are its own
    EXACT |= {
        "matmul": lambda x, y: x.T @ y,
        "gram": lambda x, y: x.T @ x,
        "outer product": lambda x, y: x @ y.T,
    }
SPLITS = {0: {2: (4, 5), 3: (2, 0, 7), 4: (1, 3, 3, 2)}, 1: {2: (3, 1), 3: (2, 1, 1), 4: (0, 1, 1, 2)}}


@pytest.mark.parametrize("p", [2, 3, 4])
@pytest.mark.parametrize("name", EXACT)
def test_explain_counts_what_is_sent(name, p):
    f = EXACT[name]

    def run(comm):
        found = []
        for split in (0, 1):
            x = spread(VALUES, split, SPLITS[split][p], comm)
            y = spread(VALUES, 1, SPLITS[1][p], comm)
            with comm.trace() as told:
                plan = ht.explain(f, x, y)
            with comm.trace() as sent:
                f(x, y)
            calls = tuple((e.op, e.messages, e.bytes) for e in sent.events)
            found.append((told.calls, plan, calls))
        return found

    for rank, found in enumerate(spmd(p, run)):
        for told, plan, calls in found:
            assert told == 0
            assert plan.is_complete
            assert plan.ranks[rank].calls == calls
            assert plan.is_exact or name in ("mask", "nonzero")


@pytest.mark.mpi
def test_explain_counts_what_processes_send(comm):
    """Also where ranks read each other's memory, which is counted as the messages it replaces."""
    values = np.ones((600, 700))  # long enough to be read
    x = ht.array(values, split=0, comm=comm)
    y = ht.array(values.T.copy(), split=1, comm=comm)
    names = ("resplit", "gather", "numpy", "transpose", "concatenate", "row", "mean of axis", "gram")
    for name in filter(EXACT.__contains__, names):
        plan = ht.explain(EXACT[name], x, y)
        with comm.trace() as sent:
            EXACT[name](x, y)
        calls = tuple((e.op, e.messages, e.bytes) for e in sent.events)
        assert plan.ranks[comm.rank].calls == calls, name


def test_explanations_are_equal_on_all_ranks_and_readable():
    def run(comm):
        x = ht.zeros((10, 4), dtype=ht.float32, split=0, comm=comm)
        plan = ht.explain(lambda x: x.resplit(1), x)
        return plan, str(plan), plan._repr_html_()

    plans = spmd(3, run)
    assert all(each == plans[0] for each in plans)
    plan, text, page = plans[0]
    assert plan.layouts == (ht.Layout((10, 4), 1, (2, 1, 1)),)
    assert text.splitlines()[0].split() == ["rank", "calls", "messages", "bytes", "peak", "memory"]
    assert "redistribute" in text
    assert "split=1" in text
    assert page.count("<tr>") == 4
    assert plan.bytes == 3 * 3 * 4
    assert plan.peak_bytes == 10 * 2 * 4


def test_explain_takes_no_memory_and_leaves_arguments_alone():
    def run(comm):
        local = torch.empty(0)
        layout = ht.Layout.even((2**28, 4), 0, comm.size)  # 4 GiB that nobody allocates
        huge = ht.DNDarray(local, layout, comm)
        plan = ht.explain(lambda x: (x * 2 + 1).resplit(1).sum(axis=0), huge)
        return plan.bytes, plan.peak_bytes

    tracemalloc.start()
    found = spmd(2, run)
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()
    nbytes, peak = found[0]
    assert nbytes >= 2**28 * 4  # half of a rank's half goes to the other one
    assert peak >= 2 * 2**28 * 2 * 4


def test_more_ranks_than_are_asked():
    plan = spmd(9, lambda comm: ht.explain(lambda x: x.sum(), ht.ones(20, split=0, comm=comm)))[0]
    assert [r.rank for r in plan.ranks] == [0, 1, 4, 8]
    assert "4 of 9 ranks are shown" in str(plan)


def test_values_end_an_explanation():
    def run(comm):
        x = ht.ones(5, split=0, comm=comm)
        return ht.explain(lambda x: x * float(x.sum()), x)

    plan = spmd(2, run)[0]
    assert not plan.is_complete
    assert [name for name, _, _ in plan.ranks[0].calls] == ["allreduce"]
    assert "values are needed" in str(plan)


# -- memory budget --------------------------------------------------------------------------------------------------

REFUSED = {
    "gather": lambda x: x.resplit(None),
    "numpy": lambda x: x.numpy(),
    "collect": lambda x: ht.collect(x, 0),
    "create": lambda x: ht.zeros((2000, 100), dtype=ht.float64, comm=x.comm),
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_budget_refuses_before_any_message(name):
    def run(comm):
        x = ht.ones((2000, 100), dtype=ht.float64, split=0, comm=comm)
        with ht.memory_budget("1 MB"):
            assert ht.get_memory_budget() == 10**6
            with comm.trace() as sent, pytest.raises(ht.MemoryBudgetError) as caught:
                REFUSED[name](x)
            fits = x[:100].resplit(1).shape
        assert ht.get_memory_budget() is None
        REFUSED[name](x)
        return sent.calls, str(caught.value), fits

    results = spmd(3, run)
    assert all(each == results[0] for each in results)
    calls, text, fits = results[0]
    assert calls == 0
    assert fits == (100, 100)
    assert "budget of 1000000 bytes" in text
    assert "(2000, 100)" in text


@pytest.mark.parametrize("wrong", ["much", -1, 1.5, "3 parsec"])
def test_budgets_that_are_none(wrong):
    with pytest.raises(ht.LayoutError, match="memory_budget"):
        ht.memory_budget(wrong)
