"""The child that makes one piece of speech, and the only importer of pyttsx3.

One line of JSON comes by stdin, `{text, path, rate, deadlineSeconds}` (never by argv, which everybody on
the machine can read).  The last line on stdout is the answer, `{engine}` or `{error}`.

The daemon starts this file by its path, so it knows nothing of the package around it.  What surprises:
pyttsx3 returns from its loop before espeak's own thread has written the file, prints on stdout, swallows
exceptions into a callback, and segfaults when the interpreter is taken down.
"""

import json
import os
import signal
import sys
import threading
from typing import Any, NoReturn


def main() -> NoReturn:
    request: dict[str, Any] = json.loads(sys.stdin.readline())
    if sys.platform != "win32":
        # The daemon kills a hung engine; this is for when it was killed itself.
        signal.alarm(int(request["deadlineSeconds"]) + 1)
    try:
        answer = {"engine": save(request["text"], request["path"], request["rate"])}
    except ModuleNotFoundError as error:
        answer = {"error": f"{error.name} is not installed; install it with: pip install {error.name}"}
    except Exception as error:  # noqa: BLE001  # whatever the engine raises is its reason for being unusable
        answer = {"error": f"{_in_words(error)}{_remedy()}"}
    os.write(1, f"\n{json.dumps(answer)}\n".encode())
    os._exit(0)


def save(text: str, path: str, rate: int) -> str:
    """Write `text` as sound to `path` and return the name of the engine."""
    import pyttsx3

    finished = threading.Event()
    errors: list[Exception] = []
    engine = pyttsx3.init()
    engine.connect("finished-utterance", lambda **_: finished.set())
    engine.connect("error", lambda exception, **_: errors.append(exception))
    if rate:
        engine.setProperty("rate", rate)
    engine.save_to_file(text, path)
    engine.runAndWait()
    name = str(engine)
    if name == "espeak" and not errors:  # the engines of macOS and Windows are done here
        finished.wait()
    if errors:
        raise errors[0]
    return name


def _in_words(error: Exception) -> str:
    return str(error).split("\n")[0] or type(error).__name__


def _remedy() -> str:
    if sys.platform in {"darwin", "win32"}:
        return ""
    return "; is espeak-ng installed? (apt install espeak-ng, dnf install espeak-ng)"


if __name__ == "__main__":
    main()
