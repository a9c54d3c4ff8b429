"""Forecast of a flow: python dmd_forecast.py, or mpiexec -n 4 python dmd_forecast.py.

Waves on a ring of 400 points, some fading and some growing, are recorded with noise; dynamic mode decomposition of the
first half of the record, split along space, finds the growth and the frequency of each and forecasts the other half,
in dmd_forecast.png.
"""

import ht_meta as ht
import matplotlib
import numpy as np

POINTS, STEPS, LEARNED, DT = 400, 200, 100, 0.1
WAVES = (
    (1, 0.9, -0.01, 1.0),
    (3, 2.2, 0.02, 0.4),
    (4, 3.5, -0.06, 0.8),
)  # number, frequency, growth, amplitude


def record(noise=0.002):
    """Snapshots as columns, shape (POINTS, STEPS)."""
    x = np.linspace(0.0, 2.0 * np.pi, POINTS, endpoint=False)[:, None]
    t = DT * np.arange(STEPS)
    waves = sum(a * np.exp(growth * t) * np.cos(k * x - omega * t) for k, omega, growth, a in WAVES)
    return waves + noise * np.random.default_rng(0).normal(size=waves.shape)


def draw(truth, forecast, rates, path):
    """Write the record, the forecast and the eigenvalues as a picture."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(15, 4), layout="constrained")
    for axis, title, image in zip(axes, ("record", "forecast from one snapshot"), (truth, forecast)):
        axis.imshow(image, aspect="auto", vmin=-2.5, vmax=2.5, cmap="RdBu")
        axis.axvline(LEARNED, color="black", linestyle="--")
        axis.set(title=title, xlabel="step", ylabel="place")
    axes[2].scatter(rates.real, rates.imag)
    axes[2].set(title="eigenvalues", xlabel="growth", ylabel="frequency")
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


X = ht.array(record(), split=0)
model = ht.decomposition.DMD(svd_solver="full", svd_rank=2 * len(WAVES)).fit(X[:, :LEARNED])
forecast = model.predict(X[:, 0], STEPS)
error = float(ht.linalg.norm(forecast - X) / ht.linalg.norm(X))
later = float(ht.linalg.norm((forecast - X)[:, LEARNED:]) / ht.linalg.norm(X[:, LEARNED:]))
rates = np.log(model.rom_eigenvalues_.numpy()) / DT
ht.print0(f"{model.n_modes_} modes of {X.shape[0]} points on {X.comm.size} rank(s)")
for rate in sorted(rates, key=abs):
    if rate.imag > 0:
        ht.print0(f"frequency {rate.imag:.3f}, growth {rate.real:+.3f}")
ht.print0(f"relative error {error:.4f}, of the half that was not learned {later:.4f}")

truth, forecast = X.numpy(), forecast.numpy()  # small: every rank may have them
if X.comm.rank == 0:
    draw(truth, forecast, rates, "dmd_forecast.png")
