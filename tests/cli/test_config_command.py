"""config: the key of the Claude API goes to the vault, never through argv, and is used."""

from pathlib import Path

from daemon import running


def test_a_key_that_was_kept_is_used_from_the_next_start_on(tmp_path: Path) -> None:
    with running(tmp_path / "home") as daemon:
        assert daemon.json("status")["assistant"]["backend"] == "none"

        done = daemon.cli("config", "--set-api-key", stdin="sk-ant-of-a-test\n")
        daemon.restart()

        assert (done.returncode, done.stderr) == (0, "")
        assert "sk-ant" not in done.stdout
        assert daemon.json("status")["assistant"]["backend"] == "claude-api"


def test_no_key_at_all_is_misuse(tmp_path: Path) -> None:
    with running(tmp_path / "home") as daemon:
        done = daemon.cli("config", "--set-api-key", stdin="")

        assert done.returncode == 2
        assert "there was no key" in done.stderr
