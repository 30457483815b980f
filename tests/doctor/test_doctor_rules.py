"""The doctor's rules: from what was seen to a verdict and a remedy.  Pure, but for small files."""

import sqlite3
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from claude_daemon.config import Folders, load
from claude_daemon.doctor import daemon, files, machine
from claude_daemon.doctor.check import Check, report
from claude_daemon.doctor.files import Secrets
from claude_daemon.doctor.instance import Instance

HERE = Instance(4711, "http://127.0.0.1:3001")
NOW = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
UNCONFINED = {"sandbox": {"mechanism": "none", "limits": []}}
posix = pytest.mark.skipif(sys.platform == "win32", reason="modes and owners of POSIX")


def status(**more: Any) -> dict[str, Any]:
    """A daemon in good health."""
    good: dict[str, Any] = {
        "problems": [],
        "version": "0.1.0",
        "terminal": {"sandbox": {"mechanism": "bwrap", "limits": ["time"]}},
        "speech": {"engine": "espeak", "state": "ready"},
        "projects": [],
        "assistant": {"backend": "none", "ready": False},
    }
    return good | more


def test_a_failure_alone_is_not_ok() -> None:
    checks = [Check("a", "ok", "fine"), Check("b", "warning", "hm"), Check("c", "skipped", "unseen")]

    assert report(checks)["ok"] is True
    assert report([*checks, Check("d", "failure", "broken", "mend it")]) == {
        "ok": False,
        "checks": [
            {"name": "a", "verdict": "ok", "evidence": "fine", "remedy": ""},
            {"name": "b", "verdict": "warning", "evidence": "hm", "remedy": ""},
            {"name": "c", "verdict": "skipped", "evidence": "unseen", "remedy": ""},
            {"name": "d", "verdict": "failure", "evidence": "broken", "remedy": "mend it"},
        ],
    }


@pytest.mark.parametrize(
    ("check", "verdict", "remedy"),
    [
        (lambda: daemon.alive(HERE, status(), ""), "ok", ""),
        (lambda: daemon.alive(HERE, status(problems=["no disk"]), ""), "warning", "see the checks below"),
        (lambda: daemon.alive(None, None, ""), "warning", "claude-daemon start"),
        (lambda: daemon.alive(HERE, None, "silent"), "failure", "kill -9 4711; claude-daemon start"),
        (lambda: confined(status()), "ok", ""),
        (lambda: confined(status(terminal=UNCONFINED), problem="no"), "failure", "apt-get install"),
        (lambda: confined(status(terminal=UNCONFINED), problem="no", installed=True), "failure", ""),
        (lambda: confined(status(terminal=UNCONFINED), probed="bwrap"), "warning", "claude-daemon restart"),
        (lambda: confined(None, probed="bwrap"), "ok", ""),
        (lambda: confined(None, problem="none"), "failure", "bubblewrap"),
        (lambda: daemon.speech(status(), problem=None), "ok", ""),
        (lambda: daemon.speech(None, problem=None), "ok", ""),
        (lambda: daemon.speech(None, problem="no device"), "warning", "espeak-ng"),
        (
            lambda: daemon.speech(
                status(speech={"engine": None, "state": "unavailable", "reason": "no device"}), problem=None
            ),
            "warning",
            "espeak-ng",
        ),
        (lambda: daemon.projects(None), "skipped", "claude-daemon start"),
        (lambda: daemon.projects(status()), "ok", "claude-daemon projects add PATH"),
        (lambda: daemon.projects(status(projects=[project("watching")])), "ok", ""),
        (lambda: daemon.projects(status(projects=[project("polling", problem="slow")])), "warning", ""),
        (
            lambda: daemon.projects(status(projects=[project("watching"), project("unavailable")])),
            "failure",
            "projects remove ID",
        ),
        (lambda: daemon.assistant(None, key=False, installed=True), "skipped", "CLAUDE_API_KEY"),
        (lambda: daemon.assistant(status(), key=False, installed=False), "skipped", "CLAUDE_API_KEY"),
        (lambda: daemon.assistant(None, key=True, installed=False), "failure", "pip install"),
        (lambda: daemon.assistant(None, key=True, installed=True), "ok", ""),
        (lambda: daemon.assistant(status(), key=True, installed=True), "warning", "claude-daemon restart"),
        (lambda: daemon.assistant(answered(ready=True), key=False, installed=True), "ok", ""),
        (lambda: daemon.assistant(answered(ready=False), key=True, installed=True), "failure", ""),
        (lambda: machine.disk("/", 5_000_000_000), "ok", ""),
        (lambda: machine.disk("/", 500_000_000), "warning", "make room"),
        (lambda: machine.disk("/", 50_000_000), "failure", "make room"),
        (lambda: machine.watches(None, None, 0), "skipped", ""),
        (lambda: machine.watches(100_000, 128, 99_999), "ok", ""),
        (lambda: machine.watches(100_000, 128, 100_001), "warning", "max_user_watches=524288"),
        (lambda: machine.watches(4_096, 128, 0), "warning", "max_user_watches=524288"),
        (lambda: machine.watches(100_000, 1, 0), "warning", "max_user_instances=512"),
        (lambda: machine.clock(NOW, None), "ok", ""),
        (lambda: machine.clock(NOW, NOW + 30), "ok", ""),
        (lambda: machine.clock(NOW, NOW + 3_600), "warning", "set the clock"),
        (lambda: machine.clock(0, None), "failure", "set the clock"),
        (lambda: machine.port(3001, None, "http://127.0.0.1:3001"), "ok", ""),
        (lambda: machine.port(0, None, "http://127.0.0.1:4000"), "ok", ""),
        (lambda: machine.port(3002, None, "http://127.0.0.1:3001"), "warning", "claude-daemon restart"),
        (lambda: machine.port(3001, "taken by x (pid 1)", None), "failure", "set PORT"),
        (lambda: machine.port(3001, None, None), "ok", ""),
    ],
)
def test_a_verdict_comes_with_its_remedy(check: Callable[[], Check], verdict: str, remedy: str) -> None:
    found = check()

    assert found.verdict == verdict
    assert remedy in found.remedy if remedy else found.remedy == ""
    assert found.evidence


def confined(
    said: dict[str, Any] | None,
    *,
    probed: str | None = None,
    problem: str | None = None,
    installed: bool = False,
) -> Check:
    return daemon.sandbox(said, probed=probed, problem=problem, installed=installed)


def project(state: str, **more: Any) -> dict[str, Any]:
    return {"projectId": "app", "path": "/app", "state": state, "files": 1, **more}


def answered(*, ready: bool) -> dict[str, Any]:
    return status(assistant={"backend": "claude-api", "ready": ready, "reason": "it refused the key"})


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(*(tmp_path / name for name in ("config", "state", "cache", "run")))


def test_folders_that_are_not_there_yet_are_made_later(folders: Folders) -> None:
    assert files.folders(folders).verdict == "ok"


@posix
def test_folders_are_ours_alone(folders: Folders, tmp_path: Path) -> None:
    for folder in (folders.config, folders.state, folders.cache):
        folder.mkdir(mode=0o700)
    assert files.folders(folders).verdict == "ok"

    folders.state.chmod(0o750)
    assert files.folders(folders) == Check(
        "folders", "warning", f"others can look into {folders.state}", f"chmod 700 {folders.state}"
    )

    folders.run.symlink_to(tmp_path)
    folders.state.chmod(0o700)
    assert files.folders(folders).verdict == "failure"


@posix
def test_secrets_are_for_nobody_else(tmp_path: Path) -> None:
    assert files.secrets(tmp_path, None).verdict == "ok"
    file = tmp_path / "secrets.json"
    file.write_text("{}")
    file.chmod(0o600)
    assert files.secrets(tmp_path, Secrets("file")).verdict == "ok"
    assert files.secrets(tmp_path, Secrets("file", problem="it is damaged")).verdict == "failure"

    file.chmod(0o644)
    assert files.secrets(tmp_path, Secrets("file")) == Check(
        "secrets", "failure", f"others can read {file}", f"chmod 600 {file}"
    )


@posix
def test_secrets_in_a_file_of_settings_are_for_nobody_else(tmp_path: Path) -> None:
    dotenv = tmp_path / "home" / "config" / ".env"
    dotenv.parent.mkdir(parents=True)
    dotenv.write_text("CLAUDE_API_KEY=sk-secret\n")
    dotenv.chmod(0o644)
    environ = {"CLAUDE_DAEMON_HOME": str(tmp_path / "home")}

    exposed = files.settings(load(environ))
    assert (exposed.verdict, exposed.remedy) == ("warning", f"chmod 600 {dotenv}")
    assert "sk-secret" not in exposed.evidence

    dotenv.write_text("PORT=3005\n")
    assert files.settings(load(environ)) == Check("settings", "ok", "set: server.port")


@pytest.fixture
def database(tmp_path: Path) -> Path:
    path = tmp_path / "a b%20?.db"
    with closing(sqlite3.connect(path)) as made, made:
        made.execute("PRAGMA journal_mode=WAL")
        made.execute("CREATE TABLE alembic_version (version_num TEXT)")
        made.execute("INSERT INTO alembic_version VALUES ('0002')")
        made.execute("CREATE TABLE events (body TEXT)")
        made.executemany("INSERT INTO events VALUES (?)", [("x" * 1_000,)] * 100)
    return path


def test_a_database_that_is_whole_is_ok_and_is_not_changed(database: Path) -> None:
    before = database.read_bytes()

    assert files.database(database, "0002").verdict == "ok"
    assert files.database(database, "0003").verdict == "ok"  # it is migrated at the next start
    assert database.read_bytes() == before
    assert files.database(database.with_name("none.db"), "0001").verdict == "ok"
    assert not database.with_name("none.db").exists()
    database.with_name("begun.db").touch()  # by a start that was cut short
    assert files.database(database.with_name("begun.db"), "0001").verdict == "ok"


def test_a_database_of_a_newer_version_is_a_failure(database: Path) -> None:
    found = files.database(database, "0001")

    assert (found.verdict, found.remedy) == ("failure", "install the newer version again")


@pytest.mark.parametrize("break_at", [0, 4_096 * 3])
def test_a_damaged_database_is_a_failure(database: Path, break_at: int) -> None:
    with database.open("r+b") as file:
        file.seek(break_at)
        file.write(b"\xff" * 4_096)

    found = files.database(database, "0002")

    assert found.verdict == "failure"
    assert found.evidence.startswith(f"{database} is damaged: ")


def test_another_kind_of_database_is_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with closing(sqlite3.connect(path)) as made, made:
        made.execute("CREATE TABLE other (x)")

    assert files.database(path, "0001").verdict == "failure"


def test_a_large_database_is_not_waited_for(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "CHECK_WITHIN_S", -1.0)
    monkeypatch.setattr(files, "STEPS_BETWEEN_LOOKS", 1)

    found = files.database(database, "0002")

    assert found.verdict == "ok"
    assert "too large to be checked" in found.evidence
