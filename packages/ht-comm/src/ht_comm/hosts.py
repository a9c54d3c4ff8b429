"""Several hosts on one machine, for tests of what depends on where ranks are: Linux network namespaces.

Each emulated host has a name, a loopback and a network address of its own; a bridge joins them with the machine.
MPI's launcher reaches them with an agent in place of ssh. Memory and processes are those of the machine, but MPI
does not know: ranks on different hosts exchange messages over TCP, and form different nodes.

Needs the right to make namespaces (root, as a rule) and ``ip`` of iproute2. From the command line::

    python -m ht_comm.hosts --ranks 2 -- python -m pytest --np 4 tests/test_contract.py
"""

import argparse
import contextlib
import fcntl
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .pytest_group import find_launcher

_SLOTS = 32  # so many sets of hosts at a time on one machine
# Set aside for tests of networks (RFC 2544): no real host is hidden.
_NETWORK = "198.18"
_AGENT = """\
#!/bin/sh
# In place of ssh: [options] host command...
while [ "${{1#-}}" != "$1" ]; do shift; done
number=$((${{1##*.}} - 1)); shift
exec ip netns exec {name}-$number unshare --uts sh -c 'hostname "$0" && eval "$1"' {name}-host$number "$*"
"""


class HostsError(RuntimeError):
    """The hosts cannot be made here: no right, or a tool is missing."""


class Hosts:
    """Some emulated hosts; a context manager that takes everything away again.

    Parameters
    ----------
    count : int
        How many.

    Attributes
    ----------
    names, addresses : list of str
        What ``socket.gethostname()`` says on each, and its network address.
    gateway : str
        Address of the machine itself on their network.

    Raises
    ------
    HostsError
        On entry, if they cannot be made.
    """

    def __init__(self, count: int = 2) -> None:
        self.count = count
        self._lock: Any = None
        self._directory: str | None = None

    def __enter__(self) -> "Hosts":
        if shutil.which("ip") is None or shutil.which("unshare") is None:
            raise HostsError("hosts: the commands ip (iproute2) and unshare (util-linux) must be on PATH")
        self._take_slot()
        try:
            self._clear()  # what a killed process has left behind
            self._make()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def _take_slot(self) -> None:
        """Choose a name and a network that no other process uses; free again when this process ends."""
        for slot in range(_SLOTS):
            path = Path(tempfile.gettempdir()) / f"ht-comm-hosts-{os.getuid()}-{slot}"
            lock = open(path, "w")  # noqa: SIM115 - kept until `close`
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                lock.close()
                continue
            self._lock = lock
            self.name = f"ht{slot}"  # of the bridge, and of every host's interface: launchers want one name
            self.names = [f"{self.name}-host{number}" for number in range(self.count)]
            self.addresses = [f"{_NETWORK}.{slot}.{number + 1}" for number in range(self.count)]
            self.gateway = f"{_NETWORK}.{slot}.254"
            return
        raise HostsError(f"hosts: at most {_SLOTS} sets of hosts must be in use, got as many")

    def _make(self) -> None:
        name = self.name
        _ip("link", "add", name, "type", "bridge")
        _ip("addr", "add", f"{self.gateway}/24", "dev", name)
        _ip("link", "set", name, "up")
        for number, address in enumerate(self.addresses):
            space, end = f"{name}-{number}", f"{name}v{number}"
            _ip("netns", "add", space)
            _ip("link", "add", end, "type", "veth", "peer", "name", name, "netns", space)
            _ip("link", "set", end, "master", name, "up")
            _ip("-n", space, "addr", "add", f"{address}/24", "dev", name)
            _ip("-n", space, "link", "set", name, "up")
            _ip("-n", space, "link", "set", "lo", "up")
        self._directory = tempfile.mkdtemp(prefix="ht-comm-hosts-")
        agent = Path(self._directory) / "agent"
        agent.write_text(_AGENT.format(name=name))
        agent.chmod(0o700)
        self._agent = str(agent)

    def launcher(self, ranks: int = 2) -> list[str]:
        """Return the command that starts programs on all hosts, `ranks` on each; add ``-n N`` and the program."""
        found = find_launcher()
        if found is None:
            raise HostsError("hosts: mpiexec must be installed; run: pip install 'ht-comm[mpich]'")
        is_hydra = "-disable-auto-cleanup" in found.flags
        places = ",".join(f"{address}:{ranks}" for address in self.addresses)
        if is_hydra:
            return [
                *found.command,
                *("-launcher", "ssh", "-launcher-exec", self._agent, "-iface", self.name, "-hosts", places),
                *("-genv", "UCX_TLS", "tcp,self"),  # UCX sees through namespaces, and would share memory
            ]
        network = ("--prtemca", "prte_if_include", self.name, "--mca", "btl_tcp_if_include", self.name)
        start = ("--allow-run-as-root", "--prtemca", "plm_ssh_agent", self._agent)
        return [*found.command, *start, *network, "--host", places]

    def environment(self, ranks: int = 2) -> dict[str, str]:
        """Return the variables with which pytest runs tests marked `mpi` on these hosts."""
        return {"HT_MPIEXEC": shlex.join(self.launcher(ranks)), "HT_MPI_ADDRESS": self.gateway}

    def close(self) -> None:
        """Take the hosts away, with whatever still runs there."""
        if self._lock is None:
            return
        self._clear()
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
        self._directory = None
        self._lock.close()
        self._lock = None

    def _clear(self) -> None:
        spaces = _ip("netns", "list", check=False).split()
        for space in (word for word in spaces if word.startswith(f"{self.name}-")):
            for pid in _ip("netns", "pids", space, check=False).split():
                with contextlib.suppress(OSError):
                    os.kill(int(pid), signal.SIGKILL)
            _ip("netns", "del", space, check=False)
        # The ends here, too: the kernel takes a namespace apart, and what is in it, in its own time.
        for device in [*Path("/sys/class/net").glob(f"{self.name}v*"), Path("/sys/class/net") / self.name]:
            if device.exists():
                _ip("link", "del", device.name, check=False)


def _ip(*arguments: str, check: bool = True) -> str:
    """Run ``ip``; return what it says."""
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    if check and done.returncode:
        raise HostsError(f"hosts: ip {' '.join(arguments)} must succeed, got: {done.stderr.strip()}")
    return done.stdout


def main(arguments: list[str] | None = None) -> int:
    """Run a command with emulated hosts; return its exit status, 77 where there can be none."""
    parser = argparse.ArgumentParser(prog="python -m ht_comm.hosts", description=__doc__.partition("\n")[0])
    parser.add_argument("--hosts", type=int, default=2, help="number of hosts (2)")
    parser.add_argument("--ranks", type=int, default=2, help="ranks on each (2)")
    parser.add_argument("command", nargs="+", help="run with HT_MPIEXEC set, after --")
    options = parser.parse_args(arguments)
    try:
        with Hosts(options.hosts) as hosts:
            env = {**os.environ, **hosts.environment(options.ranks)}
            return subprocess.run(options.command, env=env).returncode
    except HostsError as error:
        sys.stderr.write(f"{error}\n")
        return 77


if __name__ == "__main__":
    sys.exit(main())
