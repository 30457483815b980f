"""What ends a command: a sentence for stderr, and an exit code."""

FAILED = 1
MISUSED = 2


class CommandError(Exception):
    """The command could not be done; `message` says what happened and what to do."""

    def __init__(self, message: str, code: int = FAILED) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
