"""The command as a person runs it: one daemon a module, and processes that are watched while they run."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from daemon import Daemon, running


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Daemon]:
    """One daemon for all tests of a module; they share no session and no project."""
    with running(tmp_path_factory.mktemp("cli") / "home") as daemon:
        yield daemon


Started = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def started() -> Iterator[Started]:
    """`started(daemon, "watch", "--json")`: the command as a process, killed at the end of the test."""
    with ExitStack() as stack:

        def start(daemon: Daemon, *arguments: str, cwd: "os.PathLike[str] | None" = None) -> object:
            process = subprocess.Popen(
                [sys.executable, "-m", "claude_daemon", *arguments],
                env=daemon._environment | {"PYTHONPATH": os.getcwd()},
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            stack.enter_context(process)
            stack.callback(process.kill)
            return process

        yield start  # type: ignore[misc]  # a Callable with `...` takes every argument
