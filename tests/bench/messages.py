"""Acknowledged chat messages a second."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from bench import load
from bench.figures import Figure, Findings
from bench.pinning import DAEMON_CPU, LOAD_CPU, pinned
from bench.unlimited import UNLIMITED
from daemon import Daemon, running

TESTS = Path(__file__).parent.parent
GOAL = "≥ 2,000"


def measure(folder: Path, rounds: int) -> Findings:
    figures: list[Figure] = []
    with pinned(DAEMON_CPU) as is_pinned, running(folder / "messages", **UNLIMITED) as daemon:
        token = daemon.token()
        for client_ids in (False, True):
            found = [_round(daemon, token, client_ids=client_ids) for _ in range(rounds)]
            figures += _figures(found, "with clientId" if client_ids else "without clientId")
    where = f"daemon on CPU {DAEMON_CPU}, load on CPU {LOAD_CPU}" if is_pinned else "neither side pinned"
    return Findings(
        "messages",
        f"{load.CLIENTS} clients, each in a session of its own with {load.IN_FLIGHT} in flight, "
        f"{load.COUNTED_S:g} s a round after {load.WARM_UP_S:g} s of warming up; "
        f"every ack after the commit; {where}",
        figures,
    )


def _round(daemon: Daemon, token: str, *, client_ids: bool) -> dict[str, float]:
    process = psutil.Process(daemon.pid)
    wanted = "yes" if client_ids else "no"
    with subprocess.Popen(
        [sys.executable, "-m", "bench.load", daemon.url, str(LOAD_CPU), wanted],
        cwd=TESTS,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as generator:
        assert generator.stdin is not None
        assert generator.stdout is not None
        generator.stdin.write(token + "\n")
        generator.stdin.close()
        spent: list[float] = []
        found: dict[str, Any] = {}
        for line in generator.stdout:
            if line.strip() in {"begin", "end"}:
                times = process.cpu_times()
                spent.append(times.user + times.system)
            else:
                found = json.loads(line)
    if generator.returncode:
        raise RuntimeError(f"the load generator ended with {generator.returncode}")
    return {**found, "server_cpu_s": spent[1] - spent[0]}


def _figures(rounds: list[dict[str, float]], kind: str) -> list[Figure]:
    def each(name: str, unit: str, values: list[float], goal: str = "") -> Figure:
        return Figure(f"{name} {kind}", unit, values, goal)

    return [
        each("acknowledged", "1/s", [one["acks"] / one["seconds"] for one in rounds], GOAL),
        each("per server CPU second", "1", [one["acks"] / one["server_cpu_s"] for one in rounds]),
        each("server CPU", "%", [100 * one["server_cpu_s"] / one["seconds"] for one in rounds]),
        each("generator CPU", "%", [100 * one["cpu_s"] / one["seconds"] for one in rounds]),
        each("p50", "ms", [one["p50_ms"] for one in rounds]),
        each("p99", "ms", [one["p99_ms"] for one in rounds]),
        each("refused", "1", [one["refused"] for one in rounds]),
    ]
