"""Which files hold secrets: they are announced without content, never read to a client and never kept."""

from fnmatch import fnmatchcase

NAMES = (".env*", "*.pem", "*.key", "id_*", ".npmrc", ".netrc")


def sensitive(path: str) -> bool:
    """Whether the file's name, in any case, is one of the contract's."""
    name = path.rpartition("/")[2].lower()
    return any(fnmatchcase(name, pattern) for pattern in NAMES)
