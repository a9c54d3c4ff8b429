"""Tunable sizes. They decide which messages are sent, so they **must be equal on all ranks**.

Set them from the environment (read once, at import) or by assignment before communicating::

    ht_comm.config.slice_bytes = 2**28
"""

import os


def _bytes_from_environment(name: str, default: int) -> int:
    text = os.environ.get(name)
    if text is None:
        return default
    try:
        value = int(text)
    except ValueError:
        value = 0
    if value <= 0:
        raise ValueError(f"config: {name} must be a positive number of bytes, got {text!r}")
    return value


slice_bytes: int = _bytes_from_environment("HT_COMM_SLICE_BYTES", 2**30)
"""No single message of a collective or of point-to-point traffic is longer than this.

Open MPI 5 refuses counts and displacements beyond 2**31 - 1; a limit of 2**30 bytes keeps clear of it for
every element size.
"""

chunk_bytes: int = _bytes_from_environment("HT_COMM_CHUNK_BYTES", 8 * 2**20)
"""Size of one scratch buffer of the redistribution engine, which holds two of them."""
