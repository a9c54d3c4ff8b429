"""The progress bar: on rank 0 only, silent where nobody looks, no message."""

import io

import numpy as np
from ht_comm import SerialComm, spmd
from ht_ml.cluster import KMeans
from ht_ml.progress import ProgressBar, bar
from ml_tables import blobs, table


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bar_on_a_terminal():
    file = Terminal()
    with bar(4, "work", file=file, comm=SerialComm()) as progress:
        for _ in range(4):
            progress.update()
    text = file.getvalue()
    assert text.startswith("\r")
    assert text.endswith("\n")
    assert "work [############################] 4/4" in text


def test_silent_without_a_terminal_unless_asked():
    file = io.StringIO()
    assert list(bar([1, 2], file=file, comm=SerialComm())) == [1, 2]
    assert file.getvalue() == ""
    assert list(bar((i for i in range(3)), "many", enabled=True, file=file, comm=SerialComm())) == [0, 1, 2]
    assert file.getvalue().startswith("many 3 ")
    assert file.getvalue().count("\n") == 1
    off = Terminal()
    with ProgressBar(2, enabled=False, file=off, comm=SerialComm()) as progress:
        progress.update(2)
    assert (off.getvalue(), progress.done) == ("", 2)


def test_rank_0_only_and_no_message():
    def run(comm):
        file = Terminal()
        with comm.trace() as sent:
            for _ in bar(range(3), "rank", file=file):
                pass
        assert sent.calls == 0
        return bool(file.getvalue())

    assert spmd(3, run) == [True, False, False]


def test_estimators_print_nothing(capfd):
    values, _ = blobs()

    def run(comm):
        KMeans(3, random_state=0, verbose=1).fit(table(values, comm))

    spmd(2, run)
    np.testing.assert_equal(capfd.readouterr(), ("", ""))
