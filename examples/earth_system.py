"""Post-processing of a climate model's output: python earth_system.py, or mpiexec -n 4 python earth_system.py.

NetCDF -> parallel load, split along time -> mean annual cycle -> anomalies -> trend of each place -> patterns of
variability (PCA, weighted by area) -> NetCDF and earth_system.png. The file is written first: temperatures with an
annual cycle, a warming of 0.02 degrees per year, strongest in the north, and one pattern that goes and comes.
"""

import ht_meta as ht
import matplotlib
import numpy as np

YEARS, LATITUDES, LONGITUDES = 30, 24, 36


def write_output(path):
    """Write a small output as climate models do: packed integers with a scale, times without end."""
    rng = np.random.default_rng(0)
    month = np.arange(12 * YEARS)[:, None, None]
    latitude = np.linspace(-85, 85, LATITUDES)
    longitude = np.linspace(0, 350, LONGITUDES)
    north, east = np.deg2rad(latitude)[:, None], np.deg2rad(longitude)
    warming = 0.02 * (1.0 + np.sin(north)) * month / 12
    cycle = -15.0 * np.sin(north) * np.cos(2 * np.pi * month / 12)
    pattern = np.cos(north) ** 4 * np.cos(2 * east)
    index = np.convolve(rng.normal(size=12 * YEARS + 11), np.ones(12) / 12**0.5, "valid")
    kelvin = 288.0 - 30.0 * np.sin(north) ** 2 + warming + cycle + index[:, None, None] * pattern
    kelvin = kelvin + 0.3 * rng.normal(size=(12 * YEARS, LATITUDES, LONGITUDES))
    packed = np.round((kelvin - 273.15) / 0.002).astype(np.int16)
    variables = {
        "tas": ht.array(packed, split=0),
        "lat": ht.array(latitude),
        "lon": ht.array(longitude),
    }
    ht.save_netcdf(
        variables,
        path,
        dimension_names={"tas": ("time", "lat", "lon"), "lat": ("lat",), "lon": ("lon",)},
        is_unlimited="time",
        attrs={"tas": {"units": "K", "scale_factor": 0.002, "add_offset": 273.15}},
    )
    return pattern


def draw(panels, score, path):
    """Write maps and the time series of the first pattern as a picture."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 4, figsize=(17, 3.5), layout="constrained")
    for axis, (title, image) in zip(axes, panels.items()):
        figure.colorbar(axis.imshow(image, origin="lower", aspect="auto"), ax=axis)
        axis.set(title=title, xticks=[], yticks=[])
    axes[3].plot(score)
    axes[3].set(title="first pattern over time", xlabel="month")
    figure.savefig(path, dpi=80)
    pyplot.close(figure)


planted = write_output("tas.nc")
T = ht.load_netcdf("tas.nc", "tas", dtype=ht.float64, split=0)
latitude = ht.load_netcdf("tas.nc", "lat")
weights = ht.sqrt(ht.cos(ht.deg2rad(latitude)))[:, None]
ht.print0(f"{T.shape[0]} months of {T.shape[1]} x {T.shape[2]} places on {T.comm.size} rank(s)")

month = ht.arange(T.shape[0], split=0)
anomalies = T - T.mean(axis=0)
basis = [ht.cos(2 * np.pi * month / 12), ht.sin(2 * np.pi * month / 12), month / 120.0 - month.mean() / 120.0]
design = ht.stack([part.astype(ht.float64) for part in basis], axis=1)
flat = anomalies.reshape((T.shape[0], -1))
cycle = ht.linear_model.LinearRegression(fit_intercept=False).fit(design, flat)
trend = cycle.coef_[:, 2].reshape(T.shape[1:])  # kelvin in ten years
rest = (flat - cycle.predict(design)).reshape(T.shape)
area = float((trend * weights**2).mean() / (weights**2).mean())
ht.print0(f"warming {area:.3f} K in ten years, in the north {float(trend[-1].mean()):.3f}")

pca = ht.decomposition.PCA(3).fit((rest * weights).reshape((T.shape[0], -1)))
score = pca.transform((rest * weights).reshape((T.shape[0], -1)))[:, 0]
pattern = pca.components_[0].reshape(T.shape[1:]) / weights
likeness = abs(np.corrcoef(pattern.numpy().ravel(), planted.ravel())[0, 1])
ht.print0(
    f"first pattern: {float(pca.explained_variance_ratio_[0]):.2f} of the variance, likeness {likeness:.3f}"
)

ht.save_netcdf(
    {"trend": trend, "pattern": pattern},
    "climate.nc",
    dimension_names=dict.fromkeys(("trend", "pattern"), ("lat", "lon")),
)
spread = rest.std(axis=0)
panels = {
    "trend, K in ten years": trend.numpy(),
    "standard deviation": spread.numpy(),
    "first pattern": pattern.numpy(),
}
series = score.numpy()
if T.comm.rank == 0:
    draw(panels, series, "earth_system.png")
