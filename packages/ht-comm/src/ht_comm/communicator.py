"""The protocol all transports share: `Communicator`.

Everything that does not depend on the transport is here and in the groups of methods it inherits:
checking of arguments, packing of strided data, slicing of long messages, tracing, objects, error agreement. A
transport implements the primitives listed at the end of `Communicator`, on contiguous buffers no longer than
`config.slice_bytes`.

Every decision about which messages are sent follows from facts all ranks share: shapes, dtypes, operators,
counts, the size of the communicator and `config`. Strides decide only how a rank packs.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from . import config
from .buffers import Array, Buffer
from .capital import Capital
from .cma import Peers, probe
from .errors import CommError
from .movement import Movement
from .neighbours import Neighbours
from .nonblocking import NonBlocking
from .objects import Objects
from .operators import Reduction
from .point_to_point import Handle, PointToPoint
from .profile import Profile
from .reductions import Reductions
from .trace import Ledger, Trace, traced


class _FreedLedger(Ledger):
    """Stands in for the ledger of a freed communicator: its "active trace" leads every call here."""

    def __init__(self) -> None:
        super().__init__()
        self.traces = [Trace()]

    def run(self, op: str, function: Any, args: tuple, kwargs: dict) -> Any:
        raise CommError(f"{op}: the communicator must not be freed, got {args[0]!r}; make a new one")


_FREED = _FreedLedger()


class Communicator(Reductions, Movement, NonBlocking, Neighbours, PointToPoint, Objects, Capital, ABC):
    """A group of ranks that exchange arrays.

    Attributes
    ----------
    rank : int
        Number of this rank, ``0 .. size - 1``.
    size : int
        Number of ranks.
    handle : mpi4py.MPI.Comm or None
        The communicator of the user's own MPI calls; None where there is no MPI. Traffic of this class goes
        through a duplicate, so the two never meet.
    """

    rank: int
    size: int
    handle: Any
    _has_processes = False  # whether each rank is a process of its own, whose memory others might read

    def __init__(self, rank: int, size: int, handle: Any = None, ledger: Ledger | None = None) -> None:
        self.rank = rank
        self.size = size
        self.handle = handle
        self._ledger = Ledger() if ledger is None else ledger
        self._node: Communicator | None = None
        # None until asked for; then a tuple, as it may be that not all ranks can read each other
        self._peers: tuple[Peers | None] | None = None
        # As above: most ranks of most nodes are in no group of leaders
        self._leaders: tuple[Communicator | None] | None = None

    # ----- life cycle

    @traced
    def split(self, color: int | None, key: int = 0) -> "Communicator | None":
        """Divide the ranks into groups.

        Parameters
        ----------
        color : int or None
            Ranks of equal color form a group; None joins none.
        key : int
            Order of the ranks within a group; ties are broken by the rank here.

        Returns
        -------
        Communicator or None
            To be freed after use: by `free`, or as a context manager. None where `color` is None.

        Distribution
        ------------
        Collective.
        """
        if color is not None and not 0 <= color < 2**31:
            raise ValueError(f"split: color must be None or in [0, 2**31), got {color!r}")
        return self._split(color, key)

    @traced
    def dup(self) -> "Communicator":
        """Return a communicator of the same ranks with messages of its own. Collective."""
        return self._dup()

    def free(self) -> None:
        """Release the communicator and those made by `node` and `leaders`. Collective."""
        if self._ledger is _FREED:
            return
        for derived in (*(self._leaders or ()), self._node):
            if derived is not None:
                derived.free()
        self._node = self._leaders = None
        self._ledger = _FREED
        self._free()

    def __enter__(self) -> "Communicator":
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.free()

    def node(self) -> "Communicator":
        """Return the kept communicator of the ranks that share memory. Collective on first use."""
        if self._node is None:
            self._node = self._split_node()
        return self._node

    def leaders(self) -> "Communicator | None":
        """Return that of the first rank of each node, None elsewhere. Collective on first use."""
        node = self.node()
        if self._leaders is None:
            self._leaders = (self._split(0 if node.rank == 0 else None, 0),)
        return self._leaders[0]

    @traced
    def shared(self, shape: int | tuple[int, ...], dtype: Any = "float64") -> Array:
        """Return an array of zeros in memory that the ranks of a node share: what one writes, all see.

        Parameters
        ----------
        shape : int or tuple of int
            The same on all ranks of a node.
        dtype : dtype of NumPy or torch
            One of torch makes a tensor.

        Returns
        -------
        array
            The same memory on all ranks of a node. It is freed when the last of them has dropped its array.

        Distribution
        ------------
        Collective: a broadcast of 256 bytes within the node, and an agreement. Between a write on one rank and a read
        on another there must be a barrier: ``comm.node().barrier()``.

        Raises
        ------
        OSError
            On all ranks, if one node has no room for it.

        Examples
        --------
        >>> import ht_comm
        >>> comm = ht_comm.get_comm()
        >>> table = comm.shared(3)
        >>> if comm.node().rank == 0:
        ...     table[:] = [1.0, 2.0, 3.0]
        >>> comm.node().barrier()
        >>> float(table[2])
        3.0
        """
        from .shared import make_shared  # needed by few

        return make_shared(self, shape, dtype)

    @property
    def job(self) -> Any:
        """What all ranks of one `spmd` call have in common: one object, for all communicators made from the first.

        None where each rank is a process, whose globals are the rank's own. Hashable, can be referred to weakly,
        and gone once the call has returned: a key for what a library keeps for each rank.
        """
        return None

    # ----- synchronisation, redistribution, tracing

    @traced
    def barrier(self) -> None:
        """Wait until all ranks are here. Collective."""
        if self.size > 1:
            if self._ledger.traces:
                self._ledger.add(0)
            self._barrier()

    @traced
    def redistribute(self, x: Array, plan: Any, *, out: Array | None = None) -> Array:
        """Move the blocks of an array from one placement to another.

        Parameters
        ----------
        x : torch.Tensor or numpy.ndarray
            This rank's block of the source placement.
        plan : Plan
            Made by `plan_redistribution` from the boxes of all ranks before and after; the same on all ranks.
        out : array, optional
            Receives this rank's block of the destination placement.

        Returns
        -------
        array
            This rank's block of the destination placement.

        Distribution
        ------------
        Collective. Pairwise, chunked, with bounded scratch; see `ht_comm.redistribute`.
        """
        from .redistribute import execute  # the engine builds on this class

        return execute(self, x, plan, out)

    @traced
    def exchange(self, sends: Iterable[tuple], receives: Iterable[tuple]) -> None:
        """Exchange pieces of arrays between any ranks: what `redistribute` does, for pieces that the caller planned.

        Parameters
        ----------
        sends : iterable of (dest, array)
            What this rank gives to each rank, itself included; any strides, any number of pieces for a rank.
        receives : iterable of (source, array[, flip[, dtype]])
            Where what comes from each rank is written, any strides. The pieces between two ranks are named in the
            same order at both ends and have the same shapes. `flip` are axes along which a piece is written in reverse
            order; `dtype` is the type it is sent in, if that is not the type of the array.

        Distribution
        ------------
        Collective. One message for each piece between two ranks (one for each half of `config.chunk_bytes`). Scratch
        of at most two times `config.chunk_bytes`.

        Raises
        ------
        ValueError
            If a rank is out of range, a piece cannot be written, or what a rank keeps does not match.
        TypeError
            If a piece is no array of a dtype that can travel.

        Examples
        --------
        >>> import numpy as np, ht_comm
        >>> comm = ht_comm.get_comm()
        >>> right, left = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
        >>> out = np.empty(2)
        >>> comm.exchange([(right, np.array([1.0, 2.0]))], [(left, out, (0,))])
        >>> out.tolist()
        [2.0, 1.0]
        """
        from .redistribute import exchange  # the engine builds on this class

        exchange(self, sends, receives)

    def trace(self) -> Trace:
        """Return a context manager that counts the calls and bytes of this rank.

        Communicators made from this one (split, dup, node) report to the same trace; nested traces each see
        all.

        Examples
        --------
        >>> import numpy as np, ht_comm
        >>> comm = ht_comm.get_comm()
        >>> with comm.trace() as t:
        ...     total = comm.allreduce(np.ones(3))
        >>> t.calls
        1
        """
        return Trace(_ledger=self._ledger)

    def profile(self) -> Profile:
        """Return a context manager that sums up calls, bytes and seconds of each line of the program.

        Like `trace`, but what it holds does not grow with the number of calls, and ``str()`` of it is a table.
        Its ``gather()``, which is collective, adds the other ranks.

        Examples
        --------
        >>> import numpy as np, ht_comm
        >>> comm = ht_comm.get_comm()
        >>> with comm.profile() as p:
        ...     for _ in range(3):
        ...         total = comm.allreduce(np.ones(3))
        >>> [line.calls for line in p.lines.values()]
        [3]
        """
        return Profile(_ledger=self._ledger, _comm=self)

    # ----- checks shared by the collectives

    def _find_peers(self) -> Peers | None:
        """Return what is needed to read the memory of the other ranks, None if not all can. Collective at first."""
        if config.cma == "0" or not self._has_processes:
            return None
        if self._peers is None:
            self._peers = (probe(self),)
        return self._peers[0]

    def _check_root(self, where: str, root: int) -> None:
        if not 0 <= root < self.size:
            raise ValueError(f"{where}: root must be in [0, {self.size}), got {root!r}")

    @staticmethod
    def _check_axis(where: str, axis: int, ndim: int) -> int:
        if ndim == 0:
            raise ValueError(f"{where}: x must have at least one axis, got a 0-D array; reshape it to (1,)")
        if not -ndim <= axis < ndim:
            raise ValueError(f"{where}: axis must be in [{-ndim}, {ndim}) for a {ndim}-D array, got {axis!r}")
        return axis % ndim

    def _check_counts(
        self, where: str, argument: str, counts: tuple[int, ...], extent: int | None = None
    ) -> tuple[int, ...]:
        counts = tuple(map(int, counts))
        if len(counts) != self.size or min(counts) < 0:
            raise ValueError(
                f"{where}: {argument} must be {self.size} extents >= 0, one for each rank, got {counts}"
            )
        if extent is not None and sum(counts) != extent:
            raise ValueError(f"{where}: {argument} must sum to the extent {extent} of the axis, got {counts}")
        return counts

    def _check_extent(self, where: str, x: Array, axis: int, counts: tuple[int, ...]) -> None:
        if x.shape[axis] != counts[self.rank]:
            raise ValueError(
                f"{where}: x must have extent counts[{self.rank}] = {counts[self.rank]} along axis {axis} "
                f"on rank {self.rank}, got shape {tuple(x.shape)}"
            )

    # ----- slicing

    @staticmethod
    def _fits(buffer: Buffer) -> bool:
        return buffer.count * buffer.dtype.itemsize <= config.slice_bytes

    @staticmethod
    def _slices(buffer: Buffer, record: int = 1) -> Iterator[Buffer]:
        """Cut a buffer into pieces of whole records, at most `config.slice_bytes` long; at least one."""
        limit = max(config.slice_bytes // (buffer.dtype.itemsize * record), 1) * record
        if buffer.count <= limit:
            yield buffer
            return
        for start in range(0, buffer.count, limit):
            yield buffer.part(start, min(limit, buffer.count - start))

    # ----- identity

    def __repr__(self) -> str:
        return f"{type(self).__name__}(rank={self.rank}, size={self.size})"

    def __copy__(self) -> "Communicator":
        return self

    def __deepcopy__(self, memo: dict) -> "Communicator":
        return self

    def __reduce__(self) -> Any:
        raise TypeError(
            f"pickle: the object must not be a communicator, got {self!r}; "
            "store what it is needed for and call ht_comm.get_comm() after loading"
        )

    # ----- primitives: what a transport implements. Buffers are contiguous and at most config.slice_bytes
    # long.

    @abstractmethod
    def _barrier(self) -> None:
        """Return when all ranks have called it."""

    @abstractmethod
    def _bcast(self, buffer: Buffer, root: int) -> None:
        """Set the buffer of every rank to the root's."""

    @abstractmethod
    def _allreduce(self, send: Buffer | None, recv: Buffer, red: Reduction) -> None:
        """Set `recv` to the combination of all ranks' `send` (None: of what `recv` holds)."""

    @abstractmethod
    def _reduce(self, buffer: Buffer, red: Reduction, root: int) -> None:
        """Set the root's buffer to the combination of all ranks' buffers, which keep theirs."""

    @abstractmethod
    def _scan(self, buffer: Buffer, red: Reduction) -> None:
        """Set `buffer` to the combination of the buffers of ranks ``0 .. rank``."""

    @abstractmethod
    def _exscan(self, buffer: Buffer, red: Reduction) -> None:
        """Set `buffer` to the combination of the buffers of ranks ``0 .. rank - 1``; anything on rank 0."""

    @abstractmethod
    def _allgatherv(self, send: Buffer, recv: Buffer, lengths: tuple[int, ...]) -> None:
        """Fill `recv` with the `send` of all ranks one after the other; lengths are in elements."""

    @abstractmethod
    def _reduce_scatterv(self, send: Buffer, recv: Buffer, lengths: tuple[int, ...], red: Reduction) -> None:
        """Set `recv` to block `rank` of the combination of all ranks' `send`."""

    @abstractmethod
    def _istart(self, op: str, *args: Any) -> Handle:
        """Start a collective of those above, named without its underscore, with the same arguments.

        Ranks start collectives in the same order; they may wait for them in any.
        """

    @abstractmethod
    def _isend(self, buffer: Buffer, dest: int, tag: int) -> Handle:
        """Start sending; messages of equal source, destination and tag arrive in order."""

    @abstractmethod
    def _irecv(self, buffer: Buffer, source: int, tag: int) -> Handle:
        """Start receiving exactly ``buffer.count`` elements."""

    @abstractmethod
    def _split(self, color: int | None, key: int) -> "Communicator | None":
        """Return the communicator of the ranks of equal color."""

    @abstractmethod
    def _dup(self) -> "Communicator":
        """Return a communicator of the same ranks."""

    @abstractmethod
    def _split_node(self) -> "Communicator":
        """Return the communicator of the ranks that share memory."""

    @abstractmethod
    def _free(self) -> None:
        """Release what the transport holds."""
