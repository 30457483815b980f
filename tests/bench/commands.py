"""From a command to the first of its output."""

import asyncio
import time
from pathlib import Path

from bench.figures import Figure, Findings, percentile
from bench.frames import Peer, peer
from bench.unlimited import UNLIMITED
from daemon import running

COMMANDS = 100


def measure(folder: Path, rounds: int) -> Findings:
    with running(folder / "commands", **UNLIMITED) as daemon:
        sandbox, found = asyncio.run(_rounds(daemon.url, daemon.token(), rounds))
    return Findings(
        "commands",
        f"`echo hi` to its first terminal_output, one by one, {COMMANDS} a round; sandbox: {sandbox}",
        [
            Figure("first output p50", "ms", [percentile(each, 0.5) for each in found]),
            Figure("first output p99", "ms", [percentile(each, 0.99) for each in found]),
        ],
    )


async def _rounds(url: str, token: str, rounds: int) -> tuple[str, list[list[float]]]:
    async with peer(url, token) as caller:
        status = await caller.call("system_status")
        return status["terminal"]["sandbox"]["mechanism"], [await _round(caller) for _ in range(rounds)]


async def _round(caller: Peer) -> list[float]:
    found = []
    for _ in range(COMMANDS):
        began = time.perf_counter()
        await caller.send("terminal_command", command="echo hi", sessionId="commands")
        first = await caller.until("terminal_output", lambda body: body["output"] == "hi\n")
        found.append((time.perf_counter() - began) * 1_000)
        command_id = first.body["commandId"]
        await caller.until(
            "terminal_output",
            lambda body, wanted=command_id: body["commandId"] == wanted and body.get("final"),  # type: ignore[misc]
        )
    return found
