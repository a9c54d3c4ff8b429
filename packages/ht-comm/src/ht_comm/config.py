"""Tunable sizes. They decide which messages are sent, so they **must be equal on all ranks**.

Set them from the environment (read once, at import) or by assignment before communicating::

    ht_comm.config.slice_bytes = 2**28

`check`, `timeout` and `log` turn on what helps to find a fault. They, too, are set on all ranks at the same point
of the program, and outside `spmd`.
"""

import math
import os
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any


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


read_bytes: int = _bytes_from_environment("HT_COMM_READ_BYTES", 2**22)
"""Where so many bytes or more per rank change place, the ranks of one node read each other's memory; see `cma`. Less
stays in the caches, where packing is cheap."""

read_run_bytes: int = _bytes_from_environment("HT_COMM_READ_RUN_BYTES", 2**12)
"""What lies in shorter runs of memory is packed and sent instead: each run costs the kernel about 100 ns."""

cma: str = os.environ.get("HT_COMM_CMA", "auto")
"""Whether ranks may read each other's memory: ``auto``, where the system lets them; ``0``, never; ``1``, as ``auto``,
and this process gives its consent where the system asks for it (Yama)."""

if cma not in ("auto", "0", "1"):
    raise ValueError(f"config: HT_COMM_CMA must be auto, 0 or 1, got {cma!r}")


def _check_value(name: str, value: Any) -> Any:
    if name == "check" and value not in (False, True, "calls"):
        raise ValueError(f"config: check must be False, True or 'calls', got {value!r}")
    if name == "log" and value not in (False, True):
        raise ValueError(f"config: log must be False or True, got {value!r}")
    if name == "timeout" and value is not None:
        value = float(value)
        if not 0 < value < math.inf:
            raise ValueError(f"config: timeout must be None or a positive number of seconds, got {value!r}")
    return value


def _flag_from_environment(name: str, *others: str) -> bool | str:
    text = os.environ.get(name, "0") or "0"
    if text not in ("0", "1", *others):
        raise ValueError(f"config: {name} must be one of {('0', '1', *others)}, got {text!r}")
    return text if text in others else text == "1"


def _seconds_from_environment(name: str) -> float | None:
    text = os.environ.get(name, "")
    try:
        return _check_value("timeout", float(text)) if text else None
    except ValueError:
        raise ValueError(f"config: {name} must be a positive number of seconds, got {text!r}") from None


check: bool | str = _flag_from_environment("HT_COMM_CHECK", "calls")
"""Whether the ranks compare their calls before each collective; see `ht_comm.checked`. ``"calls"`` does not ask that
a call is made from the same line on all ranks."""

timeout: float | None = _seconds_from_environment("HT_COMM_TIMEOUT")
"""Seconds a rank waits for the others in a collective, or for a message, before it reports who is missing."""

log: bool | str = _flag_from_environment("HT_COMM_LOG")
"""Whether each rank remembers its last 32 calls, to print them with the traceback that ends the job. `check` and
`timeout` do so, too."""

exit_seconds: float = _seconds_from_environment("HT_COMM_EXIT_SECONDS") or 30.0
"""A rank that has finished ends the job once all others have been seen to wait in MPI, at one place, for so long."""

listeners: list[Callable[[], None]] = []
"""Called after `check`, `timeout` or `log` has been assigned."""


class _Config(ModuleType):
    """The type of this module: makes an assignment to a switch take effect."""

    def __setattr__(self, name: str, value: Any) -> None:
        is_switch = name in ("check", "timeout", "log")
        super().__setattr__(name, _check_value(name, value) if is_switch else value)
        if is_switch:
            for listener in listeners:
                listener()


sys.modules[__name__].__class__ = _Config


# ----- sizes that are measured: `ht_comm.calibration`

MEASURED = ("chunk_bytes", "read_bytes", "read_run_bytes")
_defaults = {name: getattr(sys.modules[__name__], name) for name in MEASURED}


def adopt(values: dict[str, int]) -> None:
    """Take measured sizes for those that neither the environment nor an assignment has set."""
    for name in MEASURED:
        is_set = f"HT_COMM_{name.upper()}" in os.environ or globals()[name] != _defaults[name]
        if name in values and not is_set:
            setattr(sys.modules[__name__], name, values[name])
