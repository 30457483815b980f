"""start, stop and restart: the daemon as a process of its own, which outlives the terminal."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_daemon.cli.failure import CommandError

if TYPE_CHECKING:  # what these import would make --help slow
    import subprocess

    from claude_daemon.config import Settings
    from claude_daemon.doctor.instance import Instance

READY_WITHIN_S = 10.0
GONE_WITHIN_S = 10.0
LOOK_EVERY_S = 0.05


@click.command()
def start() -> None:
    """Start the daemon in the background."""
    from claude_daemon.config import load

    _start(load())


@click.command()
def stop() -> None:
    """Stop the daemon: it tells its clients, finishes what it can within 5 s, and ends."""
    from claude_daemon.config import load

    print(_stop(load()))


@click.command()
def restart() -> None:
    """Stop the daemon if it runs, and start it in the background."""
    from claude_daemon.config import load

    settings = load()
    _stop(settings)
    _start(settings)


def _start(settings: "Settings") -> None:
    from claude_daemon.doctor.instance import running_instance

    if instance := running_instance(settings.folders.state):
        print(f"claude-daemon runs already at {instance.url} (pid {instance.pid})")
        return
    output, daemon = _spawn(settings)
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        code = daemon.poll()
        said = output.read_text("utf-8", "replace")
        if code is not None:
            why = said.strip().splitlines()[-1:] or [f"it ended with {code}; see: claude-daemon logs"]
            raise CommandError(why[0], code=code if code in {1, 2} else 1)
        if said.startswith("claude-daemon is ready at ") and said.endswith("\n"):
            print(said.splitlines()[0])
            return
        time.sleep(LOOK_EVERY_S)
    raise CommandError(
        f"claude-daemon (pid {daemon.pid}) was not ready within {READY_WITHIN_S:g} s and goes on starting; "
        "see: claude-daemon logs"
    )


def _spawn(settings: "Settings") -> "tuple[Path, subprocess.Popen[bytes]]":
    """Start it, with what it prints in a file: a pipe would break when this command ends."""
    import os
    import subprocess
    import sys

    from claude_daemon.lib.files import private_folder

    try:
        folder = private_folder(private_folder(settings.folders.state) / "logs")
    except OSError as error:
        raise CommandError(f"{settings.folders.state} cannot be used: {error.strerror or error}") from None
    output = folder / "start.out"
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    detached = 0x00000008 if sys.platform == "win32" else 0  # DETACHED_PROCESS: without a console
    try:
        daemon = subprocess.Popen(
            [*_this_command(), "run"],
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
            creationflags=detached,
        )
    finally:
        os.close(descriptor)
    return output, daemon


def _this_command() -> list[str]:
    """How this program was called.

    `python -m` looks for modules in the current folder first, which may be anybody's: so only when this
    one was called that way.
    """
    import os
    import sys

    if Path(sys.argv[0]).stem == "__main__":
        return [sys.executable, "-m", "claude_daemon"]
    return [os.path.abspath(sys.argv[0])]  # noqa: PTH100  a link among the PATH is not to be resolved


def _stop(settings: "Settings") -> str:
    """Ask it to stop, and wait until its process is gone; returns a sentence."""
    from claude_daemon.cli.connection import DaemonOffError, ask
    from claude_daemon.doctor.instance import running_instance

    instance = running_instance(settings.folders.state)
    try:
        ask("daemon_stop")
    except DaemonOffError:
        if instance is None:
            return "claude-daemon is not running"
    if instance:
        _wait_until_gone(instance)
    return "claude-daemon has stopped"


def _wait_until_gone(instance: "Instance") -> None:
    import psutil

    from claude_daemon.doctor.instance import has_ended

    try:
        process = psutil.Process(instance.pid)
    except psutil.NoSuchProcess:
        return
    deadline = time.monotonic() + GONE_WITHIN_S
    while not has_ended(process):
        if time.monotonic() > deadline:
            raise CommandError(
                f"claude-daemon (pid {instance.pid}) has not ended within {GONE_WITHIN_S:g} s; "
                f"end it with: kill -9 {instance.pid}"
            )
        time.sleep(LOOK_EVERY_S)
