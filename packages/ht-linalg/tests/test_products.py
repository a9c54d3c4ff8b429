"""Products and Einstein sums of every pair of layouts against NumPy, and what they send."""

import ht_core as ht
import ht_linalg as la
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import layouts, make_values, spread, whole
from ht_linalg.einsum import parse
from hypothesis import given, settings
from hypothesis import strategies as st

FEW = settings(max_examples=40, deadline=None, derandomize=True)

#: name -> (function, NumPy's, shapes of the operands)
CASES = {
    "dot of vectors": (la.dot, np.dot, [(5,), (5,)]),
    "dot with a number": (la.dot, np.dot, [(), (3, 2)]),
    "dot of stacks": (la.dot, np.dot, [(2, 3, 4), (5, 4, 3)]),
    "dot with a vector": (la.dot, np.dot, [(2, 3, 4), (4,)]),
    "inner": (la.inner, np.inner, [(3, 4), (2, 5, 4)]),
    "inner of vectors": (la.inner, np.inner, [(4,), (4,)]),
    "tensordot 1": (lambda a, b: la.tensordot(a, b, 1), lambda a, b: np.tensordot(a, b, 1), [(3, 4), (4, 2)]),
    "tensordot 2": (la.tensordot, np.tensordot, [(3, 4, 2), (4, 2, 5)]),
    "tensordot 0": (
        lambda a, b: la.tensordot(a, b, axes=0),
        lambda a, b: np.tensordot(a, b, axes=0),
        [(3, 2), (4,)],
    ),
    "tensordot crossed": (
        lambda a, b: la.tensordot(a, b, axes=((1, -1), (0, 1))),
        lambda a, b: np.tensordot(a, b, axes=((1, -1), (0, 1))),
        [(3, 4, 2), (4, 2, 5)],
    ),
    "tensordot of all": (
        lambda a, b: la.tensordot(a, b, axes=((0, 1), (1, 0))),
        lambda a, b: np.tensordot(a, b, axes=((0, 1), (1, 0))),
        [(5, 4), (4, 5)],
    ),
    "vecdot": (la.vecdot, np.vecdot, [(3, 4), (3, 4)]),
    "vecdot broadcast": (la.vecdot, np.vecdot, [(2, 1, 4), (3, 4)]),
    "vecdot axis": (
        lambda a, b: la.vecdot(a, b, axis=-2),
        lambda a, b: np.vecdot(a, b, axis=-2),
        [(3, 4), (2, 3, 4)],
    ),
    "vdot": (la.vdot, np.vdot, [(3, 4), (3, 4)]),
    "vdot of other shapes": (la.vdot, np.vdot, [(3, 4), (2, 6)]),
    "outer": (la.outer, np.outer, [(3, 2), (4,)]),
    "kron": (la.kron, np.kron, [(3, 2), (2, 4)]),
    "kron of other ndim": (la.kron, np.kron, [(3,), (2, 1, 4)]),
    "cross": (la.cross, np.cross, [(4, 3), (4, 3)]),
    "cross broadcast": (la.cross, np.cross, [(2, 1, 3), (4, 3)]),
    "cross of columns": (
        lambda a, b: la.cross(a, b, axisa=0, axisb=1, axisc=0),
        lambda a, b: np.cross(a, b, axisa=0, axisb=1, axisc=0),
        [(3, 5), (5, 3)],
    ),
    "matvec": (la.matvec, np.matvec, [(2, 3, 4), (2, 4)]),
    "matvec of a vector": (la.matvec, np.matvec, [(3, 4), (4,)]),
    "vecmat": (la.vecmat, np.vecmat, [(2, 3), (2, 3, 4)]),
    "multi_dot": (
        lambda *x: la.multi_dot(x),
        lambda *x: np.linalg.multi_dot(x),
        [(4,), (4, 3), (3, 5), (5, 2)],
    ),
    "trace": (la.trace, np.trace, [(4, 5)]),
    "trace of each matrix": (la.trace, np.linalg.trace, [(4, 2, 5)]),
    "trace of the first axes": (ht.trace, np.trace, [(4, 2, 5)]),
    "trace of a stack": (
        lambda a: la.trace(a, 1, axis1=-1, axis2=0),
        lambda a: np.trace(a, 1, axis1=-1, axis2=0),
        [(4, 2, 5)],
    ),
    "diagonal of a stack": (
        lambda a: la.diagonal(a, offset=-1),
        lambda a: np.linalg.diagonal(a, offset=-1),
        [(2, 4, 3)],
    ),
    "projection": (la.projection, lambda a, b: np.vdot(b, a) / np.vdot(b, b) * b, [(5,), (5,)]),
}
SUBSCRIPTS = {
    "ij,jk->ik": [(3, 4), (4, 5)],
    "ij,jk": [(3, 4), (4, 5)],
    "ij,kj->ki": [(3, 4), (5, 4)],
    "bij,bjk->bik": [(2, 3, 4), (2, 4, 5)],
    "bij,bjk->kbi": [(2, 3, 4), (2, 4, 5)],
    "abcd,cdef->efab": [(2, 3, 4, 2), (4, 2, 3, 5)],
    "abc,bcd->": [(2, 3, 4), (3, 4, 5)],
    "ii->i": [(5, 5)],
    "ii": [(5, 5)],
    "iji->j": [(4, 3, 4)],
    "iij,jk->ik": [(4, 4, 3), (3, 2)],
    "ij->ji": [(3, 4)],
    "ij->": [(3, 4)],
    "ij,ij->ij": [(3, 4), (3, 4)],
    "i,j->ij": [(3,), (4,)],
    "i,j->ji": [(3,), (4,)],
    "...j,jk->...k": [(2, 3, 4), (4, 5)],
    "...ij,...jk": [(2, 1, 3, 4), (5, 4, 2)],
    "i...->...": [(3, 4)],
    "ij,j,kj->ik": [(3, 4), (4,), (5, 4)],
    "ij,jk,kl,lm->im": [(3, 4), (4, 2), (2, 5), (5, 3)],
    "ij,ij,ij->j": [(3, 4), (3, 4), (3, 4)],
    ",ij->ij": [(), (3, 4)],
    "ab,bc->ac": [(6, 1), (4, 3)],
    "ij,jk->ik ": [(0, 4), (4, 3)],
    "ij,jk -> ik": [(3, 0), (0, 3)],
}


def compare(function, reference, arrays, places, p, tolerance=1e-12):
    expected = reference(*arrays)

    def run(comm):
        operands = [spread(x, *place, comm) for x, place in zip(arrays, places)]
        result = function(*operands)
        for x, before in zip(operands, arrays):
            np.testing.assert_array_equal(whole(x), before)
        assert result.shape == np.shape(expected)
        assert result.lshape == result.layout.lshape(comm.rank)
        return whole(result)

    for result in spmd(p, run):
        assert result.dtype == np.asarray(expected).dtype
        np.testing.assert_allclose(result, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "uint32", "uint64"])
def test_cross_of_unsigned_integers_wraps(dtype):
    a, b = (np.array([[1, 2, 3], [7, 0, 5]], dtype), np.array([4, 250, 1], dtype))
    compare(la.cross, np.cross, [a, b], [(0, (2, 0)), (None, ())], 2)
    two = np.uint64(a[:, 0]) * np.uint64(b[1]) - np.uint64(a[:, 1]) * np.uint64(b[0])
    compare(
        la.cross,
        lambda a, b: two.astype(dtype),
        [a[:, :2].copy(), b[:2].copy()],
        [(0, (1, 1)), (None, ())],
        2,
    )


@pytest.mark.parametrize("dtype", ["int32", "float64", "complex128"])
@pytest.mark.parametrize("name", CASES)
@settings(FEW, max_examples=6)
@given(data=st.data())
def test_products(name, dtype, data):
    function, reference, shapes = CASES[name]
    p = data.draw(st.integers(1, 4))
    arrays = [make_values(dtype, shape, i + 1) for i, shape in enumerate(shapes)]
    if name == "projection" and dtype == "int32":
        arrays = [x.astype("float64") for x in arrays]
    compare(function, reference, arrays, [data.draw(layouts(x.shape, p)) for x in arrays], p)


@pytest.mark.parametrize("subscripts", SUBSCRIPTS)
@settings(FEW, max_examples=8)
@given(data=st.data())
def test_einsum(subscripts, data):
    p = data.draw(st.integers(1, 4))
    dtype = data.draw(st.sampled_from(["float64", "int64", "complex128"]))
    arrays = [make_values(dtype, shape, i + 1) for i, shape in enumerate(SUBSCRIPTS[subscripts])]
    places = [data.draw(layouts(x.shape, p)) for x in arrays]
    compare(
        lambda *x: la.einsum(subscripts, *x),
        lambda *x: np.asarray(np.einsum(subscripts, *x)),
        arrays,
        places,
        p,
    )


def test_einsum_of_lists_and_out():
    a, b = np.arange(12.0).reshape(3, 4), np.arange(8.0).reshape(4, 2)

    def run(comm):
        x, y = ht.array(a, split=1), ht.array(b, split=0)
        out = ht.zeros((2, 3), split=1)
        assert la.einsum("ij,jk->ki", x, y, out=out) is out
        np.testing.assert_array_equal(whole(out), (a @ b).T)
        np.testing.assert_array_equal(whole(la.einsum(x, [0, 1], y, [1, 2], [0, 2])), a @ b)
        np.testing.assert_array_equal(whole(la.einsum(x, [..., 1], y, [1, 2])), a @ b)
        path = np.einsum_path("ij,jk,k->i", a, b, np.ones(2), optimize="optimal")
        assert la.einsum_path("ij,jk,k->i", x, y, np.ones(2), optimize="optimal") == path

    spmd(3, run)


def test_a_sum_of_products_sends_the_smaller_side_only():
    """Contraction over the split axis moves partial sums; merged axes that are not split send nothing."""

    def run(comm):
        x, y = ht.ones((8, 3, 4), split=0), ht.ones((8, 3, 5), split=0)
        with comm.trace() as sent:
            la.einsum("abc,abd->cd", x, y)
        assert (sent.calls, sent.bytes) == (1, 4 * 5 * 8)
        with comm.trace() as sent:
            la.einsum("abc,dbc->ad", x, ht.ones((2, 3, 4)))
            la.tensordot(x, ht.ones((3, 4)), 2)
            la.kron(x, ht.ones((1, 2, 2)))
            la.vecdot(x, x)
            la.cross(y[:, :, :3], y[:, :, :3])
            la.einsum("iij->ij", ht.ones((6, 6, 2), split=0))
        assert sent.calls == 0
        with comm.trace() as sent:
            la.vecdot(x, x, axis=0)
        assert (sent.calls, sent.bytes) == (1, 3 * 4 * 8)

    spmd(2, run)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda x: la.einsum("ij,jk->ik", x), "subscripts must name 1 operands, got 2"),
        (lambda x: la.einsum("ijk->ik", x), "must name the 2 axes of the operand"),
        (lambda x: la.einsum("ij->ijj", x), "each once"),
        (lambda x: la.einsum("ij->k", x), "subscripts of the result"),
        (lambda x: la.einsum("ij,jk", x, x), "paired must have equal extents"),
        (lambda x: la.einsum("i1->i", x), "subscripts must consist of letters"),
        (lambda x: la.tensordot(x, x, 1), "paired axes must have equal extents"),
        (lambda x: la.tensordot(x, x, 3), r"axes must be in \[0, 2\]"),
        (lambda x: la.vecdot(x, x[:, :2]), "same extent along axis -1"),
        (lambda x: la.vdot(x, x[:1]), "as many elements"),
        (lambda x: la.cross(x[:, :1], x), "2 or 3 components"),
        (lambda x: la.multi_dot([x]), "at least two"),
        (lambda x: la.multi_dot([x, x]), "must have 3 rows"),
        (lambda x: la.projection(x, x), "must be vectors"),
        (lambda x: la.outer(x, x, split=2), "split must be 0, 1 or None"),
    ],
)
def test_wrong_arguments_are_refused_before_any_message(call, text):
    def run(comm):
        x = ht.ones((4, 3), split=0)
        with comm.trace() as sent, pytest.raises(ht.LayoutError, match=text):
            call(x)
        assert sent.calls == 0

    spmd(2, run)


def test_outer_is_cut_where_asked():
    def run(comm):
        a, b = ht.arange(5, split=0), ht.arange(4, split=0)
        for split in (0, 1):
            assert la.outer(a, b, split=split).split == split
            np.testing.assert_array_equal(whole(la.outer(a, b, split=split)), np.outer(range(5), range(4)))

    spmd(3, run)


def test_ellipses_are_written_out():
    labels, target = parse("...ij,...jk", [(2, 5, 3, 4), (5, 4, 2)])
    assert [len(x) for x in labels] == [4, 3]
    assert labels[0][1] == labels[1][0]
    assert target == labels[0][:2] + "ik"


@pytest.mark.mpi
def test_contractions_over_mpi(comm):
    rng = np.random.default_rng(1)
    a, b = rng.standard_normal((40, 6, 30)), rng.standard_normal((30, 40, 7))
    expected = np.einsum("abc,cad->bd", a, b)
    for sa in (None, 0, 1, 2):
        for sb in (None, 0, 1, 2):
            c = la.einsum("abc,cad->bd", ht.array(a, split=sa), ht.array(b, split=sb))
            np.testing.assert_allclose(whole(c), expected, rtol=0, atol=1e-11)
