"""Test data: small whole numbers, which every element type holds exactly, in every memory layout."""

import functools
import importlib.util
from typing import Any

import numpy as np

SENTINEL = 77
DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
LAYOUTS = ("C", "F", "transposed", "stepped", "sliced", "reversed")


@functools.lru_cache(maxsize=4096)
def block(rank: int, shape: tuple[int, ...], dtype: str = "float64") -> np.ndarray:
    """Return what a rank holds: the same on whichever rank it is asked for; bfloat16 as float32. Not to be changed.

    Whole numbers 0..3, from rank 4 on 0..2: the product of seven ranks still fits into the 8 digits of bfloat16.
    """
    stop = 4 if rank < 4 else 3
    values = np.random.default_rng([rank, *shape]).integers(0, stop, shape)
    if dtype.startswith("complex"):
        values = values + 1j * np.random.default_rng([rank, 1, *shape]).integers(0, stop, shape)
    values = values.astype("float32" if dtype == "bfloat16" else dtype)
    values.flags.writeable = False
    return values


def cycle(counts: tuple[int, ...], p: int) -> tuple[int, ...]:
    """Return extents for any number of ranks: those given, over and over again."""
    return tuple(counts[rank % len(counts)] for rank in range(p))


def split_blocks(counts: tuple[int, ...], shape: tuple[int, ...], axis: int) -> list[np.ndarray]:
    """Return one block per rank, of extent ``counts[rank]`` along an axis."""
    return [block(rank, (*shape[:axis], n, *shape[axis + 1 :])) for rank, n in enumerate(counts)]


class NumpyArrays:
    """Makes and reads NumPy arrays."""

    name = "numpy"
    dtypes = DTYPES
    layouts = LAYOUTS

    def make(self, values: np.ndarray, dtype: str | None = None, layout: str = "C") -> Any:
        """Return an array of these values."""
        return self.spread(values if dtype is None else values.astype(dtype), layout)[0]

    def empty(self, shape: tuple[int, ...], dtype: str, layout: str = "C") -> tuple[Any, Any]:
        """Return an array full of the sentinel, and the array whose memory it shares."""
        return self.spread(np.full(shape, SENTINEL).astype(dtype), layout)

    def spread(self, values: np.ndarray, layout: str) -> tuple[np.ndarray, np.ndarray]:
        """Lay values out in memory; return them and the array around them."""
        values = np.array(values)
        if values.ndim == 0 or layout == "C":
            return values, values
        if layout == "F":
            return (view := np.asfortranarray(values)), view
        if layout == "transposed":  # the last two axes
            axes = (*range(values.ndim - 2), values.ndim - 1, values.ndim - 2)[-values.ndim :]
            base = np.ascontiguousarray(values.transpose(axes))
            return base.transpose(axes), base
        if layout == "reversed":
            base = np.ascontiguousarray(np.flip(values))
            return np.flip(base), base
        base = np.full([2 * n + 2 for n in values.shape], SENTINEL).astype(values.dtype)
        step = 2 if layout == "stepped" else 1
        view = base[tuple(slice(1, 1 + step * n, step) for n in values.shape)]
        view[...] = values
        return view, base

    def views_of(self, dtype: str) -> tuple[str, ...]:
        """Return the layouts that an operand of an element type may have: those of results, and more."""
        return (*self.layouts, "expanded")

    def view(self, values: np.ndarray, dtype: str, layout: str) -> Any:
        """Return an operand with these values, in one of the layouts of `views_of`.

        For ``expanded`` the values are to be a view with strides of zero.
        """
        if layout != "expanded":
            return self.make(values, dtype, layout)
        index = tuple(slice(0, 1) if step == 0 else slice(None) for step in values.strides)
        return self.expand(self.make(values[index], dtype), values.shape)

    def read(self, x: Any) -> np.ndarray:
        """Return the values."""
        assert isinstance(x, np.ndarray)
        return x

    def expand(self, x: Any, shape: tuple[int, ...]) -> Any:
        """Return a view with elements that share memory."""
        return np.broadcast_to(x, shape)

    def is_same_type(self, x: Any, y: Any) -> bool:
        """Tell whether two arrays have the same type."""
        return type(x) is type(y) and x.dtype == y.dtype


class TorchArrays(NumpyArrays):
    """Makes and reads torch tensors."""

    name = "torch"
    dtypes = (*DTYPES, "bfloat16")
    layouts = tuple(layout for layout in LAYOUTS if layout != "reversed")

    def make(self, values: np.ndarray, dtype: str | None = None, layout: str = "C") -> Any:
        """Return a tensor of these values."""
        return self.spread(values, layout, dtype)[0]

    def empty(self, shape: tuple[int, ...], dtype: str, layout: str = "C") -> tuple[Any, Any]:
        """Return a tensor full of the sentinel, and the tensor whose memory it shares."""
        numpy_dtype = "float32" if dtype == "bfloat16" else dtype
        return self.spread(np.full(shape, SENTINEL).astype(numpy_dtype), layout, dtype)

    def spread(self, values: np.ndarray, layout: str, dtype: str | None = None) -> tuple[Any, Any]:
        """Lay values out in memory; return them and the tensor around them."""
        import torch

        kind = getattr(torch, dtype or values.dtype.name)
        # Through NumPy memory: a tensor made from it keeps the strides.
        view, base = super().spread(
            values.astype("float32" if dtype == "bfloat16" else kind_name(kind)), layout
        )
        base_tensor = torch.from_numpy(base).to(kind, copy=dtype == "bfloat16")
        offset = (view.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // base.itemsize
        strides = [step // base.itemsize for step in view.strides]
        return torch.as_strided(base_tensor, view.shape, strides, offset), base_tensor

    def views_of(self, dtype: str) -> tuple[str, ...]:
        """Return the layouts, with lazy conjugates of complex and lazy negatives of real numbers."""
        lazy = {
            "complex64": "conjugate",
            "complex128": "conjugate",
            "float32": "negative",
            "float64": "negative",
        }
        return (*super().views_of(dtype), *([lazy[dtype]] if dtype in lazy else []))

    def view(self, values: np.ndarray, dtype: str, layout: str) -> Any:
        """Return an operand with these values."""
        import torch

        if layout == "conjugate":
            return torch.conj(self.make(values.conj(), dtype, "stepped"))
        if layout == "negative":
            pairs = {"float32": "complex64", "float64": "complex128"}[dtype]
            return torch.conj(self.make(-1j * values, pairs)).imag
        return super().view(values, dtype, layout)

    def read(self, x: Any) -> np.ndarray:
        """Return the values, bfloat16 as float32."""
        import torch

        assert isinstance(x, torch.Tensor)
        x = x.detach().resolve_conj().resolve_neg()
        return (x.float() if x.dtype == torch.bfloat16 else x).numpy()

    def expand(self, x: Any, shape: tuple[int, ...]) -> Any:
        """Return a view with elements that share memory."""
        return x.expand(shape)


def kind_name(kind: Any) -> str:
    """Return the name of a torch dtype."""
    return str(kind).removeprefix("torch.")


LIBRARIES = [NumpyArrays()]
if importlib.util.find_spec("torch") is not None:
    LIBRARIES.append(TorchArrays())


def is_untouched(library: NumpyArrays, view: Any, base: Any) -> bool:
    """Tell whether the gaps around a view still hold the sentinel. Overwrites the view."""
    view[...] = SENTINEL if library.read(view).dtype != bool else True
    values = library.read(base)
    return bool((values == np.array(SENTINEL).astype(values.dtype)).all())


def slices_of(nbytes: int, itemsize: int, limit: int | None) -> int:
    """Return the number of messages a buffer is cut into."""
    if limit is None or nbytes <= limit:
        return 1
    per_slice = max(limit // itemsize, 1) * itemsize
    return -(-nbytes // per_slice)
