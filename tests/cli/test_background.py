"""start, stop and restart: a daemon that outlives its terminal, and every way in which it can't."""

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from daemon import Daemon
from program import Program

if sys.platform == "win32":
    pytest.skip("signals and terminals of POSIX", allow_module_level=True)

READY = "claude-daemon is ready at http://127.0.0.1:"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Daemon]:
    """Used by its command line only; whatever was started is ended."""
    home = Daemon(tmp_path / "home")
    yield home
    for pid in pids(home):
        os.kill(pid, signal.SIGKILL)


def pids(home: Daemon) -> list[int]:
    """The daemons that run on this home, by the note in their lock."""
    try:
        pid = int(json.loads((home.home / "state" / "daemon.lock").read_text())["pid"])
        return [pid] if psutil.Process(pid).status() != psutil.STATUS_ZOMBIE else []
    except (OSError, ValueError, psutil.NoSuchProcess):
        return []


def test_start_returns_when_the_daemon_is_ready_and_stop_when_it_is_gone(home: Daemon) -> None:
    start = home.cli("start")

    assert (start.returncode, start.stderr) == (0, "")
    assert start.stdout.startswith(READY)
    (pid,) = pids(home)
    assert os.getsid(pid) == pid  # a terminal that is closed does not take it along
    assert psutil.Process(pid).terminal() is None
    assert home.json("status")["status"] in {"healthy", "degraded"}
    assert '"message":"ready"' in home.log()

    stop = home.cli("stop")

    assert (stop.returncode, stop.stdout, stop.stderr) == (0, "claude-daemon has stopped\n", "")
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_stop_when_nothing_runs_is_done(home: Daemon) -> None:
    stop = home.cli("stop")

    assert (stop.returncode, stop.stdout, stop.stderr) == (0, "claude-daemon is not running\n", "")


def test_a_second_start_finds_the_first(home: Daemon) -> None:
    url = home.cli("start").stdout.split()[-1]
    (pid,) = pids(home)

    again = home.cli("start")

    assert (again.returncode, again.stdout) == (0, f"claude-daemon runs already at {url} (pid {pid})\n")
    second = home.cli("run")
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr.startswith("claude-daemon runs already")
    assert url in second.stderr
    assert second.stderr.count("\n") == 1


def test_restart_is_another_process(home: Daemon) -> None:
    home.cli("start")
    (before,) = pids(home)

    assert home.cli("restart").stdout.startswith(READY)

    (after,) = pids(home)
    assert after != before
    assert home.cli("stop").returncode == 0
    assert home.cli("restart").stdout.startswith(READY)  # also when nothing ran


def test_start_says_who_has_the_port(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        home = Daemon(tmp_path / "home", PORT=str(port))

        start = home.cli("start")

    assert (start.returncode, start.stdout) == (1, "")
    assert start.stderr.startswith(f"127.0.0.1:{port} is taken by ")
    assert f"(pid {os.getpid()})" in start.stderr
    assert start.stderr.count("\n") == 1


def test_start_says_what_is_wrong_with_the_folder(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    home = Daemon(tmp_path / "home" / "user")
    (home.home / "state").write_text("a file in the way")

    start = home.cli("start")

    assert (start.returncode, start.stdout) == (1, "")
    assert start.stderr.startswith(f"{home.home / 'state'} cannot be used: ")


def test_after_a_crash_nothing_stands_in_the_way(home: Daemon) -> None:
    home.cli("start")
    (pid,) = pids(home)
    os.kill(pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(pid)], timeout=2)

    status = home.cli("status", "--json")

    assert (status.returncode, json.loads(status.stdout)) == (1, {"running": False})
    assert home.cli("stop").stdout == "claude-daemon is not running\n"
    assert home.cli("start").stdout.startswith(READY)


def test_a_daemon_that_dies_midway_is_one_sentence(home: Daemon) -> None:
    home.cli("start")
    (pid,) = pids(home)
    with Program(home, "watch", "--json") as watch:
        watch.event("connected")

        os.kill(pid, signal.SIGKILL)

        assert watch.wait() == 1
        assert watch.said_wrong() == "claude-daemon ended meanwhile; see why with: claude-daemon logs\n"


def test_a_stopped_daemon_ends_its_watchers_with_a_word(home: Daemon) -> None:
    home.cli("start")
    with Program(home, "watch", "--json") as watch:
        watch.event("connected")

        home.cli("stop")

        watch.event("server_shutdown")
        assert watch.wait() == 1
        assert watch.said_wrong() == "claude-daemon was stopped; start it again with: claude-daemon start\n"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux binds a long path")
def test_a_home_with_a_long_name_works(tmp_path: Path) -> None:
    home = Daemon(tmp_path / ("long" * 20) / ("longer" * 10))
    try:
        assert home.cli("start").stdout.startswith(READY)
        assert home.json("devices") == []
    finally:
        assert home.cli("stop").returncode == 0


def test_run_prints_exactly_the_ready_line_and_ends_by_ctrl_c(home: Daemon) -> None:
    with Program(home, "run") as run:
        assert run.line().startswith(READY)

        run.interrupt()

        assert (run.wait(), run.rest(), run.said_wrong()) == (0, "", "")
