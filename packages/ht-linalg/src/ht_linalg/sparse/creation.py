"""Making sparse matrices, and dense ones of them."""

from __future__ import annotations

import torch
from ht_comm import Communicator, get_comm
from ht_core import DNDarray, devices, types
from ht_core.errors import LayoutError
from ht_core.layout import Layout, even_counts

from .arithmetic import combine
from .assembly import as_triplets, entries_of, exchange_counts, route
from .matrix import DCSC_matrix, DCSR_matrix, SparseMatrix
from .pattern import Entries, compress


def sparse_csr_matrix(
    obj: object,
    dtype: object = None,
    split: int | None = None,
    is_split: int | None = None,
    device: object = None,
    comm: Communicator | None = None,
    *,
    shape: tuple[int, int] | None = None,
) -> DCSR_matrix:
    """Make a sparse matrix of compressed rows.

    Parameters
    ----------
    obj : matrix of torch, SciPy, NumPy, DNDarray, or (values, (rows, columns))
        Sparse or dense. Triplets are arrays of shape (k,), places int; those of one place are added up; with `shape`.
        Triplets that are split DNDarrays may lie on any rank.
    dtype : dtype, optional
        The default is that of `obj`.
    split : {None, 0}
        0 cuts the rows; every rank passes the same `obj`, or split triplets.
    is_split : {None, 0}
        0: `obj` is this rank's rows; the ranks' rows are joined in rank order.
    device : Device or str, optional
    comm : Communicator, optional
    shape : (int, int), optional
        Of the matrix that triplets describe.

    Returns
    -------
    DCSR_matrix

    *Distribution*: of an `obj` that every rank holds no message. `is_split`: one allgather of 24 p bytes. Split
    triplets: one alltoall of 16 p bytes, one of 16 bytes and a value per entry, one allgather of p integers. A DNDarray
    keeps its split; split 1 is redistributed.

    Raises
    ------
    LayoutError
        If `obj` is not 2-D, or `split` or `is_split` is another axis.
    IndexError
        On all ranks, if triplets lie outside `shape`.

    Examples
    --------
    >>> a = ht.sparse.sparse_csr_matrix(([1.0, 2.0, 4.0], ([0, 1, 1], [0, 2, 2])), shape=(2, 3), split=0)
    >>> a
    DCSR_matrix(shape=(2, 3), nnz=2, dtype=float64, split=0)
    >>> (a @ ht.ones(3, dtype=ht.float64, split=0)).numpy()
    array([1., 6.])
    """
    return _make("sparse_csr_matrix", DCSR_matrix, obj, dtype, split, is_split, device, comm, shape)


def sparse_csc_matrix(
    obj: object,
    dtype: object = None,
    split: int | None = None,
    is_split: int | None = None,
    device: object = None,
    comm: Communicator | None = None,
    *,
    shape: tuple[int, int] | None = None,
) -> DCSC_matrix:
    """Make a sparse matrix of compressed columns; `split` and `is_split` are None or 1.

    Parameters, messages and errors as :func:`sparse_csr_matrix`, with columns for rows.

    Examples
    --------
    >>> ht.sparse.sparse_csc_matrix(np.eye(3), split=1).sum(axis=1).numpy()
    array([1., 1., 1.])
    """
    return _make("sparse_csc_matrix", DCSC_matrix, obj, dtype, split, is_split, device, comm, shape)


def _make(op, cls, obj, dtype, split, is_split, device, comm, shape) -> SparseMatrix:
    for name, axis in (("split", split), ("is_split", is_split)):
        if axis not in (None, cls.major):
            raise LayoutError(f"{op}: {name} must be None or {cls.major}, got {axis}")
    if split is not None and is_split is not None:
        raise LayoutError(f"{op}: split must be None where is_split is given, got {split}")
    target = None if dtype is None else types.canonical(dtype).torch
    if isinstance(obj, SparseMatrix):
        made = obj.asformat(cls.format)
        made = made if split is None else made.resplit(split)
    elif isinstance(obj, DNDarray):
        made = _of_dense(cls, obj)
        made = made if split is None else made.resplit(split)
    elif isinstance(obj, tuple):
        made = _of_triplets(op, cls, obj, split, is_split, comm, shape)
    else:
        made = _of_local(op, cls, obj, split, is_split, comm or get_comm())
    if device is not None:
        where = devices.sanitize_device(device).torch_device
        block = type(made.block)(*(part.to(where) for part in made.block))
        made = cls(block, made.layout, made.comm, made.nnz_counts)
    return made if target is None else made.astype(target, copy=False)


def _ordered(cls: type[SparseMatrix], rows, columns, values) -> Entries:
    return Entries(rows, columns, values) if cls.major == 0 else Entries(columns, rows, values)


def _of_local(op, cls, obj, split, is_split, comm) -> SparseMatrix:
    entries, shape = entries_of(op, obj)
    entries = _ordered(cls, *entries)
    block = compress(entries, shape[cls.major], shape[1 - cls.major])
    if is_split is None:
        whole = cls(block, Layout.replicated(shape), comm, (block.values.shape[0],))
        return whole if split is None else whole.resplit(split)
    facts = torch.tensor([[*shape, block.values.shape[0]]])
    facts = comm.allgather(facts).tolist() if comm.size > 1 else facts.tolist()
    widths = {fact[1 - cls.major] for fact in facts}
    if len(widths) > 1:
        raise LayoutError(
            f"{op}: the ranks' parts must agree along axis {1 - cls.major}, got {sorted(widths)}"
        )
    counts = tuple(fact[cls.major] for fact in facts)
    extents = (sum(counts), widths.pop())
    layout = Layout(extents if cls.major == 0 else extents[::-1], cls.major, counts)
    return cls(block, layout, comm, tuple(fact[2] for fact in facts))


def _of_triplets(op, cls, obj, split, is_split, comm, shape) -> SparseMatrix:
    (values, rows, columns), shape = as_triplets(op, obj, shape, comm)
    if is_split is not None:
        raise LayoutError(
            f"{op}: is_split must be None for triplets, got {is_split}; pass them as split arrays"
        )
    entries = _ordered(cls, rows.larray.long(), columns.larray.long(), values.larray)
    comm = values.comm
    layout = Layout(shape, cls.major, even_counts(shape[cls.major], comm.size))
    if values.split is None:
        for name, places, n in (("rows", rows, shape[0]), ("columns", columns, shape[1])):
            local = places.larray
            if local.shape[0] and not (int(local.min()) >= 0 and int(local.max()) < n):
                raise IndexError(f"{op}: {name} must be in [0, {n}), got some outside")
        block = compress(entries, shape[cls.major], shape[1 - cls.major])
        whole = cls(block, Layout.replicated(shape), comm, (block.values.shape[0],))
        return whole if split is None else whole.resplit(split)
    block = route(op, entries, layout, comm)
    nnz = exchange_counts(block.values.shape[0], comm, block.values.device)
    made = cls(block, layout, comm, nnz)
    return made if split is not None else made.resplit(None)


def _of_dense(cls: type[SparseMatrix], x: DNDarray) -> SparseMatrix:
    if x.ndim != 2:
        raise LayoutError(f"to_sparse_{cls.format}: array must be 2-D, got shape {x.shape}")
    if x.split == 1 - cls.major:
        x = x.resplit(cls.major)
    rows, columns = x.larray.nonzero(as_tuple=True)
    entries = _ordered(cls, rows, columns, x.larray[rows, columns])
    block = compress(entries, x.lshape[cls.major], x.lshape[1 - cls.major])
    n = block.values.shape[0]
    nnz = (n,) if x.split is None else exchange_counts(n, x.comm, x.larray.device)
    return cls(block, x.layout, x.comm, nnz)


def to_sparse_csr(array: DNDarray) -> DCSR_matrix:
    """Return the elements of a dense matrix that are not zero, as compressed rows.

    *Distribution*: split 0 or None as the array, one allgather of p integers; split 1 is redistributed to 0 first.

    Examples
    --------
    >>> ht.sparse.to_sparse_csr(ht.eye(3, split=0)).nnz
    3
    """
    return _of_dense(DCSR_matrix, array)


def to_sparse_csc(array: DNDarray) -> DCSC_matrix:
    """Return the elements of a dense matrix that are not zero, as compressed columns.

    *Distribution*: split 1 or None as the array, one allgather of p integers; split 0 is redistributed to 1 first.

    Examples
    --------
    >>> ht.sparse.to_sparse_csc(ht.eye(3, split=1)).nnz
    3
    """
    return _of_dense(DCSC_matrix, array)


def to_dense(sparse_matrix: SparseMatrix, order: str = "C", out: DNDarray | None = None) -> DNDarray:
    """Return the dense matrix, split as the sparse one. No message.

    Examples
    --------
    >>> ht.sparse.to_dense(ht.sparse.sparse_csr_matrix(np.eye(2), split=0)).numpy()
    array([[1., 0.],
           [0., 1.]])
    """
    return sparse_matrix.to_dense(order, out)


def add(t1: SparseMatrix, t2: SparseMatrix) -> SparseMatrix:
    """Return ``t1 + t2`` in the format of `t1`.

    *Distribution*: of equal layouts no message but one allgather of p integers; a replicated operand is cut; entries of
    `t2` are brought to the layout of `t1` otherwise, in one exchange.

    Examples
    --------
    >>> a = ht.sparse.sparse_csr_matrix(np.eye(2), split=0)
    >>> ht.sparse.add(a, a).data.numpy()
    array([2., 2.])
    """
    return combine("add", t1, t2)


def mul(t1: SparseMatrix, t2: SparseMatrix) -> SparseMatrix:
    """Return the elementwise product in the format of `t1`; messages as :func:`add`.

    Examples
    --------
    >>> a = ht.sparse.sparse_csr_matrix(2 * np.eye(2), split=0)
    >>> ht.sparse.mul(a, a).data.numpy()
    array([4., 4.])
    """
    return combine("mul", t1, t2)
