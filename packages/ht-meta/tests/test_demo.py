"""The demo on a few rows: what it leaves, and that 1, 2, 3 and 4 ranks and scikit-learn agree."""

import io
import json
import subprocess
import sys

import h5py
import numpy as np
import pytest
from ht_comm import SerialComm
from ht_meta.demo import DemoError, Options, agreement, data, meter, run_demo
from ht_meta.demo.meter import format_bytes, peak_bytes, reset_peak
from ht_meta.demo.picture import order_by_brightness, pixel_weights
from ht_ml.progress import ProgressBar

ROWS = 20_000


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """The folder of a run on each number of ranks."""
    folder = tmp_path_factory.mktemp("demo")
    for p in (1, 2, 3, 4):
        agreement.run_on_ranks(p, folder / str(p), "--rows", str(ROWS), timeout=240)
    return {p: folder / str(p) for p in (1, 2, 3, 4)}


@pytest.mark.parametrize("p", [2, 3, 4])
def test_ranks_agree(runs, p):
    found = agreement.compare(agreement.read_results(runs[1]), agreement.read_results(runs[p]))
    assert found.rand_index == 1.0
    assert found.coefficients <= 1e-4
    assert found.singular_values <= 1e-4
    assert found.inertia <= 1e-4


def test_scikit_learn_agrees(runs):
    found = agreement.compare(agreement.read_results(runs[2]), agreement.compute_with_sklearn(runs[2]))
    assert found.inertia <= 1e-3
    assert found.coefficients <= 1e-3
    assert found.singular_values <= 1e-3
    assert found.rand_index >= 0.95


def test_files_of_a_run(runs):
    assert sorted(f.name for f in runs[2].iterdir()) == [
        "demo.png",
        "features.h5",
        "results.h5",
        "summary.json",
    ]
    assert (runs[2] / "demo.png").read_bytes().startswith(b"\x89PNG")
    window = data.plan_window(ROWS)
    with h5py.File(runs[2] / "features.h5") as file:
        shapes = {name: file[name].shape for name in file}
        photograph = data.load_photograph()
        for name, rows in data.build_rows(photograph, window, 0, window.rows).items():
            np.testing.assert_array_equal(file[name][...], rows)
    n = window.rows
    assert shapes == {"pixels": (n, 3), "patches": (n, 147), "coordinates": (n, 2), "target": (n,)}
    summary = json.loads((runs[2] / "summary.json").read_text())
    assert summary["ranks"] == 2
    assert summary["rows"] == n
    assert summary["score"] > 0.5
    assert len(summary["steps"]) == 12


def test_messages_of_the_steps(runs):
    steps = {s["name"].split(",")[0]: s for s in json.loads((runs[4] / "summary.json").read_text())["steps"]}
    assert steps["load"]["messages"] == 4  # one per data set
    assert steps["hstack"]["messages"] == 0
    assert steps["standardise in place"]["messages"] == 1
    assert steps["k-means predict"]["messages"] == 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rows": 10**7}, "rows must be in"),
        ({"rows": 10, "clusters": 25}, "clusters must be in"),
        ({"rows": 100, "device": "toaster"}, "device"),
    ],
)
def test_bad_options(tmp_path, options, text):
    with pytest.raises(DemoError, match=text):
        run_demo(Options(output=tmp_path / "out", **options))
    assert not list(tmp_path.iterdir())


def test_output_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DemoError, match="output must be a directory"):
        run_demo(Options(rows=1000, output=tmp_path / "file" / "out"))


def test_missing_packages_name_the_extra(tmp_path):
    program = "import sys; sys.modules['skimage'] = None; from ht_meta.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", program, "demo", "--rows", "1000", "--output", tmp_path / "out"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "pip install 'ht-meta[demo]'" in done.stderr
    assert "Traceback" not in done.stderr
    command[2] = program.replace("skimage", "matplotlib")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 2
    assert "matplotlib must be installed" in done.stderr


def test_windows_fit_the_photograph():
    whole = data.largest_window()
    assert whole.rows == 866 * 993
    for rows in (1, 7, 1000, ROWS, whole.rows - 1, whole.rows):
        window = data.plan_window(rows)
        assert 0 < window.rows <= rows
        assert window.rows > 0.95 * rows - 1000
        assert window.top >= data.HALF
        assert window.top + window.height + data.HALF <= data.PHOTOGRAPH[0]
        assert window.left >= data.HALF
        assert window.left + window.width + data.HALF + 1 <= data.PHOTOGRAPH[1]
    for rows in (0, whole.rows + 1):
        with pytest.raises(ValueError, match="rows must be in"):
            data.plan_window(rows)


def test_rows_are_the_surroundings_of_pixels():
    photograph = np.random.default_rng(0).random((20, 25, 3), dtype=np.float32)
    window = data.plan_window(60, (20, 25))
    whole = data.build_rows(photograph, window, 0, window.rows)
    for row in (0, 1, window.width, window.rows - 1):
        y, x = row // window.width + window.top, row % window.width + window.left
        around = photograph[y - 3 : y + 4, x - 3 : x + 4]
        np.testing.assert_array_equal(whole["patches"][row], around.reshape(-1))
        np.testing.assert_array_equal(whole["pixels"][row], photograph[y, x])
        np.testing.assert_allclose(whole["target"][row], photograph[y, x + 4].mean(), rtol=1e-6)
        np.testing.assert_allclose(whole["coordinates"][row], [y / 20, x / 25], rtol=1e-6)
    for start, stop in ((0, 0), (0, 3), (2, window.width + 3), (window.rows - 1, window.rows)):
        part = data.build_rows(photograph, window, start, stop)
        for name, values in part.items():
            np.testing.assert_array_equal(values, whole[name][start:stop])


def test_picture_pieces():
    labels = np.array([0, 0, 1, 2])
    assert order_by_brightness(labels, np.array([5.0, 5.0, 1.0, 2.0]), 4).tolist() == [3, 1, 2, 0]
    coefficients = np.zeros(data.PATCH + 2)
    coefficients[:3] = 1  # the colours of the first pixel
    coefficients[-3] = 2  # the last colour of the last pixel
    coefficients[-2:] = 9  # line and column
    weights = pixel_weights(coefficients)
    assert weights[0, 0] == 3
    assert weights[6, 6] == 2
    assert weights.sum() == 5


def test_peak_memory_is_that_of_the_step():
    if reset_peak():
        before = peak_bytes()
        block = np.ones(1 << 24)
        assert peak_bytes() - before > 100 << 20
        del block
        reset_peak()
        assert peak_bytes() - before < 64 << 20
    assert peak_bytes() > 1 << 20


def test_bytes_are_short():
    assert [format_bytes(n) for n in (0, 999, 1000, 1 << 20, 3 << 41)] == [
        "0 B",
        "999 B",
        "1.0 KiB",
        "1.0 MiB",
        "6.0 TiB",
    ]


def test_progress_bars_become_lines_where_there_is_no_terminal(monkeypatch):
    told, file = [], io.StringIO()
    monkeypatch.setattr(meter, "_QUIET", 0.0)
    stream = meter.BarsAsLines(file, told.append)
    with ProgressBar(4, "fit", enabled=None, comm=SerialComm(), file=stream) as bar:
        bar._shown -= 1
        bar.update()
    assert told[0].startswith("      fit [#######")
    stream.write("a warning\n")
    assert file.getvalue() == "a warning\n"


def test_alone_and_with_another_start(tmp_path):
    summary = run_demo(Options(rows=3000, clusters=5, init="batchparallel", output=tmp_path / "a" / "b"))
    assert summary["ranks"] == 1
    assert summary["features"] == 152
    assert (tmp_path / "a" / "b" / "demo.png").exists()
