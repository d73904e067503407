"""Where log records go: a telemetry descriptor that keeps records apart, or standard output."""

import os
import sys
import time

# The type of a frame: the low bit says text, the four above it the level (1 TRACE, 2 DEBUG, ... 6 FATAL; 0 unknown).
_FRAME = 0xA55A0002
_LONGEST = 1 << 20  # bytes of text in a frame; what is longer goes on in another one
TEXT = 1
DEBUG, INFO, WARNING, ERROR, FATAL = 2, 3, 4, 5, 6


class StandardOutput:
    """Records are lines of standard output. A line break inside of one is written as a carriage return, so that the
    platform, which splits at line feeds, keeps it whole."""

    def log(self, text, level=0, text_format=TEXT):
        if text.endswith("\n"):
            text = text[:-1]
        sys.stdout.write(text.replace("\n", "\r") + "\n")


class Frames:
    """Records are frames: type and length in 4 bytes each, time in microseconds since 1970 in 8, text; big-endian."""

    def __init__(self, fd):
        if fd > 2:
            os.set_inheritable(fd, False)
        self._fd = fd

    def log(self, text, level=0, text_format=TEXT):
        try:
            sys.stdout.flush()  # the descriptor may be that of standard output
        except Exception:
            pass  # replaced or closed by the function
        body = text.encode("utf-8", "backslashreplace")
        while True:
            part = body[:_LONGEST]
            if len(body) > _LONGEST:  # do not cut a character
                part = part.decode("utf-8", "ignore").encode("utf-8")
            body = body[len(part) :]
            frame = b"".join(
                (
                    (_FRAME | level << 2 | text_format).to_bytes(4, "big"),
                    len(part).to_bytes(4, "big"),
                    (time.time_ns() // 1000).to_bytes(8, "big"),
                    part,
                )
            )
            while frame:
                frame = frame[os.write(self._fd, frame) :]
            if not body:
                return


def from_environment():
    """The sink that the platform asks for."""
    fd = os.environ.pop("_LAMBDA_TELEMETRY_LOG_FD", "")
    return Frames(int(fd)) if fd else StandardOutput()
