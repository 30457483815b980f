"""The few lines of shell between the sandbox and the command, and what they tell the daemon.

They are there because bubblewrap says neither whether a command has begun nor whether 137 was an exit code
or a KILL, and because RLIMIT_NPROC counts only what is inside when it is set inside.  They speak over
standard input, a socket: it needs no descriptor above 9, which not every shell has, and a command cannot
reopen a socket by way of /proc as it could a pipe.

A shell writes a word to its own standard error when a signal ended its child ("Killed"), and nothing when
the child exited.  That is how the two are told apart.  For INT and PIPE shells stay silent.
"""

import re
from dataclasses import dataclass

from claude_daemon.terminal.limits import Limits

GO = b"go\n"
CPU_GRACE_S = 1  # XCPU can be handled; this much later it is KILL
REPORT_BYTES = 65_536  # more than bwrap and a shell ever say

_CHILD = re.compile(rb'"child-pid": (\d+)')
_READY = b"ready\n"
_EXIT = re.compile(rb"(?:^|\n)exit (\d+)\n\Z")


def prelude(limits: Limits, *, processes: bool, memory: bool) -> str:
    """A script for `sh -c SCRIPT sh COMMAND`.

    `processes` and `memory` say whether those two are to be set here rather than by a cgroup.  Memory is
    RLIMIT_DATA: RLIMIT_AS breaks whatever reserves address space that it never uses (V8's WebAssembly).
    Files are counted in blocks of 512 bytes, as POSIX has it.  `-p` is dash's and busybox's letter for
    processes, and cannot be set in bash, where `-u` is.
    """
    lines = [
        "exec 4>&2 2>&0",
        "trap : INT QUIT TERM",  # a handler, not "ignore": it must not be inherited
        "ulimit -c 0",
        f"ulimit -f {limits.file_bytes // 512}",
        f"ulimit -St {limits.cpu_s}; ulimit -Ht {limits.cpu_s + CPU_GRACE_S}",
    ]
    if memory:
        lines.append(f"ulimit -d {limits.memory_bytes // 1024}")
    if processes:
        lines.append(f"ulimit -p {limits.processes} 2>/dev/null || ulimit -u {limits.processes}")
    lines += [
        "echo ready >&0",
        "read -r go || exit 125",  # without a daemon there is nobody to run for
        '(exec /bin/sh -c "$1" </dev/null 2>&4 4>&-)',
        "code=$?",
        'echo "exit $code" >&0',
        "exit $code",
    ]
    return "\n".join(lines)


@dataclass(slots=True)
class Report:
    """What came over the socket so far."""

    heard: bytes = b""

    def hear(self, data: bytes) -> None:
        self.heard = (self.heard + data)[:REPORT_BYTES]

    @property
    def child(self) -> int | None:
        """The sandbox's first process; bwrap names it before anything of the command's could speak."""
        found = _CHILD.search(self.heard.partition(_READY)[0])
        return int(found[1]) if found else None

    @property
    def ready(self) -> bool:
        return _READY in self.heard

    @property
    def exit_status(self) -> int | None:
        """The `$?` of the command, or None when these lines themselves did not live to see it."""
        found = _EXIT.search(self.heard.partition(_READY)[2])
        return int(found[1]) if found else None

    @property
    def killed(self) -> bool:
        """Whether the shell said that a signal ended the command."""
        return _EXIT.sub(b"", self.heard.partition(_READY)[2]).strip() != b""
