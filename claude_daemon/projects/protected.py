"""Which paths clients never write: those that later run or redirect something without being asked to.

A pure rule on the spelling, so it also holds where the path doesn't exist yet.  It compares what the most
lenient file system would take for the same name: case, Unicode compatibility forms and invisible
characters (HFS+), trailing dots and spaces, stream suffixes and the 8.3 name of `.git` (NTFS).
"""

import itertools
import re
import unicodedata

FOLDERS = frozenset(
    {
        ".git",  # config, hooks and refs
        ".claude",  # settings with hooks and permissions, commands, agents
        ".husky",  # the usual places that core.hooksPath names
        ".githooks",
        ".git-hooks",
        ".devcontainer",  # commands run when an editor opens the folder
        ".run",  # JetBrains' shared run configurations
    }
)
FILES = frozenset(
    {
        ".envrc",  # direnv
        ".mcp.json",  # servers that Claude Code starts
    }
)
FILES_IN_FOLDERS = frozenset(
    {
        (".vscode", "tasks.json"),  # tasks may run when the folder is opened
        (".vscode", "settings.json"),  # names the programs that the editor starts
        (".vscode", "launch.json"),
        (".vscode", "mcp.json"),
        (".cursor", "mcp.json"),
        (".idea", "workspace.xml"),  # run configurations that aren't shared
    }
)
FOLDERS_IN_FOLDERS = frozenset({(".idea", "runconfigurations")})

_SHORT_GIT = re.compile(r"\.?git~\d+")


def protected(path: str) -> bool:
    """Whether clients are kept from writing `path`, a path as `parse_path` returns it."""
    names = [_plain(name) for name in path.split("/")]
    pairs = list(itertools.pairwise(names))
    return (
        not FOLDERS.isdisjoint(names)
        or names[-1] in FILES
        or not FILES_IN_FOLDERS.isdisjoint(pairs[-1:])
        or not FOLDERS_IN_FOLDERS.isdisjoint(pairs)
    )


def _plain(name: str) -> str:
    """What a lenient file system might take `name` for."""
    visible = "".join(each for each in name if unicodedata.category(each) != "Cf")
    plain = unicodedata.normalize("NFKC", visible).casefold().partition(":")[0].rstrip(" .")
    return ".git" if _SHORT_GIT.fullmatch(plain) else plain
