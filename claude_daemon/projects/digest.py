"""A file's hash and content in one pass."""

import hashlib
import os

CHUNK_BYTES = 1 << 20
NOTHING = -1  # not even an empty file's content is kept


def digest(fd: int, size: int, *, keep: int) -> tuple[str, bytes | None]:
    """SHA-256 in hex of what `fd` holds, and the content itself when it has at most `keep` bytes.

    Reads no further than one chunk past `size`: a file that grows as fast as it is read has changed anyway.
    """
    hasher = hashlib.sha256()
    chunks: list[bytes] = []
    count = 0
    while count <= size and (chunk := os.read(fd, CHUNK_BYTES)):
        count += len(chunk)
        hasher.update(chunk)
        if size <= keep:
            chunks.append(chunk)
    return hasher.hexdigest(), b"".join(chunks) if size <= keep else None
