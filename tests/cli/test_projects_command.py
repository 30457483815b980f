"""projects: what is added, listed, paused and removed, and the sentences for what can't be."""

import os
from pathlib import Path

from daemon import Daemon


def test_a_project_is_added_listed_and_removed(daemon: Daemon, tmp_path: Path) -> None:
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "a.txt").write_text("a")

    added = daemon.cli("projects", "add", str(folder))

    assert (added.returncode, added.stdout) == (0, f"{folder} is watched as shop\n")
    (shown,) = daemon.json("projects")
    assert (shown["projectId"], shown["path"], shown["files"]) == ("shop", str(folder), 1)
    assert daemon.json("projects", "list") == [shown]
    assert "shop" in daemon.cli("projects").stdout
    assert daemon.cli("projects", "pause", "shop").stdout == "shop is paused\n"
    assert daemon.json("projects")[0]["state"] == "paused"
    assert daemon.json("projects", "resume", "shop") == {"projectId": "shop"}
    assert daemon.json("projects")[0]["state"] != "paused"

    assert daemon.cli("projects", "remove", "shop").returncode == 0
    assert daemon.json("projects") == []
    assert (folder / "a.txt").read_text() == "a"


def test_a_path_is_that_of_the_terminal_and_an_id_may_be_chosen(daemon: Daemon, tmp_path: Path) -> None:
    folder = tmp_path / "here"
    folder.mkdir()

    added = daemon.json("projects", "add", os.path.relpath(folder), "--id", "chosen")

    assert added == {"projectId": "chosen", "path": str(folder)}
    daemon.cli("projects", "remove", "chosen")


def test_what_cannot_be_done_is_one_sentence(daemon: Daemon, tmp_path: Path) -> None:
    missing = tmp_path / "missing"

    for arguments, said in (
        (("add", str(missing)), str(missing)),
        (("remove", "nothing"), "there is no project 'nothing'"),
        (("pause", "nothing"), "there is no project 'nothing'"),
    ):
        done = daemon.cli("projects", *arguments)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(said)
        assert done.stderr.count("\n") == 1


def test_no_project_says_how_to_add_one(daemon: Daemon) -> None:
    assert daemon.cli("projects").stdout == "no project; add one with: claude-daemon projects add PATH\n"
