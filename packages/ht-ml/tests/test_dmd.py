"""DMD and DMDc: forecasts and eigenvalues of known linear systems, from any layout of the snapshots."""

import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import spread, whole
from ht_ml.base import NotFittedError, clone
from ht_ml.decomposition import DMD, DMDc

SOLVERS = (
    {},
    {"svd_rank": 4},
    {"svd_tol": 1e-9},
    {"svd_solver": "hierarchical", "svd_rank": 4},
    {"svd_solver": "hierarchical", "svd_tol": 1e-9},
    {"svd_solver": "randomized", "svd_rank": 4},
)
SPLITS = ("none", "space", "time", "uneven space", "last in time")


def system(n=30, steps=25):
    """Two rotations, one decaying: the eigenvalues, the map and the snapshots."""
    rng = np.random.default_rng(5)
    small = np.zeros((4, 4))
    for i, (radius, angle) in enumerate(((1.0, 0.4), (0.9, 1.1))):
        turn = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        small[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = radius * np.array(turn)
    q = np.linalg.qr(rng.normal(size=(n, 4)))[0]
    map_ = q @ small @ q.T
    states = [q @ rng.normal(size=4)]
    for _ in range(steps):
        states.append(map_ @ states[-1])
    return np.linalg.eigvals(small), map_, np.array(states).T


def place(values, comm, kind):
    if kind == "none":
        return spread(values, None, (), comm)
    axis = 0 if "space" in kind else 1
    n, p = values.shape[axis], comm.size
    if kind == "uneven space":
        counts = tuple(np.diff((np.linspace(0, 1, p + 1) ** 2 * n).astype(int)).tolist())
    elif kind == "last in time":
        counts = (0,) * (p - 1) + (n,)
    else:
        counts = tuple(len(part) for part in np.array_split(np.arange(n), p))
    return spread(values, axis, counts, comm)


@pytest.mark.parametrize("parameters", SOLVERS, ids=str)
def test_forecasts_of_a_known_system(parameters):
    eigenvalues, map_, snapshots = system()
    current = snapshots[:, -2:]
    later = np.linalg.matrix_power(map_, 7) @ current

    def run(comm, kind):
        model = DMD(**parameters)
        X = place(snapshots, comm, kind)
        assert model.fit(X) is model
        assert model.n_modes_ == 4
        np.testing.assert_array_equal(whole(X), snapshots)
        found = model.rom_eigenvalues_.numpy()
        assert np.abs(found[:, None] - eigenvalues).min(0).max() < 1e-9
        modes = whole(model.dmdmodes_)  # eigenvectors of the whole map
        np.testing.assert_allclose(map_ @ modes, modes * found, atol=1e-8)
        basis = whole(model.rom_basis_)
        np.testing.assert_allclose(basis.T @ basis, np.eye(4), atol=1e-12)
        assert "space" not in kind or model.rom_basis_.split == 0
        assert model.dmdmodes_.split == model.rom_basis_.split
        columns = place(current, comm, kind)
        np.testing.assert_allclose(whole(model.predict_next(columns, 7)), later, atol=1e-8)
        one = model.predict_next(whole(columns)[:, 0], 7)
        assert one.shape == (30,)
        np.testing.assert_allclose(whole(one), later[:, 0], atol=1e-8)
        first = model.predict(snapshots[:, 0], 26)
        np.testing.assert_allclose(whole(first), snapshots, atol=1e-8)
        several = model.predict(columns, [7, 0])
        assert several.shape == (2, 30, 2)
        np.testing.assert_allclose(whole(several)[:, :, 0], later.T, atol=1e-8)
        np.testing.assert_allclose(whole(several)[:, :, 1], current.T, atol=1e-8)
        return found

    one = spmd(1, run, "none")[0]
    for p in (2, 4):
        for kind in SPLITS:
            for found in spmd(p, run, kind):
                np.testing.assert_allclose(found, one, atol=1e-9)


def test_float32_stays():
    _, _, snapshots = system()

    def run(comm):
        model = DMD(svd_rank=4).fit(place(snapshots.astype("float32"), comm, "space"))
        assert model.rom_basis_.larray.dtype == model.rom_transfer_matrix_.larray.dtype
        found = model.predict(snapshots[:, 0].astype("float32"), 26)
        assert whole(found).dtype == np.float32
        np.testing.assert_allclose(whole(found), snapshots, atol=1e-4)

    spmd(2, run)


def controlled(n=12, steps=40):
    rng = np.random.default_rng(7)
    _, map_, _ = system(n)
    gain = rng.normal(size=(n, 2)) @ np.diag([1.0, 0.3])
    controls = rng.normal(size=(2, steps))
    states = [rng.normal(size=n)]
    for k in range(steps - 1):
        states.append(map_ @ states[-1] + gain @ controls[:, k])
    return map_, gain, np.array(states).T, controls


@pytest.mark.parametrize("kind", SPLITS)
@pytest.mark.parametrize(
    "parameters",
    [{}, {"svd_solver": "hierarchical", "svd_tol": 1e-10}, {"svd_solver": "randomized", "svd_rank": 12}],
)
def test_controlled_system(parameters, kind):
    map_, gain, snapshots, controls = controlled()
    fresh = np.random.default_rng(9).normal(size=(2, 15))
    start = snapshots[:, -2:]
    expected = [start]
    for k in range(14):
        expected.append(map_ @ expected[-1] + gain @ fresh[:, k : k + 1])
    expected = np.array(expected).transpose(2, 1, 0)

    def run(comm):
        X = place(snapshots, comm, kind)
        model = DMDc(**parameters).fit(X, place(controls, comm, "time"))
        again = DMDc(**parameters).fit(X, controls[:, :-1])
        np.testing.assert_allclose(
            again.rom_control_matrix_.numpy(), model.rom_control_matrix_.numpy(), atol=1e-9
        )
        basis = whole(model.rom_basis_)
        lifted = basis @ model.rom_transfer_matrix_.numpy() @ basis.T
        seen = basis @ basis.T
        np.testing.assert_allclose(basis @ model.rom_control_matrix_.numpy(), seen @ gain, atol=1e-7)
        np.testing.assert_allclose(lifted @ basis, seen @ map_ @ basis, atol=1e-7)
        found = model.predict(start.T, fresh)
        assert found.shape == (2, 12, 15)
        assert found.split == (1 if model.rom_basis_.split == 0 else None)
        np.testing.assert_allclose(whole(found), expected, atol=1e-6)
        np.testing.assert_allclose(whole(model.predict(start[:, 0], fresh)), expected[:1], atol=1e-6)

    spmd(1, run)
    spmd(3, run)


def test_messages_of_forecasts():
    _, _, snapshots = system()

    def run(comm, kind):
        model = DMD().fit(place(snapshots, comm, kind))
        with comm.trace() as sent:
            model.predict_next(place(snapshots[:, -2:], comm, "space" if kind == "space" else "none"), 3)
        return [event.op for event in sent.events]

    assert spmd(3, run, "space")[0] == ["allreduce"]
    assert spmd(3, run, "none")[0] == []


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"svd_solver": "best"}, "svd_solver must be one of full, hierarchical, randomized, got 'best'"),
        ({"svd_rank": 0}, "svd_rank must be an int of at least 1 or None, got 0"),
        ({"svd_tol": 1.0}, r"svd_tol must be in \(0, 1\) or None, got 1.0"),
        ({"svd_solver": "hierarchical"}, "svd_rank or svd_tol must be given"),
        ({"svd_solver": "randomized"}, "svd_rank must be given"),
    ],
)
def test_wrong_parameters_are_refused_before_any_message(parameters, message):
    def run(comm):
        X = place(np.ones((4, 6)), comm, "space")
        with comm.trace() as sent:
            with pytest.raises(ValueError, match=f"DMD.fit: {message}"):
                DMD(**parameters).fit(X)
            with pytest.raises(ValueError, match=f"DMDc.fit: {message}"):
                DMDc(**parameters).fit(X, np.ones((1, 6)))
        return sent.calls

    assert spmd(2, run) == [0, 0]


def test_wrong_data_are_refused():
    _, _, snapshots = system()

    def run(comm):
        X = place(snapshots, comm, "space")
        with pytest.raises(NotFittedError):
            DMD().predict_next(X)
        model = DMD(svd_rank=4)
        assert clone(model).get_params() == model.get_params()
        for wrong in (snapshots[0], snapshots[:, :1], snapshots[:0]):
            with pytest.raises(ValueError, match="X must be two-dimensional"):
                DMD().fit(wrong)
        with pytest.raises(TypeError, match="X must be real"):
            DMD().fit(snapshots + 1j)
        bad = snapshots.copy()
        bad[-1, 0] = np.nan
        for kind in ("space", "time", "none"):
            with pytest.raises(ValueError, match=r"DMD\.fit: X must be finite"):
                DMD().fit(place(bad, comm, kind))
        with pytest.raises(ValueError, match=r"C must have shape \(n_controls, 26\)"):
            DMDc().fit(X, np.ones((1, 7)))
        model.fit(X)
        with pytest.raises(ValueError, match="X must have the 30 features it was fitted with"):
            model.predict_next(snapshots[:5])
        with pytest.raises(ValueError, match="n_steps must be an int of at least 0, got -1"):
            model.predict_next(X, -1)
        for steps in (0, [], [-1], [0.5]):
            with pytest.raises(ValueError, match="steps must be a positive int or a list"):
                model.predict(X, steps)

    spmd(2, run)
