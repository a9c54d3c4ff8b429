"""A group of ranks under one mpiexec, seen from the driver: start, run one test, take stacks, end.

Knows processes, sockets and time limits; knows nothing of reports (`pytest_verdict`) or of collection
(`pytest_plugin`).
"""

import contextlib
import os
import pickle
import re
import secrets
import selectors
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import pytest_worker
from .pytest_worker import RANK_VARIABLES, TOKEN_VARIABLE, Channel, is_token

START_LIMIT = 120.0  # seconds for imports and collection in the workers, which do not count for a test
END_LIMIT = 20.0  # seconds for MPI_Finalize and the exit handlers, on a busy machine too
# How launchers and libraries name the rank that ended a job: MPICH's abort, Open MPI's exit, loss and abort.
CULPRITS = re.compile(
    r"\(rank (\d+) in comm|@\d+,(\d+)\]\s+Exit code|process rank (\d+)|invoked on rank (\d+)"
)
INHERITED = ("PMI_", "PMIX_", "OMPI_COMM_WORLD", "HYDI_", "PRTE_")  # a surrounding launcher's marks


class GroupError(RuntimeError):
    """The group could not be started."""


@dataclass
class Attempt:
    """What one rank did with one test."""

    reports: list = field(default_factory=list)  # serialised pytest reports, in order
    done: bool = False
    problem: str | None = None  # why this rank did not end: set by the driver
    culprit: bool = False  # died by itself, not because the group ended
    stack: str = ""


@dataclass(frozen=True)
class Launcher:
    """The mpiexec that starts groups: its command and the flags its kind needs."""

    command: tuple[str, ...]
    flags: tuple[str, ...] = ()

    def arguments(self, ranks):
        """Return the command line up to the program."""
        return [*self.command, *self.flags, "-n", str(ranks)]


def find_launcher():
    """Return the `Launcher` of HT_MPIEXEC, beside this Python or on PATH; `None` if there is none."""
    command = tuple(shlex.split(os.environ.get("HT_MPIEXEC", "")))
    if not command:
        path = shutil.which("mpiexec", path=str(Path(sys.executable).parent)) or shutil.which("mpiexec")
        if path is None:
            return None
        command = (path,)
    try:
        told = subprocess.run(
            [command[0], "--version"], capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return Launcher(command, launcher_flags(told.stdout + told.stderr))


def launcher_flags(version):
    """Return the flags for a launcher that describes itself by `version`."""
    words = version.lower()
    if any(word in words for word in ("open mpi", "openrte", "open-mpi", "prrte")):
        return ("--allow-run-as-root", "--oversubscribe")
    if "hydra build details" in words:
        # When a rank dies the others stay, to be asked: hydra would kill them and hide who was first.
        return ("-disable-auto-cleanup",)
    return ()


def worker_environment(token):
    """Return the environment of the ranks: one thread each, no trace of a surrounding launcher, the token."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(INHERITED)}
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        env.setdefault(name, "1")
    # More ranks than cores is the rule in tests: waiting ranks must give their core away.
    env.setdefault("OMPI_MCA_mpi_yield_when_idle", "1")
    env[TOKEN_VARIABLE] = token
    return env


def is_inside_launcher(environ=os.environ):
    """Tell whether this process is itself one of several ranks of an mpiexec."""
    return any(rank in environ and int(environ.get(size, 1)) > 1 for rank, size in RANK_VARIABLES[:3])


class Group:
    """`ranks` pytest workers under one mpiexec."""

    def __init__(self, launcher, ranks, setup, directory):
        self.ranks = ranks
        self.directory = Path(directory)
        self.channels = {}
        self.pids = {}
        self._handles = {}  # rank -> pidfd: a signal through it cannot reach a stranger that got the same pid
        self._count = 0
        self._warnings = []
        (self.directory / "stacks").mkdir(parents=True)
        self.log = self.directory / "mpiexec.log"
        self.process = None
        try:
            self._start(launcher, setup)
        except BaseException:
            self.kill()
            raise

    # -- start --

    def _start(self, launcher, setup):
        token = secrets.token_hex(16)
        # Where ranks on other hosts reach this process; only those that know the token are let in.
        address = os.environ.get("HT_MPI_ADDRESS") or "127.0.0.1"
        with socket.create_server((address, 0), backlog=self.ranks) as server:
            command = [
                *launcher.arguments(self.ranks),
                *(sys.executable, "-P", os.path.abspath(pytest_worker.__file__)),
                f"{address}:{server.getsockname()[1]}",
            ]
            shown = setup["option"].get("capture") == "no"
            with open(self.log, "wb") as log:
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=None if shown else log,
                    stderr=None if shown else log,
                    env=worker_environment(token),
                    start_new_session=True,  # Ctrl-C reaches the driver only, which ends the group
                )
            deadline = time.monotonic() + START_LIMIT
            while len(self.channels) < self.ranks:
                self._accept(server, token, deadline)
        setup = {**setup, "size": self.ranks, "stacks": str(self.directory / "stacks")}
        for rank, channel in self.channels.items():
            setup["option"]["basetemp"] = str(self.directory / f"rank{rank}")
            channel.send(setup)
        self._wait_ready(deadline)

    def _accept(self, server, token, deadline):
        self._check_start(deadline)
        server.settimeout(0.2)
        try:
            sock, _ = server.accept()
        except TimeoutError:
            return
        sock.settimeout(10)
        try:
            if not is_token(sock, token):
                sock.close()
                return
            channel = Channel(sock)
            messages = []
            while not messages:
                messages = channel.receive()
        except (TimeoutError, EOFError, ConnectionError):
            sock.close()
            return
        sock.settimeout(None)
        hello = messages[0]
        self.channels[hello["rank"]] = channel
        self.pids[hello["rank"]] = hello["pid"]
        if hasattr(os, "pidfd_open"):
            self._handles[hello["rank"]] = os.pidfd_open(hello["pid"])

    def _check_start(self, deadline):
        if self.process.poll() is not None:
            raise GroupError(f"mpiexec ended with code {self.process.returncode}:\n{self.log_tail(0)}")
        if time.monotonic() > deadline:
            text = f"{len(self.channels)} of {self.ranks} ranks came up in {START_LIMIT:g} s"
            raise GroupError(f"{text}:\n{self.log_tail(0)}")

    def _wait_ready(self, deadline):
        waiting = set(self.channels)
        while waiting:
            self._check_start(deadline)
            for rank, messages in self._poll(waiting, 0.2):
                if messages is None:
                    raise GroupError(f"rank {rank} ended before its first test:\n{self.log_tail(0)}")
                if any("ready" in message for message in messages):
                    waiting.discard(rank)

    def _poll(self, ranks, seconds):
        """Wait up to `seconds`; return [(rank, messages)], messages `None` for a rank that is gone."""
        with selectors.DefaultSelector() as selector:
            for rank in ranks:
                selector.register(self.channels[rank], selectors.EVENT_READ, rank)
            ready = [key.data for key, _ in selector.select(max(seconds, 0))]
        result = []
        for rank in sorted(ready):
            try:
                result.append((rank, self.channels[rank].receive()))
            except EOFError:
                result.append((rank, None))
        return result

    # -- one test --

    def run(self, nodeid, following, *, timeout, grace):
        """Run one test on all ranks; return ({rank: Attempt}, text of mpiexec's output, [warnings]).

        Ends when all ranks are done, `grace` seconds after the first rank that failed or was lost, or after
        `timeout` seconds. Ranks that are not done then have `problem` and `stack`; the caller kills it.
        """
        self._count += 1
        self._warnings = []
        shared = self.directory / f"shared{self._count}"
        shared.mkdir()
        start = self.log.stat().st_size
        for rank in self.channels:
            self._clear_stack(rank)
        order = {"id": self._count, "nodeid": nodeid, "next": following, "shared": str(shared)}
        attempts = {rank: Attempt() for rank in self.channels}
        for rank, channel in self.channels.items():
            try:
                channel.send(order)
            except OSError:
                attempts[rank].problem = "was gone before the test began"
        lost = self._collect(attempts, timeout, grace)
        self._mark_lost(attempts, lost, start)
        return attempts, self.log_tail(start), self._warnings

    def _collect(self, attempts, timeout, grace):
        """Take the ranks' messages until all are done or the time is up; return the ranks lost, in order."""
        deadline, reason = time.monotonic() + timeout, f"did not end within {timeout:g} s"
        open_ranks = {rank for rank, attempt in attempts.items() if attempt.problem is None}
        is_hurt = len(open_ranks) < len(attempts)
        lost = []
        while open_ranks and time.monotonic() < deadline:
            for rank, messages in self._poll(open_ranks, deadline - time.monotonic()):
                attempt = attempts[rank]
                if messages is None:
                    lost.append(rank)
                else:
                    self._take(attempt, messages)
                if messages is None or attempt.done:
                    open_ranks.discard(rank)
                if (messages is None or self._is_hurt(attempt)) and not is_hurt:
                    is_hurt = True
                    if time.monotonic() + grace < deadline:
                        deadline = time.monotonic() + grace
                        reason = f"did not end within {grace:g} s after rank {rank} failed"
        for rank in open_ranks:
            attempts[rank].problem = reason
        for rank, text in self.stacks(open_ranks).items():
            attempts[rank].stack = text
        return lost

    def _take(self, attempt, messages):
        for message in messages:
            if "warning" in message:
                self._warnings.append(message)
            elif message.get("id") != self._count:
                continue
            elif "report" in message:
                attempt.reports.append(message["report"])
            elif "missing" in message:
                attempt.problem, attempt.done = message["missing"], True
            else:
                attempt.done = True

    @staticmethod
    def _is_hurt(attempt):
        """Tell whether a rank has left the common path: the others may wait for it in vain."""
        return attempt.problem is not None or any(report["outcome"] != "passed" for report in attempt.reports)

    def _mark_lost(self, attempts, lost, start):
        """Find out which of the ranks that are gone ended by themselves; the launcher ended the others."""
        if not lost:
            return
        if len(lost) == self.ranks:  # the launcher is about to say more
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(1.0)
        for rank in lost:
            attempts[rank].stack = self._read_stack(rank)
            attempts[rank].problem = "ended together with the group"
        crashed = [rank for rank in lost if attempts[rank].stack.startswith("Fatal Python error")]
        named = [int(next(filter(None, found))) for found in CULPRITS.findall(self.log_tail(start))]
        for rank in crashed or [rank for rank in named if rank in lost][:1] or lost[:1]:
            attempts[rank].culprit = True
            first_line = attempts[rank].stack.partition("\n")[0]
            attempts[rank].problem = f"died: {first_line or 'the process ended (exit, signal or MPI_Abort)'}"

    # -- stacks, log, end --

    def stacks(self, ranks):
        """Return {rank: Python stacks} by asking each rank's faulthandler with a signal."""
        for rank in ranks:
            self._clear_stack(rank)  # hydra sends this signal too, when a rank dies
            self._signal(rank, signal.SIGUSR1)
        deadline, sizes = time.monotonic() + 1.0, None
        while ranks and time.monotonic() < deadline:
            time.sleep(0.05)
            now = [len(self._read_stack(rank)) for rank in sorted(ranks)]
            if all(now) and now == sizes:
                break
            sizes = now
        return {rank: self._read_stack(rank) for rank in ranks}

    def _clear_stack(self, rank):
        with contextlib.suppress(FileNotFoundError):
            os.truncate(self.directory / "stacks" / f"rank{rank}.txt", 0)

    def _read_stack(self, rank):
        path = self.directory / "stacks" / f"rank{rank}.txt"
        return path.read_text(errors="replace") if path.exists() else ""

    def _signal(self, rank, number):
        """Send a signal to one of our ranks; one that is gone already is as good."""
        try:
            if rank in self._handles:
                signal.pidfd_send_signal(self._handles[rank], number)
            else:
                os.kill(self.pids[rank], number)
        except OSError:
            pass

    def log_tail(self, start, limit=4000):
        """Return the end of what mpiexec and the ranks wrote outside pytest's capture since byte `start`."""
        with open(self.log, "rb") as log:
            log.seek(start)
            return log.read()[-limit:].decode(errors="replace").replace("\0", "").strip()

    def close(self):
        """End the group in order: workers tear down and finalize. Returns whether that went well."""
        for channel in self.channels.values():
            try:
                channel.send(None)
            except OSError:
                break
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(END_LIMIT)
        is_well = self.process.poll() == 0
        self.kill()
        return is_well

    def kill(self):
        """End every process this group started: the ranks first, while they are surely ours, then mpiexec."""
        for rank in self.pids:
            self._signal(rank, signal.SIGKILL)
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(2)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        for channel in self.channels.values():
            channel.sock.close()
        for handle in self._handles.values():
            os.close(handle)
        self.channels, self.pids, self._handles = {}, {}, {}


def is_picklable(value):
    """Tell whether an option of the driver can be sent to the workers."""
    try:
        pickle.dumps(value)
    except Exception:
        return False
    return True
