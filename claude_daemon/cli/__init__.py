"""The command line: thin over `client.py`; whatever goes wrong is one sentence on stderr.

Nothing is imported here before `main` runs: Ctrl-C during the imports must not end in a traceback either.
"""

import io
import os
import sys
from typing import NoReturn

INTERRUPTED = 130  # 128 + SIGINT, as shells have it


def main() -> NoReturn:
    """Run the command that `sys.argv` names, and exit."""
    try:
        code = _run(sys.argv[1:])
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except BrokenPipeError:  # `| head` has seen enough
        code = 0
        _discard_output()
    except OSError as error:  # most often a full disk behind `> file`
        code = _say(f"{error.filename or 'the output'} cannot be used: {error.strerror or error}", 1)
        _discard_output()
    sys.exit(code)


def _run(arguments: list[str]) -> int:
    """The exit code.  Raises `OSError` when stdout cannot be written, and `KeyboardInterrupt`."""
    import click

    from claude_daemon.cli.commands import commands

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        with commands.make_context("claude-daemon", arguments or ["--help"]) as context:
            return commands.invoke(context) or 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.exceptions.Abort:  # Ctrl-C or the end of the input, at a question
        raise KeyboardInterrupt from None
    except OSError:
        raise
    except Exception as error:
        if os.environ.get("DEBUG", "").lower() not in {"", "0", "false"}:
            raise
        return _say(*_verdict(error))


def _verdict(error: Exception) -> tuple[str, int]:
    """What is said of a failure, and the exit code."""
    import click

    from claude_daemon.cli.failure import FAILED, MISUSED, CommandError
    from claude_daemon.errors import DaemonError, SettingError

    match error:
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "claude-daemon"
            return f"{error.format_message().rstrip('.')}; see: {command} --help", MISUSED
        case CommandError():
            return error.message, error.code
        case DaemonError():
            return error.message, MISUSED if isinstance(error, SettingError) else FAILED
    what = f"claude-daemon failed unexpectedly ({type(error).__name__}: {error})"
    return f"{what}; please report it with what DEBUG=1 makes it print", FAILED


def _say(sentence: str, code: int) -> int:
    from claude_daemon.cli.text import one_line

    print(one_line(sentence), file=sys.stderr, flush=True)
    return code


def _discard_output() -> None:
    """What is still buffered has no reader; the interpreter would complain of it while it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            os.dup2(nowhere, stream.fileno())
