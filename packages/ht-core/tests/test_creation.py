"""Creation: the same numbers as NumPy's for any number of ranks and any split, without a message."""

import subprocess
import sys

import ht_comm
import ht_core as ht
import numpy as np
import pytest
import torch
from ht_comm import spmd
from ht_core.engines.progression import progression
from ht_core.testing import spread, whole

INT_DTYPES = ["int8", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]

#: name -> (our call, NumPy's call, number of axes that may be split)
CASES = {
    "arange": (lambda **k: ht.arange(7, **k), lambda: np.arange(7), 1),
    "arange down": (lambda **k: ht.arange(9, 2, -3, **k), lambda: np.arange(9, 2, -3), 1),
    "arange float": (lambda **k: ht.arange(0.5, 4, 0.3, **k), lambda: np.arange(0.5, 4, 0.3), 1),
    "arange none": (lambda **k: ht.arange(3, 1, **k), lambda: np.arange(3, 1), 1),
    "arange large": (
        lambda **k: ht.arange(2**63, 2**63 + 4, dtype="uint64", **k),
        lambda: np.arange(2**63, 2**63 + 4, dtype="uint64"),
        1,
    ),
    "linspace": (lambda **k: ht.linspace(-1, 2, 7, **k), lambda: np.linspace(-1, 2, 7), 1),
    "linspace open": (
        lambda **k: ht.linspace(0, 1, 5, endpoint=False, **k),
        lambda: np.linspace(0, 1, 5, endpoint=False),
        1,
    ),
    "linspace int": (
        lambda **k: ht.linspace(-3, 4, 6, dtype=ht.int32, **k),
        lambda: np.linspace(-3, 4, 6, dtype="int32"),
        1,
    ),
    "linspace complex": (lambda **k: ht.linspace(0, 1 + 2j, 5, **k), lambda: np.linspace(0, 1 + 2j, 5), 1),
    "linspace one": (lambda **k: ht.linspace(3, 4, 1, **k), lambda: np.linspace(3, 4, 1), 1),
    "linspace none": (lambda **k: ht.linspace(3, 4, 0, **k), lambda: np.linspace(3, 4, 0), 1),
    "logspace": (lambda **k: ht.logspace(0, 3, 6, **k), lambda: np.logspace(0, 3, 6), 1),
    "logspace base": (
        lambda **k: ht.logspace(0, 3, 6, False, 2.0, **k),
        lambda: np.logspace(0, 3, 6, False, 2.0),
        1,
    ),
    "geomspace": (lambda **k: ht.geomspace(1, 1000, 7, **k), lambda: np.geomspace(1, 1000, 7), 1),
    "geomspace negative": (lambda **k: ht.geomspace(-8, -1, 4, **k), lambda: np.geomspace(-8, -1, 4), 1),
    "geomspace complex": (lambda **k: ht.geomspace(1j, 1000j, 4, **k), lambda: np.geomspace(1j, 1000j, 4), 1),
    "geomspace open": (
        lambda **k: ht.geomspace(1, 256, 8, endpoint=False, **k),
        lambda: np.geomspace(1, 256, 8, endpoint=False),
        1,
    ),
    "zeros": (lambda **k: ht.zeros((3, 4), ht.int32, **k), lambda: np.zeros((3, 4), "int32"), 2),
    "ones": (lambda **k: ht.ones((5, 2), **k), lambda: np.ones((5, 2)), 2),
    "full": (lambda **k: ht.full((4, 3), 2.5, **k), lambda: np.full((4, 3), 2.5), 2),
    "full row": (lambda **k: ht.full((4, 3), [1, 2, 3], **k), lambda: np.full((4, 3), [1, 2, 3]), 2),
    "full complex": (
        lambda **k: ht.full(3, complex(2**24 + 1, 1e300), **k),
        lambda: np.full(3, complex(2**24 + 1, 1e300)),
        1,
    ),
    "full large": (
        lambda **k: ht.full(3, 2**64 - 1, dtype="uint64", **k),
        lambda: np.full(3, 2**64 - 1, dtype="uint64"),
        1,
    ),
    "eye": (lambda **k: ht.eye(5, 4, 1, **k), lambda: np.eye(5, 4, 1), 2),
    "eye below": (
        lambda **k: ht.eye(4, 6, -2, dtype="complex64", **k),
        lambda: np.eye(4, 6, -2, "complex64"),
        2,
    ),
    "identity": (lambda **k: ht.identity(4, **k), lambda: np.identity(4), 2),
    "tri": (lambda **k: ht.tri(5, 4, -1, **k), lambda: np.tri(5, 4, -1), 2),
    "tri above": (lambda **k: ht.tri(3, 6, 2, dtype="int8", **k), lambda: np.tri(3, 6, 2, "int8"), 2),
    "bartlett": (lambda **k: ht.bartlett(8, **k), lambda: np.bartlett(8), 1),
    "blackman": (lambda **k: ht.blackman(9, **k), lambda: np.blackman(9), 1),
    "hamming": (lambda **k: ht.hamming(7, **k), lambda: np.hamming(7), 1),
    "hanning": (lambda **k: ht.hanning(10, **k), lambda: np.hanning(10), 1),
    "hanning one": (lambda **k: ht.hanning(1, **k), lambda: np.hanning(1), 1),
    "hanning none": (lambda **k: ht.hanning(0, **k), lambda: np.hanning(0), 1),
    "kaiser": (lambda **k: ht.kaiser(9, 14.0, **k), lambda: np.kaiser(9, 14.0), 1),
    "fromfunction": (
        lambda **k: ht.fromfunction(lambda i, j: i * 10 + ht.sin(j), (4, 3), **k),
        lambda: np.fromfunction(lambda i, j: i * 10 + np.sin(j), (4, 3)),
        2,
    ),
    "fromiter": (
        lambda **k: ht.fromiter(iter(range(6)), "float32", **k),
        lambda: np.fromiter(range(6), "float32"),
        1,
    ),
    "frombuffer": (
        lambda **k: ht.frombuffer(bytes(range(12)), "int16", 4, 2, **k),
        lambda: np.frombuffer(bytes(range(12)), "int16", 4, 2),
        1,
    ),
    "mgrid": (lambda **k: ht.mgrid(**k)[0:3, 1:7:2], lambda: np.mgrid[0:3, 1:7:2], 2),
    "mgrid points": (lambda **k: ht.mgrid(**k)[0:1:5j, -1:2], lambda: np.mgrid[0:1:5j, -1:2], 2),
    "ogrid line": (lambda **k: ht.ogrid(**k)[2:9], lambda: np.ogrid[2:9], 1),
    "indices": (lambda **k: ht.indices((3, 4), **k), lambda: np.indices((3, 4)), 2),
    "asanyarray": (
        lambda **k: ht.array(ht.asanyarray([[1, 2], [3, 4]]), **k),
        lambda: np.array([[1, 2], [3, 4]]),
        2,
    ),
    "asarray_chkfinite": (
        lambda **k: ht.asarray_chkfinite([1.0, 2.0, 3.0], **k),
        lambda: np.asarray_chkfinite([1.0, 2.0, 3.0]),
        1,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_like_numpy_for_any_split(name):
    ours, theirs, ndim = CASES[name]
    expected = theirs()

    def run(comm, split):
        with comm.trace() as sent:
            x = ours(split=split)
        assert sent.calls == (1 if name == "asarray_chkfinite" and split is not None and comm.size > 1 else 0)
        assert (x.split is None) == (split is None)
        return whole(x)

    for p in range(1, 6):
        results = {}
        for split in (None, *range(ndim)):
            for result in spmd(p, run, split):
                assert result.dtype == expected.dtype
                assert result.shape == expected.shape
                np.testing.assert_allclose(result, expected, rtol=1e-13, atol=1e-15)
                results[split] = result
        assert all(np.array_equal(results[None], r) for r in results.values()), (
            "the split must not change a bit"
        )


@pytest.mark.parametrize("name", ["meshgrid", "meshgrid ij", "meshgrid sparse", "indices sparse", "ogrid"])
@pytest.mark.parametrize("p", [1, 2, 3, 5])
def test_open_and_full_grids(name, p):
    a, b = np.arange(4), np.arange(3.0) / 2
    indexing = "ij" if "ij" in name else "xy"
    if name == "indices sparse":
        expected = np.indices((4, 3), sparse=True)
    elif name == "ogrid":
        expected = np.ogrid[0:4, 0:1:3j]
    else:
        expected = np.meshgrid(a, b, indexing=indexing, sparse="sparse" in name)

    def run(comm, split):
        if name == "indices sparse":
            results = ht.indices((4, 3), sparse=True, split=split)
        elif name == "ogrid":
            results = ht.ogrid(split=split)[0:4, 0:1:3j]
        else:
            x, y = (ht.array(v, split=0 if split == i else None) for i, v in enumerate((a, b)))
            with comm.trace() as sent:
                results = ht.meshgrid(x, y, indexing=indexing, sparse="sparse" in name)
            assert sent.calls == 0
        return [whole(r) for r in results]

    for split in (None, 0, 1):
        for results in spmd(p, run, split):
            assert len(results) == len(expected)
            for result, wanted in zip(results, expected):
                assert result.dtype == wanted.dtype
                np.testing.assert_array_equal(result, wanted)


def test_meshgrid_gathers_lines_only():
    def run(comm):
        x, y = ht.arange(40, split=0), ht.arange(60, split=0)
        with comm.trace() as sent:
            grids = ht.meshgrid(x, y)
        assert sent.bytes <= 60 * 8 * comm.size
        assert grids[0].layout is grids[1].layout
        assert grids[0].is_distributed()

    spmd(3, run)


@pytest.mark.parametrize("p", [1, 3])
@pytest.mark.parametrize("increasing", [False, True])
def test_vander(p, increasing):
    for values in (np.array([1.5, -2, 3]), np.array([2, 0, 5, 7, 1]), np.array([], dtype="float32")):
        for n in (None, 0, 4):

            def run(comm, values=values, n=n):
                x = ht.array(values, split=0)
                with comm.trace() as sent:
                    y = ht.vander(x, n, increasing)
                assert sent.calls == 0
                return whole(y)

            expected = np.vander(values, n, increasing)
            for result in spmd(p, run):
                assert result.dtype == expected.dtype
                np.testing.assert_allclose(result, expected, rtol=1e-14)


@pytest.mark.parametrize("dtype", INT_DTYPES)
def test_arange_of_every_integer_dtype(dtype):
    for result in spmd(3, lambda comm: whole(ht.arange(2, 90, 7, dtype=dtype, split=0))):
        np.testing.assert_array_equal(result, np.arange(2, 90, 7, dtype=dtype))


def test_wrong_arguments_are_refused_alike_on_all_ranks():
    wrong = [
        (ht.LayoutError, lambda: ht.zeros((3, 2), split=2)),
        (ht.LayoutError, lambda: ht.arange(3, 9, 0)),
        (ht.LayoutError, lambda: ht.linspace(0, 1, -1)),
        (ht.LayoutError, lambda: ht.geomspace(0, 1, 3)),
        (ht.LayoutError, lambda: ht.geomspace(-1, 1, 3)),
        (ht.LayoutError, lambda: ht.meshgrid(ht.ones(2), indexing="up")),
        (ht.LayoutError, lambda: ht.meshgrid(ht.ones((2, 2)))),
        (ht.LayoutError, lambda: ht.vander(ht.ones((2, 2)))),
        (ht.LayoutError, lambda: ht.mgrid[3]),
        (ValueError, lambda: ht.asarray_chkfinite([1.0, np.inf], split=0)),
        (ValueError, lambda: ht.asarray([1, 2], copy=False)),
        (ValueError, lambda: ht.asarray(ht.ones(3), dtype="int8", copy=False)),
        (ValueError, lambda: ht.require([1], requirements="CF")),
        (AttributeError, lambda: ht.from_dlpack([1])),
    ]

    def run(comm):
        texts = []
        for error, call in wrong:
            with pytest.raises(error) as caught:
                call()
            texts.append(str(caught.value))
        return texts

    first, *others = spmd(3, run)
    assert all(texts == first for texts in others)
    assert first[0] == "zeros: split must be in [-2, 2) for a 2-D array, got 2"


@pytest.mark.parametrize(
    "make", [ht.empty_like, ht.zeros_like, ht.ones_like, lambda x, **k: ht.full_like(x, 3, **k)]
)
def test_like_keeps_the_layout(make):
    def run(comm):
        x = spread(np.ones((4, 6), np.int16), 1, (5, 0, 1), comm)
        y = make(x)
        assert y.layout is x.layout
        assert y.dtype is x.dtype
        assert tuple(y.larray.shape) == x.lshape
        assert make(x, split=None).split is None
        assert make(x, split=0).layout is ht.Layout.even((4, 6), 0, 3)
        alone = make(x, comm=ht_comm.self_())
        assert alone.layout is ht.Layout((4, 6), 1, (6,))

    spmd(3, run)


def test_memory_is_shared_where_asked_for():
    values = np.arange(6.0)
    shared, copied = ht.asarray(values, copy=False), ht.array(values)
    values[0] = 7
    assert shared.numpy()[0] == 7
    assert copied.numpy()[0] == 0
    x = ht.arange(3)
    assert ht.asarray(x, copy=False).larray.data_ptr() == x.larray.data_ptr()
    assert ht.copy(x).larray.data_ptr() != x.larray.data_ptr()
    tensor = torch.arange(4)
    taken = ht.from_dlpack(tensor)
    tensor[1] = 9
    assert taken.numpy()[1] == 9
    assert ht.from_dlpack(tensor, copy=True).larray.data_ptr() != tensor.data_ptr()
    assert ht.asfortranarray(ht.ones((2, 3))).larray.stride() == (1, 2)


def test_partitioned_arrays_keep_their_memory():
    def run(comm):
        values = np.arange(12.0).reshape(6, 2)
        x = spread(values, 0, (3, 0, 3), comm)
        parts = {
            (r, 0): {
                "start": (x.layout.displs[r], 0),
                "shape": x.layout.lshape(r),
                "data": None,
                "location": [r],
            }
            for r in range(comm.size)
        }
        parts[comm.rank, 0]["data"] = x.larray
        described = {
            "shape": x.shape,
            "partition_tiling": (comm.size, 1),
            "partitions": parts,
            "locals": [(comm.rank, 0)],
            "get": lambda data: data,
        }
        y = ht.from_partition_dict(described)
        assert y.layout is x.layout
        assert y.larray.data_ptr() == x.larray.data_ptr()
        described["partition_tiling"] = (comm.size, 2)
        with pytest.raises(ht.LayoutError, match="along one axis"):
            ht.from_partition_dict(described)

    spmd(3, run)


@pytest.mark.parametrize("p", [1, 3])
@pytest.mark.parametrize("split", [None, 0])
def test_joining_by_brackets(p, split):
    a, b = np.arange(4), np.arange(4.0) / 2

    def run(comm):
        x, y = ht.array(a, split=split), ht.array(b, split=split)
        results = [
            ht.r_[x, 0:3, 5, y],
            ht.c_[x, y],
            ht.r_[ht.array(np.eye(4), split=split), [a]],
            ht.r_[0:1:5j],
        ]
        with pytest.raises(ht.LayoutError, match="directive"):
            ht.r_["r", x]
        return [whole(r) for r in results]

    expected = [np.r_[a, 0:3, 5, b], np.c_[a, b], np.r_[np.eye(4), [a]], np.r_[0:1:5j]]
    for results in spmd(p, run):
        for result, wanted in zip(results, expected):
            assert result.dtype == wanted.dtype
            np.testing.assert_array_equal(result, wanted)


@pytest.mark.parametrize("p", [1, 2, 3, 5])
@pytest.mark.parametrize("order", ["big", "little"])
def test_packing_bits(p, order):
    values = np.random.default_rng(1).integers(0, 3, size=(5, 21)).astype("uint8")

    def run(comm, split):
        x = ht.array(values, split=split)
        packed = [ht.packbits(x, axis, order) for axis in (None, 0, 1, -1)]
        bits = [
            ht.unpackbits(x, axis, count, order) for axis, count in ((None, None), (0, 11), (1, -3), (1, 200))
        ]
        return [whole(r) for r in packed + bits]

    expected = [np.packbits(values, axis, order) for axis in (None, 0, 1, -1)]
    for axis, count in ((None, None), (0, 11), (1, -3), (1, 200)):
        expected.append(np.unpackbits(values, axis, count, order))
    for split in (None, 0, 1):
        for results in spmd(p, run, split):
            for result, wanted in zip(results, expected, strict=True):
                assert result.dtype == wanted.dtype
                np.testing.assert_array_equal(result, wanted)
    with pytest.raises(ht.DTypeError, match="uint8"):
        ht.unpackbits(ht.arange(3))


def test_memory_orders_of_parts():
    def run(comm):
        x = ht.array(np.arange(6.0).reshape(2, 3), split=1).T
        assert ht.ascontiguousarray(x).larray.is_contiguous()
        assert ht.require(x, "float32", "C").dtype is ht.float32
        return whole(ht.ascontiguousarray(x))

    for result in spmd(2, run):
        np.testing.assert_array_equal(result, np.arange(6.0).reshape(2, 3).T)


@pytest.mark.parametrize("p", [1, 3])
def test_indices_of_diagonals_and_triangles(p):
    values = np.zeros((5, 5))

    def run(comm):
        x = ht.array(values, split=0)
        found = [*ht.diag_indices(5), *ht.triu_indices_from(x, 1), *ht.tril_indices_from(x, -1)]
        return [whole(v) for v in found]

    expected = [*np.diag_indices(5), *np.triu_indices_from(values, 1), *np.tril_indices_from(values, -1)]
    for results in spmd(p, run):
        for result, wanted in zip(results, expected, strict=True):
            np.testing.assert_array_equal(result, wanted)


PROGRESSIONS = [
    (ht.arange, np.arange, (70000,)),  # more than a tile, nothing rounded
    (ht.arange, np.arange, (5, -70000, -2)),
    (ht.arange, np.arange, (0.5, 7000.1, 0.1)),  # rounded
    (ht.arange, np.arange, (1, 40, 1.5)),
    (ht.arange, np.arange, (16777210, 16777250, 3)),  # at the end of the integers of float32
    (ht.linspace, np.linspace, (0, 1, 70001)),
    (ht.linspace, np.linspace, (-1e3, 1e9, 40000)),
    (ht.linspace, np.linspace, (0, 69999, 70000)),
    (ht.linspace, np.linspace, (0.1, 0.7, 33000)),  # float16: a value near the middle of two is rounded once
]


@pytest.mark.parametrize(
    "dtype", [None, "float64", "float32", "float16", "complex64", "int64", "int32", "uint64"]
)
@pytest.mark.parametrize("case", PROGRESSIONS, ids=lambda case: f"{case[1].__name__}{case[2]}")
def test_progressions_have_the_bits_of_numpy(case, dtype):
    ours, theirs, arguments = case
    if dtype == "uint64" and min(arguments) < 0:
        dtype = "int16"  # both wrap around
    if dtype == "float16" and max(map(abs, arguments)) > 6e4:
        dtype = "float64"
    with np.errstate(invalid="ignore"):
        expected = theirs(*arguments, dtype=dtype)
    for p, split in ((1, None), (3, 0)):
        for result in spmd(p, lambda comm, split=split: whole(ours(*arguments, dtype=dtype, split=split))):
            assert result.dtype == expected.dtype
            np.testing.assert_array_equal(result, expected)


def test_indices_beyond_the_integers_of_float32_are_rounded_once():
    first = 2**24 - 3
    for n in (5, 40):
        got = progression(n, first, 1.0, 0.5, torch.float32, torch.float32, torch.device("cpu")).numpy()
        index = np.arange(first, first + n).astype(np.float32)
        np.testing.assert_array_equal(got, index * np.float32(0.5) + np.float32(1.0))


def test_memory_of_results_is_touched_once():
    make = "ht.full(3 << 20, 1.5, dtype=ht.float32)"
    code = (
        "import resource, ht_core as ht\n"
        "faults = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        f"def series():\n    before = faults()\n    for _ in range(20): {make}\n    return faults() - before\n"
        f"for _ in range(3): {make}\n"
        "print(min(series() for _ in range(5)))"
    )  # of several: the system may take pages back at any time
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    # A result has 3072 small pages, or 6 huge ones and the small ones before them.
    assert int(done.stdout) < 5000
