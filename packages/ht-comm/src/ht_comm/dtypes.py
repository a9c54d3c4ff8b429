"""The element types that travel, as NumPy, torch and MPI know them.

One frozen record per type; look-ups are one dictionary access. torch is never imported from here: its dtypes
are entered when the first tensor arrives, at which point the caller has imported it.
"""

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True, eq=False)
class DType:
    """One element type.

    Attributes
    ----------
    name : str
        Name in NumPy and torch.
    kind : str
        ``b`` bool, ``i`` signed, ``u`` unsigned, ``f`` floating, ``c`` complex.
    itemsize : int
        Bytes per element.
    storage : numpy.dtype
        The NumPy dtype of equal size in which the bytes are viewed. It is the type itself, but for bfloat16,
        which NumPy lacks and which is viewed as uint16 (moved, never added).
    mpi : str
        Name of the MPI datatype used to move and, where MPI can, to reduce.
    """

    name: str
    kind: str
    itemsize: int
    storage: np.dtype
    mpi: str

    def __repr__(self) -> str:
        return self.name


def _record(name: str, mpi: str) -> DType:
    storage = np.dtype("uint16" if name == "bfloat16" else name)
    kind = "f" if name == "bfloat16" else storage.kind
    return DType(name, kind, storage.itemsize, storage, mpi)


DTYPES: dict[str, DType] = {
    name: _record(name, mpi)
    for name, mpi in {
        "bool": "C_BOOL",
        "int8": "INT8_T",
        "int16": "INT16_T",
        "int32": "INT32_T",
        "int64": "INT64_T",
        "uint8": "UINT8_T",
        "uint16": "UINT16_T",
        "uint32": "UINT32_T",
        "uint64": "UINT64_T",
        # Half types are only ever moved in this form; reductions carry them as float32.
        "float16": "UINT16_T",
        "bfloat16": "UINT16_T",
        "float32": "FLOAT",
        "float64": "DOUBLE",
        # The C types: the Fortran ones are absent from libraries built without Fortran.
        "complex64": "C_FLOAT_COMPLEX",
        "complex128": "C_DOUBLE_COMPLEX",
    }.items()
}

BY_NATIVE: dict[Any, DType] = {d.storage: d for d in DTYPES.values() if d.name != "bfloat16"}
_TO_TORCH: dict[DType, Any] = {}


def _enter_torch_dtypes() -> None:
    torch = sys.modules["torch"]
    for record in DTYPES.values():
        native = getattr(torch, record.name, None)
        if native is not None:
            BY_NATIVE[native] = record
            _TO_TORCH[record] = native


def find_dtype(native: Any) -> DType | None:
    """Return the record of a NumPy or torch dtype, or None if elements of that type cannot travel."""
    record = BY_NATIVE.get(native)
    if record is None and not _TO_TORCH and "torch" in sys.modules:
        _enter_torch_dtypes()
        record = BY_NATIVE.get(native)
    return record


def torch_dtype(record: DType) -> Any:
    """Return the torch dtype of a record."""
    if not _TO_TORCH:
        _enter_torch_dtypes()
    return _TO_TORCH[record]
