"""What arrays look like, and that looking at them sends what is shown and nothing else."""

import re
import xml.etree.ElementTree as ElementTree

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
