"""The table of formats and its entry points."""

import ht_io
import pytest
from ht_io import formats


class Point:
    """What importlib.metadata gives for an entry point."""

    def load(self):
        """Import the format."""
        return formats.Format("doubled", load=lambda path, factor=2: f"{path} x {factor}", save=None)


@pytest.fixture
def plugin(monkeypatch):
    """A package that adds the suffix .dbl."""
    monkeypatch.setattr(formats, "FORMATS", dict(formats.FORMATS))
    monkeypatch.setattr(formats, "entry_points", lambda group, name: [Point()] if name == "dbl" else [])


@pytest.mark.usefixtures("plugin")
def test_other_packages_add_formats():
    assert ht_io.load("a.dbl", factor=3) == "a.dbl x 3"
    assert ht_io.load("b.DBL") == "b.DBL x 2"


@pytest.mark.usefixtures("plugin")
def test_a_format_that_cannot_be_written():
    with pytest.raises(ValueError, match="save: path must end in one of"):
        ht_io.save(1, "a.dbl")


def test_suffixes_of_hdf5(tmp_path):
    for suffix in (".h5", ".hdf5", ".hdf", ".he5", ".H5"):
        ht_io.save([1, 2], tmp_path / f"x{suffix}", "x")
        assert ht_io.load(tmp_path / f"x{suffix}", "x").larray.tolist() == [1, 2]
