"""Which processor a process runs on, where the system lets one say."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

DAEMON_CPU = 0
LOAD_CPU = 1


def pin(cpu: int) -> bool:
    """This thread, and what it starts from now on; false where that cannot be."""
    if sys.platform != "linux":
        return False
    try:
        os.sched_setaffinity(0, {cpu})
    except OSError:  # there is no such processor, or it is not ours
        return False
    return True


@contextmanager
def pinned(cpu: int) -> Iterator[bool]:
    """For children started in the block: a running process can only be pinned thread by thread."""
    if sys.platform != "linux":
        yield False
        return
    before = os.sched_getaffinity(0)
    try:
        yield pin(cpu)
    finally:
        os.sched_setaffinity(0, before)
