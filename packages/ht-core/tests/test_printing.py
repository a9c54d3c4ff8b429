"""What arrays look like, and that looking at them sends what is shown and nothing else."""

import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import spread

LARGE = np.arange(600 * 50, dtype=np.int64).reshape(600, 50)


@pytest.mark.parametrize(
    ("values", "layout"),
    [
        (np.arange(6.0) / 7, (0, (4, 0, 2))),
        (LARGE, (None, ())),
        (LARGE, (0, (2, 597, 1))),
        (LARGE, (1, (0, 49, 1))),
        (LARGE.reshape(-1), (0, (10000, 0, 20000))),
        (LARGE.reshape(2, 300, 50), (1, (100, 100, 100))),
        (np.array(2.5), (None, ())),
        (np.empty((0, 3)), (0, (0, 0, 0))),
        (LARGE % 3 == 0, (0, (200, 200, 200))),
        (LARGE * (1 + 2j), (0, (200, 200, 200))),
    ],
    ids=str,
)
def test_array2string_is_numpys(values, layout):
    edge = 3

    def run(comm):
        x = spread(values, *layout, comm)
        with comm.trace() as sent:
            text = ht.array2string(x)
        short = ht.array2string(x, edgeitems=1, threshold=5, separator=", ", precision=2)
        return text, short, sent.bytes, sent.calls

    expected = (
        np.array2string(values),
        np.array2string(values, edgeitems=1, threshold=5, separator=", ", precision=2),
    )
    for text, short, nbytes, calls in spmd(3, run):
        assert (text, short) == expected
        assert calls <= 1
        if values.size > 1000:
            assert nbytes <= 2 * values.itemsize * (2 * edge + 1) ** values.ndim


@pytest.mark.parametrize("p", [1, 3])
@pytest.mark.parametrize(
    "values",
    [
        LARGE,
        LARGE.astype(np.float32) / 7,
        np.arange(5, dtype=np.int16),
        np.arange(40.0).reshape(2, 20) / 3,
        np.arange(30, dtype=np.uint8).reshape(2, 15) + 200,
        np.empty((0, 3)),
        np.empty(0, np.int64),
        np.empty(0),
        np.array(2.5),
        np.array(3, np.int8),
        np.array([True, False]),
        np.array([1 + 2j, np.nan]),
    ],
    ids=lambda v: f"{v.dtype}{v.shape}",
)
def test_array_repr_and_array_str_are_numpys(values, p):
    forms = [{}, {"precision": 3, "suppress_small": True}, {"max_line_width": 30}]

    def run(comm):
        x = ht.array(values, split=0 if values.ndim else None, comm=comm)
        return [f(x, **form) for f in (ht.array_repr, ht.array_str) for form in forms]

    expected = [f(values, **form) for f in (np.array_repr, np.array_str) for form in forms]
    assert spmd(p, run) == [expected] * p


def test_repr_needs_nobody_else(capsys):
    def run(comm):
        x = spread(LARGE, 0, (100, 0, 500), comm)
        with comm.trace() as sent:
            texts = repr(x), str(x), x._repr_html_(), f"{x}"
        if comm.rank == 0:
            print(x)  # the classical hang
        return texts[0], sent.calls

    for text, calls in spmd(3, run):
        assert calls == 0
        for fact in ("(600, 50)", "split=0", "ht.int64", "0 to 500 rows of axis 0"):
            assert fact in text
    assert capsys.readouterr().out.count("DNDarray(") == 1


def test_print0(capsys):
    def run(comm):
        ht.print0("values:", spread(np.arange(5), 0, (2, 0, 3), comm), sep=" ", comm=comm)

    spmd(3, run)
    assert capsys.readouterr().out == "values: [0 1 2 3 4]\n"


def test_gradients_and_half_precision_are_shown():
    x = ht.ones(2, dtype=ht.bfloat16).requires_grad_()
    assert repr(x) == "DNDarray([1., 1.], dtype=ht.bfloat16, split=None, device='cpu', requires_grad=True)"


def test_options():
    x = ht.array([1 / 3, 1e-9])
    before = ht.get_printoptions()
    with ht.printoptions(precision=2, suppress=True) as options:
        assert options["precision"] == 2
        assert ht.array2string(x) == "[0.33 0.  ]"
    assert ht.get_printoptions() == before
    ht.set_printoptions(profile="short", sci_mode=False)
    try:
        assert ht.array2string(x) == "[0.33 0.  ]"
        assert np.get_printoptions()["precision"] == 8
    finally:
        ht.printing._changed.options = {}
    with pytest.raises(ht.LayoutError, match="profile"):
        ht.set_printoptions(profile="long")
    with pytest.raises(ValueError, match="floatmode"):
        ht.set_printoptions(floatmode="often")
    assert ht.get_printoptions() == before


class Page(HTMLParser):
    """Reads a page; every element must be closed by the end tag of its name, in order."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.titles = [], [], []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(names) == len(set(names))
        assert all(value is not None for _, value in attributes)
        self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, text):
        assert not {"<", ">"} & set(text)
        if self.open[-1] in ("th", "td"):
            self.cells.append(text)
        elif self.open[-1] == "title":
            self.titles.append(text)

    @property
    def facts(self):
        return dict(zip(self.cells[::2], self.cells[1::2], strict=True))


@pytest.mark.parametrize(
    ("split", "counts", "rows"),
    [
        (0, (4, 0, 2), "4, 0, 2"),
        (1, (0, 5, 0), "0, 5, 0"),
        (None, (), None),
        (0, (6,) + (0,) * 19, "0 to 6 on a rank, none on 19 of them"),
    ],
    ids=str,
)
def test_html_is_well_formed_and_tells_what_it_shows(split, counts, rows):
    def run(comm):
        x = spread(np.zeros((6, 5), np.float32), split, counts, comm)
        with comm.trace() as sent:
            page = x._repr_html_()
        return page, sent.calls

    for text, calls in spmd(len(counts) or 2, run):
        assert calls == 0
        page = Page(text)
        facts = page.facts
        assert facts["shape"] == "(6, 5)"
        assert "float32" in facts["dtype"]
        assert facts["split"] == str(split)
        assert facts["ranks"] == str(len(counts) or 2)
        assert facts.get(f"rows of axis {split}") == rows
        shown = [title.partition(":")[0] for title in page.titles]
        held = [f"rank {rank}" for rank, n in enumerate(counts) if n]
        assert shown == (held if counts else ["all 2 ranks"] * 2)


@pytest.mark.parametrize("p", [1, 3, 40])
@pytest.mark.parametrize("split", [None, 0, 1])
@pytest.mark.parametrize("shape", [(7, 3), (5,), (2, 9, 4), ()], ids=str)
def test_html_shows_every_part(p, split, shape):
    if split is not None and split >= len(shape):
        return
    layout = ht.Layout.even(shape, split, p)

    def run(comm):
        import torch

        return ht.DNDarray(torch.zeros(layout.lshape(comm.rank)), layout, comm)._repr_html_()

    page = spmd(p, run)[0] if p < 10 else ht.printing._picture(layout, p)
    svg = ElementTree.fromstring(re.search("<svg.*</svg>", page, re.S).group())
    rectangles = [node for node in svg.iter("{http://www.w3.org/2000/svg}rect")]
    parts = sum(n > 0 for n in layout.counts) if split is not None else min(p, 4)
    assert len(rectangles) == parts + (split is not None)
    texts = "".join(node.text or "" for node in svg.iter("{http://www.w3.org/2000/svg}text"))
    if split is not None:
        assert f"axis {split}: {shape[split]} (split)" in texts
        area = sum(float(r.get("width")) * float(r.get("height")) for r in rectangles[:-1])
        whole = float(rectangles[-1].get("width")) * float(rectangles[-1].get("height"))
        assert area == pytest.approx(whole, rel=0.02)
