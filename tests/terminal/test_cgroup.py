"""Where groups are made is read from files, so a folder can play each hierarchy; the kernel plays itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from claude_daemon.config import TerminalSettings
from claude_daemon.terminal.cgroup import Cgroups
from claude_daemon.terminal.limits import Limits

if sys.platform != "linux":
    pytest.skip("control groups are of Linux only", allow_module_level=True)

LIMITS = Limits.of(TerminalSettings(), wall_s=10)


def unified(tmp_path: Path, own: str, **handing: str) -> Path:
    """A v2 hierarchy in which the groups in `handing` hand these controllers on; returns a `/proc`."""
    root = tmp_path / "cgroup"
    for folder in (root / own, *(root / own).parents):
        if folder.is_relative_to(root):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "cgroup.procs").touch()
            controllers = handing.get(folder.name, "")
            (folder / "cgroup.subtree_control").write_text(controllers)
    proc = tmp_path / "proc" / "self"
    proc.mkdir(parents=True)
    (proc / "cgroup").write_text(f"0::/{own}\n")
    (proc / "mounts").write_text(f"tmpfs /run tmpfs rw 0 0\ncgroup2 {root} cgroup2 rw 0 0\n")
    return tmp_path / "proc"


def test_groups_are_made_below_the_nearest_that_hands_both_controllers_on(tmp_path: Path) -> None:
    proc = unified(tmp_path, "user/app/terminal", user="cpu memory pids", app="memory pids", terminal="cpu")

    found = Cgroups.find(tmp_path, proc=proc)

    assert set(found.parents.values()) == {tmp_path / "cgroup" / "user" / "app"}


def test_a_group_that_hands_on_only_one_is_passed_over(tmp_path: Path) -> None:
    proc = unified(tmp_path, "user/app", user="memory", app="pids")

    assert Cgroups.find(tmp_path, proc=proc).parents == {}


def test_without_any_hierarchy_there_is_no_group(tmp_path: Path) -> None:
    found = Cgroups.find(tmp_path, proc=tmp_path)

    with found.made(LIMITS) as group:
        assert group is None


def test_the_groups_of_an_earlier_run_go_and_those_of_others_stay(tmp_path: Path) -> None:
    proc = unified(tmp_path, "app", app="memory pids")
    app = tmp_path / "cgroup" / "app"
    ours, theirs = (Cgroups.find(tmp_path / name, proc=proc) for name in ("ours", "theirs"))
    for each in (ours, theirs):
        (app / f"{each._prefix}7").mkdir()

    ours.sweep()

    assert [path.name for path in app.iterdir() if path.is_dir()] == [f"{theirs._prefix}7"]


def test_a_process_enters_its_group_and_the_group_goes_with_it(tmp_path: Path) -> None:
    cgroups = Cgroups.find(tmp_path)
    if not cgroups.parents:
        pytest.skip("this system lets us make no control groups")

    with cgroups.made(LIMITS) as group:
        assert group is not None
        argv = group.entering(("/bin/cat", "/proc/self/cgroup"))
        shown = subprocess.run(argv, env={}, capture_output=True, text=True, check=True).stdout
        folders = [parent / f"{cgroups._prefix}1" for parent in cgroups.parents.values()]
        limit = (cgroups.parents["pids"] / f"{cgroups._prefix}1" / "pids.max").read_text()

    assert f"{cgroups._prefix}1" in shown
    assert int(limit) == LIMITS.processes + 4
    assert not any(os.path.lexists(folder) for folder in folders)
