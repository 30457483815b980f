"""One running command: its output as it comes, signals on their way in, and an exact end.

Nothing is read from it unless somebody asks for output: a slow reader fills the pipe, and the kernel holds
the command up.  What ends a command does not wait for that reader.

It is started by `posix_spawn` (0.1 ms; `subprocess` takes 1 ms of the event loop), from the thread that
lives as long as the daemon, because `--die-with-parent` means the thread.  It begins only when told to over
the socket that is the sandbox's standard input: so a daemon that is killed in between leaves nothing, and
the sandbox's first process is known before the command could do anything.  When that one dies the kernel
kills all others of the sandbox, whatever they did to get away; a command has ended when none is left.
"""

import asyncio
import codecs
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Literal, Self

from claude_daemon.config import TerminalSettings
from claude_daemon.errors import SandboxUnavailableError
from claude_daemon.terminal.ending import Asked, Ending, judge
from claude_daemon.terminal.prelude import GO, Report
from claude_daemon.terminal.sandbox import Capability, Confined, Job, Sandbox, Trial

SMALL_BYTES = 2_048  # less than that in one read is trickling, not flowing
TRIAL_CHARACTERS = 65_536
KNOWN_WITHIN_S = 2.0  # bwrap names its first process within a few milliseconds, or hangs

SignalName = Literal["INT", "TERM", "KILL"]
Steps = Sequence[tuple[float, SignalName]]
"""Signals, each with the seconds after which it is sent."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of output; `size` is its length in bytes before decoding."""

    stream: Literal["stdout", "stderr"]
    text: str
    size: int


class Process:
    """An async context: inside, it runs; leaving kills what still does and waits for the end of all of it."""

    def __init__(self, sandbox: Sandbox, job: Job, settings: TerminalSettings) -> None:
        self._sandbox = sandbox
        self._job = job
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._report = Report()
        self._timers: list[asyncio.TimerHandle] = []
        self._sent: set[str] = set()
        self._asked: Asked | None = None
        self._doomed = False
        """To be killed before its first process was known."""
        self._status: int | None = None
        self._ended: asyncio.Future[Ending] = self._loop.create_future()
        self._began = 0.0
        self._duration_s = 0.0
        self._child: tuple[int, int] | None = None
        """The sandbox's first process, and a descriptor of it."""
        self._pid: int
        self._pidfd: int
        self._socket: socket.socket
        self._outputs: dict[int, Literal["stdout", "stderr"]]
        self._confined: Confined
        self._ours: ExitStack
        """What is let go when the last process is gone."""
        self._pipes: ExitStack
        """What is let go when nobody reads any more."""

    async def __aenter__(self) -> Self:
        """Raises `SandboxUnavailableError` or `ProtectedPathError`; then nothing runs."""
        self._start()
        self._loop.add_reader(self._pidfd, self._exited)
        self._loop.add_reader(self._socket.fileno(), self._told)
        self._timers.append(self._loop.call_later(self._job.limits.wall_s, self._too_long))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._send("KILL")
        try:
            await asyncio.shield(self._ended)
        finally:
            self._pipes.close()

    @property
    def duration_ms(self) -> int:
        """Until now, or until it ended."""
        return round((self._duration_s or time.monotonic() - self._began) * 1_000)

    async def output(self) -> AsyncIterator[Chunk]:
        """All of it, once, to whoever asks; nothing is read in the meantime.

        What is not UTF-8 becomes U+FFFD.  A character never falls apart between two chunks.
        """
        pipes = {fd: (stream, _decoder()) for fd, stream in self._outputs.items()}
        total, last = 0, 0.0
        while pipes:
            for fd in await self._readable(pipes):
                stream, decoder = pipes[fd]
                data = os.read(fd, self._settings.chunk_bytes)
                if not data:
                    del pipes[fd]
                if total > self._job.limits.output_bytes:  # it is being killed
                    continue
                total += len(data)
                if total > self._job.limits.output_bytes:
                    self.end(Asked("limit", "output"), [(0, "KILL")])
                if text := decoder.decode(data, final=not data):
                    yield Chunk(stream, text, len(data))
                now = self._loop.time()
                if 0 < len(data) < SMALL_BYTES and now - last < self._settings.gather_ms / 1_000:
                    await asyncio.sleep(self._settings.gather_ms / 1_000)
                last = now

    async def ended(self) -> Ending:
        """Return when no process of it is left."""
        return await asyncio.shield(self._ended)

    def end(self, asked: Asked, steps: Steps) -> None:
        """End it by and by.  The first reason given is the one that counts, as long as it still ran."""
        self._asked = self._asked or asked
        for after_s, name in steps:
            if after_s:
                self._timers.append(self._loop.call_later(after_s, self._send, name))
            else:
                self._send(name)

    def signal(self, name: SignalName) -> None:
        """Send one signal to the command's process group, and leave it at that."""
        self._send(name)

    # Starting.

    def _start(self) -> None:
        if sys.platform != "linux":
            raise NotImplementedError
        with ExitStack() as ours, ExitStack() as theirs, ExitStack() as pipes:
            self._socket, there = socket.socketpair()
            self._socket.setblocking(False)
            ours.callback(self._socket.close)
            theirs.callback(there.close)
            report = os.dup(there.fileno())
            theirs.callback(os.close, report)
            stdout, their_stdout = os.pipe()
            stderr, their_stderr = os.pipe()
            for each in (stdout, stderr):
                pipes.callback(os.close, each)
            for each in (their_stdout, their_stderr):
                theirs.callback(os.close, each)
            self._outputs = {stdout: "stdout", stderr: "stderr"}
            self._confined = ours.enter_context(self._sandbox.confine(self._job, report=report))
            self._began = time.monotonic()
            self._pid = _spawn(self._confined, (there.fileno(), their_stdout, their_stderr), report)
            self._pidfd = os.pidfd_open(self._pid)
            ours.callback(os.close, self._pidfd)
            self._ours = ours.pop_all()
            self._pipes = pipes.pop_all()

    def _told(self) -> None:
        """Something came over the socket."""
        if sys.platform != "linux":
            raise NotImplementedError
        if not self._listen():
            self._loop.remove_reader(self._socket.fileno())
        if self._child is None and (pid := self._report.child) is not None:
            with contextlib.suppress(ProcessLookupError, BrokenPipeError):  # it ended already
                pidfd = os.pidfd_open(pid)
                self._ours.callback(os.close, pidfd)
                self._child = pid, pidfd
                if self._doomed:
                    self._kill()
                else:
                    self._socket.send(GO)

    def _listen(self) -> bool:
        """Whether there may be more."""
        try:
            data = self._socket.recv(4_096)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        self._report.hear(data)
        return bool(data)

    # Reading.

    async def _readable(self, pipes: Iterable[int]) -> list[int]:
        ready: dict[int, None] = {}
        woken = self._loop.create_future()

        def wake(fd: int) -> None:
            ready[fd] = None
            if not woken.done():
                woken.set_result(None)

        for fd in pipes:
            self._loop.add_reader(fd, wake, fd)
        try:
            await woken
        finally:
            for fd in pipes:
                self._loop.remove_reader(fd)
        return list(ready)

    # Ending.

    def _too_long(self) -> None:
        self.end(Asked("timeout", "time"), [(0, "TERM"), (self._settings.term_grace_s, "KILL")])

    def _send(self, name: SignalName) -> None:
        """To the command's own group; what has not begun, and what is to be killed, goes as a whole."""
        if sys.platform != "linux":
            raise NotImplementedError
        if self._status is not None:
            return
        self._sent.add(name)
        if name == "KILL" or not self._child or not self._report.ready:
            self._kill()
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child[0], signal.Signals[f"SIG{name}"])

    def _kill(self) -> None:
        """As soon as the first process is known: until bwrap has let it go, it would outlive bwrap."""
        if sys.platform != "linux":
            raise NotImplementedError
        if self._child:
            _kill(self._pidfd)
            _kill(self._child[1])
        elif not self._doomed:
            self._doomed = True
            self._timers.append(self._loop.call_later(KNOWN_WITHIN_S, _kill, self._pidfd))

    def _exited(self) -> None:
        """The sandbox ended.  What it had started is about to."""
        if sys.platform != "linux":
            raise NotImplementedError
        self._loop.remove_reader(self._pidfd)
        _, status = os.waitpid(self._pid, 0)
        self._status = os.waitstatus_to_exitcode(status)
        for timer in self._timers:
            timer.cancel()
        self._told()
        if self._child:
            self._loop.add_reader(self._child[1], self._gone)
            _kill(self._child[1])
        else:
            self._gone()

    def _gone(self) -> None:
        """No process is left."""
        assert self._status is not None
        if self._child:
            self._loop.remove_reader(self._child[1])
        self._listen()
        self._loop.remove_reader(self._socket.fileno())
        self._duration_s = time.monotonic() - self._began
        ending = judge(
            self._status,
            self._report,
            sent=frozenset(self._sent),
            asked=self._asked,
            refused=self._confined.refused(),
        )
        try:
            self._ours.close()
        finally:
            self._ended.set_result(ending)


def _spawn(confined: Confined, standard: tuple[int, int, int], report: int) -> int:
    """Start it with an empty environment, standard descriptors and `report`; returns its pid."""
    if sys.platform != "linux":
        raise NotImplementedError
    passed = [(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in enumerate(standard)]
    # Onto itself a descriptor only loses its close-on-exec flag.
    passed += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in (report, *confined.descriptors)]
    try:
        return os.posix_spawn(
            confined.argv[0],
            confined.argv,
            {},
            file_actions=passed,
            setsid=True,
            setsigmask=(),
            setsigdef=signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP},
        )
    except OSError as error:
        raise SandboxUnavailableError(
            f"no command is run because {confined.argv[0]} cannot be started ({error.strerror}); "
            "install bubblewrap again"
        ) from None


def _kill(pidfd: int) -> None:
    if sys.platform != "linux":
        raise NotImplementedError
    with contextlib.suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


def _decoder() -> codecs.IncrementalDecoder:
    return codecs.getincrementaldecoder("utf-8")("replace")


def close_on_exec() -> None:
    """Keep to ourselves what this process was born with: Python does so only with what it opens itself."""
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  names are numbers here
        with contextlib.suppress(OSError):  # the one of the listing
            if int(name) > 2:
                os.set_inheritable(int(name), False)


async def find_capability(sandbox: Sandbox, settings: TerminalSettings) -> Capability:
    """Let a sandbox try itself out on real processes.  Raises `SandboxUnavailableError`."""
    if sys.platform == "linux":
        close_on_exec()

    async def run(job: Job) -> Trial:
        said: dict[str, str] = {"stdout": "", "stderr": ""}
        async with Process(sandbox, job, settings) as process:
            async for chunk in process.output():
                said[chunk.stream] = (said[chunk.stream] + chunk.text)[:TRIAL_CHARACTERS]
        return Trial(tuple(said["stdout"].splitlines()), tuple(said["stderr"].splitlines()))

    return await sandbox.probe(run)
