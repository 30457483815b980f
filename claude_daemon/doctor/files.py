"""Checks of the daemon's own files: settings, folders, secrets, database."""

import os
import sqlite3
import stat
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from claude_daemon.config import Folders, Settings
from claude_daemon.doctor.check import Check

CHECK_WITHIN_S = 10.0  # a gigabyte of database takes about as long
STEPS_BETWEEN_LOOKS = 100_000


def settings(loaded: Settings) -> Check:
    """What was set, and whether others can read the secrets in it."""
    written = {each.source.rpartition(" in ")[2] for each in loaded.values() if each.value == "(set)"}
    exposed = sorted(each for each in written if Path(each).is_absolute() and _mode(Path(each)) & 0o077)
    if exposed:
        names = " ".join(exposed)
        return Check("settings", "warning", f"others can read the secrets in {names}", f"chmod 600 {names}")
    given = sorted(loaded.sources)
    return Check("settings", "ok", f"set: {', '.join(given)}" if given else "all are the defaults")


def folders(where: Folders) -> Check:
    """Whether each is ours, private and writable."""
    for folder in (where.config, where.state, where.cache, where.run):
        try:
            found = folder.lstat()
        except FileNotFoundError:
            continue
        except OSError as error:
            return Check("folders", "failure", f"{folder} cannot be reached: {error.strerror}")
        if not stat.S_ISDIR(found.st_mode) or (hasattr(os, "getuid") and found.st_uid != os.getuid()):
            return Check("folders", "failure", f"{folder} is no folder of this user", f"move {folder} away")
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            return Check("folders", "failure", f"{folder} cannot be written", f"chmod 700 {folder}")
        if os.name != "nt" and found.st_mode & 0o077:
            return Check("folders", "warning", f"others can look into {folder}", f"chmod 700 {folder}")
    if not where.state.exists():
        return Check("folders", "ok", f"{where.state} is made at the first start")
    return Check("folders", "ok", f"state and logs are in {where.state}, private")


@dataclass(frozen=True, slots=True)
class Secrets:
    """What is known of the vault, without any of its secrets."""

    vault: str
    """The keyring's name, or `file`."""
    has_key: bool = False
    """Whether a key of the Claude API is in it."""
    problem: str | None = None
    """Why it cannot be read."""


def secrets(state: Path, found: Secrets | None) -> Check:
    """Where secrets are kept; `found` is None when there are none yet."""
    file = state / "secrets.json"
    if found is None:
        return Check("secrets", "ok", "there are none yet; they are made at the first start")
    if found.problem:
        return Check("secrets", "failure", found.problem)
    if _mode(file) & 0o077:
        return Check("secrets", "failure", f"others can read {file}", f"chmod 600 {file}")
    where = f"in {file}, which only you can read" if found.vault == "file" else f"in {found.vault}"
    return Check("secrets", "ok", f"they are kept {where}")


def database(path: Path, newest_schema: str) -> Check:
    """Whether it can be opened for reading, is whole, and is not of a newer version."""
    if not path.exists() or not path.stat().st_size:
        return Check("database", "ok", f"{path} is made at the first start")
    deadline = time.monotonic() + CHECK_WITHIN_S
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=5)) as opened:
            # Beyond the deadline the progress handler ends the statement.
            opened.set_progress_handler(lambda: time.monotonic() > deadline, STEPS_BETWEEN_LOOKS)
            schema = opened.execute("SELECT version_num FROM alembic_version").fetchone()[0]
            verdict = opened.execute("PRAGMA quick_check(1)").fetchone()[0]
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT:
            return Check("database", "ok", f"{path} can be read; it is too large to be checked as a whole")
        return Check("database", "failure", f"{path} cannot be read: {error}", _REMEDY)
    except (sqlite3.DatabaseError, TypeError) as error:
        return Check("database", "failure", f"{path} is damaged: {error}", _REMEDY)
    if verdict != "ok":
        return Check("database", "failure", f"{path} is damaged: {verdict}", _REMEDY)
    if schema > newest_schema:
        return Check(
            "database",
            "failure",
            f"{path} was written by a newer claude-daemon (schema {schema}, this one knows {newest_schema})",
            "install the newer version again",
        )
    return Check("database", "ok", f"{path} is whole, {path.stat().st_size / 1e6:.1f} MB")


_REMEDY = "move it away to start afresh, or put a copy back; it is kept as it is until then"


def newest(state: Path) -> float | None:
    """The latest time of change among the daemon's files."""
    times = []
    for each in ("daemon.lock", "claude-daemon.db", "claude-daemon.db-wal", "installation"):
        try:
            times.append((state / each).stat().st_mtime)
        except OSError:
            continue
    return max(times, default=None)


def _mode(path: Path) -> int:
    """The permission bits; none where there is no such file, or on Windows."""
    if os.name == "nt":
        return 0
    try:
        return stat.S_IMODE(path.lstat().st_mode)
    except OSError:
        return 0
