"""First value plus multiples of a gap, for any run of global indices, in one pass over the memory of the result.

What is computed in between stays in a tile that the second-level cache holds. A value is a function of its global
index alone, so parts do not depend on the number of ranks. This file knows no operation by name and sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from ..dndarray import _cast

Array = np.ndarray | torch.Tensor

#: Elements of a tile on the CPU; a device takes its whole part at once.
TILE = 1 << 15
#: Up to this magnitude all integers are numbers of the type.
_EXACT = {torch.float32: 1 << 24, torch.float64: 1 << 53}
_TWINS = {torch.uint16: torch.int16, torch.uint32: torch.int32, torch.uint64: torch.int64}


def progression(
    n: int,
    offset: int,
    first: complex,
    gap: complex,
    work: torch.dtype,
    dtype: torch.dtype,
    device: torch.device,
    then: Callable[[torch.Tensor], object] | None = None,
) -> torch.Tensor:
    """Return ``first + gap * i`` for the indices i from `offset` to ``offset + n``, 1-D.

    The product is rounded before the sum is, as NumPy does it: no fused multiply-add.

    Parameters
    ----------
    first, gap : number
        Values of `work`.
    work : torch.dtype
        int64 (modulo 2**64), float32, float64 or complex128: type of the computation.
    dtype : torch.dtype
        Type of the result.
    then : callable, optional
        Changes a tile of values, of type `work`, in place before it is cast.
    """
    out = torch.empty(n, dtype=dtype, device=device)
    out = out.view(_TWINS.get(dtype, dtype))
    if work is torch.int64:
        if not (out.is_floating_point() or out.is_complex() or out.dtype is torch.bool):
            work = out.dtype  # modulo 2**k as well as modulo 2**64
        first, gap = _wrapped(first, work), _wrapped(gap, work)
    size = min(n, TILE) if device.type == "cpu" else n
    scratch = None if work is out.dtype else torch.empty(size, dtype=work, device=device)
    # NumPy's kernels start in a fifth of the time of torch's, which counts for tiles.
    memory = _memory(out if scratch is None else scratch)
    drops = work.is_complex and not out.is_complex()  # an imaginary part
    target = out if drops or out.dtype is torch.bfloat16 else _memory(out)  # NumPy has no bfloat16
    write = _writer(size, offset + n, first, gap, work, device)
    with np.errstate(all="ignore"):
        for at in range(0, n, size or 1):
            count = min(size, n - at)
            tile = memory[at : at + count] if scratch is None else memory[:count]
            write(tile, offset + at)
            if then is not None:
                then(torch.as_tensor(tile))
            if scratch is not None:
                target[at : at + count] = tile if target is not out else _cast(scratch[:count], out.dtype)
    return out.view(dtype)


def _memory(x: torch.Tensor) -> Array:
    return x.numpy() if x.device.type == "cpu" else x


def _writer(
    size: int, end: int, first: complex, gap: complex, work: torch.dtype, device: torch.device
) -> Callable[[torch.Tensor, int], object]:
    """Return the function that writes the values from index `at` on to a tile of at most `size`."""
    count_in, limit = work, _EXACT.get(work, 0)
    if not work.is_floating_point and not work.is_complex:
        regroups = True
    else:  # where nothing is rounded
        whole = limit and float(first).is_integer() and float(gap).is_integer()
        regroups = whole and abs(first) + abs(gap) * end <= limit
        count_in = work if end <= limit else torch.float64  # float32 does not hold larger indices
    steps = torch.arange(size, device=device).to(count_in)
    if regroups:  # one addition for each value
        steps.mul_(gap)
    steps = _memory(steps)
    xp = torch if isinstance(steps, torch.Tensor) else np

    def regrouped(tile: Array, at: int) -> None:
        start = first + gap * at
        xp.add(steps[: len(tile)], start if limit else _wrapped(start, work), out=tile)

    def rounded(tile: Array, at: int) -> None:
        xp.add(steps[: len(tile)], at, out=tile)
        tile *= gap
        tile += first

    return regrouped if regroups else rounded


def _wrapped(value: int, kind: torch.dtype) -> int:
    """Return the number of the integer type that is `value` modulo its range."""
    low, extent = torch.iinfo(kind).min, 1 << torch.iinfo(kind).bits
    return (int(value) - low) % extent + low
