"""What the tree was when it was last looked at: the truth that changes are told from.  No I/O.

Only regular files have an entry.  A file that nobody had a reason to read has no hash.  The tree is kept
by folder, so that one folder can be compared, and a folder that went takes its files along.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class File:
    """A regular file as it was seen."""

    size: int
    mtime_ns: int
    inode: int
    sha256: str | None = None
    sure: bool = True
    """False: it was written so shortly before it was read that another write may have left the same times."""

    def looks_like(self, other: "File") -> bool:
        """Whether one stat call could not tell them apart."""
        return (self.size, self.mtime_ns, self.inode) == (other.size, other.mtime_ns, other.inode)


@dataclass(slots=True)
class Folder:
    files: dict[str, File] = field(default_factory=dict)
    folders: set[str] = field(default_factory=set)


class Snapshot:
    """Paths are relative and POSIX; the project's own folder is `""`.

    Changed under the project's turn only.  Reading it elsewhere is safe where it is one step (`get`,
    `listing`), because each is one call into C.
    """

    def __init__(self, *, max_entries: int) -> None:
        self._max_entries = max_entries
        self._folders: dict[str, Folder] = {"": Folder()}
        self.files = 0
        self.complete = False
        """Whether the whole tree was looked at once; until then nobody can tell what is new."""

    @property
    def full(self) -> bool:
        return self.files + len(self._folders) > self._max_entries

    def get(self, path: str) -> File | None:
        folder = self._folders.get(parent(path))
        return folder.files.get(path.rpartition("/")[2]) if folder else None

    def is_folder(self, path: str) -> bool:
        return path in self._folders

    def listing(self, path: str) -> tuple[dict[str, File], set[str]]:
        """Copies of a folder's files and of its subfolders' names; empty for one that isn't known."""
        folder = self._folders.get(path)
        return (folder.files.copy(), folder.folders.copy()) if folder else ({}, set())

    def walk(self) -> Iterator[tuple[str, File]]:
        for at, folder in self._folders.items():
            for name, file in folder.files.items():
                yield join(at, name), file

    def put(self, path: str, file: File) -> bool:
        """Enter a file and the folders above it; False when there is no room for a new one."""
        at, name = parent(path), path.rpartition("/")[2]
        known = self._folders.get(at)
        if known is None or name not in known.files:
            if self.full:
                return False
            self.files += 1
        self._folder(at).files[name] = file
        return True

    def add_folder(self, path: str) -> bool:
        """Enter a folder; False when there is no room."""
        if path not in self._folders and self.full:
            return False
        self._folder(path)
        return True

    def remove(self, path: str) -> tuple[dict[str, File], list[str]]:
        """Take out what stands at `path`, file or folder, and below; the files, and the folders' paths."""
        files: dict[str, File] = {}
        above = self._folders.get(parent(path)) if path else None
        name = path.rpartition("/")[2]
        if above and name in above.files:
            files[path] = above.files.pop(name)
        if above:
            above.folders.discard(name)
        folders = []
        waiting = [path] if path in self._folders else []
        while waiting:
            at = waiting.pop()
            folders.append(at)
            folder = self._folders.pop(at)
            files.update((join(at, each), file) for each, file in folder.files.items())
            waiting.extend(join(at, each) for each in folder.folders)
        if not path:
            self._folders[""] = Folder()
        self.files -= len(files)
        return files, folders

    def _folder(self, path: str) -> Folder:
        if path not in self._folders:
            self._folders[path] = Folder()
            self._folder(parent(path)).folders.add(path.rpartition("/")[2])
        return self._folders[path]


class Departed:
    """Files that went a moment ago: a rename's second half may be seen later than its first."""

    def __init__(self, *, keep_s: float = 2.0, limit: int = 10_000) -> None:
        self._keep_s = keep_s
        self._limit = limit
        self._gone: dict[Hashable, tuple[str, float]] = {}  # oldest first

    def add(self, path: str, file: File, now: float) -> None:
        self._gone.pop(_identity(file), None)
        self._gone[_identity(file)] = path, now
        while len(self._gone) > self._limit:
            del self._gone[next(iter(self._gone))]

    def take(self, file: File, now: float) -> str | None:
        """The path that `file` had, unless that was too long ago to say so."""
        path, when = self._gone.pop(_identity(file), ("", 0.0))
        return path if path and now - when <= self._keep_s else None


def renames(gone: Mapping[str, File], come: Mapping[str, File]) -> dict[str, str]:
    """New path → old path, for files that went and came at one time and are the same.

    The same inode, size and time: moved.  The same content: moved across file systems, or by a program
    that wrote a copy first; an empty file's content proves nothing.
    """
    pairs: dict[str, str] = {}
    free = dict(gone)
    for key in (_identity, _content):
        table = {key(file): path for path, file in free.items()}
        table.pop(None, None)
        for new, file in come.items():
            old = table.get(key(file))
            if old in free and new not in pairs:
                pairs[new] = old
                del free[old]
    return pairs


def unread(files: Iterable[tuple[str, File]], *, file_bytes: int, bytes_in_all: int) -> Iterator[str]:
    """Files without a hash that are worth reading, the latest written first, within a budget."""
    candidates = [(file.mtime_ns, file.size, path) for path, file in files if file.sha256 is None]
    for _, size, path in sorted(candidates, reverse=True):
        if size <= file_bytes:
            bytes_in_all -= size
            if bytes_in_all < 0:
                return
            yield path


def parent(path: str) -> str:
    return path.rpartition("/")[0]


def join(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def is_utf8(name: str) -> bool:
    """Whether a name that the system gave has a form on the wire."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _identity(file: File) -> Hashable:
    return file.inode, file.size, file.mtime_ns


def _content(file: File) -> Hashable:
    return file.sha256 if file.size else None
