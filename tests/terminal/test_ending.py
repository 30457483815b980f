import signal

import pytest

from claude_daemon.terminal.ending import Asked, Ending, Refusals, judge
from claude_daemon.terminal.prelude import Report

INFO = b'{\n    "child-pid": 4711,\n    "cgroup-namespace": 4026532310\n}\n'
RAN = INFO + b"ready\n"


def ending(
    status: int,
    heard: bytes,
    *,
    sent: frozenset[str] = frozenset(),
    asked: Asked | None = None,
    refused: Refusals | None = None,
) -> Ending:
    return judge(status, Report(heard), sent=sent, asked=asked, refused=refused or Refusals())


@pytest.mark.parametrize("code", [0, 1, 42, 127, 130, 137, 143, 255])
def test_an_exit_code_is_told_as_it_is(code: int) -> None:
    assert ending(code, RAN + b"exit %d\n" % code) == Ending(code, None, "exit")


@pytest.mark.parametrize(
    "said", [b"Killed\n", b'sh: line 1:  3 Killed  ( exec /bin/sh -c "$1" 2>&4 4>&- )\n']
)
def test_what_the_shell_says_tells_a_signal_from_the_code_that_looks_like_it(said: bytes) -> None:
    assert ending(137, RAN + said + b"exit 137\n") == Ending(None, "KILL", "signal")


def test_a_shell_that_is_silent_about_a_signal_is_believed_when_that_signal_was_sent() -> None:
    heard = RAN + b"exit 130\n"

    assert ending(130, heard, sent=frozenset({"INT"})) == Ending(None, "INT", "cancelled")
    assert ending(130, heard) == Ending(130, None, "exit")


def test_a_command_that_ends_its_own_way_after_a_signal_was_not_cancelled() -> None:
    assert ending(0, RAN + b"exit 0\n", sent=frozenset({"INT"})) == Ending(0, None, "exit")


def test_lines_around_the_command_that_were_killed_with_it_leave_a_signal() -> None:
    assert ending(137, RAN) == Ending(None, "KILL", "signal")
    assert ending(-9, RAN) == Ending(None, "KILL", "signal")


def test_a_sandbox_that_never_got_ready_ran_nothing() -> None:
    assert ending(1, b"") == Ending(None, None, "sandbox")
    assert ending(1, INFO) == Ending(None, None, "sandbox")


def test_what_the_daemon_asked_for_is_the_reason() -> None:
    asked = Asked("timeout", "time")

    killed = ending(-9, RAN, sent=frozenset({"TERM", "KILL"}), asked=asked)
    gave_in = ending(3, RAN + b"exit 3\n", sent=frozenset({"TERM"}), asked=asked)

    assert killed == Ending(None, "KILL", "timeout", "time")
    assert gave_in == Ending(3, None, "timeout", "time")


@pytest.mark.parametrize(
    ("name", "limit"),
    [("XCPU", "cpu"), ("XFSZ", "file_size")],
)
def test_signals_of_limits_name_them_even_through_a_shell_in_between(name: str, limit: str) -> None:
    code = 128 + signal.Signals[f"SIG{name}"]

    direct = ending(code, RAN + b"CPU time limit exceeded\nexit %d\n" % code)
    between = ending(code, RAN + b"exit %d\n" % code)

    assert (direct.signal, direct.reason, direct.limit) == (name, "limit", limit)
    assert (between.exit_code, between.reason, between.limit) == (code, "limit", limit)


def test_what_a_cgroup_refused_is_the_reason_of_a_failure_only() -> None:
    killed = RAN + b"Killed\nexit 137\n"

    assert ending(137, killed, refused=Refusals(memory=1)) == Ending(None, "KILL", "limit", "memory")
    assert ending(2, RAN + b"exit 2\n", refused=Refusals(forks=9)) == Ending(2, None, "limit", "processes")
    assert ending(0, RAN + b"exit 0\n", refused=Refusals(memory=1, forks=1)) == Ending(0, None, "exit")


def test_the_sandboxs_first_process_is_named_before_the_command_can_speak() -> None:
    assert Report(INFO).child == 4711
    assert Report(b"ready\n" + INFO).child is None


def test_what_is_heard_is_bounded() -> None:
    report = Report()

    for _ in range(100):
        report.hear(b"x" * 10_000)

    assert len(report.heard) == 65_536
