"""What is neither watched nor announced: built-in rules, and `.gitignore` files as Git reads them.

`Rules` are those of one folder.  Whoever walks a tree asks them name by name and never enters a folder
that is ignored, so a file below an ignored folder cannot be brought back, as in Git.  Pure: the text of a
`.gitignore` is an argument.
"""

import re
from typing import Self

from pathspec import GitIgnoreSpec

TEMPORARY_PREFIX = ".claude-daemon-"  # what the writer writes beside its target
GITIGNORE_BYTES = 64 * 1024  # a longer file is read this far
MAX_STARS = 4  # a pattern with more wildcards takes Python's `re` too long on a name made for that

# Nobody edits these by hand, and no project wants them back.
ALWAYS = frozenset({".git", ".hg", ".svn"})

# What tools make again.  A project's own `.gitignore` may bring one back by negation (`!target/`).
FOLDERS = frozenset({
    "node_modules", "bower_components", "__pycache__", ".venv", "venv", "target",
    ".cache", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".hypothesis", ".import_linter_cache",
    ".tox", ".nox", ".eggs", ".gradle", ".terraform",
    ".next", ".nuxt", ".svelte-kit", ".parcel-cache", ".turbo", ".angular",
})  # fmt: skip
NAMES = frozenset({
    ".DS_Store", "Thumbs.db", "desktop.ini",
    "4913",  # vim tries with it whether it may create files
})  # fmt: skip
PREFIXES = (
    ".#",  # emacs' lock
    ".~lock.",  # LibreOffice's
    ".goutputstream-",  # GLib's half-written files
    ".nfs", ".fuse_hidden",  # deleted, still open
)  # fmt: skip
SUFFIXES = (
    "~", ".swp", ".swo", ".swx", ".swpx",
    ".kate-swp", ".crswap",
    "___jb_tmp___", "___jb_old___", "___jb_bak___",
    ".pyc", ".pyo",
)  # fmt: skip


class Rules:
    """What is ignored in one folder."""

    __slots__ = ("_chain",)

    def __init__(self, gitignore: str = "", above: "tuple[tuple[str, _Patterns], ...]" = ()) -> None:
        patterns = _Patterns(gitignore)
        self._chain = (("", patterns), *above) if patterns.any else above
        """The nearest `.gitignore` first: the way from its folder to this one, and its patterns."""

    def ignores(self, name: str, *, folder: bool) -> bool:
        if name in ALWAYS or name.startswith(TEMPORARY_PREFIX):
            return True
        for way, patterns in self._chain:
            decided = patterns.decide(f"{way}{name}/" if folder else way + name)
            if decided is not None:
                return decided
        return _built_in(name, folder=folder)

    def below(self, name: str, gitignore: str = "") -> Self:
        """The rules of the subfolder `name`, whose own `.gitignore` has this text."""
        return type(self)(gitignore, tuple((f"{way}{name}/", patterns) for way, patterns in self._chain))


class _Patterns:
    """One `.gitignore`; most paths match nothing in it, which one expression for all patterns tells fast."""

    __slots__ = ("_matches", "_spec", "any")

    def __init__(self, text: str) -> None:
        lines = [line for line in text.splitlines() if _quick(line)]
        self._spec = GitIgnoreSpec.from_lines(lines)
        expressions = [each.regex.pattern for each in self._spec.patterns if each.regex is not None]
        self.any = bool(expressions)
        # A group's name may stand only once in an expression, and nobody asks for it here.
        self._matches = re.compile("|".join(re.sub(r"\(\?P<\w+>", "(?:", each) for each in expressions)).match

    def decide(self, way: str) -> bool | None:
        """True: ignored, False: brought back, None: this file says nothing about it."""
        return self._spec.check_file(way).include if self._matches(way) else None


def _quick(line: str) -> bool:
    return len(re.findall(r"\*+", line)) <= MAX_STARS


def _built_in(name: str, *, folder: bool) -> bool:
    if folder:
        return name in FOLDERS
    return (
        name in NAMES
        or name.endswith(SUFFIXES)
        or name.startswith(PREFIXES)
        or (name.startswith("#") and name.endswith("#"))
    )
