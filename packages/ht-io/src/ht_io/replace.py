"""A file gets its final name only when it is complete: temporary file in the same directory, then rename.

The names are built so that every rank can form them from three integers, and so that a later save can tell a
left-over of a killed job from a save that another process is just doing. Knows no communicator and no file
format.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import itertools
import os
import re
import shutil
import socket
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

_SERIAL = itertools.count()
_MAX_NAME = 180  # of the final name's bytes that go into the temporary one: file systems allow 255 in all


def host_id() -> int:
    """Return a number of this host: process ids mean something only together with it."""
    return zlib.crc32(socket.gethostname().encode())


@dataclass(frozen=True, slots=True)
class Temporary:
    """The temporary twin of `target`; `token` is (host, process, serial number) of the rank that made it."""

    is_folder: ClassVar[bool] = False

    target: str
    token: tuple[int, int, int]

    @classmethod
    def new(cls, target: str) -> Temporary:
        """Return a name that no other save uses."""
        return cls(target, (host_id(), os.getpid(), next(_SERIAL)))

    @property
    def path(self) -> str:
        """Path of the temporary file."""
        folder, name = os.path.split(self.target)
        host, process, serial = self.token
        return os.path.join(folder, f".{_stem(name)}.{host:08x}-{process}-{serial}.tmp")

    def remove(self) -> None:
        """Delete the temporary file if it is there and can be deleted."""
        with contextlib.suppress(OSError):  # this follows another error, which other ranks wait to hear of
            os.unlink(self.path)

    def commit(self, must_be_new: bool = False) -> None:
        """Put the temporary file in the place of the target, with the permissions of the file it replaces.

        Raises
        ------
        FileExistsError
            If it `must_be_new` and somebody has made a file of that name meanwhile.
        """
        with contextlib.suppress(FileNotFoundError):
            shutil.copymode(self.target, self.path)
        sync_path(self.path)
        if must_be_new:
            self._link()
        else:
            os.replace(self.path, self.target)
        sync_path(os.path.dirname(self.target) or ".")

    def _link(self) -> None:
        """Take the name only if it is free, in one step where the file system has hard links."""
        try:
            os.link(self.path, self.target)
        except FileExistsError:
            raise
        except OSError:
            os.close(os.open(self.target, os.O_CREAT | os.O_EXCL))
            os.replace(self.path, self.target)
        else:
            self.remove()


@dataclass(frozen=True, slots=True)
class TemporaryFolder(Temporary):
    """The same for a directory and all that is in it, whose files are on the storage already."""

    is_folder: ClassVar[bool] = True

    def remove(self) -> None:
        """Delete the temporary directory, or after `commit` what it replaced, if it is there."""
        shutil.rmtree(self.path, ignore_errors=True)

    def commit(self, must_be_new: bool = False) -> None:
        """Put the temporary directory in the place of the target, in one step where the system has one for it.

        Raises
        ------
        FileExistsError
            If it `must_be_new` and somebody has made a directory of that name meanwhile.
        """
        if os.path.lexists(self.target):
            if must_be_new:
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), self.target)
            shutil.copymode(self.target, self.path)
            exchange(self.path, self.target)
        else:
            os.rename(self.path, self.target)
        sync_path(os.path.dirname(self.target) or ".")


def exchange(first: str, second: str) -> None:
    """Let two directories change their names. Where the system cannot do it in one step, a process that is killed
    between two leaves `second` under its name with the suffix ``.previous``.
    """
    if _RENAME is not None:
        if _RENAME(_CWD, os.fsencode(first), _CWD, os.fsencode(second), _EXCHANGE) == 0:
            return
        number = ctypes.get_errno()
        if number not in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
            raise OSError(number, os.strerror(number), second)
    previous = f"{second}.previous"
    os.rename(second, previous)
    try:
        os.rename(first, second)
    except OSError:
        os.rename(previous, second)
        raise
    os.rename(previous, first)


def _find_rename() -> Callable[..., int] | None:
    try:
        found = ctypes.CDLL(None, use_errno=True).renameat2  # Linux
    except (OSError, AttributeError):
        return None
    found.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    return found


_RENAME = _find_rename()
_CWD, _EXCHANGE = -100, 2


def _stem(name: str) -> str:
    return os.fsdecode(os.fsencode(name)[:_MAX_NAME])


def remove_stale(target: str) -> None:
    """Delete temporary files of `target` that a process of this host left behind when it was killed."""
    folder, name = os.path.split(target)
    pattern = re.compile(re.escape(f".{_stem(name)}.{host_id():08x}-") + r"(\d+)-\d+\.tmp")
    for entry in os.listdir(folder or "."):
        found = pattern.fullmatch(entry)
        if found and not _is_running(int(found[1])):
            left = os.path.join(folder, entry)
            with contextlib.suppress(OSError):
                shutil.rmtree(left) if os.path.isdir(left) else os.unlink(left)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def copy_file(source: str, target: str) -> None:
    """Make `target` a copy of a file; where the file system can, both share the data until one changes."""
    with open(source, "rb") as old, open(target, "xb") as new:
        try:
            fcntl.ioctl(new, _CLONE, old.fileno())
        except OSError:
            shutil.copyfileobj(old, new, _COPY)


_CLONE = 0x40049409  # FICLONE of Linux
_COPY = 16 << 20


def check_space(folder: str, needed: int, op: str) -> None:
    """Raise before the first byte is written if `needed` bytes cannot fit.

    Raises
    ------
    OSError
        ``ENOSPC``.
    """
    state = os.statvfs(folder or ".")
    free = state.f_bavail * state.f_frsize
    if needed > free:
        text = f"{op}: path must be on a file system with {needed} bytes to spare, got {free} in {folder!r}"
        raise OSError(errno.ENOSPC, text)


def sync_path(path: str) -> None:
    """Force what was written under `path` (a file or a directory) to the storage."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems without fsync on directories
            raise
    finally:
        os.close(handle)


def write_all(handle: int, data: memoryview, offset: int, limit: int = 1 << 30) -> None:
    """Write all of `data` at `offset`, however many calls the system needs (one moves less than 2**31
    bytes).
    """
    done = 0
    while done < len(data):
        done += os.pwrite(handle, data[done : done + limit], offset + done)
