"""Estimators hold little beyond the data: measured by the peak of a process of its own."""

import subprocess
import sys

_FIT = """
import resource
import torch
from ht_comm import spmd
from ht_core import DNDarray
from ht_core.layout import Layout
from ht_ml.cluster import KMeans
from ht_ml.linear_model import Lasso
from ht_ml.preprocessing import MaxAbsScaler, MinMaxScaler, Normalizer, RobustScaler, StandardScaler

p = 2
scalers = [model(copy=False) for model in (MaxAbsScaler, MinMaxScaler, Normalizer, RobustScaler, StandardScaler)]
steps = {"KMeans": lambda x, y: KMeans(8, init="random", max_iter=3, random_state=0).fit(x).predict(x)}
steps["Lasso"] = lambda x, y: Lasso(lam=0.01, max_iter=20).fit(x, y).predict(x)
for scaler in scalers:
    steps[type(scaler).__name__] = lambda x, y, scaler=scaler: scaler.fit_transform(x)

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

def run(comm, values, target, step):
    layout = Layout.even(tuple(values.shape), 0, comm.size)
    here = layout.slices(comm.rank)[0]
    x, y = DNDarray(values[here], layout, comm), DNDarray(target[here], layout.drop((1,)), comm)
    step(x, y)

values = torch.rand(1000, 150)
for step in steps.values():  # what libraries allocate once
    spmd(p, run, values, values[:, 0], step)
values = torch.rand(270_000, 150)
target = values[:, 0]
before = peak()
for name, step in steps.items():
    spmd(p, run, values, target, step)
    print(name, (peak() - before) / values.nbytes)
"""


def test_no_estimator_copies_the_data():
    """k-means, Lasso and the scalers in place, two ranks, 162 MB: labels, bounds, tiles and scratch, no copy."""
    done = subprocess.run([sys.executable, "-c", _FIT], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    shares = dict(line.split() for line in done.stdout.splitlines())
    assert len(shares) == 7
    assert max(map(float, shares.values())) < 0.25, shares
