"""The real daemon as a child process, with everything of its below one folder."""

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import psutil

READY = re.compile(r"claude-daemon is ready at http://127\.0\.0\.1:(\d+)")
READY_WITHIN_S = 10.0
STOP_WITHIN_S = 10.0  # the daemon promises 5 s; the rest is the machine's
GONE_WITHIN_S = 2.0
SHOWN_LINES = 40
SHOWN_CHARACTERS = 300
KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "VIRTUAL_ENV")


class Daemon:
    """Start, use, stop, kill.  `settings` are environment variables of the daemon's."""

    def __init__(self, home: Path, **settings: str) -> None:
        self.home = home
        self.port = 0
        self.output = ""
        """What all runs so far have printed."""
        self.expects_tracebacks = False
        """For a test that breaks something on purpose."""
        self._process: subprocess.Popen[str] | None = None
        self._reader: threading.Thread | None = None
        self._seen: set[psutil.Process] = set()
        self._environment = {name: os.environ[name] for name in KEPT if name in os.environ} | {
            "HOME": str(home / "user"),
            "CLAUDE_DAEMON_HOME": str(home),
            "CLAUDE_DAEMON_SPEECH_PLAYER": "true",  # plays nothing, at once
            "PORT": "0",
            **settings,
        }
        (home / "user").mkdir(parents=True, exist_ok=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        assert self._process is not None, "the daemon was never started"
        return self._process.pid

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Self:
        """Return once the line that a person waits for was printed."""
        assert not self.running
        ready = threading.Event()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "claude_daemon", "run"],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        self._reader = threading.Thread(target=self._read, args=(self._process, ready), daemon=True)
        self._reader.start()
        if not ready.wait(READY_WITHIN_S) or not self.port:
            self.kill()
            raise AssertionError(f"the daemon was not ready within {READY_WITHIN_S:g} s:\n{self.tail()}")
        # A client that reconnects finds a restarted daemon where it was.
        self._environment["PORT"] = str(self.port)
        return self

    def stop(self) -> int:
        """Ask it to end as Ctrl-C and systemd do; returns its exit code."""
        assert self._process is not None
        self.note_children()
        self._process.terminate()
        return self._ended()

    def kill(self) -> None:
        """End it without a chance to put anything right."""
        assert self._process is not None
        self.note_children()
        self._process.kill()
        self._ended()

    def restart(self) -> Self:
        self.stop()
        return self.start()

    def wait(self) -> int:
        """For an end that somebody else asked for; returns the exit code."""
        self.note_children()
        return self._ended()

    def cli(
        self, *arguments: str, stdin: str | None = None, timeout_s: float = 20.0
    ) -> subprocess.CompletedProcess[str]:
        """`claude-daemon ARGUMENTS`, as the user who runs the daemon."""
        return subprocess.run(
            [sys.executable, "-m", "claude_daemon", *arguments],
            env=self._environment,
            input="" if stdin is None else stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def json(self, *arguments: str) -> Any:
        """The document that `claude-daemon ARGUMENTS --json` prints; the command must succeed."""
        return json.loads(self._succeed(*arguments, "--json"))

    def token(self, *, scopes: str | None = None, ttl_s: int | None = None) -> str:
        """A program's token, as a person gets one."""
        options = [] if scopes is None else ["--scopes", scopes]
        options += [] if ttl_s is None else ["--ttl", str(ttl_s)]
        return self._succeed("token", *options).strip()

    def open_files(self) -> int:
        """Sockets and pipes of the daemon itself.  Files don't count: the store opens readers as it needs."""
        process = psutil.Process(self.pid)
        if sys.platform == "win32":
            return process.num_handles()
        return process.num_fds() - len(process.open_files())

    def log(self) -> str:
        """What it printed and what it wrote to its log files."""
        files = sorted(self.home.rglob("*.log*"))
        return self.output + "".join(file.read_text("utf-8", "replace") for file in files)

    def tail(self) -> str:
        return "\n".join(line[:SHOWN_CHARACTERS] for line in self.log().splitlines()[-SHOWN_LINES:])

    def note_children(self) -> None:
        """Remember what it has started, to be able to say later whether that is gone."""
        try:
            self._seen.update(psutil.Process(self.pid).children(recursive=True))
        except psutil.NoSuchProcess:
            return

    def assert_left_nothing(self) -> None:
        """No child outlived it, and nothing it did was a bug."""
        _, alive = psutil.wait_procs(self._seen, timeout=GONE_WITHIN_S)
        survivors = [f"{process.pid} {process.name()}" for process in alive]
        for process in alive:
            process.kill()
        assert survivors == []
        bugs = [line for line in self.log().splitlines() if "Traceback (most recent call last)" in line]
        if bugs and not self.expects_tracebacks:
            first = bugs[0].replace("\\n", "\n")  # a JSON line
            raise AssertionError(f"{len(bugs)} tracebacks in the log, first:\n{first}")

    def _succeed(self, *arguments: str) -> str:
        done = self.cli(*arguments)
        assert done.returncode == 0, f"{' '.join(arguments)}: {done.stderr}\n{self.tail()}"
        return done.stdout

    def _read(self, process: "subprocess.Popen[str]", ready: threading.Event) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self.output += line
            if found := READY.fullmatch(line.rstrip("\n")):
                self.port = int(found[1])
                ready.set()
        ready.set()  # it ended; nobody need wait for it

    def _ended(self) -> int:
        assert self._process is not None
        assert self._reader is not None
        try:
            return self._process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
            raise AssertionError(
                f"the daemon did not stop within {STOP_WITHIN_S:g} s:\n{self.tail()}"
            ) from None
        finally:
            self._reader.join(GONE_WITHIN_S)


@contextmanager
def running(home: Path, **settings: str) -> Iterator[Daemon]:
    """A daemon for the time of a block; afterwards it is asserted that it left nothing behind."""
    daemon = Daemon(home, **settings)
    try:
        yield daemon.start()
    finally:
        if daemon.running:
            daemon.stop()
        sys.stdout.write(daemon.tail())  # pytest shows it when the test failed
    daemon.assert_left_nothing()
