"""What the daemon costs while nothing happens."""

import time
from pathlib import Path

import psutil

from bench.figures import Figure, Findings
from bench.unlimited import PROJECT
from daemon import running

FILES = 1_000
SETTLED_S = 3.0
WATCHED_S = 10.0


def measure(folder: Path, rounds: int) -> Findings:
    project = folder / "idle-project"
    project.mkdir()
    for number in range(FILES):
        (project / f"file-{number}.txt").write_text(f"{number}\n")
    rss, cpu = [], []
    with running(folder / "idle") as daemon:
        daemon.json("projects", "add", str(project), "--id", PROJECT)
        time.sleep(SETTLED_S)
        for _ in range(rounds):
            before = _cpu_s(daemon.pid)
            time.sleep(WATCHED_S)
            cpu.append(100 * (_cpu_s(daemon.pid) - before) / WATCHED_S)
            rss.append(sum(each.memory_info().rss for each in _tree(daemon.pid)) / 1e6)
    return Findings(
        "idle",
        f"one project of {FILES:,} files, nobody connected, {WATCHED_S:g} s a round; with its children",
        [Figure("resident memory", "MB", rss), Figure("CPU", "%", cpu)],
    )


def _tree(pid: int) -> list[psutil.Process]:
    daemon = psutil.Process(pid)
    return [daemon, *daemon.children(recursive=True)]


def _cpu_s(pid: int) -> float:
    return sum(each.cpu_times().user + each.cpu_times().system for each in _tree(pid))
