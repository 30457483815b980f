"""How long a person waits for the daemon and for its command line."""

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench.figures import Figure, Findings
from daemon import Daemon

LEAST_ROUNDS = 5


def measure(folder: Path, rounds: int) -> Findings:
    rounds = max(rounds, LEAST_ROUNDS)
    first, again = [], []
    for number in range(rounds):
        daemon = Daemon(folder / f"start-{number}")
        first.append(_seconds(daemon.start))
        daemon.stop()
        again.append(_seconds(daemon.start))
        daemon.stop()
    return Findings(
        "start",
        "process start to the ready line, and whole runs of the command line; modules compiled, files cached",
        [
            Figure("first start (keys and tables are made)", "s", first),
            Figure("start", "s", again),
            Figure("claude-daemon --help", "s", [_cli("--help") for _ in range(rounds)]),
            Figure("claude-daemon version", "s", [_cli("version") for _ in range(rounds)]),
        ],
    )


def _seconds(act: Callable[[], object]) -> float:
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def _cli(argument: str) -> float:
    def run() -> None:
        command = [sys.executable, "-m", "claude_daemon", argument]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    return _seconds(run)
