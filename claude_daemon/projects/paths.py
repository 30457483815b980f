"""The wire form of a path: POSIX, relative to its project, in one spelling only.

`a//b`, `./a` and `a/` are refused instead of tidied: two spellings of one file would slip past rules that
compare paths.  A backslash is refused too, although POSIX allows it in names, because a client on Windows
that sends one means a separator.
"""

from claude_daemon.errors import InvalidError, OutsideProjectError, TooLargeError

MAX_NAME_BYTES = 255  # NAME_MAX of every file system in use
MAX_PATH_BYTES = 4_095  # PATH_MAX without its final NUL


def parse_path(text: str, *, field: str = "filePath", message: str = "") -> str:
    """Return `text` when it is a path below the project.

    Raises `OutsideProjectError` for an absolute path or `..`, `TooLargeError` for one that no file system
    holds, else `InvalidError`; each names `field`.  `message` is the error's headline where the contract
    fixes one.
    """

    def invalid(reason: str, kind: str) -> InvalidError:
        return InvalidError(message or f"{field}: {reason}", path=[field], kind=kind, reason=reason)

    if not text:
        raise invalid("the path is empty", "string.empty")
    if text.startswith("/"):
        raise OutsideProjectError(f"{field}: {text!r} is absolute; name it relative to its project")
    try:
        encoded = text.encode()
    except UnicodeEncodeError:
        raise invalid("the path is not valid Unicode", "string.base") from None
    if "\0" in text or "\\" in text:
        raise invalid("a path holds no NUL and no backslash; its separator is /", "string.base")
    parts = text.split("/")
    if ".." in parts:
        raise OutsideProjectError(f"{field}: {text!r} leads out of the project by ..")
    if "" in parts or "." in parts:
        raise invalid("a path has no empty component and no .", "string.base")
    if len(encoded) > MAX_PATH_BYTES or any(len(part.encode()) > MAX_NAME_BYTES for part in parts):
        reason = f"a path has at most {MAX_PATH_BYTES} bytes, each name in it at most {MAX_NAME_BYTES}"
        raise TooLargeError(message or f"{field}: {reason}", path=[field], kind="string.max", reason=reason)
    return text
