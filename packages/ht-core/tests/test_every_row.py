"""Every row of the registry has a case: the same values as NumPy's for p = 1..5 and layouts drawn at random.

A new row without a case here fails `test_every_row_has_a_case`. Shapes, dtypes and arguments of each kind of operation
are drawn in the files of the kinds; here no row is left out. Where NumPy has no such function, the result on one rank
is what the others must agree with.
"""

from functools import partial
from inspect import signature
from pathlib import Path

import ht_core as ht
import numpy as np
import pytest
from ht_comm import spmd
from ht_core.testing import spread, whole

RNG = np.random.default_rng(3)
F, G = RNG.permutation(20).reshape(5, 4) / 7 - 1.2, RNG.permutation(20).reshape(5, 4) / 5 - 1.9
I, J = RNG.integers(0, 4, (5, 4)), RNG.integers(0, 4, (5, 4))
K, POSITIVE, V, W, VI = F > 0, np.abs(F) + 0.25, F[:, 0], G[:, 1], I[:, 0]
CUBE, SQUARE = np.stack([F, G], axis=2), F[:4]
NAN = np.where(I == 1, np.nan, F)
ROWS = {name: row for name, row in ht.OPERATIONS.items() if name == row.name}


def plain(*arrays, **options):
    """Return a case: operands, and ``call(lib, function, *operands)``."""
    return arrays, lambda lib, f, *xs: f(*xs, **options)


def case(call, *arrays):
    return arrays, call


def turned_round(lib, f, x):
    """Give each rank as many rows as the one at the other end had."""
    return x if x.split is None else f(x, target_map=list(x.layout.counts[::-1]))


#: Kinds whose rows are called alike, but for those in CASES.
INTEGERS = {"gcd", "lcm", "bitwise_count", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_invert"}


def of_kind(name, row):
    """Return the cases of a row that needs no arguments of its own."""
    if row.kind == "elementwise":
        operands = (I, J) if name in INTEGERS or "shift" in name else (F, G)
        return [plain(*operands[: row.arity])]
    if row.kind == "reduction":
        values = NAN if name.startswith("nan") else F
        return [plain(values), plain(values, axis=0), plain(values, axis=1, keepdims=True)]
    if row.kind == "scan":
        return [plain(F, axis=0), plain(F, axis=1)]
    if row.kind == "set":
        return [plain(*(I, J[:3])[: row.arity])]
    if name.endswith(("_like", "_indices_from")):
        return [plain(SQUARE)]
    return []


def arguments(*given, **options):
    """Return a case of a function that takes no array."""
    return (), lambda lib, f: f(*given, **options)


CASES = {
    # elementwise
    "pow": [plain(POSITIVE, G)],
    "float_power": [plain(POSITIVE, G)],
    "ldexp": [plain(F, J)],
    "clip": [case(lambda lib, f, x: f(x, -0.5, 0.5), F)],
    "where": [plain(K, F, G)],
    "polyval": [case(lambda lib, f, x: f([1.0, 2.0, 3.0], x), F)],
    "nan_to_num": [plain(NAN)],
    # reductions with a weight, order statistics
    "average": [case(lambda lib, f, x, w: f(x, axis=0, weights=w), F, POSITIVE[:, 0]), plain(F)],
    "median": [plain(F), plain(F, axis=0)],
    "nanmedian": [plain(NAN, axis=0)],
    **{
        name: [case(lambda lib, f, x: f(x, 0.3, axis=0), F), case(lambda lib, f, x: f(x, [0.1, 0.9]), F)]
        for name in ("quantile", "percentile", "nanquantile", "nanpercentile")
    },
    "cov": [plain(F)],
    "corrcoef": [plain(F)],
    # sorting and searching
    "sort": [plain(F, axis=0), plain(F)],
    "argsort": [plain(F, axis=0), plain(F)],
    "partition": [case(lambda lib, f, x: f(x, 2, axis=0)[2], F)],
    "argpartition": [case(lambda lib, f, x: f(x, 2, axis=0)[2], F)],
    "lexsort": [case(lambda lib, f, x, y: f((x, y), axis=0), I, J)],
    "sort_complex": [plain(F)],
    "unique_values": [case(lambda lib, f, x: lib.sort(f(x)), I)],  # NumPy's are in no order
    "topk": [case(lambda lib, f, x: f(x, 2, 0), F)],
    "searchsorted": [plain(np.sort(V), G)],
    # histograms
    "histogram": [plain(F, bins=4)],
    "histogram_bin_edges": [plain(F, bins=4)],
    "histogramdd": [plain(F[:, :2], bins=3)],
    "histogram2d": [plain(V, W, bins=3)],
    "histc": [plain(F, bins=4)],
    "bincount": [plain(VI)],
    "digitize": [case(lambda lib, f, x: f(x, np.array([-1.0, 0.0, 1.0])), F)],
    "bucketize": [case(lambda lib, f, x: f(x, np.array([-1.0, 0.0, 1.0])), F)],
    # calculus, comparison, functions of functions
    **{name: [plain(F, axis=0), plain(F, axis=1)] for name in ("diff", "gradient", "trapezoid", "unwrap")},
    "ediff1d": [plain(F)],
    "interp": [case(lambda lib, f, x: f(x, [-1.0, 0.0, 1.0], [0.0, 1.0, 4.0]), F)],
    "real_if_close": [plain(F)],
    **{name: [plain(F, F), plain(F, G)] for name in ("allclose", "array_equal", "array_equiv")},
    "apply_along_axis": [case(lambda lib, f, x: f(lambda v: v.sum(), 0, x), F)],
    "apply_over_axes": [case(lambda lib, f, x: f(lib.sum, x, [0]), F)],
    # indexing and assignment
    "take": [case(lambda lib, f, x: f(x, [3, 0, 3], axis=0), F), case(lambda lib, f, x: f(x, [9, -1]), F)],
    **{name: [plain(I)] for name in ("nonzero", "argwhere", "flatnonzero")},
    "take_along_axis": [plain(F, I, axis=0)],
    "compress": [case(lambda lib, f, c, x: f(c, x, axis=0), K[:, 0], F)],
    "extract": [plain(K, F)],
    "choose": [case(lambda lib, f, i, x, y: f(i, [x, y]), I % 2, F, G)],
    "select": [case(lambda lib, f, k, x: f([k], [x], 7.0), K, F)],
    "piecewise": [case(lambda lib, f, x, k: f(x, [k], [1.0, 2.0]), F, K)],
    "put": [case(lambda lib, f, x: f(x, [0, 7], [1.0, 2.0]), F)],
    "put_along_axis": [case(lambda lib, f, x, i: f(x, i, 9.0, axis=0), F, I[:1])],
    "place": [case(lambda lib, f, x, k: f(x, k, [1.0, 2.0]), F, K)],
    "putmask": [plain(F, K, G)],
    "copyto": [plain(F, G)],
    "fill_diagonal": [case(lambda lib, f, x: f(x, 3.0), F)],
    "unravel_index": [case(lambda lib, f, i: f(i, (5, 4)), I)],
    "ravel_multi_index": [case(lambda lib, f, i, j: f((i, j), (5, 4)), I, J)],
    "ix_": [plain(VI, J[0])],
    "mask_indices": [case(lambda lib, f: f(3, lib.triu))],
    # rearranging
    "permute_dims": [plain(F, axes=(1, 0))],
    **{
        name: [plain(F)]
        for name in (
            *("transpose", "matrix_transpose", "flatten", "ravel", "fliplr", "flipud", "rot90", "unstack"),
            *("tril", "triu", "diagonal", "diag"),
        )
    },
    "swapaxes": [case(lambda lib, f, x: f(x, 0, 1), F)],
    "moveaxis": [case(lambda lib, f, x: f(x, 0, 2), CUBE)],
    "rollaxis": [case(lambda lib, f, x: f(x, 2), CUBE)],
    "expand_dims": [plain(F, axis=1)],
    "squeeze": [plain(F[None])],
    "broadcast_to": [case(lambda lib, f, x: f(x, (3, 5, 4)), F)],
    "broadcast_arrays": [plain(F, G[0])],
    "broadcast_shapes": [arguments((3, 1), (1, 4))],
    **{f"atleast_{n}d": [plain(V)] for n in (1, 2, 3)},
    "pad": [case(lambda lib, f, x: f(x, ((1, 2), (0, 1))), F)],
    "reshape": [case(lambda lib, f, x: f(x, (2, 10)), F)],
    "diagflat": [case(lambda lib, f, x: f(x, 1), V)],
    "flip": [plain(F, axis=0)],
    "delete": [case(lambda lib, f, x: f(x, [0, 3], axis=0), F)],
    "insert": [case(lambda lib, f, x: f(x, 2, 9.0, axis=0), F)],
    "trim_zeros": [plain(np.array([0, 0, 1, 2, 0, 3, 0]))],
    "concatenate": [case(lambda lib, f, x, y: f([x, y], axis=0), F, G)],
    "stack": [case(lambda lib, f, x, y: f([x, y], axis=1), F, G)],
    **{
        name: [case(lambda lib, f, x, y: f([x, y]), F, G)]
        for name in ("vstack", "hstack", "dstack", "column_stack", "block")
    },
    "append": [case(lambda lib, f, x, y: f(x, y, axis=0), F, G)],
    "roll": [case(lambda lib, f, x: f(x, 2, axis=0), F)],
    "array_split": [case(lambda lib, f, x: f(x, 3), F)],
    "split": [case(lambda lib, f, x: f(x, [1, 3]), F)],
    "hsplit": [case(lambda lib, f, x: f(x, 2), F)],
    "vsplit": [case(lambda lib, f, x: f(x, 5), F)],
    "dsplit": [case(lambda lib, f, x: f(x, 2), CUBE)],
    "tile": [case(lambda lib, f, x: f(x, (2, 1)), F)],
    "repeat": [case(lambda lib, f, x: f(x, 2, axis=0), F)],
    "resize": [case(lambda lib, f, x: f(x, (7, 3)), F)],
    "unfold": [case(lambda lib, f, x: f(x, 0, 2, 1), F)],
    "packbits": [plain(K, axis=0)],
    "unpackbits": [plain(I.astype(np.uint8), axis=0)],
    "resplit": [case(lambda lib, f, x: f(x, 1), F)],
    "resplit_": [case(lambda lib, f, x: f(x, 1), F)],
    **{name: [plain(F)] for name in ("balance", "balance_", "collect", "collect_")},
    **{name: [case(turned_round, F)] for name in ("redistribute", "redistribute_")},
    # creation
    "eye": [arguments(5, 4, 1)],
    "identity": [arguments(4)],
    "tri": [arguments(5, 4, 1)],
    "vander": [case(lambda lib, f, x: f(x, 3), V)],
    **{name: [arguments((5, 4))] for name in ("empty", "zeros", "ones")},
    "full": [arguments((5, 4), 2.5)],
    "full_like": [case(lambda lib, f, x: f(x, 3.0), F)],
    **{
        name: [arguments(F)]
        for name in (
            *("array", "asarray", "asanyarray", "ascontiguousarray", "asfortranarray"),
            *("asarray_chkfinite", "require", "from_dlpack"),
        )
    },
    "copy": [plain(F)],
    "arange": [arguments(3, 30, 4)],
    "linspace": [arguments(0.0, 1.0, 7)],
    "logspace": [arguments(0.0, 2.0, 7)],
    "geomspace": [arguments(1.0, 8.0, 4)],
    "meshgrid": [plain(V, W[:3])],
    "indices": [arguments((3, 4))],
    "fromfunction": [arguments(lambda i, j: i + 2 * j, (3, 4))],
    "tril_indices": [arguments(4)],
    "triu_indices": [arguments(4)],
    "diag_indices": [arguments(4)],
    "ndindex": [case(lambda lib, f: np.array(list(f(2, 3))))],
    "fromiter": [case(lambda lib, f: f(range(7), dtype=lib.float64))],
    "frombuffer": [arguments(bytes(range(12)), "int16")],
    **{name: [arguments(7)] for name in ("bartlett", "hanning", "hamming", "blackman")},
    "kaiser": [arguments(7, 3.0)],
}
#: What depends on the layout itself is tested where it is known.
ELSEWHERE = {
    "get_halo": "test_rearranging.py::test_halos",
    "create_lshape_map": "test_every_row.py::test_map_of_local_shapes",
    "from_partitioned": "test_interop.py::test_partitioned_round_trip",
    "from_partition_dict": "test_creation.py::test_partitioned_arrays_keep_their_memory",
}
UNINITIALISED = {"empty", "empty_like"}


def cases_of(name):
    return CASES.get(name) or of_kind(name, ROWS[name])


def test_every_row_has_a_case():
    missing = [name for name in ROWS if not cases_of(name) and name not in ELSEWHERE]
    assert not missing
    here = Path(__file__).parent
    for place in ELSEWHERE.values():
        file, test = place.split("::")
        assert f"def {test}(" in (here / file).read_text()


def values_of(result):
    """Return nested results as NumPy arrays."""
    if isinstance(result, ht.DNDarray):
        return [whole(result)]
    if isinstance(result, (tuple, list)):
        return [value for part in result for value in values_of(part)]
    return [np.asarray(result)]


def drawn(shape, p, rng):
    """Return a layout of any split, with uneven and empty parts."""
    split = None if not shape or rng.integers(4) == 0 else int(rng.integers(len(shape)))
    if split is None:
        return None, ()
    cuts = np.sort(rng.integers(0, shape[split] + 1, p - 1))
    return split, tuple(np.diff([0, *cuts, shape[split]]).tolist())


def run_case(row, arrays, call, layouts, split, comm):
    xs = [spread(v, *layout, comm) for v, layout in zip(arrays, layouts, strict=True)]
    made = row.kind == "creation" and "split" in signature(row.function).parameters
    function = partial(row.function, split=split) if made and not arrays else row.function
    result = call(ht, function, *xs)
    if row.kind == "assignment":
        assert result is None or result is xs[0]
        return values_of(xs[0])
    if not row.name.endswith("_"):
        for x, v in zip(xs, arrays, strict=True):
            np.testing.assert_array_equal(whole(x), v)
    return values_of(result)


def expected_of(row, arrays, call):
    function = getattr(np, row.numpy or "", None)
    if function is None:
        return run_case(row, arrays, call, [(None, ())] * len(arrays), None, ht.get_comm())
    arrays = [v.copy() for v in arrays]
    with np.errstate(all="ignore"):
        result = call(np, function, *arrays)
    return values_of(arrays[0] if row.kind == "assignment" else result)


@pytest.mark.parametrize("name", [name for name in ROWS if cases_of(name)])
def test_row(name):
    row = ROWS[name]
    rng = np.random.default_rng(len(name))
    for arrays, call in cases_of(name):
        expected = expected_of(row, arrays, call)
        for p in range(1, 6):
            # Each case: one layout on one rank, two on others; what makes an array divides it, and does not.
            draws = [([drawn(v.shape, p, rng) for v in arrays], split) for split in ((0,), (None, 0))[p > 1]]

            def run(comm, arrays=arrays, call=call, draws=draws):
                return [run_case(row, arrays, call, *draw, comm) for draw in draws]

            for results in spmd(p, run):
                for found in results:
                    assert len(found) == len(expected)
                    for a, b in zip(found, expected, strict=True):
                        assert a.shape == b.shape
                        if name not in UNINITIALISED:
                            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_map_of_local_shapes():
    for layout in [(0, (3, 0, 2)), (1, (0, 4, 0)), (None, ())]:
        for found in spmd(3, lambda comm, layout=layout: spread(F, *layout, comm).create_lshape_map()):
            assert found.tolist() == [list(ht.Layout((5, 4), *layout).lshape(rank)) for rank in range(3)]
