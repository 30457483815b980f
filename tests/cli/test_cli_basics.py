"""What holds for every command: help, exit codes, one sentence on stderr, and readers that go away."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from daemon import Daemon
from program import Program, on_a_terminal

NOT_RUNNING = "claude-daemon is not running; start it with: claude-daemon start\n"
COMMANDS = [
    *("run", "start", "stop", "restart", "status", "projects", "exec", "send"),
    *("notify", "watch", "token", "devices", "logs", "config", "doctor", "version"),
]
NEED_THE_DAEMON = {
    "status": (),
    "projects": (),
    "devices": (),
    "token": (),
    "watch": (),
    "send": ("s", "text"),
    "notify": ("text",),
}


@pytest.fixture
def off(tmp_path: Path) -> Daemon:
    """One that was never started."""
    return Daemon(tmp_path / "home")


def test_help_names_every_command(off: Daemon) -> None:
    done = off.cli("--help")

    assert done.returncode == 0
    assert re.findall(r"^  (\w+)  ", done.stdout, re.MULTILINE) == COMMANDS
    assert off.cli().stdout == done.stdout


@pytest.mark.parametrize("command", [(), ("projects",), ("status",), ("exec",), ("run",)])
def test_help_imports_nothing_slow(off: Daemon, command: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "claude_daemon", *command, "--help"],
        env=off._environment,
        capture_output=True,
        text=True,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines()}

    assert "click" in imported
    assert not imported & {"aiohttp", "socketio", "sqlalchemy", "rich", "msgspec", "psutil", "platformdirs"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["nonsense"], "No such command 'nonsense'; see: claude-daemon --help\n"),
        (["status", "--nonsense"], "No such option '--nonsense'; see: claude-daemon status --help\n"),
        (["send", "s"], "Missing argument 'TEXT'; see: claude-daemon send --help\n"),
        (["devices", "nonsense"], "No such command 'nonsense'; see: claude-daemon devices --help\n"),
        (["exec"], "Missing argument 'COMMAND...'; see: claude-daemon exec --help\n"),
    ],
)
def test_misuse_is_one_sentence_and_code_2(off: Daemon, arguments: list[str], sentence: str) -> None:
    done = off.cli(*arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.replace(": --nonsense", " '--nonsense'") == sentence


@pytest.mark.parametrize("command", NEED_THE_DAEMON)
def test_without_a_daemon_a_command_says_how_to_start_it(off: Daemon, command: str) -> None:
    done = off.cli(command, *NEED_THE_DAEMON[command])

    assert (done.returncode, done.stdout, done.stderr) == (1, "", NOT_RUNNING)


def test_without_a_daemon_exec_could_not_run(off: Daemon) -> None:
    done = off.cli("exec", "--", "true")

    assert (done.returncode, done.stdout, done.stderr) == (255, "", NOT_RUNNING)


def test_a_setting_that_cannot_be_used_is_a_misuse(tmp_path: Path) -> None:
    broken = Daemon(tmp_path / "home", PORT="many")

    for command in ("run", "start", "status", "config"):
        done = broken.cli(command)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr == "PORT in the environment must be a whole number\n"


def test_version_is_printed_without_a_daemon(off: Daemon) -> None:
    assert re.fullmatch(r"claude-daemon \d+\.\d+\.\d+\n", off.cli("version").stdout)
    assert off.json("version")["protocolVersion"] == 1


@pytest.mark.skipif(sys.platform == "win32", reason="pipes of the shell")
@pytest.mark.parametrize(
    "line",
    [
        "config | true",  # nobody reads at all
        "config | head -n 1 > /dev/null",
        "status --json | true",
        "logs | true",
        "watch --json | head -n 1 > /dev/null",
        "config >&-",
    ],
)
def test_a_reader_that_goes_away_is_no_failure(daemon: Daemon, line: str) -> None:
    command, _, rest = line.partition(" ")
    done = subprocess.run(
        ["bash", "-c", f'"$0" -m claude_daemon {command} {rest}; exit ${{PIPESTATUS[0]}}', sys.executable],
        env=daemon._environment,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a disk that is always full")
def test_output_that_cannot_be_written_is_a_failure(off: Daemon) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "claude_daemon", "config"],
            env=off._environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (done.returncode, done.stderr) == (1, "the output cannot be used: No space left on device\n")


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
@pytest.mark.parametrize("arguments", [("watch", "--json"), ("logs", "-f", "--json")])
def test_ctrl_c_ends_a_stream_without_a_word(daemon: Daemon, arguments: tuple[str, ...]) -> None:
    with Program(daemon, *arguments) as program:
        assert json.loads(program.line())

        program.interrupt()

        assert (program.wait(), program.said_wrong()) == (130, "")


def test_a_terminal_gets_colour_and_a_pipe_does_not(daemon: Daemon) -> None:
    assert re.search("\x1b\\[3[23]m●", on_a_terminal(daemon, "status"))
    assert "\x1b" not in daemon.cli("status").stdout
