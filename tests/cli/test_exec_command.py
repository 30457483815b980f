"""exec: as if the command ran here, with its output as it comes, its code, its signals and its folder."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from claude_daemon.cli import execution
from claude_daemon.cli.execution import Execution, Order
from daemon import Daemon, running
from program import Program, environment

if sys.platform != "linux" or not shutil.which("bwrap"):
    pytest.skip("commands run in bubblewrap", allow_module_level=True)

STUBBORN = "trap '' INT TERM; echo ready; while :; do sleep 0.1; done"


@pytest.fixture
def folder(daemon: Daemon, tmp_path: Path) -> Iterator[Path]:
    """A project called `app` with a folder in it."""
    folder = tmp_path / "app"
    (folder / "src").mkdir(parents=True)
    daemon.cli("projects", "add", str(folder))
    yield folder
    daemon.cli("projects", "remove", "app")


def test_output_goes_where_it_belongs_and_the_code_is_the_command_s(daemon: Daemon) -> None:
    done = daemon.cli("exec", "--", "echo out; echo err >&2; exit 7")

    assert (done.returncode, done.stdout, done.stderr) == (7, "out\n", "err\n")


def test_one_word_is_a_line_for_the_shell_and_several_are_arguments(daemon: Daemon) -> None:
    assert daemon.cli("exec", "--", "echo a | tr a b").stdout == "b\n"
    assert daemon.cli("exec", "--", "printf", "%s\n", "a b", "$HOME", "*").stdout == "a b\n$HOME\n*\n"
    assert daemon.cli("exec", "echo", "--json", "-n").stdout == "--json -n\n"


def test_a_signal_s_end_is_128_and_its_number(daemon: Daemon) -> None:
    assert daemon.cli("exec", "--", "kill -KILL $$").returncode == 137


def test_time_that_is_over_is_said(daemon: Daemon) -> None:
    done = daemon.cli("exec", "--timeout", "1", "--", "sleep", "30")

    assert done.returncode > 128
    assert done.stderr == "the command was ended: its time was over\n"


def test_it_runs_in_the_folder_of_this_terminal(daemon: Daemon, folder: Path) -> None:
    def where(*options: str, cwd: Path) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "claude_daemon", "exec", *options, "--", "pwd"],
            env=environment(daemon),
            cwd=cwd,
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.rstrip("\n")

    assert where(cwd=folder / "src") == str(folder / "src")
    assert where("--project", "app", cwd=folder / "src") == str(folder / "src")
    assert where("--project", "app", cwd=folder.parent) == str(folder)
    assert Path(where(cwd=folder.parent)) not in {folder, folder.parent}


def test_of_nested_projects_the_innermost_counts(daemon: Daemon, folder: Path) -> None:
    daemon.cli("projects", "add", str(folder / "src"), "--id", "inner")
    for project, place in (("inner", folder / "src"), ("app", folder)):
        with Program(daemon, "exec", "--project", project, "--", "pwd", cwd=folder / "src") as program:
            assert program.line() == f"{place}\n"
    daemon.cli("projects", "remove", "inner")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--project", "nothing", "--", "true"], "there is no project 'nothing'"),
        (["--", "x" * 1_001], "Invalid command format: "),
    ],
)
def test_what_could_not_run_is_255(daemon: Daemon, arguments: list[str], said: str) -> None:
    done = daemon.cli("exec", *arguments)

    assert (done.returncode, done.stdout) == (255, "")
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == 1


def test_as_json_every_piece_is_a_line(daemon: Daemon) -> None:
    done = daemon.cli("exec", "--json", "--", "echo out; exit 3")

    pieces = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 3
    assert "".join(each["output"] for each in pieces) == "out\n"
    assert (pieces[-1]["final"], pieces[-1]["exitCode"]) == (True, 3)


def test_ctrl_c_ends_the_command_and_waits_for_its_end(daemon: Daemon) -> None:
    command = "trap 'echo tidied up; exit 5' INT; echo ready; while :; do sleep 0.05; done"
    with Program(daemon, "exec", "--", command) as program:
        program.line("ready")

        program.interrupt()

        assert (program.wait(), program.rest(), program.said_wrong()) == (5, "tidied up\n", "")


def test_a_second_ctrl_c_kills_it(daemon: Daemon) -> None:
    with Program(daemon, "exec", "--", STUBBORN) as program:
        program.line("ready")
        began = time.monotonic()

        program.interrupt()
        time.sleep(0.2)  # two at once would be one signal to the system
        program.interrupt()

        assert program.wait() == 137
        assert time.monotonic() - began < 2  # TERM alone would come after that, and in vain
    assert survivors(daemon) == []


def test_a_terminated_exec_ends_its_command(daemon: Daemon) -> None:
    with Program(daemon, "exec", "--", "echo ready; sleep 60") as program:
        program.line("ready")

        program.process.terminate()

        assert program.wait() == 130
    assert survivors(daemon) == []


def test_a_closed_pipe_ends_the_command_as_it_would_here(daemon: Daemon) -> None:
    done = subprocess.run(
        [
            "bash",
            "-c",
            '"$0" -m claude_daemon exec -- yes | head -n 1; echo ${PIPESTATUS[0]}',
            sys.executable,
        ],
        env=environment(daemon),
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("y\n141\n", "")
    assert survivors(daemon) == []


def survivors(daemon: Daemon) -> list[str]:
    """Commands that the daemon still runs, once it had a moment to end them."""
    deadline = time.monotonic() + 5
    while True:
        names = [each.name() for each in psutil.Process(daemon.pid).children(recursive=True)]
        left = [each for each in names if each in {"bwrap", "sleep", "yes", "sh"}]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)


def test_100_megabytes_arrive_whole(daemon: Daemon) -> None:
    done = subprocess.run(
        ["bash", "-c", '"$0" -m claude_daemon exec -- "yes | head -c 100000000" | wc -c', sys.executable],
        env=environment(daemon),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )

    assert done.stdout.strip() == "100000000"


def test_what_a_lost_connection_missed_is_fetched(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CLAUDE_DAEMON_HOME", str(daemon.home))
    monkeypatch.setattr(
        execution, "BACKLOG_BYTES", -1
    )  # each piece is one too many: it leaves and comes back
    command = "for i in $(seq 1 40); do echo $i; sleep 0.01; done; exit 3"
    order = Order(command=command, session_id="lost", project_id=None, timeout_s=None)

    code = asyncio.run(Execution(order, as_json=False).run())

    assert code == 3
    assert capfd.readouterr().out == "".join(f"{number}\n" for number in range(1, 41))


def test_a_daemon_that_is_killed_takes_the_command_along(tmp_path: Path) -> None:
    with running(tmp_path / "home") as daemon, Program(daemon, "exec", "--", STUBBORN) as program:
        program.line("ready")
        daemon.kill()

        assert program.wait() == 255
        assert program.said_wrong().startswith("claude-daemon ended while the command ran")


def test_a_daemon_that_is_stopped_ends_the_command_and_says_so(tmp_path: Path) -> None:
    with (
        running(tmp_path / "home") as daemon,
        Program(daemon, "exec", "--", "echo ready; sleep 60") as program,
    ):
        program.line("ready")
        daemon.cli("stop")
        daemon.wait()

        assert program.wait() > 128
        assert program.said_wrong() == "the command was ended: claude-daemon stopped\n"
