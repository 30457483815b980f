"""What clients that look see."""

import os
from pathlib import Path

import pytest

from claude_daemon.projects.browse import entries, read
from following import make_fifo


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "src" / "sub").mkdir(parents=True)
    (folder / "src" / "a.py").write_text("a")
    (folder / "src" / "b.log").write_text("bb")
    (folder / ".gitignore").write_text("*.log\n")
    (folder / "node_modules" / "x").mkdir(parents=True)
    (folder / "link").symlink_to("/etc")
    make_fifo(folder / "fifo")
    (folder / os.fsdecode(b"bad-\xff")).touch()
    return folder


def brief(root: Path, folder: str) -> list[tuple[str, str, int, bool]]:
    found, more = entries(root, folder, after="", limit=100)
    assert not more
    return [(each.name, each.kind, each.size, each.ignored) for each in found]


def test_a_folder_is_listed_with_what_each_entry_is(root: Path) -> None:
    assert brief(root, "") == [
        (".gitignore", "file", 6, False),
        ("fifo", "other", 0, False),
        ("link", "link", 0, False),
        ("node_modules", "folder", 0, True),
        ("src", "folder", 0, False),
    ]
    assert brief(root, "src") == [
        ("a.py", "file", 1, False),
        ("b.log", "file", 2, True),
        ("sub", "folder", 0, False),
    ]
    assert brief(root, "node_modules") == [("x", "folder", 0, True)]


def test_a_long_folder_comes_in_pages(root: Path) -> None:
    for number in range(25):
        (root / "src" / "sub" / f"{number:02}").touch()
    names: list[str] = []
    more = True
    while more:
        page, more = entries(root, "src/sub", after=names[-1] if names else "", limit=10)
        assert len(page) <= 10
        names += [each.name for each in page]

    assert names == [f"{number:02}" for number in range(25)]


def test_a_link_is_not_entered_and_a_fifo_not_read(root: Path) -> None:
    with pytest.raises(OSError, match="link"):
        entries(root, "link", after="", limit=10)
    with pytest.raises(OSError, match="link"):
        read(root, "link/passwd", keep=100)
    with pytest.raises(OSError, match="fifo"):
        read(root, "fifo", keep=100)


def test_a_file_is_read_with_its_hash_and_a_large_one_without_its_content(root: Path) -> None:
    small, large = read(root, "src/a.py", keep=1), read(root, "src/b.log", keep=1)

    assert small and (small.size, small.content) == (1, b"a")
    assert large and (large.size, large.content) == (2, None)
