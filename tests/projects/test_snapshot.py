"""The tree as data, and the rules on it."""

from claude_daemon.projects.snapshot import Departed, File, Snapshot, renames, unread


def file(inode: int = 1, size: int = 5, mtime_ns: int = 1, sha256: str | None = None) -> File:
    return File(size, mtime_ns, inode, sha256)


def test_a_folder_goes_with_all_that_is_in_it() -> None:
    tree = Snapshot(max_entries=100)
    for path in ("a/x", "a/b/y", "a/b/c/z", "other"):
        tree.put(path, file())

    files, folders = tree.remove("a")

    assert sorted(files) == ["a/b/c/z", "a/b/y", "a/x"]
    assert sorted(folders) == ["a", "a/b", "a/b/c"]
    assert [path for path, _ in tree.walk()] == ["other"]
    assert tree.files == 1
    assert tree.listing("") == ({"other": file()}, set())


def test_a_full_tree_takes_no_more_but_goes_on_with_what_it_has() -> None:
    tree = Snapshot(max_entries=2)
    assert tree.put("a", file())
    assert tree.put("b", file())

    assert not tree.put("c", file())
    assert not tree.add_folder("d")
    assert tree.put("a", file(size=9))
    tree.remove("b")
    assert tree.put("c", file())


def test_a_moved_file_is_known_by_what_it_is() -> None:
    assert renames({"old": file(7)}, {"new": file(7)}) == {"new": "old"}


def test_a_file_moved_as_a_copy_is_known_by_its_content() -> None:
    assert renames({"old": file(7, sha256="h")}, {"new": file(8, mtime_ns=2, sha256="h")}) == {"new": "old"}


def test_empty_files_and_other_contents_prove_nothing() -> None:
    assert renames({"old": file(7, 0, sha256="e")}, {"new": file(8, 0, 2, sha256="e")}) == {}
    assert renames({"old": file(7, sha256="h")}, {"new": file(8, sha256="i")}) == {}
    assert renames({"old": file(7)}, {"new": file(8)}) == {}


def test_one_file_that_went_becomes_one_that_came() -> None:
    pairs = renames({"old": file(7, sha256="h")}, {"a": file(8, 5, 2, "h"), "b": file(7, sha256="h")})

    assert pairs == {"b": "old"}


def test_a_file_that_went_is_remembered_for_a_moment() -> None:
    departed = Departed(keep_s=2.0)
    departed.add("old", file(7), now=10.0)

    assert departed.take(file(8), now=11.0) is None
    assert departed.take(file(7), now=11.0) == "old"
    assert departed.take(file(7), now=11.0) is None
    departed.add("old", file(7), now=10.0)
    assert departed.take(file(7), now=12.5) is None


def test_departed_files_are_bounded() -> None:
    departed = Departed(limit=2)
    for inode in (1, 2, 3):
        departed.add(str(inode), file(inode), now=0.0)

    assert [departed.take(file(inode), now=0.0) for inode in (1, 2, 3)] == [None, "2", "3"]


def test_the_latest_written_files_are_read_first_within_the_budget() -> None:
    files = [(str(n), File(10, n, n)) for n in range(5)] + [
        ("big", File(99, 9, 9)),
        ("read", File(1, 8, 8, "h")),
    ]

    assert list(unread(files, file_bytes=50, bytes_in_all=30)) == ["4", "3", "2"]
