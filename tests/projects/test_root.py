"""The project's folder held open: whatever stands on the way, nothing outside is reached."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from claude_daemon.projects.root import Root, has_openat2
from following import make_fifo


@pytest.fixture(params=["openat2", "walk"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Root]:
    """Both ways of resolving must behave alike."""
    if request.param == "openat2" and not has_openat2():
        pytest.skip("this kernel has no openat2")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_text("secret")
    folder = tmp_path / "project"
    (folder / "a" / "b").mkdir(parents=True)
    (folder / "a" / "b" / "file").write_text("content")
    with Root(folder, openat2=request.param == "openat2") as root:
        yield root


def read(root: Root, path: str) -> bytes:
    with root.reading(path) as fd:
        return os.read(fd, 100)


def test_a_file_is_read_below_the_folder(root: Root) -> None:
    assert read(root, "a/b/file") == b"content"
    assert root.lstat("a/b/file").st_size == 7
    assert root.head("a/b/file", 3) == b"con"
    with root.folder("a") as fd:
        assert os.listdir(fd) == ["b"]  # noqa: PTH208  a Path cannot be a descriptor


@pytest.mark.parametrize("place", ["a", "a/b", "a/b/file"])
def test_a_link_in_any_component_is_refused_as_a_link(root: Root, place: str) -> None:
    target = root.path.parent / "outside"
    if place.endswith("file"):
        target /= "secret"
    (root.path / place).rename(root.path / "moved")
    (root.path / place).symlink_to(target)

    with pytest.raises(OSError, match="a") as refused:
        read(root, "a/b/file")

    assert refused.value.errno == errno.ELOOP
    assert root.head("a/b/file", 9) == b""


def test_a_folder_that_is_a_link_is_refused_as_a_link(root: Root) -> None:
    (root.path / "link").symlink_to("a")

    with pytest.raises(OSError, match="link") as refused, root.folder("link"):
        pass

    assert refused.value.errno == errno.ELOOP


def test_a_magic_link_is_a_link(root: Root) -> None:
    (root.path / "fd").symlink_to("/proc/self/cwd")

    with pytest.raises(OSError, match="fd") as refused:
        read(root, "fd/secret")

    assert refused.value.errno == errno.ELOOP


def test_a_file_on_the_way_is_no_folder(root: Root) -> None:
    with pytest.raises(NotADirectoryError):
        read(root, "a/b/file/x")


@pytest.mark.parametrize("make", [make_fifo, Path.mkdir], ids=["fifo", "folder"])
def test_what_is_no_regular_file_is_refused_without_waiting(root: Root, make: Callable[[Path], None]) -> None:
    make(root.path / "thing")

    with pytest.raises(OSError, match="thing"):
        read(root, "thing")


def test_a_moved_folder_no_longer_stands_and_is_still_held(root: Root) -> None:
    assert root.stands()
    root.path.rename(root.path.parent / "elsewhere")
    assert not root.stands()
    root.path.mkdir()

    assert not root.stands()
    assert read(root, "a/b/file") == b"content"


SWAPPER = """
import os, sys
good, bad, spare = "a/b", "b2", "spare"
while True:
    os.rename(good, spare); os.rename(bad, good); os.rename(good, bad); os.rename(spare, good)
"""


def test_a_folder_swapped_for_a_link_again_and_again_never_leads_out(
    root: Root, count: Callable[[int, int], int]
) -> None:
    (root.path / "a" / "b" / "secret").write_text("mine")
    (root.path / "b2").symlink_to(root.path.parent / "outside")
    found: set[bytes | int | None] = set()
    with subprocess.Popen([sys.executable, "-c", SWAPPER], cwd=root.path) as swapper:
        try:
            for _ in range(count(20_000, 500_000)):
                try:
                    found.add(read(root, "a/b/secret"))
                except OSError as error:
                    found.add(error.errno)
        finally:
            swapper.kill()

    assert b"mine" in found
    assert found <= {b"mine", errno.ELOOP, errno.ENOENT, errno.ENOTDIR}


def test_no_descriptor_is_left_open(root: Root) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    (root.path / "link").symlink_to("a")
    for path in ("a/b/file", "a/b", "nothing", "nothing/x", "a/b/file/x", "link/b/file"):
        root.head(path, 9)

    assert len(list(Path("/proc/self/fd").iterdir())) == before
