"""Kernels of reductions: the carry of one tile.

Each takes the tile, a mask of its shape (None: all elements count) and the `Domain`, and returns tensors with the
reduced axes at extent 1. A tile without elements gives the carry of no element, which changes nothing when merged.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch

from .monoid import Carry
from .ordered import to_ordered
from .reduction import Domain

_BLOCK = 4096  # elements; a block and the extremes of all blocks stay in the cache

Kernel = Callable[[torch.Tensor, "torch.Tensor | None", Domain], Carry]


def kept_shape(x: torch.Tensor, domain: Domain) -> list[int]:
    """Return the shape of a carry of `x`."""
    return [1 if a in domain.axes else n for a, n in enumerate(x.shape)]


def _kept(x: torch.Tensor, mask: torch.Tensor | None, value: object) -> torch.Tensor:
    """Return `x` with `value` in place of what the mask leaves out."""
    return x if mask is None else torch.where(mask, x, value)


def over(kernel: Callable, fill: object) -> Kernel:
    """Return the kernel of a torch reduction that takes a tuple of axes; `fill` is neutral."""

    def local(x: torch.Tensor, mask: torch.Tensor | None, domain: Domain) -> Carry:
        x = _kept(x, mask, fill)
        if not domain.axes:  # torch reads an empty tuple as all axes; here each element is reduced by itself
            return (kernel(x.unsqueeze(-1), dim=-1, keepdim=False),)
        return (kernel(x, dim=domain.axes, keepdim=True),)

    return local


def product(x: torch.Tensor, mask: torch.Tensor | None, domain: Domain) -> Carry:
    """Multiply the elements."""
    x = _kept(x, mask, 1)
    for axis in domain.axes:
        x = torch.prod(x, dim=axis, keepdim=True)
    return (x if domain.axes else x.clone(),)


def test(kernel: Callable, fill: bool) -> Kernel:
    """Return the kernel of ``all`` or ``any``."""

    def reduce(x: torch.Tensor, dim: object, keepdim: bool) -> torch.Tensor:
        found = kernel(x, dim=dim, keepdim=keepdim)
        return found if found.dtype is torch.bool else found.bool()  # uint8 gives uint8

    return over(reduce, fill)


def count(x: torch.Tensor, mask: torch.Tensor | None, domain: Domain) -> Carry:
    """Count the elements other than 0."""
    found = x if x.dtype is torch.bool else x != 0
    found = found if mask is None else found & mask
    dims = domain.axes or (-1,)
    found = found if domain.axes else found.unsqueeze(-1)
    return (torch.sum(found, dim=dims, keepdim=bool(domain.axes)),)


def lowest(dtype: torch.dtype, largest: bool) -> object:
    """Return the value that every element of a dtype (an image of :mod:`.ordered`) beats or equals."""
    if dtype.is_floating_point:
        return -math.inf if largest else math.inf
    return torch.iinfo(dtype).min if largest else torch.iinfo(dtype).max


def extreme(kernel: Callable, largest: bool) -> Kernel:
    """Return the kernel of ``max`` or ``min``, on ordered images."""

    def local(x: torch.Tensor, mask: torch.Tensor | None, domain: Domain) -> Carry:
        x = to_ordered(x)
        worst = lowest(x.dtype, largest)
        if x.numel() == 0:
            return (torch.full(kept_shape(x, domain), worst, dtype=x.dtype, device=x.device),)
        x = _kept(x, mask, worst)
        return (kernel(x, dim=domain.axes, keepdim=True) if domain.axes else x.clone(),)

    return local


def nan_extreme(kernel: Callable, largest: bool) -> Kernel:
    """Return the kernel of ``nanmax`` or ``nanmin``: NaN where no number is left."""
    plain = extreme(kernel, largest)

    def local(x: torch.Tensor, mask: torch.Tensor | None, domain: Domain) -> Carry:
        (value,) = plain(x, mask, domain)
        if mask is None or not x.is_floating_point():
            return (value,)
        dims = domain.axes or (-1,)
        some = torch.any(mask if domain.axes else mask.unsqueeze(-1), dim=dims, keepdim=bool(domain.axes))
        return (torch.where(some, value, math.nan),)

    return local


def span(x: torch.Tensor, mask: torch.Tensor | None, domain: Domain) -> Carry:
    """Return the largest element and the largest of the images in reverse order: both are maxima."""
    (top,) = extreme(torch.amax, True)(x, mask, domain)
    (bottom,) = extreme(torch.amin, False)(x, mask, domain)
    return top, reverse(bottom)


def reverse(x: torch.Tensor) -> torch.Tensor:
    """Map values to values of the same dtype in reverse order; its own inverse."""
    return -x if x.is_floating_point() else ~x


def arg(kernel: Callable, largest: bool) -> Kernel:
    """Return the kernel of ``argmax`` or ``argmin``: the value, and its index, -1 where no element is left.

    The index is global: along the axis, or into the flattened array where all axes are reduced.
    """

    def local(x: torch.Tensor, mask: torch.Tensor | None, domain: Domain) -> Carry:
        x = to_ordered(x)
        shape = kept_shape(x, domain)
        if x.numel() == 0:
            value = torch.zeros(shape, dtype=x.dtype, device=x.device)
            return value, torch.full(shape, -1, device=x.device)
        x = _kept(x, mask, lowest(x.dtype, largest))
        if len(domain.axes) == 1:
            (axis,) = domain.axes
            index = (
                _first(kernel, x, largest).reshape(1) if x.dim() == 1 else kernel(x, dim=axis, keepdim=True)
            )
            value = x.gather(axis, index)
            index = index + domain.corner[axis]
        else:
            flat = _first(kernel, x, largest)
            value = torch.take(x, flat).reshape(shape)
            index = _global_flat(flat, x.shape, domain).reshape(shape)
        if mask is not None:
            dims = domain.axes or (-1,)
            seen = mask if domain.axes else mask.unsqueeze(-1)
            index = torch.where(torch.any(seen, dim=dims, keepdim=bool(domain.axes)), index, -1)
        return value, index

    return local


def _first(kernel: Callable, x: torch.Tensor, largest: bool) -> torch.Tensor:
    """Return where the extreme of the flattened tile first is.

    On the CPU the extremes of blocks are found by vector instructions, which have no form that carries an index: only
    the first block that holds the extreme (or NaN, the extreme of all) is searched element by element.
    """
    flat = x.reshape(-1)
    blocks = flat.numel() // _BLOCK
    if blocks < 2 or x.device.type != "cpu":
        return kernel(flat)
    extreme = torch.amax if largest else torch.amin
    whole = blocks * _BLOCK
    values = extreme(flat[:whole].view(blocks, _BLOCK), dim=1)
    if whole < flat.numel():
        values = torch.cat([values, extreme(flat[whole:]).reshape(1)])
    block = kernel(values)
    start = (block * _BLOCK).clamp(
        max=flat.numel() - _BLOCK
    )  # what precedes the last, shorter block is less extreme
    return start + kernel(flat.index_select(0, start + torch.arange(_BLOCK, device=x.device)))


def _global_flat(index: torch.Tensor, lshape: torch.Size, domain: Domain) -> torch.Tensor:
    """Turn an index into the flattened tile into one into the flattened global array.

    Within a tile the order of elements is their order in the whole, so the first hit stays the first.
    """
    result, stride = torch.zeros_like(index), 1
    for axis in reversed(range(len(lshape))):
        result += (index % lshape[axis] + domain.corner[axis]) * stride
        index = index // lshape[axis]
        stride *= domain.shape[axis]
    return result


def mean(x: torch.Tensor, mask: torch.Tensor | None, domain: Domain) -> Carry:
    """Return the sum, and with a mask also the number of elements."""
    total = over(torch.sum, 0)
    if mask is None:
        return total(x, None, domain)
    wide = torch.complex128 if x.is_complex() else torch.float64
    (value,), (n,) = total(x, mask, domain), total(mask, None, domain)
    return value.to(wide), n.to(wide)


def weighted_mean(x: torch.Tensor, weights: torch.Tensor, domain: Domain) -> Carry:
    """Return the sum of weighted elements and the sum of weights."""
    total = over(torch.sum, 0)
    weights = weights.to(x.dtype)
    return (*total(x * weights, None, domain), *total(weights, None, domain))


def central(order: int) -> Kernel:
    """Return the kernel of (n, mean, M2, .., M_order), all in float64.

    The mean of the tile is first rounded to the dtype of `x`; the sum of the deviations from it tells by how much, and
    shifts the sums of powers to the exact mean. A complex number is two real ones along a new last axis.
    """

    def local(x: torch.Tensor, mask: torch.Tensor | None, domain: Domain) -> Carry:
        if x.is_complex():
            x = torch.view_as_real(x.resolve_conj())
            mask = None if mask is None else mask.unsqueeze(-1).expand(x.shape)
        if not domain.axes:
            n = torch.ones_like(x, dtype=torch.float64) if mask is None else mask.double()
            value = _kept(x, mask, 0).double()
            zero = torch.where(value.isfinite(), 0.0, math.nan)
            return (n, value, *[zero] * (order - 1))
        if mask is None:
            number = float(math.prod(x.shape[a] for a in domain.axes))
        else:
            number = mask.sum(domain.axes, keepdim=True).double()
        x = _kept(x, mask, 0)
        total = x.sum(domain.axes, keepdim=True).double()
        n = torch.as_tensor(number, dtype=torch.float64, device=x.device).expand(total.shape)
        safe = n.clamp(min=1)
        near = (total / safe).to(x.dtype)
        deviation = _kept(x - near, mask, 0)
        power, sums = deviation, []
        for k in range(order):
            power = deviation if k == 0 else power * deviation
            sums.append(power.sum(domain.axes, keepdim=True).double())
        rest = sums[0] / safe
        return (n, near.double() + rest, *_shifted(n, rest, sums[1:]))

    return local


def _shifted(n: torch.Tensor, r: torch.Tensor, sums: list[torch.Tensor]) -> list[torch.Tensor]:
    """Move sums of powers of deviations by `r`, the mean of the deviations (binomial theorem)."""
    moved = [sums[0] - n * r**2]
    if len(sums) > 1:
        moved.append(sums[1] - 3 * r * sums[0] + 2 * n * r**3)
    if len(sums) > 2:
        moved.append(sums[2] - 4 * r * sums[1] + 6 * r**2 * sums[0] - 3 * n * r**4)
    return moved
