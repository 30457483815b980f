"""From a saved file to the event at a client."""

import asyncio
import os
import time
from pathlib import Path

from bench.figures import Figure, Findings, percentile
from bench.frames import Peer, peer
from bench.unlimited import PROJECT, UNLIMITED
from daemon import running

SAVES = 100
PAUSE_S = 0.05  # longer than the daemon waits for more of a burst: each save is one of its own


def measure(folder: Path, rounds: int) -> Findings:
    project = folder / "saves-project"
    project.mkdir()
    with running(folder / "saves", **UNLIMITED) as daemon:
        daemon.json("projects", "add", str(project), "--id", PROJECT)
        found = asyncio.run(_rounds(daemon.url, daemon.token(), project, rounds))
    figures = []
    for name in ("write", "rename"):
        figures += [
            Figure(f"{name} p50", "ms", [percentile(each[name], 0.5) for each in found]),
            Figure(f"{name} p99", "ms", [percentile(each[name], 0.99) for each in found]),
        ]
    return Findings(
        "saves",
        f"file_update at a client after a save, {SAVES} a round, in turn written in place and renamed over",
        figures,
    )


async def _rounds(url: str, token: str, project: Path, rounds: int) -> list[dict[str, list[float]]]:
    async with peer(url, token) as watcher:
        await watcher.call("join_project", projectId=PROJECT)
        return [await _round(watcher, project, number) for number in range(rounds)]


async def _round(watcher: Peer, project: Path, number: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"write": [], "rename": []}
    for index in range(SAVES):
        kind = ("write", "rename")[index % 2]
        path, content = project / f"{kind}.txt", f"round {number}, save {index}\n"
        began = time.perf_counter()
        if kind == "write":
            path.write_text(content)
        else:
            beside = project / f".{path.name}.tmp"
            beside.write_text(content)
            os.replace(beside, path)  # noqa: PTH105  what editors call
        await watcher.until("file_update", lambda body, wanted=content: body["content"] == wanted)  # type: ignore[misc]
        found[kind].append((time.perf_counter() - began) * 1_000)
        await asyncio.sleep(PAUSE_S)
    return found
