"""What a measurement found, the machine it was found on, and the table both are printed as."""

import platform
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

SHOWN_PACKAGES = ("aiohttp", "python-socketio", "python-engineio", "msgspec", "sqlalchemy")


@dataclass(frozen=True)
class Figure:
    """One quantity, with one value a round."""

    name: str
    unit: str
    values: Sequence[float]
    goal: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def spread(self) -> str:
        return f"{_short(min(self.values))} … {_short(max(self.values))}"


@dataclass(frozen=True)
class Findings:
    """One measurement: how it was taken, and its figures."""

    name: str
    how: str
    figures: Sequence[Figure]


def percentile(samples: Sequence[float], share: float) -> float:
    """The nearest-rank percentile: always a sample that was really taken."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine(folder: Path) -> dict[str, str]:
    """What figures depend on; `folder` is where the daemons keep their state."""
    from claude_daemon.protocol.version import SERVER_VERSION  # the load generator needs nothing of it

    load = ", ".join(f"{each:.1f}" for each in psutil.getloadavg())
    return {
        "version": f"{SERVER_VERSION} ({_commit()})",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": ", ".join(f"{name} {version(name)}" for name in SHOWN_PACKAGES),
        "system": platform.platform(),
        "processor": f"{psutil.cpu_count()} x {_processor()}",
        "memory": f"{psutil.virtual_memory().total / 2**30:.1f} GiB",
        "state on": _filesystem(folder),
        "load before": f"{load} (1, 5, 15 minutes)",
    }


def table(where: dict[str, str], found: Sequence[Findings]) -> str:
    lines = [f"{name + ':':<13}{value}" for name, value in where.items()]
    width = max(len(figure.name) for each in found for figure in each.figures)
    lines += ["", f"{'':<{width}}  {'median':>10}  {'min … max':<19}  {'n':>2}  {'unit':<8}  goal"]
    for each in found:
        lines += ["", f"{each.name}: {each.how}"]
        lines += [
            f"{figure.name:<{width}}  {_short(figure.median):>10}  {figure.spread:<19}  "
            f"{len(figure.values):>2}  {figure.unit:<8}  {figure.goal}".rstrip()
            for figure in each.figures
        ]
    return "\n".join(lines) + "\n"


def document(where: dict[str, str], found: Sequence[Findings]) -> dict[str, Any]:
    return {
        "machine": where,
        "measurements": [
            {
                "name": each.name,
                "how": each.how,
                "figures": [
                    {
                        "name": figure.name,
                        "unit": figure.unit,
                        "median": figure.median,
                        "values": list(figure.values),
                        "goal": figure.goal,
                    }
                    for figure in each.figures
                ],
            }
            for each in found
        ],
    }


def _short(value: float) -> str:
    if abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def _commit() -> str:
    said = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return said.stdout.strip() or "unknown"


def _processor() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _filesystem(folder: Path) -> str:
    """A commit costs what its disk's fsync costs, and in memory that is nothing."""
    around = [each for each in psutil.disk_partitions(all=True) if folder.is_relative_to(each.mountpoint)]
    if not around:
        return "an unknown file system"
    nearest = max(around, key=lambda each: len(each.mountpoint))
    return f"{nearest.fstype} at {nearest.mountpoint}"
