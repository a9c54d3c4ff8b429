"""The array class: metadata without messages, conversions, protocols, dtypes, creation."""

import copy
import pickle

import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import CommError, SerialComm, spmd, use_comm
from ht_core.testing import spread, whole


@pytest.mark.parametrize("split", [None, 0, 1])
def test_metadata_prints_and_copies_send_nothing(split):
    def run(comm):
        x = ht.ones((7, 3), dtype=ht.float32, split=split)
        with comm.trace() as sent:
            assert (x.shape, x.ndim, x.size, x.nbytes, x.itemsize) == ((7, 3), 2, 21, 84, 4)
            assert x.dtype == ht.float32 == x.dtype
            assert x.lshape == x.layout.lshape(comm.rank)
            assert x.lshape_map.shape == (3, 2)
            assert x.split == split
            assert x.balanced
            assert len(x) == 7
            assert "split=" + str(split) in repr(x)
            assert "7" in x._repr_html_()
            if comm.rank == 0:
                str(x)  # one rank alone may print
            x.copy()
            copy.deepcopy(x)
            pickle.loads(pickle.dumps(x))
            x.astype("int64")
        assert sent.calls == 0

    spmd(3, run)


def test_conversions_give_the_global_array():
    values = np.arange(12.0).reshape(4, 3)

    def run(comm):
        x = ht.array(values, split=0)
        np.testing.assert_array_equal(x.numpy(), values)
        np.testing.assert_array_equal(np.asarray(x), values)
        assert x.tolist() == values.tolist()
        assert [row.tolist() for row in x] == values.tolist()
        assert [row.tolist() for row in ht.array(values, split=1)] == values.tolist()
        with pytest.raises(ValueError, match="copy"):
            np.asarray(x, copy=False)
        one = ht.array([[2.5]], split=0)
        assert (one.item(), float(one), int(one), bool(one), complex(one)) == (2.5, 2.5, 2, True, 2.5 + 0j)
        assert one.split == 0
        with pytest.raises(ht.LayoutError, match="one element"):
            x.item()
        with pytest.raises(ht.LayoutError, match="any"):
            bool(x)

    spmd(3, run)


def test_numpy_calls_run_our_rows():
    values = np.arange(12.0).reshape(4, 3)

    def run(comm):
        x = ht.array(values, split=0)
        for result, expected in [
            (np.sin(x), np.sin(values)),
            (np.add(x, 1), values + 1),
            (values + x, values + values),
            (np.add.reduce(x), values.sum(0)),
            (np.sum(x, axis=1), values.sum(1)),
            (np.concatenate([x, x]), np.concatenate([values, values])),
        ]:
            assert isinstance(result, ht.DNDarray)
            np.testing.assert_array_equal(whole(result), expected)
        with pytest.raises(TypeError):
            np.poly(x)  # of short vectors, never of distributed arrays
        assert x.__array_namespace__() is ht

    spmd(3, run)


def test_operators_promote_and_write_in_place_as_numpy():
    values = np.arange(6)

    def run(comm):
        x = ht.array(values, split=0)
        assert (x / 2).dtype == ht.float64
        assert (x + 1.5).dtype == ht.float64
        assert (x.astype(ht.float32) + 1.5).dtype == ht.float32
        assert (x.astype(ht.int8) + 1).dtype == ht.int8
        assert (2 - x).tolist() == (2 - values).tolist()
        assert (2**x).tolist() == (2**values).tolist()
        assert (x > 2).tolist() == (values > 2).tolist()
        assert (-x).tolist() == (-values).tolist()
        assert (~x).tolist() == (~values).tolist()
        y = x.copy()
        memory = y.larray.data_ptr()
        y += 3
        y *= ht.array(values)
        assert y.tolist() == ((values + 3) * values).tolist()
        assert y.larray.data_ptr() == memory
        with pytest.raises(ht.DTypeError, match="out must be able to hold"):
            y /= 2
        with pytest.raises(OverflowError, match="300"):
            x.astype(ht.int8) + 300
        with pytest.raises(ht.LayoutError, match="broadcast"):
            x + ht.zeros(5)
        with pytest.raises(TypeError):
            x + "a"

    spmd(2, run)


@pytest.mark.parametrize("splits", [(0, 1), (1, 0), (0, None), (None, 1)])
def test_out_and_where_keep_the_layout_of_out(splits):
    a, b = np.arange(12.0).reshape(4, 3), np.arange(3.0)
    mask = a % 2 == 0

    def run(comm):
        x, out = ht.array(a, split=splits[0]), ht.full((4, 3), -1.0, split=splits[1])
        layout = out.layout
        assert ht.add(x, b, out=out) is out
        assert out.layout is layout
        np.testing.assert_array_equal(whole(out), a + b)
        out = ht.full((4, 3), -1.0, split=splits[1])
        ht.add(x, b, out=out, where=ht.array(mask, split=splits[0]))
        np.testing.assert_array_equal(whole(out), np.where(mask, a + b, -1.0))
        total = ht.zeros(3, split=0)
        ht.sum(x, axis=0, out=total)
        np.testing.assert_array_equal(whole(total), a.sum(0))
        with pytest.raises(ht.LayoutError, match="out must have shape"):
            ht.add(x, b, out=ht.zeros(4))

    spmd(3, run)


def test_out_may_overlap_an_operand():
    x = ht.arange(6, dtype=ht.float64, comm=SerialComm())
    view = ht.DNDarray(x.larray[:-1], ht.Layout((5,), None), x.comm)
    shifted = ht.DNDarray(x.larray[1:], ht.Layout((5,), None), x.comm)
    ht.add(view, shifted, out=shifted)
    assert x.larray.tolist() == [0, 1, 3, 5, 7, 9]


def test_where_does_not_look_at_the_other_branch():
    values = np.array([1.0, np.nan, 3.0, np.inf])

    def run(comm):
        x = ht.array(values, split=0)
        y = ht.where(ht.isfinite(x), x, 0)
        assert y.dtype == ht.float64
        return y.tolist()

    assert spmd(3, run)[1] == [1.0, 0.0, 3.0, 0.0]


def test_operands_must_share_a_communicator():
    def run(comm):
        x = ht.zeros(4, split=0)
        y = ht.zeros(4, comm=SerialComm())
        with pytest.raises(CommError, match="one communicator"):
            x + y

    spmd(2, run)


@pytest.mark.parametrize("split", [None, 0])
@pytest.mark.parametrize(
    "call",
    [
        ("arange", (10,)),
        ("arange", (2, 11, 3)),
        ("arange", (5, -4, -2)),
        ("arange", (0.0, 1.0, 0.3)),
        ("linspace", (0, 1, 7)),
        ("linspace", (3, -2, 5, False)),
        ("linspace", (1, 1, 1)),
        ("eye", (4,)),
        ("eye", (3, 5, 1)),
        ("eye", (5, 3, -2)),
        ("zeros", ((3, 2),)),
        ("ones", (4,)),
        ("full", ((3, 2), 7)),
        ("full", (3, 2.5)),
    ],
)
def test_creation(call, split):
    name, arguments = call
    expected = getattr(np, name)(*arguments)

    def run(comm):
        with comm.trace() as sent:
            x = getattr(ht, name)(*arguments, split=split)
        assert sent.calls == 0
        assert x.dtype == expected.dtype
        return whole(x)

    for p in (1, 3, 4):
        for result in spmd(p, run):
            np.testing.assert_allclose(result, expected, rtol=1e-15, atol=1e-15)


def test_eye_split_along_columns():
    def run(comm):
        return whole(ht.eye(5, 4, k=-1, split=1))

    for result in spmd(3, run):
        np.testing.assert_array_equal(result, np.eye(5, 4, k=-1))


def test_array_from_parts():
    def run(comm):
        part = np.full((comm.rank, 2), comm.rank)
        x = ht.array(part, is_split=0)
        assert x.shape == (3, 2)
        assert x.layout.counts == (0, 1, 2)
        return whole(x)

    for result in spmd(3, run):
        np.testing.assert_array_equal(result, [[1, 1], [2, 2], [2, 2]])

    def bad(comm):
        with pytest.raises(ht.LayoutError) as caught:
            ht.array(np.zeros((2, comm.rank)), is_split=0)
        return str(caught.value)

    assert len(set(spmd(3, bad))) == 1


def test_array_takes_anything_and_copies_where_asked():
    source = np.arange(4.0)
    assert ht.asarray(source, copy=False).larray.data_ptr() == torch.from_numpy(source).data_ptr()
    mine = ht.array(source)
    mine += 1
    assert source.tolist() == [0, 1, 2, 3]
    tensor = torch.arange(4.0)
    assert ht.array(tensor).larray.data_ptr() != tensor.data_ptr() == ht.asarray(tensor).larray.data_ptr()
    assert ht.array(mine).larray.data_ptr() != mine.larray.data_ptr() == ht.asarray(mine).larray.data_ptr()
    assert ht.array(source, copy=True).larray.data_ptr() != torch.from_numpy(source).data_ptr()
    assert ht.array(source[::-1]).tolist() == [3, 2, 1, 0]
    assert ht.array(source.astype(">f8")).tolist() == [0, 1, 2, 3]
    assert ht.array([[1, 2]], ndmin=3).shape == (1, 1, 2)
    assert ht.array(True).dtype == ht.bool_
    assert ht.array(3).shape == ()
    assert ht.array(source, dtype=ht.bfloat16).tolist() == [0, 1, 2, 3]
    assert ht.array(torch.ones(2, dtype=torch.bfloat16)).dtype == ht.bfloat16
    assert ht.array(np.float32(2)).dtype == ht.float32
    with pytest.raises(ht.DTypeError, match="numbers"):
        ht.array(["a"])
    with pytest.raises(ht.LayoutError, match="both"):
        ht.array([1], split=0, is_split=0)
    with pytest.raises(ht.LayoutError, match="split"):
        ht.array([1], split=1)


def test_dtypes_promote_as_numpy():
    names = [d.name for d in ht.DTYPES.values() if d.numpy is not None]
    for a in names:
        for b in names:
            assert ht.promote_types(a, b) == np.promote_types(a, b), (a, b)
            for casting in ("no", "safe", "same_kind", "unsafe"):
                assert ht.can_cast(a, b, casting) == np.can_cast(a, b, casting), (a, b, casting)
    assert ht.promote_types(ht.bfloat16, ht.float16) is ht.float32
    assert ht.promote_types(ht.bfloat16, ht.float32) is ht.float32
    assert ht.promote_types(ht.bfloat16, ht.int8) is ht.bfloat16
    assert ht.result_type(ht.float32, 1.5) is ht.float32
    assert ht.result_type(ht.int8, 1.5) is ht.float64
    assert ht.isdtype(ht.float32, ("real floating", ht.int8))
    assert ht.float32 == "float32" == ht.float32.name
    with pytest.raises(ht.DTypeError, match="must be one of"):
        ht.zeros(3, dtype="float31")


def test_sixteen_bit_sums_are_floating_sums():
    def run(comm):
        ones = ht.ones(6, dtype=ht.float16, split=0)
        assert ones.sum().item() == 6
        big = ht.full(4096, 1.0, dtype=ht.bfloat16, split=0)
        assert big.sum().item() == 4096
        assert big.mean().item() == 1

    spmd(3, run)


def test_nan_wins_and_integers_are_exact():
    def run(comm):
        x = ht.array(np.array([1.0, np.nan, 3.0, 2.0]), split=0)
        assert np.isnan([x.max().item(), x.min().item()]).all()
        assert x.argmax().item() == x.argmin().item() == 1
        large = ht.array(np.array([2**53, 1, 2**62, 5]), split=0)
        assert large.sum().item() == 2**53 + 1 + 2**62 + 5
        assert large.argmax().item() == 2
        assert large.argmax().dtype == ht.int64
        ties = ht.array(np.array([3, 7, 7, 1]), split=0)
        assert ties.argmax().item() == 1

    spmd(4, run)


def test_names_of_missing_wheels_say_what_to_install(monkeypatch):
    from ht_core import upper_layers

    monkeypatch.setitem(upper_layers.LAZY, "fly", ("ht_nowhere", "fly", "ht-nowhere"))
    with pytest.raises(ht.MissingLayerError, match="pip install ht-nowhere"):
        ht.zeros(3).fly()
    assert not hasattr(ht.zeros(3), "fly")


def test_use_comm_sets_the_default():
    alone = SerialComm()
    with use_comm(alone):
        assert ht.zeros(3).comm is alone


def test_uneven_operands_meet_in_the_cheaper_layout():
    a, b = np.arange(8.0), np.arange(8.0) * 10

    def run(comm):
        x, y = spread(a, 0, (5, 3), comm), spread(b, 0, (4, 4), comm)
        with comm.trace() as sent:
            z = x + y
        assert z.layout is x.layout
        assert sent.calls == 1
        np.testing.assert_array_equal(whole(z), a + b)

    spmd(2, run)
