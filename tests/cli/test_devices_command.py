"""token and devices: what is printed, what is refused, and that a name cannot act on a terminal."""

import pytest

from claude_daemon.client import Client, RefusedError
from daemon import Daemon
from program import on_a_terminal


def test_token_prints_only_the_token(daemon: Daemon) -> None:
    done = daemon.cli("token")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count(".") == 2
    assert done.stdout.count("\n") == 1
    assert " " not in done.stdout


def test_token_as_json_says_what_it_is_for(daemon: Daemon) -> None:
    made = daemon.json("token", "--scopes", "view,chat", "--ttl", "60", "--name", "a test")

    assert set(made) == {"token", "expiresAt", "scopes"}
    assert sorted(made["scopes"]) == ["chat", "view"]
    (device,) = [each for each in daemon.json("devices") if each["name"] == "a test"]
    assert device["expiresAt"] == made["expiresAt"]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--scopes", "answer"], "the scope answer belongs to a person's device, not to a program"),
        (["--scopes", "view,admin"], "the scope admin belongs to a person's device, not to a program"),
        (["--scopes", "fly"], "there is no scope 'fly'; choose from view, chat, files, terminal"),
        (["--scopes", ""], "there is no scope ''; choose from view, chat, files, terminal"),
        (["--ttl", "0"], "0 is not in the range 1<=x<=31536000"),
        (["--ttl", "31536001"], "31536001 is not in the range 1<=x<=31536000"),
    ],
)
def test_what_a_program_may_not_have_is_a_misuse(daemon: Daemon, arguments: list[str], why: str) -> None:
    done = daemon.cli("token", *arguments)

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"Invalid value for '{arguments[0]}': {why}; see: claude-daemon token --help\n"


async def test_a_revoked_token_opens_nothing_any_more(daemon: Daemon) -> None:
    token = daemon.json("token", "--name", "to be revoked")["token"]
    (device,) = [each for each in daemon.json("devices", "list") if each["name"] == "to be revoked"]

    revoke = daemon.cli("devices", "revoke", device["deviceId"])

    assert (revoke.returncode, revoke.stdout) == (0, f"{device['deviceId']} has no access any more\n")
    assert device["deviceId"] not in daemon.cli("devices").stdout
    with pytest.raises(RefusedError) as refusal:
        async with Client(daemon.url, token=token):
            pass
    assert refusal.value.code == "device_revoked"


@pytest.mark.parametrize("command", [("revoke",), ("rename", "--json")])
def test_an_unknown_device_is_a_failure(daemon: Daemon, command: tuple[str, ...]) -> None:
    done = daemon.cli("devices", *command, "nobody", *(["name"] if "rename" in command else []))

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "there is no device 'nobody'; see: claude-daemon devices\n"


def test_a_name_cannot_command_the_terminal(daemon: Daemon) -> None:
    daemon.json("token", "--name", "before")
    (device,) = [each for each in daemon.json("devices") if each["name"] == "before"]
    hostile = "\x1b]0;owned\x07\x1b[2J\u202e"

    renamed = daemon.json("devices", "rename", device["deviceId"], hostile)

    assert renamed == {"deviceId": device["deviceId"], "name": hostile}
    assert hostile in [each["name"] for each in daemon.json("devices")]
    for shown in (daemon.cli("devices").stdout, on_a_terminal(daemon, "devices")):
        assert "\x1b]" not in shown
        assert "\x1b[2J" not in shown
        assert "\u202e" not in shown
        assert r"\x1b]0;owned" in shown
    assert "\x1b" not in daemon.cli("devices", "--json").stdout
