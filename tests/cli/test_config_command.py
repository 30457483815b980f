"""config, and .env.example: every variable that is read is in it, with the value that is the default."""

import re
from dataclasses import fields
from pathlib import Path

import pytest

from claude_daemon.config import GROUPS, load
from daemon import Daemon

EXAMPLE = Path(__file__).parents[2] / ".env.example"
NOT_IN_A_FILE = {"CLAUDE_DAEMON_HOME", "CLAUDE_DAEMON_ENV_FILE"}  # they say where the file is
ASSIGNMENT = re.compile(r"^# ?([A-Z][A-Z0-9_]*)=(.*)$", re.MULTILINE)


@pytest.fixture
def example() -> str:
    return EXAMPLE.read_text("utf-8")


def uncommented(example: str) -> str:
    return ASSIGNMENT.sub(r"\1=\2", example)


def test_config_prints_each_value_and_where_it_came_from(tmp_path: Path) -> None:
    home = tmp_path / "home"
    (home / "config").mkdir(parents=True)
    (home / "config" / "config.toml").write_text("[terminal]\nslots = 2\n")
    (home / "config" / ".env").write_text("JWT_SECRET=0123456789abcdef0123456789abcdef\nPORT=1\n")
    off = Daemon(home, PORT="4711")

    values = {each["name"]: each for each in off.json("config")}

    assert (values["server.port"]["value"], values["server.port"]["source"]) == (
        4711,
        "PORT in the environment",
    )
    assert values["terminal.slots"]["value"] == 2
    assert values["terminal.slots"]["source"] == str(home / "config" / "config.toml")
    assert values["security.jwt_secret"]["value"] == "(set)"
    assert values["security.jwt_secret"]["source"] == f"JWT_SECRET in {home / 'config' / '.env'}"
    assert values["rate.points"]["source"] == "default"
    assert all(each["why"] for each in values.values())
    shown = off.cli("config").stdout
    assert "0123456789abcdef" not in shown
    assert str(home / "config" / "config.toml") in shown


def test_the_example_changes_nothing_as_it_is(example: str) -> None:
    assert [line for line in example.splitlines() if line and not line.startswith("#")] == []


def test_the_example_names_every_variable_that_is_read(example: str) -> None:
    named = {name for name, _ in ASSIGNMENT.findall(example)}
    read = {each.metadata["env"] for kind in GROUPS.values() for each in fields(kind)} - {None}

    assert named >= read
    assert {name for name in named - read if not name.startswith("CLAUDE_DAEMON_")} == set()
    assert not named & NOT_IN_A_FILE
    assert all(name in example for name in NOT_IN_A_FILE)


def test_the_example_uncommented_is_the_defaults(example: str, tmp_path: Path) -> None:
    file = tmp_path / "example.env"
    file.write_text(uncommented(example))
    environ = {"CLAUDE_DAEMON_HOME": str(tmp_path / "home")}

    loaded = load(environ | {"CLAUDE_DAEMON_ENV_FILE": str(file)})

    defaults = {each.name: each.value for each in load(environ).values()}
    assert {each.name: each.value for each in loaded.values()} == defaults
    assert "server.port" in loaded.sources  # it was read
