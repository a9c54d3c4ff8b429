"""One rank of a test group: take test names from the driver, run them, send the reports back.

Started by path (`python -P pytest_worker.py HOST:PORT` under mpiexec), so that pytest can be configured
before `ht_comm` is imported. It imports no MPI: only the tests do. While idle it waits in `recv`.
"""

import faulthandler
import hmac
import os
import pickle
import queue
import signal
import socket
import struct
import sys
import threading
from pathlib import Path

import pytest

TOKEN_VARIABLE = "HT_COMM_PYTEST_TOKEN"
RANK_VARIABLES = (
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("PMIX_RANK", "PMIX_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)


class Channel:
    """Messages (pickles with a length in front) over a stream socket.

    Unpickling is safe only from a peer that has shown the token: `Channel` is created after that.
    """

    def __init__(self, sock):
        self.sock = sock
        self._buffer = bytearray()

    def fileno(self):
        """Return the socket's descriptor, which lets a selector watch the channel."""
        return self.sock.fileno()

    def send(self, message):
        """Send one message."""
        data = pickle.dumps(message)
        self.sock.sendall(struct.pack("!Q", len(data)) + data)

    def receive(self):
        """Block for more bytes; return the messages now complete. Raises EOFError when the peer is gone."""
        try:
            data = self.sock.recv(1 << 20)
        except ConnectionError:
            data = b""
        if not data:
            raise EOFError
        self._buffer += data
        messages = []
        while len(self._buffer) >= 8:
            (length,) = struct.unpack_from("!Q", self._buffer)
            if len(self._buffer) < 8 + length:
                break
            messages.append(pickle.loads(bytes(self._buffer[8 : 8 + length])))
            del self._buffer[: 8 + length]
        return messages


def find_rank(environ):
    """Return (rank, size) of this process from the launcher's variables, from MPI itself as a last resort."""
    for rank, size in RANK_VARIABLES:
        if rank in environ:
            return int(environ[rank]), int(environ.get(size, 0))
    from mpi4py import MPI

    return MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size


def connect(address, token, rank):
    """Connect to the driver, show the token, say who we are."""
    host, _, port = address.rpartition(":")
    sock = socket.create_connection((host, int(port)))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.sendall(token.encode())
    channel = Channel(sock)
    channel.send({"rank": rank, "pid": os.getpid()})
    return channel


def is_token(sock, token):
    """Read as many bytes as `token` has from a new connection and compare them in constant time."""
    data = b""
    while len(data) < len(token):
        piece = sock.recv(len(token) - len(data))
        if not piece:
            return False
        data += piece
    return hmac.compare_digest(data, token.encode())


def listen(channel, inbox):
    """Put the driver's messages into `inbox`; leave at once when the driver is gone, dead-locked or not."""
    while True:
        try:
            messages = channel.receive()
        except EOFError:
            os._exit(1)
        for message in messages:
            inbox.put(message)


class Worker:
    """Plugin of the worker's pytest: replaces the run loop and forwards the reports."""

    def __init__(self, channel, inbox, topology, stacks, functions):
        self.channel = channel
        self.inbox = inbox
        self.topology = topology
        self.functions = functions  # the test functions that the driver may name
        self.stacks = open(stacks, "a")  # noqa: SIM115 - lives as long as the process: faulthandler writes to it
        self.collect_errors = []
        self.current = None

    def pytest_sessionstart(self):
        """Send stacks to this rank's own file: after a crash, and when the driver asks by a signal."""
        faulthandler.enable(self.stacks, all_threads=True)
        faulthandler.register(signal.SIGUSR1, self.stacks, all_threads=True)

    @pytest.hookimpl(tryfirst=True)
    def pytest_pycollect_makeitem(self, collector, name, obj):
        """Make no items of functions that the driver does not run on this group: they may be thousands."""
        from ht_comm.pytest_items import function_id

        if collector.istestfunction(obj, name) and function_id(collector, name) not in self.functions:
            return []
        return None

    def pytest_collectreport(self, report):
        """Keep the text of collection errors for tests that are then missing."""
        if report.failed:
            self.collect_errors.append(f"{report.nodeid}\n{report.longreprtext}")

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session):
        """Run the tests the driver names until it says to end."""
        items = {item.nodeid: item for item in session.items}
        self.channel.send({"ready": len(items)})
        while (order := self.inbox.get()) is not None:
            item = items.get(order["nodeid"])
            if item is None:
                text = "\n".join(self.collect_errors) or "the names of its tests differ between runs"
                self.channel.send({"id": order["id"], "missing": f"not collected on this rank: {text}"})
                continue
            self.current = order["id"]
            self.topology["shared"] = Path(order["shared"])
            session.config.hook.pytest_runtest_protocol(item=item, nextitem=items.get(order["next"]))
            self.channel.send({"id": order["id"], "done": True})
            self.current = None
        return True

    def pytest_runtest_logreport(self, report):
        """Send a report as soon as it exists: a rank that hangs later has still said how far it came."""
        if self.current is not None:
            config = self.topology["config"]
            data = config.hook.pytest_report_to_serializable(config=config, report=report)
            self.channel.send({"id": self.current, "report": data})

    def pytest_warning_recorded(self, warning_message, when, nodeid, location):
        """Forward rank 0's warnings to the driver's summary."""
        if self.topology["rank"] == 0 and when == "runtest":
            fields = {
                "category": warning_message.category,
                "message": warning_message.message,
                "filename": warning_message.filename,
                "lineno": warning_message.lineno,
            }
            try:
                pickle.loads(pickle.dumps(fields))
            except Exception:  # a warning class of a test module cannot be rebuilt in the driver
                fields.update(category=UserWarning, message=UserWarning(str(warning_message.message)))
            self.channel.send({"warning": fields, "nodeid": nodeid, "location": location})


def main(address):
    """Connect, configure pytest as the driver says, and run its tests."""
    token = os.environ.pop(TOKEN_VARIABLE)
    rank, _ = find_rank(os.environ)
    channel = connect(address, token, rank)
    messages = []
    while not messages:
        messages = channel.receive()
    setup = messages[0]
    inbox = queue.Queue()
    threading.Thread(target=listen, args=(channel, inbox), name="ht-comm-listen", daemon=True).start()
    sys.path[:] = setup["path"]

    from _pytest.config import Config  # the constructor pytest keeps for workers of plugins such as this

    config = Config.fromdictargs(setup["option"], setup["args"])
    # The name by which plugins (junitxml, cacheprovider) recognise a process that must not write results.
    config.workerinput = {"workerid": f"rank{rank}", "testrunuid": setup["uid"]}
    topology = {"rank": rank, "size": setup["size"], "config": config, "shared": None}
    from ht_comm.pytest_items import TOPOLOGY

    config.stash[TOPOLOGY] = topology
    stacks = os.path.join(setup["stacks"], f"rank{rank}.txt")
    config.pluginmanager.register(
        Worker(channel, inbox, topology, stacks, setup["functions"]), "ht_comm_mpi_worker"
    )
    code = config.hook.pytest_cmdline_main(config=config)
    # Hydra sends this signal to the ranks that end after the first one; the default action would kill them.
    faulthandler.unregister(signal.SIGUSR1)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    # Failed tests have been reported; to the launcher only a broken run is a failure.
    return 0 if code in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED) else int(code)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
