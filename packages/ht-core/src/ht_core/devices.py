"""Devices: where local tensors live. One device per rank; the GPU is chosen by the rank's place on its node."""

from __future__ import annotations

import torch

from .errors import LayoutError


class Device:
    """A kind of device, ``"cpu"`` or ``"gpu"``, and the torch device it means on this rank."""

    __slots__ = ("device_type", "torch_device")

    def __init__(self, device_type: str, torch_device: torch.device) -> None:
        self.device_type, self.torch_device = device_type, torch_device

    def __repr__(self) -> str:
        return f"device({self.device_type!r})"

    def __str__(self) -> str:
        return self.device_type

    def __eq__(self, other: object) -> bool:
        try:
            return self.torch_device == sanitize_device(other).torch_device
        except LayoutError:
            return NotImplemented

    def __hash__(self) -> int:
        return hash(self.torch_device)


cpu = Device("cpu", torch.device("cpu"))
_default: list[Device] = [cpu]


def has_gpu() -> bool:
    """Tell whether torch finds a GPU on this rank."""
    return torch.cuda.is_available() or torch.backends.mps.is_available()


def _gpu() -> Device:
    if torch.cuda.is_available():  # CUDA and ROCm
        from ht_comm import get_comm

        return Device("gpu", torch.device("cuda", get_comm().node().rank % torch.cuda.device_count()))
    if torch.backends.mps.is_available():
        return Device("gpu", torch.device("mps"))
    raise LayoutError("device: must be 'cpu' on this machine (torch finds no GPU), got 'gpu'")


def sanitize_device(device: object = None) -> Device:
    """Return the :class:`Device` meant by a Device, ``"cpu"``, ``"gpu"``, a torch device or None (the default one).

    Raises
    ------
    LayoutError
        If there is no such device on this rank.
    """
    if device is None:
        return _default[0]
    if isinstance(device, Device):
        return device
    if device == "cpu":
        return cpu
    if device == "gpu":
        return _gpu()
    try:
        exact = torch.device(device)
    except (RuntimeError, TypeError):
        raise LayoutError(f"device: must be 'cpu', 'gpu' or a torch device, got {device!r}") from None
    if exact.type == "cuda" and exact.index is None:
        return _gpu()
    return cpu if exact.type == "cpu" else Device("gpu", exact)


def of(tensor: torch.Tensor) -> Device:
    """Return the device of a torch tensor."""
    return cpu if tensor.device.type == "cpu" else Device("gpu", tensor.device)


def get_device() -> Device:
    """Return the device on which new arrays are made."""
    return _default[0]


def use_device(device: object) -> _Using:
    """Set the device on which new arrays are made; as a context manager, until its end.

    Every rank must call it with the same kind of device.
    """
    using = _Using(_default[0])
    _default[0] = sanitize_device(device)
    return using


class _Using:
    def __init__(self, before: Device) -> None:
        self.before = before

    def __enter__(self) -> Device:
        return _default[0]

    def __exit__(self, *exc: object) -> None:
        _default[0] = self.before
