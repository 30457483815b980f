"""A client that does not read its command's output, and what that does to the others."""

import asyncio
import time
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.figures import Figure, Findings, percentile
from bench.frames import Peer, peer
from bench.unlimited import UNLIMITED
from daemon import running

OUTPUT_BYTES = 100_000_000
LINE = "0123456789 " * 9
ECHO_EVERY_S = 0.02
FINISHED_WITHIN_S = 120.0


class Round(NamedTuple):
    growth_mb: float
    quiet_p95_ms: float
    p95_ms: float
    max_ms: float
    seconds: float


def measure(folder: Path, rounds: int) -> Findings:
    found = []
    for number in range(rounds):  # a fresh daemon each: memory that grew once is reused, not grown again
        with running(folder / f"laggard-{number}", **UNLIMITED) as daemon:
            found.append(asyncio.run(_round(daemon.url, daemon.token(), daemon.pid)))
    return Findings(
        "laggard",
        f"a client that does not read while its command prints {OUTPUT_BYTES / 1e6:.0f} MB;"
        " the echo is the ack of another client's chat message",
        [
            Figure("growth of the daemon's memory", "MB", [each.growth_mb for each in found]),
            Figure("p95 of another's echo, before", "ms", [each.quiet_p95_ms for each in found]),
            Figure("p95 of another's echo, meanwhile", "ms", [each.p95_ms for each in found]),
            Figure("longest echo, meanwhile", "ms", [each.max_ms for each in found]),
            Figure("the command took", "s", [each.seconds for each in found]),
        ],
    )


async def _round(url: str, token: str, pid: int) -> Round:
    process = psutil.Process(pid)
    async with peer(url, token) as other, peer(url, token) as laggard:
        quiet = [await _echo_ms(other) for _ in range(100)]
        before = highest = process.memory_info().rss
        printing = f"yes '{LINE}' | head -c {OUTPUT_BYTES}"
        accepted = await laggard.call("terminal_command", command=printing, sessionId="laggard")
        began = time.perf_counter()
        echoes: list[float] = []
        async with asyncio.timeout(FINISHED_WITHIN_S):
            while await _is_running(other, accepted["commandId"]):
                echoes.append(await _echo_ms(other))
                highest = max(highest, process.memory_info().rss)
                await asyncio.sleep(ECHO_EVERY_S)
    return Round(
        (highest - before) / 1e6,
        percentile(quiet, 0.95),
        percentile(echoes, 0.95),
        max(echoes),
        time.perf_counter() - began,
    )


async def _echo_ms(other: Peer) -> float:
    began = time.perf_counter()
    await other.call("chat_message", content="still there?", sessionId="other")
    return (time.perf_counter() - began) * 1_000


async def _is_running(other: Peer, command_id: str) -> bool:
    listed = await other.call("terminal_list", sessionId="laggard")
    return any(each["commandId"] == command_id and each["state"] == "running" for each in listed["commands"])
