"""The one error root of this layer.

Wrong arguments raise `ValueError` or `TypeError` before any message is sent; everything that goes wrong
between ranks (dead-lock, mismatch, a peer that failed, a missing MPI library under a launcher) is a
`CommError`.
"""


class CommError(RuntimeError):
    """A communication failed, or could not be set up."""
