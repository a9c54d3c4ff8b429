"""Which arrays are accepted, and what is said about the others."""

import numpy as np
import pytest
from ht_comm import SerialComm
from ht_comm.buffers import NumpyKind, inspect, pack, pack_blocks
from ht_comm.contract import LIBRARIES
from ht_comm.dtypes import DTYPES, find_dtype

COMM = SerialComm()


@pytest.mark.parametrize(
    "x",
    [[1.0], 1.0, None, "text", np.float64(1.0), np.ma.masked_array([1.0])],
    ids=["list", "float", "None", "str", "scalar", "masked"],
)
def test_other_objects_are_refused(x):
    with pytest.raises(
        TypeError, match=r"bcast: x must be a torch tensor or a NumPy array, got .*numpy\.asarray"
    ):
        COMM.bcast(x)


@pytest.mark.parametrize("dtype", [">f8", "U3", "M8[s]", "O", "V4", "longdouble"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(TypeError, match=r"allgather: x must have a dtype of bool, int8, .* cast it first"):
        COMM.allgather(np.zeros(2, dtype))


def test_equal_names_are_one_dtype():
    for name in ("intc", "longlong", "uintp", "intp", "half", "single", "double"):
        assert find_dtype(np.dtype(name)) is DTYPES[np.dtype(name).name]


def test_subclasses_are_arrays(tmp_path):
    np.save(tmp_path / "x.npy", np.arange(3.0))
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    np.testing.assert_array_equal(COMM.allreduce(x), [0, 1, 2])


def test_read_only_results_are_refused():
    x = np.zeros(3)
    x.flags.writeable = False
    assert COMM.allreduce(x).tolist() == [0, 0, 0]
    with pytest.raises(ValueError, match="recv: out must be writable, got a read-only NumPy array"):
        COMM.recv(x, 0)


@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.name)
def test_contiguous_data_is_not_copied(library):
    x = library.make(np.arange(12.0).reshape(3, 4))
    kind, dtype = inspect("test", "x", x)
    assert pack(x, kind, dtype).owner is x
    assert pack_blocks(x, (1, 2), 0, kind, dtype).owner is x
    part = pack(x, kind, dtype).part(4, 4)
    assert part.array.tolist() == [4, 5, 6, 7]
    assert part.ptr - pack(x, kind, dtype).ptr == 32
    assert pack(x[:, ::2], kind, dtype).owner is not x
    assert pack_blocks(x, (1, 3), 1, kind, dtype).array.tolist() == [0, 4, 8, 1, 2, 3, 5, 6, 7, 9, 10, 11]


@pytest.mark.parametrize("library", LIBRARIES[1:], ids=lambda library: library.name)
def test_tensors_without_plain_memory_are_refused(library):
    import torch

    for x in (torch.eye(3).to_sparse(), torch.empty(3, device="meta")):
        with pytest.raises(TypeError, match="allreduce: x must be a strided tensor with data"):
            COMM.allreduce(x)
    with pytest.raises(TypeError, match="allreduce: out must be a torch tensor of dtype float32"):
        COMM.allreduce(torch.ones(2), out=np.ones(2, "float32"))


def test_overflow_to_half_precision_is_silent():
    with np.errstate(all="raise"):
        out = np.empty(1, np.float16)
        NumpyKind.copy(out, np.array([1e6], np.float32))
    assert np.isinf(out[0])
