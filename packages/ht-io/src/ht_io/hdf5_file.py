"""HDF5 files that are written to, whatever the disk does.

HDF5 cannot close a file that it cannot flush: the file stays open, and the process dies when its objects are freed
(seen with HDF5 2.0). So it never learns that a write has failed: h5py is given an object that keeps in memory what the
disk has not taken, and raises the error when HDF5 has closed the file.
"""

from __future__ import annotations

import io
import os

import h5py


class WritableFile(h5py.File):
    """The HDF5 file at `path`, opened in mode "w-" or "r+"; `options` are those of h5py.

    After a write that failed all that HDF5 writes stays in memory: see :meth:`check`.
    """

    def __init__(self, path: str, mode: str, **options: object) -> None:
        flags = os.O_RDWR | (os.O_CREAT | os.O_EXCL if mode == "w-" else 0)
        self._disk = _Disk(os.open(path, flags, 0o666))
        try:
            super().__init__(self._disk, mode, **options)
        except BaseException:
            self._disk.close()
            raise
        self.check()

    def check(self) -> None:
        """Raise if a write has failed, to be asked after every few megabytes.

        Raises
        ------
        OSError
            With the number that the system gave.
        """
        error = self._disk.error
        if error is not None:
            text = "save: path must be on a file system that takes the data"
            raise OSError(error.errno, f"{text}: {error.strerror}")

    def close(self) -> None:
        """Let HDF5 close the file, then :meth:`check`."""
        super().close()
        self._disk.close()
        self.check()


class _Disk(io.RawIOBase):
    """A file as h5py wants it, with calls that do not fail: `error` is the first that one would have raised."""

    def __init__(self, handle: int) -> None:
        super().__init__()
        self.error: OSError | None = None
        self._handle, self._at = handle, 0
        self._end = os.fstat(handle).st_size
        self._kept: list[tuple[int, bytes]] = []  # begin and contents of what was not written

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Set where the next call reads or writes."""
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._end}[whence]
        return self._at

    def tell(self) -> int:
        """Return where the next call reads or writes."""
        return self._at

    def readinto(self, buffer: object) -> int:
        """Fill all of `buffer`; what was never written is zero."""
        view = memoryview(buffer).cast("B")
        done = 0
        try:
            while done < len(view):
                got = os.preadv(self._handle, [view[done:]], self._at + done)
                if not got:
                    break
                done += got
        except OSError as error:
            self.error = self.error or error
        view[done:] = bytes(len(view) - done)
        for begin, data in self._kept:
            low, high = max(begin, self._at), min(begin + len(data), self._at + len(view))
            if low < high:
                view[low - self._at : high - self._at] = data[low - begin : high - begin]
        self._at += len(view)
        return len(view)

    def write(self, data: object) -> int:
        """Write all of `data`, or keep it."""
        view = memoryview(data).cast("B")
        done = 0
        try:
            while self.error is None and done < len(view):
                done += os.pwrite(self._handle, view[done : done + _MOST], self._at + done)
        except OSError as error:
            self.error = error
        if done < len(view):
            self._kept.append((self._at + done, bytes(view[done:])))
        self._at += len(view)
        self._end = max(self._end, self._at)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        """Set the length, if all is well."""
        self._end = self._at if size is None else size
        try:
            if self.error is None:
                os.ftruncate(self._handle, self._end)
        except OSError as error:
            self.error = error
        return self._end

    def close(self) -> None:
        """Close the file; what is written afterwards is lost."""
        if not self.closed:
            try:
                os.close(self._handle)  # network file systems may tell only now
            except OSError as error:
                self.error = self.error or error
        super().close()


_MOST = 1 << 30  # bytes of one call
