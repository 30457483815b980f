"""Sound files: is it one, how long does it play, and a short silence to try a device with."""

import wave
from pathlib import Path

from claude_daemon.speech.child import SpeechError

SILENCE_S = 0.05
_RATE = 22_050
_SLOWEST_BYTES_PER_S = (
    8_000  # telephone quality: no engine writes fewer, so a duration from it is never short
)


def duration_s(path: Path) -> float:
    """How long the file plays.  Raises `SpeechError` when it is no sound file or holds no sound.

    The engine of macOS writes AIFF under any name; of such a file the duration is an upper bound.
    """
    try:
        with path.open("rb") as file:
            head = file.read(12)
        if head[:4] == b"FORM" and head[8:] in {b"AIFF", b"AIFC"}:
            duration = (path.stat().st_size - 54) / _SLOWEST_BYTES_PER_S  # 54: the header of a plain one
        else:
            with wave.open(str(path), "rb") as sound:
                duration = sound.getnframes() / sound.getframerate()
    except (OSError, EOFError, wave.Error, ZeroDivisionError) as error:
        raise SpeechError(
            f"the speech engine wrote no sound file ({str(error) or 'it ends early'})"
        ) from None
    if duration <= 0:
        raise SpeechError("the speech engine wrote a sound file without sound")
    return duration


def write_silence(path: Path) -> None:
    """A WAV of `SILENCE_S`, mono, 16 bits."""
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(2)
        sound.setframerate(_RATE)
        sound.writeframes(bytes(2 * int(_RATE * SILENCE_S)))
