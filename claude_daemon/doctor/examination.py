"""All checks, in the order in which a person would look."""

import importlib.util
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_daemon.config import Settings
from claude_daemon.doctor import daemon, files, machine
from claude_daemon.doctor.check import Check
from claude_daemon.doctor.instance import Instance
from claude_daemon.storage import tables

INOTIFY = Path("/proc/sys/fs/inotify")


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What others had to find out: those who may talk to the daemon, start a sandbox, or make a sound."""

    instance: Instance | None
    status: Mapping[str, Any] | None
    """The daemon's `system_status`, None when it gave none."""
    silence: str = ""
    """What came instead of it."""
    port_problem: str | None = None
    sandbox: str | None = None
    sandbox_problem: str | None = None
    speech_problem: str | None = None
    vault: files.Secrets | None = None
    """None when there are no secrets yet."""
    database: Path


def examine(settings: Settings, found: Findings) -> list[Check]:
    """Every check; none of them changes anything."""
    state = settings.folders.state
    status = found.status
    key = bool(settings.chat.claude_api_key) or (found.vault is not None and found.vault.has_key)
    return [
        files.settings(settings),
        files.folders(settings.folders),
        daemon.alive(found.instance, status, found.silence),
        machine.port(
            settings.server.port, found.port_problem, found.instance.url if found.instance else None
        ),
        files.secrets(state, found.vault),
        files.database(found.database, tables.HEAD),
        machine.disk(str(state), shutil.disk_usage(_existing(state)).free),
        daemon.sandbox(
            status,
            probed=found.sandbox,
            problem=found.sandbox_problem,
            installed=shutil.which("bwrap") is not None,
        ),
        daemon.speech(status, problem=found.speech_problem),
        machine.watches(
            _limit("max_user_watches"),
            _limit("max_user_instances"),
            sum(each["files"] for each in status["projects"]) if status else 0,
        ),
        daemon.projects(status),
        daemon.assistant(status, key=key, installed=importlib.util.find_spec("anthropic") is not None),
        machine.clock(time.time(), files.newest(state)),
    ]


def _existing(path: Path) -> Path:
    return next(each for each in (path, *path.parents) if each.exists())


def _limit(name: str) -> int | None:
    try:
        return int((INOTIFY / name).read_text("ascii"))
    except (OSError, ValueError):
        return None
