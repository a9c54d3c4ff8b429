"""`inspect` and `attributes`: one rank looks into a file and tells the others."""

from __future__ import annotations

import os

from ht_comm import Communicator, get_comm

from .contents import Contents
from .formats import find_format


def inspect(path: str | os.PathLike, *, comm: Communicator | None = None, **options: object) -> Contents:
    """Return what a file holds, without reading its data. Collective.

    Parameters
    ----------
    path : path
        File or store of a format that is known by its suffix.
    comm : Communicator, optional
        The current one if not given.
    **options
        Of the format: `sep` and `encoding` for CSV.

    Returns
    -------
    Contents
        `arrays`: name to `ArrayInfo` (shape, dtype, chunks, maxshape, dims, attrs) in the order of the file; `attrs`,
        `dims`, `unlimited`. Printing it lists all. Of CSV the first lines are read: its number of rows is None, its
        attributes `columns` and `header_lines` tell the names and what to give to :func:`load_csv`.

    Distribution
    ------------
    Rank 0 alone opens the file; one broadcast of an object.

    Raises
    ------
    FileNotFoundError, IsADirectoryError, PermissionError, OSError
        The file is absent, not readable, of another format, truncated or damaged.
    ValueError
        The suffix is unknown, or the format has no such listing.

    All ranks raise the same error.

    Examples
    --------
    >>> import ht_core, ht_io
    >>> x = ht_core.ones((6, 2), dtype="float32", split=0)
    >>> ht_io.save_hdf5(x, "run.h5", "features", attrs={"unit": "GeV"})
    >>> found = ht_io.inspect("run.h5")
    >>> found.arrays["features"].shape, found.arrays["features"].attrs
    ((6, 2), {'unit': 'GeV'})
    >>> print(found)
    HDF5 file 'run.h5'
      features: float32 (6, 2)
        unit: 'GeV'
    """
    comm = get_comm() if comm is None else comm
    found: Contents | Exception | None = None
    if comm.rank == 0:
        try:
            found = find_format(path, "inspect").inspect(path, "inspect", **options)
        except Exception as error:
            found = error.with_traceback(None)
    found = comm.bcast_object(found)
    if isinstance(found, Exception):
        raise found
    return found


def attributes(
    path: str | os.PathLike, name: str | None = None, *, comm: Communicator | None = None
) -> dict[str, object]:
    """Return the attributes of an array of a file, or of the file itself. Collective.

    Parameters
    ----------
    path : path
    name : str, optional
        Of the array; the attributes are those of the file if not given.
    comm : Communicator, optional
        The current one if not given.

    Distribution
    ------------
    As :func:`inspect`.

    Raises
    ------
    KeyError
        There is no such array; the text lists those there are.
    Exception
        As :func:`inspect`.

    Examples
    --------
    >>> import ht_core, ht_io
    >>> ht_io.save_netcdf(ht_core.ones(3), "t.nc", "t", attrs={"units": "K"}, file_attrs={"title": "test"})
    >>> ht_io.attributes("t.nc", "t"), ht_io.attributes("t.nc")
    ({'units': 'K'}, {'title': 'test'})
    """
    found = inspect(path, comm=comm)
    if name is None:
        return found.attrs
    arrays = {key.strip("/"): array for key, array in found.arrays.items()}
    if not isinstance(name, str) or name.strip("/") not in arrays:
        listed = ", ".join(list(arrays)[:20])
        raise KeyError(
            f"attributes: name must be an array of the file, got {name!r}, which is not in {found.path!r}, which "
            f"has: {listed}"
        )
    return arrays[name.strip("/")].attrs
