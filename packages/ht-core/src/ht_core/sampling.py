"""Engine of random variates with parameters: one row per distribution, any method of generation, any layout.

A variate is a function of (seed, stream, global index) and of its parameters alone. To let rejection methods keep that,
every element has Philox blocks of its own: attempt k of lane l of element i reads the four words of the counter
(i, 0, 0, l * 2**32 + k), however many attempts its neighbours need. Inversion methods that need one word per element
read word i of the stream, as the uniform variates do.

Work is done in tiles that stay in cache and is written straight into the output: no message, and no temporary that
grows with the array. All kernels compute in float64 on torch tensors, with functions that treat every element alike
wherever it stands in its tile (``torch.pow`` and ``torch.sigmoid`` do not: their last bits depend on the place).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from . import types
from .dndarray import DNDarray
from .draws import _SIGNED_TWIN, BLOCK_COST, TILE, Draw, fill, raw
from .errors import DTypeError
from .layout import Layout
from .philox import WORDS, Key, blocks
from .random_arguments import Parameter, aligned

#: Elements evaluated at once on a device: enough to outlast the start of a kernel, 1 MiB per temporary.
DEVICE_TILE = 1 << 17
_LANE = 32
#: The most attempts at once, and how many times fewer than the elements of a tile those of a round are then.
MOST, CROWD = 16, 16


@dataclass(frozen=True, slots=True)
class Distribution:
    """What the engine needs to know of a distribution.

    Attributes
    ----------
    name : str
    parameters : tuple of Parameter
    kernel : callable
        ``kernel(words, *parameters)`` with one int64 word per element, or ``kernel(trials, *parameters)`` where `words`
        is 4; parameters are float64 tensors of shape (n,) or (1,). Returns the variates, float64 of shape (n,).
    words : int
        1 or 4: how many words of the stream belong to an element.
    is_integer : bool
        The variates are integers.
    conditions : tuple of (callable, str)
        What several parameters must fulfil together, elementwise, and its wording.
    """

    name: str
    parameters: tuple[Parameter, ...]
    kernel: Callable
    words: int
    is_integer: bool = False
    conditions: tuple[tuple[Callable, str], ...] = field(default=())


class Trials:
    """The random words of the elements of a tile, as many attempts and lanes as a method asks for.

    Parameters
    ----------
    key : two int
        Seed and stream.
    runs : tuple of int
        (start, length, stride): local element f has the global index ``start + f // length * stride + f % length``.
    first, count : int
        The tile: local elements first, ..., first + count - 1.
    device : torch.device
    lane : int
        The lane of attempts that are not told another one.
    at : torch.Tensor, optional
        int64 positions in the tile, where only some elements are wanted.
    """

    __slots__ = ("at", "count", "device", "first", "key", "lane", "runs")

    def __init__(self, key, runs, first, count, device, lane=0, at=None) -> None:
        self.key, self.runs, self.first, self.count, self.device = key, runs, first, count, device
        self.lane, self.at = lane, at

    @property
    def size(self) -> int:
        """Number of elements."""
        return self.count if self.at is None else self.at.numel()

    def only(self, at: torch.Tensor) -> Trials:
        """Return the trials of the elements at positions `at`."""
        at = at if self.at is None else self.at[at]
        return Trials(self.key, self.runs, self.first, self.count, self.device, self.lane, at)

    def along(self, lane: int) -> Trials:
        """Return the trials of another lane: words that no other lane has."""
        return Trials(self.key, self.runs, self.first, self.count, self.device, lane, self.at)

    def words(self, attempt: int = 0, several: int = 1) -> tuple[torch.Tensor, ...]:
        """Return the four words of each element, four int64 tensors of shape (size,).

        With `several`, elements stand that many times side by side, for the attempts attempt, attempt + 1, ...
        """
        sub = (self.lane << _LANE) + attempt
        if several == 1 and (self.at is None or self.at.numel() * BLOCK_COST > WORDS * self.count):
            flat = torch.empty(self.count * WORDS, dtype=torch.int64, device=self.device)
            fill_range(flat, raw(sub), self.key, self.runs, self.first, WORDS)
            table = flat.view(-1, WORDS)
            table = table if self.at is None else table[self.at]
        else:
            start, length, stride = self.runs
            flat = self.at + self.first
            numbers = start + (flat // length) * stride + flat % length
            if several > 1:
                sub = sub + torch.arange(several, device=flat.device).repeat(len(flat) // several)
                sub = sub.numpy() if numbers.device.type == "cpu" else sub
            if numbers.device.type == "cpu":
                table = torch.from_numpy(blocks(numbers.numpy(), self.key, sub))
            else:
                table = blocks(numbers, self.key, sub)
        return table.t().contiguous().unbind(0)

    def until_accepted(self, attempt: Callable, *parameters: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Repeat an attempt for the elements that it rejects.

        Parameters
        ----------
        attempt : callable
            ``attempt(words, *parameters)`` returns (values, accepted): a tuple of float64 tensors, a bool tensor.
        parameters : torch.Tensor
            Of shape (size,) or (1,).

        Returns
        -------
        tuple of torch.Tensor
            The accepted values.
        """
        values, accepted = attempt(self.words(), *parameters)
        left, number = (~accepted).nonzero().reshape(-1), 1
        while left.numel():
            # The fewer are left, the more attempts at once: a handful of elements costs as much as thousands.
            several = max(1, min(MOST, self.size // (CROWD * left.numel())))
            some = left.repeat_interleave(several)
            words = self.only(some).words(number, several)
            fresh, accepted = attempt(words, *(pick(p, some) for p in parameters))
            table = accepted.view(-1, several)
            done = table.any(1).nonzero().reshape(-1)
            first = table.to(torch.uint8).argmax(1)[done] + done * several
            here = left[done]
            for value, new in zip(values, fresh):
                value[here] = new[first]
            left = left[~table.any(1)]
            number += several
        return values

    def by_case(
        self, case: torch.Tensor, when_true: Callable, when_false: Callable, *parameters: torch.Tensor
    ) -> torch.Tensor:
        """Return ``when_true(trials, *parameters)`` for the elements where `case` holds, else ``when_false(...)``."""
        if case.numel() == 1:
            return (when_true if bool(case) else when_false)(self, *parameters)
        out = torch.empty(self.size, dtype=torch.float64, device=self.device)
        for here, method in ((case, when_true), (~case, when_false)):
            at = here.nonzero().reshape(-1)
            if at.numel():
                out[at] = method(self.only(at), *(pick(p, at) for p in parameters))
        return out


def pick(parameter: torch.Tensor, at: torch.Tensor) -> torch.Tensor:
    """Return the entries of a parameter at positions `at`; itself where one value holds for all."""
    return parameter if parameter.numel() == 1 else parameter[at]


# -- words to standard variates -------------------------------------------------------------------------------


def unit(words: torch.Tensor) -> torch.Tensor:
    """Return multiples of 2**-53 in [0, 1), from the upper 53 bits of words."""
    bits = words >> 11
    bits &= 2**53 - 1
    return bits.to(torch.float64).mul_(2.0**-53)


def interior(words: torch.Tensor) -> torch.Tensor:
    """Return odd multiples of 2**-53 in (0, 1), symmetric about 1/2, from the upper 52 bits of words."""
    bits = words >> 12
    bits &= 2**52 - 1
    bits |= 0x3FF << 52  # as float64: 1 + k * 2**-52, without a conversion
    return bits.view(torch.float64).sub_(1.0 - 2.0**-53)


def sign(words: torch.Tensor) -> torch.Tensor:
    """Return 1.0 or -1.0 from the lowest bit of words, which :func:`unit` and :func:`interior` leave unused."""
    return (1 - ((words & 1) << 1)).to(torch.float64)


def gauss(radius: torch.Tensor, angle: torch.Tensor) -> torch.Tensor:
    """Return standard normal variates of two words each, by Box and Muller's transform; magnitudes up to 8.6."""
    z = interior(radius).log_().mul_(-2.0).sqrt_()
    return z.mul_(unit(angle).mul_(2 * math.pi).cos_())


# -- filling ------------------------------------------------------------------------------------------------------


def runs_of(layout: Layout, rank: int) -> tuple[int, int, int, int]:
    """Return (start, runs, length, stride) of the part of `rank` in the flattened global array (C order)."""
    if layout.split is None:
        return 0, 1, layout.size, max(layout.size, 1)
    inner = math.prod(layout.shape[layout.split + 1 :])
    stride = layout.shape[layout.split] * inner
    runs = math.prod(layout.shape[: layout.split])
    return layout.displs[rank] * inner, runs, layout.counts[rank] * inner, max(stride, 1)


def writable(out: DNDarray) -> torch.Tensor:
    """Return contiguous memory of the local shape of `out`: its own, or to be copied into it."""
    local = out.larray.detach()
    if local.is_contiguous():
        return local
    return torch.empty(out.lshape, dtype=local.dtype, device=local.device)


def fill_array(out: DNDarray, draw: Draw, key: Key) -> None:
    """Write into `out`, of any layout, the variates of its elements' places in the flattened array. No message."""
    if out.larray.numel() == 0:
        return
    start, runs, length, stride = runs_of(out.layout, out.comm.rank)
    target = writable(out)
    fill(target.view(runs, length), draw, key, start, stride)
    _keep(out, target)


def fill_range(
    out: torch.Tensor, draw: Draw, key: Key, runs: tuple[int, int, int], first: int, per: int
) -> None:
    """Write `per` variates for each of the local elements first, first + 1, ... into `out`; see :class:`Trials`."""
    start, length, stride = runs
    count, done = out.numel() // per, 0
    while done < count:
        run, column = divmod(first + done, length)
        whole = (count - done) // length if column == 0 else 0
        some = max(whole, 1) * length if whole else min(length - column, count - done)
        piece = out[done * per : (done + some) * per].view(max(whole, 1), -1)
        fill(piece, draw, key, (start + run * stride + column) * per, stride * per)
        done += some


def sample(out: DNDarray, row: Distribution, parameters: list[torch.Tensor], key: Key) -> None:
    """Write variates of `row` into `out`. No message.

    Parameters
    ----------
    parameters : list of torch.Tensor
        float64, each broadcasts to the local shape of `out`.
    """
    lshape, device, target = out.lshape, out.larray.device, writable(out)
    flat = target.view(_SIGNED_TWIN.get(target.dtype, target.dtype)).view(-1)
    start, _, length, stride = runs_of(out.layout, out.comm.rank)
    runs = (start, max(length, 1), stride)
    for first, count in tiles(flat.numel(), runs[1], device):
        some = [_flat_part(p, lshape, first, count) for p in parameters]
        if row.words == 1:
            source = torch.empty(count, dtype=torch.int64, device=device)
            fill_range(source, raw(), key, runs, first, 1)
        else:
            source = Trials(key, runs, first, count, device)
        values = row.kernel(source, *some)
        flat[first : first + count] = _whole_numbers(values, target.dtype) if row.is_integer else values
    _keep(out, target)


def tiles(size: int, length: int, device: torch.device):
    """Yield (first, count) of tiles of `size` local elements; they end where runs end if several runs fit in one."""
    step = TILE if device.type == "cpu" else DEVICE_TILE
    step = step // length * length if length <= step else step
    for first in range(0, size, step):
        yield first, min(step, size - first)


def _keep(out: DNDarray, target: torch.Tensor) -> None:
    if target.data_ptr() != out.larray.data_ptr():
        out.larray.detach().copy_(target)


def _whole_numbers(values: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Return integers of `dtype`; what lies beyond its limits becomes the limit."""
    if dtype.is_floating_point:
        return values
    limits = torch.iinfo(torch.int64 if dtype is torch.uint64 else dtype)
    # 2**63 - 1 is no float64: the largest one below it is written, and what is larger is set afterwards.
    most = min(limits.max, (1 << 63) - 1024)
    whole = values.clamp(limits.min, most).to(torch.int64)
    return whole if most == limits.max else whole.masked_fill_(values >= 2.0**63, limits.max)


def _flat_part(parameter: torch.Tensor, lshape: tuple[int, ...], first: int, count: int) -> torch.Tensor:
    """Return a parameter at `count` local elements in C order, shape (count,); (1,) where it is one number."""
    if parameter.numel() == 1:
        return parameter.reshape(1)
    if tuple(parameter.shape) == lshape:
        return parameter.reshape(-1)[first : first + count]
    places = torch.arange(first, first + count, device=parameter.device)
    offsets = torch.zeros_like(places)
    steps = parameter.expand(lshape).stride()
    for extent, step in zip(reversed(lshape), reversed(steps)):
        if step and extent > 1:
            offsets += places % extent * step
        places //= extent
    return parameter.reshape(-1)[offsets]


# -- rows ---------------------------------------------------------------------------------------------------------

FLOATS = "float64 (the default), float32, float16 or bfloat16."
_INTEGERS = (
    "An integer type (int64 by default; numbers beyond its limits become the limit) or a floating one."
)
_DOC = """{summary}

{body}*Distribution*: any split; each rank computes its own elements. No message where the parameters are numbers or
replicated; split parameters cost one check that all ranks share, and one redistribution each where they do not lie as
the result does. All ranks make the call, with the same arguments.

Parameters
----------
{parameters}
size : int or tuple of int, optional
    Global shape, to which the parameters broadcast; without it, their common shape.
dtype : dtype, optional
    {dtypes}
out : DNDarray, optional
    Filled in place, whatever its layout, and returned; its shape and dtype are those of the result.
split : int, optional
    The axis along which the result is cut; by default that of the first split parameter, else None.
device : Device or str, optional
    "cpu", "gpu" or a torch device; the default is that of array parameters, or ``ht.get_device()``.
comm : Communicator, optional
    The ranks that hold the result; the default is that of array parameters, of the generator, or ``ht.get_comm()``.

Returns
-------
DNDarray
    Of shape `size`; 0-D where all parameters are numbers and `size` is None.

Raises
------
ValueError
    If a parameter is out of its range, on every rank.
LayoutError
    If shapes do not broadcast.
{notes}"""


def distribution(row: Distribution, summary: str, body: str = "", notes: str = "") -> Callable:
    """Return the method of ``Generator`` that draws from a distribution, with a signature of its own."""

    def method(self, *args, **kwargs):
        bound = signature.bind(self, *args, **kwargs)
        bound.apply_defaults()
        return _call(row, **bound.arguments)

    kinds = inspect.Parameter
    own = [kinds("self", kinds.POSITIONAL_OR_KEYWORD)]
    own += [kinds(p.name, kinds.POSITIONAL_OR_KEYWORD, default=p.default) for p in row.parameters]
    own += [kinds(n, kinds.POSITIONAL_OR_KEYWORD, default=None) for n in ("size", "dtype", "out")]
    own += [kinds(n, kinds.KEYWORD_ONLY, default=None) for n in ("split", "device", "comm")]
    signature = method.__signature__ = inspect.Signature(own)
    method.__name__, method.__qualname__ = row.name, f"Generator.{row.name}"
    method.__module__ = "ht_core.generator"
    described = (f"{p.name} : float or array_like\n    {p.text}" for p in row.parameters)
    method.__doc__ = _DOC.format(
        summary=summary,
        body=body + "\n\n" if body else "",
        parameters="\n".join(described),
        dtypes=_INTEGERS if row.is_integer else FLOATS,
        notes=f"\nNotes\n-----\n{notes}\n" if notes else "",
    )
    return method


def _call(row: Distribution, self, size, dtype, out, split, device, comm, **values) -> DNDarray:
    """Validate, choose the layout, bring the parameters there, count the call, fill."""
    kind = result_type(row.name, dtype, out, row.is_integer)
    out, parameters = aligned(self, row, tuple(values.values()), kind, size, out, split, device, comm)
    sample(out, row, parameters, self._next_key())
    return out


def result_type(op: str, dtype: object, out: object, is_integer: bool) -> types.dtype:
    """Return the dtype of a result, that of `out` if given.

    Raises
    ------
    TypeError
        If `out` is not an array.
    DTypeError
        If the dtype is not of the right kind, or not that of `out`.
    """
    if out is not None and not isinstance(out, DNDarray):
        raise TypeError(f"{op}: out must be a DNDarray, got {type(out).__name__}")
    usual = types.int64 if is_integer else types.float64
    given = usual if out is None else out.dtype
    kind = given if dtype is None else types.canonical(dtype)
    accepted = "iuf" if is_integer else "f"
    if kind.kind not in accepted or (kind is not given and out is not None):
        words = "an integer or real floating type" if is_integer else "a real floating type"
        wanted = words if out is None or given.kind not in accepted else f"that of out ({given})"
        raise DTypeError(f"{op}: dtype must be {wanted}, got {kind}")
    return kind
