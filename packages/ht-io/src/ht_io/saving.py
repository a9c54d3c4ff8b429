"""Saving a file of any format: rank 0 makes a temporary file, all ranks write, then it gets its name.

How to add a format
-------------------
Give :func:`save_file` two functions. ``create(path, keep)`` runs on rank 0: it makes the file (or, where `keep`,
extends the copy of the previous one) and returns integers that every rank needs to write, such as byte offsets.
``write(path, places)`` runs on all ranks, goes through the same messages whatever fails, and returns its error
instead of raising. :class:`ht_io.plan_write.Item` and :func:`ht_io.raw.write_raw` write arrays by byte ranges.
Everything else is done here: modes, room on the disk, left-overs of killed jobs, agreement, the final name.
"""

from __future__ import annotations

import errno
import os
import zlib
from collections.abc import Callable, Sequence

import numpy as np
from ht_comm import Communicator

from .replace import Temporary, check_space, copy_file, remove_stale

MODES = ("w", "w-", "x", "a", "r+")
_INLINE = 8  # integers that fit into the first message


def check_mode(mode: object, op: str) -> None:
    """Refuse a mode that is none, before any message."""
    if mode not in MODES:
        raise ValueError(f"{op}: mode must be one of {', '.join(MODES)}, got {mode!r}")


def save_file(
    path: str | os.PathLike,
    mode: str,
    create: Callable[[str, bool], Sequence[int]],
    write: Callable[[str, list[int]], Exception | None],
    *,
    facts: str,
    needed: int,
    comm: Communicator,
    op: str,
    kind: type[Temporary] = Temporary,
) -> None:
    """Make the file `path` as a whole or not at all. Collective.

    Parameters
    ----------
    path : path
        A symbolic link is followed.
    mode : {"w", "x", "w-", "a", "r+"}
        "a" and "r+" work on a copy of the file, if there is one.
    create, write : callable
        See the top of this module. `create` must return as many integers on any rank's view: their number
        follows from `facts`.
    facts : str
        What must be equal on all ranks, as text.
    needed : int
        Bytes that the new data will take, so far as they are known.
    kind : type
        `Temporary` for a file, `TemporaryFolder` for a directory of them.

    Distribution
    ------------
    A broadcast of 13 integers and three one-number agreements, a second broadcast if there are more than 8
    integers, and the messages of `write`.

    Raises
    ------
    OSError
        The file cannot be made. All ranks raise the same error; nothing is left behind.
    """
    name = os.fsdecode(os.fspath(path))
    target = os.path.realpath(name)
    temporary, places = _begin(kind.new(target), mode, create, facts, needed, comm, op)
    try:
        comm.agree(write(temporary.path, places))
        comm.agree(_finish(temporary, mode, op) if comm.rank == 0 else None)
    finally:
        if comm.rank == 0:
            temporary.remove()


def _begin(
    temporary: Temporary,
    mode: str,
    create: Callable[[str, bool], Sequence[int]],
    facts: str,
    needed: int,
    comm: Communicator,
    op: str,
) -> tuple[Temporary, list[int]]:
    """Let rank 0 make the temporary file; return it and what `create` told."""
    error: Exception | None = None
    target, kind = temporary.target, type(temporary)
    mark = zlib.crc32(f"{target} {mode} {facts}".encode("utf-8", "surrogateescape"))
    places = np.zeros(0, dtype=np.int64)
    # Of fixed length, so that ranks that were given different things find that out instead of failing in the message.
    header = np.full(6 + _INLINE, -1, dtype=np.int64)
    if comm.rank == 0:
        try:
            keep = _prepare(temporary, mode, needed, op)
            places = np.array(create(temporary.path, keep), dtype=np.int64)
            header[:6] = (0, mark, *temporary.token, len(places))
            header[6 : 6 + len(places)] = places[:_INLINE]
        except Exception as failure:
            error = explain(failure, target, op)
            temporary.remove()
    header = comm.bcast(header, root=0)
    if header[0] == 0 and comm.rank > 0:
        temporary = kind(target, tuple(header[2:5].tolist()))
        if header[1] != mark:
            text = f"{op}: path and arguments must be the same on every rank"
            error = ValueError(f"{text}, got others than rank 0's for {target!r}")
        elif not os.path.exists(temporary.path):
            text = f"{op}: path must be on a file system that all ranks share, got {target!r}"
            error = OSError(errno.EXDEV, text)
    number = int(header[5])
    try:
        comm.agree(error)
        if number > _INLINE:
            places = comm.bcast(places if comm.rank == 0 else np.zeros(number, dtype=np.int64), root=0)
            return temporary, places.tolist()
    except BaseException:
        if comm.rank == 0:
            temporary.remove()
        raise
    return temporary, header[6 : 6 + number].tolist()


def explain(error: Exception, target: str, op: str) -> Exception:
    """Return the error of a system call or of a library with the house's text."""
    if not isinstance(error, OSError) or op in str(error) or "path must be" in str(error):
        return error
    text = (
        f"{op}: path must be a place where a file can be written, got {target!r} ({error.strerror or error})"
    )
    return OSError(error.errno or errno.EIO, text)


def _prepare(temporary: Temporary, mode: str, needed: int, op: str) -> bool:
    """Check what can be checked before the file is made; return whether the temporary file is now a copy of the
    target.
    """
    target = temporary.target
    folder = os.path.dirname(target)
    exists = os.path.lexists(target)
    if temporary.is_folder and exists and not os.path.isdir(target):
        raise NotADirectoryError(errno.ENOTDIR, f"{op}: path must be a directory, got the file {target!r}")
    if os.path.isdir(target) and not temporary.is_folder:
        raise IsADirectoryError(errno.EISDIR, f"{op}: path must be a file, got the directory {target!r}")
    if not os.path.isdir(folder):
        raise FileNotFoundError(errno.ENOENT, f"{op}: path must be in an existing directory, got {target!r}")
    if exists and mode in ("x", "w-"):
        raise FileExistsError(errno.EEXIST, f"{op}: path must be a new file in mode {mode!r}, got {target!r}")
    if not exists and mode == "r+":
        raise FileNotFoundError(
            errno.ENOENT, f"{op}: path must be an existing file in mode 'r+', got {target!r}"
        )
    if os.statvfs(folder).f_flag & os.ST_RDONLY:
        text = f"{op}: path must be on a file system that is not mounted read-only, got {target!r}"
        raise OSError(errno.EROFS, text)
    if exists and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, f"{op}: path must be writable by this user, got {target!r}")
    remove_stale(target)
    keep = exists and mode in ("a", "r+")
    check_space(folder, needed + (os.path.getsize(target) if keep else 0), op)
    if keep:
        copy_file(target, temporary.path)
    return keep


def _finish(temporary: Temporary, mode: str, op: str) -> Exception | None:
    """Give the file its final name; return what went wrong instead of raising."""
    try:
        temporary.commit(must_be_new=mode in ("x", "w-"))
    except OSError as error:
        return explain(error, temporary.target, op)
    return None
