"""How ranks that cannot yet talk through torch.distributed find each other: addresses, the store, groups.

Rank 0 opens a `TCPStore` on an address its peers can reach and tells them over whatever link there already is.
Groups are made from the store alone, each under a prefix of its own, so that torch's default process group is
neither needed nor touched.
"""

import datetime
import hashlib
import os
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import CommError

BACKENDS = ("gloo", "nccl")
_SIOCGIFADDR = 0x8915  # Linux: "get interface address"


@dataclass(frozen=True)
class Meeting:
    """What is needed to make groups: the same on all ranks, but for the address.

    Attributes
    ----------
    store : torch.distributed.Store
        Keys and values all ranks see.
    address : str
        Where this rank listens.
    backend : str
        ``"gloo"``: tensors on a device travel through host memory; ``"nccl"``: they travel directly.
    timeout : float
        Seconds after which an operation that does not complete raises.
    """

    store: Any
    address: str
    backend: str
    timeout: float

    @property
    def limit(self) -> datetime.timedelta:
        """The time-out as torch wants it."""
        return datetime.timedelta(seconds=self.timeout)

    def group(self, prefix: str, rank: int, size: int) -> Any:
        """Make the gloo group of `size` ranks that meet under a prefix. Collective over these."""
        dist = distributed()
        options = dist.ProcessGroupGloo._Options()
        options._timeout = self.limit
        options._devices = [dist.ProcessGroupGloo.create_device(hostname=self.address)]
        store = dist.PrefixStore(f"{prefix}/host", self.store)
        return dist.ProcessGroupGloo(store, rank, size, options)

    def device_group(self, prefix: str, rank: int, size: int) -> Any:
        """Make the NCCL group of these ranks, or None where `backend` is gloo. Collective over these."""
        if self.backend == "gloo":
            return None
        dist = distributed()
        store = dist.PrefixStore(f"{prefix}/device", self.store)
        return dist.ProcessGroupNCCL(store, rank, size, self.limit)


def distributed() -> Any:
    """Return `torch.distributed`, or raise `CommError` where torch lacks it."""
    try:
        import torch.distributed as dist
    except ImportError as error:
        raise CommError("TorchComm: torch must be installed, got none; install ht-comm[torch]") from error
    if not dist.is_available() or not dist.is_gloo_available():
        raise CommError("TorchComm: torch must be built with torch.distributed and gloo, got a build without")
    return dist


def check_backend(where: str, backend: str) -> None:
    """Raise unless the backend is known and built into this torch."""
    if backend not in BACKENDS:
        raise ValueError(f"{where}: backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
    if backend == "nccl" and not distributed().is_nccl_available():
        raise CommError(f"{where}: backend must be built into torch, got 'nccl'; use 'gloo'")


def meet(
    rank: int, gather: Callable[[Any], list[Any]], bcast: Callable[[Any], Any], backend: str, timeout: float
) -> Meeting:
    """Open the store on rank 0 and connect to it elsewhere. Collective.

    Parameters
    ----------
    gather, bcast : callable
        The existing link: ``gather(obj)`` returns the objects of all ranks, ``bcast(obj)`` that of rank 0.

    Raises
    ------
    CommError
        On all ranks, if a rank has no address or rank 0 cannot listen.
    """
    dist = distributed()
    hosts = gather(host_id())
    address, problem = "", None
    try:
        address = own_address(is_alone=len(set(hosts)) == 1)
    except CommError as error:
        problem = str(error)
    problems = [text for text in gather(problem) if text]
    if problems:
        raise CommError(problems[0])
    limit, store, reply = datetime.timedelta(seconds=timeout), None, None
    if rank == 0:
        try:
            store = dist.TCPStore(address, 0, None, True, limit, wait_for_workers=False)
            reply = (address, store.port, None)
        except RuntimeError as error:
            reply = (address, 0, f"TorchComm: rank 0 must be able to listen on {address}, got {error}")
    host, port, problem = bcast(reply)
    if problem:
        raise CommError(problem)
    if store is None:
        store = dist.TCPStore(host, port, None, False, limit, wait_for_workers=False)
    return Meeting(store, address, backend, timeout)


def meet_from_environment(backend: str, timeout: float) -> tuple[Meeting, int, int]:
    """Use the store that torchrun's variables name; return also rank and size."""
    dist = distributed()
    missing = [
        name for name in ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ
    ]
    if missing:
        raise CommError(
            f"TorchComm.world: {', '.join(missing)} must be set in the environment, got nothing; "
            "start the ranks with torchrun, or use TorchComm.from_mpi"
        )
    limit = datetime.timedelta(seconds=timeout)
    store, rank, size = next(dist.rendezvous("env://", timeout=limit))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = dist.PrefixStore(f"ht_comm/{attempt}", store)
    store.set(f"host/{rank}", host_id())
    hosts = {store.get(f"host/{other}") for other in range(size)}
    return Meeting(store, own_address(is_alone=len(hosts) == 1), backend, timeout), rank, size


def host_id() -> str:
    """Return a text that is the same for processes of one running system and differs between systems."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        boot = ""
    return f"{socket.gethostname()} {boot}"


def host_number() -> int:
    """Return `host_id` as a number below 2**62."""
    return int.from_bytes(hashlib.sha256(host_id().encode()).digest()[:8], "big") >> 2


def own_address(*, is_alone: bool) -> str:
    """Return the address on which peers reach this rank.

    That of the interface ``HT_COMM_IFACE`` names; else the loopback's where all ranks share this host; else
    that of the interface which leads to the default gateway.
    """
    name = os.environ.get("HT_COMM_IFACE")
    if name:
        return _address_of(name)
    if is_alone:
        return "127.0.0.1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # TEST-NET-1: connecting a datagram socket sends nothing
            return probe.getsockname()[0]
        except OSError as error:
            raise CommError(
                f"TorchComm: HT_COMM_IFACE must name an interface, as there is no default route on "
                f"{socket.gethostname()}, got nothing ({error})"
            ) from error


def _address_of(interface: str) -> str:
    try:
        import fcntl

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            request = struct.pack("256s", interface.encode()[:15])
            return socket.inet_ntoa(fcntl.ioctl(probe.fileno(), _SIOCGIFADDR, request)[20:24])
    except (ImportError, OSError) as error:
        known = ", ".join(name for _, name in socket.if_nameindex())
        raise CommError(
            f"TorchComm: HT_COMM_IFACE must name an interface with an IPv4 address, got {interface!r} on "
            f"{socket.gethostname()} (there are {known})"
        ) from error
